"""What travels between the run and its workers: an input to be done, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigan.errors import SiganError
from sigan.events import Failure, ItemDone
from sigan.sources import Item
from sigan.stream import CLASH


@dataclass(frozen=True)
class Entry:
    """One input: where every worker finds it, and the last line of the run's ledger about it."""

    index: int
    place: str
    relative: str
    keep_extension: bool
    line: dict[str, Any] | None
    stamp: list | None = None  # of an object in a store, once it was looked at

    @property
    def item(self) -> Item:
        return Item(Path(self.place), Path(self.relative), self.keep_extension)


@dataclass(frozen=True)
class Done:
    """One input's record, with paths as the workers see them, and the line for the run's ledger if there is one."""

    index: int
    record: ItemDone
    line: dict[str, Any] | None = None


def failed(entry: Entry, error: SiganError) -> Done:
    """The outcome of an input that did not come as far as the local engine, or did not come back from it."""
    failure = Failure(type(error).__name__, error.message, error.hint)
    notes = (CLASH,) * entry.keep_extension
    return Done(entry.index, ItemDone(entry.place, (), "failed", 0, 0.0, failure, notes))
