"""Layers of StyleGAN2 in plain PyTorch: FIR resampling, equalised learning rate, modulated convolution.

Letters: N pictures, C channels, H W pixels, I O in and out channels, K kernel size, D dimensions of w.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2)  # keeps the variance through the leaky ReLU (Karras 2019, progressive GAN's He constant)
FIR_TAPS = (1.0, 3.0, 3.0, 1.0)  # binomial low-pass of StyleGAN2 (arXiv 1912.04958, appendix B)


def in_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function, in float32 inside autocast too: styles and the canvas in bfloat16 cost the picture 8 dB of 61."""
    @functools.wraps(function)
    def whole(*args: Any) -> Tensor:
        device = next(arg.device.type for arg in args if isinstance(arg, Tensor))
        if not torch.is_autocast_enabled(device):
            return function(*args)
        with torch.autocast(device, enabled=False):
            return function(*(arg.float() if isinstance(arg, Tensor) else arg for arg in args))

    return whole


def fir_kernel(taps: tuple[float, ...] = FIR_TAPS) -> Tensor:
    """The separable 2-D low-pass of unit sum.  # [K,K]"""
    k = torch.tensor(taps)
    return torch.outer(k, k) / k.sum() ** 2


class Kept(Protocol):
    """What `Convolution` keeps for its gradient: x only for that of the weights, the weights only for that of x."""

    how: tuple[list[int], list[int], list[int], bool, list[int], int]  # torch.convolution's arguments after the bias
    shape: torch.Size  # of x
    sizes: list[int]  # of the weights
    needs_input_grad: tuple[bool, ...]

    @property
    def saved_tensors(self) -> tuple[Tensor | None, Tensor | None]: ...

    def save_for_backward(self, x: Tensor | None, weight: Tensor | None, /) -> None: ...


class Convolution(torch.autograd.Function):
    """What `convolve` computes. It keeps for its gradient what that needs and no more: a frozen one keeps no pictures.

    On a CPU the convolutions are twice as fast with channels last, but the gradient for the weights is three times as
    fast in planes; copies to planes cost less than that.
    """

    @staticmethod
    def forward(ctx: Kept, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int,
                transposed: bool, groups: int) -> Tensor:
        ctx.how = [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], groups
        ctx.shape, ctx.sizes = x.shape, list(weight.shape)
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)
        return torch.convolution(x, weight, bias, *ctx.how)

    @staticmethod
    def backward(ctx: Kept, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grads: list[Tensor | None] = [None] * 3
        stride, padding, _, transposed, _, groups = ctx.how
        if weight is not None:
            more = [0, 0] if transposed else [
                size - (g - 1) * stride[0] + 2 * padding[0] - k
                for size, g, k in zip(ctx.shape[2:], grad.shape[2:], ctx.sizes[2:])]
            grads[0] = torch.convolution(grad, weight, None, stride, padding, [1, 1], not transposed, more, groups)
        if x is not None:
            a, b = (planes(grad), planes(x)) if x.device.type == "cpu" else (grad, x)
            stand_in = grad.new_zeros(1).expand(ctx.sizes)  # of the weights only the shape is asked for
            grads[1] = torch.ops.aten.convolution_backward(a, b, stand_in, None, *ctx.how, [False, True, False])[1]
        if ctx.needs_input_grad[2]:
            grads[2] = grad.sum((0, 2, 3))
        return *grads, None, None, None, None


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0,
             transposed: bool = False, groups: int = 1) -> Tensor:
    """F.conv2d, or F.conv_transpose2d, with a gradient that takes less memory and time; see `Convolution`."""
    if not torch.is_grad_enabled():
        return torch.convolution(x, weight, bias, [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], groups)
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    return Convolution.apply(x, weight, bias, stride, padding, transposed, groups)


def planes(x: Tensor) -> Tensor:
    """The same values, each channel's together.  [N,C,H,W]; `contiguous` takes three times as long on a CPU."""
    n, c, h, w = x.shape
    if n > 1 or x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return x.contiguous()
    return x.permute(0, 2, 3, 1).reshape(h * w, c).t().contiguous().view(n, c, h, w)


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
        return convolve(x, weight, bias, stride=down, padding=pad[0], groups=c)
    return convolve(F.pad(x, (*pad, *pad)), weight, bias, stride=down, groups=c)


def upsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    """Twice the size, low-passed.  [N,C,H,W] -> [N,C,2H,2W]"""
    n, c, h, w = x.shape
    weight = (kernel * 4).to(x.dtype).expand(c, 1, *kernel.shape)  # the FIR is symmetric, no flip
    return convolve(x, weight, stride=2, padding=1, transposed=True, groups=c)


def lrelu(x: Tensor, bias: Tensor | None = None, gain: float = LRELU_GAIN) -> Tensor:
    """Bias per channel, leaky ReLU of slope 0.2, gain.  x [N,C,...], bias [C]"""
    if bias is not None:
        x = x + bias.to(x.dtype).view(1, -1, *[1] * (x.ndim - 2))
    return F.leaky_relu(x, LRELU_SLOPE) * gain


def clamped(x: Tensor, limit: float) -> Tensor:
    """x from -limit to limit; 0 is no limit."""
    return x.clamp(-limit, limit) if limit else x


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
        x = convolve(x, weight.transpose(0, 1), stride=2, transposed=True)  # [N,O,2H+1,2W+1]
        return upfirdn2d(x, fir * 4, pad=(1, 1))
    if down:
        return convolve(upfirdn2d(x, fir, pad=(2, 2)), weight, stride=2)  # K = 3
    return convolve(x, weight, padding=k // 2)


def folded_conv2d(x: Tensor, weight: Tensor, styles: Tensor, fir: Tensor, scale: Tensor | None = None,
                  bias: Tensor | None = None, *, up: bool = False) -> Tensor:
    """`modulated_conv2d` of one picture, times `scale`, plus `bias`, all in the weights: fewer passes over memory.

    x [1,I,H,W], weight [O,I,K,K], styles [1,I], scale [1,O], bias [O] -> [1,O,H,W] or twice the size.
    """
    o, i, k, _ = weight.shape
    factors = styles[0] / math.sqrt(i * k * k)
    if scale is not None:
        factors = scale[0][:, None] * factors  # [O,I]
    weight = (weight * factors[..., None, None]).to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    if up:
        x = convolve(x, weight.transpose(0, 1), stride=2, transposed=True)
        return upfirdn2d(x, fir * 4, pad=(1, 1), bias=bias)
    return convolve(x, weight, bias, padding=k // 2)


@in_float32
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

    @in_float32
    def forward(self, x: Tensor) -> Tensor:  # [N,I] -> [N,O]
        weight = self.weight * (self.lr_mul / math.sqrt(self.weight.shape[1]))
        bias = self.bias * self.lr_mul
        if self.activate:
            return lrelu(F.linear(x, weight.to(x.dtype)), bias)
        return F.linear(x, weight.to(x.dtype), bias.to(x.dtype))


class EqualConv2d(nn.Module):
    """Convolution with equalised learning rate; `down` low-passes and halves the size."""

    fir: Tensor  # [K,K]

    def __init__(
        self, c_in: int, c_out: int, kernel: int, down: bool = False, bias: bool = True, activate: bool = True,
        clamp: float = 0.0
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None
        self.register_buffer("fir", fir_kernel(), persistent=False)
        self.scale = 1 / math.sqrt(c_in * kernel * kernel)
        self.down, self.activate, self.clamp = down, activate, clamp

    def forward(self, x: Tensor) -> Tensor:  # [N,I,H,W] -> [N,O,H,W] or half
        k, gain = self.weight.shape[-1], LRELU_GAIN if self.activate else 1.0
        weight = (self.weight * (self.scale * gain)).to(x.dtype)
        bias = None if self.bias is None else (self.bias * gain).to(x.dtype)
        if self.down:
            p = k + 1  # FIR of 4 taps, then a stride of 2: ((4 - 2) + (k - 1))
            x = upfirdn2d(x, self.fir, pad=((p + 1) // 2, p // 2))
            x = convolve(x, weight, bias, stride=2)
        else:
            x = convolve(x, weight, bias, padding=k // 2)
        return clamped(F.leaky_relu_(x, LRELU_SLOPE) if self.activate else x, self.clamp)
