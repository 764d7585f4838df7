"""One function per figure: table in, figure out. Titles, order, colours and axes come from the table's columns; what a figure
cannot show is an error, and what lies off its panels is written at their edge."""

import functools
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studykit.evidence import stats
from studykit.telling import comparisons, style, words
from studykit.telling.style import Panels, Styles, Ticks, save

__all__ = ["AXES", "claims", "gap_by_fraction", "pretraining", "save", "score_by_budget", "score_by_fraction", "score_by_passes",
           "score_by_pretraining", "score_by_rate", "score_by_second", "score_by_source", "score_by_step", "shares", "step_parts"]

FRACTION = "training data, %"  # an axis's label


# Scores against where runs stand


def score_by_fraction(table: pd.DataFrame, about: str = "") -> Figure:
    """Score against the share of the training data, on a log axis: every seed a dot, a tick at the mean, a bar for the interval.

    A panel a task. Its limits hold the bulk of each arm's runs: a run beyond is an arrow with its score at the edge, and a bar
    that is longer is cut there. In the strip under a panel stands how many runs of an arm collapsed or diverged.
    ``table`` is a study's table; ``about`` (``experiment.about``) goes under the figure. Raises ``ValueError`` where an arm or
    task cannot be shown.
    """
    return _score_by("fraction", table, _fraction_ticks(table), about, FRACTION, log=True)


def score_by_budget(table: pd.DataFrame, about: str = "") -> Figure:
    """Score against a budget in seconds of training, drawn as ``score_by_fraction`` does. Where runs' own pace is apart from their
    clock's by a quarter, it says so under the figure."""
    ticks = {value: f"{value:g}" for value in sorted(table["seconds"].unique())}
    return _score_by("seconds", table, ticks, about, "seconds of training", log=True, note=_pace(table))


def score_by_pretraining(table: pd.DataFrame, about: str = "") -> Figure:
    """Score with random and with pre-trained weights of the encoder, drawn as ``score_by_fraction`` does."""
    return _score_by("pretrained", table, {False: "random", True: "pre-trained"}, about, "the encoder's weights", joined=False)


def score_by_passes(table: pd.DataFrame, about: str = "") -> Figure:
    """Score with equal passes over the data and with equal steps, drawn as ``score_by_fraction`` does. ``table`` has a column
    ``equal`` that says which (``passes``, ``steps``)."""
    ticks = {name: f"equal {name}" for name in ("passes", "steps")}
    return _score_by("equal", table, ticks, about, "for a small share of the data", joined=False)


def score_by_source(table: pd.DataFrame, about: str = "") -> Figure:
    """Score where one seed alone differs, and where all three do: every run a dot. ``table`` has a column ``source``."""
    ticks = {name: name for name in ("subset", "init", "order", "all")}
    return _score_by("source", table, ticks, about, "the seed that differs", joined=False)


def _score_by_seed(kind: str, table: pd.DataFrame, about: str = "") -> Figure:
    ticks = {seed: f"{seed}" for seed in sorted(table[f"{kind}_seed"].unique())}
    return _score_by(f"{kind}_seed", table, ticks, about, f"the seed that decides {SEEDS[kind]}")


