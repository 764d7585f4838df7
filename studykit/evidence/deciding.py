"""Which arm to take for somebody's own data, from rounds of paired scores that are looked at again and again."""

import bisect
import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.special

HELD = 0.15  # the share of the rows on which a round is scored; the rest it trains on
OVERLAP = HELD / (1 - HELD)
LEVEL = 0.05  # how often a settled decision may err
MOST = 50  # rounds that are worth a thought
DRAWS, PRIOR = 20_000, 4000
SEEDS, COMMON, OWN = 0.5, 0.7, 0.6  # the prior of the seeds' deviation, see ``_deviations``


class Standing(NamedTuple):
    """How a label stands: ``gap``, choice minus label, with its interval, and ``chance``, the probability that it is within
    the margin of the best of all that were tried."""

    label: str
    gap: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class Decision:
    """``kind``: ``take`` (one is best), ``cheaper`` (several are within the margin; the cheapest of them), ``cannot tell``
    (the best so far) or ``floor`` (no arm beats it). ``sure``: the probability that the choice is within ``margin`` points
    of the best of all that were tried."""

    kind: str
    choice: str
    sure: float
    margin: float
    others: tuple[str, ...] = ()  # as good, within the margin
    rounds: int = 0  # of the finals
    more_rounds: float | None = None  # in total, that would settle it, where it is not
    more_minutes: float | None = None
    more_labels: float | None = None  # times as many rows to score on that would, where rounds alone cannot
    standings: tuple[Standing, ...] = ()  # best first


@dataclass(frozen=True)
class Round:
    """Scores by label on one block of rows, in points, more is better; ``moved`` are the same on resampled rows, shape
    (resamples, labels), in the order of ``scores``."""

    scores: dict[str, float]
    moved: np.ndarray


class Raced(NamedTuple):
    """An arm that left the race: by how many points it was behind the leader, with the standard error of the rows."""

    label: str
    gap: float
    error: float


def left(rung: Round, labels: Collection[str]) -> list[Raced]:
    """Those of a rung that left the race, against its leader."""
    names = list(rung.scores)
    leader = max(names, key=rung.scores.__getitem__)
    away = rung.moved[:, [names.index(leader)]] - rung.moved
    return [Raced(name, rung.scores[leader] - rung.scores[name], float(away[:, names.index(name)].std(ddof=1)))
            for name in names if name in labels]


@functools.lru_cache
def bound(looks: int, level: float = LEVEL) -> float:
    """Pocock's (1977) bound: the standard score that a sum of normal rounds, looked at after each of so many, ever exceeds
    with the probability ``level``. It is the same at each look, so it holds too where time allows fewer of them.

    >>> [round(bound(looks), 2) for looks in (1, 2, 5)]
    [1.65, 1.88, 2.12]
    """
    def never(limit: float) -> float:
        """The probability that none exceeds it: sums below the limit so far, a normal round more at a time."""
        sums = np.linspace(-8, limit, 500)
        density = np.exp(-sums ** 2 / 2) / np.sqrt(2 * np.pi)
        for look in range(2, looks + 1):
            further = np.sqrt(look) * np.linspace(-8, limit, 500)
            steps = np.exp(-np.subtract.outer(further, sums) ** 2 / 2) / np.sqrt(2 * np.pi)
            sums, density = further, np.trapezoid(steps * density, sums, axis=1)
        return float(np.trapezoid(density, sums))

    return float(scipy.optimize.brentq(lambda limit: never(limit) - (1 - level), 1, 6))


def decide(rounds: Sequence[Round], raced: Sequence[Raced] = (), *, cost: Mapping[str, float], floors: Collection[str] = (),
           margin: float, looks: int = 1) -> Decision:
    """The decision after these rounds of the finals, of at most ``looks`` planned.

    Truths, the scores over new seeds, training sets and rows, are drawn around the mean scores. What other rows do comes
    from resampling: blocks do not overlap, so it shrinks with the rounds until each row has been scored once. What seeds and
    training sets do comes from how scores differ between rounds beyond that, see ``_deviations``; since training sets
    overlap, its share of the mean's variance is 1/rounds + held/(1 - held) (Nadeau and Bengio 2003), not 1/rounds. An arm
    that left the race lies behind the best finalist by its gap, with the rows' error and that of two runs' seeds.

    Every probability p is told as that of z(p) divided by ``bound(looks)`` over ``bound(1)``; intervals are wider by the
    same factor. So with any look that stops at 95 %, no more than 5 % err over all looks. Raises ``ValueError`` where rounds
    have other labels or a score is no number.
    """
    _check(rounds, cost, floors)
    evidence = _evidence(rounds, raced, floors)
    truths = evidence.truths(len(rounds))
    decision = _judged(evidence, truths, margin, cost, looks)
    more = {} if settled(decision) else _more(evidence, margin, cost, looks)
    return dataclasses.replace(decision, **more, standings=_standings(evidence, truths, decision, looks))


