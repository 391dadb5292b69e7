"""How results look beside the references: colours, lines, and whether one is a copy of a reference.

Letters: x a picture as numbers [D].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sigan import figures, images
from sigan.figures import LOWER, Figure
from sigan.metrics import REFERENCES, Sample, Tools

if TYPE_CHECKING:
    from typing_extensions import Self

SIDE = 128  # pixels; statistics are taken on pictures of this size, whatever theirs
EDGE = 16  # of 255: a step of this height between neighbours is a line to the eye
INK = 35  # of 100, in lightness: darker is ink
COPY_SIDE = 32  # pixels: pose and shapes stay, texture and shading of a style do not
# Correlation from which a picture passes for a copy, unless references among themselves are as near. Measured: results
# of the shipped packs reach 0.65 with a painted reference; of the faces that the base draws, two people 0.87, one drawn
# twice 0.93.
COPY = 0.9
SRGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # IEC 61966-2-1
WHITE = SRGB_TO_XYZ.sum(1)  # D65


# ---- pictures to numbers

def lab(image: np.ndarray) -> np.ndarray:
    """CIELAB [H,W,3] of a uint8 sRGB picture: lightness 0..100, then green to red and blue to yellow."""
    values = image.astype(np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    ratio = linear @ SRGB_TO_XYZ.T / WHITE
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def color_statistics(image: np.ndarray) -> np.ndarray:
    """Means and standard deviations of L*, a* and b* [6] (Reinhard 2001, in CIELAB)."""
    pixels = lab(images.resize(image, SIDE)).reshape(-1, 3)
    return np.concatenate([pixels.mean(0), pixels.std(0)])


def line_statistics(image: np.ndarray) -> np.ndarray:
    """Percent [3]: pixels at an edge, pixels of ink, and the mean height of the steps between neighbours."""
    small = images.resize(image, SIDE)
    luma = small @ np.array(images.LUMA)
    steps = np.hypot(luma[1:, 1:] - luma[1:, :-1], luma[1:, 1:] - luma[:-1, 1:])
    return np.array([100 * (steps > EDGE).mean(), 100 * (lab(small)[..., 0] < INK).mean(), 100 * steps.mean() / 255])


def wasserstein(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """How far one set of numbers has to be moved, on average, to become the other (arXiv 1706.02151's W1)."""
    shares = np.unique(np.concatenate([np.linspace(0, 1, len(a) + 1), np.linspace(0, 1, len(b) + 1)]))
    middles = (shares[1:] + shares[:-1]) / 2
    at = [np.sort(x)[np.minimum((middles * len(x)).astype(int), len(x) - 1)] for x in (np.asarray(a), np.asarray(b))]
    return float((np.abs(at[0] - at[1]) * np.diff(shares)).sum())


# ---- colours and lines

class Statistics:
    """Mean over a few numbers of the distance (W1) between their values in the results and in the references.

    A picture's own figure is its numbers' mean distance from the references' averages.
    """

    name, better, needs = "", LOWER, REFERENCES
    labels: tuple[str, ...] = ()

    def __init__(self, tools: Tools) -> None:
        self.results: list[np.ndarray] = []
        self.references: list[np.ndarray] = []

    def numbers(self, image: np.ndarray) -> np.ndarray:
        """[D] of uint8 [H,W,3]."""
        raise NotImplementedError

    def update(self, sample: Sample) -> float | None:
        x = self.numbers(sample.image)
        (self.references if sample.reference else self.results).append(x)
        if sample.reference or not self.references:
            return None
        return float(np.abs(x - np.mean(self.references, 0)).mean())

    def merge(self, other: Self) -> None:
        """Counts in results that another saw beside the same references."""
        self.results += other.results

    def compute(self) -> Figure:
        n, references = len(self.results), len(self.references)
        figure = Figure(self.name, None, n, references=references, resize=f"{SIDE} px, Lanczos",
                        features=f"{len(self.labels)} numbers", warnings=("no picture could be measured",))
        if not n or not references:
            return figure
        a, b = np.array(sorted(map(tuple, self.results))), np.array(self.references)
        draw = np.random.default_rng(figures.SEED)
        values = [self._distance(a[draw.integers(0, n, n)], b[draw.integers(0, references, references)])
                  for _ in range(figures.RESAMPLES // 5)]
        value, spread = self._distance(a, b), 1.96 * float(np.std(values))
        few = min(n, references) < figures.FEW
        told = (f"N is {min(n, references)}, below {figures.FEW}: the interval is itself unsure",) if few else ()
        details = {f"{label}, {side}": float(x) for k, label in enumerate(self.labels)
                   for side, x in (("results", a[:, k].mean()), ("references", b[:, k].mean()))}
        return replace(figure, value=value, low=max(value - spread, 0.0), high=value + spread, warnings=told,
                       details=details)

    @staticmethod
    def _distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([wasserstein(a[:, k], b[:, k]) for k in range(a.shape[1])]))


class Color(Statistics):
    """Colours, in CIELAB units: about 2 can just be seen."""

    name = "color"
    labels = ("mean L*", "mean a*", "mean b*", "spread L*", "spread a*", "spread b*")

    def numbers(self, image: np.ndarray) -> np.ndarray:
        return color_statistics(image)


class Lines(Statistics):
    """Lines, in percentage points: how many edges, how much ink, how hard the strokes."""

    name = "lines"
    labels = ("edges %", "ink %", "step height %")

    def numbers(self, image: np.ndarray) -> np.ndarray:
        return line_statistics(image)


# ---- copies

class Copy:
    """The share of results that are nearly a reference, in percent: a style that learned its references by heart.

    A picture's own figure is its correlation with the nearest reference, in edges at 32 px. From the references'
    greatest among themselves on, or from 0.9 if that is more, it passes for a copy.
    """

    name, better, needs = "copy", LOWER, REFERENCES

    def __init__(self, tools: Tools) -> None:
        self.references: list[np.ndarray] = []
        self.nearest: list[float] = []

    def update(self, sample: Sample) -> float | None:
        x = outline(sample.image)
        if sample.reference:
            self.references.append(x)
        if sample.reference or not self.references:
            return None
        self.nearest.append(float(max(x @ y for y in self.references)))
        return self.nearest[-1]

    def merge(self, other: Self) -> None:
        """Counts in results that another saw beside the same references."""
        self.nearest += other.nearest

    def bar(self) -> float:
        """The correlation from which a result passes for a copy."""
        pairs = [float(x @ y) for k, x in enumerate(self.references) for y in self.references[:k]]
        return max(COPY, *pairs) if pairs else COPY

    def compute(self) -> Figure:
        copies = [100.0 * (value >= self.bar()) for value in self.nearest]
        count = sum(map(bool, copies))
        told = [f"{count} results are nearly a reference: train fewer steps or with more references"] if count else []
        return figures.mean(self.name, copies, warnings=told, references=len(self.references), better=self.better,
                            features="edges", resize=f"{COPY_SIDE} px", details={
                                "nearest, mean": float(np.mean(self.nearest)), "nearest, greatest": max(self.nearest),
                                "a copy from": self.bar()} if self.nearest else {})


def outline(image: np.ndarray) -> np.ndarray:
    """The heights of a picture's edges at 32 px, less their mean, of length 1.  -> [COPY_SIDE**2]"""
    luma = images.resize(image, 4 * COPY_SIDE) @ np.array(images.LUMA)
    steps = np.hypot(luma - np.roll(luma, 1, 0), luma - np.roll(luma, 1, 1))
    steps[0], steps[:, 0] = 0, 0
    x = steps.reshape(COPY_SIDE, 4, COPY_SIDE, 4).mean((1, 3)).ravel()
    x = x - x.mean()
    return x / max(float(np.linalg.norm(x)), 1e-9)