def _score_by(column: str, table: pd.DataFrame, labels: dict, about: str, xlabel: str, *, joined: bool = True, log: bool = False,
              note: str = "") -> Figure:
    titles, styled, fallen = _checked(table)
    drawn = style.panels(len(titles), len(styled), strip=_strip_height(fallen))
    ticks, ends, beyond = Ticks(labels, len(styled), log), {}, 0
    for ax, (task, title) in zip(drawn.axes, titles.items(), strict=True):
        rows = table[table["task"] == task]
        groups = rows.groupby(["arm", column], sort=False)
        low, high = style.limits_of([group["score"].to_numpy() for _, group in groups], rows["chance"].iloc[0])
        ax.set(title=title, ylabel=_ylabel(rows))
        ticks.dress(ax, xlabel)
        _chance(ax, rows, low, high)
        ends[ax] = {}
        for number, (arm, of_arm) in enumerate((arm, rows[rows["arm"] == arm]) for arm in styled):
            if len(of_arm):
                ends[ax][arm] = _dots(ax, of_arm, column, ticks, number, styled[arm], (low, high), joined)
        middles = ticks.middle(rows[column])
        beyond += style.off_panel(ax, low, high, [(x, row.score, styled[row.arm][0])
                                                  for x, row in zip(middles, rows.itertuples(), strict=True)])
    _strips(drawn, table, fallen, styled, lambda rows: [(x, str(len(part))) for value, part in rows.groupby(column)
                                                        for x in ticks.middle([value])], xlabel)
    style.key(drawn, styled, ends if joined else None)
    style.footer(drawn.fig, about, _seeds(table, column), "dot: a run; tick: mean; bar: 95 % t interval" if _repeated(table, column)
                 else "dot: a run", "dotted: one answer for all", "strip: runs that collapsed or diverged" if fallen else "",
                 "arrow: a run beyond the panel" if beyond else "", _missing(table, titles, styled), note)
    return drawn.fig


def _checked(table: pd.DataFrame) -> tuple[dict[str, str], Styles, list[str]]:
    """Titles by task, styles by arm, and the arms with a run that was not ok. Raises ``ValueError`` where a run has no score."""
    titles, styled = style.titles(table), style.styles(table)
    if (lost := table[table["score"].isna()]).size:
        row = lost.iloc[0]
        raise ValueError(f"{len(lost)} of {len(table)} runs have no score ({row['arm']} on {row['task_title']}): leave them out")
    wrong = set(table.loc[table["status"] != "ok", "arm"])
    return titles, styled, [arm for arm in styled if arm in wrong]


def _dots(ax: Axes, rows: pd.DataFrame, column: str, ticks: Ticks, number: int, look: tuple, limits: tuple,
          joined: bool) -> tuple[float, float]:
    """Draw one arm's runs; where its line ends."""
    size = 11 if ticks.arms <= style.ROOMY else 7
    dots = rows[rows["score"].between(*limits)]
    ax.scatter(ticks.at(dots[column], number), dots["score"], s=size, color=look[0], marker=look[1], alpha=0.7, linewidth=0, zorder=3)
    means = stats.summary(rows, by=(column,)).sort_values(column, key=lambda values: ticks.middle(values))
    x = ticks.at(means[column], number)
    if joined:
        ax.plot(x, means["score"], color=look[0], alpha=0.4, zorder=1)
    _bars(ax, look, x, means, limits, "score", marker="_")
    return x[-1], means["score"].iloc[-1]


def _bars(ax: Axes, look: tuple, x: Any, rows: pd.DataFrame, limits: tuple, middle: str, marker: str = "") -> None:
    """A mark at the middle and a bar for the interval, cut at the limits."""
    told = rows["low"].notna().to_numpy()
    low, high = (rows[end].clip(*limits)[told] for end in ("low", "high"))
    ax.vlines(np.asarray(x)[told], low, high, color=look[0], linewidth=1.0, alpha=0.55, zorder=2)
    inside = rows[middle].between(*limits).to_numpy()
    ax.plot(np.asarray(x)[inside], rows[middle][inside], linestyle="none", color=look[0], marker=marker or look[1],
            markersize=5 if marker else 4, markeredgewidth=1.4 if marker else 0.5, zorder=4)


def _chance(ax: Axes, rows: pd.DataFrame, low: float, high: float) -> None:
    """A dotted line at what one answer for all scores; where it is far off, its number at that edge."""
    row = rows.iloc[0]
    if low <= row["chance"] <= high:
        ax.axhline(row["chance"], color=style.GREY, linewidth=0.7, linestyle=":", zorder=1)
    elif np.isfinite(row["chance"]):
        arrow = "↓" if row["chance"] < low else "↑"
        ax.set_title(f"{arrow} one answer: {words.number(row['chance'], row)}", loc="right", fontsize=5.5, color=style.GREY)


