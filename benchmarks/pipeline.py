"""`python -m benchmarks.pipeline --photos DIR [--count N] [--style NAME] [--json FILE]`: folders of photographs.

Three figures. What each stage costs for one photograph, in processor time, so that a loaded machine does not distort
it. How many photographs a second a folder gives with the face finders in one thread, in threads and in processes. And
the same photographs the way the reference program goes: for each, detector and predictor are loaded, the picture is
searched at twice its size, encoder and generator are built and loaded, the encoder's own decode is drawn and thrown
away, and then the style is drawn; at the same network size, in one process whose libraries are loaded already.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks.__main__ import pictures
from benchmarks.run import machine
from sigan import alignment, bases, cropping, detection, images, inversion, stream, workers
from sigan.stylization import StylizeConfig, Stylizer, stylize_folder

KINDS = ("one", "threads", "processes")
WARM = 1  # runs before the first that counts


def processor_seconds() -> float:
    """Of this process and of the children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), processor_seconds()
    work()
    return time.perf_counter() - wall, processor_seconds() - cpu


def stages(photos: list[Path], stylizer: Stylizer, out: Path) -> dict[str, float]:
    """Mean processor seconds of a photograph in each stage, measured one after the other."""
    aligner = detection.DlibAligner()
    spent: dict[str, list[float]] = {"read and hash": [], "look for faces": [], "decode and cut": [], "draw": [],
                                     "encode and write": []}
    looked = 0.0

    class Timed:
        def __getattr__(self, name: str):
            def call(*given, **how):
                nonlocal looked
                start = time.process_time()
                try:
                    return getattr(aligner, name)(*given, **how)
                finally:
                    looked += time.process_time() - start

            return call

    for k, photo in enumerate([*photos[:WARM], *photos]):
        looked, marks = 0.0, [time.process_time()]
        stream.input_key(photo, stylizer.identity)
        marks.append(time.process_time())
        faces = alignment.align(photo, stylizer.resolution, aligner=Timed())
        marks.append(time.process_time())
        portraits = stylizer.arrays(faces)
        marks.append(time.process_time())
        stream.write_faces(stream.Item(photo, Path(f"{k}.png")), portraits, out, "png")
        marks.append(time.process_time())
        hashed, found, drawn, written = np.diff(marks)
        if k >= WARM:
            for name, value in zip(spent, (hashed, looked, found - looked, drawn, written)):
                spent[name].append(float(value))
    return {name: statistics.mean(values) for name, values in spent.items()}


def folder_run(source: Path, stylizer: Stylizer, out: Path, kind: str) -> dict[str, float]:
    """One run over a folder with finders of one kind."""
    items = stream.find_inputs(source)
    pool = workers.Workers
    stream.pools.Workers = lambda function, count, _: pool(function, count, kind)
    try:
        wall, cpu = timed(lambda: [None for _ in stylize_folder(stylizer, items, out)])
    finally:
        stream.pools.Workers = pool
    return {"photographs": len(items), "wall": wall, "cpu": cpu}


def reference_way(photo: Path, style: Stylizer, folder: Path) -> None:
    """One photograph as the reference program handles it, with this base's networks."""
    import dlib

    detector = dlib.get_frontal_face_detector()
    predictor = dlib.shape_predictor(str(detection.model_path("shape_predictor_68_face_landmarks.dat")))
    pixels = images.read(photo)
    boxes = detector(pixels, 1)  # one doubling of the picture, as in the face aligners that go with StyleGAN
    if not boxes:
        return
    points = np.array([(p.x, p.y) for p in predictor(pixels, boxes[-1]).parts()], np.float32)
    face = cropping.crop(pixels, cropping.quad(points), style.resolution, mode="paper")
    nets = []
    for name, built in (("encoder", style.base.encoder), ("generator", style.base.generator)):
        net = type(built)(built.config).eval().requires_grad_(False)
        net.load_state_dict(load_file(folder / f"{name}.safetensors"))
        nets.append(net)
    base = bases.Base(style.base.name, nets[1], style.base.discriminator, nets[0], hash=style.base.hash,
                      licence=style.base.licence)
    with torch.inference_mode():
        ws = inversion.invert(base, images.to_batch([face]))
        base.generator.synthesis(ws, noise="const")  # thrown away
        y = style.generator.synthesis(ws, noise="const")
    Image.fromarray(images.from_batch(y)[0]).save(os.devnull, "PNG")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="real photographs; each holds a face")
    parser.add_argument("--count", type=int, default=48, help="photographs in a folder run, repeated from --photos")
    parser.add_argument("--reference", type=int, default=6, help="photographs done the reference's way")
    parser.add_argument("--style", default="watercolor")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    stylizer = Stylizer(given.style, StylizeConfig(device="cpu"))
    own = sorted(set(pictures(given.photos, 1000)))
    found: dict = {"machine": machine(), "processors": workers.cores(), "load": os.getloadavg()[0], "base":
                   f"{stylizer.base.name}, {stylizer.resolution} px", "photographs": len(own)}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        for k, photo in enumerate(pictures(given.photos, given.count)):
            shutil.copy(photo, source / f"{k:05}{photo.suffix}")
        print(f"{found['base']}; {len(own)} photographs; {found['processors']} processors, load {found['load']:.1f}")
        found["stages"] = stages(own, stylizer, Path(folder) / "stages")
        whole = sum(found["stages"].values())
        print("\n| stage | processor s a photograph | share |\n|---|---|---|")
        for name, value in found["stages"].items():
            print(f"| {name} | {value:.4f} | {value / whole:.0%} |")
        print("\n| finders | photographs/s | processor s a photograph |\n|---|---|---|", flush=True)
        found["folder"] = {}
        for kind in given.kinds:
            one = found["folder"][kind] = folder_run(source, stylizer, Path(folder) / kind, kind)
            print(f"| {kind} | {one['photographs'] / one['wall']:.2f} | {one['cpu'] / one['photographs']:.3f} |",
                  flush=True)
        some = own[::max(1, len(own) // given.reference)][:given.reference]
        spent = timed(lambda: [reference_way(photo, stylizer, bases.find(stylizer.base.name)) for photo in some])
        wall, cpu = (value / len(some) for value in spent)
        found["reference"] = {"photographs": len(some), "wall": spent[0], "cpu": spent[1]}
        print(f"| the reference's way | {1 / wall:.2f} | {cpu:.3f} |")
    best = min(found["folder"].values(), key=lambda one: one["wall"])
    print(f"\nagainst the reference's way: {wall * best['photographs'] / best['wall']:.1f}x the rate, "
          f"{cpu * best['photographs'] / best['cpu']:.1f}x less processor time")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
