"""What figures share: colours and markers by an arm's place, panels, axes, limits that no outlier sets, footers,
and ``save``.

All of it is read from a table's columns: ``arm`` and ``arm_place``, ``task``, ``task_title`` and ``task_place``.
"""

import json
import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline

from studykit import paths

# by an arm's place: colour (Okabe and Ito's and more, told apart without colour vision), marker (told apart in grey)
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

# Open heads, unlike any arm's marker, where a bar goes on beyond the panel; their label, which no legend shows
CUT = "_cut"
HEADS = {way: MarkerStyle(Outline(points), fillstyle="none") for way, points in {  # type: ignore[arg-type]
    "^": [(-1, -0.5), (0, 0.5), (1, -0.5)], "v": [(-1, 0.5), (0, -0.5), (1, 0.5)],
    ">": [(-0.5, -1), (0.5, 0), (-0.5, 1)], "<": [(0.5, -1), (-0.5, 0), (0.5, 1)]}.items()}

Styles = dict[str, tuple[str, str]]


def styles(table: pd.DataFrame) -> Styles:
    """Colour and marker of each arm, in the study's order. Raises ``ValueError`` for more arms than can be told
    apart, and for a table of two studies whose arms share a place."""
    arms = table.drop_duplicates(["arm", "arm_place"]).sort_values("arm_place", kind="stable")
    if arms["arm"].duplicated().any() or arms["arm_place"].duplicated().any():
        raise ValueError(f"the arms {', '.join(arms['arm'])} share places: draw runs of one study")
    if arms["arm_place"].max() >= len(STYLE):
        raise ValueError(f"a figure tells the first {len(STYLE)} arms of a study apart, and {arms['arm'].iloc[-1]} comes "
                         "after them: leave it out, or move it up in the study's file")
    return {row.arm: STYLE[row.arm_place] for row in arms.itertuples()}


def titles(table: pd.DataFrame) -> dict[str, str]:
    """Titles by task, in the study's order. Raises ``ValueError`` for an empty table and for more tasks than a
    figure holds."""
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


def panels(count: int, arms: int = 1, height: float = 2.4, strip: float = 0.0, columns: int = 0) -> Panels:
    """``count`` panels in rows of so many ``columns``, or else of three, of two where there are many ``arms``; ``height``
    and that of a ``strip`` in inches."""
    import seaborn as sns

    sns.set_theme(style="ticks", rc=RC)
    columns = columns or min(count, 3 if arms <= ROOMY else 2)
    rows = math.ceil(count / columns)
    size = (WIDTH, rows * (height + strip) + (0.3 if rows == 1 else 0))
    fig = plt.figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.03, w_pad=0.03))
    step = 2 if strip else 1
    grid = fig.add_gridspec(step * rows, columns, height_ratios=([height, strip] if strip else [height]) * rows)
    cells = [divmod(i, columns) for i in range(count)]
    axes = [fig.add_subplot(grid[step * row, column]) for row, column in cells]
    strips = [fig.add_subplot(grid[step * row + 1, column], sharex=ax)
              for (row, column), ax in zip(cells, axes, strict=True) if strip]
    spare = fig.add_subplot(grid[step * (rows - 1), columns - 1]) if rows * columns > count and rows > 1 else None
    if spare:
        spare.axis("off")
    return Panels(fig, axes, strips, columns, spare)


@dataclass(frozen=True)
class Ticks:
    """Places along a horizontal axis: values with their labels, on a real log axis where ``log``; arms stand side
    by side about a value, near enough that values do not interleave."""

    labels: dict
    arms: int
    log: bool = False

    @property
    def _step(self) -> float:
        """The room of a value; on a log axis in powers of ten: at most what lies between neighbours, and so little that a
        value's arms stand nearer to it than to any other place that one could read."""
        if not self.log:
            return 1.0
        places = np.log10(sorted(self.labels))
        return float(min([0.3 * (min(1.0, np.ptp(places)) or 1.0), *np.diff(places)]))

    def middle(self, values: Iterable) -> np.ndarray:
        values = list(values)
        if unknown := [value for value in values if value not in self.labels]:
            raise ValueError(f"the axis has no place for {unknown[0]}: it has {', '.join(map(str, self.labels))}")
        places = list(self.labels)
        return np.array(values if self.log else [places.index(value) for value in values], dtype=float)

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
        """The labels, those empty that would touch the next one on a log axis; the last, all of the data, always stands."""
        labels = list(self.labels.values())
        if not self.log:
            return labels
        along = np.log10(places)
        room, last = 0.11 * max(1.0, max(map(len, labels)) / 4) * float(np.ptp(along)), np.inf
        for i in reversed(range(len(labels))):
            if last - along[i] > room:
                last = along[i]
            else:
                labels[i] = ""
        return labels


