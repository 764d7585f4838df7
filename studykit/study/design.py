"""A study as somebody writes it in YAML: tasks × arms × a design."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from studykit import paths, tasks
from studykit.study.arms import Arm
from studykit.tasks import Task

Share = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2 ** 32)]
STRICT = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Trials(BaseModel):
    """How learning rates are chosen: on this share of the data, from these seeds, by this rule. ``close`` are seeds that are
    added where a choice is close."""

    model_config = STRICT

    fraction: Share
    seeds: tuple[Seed, ...] = Field(min_length=1)
    close: tuple[Seed, ...] = ()
    epochs: PositiveFloat | None = None
    rule: Literal["lowest within one error", "best score"] = "lowest within one error"


class Design(BaseModel):
    """A study's settings. ``tasks`` and ``arms`` are values; ``shares`` of the training data, ``budgets`` in seconds and
    ``seeds`` are those that its notebooks use where they are not told others."""

    model_config = STRICT

    encoder: str
    weights: str = ""
    pooler: Literal["pretrained", "new"]
    reads: Literal["", "first", "mean", "last"] = ""
    source: str
    data: Literal["", "published"] = ""
    precision: Literal["fp32", "bf16"]
    batch_size: PositiveInt
    max_length: PositiveInt
    epochs: PositiveFloat
    min_steps: NonNegativeInt
    tasks: tuple[Task, ...] = Field(min_length=1)
    arms: tuple[Arm, ...] = Field(min_length=1)
    baseline: str = ""
    shares: tuple[Share, ...] = (0.1, 0.3, 1.0)
    budgets: tuple[PositiveFloat, ...] = ()
    seeds: tuple[Seed, ...] = (0, 1, 2)
    trials: Trials
    jobs: PositiveInt | None = None  # as many as are quickest (training.machine.best_jobs)
    notebooks: dict[str, dict[str, Any] | Literal[False]] = {}

    @field_validator("tasks", mode="before")
    @classmethod
    def _tasks(cls, given: Any) -> Any:
        return tuple(tasks.get(task) for task in given) if isinstance(given, list) else given

    @field_validator("arms", mode="before")
    @classmethod
    def _arms(cls, given: Any) -> Any:
        if isinstance(given, tuple):
            return given
        if not isinstance(given, dict):
            raise ValueError(f"a mapping of labels to settings, such as full: {{rates: [1.0e-4]}}, got {given!r:.80}")
        for label, settings in given.items():
            if not isinstance(settings, dict | None):
                raise ValueError(f"{label}: settings must be a mapping, such as {{rates: [1.0e-4]}}, got {settings!r:.80}")
        return tuple({"label": label, **(settings or {})} for label, settings in given.items())

    @model_validator(mode="after")
    def _whole(self) -> "Design":
        if len({task.name for task in self.tasks}) != len(self.tasks):
            raise ValueError(f"tasks must be different, got {', '.join(task.name for task in self.tasks)}")
        if len({arm.label for arm in self.arms}) != len(self.arms):
            raise ValueError(f"arms must have different labels, got {', '.join(arm.label for arm in self.arms)}")
        means = [arm.means for arm in self.arms]
        if twice := [arm.label for i, arm in enumerate(self.arms) if arm.means in means[:i]]:
            raise ValueError(f"arms: {twice[0]} does what another arm does: leave one of them out")
        if len({len(arm.rates) for arm in self.arms}) != 1 or not self.arms[0].rates:
            raise ValueError("arms have different numbers of rates to try, or none: they must be equal to be fair")
        if self.baseline and self.baseline not in [arm.label for arm in self.arms]:
            raise ValueError(f"baseline: there is no arm {self.baseline!r}: choose from "
                             f"{', '.join(arm.label for arm in self.arms)}")
        if self.data and (unknown := [task.name for task in self.tasks if not task.digest]):
            raise ValueError(f"data: published holds no task to rows whose digest is not known: give {', '.join(unknown)} a "
                             "digest in its YAML, or leave data out")
        if shared := set(self.seeds) & {*self.trials.seeds, *self.trials.close}:
            raise ValueError(f"trials: seeds: {', '.join(map(str, sorted(shared)))} is a seed of the report too: choose "
                             "rates from others")
        return self


def read(file: Path) -> Design:
    """A study's design from its file. Raises ``ValueError``, in one sentence with the place in the file."""
    try:
        settings = yaml.safe_load(file.read_bytes())
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file} is not YAML ({' '.join(str(error).split())}): mend it there") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{file} must be a mapping of settings to values, got {settings!r:.80}")
    if isinstance(named := settings.get("tasks"), list):  # a task's own file lies beside the study's
        settings["tasks"] = [str(file.parent / name) if paths.is_yaml(name) else name for name in named]
    try:
        return Design.model_validate(settings)
    except ValidationError as error:
        names = {"arms": list(settings["arms"])} if isinstance(settings.get("arms"), dict) else {}
        raise ValueError(f"{file}: {tasks.sentence(error, names)}") from None
