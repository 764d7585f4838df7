"""Figures of what differs between arms besides scores: paired gaps, learning rates, curves in training, steps."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studykit.telling import comparisons, limits, parts, style, words
from studykit.telling.scores import FRACTION, fraction_ticks
from studykit.telling.style import Ticks


def gap_by_fraction(gaps: pd.DataFrame, about: str = "", margin: comparisons.Margin = 1.0, columns: int = 0) -> Figure:
    """Paired gap to the baseline with its interval, of ``stats.paired_gaps``, over shares of the data or budgets;
    above zero is better. The band is the margin within which arms match, where the task has one; hollow where the
    baseline has not learnt. A gap far beyond the others is an arrow at the edge; its bar is drawn as far as the
    panel goes. ``columns`` of panels, if not as many as fit."""
    titles, styled = style.titles(gaps), style.styles(gaps)
    axis, xlabel = ("seconds", "seconds of training") if "seconds" in gaps else ("fraction", FRACTION)
    labels = fraction_ticks(gaps) if axis == "fraction" else {value: f"{value:g}" for value in sorted(gaps[axis].unique())}
    drawn, ticks, beyond = style.panels(len(titles), len(styled), columns=columns), Ticks(
        labels, len(styled), log=True), 0
    for ax, (task, title) in zip(drawn.axes, titles.items(), strict=True):
        rows = gaps[gaps["task"] == task]
        band = comparisons.margin_of(margin, rows.iloc[0])
        within = limits.of_gaps(rows, (-2 * band, 0, 2 * band))
        ax.set(title=title, ylabel=_gap_label(rows.iloc[0]))
        ticks.dress(ax, xlabel)
        ax.axhspan(-band, band, color="#EDEDED", zorder=0, linewidth=0)
        ax.axhline(0, color=style.GREY, linewidth=0.7, zorder=1)
        for number, (arm, look) in enumerate(styled.items()):
            _gap_dots(ax, rows[rows["arm"] == arm], ticks, axis, number, look, within)
        colours = [styled[arm][0] for arm in rows["arm"]]
        beyond += limits.set_on(ax, *within, ticks.middle(rows[axis]), rows["gap"], colours)
    style.key(drawn, styled)
    told = gaps[gaps["pairs"] > 0]
    size = f", ±{margin:g} point{'s' * (margin != 1)}" if isinstance(margin, float | int) else ""
    style.footer(drawn.fig, about, _pairs(told),
                 "bar: 95 %, seeds and test examples", f"band: the margin{size}", parts.BESIDE if len(styled) > 1 else "",
                 "arrow: a gap beyond the panel" if beyond else "",
                 "" if told["learnt"].all() else f"hollow: {gaps['baseline'].iloc[0]} has not learnt there")
    return drawn.fig


def gap_by_study(gaps: Mapping[str, pd.DataFrame], margin: float = 1.0) -> Figure:
    """``gap_by_fraction`` for several studies, each by its title (``name: what it is``): a row of panels a study, of the
    first three tasks that all have. Raises ``ValueError`` where they share none."""
    shared = [task for task in dict.fromkeys(next(iter(gaps.values()))["task"])
              if all(task in set(own["task"]) for own in gaps.values())][:min(3, style.MOST_TASKS // len(gaps))]
    if not shared:
        raise ValueError(f"the studies {', '.join(gaps)} have no task in common")
    arms: dict[str, int] = {}  # an arm that studies place apart stands where the first has it, one that is new after all
    for own in gaps.values():
        for arm, place in dict(zip(own["arm"], own["arm_place"], strict=True)).items():
            arms.setdefault(arm, place if place not in arms.values() else max(arms.values()) + 1)
    parts = []
    for row, (title, own) in enumerate(gaps.items()):
        own, title = own[own["task"].isin(shared)], title.replace(": ", "\n")
        places = own["task"].map(shared.index) + 1000 * row
        parts.append(own.assign(task=own["task"] + f" {row}", task_title=own["task_title"] + f", {title}",
                                task_place=places, arm_place=own["arm"].map(arms)))
    fig = gap_by_fraction(pd.concat(parts, ignore_index=True), margin=margin, columns=len(shared))
    for ax in fig.axes:
        ax.set_title(ax.get_title(loc="left"), loc="left", fontsize=7.5)
    return fig


def _pairs(gaps: pd.DataFrame) -> str:
    """How many pairs of runs a bar is of, the fewest to the most."""
    pairs = sorted(set(gaps["pairs"])) or [0]
    return f"{pairs[0]}{f'–{pairs[-1]}' if len(pairs) > 1 else ''} pairs of runs a bar"


def _gap_label(row: pd.Series) -> str:
    unit = "points" if words.in_points(row) else row["metric_title"]
    return f"gap to {row['baseline']}, {unit}" + ("\n(above 0: better)" if row["better"] < 0 else "")


def _gap_dots(ax: Axes, rows: pd.DataFrame, ticks: Ticks, axis: str, number: int, look: tuple[str, str],
              within: tuple[float, float]) -> None:
    parts.bars(ax, look, ticks.at(rows[axis], number), rows, within, "gap")
    hollow = rows[~rows["learnt"].astype(bool) & rows["gap"].between(*within)]
    ax.plot(ticks.at(hollow[axis], number), hollow["gap"], linestyle="none", marker=look[1], markersize=4,
            markerfacecolor="white", markeredgecolor=look[0], zorder=5)


def gap_by_task(gaps: pd.DataFrame, new: pd.DataFrame, about: str = "", margin: float = 1.0) -> Figure:
    """Paired gap to the baseline with its interval, of ``stats.paired_gaps`` at one place a task: a panel an arm with an
    axis of its own, a row a task; hollow where the baseline has not learnt. Below them, of ``travel.new_task``, the mean
    over tasks with its interval (thick) and that of a new task (thin). Raises ``ValueError`` for scores that are not in
    points, and for several places of a task."""
    if other := [row["task_title"] for row in gaps.to_dict("records") if not words.in_points(row)]:
        raise ValueError(f"gaps on {other[0]} are not in points, so they share no axis with others: leave it out")
    if gaps.duplicated(["task", "arm"]).any():
        raise ValueError("a task has gaps at several places: draw one of them")
    titles, styled = style.titles(gaps), style.styles(gaps)
    places = {task: len(titles) - number for number, task in enumerate(titles)}
    drawn = style.panels(len(styled), style.ROOMY + 1, height=0.75 + 0.17 * len(titles))
    for number, (ax, (arm, look)) in enumerate(zip(drawn.axes, styled.items(), strict=True)):
        rows, ahead = gaps[gaps["arm"].eq(arm) & gaps["gap"].notna()], new[new["arm"] == arm]
        held = np.array([-2 * margin, 2 * margin, *rows["gap"], *ahead["gap"]])
        held = held + 0.06 * np.ptp(held) * np.sign(held - held.mean())  # an arrowhead stays clear of a mark
        ends = np.concatenate([rows[["low", "high"]].to_numpy().ravel(), ahead[["new_low", "new_high"]].to_numpy().ravel()])
        within = limits.reached(ends, held, 0.4)
        ax.axvspan(-margin, margin, color="#EDEDED", zorder=0, linewidth=0)
        ax.axvline(0, color=style.GREY, linewidth=0.7, zorder=1)
        ax.axhline(0.5, color=style.GREY, linewidth=0.5, linestyle=":", zorder=1)
        rows = rows.assign(place=rows["task"].map(places))
        parts.rows(ax, look, rows["place"], rows, within, "low", "high")
        hollow = rows[~rows["learnt"].astype(bool)]
        ax.plot(hollow["gap"], hollow["place"], linestyle="none", marker=look[1], markersize=4, markerfacecolor="white",
                markeredgecolor=look[0], zorder=5)
        parts.rows(ax, look, np.zeros(len(ahead)), ahead, within, "new_low", "new_high")
        ax.hlines(np.zeros(len(ahead)), ahead["low"].clip(*within), ahead["high"].clip(*within), color=look[0],
                  linewidth=3.0, alpha=0.55, zorder=2)
        room = 0.05 * (within[1] - within[0])
        ax.set(title=arm, xlim=(within[0] - room, within[1] + room), ylim=(-0.6, len(titles) + 0.6),
               xlabel=f"gap to {gaps['baseline'].iloc[0]}, points", yticks=[*places.values(), 0])
        ax.set_yticklabels([*titles.values(), "a new task"] if number % drawn.columns == 0 else [])
        ax.tick_params(axis="y", length=0)
    told = gaps[gaps["pairs"] > 0]
    style.footer(drawn.fig, about, _pairs(told),
                 "bar: 95 %, seeds and test examples", f"band: the margin, ±{margin:g} point{'s' * (margin != 1)}",
                 "a new task: mean over tasks; thick: its 95 %, thin: that of one more task" if len(new) else "",
                 "" if told["learnt"].all() else f"hollow, and left out of the new task: {gaps['baseline'].iloc[0]} has not "
                                                 "learnt there")
    return drawn.fig


def score_by_rate(trials: pd.DataFrame, about: str = "", choices: pd.DataFrame | None = None) -> Figure:
    """Selection score against learning rate on a log axis: every trial a dot, a line an arm through its means.
    The chosen rate is ringed, with a square where it has not learnt; ``choices`` is ``rates.judged``'s table,
    made by the usual rule if not given. Limits hold the chosen trials and those that were ok: one that fell far
    below is an arrow at the edge."""
    from studykit.study import rates

    titles, styled, fallen = parts.checked(trials)
    choices = rates.judged(trials) if choices is None else choices
    drawn, beyond = style.panels(len(titles), len(styled), strip=parts.strip_height(fallen)), 0
    for ax, (task, title) in zip(drawn.axes, titles.items(), strict=True):
        rows, chosen = trials[trials["task"] == task], choices[choices["task"] == task]
        for arm, look in styled.items():
            _rates(ax, rows[rows["arm"] == arm], chosen[chosen["arm"] == arm], look)
        ax.set(title=title, xscale="log", xlabel="peak learning rate", ylabel=parts.ylabel(rows))
        ax.margins(x=0.1)
        ax.minorticks_off()
        within = _limits_of_trials(rows, chosen)
        beyond += limits.set_on(ax, *within, rows["lr"], rows["score"], [styled[arm][0] for arm in rows["arm"]])
    parts.strips(drawn, trials, fallen, styled, lambda runs: [(rate, str(len(own))) for rate, own in runs.groupby("lr")],
                 "peak learning rate")
    style.key(drawn, styled)
    square = "" if choices["learnt"].all() else ", square: it has not learnt"
    style.footer(drawn.fig, about, f"selection split, {parts.seeds(trials, 'lr')} a rate",
                 f"ring: the rate that is chosen{square}", parts.FALLEN if fallen else "",
                 "arrow: a trial beyond the panel" if beyond else "", parts.missing(trials, titles, styled))
    return drawn.fig


def _limits_of_trials(trials: pd.DataFrame, choices: pd.DataFrame) -> tuple[float, float]:
    """Vertical limits of one task's trials."""
    rates = dict(zip(choices["arm"], choices["rate"], strict=True))
    chosen = trials["lr"] == trials["arm"].map(rates)
    held = trials.loc[trials["status"].eq("ok") | chosen, "score"]
    return limits.reached(trials["score"].to_numpy(), held.to_numpy() if len(held) else trials["score"].to_numpy(), 0.4)


