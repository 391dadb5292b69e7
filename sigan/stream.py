"""Batches of files: what goes in, where it comes out, what is done already, and the loop that keeps both ends busy.

The loop reads ahead in a thread, computes over several files at once and yields one record per input; an input that
fails becomes a record, and the others go on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from sigan import alignment, images
from sigan.errors import ConfigError, InputError, OutputError, SiganError
from sigan.events import Failure, ItemDone
from sigan.images import SUFFIXES

SUFFIX = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}  # of each format written
LEDGER = ".sigan-ledger.jsonl"
CLASH = "keeps its extension in the name, since another input has the same stem"
READ_AHEAD = 8  # files prepared while the network computes: enough to fill a batch, little enough for memory


# ---- sources

@dataclass(frozen=True)
class Item:
    """One input: its file, its place relative to the source, and whether its output keeps the extension."""

    path: Path
    relative: Path
    keep_extension: bool = False


def find_inputs(
    source: str | Path,
    suffixes: Sequence[str] = SUFFIXES,
    *,
    out: str | Path | None = None,
    listing: TextIO | None = None,
    several: bool = False,
) -> list[Item]:
    """The inputs of a file, a folder (recursive, sorted) or "-" (paths in `listing`, one a line), without doubles.

    Hidden files and whatever lies under `out` are left out. `several`: an input may give more than one output.
    InputError names a source that is missing or holds no picture.
    """
    if str(source) == "-":
        items = _listed(listing)
    elif Path(source).is_dir():
        items = _walk(Path(source), suffixes, Path(out) if out is not None else None)
    elif Path(source).exists():
        return [Item(Path(source), Path(Path(source).name))]
    else:
        raise InputError(f"{source}: no such file or folder", "check the path")
    if not items:
        where = "the list on stdin names" if str(source) == "-" else f"{source}: the folder holds"
        raise InputError(f"{where} no picture", f"pictures end in {' '.join(suffixes)}; hidden files are skipped")
    return mark_clashes(items, several)


def _walk(folder: Path, suffixes: Sequence[str], out: Path | None) -> list[Item]:
    skipped = out.resolve() if out is not None else None
    if skipped == folder.resolve():
        raise OutputError(f"{folder}: the output folder is the input folder", "name another folder to write into")
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and Path(parent, name).resolve() != skipped]
        found += [Path(parent, name) for name in names if _is_input(name, suffixes)]
    return [Item(path, path.relative_to(folder)) for path in sorted(found)]


def _listed(listing: TextIO | None) -> list[Item]:
    """A listed path keeps its folders as written; an absolute one keeps those below what the absolute ones share."""
    lines = (line.rstrip("\r\n") for line in listing or ())
    paths = [Path(line) for line in dict.fromkeys(lines) if line.strip()]
    rooted = [path for path in paths if path.is_absolute() or ".." in path.parts]
    top = os.path.commonpath([path.absolute().parent for path in rooted]) if rooted else ""
    return [Item(path, Path(os.path.relpath(path.absolute(), top)) if path in rooted else path) for path in paths]


def _is_input(name: str, suffixes: Sequence[str]) -> bool:
    return not name.startswith(".") and name.lower().endswith(tuple(suffixes))


# ---- destinations

def mark_clashes(items: Sequence[Item], several: bool = False) -> list[Item]:
    """The items, those marked that would write the same file as another (case aside, as some file systems have it).

    With `several`, b.jpg may write b-1.png, so b-1.jpg clashes with it.
    """
    def key(item: Item) -> str:
        return item.relative.with_suffix("").as_posix().casefold()

    counts = Counter(key(item) for item in items)
    bases = {re.sub(r"-\d+$", "", name) for name in counts if re.search(r"-\d+$", name)} if several else set()

    def clashes(name: str) -> bool:
        numbered = re.sub(r"-\d+$", "", name)
        return counts[name] > 1 or name in bases or (several and numbered != name and numbered in counts)

    return [replace(item, keep_extension=True) if clashes(key(item)) else item for item in items]


def output_path(item: Item, out: str | Path, suffix: str, index: int | None = None, count: int = 1) -> Path:
    """OUT/<relative folder>/<stem><suffix>; face `index` of `count` > 1 is numbered from 1: b-1.png, b-2.png."""
    name = item.relative.name if item.keep_extension else item.relative.stem
    number = "" if index is None or count == 1 else f"-{index + 1}"
    return Path(out) / item.relative.parent / f"{name}{number}{suffix}"


def check_output(out: str | Path) -> None:
    """Passes when a folder `out` can be made and written into; makes nothing. OutputError names what is in the way."""
    if Path(out).suffix.lower() in SUFFIXES and not Path(out).exists():
        raise OutputError(f"{out}: looks like a picture, but OUT is a folder", "name the folder to write into")
    nearest = next(path for path in (Path(out).absolute(), *Path(out).absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise OutputError(f"{out}: cannot be a folder, since {nearest} is a file", "name another folder to write into")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{out}: {nearest} is not writable", "name another folder, or change its permissions")


def write_faces(item: Item, pictures: Sequence[np.ndarray], out: str | Path, format: str) -> list[Path]:
    """The files written, one per picture of this input, left to right."""
    paths = [output_path(item, out, SUFFIX[format], k, len(pictures)) for k in range(len(pictures))]
    if item.path.exists() and any(path.exists() and path.samefile(item.path) for path in paths):
        raise OutputError(f"{item.path}: the output would replace the input", "name another folder to write into")
    for k, (path, picture) in enumerate(zip(paths, pictures)):
        try:
            images.write(path, picture, format)
        except OutputError:
            for written in paths[:k]:  # all faces or none
                written.unlink(missing_ok=True)
            raise
    return paths


# ---- the ledger

class Ledger:
    """What is finished in `out`: JSON lines that are only ever added to, so that a kill costs at most the last one."""

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)
        self.path = self.out / LEDGER
        self._entries = {entry["source"]: entry for entry in self._read()}

    def _read(self) -> Iterator[dict[str, Any]]:
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return
        for line in lines:
            try:
                entry = json.loads(line)
                if isinstance(entry["source"], str) and entry["key"] and entry["outputs"]:
                    yield entry
            except (ValueError, KeyError, TypeError):
                continue  # a torn line: its input is done again

    def entry(self, item: Item, key: str) -> dict[str, Any] | None:
        """The record of `item` if it is finished under `key` and its outputs are still there."""
        entry = self._entries.get(item.relative.as_posix())
        current = entry and entry["key"] == key and all((self.out / name).is_file() for name in entry["outputs"])
        return entry if current else None

    def done(self, item: Item, key: str) -> bool:
        """Whether `item` is finished under `key`."""
        return self.entry(item, key) is not None

    def record(self, item: Item, key: str, outputs: Sequence[Path]) -> None:
        """Adds one line; call it after the outputs are in place."""
        names = [os.path.relpath(path, self.out).replace(os.sep, "/") for path in outputs]
        entry = {"source": item.relative.as_posix(), "key": key, "outputs": names}
        self._entries[entry["source"]] = entry
        line = json.dumps(entry).encode() + b"\n"
        try:
            with open(self.path, "ab+") as file:
                torn = file.tell() and not self._ends_in_newline(file)
                file.write(b"\n" + line if torn else line)
        except OSError as error:
            message = f"{self.path}: cannot be written ({error.strerror})"
            raise OutputError(message, "check its permissions and free space") from error

    @staticmethod
    def _ends_in_newline(file) -> bool:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def input_key(path: str | Path, identity: str) -> str:
    """The hash of a file's bytes together with `identity`: pack, base and options. InputError when it is unreadable."""
    try:
        content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", "check the path and its permissions") from error
    return hashlib.sha256(f"{content}\n{identity}".encode()).hexdigest()[:32]


