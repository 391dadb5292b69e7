"""Metrics that update, merge and compute; those of single results are here, those of whole sets in `distributions`.

An entry point of the group `sigan.metrics` is a callable that takes `Tools` and returns a `Metric`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from sigan import features, figures, identity, images
from sigan.alignment import Face
from sigan.cropping import POINTS
from sigan.errors import InputError
from sigan.figures import HIGHER, LOWER, Figure
from sigan.identity import Identity

if TYPE_CHECKING:
    from typing_extensions import Self

    from sigan.bases import Base
    from sigan.detection import Aligner

GROUP = "sigan.metrics"
INPUTS, REFERENCES = "inputs", "references"  # what a metric may need
WINDOW, SIGMA, K1, K2, RANGE = 11, 1.5, 0.01, 0.03, 255  # Wang et al. 2004, section III C
Distance = Callable[[np.ndarray, np.ndarray], float]  # of two pictures uint8 [R,R,3]
OUTER_EYES = (36, 45)  # iBUG points; errors are told as a share of their distance (Sagonas 2013)


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture, uint8 [H,W,3]: a reference, or a result with its photograph `source` aligned to the same size.

    `expected` are the photograph's landmarks and `face` is what was found in the picture, both in its pixels; `found`
    tells whether that is the result's own face.
    """

    image: np.ndarray
    digest: str
    reference: bool = False
    source: np.ndarray | None = None
    source_digest: str = ""
    expected: np.ndarray | None = None
    face: Face | None = None

    @property
    def photograph(self) -> np.ndarray:
        """`source`, for metrics that are asked only where there is one."""
        if self.source is None:
            raise ValueError("a sample without its photograph")
        return self.source

    @property
    def own(self) -> np.ndarray | None:
        """The landmarks of the result's own face; None where none was found."""
        if self.face is None or self.expected is None:
            return None
        near = identity.offset(self.face.landmarks, self.expected) < identity.FAR * len(self.image)
        return self.face.landmarks if near else None

    @property
    def found(self) -> bool:
        return self.own is not None


@runtime_checkable
class Metric(Protocol):
    """Takes samples one at a time and holds no picture. Halves of a set, merged, compute what the whole would."""

    name: str
    better: str  # figures.LOWER or figures.HIGHER
    needs: str  # INPUTS or REFERENCES

    def update(self, sample: Sample) -> float | None:
        """Counts a sample in; the picture's own figure, or None where only sets have one or it cannot be taken."""
        ...

    def merge(self, other: Self) -> None:
        """Counts in what another of the same kind has counted; both must have seen the same references or parts."""
        ...

    def compute(self) -> Figure:
        """The figure of all that was counted."""
        ...


