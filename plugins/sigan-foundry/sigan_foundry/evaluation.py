"""The figures of a model card, on faces that no training saw, part by part; and the sheets that show them.

dlib judges identity; it is loaded when `evaluate` runs, so that training works where it is not installed.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sigan import alignment, images, inversion, stream
from sigan.distributions import frechet_of_features
from sigan.errors import ConfigError, InputError, NoFaceError
from sigan_foundry import baseline, data, figures, grids
from sigan_foundry.judge import Judge, Seen, descriptors
from sigan_foundry.perceptual import SqueezeNet, distance

if TYPE_CHECKING:
    from sigan.bases import Base

BATCH = 16
PEERS = 3  # validation faces beside a picture that the discriminator scores: it compares groups of four
TIMED, TIMED_REFINED, TIMED_BATCH = 20, 3, 64  # faces timed one by one; and together, on a GPU
REFINED_TIMED = 100  # steps


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How much to measure."""

    limit: int = 0  # faces, evenly spread over the set; 0: all
    samples: int = 500  # at truncation 0.7, and as many at 1
    refine: int = 100  # steps of optimising codes; 0: leave it out
    refine_faces: int = 40  # of the faces, evenly spread: refining takes seconds a face
    packed: Path | None = None  # training faces, to fit the closed-form yardstick on
    drawings: Path | None = None  # pictures to invert in-domain
    timed: int = TIMED

    def __post_init__(self) -> None:
        if self.samples < 2 or min(self.limit, self.refine, self.refine_faces, self.timed) < 0:
            raise ConfigError(f"samples is {self.samples}, limit {self.limit}, refine {self.refine} on "
                              f"{self.refine_faces} faces, timed {self.timed}; need 2 samples or more, and 0 or more")


def evaluate(base: Base, source: Path, squeezenet: SqueezeNet, out: Path,
             config: EvaluationConfig | None = None) -> Iterator[tuple[str, dict]]:
    """Each part of the figures as it is ready: (name, figures with their N). Sheets go to the folder `out`.

    InputError when `source` (a tar file or a folder of aligned faces) holds no two faces.
    """
    return Evaluation(base, source, squeezenet, out, config or EvaluationConfig()).parts()


