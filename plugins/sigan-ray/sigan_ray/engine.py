"""The engine: cuts the inputs into blocks, has Ray Data hand them to the workers, and keeps the run's one ledger."""

from __future__ import annotations

import math
import os
import pickle
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sigan import ledger
from sigan.errors import ConfigError
from sigan.events import Failure, ItemDone
from sigan.sources import Item
from sigan_ray import places
from sigan_ray.rows import Done, Entry
from sigan_ray.workers import Worker

BLOCK = 16  # inputs: few enough to lose with a machine, enough to make Ray's 10 ms a block nothing
SAVED = 30.0  # seconds between two copies of the ledger into an object store


def stylize(
    stylizer,
    items: Sequence[Item],
    out: str | os.PathLike,
    *,
    overwrite: bool = False,
    fail_fast: bool = False,
    retry_failed: bool = False,
    address: str = "auto",
    cpus: float = 1,
    gpus: float | None = None,
    block: int = BLOCK,
) -> Iterator[ItemDone]:
    """One record per item, in order, as blocks of them finish on the Ray cluster at `address`; files as of a local run.

    `address`: HOST:PORT, "auto" (RAY_ADDRESS, or the cluster this machine belongs to) or "local" (one of this machine
    alone, for this run). `cpus` and `gpus` are what each worker takes; a tenth of a GPU puts ten workers on one. None:
    a whole one where the cluster has any. What a lost machine had in hand is done by another.
    """
    try:  # from the command they come as text
        cpus, block, gpus = float(cpus), int(block), None if gpus is None else float(gpus)
    except ValueError as error:
        raise ConfigError(f"cpus {cpus}, gpus {gpus}, block {block}: one of them is no number") from error
    if not (cpus > 0 and block > 0 and (gpus or 0) >= 0):
        raise ConfigError(f"cpus {cpus:g}, gpus {gpus}, block {block}: one of them is too small")
    out = places.parse(out)
    target = out if places.is_url(out) else os.path.abspath(out)
    with ExitStack() as stack:
        ray = stack.enter_context(_cluster(address))
        if not items:  # of a shard
            return
        book, mark = stack.enter_context(_book(target, items))
        from sigan_ray.blocks import Job

        if gpus is None:
            gpus = 1.0 if ray.cluster_resources().get("GPU") and stylizer.device.type != "cpu" else 0
        job = Job(stylizer.pack, stylizer.config, stylizer.identity, target, mark, overwrite, retry_failed,
                  max(1, int(cpus)))
        entries = [_entry(index, item, book) for index, item in enumerate(items)]
        for done in _run(ray, entries, pickle.dumps(job), block, cpus, gpus):
            item, line, record = items[done.index], done.line, done.record
            if line and line.get("error"):
                book.record_failure(item, line["key"], Failure(**line["error"]), line.get("stamp"))
            elif line:
                book.record(item, line["key"], [book.out / name for name in line["outputs"]], line.get("stamp"))
            yield _as_written(record, item, out, target)
            if fail_fast and record.status == "failed":
                return


def _entry(index: int, item: Item, book: ledger.Ledger) -> Entry:
    place = places.parse(item.path)
    place = place if places.is_url(place) else os.path.abspath(place)
    return Entry(index, place, str(item.relative), item.keep_extension, book.last(item))


def _as_written(record: ItemDone, item: Item, out: str, target: str) -> ItemDone:
    """The record with paths as the caller wrote them."""
    source = os.fspath(item.path)
    error = record.error and replace(record.error, message=record.error.message.replace(record.source, source))
    outputs = record.outputs if places.is_url(target) else tuple(
        places.join(out, os.path.relpath(path, target)) for path in record.outputs)
    return replace(record, source=source, outputs=outputs, error=error)


def _run(ray, entries: list[Entry], job: bytes, size: int, cpus: float, gpus: float) -> Iterator[Done]:
    """The outcomes of the entries, in order, from blocks of `size`."""
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = context.print_on_execution_start = False
    blocks = [{"block": pickle.dumps(entries[k:k + size])} for k in range(0, len(entries), size)]
    room = ray.cluster_resources()
    fit = int(min(room.get("CPU", 0) / cpus, room.get("GPU", 0) / gpus if gpus else math.inf))
    pool = ray.data.ActorPoolStrategy(min_size=1, initial_size=max(1, min(fit, len(blocks))))
    with ray.data.DataContext.current(context):
        rows = ray.data.from_items(blocks, override_num_blocks=len(blocks))
        done = rows.map_batches(Worker, fn_constructor_args=(job,), batch_size=1, compute=pool, num_cpus=cpus,
                                **({"num_gpus": gpus} if gpus else {}))
        for row in done.iter_rows():
            outcome = pickle.loads(row["block"])
            if isinstance(outcome, Exception):
                raise outcome
            yield from outcome


# ---- the cluster

@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """The module ray, connected; a connection that is there already is used and stays."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its core writes to stderr, where the records are
    import logging

    import ray
    import ray.data

    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield ray
        return
    _reach(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=None)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"no Ray cluster at {address}: {error}".splitlines()[0],
                          "`ray start --head` starts one; --address local makes one of this machine alone") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Passes when something answers at HOST:PORT: Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "://" in address:
        if address not in ("auto", "local") and "://" not in address:
            raise ConfigError(f"the address is {address!r}; it must be HOST:PORT, auto or local")
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"no Ray cluster at {address}: {getattr(error, 'strerror', None) or error}",
                          "`ray start --head` starts one and says its address") from error


# ---- the ledger

@contextmanager
def _book(target: str, items: Sequence[Item]) -> Iterator[tuple[ledger.Ledger, str]]:
    """The run's ledger, and the place of a file that only who sees the output folder can see."""
    name = f".sigan-ray.{uuid.uuid4().hex[:8]}.part"  # a killed run's is swept with its unfinished files
    mark = places.join(target, name)
    if not places.is_url(target):
        book = ledger.Ledger(target)
        with book.working(list(dict.fromkeys(book.out / item.relative.parent for item in items))):
            Path(mark).write_text("sigan-ray\n", "ascii")
            try:
                yield book, mark
            finally:
                Path(mark).unlink(missing_ok=True)
        return
    with tempfile.TemporaryDirectory(prefix="sigan-ray-") as folder:
        kept = places.join(target, ledger.LEDGER)
        if places.holds(kept):
            places.fetch(kept, Path(folder, ledger.LEDGER))
        book = _Stored(folder, kept)
        Path(folder, name).write_text("sigan-ray\n", "ascii")
        places.put(Path(folder, name), mark)
        try:
            yield book, mark
        finally:
            book.save()
            places.remove(mark)


class _Stored(ledger.Ledger):
    """A ledger in a folder of this machine, copied whole into an object store now and then: none can be added to."""

    def __init__(self, folder: str, kept: str) -> None:
        super().__init__(folder)
        self.kept, self._saved, self._changed = kept, time.monotonic(), False

    def record(self, *line) -> None:
        super().record(*line)
        self._note()

    def record_failure(self, *line) -> None:
        super().record_failure(*line)
        self._note()

    def _note(self) -> None:
        self._changed = True
        if time.monotonic() - self._saved > SAVED:
            self.save()

    def save(self) -> None:
        """Copies what is new into the store."""
        if self._changed:
            places.put(self.path, self.kept)
            self._saved, self._changed = time.monotonic(), False


stylize.inputs = places.inputs  # the command asks an engine that reads more than files what its inputs are
