"""Frozen records that long work yields; whoever asked for the work decides what to show."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Failure:
    """An error as a value: its class name, what happened, and what to do."""

    type: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class ItemDone:
    """One finished input of a batch: `status` is ok, failed or skipped; `outputs` the files written."""

    source: str
    outputs: tuple[str, ...]
    status: str
    faces: int
    seconds: float
    error: Failure | None = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The contract's object: `output` is one path, a list for several faces, or null."""
        output = self.outputs[0] if len(self.outputs) == 1 else list(self.outputs) or None
        record = {"source": self.source, "output": output, "status": self.status, "faces": self.faces,
                  "seconds": round(self.seconds, 3), "error": asdict(self.error) if self.error else None}
        return {**record, "notes": list(self.notes)} if self.notes else record


@dataclass(frozen=True)
class Measured:
    """A style in training, tried on faces held aside: its distance to the references, and theirs to themselves.

    identity: median dlib distance over `people` faces; None where none was found.
    """

    step: int
    style: float
    identity: float | None
    people: int


@dataclass(frozen=True)
class TrainStep:
    """One optimiser step of `total`, which falls when the training is about to stop by itself.

    `loss` is the sum of `parts`, the weighted terms by name; `measured` is there every so many steps.
    """

    index: int
    total: int
    loss: float
    parts: dict[str, float]
    measured: Measured | None = None


@dataclass(frozen=True)
class Transfer:
    """How far a download is, in bytes; `total` where it is known.

    `state`: waiting (for another process), downloading, resuming, verifying, done.
    """

    name: str
    url: str
    bytes: int
    total: int | None
    state: str
