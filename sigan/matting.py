"""Which part of an aligned face is the head: a soft mask from the landmarks' outline and the photograph's colours.

No network. The outline gives a first guess; colour histograms of inside and outside correct it towards hair and away
from background (as GrabCut's colour models do, Rother 2004, without its graph cut); a guided filter takes the edge to
where the photograph has one (He 2010).

Letters: M side of the mask in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

MASK_SIDE = 256  # pixels, or the face's own if it has fewer
EARS = 17  # the jaw's points, from ear to ear
# The jaw of a face whose landmarks nobody knows: means over 23 aligned faces, right half mirrored; of the side.
JAW = ((0.228, 0.472), (0.232, 0.545), (0.243, 0.618), (0.258, 0.689), (0.283, 0.756), (0.322, 0.815), (0.372, 0.866),
       (0.431, 0.906), (0.5, 0.917))
# How an oval differs from the face's: wider, higher above the ears, lower below them.
FACE, HEAD, HAIR = (1.0, 0.6, 1.0), (1.12, 1.0, 1.05), (1.30, 1.4, 1.12)
BINS = (12, 20, 20)  # of luma and the two chromas
EVIDENCE = 1.5  # how much a colour counts, its neighbours' included
ROUNDS = 4  # of colours from the mask, and the mask from colours; it stands still by then
SETTLED = 0.999  # skin says nothing about hair: this share of the face's own colours is left out
DOUBT = 0.02  # no pixel is surely inside or outside by its place alone
NARROW = 0.2  # of the side: ears nearer than this are a mistake; no view is so far from the front
FADE = 1 / 12  # of the side: at the frame's edge the mask is 0, however long the hair


def head(image: np.ndarray, landmarks: np.ndarray | None = None, others: Sequence[np.ndarray] = ()) -> np.ndarray:
    """float32 [M,M] in [0,1], the head in uint8 [R,R,3]: 1 on face and hair, 0 far off and at the frame's edge.

    `landmarks` float [68,2] in pixels of `image`, a usual face's if None; `others` are those of further faces in it,
    which are left out.
    """
    side = min(MASK_SIDE, len(image))
    small = image if len(image) == side else _shrunk(Image.fromarray(image), side)
    scale = side / len(image)

    def region(points: np.ndarray, oval: tuple[float, float, float], softness: float) -> np.ndarray:
        return blur(_filled(outline((points + 0.5) * scale, oval), side), side * softness)

    points = _usual(len(image)) if landmarks is None else np.asarray(landmarks, np.float64)[:EARS]
    if np.hypot(*(points[-1] - points[0])) < NARROW * len(image):
        points = _usual(len(image))
    face = region(points, FACE, 1 / 64)
    prior = (region(points, HEAD, 1 / 32) + region(points, HAIR, 1 / 24)) / 2
    prior = np.maximum(prior, face) * (1 - DOUBT) + DOUBT / 10
    colours = np.asarray(Image.fromarray(small).convert("YCbCr"), np.float32)
    mask = guided(_by_colour(colours, prior, face), colours[..., 0] / 255, max(2.0, side / 32), 1e-3)
    for other in others:
        mask *= 1 - region(np.asarray(other, np.float64)[:EARS], FACE, 1 / 64)
    mask = np.clip(np.maximum(mask, face), 0, 1)
    ramp = np.clip((0.5 + np.minimum(np.arange(side), np.arange(side)[::-1])) / (FADE * side), 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.float32(mask * ramp[:, None] * ramp)


def outline(jaw: np.ndarray, oval: tuple[float, float, float] = FACE) -> np.ndarray:
    """The polygon [2 * 17,2] of a jaw [17,2] and its mirror image above the ears, stretched as `oval` says."""
    wide, high, low = oval
    middle, across = (jaw[0] + jaw[-1]) / 2, jaw[-1] - jaw[0]
    across = across / max(float(np.hypot(*across)), 1e-6)
    down = np.array((-across[1], across[0]))
    u, v = (jaw - middle) @ across * wide, (jaw - middle) @ down
    lower = np.stack([u, np.where(v > 0, v * low, v)], 1)
    upper = np.stack([u, -np.abs(v) * high], 1)[::-1]
    return middle + np.concatenate([lower, upper]) @ np.stack([across, down])


def _usual(side: int) -> np.ndarray:
    right = np.array(JAW)
    return np.concatenate([right, (right[:-1] * (-1, 1) + (1, 0))[::-1]]) * side - 0.5


def _shrunk(img: Image.Image, side: int) -> np.ndarray:
    return np.asarray(img.resize((side, side), Image.Resampling.BOX))


def _filled(polygon: np.ndarray, side: int, finer: int = 4) -> np.ndarray:
    """1 inside a polygon of pixel corners, 0 outside, shares of pixels between.  [side,side]"""
    canvas = Image.new("L", (side * finer, side * finer))
    ImageDraw.Draw(canvas).polygon([tuple(point * finer) for point in polygon], fill=255)
    return _shrunk(canvas, side).astype(np.float32) / 255


def _by_colour(colours: np.ndarray, prior: np.ndarray, face: np.ndarray) -> np.ndarray:
    """The probability [M,M] that a pixel is head, by Bayes: its place, and how often its colour is inside and outside.

    colours [M,M,3] in 0..255, `face` is surely head.
    """
    cells = np.minimum(colours * (np.array(BINS, np.float32) / 256), np.array(BINS) - 1).astype(int)
    cells = np.ravel_multi_index(tuple(np.moveaxis(cells, -1, 0)), BINS)
    mask = prior
    for _ in range(ROUNDS):
        inside, outside = (_histogram(cells, weights) for weights in (mask * (1 - SETTLED * face), 1 - mask))
        ratio = np.exp(EVIDENCE * blur(np.log((inside[cells] + 1e-6) / (outside[cells] + 1e-6)), 1.0))
        mask = prior * ratio / (prior * ratio + 1 - prior)
    return np.maximum(mask, face)


def _histogram(cells: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Shares of the colours, softened over neighbouring bins.  [product of BINS]"""
    counts = np.bincount(cells.ravel(), weights.ravel(), int(np.prod(BINS))).reshape(BINS)
    for axis in range(3):
        padded = np.pad(np.moveaxis(counts, axis, 0), ((1, 1), (0, 0), (0, 0)))
        counts = np.moveaxis(padded[:-2] + 2 * padded[1:-1] + padded[2:], 0, axis)
    return (counts / max(counts.sum(), 1e-9)).ravel()


