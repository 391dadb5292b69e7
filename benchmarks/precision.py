"""`python -m benchmarks.precision --photos DIR [--style NAME ...] [--device D]`: what bfloat16 costs and saves.

The same faces in both precisions: levels of difference, PSNR, and the processor's or the GPU's time for each.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

import sigan
from benchmarks.pasting import faces_of
from sigan import StylizeConfig, Stylizer


def seconds(stylizer: Stylizer, faces: list, runs: int) -> float:
    """Median processor time for a face, or wall time where a GPU computes."""
    cuda, times = stylizer.device.type == "cuda", []
    for _ in range(runs):
        clock = time.perf_counter if cuda else time.process_time
        started = clock()
        stylizer.arrays(faces)  # copies the portraits back, which waits for the device
        times.append((clock() - started) / len(faces))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--style", action="append")
    parser.add_argument("--base", default="mini")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()

    resolution = sigan.load_base(arguments.base).resolution
    faces = [face.image for _, found in faces_of(arguments.photos, resolution) for face in found]
    print(f"{len(faces)} faces of {resolution} px, {arguments.device}, torch {torch.__version__}\n")
    print("| style | mean levels | greatest | PSNR dB | float32 ms | bfloat16 ms |\n|---|---|---|---|---|---|")
    for style in arguments.style or ["watercolor", "line", "pencil"]:
        options = {"base": arguments.base, "device": arguments.device}
        whole, half = (Stylizer(style, StylizeConfig(dtype=dtype, **options)) for dtype in ("float32", "bfloat16"))
        a, b = (np.stack(stylizer.arrays(faces)).astype(float) for stylizer in (whole, half))
        psnr = 10 * np.log10(255**2 / max(np.square(a - b).mean(), 1e-12))
        times = [1000 * seconds(stylizer, faces, arguments.runs) for stylizer in (whole, half)]
        print(f"| {style} | {np.abs(a - b).mean():.3f} | {np.abs(a - b).max():.0f} | {psnr:.1f} | {times[0]:.1f} | "
              f"{times[1]:.1f} |")


if __name__ == "__main__":
    main()
