"""Where the face is in a picture of FFHQ framing: fixed, so one map serves everybody."""

from __future__ import annotations

import torch
from torch import Tensor

FACE_CENTRE_Y, FACE_RADIUS_X, FACE_RADIUS_Y = 0.12, 0.55, 0.60  # of the half side


def face_mask(side: int) -> Tensor:
    """1 on the face, 0 far from it, a soft edge between.  [side,side]"""
    axis = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.exp(-(((x / FACE_RADIUS_X) ** 2 + ((y - FACE_CENTRE_Y) / FACE_RADIUS_Y) ** 2) ** 2))
