"""`sigan eval`: figures for results beside their photographs."""

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
    aligned: options.Aligned = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measures results beside their photographs.

    SSIM is the paper's; identity is the distance of dlib's face descriptors, smaller is nearer.
    """
    from sigan import evaluation
    from sigan.cli import render
    from sigan.errors import InputError

    names = tuple(name.strip() for name in metrics.split(",") if name.strip())
    run = evaluation.evaluate(out, inputs, names, aligned=aligned)
    records = list(render.progress(run, None, "eval", quiet))
    summary = evaluation.summary(records)
    failures = [record.error for record in records if record.error]
    for failure in failures:
        render.error(failure.message, failure.hint)
    if json:
        render.data({"pairs": records, "summary": summary})
    elif not quiet:
        rows = [(Path(record.output).name, *(_figure(record.values.get(name)) for name in names),
                 "" if record.found else "face not found: landmarks of the photograph")
                for record in records if record.values]
        render.table(f"{out} beside {inputs}", ("picture", *names, ""), rows)
        render.table("together", ("figure", "value"), [(key, _figure(value)) for key, value in summary.items()])
    raise typer.Exit(InputError.exit_code if failures else 0)


def _figure(value: float | int | None) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "-" if value is None else str(value)
