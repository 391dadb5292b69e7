"""Sitters: how a face is turned, how light its skin is, and what gender it reads as.

All are measures of the picture: a drawing's skin has the tone that was drawn. Age is not measured.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from sigan import appearance

# Nose tip, chin, outer corners of the eyes, corners of the mouth: x right, y down, z away, of an average head
# (the six points in common use for head pose, e.g. OpenCV's tutorials), and their places among the 68.
HEAD = np.array([(0, 0, 0), (0, 330, 65), (-225, -170, 135), (225, -170, 135), (-150, 150, 125), (150, 150, 125.0)])
PLACES = (30, 8, 36, 45, 48, 54)
LEFT_CHEEK, RIGHT_CHEEK = (36, 31, 48, 2), (45, 35, 54, 14)  # points around them, as the viewer sees them
CHEEK = 0.12  # half the side of the patch that is looked at, of the distance of the eyes' outer corners
COLOURLESS = 3.0  # chroma in CIELAB below which a cheek has no hue: ITA would be a division by nothing
# Individual typology angle (Chardon 1991), degrees: from there on
TONES = ((55.0, "very light"), (41.0, "light"), (28.0, "intermediate"), (10.0, "tan"), (-30.0, "brown"),
         (-90.0, "dark"))
GENDER = Path(__file__).parent / "assets" / "gender.safetensors"  # written by `sigan foundry gender`
# Nearer to 0 gender cannot be told: cross-validation on 341 faces was wrong in 2, at 0.30 at most; 9 lie as near.
TOLD = 0.3


def pose(landmarks: np.ndarray) -> tuple[float, float]:
    """(yaw, roll) in degrees of landmarks [68,2]: yaw above 0 looks to the viewer's left, roll above 0 leans right.

    A rigid average head under scaled orthography, by least squares: right to about ten degrees.
    """
    points = np.asarray(landmarks, float)[list(PLACES)]
    head = HEAD - HEAD.mean(0)
    affine = np.linalg.lstsq(head, points - points.mean(0), rcond=None)[0].T  # [2,3]
    u, _, v = np.linalg.svd(affine, full_matrices=False)
    x, y = u @ v
    z = np.cross(x, y)
    return float(np.degrees(np.arctan2(-z[0], z[2]))), float(np.degrees(np.arctan2(-x[1], y[1])))


def skin(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
    """Median L*, a*, b* [3] of the cheeks of uint8 [H,W,3]; None where they lie outside the picture."""
    points = np.asarray(landmarks, float)
    half = max(1, round(CHEEK * np.hypot(*(points[45] - points[36]))))
    patches = []
    for places in (LEFT_CHEEK, RIGHT_CHEEK):
        x, y = np.rint(points[list(places)].mean(0)).astype(int)
        patch = image[max(y - half, 0):max(y + half, 0), max(x - half, 0):max(x + half, 0)]
        patches.append(patch.reshape(-1, 3))
    pixels = np.concatenate(patches)
    return np.median(appearance.lab(pixels[None])[0], axis=0) if len(pixels) else None


def typology_angle(lab: np.ndarray) -> float | None:
    """ITA in degrees of a skin's L*, a*, b*: above 55 very light, below -30 dark. None for a colourless one."""
    lightness, a, b = (float(v) for v in lab)
    if np.hypot(a, b) < COLOURLESS:
        return None
    return float(np.degrees(np.arctan2(lightness - 50, max(b, 1e-6))))


def tone(angle: float) -> str:
    """Chardon's word for an angle."""
    return next(word for least, word in TONES if angle >= least)


def gender(descriptor: np.ndarray) -> float:
    """What gender a face reads as, of its descriptor [128]: -1 as men's faces do on average, 1 as women's.

    Perceived from the picture, by a linear classifier fitted to labels by eye: it says nothing of what a person is, and
    is there only to see whether a set of references is lopsided. Below `TOLD` in size it cannot be told.
    """
    direction, offset = _gender_direction()
    return float(np.asarray(descriptor) @ direction + offset)


@cache
def _gender_direction() -> tuple[np.ndarray, float]:
    known = load_file(GENDER)
    return known["direction"], float(known["offset"])
