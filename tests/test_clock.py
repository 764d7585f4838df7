"""The calibrated clock: measured so that a passing load is seen, and kept in a file."""

import contextlib
import dataclasses
import json
import math
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest

from studykit import paths
from studykit.study import clock, runs
from studykit.study.clock import Clock
from studykit.training import machine

MACHINE = {"processor": "made up", "cores": 2, "threads": 2, "system": "Linux", "device": "cpu", "precision": "fp32",
           "recipe": runs.RECIPE, "rounds": 3, "steps": 12, "torch": "2"}


def pace(task="cola", arm="full", token_seconds=1e-4, method="", options=(), **fields):
    return {"task": task, "arm": arm, "method": method or arm, "options": options, "rate": 1e-3,
            "token_seconds": token_seconds, "spread": 0.01, "forward_ms": 3.0, "backward_ms": 6.0, "update_ms": 1.0,
            "tokens_a_step": 100.0, "flops": 1e6, **fields}


FULL, BITFIT = ("full", ()), ("bitfit", (("terms", ("query",)),))


@pytest.fixture
def file(tmp_path):
    """A clock's file: two arms on one task, of which one has options."""
    file = tmp_path / "results" / "clock.json"
    clock.write(Clock([pace(), pace(arm="queries", method="bitfit", options=BITFIT[1], token_seconds=5e-5)], MACHINE), file)
    return file


# The file

def test_what_is_written_is_what_is_read(file):
    kept = clock.read(file, {("cola", "full"): FULL, ("cola", "queries"): BITFIT}, "fp32")
    assert kept.token_seconds == {("cola", "full"): 1e-4, ("cola", "queries"): 5e-5}
    assert kept.machine == MACHINE and kept.refusal == ""
    assert kept.about == "on made up, 2 threads, fp32, recipe 1; 3 rounds of 12 steps"
    assert kept.table["arm"].tolist() == ["full", "queries"]


def test_it_is_read_in_the_order_asked_for_and_under_the_arms_own_labels(file):
    kept = clock.read(file, {("cola", "BitFit q"): BITFIT, ("cola", "all"): FULL}, "fp32")
    assert list(kept.token_seconds) == [("cola", "BitFit q"), ("cola", "all")]


@pytest.mark.parametrize("wanted, precision", [
    ({("mrpc", "full"): FULL}, "fp32"), ({("cola", "full"): FULL, ("cola", "bitfit"): ("bitfit", ())}, "fp32"),
    ({("cola", "full"): FULL}, "bf16")], ids=["another task", "another arm", "another precision"])
def test_what_the_file_has_not_measured_it_does_not_give(file, wanted, precision):
    assert clock.read(file, wanted, precision) is None


def test_a_clock_of_another_recipe_is_none(file, monkeypatch):
    monkeypatch.setattr(runs, "RECIPE", runs.RECIPE + 1)
    assert clock.read(file, {("cola", "full"): FULL}, "fp32") is None


def test_a_file_that_is_not_there_is_none(tmp_path):
    assert clock.read(tmp_path / "clock.json", {("cola", "full"): FULL}, "fp32") is None


def test_more_is_added_to_the_file_and_what_is_measured_anew_replaced(file):
    clock.write(Clock([pace("mrpc"), pace(token_seconds=2e-4)], MACHINE), file)
    wanted = {("cola", "full"): FULL, ("cola", "queries"): BITFIT, ("mrpc", "full"): FULL}
    assert list(clock.read(file, wanted, "fp32").token_seconds.values()) == [2e-4, 5e-5, 1e-4]
    assert len(json.loads(file.read_text())["paces"]) == 3
    assert [path.name for path in file.parent.iterdir()] == ["clock.json"]


