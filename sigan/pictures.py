"""Picture files to pixels: upright, in sRGB, decoded no further than is asked for, and nothing that is not a picture.

Formats are recognised by content, from FORMATS alone. Whatever they hold (grey, 16 bits, palette, CMYK, LAB, alpha)
comes out as uint8; of an animation or of several pages comes the first, and a note says so.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

from sigan import metadata
from sigan.errors import UnreadableImageError
from sigan.metadata import Metadata

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "PSD")  # Pillow's names
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")  # ISO/IEC 23008-12
MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb: 2 * 0.25 GiB / 3
BAND = 4_000_000  # pixels converted at once, so that a scan of 100 megapixels has no second copy
JPEG_FACTORS = (8, 4, 2, 1)  # libjpeg shrinks by these while it decodes
SIMPLE = ("L", "LA", "RGB", "RGBA", "CMYK", "LAB")  # modes that shrink and crop as they are
TURNS = {1: (False, False, False), 2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
         5: (True, False, False), 6: (True, False, True), 7: (True, True, True), 8: (True, True, False)}
# EXIF's orientations: what makes the stored picture upright is an exchange of the axes, then mirroring in y and in x
WHITE = (255, 255, 255)

Box = Sequence[float]  # left, top, right, bottom in pixels
_opening = threading.Lock()


@dataclass(frozen=True, eq=False)
class Picture:
    """`pixels` uint8 [H,W,3], upright, sRGB, `alpha` uint8 [H,W] over them or None; `keep` goes on; `notes` to tell."""

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    keep: Metadata = Metadata()
    notes: tuple[str, ...] = ()

    @property
    def over_white(self) -> np.ndarray:
        """uint8 [H,W,3]: what is transparent shows white."""
        if self.alpha is None:
            return self.pixels
        img = Image.new("RGB", self.alpha.shape[::-1], WHITE)
        img.paste(Image.fromarray(self.pixels), mask=Image.fromarray(self.alpha))
        return np.array(img)


def open_picture(path: str | Path) -> Picture:
    """The whole picture. UnreadableImageError, which names the file, for anything missing, truncated, oversized or not
    a picture."""
    source = Source(path)
    pixels, alpha = source.layers()
    return Picture(pixels, alpha, source.keep, source.notes)


def metadata_of(path: str | Path) -> Metadata:
    """What goes on of a file's metadata, read without its pixels; nothing where it is no picture (any more)."""
    try:
        return Source(path).keep
    except UnreadableImageError:
        return Metadata()


