"""Perceptual losses behind one protocol: a picture's features once, then distances between features.

Letters: x y pictures [N,3,R,R] in [-1,1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from sigan import checkpoints, weights
from sigan.errors import WeightsError
from sigan.nets.discriminator import Discriminator
from sigan.nets.lpips import Lpips
from sigan.nets.unfilled import Unfilled

LOSS_SIZE = 256  # pixels; the authors area-resize to this before LPIPS
STATISTICS_CELLS = 4  # parts a side: a cheek, an eye, a corner of paper
HEADS = Path(__file__).parent / "assets" / "lpips"  # of LPIPS 0.1: a weight for each channel of each tap


class PerceptualLoss(Protocol):
    """How far pictures are from targets as seen by a frozen net.

    finest: of how many of the first taps the `distributions` are compared.
    """

    name: str
    finest: int

    def features(self, x: Tensor, count: int | None = None) -> list[Tensor]:
        """Taps [N,C,h,w] of pictures, the picture itself first; no more than `count`, where given."""
        ...

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """Of two pictures' features, differentiable.  -> [N]"""
        ...


class DiscriminatorFeatures:
    """L1 distance of pictures and of a base's discriminator features (JoJoGAN's final code); needs no other weights."""

    name = "discriminator features"
    finest = 2  # deeper ones draw ripples into dark hair

    def __init__(self, discriminator: Discriminator | None):
        if discriminator is None:
            raise WeightsError("the base has no discriminator, and LPIPS' trunk is not installed: nothing can compare "
                               "pictures", "`sigan bases pull lpips-vgg`; or import a checkpoint of this base that "
                               "holds its discriminator (NVIDIA's .pkl, or a .pt with `d`)")
        self.net = discriminator

    def features(self, x: Tensor, count: int | None = None) -> list[Tensor]:
        """The picture itself, then the net's taps. Of pictures above 256² what is as fine as those of 256² are."""
        finer = sum(r > LOSS_SIZE for r in self.net.resolutions)
        return [_reduced(x), *self.net.features(x, None if count is None else count - 1 + finer)[finer:]]

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        return torch.stack([(x - y).abs().mean((1, 2, 3)) for x, y in zip(a, b)]).mean(0)


def distributions(taps: Sequence[Tensor], cells: int = STATISTICS_CELLS) -> list[Tensor]:
    """The values of each channel in each part of the frame, sorted, whatever their places and pictures.

    Taps [N,C,h,w] -> [cells,cells,C,N*h*w/cells²]. Faces share one framing, so parts correspond: paper stays
    paper, hair stays hair.
    """
    return [_sorted(x, min(cells, x.shape[-1])) for x in taps]


def _sorted(x: Tensor, cells: int) -> Tensor:
    n, c, h, w = x.shape
    x = x.reshape(n, c, cells, h // cells, cells, w // cells)
    return x.permute(2, 4, 1, 0, 3, 5).reshape(cells, cells, c, -1).sort(-1).values


def distribution_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Mean distance of two pictures sets' `distributions`, the first set a multiple of the second.  -> []

    1-D optimal transport, as in sliced Wasserstein texture losses (arXiv 2006.07229).
    """
    times = a[0].shape[-1] // b[0].shape[-1]
    return torch.stack([(x - y.repeat_interleave(times, -1)).abs().mean() for x, y in zip(a, b)]).mean()


class LpipsVgg:
    """LPIPS 0.1 with its VGG16 trunk (arXiv 1801.03924), both pictures area-resized to 256 px.

    WeightsError, naming the command that gets the trunk, where it is not installed.
    """

    name = "LPIPS-VGG"
    finest = 1

    def __init__(self, device: torch.device | str = "cpu", net: Lpips | None = None):
        self.net = (net or lpips_net("vgg")).to(device).eval().requires_grad_(False)

    def features(self, x: Tensor, count: int | None = None) -> list[Tensor]:
        """The resized picture, then the trunk's taps, each pixel's of unit length."""
        x = _reduced(x)
        return [x] if count == 1 else [x, *self.net.features(x)][:count]

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        return self.net.distance(a[1:], b[1:]).flatten()


class SqueezeNetDistance:
    """SqueezeNet's activations compared, each pixel's of unit length, at LPIPS' places: LPIPS without learned weights.

    activations: (place in the net, what stands there) for pictures [N,3,H,W] of 0 to 255.
    """

    finest = 1
    places = (1, 4, 7, 9, 10, 11, 12)

    def __init__(self, activations: Callable[[Tensor], Iterable[tuple[int, Tensor]]], name: str = "SqueezeNet"):
        self.activations, self.name = activations, f"{name} features"

    def features(self, x: Tensor, count: int | None = None) -> list[Tensor]:
        """The picture, resized to 256 px where it is larger, then the net's taps."""
        x = _reduced(x)
        if count == 1:
            return [x]
        seen = self.activations((x + 1) * 127.5)
        return [x, *(F.normalize(tap) for place, tap in seen if place in self.places)][:count]

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        return torch.stack([(x - y).square().sum(1).mean((1, 2)) for x, y in zip(a[1:], b[1:])]).sum(0)


def _reduced(x: Tensor) -> Tensor:
    return x if x.shape[-1] <= LOSS_SIZE else F.interpolate(x, size=(LOSS_SIZE, LOSS_SIZE), mode="area")


def lpips_net(trunk: str = "vgg") -> Lpips:
    """LPIPS 0.1 by its trunk, vgg or alex; nothing is ever downloaded from here.

    WeightsError, naming the command that gets the trunk, where it is not installed, and when it is another file.
    """
    path = weights.path(f"lpips-{trunk}")
    state = checkpoints.read(path)
    if not isinstance(state, dict):
        raise WeightsError(f"{path} holds no network", weights.get_hint(f"lpips-{trunk}"))
    with Unfilled():
        net = Lpips(trunk)
    places = {key.split(".", 1)[1]: f"net.{key}" for key in net.net.state_dict()}  # 0.weight -> net.slice1.0.weight
    found = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    kept = {key: value.read() for key, value in found.items() if key in places}
    heads = load_file(HEADS / f"{trunk}.safetensors")
    weights.load_strict(net, {**{places[key]: value for key, value in kept.items()}, **heads}, str(path),
                        f"`sigan bases remove lpips-{trunk}`, then `sigan bases pull lpips-{trunk}`")
    return net.eval().requires_grad_(False)


def lpips_installed() -> bool:
    """True when LPIPS' VGG trunk lies in the cache."""
    return weights.has("lpips-vgg")


def best(discriminator: Discriminator | None, device: torch.device | str = "cpu") -> PerceptualLoss:
    """LPIPS-VGG where its trunk is installed, the base's discriminator features otherwise.

    WeightsError, saying what to get, where there is neither.
    """
    return LpipsVgg(device) if lpips_installed() else DiscriminatorFeatures(discriminator)
