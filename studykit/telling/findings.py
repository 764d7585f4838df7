"""Facts about how a study was made: spreads, rates, clocks, and the verdicts on claims."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from studykit.evidence import costs as costs_of
from studykit.evidence import stats
from studykit.telling import comparisons, words
from studykit.telling.story import EMPTY, Fact

if TYPE_CHECKING:
    from studykit.study.clock import Clock


def arms_of(table: pd.DataFrame) -> list[str]:
    """Arms, in the study's order."""
    return table.drop_duplicates("arm").sort_values("arm_place", kind="stable")["arm"].tolist()


def spread(table: pd.DataFrame) -> list[Fact]:
    """Of ``variance.spread``: which seed alone moved an arm's scores most, and whether so few runs can
    tell."""
    facts = []
    alone = table[table["source"] != "all"] if len(table) else table
    for (task, arm), rows in alone.groupby(["task", "arm"], sort=False) if len(alone) else []:
        rows = rows.sort_values("deviation", ascending=False, kind="stable")
        first, others = rows.iloc[0], rows.iloc[1:]
        fallen = int(first["not_ok"])
        clear = (others["high"] < first["low"]).all() and not fallen
        sentence = (f"On {first['task_title']}, of single seeds, {first['source']} moves {words.arm(arm)} most: "
                    f"standard deviation {words.amount(first['deviation'], first)} {words.span(first)}, "
                    f"{words.counted(int(first['runs']), 'run')}{f' ({fallen} not ok)' if fallen else ''}"
                    f"{'' if clear else ', which leaves open which seed weighs most'}.")
        facts.append(Fact("spread", sentence, {"task": task, "arm": arm, "source": first["source"]},
                          {name: first[name] for name in ("deviation", "low", "high", "runs")}))
    return facts or [Fact("empty", "There are too few runs to see a spread.")]


def ratios(table: pd.DataFrame, baseline: str) -> list[Fact]:
    """Of ``variance.ratios``: whether an arm's scores spread more than the baseline's, or less, or whether that
    is open."""
    facts = [_ratio(row, baseline) for row in table.to_dict("records")]
    return facts or [Fact("empty", "There is no second arm to compare spreads with.")]


def _ratio(row: dict, baseline: str) -> Fact:
    on, arm, other = f"On {row['task_title']}", words.arm(row["arm"]), words.arm(baseline)
    about = {"task": row["task"], "arm": row["arm"], "baseline": baseline}
    numbers = {name: row[name] for name in ("times", "low", "high", "p")}
    if math.isnan(row["times"]):
        return Fact("untold", f"{on} the runs of {arm} or {other} do not differ, so their spreads cannot be compared.",
                    about)
    kind = "wider" if row["low"] > 1 else "steadier" if row["high"] < 1 else "undecided"
    size = f"{row['times']:.2g} times as far ({row['low']:.2g} to {row['high']:.2g}) as those of {other}"
    open_ = ", which leaves open whose spread more" if kind == "undecided" else ""
    return Fact(kind, f"{on} scores of {arm} spread {size}{open_}.", about, numbers)


def rates(choices: pd.DataFrame) -> list[Fact]:
    """Of ``rates.judged``: which arms have not learnt at their rate, which choices are close, and how the arms'
    rates lie beside those of the first."""
    if choices.empty:
        return [EMPTY]
    rows = choices.sort_values(["task_place", "arm_place"], kind="stable").to_dict("records")
    told = [row for row in rows if row["learnt"]]
    facts = [Fact("no_rate", f"In trials on {row['task_title']} {words.arm(row['arm'])} did not learn at the rate that is "
                  f"run, {row['rate']:g}.", {"task": row["task"], "arm": row["arm"]},
                  {"rate": row["rate"]})
             for row in rows if not row["learnt"]]
    close = [f"{words.arm(row['arm'])} on {row['task_title']} ({row['level']} of {row['tried']})"
             for row in told if row["level"] > 1]
    which = ": " + words.listed(close, 6) if close else ""
    sentence = (f"Of {words.counted(len(told), 'choice')} of arms that learnt {len(close)} {words.be(len(close))} close, "
                f"with more than one rate that cannot be told from the best{which}.")
    return [*facts, Fact("close", sentence, numbers={"choices": len(told), "close": len(close)}), *_beside(rows, told)]


