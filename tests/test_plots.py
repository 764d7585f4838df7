"""Figures show every run, arm and task of a table, whatever they are called, and nothing in them touches."""

import itertools
import json
import types
import warnings

import made
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from studykit import paths
from studykit.evidence import stats
from studykit.telling import limits, parts, plots, style

matplotlib.use("agg")

ABOUT = "tiny: tiny-bert"
SHARES, RATES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0), (1e-4, 1e-3, 1e-2)
ARMS = ("everything", "some", "few", "none", "lora r=8", "lora r=64", "two", "three", "four", "five", "six", "seven")
TINY = types.SimpleNamespace(name="tiny", encoder="tiny-bert", weights="0123")


def table(tasks=("essays", "prices", "letters"), arms=ARMS[:4], shares=SHARES, seeds=3, metric="accuracy", **options):
    """A study's table of made-up scores."""
    rng = np.random.default_rng(0)
    scores = {(task, arm, share): list(rng.normal(70 + 5 * share, 2, seeds))
              for task, arm, share in itertools.product(tasks, arms, shares)}
    titles = {task: task.capitalize() for task in tasks}
    made_up = made.table(scores, metric=metric, titles=titles, places=arms, **options)
    return made_up.assign(key=[f"{i:012x}" for i in range(len(made_up))])


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


def panels(fig, table):
    return drawn(fig)[:table["task"].nunique()]


def dots(ax):
    """Heights of the dots of a panel, over all arms."""
    points = [dot.get_offsets() for dot in ax.collections if isinstance(dot, matplotlib.collections.PathCollection)]
    return sorted(np.ma.concatenate(points)[:, 1].compressed())


def bars(ax):
    """Ends of the vertical bars of a panel."""
    lines = [bar for bar in ax.collections if isinstance(bar, matplotlib.collections.LineCollection)]
    return sorted(tuple(segment[:, 1]) for line in lines for segment in line.get_segments())


def texts(fig):
    return " ".join(text.get_text() for text in fig.findobj(plt.Text))


def touching(fig):
    """Pairs of texts that overlap, and texts that lie beyond the figure."""
    fig.canvas.draw()
    renderer, off = fig.canvas.get_renderer(), off_axis(fig)
    found = [text for text in fig.findobj(plt.Text) if text.get_visible() and text.get_text().strip() and text not in off]
    boxes = [(text.get_text(), text.get_window_extent(renderer).padded(-0.6)) for text in found]
    inside = fig.bbox.padded(1)
    beyond = [name for name, box in boxes if not (inside.contains(*box.min) and inside.contains(*box.max))]
    return beyond + [(a[0], b[0]) for a, b in itertools.combinations(boxes, 2) if a[1].overlaps(b[1])]


def off_axis(fig):
    """Labels of ticks that are not drawn, since they lie off their axis."""
    found = set()
    for axis in itertools.chain.from_iterable((ax.xaxis, ax.yaxis) for ax in fig.axes):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks() + axis.get_minor_ticks():
            if not (axis.axes.axison and tick.get_visible() and low <= tick.get_loc() <= high):
                found |= {tick.label1, tick.label2}
    return found


# Arms and tasks


def test_arms_are_told_apart_by_colour_and_marker_in_their_places():
    assert len(style.STYLE) >= 10
    colours, markers = zip(*style.STYLE, strict=True)
    assert len(set(colours)) == len(set(markers)) == len(style.STYLE)
    made_up = table(arms=ARMS[:3], shares=(1.0,))
    assert style.styles(made_up[made_up["arm"] != "some"]) == {"everything": style.STYLE[0], "few": style.STYLE[2]}


