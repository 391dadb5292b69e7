"""What is wrong with the installed plugins. They are tried in another process: none can hang or end this one."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator

from sigan import plugins
from sigan.errors import ConfigError
from sigan.plugins import Plugin, PluginProblem

START_SECONDS = 120.0  # a Python on a busy machine with a cold disk
LOAD_SECONDS = 30.0  # a plugin that imports torch from a cold disk needs 15; one that hangs needs for ever


def problems(limit: float = LOAD_SECONDS) -> list[PluginProblem]:
    """What is wrong with the installed plugins: unreadable lists, names taken twice, and what does not load.

    All but the built-ins are loaded, in another process: see `check`.
    """
    found, listed = plugins.scan()
    missing = sorted((plugins.allowed() or set()) - {plugin.package for plugin in found})
    return [*listed, *plugins.shadowed(found),
            *check([plugin for plugin in found if plugin.enabled and not plugin.builtin], limit),
            *(PluginProblem("", "", package, f"{plugins.SWITCH} names '{package}', which adds nothing here",
                            f"`pip install {package}`, or correct {plugins.SWITCH}") for package in missing)]


def check(tried: Iterable[Plugin], limit: float = LOAD_SECONDS) -> Iterator[PluginProblem]:
    """A problem for each plugin that fails to load, ends the interpreter, or takes more than `limit` seconds.

    They load one after the other in a second process; a new one follows each that had to be killed.
    """
    waiting = list(tried)
    while waiting:
        with _Trial() as trial:
            while waiting:
                plugin = waiting.pop(0)
                answer = trial.ask(plugin, limit)
                if answer is None:
                    yield PluginProblem(plugin.group, plugin.name, plugin.package, f"{plugin} {trial.end(limit)}",
                                        plugin.remedy())
                    break
                if answer:
                    yield PluginProblem(plugin.group, plugin.name, plugin.package, *answer)


class _Trial:
    """A process that loads plugins on demand; it prints one line of JSON for each, whatever they print themselves."""

    def __enter__(self) -> _Trial:
        known = os.pathsep.join(path for path in sys.path if path)
        env = {**os.environ, "PYTHONPATH": known}
        code = "from sigan import checkup; checkup._answer()"
        self.process = subprocess.Popen([sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8")
        assert self.process.stdin and self.process.stdout  # pipes, as asked for
        self._asks, self._answers = self.process.stdin, self.process.stdout
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._next(START_SECONDS)
        return self

    def ask(self, plugin: Plugin, limit: float) -> list[str] | None:
        """[] when it loads, [message, hint] when it does not, None when there was no answer in time."""
        try:
            self._asks.write(json.dumps([plugin.group, plugin.full_name]) + "\n")
            self._asks.flush()
        except OSError:
            return None
        line = self._next(limit)
        return json.loads(line) if line else None

    def end(self, limit: float) -> str:
        """What became of a process that gave no answer."""
        try:
            return f"ends the interpreter when it loads (exit code {self.process.wait(0.5)})"
        except subprocess.TimeoutExpired:
            return f"hangs: it did not load within {limit:g} s"

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        self._asks.close()

    def _listen(self) -> None:
        with self._answers as answers:
            for line in answers:
                self.lines.put(line)
        self.lines.put("")

    def _next(self, limit: float) -> str:
        try:
            return self.lines.get(timeout=limit)
        except queue.Empty:
            return ""


def _answer() -> None:
    """The second process: for each line [group, full name] on stdin, a line [] or [message, hint] on stdout."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what plugins print is no answer
    print("ready", file=answers, flush=True)  # noqa: T201
    for line in sys.stdin:
        try:
            plugins.load(*json.loads(line))
            answer = []
        except ConfigError as error:
            answer = [error.message, error.hint]
        print(json.dumps(answer), file=answers, flush=True)  # noqa: T201
