"""The Inception that FID and KID are defined on: v3 of 2015-12-05 (arXiv 1512.00567), up to its 2048 features.

It is TensorFlow's graph, not torchvision's: averages leave padding out, the last block takes a maximum, the picture is
resized as TensorFlow 1 did. Attribute names are the keys of `pt_inception-2015-12-05`, as pytorch-fid and
torch-fidelity read it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 299
FEATURES = 2048

# A path of a block: convolutions (name, channels, kernel) one after the other; a tuple of them is a fork, side by side.
Layer = tuple[str, int, "int | tuple[int, int]"]


def resize_as_tensorflow(x: Tensor, side: int = SIDE) -> Tensor:
    """[N,C,H,W] -> [N,C,side,side], bilinear between corners that coincide at the top left only, not antialiased."""
    for dim in (2, 3):
        length = x.shape[dim]
        place = torch.arange(side, device=x.device, dtype=torch.float32) * (length / side)
        low = place.floor().long().clamp(max=length - 1)
        share = (place - low).to(x.dtype).view(-1, 1) if dim == 2 else (place - low).to(x.dtype)
        start, end = x.index_select(dim, low), x.index_select(dim, (low + 1).clamp(max=length - 1))
        x = start + (end - start) * share
    return x


class Conv(nn.Module):
    """Convolution, batch normalisation, ReLU; padded to keep the size unless `stride` is 2 or `pad` is off."""

    def __init__(self, c_in: int, c_out: int, kernel: int | tuple[int, int], stride: int = 1, pad: bool = True):
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if pad and stride == 1 else 0
        self.conv = nn.Conv2d(c_in, c_out, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """A block: the paths' results and a pooled one, joined over channels.

    `pool` channels are convolved from the pooled picture; with None the block halves the size, its paths' last
    convolutions and its pooling having stride 2.
    """

    def __init__(self, c_in: int, paths: tuple[tuple[Layer | tuple[Layer, ...], ...], ...], pool: int | None,
                 average: bool = True):
        super().__init__()
        self.paths, self.halves, self.average = [], pool is None, average
        for path in paths:
            channels, names = c_in, []
            for k, step in enumerate(path):
                fork = (step,) if isinstance(step[0], str) else step
                stride = 2 if self.halves and k == len(path) - 1 else 1
                for name, c_out, kernel in fork:
                    self.add_module(name, Conv(channels, c_out, kernel, stride))
                channels = sum(c_out for _, c_out, _ in fork)
                names.append([name for name, _, _ in fork])
            self.paths.append(names)
        if pool is not None:
            self.branch_pool = Conv(c_in, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        results = []
        for path in self.paths:
            y = x
            for fork in path:
                y = torch.cat([getattr(self, name)(y) for name in fork], 1)
            results.append(y)
        return torch.cat([*results, self._pooled(x)], 1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.halves:
            return F.max_pool2d(x, 3, 2)
        if self.average:
            return self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
        return self.branch_pool(F.max_pool2d(x, 3, 1, 1))


def _block_a(c_in: int, pool: int) -> Mixed:
    return Mixed(c_in, ((("branch1x1", 64, 1),), (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
                        (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3))), pool)


def _block_b(c_in: int) -> Mixed:
    return Mixed(c_in, ((("branch3x3", 384, 3),),
                        (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3))), None)


def _block_c(c: int) -> Mixed:
    across, down = (1, 7), (7, 1)
    return Mixed(768, ((("branch1x1", 192, 1),),
                       (("branch7x7_1", c, 1), ("branch7x7_2", c, across), ("branch7x7_3", 192, down)),
                       (("branch7x7dbl_1", c, 1), ("branch7x7dbl_2", c, down), ("branch7x7dbl_3", c, across),
                        ("branch7x7dbl_4", c, down), ("branch7x7dbl_5", 192, across))), 192)


def _block_d() -> Mixed:
    return Mixed(768, ((("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3)),
                       (("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1)),
                        ("branch7x7x3_4", 192, 3))), None)


def _block_e(c_in: int, average: bool) -> Mixed:
    def fork(name: str) -> tuple[Layer, Layer]:
        return (f"{name}a", 384, (1, 3)), (f"{name}b", 384, (3, 1))

    return Mixed(c_in, ((("branch1x1", 320, 1),), (("branch3x3_1", 384, 1), fork("branch3x3_2")),
                        (("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3), fork("branch3x3dbl_3"))),
                 192, average)


class Inception(nn.Module):
    """x [N,3,H,W], whole numbers 0..255 of any size -> features [N,2048]."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3, pad=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _block_a(192, 32), _block_a(256, 64), _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (_block_c(c) for c in (128, 160, 160, 192))
        self.Mixed_7a = _block_d()
        self.Mixed_7b, self.Mixed_7c = _block_e(1280, average=True), _block_e(2048, average=False)

    def forward(self, x: Tensor) -> Tensor:
        x = (resize_as_tensorflow(x.float()) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))
