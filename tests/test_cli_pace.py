"""The pace on a clock that the test moves."""

from __future__ import annotations

import pytest

from sigan.cli.pace import EVERY, RECENT, Pace, span


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_that_of_the_last_which_took_work():
    clock = Clock()
    pace = Pace(1000, clock)
    assert str(pace) == "" and pace.remaining is None
    for _ in range(500):  # a second run: skipping takes no time worth a rate
        clock.now += 0.001
        pace.add("skipped")
    for k in range(10):
        clock.now += 2
        pace.add("failed" if k == 3 else "ok")
    assert pace.rate == pytest.approx(0.5) and pace.remaining == pytest.approx(490 / 0.5)
    assert str(pace) == "1 failed, 0.50 a second, 16 min 20 s left"
    for _ in range(RECENT):  # and now it goes faster
        clock.now += 0.05
        pace.add("ok")
    assert pace.rate == pytest.approx(20) and "20 a second" in str(pace)


def test_what_takes_long_is_told_by_the_piece():
    clock = Clock()
    pace = Pace(7, clock)
    clock.now = 596.0
    pace.add("ok")
    assert str(pace) == "9 min 56 s each, 59 min 36 s left"


def test_a_line_comes_every_half_minute():
    clock = Clock()
    pace, lines = Pace(None, clock), []
    for _ in range(100):
        clock.now += 1
        pace.add("ok")
        lines.append(pace.due())
    assert [k + 1 for k, line in enumerate(lines) if line] == [EVERY, 2 * EVERY, 3 * EVERY]
    assert lines[29] == "30, 1.00 a second"


@pytest.mark.parametrize(("seconds", "told"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"),
                                               (7560, "2 h 06 min"), (3 * 86400 + 4 * 3600, "3 d 04 h")])
def test_lengths_of_time_are_told_in_words(seconds, told):
    assert span(seconds) == told
