"""Facts are true sentences: on a table, on the same table with every ranking turned round, and where nothing can be told."""

import json
import re
import types

import made
import numpy as np
import pandas as pd
import pytest

from studykit import paths
from studykit.evidence import stats
from studykit.telling import facts, words
from studykit.telling.story import plain

TITLES = {"essays": "Essays", "prices": "Prices", "letters": "Letters"}
NOISE = np.array([-0.4, 0.1, 0.3, -0.2, 0.2])


def runs(levels, shares=(1.0,), metric="accuracy", **options):
    """A table with five seeds about a level for each task and arm, or each share of them."""
    scores = {}
    for i, ((task, arm), level) in enumerate(levels.items()):
        for j, share in enumerate(shares):
            middle = level[j] if isinstance(level, tuple) else level
            scores[task, arm, share] = list(middle + np.roll(NOISE, i))
    return made.table(scores, metric=metric, titles=TITLES, **options)


def said(found):
    return [fact.sentence for fact in found]


def kinds(found):
    return [fact.kind for fact in found]


LEVELS = {("essays", "all"): 80.0, ("essays", "few"): 72.0, ("essays", "none"): 60.0,
          ("prices", "all"): 70.0, ("prices", "few"): 75.0, ("prices", "none"): 69.9}


@pytest.fixture
def table():
    return runs(LEVELS)


# Gaps


def test_a_gap_is_told_with_its_size_and_interval_in_points(table):
    gaps = stats.paired_gaps(table)
    behind, ahead, *_ = facts.gaps(gaps)
    row = gaps.iloc[0]
    assert behind.sentence == (f"`few` is behind `all` on Essays with all of the data by {-row['gap']:.1f} points "
                               f"({-row['high']:.1f} to {-row['low']:.1f}), 5 pairs of runs.")
    assert behind.about == {"task": "essays", "arm": "few", "fraction": 1.0, "baseline": "all"}
    assert behind.numbers["gap"] == pytest.approx(-8) and behind.numbers["pairs"] == 5
    assert ahead.sentence.startswith("`few` is ahead of `all` on Prices with all of the data by 5.0 points (")


def test_turned_round_every_sentence_turns(table):
    turned = table.assign(score=150 - table["score"])
    for now, then in zip(facts.gaps(stats.paired_gaps(table)), facts.gaps(stats.paired_gaps(turned)), strict=True):
        swapped = {"behind": "ahead", "ahead": "behind"}.get(now.kind, now.kind)
        assert then.kind == swapped and now.numbers["gap"] == pytest.approx(-then.numbers["gap"])
    order, = said(facts.order(turned[turned["task"] == "essays"]))
    assert order == "On Essays with all of the data: `none` 90.0, `few` 78.0 and `all` 70.0 (means of 5 runs)."


def test_a_match_is_shown_within_the_margin_and_not_without_one(table):
    gaps = stats.paired_gaps(table)
    near = gaps[(gaps["task"] == "prices") & (gaps["arm"] == "none")]
    match, = facts.gaps(near, margin=1.0)
    assert match.kind == "match"
    assert match.sentence.startswith("`none` matches `all` on Prices with all of the data, within 1 point: the gap is -0.1 "
                                     "points (90 % interval ")
    assert kinds(facts.gaps(near, margin=0.2)) == ["undecided"]
    assert kinds(facts.gaps(near, margin={})) == ["undecided"]


def test_where_the_baseline_has_not_learnt_nothing_is_told(table):
    silent = table.assign(learnt=table["learnt"] & (table["arm"] != "all"))
    found = facts.gaps(stats.paired_gaps(silent), margin=50)
    assert set(kinds(found)) == {"untold"}
    assert found[0].sentence == ("How `few` compares with `all` on Essays with all of the data cannot be told: `all` has "
                                 "not learnt there.")
    single = stats.paired_gaps(table[table["seed"] == 0])
    assert facts.gaps(single)[0].sentence.endswith("cannot be told: that takes two pairs of runs, there is 1.")


