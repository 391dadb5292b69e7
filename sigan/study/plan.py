"""The study itself: what is compared, who sees what, and the key that says which method drew which picture.

A study folder holds `study.json` (this module's, to be kept private), `pictures/` (served), `page.html` (handed out)
and, once votes came in, `votes.sqlite`. Whatever leaves the folder names pictures by random ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sigan import images
from sigan.errors import InputError

FORMAT = "sigan-study/1"
FILE = "study.json"
LANGUAGES = ("en", "zh")
CHOICES = ("left", "right", "tie")
PRACTISED = ("yes", "no", "unsaid")  # the paper's two groups: people who draw, and people who do not


@dataclass(frozen=True)
class Pair:
    """One question: the id of the photograph ("" without) and of two pictures. Of a check, `a` is the right answer."""

    photograph: str
    a: str
    b: str


@dataclass(frozen=True)
class Shown:
    """What one participant sees at one place: ids of the pictures on either side."""

    pair: int
    left: str
    right: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything about a study but its pictures and votes. `pairs` ends with the `checks` attention checks."""

    methods: tuple[str, ...]
    pairs: tuple[Pair, ...]
    checks: int
    sheets: tuple[tuple[tuple[int, int], ...], ...]  # design.Entry: number of a pair, 1 when its sides are exchanged
    drawn_by: Mapping[str, str]  # picture id -> method
    names: Mapping[str, str]  # picture id -> name of the file it came from
    references: tuple[str, ...]  # picture ids
    pictures: Mapping[str, str]  # picture id -> SHA-256 of its file
    suffix: str
    texts: Mapping[str, Mapping[str, str]]
    invitations: tuple[str, ...]
    secret: str  # what tokens are made of
    seed: int
    made_by: str = ""
    hash: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hash", self.hash or _hash(self.as_json()))

    def as_json(self) -> dict[str, Any]:
        """What `study.json` holds, without the hash."""
        record = {**asdict(self), "format": FORMAT}
        del record["hash"]
        return record

    def is_check(self, pair: int) -> bool:
        return pair >= len(self.pairs) - self.checks

    def shown(self, sheet: int, position: int) -> Shown:
        """What stands at a place of a sheet; IndexError beyond its end."""
        number, turned = self.sheets[sheet][position]
        pair = self.pairs[number]
        return Shown(number, pair.b, pair.a) if turned else Shown(number, pair.a, pair.b)

    @property
    def length(self) -> int:
        """Questions on a sheet, checks included."""
        return len(self.sheets[0])

    def save(self, folder: Path) -> None:
        text = json.dumps({**self.as_json(), "hash": self.hash}, ensure_ascii=False, separators=(",", ":"))
        images.atomic_write(folder / FILE, text.encode())


def _hash(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def is_study(path: str | Path) -> bool:
    return (Path(path) / FILE).is_file()


def load(folder: str | Path) -> Study:
    """The study in a folder. InputError where there is none, of another version, or changed since it was built."""
    path = Path(folder) / FILE
    again = "build the study anew with `sigan study build`"
    try:
        record = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{folder}: no study is here ({FILE} is missing)",
                         "name the folder that `sigan study build` made") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error})", again) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else None
        raise InputError(f"{path}: its format is {found!r}, not {FORMAT!r}",
                         "it was made by another version of sigan, or is no study; " + again)
    claimed = record.pop("hash", None)
    if claimed != _hash(record):
        raise InputError(f"{path}: it was changed after it was built, so votes cannot be trusted to fit it",
                         "restore the original file, or " + again)
    try:
        return _study(record, claimed)
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a study of this version ({error})", again) from error


def _study(record: dict[str, Any], claimed: str) -> Study:
    del record["format"]
    unknown = set(record) - {one.name for one in fields(Study)}
    if unknown:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    record["pairs"] = tuple(Pair(**pair) for pair in record["pairs"])
    record["sheets"] = tuple(tuple((int(number), int(turn)) for number, turn in sheet) for sheet in record["sheets"])
    for name in ("methods", "references", "invitations"):
        record[name] = tuple(record[name])
    return Study(**record, hash=claimed)


def load_picture(folder: Path, study: Study, picture: str) -> bytes:
    """The bytes of a picture's file; InputError when they are not those of the build."""
    path = folder / "pictures" / f"{picture}{study.suffix}"
    hint = "restore it, or build the study anew with `sigan study build`"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})", hint) from error
    if hashlib.sha256(data).hexdigest() != study.pictures[picture]:
        raise InputError(f"{path}: it was changed after the study was built", hint)
    return data


