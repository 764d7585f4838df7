"""Records as a table: a row a run, with all that figures, verdicts and prose need, so that these know no names."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from studykit.tasks import Metric, Task
from studykit.tasks.metrics import written
from studykit.tasks.packing import packed, unpacked

COLLAPSED = {"number": 1 / 50, "classes": 1 / 30}  # of the spread of labels, of the labels other than the commonest
LEARNT = 0.01  # p value of the same answers shuffled over the rows


def table(records: Iterable[dict], tasks: Mapping[str, Task], labels_of_arms: Mapping[tuple, str]) -> pd.DataFrame:
    """Records as a ``DataFrame``, a row a run: its configuration, and columns that say what it was and what came of it.

    ``tasks`` are a study's by name and ``labels_of_arms`` its arms' labels by (method, options), both in their order; what
    they do not hold is taken from the record, and comes after them. ``score`` is the main metric, in points (× 100) where it
    lies in [-1, 1]. ``status`` is ``ok``, ``collapsed`` or ``diverged``: each has a score and is counted. A collapsed run's
    correlation is 0; a diverged run, which has no answers, counts as the best constant answer, ``chance``. A run to
    which its metric refuses a score, as ``reason`` says, has none. ``learnt``: not collapsed, and better than the same
    answers shuffled over the rows (p < 0.01).
    """
    tasks, places, rows = dict(tasks), list(labels_of_arms), []
    for record in records:
        run = {**record["run"], "options": tuples(record["run"]["options"])}
        task = tasks.setdefault(run["task"], Task(**record["task"]))
        does = run["method"], run["options"]
        if does not in places:
            places.append(does)
        arm = labels_of_arms.get(does, record["arm"])
        rows.append({**run, "options": ", ".join(f"{name}={value}" for name, value in run["options"]),
                     "arm": arm, "arm_place": places.index(does), **_about(task, list(tasks).index(task.name)),
                     **_outcome(record, task), **_measured(record)})
    return pd.DataFrame(rows)


def tuples(options: Iterable) -> tuple:
    """Options read from JSON, as a ``Run`` holds them: pairs, lists as tuples."""
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in options)


def _about(task: Task, place: int) -> dict:
    metric = task.metric
    return {"task_title": task.title, "task_place": place, "scored_by": metric, "metrics": task.metrics,
            "metric": metric.name, "metric_title": metric.title, "metric_axis": metric.axis, "better": metric.sign,
            "metric_low": metric.factor * metric.range[0], "metric_high": metric.factor * metric.range[1]}


def _outcome(record: dict, task: Task) -> dict:
    """What came of a run: status, scores, answers."""
    metric, labels, diverged = task.metric, np.asarray(record["labels"]), record["status"] == "diverged"
    given: dict[str, Any]
    chances = {kind.name: _chance(kind, labels.dtype.str, labels.tobytes()) for kind in task.metrics}
    kept = record.get("probabilities")
    if diverged:
        answers, given, kept = constant(task, labels, record.get("label_mean")), chances, _shares(task, labels)
    else:
        answers = np.asarray(record["predictions"])
        given = {kind.name: _score(record, kind, labels, answers) for kind in task.metrics}
    refused = given[metric.name] is None
    scores = {name: np.nan if value is None else value for name, value in given.items()}
    fallen = not diverged and collapsed(answers, labels, record.get("label_spread"))
    if fallen and not task.labels:  # what is left of its answers is rounding
        answers = np.full(len(labels), float(np.mean(answers)))
        scores |= {kind.name: 0.0 for kind in task.metrics if kind.correlation}
    others = {name: value for name, value in record["scores"].items()  # of further sets: "mismatched accuracy"
              if name not in scores and name.endswith(tuple(f" {kind.name}" for kind in task.metrics))}
    status = "collapsed" if fallen else record["status"]
    main, values = scores[metric.name], scores | {name: np.nan if value is None else value for name, value in others.items()}
    if np.isnan(main) and not refused and (metric.reads != "probabilities" or kept is not None):
        main = chances[metric.name]  # a correlation that is not defined
    return {"status": status, "reason": "one answer for nearly every example" if fallen else record["reason"],
            "learnt": status == "ok" and _p_shuffled(record, metric, labels, answers) < LEARNT,
            "chance": metric.factor * chances[metric.name],
            "score": metric.factor * main,
            "top_answer": 100 * np.bincount(answers).max() / len(answers) if task.labels else np.nan,
            **{name: _factor(task, name) * value for name, value in values.items()},
            "predictions": answers, "labels": labels, "probabilities": kept}


def _factor(task: Task, name: str) -> float:
    return next(kind.factor for kind in task.metrics if name == kind.name or name.endswith(f" {kind.name}"))


def _score(record: dict, metric: Metric, labels: np.ndarray, answers: np.ndarray) -> float | None:
    """A metric of a record, counted anew where the record has it otherwise or not; NaN where it is not defined or needs what
    was not kept, ``None`` where it refuses a score."""
    name = next((kept["name"] for kept in record["task"]["metrics"] if _same(metric, kept)), None)
    if name in record["scores"]:
        value = record["scores"][name]
        return value if value is not None else None if name in record.get("refused", ()) else np.nan
    read = answers
    if metric.reads == "probabilities":
        if (kept := record.get("probabilities")) is None:
            return np.nan
        read = unpacked(kept)
    try:
        return metric.score(labels, read)
    except ValueError:
        return None


def _same(metric: Metric, kept: dict) -> bool:
    """Whether a record's metric gives the same score as this one, whatever it and its column are called."""
    if kept["name"].partition(" ")[0] != metric.function:
        return False
    return written(kept).model_copy(update={"name": metric.name, "title": metric.title}) == metric