def _ylabel(rows: pd.DataFrame, what: str = "") -> str:
    row = rows.iloc[0]
    return row["metric_axis"] + what + ("\n(lower is better)" if row["better"] < 0 else "")


def _strip_height(fallen: list[str]) -> float:
    return 0.06 + 0.13 * len(fallen) if fallen else 0.0


def _strips(drawn: Panels, table: pd.DataFrame, fallen: list[str], styled: Styles, marks: Any, xlabel: str) -> None:
    """Under each panel, a row an arm, what ``marks`` gives of its runs that were not ok: (x, text)."""
    for (strip, ax), task in zip(zip(drawn.strips, drawn.axes, strict=False), style.titles(table), strict=False):
        for row, arm in enumerate(fallen):
            colour, marker = styled[arm]
            strip.plot([-0.03], [row], marker=marker, color=colour, markersize=3, transform=strip.get_yaxis_transform(), clip_on=False)
            runs = table[(table["task"] == task) & (table["arm"] == arm) & (table["status"] != "ok")]
            for x, text in marks(runs):
                strip.text(x, row + 0.04, text, ha="center", va="center_baseline", fontsize=6, color=colour, clip_on=True)
        strip.set(ylim=(len(fallen) - 0.45, -0.55), yticks=[], xlabel=xlabel, facecolor="#F2F2F2")
        strip.spines["left"].set_visible(False)
        strip.tick_params(axis="x", which="minor", bottom=False)
        ax.tick_params(labelbottom=False)
        ax.set_xlabel("")


def _seeds(table: pd.DataFrame, column: str) -> str:
    """How many seeds stand behind each mean; runs, where the three seeds differ."""
    groups = table.groupby(["task", "arm", column])
    counts, noun = sorted(set(groups.size())), "seed" if groups["seed"].nunique().eq(groups.size()).all() else "run"
    return words.counted(counts[0], noun) if len(counts) == 1 else f"{counts[0]}–{counts[-1]} {noun}s"


def _repeated(table: pd.DataFrame, column: str) -> bool:
    return bool(table.groupby(["task", "arm", column]).size().max() > 1)


def _missing(table: pd.DataFrame, titles: Mapping[str, str], styled: Styles) -> str:
    there = set(zip(table["task"], table["arm"], strict=True))
    absent = [f"{arm} on {title}" for arm in styled for task, title in titles.items() if (task, arm) not in there]
    return f"no run on record: {words.listed(absent)}" if absent else ""


def _pace(table: pd.DataFrame) -> str:
    """Where runs went at another pace than their clock's, by a quarter."""
    from studykit.study.clock import apart

    titles = dict(zip(table["task"], table["task_title"], strict=True))
    rows = [f"{row.arm} on {titles[row.task]} {row.ratio:.1f} times" for row in apart(table).itertuples()]
    return f"off the clock, a token took: {words.listed(rows)} as long" if rows else ""


def _fraction_ticks(table: pd.DataFrame) -> dict[float, str]:
    return {fraction: f"{100 * fraction:g}" for fraction in sorted(table["fraction"].unique())}


