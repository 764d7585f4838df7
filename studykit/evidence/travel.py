"""Does what holds on some tasks hold on the next? The ranks of arms between tasks, and the gap that a new task would show.

Tasks are those that somebody chose, not a sample of all tasks: what is said of a new one is said of one of their kind.
"""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
import scipy.stats

from studykit.evidence import stats
from studykit.tasks import Task

FEWEST = 4  # tasks, to say anything of another
SURE = 1e-3  # points: no task's gap is taken to be known better, as where two arms answer alike throughout


def told(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """The runs of those tasks on which most of the baseline's runs learnt; elsewhere an order of arms says nothing."""
    runs = table[table["arm"] == baseline].groupby("task")["learnt"].mean()
    return table[table["task"].isin(runs.index[runs > 0.5])]


def overview(table: pd.DataFrame, tasks: Mapping[str, Task]) -> pd.DataFrame:
    """What the tasks of a table of runs are: a row each, with ``task``, ``asks``, ``classes`` (0: a number to predict),
    ``examples`` trained on, ``metric``."""
    first = table.drop_duplicates("task").sort_values("task_place", kind="stable")
    return pd.DataFrame([{"task": row.task_title, "asks": tasks[row.task].question, "classes": len(tasks[row.task].labels),
                          "examples": row.examples, "metric": row.metric_title} for row in first.itertuples()])


def agreement(table: pd.DataFrame) -> tuple[float, float, float, int]:
    """``(mean, low, high, tasks)``: Spearman's rank correlation between the arms' mean scores on two tasks, the mean over
    all pairs of tasks, with a 95 % interval by the jackknife over tasks. NaN with fewer than ``FEWEST`` tasks or three arms.

    1 where every task orders the arms alike, 0 where an order says nothing of the next. Tasks without all arms are left out.
    """
    means = stats.summary(table, ["task", "arm"])
    wide = means.assign(score=means["score"] * means["better"]).pivot(index="task", columns="arm", values="score").dropna()
    count = len(wide)
    if count < FEWEST or wide.shape[1] < 3:
        return np.nan, np.nan, np.nan, count
    pairs = scipy.stats.rankdata(wide, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = np.nan_to_num(np.corrcoef(pairs))  # a task on which all arms tie orders none
    mean = _mean(between, range(count))
    without = np.array([_mean(between, [task for task in range(count) if task != out]) for out in range(count)])
    values = count * mean - (count - 1) * without
    low, high = stats.interval(mean, float(values.std(ddof=1) / np.sqrt(count)), count - 1)
    return mean, max(-1.0, low), min(1.0, high), count


def _mean(between: np.ndarray, tasks) -> float:
    return float(np.mean([between[first, second] for first, second in itertools.combinations(tasks, 2)]))


def new_task(gaps: pd.DataFrame, margin: float = 1.0, level: float = 0.95) -> pd.DataFrame:
    """For each arm of ``stats.paired_gaps``, one place a task, the gap to the baseline that another task of this kind
    would show. Columns: ``arm``, ``arm_place``, ``baseline``; ``gap``, the mean over tasks, with ``low`` and ``high``;
    ``between``, the standard deviation of true gaps between tasks; ``new_low`` and ``new_high``, within which a new task's
    gap would lie with 95 %, measured with as many seeds and test examples as these; ``ahead``, the chance that it is above
    zero, ``close``, that it is above minus ``margin``; ``tasks``.

    A random-effects model: tasks differ in their true gap, and each is measured with its error over seeds and test examples.
    Its variance between tasks is Paule and Mandel's (statsmodels), the error of the mean Hartung and Knapp's where that is
    the larger. A new gap differs by tasks, by its own error and by that of the mean; leaving its error out, as is usual
    (Higgins, Thompson and Spiegelhalter 2009), holds 90 and not 95 % where errors are as large as tasks differ. Tasks on
    which the baseline has not learnt, a pair has no score, or scores are not in points are left out. Without ``FEWEST``
    tasks an arm has no row.
    """
    from statsmodels.stats.meta_analysis import combine_effects

    rows = []
    for arm, part in gaps.groupby("arm", sort=False):
        points = part["metric_axis"] != part["metric_title"]
        known = part[points & part["learnt"].astype(bool) & part["lost"].eq(0) & part["error"].ge(0)]
        if len(known) < FEWEST:
            continue
        variance = known["error"].clip(lower=SURE).to_numpy() ** 2
        found = combine_effects(known["gap"].to_numpy(), variance, use_t=True)
        mean, between = float(found.mean_effect_re), float(np.sqrt(max(found.tau2, 0.0)))
        error = float(max(found.sd_eff_w_re, found.sd_eff_w_re_hksj))
        freedom, spread = len(known) - 1, float(np.sqrt(between ** 2 + variance.mean() + error ** 2))
        low, high = stats.interval(mean, error, freedom, level)
        new_low, new_high = stats.interval(mean, spread, freedom, level)
        rows.append({"arm": arm, "arm_place": part["arm_place"].iloc[0], "baseline": part["baseline"].iloc[0], "gap": mean,
                     "low": low, "high": high, "between": between, "new_low": new_low, "new_high": new_high,
                     "ahead": 1 - stats.ahead(mean, spread, freedom),
                     "close": 1 - stats.ahead(mean + margin, spread, freedom), "tasks": len(known)})
    return pd.DataFrame(rows, columns=None if rows else COLUMNS)


COLUMNS = ["arm", "arm_place", "baseline", "gap", "low", "high", "between", "new_low", "new_high", "ahead", "close", "tasks"]
