"""68 landmarks to the FFHQ square, and the square cut out of its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from sigan.errors import ConfigError, InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

POINTS = 68
EYE_LEFT, EYE_RIGHT, MOUTH_CORNERS = slice(36, 42), slice(42, 48), (48, 54)  # iBUG 68 points, the sitter's right first
MAX_SPAN = 16  # a quad wider than this many pictures is a mistake in the landmarks
MODES = ("area", "paper")
BLUR_PIXELS = 2.5  # a blur wider than twice this is computed on a smaller picture: nothing finer is left of it


def quad(landmarks: np.ndarray) -> np.ndarray:
    """The FFHQ square as float32 [4,2] of float [68,2] landmarks (Karras 2019, appendix A; the paper's align_face)."""
    landmarks = checked(landmarks)
    eyes = (landmarks[EYE_LEFT].mean(0) + landmarks[EYE_RIGHT].mean(0)) / 2
    across = landmarks[EYE_RIGHT].mean(0) - landmarks[EYE_LEFT].mean(0)
    down = landmarks[list(MOUTH_CORNERS)].mean(0) - eyes
    x = across + (down[1], -down[0])
    length = np.hypot(*x)
    if length < 1e-6:
        raise InputError("the landmarks lie on one point; they span no face", "check the landmarks file")
    x *= max(2.0 * np.hypot(*across), 1.8 * np.hypot(*down)) / length
    y = np.array((-x[1], x[0]))
    centre = eyes + 0.1 * down
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y]).astype(np.float32)


def checked(landmarks: ArrayLike) -> np.ndarray:
    """Landmarks as float64 [68,2]; InputError where they are not 68 finite points."""
    try:
        landmarks = np.asarray(landmarks, np.float64)
    except (TypeError, ValueError):  # rows of several lengths, or no numbers
        landmarks = np.empty(0)
    if landmarks.shape != (POINTS, 2) or not np.isfinite(landmarks).all():
        raise InputError(f"landmarks are {POINTS} finite points [68,2]; got shape {list(landmarks.shape)}",
                         "give the 68 iBUG points as [[x, y], ...] in pixels")
    return landmarks


def side(quad: np.ndarray) -> float:
    """Length of the quad's upper side, in pixels."""
    return float(np.hypot(*(quad[3] - quad[0])))


def check_frame(quad: np.ndarray, size: tuple[int, int]) -> None:
    """Passes where the quad [4,2] lies on a picture of this width and height, at least in part; InputError."""
    if not (0 < side(quad) < MAX_SPAN * max(size) and (quad.max(0) > 0).all() and (quad.min(0) < size).all()):
        corners = np.rint(quad).tolist()
        raise InputError(f"the frame {corners} does not lie on the {size[0]} x {size[1]} picture",
                         "check the landmarks: they are pixels of this picture")


def crop(image: np.ndarray, quad: np.ndarray, size: int, mode: str = "area") -> np.ndarray:
    """uint8 [size,size,3] cut from uint8 [H,W,3] along the quad; what lies outside is mirrored, blurred and faded.

    `area` averages every source pixel (supersampled, Lanczos); `paper` samples like the authors' align_face: one
    bilinear sample per output pixel, aliased when it shrinks.
    """
    if mode not in MODES:
        raise ConfigError(f"crop mode is {mode!r}; it must be one of {', '.join(MODES)}")
    quad = np.asarray(quad, np.float64)
    check_frame(quad, image.shape[1::-1])
    img, quad = _shrink(image, quad, size) if mode == "paper" else _reduce(image, quad, size)
    img, quad = _pad(img, quad, exact=mode == "paper")
    finer = 1 if mode == "paper" else max(1, int(np.ceil(side(quad) / size - 0.01)))
    kernel = Image.Resampling.BILINEAR if mode == "paper" or finer > 1 else Image.Resampling.BICUBIC
    img = img.transform((finer * size,) * 2, Image.Transform.QUAD, (quad + 0.5).flatten().tolist(), kernel)
    return np.array(img.resize((size, size), Image.Resampling.LANCZOS) if finer > 1 else img)


def scaled(image: np.ndarray, scale: float) -> tuple[np.ndarray, tuple[float, float]]:
    """The picture at about `scale`, antialiased, and its exact scales in x and y."""
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    kernel = Image.Resampling.BICUBIC if scale > 0.5 else Image.Resampling.BOX  # both antialias when they shrink
    return np.array(Image.fromarray(image).resize(size, kernel)), (size[0] / width, size[1] / height)


# ---- the steps of a crop

