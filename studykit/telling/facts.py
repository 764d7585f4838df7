"""True sentences about a table: facts, which a notebook shows and keeps, so that no prose reads numbers by hand.

A function takes a table that ``study`` or ``evidence`` made and gives facts, a sentence each, in the table's order. They know
no task, arm or metric by name, so they are true on any study; where the runs cannot tell, they say so. In a notebook::

    story = Story(experiment, "03_data_fractions")
    story.tell(facts.coverage(table) + facts.not_ok(table))       # shown as Markdown, and kept
    story.tell(facts.gaps(stats.paired_gaps(table), margin=1.0))
    story.draw(plots.score_by_fraction(table, experiment.about), "score_by_fraction", table, "score against …")

========================  =====================================================================================
of a table of runs        ``coverage``, ``not_ok``, ``learnt``, ``chance``, ``order``, ``ends``, ``parameters``
of ``stats.paired_gaps``  ``gaps``, ``tally``, ``crossings``, ``answer``; ``verdict`` of a row
of other tables           ``spread`` (``stats.spread_by_source``), ``ratios`` (``variance.ratios``), ``rates``
                          (``rates.judged``), ``effort`` (``rates.effort``), ``costs`` (a ``Clock``), ``pace``
                          (``clock.apart``), ``claims`` (``paper.judge``)
========================  =====================================================================================
"""

import math
from typing import TYPE_CHECKING

import pandas as pd

from studykit.evidence import stats
from studykit.telling import words
from studykit.telling.comparisons import answer, crossings, gaps, tally, verdict
from studykit.telling.story import Fact, Story

if TYPE_CHECKING:
    from studykit.study.clock import Clock

__all__ = ["EMPTY", "Fact", "Story", "answer", "chance", "claims", "costs", "coverage", "crossings", "effort", "ends", "gaps",
           "learnt", "not_ok", "order", "pace", "parameters", "rates", "ratios", "spread", "tally", "verdict"]

EMPTY = Fact("empty", "There is nothing to read here: no run is on record.")


def _titles(table: pd.DataFrame) -> dict[str, str]:
    """Titles by task, in the study's order."""
    rows = table.drop_duplicates("task").sort_values("task_place", kind="stable")
    return dict(zip(rows["task"], rows["task_title"], strict=True))


def _arms(table: pd.DataFrame) -> list[str]:
    """Arms, in the study's order."""
    return table.drop_duplicates("arm").sort_values("arm_place", kind="stable")["arm"].tolist()


# Of a table of runs


def coverage(table: pd.DataFrame, wanted: int = 0) -> list[Fact]:
    """How much there is: runs, tasks, arms, places, seeds; how many of the ``wanted`` runs are missing; and which arm has no
    run on a task."""
    if table.empty:
        return [EMPTY]
    titles, arms, seeds = _titles(table), _arms(table), table["seed"].nunique()
    parts = [words.counted(len(arms), "arm"), words.counted(len(titles), "task")]
    parts += [words.counted(table[axis].nunique(), words.NOUNS[axis]) for axis in ("fraction", "seconds") if table[axis].nunique() > 1]
    parts += [words.counted(seeds, "seed")] if seeds else []
    facts = [Fact("coverage", f"On record: {words.counted(len(table), 'run')} of {words.listed(parts, 6)}.",
                  numbers={"runs": len(table), "arms": len(arms), "tasks": len(titles), "seeds": seeds})]
    if wanted > len(table):
        missing = wanted - len(table)
        facts.append(Fact("missing", f"Of {words.counted(wanted, 'planned run')} {missing:,} {_is(missing)} not on record.",
                          numbers={"missing": missing, "wanted": wanted}))
    there = set(zip(table["task"], table["arm"], strict=True))
    for arm in arms:
        if absent := [title for task, title in titles.items() if (task, arm) not in there]:
            facts.append(Fact("missing", f"{words.arm(arm)} has no run on {words.listed(absent)}.", {"arm": arm}))
    return facts


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def not_ok(table: pd.DataFrame) -> list[Fact]:
    """Runs that collapsed or diverged: how many of how many, and of which arm on which task most."""
    if table.empty:
        return [EMPTY]
    facts, runs = [], words.counted(len(table), "run")
    cells = table.groupby(["arm", "task_title"], sort=False).size()
    for kind, meaning in (("collapsed", " (nearly one answer for every example)"), ("diverged", "")):
        count = table[table["status"] == kind].groupby(["arm", "task_title"], sort=False).size()
        if count.empty:
            continue
        where = [f"{words.arm(arm)} on {title} {number} of {cells[arm, title]}"
                 for (arm, title), number in count.sort_values(ascending=False, kind="stable").items()]
        facts.append(Fact(kind, f"{count.sum()} of {runs} {kind}{meaning}: {words.listed(where, 6)}.",
                          numbers={"runs": len(table), kind: int(count.sum())}))
    return facts or [Fact("ok", f"None of {runs} collapsed or diverged.", numbers={"runs": len(table)})]


