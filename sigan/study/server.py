"""The server of a study: the page, its pictures, and three requests that collect votes. Standard library only.

Three requests and one table need no framework, so none is required; what a framework would bring is here: limits on
rate, size, time and connections, and headers that let the page run nothing but its own script. Without TLS: put a proxy
that has it in front when the study leaves the local network.
"""

from __future__ import annotations

import io
import json
import socket
import sqlite3
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

from sigan.errors import ConfigError
from sigan.study import page, plan
from sigan.study.ballots import BadVote, answer, check, parse
from sigan.study.box import BallotBox, Full, OutOfTurn, Unknown
from sigan.study.plan import LANGUAGES, PRACTISED

MAX_BODY = 2048  # bytes; an answer takes 300
TOKEN_CHARACTERS = 128
REMEMBERED = 20_000  # addresses and participants whose rate is known; the longest unseen are forgotten


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one address or participant may do. A class behind one address may take part at once; a program may not."""

    joins_an_hour: float = 60
    votes_a_second: float = 4  # of one participant; people take seconds for each
    votes_at_once: int = 20  # after the network was away
    requests_a_second: float = 50  # of one address, without pictures
    requests_at_once: int = 400
    connections: int = 128
    connections_each: int = 64  # of one address
    seconds: float = 15  # for a whole request to arrive


class Bucket:
    """Lets `at_once` through, and `a_second` more each second, for each of many keys (token bucket)."""

    def __init__(self, a_second: float, at_once: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.a_second, self.at_once, self._clock = a_second, at_once, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, key: str) -> float:
        """0 and one taken, or the seconds until there is one."""
        with self._lock:
            now = self._clock()
            left, then = self._left.pop(key, (self.at_once, now))
            left = min(self.at_once, left + (now - then) * self.a_second)
            self._left[key] = (left - 1 if left >= 1 else left, now)
            while len(self._left) > REMEMBERED:
                self._left.popitem(last=False)
            return 0.0 if left >= 1 else (1 - left) / self.a_second


class StudyServer(ThreadingHTTPServer):
    """Serves one study folder until `shutdown`. `refused` counts what was turned away, by reason.

    ConfigError when the address cannot be had; InputError when the folder's pictures are not those of the build.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: str | Path, host: str = "127.0.0.1", port: int = 8000, *, limits: Limits | None = None,
                 behind_proxy: bool = False) -> None:
        self.folder, self.study = Path(folder), plan.load(folder)
        self.limits, self.behind_proxy = limits or Limits(), behind_proxy
        self.page = page.served(self.study).encode()
        for picture in self.study.pictures:
            plan.load_picture(self.folder, self.study, picture)
        self.refused: Counter[str] = Counter()
        self.accepted = 0
        of = self.limits
        self._joins = Bucket(of.joins_an_hour / 3600, of.joins_an_hour)
        self._votes = Bucket(of.votes_a_second, of.votes_at_once)
        self._requests = Bucket(of.requests_a_second, of.requests_at_once)
        self._open: Counter[str] = Counter()
        self._count = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"cannot listen on {host} port {port} ({getattr(error, 'strerror', None) or error})",
                              "choose another --port (0 takes any that is free) or --host") from error
        try:
            self.box = BallotBox(folder, self.study)
        except BaseException:
            super().server_close()
            raise

    @property
    def url(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def server_close(self) -> None:
        super().server_close()
        if hasattr(self, "box"):  # not where the address could not be had
            self.box.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.note("broken off")  # a client that left, or sent what is no HTTP

    def note(self, reason: str) -> None:
        with self._count:
            self.refused[reason] += 1

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each connection, as many as the limits allow."""
        address = client_address[0]
        with self._count:
            full = (self._open.total() >= self.limits.connections
                    or not self.behind_proxy and self._open[address] >= self.limits.connections_each)
            self._open[address] += not full
        if full:
            self.note("too many connections")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._count:
                self._open[client_address[0]] -= 1
                self._open += Counter()  # drops those at 0


class _Refusal(Exception):
    def __init__(self, status: HTTPStatus, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.status, self.reason, self.wait = status, reason, wait


class Handler(BaseHTTPRequestHandler):
    """One connection, one request: read within the limits, answered with JSON, a picture or the page."""

    server: StudyServer
    server_version, sys_version = "sigan", ""

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Deadline(self.connection, self.server.limits.seconds), 4096)

    def log_message(self, *_: Any) -> None:
        pass  # the library never prints, and keeps no addresses

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server says of broken requests, without repeating any of them."""
        self.server.note("not HTTP")
        self._reply(HTTPStatus(code), {"error": HTTPStatus(code).phrase})

    # ---- requests

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        name, _, suffix = path.removeprefix("/pictures/").rpartition(".")
        study = self.server.study
        if path == "/":
            self._guarded(lambda: self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page))
        elif path.startswith("/pictures/") and f".{suffix}" == study.suffix and name in study.pictures:
            data = (self.server.folder / "pictures" / f"{name}{study.suffix}").read_bytes()
            self._send(HTTPStatus.OK, page.TYPES[study.suffix], data, "private, max-age=86400, immutable")
        elif path == "/favicon.ico":
            self._send(HTTPStatus.NO_CONTENT, "image/x-icon", b"")
        else:
            self._guarded(lambda: self._refuse(HTTPStatus.NOT_FOUND, "no such page"))

    def do_POST(self) -> None:
        actions = {"/join": self._join, "/me": self._me, "/vote": self._vote}
        action = actions.get(self.path)
        if action is None:
            self._guarded(lambda: self._refuse(HTTPStatus.NOT_FOUND, "no such page"))
        else:
            self._guarded(lambda: self._reply(HTTPStatus.OK, action(self._body())))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            self._limit(self.server._requests, self._address())
            work()
        except _Refusal as refusal:
            self.server.note(refusal.reason)
            self._reply(refusal.status, {"error": refusal.reason}, refusal.wait)
        except BadVote as error:
            self.server.note("not a valid request")
            self._reply(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except sqlite3.Error:  # a full disk: not acknowledged, so the page keeps the answer and tries again
            self.server.note("votes cannot be written")
            self._reply(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "try again later"}, 5)

    def _refuse(self, status: HTTPStatus, reason: str, wait: float = 0.0) -> NoReturn:
        raise _Refusal(status, reason, wait)

    def _limit(self, bucket: Bucket, key: str) -> None:
        if wait := bucket.wait(key):
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS, "too fast", wait)

    def _address(self) -> str:
        """Whom the rates are counted for: behind a proxy, the last address that it added itself."""
        if self.server.behind_proxy and (named := self.headers.get_all("X-Forwarded-For")):
            return named[-1].rpartition(",")[2].strip()[:64]
        return self.client_address[0]

    def _body(self) -> dict[str, Any]:
        """The JSON object sent by this page: other sites' pages cannot send that content type without our leave."""
        if self.headers.get_content_type() != "application/json" or self.headers.get("Transfer-Encoding"):
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not JSON")
        if self.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            self._refuse(HTTPStatus.FORBIDDEN, "another site's page")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 10):
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "no length")
        if int(length) > MAX_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too large")
        data = self.rfile.read(int(length))
        if len(data) < int(length):
            self._refuse(HTTPStatus.BAD_REQUEST, "cut short")
        record = parse(data)
        if record.pop("study", None) != self.server.study.hash:
            self._refuse(HTTPStatus.CONFLICT if self.path == "/join" else HTTPStatus.NOT_FOUND, "another study")
        return record

    def _token(self) -> str:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token or len(token) > TOKEN_CHARACTERS:
            self._refuse(HTTPStatus.UNAUTHORIZED, "no such participant")
        return token

    def _join(self, record: dict[str, Any]) -> dict[str, Any]:
        invitation = record.pop("invitation", "")
        check(record, {"language": LANGUAGES, "practised": PRACTISED})
        if not isinstance(invitation, str) or not invitation.isascii() or len(invitation) > TOKEN_CHARACTERS:
            raise BadVote("invitation is not what it may be")
        self._limit(self.server._joins, self._address())
        try:
            token, place = self.server.box.join(record["language"], record["practised"], invitation)
        except Unknown:
            self._refuse(HTTPStatus.FORBIDDEN, "no such invitation")
        except Full:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "full", 3600)
        return {"participant": token, "answered": place.answered, "sheet": page.sheet(self.server.study, place.sheet)}

    def _me(self, record: dict[str, Any]) -> dict[str, Any]:
        check(record, {})
        try:
            place = self.server.box.place(self._token())
        except Unknown:
            self._refuse(HTTPStatus.UNAUTHORIZED, "no such participant")
        return {"answered": place.answered, "sheet": page.sheet(self.server.study, place.sheet)}

    def _vote(self, record: dict[str, Any]) -> dict[str, Any]:
        token = self._token()
        box = self.server.box
        try:
            place = box.place(token)
            self._limit(self.server._votes, token)
            given = answer(self.server.study, place.sheet, record)
            answered = box.vote(token, record["position"], given)
        except Unknown:
            self._refuse(HTTPStatus.UNAUTHORIZED, "no such participant")
        except OutOfTurn:
            self._refuse(HTTPStatus.CONFLICT, "answered already, or not its turn")
        self.server.accepted += 1
        return {"answered": answered}

    # ---- replies

    def _reply(self, status: HTTPStatus, content: dict[str, Any], wait: float = 0.0) -> None:
        self._send(status, "application/json", json.dumps(content).encode(), wait=wait)

    def _send(self, status: HTTPStatus, kind: str, data: bytes, caching: str = "no-store", wait: float = 0.0) -> None:
        self.close_connection = True  # no thread waits for a client that has nothing to ask
        self.send_response(status)
        for name, value in (
                ("Content-Type", kind), ("Content-Length", str(len(data))), ("Connection", "close"),
                ("Cache-Control", caching), ("X-Content-Type-Options", "nosniff"), ("X-Frame-Options", "DENY"),
                ("Content-Security-Policy", f"{page.policy(served=True)}; frame-ancestors 'none'"),
                ("Referrer-Policy", "no-referrer"), ("Cross-Origin-Resource-Policy", "same-origin"),
                ("Cross-Origin-Opener-Policy", "same-origin")):
            self.send_header(name, value)
        if wait:
            self.send_header("Retry-After", str(int(wait) + 1))
        self.end_headers()
        self.wfile.write(data)


class _Deadline(io.RawIOBase):
    """What arrives on a socket until the time for the whole request is over: no drip keeps a thread."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection, self._end = connection, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)
