"""Sheets of pictures: what a person looks at beside the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sigan import images

COLUMNS = 14


def write(rows: Sequence[Tensor], path: Path) -> None:
    """Rows of pictures [N,3,R,R] in [-1,1] as one PNG, whole or not at all."""
    write_arrays([images.from_batch(row) for row in rows], path)


def write_arrays(rows: Sequence[Sequence[np.ndarray]], path: Path) -> None:
    """Rows of uint8 [R,R,3], a short row filled up with white."""
    side, columns = rows[0][0].shape[0], max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * side, len(rows) * side), images.WHITE)
    for j, row in enumerate(rows):
        for i, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture), (i * side, j * side))
    images.write(path, np.asarray(sheet))


def in_rows(pictures: Sequence[np.ndarray], rows: int) -> list[Sequence[np.ndarray]]:
    """The first pictures in so many rows of COLUMNS; fewer rows where there are not enough."""
    return [pictures[i : i + COLUMNS] for i in range(0, min(len(pictures), rows * COLUMNS), COLUMNS)]


@torch.no_grad()
def interpolations(base) -> list[Tensor]:
    """Three pairs of drawn faces, and the way between them."""
    ws = base.sample(6, seed=3)
    share = torch.linspace(0, 1, COLUMNS, device=ws.device).view(-1, 1, 1)
    return [base.generator.synthesis(a.lerp(b, share)) for a, b in ws.view(3, 2, *ws.shape[1:])]
