"""Which seed moves scores: runs of which one seed alone differs from a base run."""

import numpy as np
import pandas as pd

from studykit.evidence import stats

SEEDS = ("subset", "init", "order")


def sources(table: pd.DataFrame) -> np.ndarray:
    """The seed in which each run differs from the base, the commonest value of each: ``subset``, ``init``, ``order``,
    ``all`` where all three do, ``base`` where none does, else ``two``."""
    seeds = table[[f"{name}_seed" for name in SEEDS]]
    differs = seeds.to_numpy() != seeds.mode().iloc[0].to_numpy()
    names = np.where(differs.sum(1) == 1, np.array(SEEDS)[differs.argmax(1)], "two")
    return np.where(differs.all(1), "all", np.where(differs.any(1), names, "base"))


def labelled(table: pd.DataFrame) -> pd.DataFrame:
    """The runs by ``source``; the base run stands in each of its groups."""
    source = sources(table)
    return pd.concat([table.assign(source=name)[(source == name) | (source == "base")] for name in (*SEEDS, "all")],
                     ignore_index=True)


def together(table: pd.DataFrame) -> pd.DataFrame:
    """Those of the runs whose three seeds move together."""
    return table[np.isin(sources(table), ("all", "base"))]


def spread(table: pd.DataFrame) -> pd.DataFrame:
    """Standard deviation of ``score`` by task, arm and ``source``, with its chi-squared interval: ``deviation``, ``low``,
    ``high``, ``runs`` with a score, and ``not_ok``. A source with fewer than three runs is left out."""
    rows = []
    for (task, arm), part in labelled(table).groupby(["task", "arm"], sort=False):
        for source, runs in part.groupby("source", sort=False):
            if (scores := runs["score"].dropna()).size >= 3:
                deviation, low, high = stats.deviation(scores)
                rows.append({"task": task, "arm": arm, "source": source, "deviation": deviation, "low": low, "high": high,
                             "runs": len(scores), "not_ok": int((runs["status"] != "ok").sum()),
                             **runs.iloc[0][list(stats.CARRIED)]})
    return pd.DataFrame(rows)


def parts(spread: pd.DataFrame) -> pd.DataFrame:
    """Of ``spread``'s table: each seed's share of the sum of their variances in percent, and that sum over the
    variance where all move (``sum to all``: 1 if they act apart)."""
    squared = spread.assign(variance=spread["deviation"] ** 2)
    variance = squared.pivot(index=["task", "arm"], columns="source", values="variance")
    total = variance[list(SEEDS)].sum(axis=1)
    shares = (100 * variance[list(SEEDS)].div(total.where(total > 0), axis=0)).round(0)
    return shares.assign(**{"sum to all": (total / variance["all"].where(variance["all"] > 0)).round(1)})


def ratios(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Each arm's standard deviation over the baseline's, of runs whose seeds move together: ``times``, ``low``, ``high``
    (95 %, bootstrap) and ``p`` of the Brown-Forsythe test that both spread alike. Raises ``ValueError`` where there are
    runs, but none of the baseline."""
    rows = []
    if len(table):
        stats.need_baseline(table["arm"].unique(), baseline)
    for task, runs in table.groupby("task", sort=False):
        scores = {arm: part["score"].dropna() for arm, part in runs.groupby("arm", sort=False)}
        for arm in [arm for arm in scores if arm != baseline and baseline in scores]:
            times, low, high = stats.deviation_ratio(scores[arm], scores[baseline])
            rows.append({"task": task, "task_title": runs["task_title"].iloc[0], "arm": arm, "times": times, "low": low,
                         "high": high, "p": stats.spread_test(scores[arm], scores[baseline])})
    return pd.DataFrame(rows, columns=["task", "task_title", "arm", "times", "low", "high", "p"])


def paired(table: pd.DataFrame, baseline: str) -> pd.Series:
    """The gaps of pairs of runs to the baseline, by task, arm and seed. Raises ``ValueError`` where it has no run."""
    stats.need_baseline(table["arm"].unique(), baseline)
    wide = table.pivot(index=["task", "seed"], columns="arm", values="score")
    return wide.drop(columns=baseline).sub(wide[baseline], axis=0).stack().rename("gap").swaplevel("seed", "arm")


def pairs_needed(table: pd.DataFrame, baseline: str, gaps: tuple = (1, 2, 5)) -> pd.DataFrame:
    """How many pairs of runs see a true gap of so many points in four of five studies at the 5 % level, by task and arm.
    Raises ``ValueError`` where the baseline has no run."""
    deviations = paired(table, baseline).groupby(["task", "arm"], sort=False).std()
    needed = {f"{gap:g} point{'s' * (gap != 1)}": {cell: stats.seeds_needed(deviation, gap)
                                                   for cell, deviation in deviations.items()} for gap in gaps}
    return pd.DataFrame(needed).rename_axis(["task", "arm"])


def least_steady(table: pd.DataFrame) -> str:
    """The arm whose scores lie furthest from its median, on the mean over tasks and shares."""
    away = (table["score"] - table.groupby(["task", "fraction", "arm"])["score"].transform("median")).abs()
    return str(away.groupby(table["arm"], sort=False).mean().idxmax())
