"""Figures for results: beside the photographs they came from, pair by pair, and beside a style's references, as sets.

What cannot be compared is a record with its reason, and counted; nothing is left out in silence.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

import numpy as np

from sigan import alignment, features, images, plugins, stream
from sigan.alignment import AlignedFace
from sigan.errors import ConfigError, InputError, NoFaceError, SiganError
from sigan.events import Failure
from sigan.figures import Figure
from sigan.identity import Identity, Likeness, misplaced, on_size
from sigan.metrics import GROUP, INPUTS, REFERENCES, Metric, Sample, Tools, ssim

if TYPE_CHECKING:
    from sigan.detection import Aligner

__all__ = ["EvalConfig", "Evaluation", "Identity", "Likeness", "Pair", "PairRecord", "evaluate", "match", "ssim",
           "summary"]

FRAMED = 256  # pixels of a picture that `align` frames and that has no photograph to take the size from
PART = 32  # pairs that a process measures at a time
GREY = 6  # of 255: channels that differ by no more, on average, make a grey picture
BY_INPUTS, BY_REFERENCES = ("ssim", "identity"), ("color", "lines", "copy")  # what `auto` stands for: no download


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What to measure. `aligned`: inputs are framed faces. `align`: results and references are framed here, too."""

    metrics: tuple[str, ...] = ("auto",)
    features: str = "inception"  # what FID and KID are defined on
    aligned: bool = False
    align: bool = False
    base: str = "mini"
    device: str = "auto"
    workers: int = 1  # processes; more need a script whose work stands below `if __name__ == "__main__":`

    def __post_init__(self) -> None:
        if self.aligned and self.align:
            raise ConfigError("aligned and align contradict each other", "choose one: are the pictures framed or not?")
        if self.workers < 1:
            raise ConfigError(f"workers is {self.workers}; it must be 1 or more")


@dataclass(frozen=True)
class PairRecord:
    """One result beside its photograph: figures by metric, or the error; an empty path is the missing side.

    `found` is False when no face was found where the photograph's is. `reference` marks a reference that failed.
    """

    source: str
    output: str
    values: dict[str, float] = field(default_factory=dict)
    found: bool = True
    error: Failure | None = None
    reference: bool = False


@dataclass(frozen=True)
class Pair:
    """What belongs together by name; `index` counts the photograph's faces from 0, None for the only or largest."""

    output: Path | None
    source: Path | None
    index: int | None = None


def match(outputs: Sequence[stream.Item], inputs: Sequence[stream.Item]) -> list[Pair]:
    """Pairs by relative folder and stem (or full name, or a face's number), then the inputs left over."""
    names: dict[str, list[stream.Item]] = {}
    for item in inputs:
        for name in {item.relative.as_posix(), item.relative.with_suffix("").as_posix()}:
            names.setdefault(name, []).append(item)
    pairs, used = [], set()
    for item in outputs:
        stem = item.relative.with_suffix("").as_posix()
        numbered = re.fullmatch(r"(.+)-([1-9]\d*)", stem)
        index = None
        found = names.get(stem, [])
        if not found and numbered:
            found, index = names.get(numbered[1], []), int(numbered[2]) - 1
        source = found[0].path if len(found) == 1 else None  # two inputs of one stem: nobody can tell
        pairs.append(Pair(item.path, source, index if source else None))
        used.add(source)
    return pairs + [Pair(None, item.path) for item in inputs if item.path not in used]


