"""Vertical limits that no outlier sets: what lies beyond them is written at the panel's edge, never left out."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes


def of_scores(groups: Sequence[npt.ArrayLike], chance: float = math.nan) -> tuple[float, float]:
    """``(low, high)`` for groups of runs: they hold each group's mean and median, the runs that are not far from
    their group, and what is within reach of these. ``chance`` is held where it is within reach."""
    runs = [np.asarray(group, dtype=float) for group in groups]
    middles = np.array([middle for group in runs for middle in (group.mean(), np.median(group))])
    away = np.concatenate([np.abs(group - np.median(group)) for group in runs])
    usual = 6 * max(float(np.quantile(away, 0.6)), 0.02 * float(np.ptp(middles)), 1e-9)
    values = np.concatenate(runs)
    return reached(np.append(values, chance), np.append(middles, values[away <= usual]))


def without_far(groups: Sequence[npt.ArrayLike]) -> list[np.ndarray]:
    """The groups without those, of four or more, that lie further from the middle one than three times the others' height:
    one method that is far off does not flatten the rest."""
    runs = [np.asarray(group, dtype=float) for group in groups]
    means = np.array([group.mean() for group in runs])
    away = np.abs(means - np.median(means))
    usual = 3 * max(float(np.ptp(means[away <= np.quantile(away, 0.75)])), 1e-9)
    return [group for group, far in zip(runs, away > usual, strict=True) if not far or len(runs) < 4]


def of_gaps(gaps: pd.DataFrame, keep: Sequence[float]) -> tuple[float, float]:
    """``(low, high)`` for gaps with their intervals: they hold ``keep``, the gaps of the size of the smaller
    ones, and what is within reach of these, so that an arm that is far off does not flatten the others."""
    sizes = gaps["gap"].abs()
    near = gaps.loc[sizes <= 5 * sizes.quantile(0.4), "gap"]
    low, high = reached(gaps["gap"].to_numpy(), np.array([*near, *keep]), 2)
    return reached(gaps[["low", "high"]].to_numpy().ravel(), np.array([low, high]), 0.4)


def reached(values: np.ndarray, held: np.ndarray, reach: float = 0.75) -> tuple[float, float]:
    """``(low, high)`` of what is held, and of the values that lie at most ``reach`` times its height beyond
    it."""
    low, high = float(held.min()), float(held.max())
    near = values[(values >= low - reach * (high - low)) & (values <= high + reach * (high - low))]
    return min([low, *near.tolist()]), max([high, *near.tolist()])


def set_on(ax: Axes, low: float, high: float, x: Iterable, values: Iterable[float], colours: Iterable[str]) -> int:
    """Set the vertical limits to hold ``low`` to ``high``, and write what lies beyond at the edge, where no point
    is: an arrow with the value, in its colour, at its place ``x``. The horizontal axis must be set. Returns how
    many lie beyond."""
    room = 0.05 * ((high - low) or 1.0)
    line = 0.085 * (high - low + 2 * room)
    marks = [mark for mark in zip(x, values, colours, strict=True) if mark[1] == mark[1]]  # without those that are no number
    edges = [low - room, high + room]
    for side, outside in enumerate((lambda value: value < low, lambda value: value > high)):
        sign = 2 * side - 1
        places: dict[float, dict[str, list[str]]] = {}
        for position, value, colour in marks:
            if outside(value):
                along = ax.transAxes.inverted().transform(ax.transData.transform((position, low)))[0]
                places.setdefault(round(float(along), 2), {}).setdefault(colour, []).append(_short(value))
        for along, by_colour in places.items():
            for level, (colour, texts) in enumerate(by_colour.items()):
                text = ("↓", "↑")[side] + (", ".join(texts) if len(texts) < 3 else f"{len(texts)} runs")
                _write(ax, along, edges[side] + sign * (level + 0.5) * line, text, colour)
        edges[side] += sign * line * max(map(len, places.values()), default=0)
    ax.set_ylim(*edges)
    return sum(not low <= value <= high for _, value, _ in marks)


def _write(ax: Axes, along: float, height: float, text: str, colour: str) -> None:
    """Write at a share of the panel's width, not beyond its sides."""
    x, align = (0.01, "left") if along < 0.06 else (0.99, "right") if along > 0.94 else (along, "center")
    ax.text(x, height, text, ha=align, va="center", fontsize=5.5, color=colour, transform=ax.get_yaxis_transform())


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or not value else f"{value:.2g}"