def settled(decision: Decision) -> bool:
    """Whether more rounds are not needed: it is told, and as surely as it should be."""
    return decision.kind != "cannot tell" and decision.sure >= 1 - LEVEL


def _check(rounds: Sequence[Round], cost: Mapping[str, float], floors: Collection[str]) -> None:
    names = list(rounds[0].scores) if rounds else []
    if not names or any(list(held.scores) != names or held.moved.shape[1] != len(names) for held in rounds):
        raise ValueError("rounds must score the same labels in the same order, and there must be one: run each finalist in each")
    if not all(np.isfinite(list(held.scores.values())).all() for held in rounds):
        raise ValueError("a score is no number: count a run that diverged as the best constant answer")
    if missing := [name for name in names if name not in floors and name not in cost]:
        raise ValueError(f"no cost is known of {', '.join(missing)}: measure a training of each finalist")


@dataclass(frozen=True)
class _Evidence:
    """Mean scores of finalists, and draws of what one round's rows and one run's seeds do to each label, shape (draws,
    labels): ``arms``, ``floors``, then those that left the race, which ``gaps`` are behind the best arm."""

    arms: list[str]
    floors: list[str]
    raced: list[str]
    means: dict[str, float]
    gaps: np.ndarray
    rounds: int
    rows: np.ndarray
    seeds: np.ndarray

    @property
    def best(self) -> str:
        """The arm with the highest mean; a floor where there is no arm."""
        return max(self.arms or self.floors, key=self.means.__getitem__)

    @property
    def best_floor(self) -> str:
        return max(self.floors, key=self.means.__getitem__, default="")

    @property
    def labels(self) -> list[str]:
        return [*self.means, *self.raced]

    def truths(self, rounds: int, times: float = 1.0) -> np.ndarray:
        """Draws of the true scores, shape (draws, labels), after so many rounds with so many times as many labels, if the
        estimates stayed."""
        count = len(self.means)
        moved = (self.rows[:, :count] * np.sqrt(max(1 / rounds, HELD)) + self.seeds[:, :count] * np.sqrt(1 / rounds + OVERLAP))
        final = list(self.means.values()) + moved / np.sqrt(times)
        behind = self.gaps + (self.rows[:, count:] + self.seeds[:, count:] * np.sqrt(1 + OVERLAP)) / np.sqrt(times)
        return np.concatenate([final, final[:, [self.labels.index(self.best)]] - behind], axis=1)

    def chances(self, truths: np.ndarray, margin: float, looks: int) -> tuple[dict[str, float], dict[str, float]]:
        """The probabilities that each label is within the margin of the best, and that it is above all floors."""
        floors = truths[:, [self.labels.index(name) for name in self.floors]]
        close = (truths >= truths.max(1, keepdims=True) - margin).mean(0)
        above = (truths > floors.max(1, keepdims=True, initial=-np.inf)).mean(0)
        told = [_told(share, looks) for share in (close, above)]
        return dict(zip(self.labels, told[0], strict=True)), dict(zip(self.labels, told[1], strict=True))


def _told(share: np.ndarray, looks: int) -> list[float]:
    """Shares of draws as probabilities, corrected for looks."""
    score = scipy.special.ndtri(np.clip(share, 1 / DRAWS, 1 - 1 / DRAWS))
    return scipy.special.ndtr(score * bound(1) / bound(looks)).tolist()


def _evidence(rounds: Sequence[Round], raced: Sequence[Raced], floors: Collection[str]) -> _Evidence:
    rng, names = np.random.default_rng(0), list(rounds[0].scores)
    raced = [arm for arm in raced if arm.label not in names]
    scores = np.array([list(held.scores.values()) for held in rounds])
    rows = np.mean([np.cov(held.moved.T).reshape(len(names), len(names)) for held in rounds], axis=0)
    deviations = _deviations(rng, scores, rows, len(raced))
    moved = [rng.multivariate_normal(np.zeros(len(names)), rows, DRAWS, method="eigh"),
             rng.normal(size=(DRAWS, len(raced))) * [arm.error for arm in raced]]
    evidence = _Evidence([name for name in names if name not in floors], [name for name in names if name in floors],
                         [arm.label for arm in raced], dict(zip(names, scores.mean(0).tolist(), strict=True)),
                         np.array([arm.gap for arm in raced]), len(rounds), np.concatenate(moved, axis=1), deviations)
    leader = deviations[:, [names.index(evidence.best)]]
    deviations[:, len(names):] = np.hypot(deviations[:, len(names):], leader)  # a gap in the race is one of two runs
    deviations *= rng.normal(size=deviations.shape)
    return evidence


