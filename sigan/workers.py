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
from typing import Any, Generic, TypeVar

from sigan.errors import ConfigError

KINDS = ("processes", "threads", "one")
Thing = TypeVar("Thing")
Answer = TypeVar("Answer")
START = "import sys; sys.path[:] = sys.argv[1:]; from sigan.workers import serve; serve()"


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers(Generic[Thing, Answer]):
    """`submit(thing)` gives a Future of `function(thing)`. Use it in a `with`, which stops what is still at work.

    `count` workers of a `kind`; each has a copy of the function to itself. A function that cannot be copied (it closes
    over something, or has no place from where another process could import it) gets one thread.
    """

    def __init__(self, function: Callable[[Thing], Answer], count: int, kind: str = "processes") -> None:
        if kind not in KINDS:
            raise ConfigError(f"kind of workers is {kind!r}; it must be one of {', '.join(KINDS)}")
        if count < 1:
            raise ConfigError(f"workers is {count}; it must be 1 or more")
        packed = _packed(function)
        alone = kind == "one" or packed is None
        self.kind = "one" if alone else "processes" if kind == "processes" and _can_start() else "threads"
        self.count = 1 if alone else count
        self._processes: list[_Process[Thing, Answer]] = []
        self._idle: queue.SimpleQueue[Callable[[Thing], Answer]] = queue.SimpleQueue()
        for _ in range(self.count):
            if packed is None or alone:
                self._idle.put(function)
            elif self.kind == "threads":
                self._idle.put(ForkingPickler.loads(packed))
            else:
                self._processes.append(_Process(packed))
                self._idle.put(self._processes[-1])
        self._threads = ThreadPoolExecutor(self.count, thread_name_prefix="sigan-work")

    def submit(self, thing: Thing) -> Future[Answer]:
        """A Future of the function's answer or error; ChildProcessError where the process died at it."""
        return self._threads.submit(self._work, thing)

    def _work(self, thing: Thing) -> Answer:
        worker = self._idle.get()
        try:
            return worker(thing)
        finally:
            self._idle.put(worker)

    def __enter__(self) -> Workers[Thing, Answer]:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.close()
        self._threads.shutdown(wait=True)


class _Process(Generic[Thing, Answer]):
    """The function in a process that starts when it is needed, and anew after one that died; one caller at a time."""

    def __init__(self, packed: bytes) -> None:
        self._packed, self._closed, self._lock = packed, False, threading.Lock()
        self._child: _Child | None = None

    def __call__(self, thing: Thing) -> Answer:
        child = self._running()
        try:
            went_well, answer = child.ask(thing)
        except (EOFError, OSError) as error:
            self._child = None
            raise ChildProcessError(f"the process that worked at it ended ({child.stop(patience=5)})") from error
        if not went_well:
            raise answer
        return answer

    def _running(self) -> _Child:
        with self._lock:
            if self._closed:
                raise EOFError
            self._child = self._child or _Child(self._packed)
            return self._child

    def close(self) -> None:
        """Ends the process, at work or not; none is started any more."""
        with self._lock:
            self._closed, child = True, self._child
        if child is not None:
            child.stop()


class _Child:
    """A process that answers one thing at a time."""

    def __init__(self, packed: bytes) -> None:
        paths = [path or os.getcwd() for path in sys.path]
        asked, asks = os.pipe()
        answered, answers = os.pipe()
        self._asked, self._answers = Connection(asks, readable=False), Connection(answered, writable=False)
        try:
            self._process = subprocess.Popen([sys.executable, "-c", START, *paths], stdin=asked, stdout=answers,
                                             env={**os.environ, "OMP_NUM_THREADS": "1"})
        finally:
            os.close(asked)
            os.close(answers)
        self._asked.send_bytes(packed)

    def ask(self, thing: Any) -> tuple[bool, Any]:
        """Whether it went well, and the answer or the error."""
        self._asked.send(thing)
        return self._answers.recv()

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
            answers.send_bytes(_packed(answer) or ForkingPickler.dumps((False, RuntimeError(repr(answer[1])))))
    except (EOFError, OSError):
        return


def _packed(thing: Any) -> bytes | None:
    try:
        return bytes(ForkingPickler.dumps(thing))
    except Exception:  # whatever a `__reduce__` raises: it cannot be copied
        return None


def _can_start() -> bool:
    return os.name == "posix" and bool(sys.executable)
