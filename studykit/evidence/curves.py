"""A learning curve over labels, and what twice as many would give."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.optimize
import scipy.special

LEVEL = 0.05
PRIOR = 2  # degrees of freedom that a noise of one margin counts for, or two lucky runs would seem to have none
EXPONENTS = np.linspace(0, 2, 21)  # of the number of labels; 0 is a straight line over its logarithm
WIDE = 5.0  # an interval of the gain that is wider to a side, in margins, says nothing


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

    The score is a level for each fold, plus what the number of labels does, a power -c of it, plus noise. Few sizes do not
    tell c, so each of ``EXPONENTS`` is fitted and weighs as likely as it makes the scores; the gain is a mixture of
    Student's t. Its interval holds what is not known of the fit, of c and of the mean through the noise of the runs. It is
    about the mean of runs: one run more has its own noise besides. ``chance`` is what knowing nothing scores.

    There is a ``reason`` instead where there are too few sizes or runs, where the score has not left chance or falls, and
    where the interval reaches further to a side than ``WIDE`` margins, or than both the margin and the gain itself.

    >>> runs = pd.DataFrame({"labels": [100, 200, 400, 800], "score": [60.0, 63.0, 66.0, 69.0], "fold": 0})
    >>> round(forecast(runs).gain, 6)
    3.0
    """
    points = points.dropna(subset="score")
    drawn = tuple((int(size), float(score)) for size, score in zip(points["labels"], points["score"], strict=True))
    if reason := _too_little(points, chance):
        return Curve(drawn, reason=reason)
    gain, low, high = _gain(points, margin)
    best = points.loc[points["labels"] == points["labels"].max(), "score"].mean()
    if reason := _untold(gain, low, high, margin):
        return Curve(drawn, reason=reason)
    return Curve(drawn, *(float(np.clip(value, bounds[0] - best, bounds[1] - best)) for value in (gain, low, high)))


def _too_little(points: pd.DataFrame, chance: float | None) -> str:
    """Why these runs give no forecast, if they do not."""
    sizes, largest = points["labels"].nunique(), points.loc[points["labels"] == points["labels"].max(), "score"]
    if sizes < 3:
        return f"the score is known at {sizes} number{'s' * (sizes != 1)} of labels, and a curve takes three"
    if len(points) - points["fold"].nunique() < 3:
        return "there are too few runs to tell a curve from noise: two rounds would do, or four numbers of labels"
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
        return f"the runs are too few or too unlike: twice as many labels could give anything from {low:+.1f} to {high:+.1f} points"
    return ""


def _gain(points: pd.DataFrame, margin: float) -> tuple[float, float, float]:
    """``(gain, low, high)`` at twice the largest number of labels, by the mixture over exponents."""
    gains, spread, missed, freedom = _fits(points)
    errors = np.sqrt((missed + PRIOR * margin ** 2) / (freedom + PRIOR) / spread) + 1e-12
    least = 1e-12 * (1 + points["score"].var())  # a fit without any error
    weights = (np.maximum(missed, least) / max(missed.min(), least)) ** (-freedom / 2)
    weights /= weights.sum()

    def end(share: float) -> float:
        ends = gains + scipy.special.stdtrit(freedom, share) * errors  # of each exponent's own interval
        below = lambda place: weights @ scipy.special.stdtr(freedom, (place - gains) / errors) - share  # noqa: E731
        return float(scipy.optimize.brentq(below, ends.min() - 1e-6, ends.max() + 1e-6))

    return float(weights @ gains), end(LEVEL / 2), end(1 - LEVEL / 2)


def _fits(points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """For each exponent the gain, its standard error and the sum of squares missed, by least squares with a level a fold;
    and the degrees of freedom. The number of labels is on such a scale that its slope is the gain at twice the largest."""
    size = (points["labels"] / points["labels"].max()).to_numpy(dtype=float)[:, None]
    powers = EXPONENTS[EXPONENTS > 0]
    place = np.concatenate([np.log2(size), (1 - size ** -powers) / (1 - 2 ** -powers)], axis=1)
    folds = pd.get_dummies(points["fold"]).to_numpy(dtype=float)
    place, score = (values - folds @ (folds.T @ values / folds.sum(0)[:, None])
                    for values in (place, points["score"].to_numpy(dtype=float)[:, None]))
    spread, freedom = (place ** 2).sum(0), len(points) - folds.shape[1] - 1
    gains = (place * score).sum(0) / spread
    missed = ((score - gains * place) ** 2).sum(0)
    return gains, spread, missed, freedom
