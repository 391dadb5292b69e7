"""The one meeting place of files, Pillow, uint8 [H,W,3] arrays and float [N,3,R,R] batches in [-1,1]."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms, ImageDraw, ImageOps

from sigan.errors import ConfigError, InputError, OutputError, UnreadableImageError

if TYPE_CHECKING:
    import torch

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
FORMATS = {"png": {}, "jpeg": {"quality": 95, "subsampling": 0}, "webp": {"quality": 95, "method": 4}}
MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb: 2 * 0.25 GiB / 3
LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601, as in JPEG, Pillow's and Matlab's grey
WHITE = (255, 255, 255)


# ---- files to arrays

def read(path: str | Path) -> np.ndarray:
    """The picture as uint8 [H,W,3], upright, in sRGB, transparency over white, first frame of an animation.

    Raises UnreadableImageError, which names the file, for anything missing, truncated, oversized or not a picture.
    """
    try:
        with Image.open(path) as img:
            if img.width * img.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{img.width} x {img.height} pixels")
            img.load()
            return np.array(_to_rgb(ImageOps.exif_transpose(img)))
    except FileNotFoundError as error:
        raise UnreadableImageError(f"{path}: no such file", "check the path") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"{path}: too large to open safely ({error})",
                                   f"shrink it below {MAX_PIXELS // 10**6} megapixels") from error
    except Exception as error:  # decoders of broken files raise nearly everything
        raise UnreadableImageError(f"{path}: cannot be read as a picture ({_reason(error)})",
                                   "open and save it again as PNG or JPEG, or take it out of the folder") from error


def decodes(content: bytes, formats: Sequence[str]) -> bool:
    """Whether every pixel of a file in one of these formats can be read; its colour profile is not looked at."""
    try:
        with Image.open(io.BytesIO(content), formats=[name.upper() for name in formats]) as img:
            img.load()
    except Exception:  # decoders of broken files raise nearly everything
        return False
    return True


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return "not a known picture format" if text.startswith("cannot identify") else text


def _to_rgb(img: Image.Image) -> Image.Image:
    """Any Pillow mode -> RGB on white, through the embedded colour profile where Pillow can follow it."""
    if img.mode in ("I", "F") or img.mode.startswith("I;16"):
        img = Image.fromarray(_to_8_bit(np.asarray(img), img.mode))
    profile = img.info.get("icc_profile")
    if img.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in img.info:
        img = img.convert("RGBA")
        canvas = Image.new("RGB", img.size, WHITE)
        canvas.paste(_to_srgb(img.convert("RGB"), profile), mask=img.getchannel("A"))
        return canvas
    return _to_srgb(img, profile).convert("RGB")


def _to_8_bit(values: np.ndarray, mode: str) -> np.ndarray:
    """Deep grey values -> uint8: 16-bit by 257, floats in [0,1] by 255, values that already fit as they are."""
    values = values.astype(np.float64)
    top = values.max(initial=0.0)
    if mode.startswith("I;16") or (mode == "I" and top > 255):
        values = values / 257
    elif mode == "F" and top <= 1:
        values = values * 255
    return np.clip(np.rint(np.nan_to_num(values)), 0, 255).astype(np.uint8)


def _to_srgb(img: Image.Image, profile: bytes | None) -> Image.Image:
    """Colours by the profile in sRGB; a profile that is broken, or does not fit the mode, is left aside."""
    if not profile or img.mode not in ("RGB", "L", "CMYK"):
        return img
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return img
        return ImageCms.profileToProfile(img, source, ImageCms.createProfile("sRGB"), outputMode="RGB") or img
    except (ImageCms.PyCMSError, OSError, ValueError):
        return img


# ---- arrays to batches and back

def to_batch(images: Sequence[np.ndarray], device: torch.device | str = "cpu") -> torch.Tensor:
    """float32 [N,3,R,R] in [-1,1] of N uint8 [R,R,3] faces; InputError when they are not all of one square size."""
    import torch  # reading and cutting pictures must not load torch

    images = [np.asarray(image) for image in images]
    shapes = sorted({image.shape for image in images})
    if len(shapes) != 1 or shapes[0] != (*shapes[0][:1] * 2, 3) or any(image.dtype != np.uint8 for image in images):
        raise InputError(f"a batch is uint8 [R,R,3] faces of one size; got shapes {shapes or 'none'}",
                         "align the pictures to one size first")
    x = torch.from_numpy(np.stack(images)).to(device)
    return x.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()  # [N,3,R,R]


def from_batch(y: torch.Tensor) -> list[np.ndarray]:
    """uint8 [R,R,3] pictures of float [N,3,R,R] in [-1,1]; values outside are clipped."""
    if y.ndim != 4 or y.shape[1] != 3:
        raise InputError(f"y is [N,3,R,R]; got {list(y.shape)}")
    y = y.detach().float().add(1).mul(127.5).round().clamp(0, 255).byte()
    return list(y.permute(0, 2, 3, 1).contiguous().cpu().numpy())


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [size,size,3], antialiased when it shrinks."""
    if image.shape[:2] == (size, size):
        return image
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))


# ---- arrays to files

def write(path: str | Path, image: np.ndarray, format: str = "png") -> None:
    """Writes uint8 [H,W,3] whole or not at all as png, jpeg or webp; the suffix is the caller's."""
    atomic_write(path, encode(image, format))


def encode(image: np.ndarray, format: str = "png", **options) -> bytes:
    """The bytes of uint8 [H,W,3] as a png, jpeg or webp file; `options` are Pillow's, over those of FORMATS."""
    if format not in FORMATS:
        raise ConfigError(f"format is {format!r}; it must be one of {', '.join(FORMATS)}")
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, format.upper(), **{**FORMATS[format], **options})
    return buffer.getvalue()


def atomic_write(path: str | Path, data: bytes) -> None:
    """Writes `data` beside `path`, then renames, so that no half file is ever seen; OutputError when it cannot."""
    path = Path(path)
    part = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "xb") as file:
                file.write(data)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})",
                          "choose another destination, or check its permissions and free space") from error


def contact_sheet(rows: Sequence[Sequence[np.ndarray | None]], labels: Sequence[str] | None = None,
                  cell: int = 128) -> np.ndarray:
    """uint8 [H,W,3]: each row's pictures fitted into square cells, its label on the left; None leaves a gap."""
    gap, margin = 4, 110 if labels else 0
    columns = max((len(row) for row in rows), default=0)
    size = margin + columns * (cell + gap) + gap, len(rows) * (cell + gap) + gap
    sheet = Image.new("RGB", size, WHITE)
    draw = ImageDraw.Draw(sheet)
    for j, row in enumerate(rows):
        top = gap + j * (cell + gap)
        if labels:
            draw.text((gap, top + cell // 2 - 6), labels[j][:17], fill=(0, 0, 0))
        for i, image in enumerate(row):
            if image is not None:
                fitted = ImageOps.contain(Image.fromarray(np.asarray(image)), (cell, cell))
                sheet.paste(fitted, (margin + gap + i * (cell + gap), top))
    return np.array(sheet)
