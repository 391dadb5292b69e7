"""Who sees which pair, in what order, on which side: sheets, each for one participant. Pure integers, no files.

M methods drew the same P photographs. A pair is one photograph drawn by two methods, so there are P·M(M-1)/2. Every
sheet holds as many comparisons of any two methods as of any others, within one; over all sheets every pair is shown
equally often, within one. Sheets come in twos, the second with all sides exchanged: left and right are exactly balanced
for any two methods over both, and for each method within one on either.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from itertools import combinations

MIN_SHEETS = 40  # more than the paper's 28 participants, so that few share a sheet
MAX_SHEETS = 400  # the page carries them all; beyond, some pairs are shown once more than others

Entry = tuple[int, int]  # number of a pair or a check, and 1 when its sides are exchanged


def picture_pairs(photographs: int, methods: int) -> list[tuple[int, int, int]]:
    """Every (photograph, method, other method)."""
    return [(name, a, b) for name in range(photographs) for a, b in combinations(range(methods), 2)]


def cycle(photographs: int, methods: int, rng: random.Random) -> list[tuple[int, int, int]]:
    """Every pair once, so ordered that any stretch, taken as a ring, holds each two methods equally often within one.

    Neighbours show different photographs as far as there are enough.
    """
    duels = list(combinations(range(methods), 2))
    order, duels = rng.sample(range(photographs), photographs), rng.sample(duels, len(duels))
    return [(order[(block + rank * photographs // len(duels)) % photographs], *duel)
            for block in range(photographs) for rank, duel in enumerate(duels)]


def sheet_count(pairs: int, trials: int) -> int:
    """How many sheets of so many trials: even, at least MIN_SHEETS, and each pair equally often where that is few."""
    round_ = 2 * (pairs // math.gcd(pairs, trials))
    return min(math.ceil(MIN_SHEETS / round_) * round_, MAX_SHEETS)


def orient(edges: Sequence[tuple[int, int]], rng: random.Random) -> list[bool]:
    """For each edge (a, b), whether to turn it round, so that every vertex begins as many as it ends, within one.

    Walks each component as an Euler tour (Hierholzer 1873), vertices of odd degree joined to one outside.
    """
    outside = -1
    degree: dict[int, int] = {}
    for a, b in edges:
        degree[a], degree[b] = degree.get(a, 0) + 1, degree.get(b, 0) + 1
    closed = [*edges, *((vertex, outside) for vertex in sorted(degree) if degree[vertex] % 2)]
    at: dict[int, list[int]] = {}
    for index in rng.sample(range(len(closed)), len(closed)):
        for vertex in closed[index]:
            at.setdefault(vertex, []).append(index)
    turned: list[bool | None] = [None] * len(closed)
    for start in at:  # every closed walk keeps the balance: the degrees left are even
        here = start
        while at[here]:
            index = at[here].pop()
            if turned[index] is None:
                a, b = closed[index]
                turned[index] = here == b
                here = a if here == b else b
    return [bool(turn) for turn in turned[:len(edges)]]


def sheets(photographs: int, methods: int, trials: int, checks: int, rng: random.Random) -> list[list[Entry]]:
    """The sheets: numbers follow `picture_pairs`, then the checks. On every sheet each check stands once.

    A check's right answer is its first picture; half of a sheet's checks have it on the left, within one.
    """
    pairs = picture_pairs(photographs, methods)
    number = {pair: index for index, pair in enumerate(pairs)}
    trials = min(trials, len(pairs))
    made: list[list[Entry]] = []
    ring: list[tuple[int, int, int]] = []
    start = 0
    for _ in range(sheet_count(len(pairs), trials) // 2):
        if start == 0:  # the ring has been used up evenly
            ring = cycle(photographs, methods, rng)
        shown = [ring[(start + step) % len(ring)] for step in range(trials)]
        start = (start + trials) % len(ring)
        turns = [int(turn) for turn in orient([(a, b) for _, a, b in shown], rng)]
        halves = rng.sample([index % 2 for index in range(checks)], checks)
        probes = [(len(pairs) + index, half) for index, half in enumerate(halves)]
        entries = [(number[pair], turn) for pair, turn in zip(shown, turns)]
        for flip in (0, 1):
            own = [(index, turn ^ flip) for index, turn in rng.sample(entries, trials)]
            made.append(_spread(own, [(index, half ^ flip) for index, half in rng.sample(probes, checks)],
                                lambda entry: pairs[entry[0]][0], rng))
    return made


def _spread(trials: list[Entry], checks: list[Entry], photograph: Callable[[Entry], int],
            rng: random.Random) -> list[Entry]:
    """Trials with neighbours of different photographs where they can be, a check within each equal stretch."""
    rest = list(trials)
    ordered: list[Entry] = []
    while rest:
        last = photograph(ordered[-1]) if ordered else None
        pick = next((entry for entry in rest if photograph(entry) != last), rest[0])
        rest.remove(pick)
        ordered.append(pick)
    stretch = len(ordered) / max(len(checks), 1)
    for place, check in reversed(list(enumerate(checks))):
        ordered.insert(max(1, int(stretch * place + rng.random() * stretch)), check)
    return ordered
