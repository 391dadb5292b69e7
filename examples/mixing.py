"""Writes the strips of docs/style-packs.md, from faces that the base draws: `python examples/mixing.py docs`.

strength.jpg: a row a style, its strength from 0 to 1. blend.jpg: a row a face, from the first style to the second.
bands.jpg: a row a style: the face, its structure alone, its colour alone, both, and both with the face's own colours.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import sigan
from sigan import images
from sigan.stylization import keep_color

STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
CELL = 160  # px, at most
BANDS = ({"structure": 0, "color": 0}, {"structure": 1, "color": 0}, {"structure": 0, "color": 1},
         {"structure": 1, "color": 1}, {"structure": 1, "color": 1, "keep_color": True})


@torch.no_grad()
def draw(stylizer: sigan.Stylizer, ws: torch.Tensor, style: str, **amounts: float | bool) -> np.ndarray:
    """The face of codes ws [1,L,C] in a style, uint8 [R,R,3]; the style is changed in the running stylizer."""
    stylizer.use(style, **{"strength": 1.0, "structure": 1.0, "color": 1.0, "keep_color": False, **amounts})
    y = stylizer.generator.synthesis(ws)
    if stylizer.config.keep_color:
        y = keep_color(y, stylizer.base.generator.synthesis(ws))
    return images.from_batch(y)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--styles", default="watercolor,line,pencil")
    parser.add_argument("--base", default="mini")
    parser.add_argument("--seed", type=int, default=0, help="which faces")
    arguments = parser.parse_args()

    names = arguments.styles.split(",")
    stylizer = sigan.Stylizer(names[0], sigan.StylizeConfig(base=arguments.base))
    faces = stylizer.base.sample(3, seed=arguments.seed).split(1)
    first, second = names[0], names[1 % len(names)]
    sheets = {
        "strength": [[draw(stylizer, faces[0], name, strength=step) for step in STEPS] for name in names],
        "blend": [[draw(stylizer, ws, f"{first}:{1 - step:g}+{second}:{step:g}") for step in STEPS] for ws in faces],
        "bands": [[draw(stylizer, faces[0], name, **band) for band in BANDS] for name in names],
    }
    for name, rows in sheets.items():
        labels = None if name == "blend" else names
        sheet = images.contact_sheet(rows, labels, cell=min(stylizer.resolution, CELL))
        images.write(arguments.folder / f"{name}.jpg", sheet, "jpeg")


if __name__ == "__main__":
    main()
