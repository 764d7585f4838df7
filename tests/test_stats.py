import numpy as np
import pandas as pd
import pytest
import scipy.stats

from studykit import stats

RNG = np.random.default_rng(0)


def table(scores, **columns):
    """A study's table from ``{method: scores by seed}``; ``None`` is a run without a score."""
    rows = [{"task": "cola", "fraction": 0.5, "method": method, "seed": seed, "score": np.nan if score is None else score,
             "status": "failed" if score is None else "ok", **columns}
            for method, values in scores.items() for seed, score in enumerate(values)]
    return pd.DataFrame(rows)


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


def test_gaps_are_those_of_a_paired_test():
    full, bitfit = RNG.normal(70, 3, 6), RNG.normal(69, 3, 6)
    row, = stats.paired_gaps(table({"full": full, "bitfit": bitfit})).to_dict("records")
    low, high = scipy.stats.ttest_rel(bitfit, full).confidence_interval(0.95)
    assert (row["gap"], row["low"], row["high"]) == pytest.approx(((bitfit - full).mean(), low, high))
    assert (row["task"], row["fraction"], row["method"], row["pairs"], row["lost"]) == ("cola", 0.5, "bitfit", 6, 0)


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
    with pytest.raises(ValueError, match="duplicate"):
        stats.paired_gaps(doubled)


def test_a_missing_baseline_is_an_error():
    with pytest.raises(ValueError, match="no run of the baseline 'full' in the table: it has bitfit, head"):
        stats.paired_gaps(table({"bitfit": [1.0], "head": [1.0]}))


STUDIES, SEEDS = 4000, 5


@pytest.fixture(scope="module")
def simulated():
    """Many studies of five seeds: the mean is 70, the gap -2, and what a seed does to both methods is most of the noise."""
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 4, (STUDIES, SEEDS))
    study, seed = np.indices((STUDIES, SEEDS))
    full, bitfit = 70 + shared + rng.normal(0, 1, shared.shape), 68 + shared + rng.normal(0, 1, shared.shape)
    return pd.concat([pd.DataFrame({"task": "cola", "fraction": study.ravel(), "seed": seed.ravel(), "method": method,
                                    "score": scores.ravel(), "status": "ok"})
                      for method, scores in (("full", full), ("bitfit", bitfit))])


def coverage(intervals, truth):
    return np.mean((intervals["low"] <= truth) & (truth <= intervals["high"]))


@pytest.fixture(scope="module")
def means(simulated):
    return stats.summary(simulated[simulated["method"] == "full"])


def test_intervals_of_the_mean_cover_it_as_often_as_they_say(means):
    assert len(means) == STUDIES
    assert 0.935 < coverage(means, 70) < 0.965


def test_intervals_of_the_gap_cover_it_as_often_as_they_say_and_are_narrower_for_the_pairing(simulated, means):
    gaps = stats.paired_gaps(simulated)
    assert len(gaps) == STUDIES
    assert 0.935 < coverage(gaps, -2) < 0.965
    assert (gaps["high"] - gaps["low"]).mean() < 0.5 * (means["high"] - means["low"]).mean()


def test_the_summary_counts_what_is_not_ok():
    """A constant answer keeps its score and is counted; a failed run is counted and has none."""
    runs = table({"full": [10.0, 20.0, 30.0], "bitfit": [10.0, None, None]})
    runs.loc[(runs["method"] == "full") & (runs["seed"] == 2), "status"] = "constant"
    full, bitfit = stats.summary(runs).to_dict("records")
    assert (full["method"], full["score"], full["seeds"], full["not_ok"]) == ("full", 20.0, 3, 1)
    assert (bitfit["method"], bitfit["score"], bitfit["seeds"], bitfit["not_ok"]) == ("bitfit", 10.0, 1, 2)
    assert np.isnan([bitfit["low"], bitfit["high"]]).all()
    assert (full["low"], full["high"]) == pytest.approx(stats.mean_interval([10, 20, 30])[1:])


def test_a_group_without_any_score_is_still_there():
    row, = stats.summary(table({"full": [None, None]})).to_dict("records")
    assert (row["seeds"], row["not_ok"]) == (0, 2)
    assert np.isnan(row["score"])
