"""The StyleGAN2 generator (arXiv 1912.04958), skip architecture, with an optional linear canvas.

Letters: z latent [N,Z], w [N,C], ws one w a layer [N,L,C], x features, y picture [N,3,R,R] about [-1,1].
State-dict names follow stylegan2-ada-pytorch (`mapping.fc0`, `synthesis.b8.conv0.affine`), all float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from sigan.errors import ConfigError
from sigan.nets.ops import (
    LRELU_GAIN,
    LRELU_SLOPE,
    EqualLinear,
    clamped,
    demodulation,
    fir_kernel,
    folded_conv2d,
    in_float32,
    modulated_conv2d,
    scale_bias_lrelu,
    upsample2d,
)

LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: BT.601
MAPPING_LR_MUL = 0.01  # StyleGAN, appendix C


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Sizes of a generator. Channels at resolution r: min(channel_max, channel_base // r)."""

    resolution: int
    w_dim: int = 512
    z_dim: int = 512
    mapping_layers: int = 8
    mapping_anchors: int = 0  # more than 0: an AnchorMapping instead of layers
    channel_base: int = 32768
    channel_max: int = 512
    canvas_resolution: int = 0  # 0: plain StyleGAN2
    canvas_luma: int = 0  # dimensions of w that draw the canvas' luma; the rest draw its chroma
    conv_clamp: float = 0.0  # most that a layer gives, either way; NVIDIA's nets trained in fp16 have 256; 0: no limit

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ConfigError(f"resolution is {self.resolution}, not a power of two from 8 up")
        if self.canvas_resolution and not 0 < self.canvas_luma < self.w_dim:
            raise ConfigError(f"canvas_luma is {self.canvas_luma}, not between 1 and w_dim - 1 = {self.w_dim - 1}")

    def channels(self, resolution: int) -> int:
        return min(self.channel_max, self.channel_base // resolution)

    @property
    def resolutions(self) -> list[int]:
        return [2**i for i in range(2, int(math.log2(self.resolution)) + 1)]

    @property
    def num_ws(self) -> int:
        return 2 * len(self.resolutions)

    def to_dict(self) -> dict[str, int | float]:
        return asdict(self)


def pixel_norm(z: Tensor) -> Tensor:
    """z of unit mean square.  [N,Z]"""
    return z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class Mapping(nn.Module):
    """z to w: pixel norm, then fully connected layers.  [N,Z] -> [N,C]"""

    w_avg: Tensor  # [C]

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.num_layers = config.mapping_layers
        dims = [config.z_dim] + [config.w_dim] * config.mapping_layers
        for i in range(config.mapping_layers):
            setattr(self, f"fc{i}", EqualLinear(dims[i], dims[i + 1], lr_mul=MAPPING_LR_MUL, activate=True))
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        x = pixel_norm(z)
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)
        return x if truncation == 1.0 else self.w_avg.lerp(x, truncation)


