"""`python -m benchmarks.training [--resolution R] [--steps N] [--loss NAME] [--recipe NAME]`: one training step.

The paper's loss with random weights on a CPU: one reference, one photograph, StyleGAN2 of config F. Two programs, each
in a fresh process on one thread: `reference` draws the two pictures in separate calls, the straightforward way
(`benchmarks.reference`), compares them at 256² with features of both found in every step, and has PyTorch's plain Adam;
`sigan` is `finetuning.Finetuner`. Told: processor seconds a step after the first (what other work on the machine
distorts least), the peak memory of the process, and what it held before the first step. `--recipe sigan` measures that
recipe's step instead, seven references and seven people, by `sigan` alone. Linux only: memory is /proc/self/status'.
Targets: half the reference's memory, and no more time.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import reference
from benchmarks.run import machine
from sigan import finetuning, losses
from sigan.nets.discriminator import Discriminator, DiscriminatorConfig
from sigan.nets.lpips import Lpips
from sigan.nets.stylegan2 import Generator, GeneratorConfig

IDENTITY, STATISTICS, LR = 1e-3, 3.0, 2e-3
FEW = 7  # references of recipe `sigan`, and people


def memory(field: str) -> float:
    """MiB: VmRSS now, VmHWM at most."""
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def plain(synthesis: torch.nn.Module, loss: losses.PerceptualLoss, x: Tensor, photo: Tensor, ws: Tensor,
          person: Tensor):
    """The step as the papers' programs take it."""
    optimiser = torch.optim.Adam(synthesis.parameters(), lr=LR, betas=(0.0, 0.99))
    small = [F.interpolate(y, size=(256, 256), mode="area") for y in (x, photo)] if loss.name == "LPIPS-VGG" else [
        x, photo]

    def distance(codes: Tensor, target: Tensor) -> Tensor:
        y = reference.draw(synthesis, codes)
        y = F.interpolate(y, size=target.shape[-2:], mode="area")
        return loss.distance(loss.features(y), loss.features(target)).mean()

    def step() -> None:
        total = distance(ws, small[0]) + IDENTITY * distance(person, small[1])
        optimiser.zero_grad()
        total.backward()
        optimiser.step()

    return step


def child(program: str, resolution: int, steps: int, name: str, recipe: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(resolution=resolution)).requires_grad_(False)
    if name == "lpips":
        loss = losses.LpipsVgg(net=Lpips("vgg"))
    else:
        loss = losses.DiscriminatorFeatures(
            Discriminator(DiscriminatorConfig(resolution=resolution)).requires_grad_(False))
    k, statistics_weight = (FEW, STATISTICS) if recipe == "sigan" else (1, 0.0)
    x, photo = (torch.rand(k, 3, resolution, resolution) * 2 - 1 for _ in range(2))
    ws, people = (torch.randn(k, generator.num_ws, 512) for _ in range(2))
    if program == "reference":
        generator.synthesis.requires_grad_(True)
        step = plain(generator.synthesis, loss, x, photo, ws, people)
    else:
        engine = finetuning.Finetuner(generator.synthesis, loss, finetuning.Targets(loss, x),
                                      finetuning.Targets(loss, photo), identity=IDENTITY,
                                      statistics=statistics_weight)

        def step() -> None:
            engine.step(ws, people, torch.arange(k), lr=LR)
    held, seconds = memory("VmRSS"), []
    for _ in range(steps):
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)
    print(json.dumps([statistics.median(seconds[1:] or seconds), memory("VmHWM"), held]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--loss", choices=("lpips", "discriminator"), default="lpips")
    parser.add_argument("--recipe", choices=("styleidentity", "sigan"), default="styleidentity")
    parser.add_argument("--child", choices=("reference", "sigan"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.resolution, given.steps, given.loss, given.recipe)
        return
    print(machine())
    print("| program | processor s a step | peak, MiB | before the first step, MiB |\n|---|---|---|---|")
    for program in ("reference", "sigan")[given.recipe == "sigan" :]:
        command = [sys.executable, "-m", "benchmarks.training", "--child", program, *sys.argv[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        seconds, peak, held = json.loads(done.stdout)
        print(f"| {program} | {seconds:.2f} | {peak:.0f} | {held:.0f} |", flush=True)


if __name__ == "__main__":
    main()
