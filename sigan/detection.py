"""Faces in a picture: a ladder of detectors, and 68 landmarks for each face."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sigan.cropping import EYE_LEFT, EYE_RIGHT, MOUTH_CORNERS, scaled
from sigan.errors import WeightsError

BOX_PIXELS = 320  # landmarks are read where the face's box has this width: the predictor answers in whole pixels
QUICK_SIDE = 400  # long side of the first look: a face of a fifth of it has the 80 px that HOG needs
DETECT_SIDE, FINE_SIDE, CNN_SIDE = 640, 1280, 480  # long sides of the further looks
FRAMED_SIDE = 320  # of a framed face's picture: the face is twice as large as HOG needs
LOW_SCORE, TURNED_SCORE = -0.5, 0.3  # HOG's own threshold is 0; a turned picture must convince
CLEAR_SCORE = 0.5  # beside a face above it, one below it is fur or foliage; alone, it may be a face
PREDICTOR, CNN = "shape_predictor_68_face_landmarks.dat", "mmod_human_face_detector.dat"

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
Seen = tuple[Box, float]  # a detector's box and its score
Marked = tuple[Box, float, np.ndarray]  # with landmarks float32 [68,2]


@dataclass(frozen=True, eq=False)
class Face:
    """A face in picture pixels: its `box`; `landmarks` float32 [68,2]; `rung` names the finder."""

    box: Box
    score: float
    landmarks: np.ndarray
    rung: str


class Aligner(Protocol):
    """What `sigan.aligners` holds; DlibAligner's `landmarks` and `find_framed` are used where an aligner has them."""

    def find(self, image: np.ndarray, every: bool = False) -> list[Face]:
        """The faces of uint8 [H,W,3] from left to right, or none."""
        ...