class AnchorMapping(nn.Module):
    """z to w as a blend of learned codes, by attention: near anchors share the weight.  [N,Z] -> [N,C]

    Stays on the data where a small perceptron does not; fitted in closed form (sigan-foundry). Not in StyleGAN2.
    """

    w_avg: Tensor  # [C]

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.keys = nn.Parameter(torch.randn(config.mapping_anchors, config.z_dim))
        self.values = nn.Parameter(torch.randn(config.mapping_anchors, config.w_dim))
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        w = torch.softmax(pixel_norm(z) @ self.keys.t(), 1) @ self.values
        return w if truncation == 1.0 else self.w_avg.lerp(w, truncation)


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU (StyleGAN2, fig. 2c)."""

    noise_const: Tensor  # [r,r]
    fir: Tensor  # [K,K]

    def __init__(self, c_in: int, c_out: int, resolution: int, w_dim: int, up: bool, clamp: float = 0.0):
        super().__init__()
        self.affine = EqualLinear(w_dim, c_in, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(c_out, c_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("fir", fir_kernel(), persistent=False)
        self.up, self.clamp = up, clamp

    def forward(self, x: Tensor, w: Tensor, noise: str) -> Tensor:
        styles = self.affine(w)
        return clamped((self._alone if len(x) == 1 else self._together)(x, styles, noise), self.clamp)

    def _together(self, x: Tensor, styles: Tensor, noise: str) -> Tensor:
        x = modulated_conv2d(x, self.weight, styles, self.fir, up=self.up)
        bias = self.bias[None, :, None, None]
        if noise == "const":
            bias = bias + self.noise_const * self.noise_strength
        return scale_bias_lrelu(x, demodulation(self.weight, styles), bias)

    def _alone(self, x: Tensor, styles: Tensor, noise: str) -> Tensor:
        """The same for one picture: less than half the time on a CPU, a third of the memory when it is trained on."""
        scale = demodulation(self.weight, styles) * LRELU_GAIN
        x = folded_conv2d(x, self.weight, styles, self.fir, scale, self.bias * LRELU_GAIN, up=self.up)
        if noise == "const":
            x += (self.noise_const * (self.noise_strength * LRELU_GAIN)).to(x.dtype)
        return nn.functional.leaky_relu_(x, LRELU_SLOPE)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, without demodulation."""

    fir: Tensor  # [K,K]

    def __init__(self, c_in: int, w_dim: int, clamp: float = 0.0):
        super().__init__()
        self.clamp = clamp
        self.affine = EqualLinear(w_dim, c_in, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(3, c_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.register_buffer("fir", fir_kernel(), persistent=False)

    def forward(self, x: Tensor, w: Tensor, img: Tensor | None) -> Tensor:
        if len(x) == 1:
            y = folded_conv2d(x, self.weight, self.affine(w), self.fir, bias=self.bias)
        else:
            y = modulated_conv2d(x, self.weight, self.affine(w), self.fir)
            y = y + self.bias.to(y.dtype).view(1, -1, 1, 1)
        y = clamped(y, self.clamp)
        return y if img is None else y + upsample2d(img, self.fir).to(y.dtype)


class Canvas(nn.Module):
    """A picture linear in w (principal components of faces), which the convolutions redraw.

    Luma [r,r] from the first `luma` dimensions of one layer's w, chroma [2,r/2,r/2] from the other dimensions of
    another's, so that mixing late layers changes colour and keeps the face. Why: docs/contributing.md, "The canvas".
    """

    to_rgb: Tensor  # [3,3]
    fir: Tensor  # [K,K]

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        r, luma = config.canvas_resolution, config.canvas_luma
        self.resolution, self.luma_dims = r, luma
        self.luma_layer = 0
        self.chroma_layer = 2 * int(math.log2(r)) - 3  # the w of the toRGB at the canvas' resolution
        self.luma = nn.Linear(luma, r * r)
        self.chroma = nn.Linear(config.w_dim - luma, 2 * (r // 2) ** 2)
        self.gain = nn.Parameter(torch.ones(config.w_dim))  # of each component: styles flatten and desaturate by it
        to_rgb = [[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]]  # BT.601 full range (JFIF)
        self.register_buffer("to_rgb", torch.tensor(to_rgb), persistent=False)
        self.register_buffer("fir", fir_kernel(), persistent=False)

    @in_float32
    def forward(self, ws: Tensor) -> Tensor:  # [N,L,C] -> [N,3,r,r]
        n, r = ws.shape[0], self.resolution
        luma_gain, chroma_gain = self.gain.split([self.luma_dims, ws.shape[2] - self.luma_dims])
        y = self.luma(ws[:, self.luma_layer, : self.luma_dims] * luma_gain).view(n, 1, r, r)
        c = self.chroma(ws[:, self.chroma_layer, self.luma_dims :] * chroma_gain).view(n, 2, r // 2, r // 2)
        ycc = torch.cat([y, upsample2d(c, self.fir).to(y.dtype)], 1)
        return torch.einsum("ij,njhw->nihw", self.to_rgb.to(ycc.dtype), ycc)

    @torch.no_grad()
    def desaturate(self) -> None:
        """No chroma from now on: its mean and the gain of each of its components are 0, and get no gradient."""
        kept = (torch.arange(len(self.gain), device=self.gain.device) < self.luma_dims).to(self.gain)
        self.gain.mul_(kept)
        _on_gradient(self.gain, lambda gradient: gradient * kept)
        self.chroma.bias.zero_()
        _on_gradient(self.chroma.bias, torch.zeros_like)


def _on_gradient(parameter: Tensor, change: Callable[[Tensor], Tensor]) -> None:
    """From now on a parameter's gradient is changed; one that is not trained has none."""
    if parameter.requires_grad:
        parameter.register_hook(change)


class Block(nn.Module):
    """One resolution: up-convolution (none at 4x4), convolution, and its addition to the picture."""

    def __init__(self, config: GeneratorConfig, resolution: int):
        super().__init__()
        c, w_dim = config.channels(resolution), config.w_dim
        if resolution == 4:
            self.const = nn.Parameter(torch.randn(c, 4, 4))
        else:
            self.conv0 = StyledConv(config.channels(resolution // 2), c, resolution, w_dim, True, config.conv_clamp)
        if resolution <= config.canvas_resolution:
            self.from_canvas = nn.Conv2d(3, c, 3, padding=1)
        self.conv1 = StyledConv(c, c, resolution, w_dim, False, config.conv_clamp)
        self.torgb = ToRGB(c, w_dim, config.conv_clamp)
        self.resolution = resolution

    def forward(self, x: Tensor | None, img: Tensor | None, ws: Tensor, noise: str, canvas: Tensor | None
                ) -> tuple[Tensor, Tensor]:
        """ws [N,3,C] (2 at 4x4): conv0, conv1, torgb; returns features [N,C,r,r] and picture [N,3,r,r]."""
        if self.resolution == 4:
            x = self.const.expand(len(ws), -1, -1, -1)
            x = x.contiguous(memory_format=torch.channels_last)  # what follows keeps it: faster on CPUs
        else:
            x = self.conv0(x, ws[:, 0], noise)
            ws = ws[:, 1:]
        if canvas is not None and self.resolution <= canvas.shape[-1]:
            x = x + self.from_canvas(nn.functional.adaptive_avg_pool2d(canvas, self.resolution))
        x = self.conv1(x, ws[:, 0], noise)
        img = self.torgb(x, ws[:, 1], img)
        if canvas is not None and self.resolution == canvas.shape[-1]:
            img = img + canvas
        return x, img


class Synthesis(nn.Module):
    """Codes to picture.  ws [N,L,C] -> y [N,3,R,R]"""

    b4: Block

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.num_ws, self.w_dim, self.resolutions = config.num_ws, config.w_dim, config.resolutions
        if config.canvas_resolution:
            self.canvas = Canvas(config)
        for r in self.resolutions:
            setattr(self, f"b{r}", Block(config, r))

    def forward(self, ws: Tensor, noise: str = "const") -> Tensor:
        """noise: `const` (the stored maps) or `none`. Raises ConfigError on a wrong shape or noise name."""
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ConfigError(f"ws must be [N,L,C] = [N,{self.num_ws},{self.w_dim}], got {list(ws.shape)}")
        if noise not in ("const", "none"):
            raise ConfigError(f"noise is {noise!r}, not 'const' or 'none'")
        canvas = self.canvas(ws) if hasattr(self, "canvas") else None
        x, img = self.b4(None, None, ws[:, :2], noise, canvas)
        for i, r in enumerate(self.resolutions[1:], start=1):  # torgb shares its w with the next resolution's conv0
            x, img = getattr(self, f"b{r}")(x, img, ws[:, 2 * i - 1 : 2 * i + 2], noise, canvas)
        return img

    @torch.no_grad()
    def desaturate(self) -> None:
        """Draws grey from now on, in training too: the rows of each toRGB become their luma and share a gradient.

        Without a canvas, that is the luma of what it drew before. Set first which parameters are trained.
        """
        for name, parameter in self.named_parameters():
            if name.endswith((".torgb.weight", ".torgb.bias")):
                luma = torch.tensor(LUMA).view(3, *[1] * (parameter.ndim - 1)).to(parameter)
                parameter.copy_((parameter * luma).sum(0, keepdim=True).expand_as(parameter))
                _on_gradient(parameter, lambda gradient: gradient.mean(0, keepdim=True).expand_as(gradient))
        if hasattr(self, "canvas"):
            self.canvas.desaturate()


class Generator(nn.Module):
    """Mapping and synthesis.  z [N,Z] -> y [N,3,R,R]"""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        self.mapping = AnchorMapping(config) if config.mapping_anchors else Mapping(config)
        self.synthesis = Synthesis(config)

    @property
    def num_ws(self) -> int:
        return self.config.num_ws

    def codes(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """One w for every layer.  [N,Z] -> [N,L,C]"""
        return self.mapping(z, truncation)[:, None].expand(-1, self.num_ws, -1)

    def forward(self, z: Tensor, truncation: float = 1.0, noise: str = "const") -> Tensor:
        return self.synthesis(self.codes(z, truncation), noise)
