import made
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics

from studykit.evidence import advice, stats, variance
from studykit.tasks import known
from studykit.telling import facts

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    """200 resamples rather than 2000, here only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stats, "RESAMPLES", 200)
        stats._resamples.cache_clear()
        yield
    stats._resamples.cache_clear()


def table(scores, task="cola", **columns):
    """A study's table from ``{arm: scores by seed}``; ``None`` is a run without a score. No choice of test examples moves
    these runs' metric, so the interval of a gap must be that of Student's paired test."""
    return made.table({(task, arm): values for arm, values in scores.items()}, fraction=0.5, examples=20, **columns)


@pytest.mark.parametrize("count", [2, 5, 30])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_is_scipy_s(count, level):
    values = RNG.normal(70, 3, count)
    low, high = scipy.stats.t.interval(level, count - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    assert stats.mean_interval(values, level) == pytest.approx((values.mean(), low, high))


def test_the_interval_by_hand():
    """Mean 3; deviations -2, -1, 0, 1, 2, so variance 10 / 4; t with 4 degrees of freedom is 2.776445 at 97.5 %."""
    half = 2.776445 * np.sqrt(2.5) / np.sqrt(5)
    assert stats.mean_interval([1, 2, 3, 4, 5]) == pytest.approx((3, 3 - half, 3 + half), rel=1e-6)


@pytest.mark.parametrize("values, expected", [([70.0], (70.0, np.nan, np.nan)), ([], (np.nan, np.nan, np.nan)),
                                              ([3.0, 3.0], (3.0, 3.0, 3.0))], ids=str)
def test_the_interval_of_few_values(values, expected):
    assert stats.mean_interval(values) == pytest.approx(expected, nan_ok=True)
    assert stats.mean_interval(values, bounds=(0, 100), correlation=True) == pytest.approx(expected, nan_ok=True)


def test_an_interval_within_a_range_is_student_s_on_fisher_s_z_at_the_mean():
    values = np.array([80.0, 90.0, 99.0])
    slope = 1 / (1 - (values.mean() / 100) ** 2)  # of z at the mean
    half = scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(values / 100) * slope
    expected = 100 * np.tanh(np.arctanh(values.mean() / 100) + half * np.array([-1, 1]))
    assert stats.mean_interval(values, bounds=(-100, 100), correlation=True) == pytest.approx((values.mean(), *expected))


def test_only_an_interval_that_would_leave_the_range_is_bent():
    assert stats.mean_interval([70, 75], bounds=(0, 1000)) == stats.mean_interval([70, 75], bounds=(-np.inf, np.inf))
    assert stats.mean_interval([60, 61, 62], bounds=(0, 100)) == stats.mean_interval([60, 61, 62])
    assert stats.mean_interval([60, 61, 62], bounds=(-100, 100), correlation=True) != stats.mean_interval([60, 61, 62])


@pytest.mark.parametrize("values, bounds", [
    ([0, 85, 86, 85, 86], (-100, 100)), ([99, 100, 100], (0, 100)), ([98, 100], (0, 100)), ([0.1, 2.0], (0, np.inf)),
    ([0.99, -3.0, 0.5], (-np.inf, 1)), ([100, 100], (0, 100)), ([-100, 100], (-100, 100))], ids=str)
def test_an_interval_stays_within_the_range_and_holds_the_mean(values, bounds):
    mean, low, high = stats.mean_interval(values, bounds=bounds)
    assert bounds[0] <= low <= mean <= high <= bounds[1]
    assert mean == pytest.approx(np.mean(values)) and (low < high or np.ptp(values) == 0)


@pytest.mark.parametrize("runs", [2, 3, 5, 10])
def test_intervals_within_a_range_cover_the_mean_near_its_end_as_often_as_they_say(runs):
    """Accuracies around 95 %: a t interval cut off, or a bootstrap of two or three runs, covers less."""
    drawn = np.random.default_rng(12).beta(30, 1.5, (2000, runs)) * 100
    found = pd.DataFrame([stats.mean_interval(values, bounds=(0, 100)) for values in drawn], columns=["mean", "low", "high"])
    assert coverage(found, 100 * 30 / 31.5) > 0.92


def test_intervals_of_correlations_cover_their_mean_though_some_runs_collapse():
    rng = np.random.default_rng(13)
    drawn = np.where(rng.random((2000, 10)) < 0.4, 0, 100 * np.tanh(np.arctanh(0.86) + rng.normal(0, 0.05, (2000, 10))))
    found = pd.DataFrame([stats.mean_interval(values, bounds=(-100, 100), correlation=True) for values in drawn],
                         columns=["mean", "low", "high"])
    assert coverage(found, drawn[drawn > 0].mean() * 0.6) > 0.93


def test_gaps_are_those_of_a_paired_test_where_examples_do_not_matter():
    full, bitfit = RNG.normal(70, 3, 6), RNG.normal(69, 3, 6)
    row, = stats.paired_gaps(table({"full": full, "bitfit": bitfit})).to_dict("records")
    low, high = scipy.stats.ttest_rel(bitfit, full).confidence_interval(0.95)
    assert (row["gap"], row["low"], row["high"]) == pytest.approx(((bitfit - full).mean(), low, high))
    assert (row["error"], row["freedom"]) == pytest.approx((scipy.stats.sem(bitfit - full), 5))
    assert (row["task"], row["fraction"], row["arm"], row["pairs"], row["lost"]) == ("cola", 0.5, "bitfit", 6, 0)


def test_pairs_are_made_by_seed_and_not_by_row():
    scores = {"full": [10.0, 20.0, 30.0], "bitfit": [11.0, 22.0, 33.0]}
    shuffled = table(scores).sample(frac=1, random_state=1)
    row, = stats.paired_gaps(shuffled).to_dict("records")
    low, high = scipy.stats.t.interval(0.95, 2, loc=2, scale=1 / np.sqrt(3))
    assert (row["gap"], row["low"], row["high"]) == pytest.approx((2, low, high))


def test_each_group_is_its_own():
    gaps = stats.paired_gaps(pd.concat([table({"full": [1.0, 2.0], "head": [2.0, 3.0]}),
                                        table({"full": [1.0, 2.0], "head": [0.0, 1.0]}, task="mrpc")]))
    assert gaps[["task", "gap", "pairs"]].to_dict("list") == {"task": ["cola", "mrpc"], "gap": [1.0, -1.0], "pairs": [2, 2]}


@pytest.mark.parametrize("full, bitfit, pairs, lost", [
    ([1.0, 2.0, 3.0], [1.0, None, 3.0], 2, 1), ([None, 2.0, 3.0], [1.0, None, 3.0], 1, 2), ([None] * 3, [1.0] * 3, 0, 3)])
def test_a_lost_pair_is_counted_whichever_run_has_no_score(full, bitfit, pairs, lost):
    row, = stats.paired_gaps(table({"full": full, "bitfit": bitfit})).to_dict("records")
    assert (row["pairs"], row["lost"]) == (pairs, lost)


def test_a_seed_that_only_one_method_ran_is_no_pair():
    row, = stats.paired_gaps(table({"full": [1.0, 2.0], "bitfit": [2.0, 3.0, 90.0]})).to_dict("records")
    assert (row["gap"], row["pairs"], row["lost"]) == (1.0, 2, 0)


def test_a_run_that_is_there_twice_is_an_error():
    doubled = pd.concat([table({"full": [1.0, 2.0], "bitfit": [2.0, 3.0]}), table({"bitfit": [4.0]})])
    with pytest.raises(ValueError, match="duplicate runs: two of bitfit have one seed"):
        stats.paired_gaps(doubled, "full")


def test_gaps_follow_the_study_s_order_of_arms_and_take_its_first_for_the_baseline():
    arms = {name: [1.0, 2.0] for name in ("lora r=8", "full", "lora r=64")}
    gaps = stats.paired_gaps(table(arms, places=["full", "lora r=64", "lora r=8"]))
    assert gaps["arm"].tolist() == ["lora r=64", "lora r=8"]
    assert set(stats.paired_gaps(table(arms), "lora r=64")["baseline"]) == {"lora r=64"}
    alone = stats.paired_gaps(table({"full": [1.0, 2.0]}))
    assert alone.empty and {"arm", "gap", "learnt", "task_title"} <= set(alone.columns)


def test_a_gap_is_positive_where_the_arm_is_better_though_less_is_better():
    metric = known("mean_absolute_error")
    labels = made.labels_for(metric, 30)
    off = {("x", arm): labels + by + RNG.normal(0, 0.01, (4, 30)) for arm, by in (("full", 1.0), ("bitfit", 0.6))}
    scores = {cell: [metric.score(labels, run) for run in runs] for cell, runs in off.items()}
    runs = made.table(scores, metric="mean_absolute_error", labels=labels, predictions=off)
    row, = stats.paired_gaps(runs).to_dict("records")
    assert row["gap"] == pytest.approx(0.4, abs=0.01) and 0 < row["low"] < 0.4 < row["high"] < 0.5
    assert row["examples_error"] < 0.01


def test_the_baseline_has_learnt_where_most_of_its_runs_have_and_what_is_not_ok_is_counted_and_kept():
    row, = stats.paired_gaps(table({"full": [60, 70, 50, 70], "bitfit": [50, 70, 50, 70]}, collapsed=[("cola", "bitfit", 0)],
                                   diverged=[("cola", "bitfit", 2)])).to_dict("records")
    assert (row["pairs"], row["lost"], row["not_ok"], row["learnt"], row["gap"]) == (4, 0, 2, True, -2.5)
    row, = stats.paired_gaps(table({"full": [60, 50, 50, 70], "bitfit": [50, 70, 50, 70]})).to_dict("records")
    assert not row["learnt"]  # two of four


def test_a_gap_is_no_wider_than_the_range():
    row, = stats.paired_gaps(table({"full": [100, 0], "bitfit": [0, 100]})).to_dict("records")
    assert (row["low"], row["high"]) == (-100, 100)


def test_runs_scored_on_other_examples_are_no_pair():
    other = table({"bitfit": [1.0, 2.0]}, labels=1 - made.labels_for("accuracy", 20))
    with pytest.raises(ValueError, match="scored on different examples: they cannot be paired"):
        stats.paired_gaps(pd.concat([table({"full": [1.0, 2.0]}), other]), "full")


def test_metrics_of_probabilities_are_resampled_where_they_were_kept_and_lost_where_not():
    rng, labels = np.random.default_rng(14), np.arange(60) % 2
    ease = rng.uniform(0, 0.6, (2, 60))
    luck = rng.uniform(0, 0.1, (2, 3, 60))
    positive = {"full": labels * 0.3 + ease[0] + luck[0], "bitfit": ease[1] + luck[1]}
    answers = {("x", arm): np.stack([1 - values, values], axis=-1) for arm, values in positive.items()}
    scores = {cell: [100 * known("roc_auc").score(labels, run) for run in runs] for cell, runs in answers.items()}
    runs = made.table(scores, metric="roc_auc", labels=labels, predictions=answers)
    row, = stats.paired_gaps(runs).to_dict("records")
    assert row["gap"] < -5 and row["examples_error"] > 1 and row["pairs"] == 3
    runs.loc[runs["arm"].eq("full") & runs["seed"].eq(1), ["score", "probabilities"]] = [np.nan, None]
    row, = stats.paired_gaps(runs).to_dict("records")
    assert (row["pairs"], row["lost"]) == (2, 1) and np.isfinite(row["error"])
    none, = stats.paired_gaps(runs.assign(score=np.nan, probabilities=None)).to_dict("records")
    assert (none["pairs"], none["lost"]) == (0, 3) and np.isnan([none["gap"], none["low"]]).all()


def test_resamples_of_many_examples_are_fewer_and_take_bounded_memory(monkeypatch):
    monkeypatch.setattr(stats, "RESAMPLES", 2000)
    stats._resamples.cache_clear()
    few, many = stats._resamples(1043), stats._resamples(40_430)
    expected = np.random.default_rng(0).multinomial(1043, np.full(1043, 1 / 1043), size=2000)
    assert few.shape == (2000, 1043) and (few == expected).all()
    assert many.shape == (400, 40_430) and many.nbytes < 50e6 and (many.sum(1) == 40_430).all()
    stats._resamples.cache_clear()


GAP = {"learnt": True, "lost": 0, "freedom": 4.0}


@pytest.mark.parametrize("row, expected", [
    ({"gap": 0.1, "error": 0.2}, "matches"), ({"gap": 0.5, "error": 0.1}, "matches"), ({"gap": 3.0, "error": 1.0}, "ahead"),
    ({"gap": -3.0, "error": 1.0}, "behind"), ({"gap": 2.5, "error": 1.0}, "cannot tell"),
    ({"gap": -3.0, "error": 1.0, "learnt": False}, "cannot tell"), ({"gap": 0.1, "error": 0.2, "lost": 1}, "cannot tell"),
    ({"gap": 0.1, "error": np.nan, "freedom": np.nan}, "cannot tell"), ({"gap": 0.0, "error": 0.0}, "matches"),
    ({"gap": 2.0, "error": 0.0}, "ahead")], ids=str)
def test_the_verdict_on_a_gap(row, expected):
    assert stats.verdict(pd.Series({**GAP, **row}), margin=1.0) == expected


@pytest.mark.parametrize("gap", [-2.0, 0.0, 0.7])
def test_ahead_is_the_one_sided_t_test(gap):
    gaps = gap + RNG.normal(0, 1, 6)
    found = stats.ahead(gaps.mean(), scipy.stats.sem(gaps), 5)
    assert found == pytest.approx(scipy.stats.ttest_1samp(gaps, 0, alternative="greater").pvalue)
    assert stats.ahead(-gaps.mean(), scipy.stats.sem(gaps), 5) == pytest.approx(1 - found)
    assert [stats.ahead(value, 0, 4) for value in (1, 0, -1)] == [0, 0.5, 1]


def test_a_missing_baseline_is_an_error():
    with pytest.raises(ValueError, match="no run of the baseline 'full' in the table: it has bitfit, head"):
        stats.paired_gaps(table({"bitfit": [1.0], "head": [1.0]}), "full")


def test_a_group_without_the_baseline_is_said_to_tell_nothing():
    """It stands there with no pair, so that no task or share vanishes, and every fact of it says so."""
    whole = table({"full": [61.0, 62.0, 63.0], "head": [62.0, 63.5, 64.0]})
    without = table({"head": [62.0, 63.0], "bitfit": [61.0, 62.0]}, task="mrpc")
    runs = pd.concat([whole, without.assign(arm_place=[1, 1, 2, 2])])
    gaps = stats.paired_gaps(runs, "full").set_index(["task", "arm"])
    assert [*gaps.index] == [("cola", "head"), ("mrpc", "head"), ("mrpc", "bitfit")]
    assert gaps["pairs"].tolist() == [3, 0, 0] and gaps["learnt"].tolist() == [True, False, False]
    assert gaps["gap"].isna().tolist() == gaps["error"].isna().tolist() == [False, True, True]
    assert [stats.verdict(row, 1.0) for row in gaps.itertuples()] == ["ahead", "cannot tell", "cannot tell"]
    alone = stats.paired_gaps(whole, "full").iloc[0]
    assert gaps.loc["cola", "head"]["gap"] == alone["gap"] and gaps.loc["cola", "head"]["error"] == alone["error"]
    said = " ".join(fact.sentence for fact in facts.gaps(gaps.reset_index()))
    assert said.count("cannot be told: that takes two pairs of runs, there are 0") == 2
    assert "2 cannot be told" in facts.tally(gaps.reset_index())[0].sentence
    assert gaps["arm_learnt"].tolist() == [bool(whole["learnt"].all()), *[bool(without["learnt"].all())] * 2]
    said = facts.answer(gaps.reset_index())[0].sentence
    assert said == "`head` is ahead of `full` on cola. There is no pair with `full` on mrpc."


def test_what_is_held_against_a_baseline_names_one_that_is_not_there():
    runs = table({"head": [1.0, 2.0, 3.0], "bitfit": [2.0, 3.0, 5.0]})
    for compared in (variance.pairs_needed, variance.paired, variance.ratios):
        with pytest.raises(ValueError, match="no run of the baseline 'full' in the table: it has head, bitfit"):
            compared(runs, "full")


def test_a_run_without_a_score_takes_its_arm_out_of_the_chances_and_no_other():
    scores = {"full": [90.0, 91, 92], "head": [70.0, 71, 72], "bitfit": [89.0, 90, 91]}
    whole = advice.chances(table(scores).assign(examples=100)).set_index("arm")["chance"]
    lacking = advice.chances(table(scores | {"bitfit": [89.0, None, 91]}).assign(examples=100)).set_index("arm")["chance"]
    assert whole["head"] == 0 and whole["full"] > 0.5
    assert lacking.to_dict() == pytest.approx({"full": 1.0, "head": 0.0}, abs=0.01)
    nothing = advice.chances(table({"full": [None, None], "head": [1.0, 2.0]}).assign(examples=100))
    assert nothing.empty


STUDIES, SEEDS = 300, 5


@pytest.fixture(scope="module")
def simulated():
    """Many studies of five seeds: the mean is 70, the gap -2, and what a seed does to both arms is most of the noise. Test
    examples do not matter, as in ``table``."""
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 4, (STUDIES, SEEDS))
    scores = [70 + shared + rng.normal(0, 1, shared.shape), 68 + shared + rng.normal(0, 1, shared.shape)]
    study = table({"full": [0.0] * SEEDS, "bitfit": [0.0] * SEEDS})
    runs = study.loc[np.tile(study.index, STUDIES)]
    return runs.assign(fraction=np.repeat(np.arange(STUDIES), 2 * SEEDS), score=np.hstack(scores).ravel())


def coverage(intervals, truth):
    return np.mean((intervals["low"] <= truth) & (truth <= intervals["high"]))


@pytest.fixture(scope="module")
def means(simulated):
    return stats.summary(simulated[simulated["arm"] == "full"])


def test_intervals_of_the_mean_cover_it_as_often_as_they_say(means):
    assert len(means) == STUDIES
    assert 0.92 < coverage(means, 70) < 0.98


def test_intervals_of_the_gap_cover_it_as_often_as_they_say_and_are_narrower_for_the_pairing(simulated, means):
    gaps = stats.paired_gaps(simulated)
    assert len(gaps) == STUDIES
    assert 0.92 < coverage(gaps, -2) < 0.98
    assert (gaps["high"] - gaps["low"]).mean() < 0.5 * (means["high"] - means["low"]).mean()


def test_the_summary_counts_what_became_of_runs_and_keeps_all_in_the_mean():
    runs = table({"full": [60.0, 70.0, 50.0], "bitfit": [50.0, None, 80.0], "head": [50.0, 50.0, 50.0]},
                 collapsed=[("cola", "full", 2), ("cola", "head", 0), ("cola", "head", 1)], diverged=[("cola", "head", 2)])
    full, bitfit, head = stats.summary(runs).to_dict("records")
    assert (full["arm"], full["score"], full["seeds"]) == ("full", 60, 3)
    assert (full["not_ok"], full["learnt"], full["others"]) == (1, 2, 65)
    assert (full["low"], full["high"]) == pytest.approx(stats.mean_interval([60, 70, 50])[1:])
    assert (bitfit["score"], bitfit["seeds"], bitfit["not_ok"], bitfit["learnt"]) == (65.0, 2, 0, 1)
    assert (head["score"], head["collapsed"], head["diverged"], head["not_ok"]) == (50.0, 2, 1, 3)
    assert np.isnan(head["others"])
    assert (head["task_title"], head["arm_place"], head["chance"], head["metric_title"]) == ("cola", 2, 50.0, "accuracy")


def test_the_summary_of_a_correlation_stays_below_one():
    runs = made.table({("x", "adapter"): [0.0, 85.0, 86.0, 85.5, 84.0]}, metric="pearson", collapsed=[("x", "adapter", 0)])
    row, = stats.summary(runs).to_dict("records")
    assert row["score"] == 68.1 and -100 < row["low"] < 68.1 < row["high"] < 100 and row["others"] == 85.125


def test_a_group_without_any_score_is_still_there():
    row, = stats.summary(table({"full": [None, None]})).to_dict("records")
    assert (row["seeds"], row["not_ok"]) == (0, 0)
    assert np.isnan(row["score"])


METRICS = {"accuracy": 2, "f1": 2, "matthews_correlation": 2, "macro_f1": 4, "pearson": 0}  # classes, 0 for a number


def repeated(metric, answers, labels, weights):
    """A run's metric by its library on a resample written out, example by example; 0 where it has none."""
    return np.nan_to_num(metric.score(np.repeat(labels, weights), np.repeat(answers, weights)))


