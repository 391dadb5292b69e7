"""`sigan bases`: the face models at hand, getting more of them, and faces drawn by them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigan.cli import options, render
from sigan.errors import ConfigError, SiganError, WeightsError

if TYPE_CHECKING:
    from sigan.bases import Base

app = typer.Typer()
BATCH = 8  # faces drawn together: bounds the memory, and changes no picture
Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=options.base_names, help="A face model.")]


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="bases", help="Face models: list, pull, import, verify, sample.")


@app.command("list")
def list_(json: options.Json = False) -> None:
    """Lists the face models, what can be pulled, and the other weights; no network is loaded."""
    from sigan import bases, weights

    rows: list[dict[str, Any]] = []
    broken: list[SiganError] = []
    for name in bases.names():
        try:
            rows.append({**asdict(bases.facts(name)), "error": None})
        except SiganError as error:
            broken.append(error)
            rows.append({"name": name, "error": error.message})
    there = {row["name"] for row in rows}
    offers = [{"name": name, "bytes": sum(files[0].about for files in weights.files_of(name)),
               "licence": weights.terms([files[0].licence for files in weights.files_of(name)])}
              for name in weights.PULLED if name not in there]
    others: list[dict[str, Any]] = [
        {"name": entry.name, "here": weights.has(entry.name), "bytes": entry.about, "purpose": entry.purpose,
         "licence": entry.licence} for entry in weights.CATALOGUE.values() if not weights.is_part(entry)]
    if json:
        render.data({"bases": rows, "offered": offers, "weights": others})
        return
    columns = ["name", "resolution", "num_ws", "w_dim", "encoder", "licence"]
    render.table("bases", columns, [[row.get(column) for column in columns] for row in rows])
    more = [{**offer, "here": False, "purpose": "face model"} for offer in offers] + others
    render.table("more", ["name", "here", "MB", "for", "licence"],
                 [[one["name"], "yes" if one["here"] else "-", round(one["bytes"] / 1e6), one["purpose"],
                   one["licence"]] for one in more])
    if missing := [one["name"] for one in more if not one["here"]]:
        render.note(f"what is not here: sigan bases pull {missing[0]}, and so on; nothing is downloaded unasked")
    for problem in broken:
        render.note(f"problem: {problem.message}")
        render.note(f"  fix: {problem.hint}")


@app.command()
def show(name: Name = "mini", json: options.Json = False) -> None:
    """Shows a face model's facts.

    Its sizes, networks, sources and licence, and the hash that style packs name.
    """
    from sigan import bases, intake

    facts = bases.facts(name)
    if json:
        render.data(facts)
        return
    rows = [(key, value) for key, value in asdict(facts).items() if key not in ("values", "sources")]
    rows += [(f"{net}, values", f"{count:,}") for net, count in facts.values.items()]
    rows += [("made from", f"{source['file']} ({source['kind']}, sha256 {source['sha256'][:12]}…)")
             for source in facts.sources]
    render.table(name, ["fact", "value"], rows)
    for note in intake.lacks(list(facts.values)):
        render.note(note)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="ffhq, or one of the other weights in `list`.")],
    yes: Annotated[bool, typer.Option("--yes", help="Accept the licences; needed where nobody can be asked.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the downloads of a face model, too.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Downloads a face model, or other weights, after showing their licences.

    A broken download is taken up where it stopped. SIGAN_MIRROR=URL replaces the hosts.
    """
    from sigan import downloads, intake, weights

    files = weights.files_of(name)
    if not downloads.offline() and not intake.here(name):
        _agree(name, files, yes)
    *_, made = render.transfers(intake.pull(name, keep), quiet)
    _tell([made], json, quiet)