def learnt(table: pd.DataFrame, axis: str = "fraction") -> list[Fact]:
    """Where arms learnt in most of their runs: tasks on which all did everywhere; of the others, places where none did, and
    where each arm did."""
    if table.empty:
        return [EMPTY]
    facts, whole = [], []
    for task, title in _titles(table).items():
        rows = table[table["task"] == task]
        share = rows.groupby(["arm", axis])["learnt"].mean().unstack().reindex(_arms(rows)) > 0.5
        if share.all(axis=None):
            whole.append(title)
            continue
        if not share.any(axis=None):
            facts.append(Fact("nothing_learnt", f"No arm learnt on {title}{_everywhere(axis, list(share))}: a tie there says "
                              "nothing.", {"task": task, axis: list(share)}))
            continue
        if none := [place for place in share if not share[place].any()]:
            facts.append(Fact("nothing_learnt", f"No arm learnt on {title} {words.places(axis, none)}: a tie there says nothing.",
                              {"task": task, axis: none}))
        where = [f"{words.arm(arm)} {_learnt_at(axis, row)}" for arm, row in share.iterrows()]
        facts.append(Fact("learnt", f"On {title} most runs learnt: of {'; of '.join(where)}.", {"task": task}))
    if whole:
        facts.insert(0, Fact("learnt", f"On {words.listed(whole, 9)} most runs of every arm learnt{_everywhere(axis, [0, 1])}.",
                             {"tasks": whole}))
    return facts


def _everywhere(axis: str, places: list) -> str:
    if len(places) == 1:
        return f" {words.place(axis, places[0])}"
    return f", at every {words.NOUNS[axis]}" if axis in words.NOUNS else ""


def _learnt_at(axis: str, row: pd.Series) -> str:
    places = [place for place, yes in row.items() if yes]
    return "nowhere" if not places else "everywhere" if len(places) == len(row) else words.places(axis, places)


def chance(table: pd.DataFrame) -> list[Fact]:
    """What the best constant answer scores on each task: what knowing nothing gets."""
    if table.empty:
        return [EMPTY]
    rows = table.drop_duplicates("task").sort_values("task_place", kind="stable").to_dict("records")
    parts = [f"{words.number(row['chance'], row)} on {row['task_title']} ({row['metric_axis']}{_less(row)})" for row in rows]
    return [Fact("chance", f"One answer for all scores {words.listed(parts, 9)}.",
                 numbers={row["task"]: row["chance"] for row in rows})]


def _less(row) -> str:
    return ", lower is better" if row["better"] < 0 else ""


def order(table: pd.DataFrame, axis: str = "fraction", at: float | None = None) -> list[Fact]:
    """The arms' means at one place of each task, the best first: at ``at``, or at the last, the most data or the longest
    budget. Of more than six arms the best three and the last."""
    if table.empty:
        return [EMPTY]
    at = table[axis].max() if at is None else at
    facts = []
    for task, title in _titles(rows_at := table[table[axis] == at]).items():
        means = stats.summary(rows_at[rows_at["task"] == task], ["task", "arm"])
        means = means.assign(rank=-means["score"] * means["better"]).sort_values("rank", kind="stable")
        where = f"On {title} {words.place(axis, at)}"
        if not (means["learnt"] > means["seeds"] / 2).any():
            facts.append(Fact("nothing_learnt", f"{where} no arm learnt, so their order says nothing.", {"task": task, axis: at}))
            continue
        parts = [f"{words.arm(row['arm'])} {words.number(row['score'], row)}" for row in means.to_dict("records")]
        shown = parts if len(parts) <= 6 else [*parts[:3], f"last of {len(parts)} {parts[-1]}"]
        facts.append(Fact("order", f"{where} the means are {words.listed(shown, 6)}{_runs(means)}.", {"task": task, axis: at},
                          dict(zip(means["arm"], means["score"], strict=True))))
    return facts


def _runs(means: pd.DataFrame) -> str:
    """How many runs a mean is of, and which way is up where less is better."""
    less = "lower is better; " if means["better"].iloc[0] < 0 else ""
    least, most = means["seeds"].min(), means["seeds"].max()
    each = f"{least} to {most} runs each" if least < most else f"{words.counted(int(most), 'run')} each"
    return f" ({less}{each}{'' if most > 1 else ', which orders nothing'})"