def answers(metric, runs, examples, rng):
    """``(answers, labels)``: runs that are right more often than not."""
    if not METRICS[metric]:
        labels = rng.uniform(0, 5, examples)
        return labels + rng.normal(0, 1, examples) + rng.normal(0, 1, (runs, examples)), labels
    labels = np.arange(examples) % METRICS[metric]
    return np.where(rng.random((runs, examples)) < 0.3, rng.integers(0, METRICS[metric], (runs, examples)), labels), labels


def runs_of(name, predictions, labels):
    """A table of runs, a row for each row of predictions, with their scores."""
    metric = known(name)
    scores = [100 * repeated(metric, run, labels, np.ones(len(labels), int)) for run in predictions]
    return made.table({("x", "arm"): scores}, metric=name, labels=labels, predictions={("x", "arm"): predictions})


def two_levels(runs, baseline, resamples):
    """``(error, half-width at 95 %)`` of a gap, by loops over resamples, runs and pairs of runs."""
    metric, labels, seeds = runs["scored_by"][0], runs["labels"][0], len(runs)
    moved = [[100 * (repeated(metric, a, labels, drawn) - repeated(metric, b, labels, drawn))
              for a, b in zip(runs["predictions"], baseline["predictions"], strict=True)] for drawn in resamples]
    means = [sum(column) / len(moved) for column in zip(*moved, strict=True)]
    pairs = [sum((row[i] - means[i]) * (row[j] - means[j]) for row in moved) / (len(moved) - 1)
             for i in range(seeds) for j in range(i)]
    between = np.var(runs["score"] - baseline["score"], ddof=1) / seeds
    examples = max(0, sum(pairs) / len(pairs))
    return np.sqrt(between + examples), half_width(between, examples, seeds)


