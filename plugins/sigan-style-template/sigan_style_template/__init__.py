"""One style pack as a package: the entry point in pyproject.toml names this path."""

from pathlib import Path

PATH = Path(__file__).with_name("style.safetensors")