def _agree(name: str, files: list[Any], yes: bool) -> None:
    """Shows the licences of what is about to be downloaded, and asks; ConfigError without a yes."""
    for first, *others in files:
        render.note(f"{first.file}, about {first.about / 1e6:.0f} MB: {first.purpose}")
        render.note(f"  licence: {first.licence}")
        render.note(f"  source: {' or '.join(entry.source for entry in (first, *others))}")
    if yes:
        return
    if not (sys.stdin.isatty() and render.interactive()):
        raise ConfigError(f"'{name}' is not downloaded: its licences have not been accepted",
                          "read them above, then run it again with --yes")
    if not typer.confirm("Do you accept these licences?", err=True):
        raise ConfigError(f"'{name}' is not downloaded", "nothing was changed")


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Weights fetched by hand, of any program.")],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="What to call the face model.")] = None,
    licence: Annotated[str, typer.Option("--licence", metavar="TEXT", help="Its licence, where it is another.")] = "",
    style: Annotated[str, typer.Option("--as-style", metavar="NAME", help="Install a JoJoGAN checkpoint so.")] = "",
    base: Annotated[str, typer.Option("--base", metavar="NAME", help="The face model it was tuned from.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what has that name.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Takes in weights fetched by hand, recognised by their content.

    Checkpoints of rosinality, NVIDIA and e4e become a face model, together or one after the other; JoJoGAN's styles
    become packs, saved codes are kept, and the other weights of `list` go where they belong. Nothing in them is run.
    """
    from sigan import intake

    _tell(intake.import_files(files, name, licence=licence, style=style, base=base, overwrite=overwrite), json, quiet)


def _tell(made: list[Any], json: bool, quiet: bool) -> None:
    if json:
        render.data({"imported": made})
        return
    for item in made:
        nets = f" ({', '.join(item.parts)})" if item.parts else ""
        render.note(f"{item.kind} {item.name}{nets}: {item.path}", quiet)
        if item.licence:
            render.note(f"  licence: {item.licence}", quiet)
        for note in item.notes:
            render.note(f"  {note}", quiet)


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A face model or other weights.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Reads every byte of a face model, or of all weights here, and compares the hashes with those on record."""
    from sigan import bases, weights

    names = [name] if name else [*bases.names(), *(entry for entry in weights.CATALOGUE if weights.has(entry))]
    rows: list[dict[str, Any]] = []
    for one in names:
        try:
            digests = {one: weights.verify(one)} if one in weights.CATALOGUE else bases.verify(one)
            rows.append({"name": one, "ok": True, "sha256": digests, "error": None})
        except WeightsError as error:
            rows.append({"name": one, "ok": False, "sha256": {}, "error": error.message})
            render.error(error.message, error.hint)
    if json:
        render.data({"verified": rows})
    elif not quiet:
        render.table("verified", ["name", "", "sha256"], [
            [row["name"], "ok" if row["ok"] else "corrupt",
             ", ".join(f"{part} {digest[:12]}…" for part, digest in row["sha256"].items())] for row in rows])
    if not all(row["ok"] for row in rows):
        raise typer.Exit(WeightsError.exit_code)


@app.command()
def remove(name: Name, json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Deletes an imported or pulled face model, or other weights."""
    from sigan import bases, weights

    path = weights.remove(name) if name in weights.CATALOGUE else bases.remove(name)
    render.note(f"removed {path}", quiet)
    if json:
        render.data({"removed": path})


@app.command()
def sample(
    name: Name,
    out: options.Destination,
    count: Annotated[int, typer.Option("-n", "--count", metavar="N", help="How many faces.")] = 8,
    truncation: Annotated[float, typer.Option("--truncation", metavar="0..1",
                                              help="0 draws the mean face, 1 the whole variety.")] = 0.7,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draws faces of nobody: OUT/face-0000.png and on."""
    if count < 1:
        raise ConfigError(f"-n is {count}; it must be 1 or more")
    if not 0 <= truncation <= 1:
        raise ConfigError(f"truncation is {truncation}; it must be within 0..1", "try --truncation 0.7")
    from sigan import bases, runtime

    base = bases.load(name, runtime.resolve_device(device))
    paths = list(render.progress(_draw(base, out, count, seed, truncation), count, "faces", quiet))
    if json:
        render.data({"base": base.name, "seed": seed, "truncation": truncation, "outputs": paths})
    else:
        render.note(f"{count} faces in {out}", quiet)


def _draw(base: Base, out: Path, count: int, seed: int, truncation: float) -> Iterator[Path]:
    import torch

    from sigan import images

    ws = base.sample(count, seed=seed, truncation=truncation)  # [N,L,C]
    for start in range(0, count, BATCH):
        with torch.inference_mode():
            y = base.generator.synthesis(ws[start:start + BATCH])  # [N,3,R,R] in [-1,1]
        for index, image in enumerate(images.from_batch(y), start):
            path = out / f"face-{index:04d}.png"
            images.write(path, image)
            yield path
