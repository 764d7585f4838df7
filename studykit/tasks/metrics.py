"""Metrics as values: a score from labels and answers, its range, what knowing nothing scores, and resampling its examples.

Scores come from scikit-learn and SciPy. Resampled ones come from ``resampling`` where it has a quick way, and from the same
library, resample by resample, where it has not.
"""

import importlib
import math
import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from studykit.tasks import resampling

GENERIC = 400  # resamples of a metric that has no quick way
SHUFFLES = 199  # of such a metric
Reads = Literal["classes", "probabilities", "values"]


class Metric(BaseModel):
    """A metric and what is known of it.

    ``reads`` says what its answers are: ``classes``, shape (n,); ``probabilities``, shape (n, classes); or ``values``, shape
    (n,). ``range`` is that of the score. ``of`` names the class that it is about, where that is one against the rest, and
    ``positive`` is its number. ``options`` go to the library's function.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    reads: Reads
    range: tuple[float, float]
    better: Literal["more", "less"] = "more"
    of: str = ""
    positive: int = 1
    options: tuple[tuple[str, Any], ...] = ()

    @field_validator("options", mode="before")
    @classmethod
    def _frozen(cls, given: Any) -> Any:
        return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in given)

    @field_validator("range")
    @classmethod
    def _rising(cls, given: tuple[float, float]) -> tuple[float, float]:
        if not given[0] < given[1]:
            raise ValueError("a range goes from the lowest score to the highest")
        return given

    @property
    def factor(self) -> float:
        """What a score is multiplied with for people: 100 for what lies within -1 and 1, which makes points of it."""
        return 100.0 if self.range[0] >= -1 and self.range[1] <= 1 else 1.0

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.better == "more" else -1

    @property
    def axis(self) -> str:
        """What an axis of it is called."""
        return f"{self.title} × 100" if self.factor == 100 else self.title

    @property
    def correlation(self) -> bool:
        """Whether it is a correlation of numbers: one answer for all, which has none, counts as 0."""
        return self.name in ("pearson", "spearmanr") or (self.name.startswith("scipy.stats.") and self.reads == "values"
                                                         and self.range == (-1, 1))

    def score(self, labels: npt.ArrayLike, answers: npt.ArrayLike) -> float:
        """The score of these answers. Where it is not defined, as a correlation with a constant, it is NaN. Raises
        ``ValueError`` where the library has none to give.

        >>> known("accuracy").score([1, 0, 1, 0], [1, 0, 1, 1])
        0.75
        """
        labels, answers = np.asarray(labels), np.asarray(answers)
        if self.correlation and (np.ptp(answers) == 0 or np.ptp(labels) == 0):
            return math.nan
        with warnings.catch_warnings():  # what is odd about a run is told in its record
            warnings.simplefilter("ignore")
            try:
                return float(_library(self, labels, answers))
            except (TypeError, ValueError) as error:
                raise ValueError(f"metric {self.name} gives no number here ({' '.join(str(error).split())}): see its "
                                 "documentation, and what the task's file says of it") from error

    def check(self, classes: int) -> None:
        """Raise ``ValueError``, in one sentence, where it has no score for a task of so many classes, 0 for a number."""
        if self.name in KNOWN or self.name.startswith("evaluate."):  # which wants the hub
            return
        labels = np.arange(3 * max(classes, 2)) % max(classes, 2)
        answers = np.roll(labels, 1)
        if self.reads == "probabilities":
            self.score(labels, np.eye(max(classes, 2))[answers] * 0.5 + 0.5 / max(classes, 2))
        else:
            self.score(labels, answers if classes else answers + 0.5 * np.arange(len(labels)))

    def chance(self, labels: npt.ArrayLike) -> float:
        """The score of the best constant answer to these labels: what knowing nothing gets. A correlation's is 0.

        Constants that are tried: every class; every class's share as its probability; and for a number the mean, the median,
        and, of a metric that is not in ``KNOWN``, a hundred more between the lowest label and the highest.
        """
        labels = np.asarray(labels)
        if self.correlation:
            return 0.0
        if self.reads == "probabilities":
            shares = np.bincount(labels.astype(int), minlength=2) / len(labels)
            constants = [np.tile(shares, (len(labels), 1))]
        elif self.reads == "classes":
            constants = [np.full(len(labels), value) for value in np.unique(labels)]
        else:
            more = [] if self.name in KNOWN else [*np.quantile(labels, np.linspace(0, 1, 51)),
                                                  *np.linspace(labels.min(), labels.max(), 51)]
            constants = [np.full(len(labels), value) for value in (labels.mean(), np.median(labels), *more)]
        scores = [self.sign * self.score(labels, answers) for answers in constants]
        return self.sign * float(np.nanmax(scores)) if not np.isnan(scores).all() else 0.0

    def resampled(self, labels: npt.ArrayLike, answers: npt.ArrayLike, weights: npt.ArrayLike) -> np.ndarray:
        """The score of each run on resampled examples, shape (resamples, runs).

        ``labels`` has shape (n,), ``answers`` (runs, n), or (runs, n, classes) for probabilities; ``weights``, shape
        (resamples, n), counts how often a resample holds an example. Where a metric is not defined or its library refuses,
        as on a resample of one class, it counts as ``chance``. A metric without a quick way uses the first ``GENERIC``
        resamples only.
        """
        labels, answers, weights = np.asarray(labels), np.asarray(answers), np.asarray(weights)
        if self.name in resampling.QUICK:
            one = self.positive if self.name == "f1" or self.of or answers.shape[2:] == (2,) else None
            undefined = self.chance(labels) if self.reads == "probabilities" else 0.0
            return resampling.scores(self.name, labels, answers, weights, one, undefined)
        rows = [np.repeat(np.arange(len(labels)), counts.astype(int)) for counts in weights[:GENERIC]]
        undefined = self.chance(labels)
        self.score(labels, answers[0])  # raises what is wrong with all, not with a resample
        return np.array([[self._or(undefined, labels[chosen], run[chosen]) for run in answers] for chosen in rows])

    def _or(self, undefined: float, labels: np.ndarray, answers: np.ndarray) -> float:
        """The score, or what stands for it where there is none."""
        try:
            score = self.score(labels, answers)
        except ValueError:
            return undefined
        return undefined if math.isnan(score) else score

    def p_shuffled(self, labels: npt.ArrayLike, answers: npt.ArrayLike, shuffles: int = 999) -> float:
        """p value of the test that these answers are no better than themselves in another order over the rows. A metric
        without a quick way is shuffled ``SHUFFLES`` times at most."""
        labels, answers, quick = np.asarray(labels), np.asarray(answers), self
        if self.name == "spearmanr":  # Pearson's of the ranks, which a shuffle leaves as they are
            quick = known("pearson")
            labels, answers = (resampling.middle_ranks(values) for values in (labels, answers))
        shuffles = shuffles if quick.name in resampling.QUICK else min(shuffles, SHUFFLES)
        whole, rng, others = np.ones((1, len(labels))), np.random.default_rng(0), []
        for block in resampling.blocks(shuffles, answers.size):
            orders = np.tile(np.arange(len(labels)), (len(range(shuffles)[block]), 1))
            others.append(quick.resampled(labels, answers[rng.permuted(orders, axis=1)], whole)[0])
        own = quick.resampled(labels, answers[None], whole)[0, 0]
        scores = np.concatenate(others)
        rounding = 1e-9 * max(abs(own), np.abs(scores).max(initial=0))
        better = np.sum(self.sign * scores >= self.sign * own - rounding)
        return float((1 + better) / (1 + shuffles))


def _library(metric: Metric, labels: np.ndarray, answers: np.ndarray) -> Any:
    """The score as its library gives it."""
    options = dict(metric.options)
    if metric.name in KNOWN:
        return KNOWN[metric.name][4](labels, answers, metric)
    module, _, function = metric.name.rpartition(".")
    if metric.reads == "probabilities" and (metric.of or answers.shape[1] == 2):  # of two classes it wants one column
        labels, answers = (labels == metric.positive).astype(int), answers[:, metric.positive]
    elif metric.of:
        labels, answers = (labels == metric.positive).astype(int), (answers == metric.positive).astype(int)
    if module == "evaluate":
        import evaluate

        return next(iter(evaluate.load(function).compute(predictions=answers, references=labels, **options).values()))
    compute = getattr(importlib.import_module(module), function)
    if module == "scipy.stats":
        result = compute(answers, labels, **options)
        return getattr(result, "statistic", result)
    return compute(labels, answers, **options)


def _sklearn(name: str, **fixed):
    def compute(labels, answers, metric):
        import sklearn.metrics

        return getattr(sklearn.metrics, name)(labels, answers, **fixed)

    return compute


def _f1(labels, answers, metric):
    return _sklearn("f1_score", zero_division=0)(labels == metric.positive, answers == metric.positive, metric)


def _scipy(name: str):
    def compute(labels, answers, metric):
        import scipy.stats

        return getattr(scipy.stats, name)(answers, labels).statistic

    return compute


def _ranking(name: str):
    """Of one class against the rest: the one that it is of, the positive one where there are two, else the mean over those
    classes that these labels have."""
    def compute(labels, answers, metric):
        import sklearn.metrics

        score, there = getattr(sklearn.metrics, name), np.unique(labels)
        kinds = [metric.positive] if metric.of or answers.shape[1] == 2 else there
        if len(there) < 2 or not set(kinds) <= set(there):
            return math.nan
        return np.mean([score(labels == kind, answers[:, int(kind)]) for kind in kinds])

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
OF_A_CLASS = ("f1", "roc_auc", "average_precision")  # that may be of a class by name


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
                             + ("of, the name of a class" if name in OF_A_CLASS else "none"))
        if of and name not in OF_A_CLASS:
            raise ValueError(f"{name} is about {'a number' if reads == 'values' else 'all classes'}, so it is of no class: "
                             f"leave out of, or choose {', '.join(OF_A_CLASS)}")
        return _made(name=name, title=title or (f"{kind} of {of}" if of else kind), reads=reads,
                     range=options.get("range", bounds), better=better, of=of)
    module, _, function = name.rpartition(".")
    if module not in ("sklearn.metrics", "scipy.stats", "evaluate"):
        raise ValueError(f"unknown metric {name!r:.80}: choose from {', '.join(KNOWN)}, or name a function of "
                         "sklearn.metrics, scipy.stats or evaluate, such as sklearn.metrics.fbeta_score")
    if module != "evaluate" and not callable(getattr(importlib.import_module(module), function, None)):
        raise ValueError(f"{module} has no {function}: see its documentation for the names that it has")
    if "range" not in options:
        raise ValueError(f"metric {name} needs its range, such as range: [0, 1]: intervals must stay within it")
    given = {key: options.pop(key) for key in ("range", "better", "reads") if key in options}
    title = title or function.replace("_", " ") + (f" of {of}" if of else "")
    given = {"reads": "values" if module == "scipy.stats" else "classes", **given}
    return _made(name=name, title=title, of=of, options=sorted(options.items()), **given)


def _made(**settings: Any) -> Metric:
    """A metric from its settings; a mistake in them is one sentence."""
    try:
        return Metric(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        wrong = str(first["msg"]).removeprefix("Value error, ")
        raise ValueError(f"metric {settings['name']}: {first['loc'][0]}: {wrong}, got {first['input']!r:.80}") from None


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
        return _made(**value)
    if isinstance(value, dict) and len(value) == 1 and all(isinstance(options, dict) for options in value.values()):
        ((name, options),) = value.items()
        return known(name, **options)
    raise ValueError(f"a metric is a name, or one name with a mapping of options, got {value!r:.80}")
