"""The style pack template; the entry point in pyproject.toml names this path."""

from pathlib import Path

PATH = Path(__file__).with_name("template.safetensors")
