"""The report of an evaluation: one HTML file that holds all it shows, and opens without a network."""

from __future__ import annotations

import base64
import io
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sigan import images
from sigan.errors import SiganError
from sigan.evaluation import Evaluation, PairRecord
from sigan.figures import HIGHER, Figure
from sigan.metrics import INPUTS

SHOWN = 3  # best pictures, and as many worst, of a metric
RANKED = 2  # metrics whose best and worst are shown: each picture costs the file about 15 kB
SIDE = 320  # pixels of an embedded picture, more than a phone shows
BINS = 16
PLOT = (300, 90)  # of a histogram, in its own units
PACKAGES = ("sigan", "torch", "numpy", "pillow", "dlib-bin")


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram, in the plot's units; `label` says what it counts."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """How the results' own figures of a metric spread: bars, the mean's place, and the ends of the axis."""

    bars: tuple[Bar, ...]
    mean: float
    low: str
    high: str
    n: int


@dataclass(frozen=True)
class Shown:
    """A result beside its photograph, as data URLs; `source` is empty without one."""

    name: str
    value: str
    output: str
    source: str
    found: bool


def number(value: float | None) -> str:
    """A figure to about three digits, or a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 100 else \
        f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}" if abs(value) >= 0.1 or not value else f"{value:.3g}"


def interval(figure: Figure) -> str:
    """The 95 % interval of a figure in brackets, or nothing."""
    return "" if figure.low is None else f"[{number(figure.low)}, {number(figure.high)}]"


def histogram(values: Sequence[float], low: float, high: float) -> Histogram:
    """The spread of values between two ends, which methods on one page share."""
    counts, edges = np.histogram(values, BINS, (low, high if high > low else low + 1e-9))
    width, height = PLOT
    step, top = width / BINS, max(int(counts.max()), 1)
    bars = tuple(Bar(k * step + 0.5, height * (1 - count / top), step - 1, height * count / top,
                     f"{count} from {number(edges[k])} to {number(edges[k + 1])}")
                 for k, count in enumerate(map(int, counts)) if count)
    place = width * (float(np.mean(values)) - low) / (high - low) if high > low else 0.0
    return Histogram(bars, place, number(low), number(high), len(values))


def data_url(image: np.ndarray) -> str:
    """A picture as a data URL, no larger than the report shows it."""
    picture = Image.fromarray(image)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def render(runs: Sequence[tuple[str, Evaluation]], settings: dict[str, object]) -> str:
    """The page for evaluations that have run, each under its method's name; everything told is escaped."""
    import jinja2

    folder = resources.files("sigan") / "assets" / "report"
    parts = {name: (folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")}
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                              undefined=jinja2.StrictUndefined).from_string(parts["page.html"])
    methods = [_method(name, run) for name, run in runs]
    names = [figure.metric for figure in methods[0]["figures"]]
    return page.render(methods=methods, metrics=names, plots=_plots(methods, names), plot=PLOT, number=number,
                       interval=interval, higher=HIGHER, settings=settings, versions=versions(),
                       style=parts["page.css"], script=parts["page.js"])


def write(path: str | Path, runs: Sequence[tuple[str, Evaluation]], settings: dict[str, object]) -> None:
    """Writes the page, whole or not at all. OutputError where it cannot."""
    images.atomic_write(path, render(runs, settings).encode())


def versions() -> dict[str, str]:
    """Of Python and of what the figures depend on; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _method(name: str, run: Evaluation) -> dict[str, Any]:
    figures = run.figures()
    measured = [record for record in run.records if record.values]
    ranked = sorted((metric for metric in run.metrics if any(metric.name in record.values for record in measured)),
                    key=lambda metric: metric.needs != INPUTS)[:RANKED]
    return {"name": name, "folder": run.outputs, "figures": figures, "warnings": run.warnings(),
            "records": run.records, "measured": len(measured),
            "errors": [record for record in run.records if record.error],
            "ranks": [_ranks(run, metric.name, metric.better, measured) for metric in ranked]}


def _ranks(run: Evaluation, metric: str, better: str, records: Sequence[PairRecord]
           ) -> dict[str, Any]:
    """The best and the worst results by a metric; of few, no result is both."""
    ordered = sorted((record for record in records if metric in record.values),
                     key=lambda record: record.values[metric], reverse=better == HIGHER)
    best = ordered[:min(SHOWN, (len(ordered) + 1) // 2)]
    worst = ordered[max(len(best), len(ordered) - SHOWN):][::-1]
    return {"metric": metric, "best": [_shown(run, metric, record) for record in best],
            "worst": [_shown(run, metric, record) for record in worst]}


def _shown(run: Evaluation, metric: str, record: PairRecord) -> Shown:
    name, value = Path(record.output).name, number(record.values[metric])
    try:
        source, output = run.pictures(record)
    except SiganError:  # gone since it was measured
        return Shown(name, value, "", "", record.found)
    return Shown(name, value, data_url(output), "" if source is None else data_url(source), record.found)


def _plots(methods: Sequence[dict[str, Any]], metrics: Sequence[str]
           ) -> dict[str, list[tuple[str, Histogram]]]:
    """Histograms by metric, one of each method, all of a metric on one axis."""
    plots = {}
    for metric in metrics:
        values = {method["name"]: [record.values[metric] for record in method["records"] if metric in record.values]
                  for method in methods}
        together = [value for own in values.values() for value in own]
        if together:
            plots[metric] = [(name, histogram(own, min(together), max(together)))
                             for name, own in values.items() if own]
    return plots