def half_width(between, examples, seeds):
    return np.sqrt(scipy.stats.t.ppf(0.975, seeds - 1) ** 2 * between + scipy.stats.norm.ppf(0.975) ** 2 * examples)


@pytest.mark.parametrize("name, examples", [*((name, 40) for name in METRICS), ("f1", 4), ("pearson", 4)])
def test_the_error_of_a_gap_is_that_of_two_levels_by_loops(name, examples, monkeypatch):
    """Of four examples, some resamples have no metric."""
    monkeypatch.setattr(stats, "RESAMPLES", 40)  # no other test has as many examples as these
    predictions, labels = answers(name, 6, examples, np.random.default_rng(3))
    runs, baseline = runs_of(name, predictions[:3], labels), runs_of(name, predictions[3:], labels)
    middle, error, freedom, _ = stats.gap(runs, baseline)
    assert middle == pytest.approx(np.mean([a - b for a, b in zip(runs["score"], baseline["score"], strict=True)]))
    found = error, stats.interval(middle, error, freedom)[1] - middle
    assert found == pytest.approx(two_levels(runs, baseline, stats._resamples(examples).astype(int)), rel=1e-5)


def test_the_error_of_one_pair_is_that_of_its_examples(monkeypatch):
    """Of accuracy in closed form: the deviation of what each example adds, over the root of their number."""
    monkeypatch.setattr(stats, "RESAMPLES", 20_000)
    predictions, labels = answers("accuracy", 2, 63, np.random.default_rng(15))
    right = predictions == labels
    found = stats.error_of_examples(*(runs_of("accuracy", run[None], labels) for run in predictions))
    assert found == pytest.approx(100 * np.std(right[0].astype(int) - right[1]) / np.sqrt(63), rel=0.02)


