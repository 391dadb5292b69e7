"""Shares, intervals and rankings against published tables and a slow reference; sheets against their promises."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from sigan.study import design, ranking

# Agresti, Categorical Data Analysis (2002), table 10.10: wins in the American League's eastern division, 1987.
BASEBALL = np.array([[0, 7, 9, 7, 7, 9, 11], [6, 0, 7, 5, 11, 9, 9], [4, 6, 0, 7, 7, 8, 12], [6, 8, 6, 0, 6, 7, 10],
                     [6, 2, 6, 7, 0, 7, 12], [4, 4, 5, 6, 6, 0, 6], [2, 4, 1, 3, 1, 7, 0]])
BASEBALL_STRENGTHS = [1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0.0]


@pytest.mark.parametrize(("successes", "n", "low", "high"), [  # Newcombe 1998, Statistics in Medicine 17:857, table I
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)])
def test_wilson_is_the_published_table(successes, n, low, high):
    assert ranking.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_nothing_knows_nothing():
    assert ranking.wilson(0, 0) == (0.0, 1.0)


def test_bradley_terry_is_the_published_example():
    fit = ranking.bradley_terry(BASEBALL, np.zeros_like(BASEBALL))
    assert fit.strengths - fit.strengths[-1] == pytest.approx(BASEBALL_STRENGTHS, abs=0.005)
    assert not fit.helped


def slow_log_likelihood(theta, log_tie, wins, ties) -> float:
    """Davidson's, written out vote by vote."""
    p, v, total = [math.exp(value) for value in theta], math.exp(log_tie), 0.0
    for i, j in combinations(range(len(p)), 2):
        below = p[i] + p[j] + v * math.sqrt(p[i] * p[j])
        total += wins[i, j] * math.log(p[i] / below) + wins[j, i] * math.log(p[j] / below)
        total += ties[i, j] * math.log(v * math.sqrt(p[i] * p[j]) / below)
    return total


@pytest.mark.parametrize("seed", range(4))
def test_ties_follow_a_slow_search_of_the_likelihood(seed):
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(seed)
    wins = rng.integers(1, 12, (4, 4)) * (1 - np.eye(4, dtype=int))
    half = np.triu(rng.integers(0, 6, (4, 4)), 1)
    half[0, 1] += 1
    ties = half + half.T
    found = optimize.minimize(lambda x: -slow_log_likelihood([*x[:3], 0.0], x[3], wins, ties), np.zeros(4),
                              method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 20000})
    fit = ranking.bradley_terry(wins, ties)
    assert fit.strengths - fit.strengths[-1] == pytest.approx([*found.x[:3], 0.0], abs=1e-4)
    assert float(fit.log_tie) == pytest.approx(found.x[3], abs=1e-4)


def test_a_batch_is_its_samples():
    rng = np.random.default_rng(1)
    wins = rng.integers(1, 9, (5, 3, 3)) * (1 - np.eye(3, dtype=int))
    ties = np.ones((5, 3, 3), int) - np.eye(3, dtype=int)
    together = ranking.bradley_terry(wins, ties).strengths
    assert together == pytest.approx(np.stack([ranking.bradley_terry(w, t).strengths for w, t in zip(wins, ties)]))


@pytest.mark.parametrize(("wins", "ties"), [
    ([[0, 5], [0, 0]], [[0, 0], [0, 0]]), ([[0, 0], [0, 0]], [[0, 5], [5, 0]]), ([[0, 5], [0, 0]], [[0, 5], [5, 0]])])
def test_without_a_finite_fit_half_votes_help_and_it_is_said(wins, ties):
    fit = ranking.bradley_terry(np.array(wins), np.array(ties))
    assert fit.helped and np.isfinite(fit.strengths).all() and abs(fit.strengths).max() < 3


def test_a_chain_of_wins_closed_by_a_tie_has_a_fit():
    wins, ties = np.array([[0, 5, 0], [0, 0, 4], [0, 0, 0]]), np.array([[0, 5, 3], [5, 0, 0], [3, 0, 0]])
    assert not ranking.bradley_terry(wins, ties).helped


def test_the_bootstrap_draws_participants():
    each = np.zeros((10, 2, 2), int)
    each[:5, 0, 1] = each[5:, 1, 0] = 10  # 100 votes of ten people who each know only one answer
    drawn = ranking.preference(ranking.resample(each, 4000), np.zeros((4000, 2, 2), int))[:, 0]
    low, high = ranking.interval(drawn)
    assert drawn.std() == pytest.approx(math.sqrt(0.25 / 10), rel=0.1)  # that of ten draws, not of a hundred
    assert high - low > 2 * (ranking.wilson(50, 100)[1] - ranking.wilson(50, 100)[0])


@pytest.mark.parametrize(("photographs", "methods", "trials", "checks"), [
    (11, 4, 30, 4), (2, 2, 30, 4), (5, 3, 7, 2), (1, 2, 30, 4), (20, 5, 40, 3), (11, 4, 66, 0)])
def test_sheets_are_balanced(photographs, methods, trials, checks):
    made = design.sheets(photographs, methods, trials, checks, random.Random(1))
    pairs = design.picture_pairs(photographs, methods)
    shown, sides = Counter(), Counter()
    for sheet in made:
        assert len({number for number, _ in sheet}) == len(sheet) == min(trials, len(pairs)) + checks
        left = dict.fromkeys(range(methods), 0)
        duels = dict.fromkeys(combinations(range(methods), 2), 0)
        halves = [turn for number, turn in sheet if number >= len(pairs)]
        assert abs(2 * sum(halves) - checks) <= 1
        for number, turn in sheet:
            if number < len(pairs):
                _, *two = pairs[number]
                shown[number] += 1
                duels[tuple(two)] += 1
                a, b = reversed(two) if turn else two
                left[a] += 1
                left[b] -= 1
                sides[a, b] += 1
        assert max(map(abs, left.values())) <= 1
        assert max(duels.values()) - min(duels.values()) <= 1
    assert set(shown) == set(range(len(pairs))) and len(set(shown.values())) == 1
    assert all(sides[a, b] == sides[b, a] for a, b in sides)
