"""SqueezeNet 1.1 features (Caffe release, torchvision's key names): a feature distance for training time only."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from sigan.nets import squeezenet

CAFFE_MEAN = (104.0, 117.0, 123.0)  # BGR
TAPS = (1, 4, 7, 10, 12)
TAP_CHANNELS = (64, 128, 256, 384, 512)


class SqueezeNet(squeezenet.SqueezeNet):
    """x [N,3,H,W] RGB in [-1,1] -> five taps, unit length over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(CAFFE_MEAN).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def load(cls, path: Path) -> SqueezeNet:
        net = cls()
        state = {k: v.float() for k, v in load_file(path).items() if k.startswith("features.")}
        net.load_state_dict(state)
        return net.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = (x.flip(1) + 1) * 127.5 - self.mean.to(x.dtype)
        return [F.normalize(tap, dim=1, eps=1e-6) for place, tap in self.activations(x) if place in TAPS]


def distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Squared difference of unit features, averaged over positions, summed over channels and taps.  -> [N]"""
    return sum((x - y).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True))
