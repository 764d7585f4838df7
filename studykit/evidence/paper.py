"""The paper's claims as data, each with its rule and margin, and their verdicts from records: the only module that knows the
paper's names.

A claim has parts (a task, a share of the data, a budget). Each part has two p values: ``holds``, small where the part is
shown to hold, and ``fails``, small where it is shown not to. Neither small: undecided. What is not on record, in which a run
has no score, or where the baseline has not learnt, decides nothing: its part has p values of 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from studykit.evidence import stats

TASKS = {"mrpc": "MRPC", "cola": "CoLA", "stsb": "STS-B"}  # the paper's, with titles for where a table has none
# full fine-tuning of BERT-base (cased) on GLUE's validation sets, three passes: examples/pytorch/text-classification of
# transformers, by task the metric and its value
PUBLISHED = {"cola": ("matthews_correlation", 56.5), "mrpc": ("f1", 88.9), "stsb": ("pearson", 88.6),
             "sst2": ("accuracy", 92.3), "rte": ("accuracy", 65.7)}
METHODS = ("full", "bitfit", "adapter", "head")
MARGIN = 1.0  # points of the task's metric within which two methods match
FACTOR = 1.5  # ratio of standard deviations up to which one method is as stable as another
LEVEL = 0.05
SEEDS = 5  # pairs that were planned for each place, if nobody says otherwise: nothing is decided with fewer
COLUMNS = ("claim", "task", "task_title", "where", "unit", "estimate", "low", "high", "runs", "not_ok", "holds", "fails",
           "needs", "why")


@dataclass(frozen=True)
class Claim:
    """``statement`` is the paper's, ``rule`` says when it is upheld. ``test`` is how each part is judged: the gap of
    ``method`` to ``baseline`` ``matches`` or is ``ahead``, its spread is ``steady`` or ``wider``, its weights are ``few``;
    at the places of ``axis`` that ``where``, a query of the table, keeps.

    ``mixed`` claims say that something is so here and not there: they hold where one part holds and another fails. A claim
    ``contains`` another where it says that and more: it is refuted with it.
    """

    name: str
    statement: str
    rule: str
    test: str
    method: str
    baseline: str = "full"
    where: str = "fraction > 0"
    axis: str = "fraction"
    mixed: bool = False
    contains: str = ""


CLAIMS = (
    Claim("match_all_data", "BitFit matches full fine-tuning with all of the data",
          f"on every task the gap at 100 % lies within {MARGIN:g} point", "matches", "bitfit", where="fraction == 1"),
    Claim("match_fractions", "BitFit matches full fine-tuning across amounts of data",
          f"on every task the gap at every share lies within {MARGIN:g} point", "matches", "bitfit",
          contains="match_all_data"),
    Claim("match_time", "BitFit matches full fine-tuning across time budgets",
          f"on every task the gap at every budget lies within {MARGIN:g} point", "matches", "bitfit", where="seconds > 0",
          axis="seconds"),
    Claim("stable", "BitFit is stable at 30 % of the data",
          f"on every task its scores at 30 % spread less than {FACTOR:g} times as much as full fine-tuning's", "steady",
          "bitfit", where="fraction == 0.3"),
    Claim("ahead_between", "BitFit beats full fine-tuning at intermediate amounts of data",
          "on every task the gap is above zero at every share between 10 % and 100 %", "ahead", "bitfit",
          where="0.1 < fraction < 1"),
    Claim("thousandth", "BitFit trains about a thousandth of the parameters",
          "the encoder's weights that it trains are between a half and two thousandths of the model", "few", "bitfit"),
    Claim("adapters_vary", "Adapters vary more than full fine-tuning",
          "on every task their scores spread more over seeds, pooled over shares of the data", "wider", "adapter"),
    Claim("gain_over_head", "Adapters gain inconsistently over the default model (read as: the head alone)",
          "they are ahead of the head alone somewhere, and behind it somewhere else", "ahead", "adapter", "head",
          mixed=True),
    Claim("gain_over_full", "Adapters gain inconsistently over the default model (read as: full fine-tuning)",
          "they are ahead of full fine-tuning somewhere, and behind it somewhere else", "ahead", "adapter", mixed=True),
)


def beside_published(table: pd.DataFrame) -> pd.DataFrame:
    """Full fine-tuning with all of the data beside what is published for BERT-base. Columns: ``task_title``, ``metric`` (its
    title), ``here`` (the mean over runs, in points), ``published``, ``runs``. Tasks, or metrics of them, of which nothing is
    known are left out."""
    rows = []
    whole = table[(table["arm"] == arms(table).get("full")) & (table["fraction"] == 1)]
    for task, runs in whole.groupby("task", sort=False):
        name, published = PUBLISHED.get(str(task), ("", np.nan))
        for metric in runs["metrics"].iloc[0]:
            if metric.name == name and runs[name].notna().all():
                rows.append({"task_title": runs["task_title"].iloc[0], "metric": metric.title, "here": runs[name].mean(),
                             "published": published, "runs": len(runs)})
    return pd.DataFrame(rows)


def arms(table: pd.DataFrame) -> dict[str, str]:
    """The label of the arm that is each of the paper's methods in this table: the one with default options, else the one
    that is called like it."""
    labels = {}
    kinds = table[["method", "options", "arm"]].drop_duplicates().to_dict("records") if len(table) else []
    for run in kinds:
        if run["method"] in METHODS and (run["options"] == "" or run["arm"] == run["method"] not in labels):
            labels[run["method"]] = run["arm"]
    return labels


def missing(table: pd.DataFrame, budgets: pd.DataFrame | None = None) -> str:
    """Which of the paper's tasks and methods a study's table lacks, and on which tasks its ``budgets``, if it has any, have
    no run; empty where there is nothing to say."""
    there = set(table["task"]) if len(table) else set()
    lacking = [title for name, title in TASKS.items() if name not in there]
    lacking += [name for name in METHODS if name not in arms(table)]
    rest = ("what is claimed of that stays undecided" if any(_judged(claim, table) for claim in CLAIMS)
            else "none of its claims can be judged")
    told = [f"Of the paper's tasks and methods this study lacks {', '.join(lacking)}: {rest}."] if lacking else []
    untimed = [title for name, title in TASKS.items() if name in there - set(budgets["task"])] if budgets is not None else []
    if untimed:
        told += [f"Within budgets there is no run on {', '.join(untimed)}: what is claimed of them stays undecided."]
    return " ".join(told)


def _judged(claim: Claim, table: pd.DataFrame) -> bool:
    return bool(len(table) and set(table["task"]) & set(TASKS) and {claim.method, claim.baseline} <= set(arms(table)))


def parts(reports: pd.DataFrame, budgets: pd.DataFrame, *, seeds: int = SEEDS, margin: float = MARGIN,
          claims: Sequence[Claim] = CLAIMS) -> pd.DataFrame:
    """A row per claim and part: ``claim``, ``task`` and its title, ``where``, ``estimate`` with ``low`` and ``high`` in
    ``unit``, ``runs`` (a method's), ``not_ok``, the p values ``holds`` and ``fails``; ``needs``, how many seeds would decide
    a gap, Holm's correction over parts included, if all stays as measured (missing where no number would); and ``why`` a
    part says nothing.

    ``reports`` are runs over shares of the data, ``budgets`` runs over budgets in seconds (it may be empty); ``seeds`` is
    how many pairs were planned at each place. Without a task or methods of the paper's it is empty, and ``missing`` says
    so. Raises ``ValueError`` where there are no reports.
    """
    if reports.empty:
        raise ValueError("no runs over shares of the data are on record: run notebook 03 first")
    rows = []
    for claim in claims:
        table = budgets if claim.axis == "seconds" else reports
        if not _judged(claim, table):
            continue
        arm, baseline = (arms(table)[method] for method in (claim.method, claim.baseline))
        runs = table[table["task"].isin(TASKS) & table["arm"].isin([arm, baseline])].query(claim.where)
        rows += [{"claim": claim.name, **part} for part in TESTS[claim.test](claim, runs, arm, baseline, seeds, margin)]
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    return found.fillna({"holds": 1.0, "fails": 1.0, "why": ""})  # no number, no evidence


def _part(table: pd.DataFrame, task: str, where: str, unit: str, **found) -> dict:
    """A row of ``parts``; one that says nothing but what is ``found`` overrides."""
    titles = table.loc[table["task"] == task, "task_title"]
    return {"task": task, "task_title": titles.iloc[0] if len(titles) else TASKS.get(task, ""), "where": where, "unit": unit,
            "estimate": np.nan, "low": np.nan, "high": np.nan, "runs": 0, "not_ok": 0, "holds": 1.0, "fails": 1.0,
            "needs": np.nan, "why": "", **found}


def _gaps(claim: Claim, runs: pd.DataFrame, arm: str, baseline: str, seeds: int, margin: float) -> list[dict]:
    """A part per task and place on the axis: the paired gap in points."""
    if baseline not in set(runs["arm"]):
        return []
    gaps = {(row.task, getattr(row, claim.axis)): row
            for row in stats.paired_gaps(runs, baseline, by=("task", claim.axis)).itertuples()}
    margin, places, rows = margin if claim.test == "matches" else 0.0, sorted(set(runs[claim.axis])), []
    for place, task in ((place, task) for place in places for task in TASKS):
        where, row = f"{100 * place:g} %" if claim.axis == "fraction" else f"{place:g} s", gaps.get((task, place))
        why = _silent(row, baseline, seeds)
        if why or row is None:
            rows.append(_part(runs, task, where, "points", runs=row.pairs if row else 0, why=why))
            continue
        test = row.gap, row.error, row.freedom
        holds, fails = ((stats.equivalence(*test, margin), stats.outside(*test, margin)) if claim.test == "matches"
                        else (stats.ahead(*test), stats.ahead(-row.gap, *test[1:])))
        needs = stats.seeds_to_decide(row.gap, row.error, row.examples_error, row.pairs, margin,
                                      LEVEL / len(places) / len(TASKS))
        rows.append(_part(runs, task, where, "points", estimate=row.gap, low=row.low, high=row.high, runs=row.pairs,
                          not_ok=row.not_ok, holds=holds, fails=fails, needs=needs))
    return rows


def _silent(row, baseline: str, seeds: int) -> str:
    """Why a gap says nothing, if it does not."""
    if row is None or row.pairs + row.lost < seeds:
        return f"fewer than {seeds} pairs of runs"
    return "a run has no score" if row.lost else "" if row.learnt else f"{baseline} has not learnt"


def _spreads(claim: Claim, runs: pd.DataFrame, arm: str, baseline: str, seeds: int, margin: float) -> list[dict]:
    """A part per task: the ratio of standard deviations over seeds, pooled over the places where the baseline has learnt. A
    method is not shown to be steady by runs that collapsed."""
    rows, factor, places = [], FACTOR if claim.test == "steady" else 1.0, set(runs[claim.axis])
    for task in TASKS:
        own = runs[runs["task"] == task]
        learnt = own[own["arm"] == baseline].groupby(claim.axis)["learnt"].mean() > 0.5
        own = own[own[claim.axis].isin(learnt.index[learnt])]
        scores = own.pivot(index=["arm", claim.axis], columns="seed", values="score")
        whole = len(learnt) == len(places) and len(scores) == 2 * learnt.sum() and not scores.isna().any(axis=None)
        if not learnt.any() or scores.shape[1] < seeds or not whole:
            why = f"{baseline} has not learnt" if len(learnt) and not learnt.any() else f"fewer than {seeds} pairs of runs"
            rows.append(_part(runs, task, "", "times", runs=scores.shape[1], why=why))
            continue
        own_scores, others = scores.loc[arm].to_numpy(), scores.loc[baseline].to_numpy()
        not_ok = int((own["status"] != "ok").sum())
        ratio, low, high = stats.deviation_ratio(list(own_scores), list(others))
        wider = stats.paired_spread_test(own_scores, others, factor)
        narrower = stats.paired_spread_test(others, own_scores, 1 / factor)
        holds, fails = (wider, narrower) if claim.test == "wider" else (1.0 if not_ok else narrower, wider)
        rows.append(_part(runs, task, "", "times", estimate=ratio, low=low, high=high, runs=scores.shape[1], not_ok=not_ok,
                          holds=holds, fails=fails))
    return rows


def _weights(claim: Claim, runs: pd.DataFrame, arm: str, baseline: str, seeds: int, margin: float) -> list[dict]:
    """One part: the encoder's weights that train, in thousandths of the model; the head's size depends on the encoder."""
    counted = runs[(runs["arm"] == arm) & runs["trained"].notna()]
    if counted.empty:
        return []
    trained, head, total = counted[["trained", "head", "total"]].iloc[0]
    value = 1000 * (trained - head) / total
    return [_part(runs, "", f"besides {1000 * head / total:.1f} ‰ in the head", "thousandths", estimate=value, low=value,
                  high=value, runs=1, holds=float(not 0.5 <= value <= 2), fails=float(0.5 <= value <= 2))]


TESTS = {"matches": _gaps, "ahead": _gaps, "steady": _spreads, "wider": _spreads, "few": _weights}


def judge(found: pd.DataFrame, claims: Sequence[Claim] = CLAIMS) -> pd.DataFrame:
    """A row per claim, from its ``parts``: ``verdict`` for all tasks together with its ``p`` (Holm's correction over the
    parts, and over the claims; what contains a refuted claim is refuted); a verdict per task in columns of their names,
    corrected over that claim's parts there and not over claims; ``needs``, the seeds that an undecided claim's slowest part
    asks for, and ``stuck``, how many of its gaps no number of seeds would decide. Empty where there are no parts."""
    if found.empty:
        return pd.DataFrame(columns=["claim", "statement", "rule", "verdict", "p", "holds", "fails", "parts", "needs",
                                     "stuck"])
    rows = []
    for claim in claims:
        own = found[found["claim"] == claim.name]
        holds, fails = _combined(own, claim.mixed)
        by_task = {task: _verdict(*_combined(part, claim.mixed)) for task, part in own.groupby("task", sort=False) if task}
        rows.append({"claim": claim.name, "statement": claim.statement, "rule": claim.rule, "holds": holds, "fails": fails,
                     **by_task, "parts": len(own), "needs": own["needs"].max(),
                     "stuck": int((own["needs"].isna() & own["estimate"].notna() & own["unit"].eq("points")).sum())})
    table = pd.DataFrame(rows)
    table.insert(3, "p", stats.holm(table[["holds", "fails"]].min(axis=1)))  # true or not: one of the two at most can err
    table.insert(3, "verdict", [_verdict(row.holds, row.fails) if row.p <= LEVEL else "undecided"
                                for row in table.itertuples()])
    for i, claim in enumerate(claims):
        for j in table.index[(table["claim"] == claim.contains) & (table["verdict"] == "refuted")]:
            table.loc[i, ["verdict", "p"]] = "refuted", table.loc[[i, j], "p"].min()
    table.loc[table["verdict"] != "undecided", ["needs", "stuck"]] = [np.nan, 0]
    return table


def without_evidence(verdicts: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The table of ``judge`` with ``no evidence`` on a task where no part of a claim has an estimate."""
    silent = found["estimate"].isna().groupby([found["claim"], found["task"]]).all()
    table = verdicts.set_index("claim")
    for claim, task in silent.index[silent]:
        if task in table:
            table.loc[claim, task] = "no evidence"
    return table.reset_index()


def across(judged: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The verdicts of several studies: a row per claim with its ``statement``, and a column per study, by name; ``untested``
    where a study has no part of a claim, and a study without verdicts has no column."""
    by_claim = {name: verdicts.set_index("claim") for name, verdicts in judged.items() if len(verdicts)}
    rows = [{"claim": claim.name, "statement": claim.statement,
             **{name: told(verdicts.loc[claim.name]) for name, verdicts in by_claim.items()}} for claim in CLAIMS]
    return pd.DataFrame(rows)


def told(row: Mapping[str, Any]) -> str:
    """The verdict of a row of ``judge``; ``untested`` where no run that the claim is about is on record."""
    return row["verdict"] if row["parts"] else "untested"


def _combined(found: pd.DataFrame, mixed: bool) -> tuple[float, float]:
    """``(holds, fails)`` of a claim from its parts; ``(1, 1)`` without any.

    That all parts hold is shown by the largest p; that some part does, by the smallest after Holm's correction.
    """
    if found.empty:
        return 1.0, 1.0
    if not mixed:
        return float(found["holds"].max()), float(stats.holm(found["fails"]).min())
    some = max(stats.holm(found["holds"]).min(), stats.holm(found["fails"]).min())
    return float(some), float(min(1.0, 2 * min(found["holds"].max(), found["fails"].max())))


def _verdict(holds: float, fails: float) -> str:
    return "upheld" if holds <= LEVEL else "refuted" if fails <= LEVEL else "undecided"
