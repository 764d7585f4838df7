"""Advice on somebody's data as a value: what was found, tried and decided, without any of their texts."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studykit import paths
from studykit.evidence.curves import Curve
from studykit.evidence.deciding import Decision, Standing


@dataclass(frozen=True)
class Trial:
    """A run of the race: ``rung`` counts from 0, each with twice the steps of the one before. ``kept``: it went on."""

    arm: str
    rate: float
    rung: int
    steps: int
    score: float  # in points, on the rows that the race is scored on
    status: str
    kept: bool


@dataclass(frozen=True)
class Contender:
    """An arm at its best rate, or a floor, as it stood at the end. ``chance``: that it is within the margin of the best."""

    label: str
    kind: str  # "arm" or "floor"
    method: str = ""
    rate: float | None = None
    trained: int | None = None  # parameters
    seconds: float | None = None  # of one training at the steps of the finals
    scores: tuple[float, ...] = ()  # by fold, in points; of one that left in the race its last score
    finalist: bool = False
    gap: float | None = None  # choice minus this one, positive where the choice is better
    low: float | None = None
    high: float | None = None
    chance: float | None = None


@dataclass(frozen=True)
class Promise:
    """The choice's score on rows that decided nothing, with a 95 % interval over seeds and rows; or a ``reason`` why there
    is none."""

    score: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int = 0
    runs: int = 0
    others: dict[str, float] = field(default_factory=dict)  # the task's other metrics, by title
    reason: str = ""


@dataclass(frozen=True)
class Advice:
    """All that a page, a model card and a notebook say. Scores are in points of ``task``'s main metric."""

    name: str
    task: dict[str, Any]  # Task.model_dump(mode="json")
    encoder: str
    digest: str  # of the data
    rows: dict[str, int]  # train, validation
    account: tuple[str, ...]  # how the files were read, a sentence each
    oddities: tuple[tuple[str, int, int, str], ...]  # kind, how many, of how many, what it means
    minutes: float  # that were given
    plan: tuple[str, ...]  # said before it was spent, a sentence each
    max_length: int
    steps: int  # of a training in the finals
    trials: tuple[Trial, ...] = ()
    contenders: tuple[Contender, ...] = ()  # best first
    decision: Decision | None = None
    promise: Promise = Promise()
    curve: Curve = field(default_factory=Curve)
    spent: dict[str, float] = field(default_factory=dict)  # seconds by stage
    stopped: str = ""  # why it ended before its time, as "interrupted"
    model: dict[str, Any] = field(default_factory=dict)  # folder, kind ("transformers", "studykit" or "floor"), choice, rows
    labels: tuple = ()  # of the rows that decided nothing, as classes' numbers or numbers
    answers: tuple = ()  # of the choice to them, by its first run

    def write(self, file: Path) -> None:
        """Keep it, whole or not at all."""
        paths.write(file, json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def read(file: Path) -> Advice:
    """The advice that ``write`` kept."""
    kept = json.loads(file.read_text(encoding="utf-8"))
    parts = {"decision": Decision, "promise": Promise, "curve": Curve}
    for name, kind in parts.items():
        kept[name] = None if kept[name] is None else kind(**{key: _tuples(value) for key, value in kept[name].items()})
    if decision := kept["decision"]:
        standings = tuple(Standing(*standing) for standing in decision.standings)
        kept["decision"] = dataclasses.replace(decision, standings=standings)
    for name, kind in (("trials", Trial), ("contenders", Contender)):
        kept[name] = tuple(kind(**{key: _tuples(value) for key, value in row.items()}) for row in kept[name])
    return Advice(**{name: _tuples(value) for name, value in kept.items()})


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
