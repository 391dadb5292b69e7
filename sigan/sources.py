"""What goes in: the pictures of a file, a folder or a list; shards of them; those that appear while a run watches."""

from __future__ import annotations

import os
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sigan.errors import ConfigError, InputError, OutputError
from sigan.pictures import SUFFIXES

NUMBERED = re.compile(r"-\d+$")


@dataclass(frozen=True)
class Item:
    """One input: its file, its place relative to the source, and whether its output keeps the extension."""

    path: Path
    relative: Path
    keep_extension: bool = False


# ---- finding

def find_inputs(
    source: str | Path,
    suffixes: Sequence[str] = SUFFIXES,
    *,
    out: str | Path | None = None,
    listing: Iterable[str | bytes] | None = None,
    several: bool = False,
) -> list[Item]:
    """The inputs of a file, a folder (recursive, sorted) or "-" (paths in `listing`, one a line), without doubles.

    A listing that holds a NUL is divided there and not at ends of lines, as of `find -print0`. Hidden files and
    whatever lies under `out` are left out; links to folders are not followed; a folder that cannot be searched is an
    input, and fails as one. `several`: an input may give more than one output.
    InputError names a source that is missing or holds no picture.
    """
    if str(source) == "-":
        items = _listed(listing)
    elif Path(source).is_dir():
        items = _walk(Path(source), suffixes, Path(out) if out is not None else None)
    elif os.path.lexists(source):
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
    found: list[tuple[str, ...]] = []  # the parts of each path, so that a folder's files stay together when sorted
    closed: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = [name for name in folders
                      if not name.startswith(".") and (skipped is None or Path(parent, name).resolve() != skipped)]
        above = Path(os.path.relpath(parent, folder)).parts
        found += [(*above, name) for name in names if _is_input(name, suffixes)]
    for error in closed:
        if Path(error.filename) == folder:
            raise InputError(f"{folder}: cannot be searched ({error.strerror})", "check its permissions")
        found.append(Path(os.path.relpath(error.filename, folder)).parts)
    return [Item(Path(folder, *parts), Path(*parts)) for parts in sorted(found)]


def _listed(listing: Iterable[str | bytes] | None) -> list[Item]:
    """A listed path keeps its folders as written; an absolute one keeps those below what the absolute ones share."""
    lines = [line if isinstance(line, bytes) else os.fsencode(line) for line in listing or ()]
    nul = any(b"\0" in line for line in lines)
    names = b"".join(lines).split(b"\0") if nul else [line.rstrip(b"\r\n") for line in lines]
    paths = [Path(os.fsdecode(name)) for name in dict.fromkeys(names) if name.strip()]
    rooted = {path for path in paths if path.is_absolute() or ".." in path.parts}
    top = os.path.commonpath([path.absolute().parent for path in rooted]) if rooted else ""
    return [Item(path, Path(os.path.relpath(path.absolute(), top)) if path in rooted else path) for path in paths]


def _is_input(name: str, suffixes: Sequence[str]) -> bool:
    return not name.startswith(".") and name.lower().endswith(tuple(suffixes))


def mark_clashes(items: Sequence[Item], several: bool = False) -> list[Item]:
    """The items, those marked that would write the same file as another (case aside, as some file systems have it).

    With `several`, b.jpg may write b-1.png, so b-1.jpg clashes with it.
    """
    keys = [os.path.splitext(item.relative.as_posix())[0].casefold() for item in items]
    counts = Counter(keys)
    bases = {NUMBERED.sub("", key) for key in counts if NUMBERED.search(key)} if several else set()

    def clashes(key: str) -> bool:
        if counts[key] > 1 or key in bases:
            return True
        numbered = NUMBERED.sub("", key) if several else key
        return numbered != key and numbered in counts

    return [replace(item, keep_extension=True) if clashes(key) else item for key, item in zip(keys, items)]


# ---- a part of them

@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, from 1. An input's part follows from its name alone, whatever else is in the folder."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Of "I/N", as in 2/8; ConfigError for anything else."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(f"the shard is {text!r}; it must be I/N with I from 1 to N",
                              "of four machines, the first takes --shard 1/4, the last --shard 4/4")
        return cls(int(found[1]), int(found[2]))

    def of(self, items: Iterable[Item]) -> list[Item]:
        """Those that belong to this part."""
        return [item for item in items
                if zlib.crc32(os.fsencode(item.relative.as_posix())) % self.count == self.index - 1]


# ---- those still to come

def watch(folder: str | Path, every: float = 2.0, **how: Any) -> Iterator[list[Item]]:
    """What is new or changed in a folder, for ever: first all it holds, then whatever has come to rest since.

    A file has come to rest when two looks, `every` seconds apart, see the same size and time of change. `how`: as of
    `find_inputs`. An empty list comes first from an empty folder, and never again.
    """
    if not Path(folder).is_dir():
        raise ConfigError(f"{folder} is no folder, so there is nothing to watch", "give a folder as IN")
    given: dict[Path, Any] = {}
    before: dict[Path, Any] | None = None
    while True:
        try:
            items = find_inputs(folder, **how)
        except InputError:
            items = []
        seen = {item.path: (_state(item.path), item.keep_extension) for item in items}
        ready = [item for item in items if seen[item.path] != given.get(item.path)
                 and (before is None or before.get(item.path, ((),))[0] == seen[item.path][0])]
        given = {path: given[path] for path in seen if path in given}
        given.update((item.path, seen[item.path]) for item in ready)
        if ready or before is None:
            yield ready
        before = seen
        time.sleep(every)


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns
