"""Portraits back into the picture they were cut from, at its own resolution.

Where a portrait has fewer pixels than its place, it is enlarged, and the photograph gives the detail that no portrait
of that size can hold, as strongly as the portrait follows the photograph there. A portrait of the unchanged crop so
gives the photograph back.

All that is decided is decided in the crop's frame, at no more than the portrait's resolution; the picture itself is
worked on in strips inside each face's box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sigan import images, matting, stream
from sigan.errors import ConfigError, NoFaceError

if TYPE_CHECKING:
    from sigan.alignment import AlignedFace

LEAST_SIDE = 64  # pixels of a frame's side in the picture, a quarter of that between the eyes
STRIP_PIXELS = 1 << 18  # worked on at a time: 25 MB
DETAIL_WINDOW = 1 / 32  # of the side: over so much is asked whether the portrait follows the photograph
QUIET = 2.0  # of 255, standard deviation: what varies less than this has no detail to hand on
MARGIN = 1 / 16  # of the side: so far inwards from the mask's edge colours are the photograph's, at low frequencies
YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)  # JFIF
RGB = np.linalg.inv(YCC)


def large_enough(face: AlignedFace) -> bool:
    """Whether a face is pasted: its frame is at least LEAST_SIDE pixels wide in the picture."""
    return face.side >= LEAST_SIDE


def paste(picture: np.ndarray, faces: Sequence[AlignedFace], portraits: Sequence[np.ndarray]) -> np.ndarray:
    """A copy of uint8 [H,W,3] with each portrait uint8 [R,R,3] in its face's place: head and hair, by a soft mask.

    Small faces first, so that nearer ones lie over them, whatever the order given; no mask covers another's face.
    """
    if len(faces) != len(portraits):
        raise ConfigError(f"{len(faces)} faces and {len(portraits)} portraits; there must be one for each")
    result = picture.copy()
    for k in sorted(range(len(faces)), key=lambda k: (faces[k].side, faces[k].quad.tolist())):
        others = [replace(faces[k], face=face.face).landmarks for face in faces if face is not faces[k]]
        _Patch(faces[k], portraits[k], [points for points in others if points is not None]).lay(picture, result)
    return result


class _Patch:
    """What a face's place becomes: luma and chroma `constant` + `gain` * the photograph's, where `mask` is 1.

    All three in the crop's frame, [S,S,3], [S,S,3] and [M,M]; S is the portrait's side, or the place's if smaller.
    """

    def __init__(self, face: AlignedFace, portrait: np.ndarray, others: Sequence[np.ndarray]) -> None:
        self.quad = np.float64(face.quad) + 0.5  # Pillow's corners
        size = min(len(portrait), int(np.ceil(face.side)))
        x, y = (np.float32(images.resize(image, size)) @ YCC.T for image in (face.image, portrait))
        self.mask = matting.head(face.image, face.landmarks, others)
        window = max(2.0, size * DETAIL_WINDOW)
        mean_x, mean_y = matting.blur(x, window), matting.blur(y, window)
        shared = matting.blur(x * y, window) - mean_x * mean_y
        self.gain = np.clip(shared / (matting.blur(x * x, window) - mean_x**2 + QUIET**2), 0, 1)
        inside = np.asarray(Image.fromarray(self.mask).resize((size, size), Image.Resampling.BILINEAR), np.float32)
        margin = np.clip(2 - 2 * matting.blur(inside, size * MARGIN), 0, 1)[..., None]
        shift = matting.blur(x - y, size * MARGIN) * margin
        self.constant = y + shift - self.gain * x

    def lay(self, picture: np.ndarray, result: np.ndarray) -> None:
        """Blends the patch into `result`; detail comes from `picture`."""
        for place in self._strips(picture.shape):
            sampled = [self._sample(field, place) for field in (self.constant, self.gain, self.mask[..., None])]
            constant, gain, mask = sampled
            y = (constant + gain * (np.float32(picture[place]) @ YCC.T)) @ RGB.T
            below = np.float32(result[place])
            result[place] = np.clip(np.rint(below + np.clip(mask, 0, 1) * (y - below)), 0, 255)

    def _strips(self, shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
        low = np.maximum(np.floor(self.quad.min(0)).astype(int), 0)
        high = np.minimum(np.ceil(self.quad.max(0)).astype(int), shape[1::-1])
        rows = max(1, STRIP_PIXELS // max(1, high[0] - low[0]))
        for top in range(low[1], high[1], rows):
            yield slice(top, min(top + rows, high[1])), slice(low[0], high[0])

    def _sample(self, field: np.ndarray, place: tuple[slice, slice]) -> np.ndarray:
        """[h,w,C]: the field [S,S,C] of the crop's frame where the picture's pixels of `place` are, bicubic."""
        rows, columns = place
        right, down = self.quad[3] - self.quad[0], self.quad[1] - self.quad[0]
        axes = np.stack([right / (right @ right), down / (down @ down)]) * len(field)  # picture pixels to field pixels
        start = axes @ (np.array((columns.start, rows.start)) - self.quad[0])
        matrix = (*axes[0], start[0], *axes[1], start[1])
        shape = (columns.stop - columns.start, rows.stop - rows.start)
        return np.stack([np.asarray(Image.fromarray(np.ascontiguousarray(field[..., k])).transform(
            shape, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)) for k in range(field.shape[2])], -1)


# ---- in a batch

@dataclass(frozen=True)
class Pastable:
    """Called with an item, gives those faces that `finder` finds and that are large enough; a note tells of the others.

    NoFaceError when none is.
    """

    finder: Callable[[stream.Item], stream.Prepared[AlignedFace]]

    def __call__(self, item: stream.Item) -> stream.Prepared[AlignedFace]:
        found = self.finder(item)
        faces = [face for face in found.parts if large_enough(face)]
        small = len(found.parts) - len(faces)
        if not faces:
            raise NoFaceError(f"{item.path}: {small} faces, each framed by fewer than {LEAST_SIDE} pixels",
                              "enlarge the picture, or leave --paste-back out")
        told = (f"{small} of {len(found.parts)} faces left as they are: framed by fewer than {LEAST_SIDE} pixels",)
        return replace(found, parts=faces, notes=found.notes + told * (small > 0))


def write(item: stream.Item, drawn: Sequence[tuple[AlignedFace, np.ndarray]], out: str | Path,
          format: str) -> list[Path]:
    """The one file written: the item's picture, read again, with (face, portrait) pasted; alpha and metadata stay."""
    picture = images.open_picture(item.path)
    pixels = paste(picture.pixels, *zip(*drawn))
    if picture.alpha is not None:
        pixels = np.dstack([pixels, picture.alpha])
    return stream.write_faces(item, [pixels], out, format, keep=picture.keep)
