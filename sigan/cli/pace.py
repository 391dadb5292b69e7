"""How fast a batch goes and how long it will take, in words."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

RECENT = 50  # inputs that the rate is taken over: a night's run follows what the machine does now
EVERY = 30.0  # seconds between two plain lines


class Pace:
    """Told of each record's status, knows the rate of those that took work, and what remains of `total`."""

    def __init__(self, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.clock = total, clock
        self.seen = self.failed = 0
        self._times = deque([clock()], RECENT + 1)
        self._told = clock()

    def add(self, status: str) -> None:
        """What is skipped counts, and tells nothing of the rate."""
        self.seen += 1
        self.failed += status == "failed"
        if status != "skipped":
            self._times.append(self.clock())
        elif len(self._times) == 1:  # the work begins after it
            self._times[0] = self.clock()

    @property
    def rate(self) -> float:
        """Inputs a second, of the last RECENT that took work; 0 before the first."""
        span = self._times[-1] - self._times[0]
        return (len(self._times) - 1) / span if span > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds, if the rest takes work as the last did; None where nobody can tell."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.seen) / self.rate

    def __str__(self) -> str:
        parts = [f"{self.failed} failed"] if self.failed else []
        if self.rate:
            parts.append(f"{span(1 / self.rate)} each" if self.rate < 0.1 else
                         f"{self.rate:.2f} a second" if self.rate < 10 else f"{self.rate:.0f} a second")
        if self.remaining is not None:
            parts.append(f"{span(self.remaining)} left")
        return ", ".join(parts)

    def due(self) -> str:
        """A line every EVERY seconds, and nothing in between."""
        if self.clock() - self._told < EVERY:
            return ""
        self._told = self.clock()
        of = "" if self.total is None else f" of {self.total}"
        told = str(self)
        return f"{self.seen}{of}{', ' if told else ''}{told}"


def span(seconds: float) -> str:
    """A length of time in its two largest units: 45 s, 3 min 05 s, 2 h 06 min, 3 d 04 h."""
    whole = round(seconds)
    for unit, smaller, size, part in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part:02} {smaller}"
    return f"{whole} s"