class Tools:
    """What metrics share, each built once and when first asked for: detector, cache, base and feature extractor."""

    def __init__(self, *, features: str = "inception", base: str = "mini", device: str = "cpu",
                 identity: Identity | None = None) -> None:
        self.features_name, self.base_name, self.device = features, base, device
        self.identity = identity or Identity()
        self._lpips: dict[str, Distance] = {}

    def __reduce__(self) -> tuple[Callable[..., Tools], tuple[object, ...]]:
        return _rebuilt, (self.features_name, self.base_name, self.device, self.identity.aligner)  # loads its own

    def __deepcopy__(self, memo: dict[int, object]) -> Tools:
        return self  # shared by the copies of a metric, as by metrics

    @cached_property
    def cache(self) -> features.Cache:
        return features.Cache()

    @cached_property
    def aligner(self) -> RememberingAligner:
        return RememberingAligner(self.identity.aligner, self.cache)

    @cached_property
    def base(self) -> Base:
        from sigan import bases, runtime

        return bases.load(self.base_name, runtime.resolve_device(self.device))

    @cached_property
    def extractor(self) -> features.Extractor:
        from sigan import runtime

        return features.load(self.features_name, identity=self.identity, base=lambda: self.base,
                             device=runtime.resolve_device(self.device))

    def lpips(self, trunk: str) -> Distance:
        """LPIPS of two pictures. WeightsError where its trunk is not installed."""
        if trunk not in self._lpips:
            self._lpips[trunk] = lpips_distance(trunk, self.device)
        return self._lpips[trunk]

    def features(self, image: np.ndarray, digest: str) -> np.ndarray | None:
        """float32 [D] of a picture by the extractor; None where it finds nothing to describe."""
        return self.cache.get(digest, self.extractor.key, lambda: self.extractor(image))

    def find(self, image: np.ndarray, digest: str) -> Face | None:
        """The face of a framed picture."""
        def look() -> np.ndarray | None:
            face = self.identity.find(image)
            return None if face is None else np.concatenate([[face.score], face.box, face.landmarks.ravel()])

        known = self.cache.get(digest, "framed-face", look)
        return None if known is None else _face(known, "framed")

    def descriptor(self, image: np.ndarray, digest: str, landmarks: np.ndarray) -> np.ndarray:
        """dlib's [128] of the face at these landmarks."""
        key = f"dlib-at:{features.digest(np.float32(landmarks))}"
        return self.kept(digest, key, lambda: self.identity.descriptor(image, landmarks))

    def kept(self, digest: str, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """What `compute` gives for the picture of this digest, remembered."""
        known = self.cache.get(digest, key, compute)
        return compute() if known is None else known  # an empty entry is a damaged one


def _face(numbers: np.ndarray, rung: str) -> Face:
    score, left, top, right, bottom = map(float, numbers[:5])
    return Face((left, top, right, bottom), score, numbers[5:].reshape(-1, 2), rung)


def _rebuilt(features: str, base: str, device: str, aligner: Aligner) -> Tools:
    return Tools(features=features, base=base, device=device, identity=Identity(aligner))


class RememberingAligner:
    """Finds what another aligner finds, and keeps it by the picture's content."""

    def __init__(self, aligner: Aligner, cache: features.Cache) -> None:
        self.aligner, self.cache = aligner, cache

    def find(self, image: np.ndarray, every: bool = False) -> list[Face]:
        """The faces of uint8 [H,W,3] from left to right, or none."""
        def look() -> np.ndarray:
            faces = self.aligner.find(image, every=every)
            return np.array([[f.score, *f.box, *f.landmarks.ravel()] for f in faces], np.float32)

        key = f"faces:{type(self.aligner).__qualname__}:{every}"
        known = self.cache.get(features.digest(image), key, look)
        return [] if known is None else [_face(row, "remembered") for row in known.reshape(-1, 5 + 2 * POINTS)]


# ---- a mean over pairs

class PairMetric:
    """The mean of a figure that each result has beside its photograph; `measure` gives it, or None."""

    name, better, needs = "", LOWER, INPUTS
    features, resize = "", ""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.values: list[float] = []
        self.missing = 0

    def measure(self, sample: Sample) -> float | None:
        """The figure of one result beside its photograph."""
        raise NotImplementedError

    def update(self, sample: Sample) -> float | None:
        if sample.reference:
            return None
        value = None if sample.source is None else self.measure(sample)
        if value is None:
            self.missing += 1
        else:
            self.values.append(value)
        return value

    def merge(self, other: Self) -> None:
        self.values += other.values
        self.missing += other.missing

    def compute(self) -> Figure:
        return figures.mean(self.name, self.values, missing=self.missing, better=self.better, features=self.features,
                            resize=self.resize, warnings=self.warnings(), details=self.details())

    def warnings(self) -> list[str]:
        """What to beware of besides a small N."""
        return [f"{self.missing} could not be measured and are not in the mean"] if self.missing else []

    def details(self) -> dict[str, float]:
        """Further numbers by name."""
        return {}


# ---- SSIM

def ssim(a: np.ndarray, b: np.ndarray, color: bool = False) -> float:
    """Structural similarity, 1 for equal pictures, of two uint8 [H,W,3] (or grey [H,W]) pictures of one size.

    Wang 2004: 11 x 11 Gaussian of sigma 1.5, K1 0.01, K2 0.03, whole windows only; on grey, or with `color` the mean
    over the three channels. InputError on unlike or too small pictures.
    """
    if a.shape != b.shape or a.ndim not in (2, 3) or min(a.shape[:2]) < WINDOW:
        raise InputError(f"SSIM compares two pictures of one size, at least {WINDOW} px; got {a.shape} and {b.shape}",
                         "resize one of them")
    a, b = (image.astype(np.float64) if image.ndim == 3 else image[..., None].astype(np.float64) for image in (a, b))
    if not color and a.shape[2] == 3:
        a, b = (a @ images.LUMA)[..., None], (b @ images.LUMA)[..., None]
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    var_a, var_b = _window_mean(a * a) - mean_a**2, _window_mean(b * b) - mean_b**2
    covariance = _window_mean(a * b) - mean_a * mean_b
    c1, c2 = (K1 * RANGE) ** 2, (K2 * RANGE) ** 2
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((likeness / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def _window_mean(image: np.ndarray) -> np.ndarray:
    """Gaussian means over the whole windows of [H,W,C], one axis after the other."""
    weights = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / SIGMA) ** 2)
    weights /= weights.sum()
    rows = sum(w * image[i:len(image) - WINDOW + 1 + i] for i, w in enumerate(weights))
    return sum(w * rows[:, i:rows.shape[1] - WINDOW + 1 + i] for i, w in enumerate(weights))


class Ssim(PairMetric):
    """The paper's SSIM, on grey."""

    name, better, resize = "ssim", HIGHER, "photograph to the result's size"
    color = False

    def measure(self, sample: Sample) -> float:
        return ssim(sample.image, sample.photograph, self.color)


class SsimColor(Ssim):
    """The same on red, green and blue, their mean."""

    name, color = "ssim-color", True


# ---- LPIPS

class Lpips(PairMetric):
    """LPIPS 0.1 (arXiv 1801.03924) with its VGG16 trunk."""

    name, trunk, resize = "lpips", "vgg", "photograph to the result's size"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self.features = f"LPIPS-{self.trunk}"
        tools.lpips(self.trunk)  # what is missing is told before any work

    def measure(self, sample: Sample) -> float:
        return self.tools.lpips(self.trunk)(sample.image, sample.photograph)


class LpipsAlex(Lpips):
    """The same with AlexNet's."""

    name, trunk = "lpips-alex", "alex"


def lpips_distance(trunk: str, device: str = "cpu") -> Distance:
    """LPIPS of two uint8 [R,R,3] pictures, `trunk` vgg or alex. WeightsError where the trunk is not installed."""
    import torch

    from sigan import losses, runtime

    net = losses.lpips_net(trunk).to(runtime.resolve_device(device))

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        with torch.inference_mode():
            x, y = images.to_batch([a, b], next(net.parameters()).device).split(1)
            return float(net(x, y))

    return distance


# ---- faces

class FaceIdentity(PairMetric):
    """Distance of dlib's face descriptors, photograph to result; dlib calls two faces below 0.6 one person.

    A result without a face that the detector sees is measured where the photograph's face is, and counted.
    """

    name, features, resize = "identity", "dlib", "150 px around the face"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self.unseen = 0

    def measure(self, sample: Sample) -> float | None:
        if sample.expected is None:
            return None
        own = sample.own
        self.unseen += own is None
        return self.tools.identity.distance(
            self.tools.descriptor(sample.photograph, sample.source_digest, sample.expected),
            self.tools.descriptor(sample.image, sample.digest, sample.expected if own is None else own))

    def merge(self, other: Self) -> None:
        super().merge(other)
        self.unseen += other.unseen

    def warnings(self) -> list[str]:
        unseen = [f"no face was found in {self.unseen} results; they are measured where the photograph's face is"]
        return super().warnings() + (unseen if self.unseen else [])

    def details(self) -> dict[str, float]:
        return {"results without a face": self.unseen}


class Inversion(PairMetric):
    """How far the base's inversion of the photograph is from it, by dlib: that part of `identity` is not the style's.

    Among its details is the distance from that inversion to the result, the style's own part.
    """

    name, features = "inversion", "dlib"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self.styles: list[float] = []
        self.resize = f"{tools.base.resolution} px of {tools.base.name}"

    def measure(self, sample: Sample) -> float | None:
        expected, own = sample.expected, sample.own
        if expected is None:
            return None
        base, tools = self.tools.base, self.tools

        def invert() -> np.ndarray:
            from sigan import inversion

            size = base.resolution
            x = images.to_batch([images.resize(sample.photograph, size)], base.device)
            (again,) = images.from_batch(base.generator.synthesis(inversion.invert(base, x)))
            return tools.identity.descriptor(again, identity.on_size(expected, len(sample.photograph), size))

        inverted = tools.kept(sample.source_digest, f"inversion:{base.name}:{base.hash}", invert)
        drawn = tools.descriptor(sample.image, sample.digest, expected if own is None else own)
        self.styles.append(tools.identity.distance(inverted, drawn))
        return tools.identity.distance(tools.descriptor(sample.photograph, sample.source_digest, expected), inverted)

    def merge(self, other: Self) -> None:
        super().merge(other)
        self.styles += other.styles

    def details(self) -> dict[str, float]:
        return {"inversion to result": float(np.mean(self.styles))} if self.styles else {}


class Landmarks(PairMetric):
    """Mean offset of the 68 points, photograph to result, in percent of the distance between the outer eye corners."""

    name, features = "landmarks", "dlib's 68 points"

    def measure(self, sample: Sample) -> float | None:
        if sample.own is None or sample.expected is None:
            return None
        left, right = sample.expected[list(OUTER_EYES)]
        return 100 * identity.offset(sample.own, sample.expected) / float(np.hypot(*(right - left)))

    def warnings(self) -> list[str]:
        return [f"{self.missing} have no face that the detector sees, and are not in the mean"] if self.missing else []