def _beside(rows: list[dict], told: list[dict]) -> list[Fact]:
    """How many times the arms' rates are those of the first arm, over the tasks on which both learnt."""
    first = min(rows, key=lambda row: row["arm_place"])["arm"]
    rate_of = {row["task"]: row["rate"] for row in told if row["arm"] == first}
    times: dict[str, list[float]] = {}
    for row in sorted(told, key=lambda row: row["arm_place"]):
        if row["arm"] != first and row["task"] in rate_of:
            times.setdefault(row["arm"], []).append(row["rate"] / rate_of[row["task"]])
    if not times:
        return []
    ranges = words.listed([f"{words.arm(arm)} {_range(pd.Series(own), '.3g')}" for arm, own in times.items()], 12)
    has = ranges.replace("` ", "` has ", 1)
    return [Fact("rate", f"Where both learnt, {has} times the rate of {words.arm(first)}.", {"baseline": first},
                 {arm: [min(own), max(own)] for arm, own in times.items()})]


def effort(table: pd.DataFrame) -> list[Fact]:
    """Of ``rates.effort``: whether every arm had as many trials, and from how long to how long a choice took."""
    if table.empty:
        return [EMPTY]
    least, most = int(table["trials"].min()), int(table["trials"].max())
    trials = (f"Every choice of a rate had {words.counted(most, 'trial')}" if least == most
              else f"A choice of a rate had {least} to {most} trials")
    numbers = {"least": least, "most": most}
    if table["seconds"].isna().any():
        return [Fact("effort", f"{trials}; how long they took is not known of runs that trained at once.", numbers=numbers)]
    minutes = table["seconds"].max() > 300
    took = f"{_range(table['seconds'] / 60, '.1f')} minutes" if minutes else f"{_range(table['seconds'], '.0f')} s"
    return [Fact("effort", f"{trials} and took {took} of training.", numbers=numbers)]


def costs(clock: "Clock", baseline: str = "") -> list[Fact]:
    """What a step of each arm takes beside the baseline's (the first arm's), over the tasks; or why there is no
    clock."""
    if clock.refusal or clock.table.empty:
        reason = clock.refusal or "no clock was measured"
        return [Fact("no_clock", f"{reason[0].upper()}{reason[1:]}.")]
    steps = clock.table.assign(step=clock.table[["forward_ms", "backward_ms", "update_ms"]].sum(axis=1))
    by_arm = steps.pivot(index="task", columns="arm", values="step")
    baseline = baseline or arms_of(steps)[0]
    if baseline not in by_arm:
        raise ValueError(f"no pace of the baseline {baseline!r}: the clock has {', '.join(by_arm)}")
    own = by_arm[baseline]
    ratios = {arm: (by_arm[arm] / own).dropna() for arm in arms_of(steps) if arm != baseline}
    others = [f"{words.arm(arm)} {_range(ratio, '.2f')}" for arm, ratio in ratios.items()]
    beside = f", and of {words.listed(others, 9)} times as long" if others else ""
    return [Fact("cost", f"A step of {words.arm(baseline)} takes {_range(own, '.0f')} ms{beside}.", {"baseline": baseline},
                 {arm: [part.min(), part.max()] for arm, part in {baseline: own, **ratios}.items()})]