def test_what_is_less_is_better_is_told_the_right_way_round():
    errors = runs({("prices", "all"): 500.0, ("prices", "few"): 900.0}, metric="mean_absolute_error")
    errors = errors.assign(learnt=True)
    fact, = facts.gaps(stats.paired_gaps(errors))
    assert fact.kind == "behind"
    assert fact.sentence.startswith("`few` is behind `all` on Prices with all of the data by 400 (mean absolute error) (")
    order, = said(facts.order(errors))
    assert order == ("On Prices with all of the data: `all` 500 and `few` 900 (lower is better; means of 5 runs).")
    assert "lower is better" in said(facts.chance(errors))[0]


SHARES = (0.1, 0.3, 1.0)


def test_several_places_become_one_sentence():
    table = runs({("essays", "all"): 80.0, ("essays", "few"): (85.0, 80.0, 72.0)}, SHARES)
    gaps = stats.paired_gaps(table)
    fact, = facts.gaps(gaps)
    assert fact.sentence == ("`few` against `all` on Essays: behind with all of the data by 8.0 points; ahead with 10 % by "
                             "5.0 points; a match with 30 %.")
    assert fact.kind == "mixed" and fact.numbers == {"behind": 1, "ahead": 1, "match": 1}
    crossing, = facts.crossings(gaps)
    assert crossing.sentence == "On Essays `few` is ahead of `all` with 10 % of the data and behind it with all of the data."
    straight = stats.paired_gaps(runs({("essays", "all"): 80.0, ("essays", "few"): 70.0}, SHARES))
    assert said(facts.gaps(straight)) == ["`few` against `all` on Essays: behind at all 3 shares by 10.0 points."]
    assert kinds(facts.crossings(straight)) == ["no_crossing"]


def test_many_gaps_become_a_sentence_an_arm():
    levels = {(task, f"arm {i}"): 80.0 - 3 * i for task in TITLES for i in range(8)}
    found = facts.gaps(stats.paired_gaps(runs(levels, SHARES)))
    assert len(found) == 7 and all(len(sentence) < 250 for sentence in said(found))
    assert said(found)[6] == ("`arm 7` against `arm 0`: behind in 9 of 9 comparisons by up to 21.0 points, on Essays with "
                              "10 % of the data.")
    alone = stats.paired_gaps(runs(levels))
    assert said(facts.gaps(alone))[0] == ("`arm 1` against `arm 0` with all of the data: behind on all 3 tasks by up to 3.0 "
                                          "points, on Essays.")
    tally, = said(facts.tally(alone))
    assert tally == ("Of 21 gaps to `arm 0`: 21 behind and 0 a match. Of 21 such intervals about 1 misses by chance.")


def test_the_answer_is_two_sentences_of_the_last_place(table):
    answer, = said(facts.answer(stats.paired_gaps(table)))
    assert answer == ("With all of the data, `few` is behind `all` on Essays, `few` is ahead of `all` on Prices, `none` is "
                      "behind `all` on Essays and `none` matches `all` on Prices.")
    open_ = stats.paired_gaps(table.assign(learnt=False))
    nothing, = said(facts.answer(open_))
    assert nothing == ("With all of the data, `few` and `none` are not shown ahead of `all`, behind it, or level with it on "
                       "Essays and Prices. `all` has not learnt on Essays and Prices, so no gap to it can be told there.")


def test_no_gap_fact_contradicts_its_numbers():
    rng = np.random.default_rng(0)
    levels = {(task, f"arm {i}"): tuple(rng.uniform(55, 80, 3)) for task in TITLES for i in range(4)}
    gaps = stats.paired_gaps(runs(levels, SHARES))
    for share in SHARES:
        for fact in facts.gaps(gaps[gaps["fraction"] == share]):
            low, high = fact.numbers["low"], fact.numbers["high"]
            holds = {"behind": high < 0, "ahead": low > 0, "undecided": low <= 0 <= high,
                     "match": abs(fact.numbers["gap"]) < 1}
            assert holds[fact.kind], fact


# Runs


def test_coverage_says_what_there_is_and_what_is_missing(table):
    assert said(facts.coverage(table)) == ["On record: 30 runs of 3 arms, 2 tasks and 5 seeds."]
    some = table[(table["task"] == "essays") | (table["arm"] == "all")]
    assert said(facts.coverage(some, wanted=30)) == [
        "On record: 20 runs of 3 arms, 2 tasks and 5 seeds.", "Of 30 planned runs 10 are not on record.",
        "`few` has no run on Prices.", "`none` has no run on Prices."]
    assert said(facts.coverage(table.iloc[:1])) == ["On record: 1 run of 1 arm, 1 task and 1 seed."]


def test_coverage_says_of_which_arm_there_is_no_run_at_a_share_that_others_have():
    rows = pd.DataFrame([{"task": "prices", "task_title": "Prices", "task_place": 0, "arm": arm, "arm_place": place,
                          "fraction": fraction, "seconds": None, "seed": 0}
                         for place, arm in enumerate(("all", "few")) for fraction in (0.1, 0.3)])
    assert said(facts.coverage(rows.iloc[:3], wanted=4))[-1] == "`few` has no run on Prices with 30 % of the data."
    also = rows.iloc[[0, 2]].assign(task="essays", task_title="Essays")
    assert said(facts.coverage(pd.concat([rows, also]), wanted=8))[-1] == \
        "`all` and `few` have no run on Essays with 30 % of the data."
    assert said(facts.coverage(rows, wanted=8)) == ["On record: 4 runs of 2 arms, 1 task, 2 shares and 1 seed.",
                                                    "Of 8 planned runs 4 are not on record."]


@pytest.mark.parametrize("tell", [facts.coverage, facts.not_ok, facts.learnt, facts.chance, facts.order, facts.ends,
                                  facts.parameters, facts.gaps, facts.tally, facts.crossings, facts.answer, facts.spread,
                                  facts.rates, facts.effort, facts.claims])
def test_of_an_empty_table_it_is_said_that_there_is_nothing(tell):
    for empty in (pd.DataFrame(), runs(LEVELS).iloc[:0]):
        assert all(fact.kind in ("empty", "answer") for fact in tell(empty))


def test_collapsed_runs_are_counted_where_they_are(table):
    assert said(facts.not_ok(table)) == ["None of 30 runs collapsed or diverged."]
    fallen = runs(LEVELS, collapsed=[("essays", "few", 0), ("essays", "few", 1), ("prices", "none", 2)],
                  diverged=[("prices", "all", 0)])
    assert said(facts.not_ok(fallen)) == [
        "3 of 30 runs collapsed: `few` on Essays 2 of 5 and `none` on Prices 1 of 5.",
        "1 of 30 runs diverged: `all` on Prices 1 of 5."]


def test_where_nothing_was_learnt_is_told_once():
    table = runs({("essays", "all"): 80.0, ("essays", "few"): 80.0, ("prices", "all"): (40.0, 40.0, 80.0),
                  ("prices", "few"): 40.0, ("letters", "all"): 40.0, ("letters", "few"): 40.0}, SHARES)
    assert said(facts.learnt(table)) == [
        "On Essays all runs of every arm learnt, at every share.",
        "On Prices no arm learnt in most of its runs with 10 and 30 % of the data: a tie there says nothing.",
        "On Prices learnt: most runs of `all` with all of the data; of `few` nowhere.",
        "On Letters no arm learnt in most of its runs, at every share: a tie there says nothing."]
    single = table[table["seed"].eq(0) & table["task"].ne("letters")]
    assert said(facts.learnt(single)) == [
        "On Essays every arm learnt, at every share.",
        "On Prices no arm learnt with 10 and 30 % of the data: a tie there says nothing.",
        "On Prices learnt: `all` with all of the data; `few` nowhere."]
    one = table[table["fraction"].eq(1) & table["task"].eq("prices")]
    assert said(facts.learnt(one)) == ["On Prices most runs of `all` learnt, of `few` not."]
    assert said(facts.learnt(one[one["seed"] == 0])) == ["On Prices `all` learnt, `few` not."]
    budgets = table[table["fraction"] == 1].assign(seconds=10)
    told = said(facts.learnt(budgets, "seconds"))
    assert "On Letters no arm learnt in most of its runs within 10 s: a tie there says nothing." in told
    assert said(facts.order(budgets[budgets["task"] == "letters"], "seconds")) == [
        "On Letters within 10 s no arm learnt in most of its runs, so their order says nothing."]


