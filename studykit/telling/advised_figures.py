"""Figures about advice: ``Advice`` in, figure out. Each can also be drawn narrow, for a phone; its caption is apart.

An arm keeps the colour and marker of its place in the race; floors are grey.
"""

import textwrap
from collections import Counter
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from studykit.advise.advice import Advice, Contender
from studykit.tasks import Task
from studykit.telling import limits, parts, style, words
from studykit.telling.advised_parts import arms, choice_of, floors_of, mean, points, runs, sure, unit
from studykit.telling.story import Story

PHONE = 3.7  # inches
GRID = 8  # classes that a grid holds; of more the most confused pairs are shown
PAIRS = 12
SIDE = 1.03  # arms of the race stand so far apart on the axis of steps
FLOOR = (style.GREY, "o")


def drawn(advice: Advice) -> dict[str, Callable[..., Figure]]:
    """The figures that this advice has something for, by name, in the order of telling."""
    there = {"certainty": advice.decision is not None, "learning_curve": len(dict(advice.curve.points)) > 1,
             "race": bool(advice.trials), "answers": bool(advice.labels)}
    return {name: figure for name, figure in FIGURES.items() if there[name]}


def tell(story: Story, advice: Advice, name: str) -> None:
    """Save and show a figure with its caption, where there is one to draw."""
    if draw := drawn(advice).get(name):
        story.draw(draw(advice), name, runs(advice), caption(advice, name))


def caption(advice: Advice, name: str) -> str:
    """What a figure shows and how it is read."""
    of = unit(advice)
    margin = points(advice, advice.decision.margin) if advice.decision else ""
    answers = ("predicted against true values; on the line they are the same" if not advice.task["labels"] else
               "true classes down, predicted ones across; numbers: rows of data; darker: a larger share of the true class"
               if len(advice.task["labels"]) <= GRID else
               f"the {PAIRS} most confused pairs of classes: how many rows of how many of the true class")
    forecast = "" if advice.curve.gain is None else "hollow: the forecast for twice as many, with its 95 % interval; "
    hollow = " Hollow: it left before the finals, and its gap is that of the race." if any(
        not row.finalist and row.gap is not None for row in arms(advice)) else ""
    return {
        "certainty": "how far each is from the choice, with its interval; at the right the probability that it is within "
                     f"{margin} of the best. Grey band: the difference does not matter.{hollow} Arrow with a number: "
                     "beyond the panel.",
        "learning_curve": f"{of['metric_axis']} of the choice by labels that it trained on (log axis). Dot: a training; "
                          f"tick: the mean; {forecast}dotted: the best floor. The vertical axis does not start at zero.",
        "race": f"{of['metric_axis']} by optimiser steps, one training a dot, a line an arm and rate; it ends where it "
                "left. × above: collapsed or diverged. Dashed: to the mean of the finals. Arms stand side by side.",
        "answers": f"{answers}. Rows that decided nothing, first run of the choice."}[name]


def looks(advice: Advice) -> style.Styles:
    """Colour and marker of each arm."""
    names = dict.fromkeys([trial.arm for trial in advice.trials] + [row.label for row in arms(advice)])
    return {name: style.STYLE[place % len(style.STYLE)] for place, name in enumerate(names)}


def _blank(width: float, height: float, **labels) -> tuple[Figure, Axes]:
    """A figure of one panel, in inches."""
    fig = style.panels(1, height=height).fig
    fig.set_size_inches(width, height)
    fig.axes[0].set(**labels)
    return fig, fig.axes[0]


def _about(fig: Figure, advice: Advice, width: float, rows: str = "") -> Figure:
    """What it was made of, under it, where there is room."""
    if width >= style.WIDTH:
        style.footer(fig, f"{advice.name}: {advice.encoder}",
                     rows or f"{advice.rows.get('train', 0):,} rows to train and decide on")
    return fig


