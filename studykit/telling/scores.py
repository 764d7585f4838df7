"""Figures of scores against where runs stand: shares of the data, budgets, seeds, and what training took."""

import functools
from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studykit.evidence import stats
from studykit.telling import limits, parts, style
from studykit.telling.style import Ticks

FRACTION = "training data, %"  # an axis's label


def score_by_fraction(table: pd.DataFrame, about: str = "") -> Figure:
    """Score against the share of the training data, on a log axis: every seed a dot, a tick at the mean, a bar
    for the interval.

    A panel a task. Its limits hold the bulk of the runs: a run beyond is an arrow with its score at the edge, and
    a bar that is longer is cut there. In the strip under a panel stands how many runs of an arm collapsed or
    diverged. ``table`` is a study's table; ``about`` (``experiment.about``) goes under the figure. Raises
    ``ValueError`` where an arm or task cannot be shown.
    """
    return _score_by("fraction", table, fraction_ticks(table), about, FRACTION, log=True)


def score_by_budget(table: pd.DataFrame, about: str = "") -> Figure:
    """Score against a budget in seconds of training, drawn as ``score_by_fraction`` does. Where runs' own pace is
    apart from their clock's by a quarter, it says so under the figure."""
    ticks = {value: f"{value:g}" for value in sorted(table["seconds"].unique())}
    return _score_by("seconds", table, ticks, about, "seconds of training", log=True, note=parts.pace(table))


def score_by_pretraining(table: pd.DataFrame, about: str = "") -> Figure:
    """Score with random and with pre-trained weights of the encoder, drawn as ``score_by_fraction`` does."""
    ticks = {False: "random", True: "pre-trained"}
    return _score_by("pretrained", table, ticks, about, "the encoder's weights", joined=False)


def score_by_passes(table: pd.DataFrame, about: str = "") -> Figure:
    """Score with equal passes over the data and with equal steps, drawn as ``score_by_fraction`` does. ``table``
    has a column ``equal`` that says which (``passes``, ``steps``)."""
    ticks = {name: f"equal {name}" for name in ("passes", "steps")}
    return _score_by("equal", table, ticks, about, "for a small share of the data", joined=False)


def score_by_source(table: pd.DataFrame, about: str = "") -> Figure:
    """Score where one seed alone differs, and where all three do: every run a dot. ``table`` has a column
    ``source`` (``variance.labelled``)."""
    ticks = {name: name for name in ("subset", "init", "order", "all")}
    return _score_by("source", table, ticks, about, "the seed that differs", joined=False)


def _score_by_seed(kind: str, table: pd.DataFrame, about: str = "") -> Figure:
    ticks = {seed: f"{seed}" for seed in sorted(table[f"{kind}_seed"].unique())}
    return _score_by(f"{kind}_seed", table, ticks, about, f"the seed that decides {SEEDS[kind]}", joined=False)


def _score_by(column: str, table: pd.DataFrame, labels: dict, about: str, xlabel: str, *, joined: bool = True,
              log: bool = False, note: str = "") -> Figure:
    titles, styled, fallen = parts.checked(table)
    drawn = style.panels(len(titles), len(styled), strip=parts.strip_height(fallen))
    ticks, ends, beyond, dotted = Ticks(labels, len(styled), log), style.Ends(), 0, ""
    for ax, (task, title) in zip(drawn.axes, titles.items(), strict=True):
        rows = table[table["task"] == task]
        groups = [group["score"] for _, group in rows.groupby(["arm", column], sort=False)]
        within = limits.of_scores(groups, rows["chance"].iloc[0])
        ax.set(title=title, ylabel=parts.ylabel(rows))
        ticks.dress(ax, xlabel)
        dotted = parts.chance(ax, rows, *within) or dotted
        for number, (arm, look) in enumerate(styled.items()):
            if len(own := rows[rows["arm"] == arm]):
                ends[ax, arm] = _dots(ax, own, column, ticks, number, look, within, joined)
        colours = [styled[arm][0] for arm in rows["arm"]]
        beyond += limits.set_on(ax, *within, ticks.middle(rows[column]), rows["score"], colours)
    parts.strips(drawn, table, fallen, styled, lambda runs: _counts(runs, column, ticks), xlabel)
    style.key(drawn, styled, ends if joined else style.Ends())
    style.footer(drawn.fig, about, parts.seeds(table, column), parts.dots(table, column), dotted,
                 parts.BESIDE if len(styled) > 1 else "", parts.FALLEN if fallen else "", parts.BEYOND if beyond else "",
                 parts.missing(table, titles, styled), note)
    return drawn.fig


