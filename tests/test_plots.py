import json
import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from studykit import methods, paths
from studykit.evidence import stats
from studykit.telling import plots

matplotlib.use("agg")

ABOUT = "tiny: tiny-bert"
FRACTIONS, RATES = (0.1, 0.3, 1.0), (1e-4, 1e-3, 1e-2)


def table(task=("mrpc", "cola", "stsb"), method=tuple(methods.METHODS), fraction=FRACTIONS, seeds=3, lr=(1e-3,)):
    """A study's table of made-up scores."""
    rng = np.random.default_rng(0)
    axes = pd.MultiIndex.from_product([task, method, fraction, range(seeds), lr],
                                      names=["task", "method", "fraction", "seed", "lr"])
    runs = axes.to_frame(index=False)
    return runs.assign(score=rng.normal(70, 3, len(runs)), status="ok", majority=np.nan,
                       predictions=[[0, 0]] * len(runs), labels=[[0, 1]] * len(runs),
                       key=[f"{i:012x}" for i in range(len(runs))])


@pytest.fixture(autouse=True)
def strict():
    """No figure warns, and none stays open."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def drawn(fig):
    fig.canvas.draw()  # what is only found out while drawing is found out
    return fig.axes


def dots(ax):
    """Heights of the dots of an axis, over all methods."""
    points = [dot.get_offsets() for dot in ax.collections if isinstance(dot, matplotlib.collections.PathCollection)]
    return sorted(np.ma.concatenate(points)[:, 1].compressed())


def bars(ax):
    """Ends of the vertical bars of an axis."""
    lines = [bar for bar in ax.collections if isinstance(bar, matplotlib.collections.LineCollection)]
    return sorted(tuple(segment[:, 1]) for line in lines for segment in line.get_segments())


def texts(fig):
    return " ".join(text.get_text() for text in fig.findobj(plt.Text))


def test_every_method_has_a_style_of_its_own():
    assert list(plots.STYLE) == list(methods.METHODS)
    colours, markers = zip(*plots.STYLE.values(), strict=True)
    assert len(set(colours)) == len(set(markers)) == len(methods.METHODS)


def test_every_run_is_a_dot():
    runs = table()
    axes = drawn(plots.score_by_fraction(runs, ABOUT))
    for ax, task in zip(axes, ("mrpc", "cola", "stsb"), strict=True):
        assert dots(ax) == pytest.approx(sorted(runs[runs["task"] == task]["score"]))


def test_bars_are_the_intervals_of_the_statistics():
    runs = table(task=("cola",))
    ax, = drawn(plots.score_by_fraction(runs, ABOUT))
    expected = sorted(zip(*stats.summary(runs)[["low", "high"]].to_numpy().T, strict=True))
    assert np.array(bars(ax)) == pytest.approx(np.array(expected))


def test_failures_are_marked_where_they_are():
    runs = table(task=("cola",))
    failed = (runs["method"] == "bitfit") & (runs["fraction"] == 0.3) & (runs["seed"] < 2)
    runs.loc[failed, ["score", "status"]] = [np.nan, "failed"]
    fig = plots.score_by_fraction(runs, ABOUT)
    ax, = drawn(fig)
    marks = [note for note in ax.texts if "not ok" in note.get_text()]
    assert [(mark.get_text(), mark.xy[0]) for mark in marks] == [("× 2\nnot ok", FRACTIONS.index(0.3))]
    assert len(dots(ax)) == len(runs) - 2


def test_a_figure_without_failures_says_nothing_of_them():
    assert "not ok" not in texts(plots.score_by_fraction(table(), ABOUT))


def test_a_figure_names_its_study_encoder_and_number_of_seeds():
    assert f"{ABOUT} · 3 seeds" in texts(plots.score_by_fraction(table(), ABOUT))
    assert f"{ABOUT} · 1 seed" in texts(plots.score_by_fraction(table(seeds=1), ABOUT))
    runs = table()
    assert f"{ABOUT} · 2–3 seeds" in texts(plots.score_by_fraction(runs.drop(index=0), ABOUT))


def test_methods_come_in_one_order_whatever_the_table_s():
    runs = table().iloc[::-1]
    handles = plots.score_by_fraction(runs, ABOUT).legends[0].get_texts()
    assert [handle.get_text() for handle in handles] == list(methods.METHODS)


def test_gaps_are_drawn_with_their_intervals():
    gaps = stats.paired_gaps(table(task=("cola",), seeds=5))
    fig = plots.gap_by_fraction(gaps, ABOUT)
    ax, = drawn(fig)
    assert np.array(bars(ax)) == pytest.approx(np.array(sorted(zip(gaps["low"], gaps["high"], strict=True))))
    assert "5 pairs of runs" in texts(fig)
    assert "± 1 point" in texts(fig) or "±1 point" in texts(fig)


@pytest.fixture
def trials():
    """One trial per rate; BitFit's score rises with the rate, the others' falls."""
    runs = table(task=("mrpc",), method=("full", "bitfit"), fraction=(0.3,), seeds=1, lr=RATES)
    height = runs["lr"].rank(method="dense")
    return runs.assign(score=np.where(runs["method"] == "bitfit", 80 + height, 80 - height))


def ringed(fig):
    ax, = drawn(fig)
    return {line.get_markeredgecolor(): line.get_xdata()[0] for line in ax.lines if line.get_markerfacecolor() == "none"}


def test_the_best_rate_is_ringed(trials):
    assert ringed(plots.score_by_rate(trials, ABOUT)) == {plots.STYLE["full"][0]: 1e-4, plots.STYLE["bitfit"][0]: 1e-2}


def test_a_constant_answer_is_not_ringed_however_well_it_scores(trials):
    """All-positive MRPC has an F1 of 80: choose_rates passes it over, and so must the ring."""
    trials.loc[(trials["method"] == "bitfit") & (trials["lr"] == 1e-2), "status"] = "constant"
    assert ringed(plots.score_by_rate(trials, ABOUT))[plots.STYLE["bitfit"][0]] == 1e-3


def test_a_method_that_never_had_a_score_does_not_stop_the_figure(trials):
    trials.loc[trials["method"] == "bitfit", ["score", "status"]] = [np.nan, "diverged"]
    assert ringed(plots.score_by_rate(trials, ABOUT)) == {plots.STYLE["full"][0]: 1e-4}


@pytest.mark.parametrize("read", [tuple, list])
def test_curves_go_through_their_points(read):
    """They are tuples in a run that was just trained, and lists in a record."""
    curves = {"full": [(10, 1.5, 0.2), (20, 3.0, 0.4)], "bitfit": [(10, 1.0, 0.1), (20, 2.0, 0.41)]}
    runs = table(task=("cola",), method=tuple(curves), fraction=(1.0,), seeds=1)
    runs["curve"] = [[read(point) for point in curves[method]] for method in runs["method"]]
    fig = plots.score_by_step(runs, ABOUT)
    ax, = drawn(fig)
    assert {tuple(map(tuple, line.get_xydata().round(6))) for line in ax.lines} == {
        ((10, 20), (20, 40)), ((10, 10), (20, 41))}
    assert {"full", "bitfit"} <= set(texts(fig).split())


def test_curves_of_a_budget_are_against_its_clock_and_not_the_machine_s():
    """The run took twice the seconds that its calibrated clock counted."""
    runs = table(task=("cola", "stsb"), method=("full",), fraction=(1.0,), seeds=1).assign(seconds=10.0)
    runs["curve"] = [[(5, 10.0, 0.1), (10, 20.0, 0.2)]] * 2
    fig = plots.score_by_second(runs, ABOUT)
    for ax in drawn(fig):
        assert [tuple(point) for point in ax.lines[0].get_xydata().round(6)] == [(5, 10), (10, 20)]


@pytest.mark.parametrize("plot, column, values", [
    (plots.score_by_budget, "seconds", (10.0, 20.0)), (plots.score_by_passes, "equal", ("passes", "steps")),
    (plots.score_by_source, "source", ("subset", "init", "order", "all"))])
def test_scores_are_drawn_along_each_axis(plot, column, values):
    runs = pd.concat([table(task=("cola", "mrpc"), fraction=(0.3,)).assign(**{column: value}) for value in values])
    runs["score"] += np.arange(len(runs))
    axes = drawn(plot(runs.reset_index(drop=True), ABOUT))
    assert [ax.get_title(loc="left") for ax in axes] == ["MRPC", "CoLA"]
    for ax, task in zip(axes, ("mrpc", "cola"), strict=True):
        assert dots(ax) == pytest.approx(sorted(runs.loc[runs["task"] == task, "score"]))
        assert len(ax.get_xticklabels()) == len(values)


def test_a_step_s_parts_are_as_long_as_they_took():
    runs = table(task=("cola",), method=("full", "bitfit"), fraction=(1.0,), seeds=1).assign(
        steps=10, forward_seconds=[1.0, 1.0], backward_seconds=[2.0, 0.5], update_seconds=[0.5, 0.0])
    ax, = drawn(plots.step_parts(runs, ABOUT))
    found = sorted((round(bar.get_x()), round(bar.get_width())) for bar in ax.patches)
    assert found == [(0, 100), (0, 100), (100, 50), (100, 200), (150, 0), (300, 50)]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["bitfit", "full"]  # from below


def test_every_verdict_is_drawn_in_colour_and_sign():
    found = pd.DataFrame([{"claim": "one", "task": "mrpc", "estimate": -2.0, "unit": "points"},
                          {"claim": "one", "task": "mrpc", "estimate": -4.0, "unit": "points"},
                          {"claim": "two", "task": "mrpc", "estimate": 1.25, "unit": "times"}])
    verdicts = pd.DataFrame([{"claim": "one", "statement": "A", "verdict": "refuted", "mrpc": "undecided"},
                             {"claim": "two", "statement": "B (read as: C)", "verdict": "undecided", "mrpc": "upheld"},
                             {"claim": "none", "statement": "D", "verdict": "undecided", "mrpc": np.nan}])
    fig = plots.claims(verdicts, found, ABOUT)
    ax, = drawn(fig)
    assert [text.get_text() for text in ax.texts] == [
        "A", "× refuted", "? -3.0 (2)", "B,\nread as C", "? undecided", "✓ 1.25×", "D", "? undecided"]
    colours = [matplotlib.colors.to_hex(patch.get_facecolor()).upper() for patch in ax.patches]
    assert colours == [plots.SHADES[verdict][0] for verdict in ("refuted", "undecided", "undecided", "upheld", "undecided")]


def test_shares_are_written_into_their_cells():
    shares = pd.DataFrame({"query": [1.0, 0.0], "task layers": [1.0, 0.0526]}, index=["full", "bitfit"])
    ax, = drawn(plots.shares(shares, ABOUT))
    assert [text.get_text() for text in ax.texts] == ["100", "100", "0", "5.3"]
    assert np.asarray(ax.collections[0].get_array()).ravel().tolist() == pytest.approx([1, 1, 0, 0.0526])


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("status", ["ok", "failed"])
def test_small_tables_do_not_warn(seeds, status):
    """One method, one fraction, one seed; or not one score."""
    runs = table(task=("cola",), method=("full",), fraction=(1.0,), seeds=seeds)
    runs = runs.assign(status=status, score=runs["score"] if status == "ok" else np.nan)
    drawn(plots.score_by_fraction(runs, ABOUT))


def test_a_figure_drawn_again_is_the_same_to_the_byte(tiny_study, monkeypatch, tmp_path):
    runs, found = table(seeds=2), []
    for home in ("one", "two"):
        monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / home))
        plots.save(plots.score_by_fraction(runs, ABOUT), "scores", tiny_study, runs)
        plt.close("all")
        found.append({file.name: file.read_bytes() for file in paths.figures("tiny").iterdir()})
    assert found[0].keys() == {"scores.svg", "scores.png", "manifest.json"}
    assert found[0] == found[1]


def test_the_manifest_says_what_a_figure_was_drawn_from(tiny_study):
    runs = table(task=("cola",), method=("full",), seeds=2)
    runs["seed"] = runs["seed"].astype(float)  # as it is where some runs have three different seeds
    fig = plots.score_by_fraction(runs, ABOUT)
    for name in ("one", "two"):
        assert plots.save(fig, name, tiny_study, runs) == paths.figures("tiny") / f"{name}.png"
    manifest = json.loads((paths.figures("tiny") / "manifest.json").read_text())
    assert manifest.keys() == {"one", "two"}
    assert manifest["one"] == {"study": "tiny", "encoder": "tiny-bert", "weights": tiny_study.weights, "seeds": [0, 1],
                               "runs": sorted(runs["key"])}
