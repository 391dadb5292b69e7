"""Complexion: what is to be taken off people's portraits before their values are compared with the references'.

References are of a few people. Without this the skin of those would be everyone's.
Letters: x pictures in FFHQ framing [N,3,R,R] in [-1,1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from sigan import images

CHEEK_ROWS, CHEEK_COLUMNS = (0.58, 0.66), (0.31, 0.41)  # of the left one, shares of the side; the right one mirrors it
NEAR = 0.4  # of a colour from the skin's, levels from -1 to 1: a pixel that far is skin by 0.6


def skin(x: Tensor) -> Tensor:
    """The median colour of both cheeks.  -> [N,3]"""
    side = x.shape[-1]
    top, bottom, left, right = (round(share * side) for share in (*CHEEK_ROWS, *CHEEK_COLUMNS))
    rows = x[:, :, top : max(bottom, top + 1)]
    right = max(right, left + 1)
    cheeks = torch.cat([rows[..., left:right], rows[..., side - right : side - left]], -1)
    return cheeks.flatten(2).median(-1).values


class Complexion:
    """How the skin of people differs from the nearest of those that the references could be of.

    photographs: faces [K,3,R,R] that the references could be drawings of. grey: only how light it is.
    """

    def __init__(self, photographs: Tensor, grey: bool = False):
        self.known, self.grey = skin(photographs), grey

    def tones(self, faces: Tensor, share: float = 1.0) -> Tensor:
        """What to take off these people's portraits: a share of the difference, on skin.  [N,3,R,R] -> the same"""
        own = skin(faces)
        nearest = self.known[torch.cdist(own, self.known).argmin(1)]
        squares = (faces - own[..., None, None]).square().sum(1, keepdim=True)
        found = share * (own - nearest)[..., None, None] * (-squares / (2 * NEAR**2)).exp()
        return images.luma(found).expand_as(found) if self.grey else found
