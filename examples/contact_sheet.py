"""Writes one picture of all pairs: `python examples/contact_sheet.py INPUTS OUTPUTS SHEET.png`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from sigan import images

PAIRS_A_ROW = 4


def pairs(inputs: Path, outputs: Path) -> list[np.ndarray]:
    """Input and result of every input that has a result, one after the other, by name."""
    found = []
    for source in sorted(path for path in inputs.rglob("*") if path.suffix.lower() in images.SUFFIXES):
        folder = outputs / source.relative_to(inputs).parent
        results = [path for path in sorted(folder.glob(f"{source.stem}.*")) if path.suffix.lower() in images.SUFFIXES]
        found += [images.read(path) for result in results[:1] for path in (source, result)]
    return found


def main(inputs: str, outputs: str, sheet: str) -> None:
    cells = pairs(Path(inputs), Path(outputs))
    if not cells:
        sys.exit(f"no results of {inputs} in {outputs}")
    width = 2 * PAIRS_A_ROW
    rows = [cells[start:start + width] for start in range(0, len(cells), width)]
    rows[-1] += [None] * (width - len(rows[-1]) if len(rows) > 1 else 0)
    images.write(Path(sheet), images.contact_sheet(rows, cell=192))


if __name__ == "__main__":
    main(*sys.argv[1:])
