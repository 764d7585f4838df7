"""The paper's claims as data, each with its rule and margin, and their verdicts from records.

A claim has parts (a task, a share of the data, a budget). Each part has two p values: ``holds``, small where the part is
shown to hold, and ``fails``, small where it is shown not to. Neither small: undecided. What is not on record, or in which
a run has no score or neither method learnt anything, decides nothing: its part has p values of 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.stats

from studykit.evidence import stats

TASKS = ("mrpc", "cola", "stsb")  # the paper's
MARGIN = 1.0  # points of the task's metric within which two methods match
FACTOR = 1.5  # ratio of standard deviations up to which one method is as stable as another
LEVEL = 0.05
SEEDS = {"fraction": 5, "seconds": 5}  # pairs that were planned for each share and budget: nothing is decided with fewer


@dataclass(frozen=True)
class Claim:
    """``statement`` is the paper's, ``rule`` says when it is upheld; ``parts(reports, budgets)`` gives a row per part.

    ``mixed`` claims say that something is so here and not there: they hold where one part holds and another fails. A claim
    ``contains`` another where it says that and more: it is refuted with it.
    """

    name: str
    statement: str
    rule: str
    parts: Callable
    mixed: bool = False
    contains: str = ""


def _matches(row):
    return {"holds": stats.equivalence(row.gap, row.error, row.freedom, MARGIN),
            "fails": stats.outside(row.gap, row.error, row.freedom, MARGIN)}


def _is_ahead(row):
    t = row.gap / row.error if row.error else np.nan
    return {"holds": scipy.stats.t.sf(t, row.freedom), "fails": scipy.stats.t.cdf(t, row.freedom)}


def _gaps(table, method, baseline, judge, margin, axis="fraction"):
    """A part per task and place on the axis: the paired gap in points."""
    if table.empty or not {method, baseline} <= set(table["method"]):
        return []
    gaps = stats.paired_gaps(table[table["method"].isin([method, baseline])], baseline, by=("task", axis))
    found, places = {(row.task, getattr(row, axis)): row for row in gaps.itertuples()}, sorted(set(table[axis]))
    learnt = {(row.task, getattr(row, axis)) for row in table[table["status"] == "ok"].itertuples()
              if row.method in (method, baseline)}
    rows = []
    for task, place in ((task, place) for place in places for task in TASKS):
        row = found.get((task, place))
        part = {"task": task, "where": f"{100 * place:g} %" if axis == "fraction" else f"{place:g} s", "unit": "points"}
        if row is None or row.pairs < SEEDS[axis] or row.lost or (task, place) not in learnt:
            rows.append(_open(part, row.pairs if row else 0))
            continue
        needs = stats.seeds_to_decide(row.gap, row.error, row.examples_error, row.pairs, margin,
                                      LEVEL / len(places) / len(TASKS))
        rows.append({**part, "estimate": row.gap, "low": row.low, "high": row.high, "runs": row.pairs, "not_ok": row.not_ok,
                     **judge(row), "needs": needs})
    return rows


def _open(part, runs):
    """A part that nothing can be said about."""
    return {**part, "estimate": np.nan, "low": np.nan, "high": np.nan, "runs": runs, "not_ok": 0, "holds": 1.0, "fails": 1.0,
            "needs": None}


def _at(table, *fractions):
    return table[table["fraction"].isin(fractions)]


def _between(table):
    return table[(table["fraction"] > 0.1) & (table["fraction"] < 1)]


def _spreads(table, method, baseline, factor, more):
    """A part per task: the ratio of standard deviations over seeds, pooled over shares of the data. A method that gave one
    answer to everything in some run is not shown to be stable by it."""
    rows = []
    for task in TASKS:
        of = table[(table["task"] == task) & table["method"].isin([method, baseline])]
        scores = of.pivot(index=["method", "fraction"], columns="seed", values="score")
        part = {"task": task, "where": "", "unit": "times"}
        if scores.shape[1] < SEEDS["fraction"] or scores.isna().any(axis=None) or len(set(of["method"])) < 2:
            rows.append(_open(part, scores.shape[1]))
            continue
        one, two = (scores.loc[name].to_numpy() for name in (method, baseline))
        ratio, low, high = stats.deviation_ratio(list(one), list(two))
        above, below = stats.paired_spread_test(one, two, factor), stats.paired_spread_test(two, one, 1 / factor)
        not_ok = int((of["status"] != "ok").sum())
        rows.append({**part, "estimate": ratio, "low": low, "high": high, "runs": scores.shape[1], "not_ok": not_ok,
                     "holds": above if more else 1.0 if not_ok else below, "fails": below if more else above, "needs": None})
    return rows


def _parameters(table, method):
    """One part: the encoder's weights that train, in thousandths of the model; the head's size depends on the encoder."""
    counted = table[(table["method"] == method) & table["trained"].notna()]
    if counted.empty:
        return []
    row = counted.iloc[0]
    value = 1000 * (row["trained"] - row["head"]) / row["total"]
    return [{"task": "", "where": f"and {1000 * row['head'] / row['total']:.1f} of a head", "unit": "thousandths",
             "estimate": value, "low": value, "high": value, "runs": 1, "not_ok": 0, "holds": float(not 0.5 <= value <= 2),
             "fails": float(0.5 <= value <= 2), "needs": None}]


CLAIMS = (
    Claim("match_all_data", "BitFit matches full fine-tuning with all of the data",
          f"on every task the gap at 100 % lies within {MARGIN:g} point",
          lambda reports, budgets: _gaps(_at(reports, 1.0), "bitfit", "full", _matches, MARGIN)),
    Claim("match_fractions", "BitFit matches full fine-tuning across amounts of data",
          f"on every task the gap at every share lies within {MARGIN:g} point",
          lambda reports, budgets: _gaps(reports, "bitfit", "full", _matches, MARGIN), contains="match_all_data"),
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
          "the encoder's weights that it trains are between a half and two thousandths of the model",
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
    (a method's), ``not_ok``, the p values ``holds`` and ``fails``, and ``needs``: how many seeds would decide a gap, Holm's
    correction over parts included, if all stays as measured (missing where no number would).

    ``reports`` are runs over shares of the data, ``budgets`` runs over budgets in seconds (it may be empty). Raises
    ``ValueError`` where there are no reports.
    """
    if reports.empty:
        raise ValueError("no runs over shares of the data are on record: run notebook 03 first")
    found = pd.DataFrame([{"claim": claim.name, **row} for claim in claims for row in claim.parts(reports, budgets)])
    return found.fillna({"holds": 1.0, "fails": 1.0})  # no number, no evidence


