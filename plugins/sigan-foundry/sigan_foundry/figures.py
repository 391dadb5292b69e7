"""Figures of a base: pure functions of descriptors, landmarks, features and scores; each tells its N."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

EYE_CORNERS = (36, 45)  # outer ones of the 68 points; their distance is 300-W's unit of landmark errors


def digest(values: Sequence[float], digits: int = 4) -> dict:
    """Median and mean of what could be measured, and how many that was."""
    known = np.array([v for v in values if v is not None and np.isfinite(v)], np.float64)
    if not len(known):
        return {"N": 0}
    return {"N": len(known), "median": round(float(np.median(known)), digits),
            "mean": round(float(known.mean()), digits)}


def landmark_error(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of 68 points [68,2] from those of the original a, in units of a's outer eye corners' distance."""
    unit = np.hypot(*(a[EYE_CORNERS[0]] - a[EYE_CORNERS[1]]))
    return float(np.hypot(*(a - b).T).mean() / unit)


def diversity(descriptors: np.ndarray) -> dict:
    """Mean distance of all pairs of different faces.  [N,D]"""
    if len(descriptors) < 2:
        return {"N": len(descriptors)}
    squares = (descriptors**2).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * descriptors @ descriptors.T, 0))
    return {"N": len(descriptors), "mean_distance": round(float(distances[np.triu_indices(len(distances), 1)].mean()),
                                                          4)}


def ranks(scores: Sequence[float], among: np.ndarray) -> dict:
    """Percentiles of scores in a set of others (equal ones count half): each, the lowest and the median."""
    each = [float(100 * ((among < score).mean() + (among == score).mean() / 2)) for score in scores]
    return {"lowest": round(min(each), 1), "median": round(float(np.median(each)), 1),
            "each": [round(one, 1) for one in each]}