def test_the_error_of_a_gap_in_accuracy_is_the_closed_form(monkeypatch):
    """Resampling moves means over n examples by their covariance over n. Here that is more than what seeds do."""
    monkeypatch.setattr(stats, "RESAMPLES", 20_000)
    one, two = stats.simulated(np.random.default_rng(4), 30, 61, gap=3)  # 61: no other test resamples as many
    right = [100 * (np.stack(of["predictions"]) == of["labels"][0]) for of in (one, two)]
    examples = np.cov(right[0] - right[1], ddof=0)[~np.eye(30, dtype=bool)].mean() / 61
    seeds = scipy.stats.sem(one["score"] - two["score"]) ** 2
    _, error, freedom, alone = stats.gap(one, two)
    assert examples > seeds
    assert alone ** 2 == pytest.approx(examples, rel=0.02)
    assert error ** 2 == pytest.approx(seeds + examples, rel=0.02)
    assert stats.interval(0, error, freedom)[1] == pytest.approx(half_width(seeds, examples, 30), rel=0.02)


def test_an_error_is_student_s_where_examples_move_the_seeds_apart():
    """What one seed gains the other loses, on every resample: nothing is shared, and no variance is below 0."""
    labels, right = np.zeros(8, int), np.arange(8) < 5
    one, two = (runs_of("accuracy", np.array([1 - right, right]) ^ flip, labels) for flip in (0, 1))
    assert stats.gap(one, two) == pytest.approx((0, 25, 1, 0))  # gaps of 25 and -25 have a deviation of 25 √2


