"""The loop over a batch of files, with every stage busy: faces are found ahead, the device computes, a thread writes.

What goes in is in `sources`, where it comes out in `destinations`, what is done already in `ledger`. One record comes
for each input, in the inputs' order; one that fails becomes a record, and the others go on. Between the stages wait no
more inputs than make a batch and keep the workers busy, so that memory does not grow with their number.
"""

from __future__ import annotations

import errno
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from sigan import alignment
from sigan import ledger as ledgers
from sigan import workers as pools
from sigan.destinations import SUFFIX as SUFFIX
from sigan.destinations import check_output as check_output
from sigan.destinations import output_path as output_path
from sigan.destinations import write_faces as write_faces
from sigan.errors import ConfigError, InputError, NoFaceError, OutputError, SiganError
from sigan.events import Failure, ItemDone
from sigan.ledger import LEDGER as LEDGER
from sigan.ledger import Ledger as Ledger
from sigan.ledger import input_key as input_key
from sigan.sources import Item as Item
from sigan.sources import find_inputs as find_inputs
from sigan.sources import mark_clashes as mark_clashes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from sigan.alignment import AlignedFace
    from sigan.detection import Aligner

Part = TypeVar("Part")  # what is computed on: a face
Result = TypeVar("Result")  # what comes of it: a portrait
Saved = ItemDone | Future[ItemDone]
log = logging.getLogger(__name__)
CLASH = "keeps its extension in the name, since another input has the same stem"
REMEMBERED = "as the last time, and it has not changed; --retry-failed looks again"
ENOUGH = 24  # inputs, below which starting processes takes longer than they save
AGAIN = 0.5  # seconds between two looks at what another process has in hand
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # nothing can be written any more, so nothing more is tried


@dataclass(frozen=True)
class Prepared(Generic[Part]):
    """What one input gives to the computation, part by part (one part per face), and what to tell about it."""

    parts: Sequence[Part]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FaceFinder:
    """Called with an item, gives the faces of its picture to work on, with `alignment.find`'s notes.

    Another process can have a copy, if the aligner can.
    """

    size: int
    faces: str
    aligner: Aligner
    aligned: bool = False
    landmarks: Mapping[str, ArrayLike] | None = None  # 68 points by relative path or by file name
    no_face: str = "fail"

    def __call__(self, item: Item) -> Prepared[AlignedFace]:
        given = self.landmarks or {}
        points = given.get(item.relative.as_posix(), given.get(item.path.name))
        found = alignment.find(item.path, self.size, self.faces, self.aligner, self.aligned, points, self.no_face)
        return Prepared(found.faces, found.notes)


# ---- the loop

@dataclass(frozen=True)
class _Read(Generic[Part]):
    """What a worker gives for an input: its parts or what went wrong, and by what it will be known."""

    prepared: Prepared[Part]
    error: Exception | None = None
    key: str = ""
    stamp: list[int] | None = None


@dataclass(frozen=True)
class _Reader(Generic[Part]):
    """Called with an item, in a worker; `identity` where a ledger is kept."""

    prepare: Callable[[Item], Prepared[Part]]
    identity: str | None

    def __call__(self, item: Item) -> _Read[Part]:
        key, stamp = "", None
        try:
            if self.identity is not None:  # before the pixels are read: of a file that changes, the old is remembered
                stamp, key = ledgers.stamp(item.path), input_key(item.path, self.identity)
            return _Read(self.prepare(item), None, key, stamp)
        except Exception as error:
            return _Read(Prepared(()), error, key, stamp)


@dataclass
class _Pending(Generic[Part]):
    """An input on its way."""

    item: Item
    started: float
    future: Future[_Read[Part]] | None = None
    record: ItemDone | None = None  # set at once for what is known
    read: _Read[Part] = _Read(Prepared(()))


