"""A batch killed a few times at random moments, by the benchmark's own program: see `benchmarks/kills.py`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sigan import styles

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forks")
def test_a_killed_batch_ends_as_one_left_in_peace(tmp_path, monkeypatch):
    monkeypatch.delenv("SIGAN_PLUGINS")
    if "watercolor" not in styles.installed():
        pytest.skip("needs the plugin sigan-styles-classic installed")
    done = subprocess.run([sys.executable, "-m", "benchmarks.kills", str(tmp_path), "--count", "40", "--kills", "3",
                           "--aligned"], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) kills", done.stdout)[1]) >= 1  # a fast machine may be done before the others
    assert "40 files, 0 different" in done.stdout and "0 unfinished, 40 photographs in the ledger" in done.stdout
