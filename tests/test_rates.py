"""Choosing a learning rate from made-up trials."""

from types import SimpleNamespace

import made
import numpy as np
import pandas as pd
import pytest

from studykit.evidence import stats
from studykit.study import rates

NEW, OLD = rates.RULES


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(stats, "RESAMPLES", 200)
    stats._resamples.cache_clear()
    yield
    stats._resamples.cache_clear()


def trials(scores, arm="bitfit", collapsed=(), **settings):
    """Trials from ``{rate: scores by seed}``; ``collapsed`` are (rate, seed)."""
    return pd.concat([made.table({("x", arm): values}, lr=rate, examples=100, **settings,
                                 collapsed=[("x", arm, seed) for wrong, seed in collapsed if wrong == rate])
                      for rate, values in scores.items()], ignore_index=True)


def choice(table, rule=NEW):
    row, = rates.judged(table, rule).itertuples()
    return row


def test_of_rates_within_one_error_of_the_best_the_lowest_is_taken():
    """Gaps of the best to 0.001 are 1, 1, 4: mean 2, error 1; to 0.003 they are -1, 1, 3: mean 1, error 1.15."""
    table = trials({0.001: [80, 80, 80], 0.003: [82, 80, 81], 0.01: [81, 81, 84]})
    found = choice(table)
    assert (found.rate, found.best, found.level, found.tried, found.runs, found.learnt) == (0.003, 0.01, 2, 3, 9, True)
    assert (found.behind, found.error) == (pytest.approx(1), pytest.approx(2 / 3 ** 0.5)) and found.score == 81
    assert choice(table, OLD).rate == 0.01
    assert choice(table.sample(frac=1, random_state=0)).rate == 0.003


def test_the_error_is_of_the_paired_difference():
    """A seed lifts all rates alike, so a small lead is shown."""
    lift = np.array([0, 10, 20])
    assert choice(trials({0.001: 60 + lift, 0.003: 61 + lift + [0.1, 0, -0.1]})).rate == 0.003
    assert choice(trials({0.001: 60 + lift, 0.003: 61 + lift[::-1]})).rate == 0.001


def test_a_tie_is_the_lower_rate_s():
    table = trials({0.003: [70, 70], 0.001: [70, 70], 0.01: [60, 60]})
    assert choice(table).rate == choice(table, OLD).rate == 0.001
    assert (choice(table).level, choice(table).behind, choice(table).error) == (2, 0, 0)


@pytest.mark.parametrize("rule", rates.RULES)
def test_a_rate_that_collapsed_for_one_seed_in_three_is_not_chosen(rule):
    table = trials({0.001: [70, 70, 70], 0.003: [90, 90, 50], 0.01: [90, 50, 50]},
                   collapsed=[(0.003, 2), (0.01, 1), (0.01, 2)])
    assert (choice(table, rule).rate, choice(table, rule).best) == (0.001, 0.001)


@pytest.mark.parametrize("rule", rates.RULES)
def test_where_all_collapsed_sometimes_those_that_did_least_are_looked_at(rule):
    table = trials({0.001: [50, 50, 70], 0.003: [70, 50, 70], 0.01: [90, 50, 90]},
                   collapsed=[(0.001, 0), (0.001, 1), (0.003, 1), (0.01, 1)])
    assert choice(table, rule).best == 0.01 and choice(table, rule).learnt


def test_where_none_learnt_there_is_no_choice_and_the_middle_rate_is_run():
    table = trials({0.001: [50, 49], 0.003: [40, 50], 0.01: [50, 50]})
    found = choice(table)
    assert (found.rate, found.learnt, found.level, found.score) == (0.003, False, 0, 45)
    assert np.isnan([found.best, found.behind, found.error]).all()
    old = choice(table, OLD)  # not collapsed, so the best score decides, marked
    assert (old.rate, old.best, old.learnt) == (0.01, 0.01, False)


def test_by_the_old_rule_where_all_collapsed_the_best_score_decides_and_without_any_the_middle_rate():
    """As the records of minilm have it: four constants and a 0.4, all collapsed by today's rule."""
    every = [(rate, 0) for rate in (0.0003, 0.001, 0.003, 0.01, 0.03)]
    scores = {rate: [0.0] for rate, _ in every} | {0.001: [0.4]}
    found = choice(trials(scores, collapsed=every, metric="matthews_correlation"), OLD)
    assert (found.rate, found.learnt) == (0.001, False)
    same = choice(trials({rate: [0.0] for rate, _ in every}, collapsed=every, metric="matthews_correlation"), OLD)
    assert (same.rate, same.learnt) == (0.003, False)
    assert choice(trials(scores, collapsed=every, metric="matthews_correlation")).rate == 0.003