def _score_along(column: str, table: pd.DataFrame, about: str = "") -> Figure:
    """Score against what each run took: every run a dot; a tick and a bar for the mean and interval of an arm's runs of one share of
    the data and budget, at their median; a cross in the strip where a run was not ok."""
    titles, styled, fallen = _checked(table)
    drawn, beyond = style.panels(len(titles), len(styled), strip=_strip_height(fallen)), 0
    for ax, (task, title) in zip(drawn.axes, titles.items(), strict=True):
        rows = table[table["task"] == task]
        limits = style.limits_of([group["score"].to_numpy() for _, group in rows.groupby(["arm", "fraction"])], rows["chance"].iloc[0])
        ax.set(title=title, xlabel=MEASURED[column], xlim=(0, 1.05 * rows[column].max()), ylabel=_ylabel(rows))
        _chance(ax, rows, *limits)
        for arm, of_arm in ((arm, rows[rows["arm"] == arm]) for arm in styled):
            if len(of_arm):
                _along(ax, of_arm, column, styled[arm], limits)
        beyond += style.off_panel(ax, *limits, [(x, score, styled[arm][0]) for x, score, arm
                                                in zip(rows[column], rows["score"], rows["arm"], strict=True)])
        ax.xaxis.set_major_locator(plt.MaxNLocator(3))
        ax.xaxis.set_major_formatter("{x:,.0f}")
    _strips(drawn, table, fallen, styled, lambda runs: [(x, "×") for x in runs[column]], MEASURED[column])
    style.key(drawn, styled)
    style.footer(drawn.fig, about, "dot: a run; tick: mean; bar: 95 % t interval", "dotted: one answer for all",
                 "strip: runs that collapsed or diverged" if fallen else "",
                 "arrow: a run beyond the panel" if beyond else "", _missing(table, titles, styled))
    return drawn.fig


def _along(ax: Axes, rows: pd.DataFrame, column: str, look: tuple, limits: tuple) -> None:
    dots = rows[rows["score"].between(*limits)]
    ax.scatter(dots[column], dots["score"], s=11, color=look[0], marker=look[1], alpha=0.7, linewidth=0, zorder=3)
    rows = rows.assign(seconds=rows["seconds"].astype(float).fillna(0))
    means = stats.summary(rows, by=("fraction", "seconds"))
    x = rows.groupby(["fraction", "seconds"])[column].median().reindex([*zip(means["fraction"], means["seconds"], strict=True)])
    means = means.assign(x=x.to_numpy()).sort_values("x")
    ax.plot(means["x"], means["score"], color=look[0], alpha=0.4, zorder=1)
    _bars(ax, look, means["x"], means, limits, "score", marker="_")


SEEDS = {"subset": "the examples", "init": "the head", "order": "order and dropout"}
MEASURED = {"steps": "optimiser steps", "tokens": "tokens trained on", "train_seconds": "seconds that training took"}
# what a score can be drawn against -> the figure
AXES = {"fraction": score_by_fraction, "seconds": score_by_budget,
        **{f"{kind}_seed": functools.partial(_score_by_seed, kind) for kind in SEEDS},
        **{column: functools.partial(_score_along, column) for column in MEASURED}}


# Gaps, rates, curves, clocks


def gap_by_fraction(gaps: pd.DataFrame, about: str = "", margin: comparisons.Margin = 1.0) -> Figure:
    """Paired gap to the baseline with its interval, of ``stats.paired_gaps``, over shares of the data or budgets; above zero is
    better. The band is the margin within which arms match, where the task has one; hollow where the baseline has not learnt."""
    titles, styled = style.titles(gaps), style.styles(gaps)
    axis = "seconds" if "seconds" in gaps else "fraction"
    labels = _fraction_ticks(gaps) if axis == "fraction" else {value: f"{value:g}" for value in sorted(gaps[axis].unique())}
    drawn, ticks, beyond = style.panels(len(titles), len(styled)), Ticks(labels, len(styled), log=True), 0
    for ax, (task, title) in zip(drawn.axes, titles.items(), strict=True):
        rows = gaps[gaps["task"] == task]
        row = rows.iloc[0]
        band = comparisons.margin_of(margin, row)
        low, high = style.limits_of_gaps(rows, (-2 * band, 0, 2 * band))
        unit = "points" if words.in_points(row) else row["metric_title"]
        ax.set(title=title, ylabel=f"gap to {row['baseline']}, {unit}" + ("\n(above 0: better)" if row["better"] < 0 else ""))
        ticks.dress(ax, FRACTION if axis == "fraction" else "seconds of training")
        ax.axhspan(-band, band, color="#EDEDED", zorder=0, linewidth=0)
        ax.axhline(0, color=style.GREY, linewidth=0.7, zorder=1)
        for number, arm in enumerate(styled):
            _gap_dots(ax, rows[rows["arm"] == arm], ticks, axis, number, styled[arm], (low, high))
        beyond += style.off_panel(ax, low, high, [(x, gap, styled[arm][0]) for x, gap, arm
                                                  in zip(ticks.middle(rows[axis]), rows["gap"], rows["arm"], strict=True)])
    style.key(drawn, styled)
    pairs = sorted(set(gaps["pairs"]))
    style.footer(drawn.fig, about, f"{pairs[0]}{f'–{pairs[-1]}' if len(pairs) > 1 else ''} pairs of runs a bar",
                 "bar: 95 %, seeds and test examples", "band: the margin" + (f", ±{margin:g} point{'s' * (margin != 1)}" if
                                                                            isinstance(margin, float | int) else ""),
                 "arrow: a gap beyond the panel" if beyond else "",
                 "" if gaps["learnt"].all() else f"hollow: {gaps['baseline'].iloc[0]} has not learnt there")
    return drawn.fig