def test_what_a_figure_cannot_show_is_an_error():
    many = table(tasks=("a",), arms=[*ARMS, "thirteenth"], shares=(1.0,), seeds=2)
    with pytest.raises(ValueError, match="thirteenth comes after them"):
        plots.score_by_fraction(many)
    with pytest.raises(ValueError, match="a figure holds 9 tasks, got 10"):
        plots.score_by_fraction(table(tasks="abcdefghij", arms=ARMS[:1], shares=(1.0,), seeds=2))
    with pytest.raises(ValueError, match="no run"):
        plots.score_by_fraction(table(shares=(1.0,)).iloc[:0])
    lost = table(shares=(1.0,))
    lost.loc[0, "score"] = np.nan
    with pytest.raises(ValueError, match="1 of 36 runs have no score \\(everything on Essays\\)"):
        plots.score_by_fraction(lost)
    with pytest.raises(ValueError, match="no place for elsewhere"):
        plots.score_by_source(table(shares=(1.0,)).assign(source="elsewhere"))
    with pytest.raises(ValueError, match="draw runs of one study"):
        plots.score_by_fraction(pd.concat([table(arms=("a", "b")), table(arms=("b", "a"))]))


def test_titles_order_and_labels_are_the_table_s():
    runs = table(arms=("x", "y", "z"))
    fig = plots.score_by_fraction(runs.sample(frac=1, random_state=0), ABOUT)
    assert [ax.get_title(loc="left") for ax in panels(fig, runs)] == ["Essays", "Prices", "Letters"]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["x", "y", "z"]
    assert {ax.get_ylabel() for ax in panels(fig, runs)} == {"accuracy × 100"}


def test_an_axis_says_where_lower_is_better():
    runs = table(metric="mean_absolute_error")
    ax, *_ = panels(plots.score_by_fraction(runs), runs)
    assert ax.get_ylabel() == "mean absolute error\n(lower is better)"


@pytest.mark.parametrize("tasks, arms", [(1, 1), (1, 8), (3, 4), (5, 8), (9, 4)])
def test_nothing_touches_and_nothing_is_cut(tasks, arms):
    names = tuple("abcdefghi"[:tasks])
    runs = table(tasks=names, arms=ARMS[:arms], collapsed=[(names[0], ARMS[0], 1)], shares=SHARES)
    runs.loc[(runs["status"] == "collapsed") & (runs["fraction"] > 0.2), "score"] = 0.0
    assert not touching(plots.score_by_fraction(runs, ABOUT))
    if arms > 1:
        assert not touching(plots.gap_by_fraction(stats.paired_gaps(runs), ABOUT))


@pytest.mark.parametrize("arms", [1, 2, 4, 8, 12])
def test_neighbouring_shares_do_not_interleave(arms):
    ticks = style.Ticks(dict.fromkeys(SHARES, ""), arms, log=True)
    places = np.array([ticks.at(SHARES, arm) for arm in range(arms)])
    assert all(places[:, i].max() < places[:, i + 1].min() for i in range(len(SHARES) - 1))
    assert np.allclose(ticks.middle(SHARES), SHARES)


def test_labels_of_close_shares_stay_apart_and_the_last_stands():
    shares = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 0.9, 0.95, 1.0)
    runs = table(tasks=("a", "b", "c"), arms=ARMS[:2], shares=shares, seeds=2)
    fig = plots.score_by_fraction(runs)
    ax, *_ = panels(fig, runs)
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert len(ax.get_xticks()) == len(shares) and labels[-1] == "100" and "95" not in labels and labels[0] == "0.1"
    assert not touching(fig)


# Runs


def test_every_run_is_a_dot():
    runs = table()
    for ax, (_, own) in zip(panels(plots.score_by_fraction(runs, ABOUT), runs), runs.groupby("task", sort=False),
                            strict=True):
        assert dots(ax) == pytest.approx(sorted(own["score"]))


def test_bars_are_the_intervals_of_the_statistics_cut_at_the_panel():
    runs = table(tasks=("essays",))
    ax, = panels(plots.score_by_fraction(runs, ABOUT), runs)
    low, high = limits.of_scores([own["score"] for _, own in runs.groupby(["arm", "fraction"])], 50.0)
    low, high = parts.outer((low, high))
    expected = sorted(zip(*(stats.summary(runs)[end].clip(low, high) for end in ("low", "high")), strict=True))
    assert np.array(bars(ax)) == pytest.approx(np.array(expected))


