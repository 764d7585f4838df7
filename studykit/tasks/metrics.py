"""Metrics as values: a score from labels and answers, its range, what knowing nothing scores, and resampling its examples.

Scores come from scikit-learn and SciPy. Resampled ones come from sums where a metric is made of sums, which is quick, and
from the same library, example by example, where it is not.
"""

import importlib
import math
import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

GENERIC = 400  # resamples of a metric that has no quick way
Reads = Literal["classes", "probabilities", "values"]


class Metric(BaseModel):
    """A metric and what is known of it.

    ``reads`` says what its answers are: ``classes``, shape (n,); ``probabilities``, shape (n, classes); or ``values``, shape
    (n,). ``range`` is that of the score. ``options`` go to the library's function.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    reads: Reads
    range: tuple[float, float]
    better: Literal["more", "less"] = "more"
    of: str = ""  # the class that a score is about, by name
    positive: int = 1  # and by number
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def factor(self) -> float:
        """What a score is multiplied with for people: 100 for what lies within -1 and 1, which makes points of it."""
        return 100.0 if -1 <= self.range[0] and self.range[1] <= 1 else 1.0

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.better == "more" else -1

    @property
    def axis(self) -> str:
        return f"{self.title} × 100" if self.factor == 100 else self.title

    @property
    def correlation(self) -> bool:
        """Whether it is a correlation of numbers: one answer for all, which has none, counts as 0."""
        return self.name in ("pearson", "spearmanr")

    def score(self, labels: npt.ArrayLike, answers: npt.ArrayLike) -> float:
        """The score of these answers. Where it is not defined, as a correlation with a constant, it is NaN.

        >>> known("accuracy").score([1, 0, 1, 0], [1, 0, 1, 1])
        0.75
        """
        labels, answers = np.asarray(labels), np.asarray(answers)
        if self.correlation and (np.ptp(answers) == 0 or np.ptp(labels) == 0):
            return math.nan
        with warnings.catch_warnings():  # what is odd about a run is told in its record
            warnings.simplefilter("ignore")
            return float(_library(self)(labels, answers))

    def chance(self, labels: npt.ArrayLike) -> float:
        """The score of the best constant answer to these labels: what knowing nothing gets. A correlation's is 0."""
        labels = np.asarray(labels)
        if self.correlation:
            return 0.0
        if self.reads == "values":
            constants = [np.full(len(labels), value) for value in (labels.mean(), np.median(labels))]
        elif self.reads == "classes":
            constants = [np.full(len(labels), value) for value in np.unique(labels)]
        else:
            shares = np.bincount(labels.astype(int), minlength=2) / len(labels)
            constants = [np.tile(shares, (len(labels), 1))]
        scores = [self.sign * self.score(labels, answers) for answers in constants]
        return self.sign * float(np.nanmax(scores)) if not np.isnan(scores).all() else 0.0

    def resampled(self, labels: npt.ArrayLike, answers: npt.ArrayLike, weights: npt.ArrayLike) -> np.ndarray:
        """The score of each run on resampled examples, shape (resamples, runs).

        ``labels`` has shape (n,), ``answers`` (runs, n), or (runs, n, classes) for probabilities; ``weights``, shape
        (resamples, n), counts how often a resample holds an example. Where a metric is not defined it counts as 0. A metric
        without a quick way uses the first ``GENERIC`` resamples only.
        """
        labels, answers, weights = np.asarray(labels), np.asarray(answers), np.asarray(weights, dtype=float)
        if self.name in FROM_COUNTS:
            return _by_counts(self, labels.astype(int), answers.astype(int), weights)
        if quick := FROM_SUMS.get(self.name):
            return quick(labels.astype(float), answers.astype(float), weights)
        rows = [np.repeat(np.arange(len(labels)), counts.astype(int)) for counts in weights[:GENERIC]]
        return np.nan_to_num([[self.score(labels[chosen], run[chosen]) for run in answers] for chosen in rows])

    def p_shuffled(self, labels: npt.ArrayLike, answers: npt.ArrayLike, shuffles: int = 999) -> float:
        """p value of the test that these answers are no better than themselves in another order over the rows."""
        labels, answers = np.asarray(labels), np.asarray(answers)
        own = self.sign * np.nan_to_num(self.score(labels, answers))
        rng = np.random.default_rng(0)
        orders = rng.permuted(np.tile(np.arange(len(labels)), (shuffles, 1)), axis=1)
        if self.name in FROM_COUNTS or self.name in FROM_SUMS:
            others = self.resampled(labels, answers[orders], np.ones((1, len(labels))))[0]
        else:
            others = np.nan_to_num([self.score(labels, answers[order]) for order in orders[:199]])
        return float((1 + np.sum(self.sign * others >= own - 1e-9)) / (1 + len(others)))


def _f1(labels, answers, *, positive, options):
    from sklearn.metrics import f1_score

    return f1_score(labels == positive, answers == positive, zero_division=0)


def _sklearn(name, **fixed):
    def compute(labels, answers, *, positive, options):
        import sklearn.metrics

        return getattr(sklearn.metrics, name)(labels, answers, **fixed, **options)

    return compute


