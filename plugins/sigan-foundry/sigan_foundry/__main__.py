"""`python -m sigan_foundry`: the same commands where `sigan` itself is not installed, only on the path."""

from sigan_foundry.cli import app

if __name__ == "__main__":
    app(prog_name="sigan foundry")