class Evaluation:
    """The faces, what the judges see in them, and one method for each part of the figures."""

    def __init__(self, base: Base, source: Path, squeezenet: SqueezeNet, out: Path, config: EvaluationConfig):
        self.base, self.config, self.out = base, config, out
        self.net, self.judge = squeezenet.to(base.device), Judge()
        self.kinds, self.pixels = _read(source, base.resolution, config.limit)
        self.seen: list[Seen | None] = []
        self.pooled = np.zeros((0, 0))  # [N,D] SqueezeNet's last tap, averaged over places

    def parts(self) -> Iterator[tuple[str, dict]]:
        yield "base", self.about()
        yield "faces", self.look()
        yield "encoder", self.redrawn(self.encode)
        yield "refined", self.refined()
        yield "components", self.components()
        yield "samples", self.samples()
        yield "drawings", self.drawings()
        yield "seconds", self.seconds()
        grids.write(grids.interpolations(self.base), self.out / "interpolations.png")

    # ---- the parts

    def about(self) -> dict:
        base, device = self.base, torch.device(self.base.device)
        card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
        return {"name": base.name, "hash": base.hash, "resolution": base.resolution, "device": f"{device.type}, {card}",
                "threads": torch.get_num_threads(), "torch": torch.__version__}

    def look(self) -> dict:
        """The validation faces themselves."""
        self.seen = self.judge.see_all(self.pixels)
        self.pooled = self._pooled(self.pixels)
        return {"N": len(self.pixels), "found": sum(one is not None for one in self.seen),
                "diversity": figures.diversity(descriptors(self.seen))}

    def encode(self, x: Tensor) -> Tensor:
        return inversion.invert(self.base, x)

    def redrawn(self, invert: Callable[[Tensor], Tensor]) -> dict:
        """Inversions of all faces, by source set; writes reconstructions.png."""
        drawn = [y for x in self._batches(self.pixels) for y in self._draw(invert(x))]
        chosen = _spread(len(self.pixels), grids.COLUMNS)
        self._sheet("reconstructions", [[faces[i] for i in chosen] for faces in (self.pixels, drawn)])
        return self._compare(drawn, range(len(drawn)))

    def refined(self) -> dict:
        """Refined inversions of some faces, and the encoder's of the same; writes refined.png."""
        steps, chosen = self.config.refine, _spread(len(self.pixels), self.config.refine_faces)
        if not steps or not chosen:
            return {"skipped": "no steps, or no faces to refine"}
        pixels = [self.pixels[i] for i in chosen]
        before = [y for x in self._batches(pixels) for y in self._draw(self.encode(x))]
        after = [y for x in self._batches(pixels)
                 for y in self._draw(inversion.invert(self.base, x, refine=steps))]
        shown = _spread(len(chosen), grids.COLUMNS)
        self._sheet("refined", [[row[i] for i in shown] for row in (pixels, before, after)])
        return {"steps": steps, **self._compare(after, chosen),
                "encoder on the same faces": self._compare(before, chosen)["all"]}

    def components(self) -> dict:
        """The closed-form yardstick on the same faces, or its recorded figure."""
        if self.config.packed is None:
            return {"recorded": baseline.RECORDED}
        fitted = baseline.fit(data.Faces(self.config.packed))
        drawn = [y for x in self._batches(self.pixels, "cpu") for y in images.from_batch(fitted.redraw(x))]
        return {"coefficients": len(fitted.rows), "side": fitted.side, **self._compare(drawn, range(len(drawn)))}

    def samples(self) -> dict:
        """Faces of nobody: found by the detector, unlike each other, distributed like the validation faces."""
        n, told = self.config.samples, {}
        for truncation, seed in ((0.7, 1), (1.0, 2)):
            ws = self.base.sample(n, seed=seed, truncation=truncation)
            drawn = [y for part in ws.split(BATCH) for y in self._draw(part)]
            seen, valid = self.judge.see_all(drawn), descriptors(self.seen)
            found = [one for one in seen if one]
            told[f"truncation {truncation:g}"] = {
                "N": n, "found": len(found), "found_share": round(len(found) / n, 4),
                "diversity": figures.diversity(descriptors(found)),
                "frechet": {
                    "squeezenet": round(frechet_of_features(self._pooled(drawn), self.pooled), 4),
                    "descriptor": round(frechet_of_features(descriptors(found), valid), 4)
                    if min(len(found), len(valid)) > 1 else None,
                    "N": [n, len(self.pixels)], "N of descriptors": [len(found), len(valid)]}}
            if truncation < 1:
                grids.write_arrays(grids.in_rows(drawn, 3), self.out / "samples.png")
        return told

    def drawings(self) -> dict:
        """In-domain inversions of drawings: where the discriminator's score lies among the faces'; drawings.png."""
        if self.config.drawings is None or self.base.discriminator is None:
            return {"skipped": "no drawings given" if self.base.discriminator else "the base has no discriminator"}
        names, pixels = _drawings(self.config.drawings, self.base.resolution)
        drawn = [y for x in self._batches(pixels) for y in self._draw(inversion.invert(self.base, x, in_domain=True))]
        self._sheet("drawings", [pixels, drawn])
        scores, own = self._scores(drawn), self.pixels[PEERS:]
        faces = self._scores(own)
        inversions = self._scores([y for x in self._batches(own) for y in self._draw(self.encode(x))])
        return {"N": len(drawn), "among": len(faces), "names": names, "percentile": figures.ranks(scores, faces),
                "percentile_of_inversions": figures.ranks(scores, inversions),
                "inversions_median": figures.ranks(inversions, faces)["median"]}

    def seconds(self) -> dict:
        """Medians of one face at a time; on a GPU also faces a second of a batch."""
        x = images.to_batch(self.pixels[: max(self.config.timed, TIMED_REFINED)], self.base.device)
        if not self.config.timed:
            return {"skipped": "timing was left out"}
        self._draw(self.encode(x[:1]))  # the first call is slower
        told = {"invert and draw": self._clock(lambda one: self._draw(self.encode(one)), x[: self.config.timed])}
        if self.config.refine:
            told[f"refine {REFINED_TIMED}"] = self._clock(
                lambda one: inversion.invert(self.base, one, refine=REFINED_TIMED), x[:TIMED_REFINED])
        if torch.device(self.base.device).type == "cuda":
            many = x[:1].expand(TIMED_BATCH, -1, -1, -1).contiguous()
            batch = self._clock(lambda part: self._draw(self.encode(part[0])), many[None].expand(5, -1, -1, -1, -1))
            told["faces a second in batches"] = {"batch": TIMED_BATCH, "value": round(TIMED_BATCH / batch["median"], 1)}
        return told

    # ---- what the parts share

    def _batches(self, pixels: Sequence[np.ndarray], device: torch.device | str | None = None) -> Iterator[Tensor]:
        for i in range(0, len(pixels), BATCH):
            yield images.to_batch(pixels[i : i + BATCH], device or self.base.device)

    @torch.no_grad()
    def _draw(self, ws: Tensor) -> list[np.ndarray]:
        return images.from_batch(self.base.generator.synthesis(ws))

    @torch.no_grad()
    def _pooled(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        return torch.cat([self.net(x)[-1].mean((2, 3)) for x in self._batches(pixels)]).double().cpu().numpy()

    @torch.no_grad()
    def _scores(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """The discriminator's score of each picture, in a group with the same PEERS faces.  -> [N]"""
        net = self.base.discriminator
        peers = net.features(images.to_batch(self.pixels[:PEERS], self.base.device))[-1]
        tops = torch.cat([net.features(x)[-1] for x in self._batches(pixels)])
        return np.array([float(net.score(torch.cat([top[None], peers]))[0]) for top in tops])

    def _compare(self, drawn: Sequence[np.ndarray], chosen: Sequence[int]) -> dict:
        """Redrawn faces against their originals, whose places in the set are `chosen`: all, then by source set."""
        again = self.judge.see_all(drawn)
        rows: list[dict[str, float | None]] = []
        features = self._feature_distances([self.pixels[i] for i in chosen], drawn)
        for i, picture, other, feature in zip(chosen, drawn, again, features, strict=True):
            one, both = self.seen[i], self.seen[i] is not None and other is not None
            squares = (np.float64(picture) - self.pixels[i]) ** 2
            rows.append({
                "dlib": float(np.linalg.norm(one.descriptor - other.descriptor)) if both else None,
                "landmarks": figures.landmark_error(one.landmarks, other.landmarks) if both else None,
                "psnr": float(10 * np.log10(255**2 / max(squares.mean(), 1e-9))), "squeezenet": feature})
        sets = {"all": rows}
        for i, row in zip(chosen, rows):
            sets.setdefault(self.kinds[i], []).append(row)
        return {name: {"N": len(part), "no_face": sum(row["dlib"] is None for row in part),
                       **{key: figures.digest([row[key] for row in part]) for key in part[0]}}
                for name, part in sets.items()}

    @torch.no_grad()
    def _feature_distances(self, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> list[float]:
        pairs = zip(self._batches(a), self._batches(b), strict=True)
        return torch.cat([distance(self.net(x), self.net(y)) for x, y in pairs]).tolist()

    def _sheet(self, name: str, rows: Sequence[Sequence[np.ndarray]]) -> None:
        grids.write_arrays(rows, self.out / f"{name}.png")

    def _clock(self, work: Callable[[Tensor], object], x: Tensor) -> dict:
        """Median seconds of work on each x[i:i+1], and of processor time, which other programs do not lengthen."""
        taken, busy = [], []
        for one in x.split(1):
            began, began_busy = time.perf_counter(), time.process_time()
            work(one)
            if one.is_cuda:
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
            busy.append(time.process_time() - began_busy)
        return {"N": len(taken), "median": round(statistics.median(taken), 4),
                "processor": round(statistics.median(busy), 4)}


def _read(source: Path, side: int, limit: int) -> tuple[list[str], list[np.ndarray]]:
    """Source sets and pictures uint8 [side,side,3], evenly spread when limited."""
    found = list(data.pictures(source))
    if len(found) < PEERS + 1:
        raise InputError(f"{source}: {len(found)} faces; the figures need {PEERS + 1} or more", "name a larger set")
    if limit:
        found = [found[i] for i in _spread(len(found), max(limit, PEERS + 1))]
    return [Path(name).stem.split("-")[0] for name, _ in found], [data.decode(c, side) for _, c in found]


def _spread(n: int, wanted: int) -> list[int]:
    """At most `wanted` of n places, evenly."""
    return np.unique(np.linspace(0, n - 1, min(n, wanted)).round().astype(int)).tolist() if wanted else []


def _drawings(folder: Path, side: int) -> tuple[list[str], list[np.ndarray]]:
    """Names and aligned pictures; where no face is found, the picture's middle square."""
    names, pixels, aligner = [], [], alignment.DlibAligner()
    for item in stream.find_inputs(folder):
        try:
            found = alignment.align(item.path, side, aligner=aligner)
        except NoFaceError:
            found = alignment.align(item.path, side, aligned=True)
        names.append(item.relative.as_posix())
        pixels.append(found[0].image)
    return names, pixels