def judge(found, claims=CLAIMS):
    """A row per claim, from its ``parts``: ``verdict`` for all tasks together with its ``p`` (Holm's correction over the
    parts, and over the claims; what contains a refuted claim is refuted); a verdict per task in columns of their names,
    corrected over that claim's parts there and not over claims; ``needs``, the seeds that an undecided claim's slowest part
    asks for, and ``stuck``, how many of its gaps no number of seeds would decide."""
    rows = []
    for claim in claims:
        of = found[found["claim"] == claim.name]
        holds, fails = _combined(of, claim.mixed)
        by_task = {task: _verdict(*_combined(part, claim.mixed)) for task, part in of.groupby("task", sort=False) if task}
        rows.append({"claim": claim.name, "statement": claim.statement, "rule": claim.rule, "holds": holds, "fails": fails,
                     **by_task, "parts": len(of), "needs": of["needs"].max(),
                     "stuck": int((of["needs"].isna() & of["estimate"].notna() & of["unit"].eq("points")).sum())})
    table = pd.DataFrame(rows)
    table.insert(3, "p", stats.holm(table[["holds", "fails"]].min(axis=1)))  # true or not: one of the two at most can err
    table.insert(3, "verdict", [_verdict(row.holds, row.fails) if row.p <= LEVEL else "undecided"
                                for row in table.itertuples()])
    for i, claim in enumerate(claims):
        for j in table.index[(table["claim"] == claim.contains) & (table["verdict"] == "refuted")]:
            table.loc[i, ["verdict", "p"]] = "refuted", table.loc[[i, j], "p"].min()
    table.loc[table["verdict"] != "undecided", ["needs", "stuck"]] = [np.nan, 0]
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
