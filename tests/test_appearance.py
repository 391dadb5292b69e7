"""Colours, lines and copies, against known colours, scipy-free definitions and pictures made for the purpose."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sigan import appearance
from sigan.metrics import Sample, Tools

RNG = np.random.default_rng(7)


def flat(color):
    return np.full((64, 64, 3), color, np.uint8)


@pytest.mark.parametrize(("color", "expected"), [
    ((255, 255, 255), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((255, 0, 0), (53.24, 80.09, 67.20)),
    ((0, 0, 255), (32.30, 79.19, -107.86)), ((119, 119, 119), (50.03, 0, 0))])
def test_lab_of_known_colours(color, expected):
    """Values of Bruce Lindbloom's calculator (D65)."""
    assert appearance.lab(flat(color))[0, 0] == pytest.approx(expected, abs=0.05)


def test_wasserstein_of_equal_counts_is_the_mean_of_sorted_differences():
    a, b = RNG.normal(size=20), RNG.normal(1, 2, 20)
    assert appearance.wasserstein(a, b) == pytest.approx(np.abs(np.sort(a) - np.sort(b)).mean())


def test_wasserstein_of_unequal_counts_is_that_of_repeated_values():
    a, b = RNG.normal(size=6), RNG.normal(size=4)
    repeated = np.abs(np.sort(np.repeat(a, 2)) - np.sort(np.repeat(b, 3))).mean()
    assert appearance.wasserstein(a, b) == pytest.approx(repeated) == pytest.approx(appearance.wasserstein(b, a))


def drawn(lines, width=2):
    picture = Image.new("RGB", (128, 128), "white")
    for k in range(lines):
        ImageDraw.Draw(picture).line((0, 8 * k + 4, 127, 8 * k + 4), "black", width)
    return np.array(picture)


def test_more_lines_are_more_edges_and_ink():
    few, many, none = (appearance.line_statistics(drawn(n)) for n in (2, 8, 0))
    assert none == pytest.approx([0, 0, 0]) and (many > 3 * few).all() and (few > 0).all()
    assert few[1] == pytest.approx(100 * 4 / 128)


def fed(kind, results, references):
    metric = kind(Tools(device="cpu"))
    for image in references:
        metric.update(Sample(image, "", reference=True))
    return metric, [metric.update(Sample(image, "")) for image in results]


def test_colours_are_far_where_they_differ():
    reds, blues = [flat((200 + k, 40, 40)) for k in range(4)], [flat((40, 40, 200 + k)) for k in range(4)]
    same, far = (fed(appearance.Color, x, reds) for x in (reds, blues))
    assert same[0].compute().value == pytest.approx(0, abs=1e-9) and far[0].compute().value > 20
    assert max(same[1]) < 1 < min(far[1])
    figure = far[0].compute()
    assert figure.details["mean b*, results"] < 0 < figure.details["mean b*, references"]
    assert (figure.n, figure.references) == (4, 4) and figure.low <= figure.value <= figure.high


def test_without_references_nothing_is_said():
    for kind in (appearance.Color, appearance.Lines, appearance.Copy):
        metric, values = fed(kind, [flat(9)], [])
        assert values == [None] and metric.compute().value is None


def blobs(seed):
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (96, 96), "white")
    for x, y, r in rng.integers((0, 0, 6), (96, 96, 24), (9, 3)):
        ImageDraw.Draw(picture).ellipse((x - r, y - r, x + r, y + r), tuple(map(int, rng.integers(0, 200, 3))))
    return np.array(picture)


def test_a_copy_is_found_and_others_are_not():
    references = [blobs(seed) for seed in range(4)]
    noisy = np.uint8(np.clip(references[1] * 0.8 + 20 + RNG.normal(0, 4, references[1].shape), 0, 255))
    metric, values = fed(appearance.Copy, [noisy, blobs(50), blobs(51), blobs(52)], references)
    figure = metric.compute()
    assert values[0] > 0.95 and max(values[1:]) < 0.6
    assert figure.value == 25 and "1 results are nearly a reference" in figure.warnings[0]
    assert figure.details["nearest, greatest"] == values[0]


def test_references_that_are_alike_raise_the_bar():
    one = blobs(1)
    metric, _ = fed(appearance.Copy, [blobs(9)], [one, np.uint8(one * 0.9)])
    assert metric.bar() > 0.95
