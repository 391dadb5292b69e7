"""Perceptual losses behind one protocol: a picture's features once, then distances between features.

Letters: x y pictures [N,3,R,R] in [-1,1].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sigan.nets.discriminator import Discriminator

LOSS_SIZE = 256  # pixels; the authors area-resize to this before LPIPS
STATISTICS_CELLS = 4  # parts a side: a cheek, an eye, a corner of paper
LPIPS_TRUNK = "vgg16-397923af.pth"  # the file lpips would download


class PerceptualLoss(Protocol):
    """How far pictures are from targets as seen by a frozen net."""

    name: str

    def features(self, x: Tensor) -> list[Tensor]:
        """Taps [N,C,h,w] of pictures."""
        ...

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """Of two pictures' features, differentiable.  -> [N]"""
        ...


class DiscriminatorFeatures:
    """L1 distance of pictures and of a base's discriminator features (JoJoGAN's final code); needs no other weights."""

    name = "discriminator features"

    def __init__(self, discriminator: Discriminator):
        self.net = discriminator

    def features(self, x: Tensor) -> list[Tensor]:
        """The picture itself, then the net's taps."""
        return [x, *self.net.features(x)]

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        return sum((x - y).abs().mean((1, 2, 3)) for x, y in zip(a, b)) / len(a)


def distributions(taps: Sequence[Tensor], cells: int = STATISTICS_CELLS) -> list[Tensor]:
    """The values of each channel in each part of the frame, sorted, whatever their places and pictures.

    Taps [N,C,h,w] -> [cells,cells,C,N*h*w/cells²]. Faces share one framing, so parts correspond: paper stays paper,
    hair stays hair.
    """
    return [_sorted(x, min(cells, x.shape[-1])) for x in taps]


def _sorted(x: Tensor, cells: int) -> Tensor:
    n, c, h, w = x.shape
    x = x.reshape(n, c, cells, h // cells, cells, w // cells)
    return x.permute(2, 4, 1, 0, 3, 5).reshape(cells, cells, c, -1).sort(-1).values


def distribution_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Mean distance of two picture sets' `distributions`, each value of `a` from the one of equal rank in `b`.  -> []

    1-D optimal transport, as in sliced Wasserstein texture losses (arXiv 2006.07229).
    """
    return sum((x - _ranked(y, x.shape[-1])).abs().mean() for x, y in zip(a, b)) / len(a)


def _ranked(values: Tensor, n: int) -> Tensor:
    """n of the sorted values, evenly spread over their ranks.  [...,M] -> [...,n]"""
    m = values.shape[-1]
    return values if m == n else values[..., (torch.arange(n, device=values.device) * 2 + 1) * m // (2 * n)]


class LpipsVgg:
    """LPIPS 0.1 with its VGG16 trunk (arXiv 1801.03924), both pictures area-resized to 256 px."""

    name = "LPIPS-VGG"

    def __init__(self, device: torch.device | str = "cpu", net: torch.nn.Module | None = None):
        if net is None:
            import lpips

            net = lpips.LPIPS(net="vgg", verbose=False)
        self.net = net.to(device).eval().requires_grad_(False)

    def features(self, x: Tensor) -> list[Tensor]:
        """The resized picture alone: lpips takes pictures."""
        return [x if x.shape[-1] <= LOSS_SIZE else F.interpolate(x, size=(LOSS_SIZE, LOSS_SIZE), mode="area")]

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        return self.net(a[0], b[0]).flatten()


def lpips_installed() -> bool:
    """True when the trunk's file lies where lpips looks; nothing is ever downloaded from here."""
    return Path(torch.hub.get_dir(), "checkpoints", LPIPS_TRUNK).is_file()


def best(discriminator: Discriminator, device: torch.device | str = "cpu") -> PerceptualLoss:
    """LPIPS-VGG where its trunk is installed, the base's discriminator features otherwise."""
    return LpipsVgg(device) if lpips_installed() else DiscriminatorFeatures(discriminator)
