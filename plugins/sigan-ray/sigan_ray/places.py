"""Where pictures are: paths that every machine sees, or URLs of an object store, which fsspec reads and writes.

Everything here takes a place as text, a path or a URL, and tells them apart by itself.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sigan import destinations, ledger, sources
from sigan.errors import ConfigError, InputError, OutputError
from sigan.pictures import SUFFIXES

# Two letters at least, so that C:/ is a drive. One slash may be missing: a Path of "s3://b/c" is "s3:/b/c".
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
TRIES = 3  # of a transfer; the stores' own clients retry besides
PAUSE = 0.5  # seconds before the second try, doubled for each further one


def parse(text: str | os.PathLike) -> str:
    """A place in one form: URLs with both slashes, without one at the end; file:// and all else as a path."""
    text = os.fspath(text)
    found = URL.fullmatch(text)
    if not found:
        return text
    scheme, rest = found[1].lower(), found[2].rstrip("/")
    return f"/{rest}" if scheme in ("file", "local") else f"{scheme}://{rest}"


def is_url(place: str) -> bool:
    return bool(URL.fullmatch(place))


def join(place: str, name: str) -> str:
    return f"{place}/{name}" if is_url(place) else os.path.join(place, name)


def _store(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path there. ConfigError where none is installed for it."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # no package for it; no such scheme
        raise ConfigError(f"{url}: {error}", "s3:// needs `pip install s3fs`, gs:// gcsfs, abfs:// adlfs, on every "
                          "node") from error


# ---- the inputs of a run

def inputs(source: str, out: str | os.PathLike, faces: str = "largest") -> list[sources.Item]:
    """The inputs of a file, folder, URL or "-" (paths or URLs on stdin), as `sigan.sources.find_inputs` gives them.

    The `path` of what is in an object store is its URL. InputError where there is no picture.
    """
    several, source, target = faces == "all", parse(source), parse(out)
    if not is_url(target):
        destinations.check_output(target)
    if source == "-":
        lines = getattr(sys.stdin, "buffer", sys.stdin).read().splitlines(keepends=True)
        urls = [parse(os.fsdecode(line).strip()) for line in lines if line.strip()]
        if not any(map(is_url, urls)):
            return sources.find_inputs("-", listing=lines, several=several)
        top = os.path.commonprefix([posixpath.dirname(url) + "/" for url in urls]).rpartition("/")[0]
        return sources.mark_clashes([_item(url, top) for url in dict.fromkeys(urls)], several)
    if not is_url(source):
        return sources.find_inputs(source, out=None if is_url(target) else target, several=several)
    if source == target:
        raise OutputError(f"{source}: the output folder is the input folder", "name another folder to write into")
    store, root = _store(source)
    try:
        found = [root] if store.isfile(root) else store.find(root)
    except OSError as error:
        raise InputError(f"{source}: cannot be listed ({error})", "check the URL and the credentials") from error
    base = posixpath.dirname(root) if found == [root] else root
    scheme = source.partition("://")[0]
    names = sorted(name for name in found if name.lower().endswith(tuple(SUFFIXES)))
    urls = [store.unstrip_protocol(name) for name in names]
    items = [sources.Item(url if is_url(url) else f"{scheme}://{name}", Path(posixpath.relpath(name, base)))
             for url, name in zip(urls, names)]
    items = [item for item in items if not any(part.startswith(".") for part in item.relative.parts)
             and not item.path.startswith(target + "/")]
    if not items:
        raise InputError(f"{source}: holds no picture", f"pictures end in {' '.join(SUFFIXES)}")
    return sources.mark_clashes(items, several)


def _item(url: str, top: str) -> sources.Item:
    if not url.startswith(top + "/"):
        raise InputError(f"{url}: has nothing in common with the other URLs of the list", "make one run of each store")
    return sources.Item(url, Path(url[len(top) + 1:]))


# ---- transfers

def stamp(place: str) -> list | None:
    """By what a place's bytes are known to be the same as before: size and ETag or time; None where nothing tells."""
    if not is_url(place):
        return ledger.stamp(place)
    store, path = _store(place)
    try:
        told = store.info(path)
    except OSError:
        return None
    mark = next((told[name] for name in ("ETag", "etag", "mtime", "LastModified", "last_modified") if told.get(name)),
                None)
    return None if mark is None else [told.get("size"), str(mark)]


def holds(place: str) -> bool:
    """Whether there is a file with something in it."""
    if not is_url(place):
        return os.path.isfile(place) and os.path.getsize(place) > 0
    store, path = _store(place)
    try:
        return (store.info(path).get("size") or 0) > 0
    except OSError:
        return False


def fetch(place: str, path: Path) -> None:
    """Copies a URL's file to `path`. InputError after the last try."""
    store, name = _store(place)
    _tried(lambda: store.get_file(name, str(path)),
           lambda error: InputError(f"{place}: cannot be read ({_reason(error)})", "check the URL and the credentials"))


def put(path: Path, place: str) -> None:
    """Copies a file to a URL; in object stores it is there whole or not at all. OutputError after the last try."""
    store, name = _store(place)
    _tried(lambda: store.put_file(str(path), name),
           lambda error: OutputError(f"{place}: cannot be written ({_reason(error)})", "check the credentials"))


def remove(place: str) -> None:
    """Takes a file away, if it is there."""
    store, name = _store(place)
    try:
        store.rm_file(name)
    except FileNotFoundError:
        pass


def _tried(transfer: Callable[[], object], failure: Callable[[Exception], Exception]) -> None:
    for left in reversed(range(TRIES)):
        try:
            transfer()
            return
        except (FileNotFoundError, PermissionError) as error:
            raise failure(error) from error
        except Exception as error:  # each store's client has errors of its own
            if not left:
                raise failure(error) from error
            time.sleep(PAUSE * 2 ** (TRIES - 1 - left))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
