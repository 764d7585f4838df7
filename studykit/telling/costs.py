"""Figures of what arms cost beside what they score. Sizes of one kind of arm have one colour."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from studykit.evidence import costs
from studykit.telling import limits, parts, style, words

SIDES = ((0, 7), (0, -7), (7, 5), (7, -5), (-7, 5), (-7, -5), *((across, up) for up in (14, -14, 22, -22, 30, -30, 38, -38)
                                                                 for across in (0, 9, -9)))  # of a mark, in points
NEAR = 7  # points above or below, within which a label needs no line to its mark


def score_by_parameters(table: pd.DataFrame, about: str = "") -> Figure:
    """Score against the parameters that train besides the head, on a log axis: every run a dot, a mark at an arm's
    mean, a bar for its interval, sizes of one kind joined. ``table`` is a study's table of runs."""
    besides = (table["trained"] - table["head"]).astype(float)
    none = besides[besides > 0].min() / 4 if besides.any() else 1.0  # where arms stand that train the head alone
    powers = 10.0 ** np.arange(np.ceil(np.log10(4 * none)), np.log10(max(1.0, besides.max())) + 0.01)
    ticks = ({none: "none"} if (besides == 0).any() else {}) | {power: f"{power:,.0f}" for power in powers}
    return _against(table.assign(x=besides.where(besides > 0, none)), about, "parameters that train besides the head", ticks)


def score_by_training_time(table: pd.DataFrame, about: str = "") -> Figure:
    """Score against the seconds of training that a run took, would take on a calibrated clock (``costs.on_clock``), or that
    the arm's quickest took (``costs.quickest``), with an interval for their mean. Runs without seconds are left out."""
    runs = table[table["train_seconds"].notna()]
    return _against(runs.assign(x=runs["train_seconds"]), about, "seconds of training")


def _against(table: pd.DataFrame, about: str, xlabel: str, ticks: dict[float, str] | None = None) -> Figure:
    """Scores against a column ``x``: on a log axis where there are ``ticks``, else seconds from zero on."""
    titles, looks, beyond, dotted = style.titles(table), _looks(table), 0, ""
    drawn = style.panels(len(titles), len(looks), height=3.2)
    for ax, (task, title) in zip(drawn.axes, titles.items(), strict=True):
        rows = table[table["task"] == task]
        groups = limits.without_far([group["score"] for _, group in rows.groupby("arm", sort=False)])
        within = limits.of_scores(groups, rows["chance"].iloc[0])
        ax.set(title=title, xlabel=xlabel, ylabel=parts.ylabel(rows), xlim=(0, 1.1 * rows["x"].max()))
        if ticks is not None:
            ax.set(xscale="log", xlim=(rows["x"].min() / 1.5, 1.5 * rows["x"].max()))
            ax.minorticks_off()
            ax.set_xticks([*ticks], [*ticks.values()])
        dotted = parts.chance(ax, rows, *within) or dotted
        means = costs.by_arm(rows)
        means = means.assign(x=means["arm"].map(rows.groupby("arm")["x"].mean()))
        for line, own in means.groupby(means["arm"].map(costs.lines(table)), sort=False):
            _line(ax, rows[rows["arm"].isin(own["arm"])], own, looks[line], within, timed=ticks is None)
        colours = rows["arm"].map(costs.lines(table)).map(lambda line: looks[line][0])
        places = rows.groupby("arm")["x"].transform("mean")
        beyond += limits.set_on(ax, *within, places, rows["score"], colours)
    if len(titles) > 1:
        style.key(drawn, looks)
    style.footer(drawn.fig, about, parts.seeds(table, "fraction"), parts.dots(table, "fraction").replace("tick", "mark"),
                 dotted, "" if ticks is None else "line: sizes of one kind", parts.BEYOND if beyond else "")
    if len(titles) == 1:  # once all else has its place
        _label(ax, rows, means, within, {arm: looks[line][0] for arm, line in costs.lines(table).items()})
    return drawn.fig


def _looks(table: pd.DataFrame) -> style.Styles:
    """Colour and marker of each kind of arm; those of the study's own arms are theirs, since they come first."""
    kinds = list(dict.fromkeys(costs.lines(table).values()))
    if len(kinds) > len(style.STYLE):
        raise ValueError(f"a figure tells {len(style.STYLE)} kinds of arms apart, got {len(kinds)}: leave some out")
    return dict(zip(kinds, style.STYLE, strict=False))


