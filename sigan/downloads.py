"""Files from the network, whole or not at all: resumed, verified, and honest about what a server sends instead.

`requests` carries the bytes; urllib3 2 below it refuses an answer shorter than announced. `SIGAN_OFFLINE=1` forbids
the network, `SIGAN_MIRROR=URL` takes the place of every host.
"""

from __future__ import annotations

import errno
import hashlib
import html
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

from sigan.errors import OfflineError, OutputError, WeightsError
from sigan.events import Transfer

if TYPE_CHECKING:
    import requests

CHUNK = 1 << 20  # bytes between two records
TIMEOUT = (10, 30)  # seconds to connect, and without a byte
ATTEMPTS = 4  # in a row that bring nothing new, for one address
PAUSE = 0.5  # seconds before the second attempt, doubled each time
MARGIN = 64 << 20  # bytes that stay free on the disk
PAGE = 1 << 18  # bytes of a web page that are read to say what it is
AGENT = "sigan (https://pypi.org/project/sigan)"
PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")


class _Refused(Exception):
    """An address does not give the file; asking it again is no use."""


class _Interrupted(Exception):
    """An address may give the rest when it is asked again."""


def offline() -> bool:
    """Whether SIGAN_OFFLINE forbids the network."""
    return os.environ.get("SIGAN_OFFLINE", "") not in ("", "0")


def addresses(urls: tuple[str, ...], file: str) -> list[str]:
    """Where to ask, in order: the urls; with SIGAN_MIRROR its host instead, by the same path and then by file name."""
    mirror = os.environ.get("SIGAN_MIRROR", "").rstrip("/")
    if not mirror:
        return list(urls)
    same = [mirror + urlunsplit(("", "", urlsplit(url).path, urlsplit(url).query, "")) for url in urls]
    return list(dict.fromkeys([*same, f"{mirror}/{file}"]))


