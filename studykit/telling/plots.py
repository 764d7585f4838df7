"""One function per figure: table in, figure out. One style, one ``save``."""

import functools
import json
import os

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from studykit import paths, tasks
from studykit.evidence import stats

# method -> colour (Okabe and Ito's, told apart without colour vision) and marker (told apart in grey), in their order
STYLE = {"full": ("#000000", "o"), "bitfit": ("#D55E00", "s"), "adapter": ("#0072B2", "^"), "head": ("#8A8A8A", "D"),
         "layernorm": ("#009E73", "v"), "random": ("#CC79A7", "P"), "last_k": ("#B58900", "X")}
TASK_NAMES = {"mrpc": "MRPC", "cola": "CoLA", "stsb": "STS-B", "sst2": "SST-2"}
WIDTH = 6.3  # inches
FRACTION = "training data, %"  # an axis's label
RC = {"font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "xtick.labelsize": 8, "ytick.labelsize": 8,
      "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left", "figure.dpi": 120,
      "svg.hashsalt": "studykit", "lines.linewidth": 1.0, "axes.linewidth": 0.7}


def _figure(columns=1, height=2.6, **options):
    sns.set_theme(style="ticks", rc=RC)
    return plt.subplots(1, columns, figsize=(WIDTH, height), layout="constrained", squeeze=False, **options)


def _methods(table):
    return [method for method in STYLE if method in set(table["method"])]


def _tasks(table):
    return [task for task in tasks.TASKS if task in set(table["task"])]


def score_by_fraction(table, about=""):
    """Score against the share of the training data: every seed a dot, a tick at the mean, a bar for the interval. The axis
    holds every dot; a bar that is longer than the panel is cut at its edge.

    ``table`` is a study's table; ``about`` names study and encoder and goes under the figure with the seeds.
    """
    return _score_by("fraction", table, _fraction_ticks(table), about, xlabel=FRACTION)


def score_by_pretraining(table, about=""):
    """Score with random and with pre-trained weights of the encoder, drawn as ``score_by_fraction`` does."""
    return _score_by("pretrained", table, {False: "random", True: "pre-trained"}, about, xlabel="the encoder's weights",
                     joined=False)


def score_by_budget(table, about=""):
    """Score against a budget in seconds of training, drawn as ``score_by_fraction`` does."""
    return _score_by("seconds", table, {value: f"{value:g} s" for value in sorted(table["seconds"].unique())}, about,
                     xlabel="training time")


def score_by_passes(table, about=""):
    """Score with equal passes over the data and with equal steps, drawn as ``score_by_fraction`` does. ``table``
    has a column ``equal`` that says which."""
    return _score_by("equal", table, {name: f"equal {name}" for name in ("passes", "steps")}, about,
                     xlabel="for a small share of the data", joined=False)


def score_by_source(table, about=""):
    """Score where one seed alone differs, and where all three do: every run a dot. ``table`` has a column ``source``."""
    return _score_by("source", table, {name: name for name in ("subset", "init", "order", "all")}, about,
                     xlabel="the seed that differs", joined=False)


def _score_by_seed(kind, table, about=""):
    return _score_by(f"{kind}_seed", table, {seed: f"{seed}" for seed in sorted(table[f"{kind}_seed"].unique())}, about,
                     xlabel=f"the seed that decides {SEEDS[kind]}", joined=False)


