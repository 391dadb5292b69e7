"""`python -m benchmarks.pasting --photos DIR [--style NAME ...] [--group N] [--sheet FILE]`: how well portraits sit.

Seam: the mean slope of the picture across the mask's border (along the mask's own slope, where it is steep), in the
result over in the original: 1 means no more contrast than the photograph has there. Beside paste_back: a square of the
portrait, and a plain blend by the same mask. Place: mean difference, in levels, of a paste of the unchanged crop from
the photograph, inside the mask. Sharpness: variance of the picture's finest octave inside the mask, result over
original. `--group` adds a picture of N photographs side by side, each turned a little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from sigan import SiganError, StylizeConfig, Stylizer, alignment, images, matting, pasting
from sigan.alignment import AlignedFace

Framed = tuple[np.ndarray, list[AlignedFace]]
HEIGHT = 700  # of the photographs in a group
TURNS = (0, 12, -8, 20, -15)  # degrees


def faces_of(folder: Path, size: int, group: int = 0) -> Iterator[Framed]:
    """Each picture of a folder in which faces are found, with them; then a group made of the first of these."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in images.SUFFIXES)
    pictures = [images.read(path) for path in paths]
    for picture in pictures + ([together(pictures[:group])] if group else []):
        try:
            yield picture, alignment.align(picture, size, "all")
        except SiganError as error:
            print(f"left out: {error.message}")


def together(pictures: list[np.ndarray]) -> np.ndarray:
    """The pictures side by side, turned by TURNS, on grey."""
    turned = []
    for k, picture in enumerate(pictures):
        img = Image.fromarray(picture)
        img = img.resize((max(1, img.width * HEIGHT // img.height), HEIGHT), Image.LANCZOS)
        turned.append(img.rotate(TURNS[k % len(TURNS)], Image.BICUBIC, expand=True, fillcolor=(190, 185, 180)))
    canvas = Image.new("RGB", (sum(img.width for img in turned), max(img.height for img in turned)), (190, 185, 180))
    left = 0
    for img in turned:
        canvas.paste(img, (left, canvas.height - img.height))
        left += img.width
    return np.array(canvas)


def mask_of(picture: np.ndarray, faces: list[AlignedFace]) -> np.ndarray:
    """How much of each pixel is replaced, float [H,W]: what a white paste makes of a black picture."""
    black, white = np.zeros_like(picture), [np.full_like(face.image, 255) for face in faces]
    total = np.zeros(picture.shape[:2])
    for face, portrait in zip(faces, white):
        patch = pasting._Patch(face, portrait, [pasting._within(face, f) for f in faces if f is not face])
        patch.constant[:], patch.gain[:] = (255, 0, 0), 0
        layer = black.copy()
        patch.lay(black, layer)
        total = np.maximum(total, layer[..., 0] / 255)
    return total


def square(picture: np.ndarray, faces: list[AlignedFace], portraits: list[np.ndarray]) -> np.ndarray:
    """The portraits as they are, whole squares."""
    result = picture.copy()
    for face, portrait in zip(faces, portraits):
        patch = pasting._Patch(face, portrait, [])
        patch.constant = np.float32(portrait) @ pasting.YCC.T
        patch.gain, patch.mask = np.zeros_like(patch.constant), np.ones_like(patch.mask)
        patch.lay(picture, result)
    return result


def plain(picture: np.ndarray, faces: list[AlignedFace], portraits: list[np.ndarray], mask: np.ndarray) -> np.ndarray:
    """A blend of the enlarged portraits by the mask, colours and detail as they come."""
    return np.rint(picture + mask[..., None] * (square(picture, faces, portraits).astype(float) - picture))


def across(picture: np.ndarray, mask: np.ndarray, softness: float) -> float:
    """The mean slope of the picture's lightness along the mask's, weighed by that; both blurred by `softness`."""
    slopes = np.stack(np.gradient(matting.blur(np.float32(mask), softness)))
    steep = np.sqrt((slopes**2).sum(0))
    light = np.stack(np.gradient(matting.blur(np.float32(picture @ np.array(images.LUMA)), softness)))
    return float(np.abs((slopes * light).sum(0)).sum() / steep.sum())


def finest(picture: np.ndarray, mask: np.ndarray) -> float:
    light = np.float32(picture @ np.array(images.LUMA))
    return float(((light - matting.blur(light, 1.0))[mask > 0.5] ** 2).mean())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pasting", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--style", action="append")
    parser.add_argument("--group", type=int, default=5)
    parser.add_argument("--sheet", type=Path, help="write the pictures into this one")
    arguments = parser.parse_args()

    styles = arguments.style or ["watercolor", "line", "pencil"]
    stylizers = {style: Stylizer(style, StylizeConfig(paste_back=True)) for style in styles}
    size = next(iter(stylizers.values())).resolution
    framed = list(faces_of(arguments.photos, size, arguments.group))
    masks = [mask_of(*one) for one in framed]
    place = [np.abs(pasting.paste(picture, faces, [f.image for f in faces]).astype(float) - picture)[mask > 0.5].mean()
             for (picture, faces), mask in zip(framed, masks)]
    sides = [face.side for _, faces in framed for face in faces]
    print(f"{len(framed)} pictures, {len(sides)} faces, frames of {min(sides):.0f} to {max(sides):.0f} px, portraits "
          f"of {size} px\nplace: {statistics.median(place):.2f} levels (median), {max(place):.2f} at most\n")
    print("| style | seam, paste_back | seam, plain blend | seam, square | sharpness | sharpness, plain | s a face |\n"
          "|---|---|---|---|---|---|---|")
    rows = [[picture for picture, _ in framed]]
    for style, stylizer in stylizers.items():
        found, cost, rows = [], [], [*rows, []]
        for (picture, faces), mask in zip(framed, masks):
            portraits = stylizer.arrays(faces)
            started = time.process_time()
            result = pasting.paste(picture, faces, portraits)
            cost.append((time.process_time() - started) / len(faces))
            rows[-1].append(result)
            blend, whole = plain(picture, faces, portraits, mask), square(picture, faces, portraits)
            soft = faces[0].side / 128
            edges = mask_of_squares(picture, faces)
            found.append([across(result, mask, soft) / across(picture, mask, soft),
                          across(blend, mask, soft) / across(picture, mask, soft),
                          across(whole, edges, soft) / across(picture, edges, soft),
                          finest(result, mask) / finest(picture, mask), finest(blend, mask) / finest(picture, mask)])
        middle = np.median(found, 0)
        print(f"| {style} | " + " | ".join(f"{value:.2f}" for value in middle) + f" | {statistics.median(cost):.2f} |")
    if arguments.sheet:
        images.write(arguments.sheet, images.contact_sheet(list(zip(*rows)), cell=420))


def mask_of_squares(picture: np.ndarray, faces: list[AlignedFace]) -> np.ndarray:
    black = np.zeros_like(picture)
    return square(black, faces, [np.full_like(face.image, 255) for face in faces])[..., 0] / 255


if __name__ == "__main__":
    main()
