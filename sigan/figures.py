"""A figure told whole: its value, how many pictures it rests on, by what it was taken, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

RESAMPLES = 1000  # of the bootstrap; the ends of a 95 % interval then move by a few hundredths of its width
SEED = 0  # equal pictures give equal intervals
FEW = 30  # pairs; below it a mean's interval is itself unsure
LOWER, HIGHER = "lower", "higher"


@dataclass(frozen=True)
class Figure:
    """One metric of one set. `value` is None where it could not be taken; `warnings` say why, and what to beware of.

    `n` pictures were measured and `missing` could not be; `low` and `high` bound the 95 % bootstrap interval.
    `features` names the extractor and `resize` what it did to a picture's size.
    """

    metric: str
    value: float | None
    n: int
    better: str = LOWER
    low: float | None = None
    high: float | None = None
    median: float | None = None
    missing: int = 0
    references: int = 0
    features: str = ""
    resize: str = ""
    warnings: tuple[str, ...] = ()
    details: dict[str, float] = field(default_factory=dict)


def interval_of_mean(values: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """The 95 % percentile bootstrap interval of the values' mean (Efron 1979); None for fewer than two values.

    It does not depend on the values' order.
    """
    if len(values) < 2:
        return None, None
    ordered = np.sort(np.asarray(values, np.float64))
    rng = np.random.default_rng(SEED)
    means = [ordered[rng.integers(0, len(ordered), len(ordered))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def mean(metric: str, values: Sequence[float], *, better: str = LOWER, missing: int = 0, references: int = 0,
         features: str = "", resize: str = "", warnings: Sequence[str] = (),
         details: Mapping[str, float] | None = None) -> Figure:
    """The figure of a metric that is a mean over pictures; the rest are fields of it."""
    told = list(warnings)
    if not values:
        told.append("no picture could be measured")
    elif len(values) < FEW:
        told.append(f"N is {len(values)}, below {FEW}: the interval is itself unsure")
    low, high = interval_of_mean(values)
    average, median = (float(np.mean(values)), float(np.median(values))) if values else (None, None)
    return Figure(metric, average, len(values), better, low, high, median, missing, references, features, resize,
                  tuple(told), dict(details or {}))