def test_one_run_orders_nothing_and_many_arms_are_cut(table):
    single, _ = said(facts.order(table[table["seed"] == 0]))
    assert single.endswith("(1 run each, which orders nothing).")
    many = runs({("essays", f"arm {i}"): 80.0 - i for i in range(9)})
    assert said(facts.order(many)) == ["On Essays with all of the data: `arm 0` 80.0, `arm 1` 79.0, `arm 2` 78.0 and last "
                                       "of 9 `arm 8` 72.0 (means of 5 runs)."]


def test_parameters_curves_and_chance(table):
    assert said(facts.parameters(table))[0] == "`all` trains 120 parameters, 0.12 % of the model (20 the head's)."
    assert said(facts.chance(table)) == [
        "One answer for all scores 50.0 on Essays (accuracy) and 50.0 on Prices (accuracy)."]
    watched = table[table["seed"].eq(0) & table["task"].eq("essays")]
    watched = watched.assign(curve=[[[1, 0.1, 0.2], [2, 0.2, level]] for level in (0.5, 0.7, 0.6)])
    assert said(facts.ends(watched)) == ["On Essays the curves end at `few` 70.0, `none` 60.0 and `all` 50.0, one run each: "
                                         "that orders nothing."]


# Rates, clocks, spreads, claims


def test_rates_that_none_learnt_and_close_ones_are_told():
    choices = pd.DataFrame([{"task": "essays", "task_title": "Essays", "task_place": 0, "arm": arm, "arm_place": i,
                             "rate": rate, "learnt": learnt, "level": level, "tried": 5}
                            for i, (arm, rate, learnt, level) in enumerate(
                                [("all", 1e-4, True, 1), ("few", 1e-3, True, 2), ("none", 3e-3, False, 0)])])
    assert said(facts.rates(choices)) == [
        "In trials on Essays `none` did not learn at the rate that is run, 0.003.",
        "Of 2 choices of arms that learnt 1 is close, with more than one rate that cannot be told from the best: `few` on "
        "Essays (2 of 5).",
        "Where both learnt, `few` has 10 times the rate of `all`."]
    effort = pd.DataFrame({"trials": [5, 5], "seconds": [30.0, 180.0]})
    assert said(facts.effort(effort)) == ["Every choice of a rate had 5 trials and took 30 to 180 s of training."]
    for seconds, told in ((480.0, "8.0 minutes"), (1.0, "1 s")):
        assert f"took {told} of training." in said(facts.effort(effort.assign(seconds=seconds)))[0]


def test_a_clock_is_told_beside_the_baseline_s_or_why_there_is_none(table):
    backward = {("essays", "all"): 30.0, ("essays", "few"): 10.0, ("prices", "all"): 10.0, ("prices", "few"): 5.0}
    paces = [{"task": task, "arm": arm, "arm_place": ("all", "few").index(arm), "forward_ms": 10.0, "backward_ms": back,
              "update_ms": 0.0} for (task, arm), back in backward.items()]
    clock = types.SimpleNamespace(table=pd.DataFrame(paces), refusal="")
    assert said(facts.costs(clock)) == ["A step of `all` takes 20 to 40 ms, and of `few` 0.50 to 0.75 times as long."]
    busy = types.SimpleNamespace(table=pd.DataFrame(), refusal="no clock: this machine is busy")
    assert said(facts.costs(busy)) == ["No clock: this machine is busy."]
    assert kinds(facts.pace(pd.DataFrame(columns=["task", "arm", "ratio"]))) == ["pace"]
    assert said(facts.pace(pd.DataFrame([{"task": "essays", "task_title": "Essays", "arm": "few", "ratio": 1.42}]))) == [
        "Held against how slow the machine was for all, a token took, for `few` on Essays 1.42 times as long as the clock "
        "says."]