def _gap_dots(ax: Axes, rows: pd.DataFrame, ticks: Ticks, axis: str, number: int, look: tuple, limits: tuple) -> None:
    _bars(ax, look, ticks.at(rows[axis], number), rows, limits, "gap")
    hollow = rows[~rows["learnt"].astype(bool) & rows["gap"].between(*limits)]
    ax.plot(ticks.at(hollow[axis], number), hollow["gap"], linestyle="none", marker=look[1], markersize=4, markerfacecolor="white",
            markeredgecolor=look[0], zorder=5)


def score_by_rate(trials: pd.DataFrame, about: str = "", choices: pd.DataFrame | None = None) -> Figure:
    """Selection score against learning rate on a log axis: every trial a dot, a line an arm through its means. The chosen rate is
    ringed, with a square where it has not learnt; ``choices`` is ``rates.judged``'s table, made by the usual rule if not given."""
    from studykit.study import rates

    titles, styled, fallen = _checked(trials)
    choices = rates.judged(trials) if choices is None else choices
    drawn = style.panels(len(titles), len(styled), strip=_strip_height(fallen))
    for ax, (task, title) in zip(drawn.axes, titles.items(), strict=True):
        rows = trials[trials["task"] == task]
        for arm, of_arm in ((arm, rows[rows["arm"] == arm]) for arm in styled):
            colour, marker = styled[arm]
            means = of_arm.groupby("lr")["score"].mean()
            ax.plot(means.index, means, color=colour, marker=marker, markersize=3.5 if len(means) == len(of_arm) else 0)
            if len(means) < len(of_arm):
                ax.scatter(of_arm["lr"], of_arm["score"], s=8, color=colour, marker=marker, alpha=0.7, linewidth=0)
            for choice in choices[(choices["task"] == task) & (choices["arm"] == arm)].itertuples():
                ax.plot(choice.rate, means[choice.rate], "o" if choice.learnt else "s", markersize=9, markerfacecolor="none",
                        markeredgecolor=colour, clip_on=False, zorder=5)
        ax.set(title=title, xscale="log", xlabel="peak learning rate", ylabel=_ylabel(rows))
        ax.margins(x=0.1, y=0.12)
        ax.minorticks_off()
    _strips(drawn, trials, fallen, styled, lambda runs: [(rate, str(len(part))) for rate, part in runs.groupby("lr")],
            "peak learning rate")
    style.key(drawn, styled)
    square = "" if choices["learnt"].all() else ", square: it has not learnt"
    style.footer(drawn.fig, about, f"selection split, {_seeds(trials, 'lr')} a rate", f"ring: the rate that is chosen{square}",
                 "strip: trials that collapsed or diverged" if fallen else "", _missing(trials, titles, styled))
    return drawn.fig