def ends(table: pd.DataFrame) -> list[Fact]:
    """Where curves that were watched in training end, on the selection split, the best first."""
    if table.empty:
        return [EMPTY]
    facts = []
    for task, title in _titles(table).items():
        rows = [(row["better"] * row["scored_by"].factor * row["curve"][-1][2], row)
                for row in table[table["task"] == task].to_dict("records") if row["curve"] and row["curve"][-1][2] is not None]
        rows.sort(key=lambda pair: -pair[0])
        parts = [f"{words.arm(row['arm'])} {words.number(score * row['better'], row)}" for score, row in rows]
        facts.append(Fact("ends", f"On {title} the curves end at {words.listed(parts, 6)}, one run each: that orders nothing.",
                          {"task": task}, {row["arm"]: score * row["better"] for score, row in rows}))
    return facts


def parameters(table: pd.DataFrame) -> list[Fact]:
    """What each arm trains: how many parameters, which part of the model, and how many of them are the head's."""
    if table.empty:
        return [EMPTY]
    rows = table.sort_values(["task_place", "arm_place"], kind="stable").drop_duplicates("arm").to_dict("records")
    return [Fact("parameters", f"{words.arm(row['arm'])} trains {row['trained']:,.0f} parameters, "
                 f"{_percent(row['trained'] / row['total'])} of the model; "
                 f"{'all' if row['head'] == row['trained'] else format(row['head'], ',.0f')} of them are the head's.",
                 {"arm": row["arm"]}, {name: row[name] for name in ("trained", "head", "total")}) for row in rows]


def _percent(share: float) -> str:
    return "100 %" if share == 1 else f"{100 * share:.2g} %"


# Of other tables


def spread(table: pd.DataFrame) -> list[Fact]:
    """Of ``stats.spread_by_source``: which seed alone moved an arm's scores most, and whether so few runs can tell."""
    facts = []
    for (task, arm), rows in table[table["source"] != "all"].groupby(["task", "arm"], sort=False) if len(table) else []:
        rows = rows.sort_values("deviation", ascending=False, kind="stable")
        first, others = rows.iloc[0], rows.iloc[1:]
        open_ = "" if (others["high"] < first["low"]).all() else "; so few runs cannot tell which seed weighs most"
        facts.append(Fact("spread", f"On {first['task_title']} {words.arm(arm)} spreads most where the {first['source']} seed "
                          f"differs: standard deviation {words.amount(first['deviation'], first)} {words.span(first)}, "
                          f"{words.counted(int(first['runs']), 'run')}{open_}.", {"task": task, "arm": arm, "source": first["source"]},
                          {name: first[name] for name in ("deviation", "low", "high", "runs")}))
    return facts or [Fact("empty", "There are too few runs to see a spread.")]


def ratios(table: pd.DataFrame, baseline: str) -> list[Fact]:
    """Of ``variance.ratios``: whether an arm's scores spread more than the baseline's, or less, or whether that is open."""
    facts = []
    for row in table.to_dict("records"):
        title = row.get("task_title", row["task"])
        about = {"task": row["task"], "arm": row["arm"], "baseline": baseline}
        kind = "wider" if row["low"] > 1 else "steadier" if row["high"] < 1 else "untold" if math.isnan(row["times"]) else "undecided"
        size = f"{row['times']:.2g} times as far ({row['low']:.2g} to {row['high']:.2g})"
        sentence = {"untold": f"On {title} the runs of {words.arm(row['arm'])} or {words.arm(baseline)} do not differ, so their spreads "
                              "cannot be compared.",
                    "undecided": f"On {title} scores of {words.arm(row['arm'])} spread {size} as those of {words.arm(baseline)}, which "
                                 "leaves open which spread more."}
        facts.append(Fact(kind, sentence.get(kind, f"On {title} scores of {words.arm(row['arm'])} spread {size} as those of "
                                             f"{words.arm(baseline)}."), about, {name: row[name] for name in ("times", "low", "high", "p")}))
    return facts or [Fact("empty", "There is no second arm to compare spreads with.")]


def rates(choices: pd.DataFrame) -> list[Fact]:
    """Of ``rates.judged``: for which arms no rate learnt, which choices are close, and how the arms' rates lie beside those of
    the first."""
    if choices.empty:
        return [EMPTY]
    facts, rows = [], choices.sort_values(["task_place", "arm_place"], kind="stable").to_dict("records")
    for row in [row for row in rows if not row["learnt"]]:
        facts.append(Fact("no_rate", f"On {row['task_title']} {words.arm(row['arm'])} has not learnt at the rate that is run, "
                          f"{row['rate']:g}: it is marked.", {"task": row["task"], "arm": row["arm"]}, {"rate": row["rate"]}))
    told = [row for row in rows if row["learnt"]]
    close = [f"{words.arm(row['arm'])} on {row['task_title']} ({row['level']} of {row['tried']})" for row in told if row["level"] > 1]
    facts.append(Fact("close", f"Of {words.counted(len(told), 'choice')} {len(close)} {_is(len(close))} close, two rates or more that "
                      f"cannot be told from the best{': ' + words.listed(close, 6) if close else ''}.",
                      numbers={"choices": len(told), "close": len(close)}))
    first = {row["task"]: row["rate"] for row in told if row["arm_place"] == choices["arm_place"].min()}
    baseline = next(row["arm"] for row in rows if row["arm_place"] == choices["arm_place"].min())
    for arm in [arm for arm in _arms(choices) if arm != baseline]:
        times = [row["rate"] / first[row["task"]] for row in told if row["arm"] == arm and row["task"] in first]
        if times:
            facts.append(Fact("rate", f"The rate of {words.arm(arm)} is {_times(times)} that of {words.arm(baseline)}.", {"arm": arm},
                              {"least": min(times), "most": max(times)}))
    return facts