def test_spreads_are_told_and_left_open_where_runs_are_few(table):
    rows = [{"task": "essays", "task_title": "Essays", "arm": "few", "source": source, "deviation": deviation, "low": low,
             "high": high, "runs": 5, "not_ok": 0, "metric_axis": "a × 100", "metric_title": "a"}
            for source, deviation, low, high in (("subset", 2.0, 1.2, 5.0), ("init", 0.5, 0.3, 1.0), ("all", 9.0, 5.0, 20))]
    assert said(facts.spread(pd.DataFrame(rows))) == [
        "On Essays, of single seeds, subset moves `few` most: standard deviation 2.0 points (1.2 to 5.0), 5 runs."]
    fallen = said(facts.spread(pd.DataFrame([{**rows[0], "not_ok": 1}, *rows[1:]])))
    assert fallen[0].endswith("5 runs (1 not ok), which leaves open which seed weighs most.")
    rows[1]["high"] = 3.0
    assert said(facts.spread(pd.DataFrame(rows)))[0].endswith(", which leaves open which seed weighs most.")
    ratios = pd.DataFrame([{"task": "essays", "task_title": "Essays", "arm": "few", "times": 2.0, "low": low, "high": 6.0,
                            "p": 0.1} for low in (1.2, 0.8)])
    assert kinds(facts.ratios(ratios, "all")) == ["wider", "undecided"]


def test_claims_are_counted():
    verdicts = pd.DataFrame([{"statement": "A", "verdict": "refuted", "parts": 3},
                             {"statement": "B", "verdict": "undecided", "parts": 3}])
    assert said(facts.claims(verdicts)) == ["Of 2 claims: 0 upheld, 1 refuted and 1 undecided.", "Refuted: “A”."]
    on = facts.claims(verdicts.assign(mrpc=["refuted"] * 2, cola=["undecided"] * 2), {"mrpc": "MRPC", "cola": "CoLA"})
    assert on[1].sentence == "Refuted: “A” (on MRPC)."
    on = facts.claims(verdicts.assign(mrpc=["refuted"] * 2, cola=["refuted"] * 2), {"mrpc": "MRPC", "cola": "CoLA"})
    assert on[1].sentence == "Refuted: “A” (on both tasks)."
    assert said(facts.claims(verdicts.assign(parts=[3, 0])))[0].endswith(
        "1 undecided; 1 of these untested, since no run that it is about is on record.")


def test_what_two_studies_decide_alike_and_against_each_other_is_told():
    rows = [("A", "upheld", "upheld"), ("B", "refuted", "refuted"), ("C", "upheld", "refuted"),
            ("D", "refuted", "undecided"), ("E", "untested", "undecided")]
    both = pd.DataFrame([{"claim": name.lower(), "statement": name, "one": first, "two": second}
                         for name, first, second in rows])
    assert said(facts.across(both)) == [
        "Upheld in both: “A”.", "Refuted in both: “B”.", "Upheld in one and refuted in another: “C”.",
        "Decided by neither: 1 of 5 claims."]
    assert ("No claim is upheld in one and refuted in another; more than one decides 2 claims."
            in said(facts.across(both[both["statement"] != "C"])))
    three = said(facts.across(both.assign(three="upheld")))
    assert three[0] == "Upheld in all 3 studies: “A”." and three[-1] == "Decided by none of them: 0 of 5 claims."
    assert kinds(facts.across(both.drop(columns="two"))) == ["empty"]


# Sentences and stories


def test_sentences_are_whole_and_the_same_again(table):
    told = [fact for tell in (facts.coverage, facts.not_ok, facts.learnt, facts.chance, facts.order, facts.parameters)
            for fact in tell(table)]
    told += facts.gaps(stats.paired_gaps(table))
    again = [fact for tell in (facts.coverage, facts.not_ok, facts.learnt, facts.chance, facts.order, facts.parameters)
             for fact in tell(table)] + facts.gaps(stats.paired_gaps(table))
    assert told == again
    for fact in told:
        assert fact.sentence.endswith(".") and "nan" not in fact.sentence and "  " not in fact.sentence
        assert not re.search(r"(?<![\d.])1 (runs|arms|tasks|points|pairs)\b", fact.sentence)
        assert json.loads(json.dumps(plain(vars(fact)))) == plain(vars(fact))


