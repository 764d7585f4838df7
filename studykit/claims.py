"""The paper's claims as data, each with its rule and margin fixed before the data, and their verdicts from records.

A claim has parts (a task, a share of the data, a budget). Each part has two p values: ``holds``, small where the part is
shown to hold, and ``fails``, small where it is shown not to. Neither small: undecided.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.stats

from studykit import stats

MARGIN = 1.0  # points of the task's metric within which two methods match
FACTOR = 1.5  # ratio of standard deviations up to which one method is as stable as another
LEVEL = 0.05
VERDICTS = ("upheld", "refuted", "undecided")


@dataclass(frozen=True)
class Claim:
    """``statement`` is the paper's, ``rule`` says when it is upheld; ``parts(reports, budgets)`` gives a row per part.

    ``mixed`` claims say that something is so here and not there: they hold where one part holds and another fails.
    """

    name: str
    statement: str
    rule: str
    parts: Callable
    mixed: bool = False


def _matches(row):
    return {"holds": stats.equivalence(row.gap, row.error, row.freedom, MARGIN),
            "fails": stats.outside(row.gap, row.error, row.freedom, MARGIN)}


def _is_ahead(row):
    t = row.gap / row.error if row.error else np.inf * np.sign(row.gap)
    return {"holds": float(scipy.stats.t.sf(t, row.freedom)), "fails": float(scipy.stats.t.cdf(t, row.freedom))}


def _gaps(table, method, baseline, judge, margin, axis="fraction"):
    """A part per task and place on the axis: the paired gap in points."""
    if table.empty or not {method, baseline} <= set(table["method"]):
        return []
    gaps = stats.paired_gaps(table[table["method"].isin([method, baseline])], baseline, by=("task", axis))
    rows = [row for row in gaps.itertuples() if row.pairs > 1]
    return [{"task": row.task, "where": getattr(row, axis), "estimate": row.gap, "low": row.low, "high": row.high,
             "unit": "points", "runs": row.pairs, "not_ok": row.not_ok, **judge(row),
             "needs": stats.seeds_to_decide(row.gap, row.error, row.examples_error, row.pairs, margin)} for row in rows]


def _at(table, *fractions):
    return table[table["fraction"].isin(fractions)]


def _between(table):
    return table[(table["fraction"] > 0.1) & (table["fraction"] < 1)]


def _spreads(table, method, baseline, factor, more):
    """A part per task: the ratio of standard deviations over seeds, pooled over shares of the data."""
    rows = []
    for task, part in table.groupby("task", sort=False):
        groups = {name: [of["score"].dropna().to_numpy() for _, of in part[part["method"] == name].groupby("fraction")]
                  for name in (method, baseline)}
        one, two = ([group for group in groups[name] if len(group) > 2] for name in (method, baseline))
        if not one or not two:
            continue
        ratio, low, high = stats.deviation_ratio(one, two)
        above, below = (stats.spread_test(one, two, factor, side) for side in ("greater", "less"))
        seen = scipy.stats.norm.isf(min(above, below))
        rows.append({"task": task, "where": None, "estimate": ratio, "low": low, "high": high, "unit": "times",
                     "runs": min(map(len, one + two)), "not_ok": int((part["status"] != "ok").sum()),
                     "holds": above if more else below, "fails": below if more else above,
                     "needs": int(np.ceil(len(one[0]) * (1.645 / seen) ** 2)) if seen > 0.05 else None})
    return rows


def _parameters(table, method):
    """A part per way of counting: the share of the model's parameters that train, in thousandths."""
    row = table[table["method"] == method].iloc[0]
    counted = (("with the head", row["trained"]), ("without the head", row["trained"] - row["head"]))
    thousandths = [(where, 1000 * count / row["total"]) for where, count in counted]
    return [{"task": "", "where": where, "estimate": value, "low": value, "high": value, "unit": "thousandths", "runs": 1,
             "not_ok": 0, "holds": float(not 0.5 <= value <= 2), "fails": float(0.5 <= value <= 2), "needs": None}
            for where, value in thousandths]


