"""`python -m benchmarks.recipes REFERENCES PHOTOS OUT [VARIANTS...]`: ways of training a style, side by side.

A variant is a label and values of `TrainConfig`, `shots` among them for the number of references:
`few:recipe=sigan one:recipe=sigan,shots=1 weak:lambda_feature=0.01`. Without any: three recipes, one reference and all.
`perceptual=squeezenet` compares pictures by the weights of --squeezenet.
Each is trained on faces of nobody, draws the photographs, and is measured by `sigan.evaluation`: identity photograph to
portrait, colour, lines and SqueezeNet's kernel distance from all references; and by how much of the difference between
people's skins, in lightness, is left. OUT gets the packs, the portraits, a sheet
and results.json; a variant that stands there is not trained again.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path

import numpy as np

from sigan import alignment, bases, evaluation, images, sitters, stream
from sigan.identity import Identity
from sigan.stylization import Stylizer
from sigan.training import StyleTrainer, TrainConfig

SHOWN = 10  # photographs of the sheet
DEFAULT = [f"{recipe} {shots}:recipe={recipe}{',shots=1' if shots == 'one' else ''}"
           for recipe in ("sigan", "styleidentity", "jojogan") for shots in ("few", "one")]


def read_variant(text: str) -> tuple[str, dict]:
    """The label and the values of `label:key=value,key=value`; values are JSON where they can be."""
    label, _, rest = text.partition(":")
    values: dict = {}
    for pair in filter(None, rest.split(",")):
        key, _, value = pair.partition("=")
        try:
            values[key] = json.loads(value)
        except ValueError:
            values[key] = tuple(map(int, value.split("+"))) if "+" in value else value
    return label, values


def frame(folder: Path, out: Path, size: int) -> list[np.ndarray]:
    """The largest face of each picture of a folder, uint8 [size,size,3], also written to `out`."""
    aligner, faces = alignment.DlibAligner(), []
    for item in stream.find_inputs(folder):
        path = out / f"{item.path.stem}.png"
        if not path.exists():
            images.write(path, alignment.align(item.path, size, aligner=aligner)[0].image)
        faces.append(images.read(path))
    return faces


def draw(values: dict, references: list[np.ndarray], photos: Path, out: Path, base: bases.Base,
         squeezenet: str | None) -> dict:
    """Trains one variant, writes the photographs' portraits; seconds of processor time, and the last losses."""
    shots = values.pop("shots", len(references))
    if values.get("perceptual") == "squeezenet" and squeezenet:
        values["perceptual"] = f"squeezenet:{squeezenet}"
    started, cpu = time.perf_counter(), time.process_time()
    trainer = StyleTrainer(references[:shots], TrainConfig(**values), base)
    parts: dict[str, float] = {}
    for record in trainer.steps():
        parts = record.parts
    spent = {"seconds": time.perf_counter() - started, "processor": time.process_time() - cpu, "last": parts,
             "references": shots, "steps": trainer.done}
    pack = trainer.pack(re.sub(r"\W+", "-", out.name, flags=re.ASCII).strip("-") or "variant")
    pack.save(out.parent.parent / "packs" / f"{out.name}.safetensors")
    stylizer = Stylizer(pack)
    for path in sorted(photos.iterdir()):
        images.write(out / path.name, stylizer.arrays([images.read(path)])[0])
    return spent


def measure(out: Path, photos: Path, references: Path, squeezenet: str | None) -> dict:
    """Figures of the portraits in `out`: value, low, high and N by name."""
    names = ("identity", "color", "lines", *(("kid",) if squeezenet else ()))
    config = evaluation.EvalConfig(metrics=names, aligned=True, features=f"squeezenet:{squeezenet}")
    run = evaluation.Evaluation(out, photos, references, config)
    values = [record.values["identity"] for record in run if "identity" in record.values]
    found = {one.metric: {"value": one.value, "low": one.low, "high": one.high, "n": one.n} for one in run.figures()}
    found["identity"] = {**found["identity"], "spread": float(np.std(values))}
    return {**found, "skin": {"value": skin_kept(out, photos)}}


def skin_kept(out: Path, photos: Path) -> float:
    """The slope of the portraits' cheeks' L* over the photographs': 1 keeps all differences, 0 makes all alike."""
    identity, pairs = Identity(), list[tuple[float, float]]()
    for path in sorted(photos.iterdir()):
        image = images.read(path)
        points = identity.landmarks(image)
        if points is not None:
            before, after = (sitters.skin(x, points) for x in (image, images.read(out / path.name)))
            if before is not None and after is not None:
                pairs.append((float(before[0]), float(after[0])))
    return float(np.polyfit(*np.array(pairs).T, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__)
    parser.add_argument("references", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("variants", nargs="*", default=DEFAULT)
    parser.add_argument("--kind", default="cartoon", choices=("sketch", "cartoon"))
    parser.add_argument("--squeezenet", help="a file of its weights; without it no kernel distance")
    arguments = parser.parse_args()

    base = bases.load("mini")
    out, told = arguments.out, arguments.out / "results.json"
    references = frame(arguments.references, out / "references", base.resolution)
    faces = frame(arguments.photos, out / "photos", base.resolution)
    results = json.loads(told.read_text()) if told.exists() else {}
    for label, values in map(read_variant, arguments.variants):
        folder = out / "portraits" / label.replace(" ", "-")
        if label not in results:
            results[label] = draw({"kind": arguments.kind, **values}, references, out / "photos", folder, base,
                                  arguments.squeezenet)
            told.write_text(json.dumps(results, indent=2) + "\n")
        if "skin" not in results[label]:
            results[label] |= measure(folder, out / "photos", out / "references", arguments.squeezenet)
            told.write_text(json.dumps(results, indent=2) + "\n")
        print(label, {name: round(one["value"], 4) for name, one in results[label].items()
                      if isinstance(one, dict) and one.get("value") is not None}, flush=True)

    shown = [path.name for path in sorted((out / "photos").iterdir())][:SHOWN]
    rows = [references, faces[:SHOWN]]
    rows += [[images.read(out / "portraits" / label.replace(" ", "-") / name) for name in shown] for label in results]
    images.write(out / "sheet.png", images.contact_sheet(rows, ["references", "photographs", *results], cell=160))


if __name__ == "__main__":
    main()
