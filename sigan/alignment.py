"""Pictures to faces in FFHQ framing: detect, 68 landmarks, quad, crop."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from sigan import images
from sigan.errors import ConfigError, InputError, NoFaceError, WeightsError

POINTS = 68
EYE_LEFT, EYE_RIGHT, MOUTH_CORNERS = slice(36, 42), slice(42, 48), (48, 54)  # iBUG 68 points, the sitter's right first
BOX_PIXELS = 320  # landmarks are read where the face's box has this width: the predictor answers in whole pixels
DETECT_SIDE, FINE_SIDE, CNN_SIDE = 640, 1280, 480  # long sides that the detectors see; HOG finds faces from 80 px on
FRAMED_SIDE = 320  # of a framed face's picture: the face is twice as large as HOG needs
LOW_SCORE, TURNED_SCORE = -0.5, 0.3  # HOG's own threshold is 0; a turned picture must convince
CLEAR_SCORE = 0.5  # beside a face above it, one below it is fur or foliage; alone, it may be a face
MAX_SPAN = 16  # a quad wider than this many pictures is a mistake in the landmarks
MODES = ("area", "paper")
REMEDY = ("use --aligned if the picture is a cropped face already, choose another picture, or tell where the face is: "
          "sigan align --landmarks FILE.json")

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
Found = tuple[Box, float, np.ndarray]  # a detector's box, its score, landmarks float32 [68,2]


@dataclass(frozen=True, eq=False)
class Face:
    """A face in picture pixels: its `box`; `landmarks` float32 [68,2]; `rung` names the finder."""

    box: Box
    score: float
    landmarks: np.ndarray
    rung: str


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """`image` uint8 [R,R,3], cut along `quad` float32 [4,2] (top left, bottom left, bottom right, top right)."""

    image: np.ndarray
    quad: np.ndarray
    face: Face | None = None

    @property
    def landmarks(self) -> np.ndarray | None:
        """The face's landmarks in pixels of `image`, float32 [68,2]; None for a picture that was aligned already."""
        if self.face is None:
            return None
        right, down = self.quad[3] - self.quad[0], self.quad[1] - self.quad[0]
        offset = self.face.landmarks - self.quad[0]
        inside = np.stack([offset @ right / (right @ right), offset @ down / (down @ down)], 1)
        return (inside * len(self.image) - 0.5).astype(np.float32)


# ---- the FFHQ frame

def quad(landmarks: np.ndarray) -> np.ndarray:
    """The FFHQ square as float32 [4,2] of float [68,2] landmarks (Karras 2019, appendix A; the paper's align_face)."""
    landmarks = _checked(landmarks)
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


def _checked(landmarks: np.ndarray) -> np.ndarray:
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.shape != (POINTS, 2) or not np.isfinite(landmarks).all():
        raise InputError(f"landmarks are {POINTS} finite points [68,2]; got shape {list(landmarks.shape)}",
                         "give the 68 iBUG points as [[x, y], ...] in pixels")
    return landmarks


def crop(image: np.ndarray, quad: np.ndarray, size: int, mode: str = "area") -> np.ndarray:
    """uint8 [size,size,3] cut from uint8 [H,W,3] along the quad; what lies outside is mirrored, blurred and faded.

    `area` averages every source pixel (supersampled, Lanczos); `paper` samples like the authors' align_face: one
    bilinear sample per output pixel, aliased when it shrinks.
    """
    if mode not in MODES:
        raise ConfigError(f"crop mode is {mode!r}; it must be one of {', '.join(MODES)}")
    img, quad = Image.fromarray(image), np.asarray(quad, np.float64)
    side = _side(quad)
    if not 0 < side < MAX_SPAN * max(img.size) or not _meets(quad, img.size):
        raise InputError(f"the frame {np.rint(quad).tolist()} does not lie on the {img.width} x {img.height} picture",
                         "check the landmarks: they are pixels of this picture")
    img, quad = _shrink(img, quad, size) if mode == "paper" else _reduce(img, quad, size)
    img, quad = _pad(*_cut(img, quad), blur=_gaussian if mode == "paper" else _fast_gaussian)
    finer = 1 if mode == "paper" else max(1, int(np.ceil(_side(quad) / size - 0.01)))
    kernel = Image.Resampling.BILINEAR if mode == "paper" or finer > 1 else Image.Resampling.BICUBIC
    img = img.transform((finer * size,) * 2, Image.Transform.QUAD, (quad + 0.5).flatten(), kernel)
    return np.array(img.resize((size, size), Image.Resampling.LANCZOS) if finer > 1 else img)


