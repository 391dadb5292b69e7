"""StyleTrainer: a style from a few references, by Eqs. 1 and 2 of StyleIdentityGAN, or as JoJoGAN does.

Letters: x references [K,3,R,R] in [-1,1], ws codes [K,L,C], y the tuned generator's pictures.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date

import numpy as np
import torch
from torch import Tensor

from sigan import __version__, bases, finetuning, images, inversion, losses, mixing, packs
from sigan.errors import ConfigError, SiganError
from sigan.events import TrainStep
from sigan.runtime import resolve_device

RECIPES = ("sigan", "styleidentity", "jojogan")
STEPS = {"sketch": 150, "cartoon": 500}  # StyleIdentityGAN, section 4
SIGAN_STEPS = 150  # of recipe `sigan`, either kind: by eye, 250 redraw the references better and the people worse
FACES_OF_NOBODY = 64  # codes the people's terms draw from
PEOPLE_A_STEP = 6  # at least; as many as there are references, or a multiple
TRIAL_FACES, TRIAL_SEED = 8, 1000  # faces of nobody that a pack is tried on; those of training have the seed itself
KEPT = ("canvas.luma.weight", "canvas.chroma.weight")  # who a person is; a style moves the mean face, and redraws
GAIN, GAIN_LR = "canvas.gain", 5.0  # of lr: from 1 to 0, which is grey, in a hundred steps
GREY = 0.02  # of `_chroma`: scanned ink has up to 0.005, watercolours 0.09 to 0.19
DECAY_FROM = 0.6  # of the steps; recipe `sigan` then lowers lr to nothing, which takes the ripples out


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A recipe and its values; None means the recipe's own.

    `styleidentity` and `jojogan` are the papers'. `sigan` adds the distribution term, which styles photographs as
    faithful as they come, and a stronger identity term against it (docs/training.md).
    """

    recipe: str = "sigan"
    kind: str = "cartoon"
    steps: int | None = None  # the papers': by kind, 150 for sketches, 500 for cartoons; sigan: 150
    alpha: float | None = None  # 0.5; jojogan replaces the layers whole: 0
    swap_layers: tuple[int, ...] | None = None  # counted on 18 layers
    lambda_feature: float | None = None  # styleidentity 0.001, the paper's best; jojogan 0; sigan 0.2
    lambda_statistics: float | None = None  # sigan 3; the papers' recipes 0
    lr: float = 2e-3  # the authors' code; Adam, betas (0, 0.99)
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise ConfigError(f"recipe is {self.recipe!r}; it must be one of {', '.join(RECIPES)}")
        if self.kind not in STEPS:
            raise ConfigError(f"kind is {self.kind!r}; it must be one of {', '.join(STEPS)}")
        jojogan = self.recipe == "jojogan"
        defaults = {
            "steps": SIGAN_STEPS if self.recipe == "sigan" else STEPS[self.kind],
            "alpha": 0.0 if jojogan else mixing.ALPHA,
            "swap_layers": mixing.JOJOGAN_LAYERS if jojogan else mixing.STYLEIDENTITY_LAYERS,
            "lambda_feature": {"sigan": 0.2, "styleidentity": 1e-3, "jojogan": 0.0}[self.recipe],
            "lambda_statistics": 3.0 if self.recipe == "sigan" else 0.0,
        }
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.steps < 1:
            raise ConfigError(f"steps is {self.steps}; it must be 1 or more")
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"alpha is {self.alpha}; it must be between 0 and 1")
        for name in ("lambda_feature", "lambda_statistics"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ConfigError(f"lr is {self.lr}; it must be more than 0")


@dataclass(frozen=True)
class Trial:
    """A pack tried on faces of the base: uint8 [R,R,3] each, and the distances from the references' statistics."""

    faces: list[np.ndarray]
    portraits: list[np.ndarray]
    before: float
    after: float


class StyleTrainer:
    """Finetunes a copy of the base's synthesis network; the base itself is never touched.

    references: aligned drawings uint8 [R,R,3]. photos: aligned faces that the identity term keeps; without them it
    keeps faces drawn by the base. One photo is the paper's own mode.
    """

    def __init__(self, references: Sequence[np.ndarray], config: TrainConfig | None = None,
                 base: bases.Base | None = None, photos: Sequence[np.ndarray] = ()):
        if not len(references):
            raise ConfigError("no references", "give one picture of the style or more")
        self.config = config or TrainConfig()
        self.device = resolve_device(self.config.device)
        self.base = base or bases.load("mini", self.device)
        self.x = self._to_batch(references)
        with torch.no_grad():
            self.ws = inversion.invert(self.base, self.x, in_domain=True).clone()
            self.inversions = images.from_batch(self.base.generator.synthesis(self.ws))
        self.loss = losses.best(self.base.discriminator, self.device)
        self.layers = mixing.swap_layers(self.base.num_ws, self.config.swap_layers)
        self.generator = copy.deepcopy(self.base.generator)
        self.random = torch.Generator().manual_seed(self.config.seed)
        wanted = self.config.lambda_feature or self.config.lambda_statistics
        self.people = self._people(photos) if wanted else None
        self.done = 0

    @property
    def loss_name(self) -> str:
        return self.loss.name

    def _to_batch(self, pictures: Sequence[np.ndarray]) -> Tensor:
        return images.to_batch([images.resize(p, self.base.resolution) for p in pictures], self.device)

    @torch.no_grad()
    def _people(self, photos: Sequence[np.ndarray]) -> tuple[Tensor, finetuning.Targets]:
        """Codes [P,L,C] of the people that the style must keep, and their pictures."""
        if len(photos):
            x = self._to_batch(photos)
            ws = inversion.invert(self.base, x).clone()
        else:
            ws = self.base.sample(FACES_OF_NOBODY, seed=self.config.seed).clone()
            x = torch.cat([self.base.generator.synthesis(part) for part in ws.split(finetuning.CHUNK)])
        return ws, finetuning.Targets(self.loss, x)

    def steps(self) -> Iterator[TrainStep]:
        """One record a step. Leaving the loop early is fine. SiganError, with the step, when the loss is not finite."""
        config = self.config
        engine = self._finetuner()
        for index in range(self.done, config.steps):
            parts = engine.step(*self._drawn(), lr=self._rate(index))
            total = sum(parts.values())
            if not math.isfinite(total):
                raise SiganError(f"the training diverged at step {index}: the loss is {total}",
                                 f"use a lower --lr than {config.lr}")
            self.done = index + 1
            yield TrainStep(self.done, config.steps, total, parts)

    def _finetuner(self) -> finetuning.Finetuner:
        config = self.config
        engine = finetuning.Finetuner(
            self.generator.synthesis, self.loss, finetuning.Targets(self.loss, self.x),
            self.people[1] if self.people else None, identity=config.lambda_feature,
            statistics=config.lambda_statistics, scale=_scale)
        if config.recipe == "sigan" and _chroma(self.x) < GREY:
            self.generator.synthesis.desaturate()
        return engine

    def _rate(self, index: int) -> float:
        """The learning rate of a step."""
        left = (1 - index / self.config.steps) / (1 - DECAY_FROM)
        return self.config.lr * (min(1.0, left) if self.config.recipe == "sigan" else 1.0)

    def _drawn(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """One step's codes: of the references, of people drawn from all, and which those are."""
        ws, k = self._mixed(), len(self.ws)
        if self.people is None:
            return ws, None, None
        count = k * math.ceil(PEOPLE_A_STEP / k)
        chosen = torch.randint(len(self.people[0]), (count,), generator=self.random)
        return ws, self.people[0][chosen], chosen

    @torch.no_grad()
    def _mixed(self) -> Tensor:
        """The references' codes, a fresh random code mixed into the style layers (Eq. 1).  -> [K,L,C]"""
        z = torch.randn(len(self.ws), self.base.generator.config.z_dim, generator=self.random)
        w = self.base.generator.mapping(z.to(self.device))
        return mixing.mix(self.ws, w, self.layers, self.config.alpha)

    def pack(self, name: str, compact: bool = True, **manifest) -> packs.StylePack:
        """What has been learned so far, as a pack with a preview.

        compact: rounded to what a small file holds (`StylePack.compacted`); otherwise all in fp16. Other keyword
        arguments fill the manifest (author, licence, references_licence, card).
        """
        config = asdict(self.config)
        config.pop("device")
        config["swap_layers"] = list(config["swap_layers"])
        facts = {"licence": self.base.licence, "created": date.today().isoformat(), **manifest}
        return packs.StylePack.from_weights(
            packs.PackManifest(name=name, base=self.base.name, base_hash=self.base.hash,
                               base_resolution=self.base.resolution, recipe=self.config.recipe, config=config,
                               seed=self.config.seed, steps=self.done, references=len(self.x),
                               perceptual=self.loss.name, base_licence=self.base.licence,
                               made_with=f"sigan {__version__}", **facts),
            self.base.generator.state_dict(), self.generator.state_dict(), compact).illustrated(self.base)

    @torch.no_grad()
    def trial(self, pack: packs.StylePack) -> Trial:
        """Faces of nobody, none of them trained on, before and after `pack`, and how near they come to the references.

        The distance is that of the recipe's distribution term, by its own net: 0 would be the references' own values.
        """
        ws = self.base.sample(len(self.x) * math.ceil(TRIAL_FACES / len(self.x)), seed=self.config.seed + TRIAL_SEED)
        spread = losses.distributions(self.loss.features(self.x))
        found: list[tuple[list[np.ndarray], float]] = []
        for strength in (0.0, 1.0):
            with pack.apply(self.base.generator, strength) as generator:
                y = torch.cat([generator.synthesis(part) for part in ws.split(finetuning.CHUNK)])
            distance = losses.distribution_distance(losses.distributions(finetuning.Targets(self.loss, y).taps), spread)
            found.append((images.from_batch(y[:TRIAL_FACES]), float(distance)))
        (faces, before), (portraits, after) = found
        return Trial(faces, portraits, before, after)


def _chroma(x: Tensor) -> float:
    """How colourful pictures [N,3,R,R] in [-1,1] are: their channels' distance from luma, root mean square."""
    luma = torch.tensor(images.LUMA, device=x.device).view(1, 3, 1, 1)
    return float((x - (x * luma).sum(1, keepdim=True)).square().mean().sqrt())


def _scale(name: str) -> float:
    """The learning rate of a parameter, as a share of the step's."""
    return 0.0 if name in KEPT else GAIN_LR if name == GAIN else 1.0
