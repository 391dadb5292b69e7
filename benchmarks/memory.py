"""`python -m benchmarks.memory [--counts 10 1000 10000] [--whole STYLE]`: what a run holds in memory, by its inputs.

The loop alone, with small files for pictures and hardly a computation: what inputs, claims, ledger and records take.
With `--whole`, `sigan stylize` on photographs of nobody, networks and face finders included. Each run is a process of
its own; told are its peak (and that of its largest child), and how long the same run takes when all is done.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sigan import images, stream


def run_loop(source: Path, out: Path) -> None:
    def save(item: stream.Item, parts: list) -> list[Path]:
        path = stream.output_path(item, out, ".txt")
        images.atomic_write(path, parts[0])
        return [path]

    items = stream.find_inputs(source)
    for _ in stream.process(items, lambda item: stream.Prepared([item.path.read_bytes()]), list, save,
                            ledger=stream.Ledger(out)):
        pass


def run_whole(source: Path, out: Path, style: str) -> None:
    from sigan.cli.app import main

    main(["stylize", "--style", style, "--device", "cpu", "--quiet", str(source), str(out)])


def told(source: Path, out: Path, style: str) -> tuple[float, float, float]:
    """Seconds, peak MiB of the process and of its largest child."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.memory", "--child", str(source), str(out), "--whole", style]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    own, child = map(float, done.stdout.split())
    return time.perf_counter() - begun, own, child


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--counts", nargs="+", type=int, default=[10, 100, 1000, 10_000])
    parser.add_argument("--whole", metavar="STYLE", default="")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        source, out = map(Path, given.child)
        run_whole(source, out, given.whole) if given.whole else run_loop(source, out)
        unit = 2**20 if sys.platform == "darwin" else 2**10
        print(*(resource.getrusage(who).ru_maxrss / unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
        return
    print("| inputs | peak MiB | of a child | s | s, all done |\n|---|---|---|---|---|")
    for count in given.counts:
        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder) / "in", Path(folder) / "out"
            source.mkdir()
            if given.whole:
                from benchmarks import synthetic

                synthetic.photographs(source, count)
            for k in range(0 if given.whole else count):
                (source / f"{k:06}.jpg").write_bytes(b"%d" % k)
            time.sleep(3)  # so that the files have settled
            seconds, own, child = told(source, out, given.whole)
            again, _, _ = told(source, out, given.whole)
        print(f"| {count:,} | {own:.0f} | {child:.0f} | {seconds:.1f} | {again:.1f} |", flush=True)


if __name__ == "__main__":
    main()
