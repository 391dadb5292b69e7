"""From counts of wins and ties to shares with intervals and a Bradley–Terry ranking. Arrays only.

`wins` [...,M,M] counts how often the method of the row was preferred to that of the column; `ties` [...,M,M] is
symmetric, each tie standing in both places.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

LONE_VOTES = 0.5  # of each outcome, for every two methods, where the counts alone have no finite best fit
STEPS = 200
LONGEST_STEP = 2.0  # in log strength, of one Newton step
TOLERANCE = 1e-10


def wilson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927, JASA 22:209); (0, 1) of nothing. Ties count half a success."""
    if n <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def preference(wins: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """float [...,M]: each method's share of its comparisons, a tie counting half; nan where it had none."""
    points = (wins + ties / 2).sum(-1)
    total = (wins + wins.swapaxes(-1, -2) + ties).sum(-1)
    return np.divide(points, total, out=np.full(points.shape, np.nan), where=total > 0)


@dataclass(frozen=True)
class Fit:
    """Log strengths [...,M] of mean 0, the log tie parameter [...] (-inf without ties), and which fits needed help."""

    strengths: np.ndarray
    log_tie: np.ndarray
    helped: np.ndarray


def bradley_terry(wins: np.ndarray, ties: np.ndarray) -> Fit:
    """Maximum likelihood of strengths p and a tie parameter v (Davidson 1970, JASA 65:317), for each leading index:

        P(i preferred to j) : P(j to i) : P(tie) = p_i : p_j : v·sqrt(p_i p_j)

    Without a tie anywhere in the array this is Bradley and Terry's model itself. Where no finite maximum exists (say a
    group of methods never lost to the others) LONE_VOTES are added, and `helped` says so. Newton's method on the
    concave log likelihood.
    """
    wins, ties = np.asarray(wins, float), np.asarray(ties, float)
    lead, m = wins.shape[:-2], wins.shape[-1]
    wins, ties = wins.reshape(-1, m, m), ties.reshape(-1, m, m)
    i, j = np.triu_indices(m, 1)
    tied = bool(ties.any())
    counts = np.stack([wins[:, i, j], wins[:, j, i], *([ties[:, i, j]] if tied else [])], -1)  # [B,K,outcomes]
    helped = ~_bounded(wins, ties, tied)
    counts[helped] += LONE_VOTES
    features = _features(m, i, j, tied)
    fitted = _newton(counts, features, m)
    strengths = fitted[:, :m] - fitted[:, :m].mean(1, keepdims=True)
    log_tie = fitted[:, m] if tied else np.full(len(fitted), -np.inf)
    return Fit(strengths.reshape(*lead, m), log_tie.reshape(lead), helped.reshape(lead))


def _bounded(wins: np.ndarray, ties: np.ndarray, tied: bool) -> np.ndarray:
    """bool [B]: whether the likelihood has a finite maximum.

    It has none if it never falls along some direction: strengths d and tie parameter e with d_i - d_j >= 2|e| for each
    win of i over j, and |d_i - d_j| <= 2e for each tie. With e = 0 that is Ford's condition (1957): from each method
    one gets to each other along wins and ties. Any tie forbids e < 0. With e = 1/2 it is a system of differences, which
    has a solution unless its graph has a negative circle.
    """
    m = wins.shape[-1]
    reach = (wins + ties > 0) | np.eye(m, dtype=bool)
    for k in range(m):
        reach |= reach[:, :, k, None] & reach[:, None, k, :]
    bounded = reach.all((1, 2))
    if tied:
        bound = np.where(wins > 0, -1.0, np.where(ties > 0, 1.0, np.inf))
        for k in range(m):
            bound = np.minimum(bound, bound[:, :, k, None] + bound[:, None, k, :])
        bounded &= (np.einsum("bii->bi", bound) < 0).any(1) & ties.any((1, 2))
    return bounded


def _features(m: int, i: np.ndarray, j: np.ndarray, tied: bool) -> np.ndarray:
    """float [K,outcomes,params]: the log weight of each outcome of each two methods, as a linear map of the params."""
    pairs = np.arange(len(i))
    features = np.zeros((len(i), 2 + tied, m + tied))
    features[pairs, 0, i] = features[pairs, 1, j] = 1
    if tied:
        features[pairs, 2, i] = features[pairs, 2, j] = 0.5
        features[:, 2, m] = 1
    return features


def _newton(counts: np.ndarray, features: np.ndarray, m: int) -> np.ndarray:
    """float [B,params] of greatest likelihood; log strengths sum to 0."""
    params = np.zeros((len(counts), features.shape[-1]))
    totals = counts.sum(-1)  # [B,K]
    scale = totals.sum(1)[:, None] + 1
    anchor = np.zeros((features.shape[-1],) * 2)
    anchor[:m, :m] = 1.0  # a shift of all strengths changes nothing: hold their sum
    for _ in range(STEPS):
        weights = np.einsum("kop,bp->bko", features, params)
        chances = np.exp(weights - weights.max(-1, keepdims=True))
        chances /= chances.sum(-1, keepdims=True)
        mean = np.einsum("bko,kop->bkp", chances, features)
        slope = np.einsum("bko,kop->bp", counts - totals[..., None] * chances, features)
        square = np.einsum("bk,bko,kop,koq->bpq", totals, chances, features, features, optimize=True)
        curve = square - np.einsum("bk,bkp,bkq->bpq", totals, mean, mean, optimize=True)
        step = np.linalg.solve(curve + anchor, slope[..., None])[..., 0]
        step *= np.minimum(1, LONGEST_STEP / np.maximum(np.abs(step).max(1, keepdims=True), 1e-300))
        params += step
        if (np.abs(slope) / scale).max(initial=0) < TOLERANCE:
            break
    return params


def resample(each: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """`count` bootstrap sums of [N,...] counts, drawn with replacement over the N participants, not over votes:
    one person's answers are alike, so votes are no independent draws."""
    weights = np.random.default_rng(seed).multinomial(len(each), np.full(len(each), 1 / len(each)), size=count)
    return np.tensordot(weights, each, 1)


def interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap values; those that are nan are left out, and (nan, nan) of none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