def certainty(advice: Advice, width: float = style.WIDTH) -> Figure:
    """Contenders with their gap to the choice, its interval, the margin, and the chance of each. Raises ``ValueError``
    where nothing has been decided."""
    if advice.decision is None:
        raise ValueError("there is no certainty to draw: nothing has been decided")
    rows, margin = [row for row in advice.contenders if row.gap is not None], advice.decision.margin
    names = [_short(row.label, width) for row in rows]
    height = 0.24 if all("\n" not in name for name in names) else 0.3
    fig, ax = _blank(width, 0.95 + height * len(rows), xlabel=f"{_points(advice)} ahead of the choice (left: behind)")
    held = [-row.gap for row in rows if row.gap is not None and row.finalist and row.kind == "arm"]
    ends = [-value for row in rows for value in (row.gap, row.low, row.high) if value is not None]
    low, high = limits.reached(np.array(ends), np.array([-2 * margin, 2 * margin, *held]))
    room = 0.06 * (high - low)
    ax.axvspan(-margin, margin, color="#EDEDED", zorder=0, linewidth=0)
    ax.axvline(0, color=style.GREY, linewidth=0.7, zorder=1)
    for place, row in enumerate(rows):
        _standing(ax, place, row, looks(advice).get(row.label, FLOOR), (low - room, high + room))
    ax.set(xlim=(low - room, high + room), ylim=(len(rows) - 0.4, -0.6))
    ax.set_yticks(range(len(rows)), names)
    for tick, row in zip(ax.get_yticklabels(), rows, strict=True):
        tick.set(color=looks(advice).get(row.label, FLOOR)[0], style="normal" if row.kind == "arm" else "italic",
                 weight="bold" if row.label == advice.decision.choice else "normal")
    ax.tick_params("y", length=0, labelsize=8 if width >= style.WIDTH else 7)
    ax.set_title(f"within {points(advice, margin)}\nof the best", loc="right", fontsize=7, color=style.GREY)
    ax.spines["left"].set_visible(False)
    return _about(fig, advice, width)


def _standing(ax: Axes, place: int, row: Contender, look: tuple[str, str], within: tuple[float, float]) -> None:
    """One contender: its mark, its interval as far as the panel goes, its chance at the right."""
    colour, marker = look
    at, fill = -(row.gap or 0.0), colour if row.finalist else "white"
    if row.low is not None and row.high is not None and row.low != row.high:
        ends = [-row.high, -row.low]
        ax.hlines(place, *np.clip(ends, *within), color=colour, linewidth=1.4, alpha=0.6, zorder=2)
        for edge, head in zip(within, "<>", strict=True):
            if ends[0] < edge < ends[1]:
                ax.plot([edge], [place], marker=style.HEADS[head], color=colour, **parts.HEAD, clip_on=False)
    if within[0] <= at <= within[1]:
        ax.plot([at], [place], marker=marker, color=colour, markerfacecolor=fill, markersize=5.5, zorder=3)
    else:
        left = at < within[0]
        ax.text(within[not left], place, f"← {-at:.0f}" if left else f"{at:.0f} →", ha="left" if left else "right",
                va="center", fontsize=7, color=colour, bbox={"color": "white", "pad": 0.6}, zorder=4)
    if row.chance is not None:
        ax.annotate(sure(row.chance), (1, place), xycoords=ax.get_yaxis_transform(), xytext=(6, 0),
                    textcoords="offset points", va="center", fontsize=8, color=colour, annotation_clip=False)


def _points(advice: Advice) -> str:
    return "points" if words.in_points(unit(advice)) else unit(advice)["metric_title"]


def _short(label: str, width: float) -> str:
    return "\n".join(textwrap.wrap(label, 34 if width >= style.WIDTH else 22))