@pytest.mark.parametrize("count, expected", [(1, (4.0, np.nan, np.nan, np.nan)), (0, (np.nan,) * 4)])
def test_the_gap_of_few_pairs(count, expected):
    runs, baseline = table({"arm": [7.0]}), table({"base": [3.0]})
    assert stats.gap(runs[:count], baseline[:count]) == pytest.approx(expected, nan_ok=True)


def test_a_study_s_gaps_are_those_of_its_pairs():
    pair = stats.simulated(np.random.default_rng(5), 4, 50)
    cells = dict(zip((("x", "bitfit"), ("x", "full")), pair, strict=True))
    study = made.table({cell: runs["score"] for cell, runs in cells.items()}, labels=pair[0]["labels"][0],
                       places=["full", "bitfit"], predictions={cell: runs["predictions"] for cell, runs in cells.items()})
    row, = stats.paired_gaps(study.sample(frac=1, random_state=2), level=0.9).to_dict("records")
    middle, error, freedom, shared = stats.gap(*pair)
    found = [row[name] for name in ("gap", "error", "freedom", "examples_error")]
    assert found == pytest.approx([middle, error, freedom, shared])
    low, high = scipy.stats.t.interval(0.9, freedom, loc=middle, scale=error)
    assert (row["low"], row["high"]) == pytest.approx((low, high))


def test_an_interval_by_hand():
    """t is 2.776445 with 4 degrees of freedom at 97.5 %, 2.131847 at 95 %, and 1.959964 with any number of them."""
    assert stats.interval(1, 2, 4) == pytest.approx((1 - 2 * 2.776445, 1 + 2 * 2.776445), rel=1e-6)
    assert stats.interval(1, 2, 4, level=0.9) == pytest.approx((1 - 2 * 2.131847, 1 + 2 * 2.131847), rel=1e-6)
    assert stats.interval(1, 2, np.inf) == pytest.approx((1 - 2 * 1.959964, 1 + 2 * 1.959964), rel=1e-6)


@pytest.mark.parametrize("middle, margin", [(0.1, 1), (-0.4, 1), (0.9, 1), (-2.0, 1), (1.5, 3)])
def test_equivalence_is_two_one_sided_tests(middle, margin):
    gaps = middle + RNG.normal(0, 0.7, 6)
    found = stats.equivalence(*stats.gap(table({"one": gaps}), table({"two": [0.0] * 6}))[:3], margin=margin)
    assert found == pytest.approx(max(scipy.stats.ttest_1samp(gaps, -margin, alternative="greater").pvalue,
                                      scipy.stats.ttest_1samp(gaps, margin, alternative="less").pvalue))


