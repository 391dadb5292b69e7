"""`sigan stylize`: photographs to portraits in a style."""

from __future__ import annotations

from typing import Annotated

import typer

from sigan.cli import options


def register(app: typer.Typer) -> None:
    app.command("stylize")(stylize)


def stylize(
    source: options.Source,
    out: options.Destination,
    style: options.Style,
    strength: Annotated[float, typer.Option("--strength", metavar="0..1", help="How much of the style.")] = 1.0,
    structure: Annotated[float, typer.Option("--structure", metavar="0..1", help="How much of its drawing.")] = 1.0,
    color: Annotated[float, typer.Option("--color", metavar="0..1", help="How much of its colours.")] = 1.0,
    keep_color: Annotated[bool, typer.Option("--keep-color", help="Keep the photograph's colours.")] = False,
    refine: Annotated[int, typer.Option("--refine", metavar="N", help="Steps of optimising each inversion.")] = 0,
    faces: options.Faces = "largest",
    aligned: options.Aligned = False,
    format: Annotated[str, typer.Option("--format", metavar="png|jpeg|webp", help="Of the pictures written.")] = "png",
    engine: Annotated[str, typer.Option("--engine", metavar="NAME", help="What runs the batch.")] = "local",
    batch_size: options.BatchSize = 8,
    overwrite: options.Overwrite = False,
    fail_fast: options.FailFast = False,
    base: options.Base = "mini",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    seed: options.Seed = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Turns photographs into portraits in a style.

    A second run does only what is new or changed.
    """
    from sigan import plugins, styles
    from sigan.cli import batch, render
    from sigan.stylization import StylizeConfig, Stylizer

    config = StylizeConfig(base=base, strength=strength, structure=structure, color=color, keep_color=keep_color,
                           refine=refine, faces=faces, aligned=aligned, batch_size=batch_size, device=device,
                           dtype=dtype, seed=seed, format=format)
    items = batch.inputs(source, out, faces)
    run = plugins.load("sigan.engines", engine)
    stylizer = Stylizer(style, config)
    for line in styles.ambiguities(style):
        render.note(f"note: {line}", quiet)
    records = run(stylizer, items, out, overwrite=overwrite, fail_fast=fail_fast)
    raise typer.Exit(batch.show(records, len(items), "stylize", json=json, quiet=quiet))