class Evaluation:
    """Iterate it for a record of each result; then `figures()` are those of the whole. It holds no pictures.

    Raises before any work: ConfigError on an unknown metric or a missing folder of inputs or references, InputError on
    a folder without pictures, WeightsError where a metric's weights are not installed.
    """

    def __init__(self, outputs: str | Path, inputs: str | Path | None = None, references: str | Path | None = None,
                 config: EvalConfig | None = None, tools: Tools | None = None) -> None:
        self.outputs, self.config = str(outputs), config or EvalConfig()
        self._folders = outputs, inputs, references
        self.tools = tools or Tools(features=self.config.features, base=self.config.base, device=self.config.device)
        given = {INPUTS: inputs, REFERENCES: references}
        kinds = self._kinds(given)
        results = stream.find_inputs(outputs)
        self.references = stream.find_inputs(references) if references is not None else []
        self.pairs = match(results, stream.find_inputs(inputs, out=outputs)) if inputs is not None else [
            Pair(item.path, None) for item in results]
        self.metrics = [self._metric(name, kind, given) for name, kind in kinds.items()]
        self.paired = inputs is not None and any(metric.needs == INPUTS for metric in self.metrics)
        self.records: list[PairRecord] = []
        self._seen = Seen()

    def __len__(self) -> int:
        return len(self.references) + len(self.pairs)

    def _kinds(self, given: Mapping[str, object]) -> dict[str, object]:
        """What makes the metrics asked for, by their names; nothing of theirs is loaded yet."""
        names = list(dict.fromkeys(self.config.metrics))
        if names == ["auto"]:
            names = [*(BY_INPUTS if given[INPUTS] else ()), *(BY_REFERENCES if given[REFERENCES] else ())]
            if not names:
                raise ConfigError("there is nothing to compare the results with", "give --inputs, --references or both")
        known = plugins.entries(GROUP)
        if unknown := [name for name in names if name not in known] or ([] if names else ["none"]):
            raise ConfigError(f"metric {', '.join(unknown)} is unknown", f"choose from {', '.join(known)}")
        kinds = {name: plugins.load(GROUP, name) for name in names}
        for name, kind in kinds.items():
            if needs := getattr(kind, "needs", ""):  # a class says it; of a function, the metric that it makes
                _check_given(name, needs, given)
        return kinds

    def _metric(self, name: str, kind: object, given: Mapping[str, object]) -> Metric:
        metric = kind(self.tools) if callable(kind) else None
        if not isinstance(metric, Metric):
            plugin = plugins.find(GROUP, name)
            raise ConfigError(f"{plugin} makes no metric", plugin.remedy())
        _check_given(name, metric.needs, given)
        return metric

    def __iter__(self) -> Iterator[PairRecord]:
        """The references that failed, and every result; each is measured as it passes."""
        for item in self.references:
            if record := self._reference(item):
                self.records.append(record)
                yield record
        many = self.config.workers > 1 and len(self.pairs) > PART and all(map(_travels, self.metrics))
        for record in self._spread() if many else map(self._record, self.pairs):
            self.records.append(record)
            yield record

    def _spread(self) -> Iterator[PairRecord]:
        """The records in order, measured by several processes a part at a time, the parts' metrics merged."""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        parts = [self.pairs[k:k + PART] for k in range(0, len(self.pairs), PART)]
        with ProcessPoolExecutor(min(self.config.workers, len(parts)), multiprocessing.get_context("spawn"),
                                 _begin, (self._folders, self.config, self.tools)) as pool:
            for records, metrics, seen in pool.map(_measure, parts):
                for own, other in zip(self.metrics, metrics):
                    own.merge(other)
                self._seen.merge(seen)
                yield from records

    def _reference(self, item: stream.Item) -> PairRecord | None:
        try:
            image = self._picture(item.path, FRAMED)
        except SiganError as error:
            return PairRecord("", str(item.path), error=_failure(error), reference=True)
        self._seen.oblong += image.shape[0] != image.shape[1]
        self._seen.add("references", image)
        sample = Sample(image, features.digest(image), reference=True)
        for metric in self.metrics:
            metric.update(sample)
        return None

    def _picture(self, path: Path, size: int) -> np.ndarray:
        """The picture as it is, or its face in a frame of `size` pixels."""
        if not self.config.align:
            return images.read(path)
        return alignment.align(path, size, "largest", self.tools.aligner)[0].image

    def _record(self, pair: Pair) -> PairRecord:
        source, output = str(pair.source or ""), str(pair.output or "")
        alone = [metric for metric in self.metrics if metric.needs != INPUTS]
        if pair.output is None or (self.paired and not source and not alone):
            lacking = "result" if source else "photograph"
            return PairRecord(source, output, error=Failure(
                "MissingPair", f"{source or output}: it has no {lacking}",
                "results pair with inputs of the same folder and stem"))
        try:
            sample = self._sample(pair, pair.output)
        except SiganError as error:
            return PairRecord(source, output, error=_failure(error))
        values = {metric.name: value for metric in self.metrics
                  if (metric.needs != INPUTS or sample.source is not None)
                  and (value := metric.update(sample)) is not None}
        lost = self.paired and not source
        return PairRecord(source, output, values, sample.expected is None or sample.found, Failure(
            "MissingPair", f"{output}: it has no photograph", "it counts among the results, not among the pairs"
        ) if lost else None)

    def _sample(self, pair: Pair, output: Path) -> Sample:
        image = self._picture(output, FRAMED)
        size = len(image)
        face = None
        if self.paired and pair.source:
            if image.shape[1] != size:
                raise InputError(f"{output}: {image.shape[1]} x {size} is not a square face",
                                 "evaluate aligned results, or let them be framed: --align")
            face = self._photograph(pair.source, pair, size)
        digest = features.digest(image)
        sample = Sample(image, digest) if face is None else self._paired(pair, image, digest, face)
        self._seen.sides[image.shape[:2]] += 1
        self._seen.add("results", image)
        if face is not None:
            self._seen.add("photographs", face.image)
        return sample

    def _photograph(self, source: Path, pair: Pair, size: int) -> AlignedFace:
        faces = alignment.align(source, size, "largest" if pair.index is None else "all", self.tools.aligner,
                                self.config.aligned)
        index = pair.index or 0
        if index >= len(faces):
            raise InputError(f"{source}: {len(faces)} faces found, but {pair.output} is of face {index + 1}",
                             "stylize it again")
        return faces[index]

    def _paired(self, pair: Pair, image: np.ndarray, digest: str, source: AlignedFace) -> Sample:
        source_digest = features.digest(source.image)
        expected = source.landmarks
        if expected is None:
            known = self.tools.find(source.image, source_digest)
            expected = None if known is None else on_size(known.landmarks, len(source.image), len(image))
        face = self.tools.find(image, digest)
        if expected is not None and misplaced(face, expected, len(image)):
            raise MisalignedPairError(f"{pair.output}: its face is not where that of {pair.source} is",
                                      "frame both sides alike: --align, or --aligned if the photographs are framed")
        return Sample(image, digest, False, source.image, source_digest, expected, face)

    def pictures(self, record: PairRecord) -> tuple[np.ndarray | None, np.ndarray]:
        """The photograph (None without one) and the result of a record, as they were compared; read anew."""
        pair = next(pair for pair in self.pairs if str(pair.output) == record.output)
        image = self._picture(Path(record.output), FRAMED)
        known = self.paired and pair.source
        return (self._photograph(known, pair, len(image)).image if known else None), image

    def figures(self) -> list[Figure]:
        """One figure of each metric, of the results that have passed so far."""
        return [metric.compute() for metric in self.metrics]

    def warnings(self) -> list[str]:
        """What makes the pictures hard to compare, whichever the metric."""
        return self._seen.warnings()


