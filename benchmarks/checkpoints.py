"""`python -m benchmarks.checkpoints [--runs N] [--layout NAME]`: full-size foreign checkpoints, written and imported.

Each layout's file has the sizes of the published one (StyleGAN2 1024², config F; e4e for 18 codes) and random weights.
Told for each: the file's size; in fresh processes, the seconds that reading it and importing it as a base take once
Python's modules are there, and the whole process' peak memory; and that the base's tensors are those that were written.
Targets: 10 s and 3 GB for an import. Linux only: the peak is that of /proc/self/status.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.run import machine
from tests import foreign

LAYOUTS = ("rosinality", "rosinality-training", "nvidia", "nvidia-legacy", "e4e")
CHILD = """
import json, re, sys, time
import torch, safetensors.torch
from sigan import bases, convert, intake
import sigan.nets.e4e, sigan.nets.unfilled
start = time.perf_counter()
if sys.argv[2]:
    intake.import_files([sys.argv[1]], sys.argv[2])
else:
    convert.read(sys.argv[1])
seconds = time.perf_counter() - start
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(json.dumps([seconds, peak]))
"""


def write(layout: str, path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Writes a full-size checkpoint and returns our states of it, by network."""
    with torch.random.fork_rng():
        g = foreign.generator(1024, w_dim=512, z_dim=512, mapping_layers=8, channel_base=32768,
                              channel_max=512).state_dict()
        d = foreign.discriminator(1024, channel_base=32768, channel_max=512).state_dict()
    parts = {"generator": g, "discriminator": d}
    if layout.startswith("rosinality"):
        tree = {"g_ema": foreign.rosinality_generator(g), "latent_avg": g["mapping.w_avg"],
                "d": foreign.rosinality_discriminator(d)}
        if layout.endswith("training"):  # as long as it comes: both generators, both optimisers, the options
            state = {i: {"step": 1, "exp_avg": v.clone(), "exp_avg_sq": v.clone()} for i, v in enumerate(g.values())}
            tree |= {"g": {k: v.clone() for k, v in tree["g_ema"].items()}, "g_optim": {"state": state},
                     "args": argparse.Namespace(iter=800000, batch=16), "ada_aug_p": 0.0}
        torch.save(tree, path)
    elif layout == "nvidia":
        foreign.write_nvidia(path, g, d)
    elif layout == "nvidia-legacy":
        foreign.write_tensorflow(path, g, d)
    else:
        e = foreign.encoder(1024, w_dim=512, width=64, input_resolution=256).state_dict()
        e["w_avg"].copy_(g["mapping.w_avg"].expand(18, -1))
        torch.save(foreign.e4e(e, g), path)
        parts = {"generator": g, "encoder": e}
    return parts


def same(folder: Path, parts: dict[str, dict[str, torch.Tensor]]) -> bool:
    """Whether the imported files hold what was written, to the rounding of one addition."""
    for part, expected in parts.items():
        found = load_file(folder / f"{part}.safetensors")
        if set(found) != set(expected) or any(
                not torch.allclose(found[key], value, atol=3e-7, rtol=0) for key, value in expected.items()):
            return False
    return True


def measure(path: Path, name: str, home: Path) -> tuple[float, float]:
    """Seconds and peak MiB of one process that reads the file, or imports it under a name."""
    done = subprocess.run([sys.executable, "-c", CHILD, str(path), name], capture_output=True, text=True,
                          env={**os.environ, "SIGAN_HOME": str(home)}, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def median(samples: list[tuple[float, float]]) -> str:
    seconds, peaks = zip(*samples)
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f}) | {statistics.median(peaks):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoints", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--layout", choices=LAYOUTS, action="append")
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        print("| layout | file, MB | read, s | peak, MiB | import, s | peak, MiB | the same |")
        print("|---|---|---|---|---|---|---|")
        for layout in arguments.layout or LAYOUTS:
            path, home = folder / "weights", folder / "home"
            parts = write(layout, path)
            read = median([measure(path, "", home) for _ in range(arguments.runs)])
            whole = median([measure(path, f"base{i}", home) for i in range(arguments.runs)])
            print(f"| {layout} | {path.stat().st_size / 1e6:.0f} | {read} | {whole} | "
                  f"{same(home / 'bases' / 'base0', parts)} |", flush=True)
            del parts
            shutil.rmtree(home)
            path.unlink()


if __name__ == "__main__":
    main()