class Ends(dict[tuple[Axes, str], tuple[float, float]]):
    """Where lines end: x and y by panel and arm."""


def key(panels: Panels, styled: Styles, ends: Ends | None = None) -> None:
    """Name the arms in their colours and markers: in an empty place of the panels, else above them; where three
    rows of panels are far from that, also at the lines' ``ends`` in each row's last panel."""
    handles = [Line2D([], [], color=colour, marker=marker, markersize=4, linewidth=1.2)
               for colour, marker in styled.values()]
    options: dict = {"frameon": False, "handlelength": 1.6, "columnspacing": 1.4, "fontsize": 8}
    if panels.spare:
        panels.spare.legend(handles, list(styled), loc="center left", **options)
        return
    columns = max(1, min(len(styled), int(105 / (max(map(len, styled)) + 6))))
    panels.fig.legend(handles, list(styled), loc="outside upper left", ncols=columns, **options)
    if ends and len(panels.axes) > 2 * panels.columns:
        for ax in panels.axes[panels.columns - 1::panels.columns]:
            end_labels(ax, ends, styled, SMALL)


def end_labels(ax: Axes, ends: Ends, styled: Styles, size: float = 8.0) -> None:
    """Name each line of a panel at its end, moved apart where ends are close."""
    low, high = ax.get_ylim()
    rows = sorted(((y, x, arm) for (panel, arm), (x, y) in ends.items() if panel is ax))
    heights = np.array([y for y, _, _ in rows])
    line = (high - low) * min(0.01 * size, 1 / max(len(rows), 1))  # a line of text in a panel of some two inches
    apart = np.arange(len(rows)) * line
    places = np.maximum.accumulate(heights - apart) + apart
    if len(rows):
        places -= (places - heights).mean()
        places -= max(0.0, places.max() - high) - max(0.0, low - places.min())
    for (y, x, arm), place in zip(rows, places, strict=True):
        ax.annotate(arm, (x, y), xytext=(1.02, (place - low) / (high - low)), textcoords="axes fraction",
                    color=styled[arm][0], va="center", fontsize=size, annotation_clip=False)


def footer(fig: Figure, *parts: str) -> None:
    """What a figure was made of and how it is read, under it: the parts that are not empty."""
    lines: list[str] = []
    cut = any(line.get_label() == CUT and np.size(line.get_xdata()) for ax in fig.axes for line in ax.lines)
    for part in filter(None, (*parts, "open arrowhead: a bar goes on" if cut else "")):
        if lines and len(lines[-1]) + len(part) < 128:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(part, 128)
    fig.supxlabel("\n".join(lines), fontsize=SMALL, color=GREY)


def save(fig: Figure, name: str, experiment: Any, table: pd.DataFrame, **about: str) -> Path:
    """Write a figure as SVG and PNG under ``figures/<study>/``, and what it was drawn from, and what else it is
    ``about`` (caption, notebook), into the manifest there.

    Redrawn from the same records, the files are the same to the byte. Returns the PNG's path.
    """
    folder = paths.made(paths.figures(experiment.name))
    fig.savefig(folder / f"{name}.svg", metadata={"Date": None})
    fig.savefig(folder / f"{name}.png", dpi=200, metadata={"Software": None})
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    seeds, runs = (list(table[column].dropna()) if column in table else [] for column in ("seed", "key"))
    manifest[name] = {"study": experiment.name, "encoder": experiment.encoder, "weights": experiment.weights,
                      "seeds": sorted({int(seed) for seed in seeds}), "runs": sorted(set(runs)), **about}
    paths.write(file, json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return folder / f"{name}.png"
