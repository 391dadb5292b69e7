"""Which point of a curve is kept, and when a training is done."""

from __future__ import annotations

import json

from sigan import manifest
from sigan.events import Measured
from sigan.tradeoff import IDENTITY_WEIGHT, PATIENCE, SLACK, Curve, told


def curve(*points: tuple[float, float | None], **values) -> Curve:
    """Of (style, identity), measured every 10 steps; the base's style distance is 1."""
    made = Curve(1.0, **values)
    for k, (style, identity) in enumerate(points, 1):
        made.add(Measured(10 * k, style, identity, 8))
    return made


def test_the_least_of_style_left_and_identity_lost_is_kept():
    made = curve((0.6, 0.3), (0.3, 0.4), (0.28, 0.6))
    costs = [style + IDENTITY_WEIGHT * identity for style, identity in ((0.6, 0.3), (0.3, 0.4), (0.28, 0.6))]
    assert min(costs) == costs[1] < costs[2] - SLACK and made.best().step == 20
    assert curve((0.6, None), (0.4, None), (0.5, None)).best().step == 20  # without faces style alone decides


def test_of_points_as_good_the_latest_is_kept():
    assert curve((0.5, 0.4), (0.5 + SLACK / 2, 0.4)).best().step == 20
    assert curve((0.5, 0.4), (0.5 + 2 * SLACK, 0.4)).best().step == 10


def test_nothing_beyond_the_floor_is_kept():
    made = curve((0.6, 0.3), (0.3, 0.51), (0.1, 0.6), floor=0.5)
    assert made.best().step == 10 and "passed the dlib distance 0.5" in made.finished()
    assert curve((0.6, 0.6), floor=0.5).best() is None and Curve(1.0).best() is None


def test_a_curve_that_gains_nothing_is_finished_and_one_that_gains_is_not():
    flat = [(0.5, 0.4)] * PATIENCE
    assert not curve(*flat).finished() and "gained nothing" in curve((0.5, 0.4), *flat).finished()
    assert not curve(*[(0.9 - 0.05 * k, 0.4) for k in range(12)]).finished() and not Curve(1.0).finished()


def test_a_paper_keeps_its_last_step():
    assert curve((0.1, 0.1), (0.9, 0.9), choosing=False).best().step == 20


def test_its_state_and_its_figure_hold_the_points():
    made = curve((0.6, 0.3), (0.3, None))
    other = Curve(1.0)
    other.load_state(json.loads(json.dumps(made.state())))
    assert other == made
    figure = made.as_figure()
    assert figure["steps"] == [10, 20] and figure["identity"] == [0.3, None] and figure["kept"] == made.best().step


def test_a_long_curve_fits_into_a_manifest():
    figure = curve(*[(0.5, 0.5)] * 5001).as_figure()
    assert len(figure["steps"]) <= 201 and figure["steps"][-1] == 50010
    assert not manifest._tree_fault({"curve": figure})


def test_a_point_in_words():
    assert told(Measured(5, 0.25, 0.5, 8), 1.0) == "style 0.2500 (75 % of the way), identity 0.500"
    assert "no face" in told(Measured(5, 0.25, None, 0), 1.0)
