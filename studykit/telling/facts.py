"""True sentences about a table: facts, which a notebook shows and keeps, so that no prose reads numbers by hand.

A function takes a table that ``study`` or ``evidence`` made and gives facts, a sentence each, in the table's
order. They know no task, arm or metric by name, so they are true on any study; where the runs cannot tell, they
say so. In a notebook::

    story = Story(experiment, "03_data_fractions")
    story.tell(facts.coverage(table) + facts.not_ok(table))       # shown as Markdown, and kept
    story.tell(facts.gaps(stats.paired_gaps(table), margin=1.0))
    story.draw(plots.score_by_fraction(table, experiment.about), "score_by_fraction", table, "score against …")

========================  =====================================================================================
of a table of runs        ``coverage``, ``not_ok``, ``learnt``, ``chance``, ``order``, ``ends``, ``parameters``,
                          ``frugal``, ``firsts``, ``agreement``
of ``stats.paired_gaps``  ``gaps``, ``beside``, ``tally``, ``crossings``, ``answer``; ``verdict`` of a row;
                          over tasks ``turns``; of two studies' ``side_by_side``
of other tables           ``spread`` (``variance.spread``), ``ratios`` (``variance.ratios``), ``rates``
                          (``rates.judged``), ``effort`` (``rates.effort``), ``costs`` (a ``Clock``), ``pace``
                          (``clock.apart``), ``claims`` (``paper.judge``), ``across`` (``paper.across``),
                          ``spent`` (``evidence.costs.by_arm``), ``kept`` (``keeping.measure``),
                          ``new_task`` (``travel.new_task``)
========================  =====================================================================================

For one place of several give the rows of it: ``facts.gaps(gaps[gaps["fraction"] == 1])``. What the page of a run
puts on top are facts of the kind ``answer``.
"""

import pandas as pd

from studykit.evidence import stats
from studykit.telling import words
from studykit.telling.comparisons import answer, beside, crossings, gaps, tally, verdict
from studykit.telling.findings import (
    across,
    arms_of,
    claims,
    costs,
    effort,
    frugal,
    kept,
    pace,
    rates,
    ratios,
    spent,
    spread,
)
from studykit.telling.story import EMPTY, Fact, Story
from studykit.telling.travel import agreement, firsts, new_task, side_by_side, turns

__all__ = ["EMPTY", "Fact", "Story", "across", "agreement", "answer", "beside", "chance", "claims", "costs",
           "coverage", "crossings", "effort", "ends", "firsts", "frugal", "gaps", "kept", "learnt", "new_task",
           "not_ok", "order", "pace", "parameters", "rates", "ratios", "side_by_side", "spent", "spread", "tally",
           "turns", "verdict"]


IN_MOST = " in most of its runs"


def _aside(table: pd.DataFrame, axis: str) -> str:
    """What is said of a share of the data where runs were watched on a part of it."""
    return " that is not set aside" if axis == "fraction" and "points" in table and (table["points"] > 0).all() else ""


def _titles(table: pd.DataFrame) -> dict[str, str]:
    """Titles by task, in the study's order."""
    rows = table.drop_duplicates("task").sort_values("task_place", kind="stable")
    return dict(zip(rows["task"], rows["task_title"], strict=True))


def coverage(table: pd.DataFrame, wanted: int = 0) -> list[Fact]:
    """How much there is: runs, arms, tasks, places, seeds; how many of the ``wanted`` runs are missing; and which
    arm has no run on a task, or where it has none there, if some of the ``wanted`` are missing."""
    if table.empty:
        return [EMPTY]
    titles, arms, seeds = _titles(table), arms_of(table), table["seed"].nunique()
    parts = [words.counted(len(arms), "arm"), words.counted(len(titles), "task")]
    parts += [words.counted(table[axis].nunique(), words.NOUNS[axis]) for axis in ("fraction", "seconds")
              if table[axis].nunique() > 1]
    parts += [words.counted(seeds, "seed")] if seeds else []
    facts = [Fact("coverage", f"On record: {words.counted(len(table), 'run')} of {words.listed(parts, 6)}.",
                  numbers={"runs": len(table), "arms": len(arms), "tasks": len(titles), "seeds": seeds})]
    if wanted > len(table):
        missing = wanted - len(table)
        facts.append(Fact("missing", f"Of {words.counted(wanted, 'planned run')} {missing:,} {words.be(missing)} not on "
                          "record.", numbers={"missing": missing, "wanted": wanted}))
    there = set(zip(table["task"], table["arm"], strict=True))
    for arm in arms:
        if absent := [title for task, title in titles.items() if (task, arm) not in there]:
            facts.append(Fact("missing", f"{words.arm(arm)} has no run on {words.listed(absent)}.", {"arm": arm}))
    return facts + (_gone(table, titles) if wanted > len(table) else [])