def _shrink(image: np.ndarray, quad: np.ndarray, size: int) -> tuple[Image.Image, np.ndarray]:
    """The authors' way: the whole picture shrunk by a whole factor, to about twice the output's density; then cut."""
    factor = int(side(quad) / size * 0.5)
    if factor > 1:
        smaller = tuple(round(length / factor) for length in image.shape[1::-1])
        image = np.asarray(Image.fromarray(image).resize(smaller, Image.Resampling.LANCZOS))
        quad = quad / factor
    part, quad = _cut(image, quad)
    return Image.fromarray(part), quad


def _reduce(image: np.ndarray, quad: np.ndarray, size: int) -> tuple[Image.Image, np.ndarray]:
    """The part that the quad needs, antialiased down to no less than twice the output's density."""
    part, quad = _cut(image, quad)
    factor = 2 * size / side(quad)
    if factor < 1:
        part, scale = scaled(part, factor)
        part, quad = _cut(part, (quad + 0.5) * scale - 0.5)
    return Image.fromarray(part), quad


def _reach(quad: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Whole-pixel corners of the box around the quad, and the border kept around it."""
    border = max(int(np.rint(side(quad) * 0.1)), 3)
    return np.floor(quad.min(0)).astype(int), np.ceil(quad.max(0)).astype(int), border


def _cut(image: np.ndarray, quad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high, border = _reach(quad)
    low, high = np.maximum(low - border, 0), np.minimum(high + border, image.shape[1::-1])
    return image[low[1]:high[1], low[0]:high[0]], quad - low


def _pad(img: Image.Image, quad: np.ndarray, exact: bool) -> tuple[Image.Image, np.ndarray]:
    """Mirrors what the quad lacks, then blurs and fades it to the median colour outwards (Karras 2019, appendix A)."""
    low, high, border = _reach(quad)
    before, after = np.maximum(border - low, 0), np.maximum(high - img.size + border, 0)
    if max(*before, *after) <= border - 4:
        return img, quad
    least = int(np.rint(side(quad) * 0.3))
    (left, top), (right, bottom) = np.maximum(before, least), np.maximum(after, least)
    pixels = np.pad(np.asarray(img), ((top, bottom), (left, right), (0, 0)), "reflect" if min(img.size) > 1 else "edge")
    height, width, _ = pixels.shape
    y, x = (np.arange(length, dtype=np.float32) for length in (height, width))
    outwards = np.maximum.outer(1 - np.minimum(y / top, (height - 1 - y) / bottom),
                                1 - np.minimum(x / left, (width - 1 - x) / right))
    fade = _fade if exact else _quick_fade
    return fade(pixels, outwards, side(quad) * 0.02), quad + (left, top)


def _fade(pixels: np.ndarray, outwards: np.ndarray, sigma: float) -> Image.Image:
    """The authors' arithmetic, in single precision."""
    pixels, outwards = np.float32(pixels), outwards[..., None]
    pixels += (_gaussian(pixels, sigma) - pixels) * np.clip(outwards * 3 + 1, 0, 1)
    pixels += (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(outwards, 0, 1)
    return Image.fromarray(np.uint8(np.clip(np.rint(pixels), 0, 255)))


def _quick_fade(pixels: np.ndarray, outwards: np.ndarray, sigma: float) -> Image.Image:
    """The same to a few grey levels, in whole numbers: the blur is Pillow's, on a smaller picture where it is wide."""
    img = Image.fromarray(pixels)
    shrink = max(1, int(sigma / BLUR_PIXELS))
    blurred = img.reduce(shrink).filter(ImageFilter.GaussianBlur(sigma / shrink))
    if shrink > 1:
        span = (0, 0, img.width / shrink, img.height / shrink)  # the last column and row may stand for less
        blurred = blurred.resize(img.size, Image.Resampling.BILINEAR, box=span)
    img = Image.composite(blurred, img, _mask(outwards * 3 + 1))
    histograms = np.reshape(img.histogram(), (3, 256)).cumsum(1)
    median = tuple(int(np.searchsorted(counts, counts[-1] / 2)) for counts in histograms)
    img.paste(median, (0, 0, *img.size), _mask(outwards))
    return img


def _mask(weight: np.ndarray) -> Image.Image:
    return Image.fromarray(np.uint8(np.clip(weight * 255 + 0.5, 0, 255)))


def _gaussian(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """scipy's gaussian_filter (cut at 4 sigma, edges mirrored) as one matrix per axis."""
    blurred = np.einsum("ij,jkc->ikc", _blur_matrix(pixels.shape[0], sigma), pixels, optimize=True)
    return np.einsum("ij,kjc->kic", _blur_matrix(pixels.shape[1], sigma), blurred, optimize=True)


def _blur_matrix(length: int, sigma: float) -> np.ndarray:
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    rows = np.arange(length)[:, None]
    columns = (rows + offsets) % (2 * length)
    matrix = np.zeros((length, length), np.float32)
    np.add.at(matrix, (rows, np.minimum(columns, 2 * length - 1 - columns)), weights / weights.sum())
    return matrix
