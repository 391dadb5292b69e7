"""Folders of pictures become a study: matched by name, brought to one size, stripped of all that tells the method."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from sigan import images, stream
from sigan.errors import ConfigError, InputError, OutputError, SiganError
from sigan.events import Failure
from sigan.study import design, page, plan
from sigan.study.plan import Pair, Study

UNFINISHED = ".build-"  # begins the name of the folder a build works in; one that was killed leaves it
TILES = 6  # per side of a spoilt picture: nothing of a face is left where it belongs
MAX_METHODS = 26
EDITABLE_TEXTS = ("title", "intro", "question", "consent", "attention", "thanks")
SECRET_BYTES, ID_BYTES, INVITATION_BYTES = 24, 8, 9
SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """How to build; `texts` replaces the page's own by language and key."""

    trials: int = 30  # about five minutes: people stay attentive
    checks: int = 4  # somebody who presses at random passes all with a chance of 1.2 %
    photographs: int = 0  # how many to draw from those in common; 0 for all
    size: int = 512  # longest side, in pixels: about what a portrait gets on a screen
    format: str = "png"  # lossless: no method's fine lines suffer
    invitations: int = 0  # 0: whoever opens the page may take part
    seed: int | None = None  # None: drawn anew
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, low, high in (("trials", 1, 500), ("checks", 0, 20), ("photographs", 0, 100_000),
                                ("size", 16, 4096), ("invitations", 0, 10_000)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must lie in {low} to {high}")
        if self.format not in SUFFIXES:
            raise ConfigError(f"format is {self.format!r}; it must be one of {', '.join(SUFFIXES)}")
        if self.checks > self.trials:
            raise ConfigError(f"checks is {self.checks}, more than trials ({self.trials})")


@dataclass(frozen=True)
class Built:
    """A finished study, and what was left out on the way: names that a side lacks, pictures that cannot be read."""

    folder: Path
    study: Study
    missing: dict[str, list[str]]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    page_bytes: int


def build(out: str | Path, methods: Mapping[str, str | Path], *, inputs: str | Path | None = None,
          references: str | Path | None = None, config: BuildConfig | None = None, overwrite: bool = False) -> Built:
    """Writes a study folder `out` that compares the pictures in the folders of `methods`, whole or not at all.

    ConfigError for methods that cannot be compared, InputError for folders without pictures or names in common,
    OutputError for an `out` that holds something else, or votes.
    """
    config = config or BuildConfig()
    out = Path(out)
    _check_methods(methods)
    _check_out(out, overwrite)
    part = out / f"{UNFINISHED}{secrets.token_hex(4)}"
    made = not out.exists()
    try:
        (part / "pictures").mkdir(parents=True)
        built = _Builder(part, methods, inputs, references, config).build(out)
        for old in [path for path in out.iterdir() if path != part]:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        for new in sorted(part.iterdir(), key=lambda path: path.name == plan.FILE):  # last: only then it is a study
            os.replace(new, out / new.name)
        made = False
        return built
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror or error})",
                          "choose another folder, or check its permissions and free space") from error
    finally:
        shutil.rmtree(out if made else part, ignore_errors=True)


def _check_methods(methods: Mapping[str, str | Path]) -> None:
    if len(methods) < 2:
        raise ConfigError(f"{len(methods)} method is given: a preference needs two to choose from",
                          "give at least two as METHOD=DIR")
    if len(methods) > MAX_METHODS:
        raise ConfigError(f"{len(methods)} methods are given; {MAX_METHODS} at most")
    for name in methods:
        if not name.strip() or len(name) > 64 or not name.isprintable():
            raise ConfigError(f"{name!r} is no name for a method", "use 1 to 64 printable characters")
    places: dict[Path, str] = {}
    for name, folder in methods.items():
        other = places.setdefault(Path(folder).resolve(), name)
        if other != name:
            raise ConfigError(f"{other} and {name} are the same folder: {folder}", "give each method its own folder")


def _check_out(out: Path, overwrite: bool) -> None:
    stream.check_output(out)
    if not out.is_dir() or all(path.name.startswith(UNFINISHED) for path in out.iterdir()):
        return
    if not plan.is_study(out):
        raise OutputError(f"{out}: the folder is not empty, and holds no study", "name a new folder")
    if any(out.glob("votes*")):
        raise OutputError(f"{out}: this study holds votes, and is never replaced", "name a new folder")
    if not overwrite:
        raise OutputError(f"{out}: a study is here already", "name a new folder, or --overwrite to replace it")


