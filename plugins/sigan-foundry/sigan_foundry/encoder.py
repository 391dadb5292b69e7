"""The encoder's in-domain half: from drawings of many kinds to the code of a plausible photograph.

No drawings are needed: training faces are redrawn by simple filters (ink lines, pencil, flat washes, changed colours,
white paper) and the net regresses the code of the face behind. What cannot be told from a drawing comes out as the
average of what is plausible, which is a photograph-like, if soft, face.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sigan.errors import ConfigError
from sigan.nets.compact_encoder import to_ycc
from sigan_foundry.canvas import code_weights, face_weights
from sigan_foundry.data import Faces
from sigan_foundry.state import Run


@dataclass(frozen=True, kw_only=True)
class EncoderTraining:
    batch: int = 64
    lr: float = 1e-3
    clean: float = 0.15  # share of faces left as they are
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.batch < 1 or not 0 <= self.clean <= 1:
            raise ConfigError(f"batch is {self.batch} and clean {self.clean}; need 1 or more and between 0 and 1")


@dataclass(frozen=True)
class EncoderStep:
    pictures: int
    loss: float
    pictures_per_second: float


def steps(run: Run, faces: Faces, config: EncoderTraining, seconds: float) -> Iterator[EncoderStep]:
    """Trains `run.encoder.domain` in place, one record a step, the rate falling to zero at the end of the time.

    The loss is the squared error of the canvas that the code draws, its components weighed by their deviation.
    """
    domain, encoder = run.encoder.domain.to(config.device).train(), run.encoder.to(config.device)
    weigh = code_weights(run.ema.synthesis.canvas.to(config.device))
    optimiser = torch.optim.AdamW(domain.parameters(), lr=config.lr, weight_decay=1e-2)
    began, pictures = time.monotonic(), 0
    while (now := time.monotonic()) - began < seconds:
        left = 1 - (now - began) / seconds
        optimiser.param_groups[0]["lr"] = config.lr * min(1.0, 2 * left)
        x = faces.batch(config.batch)[0].to(config.device)
        with torch.no_grad(), torch.device(config.device):  # random numbers are made where the pictures are
            target = encoder.faithful(x)
            x = F.adaptive_avg_pool2d(x, encoder.config.canvas_resolution)
            seen = torch.where(chance(len(x), config.clean), x, redraw(x))
        loss = ((domain(seen) - target).square() * weigh).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        pictures += config.batch
        yield EncoderStep(pictures, float(loss.detach()), config.batch / (time.monotonic() - now))
    domain.eval()
    run.facts["encoder_pictures"] = run.facts.get("encoder_pictures", 0) + pictures


# ---- drawings of a kind, on [N,3,r,r] in [-1,1]

def chance(n: int, probability: float) -> Tensor:
    return torch.rand(n, 1, 1, 1) < probability


def uniform(n: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(n, 1, 1, 1)


def redraw(x: Tensor) -> Tensor:
    """Each face as a drawing of a random kind: flat washes, pencil or ink, then colours, paper and blur."""
    n = len(x)
    grey = to_ycc(x)[:, :1]
    kind = torch.randint(0, 4, (n, 1, 1, 1))
    out = torch.where(kind == 0, ink(grey), torch.where(kind == 1, pencil(grey), torch.where(kind == 2, wash(x), x)))
    out = torch.where(chance(n, 0.5), recolour(out), out)
    out = torch.where(chance(n, 0.5), paper(out), out)
    out = torch.where(chance(n, 0.3), blur(out, 3), out)
    out = torch.where(chance(n, 0.3), out + 0.1 * torch.randn_like(out), out)
    return out.clamp(-1, 1)


def blur(x: Tensor, window: int) -> Tensor:
    """Twice a box filter, a side at a time: near a Gaussian, and quick."""
    pad = window // 2
    for _ in range(2):
        x = F.avg_pool2d(x, (1, window), stride=1, padding=(0, pad), count_include_pad=False)
        x = F.avg_pool2d(x, (window, 1), stride=1, padding=(pad, 0), count_include_pad=False)
    return x


def ink(grey: Tensor) -> Tensor:
    """Dark lines and dark areas on white: a soft threshold of a difference of blurs (XDoG, Winnemoeller 2012)."""
    n = len(grey)
    fine, wide = blur(grey, 3), blur(grey, 9)
    lines = grey + uniform(n, 4, 14) * (fine - wide)
    return torch.tanh(uniform(n, 2, 6) * (lines + uniform(n, 0.0, 0.7))).expand(-1, 3, -1, -1)


def pencil(grey: Tensor) -> Tensor:
    """Grey shading without the low tones: the picture over its own blur (dodge), darkened at edges."""
    n = len(grey)
    light = (grey + 1) / 2
    dodge = light / (blur(light, 9) + 0.05)
    tone = uniform(n, 0.1, 0.7) * light + dodge.clamp(0, 1.2) * uniform(n, 0.5, 0.9)
    return (2 * tone - 1).expand(-1, 3, -1, -1)


def wash(x: Tensor) -> Tensor:
    """Few flat tones, as in watercolour or vector avatars, with or without dark edges."""
    n = len(x)
    levels = uniform(n, 2, 6).round()
    flat = blur(x, 5)
    flat = (flat * levels / 2).round() * 2 / levels
    grey = to_ycc(x)[:, :1]
    edges = (uniform(n, 0, 6) * (blur(grey, 3) - blur(grey, 7))).clamp(-1.5, 0)
    return flat + edges


def recolour(x: Tensor) -> Tensor:
    """Another palette: a gain and an offset a channel, another saturation."""
    n = len(x)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * uniform(n, 0, 1.8)
    return x * (0.6 + 0.8 * torch.rand(n, 3, 1, 1)) + 0.5 * (torch.rand(n, 3, 1, 1) - 0.3)


def paper(x: Tensor) -> Tensor:
    """White or tinted paper around the face, the boundary at a random level of the face map."""
    n, r = len(x), x.shape[-1]
    inside = torch.sigmoid(20 * (face_weights(r).expand(n, 1, r, r) - uniform(n, 0.27, 0.6)))
    tint = 1 - 0.5 * torch.rand(n, 3, 1, 1) * torch.rand(n, 1, 1, 1)
    return x * inside + tint * (1 - inside)
