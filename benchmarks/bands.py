"""`python -m benchmarks.bands PACK... --photos DIR`: which layers are a style's structure, and which its colour.

For each division of the layers: pictures with its structure alone and with its colour alone, and how far their edges,
tones and colours are from the full style's, as a share of what the style changes: 0 all of it is there, 1 none.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import sigan
from benchmarks.packs import draw, faces_of
from sigan import images, packs
from sigan.packs import StylePack

WINDOW = 9  # px: what is finer is an edge, what is coarser a tone


def grey(y: Tensor) -> Tensor:
    return (y * y.new_tensor(images.LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def smooth(y: Tensor) -> Tensor:
    return F.avg_pool2d(y, WINDOW, 1, WINDOW // 2, count_include_pad=False)


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "edges": lambda y: grey(y) - smooth(grey(y)),
    "tones": lambda y: smooth(grey(y)),
    "colours": lambda y: smooth(y - grey(y)),
}


def from_resolution(least: int) -> Callable[[str], bool]:
    """Colour is every layer of that resolution or a higher one."""
    def colours(key: str) -> bool:
        found = re.search(r"\.b(\d+)\.", key)
        return bool(found) and int(found[1]) >= least

    return colours


def divisions() -> dict[str, Callable[[str], bool]]:
    def to_rgb(key: str) -> bool:
        return ".torgb." in key

    above = {f"from {r}² up": from_resolution(r) for r in (32, 64)}
    both = {f"toRGB, and all {name}": lambda key, rule=rule: to_rgb(key) or rule(key) for name, rule in above.items()}
    return {"toRGB (sigan's)": to_rgb, **above, **both, "the canvas' chroma alone": lambda key: False}


def part(pack: StylePack, colours: Callable[[str], bool], structure: float, color: float,
         luma: int) -> dict[str, Tensor]:
    """The deltas with each layer's amount; the canvas' chroma is colour in every division."""
    found = {}
    for key, delta in pack.deltas.items():
        amount = color if colours(key) or ".canvas.chroma." in key else structure
        if key == packs.CANVAS_GAIN:
            amount = torch.cat([torch.full((luma,), structure), torch.full((len(delta) - luma,), color)])
        found[key] = delta * amount
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bands", description=__doc__)
    parser.add_argument("packs", type=Path, nargs="+", metavar="PACK")
    parser.add_argument("--photos", type=Path, default=Path(__file__).parent.parent / "examples" / "portraits")
    parser.add_argument("--count", type=int, default=16, help="photographs")
    arguments = parser.parse_args()
    found = [StylePack.load(path) for path in arguments.packs]
    base = sigan.load_base(found[0].manifest.base)
    ws = faces_of(base, arguments.photos, arguments.count)
    luma = base.generator.config.canvas_luma
    print(f"{len(found)} packs of base {base.name} {base.resolution}², {len(ws)} photographs\n")
    print("| colour is | " + " | ".join(f"{side}: {view}" for side in ("structure alone", "colour alone")
                                        for view in VIEWS) + " |")
    print("|---" * (1 + 2 * len(VIEWS)) + "|")
    ends = [(draw(base, ws, {}, pack), draw(base, ws, pack.deltas, pack)) for pack in found]
    for name, colours in divisions().items():
        cells = []
        for structure, color in ((1.0, 0.0), (0.0, 1.0)):
            drawn = [draw(base, ws, part(pack, colours, structure, color, luma), pack) for pack in found]
            for view in VIEWS.values():
                shares = [float((view(y) - view(full)).abs().mean() / (view(plain) - view(full)).abs().mean())
                          for y, (plain, full) in zip(drawn, ends)]
                cells.append(f"{sum(shares) / len(shares):.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