def _rates(ax: Axes, trials: pd.DataFrame, choices: pd.DataFrame, look: tuple[str, str]) -> None:
    """One arm's trials on a task, with the chosen rate."""
    means = trials.groupby("lr")["score"].mean()
    several = len(means) < len(trials)
    ax.plot(means.index, means, color=look[0], marker=look[1], markersize=0 if several else 3.5)
    if several:
        ax.scatter(trials["lr"], trials["score"], s=8, color=look[0], marker=look[1], alpha=0.7, linewidth=0)
    for choice in choices.itertuples():
        ax.plot(choice.rate, means[choice.rate], "o" if choice.learnt else "s", markersize=9, markerfacecolor="none",
                markeredgecolor=look[0], clip_on=False, zorder=5)


def score_by_step(table: pd.DataFrame, about: str = "") -> Figure:
    """Score on the selection split while training: a line per run, named at its end. ``table`` is a study's
    table."""
    return _curves(table, "step", "optimiser steps", about)


def score_by_second(table: pd.DataFrame, about: str = "") -> Figure:
    """Score on the selection split against seconds of training, a panel per task: seconds of the budget's clock.
    Where runs' own pace is apart from that by a quarter, it says so."""
    return _curves(table, "second", "seconds of training", about, parts.pace(table))


