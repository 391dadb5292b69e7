"""The report: what is on the page, that nothing told can be code, and how it looks and works in a real browser."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sigan import images, report
from sigan.errors import OutputError
from sigan.evaluation import EvalConfig, Evaluation

EVIL = "<img src=x onerror=alert(1)>"


def picture(seed, size=64):
    """A soft pattern, one of its own for each seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size * 6
    waves = [np.sin(a * x + b * y + c) for a, b, c in rng.uniform(0.3, 2, (3, 3))]
    return np.uint8(127 + 100 * np.stack(waves, -1))


@pytest.fixture
def runs(tmp_path):
    """Two methods on seven photographs; the second lacks one, and one file has a hostile name."""
    for k in range(7):
        images.write(tmp_path / "in" / f"{k}.png", picture(k))
        for method, amount in (("first", 0.2), ("second", 0.6)):
            if (method, k) != ("second", 3):
                mixed = np.uint8(picture(k) * (1 - amount) + picture(k + 20) * amount)
                images.write(tmp_path / method / f"{k}.png", mixed)
    images.write(tmp_path / "first" / f"{EVIL}.png", picture(1))
    for k in range(3):
        images.write(tmp_path / "refs" / f"{k}.png", picture(30 + k))
    made = []
    for name in ("first", "second"):
        run = Evaluation(tmp_path / name, tmp_path / "in", tmp_path / "refs",
                         EvalConfig(metrics=("ssim", "color", "copy"), aligned=True))
        list(run)
        made.append((name, run))
    return made


@pytest.fixture
def page(runs, tmp_path):
    path = tmp_path / "report.html"
    report.write(path, runs, {"note": EVIL})
    return path


def test_the_page_is_one_file_and_asks_for_nothing(page):
    text = page.read_text("utf-8")
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", text) and "url(" not in text and "@import" not in text
    assert text.count("data:image/jpeg;base64,") >= 20 and len(text) < 2_000_000


def test_what_is_told_is_never_code(page):
    text = page.read_text("utf-8")
    assert EVIL not in text and "&lt;img src=x onerror=alert(1)&gt;" in text


def test_figures_on_the_page_are_those_of_the_run(page, runs):
    text = page.read_text("utf-8")
    for _, run in runs:
        for figure in run.figures():
            assert report.number(figure.value) in text and report.interval(figure) in text
    assert "MissingPair" in text and "3.png: it has no result" in text
    assert "numpy" in text and np.__version__ in text


def test_best_and_worst_are_no_doubles(runs):
    ranks = report._ranks(runs[0][1], "ssim", "higher", [r for r in runs[0][1].records if r.values])
    assert len(ranks["best"]) == 3 and len(ranks["worst"]) == 3
    assert not {shown.name for shown in ranks["best"]} & {shown.name for shown in ranks["worst"]}
    values = [float(shown.value) for shown in ranks["best"] + ranks["worst"][::-1]]
    assert values == sorted(values, reverse=True)


def test_a_picture_that_is_gone_leaves_the_page_whole(runs, tmp_path):
    for k in range(7):
        (tmp_path / "in" / f"{k}.png").unlink()
    assert "The picture is gone." in report.render(runs, {})


def test_a_histogram_counts_every_value():
    drawn = report.histogram([1, 1, 2, 5], 0, 5)
    counts = [int(bar.label.split()[0]) for bar in drawn.bars]
    assert sum(counts) == 4 and max(counts) == 2 and drawn.n == 4
    assert drawn.mean == pytest.approx(report.PLOT[0] * 9 / 4 / 5)
    assert len(report.histogram([3.0, 3.0], 3.0, 3.0).bars) == 1


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (float("nan"), "–"), (0.0, "0.000"), (0.1234, "0.123"),
                                             (0.00123, "0.00123"), (12.345, "12.35"), (210.98, "211.0"),
                                             (3495.3, "3495")])
def test_numbers_have_about_three_digits(value, text):
    assert report.number(value) == text


def test_a_place_that_cannot_be_written_is_named(runs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        report.write(tmp_path / "file" / "r.html", runs, {})


# ---- in a browser

@pytest.mark.parametrize(("width", "height", "name"), [(1200, 900, "desk"), (390, 844, "phone")])
def test_the_page_works_offline_in_a_browser(page, browser, screenshots, width, height, name):
    tab = browser.new_page(viewport={"width": width, "height": height})
    asked, faults = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("dialog", lambda dialog: faults.append(dialog.message))
    tab.context.set_offline(True)
    tab.goto(page.as_uri())
    tab.screenshot(path=str(screenshots / f"report-{name}.png"), full_page=True)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == [] and faults == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    assert tab.evaluate("[...document.images].every(img => img.complete && img.naturalWidth > 0)")
    assert tab.locator("#figures tbody tr").count() == 3 and tab.locator("#figures thead th").count() == 3
    slider = tab.locator(".pair input").first
    box = slider.bounding_box()
    slider.click(position={"x": 0.25 * box["width"], "y": box["height"] / 2})
    assert 18 <= int(slider.input_value()) <= 32
    shown = slider.evaluate("e => getComputedStyle(e.parentNode.querySelector('.over')).clipPath")
    assert shown == f"inset(0px 0px 0px {slider.input_value()}%)"
    slider.press("ArrowRight")
    assert slider.evaluate("e => e.parentNode.style.getPropertyValue('--at') === e.value + '%'")
    tab.close()