def texts(config: BuildConfig, inputs: bool, references: bool) -> dict[str, dict[str, str]]:
    """The page's words by language, with the question that fits what is shown; ConfigError for unknown keys."""
    words = page.texts()
    kind = {(False, False): "plain", (True, False): "photograph", (False, True): "references", (True, True): "both"}
    for language in words:
        words[language]["question"] = words[language][f"question_{kind[inputs, references]}"]
        words[language] = {key: text for key, text in words[language].items() if not key.startswith("question_")}
    unknown = set(config.texts) - set(words)
    if unknown:
        raise ConfigError(f"texts are given in {', '.join(sorted(unknown))}; the page speaks {', '.join(words)}")
    for language, own in config.texts.items():
        bad = [key for key, text in own.items() if key not in EDITABLE_TEXTS or not isinstance(text, str)]
        if bad:
            raise ConfigError(f"texts, {language}: {', '.join(map(str, bad))} cannot be set",
                              f"these can, each to a text: {', '.join(EDITABLE_TEXTS)}")
        lacking = [other for other in words if set(own) - set(config.texts.get(other, {}))]
        if lacking:
            raise ConfigError(f"texts: what is given in {language} must be given in {' and '.join(lacking)} too",
                              "a participant may switch the language, and must be asked the same")
        words[language].update(own)
    return words


def read_texts(path: str | Path) -> dict[str, dict[str, str]]:
    """The words in a JSON file {"en": {"consent": ...}, "zh": {...}}; ConfigError when it is none."""
    try:
        found = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error})",
                          'write {"en": {"consent": "..."}, "zh": {"consent": "..."}}') from error
    if not isinstance(found, dict) or not all(isinstance(own, dict) for own in found.values()):
        raise ConfigError(f"{path}: not an object of objects",
                          'write {"en": {"consent": "..."}, "zh": {"consent": "..."}}')
    return found


class _Builder:
    """One build: reads, names and writes the pictures, and keeps what was left out."""

    def __init__(self, part: Path, methods: Mapping[str, str | Path], inputs: str | Path | None,
                 references: str | Path | None, config: BuildConfig) -> None:
        self.part, self.config = part, config
        self.folders = {name: _by_name(folder) for name, folder in methods.items()}
        self.inputs = _by_name(inputs) if inputs is not None else None
        self.references = _by_name(references) if references is not None else {}
        self.seed = secrets.randbits(32) if config.seed is None else config.seed
        self.rng = random.Random(self.seed)
        self.missing: dict[str, list[str]] = {}
        self.failures: list[Failure] = []
        self.notes: list[str] = []
        self.pictures: dict[str, str] = {}
        self.drawn_by: dict[str, str] = {}
        self.names: dict[str, str] = {}

    def build(self, out: Path) -> Built:
        methods = list(self.folders)
        words = texts(self.config, self.inputs is not None, bool(self.references))
        shown = self._results(self._common())
        names = list(shown)
        pairs = [Pair(shown[names[name]][0], shown[names[name]][1 + a], shown[names[name]][1 + b])
                 for name, a, b in design.picture_pairs(len(names), len(methods))]
        checks = self._checks(shown)
        sheets = design.sheets(len(names), len(methods), self.config.trials, len(checks), self.rng)
        study = Study(
            methods=tuple(methods), pairs=(*pairs, *checks), checks=len(checks),
            sheets=tuple(map(tuple, sheets)), drawn_by=self.drawn_by, names=self.names,
            references=tuple(self._references()), pictures=self.pictures, suffix=SUFFIXES[self.config.format],
            texts=words, seed=self.seed, secret=secrets.token_hex(SECRET_BYTES),
            invitations=tuple(secrets.token_urlsafe(INVITATION_BYTES) for _ in range(self.config.invitations)))
        study.save(self.part)
        if study.invitations:
            images.atomic_write(self.part / "invitations.txt", "".join(f"{i}\n" for i in study.invitations).encode())
        data = page.alone(study, lambda picture: plan.load_picture(self.part, study, picture)).encode()
        images.atomic_write(self.part / "page.html", data)
        return Built(out, study, self.missing, tuple(self.failures), tuple(self.notes), len(data))

    def _common(self) -> list[str]:
        """Names that every method has, and a photograph where there are any; the others go to `missing`."""
        sides = {**self.folders, **({"--inputs": _Numbered(self.inputs)} if self.inputs is not None else {})}
        wanted = sorted(set().union(*self.folders.values()))
        common = [name for name in wanted if all(name in side for side in sides.values())]
        self.missing = {side: lacking for side, held in sides.items()
                        if (lacking := [name for name in wanted if name not in held])}
        if not common:
            counts = ", ".join(f"{side} {len(held)}" for side, held in sides.items())
            raise InputError(f"no picture is in all folders by the same name ({counts} pictures)",
                             "a result of a/b.jpg must be called a/b with any suffix in each method's folder")
        count = self.config.photographs
        return sorted(self.rng.sample(common, count)) if 0 < count < len(common) else common

    def _results(self, names: list[str]) -> dict[str, list[str]]:
        """For each name, ids: of the photograph ("" without), then of each method's. Bad files drop the name."""
        shown, sides_differ, same = {}, [], []
        inputs = _Numbered(self.inputs) if self.inputs is not None else None
        for name in names:
            try:
                drawn = [images.read(held[name]) for held in self.folders.values()]
                photograph = images.read(inputs[name]) if inputs is not None else None
            except SiganError as error:
                self.failures.append(Failure(type(error).__name__, error.message, error.hint))
                continue
            sizes = {(round(100 * image.shape[1] / image.shape[0])) for image in drawn}
            sides_differ += [name] if max(sizes) - min(sizes) > 2 else []
            longest = min(max(max(image.shape[:2]) for image in drawn), self.config.size)
            drawn = [_fit(image, longest) for image in drawn]
            same += [name] if len({image.tobytes() for image in drawn}) < len(drawn) else []
            shown[name] = [self._write(_fit(photograph, min(longest, max(photograph.shape[:2]))), name)
                           if photograph is not None else ""]
            shown[name] += [self._write(image, name, method) for method, image in zip(self.folders, drawn)]
        if not shown:
            raise InputError(f"none of the {len(names)} pictures in common can be read: {self.failures[0].message}",
                             self.failures[0].hint)
        if sides_differ:
            self.notes.append(f"{_some(sides_differ)}: methods differ in proportions, which may give them away")
        if same:
            self.notes.append(f"{_some(same)}: two methods' pictures are identical; only a tie is a sensible answer")
        return shown

    def _checks(self, shown: dict[str, list[str]]) -> list[Pair]:
        """Attention checks: a result beside itself cut to tiles and shuffled; methods and names take turns."""
        names, methods = self.rng.sample(list(shown), len(shown)), list(self.folders)
        first = self.rng.randrange(len(methods))
        made = []
        for index in range(self.config.checks):
            photograph, *drawn = shown[names[index % len(names)]]
            good = drawn[(first + index) % len(methods)]
            path = self.part / "pictures" / f"{good}{SUFFIXES[self.config.format]}"
            made.append(Pair(photograph, good, self._write(spoil(images.read(path), self.rng), "")))
        return made

    def _references(self) -> list[str]:
        ids = []
        for name, path in self.references.items():
            try:
                image = images.read(path)
            except SiganError as error:
                self.failures.append(Failure(type(error).__name__, error.message, error.hint))
                continue
            ids.append(self._write(_fit(image, min(self.config.size, max(image.shape[:2]))), name))
        return ids

    def _write(self, image: np.ndarray, name: str, method: str = "") -> str:
        """Writes a picture under a random id, pixels only: no metadata, and a name that says nothing."""
        picture = secrets.token_hex(ID_BYTES)
        path = self.part / "pictures" / f"{picture}{SUFFIXES[self.config.format]}"
        images.write(path, image, self.config.format)
        self.pictures[picture] = hashlib.sha256(path.read_bytes()).hexdigest()
        if name:
            self.names[picture] = name
        if method:
            self.drawn_by[picture] = method
        return picture


