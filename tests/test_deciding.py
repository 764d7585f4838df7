"""The advisor's decisions keep their word, in simulated studies whose truth is known.

``python tests/test_deciding.py 1000`` plays so many studies of each world, and writes their rates into docs/advice.md.
"""

import dataclasses
import functools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import scipy.special

from studykit import methods, paths, study
from studykit.advise import racing
from studykit.evidence import deciding, stats, truths
from studykit.evidence.deciding import Raced, Round, decide, first, left, settled
from studykit.study import records
from studykit.telling import report

PAGE = Path(__file__).parents[1] / "docs" / "advice.md"
RESAMPLES = 200
STUDIES = 150


@pytest.fixture(scope="module", autouse=True)
def fewer_draws():
    """3000 draws rather than 20 000, here only."""
    with pytest.MonkeyPatch.context() as patch:
        _fewer(patch.setattr)
        yield


def _fewer(setting: Callable = setattr) -> None:
    setting(truths, "DRAWS", 3000)
    setting(truths, "PRIOR", 1000)


@dataclasses.dataclass(frozen=True)
class World:
    """True scores in points, the rows of a block, the seeds' deviation over the rows' by label, and how often one looks."""

    scores: dict[str, float]
    rows: int
    seeds: np.ndarray
    looks: int = 6
    margin: float = 1.0


def people(rng) -> World:
    """Data as people have them: seeds against rows as in the reference study, floors anywhere."""
    scores = {name: rng.normal(80, 4) for name in ("full", "lora", "head")} | {
        name: rng.normal(75, 5) for name in ("majority", "TF-IDF")}
    seeds = 0.44 * np.exp(0.65 * rng.normal(size=5)) * [1, 1, 1, 0.2, 0.2]
    return World({name: min(score, 97.0) for name, score in scores.items()}, int(rng.choice([60, 100, 300, 1000])), seeds)


def hard(rng) -> World:
    """One arm is better by just more than the margin, and runs vary much: whoever takes the other one errs."""
    return World({"full": 80.0, "head": 78.99}, 300, np.array([0.9, 0.9]))


def beneath(rng) -> World:
    """Arms that are a little worse than a floor."""
    return World({"full": 78.0, "lora": 78.0, "TF-IDF": 79.5}, 300, np.array([0.7, 0.7, 0.1]))


def alike(rng) -> World:
    return World({"full": 80.0, "lora": 80.0, "head": 80.0}, 300, np.full(3, 0.5))


def near(rng) -> World:
    """Two arms within a margin of four points, a third just outside, many rows."""
    return World({"full": 85.0, "lora": 85.0, "head": 80.9}, 1000, np.full(3, 0.4), margin=4.0)


def clear(rng) -> World:
    """A lead of eight points, and at most four rounds."""
    return World({"full": 80.0, "head": 72.0, "TF-IDF": 70.0}, 300, np.array([0.5, 0.5, 0.1]), looks=4)


def perfect(rng) -> World:
    """Few rows, nearly all of them right: most blocks do not tell the labels apart, but one is worse by the margin."""
    return World({"head": 97.9, "full": 99.0}, 30, np.array([0.3, 0.3]))


WORLDS = {"data as people have them": people, "a rival just outside the margin": hard, "a floor just above": beneath,
          "three alike": alike, "two within four points": near,
          "few rows, nearly all right": perfect, "a lead of eight points": clear}


@functools.cache
def resamples(rows: int) -> np.ndarray:
    return np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES) / rows


def rounds(rng, world: World) -> list[Round]:
    """Rounds of blocks of rows of their own. An answer is right where skill, a run's luck, the row's ease, shared by all and
    each label's own, and a draw sum to more than zero; 15 % of the variance of luck is the training set's, in all rounds."""
    scores = np.array(list(world.scores.values())) / 100
    wide = np.sqrt(1 + 0.6 ** 2 + 1)
    slope = np.exp(-scipy.special.ndtri(scores) ** 2 / 2) / np.sqrt(2 * np.pi) / wide  # of the score over skill
    luck = world.seeds * np.sqrt(scores * (1 - scores) / world.rows) / slope
    skill = np.sqrt(wide ** 2 + luck ** 2) * scipy.special.ndtri(scores) + rng.normal(size=len(scores)) * luck * 0.15 ** 0.5
    found = []
    for _ in range(world.looks):
        level = skill + rng.normal(size=len(scores)) * luck * 0.85 ** 0.5
        ease = rng.normal(size=world.rows) + rng.normal(0, np.sqrt(0.6 ** 2 + 1), (len(scores), world.rows))
        right = level[:, None] + ease > 0
        found.append(Round(dict(zip(world.scores, (100 * right.mean(1)).tolist(), strict=True)),
                           100 * resamples(world.rows) @ right.T, 100 / world.rows))
    return found