def score_by_step(table: pd.DataFrame, about: str = "") -> Figure:
    """Score on the selection split while training: a line per run, named at its end. ``table`` is a study's table."""
    return _curves(table, 0, "optimiser steps", about)


def score_by_second(table: pd.DataFrame, about: str = "") -> Figure:
    """Score on the selection split against seconds of training, a panel per task: seconds of the budget's clock. Where runs' own
    pace is apart from that by a quarter, it says so."""
    return _curves(table, 1, "seconds of training", about, _pace(table))


def _curves(table: pd.DataFrame, axis: int, xlabel: str, about: str, note: str = "") -> Figure:
    titles, styled = style.titles(table), style.styles(table)
    drawn = style.panels(len(titles), len(styled))
    for ax, (task, title) in zip(drawn.axes, titles.items(), strict=True):
        ends, rows = {}, table[table["task"] == task]
        for row in rows.to_dict("records"):
            curve = [(moment, row["scored_by"].factor * score) for *moment, score in row["curve"] or () if score is not None]
            if not curve:
                raise ValueError(f"{row['arm']} on {title} was not watched while it trained: plan its run with points")
            scale = row["seconds"] / curve[-1][0][1] if axis and row["seconds"] else 1.0  # a clock's seconds, not the machine's
            x, y = [scale * moment[axis] for moment, _ in curve], [score for _, score in curve]
            ax.plot(x, y, color=styled[row["arm"]][0], marker=styled[row["arm"]][1], markersize=3.5)
            ends[row["arm"]] = x[-1], y[-1]
        ax.set(xlabel=xlabel, xlim=(0, None), title=title, ylabel=_ylabel(rows))
        ax.margins(y=0.08)
        if len(drawn.axes) == 1:
            style.end_labels(ax, ends, styled)
    if len(drawn.axes) > 1:
        style.key(drawn, styled)
    style.footer(drawn.fig, about, "selection split", "a line: one run", _missing(table, titles, styled), note)
    return drawn.fig


def step_parts(table: pd.DataFrame, about: str = "") -> Figure:
    """Milliseconds of a step by what they were spent on, a panel a task with an axis of its own, a bar an arm. ``table`` is a
    clock's: ``forward_ms``, ``backward_ms``, ``update_ms``."""
    titles, arms = style.titles(table), list(style.styles(table))
    drawn = style.panels(len(titles), len(arms), height=0.55 + 0.2 * len(arms))
    shades = {"forward": "#333333", "backward": "#8A8A8A", "update": "#D5D5D5"}
    for number, (ax, (task, title)) in enumerate(zip(drawn.axes, titles.items(), strict=True)):
        rows = table[table["task"] == task].set_index("arm").reindex(arms[::-1])
        left = np.zeros(len(rows))
        for part, shade in shades.items():
            width = rows[f"{part}_ms"].fillna(0).to_numpy()
            ax.barh(rows.index, width, left=left, color=shade, label=part, height=0.6, linewidth=0)
            left += width
        for place, total in enumerate(left):
            ax.text(total, place, f" {total:.0f}" if total else "", va="center", fontsize=style.SMALL, color=style.GREY)
        ax.set(title=title, xlabel="milliseconds a step", xlim=(0, 1.15 * left.max()))
        ax.tick_params(axis="y", length=0, labelleft=number % drawn.columns == 0)
    drawn.fig.legend(*drawn.axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    style.footer(drawn.fig, about, _missing(table, titles, style.styles(table)))
    return drawn.fig


# Claims and shares


SHADES = {"upheld": ("#0072B2", "✓", "#FFFFFF"), "refuted": ("#D55E00", "×", "#FFFFFF"),
          "undecided": ("#E4E4E4", "?", "#333333")}


def claims(verdicts: pd.DataFrame, parts: pd.DataFrame, about: str = "") -> Figure:
    """Every claim's verdict, overall and per task: colour and sign. ``verdicts`` is ``paper.judge``'s table and ``parts`` that of
    ``paper.parts``, whose mean estimate stands in a task's cell."""
    titles = task_titles(parts)
    columns = ["verdict", *[task for task in titles if task in verdicts]]
    fig = style.panels(1, height=0.4 + 0.33 * len(verdicts)).fig
    ax = fig.axes[0]
    for i, row in enumerate(verdicts.to_dict("records")):
        ax.text(-0.6, i, row["statement"].replace(" (read as: ", ",\nread as ").replace(")", ""), ha="right", va="center",
                fontsize=7)
        for j, column in enumerate(columns):
            if isinstance(verdict := row[column], str):
                colour, sign, ink = SHADES[verdict]
                ax.add_patch(plt.Rectangle((j - 0.47, i - 0.42), 0.94, 0.84, color=colour, linewidth=0))
                text = verdict if j == 0 else estimate(parts, row["claim"], column)
                ax.text(j, i, f"{sign} {text}", ha="center", va="center", color=ink, fontsize=7)
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(verdicts) - 0.5, -0.5), yticks=[])
    ax.set_xticks(range(len(columns)), ["all together", *[titles[task] for task in columns[1:]]])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    style.footer(fig, about, "in a task's cell: the gap in points, or × the ratio of deviations; of several parts their mean (how many)")
    return fig


