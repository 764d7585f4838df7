"""What the figures draw in a panel and say under it, besides their dots."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from studykit.telling import style, words
from studykit.telling.style import Panels, Styles

Marks = Callable[[pd.DataFrame], list[tuple[Any, str]]]  # of runs that were not ok: (x, text)
FALLEN = "strip: runs that collapsed or diverged"
BEYOND = "arrow: a run beyond the panel"
DOTS = "dot: a run; tick: mean; bar: 95 % t interval"
BESIDE = "arms stand side by side at each value"
HEAD: dict[str, Any] = {"linestyle": "none", "markersize": 4.5, "markeredgewidth": 0.8, "zorder": 2, "label": style.CUT}
CHANCE = "dotted: one answer for all"


def checked(table: pd.DataFrame) -> tuple[dict[str, str], Styles, list[str]]:
    """Titles by task, styles by arm, and the arms with a run that was not ok. Raises ``ValueError`` where a run
    has no score."""
    titles, styled = style.titles(table), style.styles(table)
    lost = table[table["score"].isna()]
    if len(lost):
        run = lost.iloc[0]
        raise ValueError(f"{len(lost)} of {words.counted(len(table), 'run')} have no score ({run['arm']} on "
                         f"{run['task_title']}): leave them out")
    wrong = set(table.loc[table["status"] != "ok", "arm"])
    return titles, styled, [arm for arm in styled if arm in wrong]


def ylabel(rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    return row["metric_axis"] + ("\n(lower is better)" if row["better"] < 0 else "")


def bars(ax: Axes, look: tuple[str, str], x: Any, rows: pd.DataFrame, limits: tuple[float, float], middle: str,
         marker: str = "") -> None:
    """A mark at the middle of each row and a bar for its interval; an open arrowhead where it goes on beyond the limits."""
    x, edges, told = np.asarray(x), outer(limits), rows["low"].notna().to_numpy()
    low, high = (rows[end].clip(*edges)[told] for end in ("low", "high"))
    ax.vlines(x[told], low, high, color=look[0], linewidth=1.0, alpha=0.55, zorder=2)
    for at, head in zip(edges, "v^", strict=True):
        cut = ((rows["low"] < at) & (rows["high"] > at)).to_numpy()
        ax.plot(x[cut], [at] * cut.sum(), color=look[0], marker=style.HEADS[head], **HEAD)
    inside = rows[middle].between(*limits).to_numpy()
    ax.plot(x[inside], rows[middle][inside], linestyle="none", color=look[0], marker=marker or look[1],
            markersize=5 if marker else 4, markeredgewidth=1.4 if marker else 0.5, zorder=4)


def outer(limits: tuple[float, float]) -> tuple[float, float]:
    """Where bars that go on end: a little beyond the limits, clear of the runs that stand there."""
    room = 0.03 * (limits[1] - limits[0])
    return limits[0] - room, limits[1] + room


def rows(ax: Axes, look: tuple[str, str], y: Any, gaps: pd.DataFrame, limits: tuple[float, float], low: str,
         high: str) -> None:
    """A mark at the gap of each row and a level bar from ``low`` to ``high``; an open arrowhead where it goes on beyond the
    limits."""
    y, edges = np.asarray(y, dtype=float), outer(limits)
    ax.hlines(y, gaps[low].clip(*edges), gaps[high].clip(*edges), color=look[0], linewidth=1.0, alpha=0.55, zorder=2)
    for at, head, cut in zip(edges, "<>", (gaps[low] < edges[0], gaps[high] > edges[1]), strict=True):
        ax.plot([at] * int(cut.sum()), y[cut.to_numpy()], color=look[0], marker=style.HEADS[head], **HEAD)
    ax.plot(gaps["gap"], y, linestyle="none", color=look[0], marker=look[1], markersize=4, markeredgewidth=0.5, zorder=4)


def chance(ax: Axes, rows: pd.DataFrame, low: float, high: float) -> str:
    """A dotted line at what one answer for all scores; where that is far off, its number above the panel. Returns
    what a footer says of the line, if there is one."""
    row = rows.iloc[0]
    if low <= row["chance"] <= high:
        ax.axhline(row["chance"], color=style.GREY, linewidth=0.7, linestyle=":", zorder=1)
        return CHANCE
    elif np.isfinite(row["chance"]):
        text = f"{'↓' if row['chance'] < low else '↑'} one answer: {words.number(row['chance'], row)}"
        ax.set_title(text, loc="right", fontsize=5.5, color=style.GREY)
    return ""


def strip_height(fallen: list[str]) -> float:
    """Inches of a strip with a row for each arm that has a run that was not ok."""
    return 0.1 + 0.14 * len(fallen) if fallen else 0.0


def strips(drawn: Panels, table: pd.DataFrame, fallen: list[str], styled: Styles, marks: Marks, xlabel: str) -> None:
    """Under each panel, a row an arm, what ``marks`` gives of its runs that were not ok."""
    for strip, ax, task in zip(drawn.strips, drawn.axes, style.titles(table), strict=False):
        for row, arm in enumerate(fallen):
            colour, marker = styled[arm]
            strip.plot([-0.03], [row], marker=marker, color=colour, markersize=3, clip_on=False,
                       transform=strip.get_yaxis_transform())
            runs = table[(table["task"] == task) & (table["arm"] == arm) & (table["status"] != "ok")]
            for x, text in marks(runs):
                strip.text(x, row + 0.04, text, ha="center", va="center_baseline", fontsize=6, color=colour)
        strip.set(ylim=(len(fallen) - 0.25, -0.65), yticks=[], xlabel=xlabel, facecolor="#F2F2F2")
        strip.spines["left"].set_visible(False)
        strip.tick_params(axis="x", which="minor", bottom=False)
        ax.tick_params(labelbottom=False)
        ax.set_xlabel("")


# In words, for the footer


def seeds(table: pd.DataFrame, column: str) -> str:
    """How many seeds stand behind each mean; runs, where not each has a seed of its own."""
    groups = table.groupby(["task", "arm", column])
    sizes = groups.size()
    counts, noun = sorted(set(sizes)), "seed" if groups["seed"].nunique().eq(sizes).all() else "run"
    return words.counted(counts[0], noun) if len(counts) == 1 else f"{counts[0]}–{counts[-1]} {noun}s"


def dots(table: pd.DataFrame, column: str) -> str:
    """What dots, ticks and bars are; where each place has one run, there are no others."""
    return DOTS if table.groupby(["task", "arm", column]).size().max() > 1 else "dot: a run"


def missing(table: pd.DataFrame, titles: Mapping[str, str], styled: Styles) -> str:
    """Which arms have no run on which tasks."""
    there = set(zip(table["task"], table["arm"], strict=True))
    absent = [f"{arm} on {title}" for arm in styled for task, title in titles.items() if (task, arm) not in there]
    return f"no run on record: {words.listed(absent)}" if absent else ""


def pace(table: pd.DataFrame) -> str:
    """Where runs went at another pace than their clock's, by a quarter."""
    from studykit.study.clock import apart

    rows = [f"{row.arm} on {row.task_title} {row.ratio:.1f} times" for row in apart(table).itertuples()]
    return f"off the clock, a token took: {words.listed(rows)} as long" if rows else ""