def test_one_outlier_flattens_no_panel_and_is_written_at_its_edge():
    runs = table(tasks=("essays",))
    runs.loc[5, "score"] = 2.0
    fig = plots.score_by_fraction(runs, ABOUT)
    ax, = panels(fig, runs)
    assert ax.get_ylim()[0] > 25 and len(dots(ax)) == len(runs) - 1
    assert [text.get_text() for text in ax.texts] == ["↓2"]
    assert "arrow: a run beyond the panel" in texts(fig)
    row = runs.iloc[5]
    assert ax.texts[0].get_color() == style.styles(runs)[row["arm"]][0]


def test_limits_hold_an_arm_that_is_far_off_as_a_whole():
    low, high = limits.of_scores([np.array([80.0, 81, 82]), np.array([30.0, 31, 32])])
    assert low <= 30 and high >= 82
    low, _ = limits.of_scores([np.array([80.0, 81, 82, 80.5, 0])] * 2 + [np.array([79.0, 78, 80, 81, 80])] * 8)
    assert low > 20


def test_what_was_not_ok_stands_in_a_strip_below_and_covers_nothing():
    runs = table(collapsed=[("essays", "some", 0), ("essays", "some", 2)], diverged=[("prices", "none", 1)])
    fig = plots.score_by_fraction(runs, ABOUT)
    strips = drawn(fig)[3:6]
    assert [[text.get_text() for text in strip.texts] for strip in strips] == [["2"] * 6, ["1"] * 6, []]
    assert [text.get_position()[0] for text in strips[0].texts] == list(SHARES)
    colours = style.styles(runs)
    assert {text.get_color() for text in strips[0].texts} == {colours["some"][0]}
    assert all(strip.get_window_extent().y1 <= ax.get_window_extent().y0
               for strip, ax in zip(strips, fig.axes, strict=False))
    assert parts.FALLEN in texts(fig)


def test_numbers_in_a_strip_touch_none_of_its_edges():
    arms = ARMS[:4]
    runs = table(collapsed=[("essays", arm, 0) for arm in arms], arms=arms)
    fig = plots.score_by_fraction(runs, ABOUT)
    strip = drawn(fig)[3]
    inside = strip.get_window_extent()
    boxes = [text.get_window_extent() for text in strip.texts]
    assert len(boxes) == len(arms) * len(SHARES)
    assert all(inside.y0 + 1 < box.y0 and box.y1 < inside.y1 - 1 for box in boxes)


def test_a_figure_without_failures_has_no_strip():
    fig = plots.score_by_fraction(table(), ABOUT)
    assert len(fig.axes) == 3 and parts.FALLEN not in texts(fig)


def test_a_figure_names_its_study_its_seeds_and_what_is_missing():
    assert f"{ABOUT} · 3 seeds" in texts(plots.score_by_fraction(table(), ABOUT))
    assert f"{ABOUT} · 1 seed ·" in texts(plots.score_by_fraction(table(seeds=1), ABOUT))
    assert f"{ABOUT} · 2–3 seeds" in texts(plots.score_by_fraction(table().drop(index=0), ABOUT))
    runs = table()
    runs = runs[(runs["task"] != "prices") | (runs["arm"] != "few")]
    assert "no run on record: few on Prices" in texts(plots.score_by_fraction(runs, ABOUT))


def test_chance_is_a_dotted_line_where_it_is_near_and_a_number_where_it_is_not():
    for level, line in ((65.0, True), (-400.0, False)):
        runs = table(tasks=("essays",)).assign(chance=level)
        ax, = panels(plots.score_by_fraction(runs), runs)
        assert any(line.get_linestyle() == ":" for line in ax.lines) == line
        assert ax.get_title(loc="right") == ("" if line else "↓ one answer: -400.0")
        assert (parts.CHANCE in texts(ax.figure)) == line


@pytest.mark.parametrize("plot, column, values", [
    (plots.score_by_budget, "seconds", (10.0, 20.0)), (plots.score_by_passes, "equal", ("passes", "steps")),
    (plots.score_by_source, "source", ("subset", "init", "order", "all")),
    (plots.score_by_pretraining, "pretrained", (False, True)),
    *[(plots.AXES[axis], axis, (0, 1)) for axis in ("subset_seed", "init_seed", "order_seed")]])
