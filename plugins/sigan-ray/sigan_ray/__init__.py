"""The engine `ray`: `sigan stylize --engine ray --address HOST:PORT --style NAME IN OUT`, or the same from Python."""

from __future__ import annotations

from sigan_ray.engine import stylize

__all__ = ["stylize"]
