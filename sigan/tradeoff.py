"""The trade-off of a training: nearer to the references, further from the people. What to keep, and when to stop."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from sigan.events import Measured

# What a unit of dlib distance weighs beside all of the style's way. Chosen by eye on the first 45 steps of the
# watercolours, which went 0.74 of the way at a distance of 0.54.
IDENTITY_WEIGHT = 0.5
PATIENCE, LEAST_GAIN = 4, 0.005  # so many measurements without that gain: nothing more comes
SLACK = 0.03  # a later point this little worse is kept: its weights have settled, and the eye does not see the rest
MOST_POINTS = 200  # of a curve in a pack


@dataclass
class Curve:
    """Points measured on held-aside faces. `before` is the style distance of the untouched base, where identity is 0.

    floor: the dlib distance that people may not pass; points beyond are never kept. choosing: False keeps the last.
    """

    before: float
    floor: float | None = None
    choosing: bool = True
    points: list[Measured] = field(default_factory=list)

    def add(self, point: Measured) -> None:
        self.points.append(point)

    def cost(self, point: Measured) -> float:
        """The share of the style's way that is left, and the identity lost."""
        return point.style / max(self.before, 1e-9) + IDENTITY_WEIGHT * (point.identity or 0.0)

    def allowed(self, point: Measured) -> bool:
        """Whether people are still themselves, as far as was asked."""
        return self.floor is None or point.identity is None or point.identity <= self.floor

    def best(self) -> Measured | None:
        """The point to keep: the latest that is as good as any, of those allowed; None where there is none."""
        if not self.choosing:
            return self.points[-1] if self.points else None
        points = [point for point in self.points if self.allowed(point)]
        least = min(map(self.cost, points), default=0.0)
        return next((point for point in reversed(points) if self.cost(point) <= least + SLACK), None)

    def finished(self) -> str:
        """Why to stop here; "" when there is something to be gained."""
        if not self.points:
            return ""
        if not self.allowed(self.points[-1]):
            return f"people passed the dlib distance {self.floor:g}"
        costs = [self.cost(point) for point in self.points]
        if len(costs) > PATIENCE and min(costs[-PATIENCE:]) > min(costs[:-PATIENCE]) - LEAST_GAIN:
            return f"the last {PATIENCE} measurements gained nothing"
        return ""

    def as_figure(self) -> dict[str, Any]:
        """For a pack's manifest: the points as columns, and the step that was kept."""
        kept, every = self.best(), max(1, math.ceil(len(self.points) / MOST_POINTS))
        points = self.points[::-every][::-1]
        return {"steps": [point.step for point in points], "style": [round(point.style, 4) for point in points],
                "identity": [None if p.identity is None else round(p.identity, 4) for p in points],
                "before": round(self.before, 4), "kept": kept.step if kept else None, "floor": self.floor,
                "by": "distribution distance to the references; median dlib distance before and after"}

    def state(self) -> list[dict[str, Any]]:
        """The points as plain values."""
        return [asdict(point) for point in self.points]

    def load_state(self, state: list[dict[str, Any]]) -> None:
        self.points = [Measured(**point) for point in state]


def told(point: Measured, before: float) -> str:
    """A point in words."""
    identity = "no face found" if point.identity is None else f"identity {point.identity:.3f}"
    return f"style {point.style:.4f} ({100 * (1 - point.style / max(before, 1e-9)):.0f} % of the way), {identity}"