def _curves(table: pd.DataFrame, axis: str, xlabel: str, about: str, note: str = "") -> Figure:
    titles, styled = style.titles(table), style.styles(table)
    drawn = style.panels(len(titles), len(styled))
    for ax, (task, title) in zip(drawn.axes, titles.items(), strict=True):
        ends, rows = style.Ends(), table[table["task"] == task]
        for run in rows.to_dict("records"):
            x, y = _curve(run, axis)
            ax.plot(x, y, color=styled[run["arm"]][0], marker=styled[run["arm"]][1], markersize=3.5,
                    linestyle="-" if run["status"] == "ok" else ":")
            ends[ax, run["arm"]] = x[-1], y[-1]
        ax.set(xlabel=xlabel, xlim=(0, None), title=title, ylabel=parts.ylabel(rows))
        ax.margins(y=0.08)
        if len(drawn.axes) == 1:
            style.end_labels(ax, ends, styled)
    if len(drawn.axes) > 1:
        style.key(drawn, styled)
    fallen = "dotted: a run that collapsed or diverged" if (table["status"] != "ok").any() else ""
    style.footer(drawn.fig, about, "selection split", "a line: one run", fallen, parts.missing(table, titles, styled), note)
    return drawn.fig


def _curve(run: dict, axis: str) -> tuple[list[float], list[float]]:
    """One run's way: steps, or seconds of its clock rather than the machine's, and scores in the unit of the
    table."""
    curve = [point for point in run["curve"] or () if point[2] is not None]
    if not curve:
        raise ValueError(f"{run['arm']} on {run['task_title']} was not watched while it trained: plan its run with points")
    scale = run["seconds"] / curve[-1][1] if run["seconds"] else 1.0
    x = [step if axis == "step" else scale * seconds for step, seconds, _ in curve]
    return x, [run["scored_by"].factor * score for _, _, score in curve]


