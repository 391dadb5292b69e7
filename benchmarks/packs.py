"""`python -m benchmarks.packs FULL_PACK... --photos DIR --squeezenet FILE`: how small a pack may be, and how fast.

FULL_PACK: what `sigan train --full` writes. Each scheme's size, and how far its pictures are from the full pack's:
SqueezeNet distance (mean and worst over the photographs), and mean grey levels. `--large` adds a random generator of
1024² with synthetic deltas: sizes and times are real, its pictures are noise.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path

import torch
from sigan_foundry.perceptual import SqueezeNet, distance
from torch import Tensor

import sigan
from benchmarks.run import machine
from sigan import deltas, images, manifest
from sigan.nets.stylegan2 import Generator, GeneratorConfig
from sigan.packs import StylePack, blend

Scheme = Callable[[Tensor], tuple[Tensor, float]]  # a delta -> as it comes back, and bytes stored
VISIBLE = 0.01  # SqueezeNet distance; beyond it two pictures may be told apart
DELTA = 0.03  # of the spread of a weight: what training moves it by on `mini`


def rounded(bits: int, block: int | None) -> Scheme:
    """Whole numbers of so many bits and an fp16 scale a block, or a row of the matrix; the extreme sets the scale."""
    def scheme(delta: Tensor) -> tuple[Tensor, float]:
        rows = delta.float().reshape(-1, block) if block else delta.float().reshape(len(delta), -1)
        low = -(2 ** (bits - 1))
        scales = (rows.gather(1, rows.abs().argmax(1, keepdim=True)) / low).half().float()
        steps = torch.where(scales == 0, 1, scales)
        return ((rows / steps).round().clamp(low, -low - 1) * scales).reshape(delta.shape), (
            delta.numel() * bits / 8 + 2 * len(rows))

    return scheme


def low_rank(share: float, bits: int = 16) -> Scheme:
    """Two factors of the singular value decomposition that hold `share` of the numbers, in fp16 or 8 bits a row."""
    def scheme(delta: Tensor) -> tuple[Tensor, float]:
        matrix = delta.float().reshape(len(delta), -1)
        rank = max(1, int(share * matrix.numel() / sum(matrix.shape)))
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        factors = [(u[:, :rank] * s[:rank].sqrt()).t(), s[:rank].sqrt()[:, None] * v[:rank]]
        if bits == 16:
            stored = [(factor.half().float(), 2.0 * factor.numel()) for factor in factors]
        else:
            stored = [rounded(bits, None)(factor) for factor in factors]
        (left, left_bytes), (right, right_bytes) = stored
        return (left.t() @ right).reshape(delta.shape), left_bytes + right_bytes

    return scheme


SCHEMES: Mapping[str, Scheme] = {
    "fp16": lambda delta: (delta, 2.0 * delta.numel()),
    "8 bits, a scale a row": rounded(8, None),
    "6 bits, a scale a row": rounded(6, None),
    "4 bits, a scale a row": rounded(4, None),
    "4 bits, blocks of 64": rounded(4, 64),
    "4 bits, blocks of 32 (format 1)": rounded(4, deltas.BLOCK),
    "3 bits, blocks of 32": rounded(3, 32),
    "low rank, half the numbers, fp16": low_rank(0.5),
    "low rank, half the numbers, 8 bits": low_rank(0.5, 8),
    "low rank, all the numbers, 8 bits": low_rank(1.0, 8),
    "low rank, a quarter, 8 bits": low_rank(0.25, 8),
}


def store(pack: StylePack, scheme: Scheme) -> tuple[dict[str, Tensor], float]:
    """The pack's deltas as they come back, and MB; what `deltas.suits` leaves out stays fp16 under every scheme."""
    found, size = {}, 0.0
    for key, delta in pack.deltas.items():
        found[key], part = scheme(delta) if deltas.suits(delta) else (delta, 2.0 * delta.numel())
        size += part
    return found, size / 1e6


def faces_of(base: sigan.Base, folder: Path, count: int) -> Tensor:
    """Codes [N,L,C] of the first photographs in which a face is found."""
    faces = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in images.SUFFIXES and len(faces) < count:
            try:
                faces.append(sigan.align(path, size=base.resolution)[0].image)
            except sigan.SiganError as error:
                print(f"left out: {error.message}")
    return sigan.invert(base, images.to_batch(faces))


@torch.no_grad()
def draw(base: sigan.Base, ws: Tensor, found: Mapping[str, Tensor], pack: StylePack) -> Tensor:
    with StylePack(pack.manifest, dict(found)).apply(base.generator) as generator:
        return generator.synthesis(ws).clamp(-1, 1)


