"""A block of inputs, done on the machine where it is.

It is a run of the local engine over a few inputs, with a ledger of its own that begins with what the run's ledger
knows of them. Its lines go back with the records. So pictures, records and lines are the local engine's.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sigan import ledger, stylization
from sigan.errors import OutputError, SiganError, WeightsError
from sigan.events import ItemDone
from sigan.stream import REMEMBERED
from sigan_ray import places
from sigan_ray.rows import Done, Entry, failed

TRANSFERS = 8  # at a time, of one worker


@dataclass(frozen=True)
class Job:
    """What every worker is told once. `out` is an absolute path or a URL, `mark` a file there that all must see."""

    pack: Any
    config: stylization.StylizeConfig
    identity: str
    out: str
    mark: str
    overwrite: bool
    retry_failed: bool
    workers: int


class Local:
    """The local engine for one block after another, its models built at the first."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._stylizer: stylization.Stylizer | None = None

    def done(self, entries: list[Entry]) -> list[Done]:
        """The outcome of each entry, in order."""
        return list(self._done(entries))

    def _built(self) -> stylization.Stylizer:
        """The models, built at the first block: what is wrong with them is then told like any error."""
        if self._stylizer is None:
            node = os.uname().nodename
            if not places.holds(self.job.mark):
                raise OutputError(f"{self.job.out}: the node {node} of the cluster does not see this folder",
                                  "mount it under the same path on every node, or write to a URL")
            torch.set_num_threads(self.job.workers)
            stylizer = stylization.Stylizer(self.job.pack, self.job.config)
            if stylizer.identity != self.job.identity:
                raise WeightsError(f"base '{self.job.config.base}' is another on the node {node} of the cluster",
                                   "install the same sigan and the same base on every node")
            self._stylizer = stylizer
        return self._stylizer

    def _done(self, entries: list[Entry]) -> Iterator[Done]:
        stylizer = self._built()
        with tempfile.TemporaryDirectory(prefix="sigan-ray-") as folder, ThreadPoolExecutor(TRANSFERS) as threads:
            stage = Stage(self.job, Path(folder))
            staged = list(threads.map(stage.bring, entries))
            todo = [(entry, one) for entry, one in zip(entries, staged) if isinstance(one, Entry)]
            book = ledger.Ledger(stage.out, stage.book(entry for entry, _ in todo))
            records = stylization.stylize_folder(
                stylizer, [one.item for _, one in todo], stage.out, overwrite=self.job.overwrite,
                retry_failed=self.job.retry_failed, workers=self.job.workers, ledger=book)
            sent = iter([threads.submit(stage.send, entry, one, record, book.last(one.item))
                         for (entry, one), record in zip(todo, records)])
            for one in staged:
                yield one if isinstance(one, Done) else next(sent).result()


class Stage:
    """A folder of the worker's, where what is in an object store is brought, and from where it is sent to one."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.folder = job, folder
        self.out = folder / "out" if places.is_url(job.out) else Path(job.out)
        self._suffix = ledger.suffix(job.identity)

    def book(self, entries) -> Path:
        """A ledger file that knows of the entries what the run's ledger knows."""
        path = self.folder / "ledger.jsonl"
        path.write_text("".join(json.dumps(entry.line) + "\n" for entry in entries if entry.line), "ascii")
        return path

    def bring(self, entry: Entry) -> Entry | Done:
        """The entry with its file on this machine; or its outcome, where that is known or the file does not come."""
        if not places.is_url(entry.place) and not places.is_url(self.job.out):
            return entry  # the local engine looks after all
        try:
            stamp = places.stamp(entry.place)
            known = self._known(entry)
            if known and stamp and stamp == entry.line["stamp"]:
                return known
            path = Path(entry.place)
            if places.is_url(entry.place):
                path = self.folder / "in" / entry.relative
                path.parent.mkdir(parents=True, exist_ok=True)
                places.fetch(entry.place, path)
            if known and ledger.input_key(path, self.job.identity) == entry.line["key"]:
                return replace(known, line={**entry.line, "stamp": stamp} if stamp else None)
        except SiganError as error:
            return failed(entry, error)
        return replace(entry, place=str(path), stamp=stamp if places.is_url(entry.place) else None)

    def _known(self, entry: Entry) -> Done | None:
        """What the run's ledger tells of an input if it has not changed; None if it is to be done in any case."""
        line = entry.line
        if not line or self.job.overwrite or not line["key"].endswith(self._suffix):
            return None
        if failure := ledger.failure(line):
            record = ItemDone(entry.place, (), "failed", 0, 0.0, failure, (REMEMBERED,))
            return None if self.job.retry_failed else Done(entry.index, record)
        outputs = tuple(places.join(self.job.out, name) for name in line["outputs"])
        if not all(map(places.holds, outputs)):
            return None
        return Done(entry.index, ItemDone(entry.place, outputs, "skipped", len(outputs), 0.0))

    def send(self, entry: Entry, staged: Entry, record: ItemDone, line: dict[str, Any] | None) -> Done:
        """The outcome of an input that was worked at, with its results where they belong."""
        line = None if line == entry.line else line
        names = [os.path.relpath(path, self.out).replace(os.sep, "/") for path in record.outputs]
        outputs = [places.join(self.job.out, name) for name in names]
        if places.is_url(self.job.out) and line:
            try:
                for path, output in zip(record.outputs, outputs):
                    places.put(Path(path), output)
                self._withdraw(entry, names)
            except SiganError as error:
                return failed(entry, error)
        if line and staged.stamp:
            line = {**line, "stamp": staged.stamp}
        told = record.error and replace(record.error, message=record.error.message.replace(staged.place, entry.place))
        return Done(entry.index, replace(record, source=entry.place, outputs=tuple(outputs), error=told), line)

    def _withdraw(self, entry: Entry, names: list[str]) -> None:
        """Takes away what an earlier run with these options wrote for this input and this one did not."""
        if entry.line and entry.line["key"].endswith(self._suffix):
            for name in set(entry.line["outputs"]) - set(names):
                places.remove(places.join(self.job.out, name))
