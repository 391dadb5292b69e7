"""Figures for results beside the photographs they came from: SSIM and identity, pair by pair, then in all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median

import numpy as np
from PIL import Image

from sigan import alignment, images, stream
from sigan.alignment import AlignedFace, DlibAligner
from sigan.errors import ConfigError, InputError, NoFaceError, SiganError
from sigan.events import Failure

METRICS = ("ssim", "ssim-color", "identity")
WINDOW, SIGMA, K1, K2, RANGE = 11, 1.5, 0.01, 0.03, 255  # Wang et al. 2004, section III C
MIN_SIDE = 256  # smaller pictures are enlarged before a descriptor is taken
FAR = 0.15  # landmarks further than this share of the side from the photograph's are another, false face


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


# ---- identity

@dataclass(frozen=True)
class Likeness:
    """Descriptor distance (same person: below about 0.6), and whether the detector found the result's own face."""

    distance: float
    found: bool


class Identity:
    """dlib's 128-number face descriptor (King 2017), loaded on first use; weights as in `alignment.model_path`."""

    def __init__(self, aligner: DlibAligner | None = None) -> None:
        self.aligner = aligner or DlibAligner()
        self._model = None

    def descriptor(self, image: np.ndarray, landmarks: np.ndarray | None = None) -> np.ndarray | None:
        """float64 [128] of the largest face of uint8 [H,W,3], or of that at `landmarks` [68,2]; None without face."""
        import dlib

        image, scale = _enlarged(image)
        points = self._points(image) if landmarks is None else (np.asarray(landmarks) + 0.5) * scale - 0.5
        if points is None:
            return None
        if self._model is None:
            path = alignment.model_path("dlib_face_recognition_resnet_model_v1.dat")
            self._model = dlib.face_recognition_model_v1(str(path))
        corners = (round(float(v)) for v in (*points.min(0), *points.max(0)))
        parts = [dlib.point(round(float(x)), round(float(y))) for x, y in points]
        shape = dlib.full_object_detection(dlib.rectangle(*corners), parts)
        return np.array(self._model.compute_face_descriptor(image, shape))

    def distance(self, a: np.ndarray, b: np.ndarray) -> float:
        """Euclidean distance of two descriptors."""
        return float(np.linalg.norm(np.asarray(a) - np.asarray(b)))

    def compare(self, output: np.ndarray, source: AlignedFace) -> Likeness:
        """The result, uint8 [R,R,3], beside the aligned photograph it came from.

        Where the detector misses the result's face, or finds one elsewhere, the photograph's landmarks are used and
        `found` is False. NoFaceError when the photograph has no face either.
        """
        expected = source.landmarks if source.landmarks is not None else self._landmarks(source.image)
        if expected is None:
            raise NoFaceError("no face found in the aligned photograph", "evaluate without identity")
        points = self._landmarks(output)
        inside = np.asarray(expected) * (len(output) / len(source.image))
        found = points is not None and np.hypot(*(points - inside).T).mean() < FAR * len(output)
        return Likeness(self.distance(self.descriptor(source.image, expected),
                                      self.descriptor(output, points if found else inside)), bool(found))

    def _landmarks(self, image: np.ndarray) -> np.ndarray | None:
        large, scale = _enlarged(image)
        points = self._points(large)
        return None if points is None else (points + 0.5) / scale - 0.5

    def _points(self, image: np.ndarray) -> np.ndarray | None:
        faces = self.aligner.find(image)
        return max(faces, key=lambda face: face.box[2] - face.box[0]).landmarks if faces else None


