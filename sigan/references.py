"""References: the pictures of a style as training wants them, each with its face, and how that was found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sigan import alignment, images
from sigan.alignment import AlignedFace, DlibAligner
from sigan.errors import ConfigError, InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from sigan.detection import Aligner

WHOLE = "whole picture"  # the rung of a picture that is a framed face already


@dataclass(frozen=True, eq=False)
class Reference:
    """One picture, width and height in pixels, and its face."""

    path: Path
    size: tuple[int, int]
    face: AlignedFace

    @property
    def rung(self) -> str:
        """Which step of the ladder found the face."""
        return self.face.face.rung if self.face.face else WHOLE

    @property
    def side(self) -> float:
        """The width of the face's frame in pixels of the picture."""
        return self.face.side


def gather(paths: Sequence[Path], size: int, *, aligner: Aligner | None = None, aligned: bool = False,
           landmarks: Mapping[str, ArrayLike] | None = None) -> tuple[list[Reference], list[InputError]]:
    """The largest face of each picture, cut to `size` pixels, and the errors of those that cannot be used.

    landmarks: file name -> 68 points in pixels, for pictures whose face no detector finds. ConfigError when it names a
    picture that is not among `paths`.
    """
    given, aligner = dict(landmarks or {}), aligner or DlibAligner()
    names = [path.name for path in paths]
    if "" in given:
        if len(paths) != 1:
            raise ConfigError(f"the landmarks describe one picture; there are {len(paths)}",
                              'name the picture of each: {"a.jpg": [[x, y], ...]}')
        given = {names[0]: given[""]}
    if strange := sorted(set(given) - set(names)):
        raise ConfigError(f"the landmarks name {', '.join(strange)}, which is no reference",
                          f"the references are {', '.join(names[:8])}")
    found, errors = [], []
    for path in paths:
        try:
            pixels = images.read(path)
            points = given.get(path.name)
            face = alignment.align(pixels, size, aligner=aligner, aligned=aligned,
                                   landmarks=None if points is None else np.asarray(points))[0]
            found.append(Reference(path, (pixels.shape[1], pixels.shape[0]), face))
        except (InputError, ValueError) as error:  # numpy's, of points that are no table
            message = getattr(error, "message", f"the landmarks are no 68 points ({error})")
            message = message.removeprefix("the picture: ")
            told = message if str(path) in message else f"{path}: {message}"
            errors.append((type(error) if isinstance(error, InputError) else InputError)(
                told, getattr(error, "hint", "write 68 points [[x, y], ...] in pixels")))
    return found, errors


def read_landmarks(path: str | Path) -> dict[str, Any]:
    """File name -> points of a JSON file `{"a.jpg": [[x, y], ...]}`; a bare list of points has the name "".

    ConfigError when it is neither; `gather` checks the points.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--landmarks {path}: cannot be read as JSON ({error})",
                          'write {"a.jpg": [[x, y], ...]}, 68 points each, in pixels') from error
    if isinstance(found, list):
        return {"": found}
    if not isinstance(found, dict):
        raise ConfigError(f"--landmarks {path}: holds neither points nor pictures with points",
                          'write {"a.jpg": [[x, y], ...]}, 68 points each, in pixels')
    return found