def test_equivalence_by_hand():
    """A margin of 2.131847 errors is the 5 % point of t with 4 degrees of freedom; on the margin p is one half."""
    assert stats.equivalence(0, 1 / 2.131847, 4) == pytest.approx(0.05, rel=1e-5)
    assert stats.equivalence(0.5, 1, 4, margin=2.631847) == pytest.approx(0.05, rel=1e-5)
    assert stats.equivalence(1, 0.01, 9) == stats.equivalence(-1, 0.01, 9) == pytest.approx(0.5)


@pytest.mark.parametrize("middle", [-1.2, -0.6, -0.3, 0, 0.3, 0.6, 1.2])
def test_runs_are_equivalent_where_the_90_percent_interval_lies_within_the_margin(middle):
    low, high = stats.interval(middle, 0.3, 7, level=0.9)
    assert (stats.equivalence(middle, 0.3, 7) <= 0.05) == (low > -1 and high < 1)


def test_holm_by_hand():
    """In order 0.01 × 4, 0.02 × 3, 0.03 × 2 (less than what came before it) and 0.5; none is above 1."""
    assert stats.holm([0.5, 0.02, 0.01, 0.03]) == pytest.approx([0.5, 0.06, 0.04, 0.06])
    assert stats.holm([0.6, 0.9]) == pytest.approx([1, 1])


@pytest.mark.parametrize("level", [0.01, 0.05, 0.3])
def test_holm_rejects_what_stepping_down_rejects(level):
    for count in (1, 2, 5, 12):
        for _ in range(30):
            p = RNG.beta(0.3, 3, count).round(3)
            rejected = np.zeros(count, bool)
            for left, i in zip(range(count, 0, -1), np.argsort(p), strict=True):
                if p[i] > level / left:
                    break
                rejected[i] = True
            assert (stats.holm(p) <= level).tolist() == rejected.tolist()


def test_the_probability_of_improvement_by_hand():
    """Of six pairs, 3 > 2, 3 > 1 and 2 > 1 count, 2 = 2 counts half."""
    assert stats.probability_of_improvement([3, 2, 0], [2, 1]) == pytest.approx(3.5 / 6)


@pytest.mark.parametrize("ties", [0, 6], ids=["ties", "no ties"])
def test_the_probability_of_improvement_is_mann_whitney_s_u(ties):
    one, two = RNG.normal(1, 1, 7).round(ties), RNG.normal(0, 1, 9).round(ties)
    assert stats.probability_of_improvement(one, two) == pytest.approx(scipy.stats.mannwhitneyu(one, two).statistic / 63)


def test_a_deviation_by_hand():
    """Squares add up to 10; chi squared with 4 degrees of freedom is 11.143287 at 97.5 % and 0.484419 at 2.5 %."""
    expected = np.sqrt([10 / 4, 10 / 11.143287, 10 / 0.484419])
    assert stats.deviation([1, 2, 3, 4, 5]) == pytest.approx(expected, rel=1e-6)


def test_intervals_of_a_deviation_cover_it_as_often_as_they_say():
    found = pd.DataFrame([stats.deviation(values, 0.9) for values in np.random.default_rng(6).normal(70, 3, (2000, 5))],
                         columns=["deviation", "low", "high"])
    assert 0.88 < coverage(found, 3) < 0.92
    assert (found["low"] > 3).mean() == pytest.approx(0.05, abs=0.015)


def test_the_test_of_spread_is_about_the_median():
    """Brown and Forsythe's is an analysis of variance of how far each value lies from its group's median."""
    one, two = RNG.lognormal(0, 1, 8), RNG.lognormal(0, 2, 9)
    found = stats.spread_test(one, two)
    assert found == pytest.approx(scipy.stats.f_oneway(*(np.abs(group - np.median(group)) for group in (one, two))).pvalue)
    assert found == pytest.approx(scipy.stats.levene(one, two, center="median").pvalue)
    assert found != pytest.approx(scipy.stats.levene(one, two, center="mean").pvalue, rel=0.01)


@pytest.mark.parametrize("runs", [5, 10])
@pytest.mark.parametrize("draw", [lambda rng, size: rng.normal(size=size), lambda rng, size: rng.standard_t(5, size)],
                         ids=["normal", "heavy tails"])
def test_equal_spreads_are_told_apart_no_more_often_than_the_level_and_unequal_ones_more(runs, draw):
    rng = np.random.default_rng(7)
    p = [stats.spread_test(*draw(rng, (2, runs))) for _ in range(1000)]
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)
    apart = [stats.spread_test(one, 10 * two) for one, two in (draw(rng, (2, runs)) for _ in range(200))]
    assert np.mean(np.array(apart) <= 0.05) > 0.2


@pytest.mark.parametrize("deviation, gap", [(1, 1), (1, -1.5), (2, 1.8), (0.5, 1)])
def test_that_many_seeds_are_needed_and_no_fewer(deviation, gap):
    """By simulation: a paired t test sees the gap in 80 % of studies, and in fewer with one seed less."""
    rng, seeds = np.random.default_rng(8), stats.seeds_needed(deviation, gap)
    power, less = (np.mean(scipy.stats.ttest_1samp(rng.normal(gap, deviation, (20_000, count)), 0, axis=1).pvalue <= 0.05)
                   for count in (seeds, seeds - 1))
    assert less < 0.8 < power + 0.01