def _scipy(name):
    def compute(labels, answers, *, positive, options):
        import scipy.stats

        return getattr(scipy.stats, name)(answers, labels).statistic

    return compute


def _ranking(name):
    """Of the positive class where there are two, else the mean over classes that these labels have, one against the rest."""
    def compute(labels, answers, *, positive, options):
        import sklearn.metrics

        score = getattr(sklearn.metrics, name)
        if answers.shape[1] == 2:
            return score(labels == positive, answers[:, positive]) if len(np.unique(labels)) > 1 else math.nan
        kinds = [k for k in np.unique(labels) if (labels != k).any()]
        return np.mean([score(labels == k, answers[:, int(k)]) for k in kinds]) if kinds else math.nan

    return compute


# name -> (title, what it reads, range, what is better, how the library computes it)
KNOWN: dict[str, tuple] = {
    "accuracy": ("accuracy", "classes", (0, 1), "more", _sklearn("accuracy_score")),
    "balanced_accuracy": ("balanced accuracy", "classes", (0, 1), "more", _sklearn("balanced_accuracy_score")),
    "f1": ("F1", "classes", (0, 1), "more", _f1),
    "macro_f1": ("macro F1", "classes", (0, 1), "more", _sklearn("f1_score", average="macro", zero_division=0)),
    "matthews_correlation": ("Matthews correlation", "classes", (-1, 1), "more", _sklearn("matthews_corrcoef")),
    "roc_auc": ("area under the ROC curve", "probabilities", (0, 1), "more", _ranking("roc_auc_score")),
    "average_precision": ("average precision", "probabilities", (0, 1), "more", _ranking("average_precision_score")),
    "pearson": ("Pearson correlation", "values", (-1, 1), "more", _scipy("pearsonr")),
    "spearmanr": ("Spearman correlation", "values", (-1, 1), "more", _scipy("spearmanr")),
    "r2": ("R²", "values", (-math.inf, 1), "more", _sklearn("r2_score")),
    "mean_absolute_error": ("mean absolute error", "values", (0, math.inf), "less", _sklearn("mean_absolute_error")),
}


def _library(metric: Metric):
    options = dict(metric.options)
    if metric.name in KNOWN:
        return lambda labels, answers: KNOWN[metric.name][4](labels, answers, positive=metric.positive, options=options)
    module, _, function = metric.name.rpartition(".")
    if module == "evaluate":
        import evaluate

        return lambda labels, answers: next(iter(evaluate.load(function).compute(
            predictions=answers, references=labels, **options).values()))
    compute = getattr(importlib.import_module(module), function)
    if module == "scipy.stats":
        return lambda labels, answers: getattr(compute(answers, labels, **options), "statistic", math.nan)
    return lambda labels, answers: compute(labels, answers, **options)


def known(name: str, *, title: str = "", of: str = "", **options: Any) -> Metric:
    """The metric of that name in ``KNOWN``, or any function of ``sklearn.metrics``, ``scipy.stats`` or ``evaluate`` by its
    full name; then ``range`` must be among the options, and ``reads`` and ``better`` may be.

    >>> known("sklearn.metrics.fbeta_score", beta=2, average="macro", range=[0, 1]).score([0, 1, 1], [0, 1, 0]) < 1
    True
    """
    if name in KNOWN:
        kind, reads, bounds, better, _ = KNOWN[name]
        if unknown := options.keys() - ({"range"} if name in ("r2", "mean_absolute_error") else set()):
            raise ValueError(f"{name} has no option {', '.join(sorted(unknown))}: it takes "
                             + ("of, the name of a class" if name == "f1" else "none"))
        if of and reads == "values":
            raise ValueError(f"{name} is about a number, so it is of no class: leave out of")
        kind = kind if not of else f"{kind} of {of}"
        return Metric(name=name, title=title or kind, reads=reads, range=options.get("range", bounds), better=better, of=of)
    module, _, function = name.rpartition(".")
    if module not in ("sklearn.metrics", "scipy.stats", "evaluate"):
        raise ValueError(f"unknown metric {name!r:.80}: choose from {', '.join(KNOWN)}, or name a function of "
                         "sklearn.metrics, scipy.stats or evaluate, such as sklearn.metrics.fbeta_score")
    if module != "evaluate" and not callable(getattr(importlib.import_module(module), function, None)):
        raise ValueError(f"{module} has no {function}: see its documentation for the names that it has")
    if "range" not in options:
        raise ValueError(f"metric {name} needs its range, such as range: [0, 1]: intervals must stay within it")
    bounds, better = options.pop("range"), options.pop("better", "more")
    reads = options.pop("reads", "values" if module == "scipy.stats" else "classes")
    return Metric(name=name, title=title or function.replace("_", " "), reads=reads, range=bounds, better=better, of=of,
                  options=tuple(sorted((key, tuple(value) if isinstance(value, list) else value)
                                       for key, value in options.items())))


