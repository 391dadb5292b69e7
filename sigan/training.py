"""StyleTrainer: a style from a few references, by Eqs. 1 and 2 of StyleIdentityGAN, or as JoJoGAN does.

Letters: x references [K,3,R,R] in [-1,1], ws codes [K,L,C], y the tuned generator's pictures.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sigan import __version__, bases, features, finetuning, images, inversion, losses, mixing, packs
from sigan.complexion import Complexion
from sigan.errors import ConfigError, SiganError
from sigan.events import Measured, TrainStep
from sigan.identity import Identity
from sigan.runtime import resolve_device
from sigan.tradeoff import Curve
from sigan.trials import Trials

RECIPES = ("sigan", "styleidentity", "jojogan")
STEPS = {"sketch": 150, "cartoon": 500}  # StyleIdentityGAN, section 4
SIGAN_STEPS = 150  # of recipe `sigan`, either kind: by eye, 250 redraw the references better and the people worse
FACES_OF_NOBODY = 64  # codes the people's terms draw from, untruncated: as unlike each other as photographs
PEOPLE_A_STEP = 6  # or as many as there are; for the distribution term a multiple of the references
KEPT = ("canvas.luma.weight", "canvas.chroma.weight")  # who a person is; a style moves the mean face, and redraws
GAIN, GAIN_LR = "canvas.gain", 5.0  # of lr: from 1 to 0, which is grey, in a hundred steps
GREY = 0.02  # of `_chroma`: scanned ink has up to 0.005, watercolours 0.09 to 0.19
MEASURE = 15  # steps between two measurements, which cost about as much as two steps
WILD = 20.0  # times the first step's loss: a training that gets there does not come back
PERCEPTUAL = ("auto", "lpips", "discriminator", "squeezenet")
RANDOM_CODES = ("one", "layers")
_OWN: Any = None  # a value that the recipe decides
DECAY_FROM = 0.6  # of the steps; recipe `sigan` then lowers lr to nothing, which takes the ripples out


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A recipe and its values; None means the recipe's own.

    `styleidentity` and `jojogan` are the papers'. `sigan` adds the distribution term, which styles photographs as
    faithful as they come, and a stronger identity term against it (docs/training.md).
    """

    recipe: str = "sigan"
    kind: str = "cartoon"
    steps: int = _OWN  # the papers': by kind, 150 for sketches, 500 for cartoons; sigan: 150
    alpha: float = _OWN  # 0.5; jojogan replaces the layers whole: 0
    swap_layers: tuple[int, ...] = _OWN  # counted on 18 layers
    lambda_feature: float = _OWN  # styleidentity 0.001, the paper's best; jojogan 0; sigan 0.8
    lambda_statistics: float = _OWN  # sigan 3; the papers' recipes 0
    skin_tone: float = _OWN  # sigan 1.3, the papers' 0: share of theirs that people keep; other terms take some
    identity_every: int = _OWN  # steps, sigan 2, the papers' recipes 1; the term weighs as many times as much
    train_from: int = _OWN  # pixels, sigan 16, the papers' recipes 4: coarser layers and the canvas stay as they are
    lr: float = 2e-3  # the authors' code; Adam, betas (0, 0.99)
    perceptual: str = "auto"  # LPIPS, the paper's, where it is installed; JoJoGAN's last version has discriminator taps
    random_codes: str = "one"  # w_rand of Eq. 1: one code for all layers, as in the authors' code, or one for each
    measure: int = _OWN  # steps between measurements on held-aside faces, 0 none; sigan 15, the papers' 0
    id_floor: float | None = None  # dlib distance that held-aside faces may not pass
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
            "lambda_feature": {"sigan": 0.8, "styleidentity": 1e-3, "jojogan": 0.0}[self.recipe],
            "lambda_statistics": 3.0 if self.recipe == "sigan" else 0.0,
            "skin_tone": 1.3 if self.recipe == "sigan" else 0.0,
            "train_from": 16 if self.recipe == "sigan" else 4,
            "identity_every": 2 if self.recipe == "sigan" else 1,
            "measure": MEASURE if self.recipe == "sigan" or self.id_floor is not None else 0,
        }
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.steps < 1:
            raise ConfigError(f"steps is {self.steps}; it must be 1 or more")
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"alpha is {self.alpha}; it must be between 0 and 1")
        for name in ("lambda_feature", "lambda_statistics", "skin_tone"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ConfigError(f"lr is {self.lr}; it must be more than 0")
        kind, _, file = self.perceptual.partition(":")
        if kind not in PERCEPTUAL or (file and kind != "squeezenet"):
            raise ConfigError(f"perceptual is {self.perceptual!r}; it must be one of {', '.join(PERCEPTUAL)}, or "
                              "squeezenet:FILE")
        if self.random_codes not in RANDOM_CODES:
            raise ConfigError(f"random_codes is {self.random_codes!r}; it must be one of {', '.join(RANDOM_CODES)}")
        for name in ("identity_every", "train_from"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.measure < 0:
            raise ConfigError(f"measure is {self.measure}; it must be 0 or more steps")
        if self.id_floor is not None and not (0 < self.id_floor < math.inf and self.measure):
            raise ConfigError(f"id_floor is {self.id_floor}, measured every {self.measure} steps; both must be more "
                              "than 0", "0.6 is dlib's own border between two people")

    @property
    def stops(self) -> bool:
        """Whether the training stops by itself and keeps the best point: the papers' recipes go on to their end."""
        return bool(self.measure) and (self.recipe == "sigan" or self.id_floor is not None)


class StyleTrainer:
    """Finetunes a copy of the base's synthesis network; the base itself is never touched.

    references: aligned drawings uint8 [R,R,3]. photos: aligned faces that the identity term keeps; without them it
    keeps faces drawn by the base. One photo is the paper's own mode.
    """

    def __init__(self, references: Sequence[np.ndarray], config: TrainConfig | None = None,
                 base: bases.Base | None = None, photos: Sequence[np.ndarray] = (), identity: Identity | None = None):
        if not len(references):
            raise ConfigError("no references", "give one picture of the style or more")
        self.config = config or TrainConfig()
        self.device = resolve_device(self.config.device)
        self.base = base or bases.load("mini", self.device)
        if self.config.train_from > self.base.resolution:
            what = (f"train_from is {self.config.train_from}, and the finest layers of '{self.base.name}' draw "
                    f"{self.base.resolution} pixels: nothing is trained")
            raise ConfigError(what, "give 16, or 4 for all layers")
        self.x = self._to_batch(references)
        with torch.no_grad():
            self.ws = inversion.invert(self.base, self.x, in_domain=True).clone()
            drawn = torch.cat(list(finetuning.draw(self.base.generator.synthesis, self.ws)))
            self.inversions = images.from_batch(drawn)
        self.complexion = Complexion(drawn, grey=_chroma(self.x) < GREY)
        self.loss = self._loss()
        self.layers = mixing.swap_layers(self.base.num_ws, self.config.swap_layers)
        self.generator = copy.deepcopy(self.base.generator)
        self.random = torch.Generator().manual_seed(self.config.seed)
        wanted = self.config.lambda_feature or self.config.lambda_statistics
        self.people = self._people(photos) if wanted else None
        self.tones = self._tones()
        self.curve = Curve(0.0, self.config.id_floor, choosing=self.config.stops)
        self._identity = identity
        self.done, self.end, self.stopped = 0, self.config.steps, ""
        self.portraits: list[np.ndarray] = []  # of the held-aside faces, as last measured
        self._engine: finetuning.Finetuner | None = None
        self._first = 0.0  # the first step's loss
        self._kept: tuple[int, dict[str, Tensor]] | None = None  # step and weights of the best point

    def _loss(self) -> losses.PerceptualLoss:
        kind, _, file = self.config.perceptual.partition(":")
        if kind == "lpips":
            return losses.LpipsVgg(self.device)
        if kind == "squeezenet":
            net = features.squeezenet(file, self.device)
            return losses.SqueezeNetDistance(net.activations, net.name)
        if kind == "discriminator":
            return losses.DiscriminatorFeatures(self.base.discriminator)
        return losses.best(self.base.discriminator, self.device)

    @property
    def loss_name(self) -> str:
        return self.loss.name

    @cached_property
    def trials(self) -> Trials:
        """The faces held aside, by which the training is measured."""
        return Trials(self.base, self.loss, self.x, self.complexion, self.config.seed, self._identity)

    def _to_batch(self, pictures: Sequence[np.ndarray]) -> Tensor:
        return images.to_batch([images.resize(p, self.base.resolution) for p in pictures], self.device)

    @torch.no_grad()
    def _people(self, photos: Sequence[np.ndarray]) -> tuple[Tensor, finetuning.Targets]:
        """Codes [P,L,C] of the people that the style must keep, and their pictures."""
        x: Tensor | Iterator[Tensor]
        if len(photos):
            x = self._to_batch(photos)
            ws = inversion.invert(self.base, x).clone()
        else:
            ws = self.base.sample(FACES_OF_NOBODY, seed=self.config.seed, truncation=1.0).clone()
            x = finetuning.draw(self.base.generator.synthesis, ws)
        return ws, finetuning.Targets(self.loss, x, len(ws))

    def _tones(self) -> Tensor | None:
        """Of the people's skins [P,3,r,r], as the distribution term takes them off; None where it takes off nothing."""
        share = self.config.skin_tone if self.config.lambda_statistics else 0.0
        return self.complexion.tones(self.people[1].taps[0].float(), share) if self.people and share else None

    def steps(self) -> Iterator[TrainStep]:
        """One record a step, to the end or until it stops by itself (`stopped` says why). Leaving early is fine.

        SiganError, with the step, when the loss is not finite or far beyond the first: `settle` then gives the best.
        """
        engine = self._finetuner()
        while self.done < self.end:
            parts = engine.step(*self._drawn(), lr=self._rate(self.done))
            total = sum(parts.values())
            self._first = self._first or total
            if not math.isfinite(total) or total > WILD * self._first:
                raise SiganError(f"the training diverged at step {self.done}: the loss is {total:g}",
                                 f"use a lower --lr than {self.config.lr:g}")
            self.done += 1
            due = self.config.measure and (self.done % self.config.measure == 0 or self.done == self.end)
            yield TrainStep(self.done, self.end, total, parts, self._measured() if due else None)

    def _finetuner(self) -> finetuning.Finetuner:
        if self._engine is None:
            config = self.config
            self._engine = finetuning.Finetuner(
                self.generator.synthesis, self.loss, finetuning.Targets(self.loss, self.x),
                self.people[1] if self.people else None, identity=config.lambda_feature * config.identity_every,
                statistics=config.lambda_statistics, scale=self._scale)
            if config.recipe == "sigan" and self.complexion.grey:
                self.generator.synthesis.desaturate()
        return self._engine

    def _scale(self, name: str) -> float:
        """The learning rate of a parameter, as a share of the step's."""
        block, start = re.match(r"b(\d+)\.", name), self.config.train_from
        if name in KEPT or (int(block[1]) < start if block else start > 4):
            return 0.0
        return GAIN_LR if name == GAIN else 1.0

    def _rate(self, index: int) -> float:
        """The learning rate of a step."""
        left = (1 - index / self.end) / (1 - DECAY_FROM)
        return self.config.lr * (min(1.0, left) if self.config.recipe == "sigan" else 1.0)

    def _measured(self) -> Measured:
        """The point of the curve here. Its weights are kept when it is the best; nothing more to gain ends the run."""
        trial = self.trials.measure(self.generator)
        self.portraits, self.curve.before = trial.portraits, self.trials.before
        point = Measured(self.done, trial.style, trial.identity, trial.people)
        self.curve.add(point)
        if self.curve.best() is point:
            state = self.generator.synthesis.state_dict()
            self._kept = self.done, {key: value.detach().clone() for key, value in state.items()}
        if self.config.stops and not self.stopped and (reason := self.curve.finished()):
            self.stopped = reason
            lands = self.config.recipe == "sigan" and self.curve.allowed(point)  # the rate falls to nothing first
            self.end = min(self.end, math.ceil(self.done / DECAY_FROM)) if lands else self.done
        return point

    def settle(self) -> int:
        """Goes back to the best point measured, and gives its step; without measurements to the last step.

        SiganError when no point keeps people as near to themselves as `id_floor` asks.
        """
        if self.curve.points and self._kept is None:
            nearest = min(point.identity for point in self.curve.points if point.identity is not None)
            raise SiganError(f"no point keeps people within the dlib distance {self.config.id_floor:g}; the nearest: "
                             f"{nearest:.3f}", "allow more with --id-floor, or measure more often with --measure")
        if self._kept:  # as many steps may have been done, and one more that went wild
            self.done, weights = self._kept
            self.end = self.done
            self.generator.synthesis.load_state_dict(weights)
        return self.done

    # ---- going on after a kill

    @property
    def key(self) -> str:
        """A hash of all that decides the result: references, people, base, loss and configuration."""
        facts = [__version__, _plain(self.config), self.config.perceptual, self.base.hash, self.loss.name]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for tensor in (self.x, self.ws, self.people[0] if self.people else self.x[:0]):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def state(self) -> dict[str, Any]:
        """All that the steps to come depend on, as `states.write` takes it."""
        kept = self._kept and [self._kept[0], None if self._kept[0] == self.done else self._kept[1]]
        return {"done": self.done, "end": self.end, "stopped": self.stopped, "first": self._first, "kept": kept,
                "curve": self.curve.state(), "random": self.random.get_state(),
                "engine": self._finetuner().state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on where a trainer of the same `key` was: every step to come is bit for bit what it would have been."""
        self._finetuner().load_state_dict(state["engine"])
        self.random.set_state(state["random"])
        self.done, self.end, self.stopped, self._first = (state[k] for k in ("done", "end", "stopped", "first"))
        self.curve.load_state(state["curve"])
        self.curve.before = self.trials.before if self.curve.points else 0.0
        weights = self.generator.synthesis.state_dict()
        self._kept = state["kept"] and (state["kept"][0], state["kept"][1] or
                                        {key: value.detach().clone() for key, value in weights.items()})

    def _drawn(self) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """One step's codes: of the references, of people drawn from all; which those are, and their skins' tones."""
        ws, k = self._mixed(), len(self.ws)
        if self.people is None:
            return ws, None, None, None
        count = min(PEOPLE_A_STEP, len(self.people[0]))
        if self.config.lambda_statistics:
            count = k * math.ceil(count / k)
        chosen = torch.randint(len(self.people[0]), (count,), generator=self.random)
        tones = None if self.tones is None else self.tones[chosen]
        return ws, self.people[0][chosen], None if self.done % self.config.identity_every else chosen, tones

    @torch.no_grad()
    def _mixed(self) -> Tensor:
        """The references' codes, a fresh random code mixed into the style layers (Eq. 1).  -> [K,L,C]"""
        each = len(self.ws[0]) if self.config.random_codes == "layers" else 1
        z = torch.randn(each * len(self.ws), self.base.generator.config.z_dim, generator=self.random)
        w = self.base.generator.mapping(z.to(self.device)).unflatten(0, (-1, each)).expand_as(self.ws)
        return mixing.mix(self.ws, w, self.layers, self.config.alpha)

    def pack(self, name: str, compact: bool = True, **manifest: Any) -> packs.StylePack:
        """What has been learned so far, as a pack with a preview.

        compact: rounded to what a small file holds (`StylePack.compacted`); otherwise all in fp16. Other keyword
        arguments fill the manifest (author, licence, references_licence, card).
        """
        facts = {"licence": self.base.licence, "created": date.today().isoformat(), **manifest}
        return packs.StylePack.from_weights(
            packs.PackManifest(name=name, base=self.base.name, base_hash=self.base.hash,
                               base_resolution=self.base.resolution, recipe=self.config.recipe,
                               config=_plain(self.config), seed=self.config.seed, steps=self.done,
                               references=len(self.x), perceptual=self.loss.name, base_licence=self.base.licence,
                               made_with=f"sigan {__version__}", **facts),
            self.base.generator.state_dict(), self.generator.state_dict(), compact).illustrated(self.base)

    def figures(self, pack: packs.StylePack) -> dict[str, dict[str, Any]]:
        """What the pack does to the held-aside faces, and how the training came there: for its manifest."""
        trials = self.trials  # made before the base wears the pack
        with pack.apply(self.base.generator) as generator:
            trial = trials.measure(generator)
        found = {"style": {"value": round(trial.style, 4), "before": round(self.trials.before, 4),
                           "faces": len(trial.portraits),
                           "by": f"distribution distance to the references, {self.loss.name}"}}
        if trial.identity is not None:
            found["identity"] = {"value": round(trial.identity, 4), "faces": trial.people,
                                 "by": "dlib distance before and after, median over faces of the base"}
        return {**found, "curve": self.curve.as_figure()} if self.curve.points else found


def _plain(config: TrainConfig) -> dict[str, Any]:
    """A configuration for JSON, without where it was computed and where its files lay."""
    plain = {key: list(value) if isinstance(value, tuple) else value
             for key, value in asdict(config).items() if key != "device"}
    return {**plain, "perceptual": config.perceptual.partition(":")[0]}


def _chroma(x: Tensor) -> float:
    """How colourful pictures [N,3,R,R] in [-1,1] are: their channels' distance from luma, root mean square."""
    return float((x - images.luma(x)).square().mean().sqrt())