def _gone(table: pd.DataFrame, titles: dict) -> list[Fact]:
    """Of each task: the arms that have runs there, and none at some share or budget of the table, together where they lack
    the same."""
    facts = []
    for axis in ("fraction", "seconds"):
        places = sorted(table[axis].dropna().unique())
        for task, title in titles.items() if len(places) > 1 else ():
            there = table[table["task"] == task]
            lacks: dict[tuple, list[str]] = {}
            for arm in arms_of(there):
                own = set(there.loc[there["arm"] == arm, axis])
                lacks.setdefault(tuple(place for place in places if place not in own), []).append(arm)
            facts += [Fact("missing", f"{words.arms(arms, 12)} {'has' if len(arms) == 1 else 'have'} no run on {title} "
                           f"{words.places(axis, list(gone), places)}.", {"task": task, axis: list(gone)})
                      for gone, arms in lacks.items() if gone]
    return facts


def not_ok(table: pd.DataFrame) -> list[Fact]:
    """Runs that collapsed or diverged: how many of how many, and of which arm on which task most."""
    if table.empty:
        return [EMPTY]
    facts, runs = [], words.counted(len(table), "run")
    cells = table.groupby(["arm", "task_title"], sort=False).size()
    for kind in ("collapsed", "diverged"):
        count = table[table["status"] == kind].groupby(["arm", "task_title"], sort=False).size()
        if count.empty:
            continue
        count = count.sort_values(ascending=False, kind="stable")
        where = [f"{words.arm(arm)} on {title} {number} of {cells[arm, title]}" for (arm, title), number in count.items()]
        if len(where) > 4:
            where[3:] = [f"{count.iloc[3:].sum()} in {len(where) - 3} other places"]
        facts.append(Fact(kind, f"{count.sum()} of {runs} {kind}: {words.listed(where, 4)}.",
                          numbers={"runs": len(table), kind: int(count.sum())}))
    return facts or [Fact("ok", f"None of {runs} collapsed or diverged.", numbers={"runs": len(table)})]


def learnt(table: pd.DataFrame, axis: str = "fraction") -> list[Fact]:
    """Where arms learnt, in most of their runs if they have several: tasks on which all did everywhere, and on which
    none did anywhere; of the others, places where none did, and where which arms did."""
    if table.empty:
        return [EMPTY]
    facts, whole, nowhere, every = [], [], [], True
    alone = not table.duplicated(["task", "arm", axis]).any()
    for task, title in _titles(table).items():
        rows = table[table["task"] == task]
        share = rows.groupby(["arm", axis])["learnt"].mean().unstack().reindex(arms_of(rows))
        if (share > 0.5).all(axis=None):
            whole.append(title)
            every = every and (share == 1).all(axis=None)
        elif not (share > 0.5).any(axis=None):
            nowhere.append(title)
        else:
            facts += _learnt_on(task, title, share > 0.5, axis, alone)
    everywhere = _everywhere(axis, sorted(table[axis].unique())) + _aside(table, axis)
    of_arms = "" if alone else "all runs of " if every else "most runs of "
    if whole:
        facts.insert(0, Fact("learnt", f"On {words.listed(whole, 9)} {of_arms}every arm learnt"
                             f"{everywhere}.", {"tasks": whole}))
    if nowhere:
        facts.append(Fact("nothing_learnt", f"On {words.listed(nowhere, 9)} no arm learnt{'' if alone else IN_MOST}"
                          f"{everywhere}: a tie there says nothing.", {"tasks": nowhere}))
    return facts


def _learnt_on(task: str, title: str, learnt: pd.DataFrame, axis: str, alone: bool) -> list[Fact]:
    """Of one task on which some arm learnt somewhere, and not all everywhere; ``learnt`` has a row an arm and a
    column a place. ``alone``: each has one run there."""
    none = [place for place in learnt if not learnt[place].any()]
    facts = [Fact("nothing_learnt", f"On {title} no arm learnt{'' if alone else IN_MOST} "
                  f"{words.places(axis, none, list(learnt))}: a tie there says nothing.",
                  {"task": task, axis: none})] if none else []
    if len(learnt.columns) == 1 and not none:
        yes, no = (list(learnt.index[learnt.iloc[:, 0] == whether]) for whether in (True, False))
        said = f"{words.arms(yes, 12)} learnt, {words.arms(no, 12)} not" if alone else \
            f"most runs of {words.arms(yes, 12)} learnt, of {words.arms(no, 12)} not"
        return [Fact("learnt", f"On {title} {said}.", {"task": task})]
    arms: dict[str, list[str]] = {}
    for arm, row in learnt.iterrows():
        arms.setdefault(_learnt_at(axis, row), []).append(str(arm))
    told = [f"{words.arms(names, 12)} {at}" for at, names in sorted(arms.items(), key=lambda item: item[0] == "nowhere")]
    which = "; ".join(told) if alone else f"most runs of {'; of '.join(told)}"
    return [*facts, Fact("learnt", f"On {title} learnt: {which}.", {"task": task})]