# ---- the loop

@dataclass(frozen=True)
class Prepared:
    """What one input gives to the computation, part by part (one part per face), and what to tell about it."""

    parts: Sequence[Any]
    notes: tuple[str, ...] = ()


def find_faces(path: Path, size: int, faces: str, *, aligner, aligned=False, landmarks=None) -> Prepared:
    """The faces of a picture to work on, and a note when there were more than the one asked for."""
    counting = _Counting(aligner)
    found = alignment.align(path, size, faces, counting, aligned=aligned, landmarks=landmarks)
    if counting.count <= len(found):
        return Prepared(found)
    return Prepared(found, (f"{counting.count} faces, the largest taken; --faces all takes every one",))


class _Counting:
    """An aligner that remembers how many faces it found last."""

    def __init__(self, aligner) -> None:
        self.aligner, self.count = aligner, 0

    def find(self, image: np.ndarray, **how) -> list:
        faces = self.aligner.find(image, **how)
        self.count = len(faces)
        return faces


@dataclass
class _Pending:
    """An input on its way: read, then computed part by part."""

    item: Item
    key: str
    parts: Sequence[Any]
    notes: tuple[str, ...]
    started: float
    record: ItemDone | None  # set early for what failed or is skipped


def process(
    items: Iterable[Item],
    prepare: Callable[[Item], Prepared],
    compute: Callable[[list[Any]], list[Any]],
    save: Callable[[Item, list[Any]], Sequence[Path]],
    *,
    ledger: Ledger | None = None,
    identity: str = "",
    overwrite: bool = False,
    batch_size: int = 8,
    fail_fast: bool = False,
) -> Iterator[ItemDone]:
    """One record per item, in order: `prepare` in a thread ahead, `compute` on up to `batch_size` parts, `save`.

    What `ledger` knows to be finished under the same `identity` is skipped, unless `overwrite`.
    With `fail_fast`, the first failure is the last record, and an unexpected one is raised.
    """
    def read(item: Item) -> _Pending:
        started = time.perf_counter()
        notes = (CLASH,) if item.keep_extension else ()
        try:
            key = input_key(item.path, identity) if ledger is not None else ""
            entry = None if ledger is None or overwrite else ledger.entry(item, key)
            if entry:
                outputs = tuple(str(ledger.out / name) for name in entry["outputs"])
                record = ItemDone(str(item.path), outputs, "skipped", len(outputs), time.perf_counter() - started)
                return _Pending(item, key, (), notes, started, record)
            prepared = prepare(item)
            return _Pending(item, key, prepared.parts, notes + prepared.notes, started, None)
        except ConfigError:  # an option is wrong, for every input alike
            raise
        except Exception as error:
            return _Pending(item, "", (), notes, started, _failed(item, error, started, fail_fast))

    def finish(pending: list[_Pending]) -> Iterator[ItemDone]:
        parts = [part for one in pending for part in one.parts]
        results = [result for k in range(0, len(parts), batch_size) for result in compute(parts[k:k + batch_size])]
        for one in pending:
            own, results = results[:len(one.parts)], results[len(one.parts):]
            yield one.record or _saved(one, own)

    def _saved(one: _Pending, results: list[Any]) -> ItemDone:
        try:
            outputs = save(one.item, results)
            if ledger is not None:
                ledger.record(one.item, one.key, outputs)
        except Exception as error:
            return _failed(one.item, error, one.started, fail_fast)
        seconds = time.perf_counter() - one.started
        return ItemDone(str(one.item.path), tuple(map(str, outputs)), "ok", len(results), seconds, notes=one.notes)

    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; it must be 1 or more")
    waiting: list[_Pending] = []
    for one in _ahead(read, items):
        waiting.append(one)
        stop = fail_fast and one.record is not None and one.record.status == "failed"
        if stop or sum(len(w.parts) for w in waiting) >= batch_size or not any(w.parts for w in waiting):
            for record in finish(waiting):
                yield record
                if fail_fast and record.status == "failed":
                    return
            waiting = []
    for record in finish(waiting):
        yield record
        if fail_fast and record.status == "failed":
            return


def _ahead(work: Callable[[Item], _Pending], items: Iterable[Item]) -> Iterator[_Pending]:
    """`work` of every item, in order, done in a thread up to READ_AHEAD items before it is asked for."""
    with ThreadPoolExecutor(1, thread_name_prefix="sigan-read") as pool:
        queue: deque = deque()
        try:
            for item in items:
                queue.append(pool.submit(work, item))
                if len(queue) >= READ_AHEAD:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            for future in queue:
                future.cancel()


def _failed(item: Item, error: Exception, started: float, fail_fast: bool) -> ItemDone:
    """The record of a failure; one nobody foresaw stops the run when it was asked to stop at the first."""
    if isinstance(error, SiganError):
        failure = Failure(type(error).__name__, error.message, error.hint)
    elif fail_fast:
        raise error
    else:
        message = f"{item.path}: unexpected {type(error).__name__}: {error}"
        failure = Failure(type(error).__name__, message, "--fail-fast --debug shows where it happens")
    return ItemDone(str(item.path), (), "failed", 0, time.perf_counter() - started, failure)
