"""Workers of every kind: answers, errors, deaths, and that nothing is left running."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sigan import workers
from sigan.errors import ConfigError, NoFaceError
from sigan.workers import Workers


@dataclass
class Task:
    """What the tests have done: an attribute tells copies apart."""

    seen: list = field(default_factory=list)

    def __call__(self, thing):
        if thing == "bad":
            raise NoFaceError("no face here", "another")
        if thing == "missing":
            raise FileNotFoundError("nothing there")
        if thing == "odd":
            raise Unsendable("odd")
        if thing == "die":
            os.kill(os.getpid(), 9)
        if thing == "loaded":
            return "torch" in sys.modules
        if thing == "slow":
            time.sleep(60)
        os.write(1, b"a library that prints\n")
        self.seen.append(thing)
        return thing, len(self.seen), os.getpid()


class Unsendable(Exception):
    def __reduce__(self):
        raise TypeError("not me")


@pytest.mark.parametrize(("kind", "count"), [("processes", 2), ("threads", 2), ("processes", 1), ("one", 3)])
def test_every_kind_answers(kind, count):
    things = [*range(12), "bad"]
    with Workers(Task(), count, kind) as pool:
        futures = [pool.submit(thing) for thing in things]
        answers = [future.result() for future in futures[:-1]]
        with pytest.raises(NoFaceError, match="no face here") as caught:
            futures[-1].result()
        assert caught.value.hint == "another"
        assert pool.kind == kind and pool.count == (1 if kind == "one" else count)
    assert [thing for thing, _, _ in answers] == list(range(12))
    processes = {process for _, _, process in answers}
    assert (os.getpid() in processes) is (kind != "processes")
    if pool.count == 1:
        assert [place for _, place, _ in answers] == list(range(1, 13))


def test_a_process_that_dies_costs_one_thing_and_an_error_that_cannot_travel_is_told():
    with Workers(Task(), 1) as pool:
        futures = [pool.submit(thing) for thing in (1, "die", 2, "odd", 3)]
        first, after = futures[0].result(), futures[2].result()
        with pytest.raises(ChildProcessError, match="signal 9"):
            futures[1].result()
        with pytest.raises(RuntimeError, match="Unsendable.*odd"):
            futures[3].result()
        assert first[2] != after[2] == futures[4].result()[2]


def test_a_files_error_is_the_functions_own_and_not_its_processes_death():
    with Workers(Task(), 1) as pool:
        futures = [pool.submit(thing) for thing in (1, "missing", 2)]
        with pytest.raises(FileNotFoundError, match="nothing there"):
            futures[1].result()
        assert futures[0].result()[2] == futures[2].result()[2]


def test_what_cannot_be_copied_gets_one_thread():
    with Workers(lambda thing: (thing, os.getpid()), 4) as pool:
        assert (pool.kind, pool.count) == ("one", 1)
        assert pool.submit(5).result() == (5, os.getpid())


def test_leaving_ends_what_is_at_work():
    start = time.perf_counter()
    with Workers(Task(), 1) as pool:
        process = pool.submit(1).result()[2]
        pool.submit("slow")
        waiting = pool.submit(2)
    assert time.perf_counter() - start < 50 and waiting.cancelled()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_nothing_runs_on_behind_a_caller_that_was_killed(tmp_path):
    """The caller has no `if __name__ == "__main__"`, either: it is not run again."""
    script = tmp_path / "caller.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from sigan.workers import Workers\nfrom test_workers import Task\n"
        "pool = Workers(Task(), 1)\nprint(pool.submit(1).result()[2], flush=True)\nsys.stdin.read()\n")
    with subprocess.Popen([sys.executable, str(script), str(Path(__file__).parent)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as caller:
        process = int(caller.stdout.readline())
        os.kill(process, 0)
        caller.kill()
        caller.wait()
    for _ in range(500):
        try:
            if Path(f"/proc/{process}/stat").read_text().split()[2] == "Z":  # ended; nobody collects it here
                break
        except OSError:
            break
        time.sleep(0.02)
    else:
        pytest.fail("it still runs")


def test_a_process_loads_no_torch():
    """Each would hold a few hundred MiB of it."""
    with Workers(Task(), 1) as pool:
        assert pool.submit("loaded").result() is False


@pytest.mark.parametrize(("how", "said"), [({"count": 0}, "workers is 0"), ({"count": 1, "kind": "fibres"}, "fibres")])
def test_what_is_no_number_or_kind_is_refused(how, said):
    with pytest.raises(ConfigError, match=said):
        Workers(Task(), **how)
    assert workers.cores() >= 1