# ---- filters

def blur(values: np.ndarray, sigma: float) -> np.ndarray:
    """float32 [H,W] or [H,W,C] nearly as a Gaussian would blur it: three box means, edges repeated."""
    width = max(1, round(float(np.sqrt(4 * sigma * sigma + 1))) | 1)  # three of variance (width^2 - 1) / 12
    if width == 1:
        return np.float32(values)
    for _ in range(3):
        values = _box(_box(values, width).swapaxes(0, 1), width).swapaxes(0, 1)
    return np.float32(values)


def _box(values: np.ndarray, width: int) -> np.ndarray:
    """Means over `width` (odd) rows."""
    before = width // 2
    edges = ((before + 1, before),) + ((0, 0),) * (values.ndim - 1)
    sums = np.cumsum(np.pad(values, edges, "edge"), 0, dtype=np.float64)
    return (sums[width:] - sums[:-width]) / width


def guided(values: np.ndarray, guide: np.ndarray, sigma: float, eps: float) -> np.ndarray:
    """`values` [H,W] made locally linear in `guide` [H,W], so that they change where it does (He 2010, eq. 5 to 8).

    `eps` is the variance of the guide below which it says nothing.
    """
    mean, level = blur(guide, sigma), blur(values, sigma)
    slope = (blur(guide * values, sigma) - mean * level) / (blur(guide * guide, sigma) - mean * mean + eps)
    return blur(slope, sigma) * guide + blur(level - slope * mean, sigma)