class DlibAligner:
    """Finds faces with dlib: a ladder of detectors, then the 68-point predictor. Loads its weights on first use.

    Rungs, tried in order until one finds a face: `hog` (long side 400 px where that is clear, else 640), `hog-fine`
    (1280 px, small faces), `hog-turned` (the picture lies on its side or head), `cnn` (mmod at 480 px, slow on a CPU;
    left out where its file is missing), `hog-low` (threshold -0.5, the best one only). The 68 points suit HOG's boxes
    best. dlib: King 2009; weights: `model_path`.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}  # dlib tells no types
        self._lock = threading.Lock()  # dlib's HOG detector keeps its pyramid inside: one picture at a time

    def find(self, image: np.ndarray, every: bool = False) -> list[Face]:
        """The faces of uint8 [H,W,3] from left to right, or none; `every` looks for small ones at once."""
        with self._lock:
            for rung, marked in self._looks(image, every):
                faces = [Face(box, score, points, rung) for box, score, points in marked]
                if faces := [face for face in faces if _plausible(face)]:
                    least = min(CLEAR_SCORE, max(face.score for face in faces))
                    return sorted((f for f in faces if f.score >= least), key=lambda face: face.box[0] + face.box[2])
        return []

    def find_framed(self, image: np.ndarray) -> Face | None:
        """The one face of a picture in FFHQ framing, where it fills half of it; quick, and None more often than `find`.

        One look by HOG at FRAMED_SIDE with the low threshold, since a drawing convinces less; see the `score`.
        """
        with self._lock:
            found = [Face(box, score, points, "hog-low" if score < 0 else "hog")
                     for box, score, points in self._marked(image, self._hog(image, FRAMED_SIDE, LOW_SCORE))]
        return next((face for face in found if _plausible(face)), None)

    def landmarks(self, image: np.ndarray, box: Sequence[float]) -> np.ndarray:
        """float32 [68,2] of the face in `box` (left, top, right, bottom), to a fraction of its width."""
        import dlib

        left, top, right, bottom = box
        scale = BOX_PIXELS / max(right - left, 1)
        room = 0.6 * (right - left)  # the predictor looks a little beyond its box
        height, width = image.shape[:2]
        x0, y0 = max(int(left - room), 0), max(int(top - room), 0)
        part = image[y0:min(int(bottom + room), height), x0:min(int(right + room), width)]
        part, (sx, sy) = scaled(part, scale)
        found = self._load(PREDICTOR, dlib.shape_predictor)(part, dlib.rectangle(
            *(round(v) for v in ((left - x0) * sx, (top - y0) * sy, (right - x0) * sx, (bottom - y0) * sy))))
        points = np.array([(p.x, p.y) for p in found.parts()], np.float64)
        return ((points + 0.5) / (sx, sy) - 0.5 + (x0, y0)).astype(np.float32)

    def _looks(self, image: np.ndarray, every: bool) -> Iterator[tuple[str, list[Marked]]]:
        """What each rung sees; nothing is looked for before it is asked for."""
        low = None  # what HOG sees at its usual size: above 0 for one rung, the best of it all for another
        if not every:
            yield "hog", self._marked(image, self._hog(image, QUICK_SIDE, CLEAR_SCORE))
        if not every or max(image.shape) <= DETECT_SIDE:
            low = self._hog(image, DETECT_SIDE, LOW_SCORE)
            yield "hog", self._marked(image, [seen for seen in low if seen[1] >= 0])
        yield "hog-fine", self._marked(image, self._hog(image, FINE_SIDE))
        yield "hog-turned", self._turned(image)
        yield "cnn", self._marked(image, self._cnn(image))
        low = self._hog(image, DETECT_SIDE, LOW_SCORE) if low is None else low
        yield "hog-low", self._marked(image, low[:1])

    def _hog(self, image: np.ndarray, side: int, threshold: float = 0.0) -> list[Seen]:
        import dlib

        small, scale = scaled(image, side / max(image.shape[:2]))
        detector = self._load("", lambda _: dlib.get_frontal_face_detector())
        rectangles, scores, _ = detector.run(small, 0, threshold)
        return _unscaled(rectangles, scores, scale)

    def _turned(self, image: np.ndarray) -> list[Marked]:
        """What HOG finds in the best of the three other quarter turns, in pixels of the picture as it is."""
        turned = {k: np.ascontiguousarray(np.rot90(image, k)) for k in (1, 2, 3)}
        seen = {k: self._hog(turned[k], DETECT_SIDE, TURNED_SCORE) for k in turned}
        k = max(seen, key=lambda k: max((score for _, score in seen[k]), default=-1))
        return [(span(_unturned(np.reshape(box, (2, 2)), image.shape, k)), score, _unturned(points, image.shape, k))
                for box, score, points in self._marked(turned[k], seen[k])]

    def _cnn(self, image: np.ndarray) -> list[Seen]:
        import dlib

        try:
            detector = self._load(CNN, dlib.cnn_face_detection_model_v1)
        except WeightsError:  # one rung less; `sigan doctor` tells of it
            return []
        small, scale = scaled(image, CNN_SIDE / max(image.shape[:2]))
        found = detector(small, 0)
        return _unscaled([f.rect for f in found], [f.confidence for f in found], scale)

    def _marked(self, image: np.ndarray, seen: Sequence[Seen]) -> list[Marked]:
        return [(box, score, self.landmarks(image, box)) for box, score in seen]

    def _load(self, name: str, build: Callable[[str], Any]) -> Any:
        if name not in self._loaded:
            self._loaded[name] = build(str(model_path(name)) if name else "")
        return self._loaded[name]

    def __reduce__(self) -> tuple[type[DlibAligner], tuple[()]]:
        return type(self), ()  # dlib's objects stay behind; the copy loads its own


def model_path(name: str) -> Path:
    """A weight file of face_recognition_models, which is never imported; WeightsError where it is missing."""
    spec = importlib.util.find_spec("face_recognition_models")
    path = Path(spec.origin).parent / "models" / name if spec and spec.origin else Path(name)
    if not path.is_file():
        raise WeightsError(f"{name} is missing: dlib's weights come with face_recognition_models",
                           "pip install face_recognition_models")
    return path


def _unscaled(rectangles: Sequence[Any], scores: Sequence[float], scale: tuple[float, float]) -> list[Seen]:
    """Boxes of the scaled picture in pixels of the whole one, the best first."""
    sx, sy = scale
    boxes = [(r.left() / sx, r.top() / sy, (r.right() + 1) / sx, (r.bottom() + 1) / sy) for r in rectangles]
    return sorted(zip(boxes, map(float, scores)), key=lambda seen: -seen[1])


def _unturned(points: np.ndarray, shape: tuple[int, ...], k: int) -> np.ndarray:
    """Points [M,2] of np.rot90(image, k) as points of the image of that shape."""
    points = np.asarray(points, np.float32)
    for step in reversed(range(k)):
        width = shape[1 - step % 2]  # of the picture before this quarter turn
        points = np.stack([width - 1 - points[:, 1], points[:, 0]], 1)
    return points


def span(points: np.ndarray) -> Box:
    """The box around points [M,2]."""
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    return left, top, right, bottom


def _plausible(face: Face) -> bool:
    """Eyes apart, mouth below them, and a frame of about the size that the detector's box promises."""
    points = face.landmarks.astype(np.float64)
    left, right = points[EYE_LEFT].mean(0), points[EYE_RIGHT].mean(0)
    across, down = right - left, points[list(MOUTH_CORNERS)].mean(0) - (left + right) / 2
    width = face.box[2] - face.box[0]
    upright = across[0] * down[1] - across[1] * down[0]  # positive when the mouth is on the lower side of the eyes
    return bool(upright > 0 and np.hypot(*across) > 0.15 * width and 0.15 < np.hypot(*down) / width < 1.2)