def test_two_machines_paces_are_never_mixed(file):
    other = {**MACHINE, "processor": "another"}
    clock.write(Clock([pace("mrpc")], other), file)
    assert clock.read(file, {("cola", "full"): FULL}, "fp32").machine == MACHINE
    assert clock.read(file, {("mrpc", "full"): FULL}, "fp32").machine == other
    assert clock.read(file, {("cola", "full"): FULL, ("mrpc", "full"): FULL}, "fp32") is None


def test_what_another_machine_measures_leaves_the_file_that_records_go_by(file):
    before = file.read_bytes()
    clock.write(Clock([pace(token_seconds=9e-4)], {**MACHINE, "processor": "another"}), file)
    clock.write(Clock([pace("mrpc")], {**MACHINE, "processor": "another"}), file)
    assert file.read_bytes() == before
    beside, = set(file.parent.iterdir()) - {file}
    assert len(json.loads(beside.read_text())["paces"]) == 2
    assert clock.read(file, {("cola", "full"): FULL}, "fp32").token_seconds == {("cola", "full"): 1e-4}


# Rounds

def outcome(steps=14, factor=1.0, tokens=100):
    """What a round of one arm gave: steps of 3 + 6 + 1 ms, the first two slow."""
    seconds = np.tile([0.003, 0.006, 0.001], (steps, 1)) * factor
    seconds[:2] = 1.0
    return SimpleNamespace(step_seconds=list(seconds), step_tokens=[tokens] * steps, flops=1e8, tokens=tokens * steps)


def test_a_pace_is_by_hand():
    made = clock._pace([outcome()] * 3)
    assert made == {"token_seconds": 1e-4, "spread": 0.0, "forward_ms": 3.0, "backward_ms": 6.0, "update_ms": 1.0,
                    "tokens_a_step": 100.0, "flops": pytest.approx(1e8 / 1400)}


def test_the_medians_of_steps_ignore_one_disturbed_round_which_the_spread_tells():
    made = clock._pace([outcome(), outcome(factor=3.0), outcome()])
    assert (made["token_seconds"], made["spread"]) == (1e-4, 2.0)


def test_steps_that_are_disturbed_now_and_then_move_nothing():
    disturbed = [outcome() for _ in range(3)]
    for i, made in enumerate(disturbed):
        made.step_seconds[4 + 3 * i] = made.step_seconds[4 + 3 * i] * 50
    made = clock._pace(disturbed)
    assert (made["token_seconds"], made["spread"]) == (1e-4, 0.0)


@pytest.fixture
def members(tiny_study):
    return {(task, arm): run for task in ("cola", "mrpc") for arm in ("full", "bitfit")
            for run in tiny_study.plan(task, arm, rates=1e-3, steps=1)}


def measured(tiny_study, members, monkeypatch, answers):
    """The clock where rounds give these (factors of the rounds, others' part of a core), one after another."""
    calls = iter(answers)

    def rounds(arms, task, source, encoder_at):
        factors, others = next(calls)
        return [{arm: outcome(factor=factor) for arm in arms} for factor in factors], others

    monkeypatch.setattr(clock, "_rounds", rounds)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return clock.measure(members, tiny_study.tasks, tiny_study.source, tiny_study.encoder_at)


QUIET, UNEVEN, BUSY = ((1, 1, 1.05), 0.02), ((1, 1.2, 1.44), 0.02), ((1, 1, 1), 0.4)


def test_on_an_idle_machine_each_task_is_measured_once(tiny_study, members, monkeypatch):
    made = measured(tiny_study, members, monkeypatch, [QUIET, QUIET])
    assert list(made.token_seconds) == list(members) and set(made.token_seconds.values()) == {1e-4}
    assert made.table["spread"].tolist() == [0.05] * 4
    assert made.refusal == "" and (made.machine["precision"], made.machine["recipe"]) == ("fp32", runs.RECIPE)


def test_a_passing_load_is_waited_out(tiny_study, members, monkeypatch):
    assert measured(tiny_study, members, monkeypatch, [BUSY, UNEVEN, QUIET, UNEVEN, QUIET]).refusal == ""