def learning_curve(advice: Advice, width: float = style.WIDTH) -> Figure:
    """The choice's score by labels, and the forecast at twice as many. Raises ``ValueError`` for fewer than two points."""
    counts, chosen = sorted({count for count, _ in advice.curve.points}), choice_of(advice)
    if len(counts) < 2:
        raise ValueError("a curve takes scores at two numbers of labels or more: give it more minutes")
    fig, ax = _blank(width, 2.3, xlabel="labels to train on", ylabel=unit(advice)["metric_axis"], xscale="log")
    look = looks(advice).get(chosen.label, FLOOR) if chosen else FLOOR
    means = [float(np.mean([score for size, score in advice.curve.points if size == count])) for count in counts]
    x, y = np.transpose(advice.curve.points)
    ax.scatter(x, y, s=9, color=look[0], alpha=0.5, linewidth=0)
    ax.plot(counts, means, color=look[0], marker="_", markersize=9)
    ticks = counts if advice.curve.gain is None else [*counts, _forecast(ax, advice, counts[-1], means[-1], look)]
    _floor_line(ax, advice, ticks[0])
    ax.minorticks_off()
    ax.set_xticks(ticks, [f"{count:,}" for count in ticks])
    ax.margins(x=0.06, y=0.12)
    return _about(fig, advice, width)


def _forecast(ax: Axes, advice: Advice, count: int, last: float, look: tuple[str, str]) -> int:
    """Draw the forecast from the last mean on; returns at how many labels it stands."""
    found, sign = advice.curve, unit(advice)["better"]
    gain = sign * (found.gain or 0.0)
    ax.plot([count, 2 * count], [last, last + gain], color=look[0], linestyle="--")
    if found.low is not None and found.high is not None:
        ax.vlines(2 * count, last + sign * found.low, last + sign * found.high, color=look[0], alpha=0.55)
    ax.plot([2 * count], [last + gain], color=look[0], marker=look[1], markersize=5.5, markerfacecolor="white")
    ax.annotate(f"forecast\n{words.number(gain, unit(advice), signed=True)}", (2 * count, last + gain), xytext=(7, 0),
                textcoords="offset points", va="center", fontsize=7, color=look[0], annotation_clip=False)
    return 2 * count


def _floor_line(ax: Axes, advice: Advice, at: float) -> None:
    scored = [row for row in floors_of(advice) if row.scores]
    if scored:
        best = max(scored, key=lambda row: unit(advice)["better"] * mean(row))
        ax.axhline(mean(best), color=style.GREY, linewidth=0.8, linestyle=":")
        ax.annotate(best.label, (at, mean(best)), xytext=(0, 3), textcoords="offset points", fontsize=7, color=style.GREY)


def race(advice: Advice, width: float = style.WIDTH) -> Figure:
    """Scores by steps, a line an arm and rate, arms side by side; those that left end, and a cross stands beside a training
    that collapsed or diverged. Raises ``ValueError`` where nothing raced."""
    table, styled, of = runs(advice), looks(advice), unit(advice)
    if table.empty:
        raise ValueError("there is no race to draw: nothing has been trained")
    fig, ax = _blank(width, 2.7, xlabel="optimiser steps", ylabel=of["metric_axis"], xscale="log")
    finals = {row.label: row for row in arms(advice) if row.finalist and row.scores}
    ends, steps = style.Ends(), sorted({*table["steps"], *([advice.steps] if finals else [])})
    beside = {arm: SIDE ** (place - (len(styled) - 1) / 2) for place, arm in enumerate(styled)}
    for (arm, rate), line in table.groupby(["arm", "rate"], sort=False):
        colour, marker = styled[arm]
        at = line["steps"] * beside[arm]
        ax.plot(at, line["score"], color=colour, marker=marker, markersize=3.5, alpha=0.75)
        for row in line[line["status"] != "ok"].itertuples():
            ax.annotate("×", (row.steps * beside[arm], row.score), xytext=(0, 7), textcoords="offset points", ha="center",
                        va="center", color=colour, annotation_clip=False)
        if arm in finals and rate == finals[arm].rate:
            end = (advice.steps * beside[arm], mean(finals[arm]))
            ax.plot([at.iloc[-1], end[0]], [line["score"].iloc[-1], end[1]], color=colour, linestyle="--", marker=marker,
                    markevery=[1], markersize=5)
            ends[ax, arm] = end
    ax.minorticks_off()
    ax.set_xticks(steps, [f"{count:,}" for count in steps])
    ax.margins(x=0.05, y=0.08)
    style.end_labels(ax, ends, styled, 7.5)
    _key(fig, styled, width)
    return _about(fig, advice, width)