def _line(ax: Axes, runs: pd.DataFrame, means: pd.DataFrame, look: tuple[str, str], within: tuple[float, float],
          timed: bool) -> None:
    """Arms of one kind: their runs and means; joined in the order of sizes, or with bars for the seconds."""
    inside = runs[runs["score"].between(*within)]
    ax.scatter(inside["x"], inside["score"], s=9, color=look[0], marker=look[1], alpha=0.4, linewidth=0, zorder=3)
    parts.bars(ax, look, means["x"], means, within, "score")
    if timed:
        told = means[means["train_low"].notna()]
        ax.hlines(told["score"], told["train_low"], told["train_high"], color=look[0], linewidth=1.0, alpha=0.3, zorder=2)
    else:
        ax.plot(means["x"], means["score"], color=look[0], alpha=0.4, zorder=1)


def _label(ax: Axes, runs: pd.DataFrame, means: pd.DataFrame, within: tuple[float, float], colours: dict[str, str]) -> None:
    """Write each arm's label beside its mean, on the side where it covers least of runs and of other labels; a thin line
    leads to one that stands off. An arm beyond the limits has its mean with its label, at the edge."""
    inside = means["score"].between(*within)
    names = means["arm"].where(inside, [f"{row.arm}: {words.number(row.score, runs.iloc[0])}" for row in means.itertuples()])
    means = means.assign(score=means["score"].clip(*within), text=names)
    ax.figure.canvas.draw()  # lays the panel out, which places need
    taken = [Bbox.from_bounds(x - 2, y - 2, 4, 4) for x, y in _at(ax, runs)]
    lows, highs = (_at(ax, means.assign(score=means[end].fillna(means["score"]))) for end in ("low", "high"))
    taken += [Bbox([low, high]).padded(1) for low, high in zip(lows, highs, strict=True)]
    labels: list[Bbox] = []
    for (x, y), row in zip(_at(ax, means), means.itertuples(), strict=True):
        text = ax.annotate(row.text, (row.x, row.score), xytext=(0, 0), textcoords="offset points", fontsize=style.SMALL,
                           color=colours[row.arm], zorder=6)
        extent = text.get_window_extent()
        width, height = (1 + 72 / ax.figure.dpi * side for side in (extent.width, extent.height))
        boxes = [_box(x, y, width, height, *side) for side in SIDES]
        covered = [sum(_shared(box, other) for other in taken) + 20 * sum(_shared(box, other) for other in labels)
                   + 20 * _outside(box, ax) for box in boxes]
        side = int(np.argmin(covered))
        best = boxes[side]
        text.set_position((best.x0 - x, best.y0 - y))
        text.set_verticalalignment("bottom")
        if abs(SIDES[side][1]) > NEAR:
            ends = np.array([(x, y), (np.clip(x, best.x0, best.x1), np.clip(y, best.y0, best.y1))])
            ax.plot(*ax.transData.inverted().transform(ends * ax.figure.dpi / 72).T, color=colours[row.arm], linewidth=0.4,
                    zorder=2)
        labels.append(best)


def _at(ax: Axes, rows: pd.DataFrame) -> np.ndarray:
    """Where rows stand in the figure, in points."""
    return ax.transData.transform(rows[["x", "score"]].to_numpy(dtype=float)) * 72 / ax.figure.dpi


def _box(x: float, y: float, width: float, height: float, right: float, up: float) -> Bbox:
    """What a label covers that begins, ends or stands in the middle so far from a place, by the side it is on."""
    return Bbox.from_bounds(x + right - width * (1 - np.sign(right)) / 2, y + up - height * (1 - np.sign(up)) / 2, width,
                            height)


def _shared(box: Bbox, other: Bbox) -> float:
    """The area that two boxes share."""
    shared = Bbox.intersection(box, other)
    return 0.0 if shared is None else float(shared.width * shared.height)


def _outside(box: Bbox, ax: Axes) -> float:
    """How much of a box is beyond the panel."""
    panel = ax.get_window_extent()
    inside = _shared(box, Bbox(panel.get_points() * 72 / ax.figure.dpi))
    return float(box.width * box.height) - inside
