"""`python -m benchmarks.generator [--resolution R] [--runs N]`: one picture of StyleGAN2, random weights, on a CPU.

`reference` draws it the straightforward way (`benchmarks.reference`: a weight for every picture and grouped
convolutions, zeros between pixels and one filter over all channels), `sigan` by `nets.stylegan2`. Both in one process,
taking turns, on one thread and after one warm-up each. Told: processor seconds (what other work on the machine
distorts least), their ratio in each turn, and how far the two pictures are apart. Target: at least twice as fast.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from benchmarks import reference
from benchmarks.run import machine
from sigan.nets.stylegan2 import Generator, GeneratorConfig


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generator", description=__doc__)
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    synthesis = Generator(GeneratorConfig(resolution=given.resolution)).eval().requires_grad_(False).synthesis
    ws = torch.randn(1, synthesis.num_ws, synthesis.w_dim)
    programs = {"reference": lambda: reference.draw(synthesis, ws), "sigan": lambda: synthesis(ws)}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    pictures = {}
    with torch.inference_mode():
        for turn in range(given.runs + 1):
            for name, draw in programs.items():
                start = time.process_time()
                pictures[name] = draw()
                if turn:
                    seconds[name].append(time.process_time() - start)
    print(machine())
    print("| program | processor s a picture | runs |\n|---|---|---|")
    for name, found in seconds.items():
        print(f"| {name} | {statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f}) | {len(found)} |")
    ratios = [a / b for a, b in zip(seconds["reference"], seconds["sigan"])]
    apart = (pictures["reference"] - pictures["sigan"]).abs().max()
    print(f"\n{statistics.median(ratios):.1f} times as fast ({min(ratios):.1f}-{max(ratios):.1f}); the pictures differ "
          f"by {apart:.1e} at most, of {pictures['reference'].abs().max():.1f}")


if __name__ == "__main__":
    main()
