"""A curve's points lie where their values are."""

from __future__ import annotations

import numpy as np
import pytest

from sigan import charts

RED = np.array(charts.KEPT)


def centre(picture: np.ndarray) -> np.ndarray:
    """(x, y) of the middle of the large red dot: of what stays red when its surroundings must be red, too."""
    red = (picture == RED).all(-1)
    whole = red[2:-2, 2:-2].copy()
    for dy in range(5):
        for dx in range(5):
            whole &= red[dy:dy + whole.shape[0], dx:dx + whole.shape[1]]
    y, x = np.nonzero(whole)
    return np.array([x.mean() + 2, y.mean() + 2])


def dot(*point: float) -> np.ndarray:
    return centre(charts.curve([(1.0, 1.0), point], ["", ""], ("x", "y"), marked=1))


def test_places_are_linear_in_the_values_and_upwards():
    origin, right, up, both = dot(0, 0), dot(1, 0), dot(0, 1), dot(0.5, 0.5)
    np.testing.assert_allclose(right[1], origin[1], atol=1)
    np.testing.assert_allclose(up[0], origin[0], atol=1)
    assert right[0] > origin[0] and up[1] < origin[1]
    np.testing.assert_allclose(both, (right + up) / 2, atol=1)


def test_a_limit_is_a_line_and_nothing_to_draw_is_no_error():
    plain, limited = (charts.curve([(0.2, 0.3)], ["5"], ("x", "y"), limit=limit) for limit in (None, 0.8))
    columns = (limited == RED).all(-1).sum(0)
    assert columns.max() > 200 and not (plain == RED).all(-1).any()
    assert charts.curve([], [], ("x", "y")).shape == plain.shape == (charts.SIZE[1], charts.SIZE[0], 3)


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.0042, 0.005), (0.21, 0.25), (0.9, 1), (1, 1), (3, 5), (60, 100)])
def test_axes_end_at_round_numbers(value, top):
    assert charts._round_up(value) == pytest.approx(top)
