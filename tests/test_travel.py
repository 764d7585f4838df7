"""Does an order of arms travel, and what would a new task show: the statistics keep their word."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from studykit.evidence import travel
from studykit.tasks.metrics import known
from studykit.telling import facts, plots

TITLES = {"metric_title": "Accuracy", "metric_axis": "Accuracy × 100", "better": 1, "chance": 50.0}


def gaps(values, errors, arm="bitfit", place=1, **others):
    """A table as ``stats.paired_gaps`` gives it, a task a row."""
    values, errors = np.asarray(values, dtype=float), np.broadcast_to(np.asarray(errors, dtype=float), len(values))
    rows = [{"task": f"t{number}", "fraction": 0.1, "arm": arm, "baseline": "full", "gap": value, "error": error,
             "examples_error": 0.0, "freedom": 20.0, "low": value - 2 * error, "high": value + 2 * error, "pairs": 3,
             "lost": 0, "not_ok": 0, "learnt": True, "arm_learnt": True, "task_title": f"Task {number}",
             "task_place": number, "arm_place": place, **TITLES, **others}
            for number, (value, error) in enumerate(zip(values, errors, strict=True))]
    return pd.DataFrame(rows)


def runs(scores, learnt=True):
    """A table of runs from mean scores by task and arm, two seeds each."""
    rows = [{"task": task, "task_title": task.upper(), "task_place": number, "arm": arm, "arm_place": place, "seed": seed,
             "fraction": 0.1, "score": score + seed, "status": "ok", "learnt": learnt, "metric_low": 0.0,
             "metric_high": 100.0, "scored_by": known("accuracy"), **TITLES}
            for number, (task, row) in enumerate(scores.items()) for place, (arm, score) in enumerate(row.items())
            for seed in (0, 1)]
    return pd.DataFrame(rows)


def orders(*rows):
    return runs({f"t{number}": dict(zip("abcd", row, strict=False)) for number, row in enumerate(rows)})


def test_one_order_on_every_task_is_1_and_the_reverse_on_half_of_them_is_below_0():
    mean, low, high, tasks = travel.agreement(orders(*[(10, 20, 30, 40)] * 5))
    assert (mean, tasks) == (1.0, 5) and np.isnan([low, high]).all()  # an interval without width would claim too much
    assert travel.agreement(orders((1, 2, 3, 4), (4, 3, 2, 1), (1, 2, 3, 4), (4, 3, 2, 1)))[0] == pytest.approx((2 - 4) / 6)


def test_the_interval_of_the_agreement_by_hand():
    """Four tasks, of which the last two swap neighbours: correlations 1, 0.8, 0.8, 0.8, 0.8, 0.6 of pairs; without each task
    in turn the means are 2.2/3, 2.2/3, 2.6/3, 2.6/3, so the error is 3 times their deviation over the root of 4."""
    mean, low, high, _ = travel.agreement(orders((1, 2, 3, 4), (1, 2, 3, 4), (2, 1, 3, 4), (1, 2, 4, 3)))
    without = np.array([2.2, 2.2, 2.6, 2.6]) / 3
    half = scipy.stats.t.ppf(0.975, 3) * 3 * without.std(ddof=1) / 2
    assert mean == pytest.approx(0.8) and (low, high) == (pytest.approx(0.8 - half), 1.0)


def test_the_interval_of_the_agreement_holds_the_truth_often_enough():
    """Arms whose skill differs by as much as a task's own taste: the correlation to be found is that of many tasks."""
    rng, skill = np.random.default_rng(2), np.array([0.0, 0.7, 1.4, 2.1])
    many = scipy.stats.rankdata(skill + rng.normal(size=(4000, 4)), axis=1)
    truth, inside = np.corrcoef(many)[np.triu_indices(4000, 1)].mean(), []
    for _ in range(80):
        _, low, high, _ = travel.agreement(orders(*(skill + rng.normal(size=(7, 4)))))
        inside.append(low <= truth <= high)
    assert 0.85 <= np.mean(inside) < 1, (truth, np.mean(inside))


def test_ties_and_arms_that_are_missing():
    tied = orders((1, 1, 1), (1, 2, 3), (1, 2, 3), (1, 2, 3))
    assert travel.agreement(tied)[0] == pytest.approx(3 / 6)  # a task on which all tie orders none
    assert facts.firsts(orders((2, 2, 1)))[0].numbers == {"a": 1, "b": 1}
    five = orders(*[(1, 2, 3)] * 5)
    assert travel.agreement(five[~((five["task"] == "t0") & (five["arm"] == "c"))])[3] == 4
    assert np.isnan(travel.agreement(travel.told(five.assign(learnt=False), "a"))[0])


