"""Measurements of the commands as a user runs them: each in a fresh process, repeated, the median told.

Peak memory is the largest resident set that the operating system saw in the process; processor time is its own and
its children's, and depends little on what else the machine does. "After imports" is less a process that only imports
what the command imports and loads the face model; the ratio is processor time over that process'.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

IMPORTS = ("import torch, numpy, PIL.Image, dlib, sigan.cli.app, sigan.stylization, sigan.alignment;"
           "sigan.bases.load('mini')")
VERSIONS = ("sigan", "torch", "numpy", "pillow", "dlib-bin")


@dataclass(frozen=True)
class Sample:
    """One process: wall seconds, processor seconds, peak resident MiB, exit code."""

    seconds: float
    processor: float
    mebibytes: float
    code: int


@dataclass(frozen=True)
class Measurement:
    """The medians of one command over `runs` processes; `target` is what it should stay under, or None."""

    name: str
    seconds: float
    processor: float
    mebibytes: float
    runs: int
    ratio: float | None = None  # of processor time, to that of the imports
    target: str = ""
    note: str = ""


def run(command: Sequence[str], home: Path) -> Sample:
    """Runs one process to its end; its memory is read from the system while it runs."""
    environment = {**os.environ, "SIGAN_HOME": str(home)}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors: list[bytes] = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
    reader.start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    if process.returncode not in (0, 3):  # 3: some photographs hold no face that is found; still a measurement
        sys.exit(f"{' '.join(command)}\nended with {process.returncode}:\n{errors[0].decode(errors='replace')}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Sample(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, process.returncode)


def measured(name: str, samples: Sequence[Sample], **facts: object) -> Measurement:
    """The medians of `samples`."""
    middle = {field: statistics.median(getattr(sample, field) for sample in samples)
              for field in ("seconds", "processor", "mebibytes")}
    return Measurement(name, runs=len(samples), **middle, **facts)


def measure_help(runs: int, home: Path) -> Measurement:
    run([*sigan(), "--help"], home)  # the first writes the bytecode
    samples = [run([*sigan(), "--help"], home) for _ in range(max(5, runs))]
    return measured("sigan --help", samples, target="0.3 s")


def measure_imports(runs: int, home: Path) -> Measurement:
    samples = [run([sys.executable, "-c", IMPORTS], home) for _ in range(runs)]
    return measured("imports and weights alone", samples, ratio=1.0)


def measure_stylize(photos: Sequence[Path], style: str, runs: int, home: Path, imports: Measurement
                    ) -> list[Measurement]:
    """The main job on copies of `photos`, whole and less the imports; the output folder is new every time."""
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        for index, photo in enumerate(photos):
            shutil.copy(photo, source / f"{index:02d}{photo.suffix}")
        for index in range(runs):
            out = Path(folder) / f"out{index}"
            samples.append(run([*sigan(), "stylize", "--style", style, "--quiet", str(source), str(out)], home))
    name = f"sigan stylize, {len(photos)} photograph{'s' * (len(photos) > 1)}"
    note = "some inputs failed" if any(sample.code for sample in samples) else ""
    whole = compared(measured(name, samples, target="2048 MiB", note=note), imports)
    rest = replace(whole, name=f"{name}, after imports", seconds=max(0.0, whole.seconds - imports.seconds),
                   processor=max(0.0, whole.processor - imports.processor), target="40 s")
    return [whole, compared(rest, imports)]


def measure_train(references: Sequence[Path], steps: int | None, home: Path, imports: Measurement) -> Measurement:
    """One training; with `steps` none, as many as the recipe takes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*sigan(), "train", "bench", *map(str, references), "--out", str(Path(folder) / "bench.safetensors"),
                   "--quiet", *(["--steps", str(steps)] if steps else [])]
        sample = run(command, home)
    told = f"{steps} steps" if steps else "the recipe's steps"
    return compared(measured(f"sigan train, {len(references)} references, {told}", [sample],
                             target="900 s" if not steps else ""), imports)


def compared(one: Measurement, imports: Measurement) -> Measurement:
    return replace(one, ratio=one.processor / imports.processor)


def sigan() -> list[str]:
    """The command as installed beside this interpreter, or the module where there is no script."""
    script = Path(sys.executable).with_name("sigan")
    return [str(script)] if script.exists() else [sys.executable, "-m", "sigan"]


def machine() -> dict[str, str]:
    """What the figures were measured on; names of packages with their versions."""
    found = {"system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(),
             "cpu": cpu_name(), "cores": str(os.cpu_count()), "gpu": gpu_name(), "load before": load()}
    for package in VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def gpu_name() -> str:
    """Asked in another process: what this one holds, the system counts into those that it measures."""
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else 'none')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() or "unknown"


def load() -> str:
    """Processes that wanted a core in the last minute: figures of a loaded machine are good for ratios only."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
