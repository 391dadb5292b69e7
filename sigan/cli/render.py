"""What the user sees: tables, notes, progress and errors on stderr, JSON on stdout. The only file that imports rich."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from sigan import manifest
from sigan.cli.pace import Pace
from sigan.events import ItemDone, TrainStep, Transfer

if TYPE_CHECKING:
    from rich.progress import TaskID
    from rich.table import Table

    from sigan.tradeoff import Curve

T = TypeVar("T")


def interactive() -> bool:
    """Whether stderr is a terminal; rich stays away otherwise."""
    return sys.stderr.isatty()


def visible(text: str) -> str:
    """The text with what a terminal would obey spelled out: names of files and plugins come from anywhere."""
    if manifest.printable(text, lines=True):
        return text
    return "".join(c if manifest.printable(c, lines=True) else ascii(c)[1:-1] for c in text)


def note(text: str, quiet: bool = False) -> None:
    """One line on stderr, unless `quiet`."""
    if not quiet:
        sys.stderr.write(f"{visible(text)}\n")
        sys.stderr.flush()


def out(text: str) -> None:
    """One line on stdout, where data goes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def error(message: str, hint: str = "") -> None:
    """What went wrong on stderr, and below it what to do about it."""
    note(f"error: {message}")
    if hint:
        note(f"hint: {hint}")


def data(value: Any) -> None:
    """One JSON line on stdout. Paths become strings, dataclasses objects, and figures that are no numbers null."""
    out(line(value))


def line(value: Any) -> str:
    """The text of `value` as one line of JSON, as `data` prints it."""
    return json.dumps(_plain(value))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, torch tensors
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on stderr: drawn by rich on a terminal, plain aligned columns elsewhere."""
    cells = [["" if cell is None else visible(str(cell)) for cell in row] for row in rows]
    if interactive():
        _rich_table(title, columns, cells)
        return
    widths = [max(len(row[k]) for row in [list(columns), *cells]) for k in range(len(columns))]
    lines = [title, *("  ".join(map(str.ljust, row, widths)).rstrip() for row in [list(columns), *cells])]
    note("\n".join(line for line in lines if line))


def _rich_table(title: str, columns: Sequence[str], cells: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title or None, title_justify="left")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    Console(stderr=True).print(drawn)


def progress(
    iterator: Iterable[T], total: int | None = None, description: str = "", quiet: bool = False
) -> Iterator[T]:
    """The items of `iterator`, with a bar on stderr while they pass when that is a terminal."""
    if quiet or not interactive():
        yield from iterator
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        for item in iterator:
            bar.advance(task)
            yield item


def batch(records: Iterable[ItemDone], total: int | None, description: str, quiet: bool = False) -> Iterator[ItemDone]:
    """The records of a batch as they come: with a bar, the rate, what remains and what failed on a terminal, and a line
    of the same every half minute elsewhere."""
    pace = Pace(total)
    if quiet or not interactive():
        for record in records:
            pace.add(record.status)
            if line := pace.due():
                note(f"{description}: {line}", quiet)
            yield record
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
               TextColumn("{task.fields[pace]}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total, pace="")
        for record in records:
            pace.add(record.status)
            bar.update(task, advance=1, pace=str(pace))
            yield record


def training(steps: Iterable[TrainStep], curve: Curve, description: str, quiet: bool = False
             ) -> Generator[TrainStep, None, None]:
    """The steps of a training as they pass: on a terminal a bar and a table of what was measured, elsewhere lines."""
    from sigan.tradeoff import told

    if quiet or not interactive():
        for step in steps:
            if step.measured:
                note(f"step {step.index}/{step.total}: {told(step.measured, curve.before)}", quiet)
            yield step
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task(description, total=None)
    with Live(bar, console=bar.console, refresh_per_second=4) as live:
        for step in steps:
            bar.update(task, completed=step.index, total=step.total)
            if step.measured:
                live.update(Group(_curve_table(curve), bar))
            yield step


def _curve_table(curve: Curve) -> Table:
    """The last measurements of a training, the one that would be kept marked."""
    from rich.table import Table

    drawn, best = Table("step", "style left", "identity", ""), curve.best()
    for point in curve.points[-12:]:
        identity = "no face" if point.identity is None else f"{point.identity:.3f}"
        share = f"{100 * point.style / max(curve.before, 1e-9):.0f} %"
        drawn.add_row(str(point.step), share, identity, "best" if point is best else "")
    return drawn


def transfers(records: Iterable[T], quiet: bool = False) -> Iterator[T]:
    """The records of downloads (others pass): a bar of bytes on a terminal, a line for each new state elsewhere."""
    if quiet or not interactive():
        last = None
        for record in records:
            if isinstance(record, Transfer):
                if (record.name, record.state) != last:
                    size = f" {record.total / 1e6:.0f} MB" if record.total else ""
                    note(f"{record.name}: {record.state}{size}{f' from {record.url}' if record.url else ''}", quiet)
                last = record.name, record.state
            yield record
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
               TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}
        for record in records:
            if isinstance(record, Transfer):
                if record.name not in tasks:
                    tasks[record.name] = bar.add_task(record.name)
                bar.update(tasks[record.name], description=f"{record.name}: {record.state}", completed=record.bytes,
                           total=record.total)
            yield record
