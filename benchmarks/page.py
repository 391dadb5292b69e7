"""`python -m benchmarks.page`: writes docs/performance.md from benchmarks/results/*.json; a test holds it to that.

`python -m benchmarks --json benchmarks/results/cpu.json` on one machine, `…/gpu.json` on another, then this.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
TARGET = HERE.parent / "docs" / "performance.md"
PARTS = {"cpu": "Without a GPU", "gpu": "With a GPU"}
HEAD = """# Performance

Written by `python -m benchmarks.page` from what `python -m benchmarks --json benchmarks/results/cpu.json` measured:
each command in a fresh process, repeated, the median told. Where a machine does other work too ("load before": how many
processes wanted a core in the minute before), compare processor time; the ratio is that of a command over a process
that only imports and loads the face model.
"""
MISSING = """Not measured yet: no figure on these pages is from a GPU. Where there is one,
`python -m benchmarks --json benchmarks/results/gpu.json` measures it.
"""


def page(results: Path = RESULTS) -> str:
    """The whole page."""
    lines = [HEAD]
    for name, title in PARTS.items():
        path = results / f"{name}.json"
        lines += [f"## {title}\n"]
        lines += [*table(json.loads(path.read_text("utf-8"))), ""] if path.exists() else [MISSING]
    return "\n".join([*lines, "## More measurements\n", "| command | measures |", "|---|---|", *others()]) + "\n"


def table(record: dict) -> list[str]:
    """The machine and the figures of one record, in lines of Markdown."""
    machine = "; ".join(f"{name} {value}" for name, value in record["machine"].items())
    lines = [f"{machine}.\n",
             "| command | median s | processor s | × imports | peak MiB | runs | should stay under |",
             "|---|---|---|---|---|---|---|"]
    for one in record["measurements"]:
        name = f"{one['name']} ({one['note']})" if one["note"] else one["name"]
        ratio = f"{one['ratio']:.2f}" if one["ratio"] is not None else "-"
        lines.append(f"| {name} | {one['seconds']:.2f} | {one['processor']:.2f} | {ratio} | {one['mebibytes']:.0f} | "
                     f"{one['runs']} | {one['target'] or '-'} |")
    return lines


def others() -> Iterator[str]:
    """A row for each benchmark beside the commands': how it is called, and the first line of what it says of itself."""
    for path in sorted(HERE.glob("*.py")):
        told = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]
        if told.startswith("`python -m benchmarks.") and path.name != Path(__file__).name:
            call, _, what = told.removeprefix("`").partition("`: ")
            yield f"| `{call}` | {what.rstrip('.')} |".replace("|N", "\\|N")


def main() -> None:
    TARGET.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