def test_scores_are_drawn_along_each_axis(plot, column, values):
    runs = pd.concat([table(shares=(0.3,)).assign(**{column: value}) for value in values], ignore_index=True)
    runs["score"] += 0.01 * np.arange(len(runs))
    for ax, (_, own) in zip(panels(plot(runs, ABOUT), runs), runs.groupby("task", sort=False), strict=True):
        assert dots(ax) == pytest.approx(sorted(own["score"]))
        assert len(ax.get_xticks()) == len(values)
        through = [line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 1]
        assert bool(through) == (column == "seconds"), "a line joins what is more and less, not names"


@pytest.mark.parametrize("axis", ["steps", "tokens", "train_seconds"])
def test_scores_are_drawn_against_what_training_took(axis):
    runs = table(collapsed=[("essays", "some", 0)])
    runs[axis] = np.arange(len(runs)) + 100.0
    fig = plots.AXES[axis](runs, ABOUT)
    for ax, (_, own) in zip(panels(fig, runs), runs.groupby("task", sort=False), strict=True):
        assert dots(ax) == pytest.approx(sorted(own["score"]))
    fallen = runs[runs["status"] != "ok"]
    assert sorted(text.get_position()[0] for text in fig.axes[3].texts) == sorted(fallen[axis])


def test_a_figure_says_where_runs_were_off_their_clock():
    runs = table(shares=(1.0,)).assign(seconds=10.0, token_seconds=0.001, train_seconds=40.0, tokens=40_000)
    assert "off the clock" not in texts(plots.score_by_budget(runs, ABOUT))
    runs.loc[(runs["task"] == "prices") & (runs["arm"] == "few"), "train_seconds"] = 60.0
    assert "off the clock, a token took: few on Prices 1.5 times as long" in texts(plots.score_by_budget(runs, ABOUT))


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("status", ["ok", "collapsed"])
def test_small_tables_do_not_warn(seeds, status):
    runs = table(tasks=("essays",), arms=("alone",), shares=(1.0,), seeds=seeds).assign(status=status)
    for plot in (plots.score_by_fraction, plots.AXES["steps"]):
        drawn(plot(runs, ABOUT))
    drawn(plots.score_by_fraction(runs.assign(score=0.0), ABOUT))


# Gaps, rates, curves, steps


def gaps(runs, **changes):
    return stats.paired_gaps(runs).assign(**changes)


def test_gaps_are_dots_with_bars_about_the_margin():
    runs = table()
    found = gaps(runs)
    for ax, (_, own) in zip(panels(plots.gap_by_fraction(found, ABOUT), runs), found.groupby("task", sort=False),
                            strict=True):
        points = [line for line in ax.lines if line.get_linestyle() == "None" and line.get_markerfacecolor() != "white"]
        cut = [y for line in points if line.get_label() == style.CUT for y in line.get_ydata()]
        heights = [y for line in points if line.get_label() != style.CUT for y in line.get_ydata()]
        assert sorted(heights) == pytest.approx(sorted(own["gap"]))
        assert len(cut) == sum(((own["low"] < edge) & (own["high"] > edge)).sum() for edge in set(cut))
        assert ax.get_ylabel() == "gap to everything, points"
    assert "hollow" not in texts(plots.gap_by_fraction(found))
    assert "hollow: everything has not learnt there" in texts(plots.gap_by_fraction(found.assign(learnt=False)))


def test_gaps_of_two_studies_have_a_row_of_panels_each_and_one_look_an_arm():
    """An arm that only the second has, at a place that is another arm's in the first, gets a look of its own; a task that
    only one has is left out."""
    small = stats.paired_gaps(table(arms=("everything", "some", "few")))
    large = stats.paired_gaps(table(("essays", "prices"), arms=("everything", "some", "three", "few")))
    large["task_place"] = 1 - large["task_place"]  # it names its tasks in another order
    fig = plots.gap_by_study({"small: tiny-bert, 2 passes": small, "large: bert, 3 passes": large})
    titles = [ax.get_title(loc="left") for ax in drawn(fig)[:4]]
    assert titles == [f"{task}, {study} passes" for study in ("small\ntiny-bert, 2", "large\nbert, 3")
                      for task in ("Essays", "Prices")]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["some", "few", "three"]
    assert len({round(ax.get_position().y0, 3) for ax in fig.axes}) == 2
    with pytest.raises(ValueError, match="the studies a, b have no task in common"):
        plots.gap_by_study({"a": small, "b": large.assign(task="other")})


