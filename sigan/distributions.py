"""Distances between sets of pictures by their features: FID (arXiv 1706.08500) and KID (arXiv 1801.01401).

Their definitions are torch-fidelity's. Letters: a b features [N,D] and [M,D] of two sets, float.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

from sigan import figures
from sigan.figures import LOWER, Figure
from sigan.metrics import REFERENCES, Sample, Tools

if TYPE_CHECKING:
    from typing_extensions import Self

ENOUGH_FOR_FID = 2048  # pictures a side; with fewer than there are features the covariance is not of full rank
KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2020  # torch-fidelity's
KID_DEGREE = 3  # of the polynomial kernel (x·y / D + 1)^3
KEPT = 2048  # pictures of a side whose own features are kept, for KID and for intervals; FID counts all
RESAMPLES = 100
RESAMPLED = 512  # pictures in a resample of FID: its cost grows with the third power
BLOCK = 64  # pictures whose features wait to be added to the moments together


# ---- FID

def frechet(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """Squared Fréchet distance of two normal distributions by mean [D] and covariance [D,D] (Dowson 1982)."""
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    overlap = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap)


def frechet_of_features(a: np.ndarray, b: np.ndarray) -> float:
    """The same of two sets [N,D] and [M,D] with their own moments; quick where N or M is below D.

    The trace of the root of the covariances' product is the sum of the singular values of the centred sets' product.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    centred_a, centred_b = a - a.mean(0), b - b.mean(0)
    overlap = np.linalg.norm(centred_a @ centred_b.T, "nuc") / np.sqrt((len(a) - 1) * (len(b) - 1))
    spread = (centred_a**2).sum() / (len(a) - 1) + (centred_b**2).sum() / (len(b) - 1)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + spread - 2 * overlap)


# ---- KID

def kid(a: np.ndarray, b: np.ndarray, subsets: int = KID_SUBSETS, size: int = KID_SUBSET_SIZE,
        seed: int = KID_SEED) -> float:
    """Unbiased squared MMD, the mean over random subsets; of everything at once where a set is smaller than `size`.

    With equal order, size and seed it draws the subsets that torch-fidelity draws.
    """
    inside_a, inside_b, across = _kernels(a, b)
    if min(len(a), len(b)) < size:
        return _mmd(inside_a, inside_b, across, np.ones((1, len(a))), np.ones((1, len(b))))[0]
    draw = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        i, j = draw.choice(len(a), size, replace=False), draw.choice(len(b), size, replace=False)
        ones = np.ones((1, size))
        values.append(_mmd(inside_a[np.ix_(i, i)], inside_b[np.ix_(j, j)], across[np.ix_(i, j)], ones, ones)[0])
    return float(np.mean(values))