def _score_along(column, table, about=""):
    """Score against what each run took: every run a dot, with a cross at the foot where it was not ok; a tick and a bar for
    the mean and interval of the runs of one method, share of the data and budget, at their median."""
    fig, axes = _figure(len(_tasks(table)), 2.9)
    for ax, task in zip(axes[0], _tasks(table), strict=True):
        rows = table[table["task"] == task]
        for method in _methods(rows):
            of = rows[rows["method"] == method]
            colour, marker = STYLE[method]
            ax.scatter(of[column], of["score"], s=13, color=colour, marker=marker, alpha=0.75, linewidth=0, zorder=3)
            wrong = of.loc[of["status"] != "ok", column]
            ax.plot(wrong, [0.03] * len(wrong), "x", color=colour, markersize=4, transform=ax.get_xaxis_transform())
            same = [group for _, group in of.groupby([name for name in ("fraction", "seconds") if name in of], dropna=False)]
            means = np.array([stats.mean_interval(group["score"].dropna()) for group in same])
            _bars(ax, method, x := [group[column].median() for group in same], *means.T, marker="_")
            ax.plot(x, means[:, 0], color=colour, alpha=0.35, zorder=1)
        ax.set(title=TASK_NAMES[task], xlabel=MEASURED[column], xlim=(0, None),
               ylabel=tasks.METRIC_NAMES[tasks.get(task).metric] + " × 100")
        ax.xaxis.set_major_formatter("{x:,.0f}")
        _limits(ax, rows["score"])
    _key(fig, axes, _methods(table))
    _note(fig, table, about)
    return fig


SEEDS = {"subset": "the examples", "init": "the head", "order": "order and dropout"}
MEASURED = {"steps": "optimiser steps", "tokens": "tokens trained on", "train_seconds": "seconds that training took"}
# what a score can be drawn against -> the figure
AXES = {"fraction": score_by_fraction, "seconds": score_by_budget,
        **{f"{kind}_seed": functools.partial(_score_by_seed, kind) for kind in SEEDS},
        **{column: functools.partial(_score_along, column) for column in MEASURED}}


def _score_by(column, table, ticks, about, xlabel, joined=True):
    fig, axes = _figure(len(_tasks(table)), 2.9)
    for ax, task in zip(axes[0], _tasks(table), strict=True):
        rows = table[table["task"] == task]
        if (majority := rows["majority"].max()) > 0:
            ax.axhline(majority, color="#555555", linewidth=0.7, linestyle=":", zorder=1)
        for i, method in enumerate(_methods(table)):
            _dots(ax, rows[rows["method"] == method], column, list(ticks), _offset(i, len(_methods(table))), joined)
        ax.set(title=TASK_NAMES[task], ylabel=tasks.METRIC_NAMES[tasks.get(task).metric] + " × 100")
        _ticks(ax, ticks.values(), xlabel)
        _limits(ax, rows["score"])
        _failures(ax, rows, column, list(ticks))
    _key(fig, axes, _methods(table))
    _note(fig, table, about)
    return fig


def gap_by_fraction(gaps, about="", margin=1.0, baseline="full"):
    """Paired gap to the baseline, in points, with its interval; the band is the margin within which methods match."""
    fig, axes = _figure(len(_tasks(gaps)), 2.7)
    ticks = _fraction_ticks(gaps)
    for ax, task in zip(axes[0], _tasks(gaps), strict=True):
        ax.axhspan(-margin, margin, color="#EDEDED", zorder=0, linewidth=0)
        ax.axhline(0, color="#555555", linewidth=0.7, zorder=1)
        for i, method in enumerate(_methods(gaps)):
            rows = gaps[(gaps["task"] == task) & (gaps["method"] == method)]
            x = [list(ticks).index(value) + _offset(i, len(_methods(gaps))) for value in rows["fraction"]]
            _bars(ax, method, x, rows["gap"], rows["low"], rows["high"])
        ax.set(title=TASK_NAMES[task], ylabel=f"gap to {baseline}, points")
        _ticks(ax, ticks.values(), FRACTION)
        _limits(ax, [*gaps.loc[gaps["task"] == task, "gap"], -2 * margin, 2 * margin], room=0.4)
    _key(fig, axes, _methods(gaps))
    pairs = sorted(set(gaps["pairs"]))
    fig.supxlabel(f"{about} · {_span(pairs)} pairs of runs per bar · bar: 95 %, seeds and test examples · "
                  f"band: ±{margin:g} point", fontsize=6.5, color="#555555")
    return fig


