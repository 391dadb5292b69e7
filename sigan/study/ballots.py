"""What one participant hands in, and the checks it has to pass, whether it comes as a file or over the network.

What a vote file can prove. Its seal is a plain SHA-256 over its content: it shows damage and careless edits, but the
page holds no secret, so whoever reads its source can seal any file. Beyond the seal a file must fit the study to the
letter: its hash, its sheet, and at each place the very pictures that the sheet has there. It cannot be told apart from
a file whose author invented the choices, or took part twice from two browsers; against that, serve the study with
invitations.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigan.errors import InputError
from sigan.study.plan import CHOICES, LANGUAGES, PRACTISED, Study

FORMAT = "sigan-votes/1"
LONGEST_MS = 3_600_000
MAX_FILE = 1_000_000  # bytes; 500 answers take a fifth of it
LATEST = 10**14  # milliseconds since 1970: far in the future
SEALED = ("format", "study", "participant", "sheet", "language", "practised", "started", "finished")
ANSWER = ("position", "left", "right", "choice", "ms")
PARTICIPANT = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Answer:
    """The choice at one place of the sheet, and the milliseconds since its pictures were in sight."""

    choice: str
    ms: int


@dataclass(frozen=True)
class Ballot:
    """One participant's answers, from the sheet's first place on; `elapsed` is the time that passed, in ms."""

    participant: str
    sheet: int
    answers: tuple[Answer, ...]
    language: str
    practised: str
    elapsed: float
    source: str


@dataclass(frozen=True)
class Refused:
    """A vote file that is not counted, and why."""

    source: str
    reason: str


class BadVote(ValueError):
    """What is wrong with an answer or a file, in words that hold nothing of its content but known keys."""


def parse(text: str | bytes) -> dict[str, Any]:
    """The JSON object in `text`: no key twice, no NaN, no nesting bomb. BadVote otherwise."""
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise BadVote("a key stands twice")
        return found

    def none(sign: str) -> None:
        raise BadVote("a value is no number")

    try:
        found = json.loads(text, object_pairs_hook=once, parse_constant=none)
    except BadVote:
        raise
    except (ValueError, RecursionError) as error:
        raise BadVote("not JSON") from error
    if not isinstance(found, dict):
        raise BadVote("not a JSON object")
    return found


def check(record: Any, schema: Mapping[str, Any]) -> None:
    """Passes when the record has exactly the schema's keys, each a string among those allowed or an int in range."""
    if not isinstance(record, dict) or set(record) != set(schema):
        raise BadVote(f"its keys must be {', '.join(schema)}")
    for key, allowed in schema.items():
        value = record[key]
        if isinstance(allowed, range):
            good = type(value) is int and value in allowed
        elif isinstance(allowed, re.Pattern):
            good = isinstance(value, str) and allowed.fullmatch(value) is not None
        else:
            good = isinstance(value, str) and value in allowed
        if not good:
            raise BadVote(f"{key} is not what it may be")


def answer(study: Study, sheet: int, record: Any) -> Answer:
    """The answer in a record that names its place and both pictures; BadVote when the sheet has others there."""
    check(record, {"position": range(study.length), "left": study.pictures, "right": study.pictures,
                   "choice": CHOICES, "ms": range(LONGEST_MS + 1)})
    shown = study.shown(sheet, record["position"])
    if (record["left"], record["right"]) != (shown.left, shown.right):
        raise BadVote("another pair stands at that place of the sheet")
    return Answer(record["choice"], record["ms"])


def seal(record: Mapping[str, Any]) -> str:
    """The SHA-256 that the page writes under a vote file."""
    lines = [str(record[key]) for key in SEALED]
    lines += [" ".join(str(one[key]) for key in ANSWER) for one in record["answers"]]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read(path: Path, study: Study) -> Ballot:
    """The ballot in a vote file. BadVote says why it cannot be counted."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise BadVote(f"cannot be read ({error.strerror or error})") from error
    if len(data) > MAX_FILE:
        raise BadVote(f"larger than {MAX_FILE} bytes")
    record = parse(data)
    if record.get("format") != FORMAT:
        raise BadVote(f"not a vote file of format {FORMAT}")
    if record.get("study") != study.hash:
        raise BadVote("it belongs to another study")
    answers = record.pop("answers", None)
    check(record, {"format": (FORMAT,), "study": (study.hash,), "participant": PARTICIPANT,
                   "sheet": range(len(study.sheets)), "language": LANGUAGES, "practised": PRACTISED,
                   "started": range(LATEST), "finished": range(LATEST), "seal": re.compile("[0-9a-f]{64}")})
    if not isinstance(answers, list) or len(answers) > study.length:
        raise BadVote("its answers are no list, or more than the sheet has questions")
    found = []
    for position, one in enumerate(answers):
        try:
            found.append(answer(study, record["sheet"], one))
        except BadVote as error:
            raise BadVote(f"answer {position + 1}: {error}") from error
        if one["position"] != position:
            raise BadVote(f"answer {position + 1}: an answer is missing, doubled, or out of order")
    if seal({**record, "answers": answers}) != record["seal"]:
        raise BadVote("it was changed after the page wrote it: the seal does not match")
    identity = hashlib.sha256(record["participant"].encode()).hexdigest()[:12]
    return Ballot(identity, record["sheet"], tuple(found), record["language"], record["practised"],
                  record["finished"] - record["started"], str(path))


def read_all(paths: Iterable[Path], study: Study) -> tuple[list[Ballot], list[Refused], int]:
    """The ballots in vote files, those refused, and how many were copies.

    A participant's earlier file, whose answers all stand in a later one, counts as a copy. Where two files of one
    participant contradict each other, both are refused: one was edited, and nobody can tell which.
    """
    kept: dict[str, Ballot] = {}
    refused: list[Refused] = []
    at_odds: set[str] = set()
    copies = 0
    for path in paths:
        try:
            ballot = read(path, study)
        except BadVote as error:
            refused.append(Refused(str(path), str(error)))
            continue
        other = kept.setdefault(ballot.participant, ballot)
        if other is ballot:
            continue
        shorter, longer = sorted((other, ballot), key=lambda one: len(one.answers))
        same = shorter.sheet == longer.sheet and longer.answers[:len(shorter.answers)] == shorter.answers
        if same and ballot.participant not in at_odds:
            kept[ballot.participant] = longer
            copies += 1
        else:
            refused.append(Refused(str(path), "another file of the same participant says otherwise"))
            at_odds.add(ballot.participant)
    for participant in at_odds:
        refused.append(Refused(kept.pop(participant).source, "another file of the same participant says otherwise"))
    return list(kept.values()), refused, copies


def vote_files(path: Path) -> list[Path]:
    """The file, or the .json files of a folder, sorted. InputError where there are none."""
    if path.is_dir():
        found = sorted(one for one in path.iterdir() if one.suffix == ".json" and not one.name.startswith("."))
        if not found:
            raise InputError(f"{path}: neither a study nor a folder of vote files (*.json)", "check the path")
        return found
    if not path.exists():
        raise InputError(f"{path}: no such file or folder", "check the path")
    return [path]
