"""Made-up tables of runs, with all the columns of a study's table, for tests whose truth is known."""

import functools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from studykit.tasks import Metric, metrics
from studykit.tasks.packing import packed

Cell = tuple  # (task, arm), or (task, arm, fraction)


def labels_for(metric: str | Metric = "accuracy", examples: int = 200, classes: int = 2) -> np.ndarray:
    """Labels that a made-up run is scored on: classes in turn, or for a metric of numbers from 0 to 5."""
    if metrics.written(metric).reads == "values":
        return np.linspace(0, 5, examples)
    return np.arange(examples) % classes


def table(scores: Mapping[Cell, Sequence[float | None]], *, fraction: float = 1.0, seconds: float | None = None,
          metric: str | dict | Metric | Mapping[str, str] = "accuracy", labels: Mapping | np.ndarray | None = None,
          predictions: Mapping[Cell, np.ndarray] | None = None, collapsed: Iterable[tuple] = (),
          diverged: Iterable[tuple] = (), examples: int = 200, classes: int = 2, titles: Mapping[str, str] | None = None,
          places: Sequence[str] = (), **columns) -> pd.DataFrame:
    """A study's table: a row for each score of ``{(task, arm): [scores by seed]}``, in the order given.

    A cell may also be ``(task, arm, fraction)``; ``None`` is a run without a score. ``scores`` are in the unit of the table
    (points, for a metric within -1 and 1); ``metric`` is one for all tasks, or ``{task: metric}``. Every run answers with
    the labels themselves, whatever its score, so that no choice of test examples matters, unless ``predictions`` gives a
    cell its answers, shape (runs, n), or probabilities, shape (runs, n, classes); ``labels`` are those of all tasks, or
    ``{task: labels}``. ``collapsed`` and ``diverged`` are ``(task, arm, seed)``. ``learnt`` are the runs that are ok and
    better than chance. ``places`` is the order of arms, if not that in which they come; ``columns`` are any others, such as
    ``lr=0.001``.

    >>> table({("cola", "full"): [70, 80], ("cola", "head"): [60, None]})[["arm", "seed", "score"]].values.tolist()
    [['full', 0, 70.0], ['full', 1, 80.0], ['head', 0, 60.0], ['head', 1, nan]]
    """
    names, order = list(dict.fromkeys(cell[0] for cell in scores)), list(places or dict.fromkeys(cell[1] for cell in scores))
    fallen, gone, rows = set(collapsed), set(diverged), []
    for cell, values in scores.items():
        task, arm = cell[:2]
        of_task = metric.get(task, "accuracy") if isinstance(metric, Mapping) and task in metric else metric
        kind = metrics.written(of_task)
        own = labels.get(task) if isinstance(labels, Mapping) else labels
        own = np.asarray(labels_for(kind, examples, classes) if own is None else own)
        answers, chance = (predictions or {}).get(cell), _chance(kind, own.dtype.str, own.tobytes())
        for seed, score in enumerate(values):
            given = own if answers is None else np.asarray(answers[seed])
            status = ("collapsed" if (task, arm, seed) in fallen else "diverged" if (task, arm, seed) in gone
                      else "ok")
            rows.append(_row(task, arm, seed, kind, own, given, status, np.nan if score is None else float(score), chance)
                        | {"fraction": cell[2] if len(cell) > 2 else fraction, "seconds": seconds,
                           "task_title": (titles or {}).get(task, task), "task_place": names.index(task),
                           "arm_place": order.index(arm)} | columns)
    return pd.DataFrame(rows)


@functools.lru_cache
def _chance(metric: Metric, kind: str, labels: bytes) -> float:
    return metric.factor * metric.chance(np.frombuffer(labels, kind))


def _row(task, arm, seed, kind, own, given, status, score, chance):
    probabilities, answers = (packed(given), given.argmax(-1)) if given.ndim == 2 else (None, given)
    if kind.reads == "probabilities" and probabilities is None:
        probabilities = packed(np.eye(1 + own.max())[own])
    return {"task": task, "arm": arm, "method": arm, "options": "", "lr": 0.001, "epochs": 2, "steps": 200, "min_steps": 200,
            "token_seconds": 0.0, "subset_seed": seed, "init_seed": seed, "order_seed": seed, "seed": seed,
            "score_on": "validation", "points": 0, "pretrained": True, "precision": "fp32", "used_precision": "fp32",
            "recipe": 1, "scored_by": kind, "metrics": (kind,), "metric": kind.name, "metric_title": kind.title,
            "metric_axis": kind.axis,
            "metric_low": kind.factor * kind.range[0], "metric_high": kind.factor * kind.range[1], "better": kind.sign,
            "score": score, "chance": chance, "status": status, "reason": "",
            "learnt": bool(status == "ok" and kind.sign * (score - chance) > 0),
            "top_answer": np.nan if kind.reads == "values" else 100 * np.bincount(answers.astype(int)).max() / len(answers),
            kind.name: score, "predictions": answers, "labels": own, "probabilities": probabilities, "examples": 1000,
            "tokens": 40_000, "flops": 1e12, "train_seconds": 10.0, "forward_seconds": 3.0, "backward_seconds": 5.0,
            "update_seconds": 2.0, "trained": 120, "head": 20, "total": 100_000, "curve": None, "peak_mb": 1000.0,
            "idle_mb": 500.0, "processor": "made up", "threads": 2, "load": 0.1, "torch": "2", "transformers": "5",
            "commit": "", "key": f"{task}-{arm}-{seed}"}
