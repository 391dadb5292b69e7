"""`python -m benchmarks.evaluation [-n N] [--squeezenet FILE]`: how fast results are judged, and in how much memory.

Pairs at 256²: faces that the base draws, and the same blurred, as results. They pass through SSIM, identity, and KID by
SqueezeNet's features (random weights without FILE: as fast, and the figure means nothing), by as many processes as
cores: first with an empty cache, then again with the full one. The target is 1,000 in 240 s on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.run import machine

SIDE, TARGET = 256, 240 / 1000  # pixels, seconds a picture
BATCH = 10


def draw(folder: Path, n: int) -> None:
    """n pairs: `in/` and `out/`; `refs/` holds ten others."""
    import numpy as np
    from PIL import Image, ImageFilter

    from sigan import bases, images

    base = bases.load()
    ws = base.sample(n + BATCH, seed=1)
    for k, part in enumerate(ws.split(BATCH)):
        for i, picture in enumerate(images.from_batch(base.generator.synthesis(part))):
            index = k * BATCH + i
            large = images.resize(picture, SIDE)
            if index >= n:
                images.write(folder / "refs" / f"{index}.png", large)
                continue
            images.write(folder / "in" / f"{index}.png", large)
            blurred = Image.fromarray(large).filter(ImageFilter.GaussianBlur(1.5))
            images.write(folder / "out" / f"{index}.png", np.array(blurred))


def judge(folder: Path, squeezenet: str, aligned: bool) -> dict:
    """Seconds after the weights are loaded, processor seconds of all processes from their start, peak MiB of one."""
    import resource

    from sigan import evaluation

    config = evaluation.EvalConfig(metrics=("ssim", "identity", "kid"), features=f"squeezenet:{squeezenet}",
                                   aligned=aligned, device="cpu", workers=os.cpu_count() or 1)
    run = evaluation.Evaluation(folder / "out", folder / "in", folder / "refs", config)
    started = time.perf_counter()
    failed = sum(record.error is not None for record in run)
    assert not failed and all(figure.value is not None for figure in run.figures())
    return {"seconds": time.perf_counter() - started,
            "mebibytes": max(resource.getrusage(who).ru_maxrss for who in (
                resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024,
            "processor": sum(getattr(resource.getrusage(who), field) for field in ("ru_utime", "ru_stime")
                             for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))}


def random_weights(path: Path) -> Path:
    """SqueezeNet as it starts."""
    from safetensors.torch import save_file

    from sigan.nets.squeezenet import SqueezeNet

    save_file(SqueezeNet().state_dict(), path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description=__doc__)
    parser.add_argument("-n", type=int, default=200, help="pairs")
    parser.add_argument("--squeezenet", type=Path, help="SqueezeNet's weights")
    parser.add_argument("--judge", nargs=3, help=argparse.SUPPRESS)  # folder, weights, whether aligned: a child's work
    arguments = parser.parse_args()
    if arguments.judge:
        folder, weights, aligned = arguments.judge
        print(json.dumps(judge(Path(folder), weights, aligned == "True")))
        return
    print("\n".join(f"{name}: {value}" for name, value in machine().items()), end="\n\n")
    print("| pairs | photographs | cache | s | ms a pair | processor s | peak MiB a process |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        weights = arguments.squeezenet or random_weights(Path(place, "random.safetensors"))
        for n in (arguments.n // 4, arguments.n):
            folder = Path(place, str(n))
            draw(folder, n)
            for aligned in (True, False):
                for cache in ("empty", "full"):
                    home = folder / f"home-{aligned}"
                    done = subprocess.run(
                        [sys.executable, "-m", "benchmarks.evaluation", "--judge", str(folder), str(weights),
                         str(aligned)], capture_output=True, text=True, check=True,
                        env={**os.environ, "SIGAN_HOME": str(home), "OMP_NUM_THREADS": "1"})
                    told = json.loads(done.stdout)
                    framed = "framed already" if aligned else "to be framed"
                    print(f"| {n} | {framed} | {cache} | {told['seconds']:.1f} | {1000 * told['seconds'] / n:.0f} | "
                          f"{told['processor']:.1f} | {told['mebibytes']:.0f} |", flush=True)
    print(f"\nthe target: {1000 * TARGET:.0f} ms a pair")


if __name__ == "__main__":
    main()
