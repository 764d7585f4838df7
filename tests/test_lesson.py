"""What a reader is given: code without its docstrings, tables folded, and an explorer whose every choice draws a figure."""

import itertools
import types

import made
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from studykit.study import progress
from studykit.tasks import known
from studykit.telling import lesson

matplotlib.use("agg")

SHARES = (0.1, 0.5, 1.0)


@pytest.fixture(scope="module")
def table():
    """Two tasks of three arms; the first has a second metric, which one of its runs lacks."""
    rng = np.random.default_rng(0)
    scores = {(task, arm, share): list(rng.normal(70, 2, 3))
              for task, arm, share in itertools.product(("essays", "prices"), ("all", "lora r=8", "none"), SHARES)}
    runs = made.table(scores, metric={"essays": "f1", "prices": "pearson"}, titles={"essays": "Essays", "prices": "Prices"},
                      collapsed=[("essays", "none", 1)])
    runs["accuracy"] = np.where(runs["task"] == "essays", runs["score"] - 5, np.nan)
    runs.loc[0, "accuracy"] = np.nan
    runs["metrics"] = [(known("f1"), known("accuracy")) if task == "essays" else kinds
                       for task, kinds in zip(runs["task"], runs["metrics"], strict=True)]
    return runs.assign(steps=(1000 * runs["fraction"]).astype(int), train_seconds=10 + 100 * runs["fraction"] + runs["seed"])


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_every_choice_draws_a_figure(table):
    metrics, arms, axes = lesson.choices(table)
    assert axes[0] == "fraction"
    for task, axis in itertools.product(metrics, axes):
        for metric, some in itertools.product(metrics[task], ([], *([arm] for arm in arms))):
            fig = lesson.explored(table, task, some, metric, axis, "about")
            title = {"f1": "F1", "accuracy": "accuracy", "pearson": "Pearson correlation"}[metric]
            assert fig.axes[0].get_ylabel() == f"{title} × 100"
            assert [text.get_text() for text in fig.legends[0].get_texts()] == (some or arms)
            if not some:
                fig.canvas.draw()  # what is only found out while drawing is found out
            plt.close(fig)


def test_metrics_and_axes_are_those_that_the_runs_have(table):
    assert lesson.choices(table) == ({"essays": ["f1", "accuracy"], "prices": ["pearson"]}, ["all", "lora r=8", "none"],
                                     ["fraction", "steps", "train_seconds"])
    alone = table[(table["task"] == "prices") & (table["fraction"] == 1) & (table["seed"] == 0) & (table["arm"] == "all")]
    assert lesson.choices(alone) == ({"prices": ["pearson"]}, ["all"], ["fraction"])
    apart = table.assign(subset_seed=table["seed"] + 1, seed=None)
    assert lesson.choices(apart)[2] == ["fraction", "subset_seed", "init_seed", "order_seed", "steps", "train_seconds"]


def heights(ax):
    return sorted(height for dots in ax.collections if isinstance(dots, matplotlib.collections.PathCollection)
                  for height in dots.get_offsets()[:, 1])


def test_another_metric_moves_the_dots_and_says_which_runs_lack_it(table):
    own = table[table["task"] == "essays"]
    fig = lesson.explored(table, "essays")
    assert heights(fig.axes[0]) == pytest.approx(sorted(own["score"]))
    fig = lesson.explored(table, "essays", metric="accuracy")
    assert heights(fig.axes[0]) == pytest.approx(sorted(own["accuracy"].dropna()))
    assert "1 run without this metric" in fig.get_supxlabel()
    assert not any(line.get_linestyle() == ":" for line in fig.axes[0].lines)


def test_a_second_metric_of_a_named_class_keeps_its_title(table):
    own = table[table["task"] == "prices"]
    urgent = known("f1", of="urgent"), known("sklearn.metrics.fbeta_score", beta=2, range=[0, 1])
    both = own.assign(f1=own["score"] - 5, metrics=[(*kinds, *urgent) for kinds in own["metrics"]],
                      **{urgent[1].name: own["score"] - 9})
    assert lesson.choices(both)[0] == {"prices": ["pearson", "f1", "sklearn.metrics.fbeta_score"]}
    assert lesson.explored(both, "prices", metric="f1").axes[0].get_ylabel() == "F1 of urgent × 100"


