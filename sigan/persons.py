"""Persons: one person's likeness, sharpened on top of a style, as a small pack that blends with it.

Letters: x the photograph [1,3,R,R] in [-1,1], ws its code [1,L,C], y its portrait.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sigan import __version__, images, inversion, losses, pivotal, runtime
from sigan.bases import Base
from sigan.errors import ConfigError
from sigan.framing import face_mask
from sigan.packs import PackManifest, StylePack, blend
from sigan.pivotal import LR, SUFFIX, PivotalStep, tune
from sigan.styles import NAME

RECIPE = "person"
STEPS = 20
LIKENESS, STYLE = 1.0, 3.0  # weights of the two terms
SIDES, WINDOW = (128, 64), 9  # px of the luma that is compared, so that strokes stay free, and of a part of it
LEAST_VARIANCE = 1e-3  # of a window that has something to compare


class PersonTrainer:
    """A copy of the base's generator, dressed in `style`, becoming one person's portraitist.

    Likeness is the local correlation of luma between photograph and portrait on the face: edges move to where the
    person has them, whatever the tones of the style. What holds the style: the values of the portrait's pixels and of
    their differences stay distributed, in each part of the frame, as they were. ConfigError when x is not one face.
    """

    def __init__(self, base: Base, style: StylePack, x: Tensor):
        if x.ndim != 4 or len(x) != 1:
            raise ConfigError(f"x is {list(x.shape)}; a person is one face [1,3,R,R]", "give one photograph")
        style.check(base)
        self.base, self.style, self.x = base, style, x.detach().clone().to(base.device)
        self.mask = face_mask(x.shape[-1]).to(base.device)
        self.generator = copy.deepcopy(base.generator)
        style.dress(self.generator)
        self.dressed = {key: value.detach().clone() for key, value in self.generator.state_dict().items()}
        with torch.no_grad():
            self.ws = inversion.invert(base, self.x).clone()
            self.before = self.generator.synthesis(self.ws)
            self.spread = losses.distributions(_values(self.before))
        self.done = 0

    def steps(self, count: int = STEPS) -> Iterator[PivotalStep]:
        """One record a step. SiganError, with the step, when it diverges; ConfigError for no steps."""
        if count < 1:
            raise ConfigError(f"steps is {count}; it must be 1 or more")
        for loss in tune(self.generator.synthesis, self._objective, count, "take fewer steps"):
            self.done += 1
            yield PivotalStep(self.done, loss)

    def _objective(self) -> Tensor:
        y = self.generator.synthesis(self.ws)
        held = losses.distribution_distance(losses.distributions(_values(y)), self.spread)
        return LIKENESS * unlikeness(y, self.x, self.mask) + STYLE * held

    @torch.no_grad()
    def portraits(self) -> tuple[Tensor, Tensor]:
        """The person in the style, before and after.  -> [1,3,R,R] each"""
        return self.before, self.generator.synthesis(self.ws)

    def pack(self, name: str) -> StylePack:
        """What was learned, for `wear`: the difference to the style's weights."""
        style = self.style.manifest
        licence = "; ".join(dict.fromkeys([style.licence, self.base.licence]))
        manifest = PackManifest(
            name=name, base=self.base.name, base_hash=self.base.hash, base_resolution=self.base.resolution,
            recipe=RECIPE, config={"style": style.name, "style_hash": self.style.hash, "lr": LR}, seed=0,
            steps=self.done, references=1, licence=licence, base_licence=self.base.licence,
            created=date.today().isoformat(), made_with=f"sigan {__version__}",
            card="One person's face: share it only if they agree.")
        return StylePack.from_weights(manifest, self.dressed, self.generator.state_dict())


def unlikeness(y: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """1 - the local correlation of two pictures' luma, mean over the face and two resolutions: 0 alike.  -> []"""
    found = []
    for side in SIDES:
        factor = max(1, x.shape[-1] // side)
        a, b = (F.avg_pool2d(images.luma(v), factor) for v in (y, x))
        seen = F.avg_pool2d(mask[None, None], factor)
        mean_a, mean_b = _local(a), _local(b)
        var_a, var_b = _local(a * a) - mean_a**2, _local(b * b) - mean_b**2
        scale = ((var_a.clamp_min(0) + LEAST_VARIANCE) * (var_b.clamp_min(0) + LEAST_VARIANCE)).sqrt()
        correlation = (_local(a * b) - mean_a * mean_b) / scale
        found.append(((1 - correlation) * seen).sum() / seen.sum())
    return torch.stack(found).mean()


def _local(v: Tensor) -> Tensor:
    return F.avg_pool2d(v, WINDOW, 1, WINDOW // 2, count_include_pad=False)


def _values(y: Tensor) -> list[Tensor]:
    """Colours, and the differences of neighbours: paper, washes and strokes."""
    across, down = F.pad(y[..., 1:] - y[..., :-1], (0, 1)), F.pad(y[..., 1:, :] - y[..., :-1, :], (0, 0, 0, 1))
    return [y, torch.cat([across, down], 1)]


# ---- kept and worn

def home() -> Path:
    """Where persons lie: apart from the styles, since they are no style."""
    return runtime.home() / "persons"


def path(name: str) -> Path:
    """Where the person of that name lies. ConfigError when it can be none."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"'{name}' cannot name a person", "use letters, digits, '.', '_' and '-'")
    return home() / f"{name}{SUFFIX}"


def find(name_or_path: str) -> StylePack:
    """The person of that name, or in that file, which may be of `sigan invert --pivotal`, too.

    ConfigError when there is none, PackError when the file is none.
    """
    given = Path(name_or_path)
    file = given if given.is_file() else path(name_or_path) if NAME.fullmatch(name_or_path) else None
    if file is None or not file.is_file():
        known = sorted(found.name.removesuffix(SUFFIX) for found in home().glob(f"*{SUFFIX}"))
        hint = f"there are: {', '.join(known)}" if known else "make one: sigan train --person PHOTO --style NAME"
        raise ConfigError(f"no person called '{name_or_path}', and no file", hint)
    pack = StylePack.load(file)
    if pack.manifest.recipe not in (RECIPE, pivotal.RECIPE):
        raise ConfigError(f"{file} is no person: its recipe is '{pack.manifest.recipe}'", "--style takes styles")
    return pack


def wear(style: StylePack, person: StylePack) -> StylePack:
    """One pack: the style, with the person's likeness on top of it. PackError when they belong to different bases."""
    return blend([style, person], [1.0, 1.0])


def notes(style: StylePack, person: StylePack) -> list[str]:
    """What is to be said of a person on a style: one that was made on another style helps less."""
    made = person.manifest.config
    if made.get("style_hash", style.hash) == style.hash:
        return []
    return [f"'{person.manifest.name}' was sharpened on '{made.get('style')}', not on '{style.manifest.name}': make "
            "one for it, too"]
