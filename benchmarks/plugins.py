"""`python -m benchmarks.plugins [--runs N]`: what installed packages cost the commands that should answer at once.

`sigan --help` with no plugin and with 50 (half of them commands, half styles), `sigan styles list` with none and with
200 packs. Medians of wall and of processor time; the runs of the variants alternate, so that their ratio holds on a
busy machine too.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.run import machine
from sigan.packs import PackManifest, StylePack

README = "A line of a long README, which no list of plugins has to read.\n" * 200


def install(site: Path, name: str, group: str) -> None:
    """A package with one entry point; it would not survive being imported."""
    module = name.replace("-", "_")
    (site / module).mkdir()
    (site / module / "__init__.py").write_text("raise SystemExit('a list imports no plugin')\n")
    (site / module / f"{name}.safetensors").write_bytes(b"not read")
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\n{README}")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:app\n")


def pack(path: Path) -> None:
    manifest = PackManifest(name=path.stem, base="mini", base_hash="ab" * 32, base_resolution=16, recipe="sigan",
                            config={"steps": 150, "swap_layers": list(range(12))}, seed=0, steps=1, references=3,
                            licence="CC0-1.0", author="A. Person", card="What it is. " * 20)
    StylePack(manifest, {f"synthesis.b{n}.weight": torch.ones(16, 16).half() for n in range(40)}).save(path)


def alternate(variants: dict[str, tuple[list[str], dict[str, str]]], runs: int) -> dict[str, tuple[float, float]]:
    """Median wall and processor seconds of each variant: (arguments, environment) of an interpreter."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for turn in range(runs + 1):  # the first compiles, and is not counted
        for name, (arguments, env) in variants.items():
            used, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run([sys.executable, *arguments], env={**os.environ, **env}, check=True, capture_output=True)
            wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            if turn:
                seconds[name].append((wall, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime))
    return {name: (statistics.median(w for w, _ in both), statistics.median(c for _, c in both))
            for name, both in seconds.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plugins", description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "site").mkdir()
        for n in range(50):
            install(root / "site", f"plugin-{n}", "sigan.commands" if n % 2 else "sigan.styles")
        for n in range(200):
            pack(root / "home" / "styles" / f"style-{n}.safetensors")
        bare = {"SIGAN_HOME": str(root / "none"), "SIGAN_PLUGINS": ""}
        called = ["-m", "sigan"]
        found = alternate({
            "python, nothing": (["-c", "pass"], {}),
            "sigan --help, no plugin": ([*called, "--help"], {"SIGAN_HOME": bare["SIGAN_HOME"]}),
            "sigan --help, 50 plugins": ([*called, "--help"], {"PYTHONPATH": str(root / "site")}),
            "sigan styles list, none": ([*called, "styles", "list"], bare),
            "sigan styles list, 200 packs": ([*called, "styles", "list"], {**bare, "SIGAN_HOME": str(root / "home")}),
        }, options.runs)
    facts = {**machine(), "load": f"{os.getloadavg()[0]:.1f}"}
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    print(f"\n| of {options.runs} runs | median s | processor s |\n|---|---|---|")
    for name, (wall, processor) in found.items():
        print(f"| {name} | {wall:.3f} | {processor:.3f} |")


if __name__ == "__main__":
    main()
