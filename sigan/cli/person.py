"""`sigan train --person PHOTO --style NAME`: one person's likeness, sharpened on top of a style."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sigan.cli import preflight, render
from sigan.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from sigan.alignment import AlignedFace


def train(name: str | None, refs: Sequence[str], photo: Path, style: str, out: Path | None, steps: int | None,
          preview: Path | None, landmarks: Path | None, aligned: bool, overwrite: bool, base: str, device: str,
          json: bool, quiet: bool) -> None:
    """Writes the person as NAME (default: the photograph's), tells the likeness before and after, and how to use it."""
    from sigan import bases, images, persons, runtime, stream, styles

    if not style or refs:
        raise ConfigError("--person takes one photograph, and --style NAME" if refs else "--person needs --style NAME",
                          "sigan train --person me.jpg --style watercolor")
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", photo.stem).strip("-._") or "person"
    path = out or persons.path(name)
    stream.check_output(path.parent if out else runtime.home())
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists already" if out else f"there is a person called '{name}' already",
                          "--overwrite replaces it; or give another NAME")
    pack = styles.load(style)
    model = bases.load(base, device=runtime.resolve_device(device))
    pack.check(model)
    ((one,), _), started = preflight.gather([str(photo)], model.resolution, aligned=aligned, landmarks=landmarks,
                                            what="photographs"), time.perf_counter()
    trainer = persons.PersonTrainer(model, pack, images.to_batch([one.face.image], model.device))
    count = persons.STEPS if steps is None else steps
    for _ in render.progress(trainer.steps(count), count, f"train {name}", quiet):
        pass
    seconds = round(time.perf_counter() - started, 1)
    trainer.pack(name).save(path)
    before, after = (images.from_batch(y)[0] for y in trainer.portraits())
    sheet = preflight.sheet((preview or runtime.home() / "previews" / name) / "person.png",
                            {"photograph": [one.face.image], "before": [before], "after": [after]}, model.resolution)
    likeness = _likeness(one.face, before, after)
    if likeness:
        render.note(f"dlib distance to the photograph: {likeness['before']:.3f} before, {likeness['after']:.3f} after; "
                    "less is nearer", quiet)
    render.note(f"photograph, before and after: {sheet}", quiet)
    render.note(f"{path}, in {seconds:g} s; try: sigan stylize --style {style} --person {out or name} IN OUT", quiet)
    if json:
        render.data({"name": name, "output": path, "style": style, "steps": trainer.done, "seconds": seconds,
                     "likeness": likeness, "sheet": sheet, "base": model.name})


def _likeness(face: AlignedFace, before: np.ndarray, after: np.ndarray) -> dict[str, float] | None:
    """dlib distances of the portraits to the photograph; None where no landmarks are known."""
    from sigan.identity import Identity

    identity = Identity()
    points = face.landmarks if face.landmarks is not None else identity.landmarks(face.image)
    if points is None:
        return None
    mine, *drawn = (identity.descriptor(picture, points) for picture in (face.image, before, after))
    distances = [identity.distance(mine, other) for other in drawn]
    return {"before": round(distances[0], 4), "after": round(distances[1], 4)}
