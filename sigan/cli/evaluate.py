"""`sigan eval`: figures for outputs beside their inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sigan.cli import options


def register(app: typer.Typer) -> None:
    app.command("eval")(evaluate)


def evaluate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of results.")],
    inputs: Annotated[Path, typer.Option("--inputs", metavar="IN", help="The folder of photographs they came from.")],
    metrics: Annotated[str, typer.Option("--metrics", metavar="ssim,identity")] = "ssim,identity",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measures results beside their photographs.

    SSIM is the paper's; identity is the distance of dlib's face descriptors, smaller is nearer.
    """
    from sigan import evaluation
    from sigan.cli import render

    names = tuple(name.strip() for name in metrics.split(",") if name.strip())
    records = list(render.progress(evaluation.evaluate(out, inputs, metrics=names), None, "eval", quiet))
    summary = evaluation.summary(records)
    if not quiet:
        rows = [(Path(record.output).name, *(_figure(record.values.get(name)) for name in names)) for record in records]
        render.table(f"{out} beside {inputs}", ("picture", *names), rows)
        render.table("in all", ("figure", "value"), [(key, _figure(value)) for key, value in summary.items()])
    if json:
        render.data({"pairs": records, "summary": summary})


def _figure(value) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "–" if value is None else str(value)