def test_agreement_is_kendall_s_w_in_another_guise():
    """Mean rank correlation r and Kendall's W of m tasks: r = (m W - 1) / (m - 1); W from Friedman's statistic."""
    scores = np.random.default_rng(1).normal(size=(6, 4))
    mean, *_ = travel.agreement(orders(*scores))
    w = scipy.stats.friedmanchisquare(*scores.T).statistic / (6 * 3)
    assert mean == pytest.approx((6 * w - 1) / 5)


def test_lower_is_better_turns_the_ranks():
    table = orders((1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4), (4, 3, 2, 1))
    table.loc[table["task"] == "t3", "better"] = -1
    assert travel.agreement(table)[0] == 1.0


def test_too_few_tasks_or_arms_tell_nothing():
    assert np.isnan(travel.agreement(orders((1, 2, 3), (1, 2, 3), (1, 2, 3)))[0])
    assert np.isnan(travel.agreement(orders(*[(1, 2)] * 6))[0])
    assert travel.new_task(gaps([1, 2, 3], 0.5)).empty
    assert facts.agreement(orders((1, 2, 3)), ["a", "b", "c"])[0].kind == "empty"
    assert facts.new_task(travel.new_task(gaps([1, 2, 3], 0.5)))[0].kind == "empty"


def test_tasks_on_which_the_baseline_has_not_learnt_say_nothing():
    table = orders(*[(1, 2, 3)] * 5)
    table.loc[(table["task"] == "t1") & (table["arm"] == "a"), "learnt"] = False
    assert sorted(travel.told(table, "a")["task"].unique()) == ["t0", "t2", "t3", "t4"]
    six = gaps([-1, -1.2, -0.8, -1.1, -0.9, 40], 0.3)
    six.loc[5, "learnt"] = False
    assert travel.new_task(six)["gap"].iloc[0] == pytest.approx(-1.0, abs=0.05)
    six.loc[5, ["learnt", "metric_axis"]] = True, "Accuracy"  # not in points
    assert travel.new_task(six)["tasks"].iloc[0] == 5


def test_a_new_task_lies_as_far_out_as_tasks_differ():
    """By hand, equal errors e: the mean is the plain mean, the variance between tasks s² − e², the error of the mean s/√k;
    so a new gap's is √(s² + s²/k) with k − 1 degrees of freedom: the usual interval for one more of its kind."""
    values, error = np.array([-4.0, -2.0, 0.0, 1.0, 3.0, 5.0]), 0.5
    (row,) = travel.new_task(gaps(values, error)).to_dict("records")
    s2, k = values.var(ddof=1), len(values)
    spread = np.sqrt(s2 * (1 + 1 / k))
    half = scipy.stats.t.ppf(0.975, k - 1) * spread
    assert row["gap"] == pytest.approx(values.mean())
    assert row["between"] == pytest.approx(np.sqrt(s2 - error ** 2), rel=1e-3)
    assert (row["new_low"], row["new_high"]) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-3)
    assert row["low"] > row["new_low"] and row["high"] < row["new_high"]
    assert row["ahead"] == pytest.approx(scipy.stats.t.cdf(values.mean() / spread, k - 1), rel=1e-3)
    assert row["close"] == pytest.approx(scipy.stats.t.cdf((values.mean() + 1) / spread, k - 1), rel=1e-3)


def test_a_task_with_a_collapsed_run_weighs_as_much_as_the_others():
    """Its gap and its error are both large; weights by error would leave it out, and -2 would be told for -5.9."""
    (row,) = travel.new_task(gaps([-2.1, -1.9, -2.4, -1.6, -2.2, -1.8, -28.3], [0.8] * 6 + [25.0])).to_dict("records")
    assert row["gap"] == pytest.approx(-5.757, abs=1e-3) and row["high"] > -2 and row["above"] == 0
    assert row["between"] == pytest.approx(np.sqrt(np.var([-2.1, -1.9, -2.4, -1.6, -2.2, -1.8, -28.3], ddof=1)
                                                   - (6 * 0.8 ** 2 + 25 ** 2) / 7), abs=1e-6)


def test_no_interval_leaves_the_metric():
    (row,) = travel.new_task(gaps([-90, 80, -85, 70], 1.0)).to_dict("records")
    assert (row["new_low"], row["new_high"]) == (-100.0, 100.0)


