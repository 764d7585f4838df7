"""Figures that are grids of cells: verdicts on claims, and shares in percent; and the miniature's
pre-training."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from studykit.telling import style

SHADES = {"upheld": ("#0072B2", "✓", "#FFFFFF"), "refuted": ("#D55E00", "✗", "#FFFFFF"),
          "undecided": ("#E4E4E4", "?", "#333333")}


def claims(verdicts: pd.DataFrame, parts: pd.DataFrame, about: str = "") -> Figure:
    """Every claim's verdict, overall and per task: colour and sign. ``verdicts`` is ``paper.judge``'s table and
    ``parts`` that of ``paper.parts``, whose mean estimate stands in a task's cell."""
    titles = task_titles(parts)
    columns = ["verdict", *[task for task in titles if task in verdicts]]
    fig = style.panels(1, height=0.4 + 0.33 * len(verdicts)).fig
    ax = fig.axes[0]
    for i, row in enumerate(verdicts.to_dict("records")):
        statement = row["statement"].replace(" (read as: ", ",\nread as ").replace(")", "")
        ax.text(-0.6, i, statement, ha="right", va="center", fontsize=7)
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
    style.footer(fig, about, "in a task's cell: the gap in points, or × the ratio of deviations",
                 "of several parts their mean (how many)")
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
    """The share of replaced words that the miniature's encoder finds, against pre-training steps. ``course`` is a
    table with ``step``, ``alone found`` and ``pair found``."""
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
    """A table of shares from 0 to 1 in percent, dark where all: arms down, across the parts of a model that they
    train, or the kinds of example that they get right."""
    import seaborn as sns

    fig = style.panels(1, height=0.6 + 0.32 * len(shares)).fig
    ax = fig.axes[0]
    sns.heatmap(shares, ax=ax, cmap="Greys", vmin=0, vmax=1.15, annot=shares.map(_percent), fmt="",
                annot_kws={"fontsize": 6.5}, linewidths=1, cbar=False)
    ax.set(xlabel="", ylabel="")
    ax.tick_params(length=0, labelsize=7)
    ax.set_xticklabels([part.replace(" ", "\n") for part in shares.columns], rotation=0,
                       fontsize=6 if len(shares.columns) < 10 else 5.5)
    ax.set_yticklabels(shares.index, rotation=0)
    style.footer(fig, about)
    return fig


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share in (0, 1) else f"{100 * share:.2g}"
