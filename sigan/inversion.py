"""Aligned faces to w+: the base's encoder, then optimised codes if wanted.

Letters: x faces [N,3,R,R] in [-1,1], ws codes [N,L,C].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sigan.errors import ConfigError
from sigan.losses import DiscriminatorFeatures

if TYPE_CHECKING:
    from sigan.bases import Base

FAITHFUL = 1.0  # encoder strength for portraits: every bit of fidelity
IN_DOMAIN = 0.0  # for style references: a plausible photograph (METHOD: two regimes)
REFINE_LR = 0.02
DELTA_PENALTY = 1e-3  # keeps refined codes near the encoder's, so that styles still apply to them


def invert(base: Base, x: Tensor, *, in_domain: bool = False, refine: int = 0, seed: int = 0) -> Tensor:
    """The codes of aligned faces x [N,3,R,R].  -> ws [N,L,C]

    in_domain: codes of plausible photographs of drawings. refine: steps of optimisation after the encoder.
    ConfigError on a negative `refine`. `seed` is kept for inverters that draw; this one does not.
    """
    if refine < 0:
        raise ConfigError(f"refine is {refine}; it must be 0 or more steps")
    with torch.no_grad():
        ws = base.encoder(x, IN_DOMAIN if in_domain else FAITHFUL)
    return optimise(base, x, ws, refine) if refine else ws


def optimise(base: Base, x: Tensor, start: Tensor, steps: int) -> Tensor:
    """Codes that redraw x better than `start` [N,L,C]: Adam on L1 and discriminator features; the best seen of each.

    Each face's loss is its own, so a batch gives what single faces give.
    """
    loss_net = DiscriminatorFeatures(base.discriminator)
    with torch.inference_mode(False), torch.enable_grad():
        x, start = x.clone(), start.clone()
        targets = [t.detach() for t in loss_net.features(x)]
        ws = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([ws], lr=REFINE_LR)
        best, best_loss = start.clone(), torch.full((len(x),), torch.inf, device=x.device)
        for step in range(steps + 1):
            y = base.generator.synthesis(ws)
            loss = (y - x).abs().mean((1, 2, 3)) + loss_net.distance(loss_net.features(y), targets)
            better = loss.detach() < best_loss
            best = torch.where(better[:, None, None], ws.detach(), best)
            best_loss = torch.where(better, loss.detach(), best_loss)
            if step == steps:
                break
            optimiser.zero_grad()
            (loss + DELTA_PENALTY * (ws - start).square().mean((1, 2))).sum().backward()
            optimiser.step()
    return best
