"""What arms cost, beside what they score."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from studykit.evidence import stats

SIZE = re.compile(r"(?:^|, )(?:bottleneck|rank|tokens|k)=\d+")  # an option that is a size, among an arm's options


def lines(table: pd.DataFrame) -> dict[str, str]:
    """The line of each arm, in the study's order: the label of the first arm that differs from it in its size alone.

    >>> lines(pd.DataFrame({"arm": ["full", "lora", "lora 64"], "method": ["full", "lora", "lora"],
    ...                     "options": ["", "", "rank=64"], "arm_place": [0, 1, 2]}))
    {'full': 'full', 'lora': 'lora', 'lora 64': 'lora'}
    """
    arms = table.drop_duplicates("arm").sort_values("arm_place", kind="stable")
    kinds = [(arm.method, SIZE.sub("", arm.options).removeprefix(", ")) for arm in arms.itertuples()]
    first: dict[tuple, str] = {}
    return {arm: first.setdefault(kind, arm) for arm, kind in zip(arms["arm"], kinds, strict=True)}


def by_arm(table: pd.DataFrame, kept: pd.DataFrame | None = None, by: Sequence[str] = ("task", "arm")) -> pd.DataFrame:
    """A row per task and arm of a table of runs: what ``stats.summary`` has, and what the arm costs, the arm that trains
    fewest parameters first.

    ``besides`` (parameters that train besides the head), ``trained``, ``total``; ``train_seconds`` of a run, the mean with
    its interval ``train_low`` to ``train_high``; ``step_ms`` (a step of training) and ``memory_mb`` (the peak beyond what
    the process had before), medians over runs; and the columns of ``kept``, by ``arm``.
    """
    runs = table.assign(besides=table["trained"] - table["head"], step_ms=1000 * table["train_seconds"] / table["steps"],
                        memory_mb=(table["peak_mb"] - table["idle_mb"]).astype(float))
    groups = runs.groupby(list(by), sort=False)
    medians = groups[["besides", "trained", "total", "step_ms", "memory_mb"]].median()
    seconds = groups["train_seconds"].apply(lambda values: stats.mean_interval(values, bounds=(0, np.inf)))
    times = pd.DataFrame(seconds.tolist(), seconds.index, ["train_seconds", "train_low", "train_high"])
    found = stats.summary(table, list(by)).merge(medians.join(times).reset_index(), on=list(by))
    found = found if kept is None else found.merge(kept, on="arm", how="left")
    return found.sort_values(["task_place", "besides", "arm_place"], kind="stable", ignore_index=True)
