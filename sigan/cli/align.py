"""`sigan align`: pictures to FFHQ-framed faces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigan.cli import options
from sigan.errors import ConfigError

if TYPE_CHECKING:
    from sigan.alignment import AlignedFace
    from sigan.events import ItemDone
    from sigan.sources import Item

    Details = dict[str, object]  # of a face, as a report has them


def register(app: typer.Typer) -> None:
    app.command("align")(align)


def align(
    source: options.Source,
    out: options.Destination,
    size: Annotated[int, typer.Option("--size", metavar="PX", min=0, help="Side of a crop; 0: the base's.")] = 0,
    faces: options.Faces = "largest",
    aligner: Annotated[str, typer.Option("--aligner", metavar="NAME", help="The detector.")] = "dlib",
    landmarks: Annotated[
        Path | None, typer.Option("--landmarks", metavar="FILE.json",
                                  help='68 points [[x, y], ...] of one picture, or {"a.jpg": points, ...}.')
    ] = None,
    no_face: options.NoFace = "fail",
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.jsonl", help="Box, landmarks, quad and step per face.")
    ] = None,
    overwrite: options.Overwrite = False,
    fail_fast: options.FailFast = False,
    base: options.Base = "mini",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Finds faces and writes them in FFHQ framing."""
    from sigan import plugins, stream
    from sigan.cli import batch

    items = batch.inputs(source, out, faces)
    if report:
        stream.check_output(report.parent)
    side = size or _resolution(base)
    points = _points(landmarks, items) if landmarks else None
    prepare = stream.FaceFinder(side, faces, plugins.load_callable("sigan.aligners", aligner)(), False, points, no_face)
    details: dict[str, list[Details]] = {}

    def save(item: stream.Item, found: list[AlignedFace]) -> list[Path]:
        if report:
            details[str(item.path)] = [_details(part) for part in found]
        return stream.write_faces(item, [face.image for face in found], out, "png")

    identity = f"align {side} {faces} {aligner} {points} {no_face}"
    ledger = None if report else stream.Ledger(out)  # a report tells of every input, so every input is looked at
    records = stream.process(items, prepare, list, save, ledger=ledger, identity=identity,
                             overwrite=overwrite, fail_fast=fail_fast)
    if report:
        records = _reported(records, details, report)
    raise typer.Exit(batch.show(records, len(items), "align", json=json, quiet=quiet))


def _resolution(base: str) -> int:
    from sigan import bases

    return bases.load(base).resolution


def _points(path: Path, items: Sequence[Item]) -> dict[str, Any]:
    """The points in a JSON file by the pictures' names; `alignment.find` checks them."""
    from sigan.references import read_landmarks

    points = read_landmarks(path)
    if "" in points:
        if len(items) != 1:
            raise ConfigError(f"--landmarks {path} describes one picture; IN has {len(items)}",
                              'name the picture of each: {"a.jpg": [[x, y], ...]}')
        return {items[0].path.name: points[""]}
    known = {name for item in items for name in (item.path.name, item.relative.as_posix())}
    if strange := sorted(set(points) - known):
        raise ConfigError(f"--landmarks {path} names {', '.join(strange[:8])}, which IN does not have",
                          "give file names, or paths below IN")
    return points


def _details(found: AlignedFace) -> Details:
    face = found.face
    if face is None:
        return {"step": "middle", "quad": found.quad}
    return {"box": face.box, "score": face.score, "step": face.rung, "landmarks": face.landmarks, "quad": found.quad}


def _reported(records: Iterable[ItemDone], details: dict[str, list[Details]], path: Path) -> Iterator[ItemDone]:
    """The records as they pass; once all have, one JSON line each in `path`."""
    from sigan import images
    from sigan.cli import render

    lines = []
    for record in records:
        lines.append(render.line({**record.as_json(), "detected": details.pop(record.source, [])}))
        yield record
    images.atomic_write(path, "".join(f"{line}\n" for line in lines).encode())
