"""Facts about paired gaps: behind, ahead, a match, undecided, or such that it cannot be told."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pandas as pd

from studykit.evidence import stats
from studykit.telling import words
from studykit.telling.story import Fact

Margin = float | Mapping[str, float]
KINDS = ("behind", "ahead", "match", "undecided", "untold")
SAID = {"behind": "is behind", "ahead": "is ahead of", "match": "matches"}


def margin_of(margin: Margin, row: Any) -> float:
    """The margin of a row's task: a number is in points, so where a score has a unit of its own there is none
    (0), unless a mapping gives the task one."""
    if isinstance(margin, Mapping):
        return margin.get(row["task"], 0.0)
    return margin if words.in_points(row) else 0.0


def verdict(row: Any, margin: Margin = 1.0) -> str:
    """What a row of ``stats.paired_gaps`` shows, by ``stats.verdict``: ``match``, ``ahead``, ``behind`` or
    ``undecided``; ``untold`` where nothing can be: the baseline has not learnt, a run has no score, or there are
    fewer than two pairs."""
    said = stats.verdict(SimpleNamespace(**row), margin_of(margin, row))
    if said == "cannot tell":
        return "undecided" if row["learnt"] and not row["lost"] and row["error"] >= 0 else "untold"
    return "match" if said == "matches" else said


def gaps(gaps: pd.DataFrame, margin: Margin = 1.0, most: int = 12) -> list[Fact]:
    """How arms compare with the baseline, of ``stats.paired_gaps``: a fact for each task and arm, which sums up
    places (shares of the data, budgets) where there are several; where that makes more than ``most``, a fact an
    arm.

    ``margin`` is in points, or one for each task by name. For one place, say all of the data, give those rows
    only.
    """
    if gaps.empty:
        return [Fact("empty", "There is nothing to compare: no two arms have runs with the same seed.")]
    axis = words.axis_of(gaps.loc[:, :"arm"])
    kinds = gaps.assign(kind=[verdict(row, margin) for row in gaps.to_dict("records")])
    cells = [(part, ["task", "arm"]) for _, part in kinds.groupby(["task", "arm"], sort=False)]
    if len(cells) > most:
        cells = [(part, ["arm"]) for _, part in kinds.groupby("arm", sort=False)]
    return [_single(part.iloc[0].to_dict(), axis, margin) if len(part) == 1 else _several(part, about, axis)
            for part, about in cells]


def _single(row: Any, axis: str, margin: Margin) -> Fact:
    arm, baseline, kind = words.arm(row["arm"]), words.arm(row["baseline"]), row["kind"]
    where = f"on {row['task_title']} {words.place(axis, row[axis]) if axis else ''}".rstrip()
    pairs = words.counted(int(row["pairs"]), "pair of runs", "pairs of runs")
    if kind in ("behind", "ahead"):
        size = words.amount(abs(row["gap"]), row)
        sentence = f"{arm} {SAID[kind]} {baseline} {where} by {size} {words.span(row, flipped=kind == 'behind')}, {pairs}"
    elif kind == "untold":
        sentence = f"How {arm} compares with {baseline} {where} cannot be told: {_silent(row, baseline)}"
    elif kind == "match":
        low, high = stats.interval(row["gap"], row["error"], row["freedom"], 0.9)  # two one-sided tests at 5 %
        ends = words.span({**row, "low": low, "high": high}, signed=True).strip("()")
        sentence = (f"{arm} matches {baseline} {where}, within {_size(margin_of(margin, row), row)}: the gap is "
                    f"{words.amount(row['gap'], row, signed=True)} (90 % interval {ends}), {pairs}")
    else:
        sentence = (f"Whether {arm} is behind or ahead of {baseline} {where} is undecided: the gap is "
                    f"{words.amount(row['gap'], row, signed=True)} {words.span(row, signed=True)}, {pairs}")
    return Fact(kind, f"{sentence}.", _about(row, ["task", "arm", *([axis] if axis else [])]),
                {name: row[name] for name in ("gap", "low", "high", "pairs", "not_ok")})


def _silent(row: Any, baseline: str) -> str:
    if row["pairs"] + row["lost"] < 2:
        return f"that takes two pairs of runs, there {'is' if row['pairs'] == 1 else 'are'} {row['pairs']}"
    return f"{baseline} has not learnt there" if not row["learnt"] else "a run has no score"


def _size(margin: float, row: Any) -> str:
    return f"{margin:g} point{'' if margin == 1 else 's'}" if words.in_points(row) else words.amount(margin, row)


def _several(rows: pd.DataFrame, about: list[str], axis: str) -> Fact:
    """What an arm's gaps at several places, or on several tasks, show."""
    first, count = rows.iloc[0], rows["kind"].value_counts()
    tasks, parts = rows["task"].nunique(), []
    many_places = bool(axis) and rows[axis].nunique() > 1
    for kind in [kind for kind in KINDS if kind in count]:
        there = rows[rows["kind"] == kind]
        where = _where(there, axis, tasks > 1, many_places, rows)
        extent = f" by {_extent(there, axis, tasks > 1, many_places)}" if kind in ("behind", "ahead") else ""
        parts.append(f"{name(kind)}{' ' if where else ''}{where}{extent}")
    subject = f"{words.arm(first['arm'])} against {words.arm(first['baseline'])}"
    one_place = f" {words.place(axis, first[axis])}" if axis and not many_places else ""
    on = f" on {first['task_title']}" if tasks == 1 else one_place
    parts[1:] = [part.replace("% of the data", "%") for part in parts[1:]]  # said once
    return Fact(count.index[0] if len(count) == 1 else "mixed", f"{subject}{on}: {'; '.join(parts)}.", _about(first, about),
                {kind: int(number) for kind, number in count.items()})


