"""Facts about what travels: the order of arms between tasks, the gap of a new task, two studies side by side."""

import math
from collections.abc import Sequence

import pandas as pd

from studykit.evidence import stats, travel
from studykit.telling import comparisons, words
from studykit.telling.story import Fact

TOO_FEW = Fact("empty", f"There are too few tasks to say anything of another: it takes {travel.FEWEST} on which the "
                        "baseline learnt.")


def agreement(table: pd.DataFrame, moving: Sequence[str]) -> list[Fact]:
    """Whether tasks order the arms alike, of a table of runs at one place a task (``travel.agreement``): those that move the
    encoder, from which it is concluded, then all, since a head alone that is always last makes orders alike."""
    moving = [arm for arm in moving if arm in set(table["arm"])]
    mean, low, high, tasks = travel.agreement(table[table["arm"].isin(moving)])
    if math.isnan(mean):
        return [Fact("empty", f"Whether tasks order arms alike cannot be told: that takes {travel.FEWEST} tasks with all "
                              "arms on record, and three arms that move the encoder.")]
    kind = "alike" if low > 0 or mean > 1 - 1e-9 else "undecided"
    ends = ("a ranking seen on one task tells of the next" if kind == "alike" else
            "whether a ranking holds elsewhere is undecided")
    numbers = {"mean": mean, "low": low, "high": high, "tasks": tasks}
    facts = [Fact(kind, f"Ranked by their means, {words.arms(moving)}: the rankings on any two of the {tasks} tasks "
                        f"correlate at {_correlation(mean, low, high)}: {ends}.", numbers=numbers)]
    every, low, high, _ = travel.agreement(table)
    if table["arm"].nunique() > len(moving) and not math.isnan(every):
        facts.append(Fact("all_arms", f"With all arms: at {_correlation(every, low, high)}.",
                          numbers={"mean": every, "low": low, "high": high}))
    return facts


def _correlation(mean: float, low: float, high: float) -> str:
    interval = "" if math.isnan(low) else f" (roughly {low:.2f} to {high:.2f} with 95 %)"
    return f"{mean:.2f} on average{interval}"


def firsts(table: pd.DataFrame) -> list[Fact]:
    """Which arm has the best mean on how many tasks; arms that tie share one."""
    if table.empty:
        return [TOO_FEW]
    means = stats.summary(table, ["task", "arm"])
    means["rank"] = (means["score"] * means["better"]).groupby(means["task"], sort=False).rank(ascending=False, method="min")
    best = means[means["rank"] == 1]
    count = best["arm"].value_counts()
    parts = [f"{words.arm(arm)} on {words.listed(best.loc[best['arm'] == arm, 'task_title'], 9)}" for arm in count.index]
    return [Fact("firsts", f"The best mean has {words.listed(parts, 9)}; the first of several is so in part by luck.",
                 numbers=count.to_dict())]


def turns(gaps: pd.DataFrame, margin: float = 1.0) -> list[Fact]:
    """Arms that are shown ahead of the baseline on one task and behind it on another, and those ahead on some and behind on
    none, of ``stats.paired_gaps`` at one place a task."""
    kinds = gaps.assign(kind=[comparisons.verdict(row, margin) for row in gaps.to_dict("records")])
    found, only, baseline = {}, {}, words.arm(gaps["baseline"].iloc[0])
    for arm, part in kinds.groupby("arm", sort=False):
        ahead, behind = (part.loc[part["kind"] == kind, "task_title"].tolist() for kind in ("ahead", "behind"))
        if ahead and behind:
            silent = comparisons.unlearnt(part[part["kind"] == "behind"])
            aside = f"; {silent}" if silent else ""
            found[arm] = f"{words.arm(arm)} (ahead on {words.listed(ahead, 9)}, behind on {words.listed(behind, 9)}{aside})"
        elif ahead:
            only[arm] = f"{words.arm(arm)} (ahead on {words.listed(ahead, 9)})"
    one_way = [Fact("one_way", f"Shown ahead of {baseline} on some and behind on none: {words.listed(only.values(), 9)}.",
                    {"arms": list(only)})] if only else []
    if not found:
        return [Fact("no_turn", f"No arm is shown ahead of {baseline} on one task and behind it on another."), *one_way]
    turned = (f"Which is better depends on the task. Shown ahead of {baseline} on one and behind on another, each by a 95 % "
              f"interval of its own: {words.listed(found.values(), 9)}.")
    return [Fact("turn", turned, {"arms": list(found)}), *one_way]


