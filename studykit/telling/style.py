"""What figures share: colours and markers by an arm's place, panels, axes, limits that no outlier sets, footers, and ``save``.

All of it is read from a table's columns: ``arm`` and ``arm_place``, ``task``, ``task_title`` and ``task_place``.
"""

import json
import math
import os
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from studykit import paths

# by an arm's place: colour (Okabe and Ito's and more, told apart without colour vision) and marker (told apart in grey)
STYLE = (("#000000", "o"), ("#D55E00", "s"), ("#0072B2", "^"), ("#8A8A8A", "D"), ("#009E73", "v"), ("#CC79A7", "P"),
         ("#B58900", "X"), ("#56B4E9", "<"), ("#6A3D9A", ">"), ("#7F3B08", "p"), ("#7FB800", "*"), ("#4D5D8A", "h"))
WIDTH = 6.3  # inches
MOST_TASKS = 9
ROOMY = 5  # arms; with more of them a row holds two panels, so that each keeps a column of its own
GREY, SMALL = "#555555", 6.5
RC = {"font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
      "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left", "figure.dpi": 120,
      "svg.hashsalt": "studykit", "lines.linewidth": 1.0, "axes.linewidth": 0.7, "xtick.major.width": 0.7,
      "ytick.major.width": 0.7, "xtick.major.size": 3, "ytick.major.size": 3,
      "xtick.bottom": True, "ytick.left": True, "font.family": "DejaVu Sans"}  # it is on every machine

Styles = dict[str, tuple[str, str]]


def styles(table: pd.DataFrame) -> Styles:
    """Colour and marker of each arm, in the study's order. Raises ``ValueError`` for more arms than can be told apart, and for a
    table of two studies whose arms share a place."""
    arms = table.drop_duplicates(["arm", "arm_place"]).sort_values("arm_place", kind="stable")
    if arms["arm"].duplicated().any() or arms["arm_place"].duplicated().any():
        raise ValueError(f"the arms {', '.join(arms['arm'])} share places: draw runs of one study")
    if arms["arm_place"].max() >= len(STYLE):
        raise ValueError(f"a figure tells the first {len(STYLE)} arms of a study apart, and {arms['arm'].iloc[-1]} comes after them: "
                         "leave it out, or move it up in the study's file")
    return {row.arm: STYLE[row.arm_place] for row in arms.itertuples()}


def titles(table: pd.DataFrame) -> dict[str, str]:
    """Titles by task, in the study's order. Raises ``ValueError`` for an empty table and for more tasks than a figure holds."""
    if table.empty:
        raise ValueError("there is nothing to draw: the table has no run")
    tasks = table.drop_duplicates("task").sort_values("task_place", kind="stable")
    if len(tasks) > MOST_TASKS:
        raise ValueError(f"a figure holds {MOST_TASKS} tasks, got {len(tasks)}: draw some of them")
    return dict(zip(tasks["task"], tasks["task_title"], strict=True))


@dataclass
class Panels:
    """A figure with a panel for each task, in rows, and under each, where asked for, a strip."""

    fig: Figure
    axes: list[Axes]
    strips: list[Axes]
    columns: int
    spare: Axes | None  # an empty place at the end of the last row


def panels(count: int, arms: int = 1, height: float = 2.4, strip: float = 0.0) -> Panels:
    """``count`` panels in rows of three, of two where there are many ``arms``; ``height`` and that of a ``strip`` in inches."""
    import seaborn as sns

    sns.set_theme(style="ticks", rc=RC)
    columns = min(count, 3 if arms <= ROOMY else 2)
    rows = math.ceil(count / columns)
    fig = plt.figure(figsize=(WIDTH, rows * (height + strip) + (0.3 if rows == 1 else 0)), layout="constrained")
    fig.get_layout_engine().set(h_pad=0.03, w_pad=0.03)  # type: ignore[union-attr]
    step = 2 if strip else 1
    grid = fig.add_gridspec(step * rows, columns, height_ratios=([height, strip] if strip else [height]) * rows)
    cells = [divmod(i, columns) for i in range(count)]
    axes = [fig.add_subplot(grid[step * row, column]) for row, column in cells]
    strips = [fig.add_subplot(grid[step * row + 1, column], sharex=ax) for (row, column), ax in zip(cells, axes, strict=True)
              ] if strip else []
    spare = fig.add_subplot(grid[step * (rows - 1), columns - 1]) if rows * columns > count and rows > 1 else None
    if spare:
        spare.axis("off")
    return Panels(fig, axes, strips, columns, spare)