def written(value: Any) -> Metric:
    """A metric as somebody writes it in YAML: a name, or a mapping of one name to its options.

    >>> written({"f1": {"of": "urgent"}}).title
    'F1 of urgent'
    """
    if isinstance(value, Metric):
        return value
    if isinstance(value, str):
        return known(value)
    if isinstance(value, dict) and "reads" in value and "name" in value:  # as a record holds it
        return Metric(**value)
    if isinstance(value, dict) and len(value) == 1 and all(isinstance(options, dict) for options in value.values()):
        ((name, options),) = value.items()
        return known(name, **options)
    raise ValueError(f"a metric is a name, or one name with a mapping of options, got {value!r:.80}")


def _ratio(above: np.ndarray, below: np.ndarray, least: float = 0.0) -> np.ndarray:
    return np.where(below > least, above / np.where(below > least, below, 1), 0.0)


def _by_counts(metric: Metric, labels: np.ndarray, answers: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """From how often each class is right, true and said: shapes (resamples, runs, classes)."""
    classes = np.arange(1 + max(labels.max(), answers.max()))
    if metric.name == "f1":
        classes = np.array([metric.positive])
    is_true = (labels[:, None] == classes).astype(float)
    true, total, scores = (weights @ is_true)[:, None], weights.sum(1)[:, None], []
    for run in answers:  # one after another: of many classes a table of all would be large
        is_said = (run[:, None] == classes).astype(float)
        sums = weights @ np.concatenate([is_true * is_said, is_said, (run == labels)[:, None]], axis=1)
        hits, said = sums[:, None, : len(classes)], sums[:, None, len(classes): -1]
        scores.append(FROM_COUNTS[metric.name](hits, true, said, total, sums[:, -1:]))
    return np.concatenate(scores, axis=1)


def _balanced(hits, true, said, total, right):
    present = np.broadcast_to(true > 0, hits.shape)
    return _ratio(hits, np.broadcast_to(true, hits.shape)).sum(2) / present.sum(2)


def _macro_f1(hits, true, said, total, right):
    return _ratio(2 * hits, true + said).sum(2) / (true + said > 0).sum(2)


def _matthews(hits, true, said, total, right):
    spread = (total ** 2 - (true ** 2).sum(2)) * (total ** 2 - (said ** 2).sum(2))
    return _ratio(right * total - (true * said).sum(2), np.sqrt(np.maximum(spread, 0)))


FROM_COUNTS = {
    "accuracy": lambda hits, true, said, total, right: right / total,
    "balanced_accuracy": _balanced,
    "f1": lambda hits, true, said, total, right: _ratio(2 * hits, true + said)[:, :, 0],
    "macro_f1": _macro_f1,
    "matthews_correlation": _matthews,
}


def _pearson(labels, answers, weights):
    answers = answers - answers.mean(1, keepdims=True)  # or nearly equal answers would be lost in rounding
    spread = answers.std(1, keepdims=True)
    answers, labels = answers / np.where(spread > 0, spread, 1), labels - labels.mean()
    runs = len(answers)
    columns = np.concatenate([np.ones((1, len(labels))), labels[None], labels[None] ** 2, answers, answers * labels,
                              answers ** 2])
    sums = weights @ columns.T / weights.sum(1, keepdims=True)  # one pass over the weights, which are large
    y, yy = sums[:, 1:2], sums[:, 2:3]
    x, xy, xx = np.split(sums[:, 3:], [runs, 2 * runs], axis=1)
    return _ratio(xy - x * y, np.sqrt(np.maximum((xx - x ** 2) * (yy - y ** 2), 0)), least=1e-9)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The rank of each value in each resample, ties at their middle: shape (resamples, n)."""
    _, place = np.unique(values, return_inverse=True)
    held = np.zeros((len(weights), place.max() + 1))
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(held.shape[1]))
    held[:] = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(held, axis=1) - held / 2 + 0.5)[:, place]


def _spearman(labels, answers, weights):
    y, total = _ranks(labels, weights), weights.sum(1)
    y = y - (weights * y).sum(1, keepdims=True) / total[:, None]
    spread, scores = (weights * y ** 2).sum(1), []
    for run in answers:
        x = _ranks(run, weights)
        x -= (weights * x).sum(1, keepdims=True) / total[:, None]
        scores.append(_ratio((weights * x * y).sum(1), np.sqrt((weights * x ** 2).sum(1) * spread), least=1e-9))
    return np.stack(scores, axis=1)


def _r2(labels, answers, weights):
    total = weights.sum(1, keepdims=True)
    mean = weights @ labels[:, None] / total
    spread = weights @ labels[:, None] ** 2 / total - mean ** 2
    missed = weights @ ((answers - labels) ** 2).T / total
    return np.where(spread > 0, 1 - missed / np.where(spread > 0, spread, 1), 0.0)


FROM_SUMS = {
    "pearson": _pearson,
    "spearmanr": _spearman,
    "r2": _r2,
    "mean_absolute_error": lambda labels, answers, weights: weights @ np.abs(answers - labels).T
                                                            / weights.sum(1, keepdims=True),
}
