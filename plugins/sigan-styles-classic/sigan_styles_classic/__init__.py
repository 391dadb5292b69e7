"""The style packs of this package, by name; README.md says how each was made."""

from __future__ import annotations

from pathlib import Path

NAMES = ("watercolor", "line", "pencil")

PATHS = {name: path for name in NAMES if (path := Path(__file__).with_name(f"{name}.safetensors")).is_file()}