def _counts(runs: pd.DataFrame, column: str, ticks: Ticks) -> list[tuple[float, str]]:
    """How many runs stand at each place."""
    count = runs.groupby(column).size()
    return [(x, str(number)) for x, number in zip(ticks.middle(count.index), count, strict=True)]


def _dots(ax: Axes, rows: pd.DataFrame, column: str, ticks: Ticks, number: int, look: tuple[str, str],
          within: tuple[float, float], joined: bool) -> tuple[float, float]:
    """Draw one arm's runs; where its line ends."""
    inside = rows[rows["score"].between(*within)]
    ax.scatter(ticks.at(inside[column], number), inside["score"], s=11 if ticks.arms <= style.ROOMY else 7, color=look[0],
               marker=look[1], alpha=0.7, linewidth=0, zorder=3)
    means = stats.summary(rows, by=(column,)).sort_values(column, key=ticks.middle)
    x = ticks.at(means[column], number)
    if joined:
        ax.plot(x, means["score"], color=look[0], alpha=0.4, zorder=1)
    parts.bars(ax, look, x, means, within, "score", marker="_")
    return float(x[-1]), float(means["score"].iloc[-1])


def fraction_ticks(table: pd.DataFrame) -> dict[float, str]:
    """Labels in percent by share of the data."""
    return {fraction: f"{100 * fraction:g}" for fraction in sorted(table["fraction"].unique())}


def _score_along(column: str, table: pd.DataFrame, about: str = "") -> Figure:
    """Score against what each run took: every run a dot; a tick and a bar for the mean and interval of an arm's
    runs of one share of the data and budget, at their median; a cross in the strip where a run was not ok."""
    titles, styled, fallen = parts.checked(table)
    drawn, beyond, dotted = style.panels(len(titles), len(styled), strip=parts.strip_height(fallen)), 0, ""
    for ax, (task, title) in zip(drawn.axes, titles.items(), strict=True):
        rows = table[table["task"] == task]
        groups = [group["score"] for _, group in rows.groupby(["arm", "fraction"], sort=False)]
        within = limits.of_scores(groups, rows["chance"].iloc[0])
        ax.set(title=title, xlabel=MEASURED[column], xlim=(0, 1.05 * rows[column].max()), ylabel=parts.ylabel(rows))
        dotted = parts.chance(ax, rows, *within) or dotted
        for arm, look in styled.items():
            if len(own := rows[rows["arm"] == arm]):
                _along(ax, own, column, look, within)
        colours = [styled[arm][0] for arm in rows["arm"]]
        beyond += limits.set_on(ax, *within, rows[column], rows["score"], colours)
        ax.xaxis.set_major_locator(plt.MaxNLocator(3))
        ax.xaxis.set_major_formatter("{x:,.0f}")
    parts.strips(drawn, table, fallen, styled, lambda runs: [(x, "×") for x in runs[column]], MEASURED[column])
    style.key(drawn, styled)
    style.footer(drawn.fig, about, parts.DOTS, dotted, parts.FALLEN if fallen else "",
                 parts.BEYOND if beyond else "", parts.missing(table, titles, styled))
    return drawn.fig


def _along(ax: Axes, rows: pd.DataFrame, column: str, look: tuple[str, str], within: tuple[float, float]) -> None:
    inside = rows[rows["score"].between(*within)]
    ax.scatter(inside[column], inside["score"], s=11, color=look[0], marker=look[1], alpha=0.7, linewidth=0, zorder=3)
    places = ["fraction", "budget"]
    rows = rows.assign(budget=rows["seconds"].astype(float).fillna(0))
    means = stats.summary(rows, by=places).set_index(places).assign(x=rows.groupby(places)[column].median()).sort_values("x")
    ax.plot(means["x"], means["score"], color=look[0], alpha=0.4, zorder=1)
    parts.bars(ax, look, means["x"], means, within, "score", marker="_")


SEEDS = {"subset": "the examples", "init": "the head", "order": "order and dropout"}
MEASURED = {"steps": "optimiser steps", "tokens": "tokens trained on", "train_seconds": "seconds that training took"}
# what a score can be drawn against -> the figure
AXES: dict[str, Callable[..., Figure]] = {
    "fraction": score_by_fraction, "seconds": score_by_budget,
    **{f"{kind}_seed": functools.partial(_score_by_seed, kind) for kind in SEEDS},
    **{column: functools.partial(_score_along, column) for column in MEASURED}}