@dataclass(frozen=True)
class Ticks:
    """Places along a horizontal axis: values with their labels, on a real log axis where ``log``; arms stand side by side
    about a value, near enough that values do not interleave."""

    labels: dict
    arms: int
    log: bool = False

    @property
    def _step(self) -> float:
        """The room of a value: between neighbours on a log axis, in powers of ten."""
        if not self.log:
            return 1.0
        return float(min([0.3, *np.diff(np.log10(sorted(self.labels)))]))

    def middle(self, values: Iterable) -> np.ndarray:
        values = list(values)
        if unknown := [value for value in values if value not in self.labels]:
            raise ValueError(f"the axis has no place for {unknown[0]}: it has {', '.join(map(str, self.labels))}")
        return np.array(values, dtype=float) if self.log else np.array([list(self.labels).index(value) for value in values])

    def at(self, values: Iterable, arm: int) -> np.ndarray:
        """Where an arm's runs stand, by its number among those that are drawn."""
        shift = (arm - (self.arms - 1) / 2) * 0.72 * self._step / max(self.arms, 2)
        return self.middle(values) * 10 ** shift if self.log else self.middle(values) + shift

    def dress(self, ax: Axes, xlabel: str) -> None:
        """Scale, limits and labels; of labels that would touch, the later ones stay away (their ticks stand)."""
        places, room = self.middle(self.labels), 0.55 * self._step
        if self.log:
            ax.set_xscale("log")
            ax.set_xlim(places.min() * 10 ** -room, places.max() * 10 ** room)
            ax.minorticks_off()
        else:
            ax.set_xlim(places.min() - room, places.max() + room)
        ax.set_xticks(places, self._apart(places))
        ax.set_xlabel(xlabel)

    def _apart(self, places: np.ndarray) -> list[str]:
        along = np.log10(places) if self.log else places
        labels, kept, width = list(self.labels.values()), [], float(np.ptp(along)) or 1.0
        for label, position in reversed(list(zip(labels, along, strict=True))):  # the last, all of the data, always stands
            free = not kept or (kept[-1] - position) / width > 0.085 * self._crowd(labels)
            kept += [position] if free else []
            labels[labels.index(label)] = label if free else ""
        return labels

    def _crowd(self, labels: list[str]) -> float:
        return max(1.0, max(len(label) for label in labels if label) / 4) if self.log else 0.0


def limits_of(groups: Sequence[npt.ArrayLike], chance: float = math.nan) -> tuple[float, float]:
    """``(low, high)`` for groups of runs: they hold each group's mean and median, the runs that are not far from their group, and
    what is within reach of these. ``chance`` is held where it is within reach."""
    runs = [np.asarray(group, dtype=float) for group in groups]
    middles = np.array([middle for group in runs for middle in (group.mean(), np.median(group))])
    away = np.concatenate([np.abs(group - np.median(group)) for group in runs])
    usual = 6 * max(float(np.quantile(away, 0.6)), 0.02 * float(np.ptp(middles)), 1e-9)
    values = np.concatenate(runs)
    return reached(np.append(values, chance), np.append(middles, values[away <= usual]))


def limits_of_gaps(gaps: pd.DataFrame, keep: Sequence[float]) -> tuple[float, float]:
    """``(low, high)`` for gaps with their intervals: they hold ``keep``, the gaps of the size of the smaller ones, and what is
    within reach of these, so that an arm that is far off does not flatten the others."""
    sizes = gaps["gap"].abs()
    near = gaps.loc[sizes <= 5 * sizes.quantile(0.4), "gap"]
    low, high = reached(gaps["gap"].to_numpy(), np.array([*near, *keep]), 2)
    return reached(gaps[["low", "high"]].to_numpy().ravel(), np.array([low, high]), 0.4)


def reached(values: np.ndarray, held: np.ndarray, reach: float = 0.75) -> tuple[float, float]:
    """``(low, high)`` of what is held, and of the values that lie at most ``reach`` times its height beyond it."""
    low, high = float(held.min()), float(held.max())
    near = values[(values >= low - reach * (high - low)) & (values <= high + reach * (high - low))]
    return min([low, *near.tolist()]), max([high, *near.tolist()])