def task_titles(parts: pd.DataFrame) -> dict[str, str]:
    """Titles by task of a table of claims' parts, in its order; names, where it has no titles."""
    rows = parts[parts["task"] != ""].drop_duplicates("task")
    return dict(zip(rows["task"], rows["task_title" if "task_title" in rows else "task"], strict=True))


def estimate(parts: pd.DataFrame, claim: str, task: str) -> str:
    """The mean of a claim's estimates on a task; their number where they are several."""
    rows = parts[(parts["claim"] == claim) & (parts["task"] == task)]
    if rows["estimate"].isna().all():
        return "no evidence"
    mean, count = rows["estimate"].mean(), f" ({rows['estimate'].count()})" if len(rows) > 1 else ""
    return f"{mean:.2f}×" if rows["unit"].iloc[0] == "times" else f"{mean:+.1f}{count}"


def pretraining(course: pd.DataFrame, about: str = "") -> Figure:
    """The share of replaced words that the miniature's encoder finds, against pre-training steps. ``course`` is a table with
    ``step``, ``alone found`` and ``pair found``."""
    fig = style.panels(1, height=2.0).fig
    ax = fig.axes[0]
    for name, label, line in (("pair found", "beside a sentence\nthat says the same", "-"), ("alone found", "alone", "--")):
        ax.plot(course["step"] / 1000, 100 * course[name], color="#000000", linestyle=line)
        ax.annotate(label, (course["step"].iloc[-1] / 1000, 100 * course[name].iloc[-1]), xytext=(4, 0),
                    textcoords="offset points", va="center", fontsize=8, annotation_clip=False)
    ax.set(xlabel="pre-training steps, thousands", ylabel="replaced words found, %", xlim=(0, None), ylim=(0, 100))
    style.footer(fig, about)
    return fig


def shares(shares: pd.DataFrame, about: str = "") -> Figure:
    """A table of shares from 0 to 1 in percent, dark where all: arms down, across the parts of a model that they train, or the
    kinds of example that they get right."""
    import seaborn as sns

    fig = style.panels(1, height=0.6 + 0.32 * len(shares)).fig
    ax = fig.axes[0]
    sns.heatmap(shares, ax=ax, cmap="Greys", vmin=0, vmax=1.15, annot=shares.map(_percent), fmt="", annot_kws={"fontsize": 6.5},
                linewidths=1, cbar=False)
    ax.set(xlabel="", ylabel="")
    ax.tick_params(length=0, labelsize=7)
    ax.set_xticklabels([part.replace(" ", "\n") for part in shares.columns], rotation=0, fontsize=6)
    ax.set_yticklabels(shares.index, rotation=0)
    style.footer(fig, about)
    return fig


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share in (0, 1) else f"{100 * share:.2g}"