def _p_shuffled(record: dict, metric: Metric, labels: np.ndarray, answers: np.ndarray) -> float:
    """That of the main metric: the record's own where it was its main one too, or where it needs what was not kept."""
    kept = record.get("probabilities")
    if _same(metric, record["task"]["metrics"][0]):
        return record["p_shuffled"]
    if metric.reads == "probabilities":
        if kept is None:
            return record["p_shuffled"]
        answers = unpacked(kept)
    try:
        return metric.p_shuffled(labels, answers)
    except ValueError:  # it refuses a score
        return 1.0


def _shares(task: Task, labels: np.ndarray) -> dict | None:
    """The best constant probabilities for these labels, where the main metric reads probabilities."""
    if task.metric.reads != "probabilities":
        return None
    shares = np.bincount(labels, minlength=len(task.labels)) / len(labels)
    return packed(np.tile(shares, (len(labels), 1)))


@functools.lru_cache(maxsize=256)
def _chance(metric: Metric, kind: str, labels: bytes) -> float:
    return metric.chance(np.frombuffer(labels, dtype=kind))


def constant(task: Task, labels: np.ndarray, mean: float | None) -> np.ndarray:
    """The best constant answer for these labels; for a number the mean of the training labels."""
    if not task.labels:
        return np.full(len(labels), float(np.mean(labels)) if mean is None else mean)
    kinds = np.unique(labels)
    if task.metric.reads == "probabilities":
        return np.full(len(labels), np.bincount(labels).argmax())
    return np.full(len(labels), max(kinds, key=lambda kind: task.metric.worth(labels, np.full(len(labels), kind))))


def collapsed(answers: np.ndarray, labels: np.ndarray, label_spread: float | None) -> bool:
    """Whether a run gives nearly one answer for all.

    For a number: its answers spread less than a fiftieth of the training labels. For classes: its answers other than the
    commonest are fewer than a thirtieth of the labels other than the commonest; on two balanced classes, about "99 % one
    answer".

    >>> collapsed(np.array([1] * 199 + [0]), np.array([0, 1] * 100), None)
    True
    >>> collapsed(np.array([1] * 196 + [0] * 4), np.array([0, 1] * 100), None)
    False
    """
    if label_spread is not None:
        return bool(np.std(answers) < COLLAPSED["number"] * label_spread)
    others = [len(values) - np.bincount(values).max() for values in (answers, labels)]
    return bool(others[0] < COLLAPSED["classes"] * others[1])


def _measured(record: dict) -> dict:
    run, parameters, seconds = record["run"], record.get("parameters", {}), record.get("seconds", {})
    seeds = {run[f"{kind}_seed"] for kind in ("subset", "init", "order")}
    return {"seed": seeds.pop() if len(seeds) == 1 else None, "key": record["key"],
            **{name: parameters.get(name) for name in ("trained", "head", "total")},
            **{name: record.get(name) for name in ("examples", "steps", "tokens", "flops", "curve")},
            **{f"{part}_seconds": value for part, value in record.get("parts", {}).items()},
            "peak_mb": (record.get("memory") or {}).get("peak_mb"), "idle_mb": (record.get("memory") or {}).get("idle_mb"),
            "train_seconds": None if record.get("fleet") else seconds.get("train"),  # a fleet's are shared: no measure
            "used_precision": record.get("precision"),
            **{name: record.get("hardware", {}).get(name) for name in ("processor", "threads", "load")},
            **{name: record["versions"][name] for name in ("torch", "transformers")}, "commit": record["commit"]}