def measure_storage(paths: list[Path], photos: Path, squeezenet: Path, count: int) -> None:
    packs = [StylePack.load(path) for path in paths]
    for path, pack in zip(paths, packs):
        if pack.packed:
            raise SystemExit(f"{path} is compact already: what it lost cannot be measured; `sigan train --full`")
    base, net = sigan.load_base(packs[0].manifest.base), SqueezeNet.load(squeezenet)
    ws = faces_of(base, photos, count)
    full = [draw(base, ws, pack.deltas, pack) for pack in packs]
    taps = [net(y) for y in full]
    plain = net(draw(base, ws, {}, packs[0]))
    print(f"\n{len(packs)} packs of base {base.name} {base.resolution}², {len(ws)} photographs; base against style: "
          + ", ".join(f"{pack.manifest.name} {distance(plain, tap).mean():.2f}" for pack, tap in zip(packs, taps)))
    print(f"visible from about {VISIBLE}\n\n| stored as | MB | distance, mean | worst | grey levels |")
    print("|---|---|---|---|---|")
    for name, scheme in SCHEMES.items():
        sizes, distances, greys = [], [], []
        for pack, y, features in zip(packs, full, taps):
            found, size = store(pack, scheme)
            mine = draw(base, ws, found, pack)
            sizes.append(size)
            distances.append(distance(net(mine), features))
            greys.append(float((mine - y).abs().mean()) * 127.5)
        every = torch.cat(distances)
        print(f"| {name} | {statistics.fmean(sizes):.2f} | {every.mean():.5f} | {every.max():.5f} | "
              f"{statistics.fmean(greys):.2f} |", flush=True)


def milliseconds(call: Callable[[], object], runs: int) -> str:
    """Wall time; and processor time, which other programs' share of a busy machine does not enter."""
    call()
    found = []
    for _ in range(runs):
        start, used = time.perf_counter(), time.process_time()
        call()
        found.append((1000 * (time.perf_counter() - start), 1000 * (time.process_time() - used)))
    wall, processor = (statistics.median(column) for column in zip(*found))
    return f"{wall:.1f} ms, processor {processor:.1f} (medians of {runs}; least {min(found)[0]:.1f})"


def measure_speed(title: str, generator: Generator, packs: list[StylePack], runs: int) -> None:
    """Times of one pack's life: read, applied, changed for another, blended."""
    state = {key: tensor.clone() for key, tensor in generator.state_dict().items()}
    first, second = packs[0], packs[-1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pack.safetensors")
        first.save(path)
        size = path.stat().st_size / 1e6
        read = milliseconds(lambda: StylePack.load(path), runs)
        light = milliseconds(lambda: manifest.read_manifest(path), runs)
    turns = cycle([second, first])
    numbers = sum(delta.numel() for delta in first.deltas.values()) / 1e6
    print(f"\n{title}: {numbers:.2f} million numbers, {size:.2f} MB; threads: {torch.get_num_threads()}")
    print(f"- apply to the base: {milliseconds(lambda: first.dress(generator, state), runs)}")
    print("- change style, both in memory: "
          + milliseconds(lambda: next(turns).dress(generator, state), runs))
    print(f"- blend two: {milliseconds(lambda: blend(packs[:2], [0.6, 0.4]), runs)}" if len(packs) > 1 else "")
    print(f"- read from the file, checked and decoded: {read}")
    print(f"- read the manifest alone: {light}")


def large() -> tuple[Generator, list[StylePack]]:
    """A generator of 1024² (StyleGAN2 config F) with random weights, and two packs of random deltas on all of them."""
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(resolution=1024)).eval().requires_grad_(False)
    state = generator.state_dict()
    told = manifest.PackManifest(name="synthetic", base="random", base_hash="0" * 64, base_resolution=1024,
                                 recipe="none", config={}, seed=0, steps=0, references=0, licence="CC0-1.0")
    packs = []
    for _ in range(2):
        tuned = {key: weight + DELTA * (weight.std() if weight.numel() > 1 else 1) * torch.randn(weight.shape)
                 if key.startswith("synthesis.") and not key.endswith("noise_const") else weight
                 for key, weight in state.items()}
        packs.append(StylePack.from_weights(told, state, tuned))
    return generator, packs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packs", description=__doc__)
    parser.add_argument("packs", type=Path, nargs="*", metavar="FULL_PACK")
    parser.add_argument("--photos", type=Path, default=Path(__file__).parent.parent / "examples" / "portraits")
    parser.add_argument("--count", type=int, default=16, help="photographs")
    parser.add_argument("--squeezenet", type=Path, help="squeezenet1_1.safetensors")
    parser.add_argument("--large", action="store_true", help="also a random generator of 1024²")
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("\n".join(f"{name}: {value}" for name, value in machine().items()))
    if arguments.packs and arguments.squeezenet:
        measure_storage(arguments.packs, arguments.photos, arguments.squeezenet, arguments.count)
    if arguments.packs:
        packs = [StylePack.load(path).compacted() for path in arguments.packs]
        base = sigan.load_base(packs[0].manifest.base)
        measure_speed(f"{base.name} {base.resolution}²", base.generator, packs, arguments.runs)
        stylizer = sigan.Stylizer(packs[0], sigan.StylizeConfig(base=base.name, device="cpu"))
        turns = cycle([packs[-1], packs[0]])
        print(f"- Stylizer.use: {milliseconds(lambda: stylizer.use(next(turns)), arguments.runs)}")
    if arguments.large:
        measure_speed("random 1024², synthetic deltas", *large(), arguments.runs)


if __name__ == "__main__":
    main()