# ---- several processes

_worker: Evaluation  # of a process that measures parts for another, once it has begun


def _begin(folders: tuple[str | Path, str | Path | None, str | Path | None], config: EvalConfig, tools: Tools) -> None:
    """Loads what a worker needs, and counts the references in."""
    import torch

    global _worker
    torch.set_num_threads(1)  # the processes are the threads
    _worker = Evaluation(*folders, config, tools)
    for item in _worker.references:
        _worker._reference(item)


def _measure(pairs: Sequence[Pair]) -> tuple[list[PairRecord], list[Metric], Seen]:
    """The records of some pairs, and the metrics of those pairs alone."""
    part = copy.copy(_worker)
    part.metrics, part._seen = copy.deepcopy(_worker.metrics), Seen()
    return [part._record(pair) for pair in pairs], part.metrics, part._seen


# ---- what makes pictures hard to compare

@dataclass
class Seen:
    """Sizes of results, grey pictures of each side and all, references that are no squares."""

    sides: Counter[tuple[int, int]] = field(default_factory=Counter)
    grey: Counter[str] = field(default_factory=Counter)
    all: Counter[str] = field(default_factory=Counter)
    oblong: int = 0

    def add(self, side: str, image: np.ndarray) -> None:
        """Counts in a picture of a side: results, photographs or references."""
        self.all[side] += 1
        self.grey[side] += is_grey(image)

    def merge(self, other: Seen) -> None:
        """Counts in results that another has seen."""
        self.sides += other.sides
        self.grey += other.grey
        self.all += other.all

    def warnings(self) -> list[str]:
        """What to tell about it."""
        told = []
        if len(self.sides) > 1:
            sizes = ", ".join(f"{count} of {w} x {h}" for (h, w), count in sorted(self.sides.items()))
            told.append(f"the results are of several sizes, which SSIM and LPIPS depend on: {sizes}")
        grey, count = self.grey["results"], self.all["results"]
        for side in ("photographs", "references"):
            theirs, among = self.grey[side], self.all[side]
            if count and among and (2 * grey > count) != (2 * theirs > among):
                told.append(f"{grey} of {count} results are grey, but {theirs} of {among} {side}: figures that see "
                            "colour tell of that first")
        if self.oblong:
            told.append(f"{self.oblong} references are no squares and are squeezed into one: --align frames them")
        return told