def frugal(table: pd.DataFrame) -> list[Fact]:
    """Which arm has the best mean on each task, which are not shown behind it, and which of these train fewest
    parameters and train quickest, several where their times are within ``costs.TIE``. ``table`` is of runs at one place."""
    facts = []
    for task, rows in table.groupby("task", sort=False):
        found = costs_of.by_arm(rows).set_index("arm")
        best = (found["score"] * found["better"]).idxmax()
        gaps = stats.paired_gaps(rows, best, by=["task"])
        behind = [row["arm"] for row in gaps.to_dict("records") if comparisons.verdict(row) == "behind"]
        level = found.drop(index=behind)
        few, seconds = level["besides"].idxmin(), level["train_seconds"].dropna()
        quick = list(seconds.index[seconds <= (1 + costs_of.TIE) * seconds.min()])
        alike = f" (within {100 * costs_of.TIE:g} %)" if len(quick) > 1 else ""
        told = f"On {found['task_title'].iloc[0]} {words.arm(best)} has the best mean, " \
               f"{words.number(found['score'][best], found.loc[best])}"
        if len(level) == 1:
            sentence = f"{told}{', and all other arms are shown behind it' if behind else ', and no other arm is there'}."
        else:
            others = words.arms([arm for arm in level.index if arm != best])
            sentence = (f"{told}; not shown behind it: {others}. Among these {len(level)} it is {words.arm(few)} that "
                        f"trains the fewest parameters besides the head, {found['besides'][few]:,.0f}"
                        f"{f', and {words.arms(quick)} {words.be(len(quick))} quickest{alike}' if quick else ''}.")
        facts.append(Fact("frugal", sentence, {"task": task, "best": best, "few": few, "quick": quick},
                          {"level": len(level), "besides": found["besides"][few]}))
    return facts or [EMPTY]


def spent(found: pd.DataFrame) -> list[Fact]:
    """Of ``costs.by_arm`` with a clock's ``step_ms``, on one task: the arms whose steps, and whose memory, are the most and
    the least; untold where runs of one arm differ as much as arms do."""
    facts = []
    for name, what, unit in (("step_ms", "Time of a step", "ms"), ("memory_mb", "Memory beyond the process's own", "MB")):
        told = found.set_index("arm").get(name, pd.Series(dtype=float)).dropna()
        if len(told) > 1:
            most, least = told.idxmax(), told.idxmin()
            ends = [f"{end} with {words.arm(arm)}, {told[arm]:.3g} {unit}" for end, arm in (("most", most), ("least", least))
                    if name != "memory_mb" or _apart(found, arm)]
            said = "; ".join(ends) or "runs of one arm differ as much as arms do"
            facts.append(Fact(name, f"{what}: {said}.", {"most": most, "least": least},
                              {"most": told[most], "least": told[least]}))
    return facts or [Fact("untold", "Fewer than two arms do not tell which takes more.")]


def _apart(found: pd.DataFrame, arm: str) -> bool:
    """Whether the memory of all of the arm's runs is above, or below, that of all others'."""
    own, others = found[found["arm"] == arm].iloc[0], found[found["arm"] != arm]
    return bool((own["memory_low"] > others["memory_high"]).all() or (own["memory_high"] < others["memory_low"]).all())


def kept(found: pd.DataFrame) -> list[Fact]:
    """Of ``keeping.measure``: the largest and the smallest file, and what it takes to load and to switch."""
    if found.empty:
        return [EMPTY]
    most, least = (found.loc[place] for place in (found["file_mb"].idxmax(), found["file_mb"].idxmin()))
    times, ms = most["file_mb"] / least["file_mb"], found[["load_ms", "switch_ms"]].median()
    return [Fact("file", f"The file to keep is largest for {words.arm(most['arm'])}, {most['file_mb']:.2g} MB, and smallest "
                 f"for {words.arm(least['arm'])}, {least['file_mb']:.2g} MB: a factor of {times:.3g}.",
                 {"most": most["arm"], "least": least["arm"]}, {"most": most["file_mb"], "least": least["file_mb"]}),
            Fact("switch", f"Loading encoder and file takes {ms['load_ms']:.0f} ms, switching in memory "
                 f"{ms['switch_ms']:.0f} ms (medians over arms).", numbers=ms.to_dict())]