@functools.cache
def played(name: str, studies: int = STUDIES, corrected: bool = True) -> list[tuple[deciding.Decision, World]]:
    """Studies of a world, each looked at after every round until it is settled."""
    rng, found = np.random.default_rng(7), []
    for _ in range(studies):
        world = WORLDS[name](rng)
        blocks, cost = rounds(rng, world), {label: place for place, label in enumerate(world.scores)}
        floors = {"majority", "TF-IDF"} & set(world.scores)
        for look in range(1, world.looks + 1):
            with mock.patch.object(deciding, "_more", lambda *_: (None, None)):  # takes long, and is not asked for here
                decision = decide(blocks[:look], cost=cost, floors=floors, margin=world.margin,
                                  looks=world.looks if corrected else 1)
            if settled(decision):
                break
        found.append((decision, world))
    return found


def errs(decision, world, label=None) -> bool:
    """Whether the choice, or another label, is worse than the best by more than the margin."""
    return world.scores[label or decision.choice] < max(world.scores.values()) - decision.margin - 1e-9


def share(events) -> float:
    return float(np.mean(list(events)))


def noise(rate: float, studies: int = STUDIES) -> float:
    """Two and a half standard errors of a rate among so many studies."""
    return 2.5 * np.sqrt(rate * (1 - rate) / studies)


@pytest.mark.parametrize("name", WORLDS)
def test_of_a_hundred_studies_five_at_most_settle_on_what_is_not_within_the_margin(name):
    wrong = share(settled(decision) and errs(decision, world) for decision, world in played(name))
    assert wrong <= 0.05 + noise(0.05)


def test_without_the_correction_for_looks_more_would():
    wrong = share(settled(decision) and errs(decision, world)
                  for decision, world in played("a rival just outside the margin", corrected=False))
    assert wrong > 0.05 + noise(0.05)
    assert wrong > 2 * share(settled(decision) and errs(decision, world)
                             for decision, world in played("a rival just outside the margin"))


@pytest.mark.parametrize("kind", ["take", "cheaper"])
def test_what_is_decided_is_right_as_often_as_it_says(kind):
    """In worlds where truths vary: a certainty is the mean over them."""
    name = "data as people have them" if kind == "take" else "two within four points"
    chosen = [(decision, world) for decision, world in played(name) if decision.kind == kind]
    assert len(chosen) > STUDIES / 4
    right = share(not errs(decision, world) for decision, world in chosen)
    assert right >= share(decision.sure for decision, _ in chosen) - noise(0.05, len(chosen))


def test_what_is_called_as_good_is():
    cheaper = [(decision, world) for decision, world in played("two within four points") if decision.kind == "cheaper"]
    wrong = share(any(errs(decision, world, label) for label in decision.others) for decision, world in cheaper)
    assert wrong <= 0.05 + noise(0.05, len(cheaper))


def test_the_cheapest_of_those_within_the_margin_is_the_choice():
    for decision, _ in played("two within four points"):
        order = ["full", "lora", "head"]
        assert all(order.index(decision.choice) < order.index(label) for label in decision.others)


def under_floor(decision, world) -> bool:
    """Whether the choice is worse than the best floor by more than the margin."""
    return world.scores[decision.choice] < max(world.scores.get("majority", 0), world.scores["TF-IDF"]) - decision.margin


def test_advice_is_seldom_worse_than_a_floor_by_more_than_the_margin():
    """On data as people have them whatever is decided; where arms are just worse than a floor, what is settled."""
    assert share(under_floor(*pair) for pair in played("data as people have them")) <= 0.05 + noise(0.05)
    assert share(settled(pair[0]) and under_floor(*pair) for pair in played("a floor just above")) <= 0.05 + noise(0.05)


def test_where_all_are_alike_no_interval_says_that_the_choice_is_better():
    better = share(any(row.low > 0 for row in decision.standings) for decision, _ in played("three alike"))
    assert better <= 0.05 + noise(0.05)


def test_a_lead_of_eight_points_is_seen_within_four_rounds():
    found = [decision for decision, _ in played("a lead of eight points")]
    assert share(decision.kind == "take" and decision.choice == "full" for decision in found) > 0.8
    assert share(decision.rounds for decision in found) < 3.5


