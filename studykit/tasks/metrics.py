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
from studykit.tasks.packing import packed, unpacked
from studykit.tasks.scoring import KNOWN, OF_A_CLASS, library

GENERIC = 400  # resamples of a metric that has no quick way
SHUFFLES = 199  # of such a metric
Reads = Literal["classes", "probabilities", "values"]
LESS = ("_error", "_loss", "_deviance", "_distance")  # how names of functions end of which less is better
LESS_TOO = ("evaluate.mae", "evaluate.mse", "evaluate.mape", "evaluate.smape", "evaluate.mase", "evaluate.wer",
            "evaluate.cer", "evaluate.brier_score")


class Metric(BaseModel):
    """A metric and what is known of it.

    ``name`` is its column: that of its ``function``, and where another metric of the task has that too, what sets it apart.
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
        return tuple((str(name), _plain(str(name), value)) for name, value in given)

    @field_validator("range")
    @classmethod
    def _rising(cls, given: tuple[float, float]) -> tuple[float, float]:
        if not given[0] < given[1]:
            raise ValueError("a range goes from the lowest score to the highest")
        return given

    @property
    def function(self) -> str:
        """Its name in ``KNOWN``, or the full one of a library's function."""
        return self.name.partition(" ")[0]

    def apart(self) -> "Metric":
        """The metric with a name, and a title, that say of which class it is and with which options.

        >>> known("f1", of="urgent").apart().name
        'f1 of urgent'
        """
        options = ", ".join(f"{name}={value}" for name, value in self.options)
        about = (f" of {self.of}" if self.of else "") + (f" ({options})" if options else "")
        title = f"{self.title} ({options})" if options and not self.title.endswith(f"({options})") else self.title
        return self.model_copy(update={"name": self.function + about, "title": title})

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
        return self.function in ("pearson", "spearmanr") or (
            self.function.startswith("scipy.stats.") and self.reads == "values" and self.range == (-1, 1))

    def score(self, labels: npt.ArrayLike, answers: npt.ArrayLike) -> float:
        """The score of these answers. Where it is not defined, as a correlation with a constant, it is NaN. Raises
        ``ValueError`` where the library has none to give, or one that lies outside the range.

        >>> known("accuracy").score([1, 0, 1, 0], [1, 0, 1, 1])
        0.75
        """
        value, (low, high) = self._number(labels, answers), self.range
        rounding = 1e-9 * max(1.0, abs(value))
        if value < low - rounding or value > high + rounding or (math.isinf(value) and value not in (low, high)):
            raise ValueError(f"metric {self.name} is {value:g} here, outside its range [{low:g}, {high:g}]: state a range "
                             "that holds all its scores in the task's file")
        return value

    def _number(self, labels: npt.ArrayLike, answers: npt.ArrayLike) -> float:
        """The score, wherever it lies."""
        labels, answers = np.asarray(labels), np.asarray(answers)
        if self.correlation and (np.ptp(answers) == 0 or np.ptp(labels) == 0):
            return math.nan
        with warnings.catch_warnings():  # what is odd about a run is told in its record
            warnings.simplefilter("ignore")
            try:
                return float(library(self, labels, answers))
            except (TypeError, ValueError, ArithmeticError, LookupError) as error:
                raise ValueError(f"metric {self.name} gives no number here ({' '.join(str(error).split())}): see its "
                                 "documentation, and what the task's file says of it") from error

    def check(self, classes: int) -> None:
        """Raise ``ValueError``, in one sentence, where it has no score for a task of so many classes, 0 for a number."""
        if not self._told():
            self._number(*self._example(classes))

    def check_awkward(self, classes: int) -> None:
        """Raise ``ValueError``, in one sentence, where it has a score for such a task, but none for answers that a model may
        give: the same for all examples, certain ones, and for a number those below zero."""
        if self._told() or not self._takes(*self._example(classes)):
            return
        labels, answers = self._example(classes)
        awkward = {"one answer for all examples": np.broadcast_to(answers[0], answers.shape)}
        if self.reads == "probabilities":
            awkward |= {"certain answers": unpacked(packed(np.eye(answers.shape[1])[answers.argmax(1)]))}
        elif self.reads == "values":
            awkward |= {"answers below zero": answers - 2}
        for kind, given in awkward.items():
            if not self._takes(labels, given):
                raise ValueError(f"metric {self.name} has no score for {kind}, which a model may give: choose another")

    def _told(self) -> bool:
        """Whether it need not be tried: it is known, or wants the hub."""
        return self.function in KNOWN or self.function.startswith("evaluate.")

    def _example(self, classes: int) -> tuple[np.ndarray, np.ndarray]:
        """``(labels, answers)`` of such a task, as records keep them."""
        labels = np.arange(3 * max(classes, 2)) % max(classes, 2)
        answers = np.roll(labels, 1)
        if self.reads == "probabilities":
            return labels, unpacked(packed(np.eye(max(classes, 2))[answers] * 0.5 + 0.5 / max(classes, 2)))
        return labels, answers if classes else answers + 0.5 * np.arange(len(labels))

    def _takes(self, labels: np.ndarray, answers: np.ndarray) -> bool:
        """Whether the library has a score for these, or says that there is none."""
        try:
            self._number(labels, answers)
        except ValueError:
            return False
        return True

    def chance(self, labels: npt.ArrayLike) -> float:
        """The score of the best constant answer to these labels: what knowing nothing gets. A correlation's is 0; NaN where
        the library has a score for none.

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
            more = [] if self.function in KNOWN else [*np.quantile(labels, np.linspace(0, 1, 51)),
                                                      *np.linspace(labels.min(), labels.max(), 51)]
            constants = [np.full(len(labels), value) for value in (labels.mean(), np.median(labels), *more)]
        scores = [self.sign * self._number(labels, answers) for answers in constants if self._takes(labels, answers)]
        if not scores:
            return math.nan
        return self.sign * float(np.nanmax(scores)) if not np.isnan(scores).all() else 0.0

    def worth(self, labels: npt.ArrayLike, answers: npt.ArrayLike) -> float:
        """The score, more is better; less than any where there is none."""
        return self.sign * self._or(-self.sign * math.inf, np.asarray(labels), np.asarray(answers))

    def resampled(self, labels: npt.ArrayLike, answers: npt.ArrayLike, weights: npt.ArrayLike) -> np.ndarray:
        """The score of each run on resampled examples, shape (resamples, runs).

        ``labels`` has shape (n,), ``answers`` (runs, n), or (runs, n, classes) for probabilities; ``weights``, shape
        (resamples, n), counts how often a resample holds an example. Where a metric is not defined or its library refuses,
        as on a resample of one class, it counts as ``chance``. A metric without a quick way uses the first ``GENERIC``
        resamples only.
        """
        labels, answers, weights = np.asarray(labels), np.asarray(answers), np.asarray(weights)
        if self.function in resampling.QUICK:
            one = self.positive if self.function == "f1" or self.of or answers.shape[2:] == (2,) else None
            undefined = self.chance(labels) if self.reads == "probabilities" else 0.0
            return resampling.scores(self.function, labels, answers, weights, one, undefined)
        rows = [np.repeat(np.arange(len(labels)), counts.astype(int)) for counts in weights[:GENERIC]]
        undefined = self.chance(labels)
        if not any(self._takes(labels, run) for run in answers):
            self._number(labels, answers[0])  # raises what is wrong with all, not with a resample
        return np.array([[self._or(undefined, labels[chosen], run[chosen]) for run in answers] for chosen in rows])

    def _or(self, undefined: float, labels: np.ndarray, answers: np.ndarray) -> float:
        """The score, or what stands for it where there is none."""
        try:
            score = self._number(labels, answers)
        except ValueError:
            return undefined
        return undefined if math.isnan(score) else score

    def p_shuffled(self, labels: npt.ArrayLike, answers: npt.ArrayLike, shuffles: int = 999) -> float:
        """p value of the test that these answers are no better than themselves in another order over the rows. A metric
        without a quick way is shuffled ``SHUFFLES`` times at most."""
        labels, answers, quick = np.asarray(labels), np.asarray(answers), self
        if self.function == "spearmanr":  # Pearson's of the ranks, which a shuffle leaves as they are
            quick = known("pearson")
            labels, answers = (resampling.middle_ranks(values) for values in (labels, answers))
        shuffles = shuffles if quick.function in resampling.QUICK else min(shuffles, SHUFFLES)
        whole, rng, others = np.ones((1, len(labels))), np.random.default_rng(0), []
        for block in resampling.blocks(shuffles, answers.size):
            orders = np.tile(np.arange(len(labels)), (len(range(shuffles)[block]), 1))
            others.append(quick.resampled(labels, answers[rng.permuted(orders, axis=1)], whole)[0])
        own = quick.resampled(labels, answers[None], whole)[0, 0]
        rounding = 1e-9 * (1 if self.factor == 100 else abs(own))  # a score in a unit of its own may be small
        better = np.sum(self.sign * np.concatenate(others) >= self.sign * own - rounding)
        return float((1 + better) / (1 + shuffles))


def known(name: str, *, title: str = "", of: Any = "", number: bool = False, **options: Any) -> Metric:
    """The metric of that name in ``KNOWN``, or any function of ``sklearn.metrics``, ``scipy.stats`` or ``evaluate`` by its
    full name; then ``range`` must be among the options, and ``reads`` and ``better`` may be. Without them it reads values
    where the task is a ``number`` or it is SciPy's, else classes; and less is better where its name ends in one of ``LESS``.

    >>> known("sklearn.metrics.fbeta_score", beta=2, average="macro", range=[0, 1]).score([0, 1, 1], [0, 1, 0]) < 1
    True
    """
    of = "" if of is None else str(of)  # labels are text, whatever YAML makes of them
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
    given = {"reads": "values" if number or module == "scipy.stats" else "classes",
             "better": "less" if name.endswith(LESS) or name in LESS_TOO else "more", **given}
    return _made(name=name, title=title, of=of, options=sorted(options.items()), **given)


def _made(**settings: Any) -> Metric:
    """A metric from its settings; a mistake in them is one sentence."""
    try:
        return Metric(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        wrong = str(first["msg"]).removeprefix("Value error, ")
        raise ValueError(f"metric {settings['name']}: {first['loc'][0]}: {wrong}, got {first['input']!r:.80}") from None


def _plain(option: str, value: Any) -> Any:
    """An option's value, lists as tuples."""
    if isinstance(value, list | tuple):
        return tuple(_plain(option, part) for part in value)
    if not isinstance(value, str | int | float | bool | None):
        raise ValueError(f"{option} must be a number, text, true, false, or a list of such")
    return value


def written(value: Any, number: bool = False) -> Metric:
    """A metric as somebody writes it in YAML, for a task that is a ``number`` or not: a name, or a mapping of one name to
    its options.

    >>> written({"f1": {"of": "urgent"}}).title
    'F1 of urgent'
    """
    if isinstance(value, Metric):
        return value
    if isinstance(value, str):
        return known(value, number=number)
    if recorded(value):
        return _made(**value)
    if isinstance(value, dict) and len(value) == 1 and all(isinstance(options, dict) for options in value.values()):
        ((name, options),) = value.items()
        if wrong := [option for option in (name, *options) if not isinstance(option, str) or option == "name"]:
            raise ValueError(f"metric {name}: options are called by text other than name, got {wrong[0]!r:.80}")
        return known(name, **{"number": number, **options})
    raise ValueError(f"a metric is a name, or one name with a mapping of options, got {value!r:.80}")


def recorded(value: Any) -> bool:
    """Whether it is a metric as a record holds it, or one already, rather than as somebody writes it."""
    return isinstance(value, Metric) or (isinstance(value, dict) and "reads" in value and "name" in value)