def test_the_quickest_rounds_count_once_three_agree(tiny_study, members, monkeypatch):
    made = measured(tiny_study, members, monkeypatch, [QUIET, UNEVEN, ((1.1, 3, 1), 0.02)])
    assert made.table["spread"].tolist() == [0.05, 0.05, 0.1, 0.1] and set(made.token_seconds.values()) == {1e-4}


def test_only_the_arm_whose_rounds_differ_is_measured_again(tiny_study, members, monkeypatch):
    asked = []

    def rounds(arms, task, source, encoder_at):
        asked.append(list(arms))
        return [{arm: outcome(factor=2 if (arm, len(asked), k) == ("full", 1, 2) else 1) for arm in arms}
                for k in range(clock.ROUNDS)], 0.0

    monkeypatch.setattr(clock, "_rounds", rounds)
    made = clock.measure(members, tiny_study.tasks, tiny_study.source, tiny_study.encoder_at)
    assert asked == [["full", "bitfit"], ["full"], ["full", "bitfit"]]
    assert list(made.token_seconds) == list(members) and made.table["spread"].tolist() == [0.0] * 4


@pytest.mark.parametrize("answers, message", [
    ([UNEVEN, ((2, 2, 2), 0.02), ((2, 2, 2), 0.02)], "rounds of the same steps differed by 37%"),
    ([BUSY] * 3, "other processes took 0.4 of a core meanwhile")], ids=["rounds differ", "others are busy"])
def test_on_a_busy_machine_there_is_no_clock_but_one_sentence(tiny_study, members, monkeypatch, answers, message):
    made = measured(tiny_study, members, monkeypatch, [QUIET, *answers])
    state = "busy or unsteady" if "differed" in message else "busy"
    assert made.refusal == f"no clock: this machine is {state} (mrpc: {message}, 3 times); call again when it is idle"
    assert made.token_seconds == {} and made.table.empty and made.about == made.refusal


def test_a_machine_that_is_busy_before_is_not_measured_at_all(tiny_study, members, monkeypatch):
    monkeypatch.setattr(clock, "OTHERS", -1)  # as no machine can be
    monkeypatch.setattr(clock, "LOOK", 0.05)
    monkeypatch.setattr(runs, "prepared", lambda *_: pytest.fail("a model was loaded"))
    made = clock.measure(members, tiny_study.tasks, tiny_study.source, tiny_study.encoder_at)
    assert made.refusal.startswith("no clock: this machine is busy (cola: other processes took ")


def test_a_refusal_is_not_kept(tiny_study, monkeypatch):
    monkeypatch.setattr(clock, "measure", lambda *_: Clock(refusal="no clock: this machine is busy"))
    assert tiny_study.clock("cola", "full").refusal
    assert not (paths.results("tiny") / "clock.json").exists()


@pytest.mark.parametrize(("jobs", "threads"), [(1, 6), (2, 3), (9, 1)])
def test_a_clock_is_of_as_many_threads_as_a_run_of_the_study_has(tiny_study, monkeypatch, jobs, threads):
    seen = []
    monkeypatch.setattr(machine.joblib, "cpu_count", lambda: 6)
    monkeypatch.setattr(machine.torch, "set_num_threads", seen.append)
    monkeypatch.setattr(machine.torch, "get_num_threads", lambda: 5)
    monkeypatch.setattr(clock, "measure", lambda *_: Clock(refusal=f"with {seen}"))
    design = tiny_study.design.model_copy(update={"jobs": jobs})
    assert dataclasses.replace(tiny_study, design=design).clock("cola", "full").refusal == f"with [{threads}]"
    assert seen == [threads, 5]


def test_without_leave_to_measure_nothing_is_measured(tiny_study, monkeypatch):
    monkeypatch.setattr(clock, "measure", lambda *_: pytest.fail("measured"))
    assert tiny_study.clock("cola", measure=False).refusal == (
        "study tiny has no clock of these tasks and arms: run notebook 04")


