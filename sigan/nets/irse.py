"""IR-SE50: a residual trunk with squeeze-and-excitation for faces (ArcFace, arXiv 1801.07698; SE, arXiv 1709.01507).

Letters: x features [N,C,H,W], I O channels in and out. State-dict names follow the PyTorch programs that made it
known (`body.0.res_layer.1.weight`); batch normalisation only repeats what training measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

UNITS = (3, 4, 14, 3)  # of each stage of a trunk of 50 layers; the first of a stage halves the picture
SE_REDUCTION = 16  # arXiv 1709.01507, section 6.4
BN_EPS = 1e-5  # PyTorch's default, with which the published weights were trained


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Sizes of one unit of the trunk."""

    c_in: int
    c_out: int
    stride: int


def units(width: int = 64) -> list[Unit]:
    """The 24 units of a trunk whose stages have 1, 2, 4, 8 times `width` channels."""
    found, c_in = [], width
    for stage, count in enumerate(UNITS):
        c_out = width * 2**stage
        found += [Unit(c_in=c_in, c_out=c_out, stride=2)]
        found += [Unit(c_in=c_out, c_out=c_out, stride=1) for _ in range(count - 1)]
        c_in = c_out
    return found


class BatchNorm(nn.Module):
    """Batch normalisation at rest: the statistics are weights like others.  [N,C,H,W] -> same"""

    running_mean: Tensor  # [C]
    running_var: Tensor  # [C]

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=BN_EPS)


class SqueezeExcite(nn.Module):
    """Scales each channel by what the whole picture says of it.  [N,C,H,W] -> same"""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // SE_REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // SE_REDUCTION, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


class ResidualUnit(nn.Module):
    """Two convolutions and squeeze-and-excitation beside a shortcut.  [N,I,H,W] -> [N,O,H/stride,W/stride]"""

    def __init__(self, unit: Unit):
        super().__init__()
        self.stride = unit.stride
        if unit.c_in != unit.c_out:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(unit.c_in, unit.c_out, 1, stride=unit.stride, bias=False), BatchNorm(unit.c_out))
        self.res_layer = nn.Sequential(
            BatchNorm(unit.c_in),
            nn.Conv2d(unit.c_in, unit.c_out, 3, padding=1, bias=False),
            nn.PReLU(unit.c_out),
            nn.Conv2d(unit.c_out, unit.c_out, 3, stride=unit.stride, padding=1, bias=False),
            BatchNorm(unit.c_out),
            SqueezeExcite(unit.c_out))

    def forward(self, x: Tensor) -> Tensor:
        kept = self.shortcut_layer(x) if hasattr(self, "shortcut_layer") else x[:, :, :: self.stride, :: self.stride]
        return kept + self.res_layer(x)


def stem(width: int = 64) -> nn.Sequential:
    """The layers before the first unit.  [N,3,H,W] -> [N,width,H,W]"""
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), BatchNorm(width), nn.PReLU(width))
