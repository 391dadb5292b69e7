"""`python -m benchmarks.kills OUT [--count 300] [--kills 50]`: a batch killed at random moments, and what remains.

Photographs of nobody are stylized twice: once in peace, once by runs that are killed (SIGKILL) and started again with
the same command. Then both folders must hold the same files with the same bytes, no unfinished file may be left, and
the ledger must have each photograph exactly once: nothing lost, nothing done twice. Exit code 1 if it is not so.

The runs are forks of this process, which has imported what they import: they start in a moment, so that kills fall
into every stage. What they start themselves (the face finders) is started as always.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks import synthetic
from sigan.ledger import LEDGER

LATEST = 3.0  # seconds after the start, for kills that wait for no photograph


def start(arguments: list[str], log: Path) -> int:
    """The process id of `sigan` with these arguments, its output added to `log`."""
    if pid := os.fork():
        return pid
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1), os.dup2(file, 2)
    from sigan.cli.app import main

    os._exit(main(arguments))


def finished(out: Path) -> list[str]:
    """The sources in the ledger, in order; a torn line at its end is none."""
    try:
        lines = (out / LEDGER).read_bytes().split(b"\n")
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line)["source"])
        except ValueError:
            continue
    return found


def kill_once(arguments: list[str], out: Path, log: Path, after: int, delay: float) -> bool:
    """Whether a run was killed, `delay` seconds after its `after`-th line; False if it came to its end before."""
    lines = len(finished(out))
    pid = start(arguments, log)
    while len(finished(out)) < lines + after:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(0.002)
    time.sleep(delay)
    if os.waitpid(pid, os.WNOHANG)[0]:
        return False
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("out", type=Path, help="a folder to make; photographs and results stay there")
    parser.add_argument("--count", type=int, default=300, help="photographs")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--style", default="watercolor")
    parser.add_argument("--aligned", action="store_true", help="without looking for faces: quicker")
    given = parser.parse_args()
    source, peace, killed = (given.out / name for name in ("in", "peace", "killed"))
    if not (pid := os.fork()):  # not in this process: OpenMP's threads do not live on in forks, which wait for them
        synthetic.photographs(source, given.count, given.seed)
        os._exit(0)
    os.waitpid(pid, 0)
    command = ["stylize", "--style", given.style, "--device", "cpu", "--json", *["--aligned"] * given.aligned,
               str(source)]
    pid = start([*command, str(peace)], given.out / "peace.log")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(f"in peace: exit code {status}, {len(finished(peace))} of {given.count} photographs", flush=True)

    draw, kills, parts, torn = random.Random(given.seed), 0, 0, 0
    while kills < given.kills:
        after = draw.randrange(0, max(2, int(1.8 * given.count / given.kills)))
        if not kill_once([*command, str(killed)], killed, given.out / "killed.log", after,
                         draw.uniform(0, LATEST if after == 0 else 0.2)):
            print(f"it was done after {kills} kills")
            break
        kills += 1
        parts += len(list(killed.rglob(".*.part")))
        ledger = killed / LEDGER
        torn += ledger.exists() and not ledger.read_bytes().endswith(b"\n") and ledger.stat().st_size > 0
    between = len(finished(killed))
    pid = start([*command, str(killed)], given.out / "killed.log")
    again = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    told = {folder: {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*")
                     if path.is_file() and path.name != LEDGER} for folder in (peace, killed)}
    different = [name for name in told[peace].keys() | told[killed].keys()
                 if told[peace].get(name) != told[killed].get(name)]
    left = [path for path in killed.rglob(".*.part")]
    counts = Counter(finished(killed))
    twice = [name for name, count in counts.items() if count > 1]
    print(f"{kills} kills, the last with {between} photographs done; {parts} unfinished files and {torn} torn lines "
          f"were seen after them\nat the end: exit code {again}, {len(told[killed])} files, {len(different)} different "
          f"from those made in peace, {len(left)} unfinished, {len(counts)} photographs in the ledger, {len(twice)} of "
          "them twice")
    right = not different and not left and not twice and again == status and len(counts) == len(finished(peace))
    sys.exit(0 if right and len(counts) == given.count else 1)


if __name__ == "__main__":
    main()
