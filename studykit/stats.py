"""Intervals and paired gaps. NumPy, pandas and SciPy only."""

import numpy as np
import pandas as pd
import scipy.stats


def mean_interval(values, level=0.95):
    """``(mean, low, high)`` in the unit of the values: Student's t interval for the mean of independent runs.

    It covers what differs between the runs (the seeds), not the choice of test examples. With fewer than two values the
    bounds are NaN: one run has no spread.

    >>> tuple(round(x, 2) for x in mean_interval([1.0, 2.0, 3.0]))
    (2.0, -0.48, 4.48)
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return (float(values.mean()) if len(values) else np.nan, np.nan, np.nan)
    half = scipy.stats.t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def summary(table, by=("task", "method", "fraction"), level=0.95):
    """Mean ``score`` with its interval for each group, the number of ``seeds`` with a score, and of runs ``not_ok``.

    A run that gave one answer to everything keeps its score and is counted in ``not_ok``; one without a score (failed,
    diverged) is counted there and cannot enter the mean.
    """
    def row(group):
        mean, low, high = mean_interval(group["score"].dropna(), level)
        return pd.Series({"score": mean, "low": low, "high": high, "seeds": int(group["score"].notna().sum()),
                          "not_ok": int((group["status"] != "ok").sum())})

    return _by_group(table, list(by), row)


def paired_gaps(table, baseline="full", by=("task", "fraction"), level=0.95):
    """Mean gap ``method - baseline`` in points over pairs of runs that share a seed, with a t interval.

    A pair has the same examples, head and order, so what a seed does to both cancels. Columns: ``by``, ``method``,
    ``gap``, ``low``, ``high``, ``pairs``; ``lost``, the pairs in which a run has no score; and ``not_ok``, those in which a
    run is not ok (those lost, and those where it gave one answer to everything). Raises ``ValueError`` where
    the baseline has no run, or a seed has two.
    """
    by = list(by)
    if baseline not in set(table["method"]):
        raise ValueError(f"no run of the baseline {baseline!r} in the table: it has {', '.join(table['method'].unique())}")
    wide = table.pivot(index=[*by, "seed"], columns="method", values="score")  # raises where an entry is doubled
    fine = table.assign(fine=table["status"] == "ok").pivot(index=[*by, "seed"], columns="method", values="fine")
    planned = table.assign(there=1).pivot(index=[*by, "seed"], columns="method", values="there").notna()
    rows = []
    for method in [name for name in table["method"].unique() if name != baseline]:
        both = planned[method] & planned[baseline]
        wrong = ~(fine[method].eq(True) & fine[baseline].eq(True))[both]
        for group, values in (wide[method] - wide[baseline])[both].groupby(level=by, sort=False):
            mean, low, high = mean_interval(values.dropna(), level)
            rows.append({**dict(zip(by, group, strict=True)), "method": method, "gap": mean, "low": low, "high": high,
                         "pairs": int(values.notna().sum()), "lost": int(values.isna().sum()),
                         "not_ok": int(wrong[values.index].sum())})
    return pd.DataFrame(rows)


def _by_group(table, by, row):
    return pd.DataFrame([{**dict(zip(by, group, strict=True)), **row(part)}
                         for group, part in table.groupby(by, sort=False)])