def test_an_arm_that_is_far_off_does_not_flatten_the_gaps():
    runs = table(tasks=("essays",))
    runs.loc[runs["arm"] == "none", "score"] -= 60
    fig = plots.gap_by_fraction(gaps(runs), ABOUT)
    ax, = panels(fig, runs)
    assert ax.get_ylim()[0] > -30 and sum(text.get_text().startswith("↓") for text in ax.texts) == len(SHARES)
    assert "arrow: a gap beyond the panel" in texts(fig) and not touching(fig)


def test_a_gap_in_a_unit_of_its_own_has_no_band_and_says_which_way_is_better():
    runs = table(tasks=("prices",), metric="mean_absolute_error")
    fig = plots.gap_by_fraction(gaps(runs), ABOUT)
    ax, = panels(fig, runs)
    assert ax.get_ylabel() == "gap to everything, mean absolute error\n(above 0: better)"
    assert ax.patches[0].get_height() == 0
    banded = plots.gap_by_fraction(gaps(runs), ABOUT, margin={"prices": 2.5})
    assert panels(banded, runs)[0].patches[0].get_height() == 5


def test_the_chosen_rate_is_ringed_and_no_ring_is_clipped():
    trials = pd.concat([table(tasks=("essays", "prices"), shares=(0.3,), seeds=2).assign(lr=rate) for rate in RATES],
                       ignore_index=True)
    trials.loc[trials["lr"] == 1e-3, "score"] += 20
    choices = pd.DataFrame([{"task": task, "arm": arm, "rate": 1e-3, "learnt": arm != "few"}
                            for task in ("essays", "prices") for arm in ARMS[:4]])
    for ax in panels(plots.score_by_rate(trials, ABOUT, choices), trials):
        rings = [line for line in ax.lines if line.get_markersize() == 9]
        assert [line.get_marker() for line in rings] == ["o", "o", "s", "o"]
        assert {x for line in rings for x in line.get_xdata()} == {1e-3} and not any(line.get_clip_on() for line in rings)
        assert len(dots(ax)) == 24


def test_trials_that_fell_do_not_flatten_the_others_and_are_written_at_the_edge():
    trials = pd.concat([table(tasks=("essays",), shares=(0.3,), seeds=1).assign(lr=rate) for rate in RATES],
                       ignore_index=True)
    trials.loc[trials["lr"] == 1e-2, ["score", "status"]] = [0.0, "collapsed"]
    choices = pd.DataFrame([{"task": "essays", "arm": arm, "rate": 1e-3, "learnt": True} for arm in ARMS[:4]])
    fig = plots.score_by_rate(trials, ABOUT, choices)
    ax, = panels(fig, trials)
    assert ax.get_ylim()[0] > 50 and [text.get_text() for text in ax.texts] == ["↓0"] * 4
    assert "arrow: a trial beyond the panel" in texts(fig)
    fallen = choices.assign(rate=1e-2, learnt=False)
    ax, = panels(plots.score_by_rate(trials, ABOUT, fallen), trials)
    assert ax.get_ylim()[0] <= 0, "what is chosen is shown"


def watched(tasks=("essays",), arms=("some", "few")):
    runs = table(tasks=tasks, arms=arms, shares=(1.0,), seeds=1)
    runs["curve"] = [[[10, 1.0, 0.20 + 0.01 * i], [20, 2.0, 0.40]] for i in range(len(runs))]
    return runs


def test_curves_are_drawn_against_steps_and_named_at_their_ends():
    fig = plots.score_by_step(watched(), ABOUT)
    ax, = drawn(fig)
    assert {tuple(map(tuple, line.get_xydata().round(6))) for line in ax.lines} == {
        ((10, 20), (20, 40)), ((10, 21), (20, 40))}
    assert {text.get_text() for text in ax.texts} == {"some", "few"} and not touching(fig)
    with pytest.raises(ValueError, match="few on Essays was not watched"):
        plots.score_by_step(watched().assign(curve=[[[10, 1.0, 0.2]], None]))