CLAIMS = (
    Claim("match_all_data", "BitFit matches full fine-tuning with all of the data",
          f"on every task the gap at 100 % lies within {MARGIN:g} point",
          lambda reports, budgets: _gaps(_at(reports, 1.0), "bitfit", "full", _matches, MARGIN)),
    Claim("match_fractions", "BitFit matches full fine-tuning across amounts of data",
          f"on every task the gap at every share lies within {MARGIN:g} point",
          lambda reports, budgets: _gaps(reports, "bitfit", "full", _matches, MARGIN)),
    Claim("match_time", "BitFit matches full fine-tuning across time budgets",
          f"on every task the gap at every budget lies within {MARGIN:g} point",
          lambda reports, budgets: _gaps(budgets, "bitfit", "full", _matches, MARGIN, "seconds")),
    Claim("stable", "BitFit is stable at 30 % of the data",
          f"on every task its scores at 30 % spread less than {FACTOR:g} times as much as full fine-tuning's",
          lambda reports, budgets: _spreads(_at(reports, 0.3), "bitfit", "full", FACTOR, more=False)),
    Claim("ahead_between", "BitFit beats full fine-tuning at intermediate amounts of data",
          "on every task the gap is above zero at every share between 10 % and 100 %",
          lambda reports, budgets: _gaps(_between(reports), "bitfit", "full", _is_ahead, 0.0)),
    Claim("thousandth", "BitFit trains about a thousandth of the parameters",
          "what it trains, with and without the head, is between a half and two thousandths of the model",
          lambda reports, budgets: _parameters(reports, "bitfit")),
    Claim("adapters_vary", "Adapters vary more than full fine-tuning",
          "on every task their scores spread more over seeds, pooled over shares of the data",
          lambda reports, budgets: _spreads(reports, "adapter", "full", 1.0, more=True)),
    Claim("gain_over_head", "Adapters gain inconsistently over the default model (read as: the head alone)",
          "they are ahead of the head alone somewhere, and behind it somewhere else",
          lambda reports, budgets: _gaps(reports, "adapter", "head", _is_ahead, 0.0), mixed=True),
    Claim("gain_over_full", "Adapters gain inconsistently over the default model (read as: full fine-tuning)",
          "they are ahead of full fine-tuning somewhere, and behind it somewhere else",
          lambda reports, budgets: _gaps(reports, "adapter", "full", _is_ahead, 0.0), mixed=True),
)


def parts(reports, budgets, claims=CLAIMS):
    """A row per claim and part: ``claim``, ``task``, ``where``, ``estimate`` with ``low`` and ``high`` in ``unit``, ``runs``
    (a method's), ``not_ok``, the p values ``holds`` and ``fails``, and ``needs``: how many seeds would decide it, if all
    stays as measured (missing where no number would, or none is needed).

    ``reports`` are runs over shares of the data, ``budgets`` runs over budgets in seconds (it may be empty).
    """
    if reports.empty:
        raise ValueError("no runs over shares of the data are on record: run notebook 03 first")
    return pd.DataFrame([{"claim": claim.name, **row} for claim in claims for row in claim.parts(reports, budgets)])


def judge(found, claims=CLAIMS):
    """A row per claim, from its ``parts``: ``verdict`` for all tasks together with its ``p`` (Holm's correction over the
    parts and over the claims); a verdict per task in columns of their names, corrected over that claim's parts there;
    ``needs``, the seeds that its slowest undecided part asks for, and ``stuck``, the parts that no number would decide."""
    rows = []
    for claim in claims:
        of = found[found["claim"] == claim.name]
        holds, fails = _combined(of, claim.mixed)
        by_task = {task: _verdict(*_combined(part, claim.mixed)) for task, part in of.groupby("task", sort=False) if task}
        open_parts = of[(of["holds"] > LEVEL) & (of["fails"] > LEVEL)]
        rows.append({"claim": claim.name, "statement": claim.statement, "rule": claim.rule, "holds": holds, "fails": fails,
                     **by_task, "parts": len(of), "needs": open_parts["needs"].max(),
                     "stuck": int(open_parts["needs"].isna().sum())})
    table = pd.DataFrame(rows)
    either = stats.holm(table[["holds", "fails"]].min(axis=1))  # a claim is true or not: only one of the two can err
    table.insert(3, "p", either)
    table.insert(3, "verdict", [_verdict(row.holds, row.fails) if p <= LEVEL else "undecided"
                                for row, p in zip(table.itertuples(), either, strict=True)])
    return table


def _combined(of, mixed):
    """``(holds, fails)`` of a claim from its parts; ``(1, 1)`` without any.

    That all parts hold is shown by the largest p; that some part does, by the smallest after Holm's correction.
    """
    if of.empty:
        return 1.0, 1.0
    if not mixed:
        return float(of["holds"].max()), float(stats.holm(of["fails"]).min())
    some = max(stats.holm(of["holds"]).min(), stats.holm(of["fails"]).min())
    return float(some), float(min(1.0, 2 * min(of["holds"].max(), of["fails"].max())))


def _verdict(holds, fails):
    return "upheld" if holds <= LEVEL else "refuted" if fails <= LEVEL else "undecided"
