"""LPIPS 0.1 (arXiv 1801.03924): the distance of two pictures as seen by a classifier's features.

Letters: x y pictures [N,3,H,W] in [-1,1]. State-dict names follow the original program: `net.slice1.0.weight`,
`lin0.model.1.weight`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigan.errors import ConfigError

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of ImageNet's pictures in [-1,1]
EPSILON = 1e-10  # beside the length of a pixel's features

# Each tap's layers as (place in torchvision's sequence, channels in, out, kernel, stride, padding); then, what pooling
# comes before a tap's first layer: kernel and stride.
_VGG = ((0, 3, 64), (2, 64, 64)), ((5, 64, 128), (7, 128, 128)), ((10, 128, 256), (12, 256, 256), (14, 256, 256)), (
    (17, 256, 512), (19, 512, 512), (21, 512, 512)), ((24, 512, 512), (26, 512, 512), (28, 512, 512))
TRUNKS = {
    "vgg": (tuple(tuple((*layer, 3, 1, 1) for layer in tap) for tap in _VGG), (None, (2, 2), (2, 2), (2, 2), (2, 2))),
    "alex": ((((0, 3, 64, 11, 4, 2),), ((3, 64, 192, 5, 1, 2),), ((6, 192, 384, 3, 1, 1),), ((8, 384, 256, 3, 1, 1),),
              ((10, 256, 256, 3, 1, 1),)), (None, (3, 2), (3, 2), None, None)),
}


class Trunk(nn.Module):
    """The features of VGG16 or AlexNet after each of five groups of layers.  x [N,3,H,W] -> 5 x [N,C,h,w]"""

    def __init__(self, kind: str):
        super().__init__()
        taps, self.pools = TRUNKS[kind]
        for k, layers in enumerate(taps, start=1):
            convs = {str(place): nn.Conv2d(c_in, c_out, kernel, stride, padding)
                     for place, c_in, c_out, kernel, stride, padding in layers}
            setattr(self, f"slice{k}", nn.ModuleDict(convs))
        self.channels = [layers[-1][2] for layers in taps]

    def forward(self, x: Tensor) -> list[Tensor]:
        taps = []
        for k, pool in enumerate(self.pools, start=1):
            if pool:
                x = F.max_pool2d(x, *pool)
            for conv in getattr(self, f"slice{k}").values():
                x = F.relu(conv(x))
            taps.append(x)
        return taps


class Head(nn.Module):
    """A weight for each channel of a tap; the original's dropout does nothing outside its training."""

    def __init__(self, channels: int):
        super().__init__()
        self.model = nn.ModuleDict({"1": nn.Conv2d(channels, 1, 1, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        return self.model["1"](x)


class Lpips(nn.Module):
    """x, y [N,3,H,W] in [-1,1] -> [N,1,1,1]; `kind` is vgg or alex."""

    shift: Tensor  # [1,3,1,1]
    scale: Tensor  # [1,3,1,1]

    def __init__(self, kind: str = "vgg"):
        super().__init__()
        if kind not in TRUNKS:
            raise ConfigError(f"the trunk is {kind!r}; it must be one of {', '.join(TRUNKS)}")
        self.kind = kind
        self.net = Trunk(kind)
        for k, channels in enumerate(self.net.channels):
            setattr(self, f"lin{k}", Head(channels))
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)

    def features(self, x: Tensor) -> list[Tensor]:
        """The taps, each pixel's features of unit length."""
        x = x.contiguous(memory_format=torch.channels_last)  # twice as fast on a CPU
        taps = self.net((x - self.shift) / self.scale)
        return [tap / (tap.square().sum(1, keepdim=True).sqrt() + EPSILON) for tap in taps]

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """Of two pictures' features.  -> [N,1,1,1]"""
        return sum(getattr(self, f"lin{k}")((x - y).square()).mean((2, 3), keepdim=True)
                   for k, (x, y) in enumerate(zip(a, b)))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.distance(self.features(x), self.features(y))