def new_task(new: pd.DataFrame, margin: float = 1.0) -> list[Fact]:
    """What another task of this kind would show, of ``travel.new_task``: a sentence an arm, and one of what is sure."""
    facts, sure = [], []
    for row in new.to_dict("records"):
        arm, baseline = words.arm(row["arm"]), words.arm(row["baseline"])
        kind = "ahead" if row["new_low"] > 0 else "behind" if row["new_high"] < 0 else "undecided"
        chances = _percent(row["ahead"]), _percent(row["close"])
        facts.append(Fact(kind, f"{arm} minus {baseline}: {row['gap']:+.1f} points in the mean over {row['tasks']} tasks "
                          f"({row['low']:+.1f} to {row['high']:+.1f}), above zero on {row['above']}; their true gaps differ "
                          f"by a standard deviation of {row['between']:.1f}. On a new task, measured alike: "
                          f"{row['new_low']:+.1f} to {row['new_high']:+.1f}; ahead with a chance of {chances[0]}, "
                          f"no more than {_points(margin)} behind with {chances[1]}.",
                          {"arm": row["arm"], "baseline": row["baseline"]},
                          {name: row[name] for name in ("gap", "between", "new_low", "new_high", "ahead", "close")}))
        sure += [(row, kind)] if kind != "undecided" else []
    if not facts:
        return [TOO_FEW]
    told = [f"{words.arm(row['arm'])} {comparisons.SAID[kind]} {words.arm(row['baseline'])}" for row, kind in sure]
    return [*facts, Fact("new_task", f"Of a new task of this kind one can say: {words.listed(told)}." if told else
                         f"Of no arm can one say whether it would be ahead of {words.arm(new['baseline'].iloc[0])} or "
                         "behind on a new task of this kind.")]


def _percent(chance: float) -> str:
    return "under 1 %" if chance < 0.01 else "over 99 %" if chance > 0.99 else f"{100 * chance:.0f} %"


def _points(margin: float) -> str:
    return f"{margin:g} point{'s' * (margin != 1)}"


def side_by_side(gaps: pd.DataFrame, others: pd.DataFrame, names: tuple[str, str], margin: float = 1.0) -> list[Fact]:
    """What two studies show of the same arm, task and place, each in its ``stats.paired_gaps``: how often they say the same,
    where one shows an arm ahead and the other behind, and where the gaps themselves differ (``travel.apart``)."""
    axis = words.axis_of(gaps.loc[:, :"arm"])
    both = travel.apart(gaps, others, ("task", axis))
    if both.empty:
        return [Fact("empty", f"Studies {names[0]} and {names[1]} have no task, share and arm in common.")]
    rows = both.to_dict("records")
    kinds = [(comparisons.verdict(row, margin), comparisons.verdict(_other(row), margin)) for row in rows]
    places = [f"{words.arm(row['arm'])} on {row['task_title']} {words.place(axis, row[axis])}" for row in rows]
    shown = set(comparisons.SAID)
    same, neither = sum(first == second in shown for first, second in kinds), sum(not {*pair} & shown for pair in kinds)
    against = [place for place, pair in zip(places, kinds, strict=True) if set(pair) == {"ahead", "behind"}]
    changed = [f"{place}: {comparisons.name(first)}, {comparisons.name(second)}"
               for place, (first, second) in zip(places, kinds, strict=True) if first != second]
    otherwise = f" Otherwise, {names[0]} first: {'; '.join(changed)}." if changed else ""
    facts = [Fact("side_by_side", f"Studies {names[0]} and {names[1]} share {words.counted(len(both), 'gap')}: "
                  f"both show the same of {same}, neither anything of {neither}.{otherwise}",
                  numbers={"shared": len(both), "same": same, "neither": neither})]
    ahead = any("ahead" in pair for pair in kinds)
    facts.append(Fact("contradiction" if against else "no_contradiction",
                      f"They contradict each other on {words.listed(against, 9)}." if against else
                      "No arm is shown ahead in one of them and behind in the other." if ahead else
                      f"Of these {len(both)} neither shows an arm ahead, so there is nothing in which they could contradict "
                      "each other."))
    return [*facts, _differ(dict(zip(places, rows, strict=True)), names)]


LEVEL = 0.05


def _differ(rows: dict[str, dict], names: tuple[str, str]) -> Fact:
    """Where the gaps of two studies differ by more than their errors explain, after Holm's correction over all of them."""
    told = {place: f"{place} ({names[0]} {_signed(row['gap'], row)}, {names[1]} {_signed(row['gap_other'], row)}; "
                   f"difference {_signed(row['apart'], row)}, uncorrected 95 % interval {_signed(row['apart_low'], row)} to "
                   f"{_signed(row['apart_high'], row)}"
                   f"{_unlearnt(row, names)})" for place, row in rows.items()}
    found = [place for place, row in rows.items() if row["p"] <= LEVEL]
    among = f"Of {words.counted(len(rows), 'gap')} that both have, after Holm's correction,"
    if not found:
        nearest = min(rows, key=lambda place: rows[place]["p"])
        return Fact("no_difference", f"{among} none is shown to differ between the two; nearest to it: "
                    f"{told[nearest]}, p = {rows[nearest]['p']:.3f} after it.", numbers={nearest: rows[nearest]["apart"]})
    return Fact("differ", f"{among} {len(found)} {'differs' if len(found) == 1 else 'differ'}: "
                f"{words.listed([told[place] for place in found], 9)}.",
                numbers={place: rows[place]["apart"] for place in found})


def _unlearnt(row: dict, names: tuple[str, str]) -> str:
    """In which of the studies an arm has not learnt, so that its gap says no more than that."""
    there = [name for name, learnt in zip(names, (row["arm_learnt"], row["arm_learnt_other"]), strict=True) if not learnt]
    return f"; it had not learnt in {words.listed(there)}" if there else ""


def _signed(value: float, row: dict) -> str:
    return words.number(value, row, signed=True)


def _other(row: dict) -> dict:
    return {**row, **{name.removesuffix("_other"): value for name, value in row.items() if name.endswith("_other")}}