def sha256(path: Path) -> str:
    """The hex sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def lock(path: Path) -> Iterator[Callable[[], bool]]:
    """Guards `path` between processes; the function it gives takes the lock, or says False after half a second.

    The system frees the lock of a process that dies.
    """
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise no_room(path, error) from error
    guard = FileLock(path.with_name(f".{path.name}.lock"))

    def take() -> bool:
        try:
            guard.acquire(timeout=0.5)
        except Timeout:
            return False
        except OSError as error:
            raise no_room(path, error) from error
        return True

    try:
        yield take
    finally:
        guard.release()


def download(path: Path, urls: tuple[str, ...], *, size: int | None = None, digest: str = "",
             prove: Callable[[Path], None] = lambda path: None, remedy: str = "",
             renewed: str = "") -> Generator[Transfer, None, None]:
    """Brings a file to `path`, and yields a record for each piece; the last one's state is "done".

    size in bytes and digest (sha256 hex, or its beginning) are what is known beforehand; `prove` raises WeightsError
    on a file that is not what it should be. renewed: what the error adds where the digest is another. A broken
    download is taken up where it stopped, by this process or the next. OfflineError where the network is forbidden or
    dead, OutputError where there is no room, WeightsError with every address and its reason otherwise.
    """
    if path.is_file():
        yield Transfer(path.name, "", path.stat().st_size, path.stat().st_size, "done")
        return
    if offline():
        raise OfflineError(f"{path.name} is not here, and SIGAN_OFFLINE forbids the network",
                           f"unset SIGAN_OFFLINE; or {remedy}")
    try:
        with lock(path) as take:
            while not take():
                yield Transfer(path.name, "", 0, size, "waiting")
            if path.is_file():  # the other process brought it
                yield Transfer(path.name, "", path.stat().st_size, path.stat().st_size, "done")
                return
            yield from _bring(path, addresses(urls, path.name), size, digest, prove, remedy, renewed)
    except OSError as error:
        raise no_room(path, error) from error


def no_room(path: Path, error: OSError) -> OutputError:
    """The error of a file that cannot be written."""
    what = "no space left on the disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
    return OutputError(f"{path}: cannot be written ({what})",
                       "free some space, or set SIGAN_HOME to a folder with more; then run it again: it resumes")


def _bring(path: Path, urls: list[str], size: int | None, digest: str, prove: Callable[[Path], None],
           remedy: str, renewed: str) -> Iterator[Transfer]:
    part, reasons, answered = path.with_name(f".{path.name}.part"), [], False
    for url in urls:
        try:
            for record in _fetch(url, part, path.name, size):
                answered = True
                yield record
            total = part.stat().st_size
            yield Transfer(path.name, url, total, total, "verifying")
            _verify(part, size, digest, prove, renewed)
        except _Refused as error:
            answered = answered or not isinstance(error.__cause__, ConnectionError)
            reasons.append(f"{url}: {error}")
            continue
        os.replace(part, path)
        _note(part).unlink(missing_ok=True)
        yield Transfer(path.name, url, total, total, "done")
        return
    told = f"{path.name} cannot be downloaded:\n  " + "\n  ".join(reasons)
    if not answered:
        raise OfflineError(told, f"check the network, or a proxy (HTTPS_PROXY); or {remedy}")
    raise WeightsError(told, remedy)


def _verify(part: Path, size: int | None, digest: str, prove: Callable[[Path], None], renewed: str) -> None:
    """_Refused, and the file is gone, when it is not the one that was wanted."""
    try:
        if size is not None and part.stat().st_size != size:
            raise _Refused(f"sent {part.stat().st_size} bytes instead of {size}")
        if digest and not (found := sha256(part)).startswith(digest):
            raise _Refused(f"sent another file: its sha256 is {found}, not {digest}{renewed}")
        prove(part)
    except (_Refused, WeightsError) as error:
        part.unlink()
        _note(part).unlink(missing_ok=True)
        raise _Refused(str(error).replace(f"{part} is", "what it sends is")) from error


# ---- one address

def _fetch(url: str, part: Path, name: str, size: int | None) -> Iterator[Transfer]:
    """Fills `part` from one address, asking again where it breaks off. _Refused when that leads nowhere."""
    import requests

    left, furthest = ATTEMPTS, -1
    with requests.Session() as session:
        session.headers.update({"User-Agent": AGENT, "Accept-Encoding": "identity"})
        while True:
            try:
                yield from _attempt(session, url, part, name, size)
                return
            except _Interrupted as error:
                reason = error
            have = part.stat().st_size if part.exists() else 0
            left = ATTEMPTS if have > furthest >= 0 else left
            furthest, left = max(furthest, have), left - 1
            if left <= 0:
                raise _Refused(str(reason)) from reason.__cause__
            time.sleep(PAUSE * 2 ** (ATTEMPTS - left - 1))


def _attempt(session: requests.Session, url: str, part: Path, name: str, size: int | None,
             asked: int = 0) -> Iterator[Transfer]:
    import requests
    from urllib3.exceptions import HTTPError

    start, headers = _resume(url, part) if not asked else (0, {})
    try:
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                if _range_total(answer) == start > 0:
                    return  # it was whole already
                part.unlink(missing_ok=True)
                raise _Interrupted("no longer has the part that is missing")
            if answer.status_code >= 500 or answer.status_code in (408, 429):
                raise _Interrupted(f"answers {answer.status_code} {answer.reason}")
            if answer.status_code >= 400:
                raise _Refused(f"answers {answer.status_code} {answer.reason}{_about(answer)}")
            resumed = answer.status_code == requests.codes.partial_content
            if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise _Refused(f"sends {answer.headers.get('Content-Range')!r} instead of the bytes from {start}")
            start = start if resumed else 0
            length = answer.headers.get("Content-Length", "")
            total = start + int(length) if length.isdecimal() else None
            pieces = answer.raw.stream(CHUNK, decode_content=False)
            first = next(pieces, b"")
            if not start and first.lstrip()[:10].lower().startswith(PAGES):
                page = first[:PAGE].decode("utf-8", "replace")
                form = _confirmation(page, answer.url)
                if form is None or asked:
                    raise _Refused(_page_reason(page))
                yield from _attempt(session, form, part, name, size, asked + 1)
                return
            if size is not None and total is not None and total != size:
                raise _Refused(f"offers {total} bytes instead of {size}")
            _check_room(part, (total or size or 0) - start)
            if not resumed:
                _remember(url, part, answer)
            with open(part, "ab" if resumed else "wb") as file:
                done = start
                while first:
                    file.write(first)
                    done += len(first)
                    if size is not None and done > size:
                        raise _Refused(f"sends more than the {size} bytes that the file has")
                    yield Transfer(name, url, done, total or size, "resuming" if resumed else "downloading")
                    first = next(pieces, b"")
                file.flush()
                os.fsync(file.fileno())
            if total is not None and done != total:
                raise _Interrupted(f"broke off at byte {done} of {total}")
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _Interrupted(f"cannot be reached ({_short(error)})") from ConnectionError(str(error))
    except requests.RequestException as error:
        raise _Refused(f"cannot be asked ({_short(error)})") from error
    except HTTPError as error:
        raise _Interrupted(f"broke off ({_short(error)})") from error


def _resume(url: str, part: Path) -> tuple[int, dict[str, str]]:
    """From which byte to ask, and the headers for it; from the start unless the part came from this very file."""
    try:
        known, have = json.loads(_note(part).read_text()), part.stat().st_size
    except (OSError, ValueError):
        return 0, {}
    if known.get("url") != url or not have:
        return 0, {}
    condition = {"If-Range": known["edition"]} if known.get("edition") else {}
    return have, {"Range": f"bytes={have}-", **condition}


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _remember(url: str, part: Path, answer: requests.Response) -> None:
    """Notes beside the part where it comes from, and which edition of the file it is (RFC 9110, 13.1.5)."""
    tag = answer.headers.get("ETag", "")
    edition = tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")
    _note(part).write_text(json.dumps({"url": url, "edition": edition}))


def _range_total(answer: requests.Response) -> int | None:
    found = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _check_room(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed + MARGIN > free:
        raise OutputError(f"{part.parent}: no space left: {needed / 1e6:.0f} MB are needed and {MARGIN / 1e6:.0f} MB "
                          f"to spare, {free / 1e6:.0f} MB are free",
                          "free some space, or set SIGAN_HOME to a folder with more")


# ---- pages in place of files

def _confirmation(page: str, base: str) -> str | None:
    """Where Google Drive's question about a file too large for its virus scan leads when it is answered yes."""
    form = re.search(r'<form[^>]*id="download-form"[^>]*>', page)
    action = form and re.search(r'action="([^"]+)"', form[0])
    if not form or not action:
        return None
    tags = re.findall(r"<input[^>]*>", page[form.end():])
    inputs = [dict(re.findall(r'(name|value)="([^"]*)"', tag)) for tag in tags]
    fields = {field["name"]: html.unescape(field.get("value", "")) for field in inputs if "name" in field}
    target = urljoin(base, html.unescape(action[1]))
    return f"{target}{'&' if '?' in target else '?'}{urlencode(fields)}"