class Source:
    """A picture whose parts are decoded when asked for, at the size asked for; made from a file or uint8 [H,W,3].

    Memory: four bytes for each pixel of the finest size asked for, and what is given out. A JPEG is decoded at a half,
    a quarter or an eighth of its size where that is enough; other formats are decoded whole.
    """

    def __init__(self, file: str | Path | np.ndarray) -> None:
        self.file, self.keep, orientation = file, Metadata(), 1
        self.notes: tuple[str, ...] = ()
        self._profile: bytes | None = None
        self._transform: ImageCms.ImageCmsTransform | Literal[False] | None = None  # not known before a colour is
        self._img: Image.Image | None = None
        self._factor = 0
        if isinstance(file, np.ndarray):
            self._stored = file.shape[1], file.shape[0]
        else:
            with _named(file), _open(file) as img:
                if img.width * img.height > MAX_PIXELS:
                    raise Image.DecompressionBombError(f"{img.width} x {img.height} pixels")
                orientation = metadata.orientation(img)
                self.keep, self.notes = metadata.of(img), _notes(img)
                self._profile, self._stored = img.info.get("icc_profile"), img.size
        self._turn = TURNS[orientation]
        self.size: tuple[int, int] = self._stored[::-1] if self._turn[0] else self._stored  # width, height, upright

    def part(self, box: Box | None = None, factor: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [h,w,3] of the picture in `box`, shrunk by a whole factor, over white; and where it begins.

        The part is a little larger than the box. The centre of its pixel (x, y) lies at origin + (x + 0.5, y + 0.5) *
        factor in the picture, whose own first pixel has it at (0.5, 0.5).
        """
        stored, origin, shape = self._place(box, factor)
        if isinstance(self.file, np.ndarray) and factor == 1:
            left, top, right, bottom = stored
            return self.file[top:bottom, left:right], origin
        pixels = np.empty((*shape, 3), np.uint8)
        self._fill(stored, factor, pixels, None)
        return pixels, origin

    def layers(self) -> tuple[np.ndarray, np.ndarray | None]:
        """uint8 [H,W,3], colours as they are under any transparency, and the alpha, uint8 [H,W], where there is any."""
        stored, _, shape = self._place(None, 1)
        with _named(self.file):
            transparent = self._decoded(1).mode in ("LA", "RGBA")
        pixels, alpha = np.empty((*shape, 3), np.uint8), np.empty(shape, np.uint8) if transparent else None
        self._fill(stored, 1, pixels, alpha)
        return pixels, alpha if alpha is not None and alpha.min() < 255 else None

    def _place(self, box: Box | None, factor: int) -> tuple[tuple[int, ...], np.ndarray, tuple[int, int]]:
        """The box as stored, grown to whole multiples of `factor`; its upright origin; height and width when shrunk."""
        swap, mirror_y, mirror_x = self._turn
        width, height = self.size
        left, top, right, bottom = (0, 0, width, height) if box is None else box
        if mirror_x:
            left, right = width - right, width - left
        if mirror_y:
            top, bottom = height - bottom, height - top
        sides = [(left, right), (top, bottom)]
        spans = []
        for (low, high), side in zip(sides, (width, height)):
            low = min(max(int(low // factor), 0), (side - 1) // factor) * factor
            high = max(min(int(-(-high // factor)) * factor, -(-side // factor) * factor), low + factor)
            spans.append((low, high))
        (left, right), (top, bottom) = spans
        origin = np.array((width - right if mirror_x else left, height - bottom if mirror_y else top))
        shape = (bottom - top) // factor, (right - left) // factor
        return (top, left, bottom, right) if swap else (left, top, right, bottom), origin, shape

    def _fill(self, box: tuple[int, ...], factor: int, pixels: np.ndarray, alpha: np.ndarray | None) -> None:
        """Writes the box, given as stored, into upright arrays, band by band; without `alpha`, over white."""
        with _named(self.file):
            img, have = self._decoded(factor), self._factor
            left, top, right, bottom = (side // have for side in box)
            right, bottom = min(right, img.width), min(bottom, img.height)
            shrink = factor // have
            rows = max(1, BAND // ((right - left) * shrink)) * shrink
            pixels, alpha = self._as_stored(pixels), None if alpha is None else self._as_stored(alpha)
            for y in range(top, bottom, rows):
                band = img.crop((left, y, right, min(y + rows, bottom)))
                band = band.reduce(shrink) if shrink > 1 else band
                place = slice((y - top) // shrink, (y - top) // shrink + band.height)
                colour = self._to_srgb(band.convert("L" if band.mode == "LA" else "RGB")
                                       if band.mode in ("LA", "RGBA") else band)
                if band.mode in ("LA", "RGBA"):
                    if alpha is None:
                        canvas = Image.new("RGB", band.size, WHITE)
                        canvas.paste(colour, mask=band.getchannel("A"))
                        colour = canvas
                    else:
                        alpha[place] = np.asarray(band.getchannel("A"))
                pixels[place] = np.asarray(colour)

    def _as_stored(self, upright: np.ndarray) -> np.ndarray:
        """A view in the order in which the file has its pixels."""
        swap, mirror_y, mirror_x = self._turn
        turned = upright[::-1 if mirror_y else 1, ::-1 if mirror_x else 1]
        return turned.swapaxes(0, 1) if swap else turned

    def _decoded(self, factor: int) -> Image.Image:
        """The picture as stored, in one of the SIMPLE modes, shrunk by self._factor, which divides `factor`."""
        if self._img is None or factor % self._factor:
            self._img = None  # its memory is free before the next is decoded
            with Image.fromarray(self.file) if isinstance(self.file, np.ndarray) else _open(self.file) as img:
                if img.size != self._stored:
                    raise OSError("it changed while it was read")
                self._factor = _draft(img, factor)
                img.load()
                self._img = _simple(img)
        return self._img

    def _to_srgb(self, img: Image.Image) -> Image.Image:
        """Colours by the profile, in sRGB; a profile that is broken, or does not fit the mode, is left aside."""
        if self._transform is None:
            self._transform = _transform(self._profile, img.mode)
        if isinstance(self._transform, ImageCms.ImageCmsTransform):
            return ImageCms.applyTransform(img, self._transform) or img
        return img.convert("RGB")


def decodes(content: bytes, formats: Sequence[str]) -> bool:
    """Whether every pixel of a file in one of these formats can be read; its colour profile is not looked at."""
    try:
        with Image.open(io.BytesIO(content), formats=[name.upper() for name in formats]) as img:
            img.load()
    except Exception:  # decoders of broken files raise nearly everything
        return False
    return True


# ---- opening

@contextmanager
def _named(path: str | Path | np.ndarray) -> Iterator[None]:
    """Turns whatever a decoder raises into an UnreadableImageError that names the file."""
    try:
        yield
    except UnreadableImageError:
        raise
    except FileNotFoundError as error:
        raise UnreadableImageError(f"{path}: no such file", "check the path") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"{path}: too large to open safely ({error})",
                                   f"shrink it below {MAX_PIXELS // 10**6} megapixels") from error
    except Exception as error:  # decoders of broken files raise nearly everything
        reason = str(error) or type(error).__name__
        reason = "not a known picture format" if reason.startswith("cannot identify") else reason
        raise UnreadableImageError(f"{path}: cannot be read as a picture ({reason})",
                                   "open and save it again as PNG or JPEG, or take it out of the folder") from error


def _open(path: str | Path) -> Image.Image:
    with open(path, "rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        return _open_heif(path)
    Image.init()
    with _opening, warnings.catch_warnings():  # Pillow warns of half of MAX_PIXELS; ours is the one limit
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])


def _open_heif(path: str | Path) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise UnreadableImageError(f"{path}: a HEIC picture, which needs another package",
                                   "pip install 'sigan[heic]', or save it as JPEG") from error
    return HeifImageFile(path)


def _notes(img: Image.Image) -> tuple[str, ...]:
    """What was left of the file: the other frames or pages. A JPEG's further pictures are previews and gain maps."""
    try:
        count = 1 if img.format in ("JPEG", "MPO", "PSD") else getattr(img, "n_frames", 1)
    except Exception:  # a later frame is damaged; the first may be whole
        return ()
    what = {"TIFF": "page", "HEIF": "picture"}.get(img.format or "", "frame")
    return (f"the first {what} of {count}",) if count > 1 else ()


def _draft(img: Image.Image, factor: int) -> int:
    """Has a JPEG decoded smaller, by a factor that divides `factor`, and gives it; 1 for other formats."""
    if img.format not in ("JPEG", "MPO"):
        return 1
    width, wanted = img.width, next(step for step in JPEG_FACTORS if factor % step == 0)
    drawn = img.draft(None, (max(1, width // wanted), max(1, img.height // wanted)))
    return round(width / drawn[1][2]) if drawn else 1


# ---- modes and colours

def _simple(img: Image.Image) -> Image.Image:
    if img.mode in ("I", "F") or img.mode.startswith("I;16"):
        return Image.fromarray(_to_8_bit(np.asarray(img), img.mode))
    if img.mode in ("PA", "RGBa") or "transparency" in img.info:
        return img.convert("RGBA")
    if img.mode == "La":
        return img.convert("LA")
    return img if img.mode in SIMPLE else img.convert("RGB")


def _to_8_bit(values: np.ndarray, mode: str) -> np.ndarray:
    """Deep grey values -> uint8: 16-bit by 257, floats in [0,1] by 255, values that already fit as they are."""
    top, out = values.max(initial=0), np.empty(values.shape, np.uint8)
    deep = mode.startswith("I;16") or (mode == "I" and top > 255)
    scale = 1 / 257 if deep else 255 if mode == "F" and top <= 1 else 1
    rows = max(1, BAND // max(1, values.shape[1]))
    for y in range(0, len(values), rows):
        out[y:y + rows] = np.clip(np.rint(np.nan_to_num(values[y:y + rows] * np.float64(scale))), 0, 255)
    return out


def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | Literal[False]:
    """From the profile's colours to sRGB; False where there is nothing to do."""
    if mode == "LAB":
        return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    if not profile or mode not in ("RGB", "L", "CMYK"):
        return False
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return False
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