@pytest.mark.parametrize("between", [0.0, 1.0, 4.0])
def test_of_new_tasks_95_in_100_lie_in_the_interval(between):
    """Seven tasks, each measured with an error of its own: the gap of an eighth, measured so too, is in it often enough, and
    its true gap no less often."""
    rng, measured, itself = np.random.default_rng(3), [], []
    for _ in range(400):
        true, errors = rng.normal(-1, between, 8), rng.uniform(0.5, 1.5, 8)
        seen = true + rng.normal(0, errors)
        (row,) = travel.new_task(gaps(seen[:7], errors[:7])).to_dict("records")
        measured.append(row["new_low"] <= seen[7] <= row["new_high"])
        itself.append(row["new_low"] <= true[7] <= row["new_high"])
    assert 0.93 <= np.mean(measured) <= 0.985 and np.mean(itself) >= 0.93, (np.mean(measured), np.mean(itself))


def test_sentences_say_what_the_interval_shows():
    behind = facts.new_task(travel.new_task(gaps([-10, -11, -9, -10.5, -9.5], 0.3)))
    assert [fact.kind for fact in behind] == ["behind", "new_task"] and "over 99 %" not in behind[0].sentence
    assert "`bitfit` is behind `full`" in behind[1].sentence
    open_ = facts.new_task(travel.new_task(gaps([-3, 3, -2, 2, 0], 0.3)))
    assert [fact.kind for fact in open_] == ["undecided", "new_task"] and "Of no arm" in open_[1].sentence


def test_sentences_about_the_order_follow_it():
    same, whole = facts.agreement(orders(*[(1, 2, 3, 4)] * 5), ["b", "c", "d"])
    assert "tells of the next" in same.sentence and "`b`, `c` and `d`" in same.sentence and whole.kind == "all_arms"
    mixed = facts.agreement(orders((1, 2, 3, 4), (4, 3, 2, 1), (2, 1, 4, 3), (3, 4, 1, 2)), "abcd")
    assert [fact.kind for fact in mixed] == ["undecided"]


def test_a_head_that_is_last_everywhere_lets_no_order_travel():
    """The others in any order: with the last arm the orders look alike, and that is not what is concluded."""
    table = orders((0, 4, 2, 3), (0, 2, 3, 4), (0, 3, 4, 2), (0, 4, 3, 2), (0, 2, 4, 3))
    first, whole = facts.agreement(table, ["b", "c", "d"])
    assert first.kind == "undecided" and first.numbers["mean"] < 0 < whole.numbers["low"]
    first = facts.firsts(orders((1, 2), (3, 1), (1, 5)))[0]
    assert first.numbers == {"b": 2, "a": 1} and "`b` on T0 and T2" in first.sentence


@pytest.mark.parametrize("arms", [3, 4, 5, 6, 7, 8])
def test_one_order_everywhere_tells_of_the_next_task(arms):
    names = [chr(ord("a") + i) for i in range(arms)]
    first = facts.agreement(orders(*[tuple(range(arms))] * 5), names)[0]
    assert first.kind == "alike", first.sentence


def test_arms_that_turn_with_the_task_are_named():
    both = pd.concat([gaps([5, -5, 0], 0.3), gaps([-5, -5, 0], 0.3, arm="lora", place=2)])
    (fact,) = facts.turns(both)
    assert fact.about == {"arms": ["bitfit"]} and "`bitfit` (ahead on Task 0, behind on Task 1)" in fact.sentence
    silent = gaps([5, -5, -5], 0.3).assign(arm_learnt=[True, False, True])
    assert "behind on Task 1 and Task 2; it had not learnt on Task 1)" in facts.turns(silent)[0].sentence
    assert facts.turns(gaps([-5, -5], 0.3))[0].kind == "no_turn"
    one_way = facts.turns(pd.concat([both, gaps([5, 0, 5], 0.3, arm="adapter", place=3)]))[-1]
    assert one_way.sentence == "Shown ahead of `full` on some and behind on none: `adapter` (ahead on Task 0 and Task 2)."