@pytest.mark.parametrize("name", WORLDS)
def test_intervals_hold_the_true_gap(name):
    held = share(row.low <= world.scores[decision.choice] - world.scores[row.label] <= row.high
                 for decision, world in played(name) for row in decision.standings)
    assert held > 0.95 - noise(0.05)


def test_the_prior_is_what_seeds_did_in_the_reference_study():
    """Scores of five seeds against the rows' error of a block of 15 % as many rows as they trained on."""
    kept = [record for record in records.read(paths.REPO / "results" / "minilm").values()
            if record["run"]["score_on"] == "validation" and record["run"]["seconds"] is None]
    table, ratios = study.load("minilm").table(kept), []
    for _, runs in table[table["seed"].notna()].groupby(["task", "fraction", "arm", "lr"]):
        if len(runs) < 5:
            continue
        rows = len(runs["labels"].iloc[0])
        block = truths.HELD / (1 - truths.HELD) * runs["examples"].iloc[0]
        ratios.append(runs["score"].std() / (stats.resampled(runs).std(0).mean() * np.sqrt(rows / block)))
    wide = np.exp(1.96 * np.hypot(truths.COMMON, truths.OWN))
    assert len(ratios) > 50
    assert truths.SEEDS / 2 < np.median(ratios) < truths.SEEDS
    assert np.mean([truths.SEEDS / wide < ratio < truths.SEEDS * wide for ratio in ratios]) > 0.9


def block(rng, scores: dict, deviation: float = 1.0) -> Round:
    """A round whose rows move each label alone."""
    return Round(scores, np.array(list(scores.values())) + rng.normal(0, deviation, (500, len(scores))))


COST = {"full": 3.0, "lora": 2.0, "head": 1.0}


@pytest.mark.parametrize("scores, kind, choice, others", [
    ({"full": 90.0, "head": 70.0, "majority": 50.0}, "take", "full", ()),
    ({"full": 90.0, "head": 90.0, "majority": 50.0}, "cheaper", "head", ("full",)),
    ({"full": 90.0, "head": 70.0, "majority": 90.2}, "floor", "majority", ()),
    ({"full": 90.0, "head": 70.0, "majority": 89.9}, "floor", "majority", ()),  # within the margin, and needs no training
    ({"full": 50.0, "head": 49.0, "majority": 70.0}, "floor", "majority", ())], ids=lambda value: str(value)[:40])
def test_kinds_where_nothing_is_in_doubt(scores, kind, choice, others):
    decision = decide([block(np.random.default_rng(0), scores, 0.02)] * 3, cost=COST, floors={"majority"}, margin=1.0)
    assert (decision.kind, decision.choice, decision.others, decision.rounds) == (kind, choice, others, 3)
    assert settled(decision) and decision.more_rounds is None and decision.more_labels is None


def test_what_is_in_doubt_is_not_told_and_says_what_would_tell():
    rng = np.random.default_rng(0)
    close = [block(rng, {"full": 82.0 + step, "head": 79.0}, 3.0) for step in (-0.5, 0.5)]
    decision = decide(close, cost=COST, margin=1.0)
    assert (decision.kind, decision.choice) == ("cannot tell", "full") and 0.5 < decision.sure < 0.95
    assert 2 < decision.more_rounds <= deciding.MOST
    wide = decide([block(rng, {"full": 80.0, "head": 80.0}, 20.0)] * 2, cost=COST, margin=1.0)
    assert wide.more_rounds is None and (wide.more_labels is None or wide.more_labels > 1)


def test_so_many_rounds_would_do_if_the_estimates_stayed():
    rng = np.random.default_rng(0)
    few = [block(rng, {"full": 80.0, "head": 75.0}, 2.5), block(rng, {"full": 82.0, "head": 75.0}, 2.5)]
    decision = decide(few, cost=COST, margin=1.0, looks=6)
    assert decision.kind == "cannot tell" and 2 < decision.more_rounds <= 6
    many = few * int(np.ceil(decision.more_rounds))
    assert settled(decide(many, cost=COST, margin=1.0, looks=6))


@pytest.mark.parametrize("gap, rounds", [(2, None), (3, None), (4, 5)])
def test_no_more_rounds_are_promised_than_are_planned(gap, rounds):
    """What more rounds than six would settle takes labels where finals end at six."""
    rng = np.random.default_rng(10 * gap)
    played = [block(rng, {"full": 80.0 + gap, "head": 80.0}, 2.5) for _ in range(4)]
    decision = decide(played, cost=COST, margin=1.0, looks=6)
    assert (decision.kind, decision.more_rounds) == ("cannot tell", rounds)
    assert (decision.more_labels is None) == (rounds is not None)
    if gap == 2:
        assert decide(played, cost=COST, margin=1.0).more_rounds > 4


