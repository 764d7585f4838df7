"""The explorer: every choice draws a figure of the committed records, and a choice draws anew."""

import itertools

import matplotlib
import matplotlib.pyplot as plt
import pytest

from studykit import paths, tasks
from studykit.study import records
from studykit.telling import lesson, report

matplotlib.use("agg")


@pytest.fixture(scope="module")
def tables():
    """The tables that notebooks 03, 04 and 05 explore."""
    reports, budgets = report.claimed_runs()
    one_at_a_time = records.table(records.read(paths.results(report.REFERENCE) / "05_variance").values())
    one_at_a_time = one_at_a_time.query("fraction == 0.3 and (method != 'adapter' or lr == 0.003)")  # not at a lower rate
    return {"03": reports, "04": budgets, "05": one_at_a_time}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.mark.parametrize("notebook, first", [("03", "fraction"), ("04", "seconds"), ("05", "subset_seed")])
def test_every_choice_draws_a_figure(tables, notebook, first):
    metrics, methods, axes = lesson.choices(tables[notebook])
    assert axes[0] == first
    for task, axis in itertools.product(metrics, axes):
        for metric, some in itertools.product(metrics[task], ([], *([method] for method in methods))):
            fig = lesson.explored(tables[notebook], task, some, metric, axis, "about")
            assert fig.axes[0].get_ylabel() == f"{tasks.METRIC_NAMES[metric]} × 100"
            assert [text.get_text() for text in fig.legends[0].get_texts()] == (some or methods)
            if not some:
                fig.canvas.draw()  # what is only found out while drawing is found out
            plt.close(fig)


def test_metrics_and_axes_are_those_that_the_runs_have(tables):
    assert lesson.choices(tables["03"]) == (
        {"mrpc": ["f1", "accuracy"], "cola": ["matthews_correlation"], "stsb": ["pearson", "spearmanr"]},
        ["full", "bitfit", "adapter", "head"], ["fraction", "steps", "tokens", "train_seconds"])
    alone = tables["03"].query("task == 'cola' and fraction == 1 and seed == 0 and method == 'full'")
    assert lesson.choices(alone) == ({"cola": ["matthews_correlation"]}, ["full"], ["fraction"])


def test_another_metric_moves_the_dots_and_takes_the_line_of_one_answer_away(tables):
    of_mrpc = tables["03"].query("task == 'mrpc'")
    for metric, lines in (("f1", 1), ("accuracy", 0)):
        ax, = lesson.explored(tables["03"], "mrpc", metric=metric).axes
        heights = sorted(height for dots in ax.collections if isinstance(dots, matplotlib.collections.PathCollection)
                         for height in dots.get_offsets()[:, 1])
        assert heights == pytest.approx(sorted(of_mrpc[metric]))
        assert sum(line.get_linestyle() == ":" for line in ax.lines) == lines


def test_a_run_that_was_not_ok_is_marked_along_every_axis(tables):
    wrong = tables["04"].query("task == 'cola' and status != 'ok'")
    ax, = lesson.explored(tables["04"], "cola", axis="steps").axes
    assert sorted(x for line in ax.lines if line.get_marker() == "x" for x in line.get_xdata()) == sorted(wrong["steps"])


def test_where_nobody_can_choose_the_figure_stands_alone(tables):
    assert lesson.explore(tables["03"], task="sst2", metric="accuracy", axis="seconds") is None  # not there: the first ones
    fig, = map(plt.figure, plt.get_fignums())
    assert fig.axes[0].get_title(loc="left") == "MRPC" and fig.axes[0].get_ylabel() == "accuracy × 100"


def test_a_choice_draws_anew(tables, monkeypatch):
    drawn = []
    monkeypatch.setattr(lesson, "_asked_by_a_page", lambda: True)
    monkeypatch.setattr(lesson, "explored", lambda table, *chosen: drawn.append(chosen))
    task, methods, metric, axis, _ = lesson.explore(tables["03"], "about", task="mrpc", metric="accuracy").children
    everyone = ("full", "bitfit", "adapter", "head")
    assert drawn == [("mrpc", everyone, "accuracy", "fraction", "about")]
    task.value = "stsb"
    assert metric.options == ("pearson", "spearmanr")
    assert set(drawn[1:]) == {("stsb", everyone, "pearson", "fraction", "about")}
    methods.value, metric.value, axis.value = ["full", "head"], "spearmanr", "steps"
    assert drawn[-1] == ("stsb", ("full", "head"), "spearmanr", "steps", "about")
