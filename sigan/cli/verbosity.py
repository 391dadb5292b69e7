"""What `--verbose` says: versions, the file and the source of every option, the library's steps, time and memory.

The library says its steps to the logger `sigan`; without `--verbose` nobody listens.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from sigan import __version__
from sigan.cli import render

PACKAGES = ("torch", "numpy", "pillow", "dlib-bin")
SOURCES = {"COMMANDLINE": "command line", "ENVIRONMENT": "environment", "DEFAULT_MAP": "file", "DEFAULT": ""}


class Lines(logging.Handler):
    """Each record a line on stderr, with the seconds since the start before it."""

    def __init__(self) -> None:
        super().__init__()
        self.start = time.perf_counter()

    def emit(self, record: logging.LogRecord) -> None:
        render.note(f"[{time.perf_counter() - self.start:7.2f} s] {record.getMessage()}")


@contextlib.contextmanager
def told(command: Any, config: str = "") -> Iterator[None]:
    """Within it stderr tells the steps; `command` is the whole command line, about to run."""
    log, lines, level = logging.getLogger("sigan"), Lines(), logging.getLogger("sigan").level
    log.addHandler(lines)
    log.setLevel(logging.INFO)
    log.info("sigan %s, Python %s, %s", __version__, platform.python_version(),
             ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name))))
    log.info("configuration file: %s", config or "none")
    _tell_options(command, log)
    try:
        yield
    finally:
        log.info("end: %.2f s of processor time since the start%s", time.process_time(), _peak())
        log.removeHandler(lines)
        log.setLevel(level)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _tell_options(command: Any, log: logging.Logger) -> None:
    """Makes each command below `command` say, when it is run, the options that are not at their defaults."""
    for child in getattr(command, "commands", {}).values():
        if getattr(child, "commands", None):
            _tell_options(child, log)
            continue

        def invoke(ctx: Any, run: Any = child.invoke) -> Any:
            for name, value in ctx.params.items():
                source = ctx.get_parameter_source(name)
                if told := SOURCES.get(source.name if source else "", ""):
                    log.info("%s: %s (%s)", name.replace("_", "-"), value, told)
            return run(ctx)

        child.invoke = invoke


def _peak() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return ""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return f", {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:.0f} MiB of memory at most"
