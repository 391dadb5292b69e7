"""Which way dlib's descriptors of women's and men's faces differ: labels by eye, a shrunk linear discriminant.

It makes `sigan/assets/gender.safetensors`, which `sigan.sitters.gender` reads. Letters: x descriptors [N,128].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from sigan import images
from sigan.errors import InputError
from sigan.identity import Identity
from sigan_foundry import data

LABELS = Path(__file__).with_name("gender.txt")
HELD = "validation"  # the set that nothing is fitted to
SIDE = 256  # of the pictures, as the embedded base's
SHRINKAGE = 1.0  # of the mean variance, added to each: 128 numbers, 341 faces. Cross-validated, 0.1 to 3 are alike
FOLDS = 4
SOURCE = ("sigan foundry gender: a linear discriminant of dlib's face descriptors of {count} faces of FFHQ, Labeled "
          "Faces in the Wild, CelebA-HQ and One Million Impressions, labelled by eye")
LICENCE = "CC BY-NC-SA 4.0, research use"


@dataclass(frozen=True, eq=False)
class Direction:
    """A face's value is x @ direction + offset: -1 the mean of the men's faces, 1 that of the women's."""

    direction: np.ndarray
    offset: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x @ self.direction + self.offset

    def write(self, path: Path, count: int) -> None:
        """As a safetensors file: direction float32 [128], offset float32 []; `count` faces made it."""
        tensors = {"direction": self.direction.astype(np.float32), "offset": np.array(self.offset, np.float32)}
        images.atomic_write(path, save(tensors, {"licence": LICENCE, "source": SOURCE.format(count=count)}))


def labels() -> dict[str, bool]:
    """`set/file` of each labelled face, and whether it reads as a woman's."""
    lines = [line.split() for line in LABELS.read_text("utf-8").splitlines() if not line.startswith("#")]
    return {name: label == "f" for name, label in lines}


def describe(sources: Sequence[Path]) -> dict[str, np.ndarray]:
    """The descriptor [128] of each labelled face that the detector finds; sources are tar files or folders.

    InputError when labelled faces are not in them.
    """
    wanted, found, identity = labels(), {}, Identity()
    for source in sources:
        for file, content in data.pictures(source):
            name = f"{source.stem}/{Path(file).name}"
            if wanted.pop(name, None) is None:
                continue
            descriptor = identity.descriptor(data.decode(content, SIDE))
            if descriptor is not None:
                found[name] = descriptor
    if wanted:
        sets = sorted({name.partition("/")[0] for name in wanted})
        raise InputError(f"{len(wanted)} labelled faces are not there: {next(iter(wanted))}",
                         f"name the tar files or folders of {', '.join(sets)}")
    return found


def labelled(faces: dict[str, np.ndarray], held: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Of the faces to fit to, or of those held aside: descriptors [N,128], and whether each is a woman's [N]."""
    known = labels()
    names = [name for name in sorted(faces) if (name.partition("/")[0] == HELD) == held]
    return np.array([faces[name] for name in names]), np.array([known[name] for name in names])


def fit(x: np.ndarray, women: np.ndarray, shrinkage: float = SHRINKAGE) -> Direction:
    """Fisher's discriminant with a shrunk covariance, of descriptors [N,D] and whether each is a woman's [N]."""
    one, other = x[~women].mean(0), x[women].mean(0)
    rest = np.where(women[:, None], x - other, x - one)
    covariance = rest.T @ rest / len(rest)
    covariance += shrinkage * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    direction = np.linalg.solve(covariance, other - one)
    direction *= 2 / (direction @ (other - one))
    return Direction(direction, float(-direction @ (one + other) / 2))


def cross_validated(x: np.ndarray, women: np.ndarray, folds: int = FOLDS) -> np.ndarray:
    """The value of each face [N] by the direction that was fitted without its fold."""
    fold, values = np.arange(len(x)) % folds, np.empty(len(x))
    for k in range(folds):
        values[fold == k] = fit(x[fold != k], women[fold != k])(x[fold == k])
    return values


def agreement(values: np.ndarray, women: np.ndarray, border: float) -> dict[str, float]:
    """How many faces there are, the share on their label's side, how many lie beyond the border, the share of those."""
    right, told = (values > 0) == women, np.abs(values) >= border
    return {"N": len(values), "agree": round(float(right.mean()), 4), "told": int(told.sum()),
            "agree of told": round(float(right[told].mean()), 4) if told.any() else 0.0}
