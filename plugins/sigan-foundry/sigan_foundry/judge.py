"""dlib's opinion of a picture: whose face, and where its parts are. It judges only; no training loss sees it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sigan.identity import Identity

SIZE = 128  # numbers in a descriptor
MIN_SIDE = 256  # smaller pictures are enlarged first: the detector wants a face of 80 pixels


@dataclass(frozen=True, eq=False)
class Seen:
    """One face: `descriptor` float64 [128]; `landmarks` float32 [68,2] in shares of the picture's side."""

    descriptor: np.ndarray
    landmarks: np.ndarray


class Judge:
    """Looks at pictures one by one; detector and descriptor net are loaded once."""

    def __init__(self) -> None:
        self.identity = Identity()

    def see(self, image: np.ndarray) -> Seen | None:
        """The largest face of uint8 [R,R,3], or None."""
        side = max(MIN_SIDE, len(image))
        image = np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
        faces = self.identity.aligner.find(image)
        if not faces:
            return None
        points = max(faces, key=lambda face: face.box[2] - face.box[0]).landmarks
        return Seen(self.identity.descriptor(image, points), (points + 0.5) / side)

    def see_all(self, pictures: Iterable[np.ndarray]) -> list[Seen | None]:
        return [self.see(picture) for picture in pictures]


def descriptors(seen: Iterable[Seen | None]) -> np.ndarray:
    """Of the faces found.  [N,128]"""
    return np.array([one.descriptor for one in seen if one]).reshape(-1, SIZE)