def _side(quad: np.ndarray) -> float:
    return float(np.hypot(*(quad[3] - quad[0])))


def _meets(quad: np.ndarray, size: tuple[int, int]) -> bool:
    return bool((quad.max(0) > 0).all() and (quad.min(0) < size).all())


def _shrink(img: Image.Image, quad: np.ndarray, size: int) -> tuple[Image.Image, np.ndarray]:
    """The authors' pre-shrink: the whole picture by a whole factor, to about twice the output's density."""
    factor = int(_side(quad) / size * 0.5)
    if factor <= 1:
        return img, quad
    smaller = (round(img.width / factor), round(img.height / factor))
    return img.resize(smaller, Image.Resampling.LANCZOS), quad / factor


def _reduce(img: Image.Image, quad: np.ndarray, size: int) -> tuple[Image.Image, np.ndarray]:
    """The part that the quad needs, antialiased down to no less than twice the output's density."""
    img, quad = _cut(img, quad)
    factor = 2 * size / _side(quad)
    if factor >= 1:
        return img, quad
    small, scale = _scaled(np.asarray(img), factor)
    return Image.fromarray(small), (quad + 0.5) * scale - 0.5


def _reach(quad: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Whole-pixel corners of the box around the quad, and the border kept around it."""
    border = max(int(np.rint(_side(quad) * 0.1)), 3)
    return np.floor(quad.min(0)).astype(int), np.ceil(quad.max(0)).astype(int), border


def _cut(img: Image.Image, quad: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    low, high, border = _reach(quad)
    low, high = np.maximum(low - border, 0), np.minimum(high + border, img.size)
    return img.crop((*low.tolist(), *high.tolist())), quad - low


def _pad(img: Image.Image, quad: np.ndarray, blur: Callable) -> tuple[Image.Image, np.ndarray]:
    """Mirrors what the quad lacks, then blurs and fades it to the median colour outwards (Karras 2019, appendix A)."""
    low, high, border = _reach(quad)
    before, after = np.maximum(border - low, 0), np.maximum(high - img.size + border, 0)
    if max(*before, *after) <= border - 4:
        return img, quad
    least = int(np.rint(_side(quad) * 0.3))
    (left, top), (right, bottom) = np.maximum(before, least), np.maximum(after, least)
    pixels = np.pad(np.float32(img), ((top, bottom), (left, right), (0, 0)), "reflect" if min(img.size) > 1 else "edge")
    height, width, _ = pixels.shape
    y, x, _ = np.ogrid[:height, :width, :1]
    outwards = np.maximum(1 - np.minimum(np.float32(x) / left, np.float32(width - 1 - x) / right),
                          1 - np.minimum(np.float32(y) / top, np.float32(height - 1 - y) / bottom))
    pixels += (blur(pixels, _side(quad) * 0.02) - pixels) * np.clip(outwards * 3 + 1, 0, 1)
    pixels += (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(outwards, 0, 1)
    return Image.fromarray(np.uint8(np.clip(np.rint(pixels), 0, 255))), quad + (left, top)


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


def _fast_gaussian(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Nearly the same, by Pillow's repeated box means: fast at any sigma."""
    return np.float32(Image.fromarray(np.uint8(pixels)).filter(ImageFilter.GaussianBlur(sigma)))


# ---- detection

class DlibAligner:
    """Finds faces with dlib: a ladder of detectors, then the 68-point predictor. Loads its weights on first use.

    Rungs, tried in order until one finds a face: `hog` (long side 640 px), `hog-fine` (1280 px, small faces),
    `hog-turned` (the picture lies on its side or head), `cnn` (mmod at 480 px, slow on a CPU), `hog-low` (threshold
    -0.5, the best one only). The 68 points suit HOG's boxes best. dlib: King 2009; weights: `model_path`.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, object] = {}
        self._lock = threading.Lock()  # dlib's HOG detector keeps its pyramid inside: one picture at a time

    def find(self, image: np.ndarray, every: bool = False) -> list[Face]:
        """The faces of uint8 [H,W,3] from left to right, or none; `every` looks for small ones at once."""
        rungs = {"hog": lambda: self._hog(image, DETECT_SIDE), "hog-fine": lambda: self._hog(image, FINE_SIDE),
                 "hog-turned": lambda: self._turned(image), "cnn": lambda: self._cnn(image),
                 "hog-low": lambda: self._hog(image, DETECT_SIDE, LOW_SCORE)[:1]}
        if every and max(image.shape) > DETECT_SIDE:
            del rungs["hog"]
        for rung, detect in rungs.items():
            with self._lock:
                faces = [Face(box, score, points, rung) for box, score, points in detect()]
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
                     for box, score, points in self._hog(image, FRAMED_SIDE, LOW_SCORE)]
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
        part, (sx, sy) = _scaled(part, scale)
        found = self._load("shape_predictor_68_face_landmarks.dat", dlib.shape_predictor)(part, dlib.rectangle(
            *(round(v) for v in ((left - x0) * sx, (top - y0) * sy, (right - x0) * sx, (bottom - y0) * sy))))
        points = np.array([(p.x, p.y) for p in found.parts()], np.float64)
        return ((points + 0.5) / (sx, sy) - 0.5 + (x0, y0)).astype(np.float32)

    def _hog(self, image: np.ndarray, side: int, threshold: float = 0.0) -> list[Found]:
        import dlib

        small, scale = _scaled(image, side / max(image.shape[:2]))
        detector = self._load("", lambda _: dlib.get_frontal_face_detector())
        rectangles, scores, _ = detector.run(small, 0, threshold)
        return self._found(image, rectangles, scores, scale)

    def _turned(self, image: np.ndarray) -> list[Found]:
        """What HOG finds in the best of the three other quarter turns, in pixels of the picture as it is."""
        turns = {k: self._hog(np.ascontiguousarray(np.rot90(image, k)), DETECT_SIDE, TURNED_SCORE) for k in (1, 2, 3)}
        k = max(turns, key=lambda k: max((score for _, score, _ in turns[k]), default=-1))
        return [(_span(_unturned(np.reshape(box, (2, 2)), image.shape, k)), score, _unturned(points, image.shape, k))
                for box, score, points in turns[k]]

    def _cnn(self, image: np.ndarray) -> list[Found]:
        import dlib

        small, scale = _scaled(image, CNN_SIDE / max(image.shape[:2]))
        found = self._load("mmod_human_face_detector.dat", dlib.cnn_face_detection_model_v1)(small, 0)
        return self._found(image, [f.rect for f in found], [f.confidence for f in found], scale)

    def _found(self, image: np.ndarray, rectangles: Sequence, scores: Sequence[float],
               scale: tuple[float, float]) -> list[Found]:
        """Boxes of the scaled picture in pixels of the whole one, with their landmarks, the best first."""
        sx, sy = scale
        boxes = [(r.left() / sx, r.top() / sy, (r.right() + 1) / sx, (r.bottom() + 1) / sy) for r in rectangles]
        best = sorted(zip(boxes, scores), key=lambda found: -found[1])
        return [(box, float(score), self.landmarks(image, box)) for box, score in best]

    def _load(self, name: str, build: Callable[[str], object]):
        if name not in self._loaded:
            self._loaded[name] = build(str(model_path(name)) if name else "")
        return self._loaded[name]

    def __reduce__(self):
        return type(self), ()  # dlib's objects stay behind; the copy loads its own


def model_path(name: str) -> Path:
    """A weight file of face_recognition_models, which is never imported; WeightsError where it is missing."""
    spec = importlib.util.find_spec("face_recognition_models")
    path = Path(spec.origin).parent / "models" / name if spec and spec.origin else Path(name)
    if not path.is_file():
        raise WeightsError(f"{name} is missing: dlib's weights come with face_recognition_models",
                           "pip install face_recognition_models")
    return path


def _scaled(image: np.ndarray, scale: float) -> tuple[np.ndarray, tuple[float, float]]:
    """The picture at about `scale`, antialiased, and its exact scales in x and y."""
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    kernel = Image.Resampling.BICUBIC if scale > 0.5 else Image.Resampling.BOX  # both antialias when they shrink
    return np.array(Image.fromarray(image).resize(size, kernel)), (size[0] / width, size[1] / height)


def _unturned(points: np.ndarray, shape: tuple[int, ...], k: int) -> np.ndarray:
    """Points [M,2] of np.rot90(image, k) as points of the image of that shape."""
    points = np.asarray(points, np.float32)
    for step in reversed(range(k)):
        width = shape[1 - step % 2]  # of the picture before this quarter turn
        points = np.stack([width - 1 - points[:, 1], points[:, 0]], 1)
    return points


def _span(points: np.ndarray) -> Box:
    return tuple(float(v) for v in (*points.min(0), *points.max(0)))


def _plausible(face: Face) -> bool:
    """Eyes apart, mouth below them, and a frame of about the size that the detector's box promises."""
    points = face.landmarks.astype(np.float64)
    left, right = points[EYE_LEFT].mean(0), points[EYE_RIGHT].mean(0)
    across, down = right - left, points[list(MOUTH_CORNERS)].mean(0) - (left + right) / 2
    width = face.box[2] - face.box[0]
    upright = across[0] * down[1] - across[1] * down[0]  # positive when the mouth is on the lower side of the eyes
    return bool(upright > 0 and np.hypot(*across) > 0.15 * width and 0.15 < np.hypot(*down) / width < 1.2)


# ---- pictures to faces

def align(image: np.ndarray | Path | str, size: int = 256, faces: str = "largest", aligner: DlibAligner | None = None,
          aligned: bool = False, landmarks: np.ndarray | None = None) -> list[AlignedFace]:
    """The picture's largest face, or all from left to right, as uint8 [size,size,3] in FFHQ framing.

    `aligned` takes the whole picture for the face (its middle square); `landmarks` float [68,2] replaces detection.
    Raises NoFaceError, which names the file.
    """
    if faces not in ("largest", "all"):
        raise ConfigError(f"faces is {faces!r}; it must be largest or all")
    if size < 1:
        raise ConfigError(f"size is {size}; it must be at least 1 pixel")
    name = str(image) if isinstance(image, (str, Path)) else "the picture"
    pixels = images.read(image) if isinstance(image, (str, Path)) else image
    if aligned:
        return [_whole(pixels, size)]
    if landmarks is not None:
        points = _checked(landmarks).astype(np.float32)
        found = [Face(_span(points), 1.0, points, "given")]
    else:
        found = (aligner or DlibAligner()).find(pixels, every=faces == "all")
    if not found:
        raise NoFaceError(f"{name}: no face found", REMEDY)
    if faces == "largest":
        found = [max(found, key=lambda face: (face.box[2] - face.box[0]) * (face.box[3] - face.box[1]))]
    return [AlignedFace(crop(pixels, frame := quad(face.landmarks), size), frame, face) for face in found]


def _whole(pixels: np.ndarray, size: int) -> AlignedFace:
    """The picture's middle square as the face."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    corners = np.array(((0, 0), (0, side), (side, side), (side, 0)), np.float32) + (left, top) - 0.5
    return AlignedFace(images.resize(pixels[top:top + side, left:left + side], size), corners.astype(np.float32))
