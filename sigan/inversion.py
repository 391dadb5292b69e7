"""Aligned faces to w+: the base's encoder, then optimised codes if wanted.

Letters: x faces [N,3,R,R] in [-1,1], ws codes [N,L,C].
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sigan.errors import ConfigError
from sigan.framing import face_mask

if TYPE_CHECKING:
    from sigan.bases import Base

FAITHFUL = 1.0  # encoder strength for portraits: every bit of fidelity
IN_DOMAIN = 0.0  # for style references: a plausible photograph (METHOD: two regimes)
# Tuned on `mini` at 256² by dlib's descriptor, which is in no loss: docs/inversion.md.
REFINE_LR = 0.27  # of the codes' standard deviation a step, at most; Adam, betas (0.9, 0.99)
WARM_UP = 5  # steps; then the rate falls as half a cosine, which lets the last steps settle
PIXELS, FEATURES = 5.0, 0.2  # weights of the squared error, and of the discriminator's features
BACKGROUND = 0.1  # weight of a pixel far from the face, beside 1 on it: hair is not who somebody is
DELTA_PENALTY = 1e-3  # keeps refined codes near the encoder's, so that styles still apply to them
PATIENCE, LEAST_GAIN = 20, 1e-3  # a face that so many steps made no better, by this share, is done
DEVIATION_CODES = 256


def invert(base: Base, x: Tensor, *, in_domain: bool = False, refine: int = 0, seed: int = 0) -> Tensor:
    """The codes of aligned faces x [N,3,R,R].  -> ws [N,L,C]

    in_domain: codes of plausible photographs of drawings. refine: steps of optimisation after the encoder, at most.
    ConfigError on a negative `refine`. `seed` is for inverters of other packages; this one draws nothing.
    """
    if refine < 0:
        raise ConfigError(f"refine is {refine}; it must be 0 or more steps")
    with torch.no_grad():
        ws = base.encoder(x, IN_DOMAIN if in_domain else FAITHFUL)
    return optimise(base, x, ws, refine) if refine else ws


def optimise(base: Base, x: Tensor, start: Tensor, steps: int) -> Tensor:
    """Codes that redraw x better than `start` [N,L,C], by Adam on `Unlikeness`: the best seen of each face.

    Each face's loss, rate and end are its own, so a batch gives what single faces give.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x, start = x.clone(), start.clone()
        unlikeness = Unlikeness(base, x)
        top = REFINE_LR * float(base.sample(DEVIATION_CODES, truncation=1.0)[:, 0].std(0).mean())
        ws = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([ws], lr=top, betas=(0.9, 0.99))
        best, best_loss = start.clone(), torch.full((len(x),), torch.inf, device=x.device)
        mark, since = best_loss.clone(), torch.zeros(len(x), dtype=torch.long, device=x.device)  # of the last real gain
        done = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for step in range(steps + 1):
            loss = unlikeness(base.generator.synthesis(ws)) + DELTA_PENALTY * (ws - start).square().mean((1, 2))
            value = loss.detach()
            gained = value < mark * (1 - LEAST_GAIN)
            mark, since = torch.where(gained, value, mark), torch.where(gained, 0, since + 1)
            better = (value < best_loss) & ~done
            best = torch.where(better[:, None, None], ws.detach(), best)
            best_loss = torch.where(better, value, best_loss)
            done |= since >= PATIENCE
            if step == steps or bool(done.all()):
                break
            optimiser.param_groups[0]["lr"] = top * rate(step, steps)
            optimiser.zero_grad()
            loss.sum().backward()
            optimiser.step()
    return best


def rate(step: int, steps: int) -> float:
    """The share of the highest rate at a step: rising at first, then falling to nothing."""
    return min(1.0, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / steps)) / 2


class Unlikeness:
    """How far pictures are from the faces x: squared error weighed by the face map, and discriminator features.

    Without a discriminator, pixels alone.
    """

    def __init__(self, base: Base, x: Tensor):
        self.x, self.net = x, base.discriminator
        self.map = face_map(x.shape[-1]).to(x.device)
        with torch.no_grad():
            self.taps = self.net.features(x) if self.net else []

    def __call__(self, y: Tensor) -> Tensor:
        """y [N,3,R,R], or one picture for all.  -> [N], differentiable"""
        loss = PIXELS * ((y - self.x).square() * self.map).mean((1, 2, 3))
        if self.net:
            pairs = zip(self.net.features(y), self.taps, strict=True)
            loss = loss + FEATURES * sum((a - b).abs().mean((1, 2, 3)) for a, b in pairs) / len(self.taps)
        return loss


def face_map(side: int) -> Tensor:
    """The weight of each pixel of a framed face, 1 on average: most on the face, a soft edge.  [side,side]"""
    weights = BACKGROUND + (1 - BACKGROUND) * face_mask(side)
    return weights / weights.mean()
