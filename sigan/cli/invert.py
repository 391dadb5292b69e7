"""`sigan invert`: faces to latent codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sigan.cli import options

if TYPE_CHECKING:
    import numpy as np
    import torch

    from sigan.alignment import AlignedFace
    from sigan.pivotal import Person

    Inverted = tuple[torch.Tensor, np.ndarray | None, Person | None]  # code [L,C], its picture, the tuned generator


def register(app: typer.Typer) -> None:
    app.command("invert")(invert)


def invert(
    source: options.Source,
    out: options.Destination,
    refine: Annotated[int, typer.Option("--refine", metavar="N", min=0, help="Steps of optimising each code.")] = 0,
    inverter: Annotated[str, typer.Option("--inverter", metavar="NAME", help="What finds the codes.")] = "encoder",
    pivotal: Annotated[int, typer.Option("--pivotal", metavar="N", min=0, help="Steps of tuning the generator to each "
                                         "face; writes OUT/<stem>.person.safetensors, too.")] = 0,
    reconstruct: Annotated[bool, typer.Option("--reconstruct", help="Write OUT/<stem>.png, too.")] = False,
    faces: options.Faces = "largest",
    aligned: options.Aligned = False,
    overwrite: options.Overwrite = False,
    fail_fast: options.FailFast = False,
    base: options.Base = "mini",
    device: options.Device = "auto",
    seed: options.Seed = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Turns faces into latent codes.

    OUT/<stem>.safetensors holds `ws` [F,L,C] and names the base they belong to. OUT/<stem>.person.safetensors is a
    pack that draws one person more exactly; blend it with a style: --style watercolor:1+OUT/me.person.safetensors:1,
    with the --refine of its inversion.
    """
    import safetensors.torch
    import torch

    from sigan import alignment, bases, images, plugins, stream
    from sigan.cli import batch
    from sigan.pivotal import SUFFIX, Person, pack_name
    from sigan.runtime import resolve_device
    from sigan.stylization import StylizeConfig

    config = StylizeConfig(faces=faces, base=base, refine=refine, aligned=aligned, seed=seed)
    items = batch.inputs(source, out, faces)
    find_codes = plugins.load_callable("sigan.inverters", inverter)
    model = bases.load(base, device=resolve_device(device))
    prepare = stream.FaceFinder(model.resolution, faces, alignment.DlibAligner(), aligned)

    def compute(found: list[AlignedFace]) -> list[Inverted]:
        if not found:
            return []
        x = images.to_batch([face.image for face in found], model.device)
        ws = find_codes(model, x, refine=refine, seed=config.seed).detach()  # [N,L,C]
        people = [person(*one) if pivotal else None for one in zip(x.split(1), ws.split(1))]
        nets = [one.generator if one else model.generator for one in people]
        with torch.no_grad():
            pictures = [images.from_batch(net.synthesis(code))[0] if reconstruct else None
                        for net, code in zip(nets, ws.split(1))]
        return list(zip(ws.float().cpu(), pictures, people))

    def person(x: torch.Tensor, ws: torch.Tensor) -> Person:
        tuned = Person(model, x, ws)
        for _ in tuned.steps(pivotal):
            pass
        return tuned

    def save(item: stream.Item, results: list[Inverted]) -> list[Path]:
        path = stream.output_path(item, out, ".safetensors")
        metadata = {"base": model.name, "base_hash": model.hash}
        ws = torch.stack([code for code, _, _ in results])
        images.atomic_write(path, safetensors.torch.save({"ws": ws}, metadata))
        written = [path]
        for k, (_, _, tuned) in enumerate(results):
            if tuned:
                written.append(stream.output_path(item, out, SUFFIX, k, len(results)))
                tuned.pack(pack_name(item.relative.stem)).save(written[-1])
        if pictures := [picture for _, picture, _ in results if picture is not None]:
            written += stream.write_faces(item, pictures, out, "png")
        return written

    identity = f"invert {model.hash} {refine} {pivotal} {reconstruct} {faces} {aligned} {seed} {inverter}"
    records = stream.process(items, prepare, compute, save, ledger=stream.Ledger(out), identity=identity,
                             overwrite=overwrite, fail_fast=fail_fast)
    raise typer.Exit(batch.show(records, len(items), "invert", json=json, quiet=quiet))
