"""A task as a value: what it asks, which columns answer, what scores it, where its data is. One YAML file a task."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from studykit import paths
from studykit.tasks import metrics
from studykit.tasks.metrics import Metric


class Hub(BaseModel):
    """Where a task is on the hub; ``splits`` says what its splits are called there, if not train and validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    config: str | None = None
    revision: str | None = None
    splits: tuple[tuple[str, str], ...] = ()

    @field_validator("splits", mode="before")
    @classmethod
    def _pairs(cls, given: Any) -> Any:
        return tuple(given.items()) if isinstance(given, dict) else given


class Task(BaseModel):
    """A classification of one text or two, into ``labels`` by name, or a number to predict where ``labels`` is empty.

    The first metric is the main one. ``also`` names further splits that are scored beside validation, as MNLI has.
    A number is trained standardised by its training labels, and reported as it was given; ``standardise=False`` trains it
    as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str = ""
    question: str = ""
    columns: tuple[str, ...] = Field(min_length=1, max_length=2)
    label: str = "label"
    labels: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    metrics: tuple[Metric, ...] = ()
    standardise: bool = True
    also: tuple[str, ...] = ()
    hub: Hub | None = None
    data: str = ""  # a file, or a folder with a file a split; relative to the task's YAML
    digest: str = ""  # of the published train and validation rows

    @field_validator("metrics", mode="before")
    @classmethod
    def _metrics(cls, given: Any, info: ValidationInfo) -> Any:
        if isinstance(given, str | dict | Metric):
            given = [given]
        if not isinstance(given, list | tuple):
            return given
        labels = info.data.get("labels", ("", ""))
        made = tuple(metrics.written(value, not labels) for value in given)
        for value, metric in zip(given, made, strict=True):
            if not metrics.recorded(value) and (metric.reads == "values") == (not labels):  # a record's scores are there
                metric.check_awkward(len(labels))
        return made

    @field_validator("labels", mode="before")
    @classmethod
    def _labels(cls, given: Any) -> Any:
        return tuple(str(label) for label in given) if isinstance(given, list | tuple) else given  # YAML reads yes and 1

    @model_validator(mode="after")
    def _whole(self) -> "Task":
        if "label" in self.columns:
            raise ValueError("a text column must not be called label, which is what rows' labels are called: rename it")
        paths.plain(self.name)
        if len({*self.columns, self.label}) != len(self.columns) + 1:
            raise ValueError(f"columns and label must be different, got {', '.join((*self.columns, self.label))}")
        if self.labels and (len(self.labels) < 2 or len(set(self.labels)) != len(self.labels)):
            raise ValueError(f"labels must be two or more different names, got {', '.join(self.labels)}")
        if self.labels and self.range:
            raise ValueError("a task has labels or a range, not both: labels name classes, a range is a number's")
        if self.range and not self.range[0] < self.range[1]:
            raise ValueError(f"range must be from the lowest to the highest number, got {list(self.range)}")
        given = self.metrics or tuple(map(metrics.known, ("macro_f1", "accuracy") if self.labels
                                          else ("spearmanr", "mean_absolute_error")))
        for metric in given:
            if (metric.reads == "values") != (not self.labels):
                raise ValueError(f"metric {metric.title} is about {metric.reads}, but {self.name} has "
                                 + ("labels, which are classes" if self.labels else "no labels, so it predicts a number")
                                 + (": leave out reads" if metric.name not in metrics.KNOWN else ""))
        for metric in given:
            if metric.function == "f1" and not metric.of and len(self.labels) > 2:
                raise ValueError(f"F1 is of one class, and {self.name} has {len(self.labels)}: name it, as in "
                                 f"f1: {{of: {self.labels[-1]}}}, or take macro_f1")
            metric.check(len(self.labels))
        names = [metric.name for metric in given]
        given = tuple(metric.apart() if names.count(metric.name) > 1 else metric for metric in given)
        names = [metric.name for metric in given]
        if twice := [name for i, name in enumerate(names) if name in names[:i]]:
            raise ValueError(f"metrics: {twice[0]} stands there twice, and they would share a column: keep one of them")
        object.__setattr__(self, "metrics", tuple(self._about(metric) for metric in given))
        object.__setattr__(self, "title", self.title or self.name)
        return self

    def _about(self, metric: Metric) -> Metric:
        """The metric, with the number of the class that it is about."""
        if metric.of and metric.of not in self.labels:
            raise ValueError(f"{metric.title}: there is no label {metric.of!r}: choose from {', '.join(self.labels)}")
        return metric.model_copy(update={"positive": self.labels.index(metric.of)}) if metric.of else metric

    @property
    def num_labels(self) -> int:
        """Outputs of the head."""
        return len(self.labels) or 1

    @property
    def metric(self) -> Metric:
        return self.metrics[0]

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and highest label that is sound."""
        return (0, len(self.labels) - 1) if self.labels else self.range or (-math.inf, math.inf)

    def stored(self, split: str) -> str:
        """What a split is called where the task is stored."""
        return dict(self.hub.splits).get(split, split) if self.hub else split

    @property
    def identity(self) -> str:
        """A hash of what decides training: columns, label column, label names in their order, standardisation; and the
        range, by whose fifths rows are drawn, where no published rows settle what it is."""
        decided: list[Any] = [self.columns, self.label, self.labels, self.standardise]
        if self.range and not self.digest:
            decided.append(self.range)
        return hashlib.sha256(json.dumps(decided).encode()).hexdigest()[:12]

    def scores(self, labels, answers, probabilities=None, refused: dict[str, str] | None = None) -> dict[str, float]:
        """All metrics, main one first; NaN where one needs probabilities that are not there. Where a metric refuses a score
        it is NaN too, and ``refused`` holds why, by the metric's name; without such a dict, ``ValueError`` is raised."""
        read, scores = {"classes": answers, "values": answers, "probabilities": probabilities}, {}
        for metric in self.metrics:
            try:
                there = read[metric.reads] is not None
                scores[metric.name] = metric.score(labels, read[metric.reads]) if there else math.nan
            except ValueError as error:
                if refused is None:
                    raise
                scores[metric.name], refused[metric.name] = math.nan, str(error)
        return scores