def test_the_study_s_clock_has_titles_and_places_as_its_table_has(tiny_study, monkeypatch):
    monkeypatch.setattr(clock, "measure", lambda members, *_: Clock([pace(*cell) for cell in members], MACHINE))
    made = tiny_study.clock(["stsb", "cola"], ["head", "full"])
    assert list(made.token_seconds) == [(task, arm) for task in ("stsb", "cola") for arm in ("head", "full")]
    assert made.table["task_title"].tolist() == ["STS-B", "STS-B", "CoLA", "CoLA"]
    assert made.table["task_place"].tolist() == [2, 2, 1, 1] and made.table["arm_place"].tolist() == [3, 0, 3, 0]


def test_runs_within_budgets_are_of_what_the_clock_has(tiny_study, monkeypatch):
    assert tiny_study.timed({("cola", "full"): 0.1}) == []
    clock.write(Clock([pace(), pace("mrpc", "bitfit", token_seconds=3e-4)], MACHINE), paths.results("tiny") / "clock.json")
    wanted = tiny_study.timed({("cola", "full"): 0.1, ("mrpc", "bitfit"): 0.2}, seeds=[0])
    assert [(run.task, run.method, run.lr, run.seconds, run.token_seconds) for run in wanted] == [
        (task, arm, lr, seconds, cost) for seconds in (1, 2)
        for task, arm, lr, cost in (("mrpc", "bitfit", 0.2, 3e-4), ("cola", "full", 0.1, 1e-4))]


def test_runs_within_budgets_go_by_the_clock_that_all_arms_were_measured_on(tiny_study):
    """An arm was added: another machine measured it with all others, beside the clock that is there."""
    file, other = paths.results("tiny") / "clock.json", {**MACHINE, "processor": "another"}
    clock.write(Clock([pace()], MACHINE), file)
    clock.write(Clock([pace(token_seconds=5e-4), pace("cola", "bitfit", token_seconds=2e-4)], other), file)
    both = {("cola", "full"): 0.1, ("cola", "bitfit"): 0.2}
    used = tiny_study.clock("cola", ["full", "bitfit"], measure=False).token_seconds
    assert {run.token_seconds for run in tiny_study.timed(both, seeds=[0])} == set(used.values()) == {5e-4, 2e-4}
    assert {run.method for run in tiny_study.timed({("cola", "full"): 0.1}, seeds=[0])} == {"full"}  # others have no rate


# A real one

def test_a_clock_is_measured_once_and_gives_runs_their_steps(tiny_study, monkeypatch):
    monkeypatch.setattr(clock, "APART", math.inf)  # whatever else this machine is doing
    monkeypatch.setattr(clock, "OTHERS", math.inf)
    made = tiny_study.clock("cola", ["full", "bitfit"])
    assert list(made.token_seconds) == [("cola", "full"), ("cola", "bitfit")]
    table = made.table.set_index("arm")
    steps = table[["forward_ms", "backward_ms", "update_ms"]].sum(axis=1)
    per_token = pd.Series(made.token_seconds).droplevel(0) * 1000 * table["tokens_a_step"]
    assert steps.to_dict() == pytest.approx(per_token.to_dict(), rel=0.02)
    assert table.loc["full", "flops"] > table.loc["bitfit", "flops"] > 0
    monkeypatch.setattr(clock, "measure", lambda *_: pytest.fail("measured again"))
    assert tiny_study.clock("cola", ["bitfit"]).token_seconds == {("cola", "bitfit"): made.token_seconds["cola", "bitfit"]}
    seconds = 20 * steps.max() / 1000
    wanted = tiny_study.plan("cola", ["full", "bitfit"], rates=1e-3, seconds=seconds, token_seconds=made.token_seconds)
    table = tiny_study.execute(wanted, group="04_time_budgets")
    used = table["tokens"] * list(made.token_seconds.values())
    assert used.tolist() == pytest.approx([seconds] * 2, rel=0.1)