def off_panel(ax: Axes, low: float, high: float, marks: Sequence[tuple[Any, float, str]]) -> int:
    """Set the vertical limits to hold ``low`` to ``high``, and write what lies beyond at the edge, where no point is: an arrow with
    the value. ``marks`` are (middle of the place, value, colour); the horizontal axis must be set. Returns
    how many lie beyond."""
    room = 0.05 * ((high - low) or 1.0)
    line = 0.085 * (high - low + 2 * room)
    bottom, top = low - room, high + room
    for below in (True, False):
        lines: dict = {}
        for x, value, colour in marks:
            if value < low if below else value > high:
                along = float(ax.transAxes.inverted().transform(ax.transData.transform((x, low)))[0])
                lines.setdefault(round(along, 2), {}).setdefault(colour, []).append(_short(value))
        for along, by_colour in lines.items():
            align = {"x": 0.01, "ha": "left"} if along < 0.06 else {"x": 0.99, "ha": "right"} if along > 0.94 else {
                "x": along, "ha": "center"}
            for level, (colour, texts) in enumerate(by_colour.items()):
                text = f"{'↓' if below else '↑'}{', '.join(texts) if len(texts) < 3 else f'{len(texts)} runs'}"
                y = low - room - (level + 0.5) * line if below else high + room + (level + 0.5) * line
                ax.text(s=text, y=y, va="center", fontsize=5.5, color=colour, transform=ax.get_yaxis_transform(), **align)
        levels = max(map(len, lines.values()), default=0)
        bottom, top = (bottom - levels * line, top) if below else (bottom, top + levels * line)
    ax.set_ylim(bottom, top)
    return sum(not low <= value <= high for _, value, _ in marks)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or not value else f"{value:.2g}"


def key(panels: Panels, styled: Styles, ends: dict[Axes, dict[str, tuple[float, float]]] | None = None) -> None:
    """Name the arms in their colours and markers: in an empty place of the panels, else above them; where three rows of panels
    are far from that, also at the lines' ``ends`` (x and y by arm) of each row's last panel."""
    handles = [Line2D([], [], color=colour, marker=marker, markersize=4, linewidth=1.2) for colour, marker in styled.values()]
    options: dict = {"frameon": False, "handlelength": 1.6, "columnspacing": 1.4, "fontsize": 8}
    if panels.spare:
        panels.spare.legend(handles, list(styled), loc="center left", **options)
        return
    columns = max(1, min(len(styled), int(105 / (max(map(len, styled)) + 6))))
    panels.fig.legend(handles, list(styled), loc="outside upper left", ncols=columns, **options)
    if ends and len(panels.axes) > 2 * panels.columns:
        for ax in panels.axes[panels.columns - 1::panels.columns]:
            end_labels(ax, ends[ax], styled, 6.5)


def end_labels(ax: Axes, ends: dict[str, tuple[float, float]], styled: Styles, size: float = 8.0) -> None:
    """Name each line at its end, x and y by arm, moved apart where ends are close."""
    low, high = ax.get_ylim()
    rows = sorted(ends.items(), key=lambda item: item[1][1])
    if not rows:
        return
    heights = np.array([height for _, (_, height) in rows])
    gap = np.arange(len(rows)) * (high - low) * min(0.6 * size / 72 / 1.6 * 1.9, 1 / len(rows))
    places = np.maximum.accumulate(heights - gap) + gap
    places -= (places - heights).mean()
    for (arm, (x, y)), place in zip(rows, places, strict=True):
        ax.annotate(arm, (x, y), xytext=(1.02, (place - low) / (high - low)), textcoords="axes fraction",
                    color=styled[arm][0], va="center", fontsize=size, annotation_clip=False)


def footer(fig: Figure, *parts: str) -> None:
    """What a figure was made of and how it is read, under it: the parts that are not empty."""
    lines: list[str] = []
    for part in filter(None, parts):
        if lines and len(lines[-1]) + len(part) < 128:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(part, 128)
    fig.supxlabel("\n".join(lines), fontsize=SMALL, color=GREY)


def save(fig: Figure, name: str, experiment: Any, table: pd.DataFrame) -> Path:
    """Write a figure as SVG and PNG under ``figures/<study>/``, and what it was drawn from into the manifest there.

    Redrawn from the same records, the files are the same to the byte. Returns the PNG's path.
    """
    folder = paths.made(paths.figures(experiment.name))
    fig.savefig(folder / f"{name}.svg", metadata={"Date": None})
    fig.savefig(folder / f"{name}.png", dpi=200, metadata={"Software": None})
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text()) if file.is_file() else {}
    seeds, runs = (list(table[column].dropna()) if column in table else [] for column in ("seed", "key"))
    manifest[name] = {"study": experiment.name, "encoder": experiment.encoder, "weights": experiment.weights,
                      "seeds": sorted({int(seed) for seed in seeds}), "runs": sorted(set(runs))}
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    os.replace(temporary, file)
    return folder / f"{name}.png"