def step_parts(table: pd.DataFrame, about: str = "") -> Figure:
    """Milliseconds of a step by what they were spent on, a panel a task with an axis of its own, a bar an arm
    with its sum. ``table`` is a clock's: ``forward_ms``, ``backward_ms``, ``update_ms``."""
    titles, styled = style.titles(table), style.styles(table)
    arms = list(styled)[::-1]
    drawn = style.panels(len(titles), len(arms), height=0.55 + 0.2 * len(arms))
    shades = {"forward": "#333333", "backward": "#8A8A8A", "update": "#D5D5D5"}
    for number, (ax, (task, title)) in enumerate(zip(drawn.axes, titles.items(), strict=True)):
        rows = table[table["task"] == task].set_index("arm").reindex(arms)
        left = np.zeros(len(rows))
        for part, shade in shades.items():
            width = rows[f"{part}_ms"].fillna(0).to_numpy()
            ax.barh(rows.index, width, left=left, color=shade, label=part, height=0.6, linewidth=0)
            left += width
        for place, total in enumerate(left):
            ax.text(total, place, f" {total:.0f}" if total else "", va="center", fontsize=style.SMALL, color=style.GREY)
        ax.set(title=title, xlabel="milliseconds a step", xlim=(0, 1.15 * left.max()))
        ax.tick_params(axis="y", length=0, labelleft=number % drawn.columns == 0)
    drawn.fig.legend(*drawn.axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False,
                     fontsize=8)
    style.footer(drawn.fig, about, parts.missing(table, titles, styled))
    return drawn.fig
