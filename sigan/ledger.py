"""What is finished in a folder, and who is at what: JSON lines that are only ever added to, and locks.

Each line has the input's name, a key (the hash of its bytes, then that of pack, base and options), what was written,
and a stamp by which an unchanged file is known without being read. A kill costs at most the last line, and its locks
go with the process. In memory a line is two numbers: its input's hash and its place.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sigan import destinations, locks
from sigan.errors import InputError, OutputError
from sigan.events import Failure
from sigan.sources import Item

LEDGER = ".sigan-ledger.jsonl"
SETTLED = 2.0  # seconds after a change in which a second one may leave the same times: the coarsest file systems' tick
CHUNK = 1 << 20
TAIL = 33  # characters at the end of a key that tell pack, base and options
PRESENCE, APPENDING = 2**62, 2**62 + 1  # bytes locked: by whoever works here (shared), by who adds a line; claims below


class Ledger:
    """The finished inputs of the folder `out`. Reading makes nothing; `working`, `claim` and `record` make the file.

    `path`: of the file, where it is not in `out`: of a part of a run, whose lines another process takes over.
    """

    def __init__(self, out: str | Path, path: str | Path | None = None) -> None:
        self.out = Path(out)
        self.path = Path(path or self.out / LEDGER)
        self._lock = threading.RLock()
        self._file: int | None = None  # open for writing
        self._places: dict[int, int] = {}
        self._read_to = 0
        self.refresh()
        self._begun = self._read_to

    # ---- what is known

    def refresh(self) -> None:
        """Takes in what was added since, by this process or another."""
        with self._lock, self._reading() as file:
            if file is None or os.fstat(file).st_size <= self._read_to:
                return
            rest, start = b"", self._read_to
            while chunk := _read(file, CHUNK, start + len(rest)):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if (entry := _entry(line)) is not None:
                        self._places[_number(entry["source"])] = start
                    start += len(line) + 1
            if (entry := _entry(rest)) is not None:  # a kill tore off no more than the end of the line
                self._places[_number(entry["source"])] = start
            self._read_to = start

    def last(self, item: Item) -> dict[str, Any] | None:
        """The last line about an item, whatever it was made of: source, key, outputs, stamp, error."""
        name = item.relative.as_posix()
        with self._lock, self._reading() as file:
            place = self._places.get(_number(name))
            if place is None or file is None:
                return None
            line = b""
            while b"\n" not in line and (chunk := _read(file, 1024, place + len(line))):
                line += chunk
        entry = _entry(line.split(b"\n")[0])
        return entry if entry and entry["source"] == name else None

    def done(self, item: Item, key: str) -> bool:
        """Whether `item` is finished under `key`, and its outputs are still there."""
        entry = self.last(item)
        return entry is not None and entry["key"] == key and self._stands(entry)

    def current(self, item: Item, identity: str) -> dict[str, Any] | None:
        """The line of `item` if it tells of the file as it is now and of `identity`: pack, base and options.

        The file is read only where its stamp is not the one in the line. It may be a failure's: see `error`.
        """
        entry = self.last(item)
        if not entry or not entry["key"].endswith(suffix(identity)) or not self._stands(entry):
            return None
        now = stamp(item.path)
        if entry.get("stamp") and entry["stamp"] == now:
            return entry
        try:
            if input_key(item.path, identity) != entry["key"]:
                return None
        except InputError:
            return None  # it is told when the input is read
        if now and self._file is not None:
            self._add({**entry, "stamp": now})
        return entry

    def added_since(self, item: Item) -> bool:
        """Whether the last line about `item` is younger than this object."""
        return self._places.get(_number(item.relative.as_posix()), -1) >= self._begun

    def _stands(self, entry: dict[str, Any]) -> bool:
        return bool(entry.get("error")) or all(_holds(self.out / name) for name in entry["outputs"])

    # ---- what is added

    def record(self, item: Item, key: str, outputs: Sequence[Path], stamp: list[int] | None = None) -> None:
        """Adds a line; call it after the outputs are in place, with the stamp taken before the input was read.

        What an earlier run with the same options wrote for this input and this one did not (another face) goes.
        """
        names = [os.path.relpath(path, self.out).replace(os.sep, "/") for path in outputs]
        before = self.last(item)
        self._add({"source": item.relative.as_posix(), "key": key, "outputs": names, "stamp": stamp})
        if before and before["key"][-TAIL:] == key[-TAIL:]:
            for name in set(before["outputs"]) - set(names):
                if not Path(name).is_absolute() and ".." not in Path(name).parts:
                    (self.out / name).unlink(missing_ok=True)

    def record_failure(self, item: Item, key: str, failure: Failure, stamp: list[int] | None = None) -> None:
        """Adds a line about an input that will fail again as long as it does not change."""
        self._add({"source": item.relative.as_posix(), "key": key, "outputs": [], "stamp": stamp,
                   "error": {"type": failure.type, "message": failure.message, "hint": failure.hint}})

    def _add(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        with self._lock:
            file = self._open()
            locks.take(file, APPENDING, wait=True)
            try:
                size = os.fstat(file).st_size
                line = b"\n" + line if size and _read(file, 1, size - 1) != b"\n" else line  # a kill tore the last one
                while line:
                    line = line[os.write(file, line):]
            except OSError as error:
                raise OutputError(f"{self.path}: cannot be written ({error.strerror})",
                                  "check its permissions and free space") from error
            finally:
                locks.give(file, APPENDING)
            self.refresh()

    # ---- who is at what

    @contextmanager
    def working(self, folders: Sequence[str | Path] = ()) -> Iterator[None]:
        """While this process works here. If it is alone, unfinished files of killed runs leave `folders` first."""
        made = not self.out.exists()
        with self._lock:
            file = self._open()
            if self.path.parent == self.out and locks.hold(file) and locks.take(file, PRESENCE):
                destinations.sweep(folders)
                locks.take(file, PRESENCE, shared=True)
        try:
            yield
        finally:
            self.close(made)

    def claim(self, item: Item) -> bool:
        """Whether `item` is this process's now, and no other's, until `release` or the end of the process."""
        with self._lock:
            return locks.take(self._open(), _claim(item))

    def release(self, item: Item) -> None:
        with self._lock:
            if self._file is not None:
                locks.give(self._file, _claim(item))

    def close(self, made: bool = False) -> None:
        """Gives up all claims. A ledger without a line goes, and its folder, too, if it was `made` for it."""
        with self._lock:
            if self._file is None:
                return
            if not os.fstat(self._file).st_size and locks.take(self._file, PRESENCE):
                self.path.unlink(missing_ok=True)
                if made:
                    try:
                        self.out.rmdir()
                    except OSError:
                        pass  # it holds something
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        """The descriptor for writing, with presence announced on the file that has the name now."""
        while self._file is None:
            try:
                self.out.mkdir(parents=True, exist_ok=True)
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
            except OSError as error:
                raise OutputError(f"{self.path}: cannot be written ({error.strerror})",
                                  "check its permissions and free space") from error
            locks.take(file, PRESENCE, shared=True, wait=True)
            try:
                same = os.path.samestat(os.fstat(file), os.stat(self.path))
            except OSError:
                same = False
            if same:
                self._file = file
            else:  # another process ended, and took its empty ledger away
                os.close(file)
        return self._file

    @contextmanager
    def _reading(self) -> Iterator[int | None]:
        if self._file is not None:
            yield self._file
            return
        try:
            file = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError:
            yield None
            return
        try:
            yield file
        finally:
            os.close(file)


# ---- lines

def _entry(line: bytes) -> dict[str, Any] | None:
    """A line that is a record; None for one that is torn or something else: its input is done again."""
    try:
        entry = json.loads(line)
        right = (isinstance(entry["source"], str) and isinstance(entry["key"], str)
                 and isinstance(entry["outputs"], list) and bool(entry["outputs"] or entry.get("error"))
                 and all(isinstance(name, str) for name in entry["outputs"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return entry if right else None


def _read(file: int, count: int, place: int) -> bytes:
    os.lseek(file, place, os.SEEK_SET)  # what is added goes to the end wherever this stands
    return os.read(file, count)


def _number(source: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(source), digest_size=7).digest(), "big")


def _claim(item: Item) -> int:
    return _number(item.relative.as_posix())


def _holds(path: Path) -> bool:
    """Whether it is a file with something in it: after a power cut, a file may be there and empty."""
    try:
        return os.stat(path).st_size > 0 and path.is_file()
    except OSError:
        return False


# ---- inputs

def input_key(path: str | Path, identity: str) -> str:
    """The hash of a file's bytes, then that of `identity`: pack, base, options. InputError when it is unreadable."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", "check the path and its permissions") from error
    return digest.hexdigest()[:32] + suffix(identity)


def suffix(identity: str) -> str:
    """How the keys of all that is made with this identity end."""
    return "-" + hashlib.sha256(identity.encode()).hexdigest()[:32]


def failure(line: dict[str, Any]) -> Failure | None:
    """What went wrong, if that is what a line tells."""
    told = line.get("error")
    return Failure(*(str(told.get(name, "")) for name in ("type", "message", "hint"))) if told else None


def stamp(path: str | Path) -> list[int] | None:
    """Size, times of change and inode of a file, by which its bytes are known to be the same; None where they are not.

    Whoever writes to a file changes the last of these times, which no program can set (POSIX). Only a second write
    within the same tick of the clock could hide, so a file that has just changed gets no stamp (as in git's index).
    """
    if os.name != "posix":
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    if found.st_ctime + SETTLED >= time.time():
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
