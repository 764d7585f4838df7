"""Verdicts from made-up runs whose truth is known; those of the records are in test_readme."""

import made
import numpy as np
import pandas as pd
import pytest

from studykit.evidence import paper, stats

PAPER = tuple(paper.TASKS)


def runs(means, fractions=(0.1, 0.3, 1.0), seeds=6, deviation=0.3, rng=None, **columns):
    """A study's table: ``means`` gives a score to each arm, or to each (task, arm, fraction)."""
    rng, scores = rng or np.random.default_rng(0), {}
    for task, fraction in ((task, fraction) for task in PAPER for fraction in fractions):
        lift = rng.normal(0, 2, seeds)  # what a seed does to all arms
        for arm in {key if isinstance(key, str) else key[1]: 0 for key in means}:
            mean = means.get((task, arm, fraction), means.get(arm))
            scores[task, arm, fraction] = mean + lift + rng.normal(0, deviation, seeds)
    return made.table(scores, titles=paper.TASKS, examples=20, **columns)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """No choice of examples matters to made-up runs, so a few are enough."""
    monkeypatch.setattr(stats, "_resamples", lambda examples: np.ones((20, examples)))


def verdicts(reports, budgets=None, **planned):
    return paper.judge(paper.parts(reports, pd.DataFrame() if budgets is None else budgets, **planned)).set_index("claim")


def spread(table, deviations, seed=1):
    """The table with scores that spread so much by arm."""
    rng, table = np.random.default_rng(seed), table.copy()
    for arm, deviation in deviations.items():
        rows = table["arm"] == arm
        table.loc[rows, "score"] = rng.normal(70, deviation, rows.sum())
    return table


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
    rows = [{"claim": "match_all_data", "task": task, "fails": fails if task == "cola" else 0.9} for task in PAPER]
    rows += [{**row, "claim": "match_fractions"} for row in rows]
    rows += [{"claim": "match_fractions", "task": task, "fails": 0.9} for task in 20 * PAPER]
    found = paper.judge(pd.DataFrame(rows).assign(holds=1.0, needs=np.nan, estimate=0.0, unit="points"), paper.CLAIMS[:2])
    assert found["verdict"].tolist() == [expected, expected]
    assert (found["p"] <= paper.LEVEL).tolist() == 2 * [expected == "refuted"]


@pytest.mark.parametrize("lead, expected", [(2.0, "upheld"), (-2.0, "refuted"), (0.0, "undecided")])
def test_to_beat_is_to_be_shown_ahead_at_intermediate_shares(lead, expected):
    found = verdicts(runs({**EQUAL, **{(task, "bitfit", 0.3): 70.0 + lead for task in PAPER}}))
    assert found.loc["ahead_between", "verdict"] == expected


def test_few_seeds_that_differ_much_decide_nothing():
    found = verdicts(runs(EQUAL, seeds=5, deviation=3.0))
    assert set(found.drop(index=["thousandth", "gain_over_head"])["verdict"]) == {"undecided"}
    assert found.loc["match_fractions", "needs"] > 5


def test_a_margin_is_an_argument():
    table = runs({**EQUAL, "bitfit": 68.0})
    assert verdicts(table).loc["match_all_data", "verdict"] == "refuted"
    assert verdicts(table, margin=4.0).loc["match_all_data", "verdict"] == "upheld"


def test_where_no_part_has_an_estimate_there_is_no_evidence_on_a_task():
    table = runs(EQUAL, seeds=5)
    found = paper.parts(table[~(table["task"].eq("cola") & table["arm"].eq("bitfit"))], pd.DataFrame())
    shown = paper.without_evidence(paper.judge(found), found).set_index("claim")
    assert shown.loc["match_all_data", "cola"] == "no evidence" != shown.loc["match_all_data", "mrpc"]
    assert "no evidence" not in set(shown["verdict"])


EVERY = {"match_all_data", "match_fractions", "stable", "ahead_between", "adapters_vary", "gain_over_head", "gain_over_full"}
LOST = {
    "no run of an arm": lambda table: table[~(table["task"].eq("cola") & table["arm"].eq("bitfit"))],
    "no run of the baseline": lambda table: table[~(table["task"].eq("cola") & table["arm"].eq("full"))],
    "one task only": lambda table: table[table["task"] == "mrpc"],
    "fewer seeds than planned": lambda table: table[~(table["task"].eq("cola") & table["seed"].eq(4))],
    "a run without a score": lambda table: table.assign(
        score=table["score"].where(~(table["task"].eq("cola") & table["seed"].eq(4)))),
    "a share that one task lacks": lambda table: table[~(table["task"].eq("cola") & table["fraction"].eq(0.3))],
    "a share that one baseline lacks": lambda table: table[~(table["task"].eq("cola") & table["fraction"].eq(0.3)
                                                             & table["arm"].eq("full"))],
    "all the same": lambda table: table.assign(score=table["score"].where(table["task"] != "cola", 70.0))}


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_what_is_missing_upholds_nothing_about_all_tasks(lost):
    table = runs({**EQUAL, "bitfit": 80.0, "adapter": 80.0}, seeds=5)
    table = spread(table, {"bitfit": 0.1, "full": 5.0, "adapter": 25.0})
    whole, found = verdicts(table), verdicts(lost(table))
    for name in ("ahead_between", "stable", "match_fractions", "adapters_vary"):
        assert found.loc[name, "verdict"] != "upheld"
        assert found.loc[name, "holds"] >= min(whole.loc[name, "holds"], 0.05)
    assert not found.loc[sorted(EVERY), ["holds", "fails"]].isna().any(axis=None)


def test_more_seeds_than_there_are_were_planned():
    assert verdicts(runs(EQUAL, seeds=5, deviation=0.1)).loc["match_fractions", "verdict"] == "upheld"
    found = paper.parts(runs(EQUAL, seeds=5, deviation=0.1), pd.DataFrame(), seeds=6)
    assert set(found.loc[found["unit"] != "thousandths", "why"]) == {"fewer than 6 pairs of runs"}
    assert set(paper.judge(found).set_index("claim").drop(index="thousandth")["verdict"]) == {"undecided"}


def test_where_the_baseline_has_not_learnt_a_place_decides_no_claim():
    table = runs(EQUAL, seeds=5)
    nothing = table["task"].eq("cola") & table["fraction"].eq(0.1)
    table.loc[nothing, ["status", "score", "learnt"]] = ["collapsed", 50.0, False]
    found = verdicts(table).loc["match_fractions"]
    assert (found["verdict"], found["cola"], found["mrpc"]) == ("undecided", "undecided", "upheld")
    bitfit = nothing & table["arm"].eq("bitfit")
    table.loc[bitfit, ["status", "score", "learnt"]] = ["ok", 80.0, True]  # far ahead of a baseline that knows nothing
    assert verdicts(table).loc["match_fractions", "cola"] == "undecided"
    table.loc[nothing & table["arm"].eq("full"), ["status", "score", "learnt"]] = ["ok", 70.0, True]
    table.loc[bitfit, ["status", "score", "learnt"]] = ["collapsed", 50.0, False]  # it learnt, and BitFit did not
    assert verdicts(table).loc["match_fractions", "cola"] == "refuted"


def test_a_collapsed_run_counts_at_its_score():
    table = runs(EQUAL, seeds=5)
    fallen = table["arm"].eq("adapter") & table["seed"].eq(2)
    table.loc[fallen, ["status", "score", "learnt"]] = ["collapsed", 50.0, False]
    found = paper.parts(table, pd.DataFrame()).query("claim == 'gain_over_full'")
    assert found["not_ok"].tolist() == [1] * 9 and (found["estimate"] < -3).all()


def test_spreads_are_of_places_where_the_baseline_has_learnt():
    table = spread(runs(EQUAL, seeds=10), {"full": 1.0, "adapter": 6.0}, 2)
    nothing = table["fraction"].eq(0.1)
    table.loc[nothing & table["arm"].eq("full"), ["score", "learnt"]] = [50.0, False]
    found = paper.parts(table, pd.DataFrame()).query("claim == 'adapters_vary'")
    ratio = stats.deviation_ratio(*[[group["score"].to_numpy() for _, group in table[(table["task"] == "mrpc") & ~nothing
                                     & (table["arm"] == arm)].groupby("fraction")] for arm in ("adapter", "full")])
    assert found.iloc[0][["estimate", "low", "high"]].tolist() == pytest.approx(list(ratio))
    table.loc[table["arm"] == "full", "learnt"] = False
    found = paper.parts(table, pd.DataFrame()).query("claim == 'adapters_vary'")
    assert set(found["why"]) == {"full has not learnt"} and set(found["holds"]) == set(found["fails"]) == {1.0}


