"""One function applied to many things at once: in processes of its own, in threads, or in one thread beside the caller.

A process is an interpreter that is started anew and told the function through a pipe: nothing is forked, the caller's
`__main__` is not run again, and it ends when the pipe does, however the caller ended. A thing whose process dies costs
that thing only.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from sigan.errors import ConfigError

KINDS = ("processes", "threads", "one")
START = "import sys; sys.path[:] = sys.argv[1:]; from sigan.workers import serve; serve()"


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """`submit(thing)` gives a Future of `function(thing)`. Use it in a `with`, which stops what is still at work.

    `count` workers of a `kind`; each has a copy of the function to itself. A function that cannot be copied (it closes
    over something, or has no place from where another process could import it) gets one thread.
    """

    def __init__(self, function: Callable[[Any], Any], count: int, kind: str = "processes") -> None:
        if kind not in KINDS:
            raise ConfigError(f"kind of workers is {kind!r}; it must be one of {', '.join(KINDS)}")
        if count < 1:
            raise ConfigError(f"workers is {count}; it must be 1 or more")
        self._packed = _packed(function)
        alone = kind == "one" or self._packed is None
        self.kind = "one" if alone else "processes" if kind == "processes" and _can_start() else "threads"
        self.count = 1 if alone else count
        self._idle: queue.SimpleQueue = queue.SimpleQueue()
        self._children: list[_Child] = []
        self._closed = False
        self._lock = threading.Lock()
        for _ in range(self.count):
            started = self.kind == "processes"  # when it is needed
            self._idle.put(None if started else function if alone else ForkingPickler.loads(self._packed))
        self._threads = ThreadPoolExecutor(self.count, thread_name_prefix="sigan-work")

    def submit(self, thing: Any) -> Future:
        """A Future of the function's answer or error; ChildProcessError where the process died at it."""
        return self._threads.submit(self._work, thing)

    def _work(self, thing: Any) -> Any:
        worker = self._idle.get()
        try:
            if self.kind != "processes":
                return worker(thing)
            worker = worker or self._start()
            try:
                return worker.ask(thing)
            except (EOFError, OSError) as error:
                worker, ended = None, worker.stop(patience=5)
                raise ChildProcessError(f"the process that worked at it ended ({ended})") from error
        finally:
            self._idle.put(worker)

    def _start(self) -> _Child:
        with self._lock:
            if self._closed:
                raise EOFError
            child = _Child(self._packed)
            self._children = [other for other in self._children if other.alive()] + [child]
        return child

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_) -> None:
        with self._lock:
            self._closed = True
            children = self._children
        self._threads.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.stop()
        self._threads.shutdown(wait=True)


class _Child:
    """A process that answers one thing at a time."""

    def __init__(self, packed: bytes) -> None:
        paths = [path or os.getcwd() for path in sys.path]
        self._process = subprocess.Popen([sys.executable, "-c", START, *paths], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
        self._asked = Connection(os.dup(self._process.stdin.fileno()), readable=False)
        self._answers = Connection(os.dup(self._process.stdout.fileno()), writable=False)
        self._process.stdin.close(), self._process.stdout.close()
        self._asked.send_bytes(packed)

    def ask(self, thing: Any) -> Any:
        self._asked.send(thing)
        went_well, answer = self._answers.recv()
        if not went_well:
            raise answer
        return answer

    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self, patience: float = 0.0) -> str:
        """How it ended, by itself within `patience` seconds or now; who waits for its answer gets an EOFError."""
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def serve() -> None:
    """The life of such a process: reads the function, then things, until the pipe ends. What it prints is on stderr."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's affair
    asked, answers = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    os.dup2(2, 1)
    try:
        function = ForkingPickler.loads(asked.recv_bytes())
        while True:
            thing = asked.recv()
            try:
                answer = True, function(thing)
            except Exception as error:
                answer = False, error
            answers.send_bytes(_packed(answer) or _packed((False, RuntimeError(repr(answer[1])))))
    except (EOFError, OSError):
        return


def _packed(thing: Any) -> bytes | None:
    try:
        return bytes(ForkingPickler.dumps(thing))
    except Exception:  # whatever a `__reduce__` raises: it cannot be copied
        return None


def _can_start() -> bool:
    return os.name == "posix" and bool(sys.executable)