def test_units_are_right_where_a_point_is_one():
    row = {"metric_axis": "a × 100", "metric_title": "a"}
    assert [words.amount(value, row) for value in (1.0, 0.04, 14.14)] == ["1.0 point", "0.0 points", "14.1 points"]
    own = {"metric_axis": "error", "metric_title": "error"}
    assert [words.amount(value, own) for value in (0.01234, 1234.5)] == ["0.0123 (error)", "1,234 (error)"]


@pytest.fixture
def story(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path))
    return facts.Story(types.SimpleNamespace(source="hub", name="tiny", encoder="tiny", weights="0"), "03_data_fractions")


def kept():
    return json.loads((paths.runs("tiny") / "03_data_fractions.json").read_text(encoding="utf-8"))


def test_a_story_is_there_from_the_first_and_after_each_call(story, table, capsys):
    assert kept() == {"notebook": "03_data_fractions", "facts": [], "figures": []}
    story.tell(facts.coverage(table))
    assert capsys.readouterr().out == "On record: 30 runs of 3 arms, 2 tasks and 5 seeds.\n"
    story.tell(facts.gaps(stats.paired_gaps(table)))
    assert [fact["kind"] for fact in kept()["facts"]] == ["coverage", "behind", "ahead", "behind", "match"]
    story.verdicts(pd.DataFrame([{"claim": "x", "verdict": "refuted", "needs": np.nan}]))
    assert kept()["verdicts"] == [{"claim": "x", "verdict": "refuted", "needs": None}]
    assert not list(paths.runs("tiny").glob("*.tmp"))


def test_a_cell_that_is_run_twice_tells_once(story, table):
    for _ in range(2):
        story.tell(facts.coverage(table))
    assert len(kept()["facts"]) == 1


def test_a_sentence_is_told_once(story, capsys):
    story.tell(facts.coverage(pd.DataFrame()) + facts.not_ok(pd.DataFrame()))
    assert capsys.readouterr().out == "There is nothing to read here: no run is on record.\n" and len(kept()["facts"]) == 1


def test_a_story_keeps_figures_with_their_captions(story, table, capsys):
    import matplotlib

    matplotlib.use("agg")
    from studykit.telling import plots

    for caption in ("an old one", "scores."):
        story.draw(plots.score_by_fraction(table, "tiny"), "scores", table, caption)
    assert kept()["figures"] == [{"name": "scores", "caption": "scores."}]
    manifest = json.loads((paths.figures("tiny") / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["scores"]["caption"], manifest["scores"]["notebook"]) == ("scores.", "03_data_fractions")
    assert (paths.figures("tiny") / "scores.png").is_file() and "*Figure: scores.*" in capsys.readouterr().out


def test_in_a_notebook_facts_are_markdown(story, table, monkeypatch):
    from IPython import display

    from studykit.telling import story as stories

    shown = []
    monkeypatch.setattr(stories, "in_notebook", lambda: True)
    monkeypatch.setattr(display, "display", shown.append)
    story.tell(facts.order(table))
    assert [type(item).__name__ for item in shown] == ["Markdown"] and shown[0].data.startswith("- On Essays with ")
    story.tell(facts.chance(table), folded="Chance")
    assert shown[1].data.startswith("<details><summary>Chance</summary>\n\nOne answer") and len(kept()["facts"]) == 3


def test_where_one_task_differs_it_is_named_once():
    levels = {(task, arm): 80.0 - 5 * (arm == "few") * (task == "essays") for task in TITLES for arm in ("all", "few")}
    fact, = facts.gaps(stats.paired_gaps(runs(levels)), most=1)
    assert fact.sentence == ("`few` against `all` with all of the data: behind on Essays by 5.0 points; a match on Prices "
                             "and Letters.")


@pytest.mark.parametrize(("source", "encoder", "told"), [
    ("mini", "mini", "Tasks and encoder are a miniature"), ("rows.csv", "mini", "The encoder is the bundled miniature"),
    ("hub", "org/encoder", "")])
def test_what_is_of_the_miniature_is_said_to_be(source, encoder, told, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path))
    facts.Story(types.SimpleNamespace(name="own", source=source, encoder=encoder), "20_your_data")
    out = capsys.readouterr().out
    assert told in out and bool(out) == bool(told)
