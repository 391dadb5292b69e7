"""How a batch is shown: a record per input as it finishes, the sum at the end, and the exit code they amount to."""

from __future__ import annotations

import inspect
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sigan import sources, stream
from sigan.cli import render
from sigan.errors import ConfigError, InputError, NoFaceError
from sigan.events import ItemDone

if TYPE_CHECKING:
    from sigan.packs import StylePack


def inputs(source: str, out: Path, faces: str = "largest") -> list[stream.Item]:
    """The inputs of IN, once OUT is known to be writable; nothing is made yet."""
    items = stream.find_inputs(source, out=out, listing=listing(), several=faces == "all")
    stream.check_output(out)
    return items


def listing() -> Iterable[str | bytes]:
    """The lines of stdin as bytes: a path is whatever the system says, decodable or not."""
    return getattr(sys.stdin, "buffer", sys.stdin)


def watched(source: str, out: Path, faces: str, run: Callable[[list[stream.Item]], Iterable[ItemDone]],
            fail_fast: bool) -> Iterator[ItemDone]:
    """The records of `run` over what a folder holds and, for ever, over what is new or changed in it."""
    stream.check_output(out)
    for items in sources.watch(source, out=out, several=faces == "all"):
        for record in run(items):
            yield record
            if fail_fast and record.status == "failed":
                return


def engine_options(run: Callable[..., object], name: str, address: str, pairs: Sequence[str]) -> dict[str, str]:
    """What --address and --engine-option NAME=VALUE give an engine. ConfigError for what it does not take."""
    given = {key.strip(): value.strip() for key, _, value in (pair.partition("=") for pair in pairs)}
    given.update({"address": address} if address else {})
    own = {"overwrite", "fail_fast", "retry_failed", "workers", "aligner", "ledger"}  # the command's, and the library's
    taken = sorted(key for key, parameter in inspect.signature(run).parameters.items()
                   if parameter.kind is parameter.KEYWORD_ONLY and key not in own)
    for key in given:
        if key not in taken:
            raise ConfigError(f"the engine '{name}' has no option {key!r}", f"it has: {', '.join(taken) or 'none'}")
    return given


def taken(run: Callable[..., object], name: str, **given: object) -> dict[str, object]:
    """The options given that are not at their default of 0 or False. ConfigError for one that the engine does not take.
    """
    known = inspect.signature(run).parameters
    every = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    for key, value in given.items():
        if value and not every and key not in known:
            raise ConfigError(f"the engine '{name}' does not take --{key.replace('_', '-')}", "leave it out")
    return {key: value for key, value in given.items() if value}


def show(records: Iterable[ItemDone], total: int | None, description: str, *, json: bool, quiet: bool) -> int:
    """Shows every record as it comes, then the summary; gives the exit code of the contract.

    What ends the run early is raised once the summary has said how far it came.
    """
    started, kinds = time.perf_counter(), set()
    counts: Counter[str] = Counter()
    try:
        for record in render.batch(records, total, description, quiet):
            counts[record.status] += 1
            kinds.add(record.error.type if record.error else "")
            if json:
                render.data(record.as_json())
            if record.error:
                render.error(record.error.message, record.error.hint)
            for note in record.notes:
                render.note(f"{record.source}: {note}", quiet)
    finally:
        seconds = round(time.perf_counter() - started, 3)
        summary = {status: counts[status] for status in ("ok", "failed", "skipped")}
        if json:
            render.data({"summary": {**summary, "seconds": seconds}})
        told = ", ".join(f"{count} {status}" for status, count in summary.items() if count)
        render.note(f"{description}: {told or 'nothing'} in {seconds:.1f} s", quiet)
    return exit_code(summary, kinds)


def show_plan(plan: Iterable[tuple[stream.Item, ItemDone | None]], out: Path, suffix: str, *, json: bool,
              quiet: bool) -> int:
    """Shows what a run would do: each input that it would work at with its output on stdout, and the sum."""
    counts: Counter[str] = Counter()
    for item, record in plan:
        counts[record.status if record else "todo"] += 1
        output = stream.output_path(item, out, suffix)
        if json:
            todo = {"source": item.path, "output": output, "status": "todo", "faces": None, "seconds": 0, "error": None}
            render.data(record.as_json() if record else todo)
        elif record is None:
            render.out(render.visible(f"{item.path} -> {output}".replace("\n", "\\n")))
    summary = {status: counts[status] for status in ("todo", "failed", "skipped")}
    if json:
        render.data({"summary": summary})
    render.note(f"would work at {counts['todo']}; skip {counts['skipped']} that are done and current, and "
                f"{counts['failed']} that had no face", quiet)
    return 0


def dressed(style: str, person: str, quiet: bool) -> StylePack:
    """The style with a person's likeness on top of it; says when that was made for another style."""
    from sigan import persons, styles

    one, pack = persons.find(person), styles.load(style)
    for line in persons.notes(pack, one):
        render.note(f"note: {line}", quiet)
    return persons.wear(pack, one)


def exit_code(summary: dict[str, int], kinds: set[str]) -> int:
    """0 all done, 3 some failed, 4 when no input had a face."""
    if not summary["failed"]:
        return 0
    return NoFaceError.exit_code if kinds == {NoFaceError.__name__} else InputError.exit_code


def several(sources: Sequence[str]) -> list[stream.Item]:
    """The inputs of several files, folders or lists, in the order given."""
    return [item for source in sources for item in stream.find_inputs(source, listing=listing())]