def name(kind: str) -> str:
    return {"match": "a match", "untold": "cannot be told"}.get(kind, kind)


def _where(rows: pd.DataFrame, axis: str, many_tasks: bool, many_places: bool, among: pd.DataFrame) -> str:
    """Where rows of one kind, ``among`` all, stand: places on one task, or tasks at one place; a count where both
    differ."""
    of = len(among)
    if many_tasks and many_places:
        return f"in {len(rows)} of {of} comparisons"
    if many_tasks:
        return f"on {words.all_of(of, 'task')}" if len(rows) == of else f"on {words.listed(rows['task_title'], 4)}"
    if len(rows) == of:
        return f"at {words.all_of(of, words.NOUNS.get(axis, 'place'))}"
    return words.places(axis, sorted(rows[axis]), list(among[axis]) if axis else [])


def _extent(rows: pd.DataFrame, axis: str, many_tasks: bool, many_places: bool) -> str:
    """The smallest and the largest gap among rows of one kind; where tasks differ the largest and where it is,
    since each task has its own metric."""
    ordered = rows.assign(size=rows["gap"].abs()).sort_values("size", kind="stable")
    least, most = ordered.iloc[0], ordered.iloc[-1]
    size = words.amount(most["size"], most)
    if many_tasks:
        points = rows[[words.in_points(row) for row in rows.to_dict("records")]]
        most = ordered.loc[points["gap"].abs().idxmax()] if len(points) else most
        place = f" {words.place(axis, most[axis])}" if many_places else ""
        if len(rows) == 1 and not many_places:
            return size  # where it is has been said
        return f"{'up to ' if len(rows) > 1 else ''}{words.amount(most['size'], most)}, on {most['task_title']}{place}"
    if words.number(least["size"], least) == words.number(most["size"], most):
        return size
    return f"{words.number(least['size'], least)} to {size}"


def _about(row: Any, names: list[str]) -> dict:
    return {name: row[name] for name in names} | {"baseline": row["baseline"]}


def beside(gaps: pd.DataFrame, margin: Margin = 1.0) -> list[Fact]:
    """How several arms, such as sizes of one, compare with the baseline at one place: a sentence a task."""
    facts = []
    for _, rows in gaps.groupby("task", sort=False):
        first, parts = rows.iloc[0], []
        kinds = rows.assign(kind=[verdict(row, margin) for row in rows.to_dict("records")])
        for kind in KINDS:
            told = [f"{words.arm(row['arm'])}{_by(row, kind)}" for row in kinds[kinds["kind"] == kind].to_dict("records")]
            parts += [f"{name(kind)}: {words.listed(told, 9)}"] if told else []
        least, most = int(rows["pairs"].min()), int(rows["pairs"].max())
        pairs = f"{least}{'' if least == most else f' to {most}'} pairs of runs each"
        sentence = f"Against {words.arm(first['baseline'])} on {first['task_title']}, {pairs}, {'; '.join(parts)}."
        facts.append(Fact("beside", sentence, _about(first, ["task"]), dict(zip(kinds["arm"], kinds["kind"], strict=True))))
    return facts or [Fact("empty", "There is nothing to compare: no two arms have runs with the same seed.")]


def _by(row: Any, kind: str) -> str:
    return f" by {words.amount(abs(row['gap']), row)} {words.span(row, flipped=kind == 'behind')}" \
        if kind in ("behind", "ahead") else ""


def tally(gaps: pd.DataFrame, margin: Margin = 1.0) -> list[Fact]:
    """Of how many gaps how many show what, and how many such intervals miss by chance alone."""
    if gaps.empty:
        return [Fact("empty", "There is no gap to count.")]
    count = pd.Series([verdict(row, margin) for row in gaps.to_dict("records")]).value_counts()
    parts = [f"{count.get(kind, 0)} {name(kind)}" for kind in KINDS if kind in count or kind == "match"]
    told = int(len(gaps) - count.get("untold", 0))
    chance = f" Of {told} such intervals about {max(1, round(told / 20))} {'misses' if told < 30 else 'miss'} by chance." \
        if told >= 10 else ""
    return [Fact("tally", f"Of {words.counted(len(gaps), 'gap')} to {words.arm(gaps['baseline'].iloc[0])}: "
                 f"{words.listed(parts)}.{chance}", {"baseline": gaps["baseline"].iloc[0]},
                 {kind: int(count.get(kind, 0)) for kind in KINDS})]


