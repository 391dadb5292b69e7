"""Perceptual losses behind one protocol: a picture's features once, then the distance of others to them.

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
LPIPS_TRUNK = "vgg16-397923af.pth"  # the file lpips would download


class PerceptualLoss(Protocol):
    """How far pictures are from targets as seen by a frozen net."""

    name: str

    def features(self, x: Tensor) -> Sequence[Tensor]: ...

    def distance(self, y: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """-> [N], differentiable in y"""
        ...


class DiscriminatorFeatures:
    """L1 distance of a base's discriminator features, as in JoJoGAN's final code; needs no other weights."""

    name = "discriminator features"

    def __init__(self, discriminator: Discriminator):
        self.net = discriminator

    def features(self, x: Tensor) -> list[Tensor]:
        return self.net.features(x)

    def distance(self, y: Tensor, targets: Sequence[Tensor]) -> Tensor:
        taps = self.net.features(y)
        return sum((a - b).abs().mean((1, 2, 3)) for a, b in zip(taps, targets)) / len(taps)


class LpipsVgg:
    """LPIPS 0.1 with its VGG16 trunk (arXiv 1801.03924), both pictures area-resized to 256 px."""

    name = "LPIPS-VGG"

    def __init__(self, device: torch.device | str = "cpu", net: torch.nn.Module | None = None):
        if net is None:
            import lpips

            net = lpips.LPIPS(net="vgg", verbose=False)
        self.net = net.to(device).eval().requires_grad_(False)

    def features(self, x: Tensor) -> list[Tensor]:
        return [self._resize(x)]

    def distance(self, y: Tensor, targets: Sequence[Tensor]) -> Tensor:
        return self.net(self._resize(y), targets[0]).flatten()

    @staticmethod
    def _resize(x: Tensor) -> Tensor:
        return x if x.shape[-1] <= LOSS_SIZE else F.interpolate(x, size=(LOSS_SIZE, LOSS_SIZE), mode="area")


def lpips_installed() -> bool:
    """True when the trunk's file lies where lpips looks; nothing is ever downloaded from here."""
    return Path(torch.hub.get_dir(), "checkpoints", LPIPS_TRUNK).is_file()


def best(discriminator: Discriminator, device: torch.device | str = "cpu") -> PerceptualLoss:
    """LPIPS-VGG where its trunk is installed, the base's discriminator features otherwise."""
    return LpipsVgg(device) if lpips_installed() else DiscriminatorFeatures(discriminator)