def score_by_rate(trials, about=""):
    """Selection score against learning rate on a log axis, a line per method; the chosen rate is ringed."""
    fig, axes = _figure(len(_tasks(trials)), 2.6)
    for ax, task in zip(axes[0], _tasks(trials), strict=True):
        for method in _methods(trials):
            rows = trials[(trials["task"] == task) & (trials["method"] == method)].sort_values("lr")
            colour, marker = STYLE[method]
            ax.plot(rows["lr"], rows["score"], color=colour, marker=marker, markersize=4)
            lost = rows.loc[rows["score"].isna(), "lr"]
            ax.plot(lost, [0.03] * len(lost), "x", color=colour, markersize=5, transform=ax.get_xaxis_transform())
            learnt = rows[rows["status"] == "ok"]
            if len(learnt):
                best = learnt.loc[learnt["score"].idxmax()]
                ax.plot(best["lr"], best["score"], "o", markersize=10, markerfacecolor="none", markeredgecolor=colour)
        ax.set(title=TASK_NAMES[task], xscale="log", xlabel="peak learning rate",
               ylabel=tasks.METRIC_NAMES[tasks.get(task).metric] + " × 100")
    _key(fig, axes, _methods(trials))
    _note(fig, trials, about)
    return fig


def score_by_step(table, about=""):
    """Score on the selection split while training: a line per run, named at its end. ``table`` is a study's table."""
    return _curves(table, 0, "optimiser steps", about)


def score_by_second(table, about=""):
    """Score on the selection split against seconds of training, a panel per task: seconds of the budget's clock."""
    return _curves(table, 1, "seconds of training", about)


def _curves(table, axis, xlabel, about):
    fig, axes = _figure(len(_tasks(table)), 2.6)
    for ax, task in zip(axes[0], _tasks(table), strict=True):
        last = {}
        for row in table[table["task"] == task].itertuples():
            curve = [(moment, 100 * score) for *moment, score in row.curve if score is not None]
            scale = row.seconds / curve[-1][0][1] if axis else 1.0  # a calibrated clock's seconds, not the machine's
            x, y = [scale * moment[axis] for moment, _ in curve], [score for _, score in curve]
            colour, marker = STYLE[row.method]
            ax.plot(x, y, color=colour, marker=marker, markersize=3.5)
            last[row.method] = {"step": x[-1], "score": y[-1]}
        ax.set(xlabel=xlabel, xlim=(0, None), title=TASK_NAMES[task] if len(axes[0]) > 1 else "",
               ylabel="score on the selection split × 100")
        if len(axes[0]) == 1:
            _end_labels(ax, last)
    if len(axes[0]) > 1:
        _key(fig, axes, _methods(table))
    fig.supxlabel(about, fontsize=6.5, color="#555555")
    return fig


def step_parts(table, about=""):
    """Milliseconds of a step by what they were spent on, a bar per task and method. ``table`` has ``forward_seconds``,
    ``backward_seconds``, ``update_seconds`` and ``steps``."""
    fig, axes = _figure(len(_tasks(table)), 2.3, sharex=True)
    shades = {"forward": "#333333", "backward": "#8A8A8A", "update": "#D5D5D5"}
    for ax, task in zip(axes[0], _tasks(table), strict=True):
        rows = table[table["task"] == task].set_index("method").loc[_methods(table)[::-1]]
        left = np.zeros(len(rows))
        for part, shade in shades.items():
            width = (1000 * rows[f"{part}_seconds"] / rows["steps"]).to_numpy()
            ax.barh(rows.index, width, left=left, color=shade, label=part, height=0.6)
            left += width
        ax.set(title=TASK_NAMES[task], xlabel="milliseconds a step")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    fig.supxlabel(about, fontsize=6.5, color="#555555")
    return fig


SHADES = {"upheld": ("#0072B2", "✓", "#FFFFFF"), "refuted": ("#D55E00", "×", "#FFFFFF"),
          "undecided": ("#E4E4E4", "?", "#333333")}