def test_a_run_that_was_not_ok_is_marked_along_every_axis(table):
    wrong = table[(table["task"] == "essays") & (table["status"] != "ok")]
    fig = lesson.explored(table, "essays", axis="steps")
    assert sorted(text.get_position()[0] for text in fig.axes[1].texts) == sorted(wrong["steps"])


def test_where_nobody_can_choose_the_figure_stands_alone(table):
    assert lesson.explore(table, task="sst2", metric="accuracy", axis="seconds") is None  # not there: the first ones
    fig, = map(plt.figure, plt.get_fignums())
    assert fig.axes[0].get_title(loc="left") == "Essays" and fig.axes[0].get_ylabel() == "accuracy × 100"


def test_a_choice_draws_anew(table, monkeypatch):
    drawn = []
    monkeypatch.setattr(lesson, "_asked_by_a_page", lambda: True)
    monkeypatch.setattr(lesson, "explored", lambda table, *chosen: drawn.append(chosen))
    task, arms, metric, axis, _ = lesson.explore(table, "about", task="essays", metric="accuracy").children
    everyone = ("all", "lora r=8", "none")
    assert drawn == [("essays", everyone, "accuracy", "fraction", "about")]
    task.value = "prices"
    assert metric.options == ("pearson",)
    assert set(drawn[1:]) == {("prices", everyone, "pearson", "fraction", "about")}
    arms.value, axis.value = ["all", "none"], "steps"
    assert drawn[-1] == ("prices", ("all", "none"), "pearson", "steps", "about")


def shown_function():
    """A docstring."""
    return 1


class Shown:
    """A docstring alone."""


def test_code_is_shown_without_docstrings(capsys):
    lesson.show(shown_function)
    lesson.show(Shown)
    assert capsys.readouterr().out == "def shown_function():\n    return 1\nclass Shown:\n    pass\n"


def test_what_we_see_stands_beside_what_is_expected(capsys):
    lesson.check("biases", 102_912, 102_912)
    lesson.check("score", 0.71, 0.7, within=0.001)
    assert capsys.readouterr().out == ("biases: we see 102,912 · expected 102,912 · match\n"
                                       "score: we see 0.71 · expected 0.7 · NO MATCH\n")


ROWS = pd.DataFrame({"arm": [f"arm <{i}>" for i in range(8)], "score": [80.0 - i for i in range(8)]})


def test_a_long_table_is_folded_below_its_first_rows(capsys, monkeypatch):
    lesson.fold(ROWS, "Scores", rows=2)
    assert capsys.readouterr().out.splitlines() == ["Scores", "    arm  score", "arm <0>   80.0", "arm <1>   79.0",
                                                    "… and 6 more"]
    from IPython import display

    shown = []
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(display, "display", shown.append)
    lesson.fold(ROWS, "Scores & more", rows=2)
    lesson.fold(ROWS.head(2), "Short")
    folded, short = (item.data for item in shown)
    top, rest = folded.split("<details>")
    assert "Scores &amp; more" in top and top.count("<tr") == 3 and rest.count("<tr") == 7 and "and 6 more" in rest
    assert "arm &lt;7&gt;" in rest and "details" not in short


def test_a_named_index_is_shown_and_a_number_of_rows_is_not(capsys):
    lesson.fold(ROWS.set_index("arm"), "Scores", rows=1, digits=2)
    assert "arm <0>  80.00" in capsys.readouterr().out


def test_an_explorer_asks_only_where_a_page_can_answer(monkeypatch):
    assert not lesson._asked_by_a_page()
    shell = types.SimpleNamespace(kernel=types.SimpleNamespace(get_parent=lambda _: {"metadata": {"cellId": "x"}}))
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    assert lesson._asked_by_a_page()