def test_a_collapsed_method_is_not_stable():
    table = spread(runs(EQUAL, seeds=20), {"full": 1.0, "bitfit": 0.1})
    assert verdicts(table).loc["stable", "verdict"] == "upheld"
    table.loc[table.index[table["arm"].eq("bitfit") & table["fraction"].eq(0.3)][:2], "status"] = "collapsed"
    assert verdicts(table).loc["stable", "verdict"] == "undecided"


def test_no_runs_decide_nothing():
    assert verdicts(runs(EQUAL)).loc["match_time", "verdict"] == "undecided"
    with pytest.raises(ValueError, match="no runs over shares of the data are on record"):
        paper.parts(pd.DataFrame(), pd.DataFrame())


@pytest.mark.parametrize("scale, expected", [(0.2, "upheld"), (12.0, "refuted")])
def test_stable_is_a_spread_less_than_that_of_full_times_the_factor(scale, expected):
    assert verdicts(spread(runs(EQUAL, seeds=20), {"full": 1.0, "bitfit": scale})).loc["stable", "verdict"] == expected


def test_adapters_vary_more_where_they_do():
    row = verdicts(spread(runs(EQUAL, seeds=10), {"full": 1.0, "adapter": 6.0}, 2)).loc["adapters_vary"]
    assert [row["verdict"], row["mrpc"], row["cola"], row["stsb"]] == ["upheld"] * 4


@pytest.mark.parametrize("elsewhere, expected", [(65.0, "upheld"), (75.0, "refuted"), (70.0, "undecided")])
def test_inconsistent_is_ahead_here_and_behind_there(elsewhere, expected):
    """Adapters gain five points over full at most shares; on one task they lose, gain or draw."""
    means = {**EQUAL, "adapter": 75.0, **{("stsb", "adapter", fraction): elsewhere for fraction in (0.1, 0.3, 1.0)}}
    found = verdicts(runs(means))
    assert found.loc["gain_over_full", "verdict"] == expected
    assert found.loc["gain_over_head", "verdict"] == "refuted"  # ahead of the head alone everywhere


@pytest.mark.parametrize("trained, expected", [(120, "upheld"), (900, "refuted")])
def test_a_thousandth_is_counted_without_the_head(trained, expected):
    table = runs(EQUAL, trained=trained).astype({"trained": float})
    table.loc[table.index[table["arm"] == "bitfit"][0], ["trained", "head", "total"]] = np.nan  # a run that diverged
    assert verdicts(table).loc["thousandth", "verdict"] == expected
    found = paper.parts(runs(EQUAL), pd.DataFrame()).set_index("claim").loc["thousandth"]
    assert (found["estimate"], found["where"]) == (pytest.approx(1.0), "besides 0.2 ‰ in the head")
    assert verdicts(table[table["arm"] != "bitfit"]).loc["thousandth", "verdict"] == "undecided"


def test_the_paper_s_methods_are_found_by_their_default_options_or_by_their_label():
    table = runs(EQUAL)
    assert paper.arms(table) == {"full": "full", "bitfit": "bitfit", "adapter": "adapter", "head": "head"}
    table["arm"] = table["arm"].replace({"full": "all weights"})
    table.loc[table["arm"] == "adapter", "options"] = "bottleneck=16"
    assert paper.arms(table) == {"full": "all weights", "bitfit": "bitfit", "adapter": "adapter", "head": "head"}
    other = table.loc[table["arm"] == "adapter"].assign(arm="adapters of 64", options="")
    for both in (pd.concat([table, other]), pd.concat([other, table])):
        assert paper.arms(both)["adapter"] == "adapters of 64"
    renamed = table.assign(arm=table["arm"].replace({"adapter": "small"}))
    assert "adapter" not in paper.arms(renamed)
    assert paper.missing(renamed) == ("Of the paper's tasks and methods this study lacks adapter: what is claimed of that "
                                      "stays undecided.")
    assert verdicts(table).loc["match_fractions", "verdict"] == "upheld"


