"""`sigan styles`: the style packs at hand, and their coming and going."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sigan.cli import options, render, session
from sigan.errors import ConfigError, PackError

if TYPE_CHECKING:
    from sigan.bases import Base

app = typer.Typer()
Style = Annotated[str, typer.Argument(metavar="NAME", autocompletion=options.style_names,
                                     help="An installed style, or the path of a pack.")]


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="styles", help="Style packs: list, install, remove, export, gallery.")


@app.command("list")
def list_(json: options.Json = False) -> None:
    """Lists the installed styles.

    Where each comes from, and which base it needs. Only the head of each file is read: `verify` reads all.
    """
    from sigan import manifest, styles

    entries, problems = styles.scan()
    rows: list[dict[str, str | int | None]] = []
    broken: list[PackError] = []
    for entry in entries.values():
        row = {"name": entry.name, "origin": entry.origin, "path": str(entry.path)}
        try:
            m = manifest.read_manifest(entry.path)
            rows.append({**row, "base": m.base, "recipe": m.recipe, "references": m.references, "licence": m.licence,
                         "error": None})
        except PackError as error:
            rows.append({**row, **dict.fromkeys(("base", "recipe", "references", "licence")), "error": error.message})
            broken.append(error)
    if json:
        render.data({"styles": rows, "problems": problems})
        return
    columns = ["name", "base", "recipe", "references", "licence", "origin"]
    render.table("styles", ["name", "base", "recipe", "refs", "licence", "origin"],  # 80 columns hold no longer words
                 [[row[column] for column in columns] for row in rows])
    if not rows:
        render.note("no style is installed: `sigan styles install FILE`, or `sigan train NAME REFS...`")
    for entry in entries.values():
        if entry.name != entry.plain:
            render.note(f"note: '{entry.plain}' is {entries[entry.plain].full_name}; for the other write {entry.name}")
    for message, hint in [(p.message, p.hint) for p in broken] + [(p.message, p.hint) for p in problems]:
        render.note(f"problem: {message}")
        render.note(f"  fix: {hint}")


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
    config, figures = facts.pop("config"), facts.pop("figures")
    rows = [[key, value] for key, value in facts.items() if value != ""]
    rows += [[f"figures.{name}", text] for name, text in session.measured(figures)]
    render.table(entry.name, ["fact", "value"], rows + [[f"config.{key}", config[key]] for key in sorted(config)])


@app.command()
def install(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A pack, a folder of packs, or an address.")],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Install under this name.")] = None,
    sha256: Annotated[str, typer.Option("--sha256", metavar="HEX", help="Of the file at an address.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace an installed style of that name.")] = False,
    json: options.Json = False,
) -> None:
    """Installs packs, after checking them. No code runs: a pack is data.

    An address needs the SHA-256 of its file, as --sha256 or as `#sha256=HEX` at its end. Packs that come as a Python
    package are installed by pip.
    """
    from sigan import styles

    if "://" in source:
        entries = [styles.install_url(source, sha256, name, force)]
    elif sha256:
        raise ConfigError(f"--sha256 is for an address, and {source} is none", "leave it out")
    elif Path(source).is_dir():
        if name:
            raise ConfigError("--name is for one pack, and a folder may hold several", "leave it out")
        entries = styles.install_folder(source, force)
    else:
        entries = [styles.install(source, name, force)]
    for entry in entries:
        _say(f"installed {entry.name}: sigan stylize --style {entry.name} IN OUT", json, entry)
        for other in styles.namesakes(entry):
            render.note(f"note: it is used in place of {other.name}, which stays there under this name")


@app.command()
def remove(name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=options.style_names,
                                                help="An installed style.")],
           json: options.Json = False) -> None:
    """Removes a style installed from a file or by training."""
    from sigan import styles

    entry = styles.remove(name)
    _say(f"removed {entry.name}: {entry.path}", json, entry)
    for other in styles.namesakes(entry):
        render.note(f"note: '{other.name}' is now {other.full_name}")


@app.command()
def verify(
    names: Annotated[list[str] | None,
                     typer.Argument(metavar="[NAME]...", autocompletion=options.style_names,
                                    help="Styles or paths; all when none.")] = None,
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


@app.command()
def export(
    name: Style,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The pack to write.")] = None,
    package: Annotated[
        Path | None, typer.Option("--as-package", metavar="DIR", help="Write a Python package instead.")
    ] = None,
    rename: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Of the package's style.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.")] = False,
    json: options.Json = False,
) -> None:
    """Writes a style as a file, or as a package that pip installs.

    DIR is new or empty; `pip install DIR` installs it, `pip wheel DIR` makes the file to publish.
    """
    from sigan import publishing, styles

    if (file is None) == (package is None):
        raise ConfigError("export needs one destination", "give FILE, or --as-package DIR")
    if rename and not package:
        raise ConfigError("--name is for a package", "a file keeps its name: `sigan styles install FILE --name NAME`")
    entry = styles.find(name)
    if package:
        paths = publishing.write_package(entry.path, package, rename)
        told = f"wrote {package}: pip install {package}"
    elif file:
        paths = [styles.export(entry, file, overwrite)]
        told = f"wrote {file}: sigan styles install {file}"
    _say(told, json, {"name": entry.plain, "files": paths})


@app.command()
def gallery(
    out: Annotated[Path, typer.Argument(metavar="OUT.html", help="The page to write.")],
    json: options.Json = False,
) -> None:
    """Writes one page that shows the installed styles.

    It holds its pictures, and fetches and runs nothing.
    """
    from sigan import gallery as pages
    from sigan import images, styles

    shown = pages.exhibits(styles.installed().values())
    images.atomic_write(out, pages.page(shown).encode())
    broken = [exhibit for exhibit in shown if exhibit.problem]
    for exhibit in broken:
        render.note(f"not shown: {exhibit.problem}")
    _say(f"wrote {out}: {len(shown) - len(broken)} styles", json,
         {"output": out, "styles": [exhibit.entry.name for exhibit in shown if not exhibit.problem],
          "problems": [exhibit.problem for exhibit in broken]})


def _load(base: str) -> Base:
    from sigan import bases

    return bases.load(base)


def _say(text: str, json: bool, entry: object) -> None:
    if json:
        render.data(entry)
    else:
        render.note(text)