def test_measured_twice_it_takes_the_same_steps(tiny_study, monkeypatch):
    monkeypatch.setattr(clock, "APART", math.inf)
    monkeypatch.setattr(clock, "OTHERS", math.inf)
    members = {("cola", "full"): tiny_study.plan("cola", "full", rates=1e-3, steps=1)[0]}
    first, second = (clock.measure(members, tiny_study.tasks, tiny_study.source, tiny_study.encoder_at) for _ in range(2))
    same = ["tokens_a_step", "flops", "task", "arm", "method"]
    assert first.table[same].equals(second.table[same])


BURN = """
import random, time
end = time.monotonic() + 60
while time.monotonic() < end:
    until = time.monotonic() + random.uniform(0.2, 1.5)
    while time.monotonic() < until:
        pass
    time.sleep(random.uniform(0, 0.5))
"""


LAUNCH = """
import subprocess, sys
for _ in range(2):
    print(subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                           start_new_session=True).pid)
"""


@contextlib.contextmanager
def burners():
    """Two processes at work that are nobody's children: those of the measuring process are not others' load."""
    started = subprocess.run([sys.executable, "-c", LAUNCH, BURN], capture_output=True, text=True, check=True)
    numbers = [int(number) for number in started.stdout.split()]
    try:
        time.sleep(0.5)
        yield numbers
    finally:
        for number in numbers:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(number).kill()


def test_what_others_use_of_the_cores_is_noticed_and_is_not_one_s_own():
    own = machine._own_seconds()
    with burners() as numbers:
        assert not {child.pid for child in psutil.Process().children(recursive=True)} & {*numbers}
        with machine.busy() as load:
            time.sleep(2)
    assert load.others > 0.5 and machine._own_seconds() - own < 1


def test_beside_processes_that_burn_both_cores_it_refuses_and_what_it_gives_unguarded_is_the_idle_answer(tiny_study,
                                                                                                        monkeypatch):
    """A smaller form of the check that notebook 04 passes; the idle clock is measured in the same seconds. Without the guard
    against others' load, that against rounds which differ is left."""
    monkeypatch.setattr(clock, "TRIES", 1)
    members = {("cola", "full"): tiny_study.plan("cola", "full", rates=1e-3, steps=1)[0]}
    where = tiny_study.tasks, tiny_study.source, tiny_study.encoder_at
    idle = clock.measure(members, *where)
    with burners():
        guarded = clock.measure(members, *where)
        monkeypatch.setattr(clock, "OTHERS", math.inf)
        beside = clock.measure(members, *where)
    assert "this machine is busy (cola: other processes took" in guarded.refusal
    if not (idle.refusal or beside.refusal):
        assert list(beside.token_seconds.values()) == pytest.approx(list(idle.token_seconds.values()), rel=0.2)


# Held against runs

def test_runs_that_went_at_another_pace_than_the_clock_says_are_told():
    """A machine that is slower for all moves nothing: it is the ratio between arms that a budget lives on."""
    rows = [{"task": task, "arm": arm, "token_seconds": cost, "tokens": 1000, "train_seconds": 1000 * cost * slower}
            for (task, arm), cost, slower in ((("cola", "full"), 2e-4, 2), (("cola", "bitfit"), 1e-4, 2),
                                              (("mrpc", "full"), 2e-4, 2), (("mrpc", "bitfit"), 1e-4, 3))
            for _ in range(3)]
    table = pd.DataFrame([*rows, {"task": "cola", "arm": "head", "token_seconds": 0.0, "tokens": 10, "train_seconds": 99.0}])
    table["task_title"] = table["task"].str.upper()
    (row,) = clock.apart(table).to_dict("records")
    assert row == {"task": "mrpc", "task_title": "MRPC", "arm": "bitfit", "ratio": pytest.approx(1.5)}
    assert clock.apart(table, by=0.6).empty
    assert clock.apart(table[table["arm"] == "head"]).empty