def claims(verdicts, found, about=""):
    """Every claim's verdict, overall and per task: colour and sign. ``verdicts`` is ``claims.judge``'s table and ``found``
    that of ``claims.parts``, whose mean estimate stands in a task's cell."""
    columns = ["verdict", *[task for task in tasks.TASKS if task in verdicts]]
    fig, axes = _figure(1, 0.7 + 0.33 * len(verdicts))
    ax = axes[0, 0]
    for i, row in enumerate(verdicts.to_dict("records")):
        ax.text(-0.6, i, row["statement"].replace(" (read as: ", ",\nread as ").replace(")", ""), ha="right", va="center",
                fontsize=7)
        for j, column in enumerate(columns):
            if isinstance(verdict := row[column], str):
                colour, sign, ink = SHADES[verdict]
                ax.add_patch(plt.Rectangle((j - 0.47, i - 0.42), 0.94, 0.84, color=colour, linewidth=0))
                said = verdict if j == 0 else _mean(found, row["claim"], column)
                ax.text(j, i, f"{sign} {said}", ha="center", va="center", color=ink, fontsize=7)
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(verdicts) - 0.5, -0.5), yticks=[])
    ax.set_xticks(range(len(columns)), ["all together", *[TASK_NAMES[task] for task in columns[1:]]])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    fig.supxlabel(about, fontsize=6.5, color="#555555")
    return fig


def _mean(found, claim, task):
    """The mean of a claim's estimates on a task; their number where they are several."""
    of = found[(found["claim"] == claim) & (found["task"] == task)]
    mean, count = of["estimate"].mean(), f" ({of['estimate'].count()})" if len(of) > 1 else ""
    if np.isnan(mean):
        return "no evidence"
    return f"{mean:.2f}×" if of["unit"].iloc[0] == "times" else f"{mean:+.1f}{count}"


def pretraining(course, about=""):
    """The share of replaced words that the miniature's encoder finds, against pre-training steps. ``course`` is a table with
    ``step``, ``alone found`` and ``pair found``."""
    fig, axes = _figure(1, 2.3)
    ax = axes[0, 0]
    for name, label, line in (("pair found", "beside a sentence that says the same", "-"), ("alone found", "alone", "--")):
        ax.plot(course["step"] / 1000, 100 * course[name], color="#000000", linestyle=line)
        ax.annotate(label, (course["step"].iloc[-1] / 1000, 100 * course[name].iloc[-1]), xytext=(4, 0),
                    textcoords="offset points", va="center", fontsize=8, annotation_clip=False)
    ax.set(xlabel="pre-training steps, thousands", ylabel="replaced words found, %", xlim=(0, None), ylim=(0, 100))
    fig.supxlabel(about, fontsize=6.5, color="#555555")
    return fig


def shares(shares, about=""):
    """A table of shares from 0 to 1 in percent, dark where all: methods down, across the parts of a model that they train,
    or the kinds of example that they get right."""
    fig, axes = _figure(1, 0.9 + 0.32 * len(shares))
    sns.heatmap(shares, ax=axes[0, 0], cmap="Greys", vmin=0, vmax=1.15, annot=shares.map(_percent), fmt="",
                annot_kws={"fontsize": 6.5}, linewidths=1, cbar=False)
    axes[0, 0].set(xlabel="", ylabel="")
    axes[0, 0].tick_params(length=0, labelsize=7)
    axes[0, 0].set_xticklabels([part.replace(" ", "\n") for part in shares.columns], rotation=0, fontsize=6)
    axes[0, 0].set_yticklabels(shares.index, rotation=0)
    fig.supxlabel(about, fontsize=6.5, color="#555555")
    return fig


def _percent(share):
    return f"{100 * share:.0f}" if share in (0, 1) else f"{100 * share:.2g}"


def _offset(i, count):
    return (i - (count - 1) / 2) * 0.8 / max(count, 2)


def _dots(ax, rows, column, places, offset, joined):
    if rows.empty:
        return
    method = rows["method"].iloc[0]
    x = [places.index(value) + offset for value in rows[column]]
    ax.scatter(x, rows["score"], s=13, color=STYLE[method][0], marker=STYLE[method][1], alpha=0.75, linewidth=0, zorder=3)
    means = stats.summary(rows, by=(column,))
    x = [places.index(value) + offset for value in means[column]]
    if joined:
        ax.plot(x, means["score"], color=STYLE[method][0], alpha=0.35, zorder=1)
    _bars(ax, method, x, means["score"], means["low"], means["high"], marker="_")


