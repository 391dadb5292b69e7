"""The scripts of examples/ on pictures made here."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def flat(path: Path, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)


def test_the_contact_sheet_holds_each_input_beside_its_result(tmp_path):
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    for name, colour in zip(("a", "b", "deep/c"), colours):
        flat(tmp_path / "in" / f"{name}.png", colour)
    flat(tmp_path / "out" / "a.png", (9, 9, 9))
    flat(tmp_path / "out" / "deep" / "c.webp", (99, 99, 99))

    script("contact_sheet").main(str(tmp_path / "in"), str(tmp_path / "out"), str(tmp_path / "sheet.png"))

    middle = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    middle = middle[middle.shape[0] // 2]
    cells = [tuple(middle[round(len(middle) * (index + 0.5) / 4)].tolist()) for index in range(4)]
    assert cells[:2] == [colours[0], (9, 9, 9)]  # b has no result and is left out
    assert cells[2] == colours[2] and np.ptp(cells[3]) <= 3  # WebP is lossy


def test_no_results_is_said(tmp_path):
    flat(tmp_path / "in" / "a.png", (1, 2, 3))
    (tmp_path / "out").mkdir()
    with pytest.raises(SystemExit, match="no results"):
        script("contact_sheet").main(str(tmp_path / "in"), str(tmp_path / "out"), str(tmp_path / "sheet.png"))


def test_the_strips_of_mixing_are_drawn_by_a_running_stylizer(tiny_base, tiny_pack, tmp_path, monkeypatch):
    for name in ("warm", "cold"):
        tiny_pack.save(tmp_path / f"{name}.safetensors")
    styles = ",".join(str(tmp_path / f"{name}.safetensors") for name in ("warm", "cold"))
    monkeypatch.setattr(sys, "argv", ["mixing", str(tmp_path / "out"), "--styles", styles])
    script("mixing").main()
    sheets = {path.stem: np.asarray(Image.open(path)) for path in (tmp_path / "out").iterdir()}
    assert {name: len(sheet) for name, sheet in sheets.items()} == {"strength": 76, "blend": 112, "bands": 76}
    cells = [sheets["strength"][4:36, -36 * place - 36:-36 * place - 4].astype(float) for place in range(5)][::-1]
    far = [np.abs(cell - cells[0]).mean() for cell in cells]  # stronger is further from the face
    assert far == sorted(far) and far[-1] > far[1] + 1


PROBE = """
import sys
from pathlib import Path
from benchmarks import run
idle = run.run([sys.executable, "-c", "pass"], Path("."))
busy = run.run([sys.executable, "-c", "import time; held = b'x' * 200 * 2**20; time.sleep(0.5)"], Path("."))
print(idle.code, busy.code, busy.seconds, idle.mebibytes, busy.mebibytes)
run.run([sys.executable, "-c", "raise SystemExit(1)"], Path("."))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the benchmark reads the system's own accounts (wait4)")
def test_the_benchmark_sees_time_and_memory_of_a_process():
    """From a process as small as the benchmark is: the system counts into a new one what its parent held."""
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=EXAMPLES.parent, capture_output=True, text=True)
    idle_code, busy_code, seconds, idle, busy = map(float, done.stdout.split())
    assert seconds >= 0.5 and idle_code == busy_code == 0
    assert idle < 100 and 200 < busy < 260
    assert done.returncode == 1 and "ended with 1" in done.stderr