def _range(values: pd.Series, form: str) -> str:
    low, high = format(values.min(), form), format(values.max(), form)
    return low if low == high else f"{low} to {high}"


def pace(apart: pd.DataFrame) -> list[Fact]:
    """Of ``clock.apart``: arms whose pace beside the others' was not as their clock's."""
    if apart.empty:
        return [Fact("pace", "Held against how slow the machine was for all, no arm on a task was off its clock by more "
                     "than a quarter.")]
    rows: list[dict[str, Any]] = apart.to_dict("records")
    where = words.listed([f"{words.arm(row['arm'])} on {row['task_title']} {row['ratio']:.2f} times"
                          for row in rows], 6)
    told = f"Held against how slow the machine was for all, a token took, for {where} as long as the clock says."
    return [Fact("apart", told,
                 numbers={f"{row['task']} {row['arm']}": row["ratio"] for row in rows})]


def across(verdicts: pd.DataFrame) -> list[Fact]:
    """Of ``paper.across``: which claims are decided alike in all studies, which one upholds and another refutes."""
    studies = list(verdicts.columns[2:])
    if len(studies) < 2:
        return [Fact("empty", "There is no second study with verdicts to hold beside this one.")]
    kinds = [{row[name] for name in studies} for row in verdicts.to_dict("records")]
    alike = {kind: [f"“{text}”" for text, seen in zip(verdicts["statement"], kinds, strict=True) if seen == {kind}]
             for kind in ("upheld", "refuted")}
    against = [f"“{text}”" for text, seen in zip(verdicts["statement"], kinds, strict=True) if {"upheld", "refuted"} <= seen]
    open_in_all = sum(not seen & {"upheld", "refuted"} for seen in kinds)
    decided = [sum(row[name] in alike for name in studies) for row in verdicts.to_dict("records")]
    every, none = ("both", "neither") if len(studies) == 2 else (f"all {len(studies)} studies", "none of them")
    facts = [Fact(f"all_{kind}", f"{kind.capitalize()} in {every}: {words.listed(texts, 9)}.")
             for kind, texts in alike.items() if texts]
    facts.append(Fact("against", f"Upheld in one and refuted in another: {words.listed(against, 9)}." if against else
                      "No claim is upheld in one and refuted in another; more than one decides "
                      f"{words.counted(sum(count > 1 for count in decided), 'claim')}."))
    return [*facts, Fact("open", f"Decided by {none}: {open_in_all} of {words.counted(len(kinds), 'claim')}.",
                         numbers={"open": open_in_all})]


def claims(verdicts: pd.DataFrame, titles: Mapping[str, str] | None = None) -> list[Fact]:
    """Of ``paper.judge``: how many claims are upheld, refuted or undecided, and which; with ``titles`` by task, on which
    tasks each of these is so by itself."""
    if verdicts.empty:
        return [Fact("empty", "There is no claim to judge: the runs that they are about are not on record.")]
    count = verdicts["verdict"].value_counts()
    parts = [f"{count.get(kind, 0)} {kind}" for kind in ("upheld", "refuted", "undecided")]
    silent = int((verdicts["parts"] == 0).sum())
    untested = f"; {silent} of these untested, since no run that it is about is on record" if silent else ""
    facts = [Fact("claims", f"Of {words.counted(len(verdicts), 'claim')}: {words.listed(parts)}{untested}.",
                  numbers={kind: int(number) for kind, number in count.items()})]
    for kind in ("upheld", "refuted"):
        told = [f"“{row['statement']}”{_where(row, kind, titles or {})}"
                for row in verdicts[verdicts["verdict"] == kind].to_dict("records")]
        facts += [Fact(kind, f"{kind.capitalize()}: {words.listed(told, 9)}.")] if told else []
    return facts


def _where(row: Mapping, kind: str, titles: Mapping[str, str]) -> str:
    there = [title for task, title in titles.items() if row.get(task) == kind]
    named = words.all_of(len(there), "task") if len(there) == len(titles) > 1 else words.listed(there)
    return f" (on {named})" if there else ""
