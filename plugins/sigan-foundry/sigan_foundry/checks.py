"""Faces that should not be trained on: unreadable, tiny, without colour, or there twice."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from sigan.errors import InputError
from sigan_foundry import data

TINY = 64  # pixels a side: a base of 128 would learn the blur of enlarging
COLOURLESS = 3.0  # mean difference of a pixel's largest and smallest channel, of 255; JPEG leaves grey at about 1
FLAT = 8.0  # standard deviation of brightness; a face has 30 or more
HASH_SIDE = 16  # differences of neighbours in a 17 x 16 picture: 256 bits
NEAR = 12  # bits; two of one picture, saved anew or reduced, differ in a few, two people in a hundred
ROWS = 2048  # compared at once


@dataclass(frozen=True)
class Fault:
    """One face to leave out: its name, with its source's, and why."""

    source: str
    name: str
    reason: str


def check(sources: Iterable[Path]) -> list[Fault]:
    """The faults of tar files, folders or packed files, in order; of two alike faces the later one is refused."""
    faults, known, hashes = [], [], []
    for source in sources:
        for name, picture in _pictures(source):
            if isinstance(picture, str):
                faults.append(Fault(str(source), name, picture))
            elif reason := unfit(picture):
                faults.append(Fault(str(source), name, reason))
            else:
                known.append((str(source), name))
                hashes.append(difference_hash(picture))
    doubles = [Fault(*known[later], f"nearly the same as {known[first][1]}") for later, first in alike(hashes)]
    return faults + doubles


def unfit(picture: np.ndarray) -> str:
    """Why a face uint8 [H,W,3] should not be trained on; "" when it may."""
    if min(picture.shape[:2]) < TINY:
        return f"{picture.shape[1]} x {picture.shape[0]} pixels, less than {TINY}"
    values = picture.astype(np.float32)
    if values.mean(2).std() < FLAT:
        return "one even area"
    if (values.max(2) - values.min(2)).mean() < COLOURLESS:
        return "without colour"
    return ""


def difference_hash(picture: np.ndarray) -> np.ndarray:
    """Whether each place is brighter than its left neighbour, in a small grey copy.  bool [256]"""
    grey = Image.fromarray(picture).convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, np.int16)
    return (values[:, 1:] > values[:, :-1]).flatten()


def alike(hashes: list[np.ndarray]) -> list[tuple[int, int]]:
    """(later, first) of each hash that is within NEAR bits of an earlier one."""
    if not hashes:
        return []
    signs = torch.from_numpy(np.stack(hashes)).float() * 2 - 1
    found = []
    for start in range(0, len(signs), ROWS):
        part = signs[start : start + ROWS]
        bits = (signs.shape[1] - part @ signs[: start + len(part)].t()) / 2
        earlier = torch.arange(bits.shape[1])[None] < torch.arange(start, start + len(part))[:, None]
        near = (bits <= NEAR) & earlier
        for row in near.any(1).nonzero().flatten().tolist():
            found.append((start + row, int(near[row].nonzero()[0])))
    return found


def _pictures(source: Path) -> Iterator[tuple[str, np.ndarray | str]]:
    """Names and pictures; for one that cannot be decoded, why."""
    if source.suffix == ".safetensors":
        try:
            sets = load_file(source)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{source} cannot be read ({error})", "write it with `sigan foundry pack`") from error
        for name, faces in sets.items():
            yield from ((f"{name}[{i}]", face.numpy()) for i, face in enumerate(faces))
        return
    for name, content in data.pictures(source):
        try:
            with Image.open(io.BytesIO(content)) as image:
                yield name, np.asarray(image.convert("RGB"))
        except Exception as error:  # decoders of broken files raise nearly everything
            yield name, f"unreadable ({type(error).__name__})"