def _key(fig: Figure, styled: style.Styles, width: float) -> None:
    handles = [Line2D([], [], color=colour, marker=marker, markersize=4) for colour, marker in styled.values()]
    columns = max(1, int(width / (0.6 + 0.075 * max(map(len, styled)))))
    fig.legend(handles, list(styled), loc="outside upper left", ncols=columns, frameon=False, fontsize=7.5, handlelength=1.4)


def answers(advice: Advice, width: float = style.WIDTH) -> Figure:
    """What the choice answered to rows that decided nothing: a grid by class, the most confused pairs of many classes, or
    predicted against true of a number. Raises ``ValueError`` where it has answered nothing."""
    if not advice.labels:
        raise ValueError("there are no answers to draw: nothing has been decided")
    names = Task(**advice.task).labels
    draw = _against if not names else _grid if len(names) <= GRID else _pairs
    return _about(draw(advice, names, width), advice, width, f"{len(advice.labels):,} rows that decided nothing")


def _against(advice: Advice, _: tuple, width: float) -> Figure:
    fig, ax = _blank(width, min(width, 3.6), xlabel=f"true {advice.task['label']}", ylabel="predicted")
    ends = [min(*advice.labels, *advice.answers), max(*advice.labels, *advice.answers)]
    ax.plot(ends, ends, color=style.GREY, linewidth=0.8)
    ax.scatter(advice.labels, advice.answers, s=9, alpha=0.5, linewidth=0, color="#0072B2")
    ax.set_box_aspect(1)
    return fig


def _grid(advice: Advice, names: tuple[str, ...], width: float) -> Figure:
    import seaborn as sns

    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (np.array(advice.labels, int), np.array(advice.answers, int)), 1)
    size = min(width, 1.6 + 0.55 * len(names))
    fig, ax = _blank(width, size * 0.8 + 0.3)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    sns.heatmap(shares, ax=ax, cmap="Blues", vmin=0, vmax=1.2, annot=counts, fmt="d", annot_kws={"fontsize": 8},
                linewidths=1, cbar=False)
    wrapped = ["\n".join(textwrap.wrap(name, 14)[:3]) for name in names]
    ax.set_yticklabels(wrapped, rotation=0)
    tilted = len(names) > 4 or width < style.WIDTH
    ax.set_xticklabels(wrapped, rotation=40 if tilted else 0, ha="right" if tilted else "center", rotation_mode="anchor")
    ax.set(xlabel="predicted", ylabel="true")
    ax.tick_params(length=0)
    return fig


def _pairs(advice: Advice, names: tuple[str, ...], width: float) -> Figure:
    told = list(zip(advice.labels, advice.answers, strict=True))
    confused = Counter(pair for pair in told if pair[0] != pair[1]).most_common(PAIRS)
    totals = Counter(advice.labels)
    fig, ax = _blank(width, 0.8 + (0.24 if width >= style.WIDTH else 0.36) * max(1, len(confused)), xlabel="rows")
    ax.barh(range(len(confused)), [count for _, count in confused], color="#0072B2", height=0.6)
    room = 60 if width >= style.WIDTH else 28
    texts = [textwrap.shorten(f"{names[int(true)]} → {names[int(given)]}", 2 * room, placeholder=" …")
             for (true, given), _ in confused]
    ax.set_yticks(range(len(confused)), ["\n".join(textwrap.wrap(text, room)) for text in texts])
    for place, ((true, _), count) in enumerate(confused):
        ax.annotate(f"{count} of {totals[true]}", (count, place), xytext=(3, 0), textcoords="offset points", va="center",
                    fontsize=7)
    ax.set(ylim=(max(1, len(confused)) - 0.4, -0.6))
    ax.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    ax.margins(x=0.18)
    ax.tick_params("y", length=0)
    return fig


FIGURES: dict[str, Callable[..., Figure]] = {
    "certainty": certainty, "learning_curve": learning_curve, "race": race, "answers": answers}
