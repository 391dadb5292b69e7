"""The StyleGAN2 discriminator (arXiv 1912.04958): residual blocks, minibatch standard deviation, feature taps."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sigan.errors import ConfigError
from sigan.nets.ops import EqualConv2d, EqualLinear

STDDEV_GROUP = 4  # pictures compared with each other (progressive GAN, section 3)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Sizes of a discriminator. Channels at resolution r: min(channel_max, channel_base // r)."""

    resolution: int
    channel_base: int = 32768
    channel_max: int = 512
    conv_clamp: float = 0.0  # most that an activation is, either way; NVIDIA's nets trained in fp16 have 256; 0: any

    def channels(self, resolution: int) -> int:
        return min(self.channel_max, self.channel_base // resolution)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class ResidualBlock(nn.Module):
    """Two convolutions that halve the size, beside a 1x1 shortcut.  [N,I,r,r] -> [N,O,r/2,r/2]"""

    def __init__(self, c_in: int, c_out: int, clamp: float = 0.0):
        super().__init__()
        self.conv0 = EqualConv2d(c_in, c_in, 3, clamp=clamp)
        self.conv1 = EqualConv2d(c_in, c_out, 3, down=True, clamp=clamp)
        self.skip = EqualConv2d(c_in, c_out, 1, down=True, bias=False, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv1(self.conv0(x)) + self.skip(x)) / math.sqrt(2)


def minibatch_stddev(x: Tensor) -> Tensor:
    """Appends the mean standard deviation of each group of pictures.  [N,C,H,W] -> [N,C+1,H,W]"""
    n, c, h, w = x.shape
    group = math.gcd(n, STDDEV_GROUP)
    y = x.float().view(group, -1, c, h, w)
    y = (y.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3), keepdim=True)  # [N/group,1,1,1]
    return torch.cat([x, y.repeat(group, 1, h, w).to(x.dtype)], 1)


class Discriminator(nn.Module):
    """Pictures to realness.  x [N,3,R,R] -> [N,1]"""

    def __init__(self, config: DiscriminatorConfig):
        super().__init__()
        self.config = config
        self.resolutions = [2**i for i in range(int(math.log2(config.resolution)), 2, -1)]
        clamp = config.conv_clamp
        self.from_rgb = EqualConv2d(3, config.channels(config.resolution), 1, clamp=clamp)
        for r in self.resolutions:
            setattr(self, f"b{r}", ResidualBlock(config.channels(r), config.channels(r // 2), clamp))
        c = config.channels(4)
        self.conv = EqualConv2d(c + 1, c, 3, clamp=clamp)
        self.fc = EqualLinear(c * 16, c, activate=True)
        self.out = EqualLinear(c, 1)

    def features(self, x: Tensor, blocks: int | None = None) -> list[Tensor]:
        """Activations after each block, from the largest (r/2) to 4x4; of the first `blocks`, where given."""
        if x.ndim != 4 or x.shape[1:] != (3, self.config.resolution, self.config.resolution):
            r = self.config.resolution
            raise ConfigError(f"x must be [N,3,R,R] = [N,3,{r},{r}], got {list(x.shape)}")
        x = self.from_rgb(x.contiguous(memory_format=torch.channels_last))  # twice as fast on a CPU
        taps = []
        for r in self.resolutions[:blocks]:
            x = getattr(self, f"b{r}")(x)
            taps.append(x)
        return taps

    def score(self, top: Tensor) -> Tensor:
        """The last tap to realness.  [N,C,4,4] -> [N,1]"""
        x = self.conv(minibatch_stddev(top))
        return self.out(self.fc(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.features(x)[-1])
