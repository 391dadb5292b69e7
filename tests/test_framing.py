"""The map of the face: against its formula, pixel by pixel."""

from __future__ import annotations

import math

import pytest

from sigan.framing import face_mask


def test_the_mask_is_that_of_a_soft_ellipse_a_little_below_the_centre():
    mask = face_mask(9)
    for row in range(9):
        for column in range(9):
            y, x = row / 4 - 1, column / 4 - 1
            distance = (x / 0.55) ** 2 + ((y - 0.12) / 0.60) ** 2
            assert float(mask[row, column]) == pytest.approx(math.exp(-(distance**2)), abs=1e-6)