def _page_reason(page: str) -> str:
    """What a page that came in place of the file says."""
    text = page.lower()
    if "quota" in text or "too many users have viewed or downloaded" in text:
        return "its quota of downloads is used up; it is given anew within 24 hours"
    if "accounts.google.com" in text or "sign in" in text or "request access" in text:
        return "wants a sign-in: the file is no longer public there"
    title = re.search(r"<title[^>]*>\s*([^<]+?)\s*</title>", page, re.IGNORECASE)
    named = f", titled {html.unescape(title[1])[:80]!r}" if title else ""
    return f"sends a web page instead of the file{named}"


def _about(answer: requests.Response) -> str:
    """What an error's page adds, when it is about a quota."""
    page = answer.raw.read(PAGE, decode_content=False).decode("utf-8", "replace")
    return f": {_page_reason(page)}" if "quota" in page.lower() else ""


def _short(error: Exception) -> str:
    """An exception's innermost reason, without urllib3's nesting."""
    if cut := re.search(r"IncompleteRead\((\d+) bytes read, (\d+) more expected", str(error)):
        return f"{cut[1]} bytes came, {cut[2]} more were announced"
    found = re.search(r"\[Errno -?\d+\] ([^'\")]+)|([Tt]imed out)|(\w+ refused)", str(error))
    return next(group for group in found.groups() if group) if found else f"{type(error).__name__}: {str(error)[:120]}"
