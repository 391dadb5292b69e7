"""The options that several commands share, each with one name, one help line and one environment variable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[
    str, typer.Argument(metavar="IN", help="A picture, a folder (searched recursively), or - for a list on stdin.")
]
Destination = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write into; it is made when missing.")]



def style_names(incomplete: str) -> list[str]:
    """The styles whose names go on from `incomplete`, for the shell; in a blend, what follows the last `+` does."""
    from sigan import styles

    head, plus, begun = incomplete.rpartition("+")
    return [f"{head}{plus}{name}" for name in styles.names() if name.startswith(begun)]


def base_names(incomplete: str) -> list[str]:
    """The bases whose names go on from `incomplete`, for the shell."""
    from sigan import bases

    return [name for name in bases.names() if name.startswith(incomplete)]


Style = Annotated[str, typer.Option("--style", metavar="NAME", autocompletion=style_names,
                                    help="An installed pack, a path, or a:0.6+b:0.4.")]
Base = Annotated[str, typer.Option("--base", metavar="NAME", envvar="SIGAN_BASE", autocompletion=base_names,
                                   help="The face model.")]
Device = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda[:N]", envvar="SIGAN_DEVICE", help="Where to compute.")
]
Dtype = Annotated[
    str, typer.Option("--dtype", metavar="auto|float32|bfloat16", envvar="SIGAN_DTYPE", help="Precision.")
]
Seed = Annotated[int, typer.Option("--seed", envvar="SIGAN_SEED", help="Fixes every random choice.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON objects on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only errors on stderr.")]
Faces = Annotated[str, typer.Option("--faces", metavar="largest|all", help="Which faces of a picture to take.")]
NoFace = Annotated[str, typer.Option("--no-face", metavar="fail|middle",
                                     help="Where no face is found: fail, or take the middle square.")]
Aligned = Annotated[bool, typer.Option("--aligned", help="The pictures are framed faces already: no detection.")]
BatchSize = Annotated[int, typer.Option("--batch-size", metavar="N", help="Faces computed together.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Redo what is done and current, too.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first input that fails.")]