def test_a_floor_that_is_ahead_by_chance_is_not_settled():
    decision = decide([block(np.random.default_rng(0), {"full": 80.0, "majority": 80.5}, 5.0)], cost=COST,
                      floors={"majority"}, margin=1.0)
    assert decision.kind == "floor" and decision.sure < 0.95 and not settled(decision)


def test_an_arm_that_is_barely_ahead_of_a_floor_is_not_named():
    """A lead of half the rows' error is no reason to train; one of twice that names the arm, and settles nothing."""
    def told(score):
        return decide([block(np.random.default_rng(0), {"full": score, "majority": 80.0}, 4.0)] * 2, cost=COST,
                      floors={"majority"}, margin=1.0)

    assert (told(81.0).kind, told(81.0).choice) == ("cannot tell", "majority")
    assert (told(87.0).kind, told(87.0).choice) == ("cannot tell", "full") and not settled(told(87.0))


def test_what_is_named_is_seldom_below_a_floor():
    for name, most in (("a floor just above", 0.2), ("data as people have them", 0.01)):
        decisions = played(name)
        below = [decision for decision, world in decisions
                 if max(world.scores.get(floor, 0) for floor in ("majority", "TF-IDF")) - world.margin
                 > world.scores[decision.choice]]
        assert len(below) <= most * len(decisions)


def test_an_arm_that_narrowly_left_the_race_keeps_the_matter_open():
    final = [block(np.random.default_rng(0), {"full": 80.0, "head": 70.0}, 0.3)] * 3
    assert settled(decide(final, [Raced("lora", 20.0, 1.0)], cost=COST, margin=1.0))
    decision = decide(final, [Raced("lora", 0.5, 3.0)], cost=COST, margin=1.0)
    assert not settled(decision) and [row.label for row in decision.standings] == ["full", "lora", "head"]


def test_an_arm_that_left_is_held_against_the_best_of_the_finals_not_of_the_race():
    """B, level with C in the race, is the best in the finals: so may C be."""
    rung = block(np.random.default_rng(1), {"full": 80.0, "lora": 74.0, "head": 73.9}, 0.3)
    final = [block(np.random.default_rng(0), {"full": 80.0, "lora": 88.0}, 0.3)] * 3
    (raced,) = left(rung, ["head"], final)
    assert raced.gap == pytest.approx(rung.scores["lora"] - rung.scores["head"])
    chance = {row.label: row.chance for row in decide(final, [raced], cost=COST, margin=1.0).standings}
    assert chance["head"] > 0.5 > chance["full"]


def test_the_gap_in_the_race_is_on_the_same_rows():
    scores = {"full": 80.0, "lora": 78.0, "head": 70.0}
    moved = np.array([[80.0, 78.0, 60.0], [70.0, 68.0, 70.0], [75.0, 73.0, 60.0]])
    error = np.std([20.0, 0.0, 15.0], ddof=1)
    rung = Round(scores, moved)
    assert left(rung, ["lora", "head"], [rung]) == [("lora", 2.0, 0.0), ("head", 10.0, pytest.approx(error))]


def test_of_those_that_a_race_cannot_tell_apart_the_formerly_better_goes_on():
    rng, known = np.random.default_rng(0), ["adapter", "full", "lora", "head"]
    noisy = block(rng, {"head": 49.7, "lora": 48.0, "adapter": 47.9, "full": 70.0}, 2.0)
    assert first(noisy, known, 2) == ["full", "adapter"] and first(noisy, known, 9) == ["full", "adapter", "lora", "head"]
    clear = block(rng, {"head": 60.0, "lora": 48.0, "adapter": 47.9, "full": 70.0}, 2.0)
    assert first(clear, known, 2) == ["full", "head"]
    same = Round({"head": 50.0, "full": 50.0}, np.full((200, 2), 50.0), 0.0)
    assert first(same, known) == ["full"]
    assert first(block(rng, {3e-3: 71.0, 1e-3: 70.0}, 1.0), [1e-3, 3e-3]) == [1e-3]  # rates, the middle first