def _kernels(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The kernel within a, within b (nothing on the diagonals), and across."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    within = [(x @ x.T / x.shape[1] + 1) ** KID_DEGREE for x in (a, b)]
    for kernel in within:
        np.fill_diagonal(kernel, 0)
    return within[0], within[1], (a @ b.T / a.shape[1] + 1) ** KID_DEGREE


def _mmd(inside_a: np.ndarray, inside_b: np.ndarray, across: np.ndarray, times_a: np.ndarray,
         times_b: np.ndarray) -> np.ndarray:
    """Squared MMD [B] with pictures counted `times` [B,N]; a picture drawn twice is not compared with itself."""
    def within(kernel: np.ndarray, times: np.ndarray) -> np.ndarray:
        pairs = times.sum(1) ** 2 - (times**2).sum(1)
        return ((times @ kernel) * times).sum(1) / np.maximum(pairs, 1)

    between = ((times_a @ across) * times_b).sum(1) / (times_a.sum(1) * times_b.sum(1))
    return within(inside_a, times_a) + within(inside_b, times_b) - 2 * between


# ---- a set of features, counted in one by one

class FeatureSet:
    """Moments of all features in float64, and the features of up to `kept` pictures: memory does not grow with N.

    Those with the lowest digests are kept, so that neither order nor halves make a difference.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.kept = kept
        self.n = 0
        # Pictures, their mean, and the sum of the outer products of their centred features
        self._moments: tuple[int, np.ndarray, np.ndarray] | None = None
        self._order = 0  # pictures offered to the sample
        self._waiting: list[np.ndarray] = []
        self._sample: list[tuple[int, int, np.ndarray]] = []  # a heap, the highest digest first

    def add(self, feature: np.ndarray, digest: str) -> None:
        """Counts in one picture's features [D]."""
        self.n += 1
        self._waiting.append(feature)
        if len(self._waiting) == BLOCK:
            self._settle()
        self._keep(-int(digest[:15], 16), feature)

    def merge(self, other: FeatureSet) -> None:
        """Counts in all that another has counted."""
        self._settle()
        other._settle()
        self.n += other.n
        if other._moments is not None:
            self._combine(*other._moments)
        for rank, _, feature in other._sample:
            self._keep(rank, feature)

    def features(self) -> np.ndarray:
        """The kept pictures' [min(N,kept),D], in the order of their digests."""
        return np.stack([feature for _, _, feature in sorted(self._sample, key=lambda entry: -entry[0])])

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean [D] and unbiased covariance [D,D], float64, of all N > 1 pictures."""
        self._settle()
        if self._moments is None:
            raise ValueError("no picture has been added")
        n, mean, scatter = self._moments
        return mean, scatter / (n - 1)

    def _keep(self, rank: int, feature: np.ndarray) -> None:
        self._order += 1  # decides between equal pictures
        entry = (rank, self._order, feature)
        if len(self._sample) < self.kept:
            heapq.heappush(self._sample, entry)
        elif rank > self._sample[0][0]:
            heapq.heapreplace(self._sample, entry)

    def _settle(self) -> None:
        if not self._waiting:
            return
        block = np.asarray(self._waiting, np.float64)
        self._waiting = []
        mean = block.mean(0)
        centred = block - mean
        self._combine(len(block), mean, centred.T @ centred)

    def _combine(self, n: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        """Moments of both parts (Chan 1979)."""
        if self._moments is None:
            self._moments = n, mean, scatter.copy()
            return
        settled, middle, total = self._moments
        gap = mean - middle
        total += scatter + np.outer(gap, gap) * (settled * n / (settled + n))  # in place
        self._moments = settled + n, middle + gap * (n / (settled + n)), total


class SetMetric:
    """A distance between the results' features and the references'."""

    name, better, needs = "", LOWER, REFERENCES

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.features, self.resize = tools.extractor.name, tools.extractor.resize
        self.results, self.references = FeatureSet(), FeatureSet()
        self.missing = {True: 0, False: 0}  # of references, of results

    def update(self, sample: Sample) -> None:
        feature = self.tools.features(sample.image, sample.digest)
        if feature is None:
            self.missing[sample.reference] += 1
        else:
            (self.references if sample.reference else self.results).add(feature, sample.digest)

    def merge(self, other: Self) -> None:
        """Counts in results that another saw beside the same references."""
        self.results.merge(other.results)
        self.missing[False] += other.missing[False]

    def compute(self) -> Figure:
        few = min(self.results.n, self.references.n) < 2
        value: float | None = None
        bounds: tuple[float, float] | tuple[None, None] = None, None
        if not few:
            value = self.distance()
            bounds = self.interval(value)
        return Figure(self.name, value, self.results.n, self.better, bounds[0], bounds[1], missing=self.missing[False],
                      references=self.references.n, features=self.features, resize=self.resize,
                      warnings=tuple(self._warnings(few)), details=self.details())

    def distance(self) -> float:
        raise NotImplementedError

    def interval(self, value: float) -> tuple[float, float]:
        raise NotImplementedError

    def details(self) -> dict[str, float]:
        return {}

    def warnings(self) -> list[str]:
        return []

    def _warnings(self, few: bool) -> list[str]:
        told = [f"{count} {side} have no face to describe, and are not in it"
                for side, count in (("references", self.missing[True]), ("results", self.missing[False])) if count]
        if few:
            return [*told, f"it needs two pictures a side at least; {self.results.n} results and "
                           f"{self.references.n} references could be described"]
        return told + self.warnings()


class Fid(SetMetric):
    """Fréchet distance of the features' normal distributions."""

    name = "fid"

    def distance(self) -> float:
        a, b = self.results.features(), self.references.features()
        if len(a) == self.results.n and len(b) == self.references.n and min(len(a), len(b)) < a.shape[1]:
            return frechet_of_features(a, b)
        return frechet(*self.results.moments(), *self.references.moments())

    def interval(self, value: float) -> tuple[float, float]:
        """Twice 1.96 standard errors around the value: what another draw of as many pictures would change.

        From resamples of at most RESAMPLED pictures a side, their spread scaled to N where both sides are larger. The
        bias of a small N is not in it.
        """
        draw = np.random.default_rng(figures.SEED)
        a, b = self.results.features(), self.references.features()
        m, k = min(len(a), RESAMPLED), min(len(b), RESAMPLED)
        times = RESAMPLES if min(m, k) <= 100 else RESAMPLES // 5
        values = [frechet_of_features(a[draw.integers(0, len(a), m)], b[draw.integers(0, len(b), k)])
                  for _ in range(times)]
        scale = np.sqrt(max(m / self.results.n, k / self.references.n))
        reach = 1.96 * float(np.std(values, ddof=1)) * scale
        return value - reach, value + reach

    def warnings(self) -> list[str]:
        n = min(self.results.n, self.references.n)
        if n >= ENOUGH_FOR_FID:
            return []
        return [f"N is {n}, below {ENOUGH_FOR_FID}: FID is strongly biased upwards, and only comparable at equal N; "
                "prefer kid"]


class Kid(SetMetric):
    """Kernel distance of the features: unbiased at any N, below 0 for sets that are much alike."""

    name = "kid"

    def distance(self) -> float:
        return kid(self.results.features(), self.references.features())

    def interval(self, value: float) -> tuple[float, float]:
        draw = np.random.default_rng(figures.SEED)
        a, b = self.results.features(), self.references.features()
        counts = [draw.multinomial(len(x), np.full(len(x), 1 / len(x)), RESAMPLES).astype(np.float64) for x in (a, b)]
        low, high = np.percentile(_mmd(*_kernels(a, b), *counts), (2.5, 97.5))
        return min(float(low), value), max(float(high), value)

    def warnings(self) -> list[str]:
        n = min(self.results.n, self.references.n)
        told = [] if n >= figures.FEW else [f"N is {n}, below {figures.FEW}: the interval is itself unsure"]
        if max(self.results.n, self.references.n) > KEPT:
            told.append(f"taken on {KEPT} pictures a side at most, chosen by content")
        return told
