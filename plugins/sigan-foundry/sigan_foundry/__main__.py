"""`python -m sigan_foundry`: the same commands where `sigan` itself is not installed, only on the path."""

import sys

import typer

from sigan.errors import SiganError
from sigan_foundry.cli import app

if __name__ == "__main__":
    try:
        app(prog_name="sigan foundry")
    except SiganError as error:
        typer.echo(f"error: {error.message}\n{error.hint}", err=True)
        sys.exit(error.exit_code)
