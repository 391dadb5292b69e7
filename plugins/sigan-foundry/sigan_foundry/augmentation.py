"""Differentiable augmentation before the discriminator (DiffAugment, arXiv 2006.10738): colour, shift, cutout."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT = 1 / 8  # of the side
CUTOUT = 1 / 2


def augment(x: Tensor, probability: float) -> Tensor:
    """Each picture gets each augmentation with this probability.  [N,3,R,R] -> same"""
    for change in (colour, shift, cutout):
        chosen = torch.rand(len(x), 1, 1, 1, device=x.device) < probability
        x = torch.where(chosen, change(x), x)
    return x


def colour(x: Tensor) -> Tensor:
    """Brightness, saturation and contrast."""
    b, s, c = torch.rand(3, len(x), 1, 1, 1, device=x.device, dtype=x.dtype)
    x = x + (b - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * 2 * s
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (c + 0.5)


def shift(x: Tensor) -> Tensor:
    """Whole pixels, zeros moving in; one shift a call keeps it a slice."""
    side = x.shape[-1]
    most = int(side * SHIFT)
    dx, dy = torch.randint(0, 2 * most + 1, (2,)).tolist()
    return F.pad(x, (most,) * 4)[:, :, dy : dy + side, dx : dx + side]


def cutout(x: Tensor) -> Tensor:
    """A square of zeros, its centre anywhere."""
    n, _, _, side = x.shape
    centre = torch.rand(2, n, 1, device=x.device) * side
    near = (torch.arange(side, device=x.device) - centre).abs() < side * CUTOUT / 2  # [2,N,side]
    return x.masked_fill((near[0, :, :, None] & near[1, :, None, :])[:, None], 0.0)