def test_two_studies_side_by_side():
    here = pd.concat([gaps([-5, 5], 0.3), gaps([-5, 0.1], 0.1, arm="lora", place=2)])
    there = pd.concat([gaps([-5, -5], 0.3), gaps([0.2], 2.0, arm="lora", place=2)])
    told = facts.side_by_side(here, there, ("one", "two"))
    assert told[0].numbers == {"shared": 3, "same": 1, "neither": 0}
    assert "`bitfit` on Task 1 with 10 % of the data: ahead, behind" in told[0].sentence
    behind = gaps([-5.0, -5.0], 0.3)
    assert facts.side_by_side(behind, behind, ("one", "two"))[1].sentence.startswith("Of these 2 neither shows an arm ahead")
    assert told[1].kind == "contradiction" and "`bitfit` on Task 1" in told[1].sentence
    same = facts.side_by_side(here, here, ("one", "one"))
    assert "both show the same of 4, neither anything of 0." in same[0].sentence and same[1].kind == "no_contradiction"
    open_ = gaps([0.0, 0.0], 3.0)
    assert facts.side_by_side(open_, open_, ("one", "one"))[0].numbers == {"shared": 2, "same": 0, "neither": 2}
    assert facts.side_by_side(open_, pd.DataFrame(), ("one", "two"))[0].kind == "empty"
    assert facts.side_by_side(here, there.assign(fraction=0.3), ("one", "two"))[0].kind == "empty"


def test_gaps_of_two_studies_differ_by_welch_s_interval():
    """-5 and -1 with errors 1.2 and 0.9, 8 and 3 degrees of freedom: apart by -4, error 1.5, Welch's freedom."""
    here, there = gaps([-5, 0], 1.2, freedom=8.0), gaps([-1, 0.1], 0.9, freedom=3.0)
    row = travel.apart(here, there).iloc[0]
    freedom = (1.44 + 0.81) ** 2 / (1.44 ** 2 / 8 + 0.81 ** 2 / 3)
    half = scipy.stats.t.ppf(0.975, freedom) * 1.5
    assert (row["apart"], row["apart_low"], row["apart_high"]) == pytest.approx((-4, -4 - half, -4 + half))
    told = facts.side_by_side(here, there, ("one", "two"))[-1]
    assert told.kind == "differ" and told.numbers == {"`bitfit` on Task 0 with 10 % of the data": -4}
    assert "(one -5.0, two -1.0; difference -4.0, uncorrected 95 % interval -7.3 to -0.7)" in told.sentence
    assert told.sentence.startswith("Of 2 gaps that both have, after Holm's correction, 1 differs: ")
    assert row["p"] == pytest.approx(2 * 2 * scipy.stats.t.sf(4 / 1.5, freedom))  # of two, the smaller
    more = [pd.concat([given, gaps([0], 1.2, arm="lora", place=2)]) for given in (here, there)]
    alike = facts.side_by_side(*more, ("one", "two"))[-1]  # of three it is no longer shown
    assert alike.kind == "no_difference" and "nearest to it: `bitfit` on Task 0" in alike.sentence
    assert alike.sentence.endswith(f"p = {1.5 * row['p']:.3f} after it.")
    silent = facts.side_by_side(here, there.assign(arm_learnt=False), ("one", "two"))[-1]
    assert "to -0.7; it had not learnt in two)" in silent.sentence
    assert facts.side_by_side(here, here, ("one", "two"))[-1].kind == "no_difference"
    assert travel.apart(here, there.iloc[:0]).empty
    assert travel.apart(here, there.assign(gap=np.nan)).empty  # without a pair there is no gap
    for silent in ({"learnt": False}, {"lost": 1}, {"error": np.nan}):
        assert travel.apart(here, there.assign(**silent)).empty and travel.apart(here.assign(**silent), there).empty
    assert travel.apart(here.assign(error=0.0), there.assign(error=0.0)).empty  # no errors, no interval


def test_the_figure_shows_every_task_and_the_new_one():
    table = pd.concat([gaps([-3, 3, -2, 2, 0], 0.3), gaps([-60, -3, -2, -9, 0], 0.3, arm="head", place=2)])
    fig = plots.gap_by_task(table, travel.new_task(table), "made up")
    left, right = fig.axes
    assert [label.get_text() for label in left.get_yticklabels()] == [f"Task {n}" for n in range(5)] + ["a new task"]
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["bitfit", "head"]
    drawn = {round(float(x), 6) for line in left.lines for x in np.atleast_1d(line.get_xdata())}
    assert {-3.0, 3.0, -2.0, 2.0} <= drawn
    assert right.get_xlim()[0] < -60 < left.get_xlim()[0]
    lost = gaps([np.nan], 0.3, pairs=0, learnt=False)  # the baseline has no run there
    assert len(plots.gap_by_task(pd.concat([table, lost.assign(task="t9")]), travel.new_task(table)).axes) == 2
    with pytest.raises(ValueError, match="not in points"):
        plots.gap_by_task(table.assign(metric_axis="Accuracy"), travel.new_task(table))
    with pytest.raises(ValueError, match="several places"):
        plots.gap_by_task(pd.concat([table, table.assign(fraction=0.3)]), travel.new_task(table))
