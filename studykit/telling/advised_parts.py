"""What sentences and figures about advice share: its unit, its arms and floors, numbers and probabilities in words."""

import math

import numpy as np
import pandas as pd

from studykit.advise.advice import Advice, Contender
from studykit.tasks import Task
from studykit.telling import words


def runs(advice: Advice) -> pd.DataFrame:
    """The trainings of the race as a table: arm, rate, rung, steps, score, status, whether they went on."""
    columns = ["arm", "rate", "rung", "steps", "score", "status", "kept"]
    return pd.DataFrame([[getattr(trial, name) for name in columns] for trial in advice.trials], columns=columns)


def unit(advice: Advice) -> dict:
    """What ``words`` needs to know of scores: the main metric's title, that of its axis, and which way is better."""
    metric = Task(**advice.task).metric
    return {"metric_title": metric.title, "metric_axis": metric.axis, "better": metric.sign}


def points(advice: Advice, value: float) -> str:
    """So many points, or a number with the metric that it is of.

    >>> from studykit.advise.advice import Advice
    >>> task = Task(name="tickets", columns=["text"], labels=["calm", "urgent"]).model_dump(mode="json")
    >>> points(Advice("tickets", task, "mini", "", {}, (), (), 1.0, (), 64, 10), 1)
    '1 point'
    """
    if not words.in_points(unit(advice)):
        return words.amount(value, unit(advice))
    return f"{value:g} point{'' if value == 1 else 's'}"


def sure(chance: float) -> str:
    """A probability in percent, never quite none or all.

    >>> sure(0.97), sure(0.9999), sure(0.0)
    ('97 %', 'over 99 %', 'under 1 %')
    """
    return "over 99 %" if chance > 0.995 else "under 1 %" if chance < 0.005 else f"{100 * chance:.0f} %"


def arms(advice: Advice) -> list[Contender]:
    return [row for row in advice.contenders if row.kind == "arm"]


def floors_of(advice: Advice) -> list[Contender]:
    return [row for row in advice.contenders if row.kind == "floor"]


def called(advice: Advice, label: str) -> str:
    """An arm's label as code, a floor's as it is."""
    return label if label in {row.label for row in floors_of(advice)} else words.arm(label)


def choice_of(advice: Advice) -> Contender | None:
    """The contender that is chosen, if one is."""
    return next((row for row in advice.contenders if advice.decision and row.label == advice.decision.choice), None)


def mean(row: Contender) -> float:
    """The mean of a contender's scores; NaN where it has none."""
    return float(np.mean(row.scores)) if row.scores else math.nan