def process(
    items: Iterable[Item],
    prepare: Callable[[Item], Prepared[Part]],
    compute: Callable[[list[Part]], list[Result]],
    save: Callable[[Item, list[Result]], Sequence[Path]],
    *,
    ledger: Ledger | None = None,
    identity: str = "",
    overwrite: bool = False,
    retry_failed: bool = False,
    batch_size: int = 8,
    fail_fast: bool = False,
    workers: int | None = None,
) -> Iterator[ItemDone]:
    """One record per item: `prepare` in workers ahead, `compute` here on up to `batch_size` parts, `save` in a thread.

    Records come in the items' order; those that another process has in hand come last, when it is done with them or
    gone. What `ledger` knows to be finished under the same `identity` is skipped, unless `overwrite`; that no face was
    found is known, too, unless `retry_failed`. With `fail_fast`, the first failure is the last record, and an
    unexpected one is raised. A full disk ends the run with an OutputError. `workers`: how many find faces; by default
    one for each processor but one. Two or more are processes, if `prepare` can be copied and the items are many.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; it must be 1 or more")
    items = items if isinstance(items, Sequence) else list(items)
    memory = None if ledger is None else _Memory(ledger, identity, overwrite, retry_failed)
    run = _Run(compute, save, memory, batch_size, fail_fast)
    for record in run.records(items, prepare, workers):
        yield record
        if fail_fast and record.status == "failed":
            return


def plan(items: Iterable[Item], ledger: Ledger, identity: str, *, overwrite: bool = False,
         retry_failed: bool = False) -> Iterator[tuple[Item, ItemDone | None]]:
    """Each item with the record that `process` would give without work, or None where it would work; makes nothing."""
    memory = _Memory(ledger, identity, overwrite, retry_failed)
    for item in items:
        yield item, memory.record(item, time.perf_counter())


@dataclass(frozen=True)
class _Memory:
    """What the ledger tells of items, and which of them are to be done again."""

    ledger: Ledger
    identity: str
    overwrite: bool
    retry_failed: bool

    def record(self, item: Item, started: float) -> ItemDone | None:
        """Of an item that needs no work; to do it again does not mean again what others have done meanwhile."""
        if not self.ledger.added_since(item):
            last = self.ledger.last(item) or {}
            if self.overwrite or (self.retry_failed and last.get("error")):
                return None
        if (entry := self.ledger.current(item, self.identity)) is None:
            return None
        seconds = time.perf_counter() - started
        if failure := ledgers.failure(entry):
            return ItemDone(str(item.path), (), "failed", 0, seconds, failure, (REMEMBERED,))
        outputs = tuple(str(self.ledger.out / name) for name in entry["outputs"])
        return ItemDone(str(item.path), outputs, "skipped", len(outputs), seconds)


class _Run(Generic[Part, Result]):
    """One call of `process`."""

    def __init__(self, compute: Callable[[list[Part]], list[Result]],
                 save: Callable[[Item, list[Result]], Sequence[Path]], memory: _Memory | None, batch_size: int,
                 fail_fast: bool) -> None:
        self.compute, self.save, self.memory = compute, save, memory
        self.ledger = None if memory is None else memory.ledger
        self.batch_size, self.fail_fast = batch_size, fail_fast
        self.spent: defaultdict[str, float] = defaultdict(float)  # seconds of each stage; writing is beside others

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent[stage] += time.perf_counter() - start

    def records(self, items: Sequence[Item], prepare: Callable[[Item], Prepared[Part]], count: int | None
                ) -> Iterator[ItemDone]:
        """See `process`."""
        reader = _Reader(prepare, None if self.memory is None else self.memory.identity)
        count = max(1, pools.cores() - 1) if count is None else count  # the device, or what feeds it, has one
        kind = "one" if count == 1 or len(items) < ENOUGH else "processes"  # dlib lets other threads run
        with ExitStack() as stack:
            if self.ledger is not None:
                folders = dict.fromkeys(self.ledger.out / item.relative.parent for item in items)
                stack.enter_context(self.ledger.working(list(folders)))
            self.writer = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="sigan-write"))
            stack.callback(self.writer.shutdown, wait=True, cancel_futures=True)
            self.finders = stack.enter_context(pools.Workers(reader, count, kind))
            remaining = items
            while remaining:
                taken: list[Item] = []  # by other processes
                yield from self._pass(remaining, taken)
                if len(taken) == len(remaining):
                    time.sleep(AGAIN)
                remaining = taken
        log.info("stages: %s", ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in self.spent.items()))

    def _pass(self, items: Sequence[Item], taken: list[Item]) -> Iterator[ItemDone]:
        """The records of all items but those that other processes have in hand; these are put into `taken`."""
        waiting: list[_Pending[Part]] = []
        saving: deque[Saved] = deque()
        for one in self._ahead(items, taken):
            waiting.append(one)
            parts = sum(len(w.read.prepared.parts) for w in waiting)
            failed = one.record is not None and one.record.status == "failed"
            if parts >= self.batch_size or not parts or (failed and self.fail_fast):
                yield from self._finished(waiting, saving)
                waiting = []
        yield from self._finished(waiting, saving)
        while saving:
            yield _arrived(saving.popleft())

    def _ahead(self, items: Sequence[Item], taken: list[Item]) -> Iterator[_Pending[Part]]:
        """The items in order, read; workers are given enough to make a batch while the device computes the last."""
        queue: deque[_Pending[Part]] = deque()
        for item in items:
            one = self._begun(item)
            if one is None:
                taken.append(item)
                continue
            queue.append(one)
            while len(queue) > self.batch_size + 2 * self.finders.count or (queue and queue[0].record):
                yield self._read(queue.popleft())
        while queue:
            yield self._read(queue.popleft())

    def _begun(self, item: Item) -> _Pending[Part] | None:
        """An item known to be done, or given to the workers; None if another process has it in hand."""
        one: _Pending[Part] = _Pending(item, time.perf_counter())
        if self.memory is not None:
            ledger = self.memory.ledger
            one.record = self.memory.record(item, one.started)
            if one.record is None:
                if not ledger.claim(item):
                    return None
                ledger.refresh()  # who had it before may have finished it just now
                one.record = self.memory.record(item, one.started)
                if one.record is not None:
                    ledger.release(item)
        if one.record is None:
            one.future = self.finders.submit(item)
        return one

    def _read(self, one: _Pending[Part]) -> _Pending[Part]:
        if one.future is None:
            return one
        try:
            with self._timed("waiting for faces"):
                one.read = one.future.result()
        except ChildProcessError as error:
            reason = InputError(f"{one.item.path}: {error}", "is the file damaged, or memory short?")
            one.read = _Read(Prepared(()), reason)
        if isinstance(one.read.error, ConfigError):  # an option is wrong, for every input alike
            raise one.read.error
        if one.read.error is not None:
            one.record = self._failed(one, one.read.error)
        return one

    def _finished(self, waiting: list[_Pending[Part]], saving: deque[Saved]) -> Iterator[ItemDone]:
        """Computes a batch and has it saved behind; gives the records of what is saved by then, in order."""
        for one, results in zip(waiting, self._computed(waiting)):
            if isinstance(results, Exception):
                saving.append(one.record or self._failed(one, results))
            elif one.record is not None or self.fail_fast:  # nothing is written behind a failure
                saving.append(one.record or self._saved(one, results))
            else:
                saving.append(self.writer.submit(self._saved, one, results))
            while saving and (len(saving) > self.batch_size or isinstance(saving[0], ItemDone) or saving[0].done()):
                yield _arrived(saving.popleft())

    def _computed(self, waiting: list[_Pending[Part]]) -> list[list[Result] | Exception]:
        """The results of each input. If a batch fails, each of its inputs is computed alone: one may be to blame."""
        parts = [part for one in waiting for part in one.read.prepared.parts]
        try:
            with self._timed("computing"):
                results = [result for k in range(0, len(parts), self.batch_size)
                           for result in self.compute(parts[k:k + self.batch_size])]
        except ConfigError:
            raise
        except Exception as error:
            if len(waiting) == 1:
                return [error]
            return [self._computed([one])[0] for one in waiting]
        rest = iter(results)
        return [list(islice(rest, len(one.read.prepared.parts))) for one in waiting]

    def _saved(self, one: _Pending[Part], results: list[Result]) -> ItemDone:
        try:
            with self._timed("writing"):
                outputs = self.save(one.item, results)
            if self.ledger is not None:
                self.ledger.record(one.item, one.read.key, outputs, one.read.stamp)
                self.ledger.release(one.item)
        except Exception as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_ROOM:
                raise OutputError(str(error), "make room, or name another folder; what is written is whole, and the "
                                  "same command goes on from here") from error
            return self._failed(one, error)
        notes = (CLASH,) * one.item.keep_extension + one.read.prepared.notes
        return ItemDone(str(one.item.path), tuple(map(str, outputs)), "ok", len(results),
                        time.perf_counter() - one.started, notes=notes)

    def _failed(self, one: _Pending[Part], error: Exception) -> ItemDone:
        """The record of a failure; one nobody foresaw stops the run when it was asked to stop at the first."""
        if isinstance(error, SiganError):
            failure = Failure(type(error).__name__, error.message, error.hint)
        elif self.fail_fast:
            raise error
        else:
            message = f"{one.item.path}: unexpected {type(error).__name__}: {error}"
            failure = Failure(type(error).__name__, message, "--fail-fast --debug shows where it happens")
        if self.ledger is not None:
            if isinstance(error, NoFaceError) and one.read.key:  # dear to find out, and sure to come again
                self.ledger.record_failure(one.item, one.read.key, failure, one.read.stamp)
            self.ledger.release(one.item)
        notes = (CLASH,) * one.item.keep_extension
        return ItemDone(str(one.item.path), (), "failed", 0, time.perf_counter() - one.started, failure, notes)


def _arrived(saved: Saved) -> ItemDone:
    return saved if isinstance(saved, ItemDone) else saved.result()
