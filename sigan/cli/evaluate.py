"""`sigan eval`: figures for results beside their photographs and a style's references, of one method or of several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigan.cli import options

if TYPE_CHECKING:
    from sigan.evaluation import Evaluation
    from sigan.figures import Figure

ENOUGH = 64  # pictures; below it a second process costs more time to start than it saves


def register(app: typer.Typer) -> None:
    app.command("eval")(evaluate)


def evaluate(
    out: Annotated[list[Path], typer.Argument(metavar="OUT", help="The folder of results; several are compared.")],
    inputs: Annotated[Path | None, typer.Option("--inputs", metavar="IN",
                                                help="The folder of photographs they came from.")] = None,
    references: Annotated[Path | None, typer.Option("--references", metavar="REFS",
                                                    help="The folder of the style's references.")] = None,
    metrics: Annotated[str, typer.Option(
        "--metrics", metavar="NAME,...", help="ssim, ssim-color, lpips, lpips-alex, identity, inversion, landmarks "
        "(with --inputs); fid, kid, color, lines, copy (with --references); auto: what needs no download.")] = "auto",
    features: Annotated[str, typer.Option(
        "--features", metavar="NAME", help="What fid and kid see by: inception, squeezenet, dlib, encoder, "
        "discriminator, or squeezenet:FILE.")] = "inception",
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE.html",
                                                help="Also write a page with everything on it.")] = None,
    compare: Annotated[list[Path] | None, typer.Option("--compare", metavar="DIR",
                                                       help="Another method's results, on the same table.")] = None,
    align: Annotated[bool, typer.Option("--align", help="Find and frame the faces of results and references.")] = False,
    aligned: options.Aligned = False,
    base: options.Base = "mini",
    device: options.Device = "auto",
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="Processes; 0: as many as cores, for 64 "
                                         "pictures or more on a CPU.")] = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measures results: style, likeness and faults, with intervals.

    They are compared with their photographs, a style's references, or both. Every figure is told with the number of
    pictures it rests on and a 95 % interval. docs/evaluation.md explains them.
    """
    from sigan import evaluation
    from sigan.cli import render
    from sigan.metrics import Tools

    workers = workers or _workers(out[0], device)
    config = evaluation.EvalConfig(metrics=tuple(name.strip() for name in metrics.split(",") if name.strip()),
                                   features=features, aligned=aligned, align=align, base=base, device=device,
                                   workers=workers)
    tools = Tools(features=features, base=base, device=device)
    folders = list(dict.fromkeys([out[0], *(compare or ()), *out[1:]]))
    runs = [(name, evaluation.Evaluation(folder, inputs, references, config, tools))
            for name, folder in zip(_names(folders), folders)]
    if report:
        _check_report(report)
    for name, run in runs:
        for record in render.progress(run, len(run), f"eval {name}", quiet):
            if record.error:
                render.error(record.error.message, record.error.hint)
    if report:
        from sigan import report as page

        page.write(report, runs, {"results": ", ".join(map(str, folders)), "inputs": inputs or "–",
                                  "references": references or "–", "metrics": metrics, "features": features,
                                  "align": align, "aligned": aligned, "base": base})
        render.note(f"report: {report}", quiet)
    if json:
        told = [_as_json(name, run) for name, run in runs]
        render.data(told[0] if len(told) == 1 else {"methods": told})
    elif not quiet:
        _show(runs)
    raise typer.Exit(_exit_code([run for _, run in runs]))


def _workers(folder: Path, device: str) -> int:
    """One where a GPU does the work or there is little of it; else as many as cores."""
    import os

    from sigan import runtime, stream

    if runtime.resolve_device(device).type != "cpu" or len(stream.find_inputs(folder)) < ENOUGH:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _names(folders: list[Path]) -> list[str]:
    """A name for each folder: its own, or its path where two have one name."""
    names = [folder.resolve().name for folder in folders]
    return [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders)]


def _check_report(path: Path) -> None:
    from sigan.destinations import check_output
    from sigan.errors import OutputError

    if path.is_dir() or path.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{path}: a report is an HTML file", "name a file that ends in .html")
    check_output(path.parent)


def _as_json(name: str, run: Evaluation) -> dict[str, Any]:
    from sigan import evaluation

    return {"name": name, "pairs": run.records, "figures": run.figures(), "warnings": run.warnings(),
            "summary": evaluation.summary(run.records)}


def _show(runs: list[tuple[str, Evaluation]]) -> None:
    from sigan.cli import render

    figures = {name: run.figures() for name, run in runs}
    if len(runs) == 1:
        (name, run), = runs
        names = [figure.metric for figure in figures[name]]
        render.table(run.outputs, ("picture", *names, ""),
                     [(Path(record.output).name, *(_number(record.values.get(name)) for name in names),
                       "" if record.found else "no face found") for record in run.records if record.values])
        render.table("together", ("metric", "value", "95 %", "N", "by"),
                     [(f.metric, _number(f.value), _interval(f), _counts(f), _by(f)) for f in figures[name]])
    else:
        metrics = [figure.metric for figure in figures[runs[0][0]]]
        render.table("compared: value, 95 % interval, N", ("method", *metrics),
                     [(name, *(f"{_number(f.value)} {_interval(f)} {f.n}" for f in figures[name])) for name, _ in runs])
        render.table("taken by", ("metric", "by"), [(f.metric, _by(f)) for f in figures[runs[0][0]]])
    warnings: dict[tuple[str, str], list[str]] = {}  # (method, warning) -> the metrics it is about
    for name, run in runs:
        for told in run.warnings():
            warnings.setdefault((name, told), [])
        for figure in figures[name]:
            for told in figure.warnings:
                warnings.setdefault((name, told), []).append(figure.metric)
    for (name, told), about in warnings.items():
        said = [*([name] if len(runs) > 1 else []), *([", ".join(about)] if about else []), told]
        render.note(": ".join(said))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(figure: Figure) -> str:
    return "" if figure.low is None else f"[{figure.low:.3f}, {figure.high:.3f}]"


def _counts(figure: Figure) -> str:
    return f"{figure.n}" + (f" and {figure.references} references" if figure.references else "")


def _by(figure: Figure) -> str:
    return ", ".join(part for part in (figure.features, figure.resize) if part)


def _exit_code(runs: list[Evaluation]) -> int:
    """0 when every picture and metric could be measured, 4 when there was no face anywhere, 3 otherwise."""
    from sigan import evaluation
    from sigan.errors import InputError, NoFaceError

    records = [record for run in runs for record in run.records]
    if evaluation.no_face_anywhere(records):
        return NoFaceError.exit_code
    lacking = any(figure.value is None for run in runs for figure in run.figures())
    return InputError.exit_code if lacking or any(record.error for record in records) else 0
