"""What a study's runs cost besides their training: locks, records, the table."""

import contextlib
import io
import os
import tempfile
import time
from unittest import mock

import numpy as np

from studykit import study, tasks
from studykit.evidence import table
from studykit.study import runs
from studykit.training import machine

WARM = 5  # runs that come first and are not counted: libraries load


def cost(count):
    """A row: seconds a run of executing ``count`` runs whose training is left out, seconds of reading them all again, and
    the MB by which the process grew. Records are as large as real ones of the miniature."""
    experiment = study.load("mini")
    task = next(task for task in experiment.tasks.values() if task.labels)
    labels = [int(label) for label in tasks.load(task, experiment.source)["validation"]["label"]]
    result = {"status": "ok", "reason": "", "scores": {task.metric.name: 0.5}, "score": 0.5, "predictions": labels,
              "labels": labels, "probabilities": table.packed(np.eye(task.num_labels)[labels]), "p_shuffled": 0.001,
              "seconds": {"train": 1.0}, "parameters": {"trained": 1, "head": 1, "total": 1}}
    wanted = experiment.plan(task.name, experiment.baseline, rates=1e-3, seeds=range(WARM + count))
    with tempfile.TemporaryDirectory() as home, mock.patch.dict(os.environ, STUDYKIT_HOME=home), \
            mock.patch.object(runs, "train_run", lambda *_: result), contextlib.redirect_stdout(io.StringIO()):
        experiment.execute(wanted[:WARM], group="x")
        with machine.peak_memory(machine.best_device()) as memory:
            times = [time.monotonic()]
            for _ in range(2):
                made = experiment.execute(wanted[WARM:], group="x")
                times.append(time.monotonic())
    return {"runs": len(made), "first": (times[1] - times[0]) / count, "again": times[2] - times[1],
            "mb": memory["peak_mb"] and memory["peak_mb"] - memory["idle_mb"]}