class MisalignedPairError(InputError):
    """A result whose face is clearly elsewhere than its photograph's."""


def _check_given(name: str, needs: str, given: Mapping[str, object]) -> None:
    if given.get(needs) is None:
        raise ConfigError(f"metric {name} compares results with {needs}", f"give --{needs} FOLDER")


def _travels(metric: Metric) -> bool:
    """Whether a process can hand it to another: a class within a function is known nowhere else."""
    return "<locals>" not in type(metric).__qualname__


def _failure(error: SiganError) -> Failure:
    return Failure(type(error).__name__.removesuffix("Error") if isinstance(error, MisalignedPairError)
                   else type(error).__name__, error.message, error.hint)


def is_grey(image: np.ndarray) -> bool:
    """Whether a picture has no colours to speak of."""
    small = image[::4, ::4].astype(np.int16)
    return bool((small.max(-1) - small.min(-1)).mean() <= GREY)


def evaluate(outputs: str | Path, inputs: str | Path, metrics: Sequence[str] = BY_INPUTS, *, aligned: bool = False,
             aligner: Aligner | None = None) -> Iterator[PairRecord]:
    """One record per pair of a result and the photograph of its name, which is first aligned to the result's size.

    `aligned`: the photographs are framed faces already. Missing sides and failures are records too. Errors:
    `Evaluation`.
    """
    config = EvalConfig(metrics=tuple(metrics), aligned=aligned)
    return iter(Evaluation(outputs, inputs, None, config, Tools(identity=Identity(aligner))))


def summary(records: Iterable[PairRecord]) -> dict[str, int | float]:
    """N results measured, missing sides, failures, results whose face was not found; mean and median of each metric."""
    records = list(records)
    measured = [record for record in records if record.values]
    errors = [record.error.type for record in records if record.error]
    missing, misaligned = errors.count("MissingPair"), errors.count("MisalignedPair")
    figures: dict[str, int | float] = {"N": len(measured), "missing": missing, "misaligned": misaligned,
                                       "failed": len(errors) - missing - misaligned,
                                       "face_not_found": sum(not record.found for record in measured)}
    for name in dict.fromkeys(name for record in measured for name in record.values):
        values = [record.values[name] for record in measured if name in record.values]
        figures |= {f"{name}_mean": fmean(values), f"{name}_median": median(values)}
    return figures


def no_face_anywhere(records: Sequence[PairRecord]) -> bool:
    """Whether every result failed for want of a face."""
    errors = [record.error.type if record.error else "" for record in records if not record.reference]
    return bool(errors) and set(errors) == {NoFaceError.__name__}
