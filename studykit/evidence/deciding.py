"""Which arm to take for somebody's own data, from rounds of paired scores that are looked at again and again."""

import bisect
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.special

from studykit.evidence.truths import HELD, LEVEL, Evidence, Raced, Round, bound, evidence, told

MOST = 50  # rounds that are worth a thought, where nobody plans how many
LIKELY = 2 / 3  # the least probability of being above all floors with which an arm is named: a floor needs no fine-tuning
TIMES = (1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # as many labels


class Standing(NamedTuple):
    """How a label stands: ``gap``, choice minus label in points, with its interval, and ``chance``, the probability that it
    is within the margin of the best of all that were tried."""

    label: str
    gap: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class Decision:
    """``kind``: ``take`` (one is best), ``cheaper`` (several are within the margin; the cheapest of them), ``cannot tell``
    (the best arm so far, or the best floor where none is likely enough to be above it) or ``floor`` (no arm beats it).
    ``sure``: the probability that the choice is within ``margin`` points of the best of all that were tried."""

    kind: str
    choice: str
    sure: float
    margin: float
    others: tuple[str, ...] = ()  # as good, within the margin
    rounds: int = 0  # of the finals
    more_rounds: float | None = None  # in all, that would settle it, where it is not
    more_minutes: float | None = None
    more_labels: float | None = None  # that would, where rounds alone cannot: from ``decide`` as times those there are
    standings: tuple[Standing, ...] = ()  # best first


def left(rung: Round, labels: Collection[str], rounds: Sequence[Round]) -> list[Raced]:
    """Those of a rung that left the race, against the arm that is best in these rounds of the finals."""
    names = list(rung.scores)
    means = {name: np.mean([block.scores[name] for block in rounds]) for name in names if name in rounds[0].scores}
    leader = max(means or rung.scores, key=(means or rung.scores).__getitem__)
    return [gap for gap in _gaps(rung, leader) if gap.label in labels]


def first(rung: Round, known: Sequence, number: int = 1) -> list:
    """So many labels that go on, in order: again and again, of those that are left, the best; or, of those within one
    standard error of it, paired over rows, the first in ``known``, which names them all."""
    there: list = list(rung.scores)
    chosen: list = []
    while there and len(chosen) < number:
        leader = max(there, key=rung.scores.__getitem__)
        alike = [gap.label for gap in _gaps(rung, leader) if gap.label in there and gap.gap <= gap.error]
        chosen.append(min(alike, key=known.index))
        there.remove(chosen[-1])
    return chosen


def _gaps(rung: Round, leader) -> list[Raced]:
    """How far each label of a round lies behind this one, and by how much other rows would move that."""
    away = rung.moved[:, [list(rung.scores).index(leader)]] - rung.moved
    errors = np.hypot(away.std(0, ddof=1), np.sqrt(2) * rung.step).tolist()
    return [Raced(name, rung.scores[leader] - score, error)
            for (name, score), error in zip(rung.scores.items(), errors, strict=True)]


def decide(rounds: Sequence[Round], raced: Sequence[Raced] = (), *, cost: Mapping[str, float], floors: Collection[str] = (),
           margin: float, looks: int = 1) -> Decision:
    """The decision after these rounds of the finals, at most ``looks`` of which are planned.

    True scores, over other seeds, training sets and rows, are drawn around the means. What rows do comes from resampling:
    blocks do not overlap, so it shrinks with the rounds until each row has been scored once. What seeds and training sets
    do comes from how rounds differ beyond that, and with one round from a cautious prior (see ``truths``); as training sets
    overlap, its share of a mean's variance is 1/rounds + held/(1 - held) (Nadeau and Bengio 2003). An arm that left the race
    lies behind the best finalist by its gap there, give or take the rows' error and two runs' seeds.

    An arm is shown where two probabilities are 95 %: that it is within the margin of the best of all that were tried, and
    that it is above all floors. One that is shown is taken; of several the cheapest by ``cost``. A floor is taken where no
    arm's mean is above it, or where it is itself within the margin. All probabilities and intervals are paid for looks
    (``truths.told``), so of a hundred data sets no more than five settle on what is wrong, whenever they stop. Raises
    ``ValueError`` where rounds have other labels, a score is no number or a cost is not known.

    >>> block = Round({"full": 90.0, "head": 70.0}, np.random.default_rng(0).normal((90, 70), 1, (400, 2)))
    >>> decision = decide([block, block], cost={"full": 2, "head": 1}, margin=1, looks=6)
    >>> decision.kind, decision.choice, settled(decision)
    ('take', 'full', True)
    """
    _check(rounds, cost, floors)
    known = evidence(rounds, raced, floors)
    draws = known.truths(len(rounds))
    decision = _judged(known, draws, margin, cost, looks)
    more, times = (None, None) if settled(decision) else _more(known, margin, cost, looks)
    return dataclasses.replace(decision, more_rounds=more, more_labels=times,
                               standings=_standings(known, draws, decision, looks))


def settled(decision: Decision) -> bool:
    """Whether no more rounds are needed: it is told, and as surely as it should be."""
    return decision.kind != "cannot tell" and decision.sure >= 1 - LEVEL


def _check(rounds: Sequence[Round], cost: Mapping[str, float], floors: Collection[str]) -> None:
    names = list(rounds[0].scores) if rounds else []
    if not names or any(list(block.scores) != names or block.moved.shape[1] != len(names) for block in rounds):
        raise ValueError("rounds must score the same labels in the same order, and there must be one: run each of them")
    if not all(np.isfinite(list(block.scores.values())).all() for block in rounds):
        raise ValueError("a score is no number: count a run that diverged as the best constant answer")
    if missing := [name for name in names if name not in floors and name not in cost]:
        raise ValueError(f"the cost of {', '.join(missing)} is not known: give the seconds of a training of each finalist")


def _judged(known: Evidence, draws: np.ndarray, margin: float, cost: Mapping[str, float], looks: int) -> Decision:
    """The decision that draws of the truths give, without standings."""
    chance = _close(known, draws, margin, looks)
    floor, top = max(known.floors, key=known.means.__getitem__, default=""), known.best
    highest = draws[:, [known.labels.index(name) for name in known.floors]].max(1, keepdims=True, initial=-np.inf)
    above = dict(zip(known.labels, told((draws > highest).mean(0), looks), strict=True))
    shown = sorted((name for name in known.arms if min(chance[name], above[name]) >= 1 - LEVEL), key=cost.__getitem__)
    if floor and (known.means[top] <= known.means[floor] or chance[floor] >= 1 - LEVEL):
        return Decision("floor", floor, chance[floor], margin, rounds=known.rounds)
    if not shown:
        named = floor if floor and above[top] < LIKELY else top
        return Decision("cannot tell", named, chance[named], margin, rounds=known.rounds)
    kind = "cheaper" if len(shown) > 1 else "take"
    return Decision(kind, shown[0], chance[shown[0]], margin, tuple(shown[1:]), known.rounds)


def _close(known: Evidence, draws: np.ndarray, margin: float, looks: int) -> dict[str, float]:
    """The probability that each label is within the margin of the best."""
    close = (draws >= draws.max(1, keepdims=True) - margin).mean(0)
    return dict(zip(known.labels, told(close, looks).tolist(), strict=True))


def _standings(known: Evidence, draws: np.ndarray, decision: Decision, looks: int) -> tuple[Standing, ...]:
    chance = _close(known, draws, decision.margin, looks)
    away = draws[:, [known.labels.index(decision.choice)]] - draws
    ends = scipy.special.ndtr(np.array([-1, 1]) * scipy.special.ndtri(1 - LEVEL / 2) * bound(looks) / bound(1))
    low, high = np.quantile(away, ends, axis=0).tolist()
    rows = map(Standing, known.labels, away.mean(0).tolist(), low, high, chance.values())
    return tuple(sorted(rows, key=lambda row: row.gap))


def _more(known: Evidence, margin: float, cost: Mapping[str, float], looks: int) -> tuple[float | None, float | None]:
    """How many rounds in all would settle it, of those that are planned where several are; or else how many times as many
    labels would, if the estimates stayed."""
    most = looks if looks > 1 else MOST

    def enough(rounds: int, times: float = 1.0) -> bool:
        return settled(_judged(known, known.truths(rounds, times), margin, cost, looks))

    if enough(most):
        return bisect.bisect_left(range(most), True, lo=known.rounds + 1, key=enough), None
    rounds = max(known.rounds, min(most, round(1 / HELD)))  # that score each row once
    return None, next((times for times in TIMES if enough(rounds, times)), None)
