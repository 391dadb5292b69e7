"""Layers of StyleGAN2 in plain PyTorch: FIR resampling, equalised learning rate, modulated convolution.

Letters: N pictures, C channels, H W pixels, I O in and out channels, K kernel size, D dimensions of w.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2)  # keeps the variance through the leaky ReLU (Karras 2019, progressive GAN's He constant)
FIR_TAPS = (1.0, 3.0, 3.0, 1.0)  # binomial low-pass of StyleGAN2 (arXiv 1912.04958, appendix B)


def fir_kernel(taps: tuple[float, ...] = FIR_TAPS) -> Tensor:
    """The separable 2-D low-pass of unit sum.  # [K,K]"""
    k = torch.tensor(taps)
    return torch.outer(k, k) / k.sum() ** 2


def upfirdn2d(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0),
              bias: Tensor | None = None) -> Tensor:
    """Zero-insert by `up`, pad (a negative pad crops), filter each channel, keep every `down`-th pixel, add `bias`.

    x [N,C,H,W], kernel [K,K], bias [C]; the same `pad` (before, after) on both axes. Source: StyleGAN2, upfirdn_2d.
    """
    n, c, h, w = x.shape
    if up > 1:
        x = F.pad(x.reshape(n, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(n, c, h * up, w * up)
    weight = kernel.flip(0, 1).to(x.dtype).expand(c, 1, *kernel.shape)
    if pad[0] == pad[1] >= 0:  # the convolution pads without a copy
        return F.conv2d(x, weight, bias, stride=down, padding=pad[0], groups=c)
    return F.conv2d(F.pad(x, (*pad, *pad)), weight, bias, stride=down, groups=c)


def upsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    """Twice the size, low-passed.  [N,C,H,W] -> [N,C,2H,2W]"""
    n, c, h, w = x.shape
    weight = (kernel * 4).to(x.dtype).expand(c, 1, *kernel.shape)  # the FIR is symmetric, no flip
    return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=c)


def lrelu(x: Tensor, bias: Tensor | None = None, gain: float = LRELU_GAIN) -> Tensor:
    """Bias per channel, leaky ReLU of slope 0.2, gain.  x [N,C,...], bias [C]"""
    if bias is not None:
        x = x + bias.to(x.dtype).view(1, -1, *[1] * (x.ndim - 2))
    return F.leaky_relu(x, LRELU_SLOPE) * gain


def modulated_conv2d(
    x: Tensor, weight: Tensor, styles: Tensor, fir: Tensor, *, up: bool = False, down: bool = False
) -> Tensor:
    """Convolution whose input channels are scaled by `styles`.  -> [N,O,H,W], twice or half the size

    x [N,I,H,W], weight [O,I,K,K] (unit variance, scaled here), styles [N,I]. Activations are scaled instead of
    weights, so one convolution serves the whole batch. Source: StyleGAN2, eq. 1; eq. 3 is `demodulation`.
    """
    o, i, k, _ = weight.shape
    weight = (weight * (1 / math.sqrt(i * k * k))).to(x.dtype)
    x = x * styles[:, :, None, None].to(x.dtype)
    if up:
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # [N,O,2H+1,2W+1]
        return upfirdn2d(x, fir * 4, pad=(1, 1))
    if down:
        return F.conv2d(upfirdn2d(x, fir, pad=(2, 2)), weight, stride=2)  # K = 3
    return F.conv2d(x, weight, padding=k // 2)


def folded_conv2d(x: Tensor, weight: Tensor, styles: Tensor, fir: Tensor, scale: Tensor | None = None,
                  bias: Tensor | None = None, *, up: bool = False) -> Tensor:
    """`modulated_conv2d` of one picture, times `scale`, plus `bias`, all in the weights: fewer passes over memory.

    x [1,I,H,W], weight [O,I,K,K], styles [1,I], scale [1,O], bias [O] -> [1,O,H,W] or twice the size.
    """
    o, i, k, _ = weight.shape
    weight = weight * (styles[0] / math.sqrt(i * k * k))[:, None, None]
    if scale is not None:
        weight *= scale[0][:, None, None, None]
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    if up:
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        return upfirdn2d(x, fir * 4, pad=(1, 1), bias=bias)
    return F.conv2d(x, weight, bias, padding=k // 2)


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """Factors that bring a modulated convolution's output back to unit variance.  [O,I,K,K], [N,I] -> [N,O]"""
    energy = styles.square() @ weight.square().sum((2, 3)).t() / weight[0].numel()
    return (energy + 1e-8).rsqrt()


def scale_bias_lrelu(x: Tensor, scale: Tensor, bias: Tensor, gain: float = LRELU_GAIN) -> Tensor:
    """gain * leaky_relu(x * scale + bias) in two passes over memory; x [N,C,H,W], scale [N,C], bias [1,C,H|1,W|1]."""
    x = torch.addcmul((bias * gain).to(x.dtype), x, (scale * gain)[:, :, None, None].to(x.dtype))
    return F.leaky_relu_(x, LRELU_SLOPE)


class EqualLinear(nn.Module):
    """Fully connected layer, weights of unit variance scaled at run time (equalised learning rate)."""

    def __init__(self, dim_in: int, dim_out: int, bias_init: float = 0.0, lr_mul: float = 1.0, activate: bool = False):
        super().__init__()
        weight = torch.randn(dim_out, dim_in)
        self.weight = nn.Parameter(weight if lr_mul == 1.0 else weight / lr_mul)
        self.bias = nn.Parameter(torch.full((dim_out,), bias_init / lr_mul))
        self.lr_mul, self.activate = lr_mul, activate

    def forward(self, x: Tensor) -> Tensor:  # [N,I] -> [N,O]
        weight = self.weight * (self.lr_mul / math.sqrt(self.weight.shape[1]))
        bias = self.bias * self.lr_mul
        if self.activate:
            return lrelu(F.linear(x, weight.to(x.dtype)), bias)
        return F.linear(x, weight.to(x.dtype), bias.to(x.dtype))


class EqualConv2d(nn.Module):
    """Convolution with equalised learning rate; `down` low-passes and halves the size."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, down: bool = False, bias: bool = True, activate: bool = True
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None
        self.register_buffer("fir", fir_kernel(), persistent=False)
        self.scale = 1 / math.sqrt(c_in * kernel * kernel)
        self.down, self.activate = down, activate

    def forward(self, x: Tensor) -> Tensor:  # [N,I,H,W] -> [N,O,H,W] or half
        k = self.weight.shape[-1]
        weight = (self.weight * self.scale).to(x.dtype)
        if self.down:
            p = k + 1  # FIR of 4 taps, then a stride of 2: ((4 - 2) + (k - 1))
            x = upfirdn2d(x, self.fir, pad=((p + 1) // 2, p // 2))
            x = F.conv2d(x, weight, stride=2)
        else:
            x = F.conv2d(x, weight, padding=k // 2)
        if self.activate:
            return lrelu(x, self.bias)
        return x if self.bias is None else x + self.bias.to(x.dtype).view(1, -1, 1, 1)