def test_a_study_without_the_paper_s_tasks_or_methods_gets_an_empty_table_and_a_sentence():
    own = made.table({("tickets", "full"): [70.0] * 5, ("tickets", "bitfit"): [71.0] * 5})
    found = paper.parts(own, pd.DataFrame())
    assert found.empty and list(found.columns) == list(paper.COLUMNS)
    assert paper.judge(found).empty and "verdict" in paper.judge(found)
    assert paper.missing(own) == ("Of the paper's tasks and methods this study lacks MRPC, CoLA, STS-B, adapter, head: none "
                                  "of its claims can be judged.")
    alone = runs(EQUAL)[lambda table: table["arm"] == "head"]
    assert paper.parts(alone, pd.DataFrame()).empty and paper.missing(alone).endswith("none of its claims can be judged.")
    timed = runs(EQUAL)[runs(EQUAL)["task"] == "stsb"]
    assert paper.missing(runs(EQUAL), runs(EQUAL)) == ""
    assert paper.missing(runs(EQUAL), timed) == (
        "Within budgets there is no run on MRPC, CoLA: what is claimed of them stays undecided.")
    assert paper.missing(runs(EQUAL)) == "" and paper.missing(pd.DataFrame()) != ""


def test_tasks_that_are_not_the_paper_s_are_passed_over_and_titles_are_the_table_s():
    table = runs(EQUAL).assign(task_title=lambda table: table["task"].replace({"mrpc": "Paraphrases"}))
    more = pd.concat([table, made.table({("tickets", arm): [50.0] * 6 for arm in EQUAL}).assign(fraction=0.77)])
    found = paper.parts(more, pd.DataFrame())
    pd.testing.assert_frame_equal(found, paper.parts(table, pd.DataFrame()))
    assert set(found.loc[found["task"] == "mrpc", "task_title"]) == {"Paraphrases"}
    without = paper.parts(table[table["task"] != "stsb"], pd.DataFrame())
    assert set(without.loc[without["task"] == "stsb", "task_title"]) == {"STS-B"}


def test_the_p_of_a_claim_is_holm_s_over_claims_of_its_smaller_one():
    found = paper.judge(paper.parts(runs(EQUAL), runs(EQUAL, (1.0,), seconds=10)))
    assert found["p"].tolist() == pytest.approx(stats.holm(found[["holds", "fails"]].min(axis=1)).tolist())
    assert ((found["verdict"] == "undecided") == (found["p"] > paper.LEVEL)).all()


def test_verdicts_of_several_studies_stand_side_by_side():
    """A study that lacks the runs of a claim has not tested it; one without any verdict has no column."""
    small = paper.judge(paper.parts(runs({"full": 70.0, "bitfit": 60.0}), pd.DataFrame(), seeds=6))
    found = paper.across({"small": small, "large": small.assign(verdict="undecided"), "none": paper.judge(pd.DataFrame())})
    assert list(found.columns) == ["claim", "statement", "small", "large"] and len(found) == len(paper.CLAIMS)
    by_claim = found.set_index("claim")
    assert tuple(by_claim.loc["match_fractions", ["small", "large"]]) == ("refuted", "undecided")
    assert set(by_claim.loc["match_time", ["small", "large"]]) == {"untested"}


def test_all_parts_must_hold_and_one_that_fails_is_enough_by_hand():
    """Holm's smallest of 0.01, 0.2 and 0.5 is 0.03; the largest p of holding decides that all hold."""
    found = pd.DataFrame({"holds": [0.9, 0.04, 0.02], "fails": [0.01, 0.2, 0.5]})
    assert paper._combined(found, mixed=False) == pytest.approx((0.9, 0.03))
    assert paper._combined(found, mixed=True) == pytest.approx((0.06, min(1, 2 * 0.5)))


@pytest.mark.parametrize("truth", ["margin", "equal"])
def test_wrong_verdicts_are_rare(truth):
    """By simulation over whole studies: with true gaps on the margin a match may be upheld, and without any gap BitFit may
    be said to be ahead or behind, in 5 % of them at most."""
    wrong, studies = 0, 40
    names = {"margin": ["match_all_data", "match_fractions"], "equal": ["ahead_between"]}[truth]
    chosen = [claim for claim in paper.CLAIMS if claim.name in names]
    for i in range(studies):
        table = runs({"full": 70.0, "bitfit": 70.0 + (paper.MARGIN if truth == "margin" else 0)}, (0.3, 1.0), 5, 0.5,
                     rng=np.random.default_rng(i))
        found = paper.judge(paper.parts(table, pd.DataFrame(), claims=chosen), chosen)
        wrong += (found["verdict"] == "upheld").any() or (truth == "equal" and (found["verdict"] == "refuted").any())
    assert wrong / studies <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / studies)
