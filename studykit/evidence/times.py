"""How long an arm needs: from scores at some budgets."""

from collections.abc import Mapping

import pandas as pd

from studykit.evidence import stats


def to_reach(table: pd.DataFrame, final: pd.DataFrame, token_seconds: Mapping[tuple[str, str], float],
             share: float = 0.95) -> pd.DataFrame:
    """A row per task: the ``goal``, ``share`` of the way from chance to what the runs of ``final``, one arm's usual
    training, reach in the mean; the ``seconds`` that this training takes on the calibrated clock; and for each arm of
    ``table``, runs within budgets, when its mean arrives there, in words (``stats.time_to_reach``)."""
    means, rows = stats.summary(table, by=["task", "seconds", "arm"]), []
    for task, runs in final.groupby("task", sort=False):
        chance, arm = runs["chance"].iloc[0], runs["arm"].iloc[0]
        goal = chance + share * (runs["score"].mean() - chance)
        own, sign = means[means["task"] == task], runs["better"].iloc[0]
        rows.append({"task": task, "goal": round(goal, 1),
                     "seconds": round(runs["tokens"].mean() * token_seconds[task, arm]),
                     **{name: stats.time_to_reach(part["seconds"], sign * part["score"], sign * goal)
                        for name, part in own.groupby("arm", sort=False)}})
    return pd.DataFrame(rows)
