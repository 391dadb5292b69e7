"""Writes the strip of the README: each row a face, its inversion, then one picture for each style.

`python examples/strip.py SHEET.jpg PICTURES... [--styles watercolor,line,pencil] [--nasa]`; `--nasa` adds the
public-domain portrait of Eileen Collins that scikit-image carries (`pip install scikit-image`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import sigan
from sigan import images


def faces(paths: list[str], nasa: bool, size: int) -> list[sigan.AlignedFace]:
    pictures: list[str | np.ndarray] = list(paths)
    if nasa:
        from skimage import data

        pictures.append(data.astronaut())
    return [sigan.align(picture, size=size)[0] for picture in pictures]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sheet", type=Path)
    parser.add_argument("pictures", nargs="*")
    parser.add_argument("--styles", default="watercolor,line,pencil")
    parser.add_argument("--nasa", action="store_true")
    arguments = parser.parse_args()

    base = sigan.load_base("mini")
    found = faces(arguments.pictures, arguments.nasa, base.resolution)
    ws = sigan.invert(base, images.to_batch([face.image for face in found]))
    inversions = images.from_batch(base.generator.synthesis(ws, noise="const"))
    columns = [[face.image for face in found], inversions]
    for style in arguments.styles.split(","):
        stylizer = sigan.Stylizer(style)
        columns.append([np.asarray(stylizer.stylize(face)) for face in found])
    sheet = images.contact_sheet([list(row) for row in zip(*columns)], cell=base.resolution)
    images.write(arguments.sheet, sheet, "jpeg")


if __name__ == "__main__":
    main()