def test_seeds_needed_without_a_deviation():
    assert stats.seeds_needed(0.0, 2) == stats.seeds_needed(np.float64(0), 2) == 2
    assert np.isnan(stats.seeds_needed(np.nan, 2))


def test_budgets_in_any_order_reach_a_goal_at_the_same_time():
    assert stats.time_to_reach([40, 10], [70, 60], 65) == stats.time_to_reach([10, 40], [60, 70], 65) == "25 s"


def test_seeds_needed_are_those_of_published_tables():
    """Cohen's d of 0.2, 0.5 and 0.8 in a paired test, two-sided at 5 %, power 80 %; and 0.5 at 90 %."""
    assert [stats.seeds_needed(1, gap) for gap in (0.2, 0.5, 0.8)] == [199, 34, 15]
    assert stats.seeds_needed(1, 0.5, power=0.9) == 44


def test_smaller_gaps_need_more_seeds():
    needed = [stats.seeds_needed(1, gap) for gap in (0.2, 0.3, 0.5, 1, 2, 4)]
    assert needed == sorted(set(needed), reverse=True)
    assert stats.seeds_needed(3, 0.9) == stats.seeds_needed(1, -0.3) == needed[1]


def test_a_gap_that_no_affordable_number_of_seeds_would_show_needs_infinitely_many():
    assert stats.seeds_needed(1, 0.2, most=198) == np.inf
    assert stats.seeds_needed(1, 0.2, most=199) == 199


def test_simulated_runs_are_as_accurate_as_promised():
    rng = np.random.default_rng(9)
    drawn = [stats.simulated(rng, 2, 200, gap=5, accuracy=0.7) for _ in range(1000)]
    for i, accuracy in enumerate((75, 70)):
        means = [pair[i]["score"].mean() for pair in drawn]
        assert np.mean(means) == pytest.approx(accuracy, abs=3.5 * scipy.stats.sem(means))
        assert scipy.stats.sem(means) < 0.2
    one, _ = drawn[0]
    assert one["score"].tolist() == pytest.approx([
        100 * sklearn.metrics.accuracy_score(*run) for run in zip(one["labels"], one["predictions"], strict=True)])


TRUE, MANY = 5.0, 400


@pytest.fixture(scope="module", params=[(5, 0.15), (10, 0.15), (10, 0.01)], ids="{0[0]} seeds, seed_sd {0[1]}".format)
def gaps(request, few_resamples):
    """Gaps of many simulated studies of 300 examples whose true gap is 5 points."""
    (seeds, seed_sd), rng, rows = request.param, np.random.default_rng(10), []
    for _ in range(MANY):
        one, two = stats.simulated(rng, seeds, 300, gap=TRUE, seed_sd=seed_sd)
        middle, error, freedom, _ = stats.gap(one, two)
        low, high = stats.interval(middle, error, freedom)
        _, *student = stats.mean_interval(one["score"] - two["score"])
        rows.append({"gap": middle, "error": error, "low": low, "high": high, "student": student,
                     "p": stats.equivalence(middle, error, freedom, margin=TRUE)})
    return pd.DataFrame(rows)


def test_intervals_of_the_gap_cover_it_for_other_seeds_and_other_examples(gaps):
    """More often than Student's, which are for other seeds alone: those do not keep their word."""
    assert 0.93 < coverage(gaps, TRUE) < 0.97
    assert coverage(pd.DataFrame(gaps["student"].tolist(), columns=["low", "high"]), TRUE) < 0.935


def test_the_error_is_the_deviation_of_the_gap_between_studies(gaps):
    assert gaps["gap"].mean() == pytest.approx(TRUE, abs=3.5 * scipy.stats.sem(gaps["gap"]))
    assert np.sqrt((gaps["error"] ** 2).mean()) == pytest.approx(gaps["gap"].std(), rel=0.08)


def test_a_gap_on_the_margin_passes_for_none_as_often_as_the_level(gaps):
    assert np.mean(gaps["p"] <= 0.05) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / MANY))


def test_no_gap_passes_for_none_where_seeds_and_examples_are_many():
    rng = np.random.default_rng(11)
    p = [stats.equivalence(*stats.gap(*stats.simulated(rng, 20, 6000, seed_sd=0.02))[:3]) for _ in range(40)]
    assert np.mean(np.array(p) <= 0.05) > 0.8


def test_beyond_the_margin_by_hand_and_by_simulation():
    """2.131847 errors beyond the margin are the 5 % point of t with 4 degrees of freedom, but for the far tail."""
    assert stats.outside(1 + 2.131847, 1, 4, margin=1) == pytest.approx(0.05 + scipy.stats.t.sf(4.131847, 4), rel=1e-5)
    assert stats.outside(-3, 0, 1) == 0 and stats.outside(0.5, 0, 1) == 1 and stats.outside(0, 1, 4) > 0.3
    rng = np.random.default_rng(1)
    gaps = rng.normal(1.0, 1.0, (4000, 5))  # the true gap is on the margin
    p = [stats.outside(row.mean(), row.std(ddof=1) / np.sqrt(5), 4) for row in gaps]
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)


def test_the_paired_test_of_spread_by_hand():
    """Distances from medians: (1, 0, 3) and (2, 0, 1) over a mean sum of 7 / 3; (0, 2, 2) and (1, 1, 0) over 2."""
    one, two = [[4, 5, 8], [0, 2, -2]], [[1, 3, 4], [1, -1, 0]]
    further = (np.array([-1, 0, 2]) / (7 / 3) + np.array([-1, 1, 2]) / 2) / 2
    expected = scipy.stats.ttest_1samp(further, 0, alternative="greater").pvalue
    assert stats.paired_spread_test(one, two) == pytest.approx(expected)
    assert stats.paired_spread_test(one, two, 2.0) == pytest.approx(stats.paired_spread_test(one, 2 * np.array(two)))
    assert stats.paired_spread_test([[1, 1, 1]], [[2, 2, 2]]) == 1.0


