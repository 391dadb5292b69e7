"""A generator tuned to one person (pivotal tuning, arXiv 2106.05744), kept as a pack: it blends with styles.

Letters: x one face [1,3,R,R] in [-1,1], ws its code [1,L,C], the pivot.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sigan import __version__
from sigan.errors import ConfigError, SiganError
from sigan.inversion import Unlikeness, rate
from sigan.packs import PackManifest, StylePack

if TYPE_CHECKING:
    from sigan.bases import Base

RECIPE = "pivotal"
SUFFIX = ".person.safetensors"
LR = 2e-3  # at most; weights of equalised layers are of unit variance, and styles are trained at this rate, too
TUNED = ("conv0.weight", "conv0.bias", "conv1.weight", "conv1.bias", "torgb.weight", "torgb.bias", "from_canvas.weight",
         "from_canvas.bias")  # how features become pictures; what a code means, and the canvas, stay everybody's


@dataclass(frozen=True)
class PivotalStep:
    """One step: its number from 1, and the loss before it."""

    index: int
    loss: float


class Person:
    """The base's generator becoming one person's; the base itself is never touched.

    ConfigError when x and ws are not of one face.
    """

    def __init__(self, base: Base, x: Tensor, ws: Tensor):
        if len(x) != 1 or len(ws) != 1:
            raise ConfigError(f"{len(x)} faces and {len(ws)} codes; a generator is tuned to one", "one face at a time")
        self.base, self.ws = base, ws.detach().clone()
        self.unlikeness = Unlikeness(base, x.detach().clone())
        self.generator = copy.deepcopy(base.generator)
        self.done = 0

    def steps(self, count: int) -> Iterator[PivotalStep]:
        """The code is held: one record a step. SiganError, with the step, when it diverges."""
        synthesis = self.generator.synthesis
        for loss in tune(synthesis, lambda: self.unlikeness(synthesis(self.ws)).sum(), count, "tune fewer steps"):
            self.done += 1
            yield PivotalStep(self.done, loss)

    def pack(self, name: str) -> StylePack:
        """The difference from the base, in fp16: alone it draws the person, blended with a style (1 and 1) both."""
        manifest = PackManifest(
            name=name, base=self.base.name, base_hash=self.base.hash, base_resolution=self.base.resolution,
            recipe=RECIPE, config={"lr": LR}, seed=0, steps=self.done, references=1, licence=self.base.licence,
            base_licence=self.base.licence, created=date.today().isoformat(), made_with=f"sigan {__version__}",
            card="One person's face: share it only if they agree.")
        return StylePack.from_weights(manifest, self.base.generator.state_dict(), self.generator.state_dict(),
                                      compact=False)


def tune(synthesis: nn.Module, objective: Callable[[], Tensor], count: int, remedy: str) -> Iterator[float]:
    """Adam on a network's TUNED weights, its rate as in refinement: what `objective` gave before each step.

    SiganError, with the step and the `remedy`, when it diverges.
    """
    tuned = [weight.requires_grad_(True) for key, weight in synthesis.named_parameters() if key.endswith(TUNED)]
    optimiser = torch.optim.Adam(tuned, lr=LR, betas=(0.0, 0.99))
    for index in range(count):
        with torch.enable_grad():
            loss = objective()
        if not torch.isfinite(loss):
            raise SiganError(f"tuning to the person diverged at step {index}: the loss is {loss.item()}", remedy)
        optimiser.param_groups[0]["lr"] = LR * rate(index, count)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield float(loss.detach())


def pack_name(stem: str) -> str:
    """A name that a pack may have, from a picture's."""
    return "person-" + re.sub(r"[^\w.-]", "-", stem, flags=re.ASCII)[:100]