def crossings(gaps: pd.DataFrame, margin: Margin = 1.0) -> list[Fact]:
    """Arms that are shown ahead of the baseline at some places of a task and behind it at others."""
    axis = words.axis_of(gaps.loc[:, :"arm"]) if len(gaps) else ""
    facts = []
    for _, part in gaps.groupby(["task", "arm"], sort=False) if axis else []:
        kinds = pd.Series([verdict(row, margin) for row in part.to_dict("records")], index=part.index)
        ahead, behind = (sorted(part.loc[kinds == kind, axis]) for kind in ("ahead", "behind"))
        if ahead and behind:
            first = part.iloc[0]
            facts.append(Fact("crossing", f"On {first['task_title']} {words.arm(first['arm'])} is ahead of "
                              f"{words.arm(first['baseline'])} {words.places(axis, ahead, list(part[axis]))} and behind it "
                              f"{words.places(axis, behind, list(part[axis]))}.", _about(first, ["task", "arm"]),
                              {"ahead": ahead, "behind": behind}))
    if not facts and axis:
        noun, baseline = words.NOUNS.get(axis, "place"), words.arm(gaps["baseline"].iloc[0])
        facts = [Fact("no_crossing", f"No arm is shown ahead of {baseline} at one {noun} and behind it at another of the "
                      "same task.")]
    return facts


def answer(gaps: pd.DataFrame, margin: Margin = 1.0) -> list[Fact]:
    """What gaps say in a few sentences: which arm is shown behind or ahead of the baseline, or matches it, on which tasks,
    and where it had not learnt; what stays open; and where nothing can be told. Of several places the last is taken: the
    most data, the longest budget."""
    if gaps.empty:
        return [Fact("answer", "These runs compare nothing yet.")]
    axis = words.axis_of(gaps.loc[:, :"arm"])
    rows = gaps[gaps[axis] == gaps[axis].max()] if axis else gaps
    where = f"{words.place(axis, rows[axis].iloc[0])}, " if axis else ""
    compared = rows["pairs"] + rows["lost"] > 0
    alone = [title for title in dict.fromkeys(rows["task_title"]) if title not in set(rows.loc[compared, "task_title"])]
    without = f" There is no pair with {words.arm(rows['baseline'].iloc[0])} on {words.listed(alone)}." if alone else ""
    rows = rows[compared] if compared.any() else rows
    kinds = rows.assign(kind=[verdict(row, margin) for row in rows.to_dict("records")])
    baseline, tasks = words.arm(rows["baseline"].iloc[0]), rows["task"].nunique()
    shown, open_, tried = [], [], list(dict.fromkeys(rows["arm"]))
    for arm, part in kinds.groupby("arm", sort=False):
        for kind in ("behind", "ahead", "match"):
            if titles := list(part.loc[part["kind"] == kind, "task_title"]):
                aside = unlearnt(part[part["kind"] == kind])
                shown.append(f"{words.arm(arm)} {SAID[kind]} {baseline} on {_tasks(titles, tasks)}"
                             + (f" ({aside})" if aside else ""))
        if rest := list(part.loc[part["kind"].isin(["undecided", "untold"]) & part["learnt"].astype(bool), "task_title"]):
            open_.append(f"{words.arm(arm)} on {_tasks(rest, tasks)}")
    first = where + (f"{words.listed(shown, 6)}." if shown
                     else f"{words.arms(tried)} {words.be(len(tried))} not shown ahead of {baseline}, behind it, or level "
                          f"with it on {words.listed(dict.fromkeys(rows['task_title']), 4)}.")
    second = f" Open: {words.listed(open_, 6)}." if shown and open_ else ""
    silent = list(dict.fromkeys(rows.loc[~rows["learnt"].astype(bool), "task_title"]))
    untold = f" {baseline} has not learnt on {words.listed(silent, 9)}, so no gap to it can be told there." if silent else ""
    return [Fact("answer", first[0].upper() + first[1:] + second + untold + without, {"baseline": rows["baseline"].iloc[0]})]


def _tasks(titles: list[str], among: int) -> str:
    return words.all_of(among, "task") if len(titles) == among > 1 else words.listed(titles, 4)


def unlearnt(rows: pd.DataFrame) -> str:
    """On which of an arm's tasks it had not learnt, if there are any: a gap there says no more than that."""
    silent = rows.loc[~rows["arm_learnt"].astype(bool), "task_title"].tolist()
    return f"it had not learnt on {words.listed(silent, 9)}" if silent else ""
