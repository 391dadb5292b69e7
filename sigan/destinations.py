"""Where results go: the file of each input, the folder they are written into, and what a kill left there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sigan import images
from sigan.errors import OutputError
from sigan.metadata import Metadata
from sigan.pictures import SUFFIXES, metadata_of
from sigan.sources import Item

SUFFIX = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}  # of each format written
PART = re.compile(r"\..+\.[0-9a-f]{8}\.part", re.DOTALL)  # as `images.atomic_write` names what is not whole yet


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


def write_faces(item: Item, pictures: Sequence[np.ndarray], out: str | Path, format: str, *,
                keep: Metadata | None = None) -> list[Path]:
    """The files written, one per picture of this input, left to right, with the metadata `keep`, or the input's own."""
    keep = metadata_of(item.path) if keep is None else keep
    paths = [output_path(item, out, SUFFIX[format], k, len(pictures)) for k in range(len(pictures))]
    if item.path.exists() and any(path.exists() and path.samefile(item.path) for path in paths):
        raise OutputError(f"{item.path}: the output would replace the input", "name another folder to write into")
    for k, (path, picture) in enumerate(zip(paths, pictures)):
        try:
            images.write(path, picture, format, keep=keep)
        except OutputError:
            for written in paths[:k]:  # all faces or none
                written.unlink(missing_ok=True)
            raise
    return paths


def sweep(folders: Iterable[str | Path]) -> int:
    """How many unfinished files of killed runs were removed; only for who works alone in these folders."""
    removed = 0
    for folder in folders:
        try:
            left = [entry.path for entry in os.scandir(folder) if PART.fullmatch(entry.name) and not entry.is_dir()]
        except OSError:
            continue  # not there yet, or not ours to read: whoever writes there will say so
        for path in left:
            try:
                os.unlink(path)
                removed += 1
            except OSError:
                continue
    return removed
