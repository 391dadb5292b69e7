"""How a batch is shown: a record per input as it finishes, the sum at the end, and the exit code they amount to."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from sigan import stream
from sigan.cli import render
from sigan.errors import InputError, NoFaceError
from sigan.events import ItemDone


def inputs(source: str, out: Path, faces: str = "largest") -> list[stream.Item]:
    """The inputs of IN, once OUT is known to be writable; nothing is made yet."""
    items = stream.find_inputs(source, out=out, listing=sys.stdin, several=faces == "all")
    stream.check_output(out)
    return items


def show(records: Iterable[ItemDone], total: int, description: str, *, json: bool, quiet: bool) -> int:
    """Shows every record as it comes, then the summary; gives the exit code of the contract."""
    started, counts, kinds = time.perf_counter(), Counter(), set()
    for record in render.progress(records, total, description, quiet):
        counts[record.status] += 1
        kinds.add(record.error.type if record.error else "")
        if json:
            render.data(record.as_json())
        if record.error:
            render.error(record.error.message, record.error.hint)
        for note in record.notes:
            render.note(f"{record.source}: {note}", quiet)
    seconds = round(time.perf_counter() - started, 3)
    summary = {status: counts[status] for status in ("ok", "failed", "skipped")}
    if json:
        render.data({"summary": {**summary, "seconds": seconds}})
    told = ", ".join(f"{count} {status}" for status, count in summary.items() if count)
    render.note(f"{description}: {told or 'nothing'} in {seconds:.1f} s", quiet)
    return exit_code(summary, kinds)


def exit_code(summary: dict[str, int], kinds: set[str]) -> int:
    """0 all done, 3 some failed, 4 when no input had a face."""
    if not summary["failed"]:
        return 0
    return NoFaceError.exit_code if kinds == {NoFaceError.__name__} else InputError.exit_code


def several(sources: Sequence[str]) -> list[stream.Item]:
    """The inputs of several files, folders or lists, in the order given."""
    return [item for source in sources for item in stream.find_inputs(source, listing=sys.stdin)]
