"""How sure answers are: probabilities that hold and intervals that cover, from rows that a model did not train on."""

import math

import numpy as np
import numpy.typing as npt

SHARE = 0.8  # of the labels that an interval covers
BOUNDS = (0.05, 20.0)  # of a temperature


def temperature(outputs: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """What outputs, shape (n, classes), are divided by so that their softmax is calibrated (Guo et al. 2017, arXiv
    1706.04599): the temperature with the least cross-entropy to the ``labels``, shape (n,).

    Each label counts a little less than whole, 1 / (n + 2) being shared by all classes as in Platt (1999): a few rows that
    are all answered rightly do not make a model certain. Raises ``ValueError`` without rows.

    >>> rng = np.random.default_rng(0)
    >>> outputs = rng.normal(size=(4000, 3))
    >>> labels = (outputs + rng.gumbel(size=(4000, 3))).argmax(1)
    >>> round(temperature(outputs, labels)), round(temperature(3 * outputs, labels))
    (1, 3)
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    outputs, labels = np.asarray(outputs, dtype=float), np.asarray(labels, dtype=int)
    if not len(labels):
        raise ValueError("a temperature is found on rows that were held out, and there are none: give at least one")
    slack = 1 / (len(labels) + 2)

    def loss(log_temperature: float) -> float:
        logs = log_softmax(outputs / math.exp(log_temperature), axis=1)
        return -((1 - slack) * logs[np.arange(len(labels)), labels].mean() + slack * logs.mean())

    low, high = map(math.log, BOUNDS)
    return math.exp(float(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def half_width(residuals: npt.ArrayLike, share: float = SHARE) -> float | None:
    """Half the width of an interval around a predicted number that covers ``share`` of the labels, in their unit.

    ``residuals``, shape (n,), are labels minus predictions of rows that were held out. It is their quantile by size, with
    the correction for a finite number of them (split conformal prediction; Lei et al. 2018, arXiv 1604.04173): new rows
    like these are covered at least that often in the mean. ``None`` where there are too few residuals for that.

    >>> half_width([-1, 2, -3, 4]), half_width([1, 2, 3])
    (4.0, None)
    """
    sizes = np.sort(np.abs(np.asarray(residuals, dtype=float)))
    rank = math.ceil(round((len(sizes) + 1) * share, 9))
    return float(sizes[rank - 1]) if rank <= len(sizes) else None


def probabilities(outputs: np.ndarray, divided_by: float = 1.0) -> np.ndarray:
    """The softmax of outputs, shape (n, classes), at a temperature."""
    from scipy.special import softmax

    return softmax(np.asarray(outputs, dtype=float) / divided_by, axis=1)