def _times(ratios: list[float]) -> str:
    low, high = f"{min(ratios):.2g}", f"{max(ratios):.2g}"
    return "the same as" if low == high == "1" else f"{low} times" if low == high else f"{low} to {high} times"


def effort(table: pd.DataFrame) -> list[Fact]:
    """Of ``rates.effort``: whether every arm had as many trials, and from how many minutes to how many a choice took."""
    if table.empty:
        return [EMPTY]
    least, most = int(table["trials"].min()), int(table["trials"].max())
    trials = (f"Every choice of a rate had {words.counted(most, 'trial')}" if least == most
              else f"A choice of a rate had {least} to {most} trials")
    return [Fact("effort", f"{trials} and took {table['minutes'].min():g} to {table['minutes'].max():g} minutes of training.",
                 numbers={"least": least, "most": most})]


def costs(clock: "Clock", baseline: str = "") -> list[Fact]:
    """What a step of each arm takes beside the baseline's (the first arm's), over the tasks; or why there is no clock."""
    if clock.refusal or clock.table.empty:
        reason = clock.refusal or "no clock was measured"
        return [Fact("no_clock", f"{reason[0].upper()}{reason[1:]}.")]
    steps = clock.table.assign(step=clock.table["forward_ms"] + clock.table["backward_ms"] + clock.table["update_ms"])
    by_arm = steps.pivot(index="task", columns="arm", values="step")
    baseline = baseline or _arms(steps)[0]
    facts = [Fact("cost", f"A step of {words.arm(baseline)} takes {_span(by_arm[baseline])} ms.", {"arm": baseline},
                  {"least": by_arm[baseline].min(), "most": by_arm[baseline].max()})]
    for arm in [arm for arm in _arms(steps) if arm != baseline]:
        ratio = (by_arm[arm] / by_arm[baseline]).dropna()
        facts.append(Fact("cost", f"A step of {words.arm(arm)} takes {_span(ratio, '.2f')} times as long as one of "
                          f"{words.arm(baseline)}.", {"arm": arm, "baseline": baseline},
                          {"least": ratio.min(), "most": ratio.max()}))
    return facts


def _span(values: pd.Series, form: str = ".0f") -> str:
    low, high = format(values.min(), form), format(values.max(), form)
    return low if low == high else f"{low} to {high}"


def pace(apart: pd.DataFrame) -> list[Fact]:
    """Of ``clock.apart``: runs whose own pace was not the clock's."""
    if apart.empty:
        return [Fact("pace", "All runs kept the clock's pace within a quarter.")]
    rows = [f"{words.arm(row['arm'])} on {row.get('task_title', row['task'])} {row['ratio']:.2f} times"
            for row in apart.to_dict("records")]
    return [Fact("apart", f"Some runs went at another pace than their clock: a token took, for {words.listed(rows, 6)} as long as it "
                 "says.", numbers={f"{row['task']} {row['arm']}": row["ratio"] for row in apart.to_dict("records")})]


def claims(verdicts: pd.DataFrame) -> list[Fact]:
    """Of ``paper.judge``: how many claims are upheld, refuted or undecided, and which."""
    if verdicts.empty:
        return [Fact("empty", "There is no claim to judge: the runs that they are about are not on record.")]
    facts, count = [], verdicts["verdict"].value_counts()
    parts = [f"{count.get(kind, 0)} {kind}" for kind in ("upheld", "refuted", "undecided")]
    facts.append(Fact("claims", f"Of {words.counted(len(verdicts), 'claim')}: {words.listed(parts)}.",
                      numbers={kind: int(number) for kind, number in count.items()}))
    for kind in ("upheld", "refuted"):
        if statements := list(verdicts.loc[verdicts["verdict"] == kind, "statement"]):
            facts.append(Fact(kind, f"{kind.capitalize()}: {words.listed([f'“{text}”' for text in statements], 9)}."))
    return facts
