"""Fixtures of the whole suite: shared material outside the repository, a tiny base, faces that need no detector."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of pictures and oracles beside the repository; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here: the pictures and oracles are not part of the repository")
    return SHARED


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch) -> None:
    """Every test has a home folder of its own, and no plugin or option of this machine's user."""
    for name in [name for name in os.environ if name.startswith("SIGAN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SIGAN_HOME", str(tmp_path_factory.mktemp("home")))
