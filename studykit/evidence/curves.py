"""A learning curve over labels, and what twice as many would give."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.special

LEVEL = 0.05
EXPONENTS = np.linspace(0, 2, 21)  # of the number of labels; 0 is a straight line over its logarithm
WIDE = 5.0  # an interval of the gain that reaches further to a side, in margins, says nothing
PRIOR = 2  # degrees of freedom that noise of one margin counts for: a few runs can be alike by luck


@dataclass(frozen=True)
class Curve:
    """Scores by number of labels; and ``gain``, by how many points the expected score rises with twice as many as the
    most, with its 95 % interval, or a ``reason`` why that cannot be told."""

    points: tuple[tuple[int, float], ...] = ()
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""


def forecast(points: pd.DataFrame, *, bounds: tuple[float, float] = (-np.inf, np.inf), margin: float = 1.0,
             chance: float | None = None) -> Curve:
    """The curve of runs with the columns ``labels``, ``score`` (more is better) and ``fold``, within the metric's range.

    The score is a level for each fold, plus what labels do, a power -c of their number, plus noise. Few sizes do not tell c,
    so all of ``EXPONENTS`` are fitted: the gain is their mean, weighed by how likely they make the scores, and the interval
    holds each gain that one of them makes likely enough. So it holds what is not known of the fit and what noise does to
    it. It is about the mean of runs: one run more has its own noise besides. ``chance`` is what knowing nothing scores.

    There is a ``reason`` instead where there are too few sizes or runs, where the score has not left chance or falls, and
    where the interval reaches further to a side than ``WIDE`` margins, or than both the margin and the gain itself.

    >>> runs = pd.DataFrame({"labels": [50, 100, 200, 400, 800], "score": [57.0, 60.0, 63.0, 66.0, 69.0], "fold": 0})
    >>> round(forecast(runs).gain, 6)
    3.0
    """
    points = points.dropna(subset="score")
    drawn = tuple((int(size), float(score)) for size, score in zip(points["labels"], points["score"], strict=True))
    if reason := _too_little(points, chance):
        return Curve(drawn, reason=reason)
    gain, low, high = _gain(points["labels"].to_numpy(), points["score"].to_numpy(), points["fold"].to_numpy(), margin)
    best = points.loc[points["labels"] == points["labels"].max(), "score"].mean()
    if reason := _untold(gain, low, high, margin):
        return Curve(drawn, reason=reason)
    gain, low, high = np.clip((gain, low, high), bounds[0] - best, bounds[1] - best).tolist()
    return Curve(drawn, gain, low, high)


def _too_little(points: pd.DataFrame, chance: float | None) -> str:
    """Why these runs give no forecast, if they do not."""
    sizes, largest = points["labels"].nunique(), points.loc[points["labels"] == points["labels"].max(), "score"]
    if sizes < 3:
        return f"the score is known at {sizes} number{'s' * (sizes != 1)} of labels, and a curve takes three"
    if len(points) - points["fold"].nunique() < 4:
        return "there are too few runs to tell a curve from noise: two rounds would do, or five numbers of labels"
    error = largest.sem() if len(largest) > 1 else 0.0
    if chance is not None and largest.mean() - 2 * error <= chance:
        return "with all labels it does not score better yet than knowing nothing, so its curve has not begun"
    return ""


def _untold(gain: float, low: float, high: float, margin: float) -> str:
    """Why a forecast says nothing, if it does not."""
    if high < 0:
        return "the score falls with more labels: trainings may be too short for them, or labels of unlike quality"
    half = (high - low) / 2
    if half > WIDE * margin or half > max(gain, margin):
        return f"runs are too few or too unlike: with twice as many labels the score could move by {low:+.1f} to {high:+.1f}"
    return ""


def _gain(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray, margin: float) -> tuple[float, float, float]:
    """``(gain, low, high)`` at twice the largest number of labels: the mean over exponents, and all gains that some exponent
    makes likely enough (a profile of the sum of squares). One array has a value a run."""
    gains, spread, missed, freedom = _fits(labels, scores, folds)
    noise = max(missed.min() / freedom, (missed.min() + PRIOR * margin ** 2) / (freedom + PRIOR))
    more = missed - missed.min()
    left = scipy.special.stdtrit(freedom, 1 - LEVEL / 2) ** 2 * noise - more
    gains, half, more = (values[left >= 0] for values in (gains, np.sqrt(np.maximum(left, 0) / spread), more))
    weights = np.exp(-more / (2 * max(missed.min() / freedom, 1e-12)))
    return float(weights @ gains / weights.sum()), float((gains - half).min()), float((gains + half).max())


def _fits(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """For each exponent the gain, the spread of labels and the sum of squares missed, by least squares with a level a fold;
    and the degrees of freedom. The number of labels is on such a scale that its slope is the gain at twice the largest."""
    size, bent = (labels / labels.max())[:, None], EXPONENTS > 0
    place = np.repeat(np.log2(size), len(EXPONENTS), axis=1)
    place[:, bent] = (1 - size ** -EXPONENTS[bent]) / (1 - 2 ** -EXPONENTS[bent])
    member = (folds[:, None] == np.unique(folds)).astype(float)
    place, score = (values - member @ (member.T @ values / member.sum(0)[:, None]) for values in (place, scores[:, None]))
    spread = (place ** 2).sum(0)
    gains = (place * score).sum(0) / spread
    return gains, spread, ((score - gains * place) ** 2).sum(0), len(labels) - member.shape[1] - 2
