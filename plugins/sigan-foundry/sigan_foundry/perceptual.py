"""SqueezeNet 1.1 features (Caffe release, torchvision's key names): a feature distance for training time only."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

CAFFE_MEAN = (104.0, 117.0, 123.0)  # BGR
FIRES = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128),
         9: (256, 48, 192), 10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)}
POOLS = (2, 5, 8)
TAPS = (1, 4, 7, 10, 12)
TAP_CHANNELS = (64, 128, 256, 384, 512)


class Fire(nn.Module):
    def __init__(self, c_in: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(c_in, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


class SqueezeNet(nn.Module):
    """x [N,3,H,W] RGB in [-1,1] -> five taps, unit length over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict({"0": nn.Conv2d(3, 64, 3, stride=2)})
        self.features.update({str(i): Fire(*sizes) for i, sizes in FIRES.items()})
        self.register_buffer("mean", torch.tensor(CAFFE_MEAN).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def load(cls, path: Path) -> SqueezeNet:
        net = cls()
        state = {k: v.float() for k, v in load_file(path).items() if k.startswith("features.")}
        net.load_state_dict(state)
        return net.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = (x.flip(1) + 1) * 127.5 - self.mean.to(x.dtype)
        taps = []
        for i in range(13):
            if i in POOLS:
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            elif i == 1:
                x = F.relu(x)
            else:
                x = self.features[str(i)](x)
            if i in TAPS:
                taps.append(F.normalize(x, dim=1, eps=1e-6))
        return taps


def distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Squared difference of unit features, averaged over positions, summed over channels and taps.  -> [N]"""
    return sum((x - y).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True))
