"""`sigan bases`: the face models at hand, and faces drawn by them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sigan.cli import options, render
from sigan.errors import ConfigError, SiganError

if TYPE_CHECKING:
    from sigan.bases import Base

app = typer.Typer()
BATCH = 8  # faces drawn together: bounds the memory, and changes no picture
Name = Annotated[str, typer.Argument(metavar="NAME", help="A face model.")]


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="bases", help="Face models: list, show, sample.")


@app.command("list")
def list_(json: options.Json = False) -> None:
    """Lists the face models, their sizes and licences."""
    from sigan import bases

    rows, broken = [], []
    for name in bases.names():
        try:
            rows.append({**_facts(bases.load(name)), "error": None})
        except SiganError as error:
            broken.append(error)
            rows.append({"name": name, "error": error.message})
    if json:
        render.data({"bases": rows})
        return
    columns = ["name", "resolution", "num_ws", "w_dim", "licence"]
    render.table("bases", columns, [[row.get(column) for column in columns] for row in rows])
    for error in broken:
        render.note(f"problem: {error.message}")
        render.note(f"  fix: {error.hint}")


@app.command()
def show(name: Name = "mini", json: options.Json = False) -> None:
    """Shows a face model's facts.

    Its sizes, networks and licence, and the hash that style packs name.
    """
    from sigan import bases

    facts = _facts(bases.load(name))
    if json:
        render.data(facts)
    else:
        render.table(name, ["fact", "value"], list(facts.items()))


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


def _draw(base: Base, out: Path, count: int, seed: int, truncation: float):
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


def _facts(base: Base) -> dict:
    networks = {part: getattr(base, part, None) for part in ("generator", "discriminator", "encoder")}
    return {"name": base.name, "resolution": base.resolution, "num_ws": base.num_ws, "w_dim": base.w_dim,
            "licence": base.licence, "hash": base.hash,
            **{f"{part}_parameters": sum(p.numel() for p in network.parameters()) if network is not None else None
               for part, network in networks.items()}}
