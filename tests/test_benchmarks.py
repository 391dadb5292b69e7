"""The benchmarks' entry point: what it measures is what it says, and docs/performance.md is made from its records."""

from __future__ import annotations

import json
from statistics import median

from benchmarks import page, run

IMPORTS = run.Measurement("imports and weights alone", 3.0, 2.0, 300, 3, 1.0)


def test_the_page_is_what_the_records_say():
    assert page.TARGET.read_text("utf-8") == page.page(), "run `python -m benchmarks.page`"


def test_what_is_not_measured_is_said_so(tmp_path):
    assert page.page(tmp_path).count("Not measured yet") == 2
    record = {"machine": {"cpu": "one", "gpu": "none"}, "measurements": [
        {"name": "a", "seconds": 2.5, "processor": 1, "mebibytes": 10.2, "runs": 3, "ratio": 0.5, "target": "",
         "note": ""}]}
    (tmp_path / "cpu.json").write_text(json.dumps(record))
    text = page.page(tmp_path)
    assert "cpu one; gpu none." in text and "| a | 2.50 | 1.00 | 0.50 | 10 | 3 | - |" in text
    assert text.index("Not measured yet") > text.index("## With a GPU")


def test_measurements_are_medians_and_ratios_of_processor_time():
    samples = [run.Sample(1.0, 5.0, 100, 0), run.Sample(9.0, 4.0, 300, 0), run.Sample(2.0, 8.0, 200, 0)]
    one = run.compared(run.measured("x", samples), IMPORTS)
    assert (one.seconds, one.processor, one.mebibytes) == tuple(
        median(getattr(s, name) for s in samples) for name in ("seconds", "processor", "mebibytes"))
    assert (one.runs, one.ratio) == (3, 5.0 / 2.0)


def test_every_benchmark_of_its_own_is_on_the_page():
    told = "\n".join(page.others())
    names = {path.stem for path in page.HERE.glob("*.py") if "`python -m benchmarks." in path.read_text("utf-8")[:60]}
    assert names - {"page"} and all(f"benchmarks.{name}" in told for name in names - {"page"})
