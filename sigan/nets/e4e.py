"""The e4e encoder (arXiv 2102.02766): a face to w+, one w for all layers and a small delta for each but the first.

Letters: x faces [N,3,R,R] in [-1,1], w [N,C], ws [N,L,C]. State-dict names follow the original program.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigan.errors import ConfigError
from sigan.nets.irse import ResidualUnit, stem, units
from sigan.nets.ops import EqualLinear

# Feature pyramid (arXiv 2008.00951, fig. 2): coarse layers read the trunk's end, middle and fine ones what is before.
TAPS = (6, 20, 23)  # units of the trunk after which features are kept: 1/4, 1/8, 1/16 of the picture's side
COARSE, MIDDLE = 3, 7  # layers below 3 are coarse, from 3 middle, from 7 fine
HEAD_SLOPE = 0.01  # of the heads' leaky ReLU


@dataclass(frozen=True, kw_only=True)
class E4eConfig:
    """Sizes of an E4eEncoder for a generator of `resolution`; defaults are those of the published weights."""

    resolution: int
    w_dim: int = 512
    width: int = 64  # channels of the trunk's first stage
    input_resolution: int = 256  # the side a face is brought to before anything else

    def __post_init__(self) -> None:
        for name, least in (("resolution", 8), ("input_resolution", 32)):
            value = getattr(self, name)
            if value < least or value & (value - 1):
                raise ConfigError(f"{name} is {value}, not a power of two from {least} up")
        if self.width < 16 or self.width % 16:
            raise ConfigError(f"width is {self.width}, not a multiple of 16")

    @property
    def num_ws(self) -> int:
        return 2 * int(math.log2(self.resolution)) - 2

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


class Head(nn.Module):
    """Features down to one pixel, then to one code.  [N,I,r,r] -> [N,C]"""

    def __init__(self, c_in: int, w_dim: int, resolution: int):
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(int(math.log2(resolution))):
            layers += [nn.Conv2d(w_dim if i else c_in, w_dim, 3, stride=2, padding=1), nn.LeakyReLU(HEAD_SLOPE)]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(w_dim, w_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


class E4eEncoder(nn.Module):
    """ws = w_avg + w_0 + strength * delta_i.  x [N,3,R,R] -> [N,L,C]

    Strength 0 is one w for all layers, the code of a plausible photograph, for style references; 1 is the
    encoder's best likeness, for portraits (the distortion-editability tradeoff of arXiv 2102.02766).
    """

    w_avg: Tensor  # [L,C]

    def __init__(self, config: E4eConfig):
        super().__init__()
        self.config = config
        c, r = 8 * config.width, config.input_resolution
        self.input_layer = stem(config.width)
        self.body = nn.Sequential(*(ResidualUnit(unit) for unit in units(config.width)))
        self.latlayer1 = nn.Conv2d(c // 2, c, 1)
        self.latlayer2 = nn.Conv2d(c // 4, c, 1)
        self.styles = nn.ModuleList(
            Head(c, config.w_dim, r // (16 if i < COARSE else 8 if i < MIDDLE else 4)) for i in range(config.num_ws))
        self.register_buffer("w_avg", torch.zeros(config.num_ws, config.w_dim))

    @property
    def num_ws(self) -> int:
        return self.config.num_ws

    def features(self, x: Tensor) -> list[Tensor]:
        """Fine, middle and coarse features of the trunk: C/4, C/2, C channels of 1/4, 1/8, 1/16 of the side."""
        x = self.input_layer(x)
        taps = []
        for i, unit in enumerate(self.body):
            x = unit(x)
            if i in TAPS:
                taps.append(x)
        return taps

    def resized(self, x: Tensor) -> Tensor:
        """Faces of the side that the trunk reads, antialiased as Pillow's bilinear filter.  [N,3,R,R] -> [N,3,r,r]"""
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] != x.shape[3]:
            raise ConfigError(f"x must be [N,3,R,R], got {list(x.shape)}")
        r = self.config.input_resolution
        if x.shape[2] == r:
            return x
        return F.interpolate(x, (r, r), mode="bilinear", align_corners=False, antialias=True)

    def codes(self, fine: Tensor, middle: Tensor, coarse: Tensor, strength: float = 1.0) -> Tensor:
        """What the heads read in the trunk's features.  -> [N,L,C]"""
        w = self.styles[0](coarse)
        ws = self.w_avg + w[:, None]
        if strength == 0.0:
            return ws
        middle = self.latlayer1(middle) + _doubled(coarse)
        fine = self.latlayer2(fine) + _doubled(middle)
        deltas = [torch.zeros_like(w)]
        for i, head in enumerate(self.styles[1:], start=1):
            deltas.append(head(coarse if i < COARSE else middle if i < MIDDLE else fine))
        return ws + strength * torch.stack(deltas, 1)

    def forward(self, x: Tensor, strength: float = 1.0) -> Tensor:
        fine, middle, coarse = self.features(self.resized(x))
        return self.codes(fine, middle, coarse, strength)


def _doubled(x: Tensor) -> Tensor:
    """Twice the size, corners on corners, as the published weights expect.  [N,C,H,W] -> [N,C,2H,2W]"""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
