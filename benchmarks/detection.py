"""`python -m benchmarks.detection PHOTOS...`: what looking at pictures small costs the crop, and what it saves.

Three tables. How far the crop's corners move, in shares of its side, when the detector looks at other sizes (the first
face of each photograph; the sizes' own disagreement is the yardstick). Processor seconds from a file to its crop, when
everything is decoded and looked at in 640 pixels, and as `sigan.align` does it; on the photographs as they are and
enlarged. The peak memory of a scan of 100 megapixels, in a process of its own, above what the imports take.
Processor time, since a busy machine distorts the clock.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.run import machine
from sigan import alignment, cropping, detection, images, pictures

SIDES = (240, 320, 400, 480, 640, 1280)
SIZE = 256
ENLARGED = 24_000_000  # pixels: a camera's
SCAN = 10_000  # side of the scan
PROBE = """
import re, sys
from sigan import alignment, images
import dlib
class Still:
    def find(self, image, every=False):
        height, width, _ = image.shape
        import numpy as np
        points = np.full((68, 2), (width / 2, height / 2), np.float32)
        points[36:42], points[42:48] = (width * .48, height * .48), (width * .52, height * .48)
        points[[48, 54]] = (width * .49, height * .52), (width * .51, height * .52)
        return [alignment.Face((width * .4, height * .4, width * .6, height * .6), 1.0, points, 'still')]
peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])  # of this program alone
before = peak()
if sys.argv[2] == 'crop':
    alignment.align(sys.argv[1], int(sys.argv[3]), aligner=Still())
elif sys.argv[2] == 'whole':
    images.open_picture(sys.argv[1])
print((peak() - before) / 1024)
"""


def shift(frame: np.ndarray, reference: np.ndarray) -> float:
    """The corner that moved farthest, in shares of the reference's side."""
    return float(np.hypot(*(frame - reference).T).max() / cropping.side(reference))


def sides(photographs: list[np.ndarray]) -> None:
    aligner = detection.DlibAligner()
    frames: dict[int, list] = {side: [] for side in SIDES}
    seconds = dict.fromkeys(SIDES, 0.0)
    for image in photographs:
        for side in SIDES:
            started = time.process_time()
            seen = aligner._marked(image, aligner._hog(image, side))
            seconds[side] += time.process_time() - started
            frames[side].append(cropping.quad(max(seen, key=lambda s: s[0][2] - s[0][0])[2]) if seen else None)
    print("| long side | faces found | corner shift to 640 px: median | 95 % | largest | s per photograph |")
    print("|---|---|---|---|---|---|")
    for side in SIDES:
        moved = [shift(a, b) for a, b in zip(frames[side], frames[640]) if a is not None and b is not None]
        print(f"| {side} | {sum(f is not None for f in frames[side])} of {len(photographs)} "
              f"| {np.median(moved):.2%} | {np.percentile(moved, 95):.2%} | {max(moved):.2%} "
              f"| {seconds[side] / len(photographs):.3f} |")


def whole(path: Path, aligner: detection.DlibAligner) -> alignment.AlignedFace:
    """Everything decoded, the detector at 640 pixels, the fade in exact arithmetic: how it was done before."""
    image = images.read(path)
    seen = aligner._marked(image, [seen for seen in aligner._hog(image, 640)])
    frame = cropping.quad(max(seen, key=lambda s: s[0][2] - s[0][0])[2])
    return alignment.AlignedFace(cropping.crop(image, frame, SIZE), frame)


def paths(name: str, files: list[Path], runs: int) -> None:
    aligner = detection.DlibAligner()
    ways = {"all": whole, "needed": lambda path, aligner: alignment.align(path, SIZE, aligner=aligner)[0]}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    moved = []
    for _ in range(runs):
        spent = dict.fromkeys(ways, 0.0)
        for path in files:
            found = {}
            for way, cut in ways.items():
                started = time.process_time()
                found[way] = cut(path, aligner)
                spent[way] += time.process_time() - started
            moved.append(shift(found["needed"].quad, found["all"].quad))
        for way in ways:
            seconds[way].append(spent[way] / len(files))
    before, after = (statistics.median(seconds[way]) for way in ways)
    print(f"| {name} ({len(files)}) | {before:.3f} | {after:.3f} | {before / after:.1f} "
          f"| {np.median(moved):.2%} | {np.percentile(moved, 95):.2%} | {max(moved):.2%} |")


def enlarge(files: list[Path], folder: Path) -> list[Path]:
    """The photographs as JPEGs of a camera's size."""
    made = []
    for path in files:
        img = Image.fromarray(images.read(path))
        times = (ENLARGED / (img.width * img.height)) ** 0.5
        made.append(folder / f"{path.stem}.jpg")
        size = round(img.width * times), round(img.height * times)
        img.resize(size, Image.Resampling.BICUBIC).save(made[-1], quality=92)
    return made


def memory(folder: Path) -> None:
    axis = np.linspace(0, 255, SCAN, dtype=np.uint8)
    grey = Image.fromarray(np.add.outer(axis // 2, axis // 2))
    colour = Image.merge("RGB", (grey, grey.transpose(Image.Transpose.ROTATE_90), grey))
    files = {"JPEG": ("a.jpg", colour, {}), "PNG": ("a.png", colour, {"compress_level": 1}),
             "PNG, alpha": ("b.png", Image.merge("RGBA", (*colour.split(), grey)), {"compress_level": 1}),
             "TIFF, grey": ("a.tif", grey, {"compression": "tiff_lzw"})}
    for name, img, options in files.values():
        img.save(folder / name, **options)
    print("| 100 megapixels | face of 256 px | face of 1024 px | whole picture |")
    print("|---|---|---|---|")
    for kind, (name, *_) in files.items():
        peaks = [float(subprocess.run([sys.executable, "-c", PROBE, str(folder / name), *how], check=True,
                                      capture_output=True, text=True).stdout)
                 for how in (("crop", "256"), ("crop", "1024"), ("whole", ""))]
        print(f"| {kind} | " + " | ".join(f"{peak:.0f} MiB" for peak in peaks) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__)
    parser.add_argument("photos", type=Path, nargs="+", help="folders of photographs with a face each")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--large", type=int, default=6, help="photographs to enlarge")
    arguments = parser.parse_args()
    files = [path for folder in arguments.photos for path in sorted(folder.iterdir())
             if path.suffix.lower() in pictures.SUFFIXES]
    print("\n".join(f"{name}: {value}" for name, value in machine().items()), end="\n\n")
    sides([images.read(path) for path in files])
    print("\n| photographs | s, everything decoded | s, what is needed | ratio | corner shift: median | 95 % | most |")
    print("|---|---|---|---|---|---|---|")
    paths("as they are", files, arguments.runs)
    with tempfile.TemporaryDirectory() as folder:
        paths("24 megapixels", enlarge(files[:arguments.large], Path(folder)), arguments.runs)
        print()
        memory(Path(folder))


if __name__ == "__main__":
    main()
