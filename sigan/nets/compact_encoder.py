"""The encoder of a base with a canvas: faces to w+, faithful or in-domain.

Letters: x faces [N,3,R,R] in [-1,1], w [N,C], ws [N,L,C]; r the canvas' resolution.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigan.errors import ConfigError
from sigan.nets.ops import LRELU_SLOPE


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes of a CompactEncoder; `luma` of the `w_dim` code dimensions are read from brightness alone."""

    resolution: int
    num_ws: int
    w_dim: int
    luma: int
    canvas_resolution: int = 64
    width: int = 32

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


def to_ycc(x: Tensor) -> Tensor:
    """RGB to luma and two chromas, BT.601 full range (JFIF).  [N,3,H,W] in [-1,1] -> same"""
    m = x.new_tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    return torch.einsum("ij,njhw->nihw", m, x)


class DomainTrunk(nn.Module):
    """A picture of anything face-like to the w of a plausible photograph.  [N,3,r,r] -> [N,C]"""

    def __init__(self, width: int, w_dim: int, resolution: int):
        super().__init__()
        layers: list[nn.Module] = []
        c_in, c = 3, width
        while resolution > 4:
            layers += [nn.Conv2d(c_in, c, 3, stride=2, padding=1), nn.GroupNorm(8, c), nn.LeakyReLU(LRELU_SLOPE)]
            layers += [nn.Conv2d(c, c, 3, padding=1), nn.GroupNorm(8, c), nn.LeakyReLU(LRELU_SLOPE)]
            c_in, c, resolution = c, min(2 * c, 8 * width), resolution // 2
        self.convs = nn.Sequential(*layers)
        self.out = nn.Linear(c_in * resolution**2, w_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.convs(x).flatten(1))


class CompactEncoder(nn.Module):
    """w = w_domain + strength * (w_faithful - w_domain), the same for every layer.

    w_faithful is linear (the canvas' principal components); w_domain a small net trained to see a photograph
    in a drawing. Strength 0 suits style references, 1 portraits (e4e's two regimes, arXiv 2102.02766).
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        r = config.canvas_resolution
        self.luma = nn.Linear(r * r, config.luma)
        self.chroma = nn.Linear(2 * (r // 2) ** 2, config.w_dim - config.luma)
        self.domain = DomainTrunk(config.width, config.w_dim, r)

    def faithful(self, x: Tensor) -> Tensor:
        """The code that redraws x as closely as the canvas can.  [N,3,R,R] -> [N,C]"""
        r = self.config.canvas_resolution
        ycc = to_ycc(x)
        y = F.adaptive_avg_pool2d(ycc[:, :1], r).flatten(1)
        c = F.adaptive_avg_pool2d(ycc[:, 1:], r // 2).flatten(1)
        return torch.cat([self.luma(y), self.chroma(c)], 1)

    def in_domain(self, x: Tensor) -> Tensor:
        """The code of a plausible photograph of x.  [N,3,R,R] -> [N,C]"""
        return self.domain(F.adaptive_avg_pool2d(x, self.config.canvas_resolution))

    def forward(self, x: Tensor, strength: float = 1.0) -> Tensor:  # [N,3,R,R] -> [N,L,C]
        r = self.config.resolution
        if x.ndim != 4 or x.shape[1:] != (3, r, r):
            raise ConfigError(f"x must be [N,3,R,R] = [N,3,{r},{r}], got {list(x.shape)}")
        if strength == 1.0:
            w = self.faithful(x)
        elif strength == 0.0:
            w = self.in_domain(x)
        else:
            w = self.in_domain(x).lerp(self.faithful(x), strength)
        return w[:, None].expand(-1, self.config.num_ws, -1)