def test_what_former_studies_saw_of_the_methods_is_what_the_records_say():
    """Mean ranks of the arms that a call compares, over all places where one of them learnt."""
    ranks = []
    for name in (report.DOMAINS, report.WHOLE, report.LARGER):
        runs = report.evidence(name).reports
        runs = runs[runs.groupby(["task", "fraction"])["learnt"].transform("any")]
        means = runs.assign(better=runs["better"] * runs["score"]).groupby(["task", "fraction", "arm"])["better"].mean()
        ranks.append(means.unstack()[list(racing.FORMER)].dropna().rank(axis=1, ascending=False))
    ranks = pd.concat(ranks)
    assert len(ranks) > 10 and ranks.mean().sort_values().index.tolist() == list(racing.FORMER)
    assert set(racing.FORMER) == set(methods.USUAL)


def test_rows_that_all_answer_alike_are_no_proof():
    """Thirty rows all right in two arms: the rows do not move the gap, and one row is three points."""
    same = Round({"full": 100.0, "head": 100.0}, np.full((200, 2), 100.0), 100 / 30)
    assert decide([same] * 2, cost=COST, margin=1.0).kind == "cannot tell"
    assert decide([dataclasses.replace(same, step=100 / 3000)] * 2, cost=COST, margin=1.0).kind == "cheaper"
    assert left(same, ["head"], [same]) == [("head", 0.0, pytest.approx(100 / 30 * np.sqrt(2)))]


def test_more_looks_make_less_sure_and_wider_intervals():
    final = [block(np.random.default_rng(0), {"full": 82.0, "head": 80.0}, 2.0)] * 3
    once, often = (decide(final, cost=COST, margin=1.0, looks=looks) for looks in (1, 6))
    assert 0.5 < often.sure < once.sure
    assert often.standings[1].low < once.standings[1].low and once.standings[1].high < often.standings[1].high


def test_the_same_rounds_give_the_same_decision_again():
    final = [block(np.random.default_rng(0), {"full": 82.0, "head": 80.0}, 2.0)] * 2
    assert decide(final, cost=COST, margin=1.0) == decide(final, cost=COST, margin=1.0)


def test_a_decision_outlives_json():
    decision = decide([block(np.random.default_rng(0), {"full": 82.0, "head": 80.0})], cost=COST, margin=1.0)
    kept = json.loads(json.dumps(dataclasses.asdict(decision)))
    assert deciding.Decision(**kept | {"others": (), "standings": tuple(map(tuple, kept["standings"]))}) == decision


@pytest.mark.parametrize("looks, limit", [(1, 1.645), (2, 1.875), (3, 1.992), (4, 2.067), (5, 2.122), (10, 2.270)])
def test_the_bound_is_pocock_s(looks, limit):
    """Jennison and Turnbull (2000), table 2.1, two-sided 10 %."""
    assert truths.bound(looks) == pytest.approx(limit, abs=0.002)


@pytest.mark.parametrize("given, cost, message", [
    ([], COST, "there must be one"),
    ([Round({"full": 1.0}, np.ones((3, 1))), Round({"head": 1.0}, np.ones((3, 1)))], COST, "the same labels"),
    ([Round({"full": np.nan}, np.ones((3, 1)))], COST, "a score is no number"),
    ([Round({"full": 1.0}, np.ones((3, 1)))], {}, "the cost of full is not known")], ids=lambda value: str(value)[:20])
def test_what_is_wrong_is_said_in_a_sentence(given, cost, message):
    with pytest.raises(ValueError, match=message):
        decide(given, cost=cost, margin=1.0)


def rates(studies: int) -> str:
    """What came of so many studies of each world, as a table in Markdown."""
    lines = [f"{studies:,} studies of each world:", "", "| world | settled | take, cheaper, floor | wrong, of all "
             "| wrong without the correction | settled: says | is right |", "|---|---|---|---|---|---|---|"]
    for name in WORLDS:
        found = played(name, studies)
        done = [(decision, world) for decision, world in found if settled(decision)]
        kinds = ", ".join(f"{share(settled(decision) and decision.kind == kind for decision, _ in found):.0%}"
                          for kind in ("take", "cheaper", "floor"))
        wrong = [share(settled(decision) and errs(decision, world) for decision, world in played(name, studies, corrected))
                 for corrected in (True, False)]
        says = [f"{share(decision.sure for decision, _ in done):.1%}", f"{share(not errs(*pair) for pair in done):.1%}"
                ] if len(done) > 20 else ["–", "–"]
        lines.append(f"| {name} | {len(done) / len(found):.0%} | {kinds} | {wrong[0]:.1%} | {wrong[1]:.1%} "
                     f"| {says[0]} | {says[1]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    _fewer()
    table = rates(int(sys.argv[1]))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub("(?s)(<!-- rates -->\n).*(<!-- end -->)", lambda found: found[1] + table + "\n" + found[2], page),
                    encoding="utf-8")
    print(table)
