"""A worker of the cluster: an actor of Ray that has blocks done by a process of its own.

The models are in that process, built once. An input that kills it costs itself only: the others of its block are done
by the next process. What Ray sees end is a whole machine, whose blocks it gives to others as often as need be.
"""

from __future__ import annotations

import pickle
from typing import Any

from sigan.errors import InputError, SiganError
from sigan.workers import Workers
from sigan_ray.rows import Done, Entry, failed


class Task:
    """Called with a block in the process: builds what it needs at the first one."""

    def __init__(self, job: bytes) -> None:
        self.job = job
        self._local: Any = None

    def __call__(self, entries: list[Entry]) -> list[Done]:
        if self._local is None:
            from sigan_ray.blocks import Local  # with torch, which the actor does without

            self._local = Local(pickle.loads(self.job))
        return self._local.done(entries)


class Worker:
    """Called by Ray Data with a block, a packed list of `Entry`: gives the packed list of `Done`, or an error.

    An error is one that would end a local run, too; the run raises it. Ray Data sees one row of bytes for each block.
    """

    def __init__(self, job: bytes, task: type = Task) -> None:
        self._process = Workers(task(job), 1, "processes")

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        return {"block": [pickle.dumps(self.outcome(pickle.loads(row))) for row in rows["block"]]}

    def outcome(self, entries: list[Entry]) -> list[Done] | Exception:
        """What becomes of a block."""
        try:
            return self._done(entries)
        except SiganError as error:
            return error
        except Exception as error:  # of any class, which the run may not know
            return RuntimeError(f"{type(error).__name__}: {error}")

    def _done(self, entries: list[Entry]) -> list[Done]:
        try:
            return self._process.submit(entries).result()
        except ChildProcessError as error:
            if len(entries) > 1:
                return [done for entry in entries for done in self._done([entry])]
            reason = InputError(f"{entries[0].place}: {error}", "is the file damaged, or memory short?")
            return [failed(entries[0], reason)]
