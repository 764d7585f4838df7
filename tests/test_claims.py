"""Verdicts from made-up runs whose truth is known; those of the records are in test_readme."""

import numpy as np
import pandas as pd
import pytest

from studykit.evidence import paper as claims, stats

LABELS = np.arange(200) % 2


def runs(means, fractions=(0.1, 0.3, 1.0), seeds=6, deviation=0.3, seconds=None, rng=None):
    """A study's table: ``means`` gives a score to each method, or to each (task, method, fraction)."""
    rng = rng or np.random.default_rng(0)
    rows = []
    for task in ("mrpc", "cola", "stsb"):
        for fraction in fractions:
            for seed in range(seeds):
                lift = rng.normal(0, 2)  # what the seed does to all methods
                for method in {key if isinstance(key, str) else key[1]: 0 for key in means}:
                    mean = means.get((task, method, fraction), means.get(method))
                    rows.append({"task": "sst2", "name": task, "fraction": fraction, "method": method, "seed": seed,
                                 "status": "ok", "score": mean + lift + rng.normal(0, deviation), "labels": LABELS,
                                 "predictions": LABELS, "seconds": seconds, "trained": 120, "head": 20, "total": 100_000})
    return pd.DataFrame(rows).assign(task=lambda table: table.pop("name"))


@pytest.fixture(autouse=True)
def no_examples(monkeypatch):
    """Every resample of the examples is the whole, so that an interval is over seeds alone."""
    monkeypatch.setattr(stats, "_resamples", lambda examples: np.ones((20, examples)))


def verdicts(reports, budgets=None):
    found = claims.parts(reports, pd.DataFrame() if budgets is None else budgets)
    return claims.judge(found).set_index("claim")


EQUAL = {"full": 70.0, "bitfit": 70.0, "adapter": 70.0, "head": 60.0}


def test_equal_methods_match_and_neither_is_ahead():
    found = verdicts(runs(EQUAL), runs(EQUAL, (1.0,), seconds=10))["verdict"]
    assert found["match_all_data"] == found["match_fractions"] == found["match_time"] == "upheld"
    assert found["ahead_between"] != "upheld"


def test_one_task_far_behind_refutes_a_match_and_the_other_tasks_keep_theirs():
    found = verdicts(runs({**EQUAL, **{("cola", "bitfit", fraction): 60.0 for fraction in (0.1, 0.3, 1.0)}}))
    row = found.loc["match_fractions"]
    assert (row["verdict"], row["mrpc"], row["cola"], row["stsb"]) == ("refuted", "upheld", "refuted", "upheld")


@pytest.mark.parametrize("fails, expected", [(0.002, "refuted"), (0.02, "undecided")])
def test_what_contains_a_refuted_claim_is_refuted_however_many_parts_it_adds(fails, expected):
    rows = [{"claim": "match_all_data", "task": task, "fails": fails if task == "cola" else 0.9} for task in claims.TASKS]
    rows += [{**row, "claim": "match_fractions"} for row in rows]
    rows += [{"claim": "match_fractions", "task": task, "fails": 0.9} for task in 20 * claims.TASKS]
    found = claims.judge(pd.DataFrame(rows).assign(holds=1.0, needs=np.nan, estimate=0.0, unit="points"), claims.CLAIMS[:2])
    assert found["verdict"].tolist() == [expected, expected]
    assert (found["p"] <= claims.LEVEL).tolist() == 2 * [expected == "refuted"]


@pytest.mark.parametrize("lead, expected", [(2.0, "upheld"), (-2.0, "refuted"), (0.0, "undecided")])
def test_to_beat_is_to_be_shown_ahead_at_intermediate_shares(lead, expected):
    found = verdicts(runs({**EQUAL, **{(task, "bitfit", 0.3): 70.0 + lead for task in ("mrpc", "cola", "stsb")}}))
    assert found.loc["ahead_between", "verdict"] == expected


def test_few_seeds_that_differ_much_decide_nothing():
    found = verdicts(runs(EQUAL, seeds=5, deviation=3.0))
    assert set(found.drop(index=["thousandth", "gain_over_head"])["verdict"]) == {"undecided"}
    assert found.loc["match_fractions", "needs"] > 5


EVERY = {"match_all_data", "match_fractions", "stable", "ahead_between", "adapters_vary", "gain_over_head", "gain_over_full"}


@pytest.mark.parametrize("lost", [
    lambda table: table[~(table["task"].eq("cola") & table["method"].eq("bitfit"))],
    lambda table: table[table["task"] == "mrpc"],
    lambda table: table[~(table["task"].eq("cola") & table["seed"].eq(4))],
    lambda table: table.assign(score=table["score"].where(~(table["task"].eq("cola") & table["seed"].eq(4)))),
    lambda table: table.assign(score=table["score"].where(table["task"] != "cola", 0.0))], ids=[
        "no run of a method", "one task only", "fewer seeds than planned", "a run without a score", "all the same"])
def test_what_is_missing_upholds_nothing_about_all_tasks(lost):
    table = runs({**EQUAL, "adapter": 80.0}, seeds=5)
    found = verdicts(lost(table))
    assert found.loc["ahead_between", "verdict"] != "upheld" and found.loc["stable", "verdict"] != "upheld"
    if "all the same" not in str(lost) and table["score"].ne(lost(table)["score"].reindex(table.index)).any():
        assert found.loc["match_fractions", "cola"] != "refuted"
    assert set(found.loc[sorted(EVERY), "holds"].isna()) == {False}