@pytest.mark.parametrize("conditions, shared", [(1, 0.0), (3, 0.0), (3, 0.7)])
def test_the_paired_test_of_spread_keeps_its_level_where_conditions_share_their_seeds(conditions, shared):
    rng, wrong = np.random.default_rng(9), []
    for _ in range(1000):
        one, two = (shared ** 0.5 * rng.normal(size=5) + (1 - shared) ** 0.5 * rng.normal(size=(conditions, 5))
                    for _ in range(2))
        wrong.append(stats.paired_spread_test(one, two) <= 0.05)
    assert np.mean(wrong) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)
    assert stats.paired_spread_test(rng.normal(0, 20, (3, 10)), rng.normal(0, 1, (3, 10))) < 0.01


def test_the_ratio_of_deviations_by_hand():
    ratio, low, high = stats.deviation_ratio([0.0, 2.0, 4.0], [0.0, 1.0, 2.0])
    assert ratio == 2 and low < 2 < high
    assert stats.deviation_ratio(pd.Series([0.0, 2.0, 4.0], index=[7, 8, 9]), [0.0, 1.0, 2.0])[0] == 2
    pooled, *_ = stats.deviation_ratio([[0.0, 2.0, 4.0], [10.0, 10.0, 10.0]], [0.0, 1.0, 2.0])
    assert pooled == pytest.approx(np.sqrt(2))  # variances 4 and 0 have a mean of 2


def test_intervals_of_the_ratio_of_deviations_cover_it_about_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr(stats, "RESAMPLES", 1000)
    rng = np.random.default_rng(2)
    for groups, runs in ((1, 5), (1, 10), (3, 5)):
        found = [stats.deviation_ratio(list(rng.normal(0, 2, (groups, runs))), list(rng.normal(0, 1, (groups, runs))))
                 for _ in range(400)]
        assert 0.90 < np.mean([low <= 2 <= high for _, low, high in found]) < 0.99


def crossed(effects, values=4, base=0):
    """Runs whose score is the sum of what each seed does: ``effects`` gives each source its draws, the first the base's."""
    others = range(1, values)
    settings = [(0, 0, 0), *((v, 0, 0) for v in others), *((0, v, 0) for v in others), *((0, 0, v) for v in others),
                *((v, v, v) for v in others)]
    scores = [sum(effect[i] for effect, i in zip(effects, seeds, strict=True)) for seeds in settings]
    seeds = dict(zip(("subset_seed", "init_seed", "order_seed"), base + np.transpose(settings), strict=True))
    return table({"full": scores}).assign(**seeds)


def test_the_spread_by_source_is_that_of_the_runs_in_which_it_alone_differs():
    effects = RNG.normal(0, [[1], [2], [4]], (3, 4))
    found = variance.spread(crossed(effects).sample(frac=1, random_state=0)).set_index("source")
    expected = {name: values.std(ddof=1) for name, values in zip(("subset", "init", "order"), effects, strict=True)}
    assert found["deviation"].to_dict() == pytest.approx({**expected, "all": effects.sum(0).std(ddof=1)})
    assert set(found["runs"]) == {4}
    row = found.loc["init"]
    assert (row["low"], row["high"]) == pytest.approx(stats.deviation(effects[1])[1:])
    large = variance.spread(crossed(effects, base=2 ** 31)).set_index("source")
    assert large["deviation"].to_dict() == pytest.approx(found["deviation"].to_dict())


def test_a_run_that_is_not_ok_is_counted_in_the_spread():
    runs = crossed(np.zeros((3, 4)))
    runs.loc[1, ["status", "score"]] = ["collapsed", -9.0]
    found = variance.spread(runs).set_index("source")
    assert found["not_ok"].to_dict() == {"subset": 1, "init": 0, "order": 0, "all": 0}
    assert found.loc["subset", "deviation"] == 4.5


def test_deviations_of_known_size_are_found_by_source():
    """By simulation: the mean of the variances found is the true variance of each source, and of their sum."""
    rng, truth = np.random.default_rng(3), np.array([1.0, 2.0, 3.0])
    found = [variance.spread(crossed(rng.normal(0, truth[:, None], (3, 4)))).set_index("source")["deviation"] ** 2
             for _ in range(60)]
    mean = pd.concat(found, axis=1).mean(axis=1)
    assert mean.to_dict() == pytest.approx({"subset": 1, "init": 4, "order": 9, "all": 14}, rel=0.35)


def test_seeds_that_decide_by_hand():
    """A deviation of 1 between pairs: n have a one-sided bound of t / √n. For a distance of 1 that is 5 (t is 2.13)."""
    assert stats.seeds_to_decide(1.0, 1 / np.sqrt(5), 0.0, 5) == 5
    assert stats.seeds_to_decide(-2.0, 1 / np.sqrt(5), 0.0, 5, margin=1) == 5
    assert stats.seeds_to_decide(0.2, 1.0, 0.9, 5, margin=1.0) is None  # 1.64 × 0.9 from the examples alone
    assert stats.seeds_to_decide(1.0, 1.0, 0.0, 5, margin=1.0) is None  # on the margin


@pytest.mark.parametrize("scores, goal, expected", [
    ([50, 60, 80], 70, "15 s"), ([50, 60, 80], 81, "over 20 s"), ([50, 60, 80], 50, "under 5 s"),
    ([50, 80, 60], 80, "10 s"), ([np.nan, 50, 60], 55, "15 s")])
def test_when_a_goal_is_reached(scores, goal, expected):
    assert stats.time_to_reach([5, 10, 20], scores, goal) == expected
