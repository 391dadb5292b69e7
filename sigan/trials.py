"""Trials: a style tried on faces of nobody that it was not trained on. How near to the references, how far from whom.

Letters: x references [K,3,R,R] in [-1,1], ws the faces' codes [N,L,C], y their pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np
import torch
from torch import Tensor

from sigan import finetuning, images, losses
from sigan.bases import Base
from sigan.complexion import Complexion
from sigan.identity import Identity
from sigan.nets.stylegan2 import Generator

FACES, SEED = 8, 1000  # held aside; those of training have the run's seed itself


@dataclass(frozen=True)
class Trial:
    """What a generator does to the faces. style: 0 would be the references' own statistics.

    identity: median dlib distance of each face to its portrait; None where no face was found. `people` is how many
    that rests on; portraits are uint8 [R,R,3].
    """

    style: float
    identity: float | None
    people: int
    portraits: list[np.ndarray]


class Trials:
    """Faces held aside, and the references' statistics, for one training; the same whenever it is made.

    The style distance is that of the recipe's distribution term, by its own net. A face's landmarks serve for its
    portrait too, so that a drawing is never missed by the detector. complexion: what skins differ by is taken
    off before values are compared, whatever the recipe.
    """

    def __init__(self, base: Base, loss: losses.PerceptualLoss, x: Tensor, complexion: Complexion, seed: int = 0,
                 identity: Identity | None = None):
        self.loss, self.identity = loss, identity or Identity()
        count = len(x) * math.ceil(FACES / len(x))  # sorted values are compared: a multiple of the references
        self.ws = base.sample(count, seed=seed + SEED, truncation=1.0)
        self.spread = finetuning.spread(loss, x)
        y = self._drawn(base.generator)
        self.tones = complexion.tones(y)
        self.faces = images.from_batch(y[:FACES])
        self.before = self._distance(y)

    @torch.no_grad()
    def measure(self, generator: Generator) -> Trial:
        """The generator's pictures of the held-aside faces, measured."""
        y = self._drawn(generator)
        portraits = images.from_batch(y[:FACES])
        now = [(before, self.identity.descriptor(portraits[k], points)) for k, points, before in self.people]
        distances = [self.identity.distance(before, after) for before, after in now if after is not None]
        return Trial(self._distance(y), median(distances) if distances else None, len(distances), portraits)

    @cached_property
    def people(self) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """Number, landmarks [68,2] and descriptor [128] of each held-aside face that dlib finds."""
        found = []
        for k, face in enumerate(self.faces):
            points = self.identity.landmarks(face)
            descriptor = None if points is None else self.identity.descriptor(face, points)
            if points is not None and descriptor is not None:
                found.append((k, points, descriptor))
        return found

    @torch.no_grad()
    def _drawn(self, generator: Generator) -> Tensor:
        return torch.cat(list(finetuning.draw(generator.synthesis, self.ws)))

    @torch.no_grad()
    def _distance(self, y: Tensor) -> float:
        return float(losses.distribution_distance(finetuning.spread(self.loss, y - self.tones), self.spread))