def _enlarged(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture with its short side at least MIN_SIDE, and the scales [2] in x and y."""
    factor = max(1.0, MIN_SIDE / min(image.shape[:2]))
    size = round(image.shape[1] * factor), round(image.shape[0] * factor)
    large = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    return large, np.array(size) / image.shape[1::-1]


# ---- folders

@dataclass(frozen=True)
class PairRecord:
    """One result beside its photograph: figures by metric, or the error; an empty path is the missing side.

    `found` is False when identity had to use the photograph's landmarks for the result.
    """

    source: str
    output: str
    values: dict[str, float] = field(default_factory=dict)
    found: bool = True
    error: Failure | None = None


@dataclass(frozen=True)
class Pair:
    """What belongs together by name; `index` counts the photograph's faces from 0, None for the only or largest."""

    output: Path | None
    source: Path | None
    index: int | None = None


def match(outputs: Sequence[stream.Item], inputs: Sequence[stream.Item]) -> list[Pair]:
    """Pairs by relative folder and stem (or full name, or a face's number), then the inputs left over."""
    names: dict[str, list[stream.Item]] = {}
    for item in inputs:
        for name in {item.relative.as_posix(), item.relative.with_suffix("").as_posix()}:
            names.setdefault(name, []).append(item)
    pairs, used = [], set()
    for item in outputs:
        stem = item.relative.with_suffix("").as_posix()
        numbered = re.fullmatch(r"(.+)-([1-9]\d*)", stem)
        index = None
        found = names.get(stem, [])
        if not found and numbered:
            found, index = names.get(numbered[1], []), int(numbered[2]) - 1
        source = found[0].path if len(found) == 1 else None  # two inputs of one stem: nobody can tell
        pairs.append(Pair(item.path, source, index if source else None))
        used.add(source)
    return pairs + [Pair(None, item.path) for item in inputs if item.path not in used]


def evaluate(outputs: str | Path, inputs: str | Path, metrics: Sequence[str] = ("ssim", "identity"), *,
             aligned: bool = False, aligner: DlibAligner | None = None) -> Iterator[PairRecord]:
    """One record per pair of a result and the photograph of its name, which is first aligned to the result's size.

    `aligned`: the photographs are cropped faces already. Missing sides and failures are records too. Raises
    ConfigError on an unknown metric, InputError on a folder without pictures.
    """
    if unknown := [name for name in metrics if name not in METRICS] or ([] if metrics else ["none"]):
        raise ConfigError(f"metric {', '.join(unknown)} is unknown", f"choose from {', '.join(METRICS)}")
    pairs = match(stream.find_inputs(outputs), stream.find_inputs(inputs, out=outputs))
    return _records(pairs, tuple(metrics), Identity(aligner), aligned)


def _records(pairs: Iterable[Pair], metrics: Sequence[str], identity: Identity, aligned: bool) -> Iterator[PairRecord]:
    for pair in pairs:
        source, output = str(pair.source or ""), str(pair.output or "")
        if not (source and output):
            lacking = "result" if source else "photograph"
            yield PairRecord(source, output, error=Failure("MissingPair", f"{source or output}: it has no {lacking}",
                                                           "results pair with inputs of the same folder and stem"))
            continue
        try:
            yield _measured(pair, metrics, identity, aligned)
        except SiganError as error:
            yield PairRecord(source, output, error=Failure(type(error).__name__, error.message, error.hint))


def _measured(pair: Pair, metrics: Sequence[str], identity: Identity, aligned: bool) -> PairRecord:
    image = images.read(pair.output)
    size = len(image)
    if image.shape[1] != size:
        raise InputError(f"{pair.output}: {image.shape[1]} x {size} is not a square face",
                         "evaluate aligned results, not whole pictures")
    faces = alignment.align(pair.source, size, "largest" if pair.index is None else "all", identity.aligner, aligned)
    if (pair.index or 0) >= len(faces):
        raise InputError(f"{pair.source}: {len(faces)} faces found, but {pair.output} is of face {pair.index + 1}",
                         "stylize it again")
    face = faces[pair.index or 0]
    values, found = {}, True
    for name in metrics:
        if name == "identity":
            likeness = identity.compare(image, face)
            values[name], found = likeness.distance, likeness.found
        else:
            values[name] = ssim(image, face.image, color=name == "ssim-color")
    return PairRecord(str(pair.source), str(pair.output), values, found)


def summary(records: Iterable[PairRecord]) -> dict[str, int | float]:
    """N pairs measured, missing sides, failures, results whose face was not found; mean and median of each metric."""
    records = list(records)
    measured = [record for record in records if record.values]
    errors = [record.error.type for record in records if record.error]
    missing = errors.count("MissingPair")
    figures: dict[str, int | float] = {"N": len(measured), "missing": missing, "failed": len(errors) - missing,
                                       "face_not_found": sum(not record.found for record in measured)}
    for name in dict.fromkeys(name for record in measured for name in record.values):
        values = [record.values[name] for record in measured]
        figures |= {f"{name}_mean": fmean(values), f"{name}_median": median(values)}
    return figures
