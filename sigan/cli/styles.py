"""`sigan styles`: the style packs at hand, and their coming and going."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sigan.cli import options, render
from sigan.errors import PackError

app = typer.Typer()
Style = Annotated[str, typer.Argument(metavar="NAME", help="An installed style, or the path of a pack.")]


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="styles", help="Style packs: list, show, install, remove, verify.")


@app.command("list")
def list_(json: options.Json = False) -> None:
    """Lists the installed styles.

    Where each comes from, and which base it needs.
    """
    from sigan import packs, styles

    rows, broken = [], []
    for entry in styles.installed().values():
        row = {"name": entry.name, "origin": entry.origin, "path": str(entry.path)}
        try:
            m = packs.StylePack.load(entry.path).manifest
            rows.append({**row, "base": m.base, "recipe": m.recipe, "references": m.references, "licence": m.licence,
                         "error": None})
        except PackError as error:
            rows.append({**row, **dict.fromkeys(("base", "recipe", "references", "licence")), "error": error.message})
            broken.append(error)
    problems = styles.problems()
    if json:
        render.data({"styles": rows, "problems": problems})
        return
    columns = ["name", "base", "recipe", "references", "licence", "origin"]
    render.table("styles", columns, [[row[column] for column in columns] for row in rows])
    if not rows:
        render.note("no style is installed: `sigan styles install FILE`, or `sigan train NAME REFS...`")
    for problem in [*broken, *problems]:
        render.note(f"problem: {problem.message}")
        render.note(f"  fix: {problem.hint}")


@app.command()
def show(name: Style, json: options.Json = False) -> None:
    """Shows a style's manifest.

    What it is, which base it belongs to, and how it was made.
    """
    from sigan import packs, styles

    entry = styles.find(name)
    pack = packs.StylePack.load(entry.path)
    facts = {**asdict(pack.manifest), "path": str(entry.path), "origin": entry.origin, "hash": pack.hash,
             "bytes": entry.path.stat().st_size, "tensors": len(pack.deltas),
             "weights": sum(delta.numel() for delta in pack.deltas.values())}
    if json:
        render.data(facts)
        return
    config = facts.pop("config")
    rows = [[key, value] for key, value in facts.items() if value != ""]
    render.table(entry.name, ["fact", "value"], rows + [[f"config.{key}", config[key]] for key in sorted(config)])


@app.command()
def install(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A pack, as `sigan train --out` writes it.")],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Install under this name.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an installed style of that name.")] = False,
    json: options.Json = False,
) -> None:
    """Installs a pack from a file, after checking it. No code runs: a pack is data."""
    from sigan import styles

    entry = styles.install(file, name, force)
    _say(f"installed {entry.name}: sigan stylize --style {entry.name} IN OUT", json, entry)


@app.command()
def remove(name: Annotated[str, typer.Argument(metavar="NAME", help="An installed style.")],
           json: options.Json = False) -> None:
    """Removes a style installed from a file or by training."""
    from sigan import styles

    entry = styles.remove(name)
    _say(f"removed {entry.name}: {entry.path}", json, entry)


@app.command()
def verify(
    names: Annotated[list[str] | None,
                     typer.Argument(metavar="[NAME]...", help="Styles or paths; all when none.")] = None,
    base: options.Base = "",
    json: options.Json = False,
) -> None:
    """Checks packs against their own hash.

    With --base, against that base too.
    """
    from sigan import packs, styles

    entries = [styles.find(name) for name in names] if names else list(styles.installed().values())
    loaded = _load(base) if base else None
    rows, failures = [], []
    for entry in entries:
        try:
            pack = packs.StylePack.load(entry.path)
            if loaded:
                pack.check(loaded)
            rows.append({"name": entry.name, "path": str(entry.path), "status": "ok", "error": None})
        except PackError as error:
            failures.append(error)
            rows.append({"name": entry.name, "path": str(entry.path), "status": "failed", "error": error.message})
    if json:
        render.data({"styles": rows})
    else:
        render.table("verified", ["name", "status", "path"], [[r["name"], r["status"], r["path"]] for r in rows])
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise PackError(f"{failures[0].message}{more}", failures[0].hint)


def _load(base: str):
    from sigan import bases

    return bases.load(base)


def _say(text: str, json: bool, entry: object) -> None:
    if json:
        render.data(entry)
    else:
        render.note(text)
