"""Does what holds on some tasks hold on the next? The ranks of arms between tasks, and the gap that a new task would show.

Tasks are those that somebody chose, not a sample of all tasks: what is said of a new one is said of one of their kind.
"""

import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import scipy.stats

from studykit.evidence import stats
from studykit.tasks import Task

FEWEST = 4  # tasks, to say anything of another


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
    The interval is rough: near 1, or where orders repeat, it is too short, and NaN where it would have no width. An arm that
    is last everywhere makes any orders alike, so ask of the others by themselves.
    """
    means = stats.summary(table, ["task", "arm"]) if len(table) else pd.DataFrame(columns=["task", "arm", "score", "better"])
    wide = means.assign(score=means["score"] * means["better"]).pivot(index="task", columns="arm", values="score").dropna()
    count = len(wide)
    if count < FEWEST or wide.shape[1] < 3:
        return np.nan, np.nan, np.nan, count
    ranks = scipy.stats.rankdata(wide, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = np.nan_to_num(np.corrcoef(ranks))  # a task on which all arms tie orders none
    mean = _mean(between, range(count))
    without = np.array([_mean(between, [task for task in range(count) if task != out]) for out in range(count)])
    error = float((count - 1) * without.std(ddof=1) / np.sqrt(count))
    if error < 1e-9:
        return mean, np.nan, np.nan, count
    low, high = stats.interval(mean, error, count - 1)
    return mean, max(-1.0, low), min(1.0, high), count


def _mean(between: np.ndarray, tasks: Iterable[int]) -> float:
    return float(np.mean([between[first, second] for first, second in itertools.combinations(tasks, 2)]))


def apart(gaps: pd.DataFrame, others: pd.DataFrame, by: tuple[str, str] = ("task", "fraction"),
          level: float = 0.95) -> pd.DataFrame:
    """The arms of which two studies can tell a gap at the same task and place (the baseline has learnt, every pair has its
    scores, there are two of them), of the ``stats.paired_gaps`` of each: a row each, with what the first study has, what the
    second has under names that end in ``_other``, and ``apart``, the first gap minus the second, with ``apart_low`` and
    ``apart_high``, Welch's interval, and ``p``, after Holm's correction over the rows. It takes seeds and test examples of
    the two for different ones: where they are the same, it is rough."""
    if gaps.empty or others.empty:
        return pd.DataFrame()
    told = [given[given["learnt"].astype(bool) & given["lost"].eq(0) & given["error"].ge(0) & given["gap"].notna()]
            for given in (gaps, others)]
    both = told[0].merge(told[1], on=[*by, "arm"], suffixes=("", "_other"))
    both = both[both["error"] + both["error_other"] > 0].reset_index(drop=True)
    if both.empty:
        return both
    first, second = both["error"] ** 2, both["error_other"] ** 2
    freedom = (first + second) ** 2 / (first ** 2 / both["freedom"] + second ** 2 / both["freedom_other"])
    both["apart"] = both["gap"] - both["gap_other"]
    differences = list(zip(both["apart"], np.sqrt(first + second), freedom, strict=True))
    both[["apart_low", "apart_high"]] = np.array([stats.interval(*row, level) for row in differences])
    both["p"] = stats.holm(pd.Series([min(1.0, 2 * min(stats.ahead(gap, *rest), stats.ahead(-gap, *rest)))
                                      for gap, *rest in differences]))
    return both


def new_task(gaps: pd.DataFrame, margin: float = 1.0, level: float = 0.95) -> pd.DataFrame:
    """For each arm of ``stats.paired_gaps``, one place a task, the gap to the baseline that another task of this kind
    would show. Columns: ``arm``, ``arm_place``, ``baseline``; ``gap``, the mean over tasks, with ``low`` and ``high``;
    ``between``, the standard deviation of true gaps between tasks; ``new_low`` and ``new_high``, within which a new task's
    gap would lie with 95 %, measured with as many seeds and test examples as these; ``ahead``, the chance that it is above
    zero, ``close``, that it is above minus ``margin``; ``tasks``, and on how many of them the gap is ``above`` zero.

    A mixed-effects model with tasks as a random effect: a task has a true gap, measured with its error over seeds and test
    examples. Tasks weigh alike, as in a balanced design, for a task with a run that collapsed has both a large gap and a
    large error: weights by error would drop it. So with k tasks whose gaps deviate by s, the mean's error is s/√k and that
    of a new gap s √(1 + 1/k), by Student's t with k − 1; ``between`` is what of s² errors do not explain. Gaps are taken to
    be normal: where one task lies far from all others, the chances are rough. Tasks on which the baseline has not learnt, a
    pair has no score, or scores are not in points are left out. Without ``FEWEST`` tasks an arm has no row.
    """
    rows = []
    for arm, part in gaps.groupby("arm", sort=False):
        points = part["metric_axis"] != part["metric_title"]
        known = part[points & part["learnt"].astype(bool) & part["lost"].eq(0) & part["error"].ge(0)]
        count = len(known)
        if count < FEWEST:
            continue
        mean, variance = float(known["gap"].mean()), float(known["gap"].var(ddof=1))
        spread = float(np.sqrt(variance * (1 + 1 / count)))
        low, high = stats.interval(mean, float(np.sqrt(variance / count)), count - 1, level)
        new = stats.interval(mean, spread, count - 1, level)
        rows.append({"arm": arm, "arm_place": part["arm_place"].iloc[0], "baseline": part["baseline"].iloc[0], "gap": mean,
                     "low": low, "high": high, "between": float(np.sqrt(max(0.0, variance - (known["error"] ** 2).mean()))),
                     "new_low": max(-100.0, new[0]), "new_high": min(100.0, new[1]),
                     "ahead": 1 - stats.ahead(mean, spread, count - 1),
                     "close": 1 - stats.ahead(mean + margin, spread, count - 1), "tasks": count,
                     "above": int((known["gap"] > 0).sum())})
    return pd.DataFrame(rows, columns=None if rows else COLUMNS)


COLUMNS = ["arm", "arm_place", "baseline", "gap", "low", "high", "between", "new_low", "new_high", "ahead", "close", "tasks",
           "above"]