def _everywhere(axis: str, places: list) -> str:
    if len(places) == 1:
        return f" {words.place(axis, places[0])}"
    return f", at every {words.NOUNS.get(axis, 'place')}"


def _learnt_at(axis: str, row: pd.Series) -> str:
    places = [place for place, yes in row.items() if yes]
    if len(places) in (0, len(row)):
        return "everywhere" if places else "nowhere"
    return words.places(axis, places, list(row.index))


def chance(table: pd.DataFrame) -> list[Fact]:
    """What the best constant answer scores on each task: what knowing nothing gets."""
    if table.empty:
        return [EMPTY]
    rows = table.drop_duplicates("task").sort_values("task_place", kind="stable").to_dict("records")
    parts = [f"{words.number(row['chance'], row)} on {row['task_title']} ({row['metric_title']}"
             f"{', lower is better' if row['better'] < 0 else ''})" for row in rows]
    return [Fact("chance", f"One answer for all scores {words.listed(parts, 9)}.",
                 numbers={row["task"]: row["chance"] for row in rows})]


def order(table: pd.DataFrame, axis: str = "fraction", at: float | None = None) -> list[Fact]:
    """The arms' means at one place of each task, the best first: at ``at``, or at the last, the most data or the
    longest budget. Of more than six arms the best three and the last."""
    if table.empty:
        return [EMPTY]
    at = table[axis].max() if at is None else at
    rows, facts = table[table[axis] == at], []
    for task, title in _titles(rows).items():
        means = stats.summary(rows[rows["task"] == task], ["task", "arm"])
        means = means.assign(rank=-means["score"] * means["better"]).sort_values("rank", kind="stable")
        where = f"On {title} {words.place(axis, at)}{_aside(rows, axis)}"
        if not (means["learnt"] > means["seeds"] / 2).any():
            of_most = IN_MOST if means["seeds"].max() > 1 else ""
            facts.append(Fact("nothing_learnt", f"{where} no arm learnt{of_most}, so their order says nothing.",
                              {"task": task, axis: at}))
            continue
        parts = [f"{words.arm(row['arm'])} {words.number(row['score'], row)}" for row in means.to_dict("records")]
        parts = parts if len(parts) <= 6 else [*parts[:3], f"last of {len(parts)} {parts[-1]}"]
        facts.append(Fact("order", f"{where}: {words.listed(parts, 6)}{_runs(means)}.",
                          {"task": task, axis: at},
                          dict(zip(means["arm"], means["score"], strict=True))))
    return facts


def _runs(means: pd.DataFrame) -> str:
    """How many runs a mean is of, and which way is up where less is better."""
    less = "lower is better; " if means["better"].iloc[0] < 0 else ""
    least, most = means["seeds"].min(), means["seeds"].max()
    each = f"means of {least} to {most} runs" if least < most else f"means of {most} runs"
    return f" ({less}{each if most > 1 else '1 run each, which orders nothing'})"


def ends(table: pd.DataFrame) -> list[Fact]:
    """Where curves that were watched in training end, on the selection split, the best first."""
    if table.empty:
        return [EMPTY]
    facts = []
    for task, title in _titles(table).items():
        runs = table[table["task"] == task].to_dict("records")
        fallen = [run["arm"] for run in runs if run["status"] != "ok"]
        rows = [(run["scored_by"].factor * run["curve"][-1][2], run) for run in runs
                if run["status"] == "ok" and run["curve"] and run["curve"][-1][2] is not None]
        rows.sort(key=lambda pair: -pair[0] * pair[1]["better"])
        parts = [f"{words.arm(row['arm'])} {words.number(score, row)}" for score, row in rows]
        less = " (lower is better)" if rows and rows[0][1]["better"] < 0 else ""
        if rows:
            facts.append(Fact("ends", f"On {title} the curves end at {words.listed(parts, 6)}{less}, one run each: that "
                              "orders nothing.", {"task": task}, {row["arm"]: score for score, row in rows}))
        if fallen:
            facts.append(Fact("not_ok", f"On {title} {words.arms(fallen)} collapsed or diverged: such a curve means "
                              "nothing.", {"task": task, "arms": fallen}))
    return facts


def parameters(table: pd.DataFrame) -> list[Fact]:
    """What each arm trains: how many parameters, which part of the model, and how many of them are the head's."""
    if table.empty:
        return [EMPTY]
    rows = table.sort_values(["task_place", "arm_place"], kind="stable").drop_duplicates("arm").sort_values("arm_place")
    return [Fact("parameters", f"{words.arm(row['arm'])} trains {row['trained']:,.0f} parameters, "
                 f"{_percent(row['trained'] / row['total'])} of the model "
                 f"({'all of them the head' if row['head'] == row['trained'] else format(row['head'], ',.0f') + ' the head'}"
                 "'s).",
                 {"arm": row["arm"]}, {name: row[name] for name in ("trained", "head", "total")})
            for row in rows.to_dict("records")]


def _percent(share: float) -> str:
    return "100 %" if share == 1 else f"{100 * share:.2g} %"