def test_a_rate_that_scores_well_by_luck_and_learnt_nothing_is_passed_over():
    table = trials({0.001: [70, 70], 0.003: [71, 71]})
    table.loc[table["lr"] == 0.003, "learnt"] = False
    assert (choice(table).rate, choice(table).level) == (0.001, 1)


def test_with_one_seed_the_error_is_that_of_the_rows():
    labels = made.labels_for("accuracy", 200)
    rng, tables = np.random.default_rng(0), []
    for rate, share in ((0.001, 0.70), (0.003, 0.72), (0.01, 0.95)):
        answers = np.where(rng.permutation(200) < 200 * share, labels, 1 - labels)
        tables.append(made.table({("x", "full"): [100 * share]}, lr=rate, labels=labels,
                                 predictions={("x", "full"): answers[None]}))
    close, far = pd.concat(tables[:2]), pd.concat(tables)
    found = choice(close)
    assert (found.rate, found.best) == (0.001, 0.003)
    assert found.error == pytest.approx(stats.error_of_examples(tables[1], tables[0])) and 2 < found.error < 6
    assert choice(far).rate == 0.01 and choice(far).level == 1


@pytest.mark.parametrize("rule", rates.RULES)
def test_less_is_better_where_it_is(rule):
    table = trials({0.001: [1.0, 1.1, 1.0], 0.003: [0.5, 0.6, 0.5], 0.01: [0.8, 0.9, 0.8]}, metric="mean_absolute_error")
    found = choice(table, rule)
    assert (found.rate, found.best, found.level) == (0.003, 0.003, 1) and found.score == pytest.approx(0.5333, abs=1e-3)


def test_each_task_and_arm_is_its_own():
    table = pd.concat([trials({0.001: [70, 71], 0.003: [60, 61]}), trials({0.1: [70, 71], 0.3: [80, 81]}, "head")])
    found = rates.judged(table)
    assert found[["task", "arm", "rate"]].values.tolist() == [["x", "bitfit", 0.001], ["x", "head", 0.3]]
    assert {"task_title", "arm_place"} <= set(found.columns)


def test_what_cannot_be_judged_is_an_error_in_one_sentence():
    table = trials({0.001: [70, 71], 0.003: [60, 61]})
    with pytest.raises(ValueError, match="a rule for rates is one of lowest within one error, best score, got 'best'"):
        rates.judged(table, "best")
    table.loc[1, "score"] = np.nan
    with pytest.raises(ValueError, match="1 trials of bitfit on x have no accuracy, for their records lack what it needs"):
        rates.judged(table)


@pytest.mark.parametrize("tried, rate, best, expected", [
    ([0.001, 0.003, 0.01], 0.003, 0.003, []), ([0.001, 0.003, 0.01], 0.001, 0.001, [0.0003]),
    ([0.001, 0.003, 0.01], 0.003, 0.01, [0.03]), ([0.001, 0.003, 0.01], 0.001, 0.01, [0.0003, 0.03]),
    ([0.01, 0.001], 0.01, 0.01, [0.1]), ([0.001], 0.001, 0.001, [])])
def test_beyond_an_edge_on_which_the_chosen_or_the_best_rate_lies(tried, rate, best, expected):
    row = pd.Series({"rate": rate, "best": best, "learnt": True})
    assert rates.beyond(row, tried) == expected
    assert rates.beyond(pd.Series({**row, "learnt": False}), tried) == []


def test_effort_is_trials_and_seconds():
    found = rates.effort(trials({0.001: [70, 71], 0.003: [60, 61]}, train_seconds=90.0))
    assert found.loc[("x", "bitfit")].to_dict() == {"trials": 4, "seconds": 360.0}


@pytest.mark.parametrize("tried", [[3e-5, 5e-5], [2e-5, 3e-5], [2.2e-5, 2.6e-5, 4e-5], [1e-3, 3e-3], [1e-3, 1.1e-3]],
                         ids=str)
def test_a_rate_beyond_the_edge_is_beyond_it_however_near_its_neighbours_are(tried):
    for edge, away in ((tried[0], -1), (tried[-1], 1)):
        (further,) = rates.beyond(SimpleNamespace(rate=edge, best=edge, learnt=True), tried)
        assert away * (further - edge) > 0
