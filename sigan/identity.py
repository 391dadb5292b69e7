"""Who is in a face: dlib's 128-number descriptor, and where the 68 points of a framed face lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from PIL import Image

from sigan.alignment import AlignedFace, DlibAligner, Face
from sigan.detection import CLEAR_SCORE, model_path
from sigan.errors import NoFaceError

if TYPE_CHECKING:
    from sigan.detection import Aligner

MODEL = "dlib_face_recognition_resnet_model_v1.dat"
MIN_SIDE = 256  # smaller pictures are enlarged before a descriptor is taken
FAR = 0.15  # landmarks further than this share of the side from the photograph's are another, false face


@dataclass(frozen=True)
class Likeness:
    """Descriptor distance (same person: below about 0.6), and whether the detector found the result's own face."""

    distance: float
    found: bool


class Identity:
    """dlib's 128-number face descriptor (King 2017), loaded on first use; weights as in `detection.model_path`."""

    def __init__(self, aligner: Aligner | None = None) -> None:
        self.aligner: Aligner = aligner or DlibAligner()
        self._model: Any = None  # dlib tells no types

    @overload
    def descriptor(self, image: np.ndarray) -> np.ndarray | None: ...
    @overload
    def descriptor(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray: ...
    def descriptor(self, image: np.ndarray, landmarks: np.ndarray | None = None) -> np.ndarray | None:
        """float64 [128] of the framed face of uint8 [H,W,3], or of that at `landmarks` [68,2]; None without face."""
        import dlib

        points = self.landmarks(image) if landmarks is None else np.asarray(landmarks)
        if points is None:
            return None
        image, scale = _enlarged(image)
        points = (points + 0.5) * scale - 0.5
        if self._model is None:
            self._model = dlib.face_recognition_model_v1(str(model_path(MODEL)))
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
        expected = source.landmarks if source.landmarks is not None else self.landmarks(source.image)
        if expected is None:
            raise NoFaceError("no face found in the aligned photograph", "evaluate without identity")
        inside = on_size(expected, len(source.image), len(output))
        face = self.find(output)
        found = face is not None and offset(face.landmarks, inside) < FAR * len(output)
        points = face.landmarks if face is not None and found else inside
        return Likeness(self.distance(self.descriptor(source.image, expected), self.descriptor(output, points)), found)

    def find(self, image: np.ndarray) -> Face | None:
        """The face of a framed picture, uint8 [H,W,3], in its pixels; None where there is none."""
        look = getattr(self.aligner, "find_framed", None)
        if look is not None:
            return look(image)
        faces = self.aligner.find(image)  # an aligner of a plugin
        return max(faces, key=lambda face: face.box[2] - face.box[0]) if faces else None

    def landmarks(self, image: np.ndarray) -> np.ndarray | None:
        """float32 [68,2] of the face of a framed picture, in its pixels; None where there is none."""
        face = self.find(image)
        return None if face is None else face.landmarks


def on_size(landmarks: np.ndarray, size: int, wanted: int) -> np.ndarray:
    """Landmarks [68,2] of a picture `size` pixels wide as those of the same picture `wanted` pixels wide."""
    return (np.asarray(landmarks) + 0.5) * (wanted / size) - 0.5


def offset(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of the points of two faces, in pixels."""
    return float(np.hypot(*(np.asarray(a) - np.asarray(b)).T).mean())


def misplaced(face: Face | None, expected: np.ndarray, size: int) -> bool:
    """Whether a result's face was clearly found (not perhaps), and not where the photograph's is."""
    return face is not None and face.score >= CLEAR_SCORE and offset(face.landmarks, expected) >= FAR * size


def _enlarged(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture with its short side at least MIN_SIDE, and the scales [2] in x and y."""
    factor = max(1.0, MIN_SIDE / min(image.shape[:2]))
    size = round(image.shape[1] * factor), round(image.shape[0] * factor)
    large = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    return large, np.array(size) / image.shape[1::-1]