def test_curves_of_a_budget_are_against_its_clock_and_not_the_machine_s():
    """The run took twice the seconds that its calibrated clock counted."""
    runs = watched(tasks=("essays", "prices"), arms=("some",)).assign(seconds=1.0)
    for ax in panels(plots.score_by_second(runs, ABOUT), runs):
        assert ax.lines[0].get_xdata().tolist() == [0.5, 1.0]


def test_a_step_s_parts_are_as_long_as_they_took_on_an_axis_of_each_task_s_own():
    clock = table(tasks=("essays", "prices"), arms=("some", "few"), shares=(1.0,), seeds=1).assign(
        forward_ms=[10.0, 10, 100, 100], backward_ms=[20.0, 5, 200, 50], update_ms=[5.0, 0, 50, 0])
    short, long = panels(plots.step_parts(clock, ABOUT), clock)
    found = sorted((round(bar.get_x()), round(bar.get_width())) for bar in short.patches)
    assert found == [(0, 10), (0, 10), (10, 5), (10, 20), (15, 0), (30, 5)]
    assert long.get_xlim()[1] == pytest.approx(10 * short.get_xlim()[1])
    assert [label.get_text() for label in short.get_yticklabels()] == ["few", "some"]  # from below


# Claims, shares, files


def test_every_verdict_is_drawn_in_colour_and_sign():
    found = pd.DataFrame([{"claim": "one", "task": "a", "task_title": "A task", "estimate": -2.0, "unit": "points"},
                          {"claim": "one", "task": "a", "task_title": "A task", "estimate": -4.0, "unit": "points"},
                          {"claim": "two", "task": "a", "task_title": "A task", "estimate": 1.25, "unit": "times"}])
    verdicts = pd.DataFrame([{"claim": "one", "statement": "A", "verdict": "refuted", "a": "undecided"},
                             {"claim": "two", "statement": "B (read as: C)", "verdict": "undecided", "a": "upheld"},
                             {"claim": "none", "statement": "D", "verdict": "undecided", "a": np.nan}])
    ax, = drawn(plots.claims(verdicts, found, ABOUT))
    assert [text.get_text() for text in ax.texts] == [
        "A", "✗ refuted", "? -3.0 (2)", "B,\nread as C", "? undecided", "✓ 1.25×", "D", "? undecided"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["all together", "A task"]


def test_shares_are_written_into_their_cells():
    shares = pd.DataFrame({"query": [1.0, 0.0], "task layers": [1.0, 0.0526]}, index=["full", "bitfit"])
    ax, = drawn(plots.shares(shares, ABOUT))
    assert [text.get_text() for text in ax.texts] == ["100", "100", "0", "5.3"]
    assert np.asarray(ax.collections[0].get_array()).ravel().tolist() == pytest.approx([1, 1, 0, 0.0526])


def test_a_figure_drawn_again_is_the_same_to_the_byte(monkeypatch, tmp_path):
    runs, found = table(seeds=2, collapsed=[("essays", "some", 0)]), []
    for home in ("one", "two"):
        monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / home))
        plots.save(plots.score_by_fraction(runs, ABOUT), "scores", TINY, runs)
        plt.close("all")
        found.append({file.name: file.read_bytes() for file in paths.figures("tiny").iterdir()})
    assert found[0].keys() == {"scores.svg", "scores.png", "manifest.json"}
    assert found[0] == found[1]


def test_the_manifest_says_what_a_figure_was_drawn_from(monkeypatch, tmp_path):
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path))
    runs = table(tasks=("essays",), seeds=2)
    runs["seed"] = runs["seed"].astype(float)  # as it is where some runs have three different seeds
    fig = plots.score_by_fraction(runs, ABOUT)
    for name in ("one", "two"):
        assert plots.save(fig, name, TINY, runs) == paths.figures("tiny") / f"{name}.png"
    manifest = json.loads((paths.figures("tiny") / "manifest.json").read_text())
    assert manifest.keys() == {"one", "two"}
    assert manifest["one"] == {"study": "tiny", "encoder": "tiny-bert", "weights": "0123", "seeds": [0, 1],
                               "runs": sorted(runs["key"])}