def spoil(image: np.ndarray, rng: random.Random) -> np.ndarray:
    """uint8 [H,W,3] of the same colours in the wrong places: tiles shuffled, none left where it was."""
    rows, columns = (max(1, side // TILES) for side in image.shape[:2])
    corners = [(y, x) for y in range(0, rows * (image.shape[0] // rows), rows)
               for x in range(0, columns * (image.shape[1] // columns), columns)]
    order = rng.sample(corners, len(corners))
    spoilt = image.copy()
    for (y, x), (v, u) in zip(order, order[1:] + order[:1]):  # a ring: every tile moves
        spoilt[y:y + rows, x:x + columns] = image[v:v + rows, u:u + columns]
    return spoilt


def _fit(image: np.ndarray, longest: int) -> np.ndarray:
    """uint8 [H,W,3] with that longest side: smaller ones are enlarged, as the paper does before comparing."""
    scale = longest / max(image.shape[:2])
    if scale == 1:
        return image
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _by_name(folder: str | Path) -> dict[str, Path]:
    """Relative path without suffix -> file; InputError for a folder that is missing, empty, or has one name twice."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder", "check the path")
    found: dict[str, Path] = {}
    for item in stream.find_inputs(folder):
        name = item.relative.with_suffix("").as_posix()
        if name in found:
            raise InputError(f"{item.path} and {found[name].name} have one name: nobody can tell which is meant",
                             "keep one of them")
        found[name] = item.path
    return found


class _Numbered(dict[str, Path]):
    """Photographs by name, where the result b-2 of the second face in b finds b too."""

    def __missing__(self, name: str) -> Path:
        return super().__getitem__(self._photograph(name))

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or super().__contains__(self._photograph(str(name)))

    @staticmethod
    def _photograph(name: str) -> str:
        return re.sub(r"-[1-9]\d*$", "", name)


def _some(names: list[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more