def test_where_neither_method_learnt_anything_a_tie_is_no_match():
    table = runs(EQUAL, seeds=5)
    nothing = table["task"].eq("cola") & table["fraction"].eq(0.1)
    table.loc[nothing, ["status", "score"]] = ["constant", 0.0]
    found = verdicts(table).loc["match_fractions"]
    assert (found["verdict"], found["cola"], found["mrpc"]) == ("undecided", "undecided", "upheld")
    table.loc[nothing & table["method"].eq("full"), ["status", "score"]] = ["ok", 30.0]  # one did, and the other did not
    assert verdicts(table).loc["match_fractions", "cola"] == "refuted"


def test_a_collapsed_method_is_not_stable():
    rng, table = np.random.default_rng(1), runs(EQUAL, seeds=20)
    for method, deviation in (("full", 1.0), ("bitfit", 0.1)):
        rows = table["method"] == method
        table.loc[rows, "score"] = rng.normal(70, deviation, rows.sum())
    assert verdicts(table).loc["stable", "verdict"] == "upheld"
    table.loc[table.index[table["method"].eq("bitfit") & table["fraction"].eq(0.3)][:2], "status"] = "constant"
    assert verdicts(table).loc["stable", "verdict"] == "undecided"


def test_no_runs_decide_nothing():
    assert verdicts(runs(EQUAL)).loc["match_time", "verdict"] == "undecided"
    with pytest.raises(ValueError, match="no runs over shares of the data are on record"):
        claims.parts(pd.DataFrame(), pd.DataFrame())


@pytest.mark.parametrize("scale, expected", [(0.2, "upheld"), (12.0, "refuted")])
def test_stable_is_a_spread_less_than_that_of_full_times_the_factor(scale, expected):
    rng = np.random.default_rng(1)
    table = runs(EQUAL, seeds=20)
    for method, deviation in (("full", 1.0), ("bitfit", scale)):
        rows = table["method"] == method
        table.loc[rows, "score"] = rng.normal(70, deviation, rows.sum())
    assert verdicts(table).loc["stable", "verdict"] == expected


def test_adapters_vary_more_where_they_do():
    rng = np.random.default_rng(2)
    table = runs(EQUAL, seeds=10)
    for method, deviation in (("full", 1.0), ("adapter", 6.0)):
        rows = table["method"] == method
        table.loc[rows, "score"] = rng.normal(70, deviation, rows.sum())
    row = verdicts(table).loc["adapters_vary"]
    assert [row["verdict"], row["mrpc"], row["cola"], row["stsb"]] == ["upheld"] * 4


@pytest.mark.parametrize("elsewhere, expected", [(65.0, "upheld"), (75.0, "refuted"), (70.0, "undecided")])
def test_inconsistent_is_ahead_here_and_behind_there(elsewhere, expected):
    """Adapters gain five points over full at most shares; on one task they lose, gain or draw."""
    means = {**EQUAL, "adapter": 75.0, **{("stsb", "adapter", fraction): elsewhere for fraction in (0.1, 0.3, 1.0)}}
    assert verdicts(runs(means)).loc["gain_over_full", "verdict"] == expected
    assert verdicts(runs(means)).loc["gain_over_head", "verdict"] == "refuted"  # ahead of the head everywhere


@pytest.mark.parametrize("trained, expected", [(120, "upheld"), (900, "refuted")])
def test_a_thousandth_is_counted_without_the_head(trained, expected):
    table = runs(EQUAL).assign(trained=trained)
    table.loc[table.index[table["method"] == "bitfit"][0], ["trained", "head", "total"]] = np.nan  # a run that failed
    assert verdicts(table).loc["thousandth", "verdict"] == expected
    found = claims.parts(runs(EQUAL), pd.DataFrame()).set_index("claim").loc["thousandth"]
    assert (found["estimate"], found["where"]) == (pytest.approx(1.0), "and 0.2 of a head")
    assert verdicts(table[table["method"] != "bitfit"]).loc["thousandth", "verdict"] == "undecided"


def test_the_p_of_a_claim_is_holm_s_over_claims_of_its_smaller_one():
    found = claims.judge(claims.parts(runs(EQUAL), runs(EQUAL, (1.0,), seconds=10)))
    assert found["p"].tolist() == pytest.approx(stats.holm(found[["holds", "fails"]].min(axis=1)).tolist())
    assert ((found["verdict"] == "undecided") == (found["p"] > claims.LEVEL)).all()


def test_all_parts_must_hold_and_one_that_fails_is_enough_by_hand():
    """Holm's smallest of 0.01, 0.2 and 0.5 is 0.03; the largest p of holding decides that all hold."""
    found = pd.DataFrame({"holds": [0.9, 0.04, 0.02], "fails": [0.01, 0.2, 0.5]})
    assert claims._combined(found, mixed=False) == pytest.approx((0.9, 0.03))
    assert claims._combined(found, mixed=True) == pytest.approx((0.06, min(1, 2 * 0.5)))


@pytest.mark.parametrize("truth", ["margin", "equal"])
def test_wrong_verdicts_are_rare(truth):
    """By simulation over whole studies: with true gaps on the margin a match may be upheld, and without any gap BitFit may
    be said to be ahead or behind, in 5 % of them at most."""
    wrong, studies = 0, 100
    names = {"margin": ["match_all_data", "match_fractions"], "equal": ["ahead_between"]}[truth]
    chosen = [claim for claim in claims.CLAIMS if claim.name in names]
    for i in range(studies):
        table = runs({"full": 70.0, "bitfit": 70.0 + (claims.MARGIN if truth == "margin" else 0)}, (0.3, 1.0), 5, 0.5,
                     rng=np.random.default_rng(i))
        found = claims.judge(claims.parts(table, pd.DataFrame(), chosen), chosen)
        wrong += (found["verdict"] == "upheld").any() or (truth == "equal" and (found["verdict"] == "refuted").any())
    assert wrong / studies <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / studies)