def get(task: str | Path | Task) -> Task:
    """A task: itself, or of that name in ``params/tasks/``, or of a YAML file. Raises ``ValueError`` for an unknown one."""
    if isinstance(task, Task):
        return task
    if isinstance(task, str | Path) and paths.is_yaml(task):
        return read(Path(task))
    known = {file.stem: file for file in sorted((paths.REPO / "params" / "tasks").glob("*.yaml"))}
    if not isinstance(task, str) or task not in known:
        raise ValueError(f"unknown task {task!r:.80}: choose from {', '.join(known)}, or give a task's YAML file")
    return read(known[task])


class _Plain(yaml.SafeLoader):
    """YAML whose yes, no, on and off are text, as in its newer edition, and 007, +1, 1:30 and 1_000 too, which it would read
    as other numbers: labels are often called so."""


TRUTH, WHOLE = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:int"
_Plain.yaml_implicit_resolvers = {first: [pair for pair in pairs if pair[0] not in (TRUTH, WHOLE)]
                                  for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Plain.add_implicit_resolver(TRUTH, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Plain.add_implicit_resolver(WHOLE, re.compile("^-?(?:0|[1-9][0-9]*)$"), list("-0123456789"))


def written(file: Path) -> Any:
    """What a task's YAML file says. Raises ``ValueError`` where it is none."""
    if not file.is_file():
        raise ValueError(f"no task at {file}: give a YAML file like those in params/tasks")
    try:
        return yaml.load(file.read_bytes(), _Plain)  # a safe loader
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file} is not YAML ({' '.join(str(error).split())}): mend it there") from None


def read(file: Path) -> Task:
    """The task that a YAML file describes, by the file's name. Raises ``ValueError``, with the place in the file."""
    settings = written(file)
    if not isinstance(settings, dict):
        raise ValueError(f"{file} must be a mapping of settings to values, got {settings!r:.80}")
    settings.pop("advise", None)  # what to do with it, which studykit.advise reads
    if isinstance(data := settings.get("data"), str):
        settings["data"] = str((file.parent / data).resolve())
    return made({"name": paths.plain(file.stem), **settings}, str(file))


def made(settings: dict, where: str) -> Task:
    """A task from its settings; a mistake in them is one sentence that begins with where it is."""
    try:
        return Task.model_validate(settings)
    except ValidationError as error:
        raise ValueError(f"{where}: {sentence(error)}") from None


def sentence(error: Exception, names: Mapping[str, Sequence] | None = None) -> str:
    """What pydantic found wrong, in a sentence: the place and what is wrong there. ``names`` are those of the parts of a
    setting that are named rather than counted."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    setting, *parts = first["loc"] or ("",)
    if parts and isinstance(parts[0], int) and names and setting in names:
        parts[0] = names[str(setting)][parts[0]]
    place = ": ".join(str(part) for part in (setting, *parts))
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"unknown setting {place}"
    if first["type"] == "missing":
        return f"{place} is missing: give it a value"
    if first["type"] == "value_error":
        return f"{place}: {message}" if place else message
    return f"{place}{': ' * bool(place)}{message[0].lower()}{message[1:]}, got {first['input']!r:.80}"
