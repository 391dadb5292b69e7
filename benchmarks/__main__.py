"""`python -m benchmarks [--photos DIR] [--references DIR] [--json FILE]`: the commands as users run them."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path

from benchmarks import page, run

ROOT = Path(__file__).resolve().parent.parent


def pictures(folder: Path, count: int) -> list[Path]:
    """`count` pictures of a folder, by name, repeated from the start when it holds fewer."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    if not found:
        raise SystemExit(f"no pictures in {folder}")
    return list(islice(cycle(found), count))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=run.__doc__)
    parser.add_argument("--photos", type=Path, default=ROOT / "examples" / "portraits")
    parser.add_argument("--count", type=int, default=20, help="photographs to stylize")
    parser.add_argument("--style", default="watercolor")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--references", type=Path, help="also train on up to 7 pictures of this folder")
    parser.add_argument("--steps", type=int, help="steps of that training; the recipe's own when left out")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()

    machine = run.machine()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        imports = run.measure_imports(arguments.runs, home)
        found = [run.measure_help(arguments.runs, home), imports]
        for count in dict.fromkeys((1, arguments.count)):
            photos = pictures(arguments.photos, count)
            found += run.measure_stylize(photos, arguments.style, arguments.runs, home, imports)
        if arguments.references:
            held = len({path for path in pictures(arguments.references, 7)})
            found.append(run.measure_train(pictures(arguments.references, held), arguments.steps, home, imports))

    record = {"machine": machine, "measurements": [asdict(one) for one in found]}
    print("\n".join(page.table(record)))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