def _bars(ax, method, x, middle, low, high, marker=None):
    colour = STYLE[method][0]
    ax.vlines(x, low, high, color=colour, linewidth=1.0, alpha=0.55, zorder=2)
    ax.plot(x, middle, linestyle="none", color=colour, marker=marker or STYLE[method][1], markersize=6 if marker else 4,
            markeredgewidth=1.4 if marker else 0.5, zorder=4)


def _limits(ax, values, room=0.08):
    """Limits that hold all values, with some room, whatever the intervals."""
    low, high = np.nanmin([*values, np.inf]), np.nanmax([*values, -np.inf])
    if low <= high:
        pad = room * max(high - low, 1.0)
        ax.set_ylim(low - pad, high + pad)


def _fraction_ticks(table):
    return {fraction: f"{100 * fraction:g}" for fraction in sorted(table["fraction"].unique())}


def _ticks(ax, labels, xlabel):
    ax.set_xticks(range(len(labels)), labels)
    ax.set(xlabel=xlabel, xlim=(-0.55, len(labels) - 0.45))


def _failures(ax, rows, column, places):
    """A cross at the foot, with its number, where runs failed, diverged or gave one answer; the first is named."""
    wrong = rows[rows["status"] != "ok"].groupby(column).size()
    for i, (value, number) in enumerate(wrong.items()):
        ax.annotate(f"× {number}\n{' ' if i else 'not ok'}", (places.index(value), 0), xycoords=("data", "axes fraction"),
                    xytext=(0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=6.5, color="#B00020")


def _key(fig, axes, methods):
    """The methods' names in their colours and markers, above the panels rather than over the data."""
    handles = [matplotlib.lines.Line2D([], [], color=STYLE[m][0], marker=STYLE[m][1], markersize=4, linewidth=1.2)
               for m in methods]
    fig.legend(handles, methods, loc="outside upper left", ncols=len(methods), frameon=False, handlelength=1.4,
               columnspacing=1.4, fontsize=8)


def _end_labels(ax, last):
    """Name each line at its end, moved apart where ends are close."""
    low, high = ax.get_ylim()
    rows = sorted(last.items(), key=lambda item: item[1]["score"])
    ends = np.array([row["score"] for _, row in rows])
    places = np.maximum.accumulate(ends - np.arange(len(ends)) * (gap := (high - low) / 13)) + np.arange(len(ends)) * gap
    for (method, row), place in zip(rows, places - (places - ends).mean(), strict=True):
        ax.annotate(method, (row["step"], row["score"]), xytext=(1.015, (place - low) / (high - low)),
                    textcoords="axes fraction", color=STYLE[method][0], va="center", fontsize=8)


def _note(fig, table, about):
    seeds = table.groupby(["task", "method", "fraction"])["seed"].nunique()
    number = _span(sorted(set(seeds)))
    bar = " · dot: one run, bar: 95 % t interval of the mean" if seeds.max() > 1 else ""
    fig.supxlabel(f"{about} · {number} seed{'s' * (number != '1')}{bar}", fontsize=6.5, color="#555555")


def _span(numbers):
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"


def save(fig, name, experiment, table):
    """Write a figure as SVG and PNG under ``figures/<study>/``, and what it was drawn from into the manifest there.

    Redrawn from the same records, the files are the same to the byte. Returns the PNG's path.
    """
    folder = paths.figures(experiment.name)
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / f"{name}.svg", metadata={"Date": None})
    fig.savefig(folder / f"{name}.png", dpi=200, metadata={"Software": None})
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text()) if file.is_file() else {}
    manifest[name] = {"study": experiment.name, "encoder": experiment.encoder, "weights": experiment.weights,
                      "seeds": sorted({int(seed) for seed in table["seed"].dropna()}), "runs": sorted(table["key"])}
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    os.replace(temporary, file)
    return folder / f"{name}.png"
