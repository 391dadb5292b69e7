"""People for the tests of the study: drawn pictures, a study of them, and participants who speak HTTP."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from sigan.study import box
from sigan.study.build import BuildConfig, build
from sigan.study.server import Limits, StudyServer

METHODS = ("alpha-secret", "beta-secret", "gamma-secret")  # names that must show up nowhere outside
QUICK = Limits(votes_a_second=1000, votes_at_once=1000, joins_an_hour=100_000)


def draw(folder: Path, count: int, hue: int, side: int = 48) -> Path:
    """So many pictures p0.png … of waves in one colour."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:side, :side]
    for n in range(count):
        waves = 127 + 120 * np.sin(x / (2 + n) + y / (3 + hue))
        image = np.stack([waves if channel == hue % 3 else waves / 3 for channel in range(3)], -1).astype(np.uint8)
        Image.fromarray(image).save(folder / f"p{n}.png")
    return folder


def make(where: Path, *, photographs: int = 4, methods=METHODS, inputs: bool = True, references: bool = True,
         **options):
    """A built study of drawn pictures, in `where`/study."""
    folders = {name: draw(where / f"m{k}", photographs, k) for k, name in enumerate(methods)}
    config = BuildConfig(**{"trials": 6, "checks": 2, "seed": 3, **options})
    return build(where / "study", folders, inputs=draw(where / "photos", photographs, 5) if inputs else None,
                 references=draw(where / "refs", 2, 7) if references else None, config=config)


@contextmanager
def serving(folder: Path, limits: Limits = QUICK, **options):
    """A server of the study on a free port, stopped at the end."""
    with StudyServer(folder, port=0, limits=limits, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Voter:
    """A participant without a browser. `choose(left, right)` gives left, right or tie."""

    def __init__(self, port: int, study) -> None:
        self.port, self.study = port, study
        self.token, self.sheet, self.answered = "", [], 0

    def ask(self, method: str, path: str, body=None, headers=None, timeout: float = 10):
        """(status, headers, content) of one request; a dict is sent as JSON."""
        raw = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        sent = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.token}"} if self.token else {}),
                **(headers or {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, raw, sent)
            reply = connection.getresponse()
            content = reply.read()
            return reply.status, reply.headers, content
        finally:
            connection.close()

    def post(self, path: str, **body):
        status, _, content = self.ask("POST", path, {"study": self.study.hash, **body})
        return status, json.loads(content)

    def join(self, **body) -> int:
        status, reply = self.post("/join", **{"language": "en", "practised": "no", **body})
        if status == 200:
            self.token, self.sheet, self.answered = reply["participant"], reply["sheet"], reply["answered"]
        return status

    def answer(self, choice: str, ms: int = 1500, position: int | None = None) -> dict:
        place = self.answered if position is None else position
        _, left, right = self.sheet[place]
        return {"position": place, "left": left, "right": right, "choice": choice, "ms": ms}

    def vote(self, choice: str, ms: int = 1500, position: int | None = None) -> int:
        status, reply = self.post("/vote", **self.answer(choice, ms, position))
        self.answered = reply.get("answered", self.answered)
        return status


def wise(study, prefer=METHODS):
    """The choice of somebody attentive who prefers the methods in that order: choose(left, right)."""
    spoilt = {pair.b for pair in study.pairs[len(study.pairs) - study.checks:]}

    def choose(left: str, right: str) -> str:
        if spoilt & {left, right}:
            return "right" if left in spoilt else "left"
        a, b = (prefer.index(study.drawn_by[picture]) for picture in (left, right))
        return "left" if a < b else "right"

    return choose


def age(folder: Path, seconds: float = 3600) -> None:
    """Lets the participants in the box have joined earlier: tests claim seconds that they do not wait."""
    import sqlite3

    with sqlite3.connect(folder / box.FILE) as db:
        db.execute("UPDATE participants SET joined = joined - ?", (seconds,))
