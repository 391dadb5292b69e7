"""Ballots become a table: who is counted, how often each method was preferred, and how sure that is.

Who is left out, by the first rule that is broken:

    incomplete     fewer than `min_share` of the sheet's questions were answered
    checks         more than `max_failed` attention checks were not answered with the whole picture (a tie is a failure)
    too fast       the median answer took less than `min_seconds`
    impossible     the answers claim more time than passed between the first and the last of them
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median

import numpy as np

from sigan.errors import ConfigError, InputError
from sigan.study import ballots, box, plan, ranking
from sigan.study.ballots import Ballot, Refused
from sigan.study.plan import PRACTISED, Study

SLACK_MS = 5000  # between the participant's clock and ours
FEW = 20  # participants, below which a bootstrap over them is known to come out too narrow
Resamples = tuple[np.ndarray, np.ndarray]  # wins and ties [S,M,M] of each resample
RULES = ("incomplete", "checks", "too fast", "impossible")


@dataclass(frozen=True, kw_only=True)
class TallyConfig:
    """The rules of exclusion, and how the intervals are made."""

    max_failed: int = 0  # pressing at random passes four checks with 1.2 %
    min_seconds: float = 0.8  # seeing two pictures and a photograph, choosing and pressing takes people longer
    min_share: float = 0.5
    practised: str = ""  # "yes" or "no": only participants who said so
    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("max_failed", 0, 20), ("min_seconds", 0, 60), ("min_share", 0, 1),
                                ("resamples", 100, 100_000), ("confidence", 0.5, 0.999)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must lie in {low} to {high}")
        if self.practised not in ("", *PRACTISED):
            raise ConfigError(f"practised is {self.practised!r}; it must be one of {', '.join(PRACTISED)}")


@dataclass(frozen=True)
class Share:
    """How often `method` was preferred, a tie counting half, to `other` ("" for all others together).

    `wilson` takes the votes for independent draws; `bootstrap` draws participants, and is None where they are fewer
    than two.
    """

    method: str
    other: str
    wins: int
    losses: int
    ties: int
    preference: float | None
    wilson: tuple[float, float]
    bootstrap: tuple[float, float] | None


@dataclass(frozen=True)
class Rank:
    """A method's place: its log strength (mean 0 over the methods) and interval, the share of resamples in which it
    came out first, and of those in which it stood above the next of the list."""

    rank: int
    method: str
    strength: float
    interval: tuple[float, float] | None
    first: float | None
    above_next: float | None


@dataclass(frozen=True)
class Tally:
    """What a study came to; `preferences` and `ranking` from best to worst, `pairs` for every two methods."""

    study: str
    methods: tuple[str, ...]
    participants: int
    counted: int
    practised: dict[str, int]
    excluded: dict[str, int]
    refused: tuple[Refused, ...]
    copies: int
    votes: int
    ties: int
    left: float | None
    left_wilson: tuple[float, float]
    median_seconds: float
    preferences: tuple[Share, ...]
    pairs: tuple[Share, ...]
    ranking: tuple[Rank, ...]
    tie_parameter: float
    helped: bool
    rules: dict[str, float | int | str]
    warnings: tuple[str, ...]


def gather(paths: Sequence[str | Path]) -> tuple[Study, list[Ballot], list[Refused], int]:
    """The study among `paths`, and the ballots in its box and in the vote files; with those refused and copies.

    ConfigError unless exactly one path is a study: the methods' names stand there alone.
    """
    studies = [Path(path) for path in paths if plan.is_study(path)]
    others = [Path(path) for path in paths if not plan.is_study(path)]
    if not studies and len(others) == 1 and others[0].is_dir() and not any(others[0].glob("*.json")):
        plan.load(others[0])  # says why it is none
    if len(studies) != 1:
        raise ConfigError(f"{len(studies)} study folders are given; a tally takes one, besides any vote files",
                          "name the folder that `sigan study build` made: it alone says which method drew what")
    study = plan.load(studies[0])
    files = list(dict.fromkeys(file for path in others for file in ballots.vote_files(path)))
    handed, refused, copies = ballots.read_all(files, study)
    return study, [*box.ballots(studies[0], study), *handed], refused, copies


def tally(paths: Sequence[str | Path], config: TallyConfig | None = None) -> Tally:
    """The whole result of a study folder and vote files. InputError when there is no vote that counts."""
    return count(*gather(paths), config or TallyConfig())


def count(study: Study, cast: Sequence[Ballot], refused: Sequence[Refused], copies: int, config: TallyConfig) -> Tally:
    """The result of these ballots."""
    if config.practised:
        cast = [ballot for ballot in cast if ballot.practised == config.practised]
    reasons = [excluded(study, ballot, config) for ballot in cast]
    good = [ballot for ballot, reason in zip(cast, reasons) if not reason]
    out = Counter(reason for reason in reasons if reason)
    if not good:
        told = ", ".join(f"{out[rule]} {rule}" for rule in RULES if out[rule]) or "nobody voted"
        if refused:
            told += f"; {len(refused)} vote files refused, the first since {refused[0].reason}"
        raise InputError(f"no vote counts: of {len(cast)} participants, {told}",
                         "collect votes with `sigan study serve` or page.html, or look at the rules of `tally --help`")
    wins, ties = counts(study, good)
    beats, draws = wins.sum(0), ties.sum(0)
    rng = (config.resamples, config.seed)  # one seed: the same participants in both
    samples = (ranking.resample(wins, *rng), ranking.resample(ties, *rng)) if len(good) > 1 else None
    fit = ranking.bradley_terry(beats, draws)
    drawn = ranking.bradley_terry(*samples) if samples else None
    decided = [answer.choice for ballot in good for place, answer in enumerate(ballot.answers)
               if not study.is_check(study.shown(ballot.sheet, place).pair)]
    sided = Counter(decided)
    asked = sided["left"] + sided["right"]
    return Tally(
        study=study.hash, methods=study.methods, participants=len(cast), counted=len(good),
        practised=dict(Counter(ballot.practised for ballot in good)),
        excluded={rule: out[rule] for rule in RULES}, refused=tuple(refused), copies=copies,
        votes=len(decided), ties=sided["tie"], left=sided["left"] / asked if asked else None,
        left_wilson=ranking.wilson(sided["left"], asked, config.confidence),
        median_seconds=median(answer.ms for ballot in good for answer in ballot.answers) / 1000,
        preferences=_preferences(study.methods, beats, draws, samples, config.confidence),
        pairs=_pairs(study.methods, beats, draws, samples, config.confidence),
        ranking=_ranking(study.methods, fit.strengths, drawn.strengths if drawn else None, config.confidence),
        tie_parameter=float(np.exp(fit.log_tie)), helped=bool(fit.helped),
        rules={"max_failed": config.max_failed, "min_seconds": config.min_seconds, "min_share": config.min_share,
               "checks": study.checks, "practised": config.practised, "confidence": config.confidence,
               "resamples": config.resamples},
        warnings=tuple(_warnings(study, good, beats + draws, fit, drawn)))


def excluded(study: Study, ballot: Ballot, config: TallyConfig) -> str:
    """The first rule that a ballot breaks, or ""."""
    times = [answer.ms for answer in ballot.answers]
    if not times or len(times) < config.min_share * study.length:
        return "incomplete"
    if failed_checks(study, ballot) > config.max_failed:
        return "checks"
    if median(times) < 1000 * config.min_seconds:
        return "too fast"
    return "impossible" if sum(times) > ballot.elapsed + SLACK_MS else ""


def failed_checks(study: Study, ballot: Ballot) -> int:
    """How many attention checks the participant met and did not answer with the whole picture."""
    failed = 0
    for place, answer in enumerate(ballot.answers):
        shown = study.shown(ballot.sheet, place)
        if study.is_check(shown.pair):
            chosen = {"left": shown.left, "right": shown.right}.get(answer.choice)
            failed += chosen != study.pairs[shown.pair].a
    return failed


def counts(study: Study, cast: Iterable[Ballot]) -> tuple[np.ndarray, np.ndarray]:
    """Wins and ties [N,M,M] of each participant, as `ranking` wants them; checks are no votes."""
    number = {method: index for index, method in enumerate(study.methods)}
    cast = list(cast)
    wins, ties = np.zeros((2, len(cast), len(number), len(number)), int)
    for n, ballot in enumerate(cast):
        for place, answer in enumerate(ballot.answers):
            shown = study.shown(ballot.sheet, place)
            if study.is_check(shown.pair):
                continue
            left, right = (number[study.drawn_by[picture]] for picture in (shown.left, shown.right))
            if answer.choice == "tie":
                ties[n, left, right] += 1
                ties[n, right, left] += 1
            else:
                wins[(n, left, right) if answer.choice == "left" else (n, right, left)] += 1
    return wins, ties


def _share(method: str, other: str, wins: int, losses: int, ties: int, drawn: np.ndarray | None,
           confidence: float) -> Share:
    total = wins + losses + ties
    span = ranking.interval(drawn, confidence) if drawn is not None and np.isfinite(drawn).any() else None
    return Share(method, other, wins, losses, ties, (wins + ties / 2) / total if total else None,
                 ranking.wilson(wins + ties / 2, total, confidence), span)


def _preferences(methods: Sequence[str], wins: np.ndarray, ties: np.ndarray, samples: Resamples | None,
                 confidence: float) -> tuple[Share, ...]:
    drawn = ranking.preference(*samples) if samples else None
    shares = [_share(method, "", int(wins[k].sum()), int(wins[:, k].sum()), int(ties[k].sum()),
                     drawn[:, k] if drawn is not None else None, confidence) for k, method in enumerate(methods)]
    return tuple(sorted(shares, key=lambda share: -(share.preference or 0)))


def _pairs(methods: Sequence[str], wins: np.ndarray, ties: np.ndarray, samples: Resamples | None,
           confidence: float) -> tuple[Share, ...]:
    made = []
    for a, b in combinations(range(len(methods)), 2):
        pick = [a, b]
        drawn = ranking.preference(*(sample[:, pick][:, :, pick] for sample in samples))[:, 0] if samples else None
        made.append(_share(methods[a], methods[b], int(wins[a, b]), int(wins[b, a]), int(ties[a, b]), drawn,
                           confidence))
    return tuple(made)


def _ranking(methods: Sequence[str], strengths: np.ndarray, drawn: np.ndarray | None, confidence: float
             ) -> tuple[Rank, ...]:
    order = np.argsort(-strengths, kind="stable")
    ranks = []
    for place, k in enumerate(order):
        below = order[place + 1] if place + 1 < len(order) else None
        ranks.append(Rank(
            place + 1, methods[k], float(strengths[k]),
            ranking.interval(drawn[:, k], confidence) if drawn is not None else None,
            float((drawn.argmax(1) == k).mean()) if drawn is not None else None,
            float((drawn[:, k] > drawn[:, below]).mean()) if drawn is not None and below is not None else None))
    return tuple(ranks)


def _warnings(study: Study, good: Sequence[Ballot], compared: np.ndarray, fit: ranking.Fit,
              drawn: ranking.Fit | None) -> list[str]:
    said = []
    if len(good) < FEW:
        said.append(f"{len(good)} participants are counted: below {FEW}, intervals over participants are too narrow")
    if not study.checks:
        said.append("the study was built without attention checks")
    never = [f"{study.methods[a]} and {study.methods[b]}" for a, b in combinations(range(len(study.methods)), 2)
             if not (compared + compared.T)[a, b]]
    if never:
        said.append(f"never compared directly: {'; '.join(never)}")
    if fit.helped:
        said.append("the votes have no finite best fit (a method won or lost everything): half a vote of each kind was "
                    "added for every two methods, so read the strengths as an order only")
    elif drawn is not None and drawn.helped.any():
        said.append(f"in {drawn.helped.mean():.0%} of the resamples a method won or lost everything; there half a vote "
                    "of each kind was added")
    return said
