"""True scores of what was tried, drawn as rounds of paired scores allow; and how repeated looks are paid for."""

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.special

HELD = 0.15  # the share of the rows on which a round is scored; the rest it trains on
OVERLAP = HELD / (1 - HELD)
LEVEL = 0.05  # how often what is settled may err
DRAWS, PRIOR = 20_000, 4000
SEEDS, COMMON, OWN = 0.6, 1.0, 0.8  # the prior of the seeds' deviation, see ``_deviations``


@dataclass(frozen=True)
class Round:
    """Scores by label on one block of rows, in points, more is better; ``moved`` are the same on resampled rows, shape
    (resamples, labels), in the order of ``scores``; ``step`` is by how many points one row can move a score."""

    scores: dict[str, float]
    moved: np.ndarray
    step: float = 0.0


class Raced(NamedTuple):
    """An arm that left the race: by how many points it was behind the arm that is best in the finals, in the race, with
    the standard error of the rows."""

    label: str
    gap: float
    error: float


@dataclass(frozen=True)
class Evidence:
    """Mean scores of finalists, and draws of what one round's rows and one run's seeds do to each label, shape (draws,
    labels): finalists, then those that left the race, which are behind the best arm by ``gaps``."""

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
    def labels(self) -> list[str]:
        return [*self.means, *self.raced]

    def truths(self, rounds: int, times: float = 1.0) -> np.ndarray:
        """Draws of the true scores, shape (draws, labels), after so many rounds with so many times as many labels, if the
        estimates stayed. More labels steady seeds as they steady rows."""
        finals, race = slice(len(self.means)), slice(len(self.means), None)
        rows, seeds = np.sqrt(max(1 / rounds, HELD)), np.sqrt(1 / rounds + OVERLAP)
        moved = (self.rows[:, finals] * rows + self.seeds[:, finals] * seeds) / np.sqrt(times)
        truths = list(self.means.values()) + moved
        behind = self.gaps + (self.rows[:, race] + self.seeds[:, race] * np.sqrt(1 + OVERLAP)) / np.sqrt(times)
        return np.concatenate([truths, truths[:, [self.labels.index(self.best)]] - behind], axis=1)


def evidence(rounds: Sequence[Round], raced: Sequence[Raced], floors: Collection[str]) -> Evidence:
    """What rounds say of the finalists, floors among them, and the race of those that left it.

    Rows that all answer alike do not move a gap when they are resampled, though others might. So a label's error is at least
    that of one row in a round.
    """
    rng, names = np.random.default_rng(0), list(rounds[0].scores)
    raced = [arm for arm in raced if arm.label not in names]
    scores = np.array([list(block.scores.values()) for block in rounds])
    rows = np.mean([np.cov(block.moved.T).reshape(len(names), len(names)) + block.step ** 2 * np.eye(len(names))
                    for block in rounds], axis=0)
    seeds = _deviations(rng, scores, rows, len(raced))
    moved = [rng.multivariate_normal(np.zeros(len(names)), rows, DRAWS, method="eigh"),
             rng.normal(size=(DRAWS, len(raced))) * [arm.error for arm in raced]]
    known = Evidence([name for name in names if name not in floors], [name for name in names if name in floors],
                     [arm.label for arm in raced], dict(zip(names, scores.mean(0).tolist(), strict=True)),
                     np.array([arm.gap for arm in raced]), len(rounds), np.concatenate(moved, axis=1), seeds)
    leader = seeds[:, [names.index(known.best)]]
    seeds[:, len(names):] = np.hypot(seeds[:, len(names):], leader)  # a gap in the race is one of two runs
    seeds *= rng.normal(size=seeds.shape)
    return known


def _deviations(rng: np.random.Generator, scores: np.ndarray, rows: np.ndarray, more: int) -> np.ndarray:
    """Draws of the standard deviation that seeds and training sets give a run of each label, shape (draws, labels + more).

    ``scores`` has shape (rounds, labels), and ``rows`` is the covariance of one round's scores over rows. The prior of a
    deviation is lognormal: a common one, whose median is ``SEEDS`` of the rows' and whose logarithm has the deviation
    ``COMMON``, times each label's own (``OWN``). That is wide on purpose: it is all that there is with one round. Draws are
    kept by how likely they make the scatter between rounds, rows and seeds together (Wishart's density); what moves all
    labels alike says nothing.
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


def told(share: np.ndarray, looks: int) -> np.ndarray:
    """Shares of draws as probabilities that are paid for looks: the standard score of each is divided by how much higher
    the bound is with so many looks than with one. What is told as 95 % is then beyond the bound."""
    score = scipy.special.ndtri(np.clip(share, 1 / DRAWS, 1 - 1 / DRAWS))
    return scipy.special.ndtr(score * bound(1) / bound(looks))


@functools.lru_cache
def bound(looks: int) -> float:
    """Pocock's (1977) bound: what the standard score of a mean of normal rounds, looked at after each of so many, ever
    exceeds with the probability ``LEVEL``. It is the same at each look, so it holds too where time allows fewer of them.

    >>> [round(bound(looks), 2) for looks in (1, 2, 5)]
    [1.64, 1.88, 2.12]
    """
    def never(limit: float) -> float:
        """The probability that none exceeds it: from the density of sums below the limit so far, a round more at a time."""
        sums = np.linspace(-8, limit, 500)
        density = np.exp(-sums ** 2 / 2) / np.sqrt(2 * np.pi)
        for look in range(2, looks + 1):
            further = np.sqrt(look) * np.linspace(-8, limit, 500)
            steps = np.exp(-np.subtract.outer(further, sums) ** 2 / 2) / np.sqrt(2 * np.pi)
            sums, density = further, np.trapezoid(steps * density, sums, axis=1)
        return float(np.trapezoid(density, sums))

    return float(scipy.optimize.brentq(lambda limit: never(limit) - (1 - LEVEL), 1, 6))
