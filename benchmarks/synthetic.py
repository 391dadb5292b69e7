"""Photographs of nobody: faces that the base draws, each somewhere on a plain ground, as many files as wanted.

The detector finds nearly all of them. They are small (480 x 360), so that tens of thousands of them fit on a disk.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sigan import bases, images

FACES = 16  # drawn; every photograph has one of them at another place, in another light
SIZE = 480, 360
SIDE = 240  # of a face's frame


def photographs(folder: Path, count: int, seed: int = 0) -> None:
    """Writes `count` JPEGs, 1000 to a folder."""
    base = bases.load("mini")
    with torch.no_grad():
        drawn = images.from_batch(base.generator.synthesis(base.sample(FACES, seed)))
    faces = [Image.fromarray(face).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for face in drawn]
    for k in range(count):
        draw = np.random.default_rng((seed, k))
        ground = Image.new("RGB", SIZE, tuple(int(v) for v in draw.integers(40, 200, 3)))
        place = int(draw.integers(0, SIZE[0] - SIDE)), int(draw.integers(0, SIZE[1] - SIDE))
        ground.paste(faces[k % FACES].point(lambda value, by=draw.uniform(0.8, 1.2): min(255, value * by)), place)
        path = folder / f"{k // 1000:03}" / f"{k:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        ground.save(path, quality=90)
