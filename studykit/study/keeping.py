"""What it costs to keep an arm's model: the file of what was trained, and the seconds to have it back."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from studykit import methods

if TYPE_CHECKING:
    from studykit.study import Study

TRIES = 3  # of which the median counts


def measure(study: "Study", task: str, arms: Sequence[str] = ()) -> pd.DataFrame:
    """A row an arm, for a task of the study: ``file_mb`` (megabytes of what ``methods.save`` writes), milliseconds
    ``load_ms`` (encoder and file, ``methods.load``) and ``switch_ms`` (the file alone, into a model of the arm that is in
    memory already, ``methods.switch``), each the median of ``TRIES``. The models are as they are before training, which
    changes no size."""
    from studykit.models import encoders

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trained.safetensors"
        for label in arms or study.arms:
            arm = study.arms[label]
            model = encoders.load(study.encoder_at, study.tasks[task].num_labels, pooler=study.design.pooler,
                                  reads=study.design.reads)
            methods.save(methods.apply(arm.method, model, **dict(arm.options)), file)
            methods.switch(model, file)  # the first time it makes sure that what is frozen is the file's
            rows.append({"arm": label, "file_mb": file.stat().st_size / 1e6,
                         "load_ms": _median(methods.load, file, study.encoder_at),
                         "switch_ms": _median(methods.switch, model, file)})
    return pd.DataFrame(rows)


def _median(function: Callable, *given: object) -> float:
    """Milliseconds that a call takes."""
    times = []
    for _ in range(TRIES):
        start = time.perf_counter()
        function(*given)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times))
