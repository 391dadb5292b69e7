"""Pictures to faces in FFHQ framing: each is looked at small, and no more of it is decoded than its faces need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sigan import images
from sigan.cropping import check_frame, checked, crop, quad, side
from sigan.detection import BOX_PIXELS, FINE_SIDE, span
from sigan.detection import DlibAligner as DlibAligner
from sigan.detection import Face as Face
from sigan.errors import ConfigError, NoFaceError
from sigan.pictures import Source

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from sigan.detection import Aligner

FACES = ("largest", "all")
NO_FACE = ("fail", "middle")
ROOM = 0.3  # of the frame's side, kept around it: the border of the crop, and what the landmarks' second look may shift
UNUSUAL = {  # rungs of DlibAligner whose faces want a look
    "hog-fine": "a small face, found at the finer look",
    "hog-turned": "found after turning the picture, which lies on its side or head",
    "cnn": "found by the neural detector only",
    "hog-low": "hardly sure to be a face",
}
REMEDY = ("use --aligned if the picture is a cropped face already, choose another picture, tell where the face is "
          "(sigan align --landmarks FILE.json), or take its middle square (sigan align, stylize: --no-face middle)")


View = tuple[np.ndarray, np.ndarray, int]  # a part of a picture, where it begins, and by what it is shrunk


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """`image` uint8 [R,R,3], cut along `quad` float32 [4,2] (top left, bottom left, bottom right, top right)."""

    image: np.ndarray
    quad: np.ndarray
    face: Face | None = None

    @property
    def side(self) -> float:
        """The width of the face's frame in pixels of the picture."""
        return side(np.float64(self.quad))

    @property
    def landmarks(self) -> np.ndarray | None:
        """The face's landmarks in pixels of `image`, float32 [68,2]; None for a picture that was aligned already."""
        if self.face is None:
            return None
        right, down = self.quad[3] - self.quad[0], self.quad[1] - self.quad[0]
        offset = self.face.landmarks - self.quad[0]
        inside = np.stack([offset @ right / (right @ right), offset @ down / (down @ down)], 1)
        return (inside * len(self.image) - 0.5).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Found:
    """The `faces` asked for, of `count` that the picture has, and what to tell about them."""

    faces: list[AlignedFace]
    count: int
    notes: tuple[str, ...] = ()


def align(image: np.ndarray | Path | str, size: int = 256, faces: str = "largest", aligner: Aligner | None = None,
          aligned: bool = False, landmarks: ArrayLike | None = None, no_face: str = "fail") -> list[AlignedFace]:
    """The picture's largest face, or all from left to right, as uint8 [size,size,3] in FFHQ framing; see `find`."""
    return find(image, size, faces, aligner, aligned, landmarks, no_face).faces


def find(image: np.ndarray | Path | str, size: int = 256, faces: str = "largest", aligner: Aligner | None = None,
         aligned: bool = False, landmarks: ArrayLike | None = None, no_face: str = "fail") -> Found:
    """The picture's largest face, or all from left to right, as uint8 [size,size,3] in FFHQ framing, with notes.

    `aligned` takes the whole picture for the face (its middle square); `landmarks` float [68,2] replaces detection.
    Where there is no face, NoFaceError names the file, or, with `no_face` "middle", the middle square is taken.
    """
    if faces not in FACES:
        raise ConfigError(f"faces is {faces!r}; it must be one of {', '.join(FACES)}")
    if no_face not in NO_FACE:
        raise ConfigError(f"no_face is {no_face!r}; it must be one of {', '.join(NO_FACE)}")
    if size < 1:
        raise ConfigError(f"size is {size}; it must be at least 1 pixel")
    source = Source(image)
    if aligned:
        return Found([_middle(source, size)], 1, source.notes)
    if landmarks is not None:
        points = checked(landmarks).astype(np.float32)
        return Found([_cut(source, Face(span(points), 1.0, points, "given"), size)], 1, source.notes)
    aligner = aligner or DlibAligner()
    factor = _factor(max(source.size), FINE_SIDE)
    view, origin = source.part(None, factor)
    found = [_moved(face, origin, factor) for face in aligner.find(view, every=faces == "all")]
    if not found and no_face == "fail":
        name = str(image) if isinstance(image, (str, Path)) else "the picture"
        raise NoFaceError(f"{name}: no face found", REMEDY)
    if not found:
        return Found([_middle(source, size)], 0, (*source.notes, "no face found; the middle square is taken"))
    notes = [f"{UNUSUAL[rung]} ({rung})" for rung in dict.fromkeys(face.rung for face in found)
             if rung in UNUSUAL and (faces, rung) != ("all", "hog-fine")]
    chosen = found
    if faces == "largest":
        chosen = [max(found, key=lambda face: (face.box[2] - face.box[0]) * (face.box[3] - face.box[1]))]
    if len(found) > len(chosen):
        notes.append(f"{len(found)} faces, the largest taken; --faces all takes every one")
    return Found([_cut(source, face, size, (view, origin, factor), aligner) for face in chosen], len(found),
                 (*source.notes, *notes))


def _factor(length: float, least: float) -> int:
    """The largest power of two by which a length stays at least so long."""
    return 1 << max(0, int(length / least).bit_length() - 1)


def _moved(face: Face, origin: np.ndarray, factor: float) -> Face:
    """A face of a part of the picture, in pixels of the picture."""
    left, top, right, bottom = (np.reshape(face.box, (2, 2)) * factor + origin).ravel().tolist()
    points = np.float32((face.landmarks + 0.5) * factor + origin - 0.5)
    return Face((left, top, right, bottom), face.score, points, face.rung)


def _cut(source: Source, face: Face, size: int, seen: View | None = None,
         aligner: Aligner | None = None) -> AlignedFace:
    """The face from what was `seen` where that is fine enough, else from a finer part, in which it is marked again."""
    frame = quad(face.landmarks)
    check_frame(frame, source.size)
    needed = _factor(side(frame), 2 * max(size, BOX_PIXELS))
    if seen is None or needed < seen[2]:
        room = ROOM * side(frame)
        view, origin = source.part((*(frame.min(0) - room), *(frame.max(0) + room)), needed)
        if again := getattr(aligner, "landmarks", None):
            points = again(view, tuple(((np.reshape(face.box, (2, 2)) - origin) / needed).ravel()))
            face = Face(face.box, face.score, np.float32((points + 0.5) * needed + origin - 0.5), face.rung)
            frame = quad(face.landmarks)
        seen = view, origin, needed
    view, origin, factor = seen
    return AlignedFace(crop(view, (frame + 0.5 - origin) / factor - 0.5, size), frame, face)


def _middle(source: Source, size: int) -> AlignedFace:
    """The picture's middle square as the face."""
    width, height = source.size
    span = min(width, height)
    corner = np.array(((width - span) // 2, (height - span) // 2))
    factor = _factor(span, 2 * size)
    part, origin = source.part((*corner, *(corner + span)), factor)
    if factor == 1:
        image = images.resize(part, size)
    else:
        (left, top), inside = (corner - origin) / factor, span / factor
        box = (left, top, min(left + inside, part.shape[1]), min(top + inside, part.shape[0]))
        image = np.array(Image.fromarray(part).resize((size, size), Image.Resampling.LANCZOS, box=box))
    square = np.array(((0, 0), (0, span), (span, span), (span, 0)), np.float32)
    return AlignedFace(image, (square + corner - 0.5).astype(np.float32))
