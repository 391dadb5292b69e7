"""The references of `sigan train`: found, measured and shown, before time is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sigan.cli import batch, render
from sigan.errors import InputError, NoFaceError

if TYPE_CHECKING:
    import numpy as np

    from sigan.preflight import Checked, Preflight
    from sigan.references import Reference

MAX_CELL = 256  # px of a picture in a sheet


def gather(sources: Sequence[str], size: int, *, aligned: bool, landmarks: Path | None = None,
           what: str = "references") -> tuple[list[Reference], list[InputError]]:
    """The faces of the pictures in files and folders; those without are told. NoFaceError when there are none."""
    from sigan import references

    points = references.read_landmarks(landmarks) if landmarks else None
    paths = [item.path for item in batch.several(sources)]
    found, rejected = references.gather(paths, size, aligned=aligned, landmarks=points)
    for error in rejected:
        render.error(error.message, error.hint)
    if not found:
        kind = NoFaceError if all(isinstance(error, NoFaceError) for error in rejected) else InputError
        hint = ("--landmarks tells where a face is; --aligned takes whole pictures" if what == "references" else
                f"give portraits, or leave these {what} out")
        raise kind(f"none of the {len(rejected)} {what} can be used", hint)
    return found, rejected


def sheet(path: Path, rows: Mapping[str, Sequence[np.ndarray]], side: int) -> Path:
    """Writes rows of pictures, each with its label, as one picture."""
    from sigan import images

    images.write(path, images.contact_sheet(list(rows.values()), list(rows), min(side, MAX_CELL)))
    return path


def show(checked: Preflight, quiet: bool, whole: bool) -> None:
    """What will go wrong, on stderr; the figures of each reference and the notes too when the `whole` is wanted."""
    if whole and not quiet:
        columns = ("reference", "face", "pixels", "turned", "skin ITA", "L*", "colour", "residual", "plausible", "")
        render.table("", columns, [
            (one.name, one.rung, one.pixels, _degrees(one.yaw), _degrees(one.tone), one.lightness,
             f"{one.color[0]:g} {one.color[1]:+g} {one.color[2]:+g}", f"{one.residual:g}x",
             "" if one.plausible is None else f"{one.plausible:g} %", _remark(one, checked))
            for one in checked.references])
        render.note("turned: above 0 to the viewer's left. residual: distance to the sitter whom the base imagines, in "
                    f"that of its faces ({checked.perceptual}). plausible: of the base's faces, so many are less so.")
    for finding in checked.findings:
        if whole or finding.level == "warning":
            render.note(f"{finding.level}: {finding.message}{f'; {finding.advice}' if finding.advice else ''}", quiet)


def _degrees(value: float | None) -> str:
    return "" if value is None else f"{value:+.0f}°"


def _remark(one: Checked, checked: Preflight) -> str:
    told = []
    if one.copy_of is not None:
        told.append(f"repeats {checked.references[one.copy_of].name}")
    if one.group:
        told.append("another style")
    return ", ".join(told)
