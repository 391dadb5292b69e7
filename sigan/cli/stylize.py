"""`sigan stylize`: photographs to portraits in a style."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from sigan.cli import options

if TYPE_CHECKING:
    from sigan import stream
    from sigan.events import ItemDone


def register(app: typer.Typer) -> None:
    app.command("stylize")(stylize)


def stylize(
    source: options.Source,
    out: options.Destination,
    style: options.Style,
    person: Annotated[str, typer.Option("--person", metavar="NAME", help="Whose likeness is sharpened: made by "
                                        "sigan train --person, or its file.")] = "",
    strength: Annotated[float, typer.Option("--strength", metavar="0..1", help="How much of the style.")] = 1.0,
    structure: Annotated[float, typer.Option("--structure", metavar="0..1", help="How much of its drawing.")] = 1.0,
    color: Annotated[float, typer.Option("--color", metavar="0..1", help="How much of its colours.")] = 1.0,
    keep_color: Annotated[bool, typer.Option("--keep-color", help="Keep the photograph's colours.")] = False,
    refine: Annotated[int, typer.Option("--refine", metavar="N", help="Steps of optimising each inversion.")] = 0,
    faces: Annotated[str, typer.Option("--faces", metavar="largest|all", show_default="largest; with --paste-back all",
                                       help="Which faces of a picture to take.")] = "",
    aligned: options.Aligned = False,
    no_face: options.NoFace = "fail",
    paste_back: Annotated[bool, typer.Option("--paste-back", help="The picture with the portraits in it.")] = False,
    format: Annotated[str, typer.Option("--format", metavar="png|jpeg|webp", help="Of the pictures written.")] = "png",
    engine: Annotated[str, typer.Option("--engine", metavar="NAME", help="What runs the batch.")] = "local",
    address: Annotated[str, typer.Option("--address", metavar="HOST:PORT|auto", help="Of the engine's cluster.")] = "",
    engine_option: Annotated[
        list[str], typer.Option("--engine-option", metavar="NAME=VALUE", help="A setting of the engine; repeatable.")
    ] = [],  # noqa: B006 - typer copies it
    batch_size: options.BatchSize = 8,
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=0, show_default="processors less one",
                                         help="How many look for faces at once.")] = 0,
    shard: Annotated[str, typer.Option("--shard", metavar="I/N", help="Only part I of N: each input is in one.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Go on with what comes in, until Ctrl-C.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Look again where no face was found, too; other failures always are.")
    ] = False,
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
    from sigan import plugins, sources, stream, styles
    from sigan.cli import batch, render
    from sigan.stylization import StylizeConfig, Stylizer

    config = StylizeConfig(base=base, strength=strength, structure=structure, color=color, keep_color=keep_color,
                           refine=refine, faces=faces, aligned=aligned, no_face=no_face, paste_back=paste_back,
                           batch_size=batch_size, device=device, dtype=dtype, seed=seed, format=format)
    run: Callable[..., Iterable[ItemDone]] = plugins.load_callable("sigan.engines", engine)
    part = sources.Shard.parse(shard) if shard else sources.Shard(1, 1)
    how = {**batch.engine_options(run, engine, address, engine_option),
           **batch.taken(run, engine, retry_failed=retry_failed, workers=workers)}
    named = "largest" if paste_back else config.faces  # one input may write several files, or one
    items = [] if watch and not dry_run else part.of(getattr(run, "inputs", batch.inputs)(source, out, named))
    stylizer = Stylizer(batch.dressed(style, person, quiet) if person else style, config)
    for line in styles.ambiguities(style):
        render.note(f"note: {line}", quiet)
    if dry_run:
        plan = stream.plan(items, stream.Ledger(out), stylizer.identity, overwrite=overwrite, retry_failed=retry_failed)
        raise typer.Exit(batch.show_plan(plan, out, stream.SUFFIX[format], json=json, quiet=quiet))

    def records(some: list[stream.Item]) -> Iterable[ItemDone]:
        return run(stylizer, some, out, overwrite=overwrite, fail_fast=fail_fast, **how)

    shown: Iterable[ItemDone]
    if watch:
        render.note(f"watching {source}; Ctrl-C ends it", quiet)
        shown, total = batch.watched(source, out, named, lambda found: records(part.of(found)), fail_fast), None
    else:
        shown, total = records(items), len(items)
    raise typer.Exit(batch.show(shown, total, "stylize", json=json, quiet=quiet))