def _deviations(rng: np.random.Generator, scores: np.ndarray, rows: np.ndarray, more: int) -> np.ndarray:
    """Draws of the standard deviation that seeds and training sets give a run of each label, shape (draws, labels + more).

    ``scores`` has shape (rounds, labels), and ``rows`` is the covariance of one round's scores over rows. Deviations are
    lognormal: a common one, whose median is ``SEEDS`` of the rows' and whose logarithm has the deviation ``COMMON``, times
    each label's own (``OWN``). Draws are kept by how likely they make the scatter between rounds (Wishart's density); with
    one round all are, which is the cautious prior: 95 % of deviations lie within a sixth and six times the median. What
    moves all labels alike says nothing.
    """
    labels, freedom = len(rows), len(scores) - 1
    scale = SEEDS * max(np.sqrt(np.diag(rows).mean()), 1e-9)
    drawn = scale * np.exp(COMMON * rng.normal(size=(PRIOR, 1)) + OWN * rng.normal(size=(PRIOR, labels + more)))
    if not freedom:
        return np.resize(drawn, (DRAWS, labels + more))
    alike = 1e4 * scale ** 2
    inverse = np.linalg.inv(rows + alike + drawn[:, :labels, None] ** 2 * np.eye(labels))
    scatter = freedom * np.cov(scores.T).reshape(labels, labels)
    likely = (freedom * np.linalg.slogdet(inverse)[1] - np.einsum("nij,ij->n", inverse, scatter)) / 2
    shares = np.cumsum(np.exp(likely - likely.max()))
    return drawn[np.searchsorted(shares, (np.arange(DRAWS) + 0.5) / DRAWS * shares[-1])]


def _judged(evidence: _Evidence, truths: np.ndarray, margin: float, cost: Mapping[str, float], looks: int) -> Decision:
    """The decision that draws of the truths give, without standings."""
    chance, above = evidence.chances(truths, margin, looks)
    top, floor = evidence.best, evidence.best_floor
    shown = sorted((name for name in evidence.arms if min(chance[name], above[name]) >= 1 - LEVEL), key=cost.__getitem__)
    if floor and (top == floor or evidence.means[top] <= evidence.means[floor] or chance[floor] >= 1 - LEVEL):
        return Decision("floor", floor, chance[floor], margin, rounds=evidence.rounds)
    if not shown:
        return Decision("cannot tell", top, chance[top], margin, rounds=evidence.rounds)
    kind = "cheaper" if len(shown) > 1 else "take"
    return Decision(kind, shown[0], chance[shown[0]], margin, tuple(shown[1:]), evidence.rounds)


def _standings(evidence: _Evidence, truths: np.ndarray, decision: Decision, looks: int) -> tuple[Standing, ...]:
    chance, _ = evidence.chances(truths, decision.margin, looks)
    away = truths[:, [evidence.labels.index(decision.choice)]] - truths
    places = scipy.special.ndtr(np.array([-1, 1]) * scipy.special.ndtri(1 - LEVEL / 2) * bound(looks) / bound(1))
    low, high = np.quantile(away, places, axis=0).tolist()
    rows = map(Standing, evidence.labels, away.mean(0).tolist(), low, high, chance.values())
    return tuple(sorted(rows, key=lambda row: row.gap))


def _more(evidence: _Evidence, margin: float, cost: Mapping[str, float], looks: int) -> dict:
    """How many rounds in all would settle it, or else how many times as many rows, if the estimates stayed."""
    def enough(rounds: int, times: float = 1.0) -> bool:
        return settled(_judged(evidence, evidence.truths(rounds, times), margin, cost, looks))

    if enough(MOST):
        return {"more_rounds": bisect.bisect_left(range(MOST), True, lo=evidence.rounds + 1, key=enough)}
    each = round(1 / HELD)  # rounds that score each row once
    times = next((times for times in (1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32) if enough(max(each, evidence.rounds), times)), None)
    return {"more_labels": times}
