"""What arms cost, beside what they score."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from studykit.evidence import stats

TIE = 0.1  # times of two arms that differ by less are told as the same: rounds of one clock may differ so
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


def by_arm(table: pd.DataFrame, *others: pd.DataFrame, by: Sequence[str] = ("task", "arm")) -> pd.DataFrame:
    """A row per task and arm of a table of runs: what ``stats.summary`` has, and what the arm costs, the arm that trains
    fewest parameters first.

    ``besides`` (parameters that train besides the head), ``trained``, ``total``; ``train_seconds`` of a run, the mean with
    its interval ``train_low`` to ``train_high``; ``memory_mb`` (the peak beyond what the process had before, the median over
    runs) with the least, ``memory_low``, and the most, ``memory_high``; and the columns of ``others``, a row an arm each.
    """
    runs = table.assign(besides=table["trained"] - table["head"],
                        memory_mb=table["peak_mb"].astype(float) - table["idle_mb"].astype(float))
    groups = runs.groupby(list(by), sort=False)
    seconds = groups["train_seconds"].apply(lambda values: stats.mean_interval(values, bounds=(0, np.inf)))
    times = pd.DataFrame(seconds.tolist(), seconds.index, ["train_seconds", "train_low", "train_high"])
    memory = groups["memory_mb"].agg(memory_mb="median", memory_low="min", memory_high="max")
    costs = groups[["besides", "trained", "total"]].first().join(memory).join(times)
    found = stats.summary(table, list(by)).merge(costs.reset_index(), on=list(by))
    for other in others:
        found = found.merge(other, on="arm", how="left")
    return found.sort_values(["task_place", "besides", "arm_place"], kind="stable", ignore_index=True)


def on_clock(table: pd.DataFrame, token_seconds: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """The table of runs with ``train_seconds`` as a calibrated clock has them, so that a load that passed while they were
    trained is no result: seconds a token, by task and arm, times the tokens. Of what the clock lacks they are NaN."""
    cells = zip(table["task"], table["arm"], strict=True)
    return table.assign(train_seconds=[token_seconds.get(cell, np.nan) for cell in cells] * table["tokens"])


def quickest(table: pd.DataFrame) -> pd.DataFrame:
    """The table of runs with ``train_seconds`` of each arm's quickest run on a task, the one that other load disturbed
    least: for where there is no clock."""
    return table.assign(train_seconds=table.groupby(["task", "arm"])["train_seconds"].transform("min"))


def steps(paces: Sequence[dict]) -> pd.DataFrame:
    """``step_ms``, a row an arm, of a calibrated clock's paces on one task; none of a clock that was refused."""
    rows = [{"arm": pace["arm"], "step_ms": pace["forward_ms"] + pace["backward_ms"] + pace["update_ms"]} for pace in paces]
    return pd.DataFrame(rows, columns=["arm", "step_ms"])
