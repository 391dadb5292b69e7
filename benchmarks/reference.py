"""StyleGAN2's synthesis in the straightforward way, to be measured against: a weight for every picture, then groups.

Written from the papers and from `nets/stylegan2`'s own names, as the usual PyTorch programs do without compiled
operators: modulated weights and grouped convolutions (arXiv 1912.04958, eqs. 1 and 3), zeros between pixels and one
two-dimensional filter over all channels as a batch, noise, bias, leaky ReLU and gain each a pass of its own.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sigan.nets.stylegan2 import Synthesis


def filtered(x: Tensor, kernel: Tensor, up: int, pad: tuple[int, int]) -> Tensor:
    """[N,C,H,W] -> zeros put in, padded, filtered."""
    n, c, h, w = x.shape
    x = x.reshape(n * c, 1, h, 1, w, 1)
    x = F.pad(x, [0, up - 1, 0, 0, 0, up - 1]).view(n * c, 1, h * up, w * up)
    x = F.conv2d(F.pad(x, [*pad, *pad]), kernel.flip(0, 1)[None, None])
    return x.view(n, c, *x.shape[2:])


def modulated(layer, x: Tensor, w: Tensor, demodulate: bool, up: bool) -> Tensor:
    n, i, h, _ = x.shape
    o, _, k, _ = layer.weight.shape
    weight = layer.weight[None] * layer.affine(w).view(n, 1, i, 1, 1) / math.sqrt(i * k * k)
    if demodulate:
        weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8).view(n, o, 1, 1, 1)
    if up:
        weight = weight.transpose(1, 2).reshape(n * i, o, k, k)
        x = F.conv_transpose2d(x.reshape(1, n * i, h, h), weight, stride=2, groups=n)
        return filtered(x.view(n, o, 2 * h + 1, 2 * h + 1), layer.fir * 4, 1, (1, 1))
    x = F.conv2d(x.reshape(1, n * i, h, h), weight.view(n * o, i, k, k), padding=k // 2, groups=n)
    return x.view(n, o, h, h)


def styled(layer, x: Tensor, w: Tensor) -> Tensor:
    x = modulated(layer, x, w, True, layer.up)
    x = x + layer.noise_strength * layer.noise_const
    return F.leaky_relu(x + layer.bias.view(1, -1, 1, 1), 0.2) * math.sqrt(2)


def draw(synthesis: Synthesis, ws: Tensor) -> Tensor:
    """ws [N,L,C] -> [N,3,R,R]; a generator without a canvas."""
    x, img = synthesis.b4.const[None].repeat(len(ws), 1, 1, 1), None
    for i, r in enumerate(synthesis.resolutions):
        block, first = getattr(synthesis, f"b{r}"), max(2 * i - 1, 0)
        if r > 4:
            x = styled(block.conv0, x, ws[:, first])
        x = styled(block.conv1, x, ws[:, 2 * i])
        y = modulated(block.torgb, x, ws[:, 2 * i + 1], False, False) + block.torgb.bias.view(1, 3, 1, 1)
        img = y if img is None else y + filtered(img, block.torgb.fir * 4, 2, (2, 1))
    return img
