import contextlib
import errno
import itertools
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from conftest import changed, made_result, rows, save_encoder, write_split

from studykit import paths, study, tasks
from studykit.models import encoders
from studykit.study import locks, rates, records, runs

ARMS = ["full", "bitfit", "adapter", "head"]
RATES = {(task, arm): 10 ** -(i + 1.0)
         for i, (task, arm) in enumerate(itertools.product(["mrpc", "cola", "stsb"], ARMS))}


# The plan

def test_a_plan_is_all_combinations(tiny_study):
    axes = {"tasks": ["mrpc", "cola"], "arms": ARMS, "fractions": [0.1, 1.0], "seeds": range(3)}
    plan = tiny_study.plan(**axes, rates=1e-3)
    found = {(run.task, run.method, run.fraction, run.seed) for run in plan}
    assert found == set(itertools.product(*axes.values()))
    assert len(plan) == len({run.key for run in plan}) == 2 * 4 * 2 * 3


def test_a_plan_is_of_all_tasks_and_arms_where_none_are_named(tiny_study):
    plan = tiny_study.plan(rates=RATES)
    assert [(run.task, run.method) for run in plan] == list(itertools.product(["mrpc", "cola", "stsb"], ARMS))


def test_a_plan_has_the_study_s_settings(tiny_study, tiny_encoder, tiny_glue):
    run, = tiny_study.plan("cola", "full", rates=1e-3)
    assert (run.encoder, run.pooler, run.batch_size, run.max_length) == ("tiny-bert", "new", 16, 32)
    assert (run.epochs, run.min_steps, run.fraction, run.seed) == (4, 30, 1.0, 0)
    assert (run.precision, run.recipe, run.asks) == ("fp32", runs.RECIPE, tasks.get("cola").identity)
    assert run.data == tasks.digest(tasks.load("cola", tiny_glue))
    assert run.weights == encoders.digest(tiny_encoder)


def test_runs_of_a_plan_differ_in_nothing_but_its_axes(tiny_study):
    """So all arms under one seed share their examples, head and order."""
    full, adapter = tiny_study.plan("cola", ["full", "adapter"], seeds=[4], rates=1e-3)
    fields = vars(full).keys() | vars(adapter).keys()
    assert {name for name in fields - {"key"} if getattr(full, name) != getattr(adapter, name)} == {"method"}
    assert (full.subset_seed, full.init_seed, full.order_seed) == (4, 4, 4)


def test_rates_may_differ_by_task_and_arm(tiny_study):
    plan = tiny_study.plan(rates=RATES, seeds=[0, 1])
    assert all(run.lr == RATES[run.task, run.method] for run in plan)


def test_fixed_fields_go_to_every_run(tiny_study):
    plan = tiny_study.plan("cola", ["adapter"], seeds=[1, 2], rates=1e-3, steps=7, order_seed=9, precision="bf16")
    assert [(run.subset_seed, run.order_seed) for run in plan] == [(1, 9), (2, 9)]
    assert {(run.steps, run.epochs, run.precision) for run in plan} == {(7, None, "bf16")}


def test_options_are_an_arm_s_and_may_be_lists_as_yaml_has_them(tiny_yaml, tiny_glue, tiny_encoder, tiny_study):
    arms = {"query": {"method": "bitfit", "options": {"terms": ["query"]}, "rates": [0.01]},
            "small": {"method": "adapter", "options": {"placement": "parallel", "bottleneck": 8}, "rates": [0.01]}}
    own = study.load(changed(tiny_yaml, arms=arms), tiny_glue, tiny_encoder)
    query, small = own.plan("cola", rates=1e-3)
    assert (query.method, query.options) == ("bitfit", (("terms", ("query",)),))
    assert (small.method, small.options) == ("adapter", (("bottleneck", 8), ("placement", "parallel")))
    assert len({query, *own.plan("cola", "query", rates=1e-3)}) == 1


@pytest.mark.parametrize("axes, message", [
    ({"tasks": ["rte"]}, "study tiny has no task 'rte': it has mrpc, cola, stsb; add it to its YAML file"),
    ({"arms": ["full", "bitfitt"]}, "study tiny has no arm 'bitfitt': it has full, bitfit, adapter, head"),
    ({"fractions": [1.5]}, "fraction must be in"), ({"rates": {("cola", "bitfit"): 1e-3}}, "no rate for cola full"),
    ({"seeds": [2 ** 32]}, "subset_seed must be a whole number, at most 4294967295, got 4294967296"),
    ({"lr": 1e-3}, "plan has no setting lr: besides tasks, arms, rates, fractions and seeds it takes batch_size"),
    ({"options": ()}, "plan has no setting options"), ({"momentum": 0.9}, "plan has no setting momentum")])
def test_a_plan_that_cannot_be_is_an_error(tiny_study, axes, message):
    with pytest.raises(ValueError, match=message):
        tiny_study.plan(**{"tasks": "cola", "arms": "full", "rates": 1e-3, **axes})


def test_what_later_cells_need_is_checked_first(tiny_study):
    assert tiny_study.check(["mrpc"], ["full"], seeds=[0, 1], at_least=2) is None
    with pytest.raises(ValueError, match=r"seeds must be at least 2 different ones, .*got \[1, 1\]"):
        tiny_study.check(seeds=[1, 1], at_least=2)
    with pytest.raises(ValueError, match="study tiny has no task 'rte'"):
        tiny_study.check(["rte"])
    with pytest.raises(ValueError, match="study tiny has no arm 'fulll'"):
        tiny_study.check(arms=["fulll"])
    with pytest.raises(ValueError, match=r"arms must hold full, the baseline .*, got bitfit, head"):
        tiny_study.check(arms=["bitfit", "head"])


# Loading a study

def test_an_unknown_study_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown study 'nonesuch': choose from .*minilm"):
        study.load("nonesuch")


def test_a_study_about_other_weights_refuses_these(tiny_yaml, tiny_encoder):
    with pytest.raises(ValueError, match=r"about tiny-bert with weights 0000000000000000: copy tiny\.yaml"):
        study.load(changed(tiny_yaml, weights="0" * 16), encoder=tiny_encoder)


def test_a_study_about_these_weights_takes_them(tiny_yaml, tiny_study, tiny_encoder):
    assert study.load(changed(tiny_yaml, weights=tiny_study.weights), encoder=tiny_encoder).weights == tiny_study.weights


def test_an_encoder_that_is_not_there_is_an_error(tiny_yaml, tmp_path):
    with pytest.raises(ValueError, match=r"no encoder's folder at .*nowhere"):
        study.load(changed(tiny_yaml, weights="0" * 16), encoder=str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"no encoder at .*nowhere"):
        study.load(changed(tiny_yaml, weights=None), encoder=str(tmp_path / "nowhere"))


def test_the_encoder_s_name_is_the_study_s_wherever_it_lies(tiny_study, tiny_yaml, tmp_path, tiny_encoder, tiny_glue):
    """Records must not depend on where somebody keeps the files."""
    moved = shutil.copytree(tiny_encoder, tmp_path / "moved")
    glue = shutil.copytree(tiny_glue, tmp_path / "moved-glue")
    elsewhere = study.load(str(tiny_yaml), source=str(glue), encoder=str(moved))
    keys = [[run.key for run in here.plan("cola", "full", rates=1e-3)] for here in (tiny_study, elsewhere)]
    assert keys[0] == keys[1]


# Executing

@pytest.fixture
def trained(monkeypatch):
    """Training that is not done: the list of runs that would have been trained, each scored by its own learning rate."""
    called = []

    def train_run(run, task, source, encoder_at, unfinished):
        called.append(run)
        return made_result(run, run.lr)

    monkeypatch.setattr(runs, "train_run", train_run)
    return called


@pytest.fixture
def wanted(tiny_study):
    return tiny_study.plan("cola", ["full", "head"], fractions=[1.0, 0.5], seeds=[0, 1], rates=1e-3)


def files(tiny_study, pattern="*.json"):
    return sorted(paths.results(tiny_study.name).rglob(pattern))


def accidents():
    """What is kept of accidents, by key."""
    kept = [json.loads(file.read_text()) for file in (paths.results("tiny") / locks.ACCIDENTS).glob("*.json")]
    return {accident["key"]: accident for accident in kept}


def test_what_has_a_record_is_not_trained_again(tiny_study, wanted, trained):
    first = tiny_study.execute(wanted[:3], group="some")
    assert len(trained) == 3
    again = tiny_study.execute(wanted[:3], group="others")
    assert len(trained) == 3
    assert first["score"].tolist() == again["score"].tolist()
    tiny_study.execute(wanted, group="others")
    assert sorted(run.key for run in trained) == sorted(run.key for run in wanted)
    assert [file.parent.name for file in files(tiny_study)] == ["others"] * 5 + ["some"] * 3


def test_reading_trains_nothing_and_leaves_out_what_has_no_record(tiny_study, wanted, trained):
    tiny_study.execute(wanted[:2], group="some")
    trained.clear()
    assert tiny_study.recorded(wanted)["key"].tolist() == [run.key for run in wanted[:2]]
    assert not trained


def test_a_table_is_the_same_whether_its_runs_were_trained_now_or_before(tiny_study):
    run, = tiny_study.plan("cola", "adapter", rates=1e-3, fractions=[0.5], points=2)
    now, before = (tiny_study.execute([run], group="some").iloc[0].map(str).to_dict() for _ in range(2))
    assert now == before


def test_rows_are_in_the_order_of_the_runs_and_small_fractions_train_first(tiny_study, wanted, trained):
    tiny_study.execute(wanted[2:4], group="some")
    table = tiny_study.execute([*wanted, wanted[0]], group="some")
    assert table["key"].tolist() == [run.key for run in wanted]
    assert [run.fraction for run in trained[2:]] == sorted(run.fraction for run in trained[2:])


def test_rows_say_what_figures_and_prose_need(tiny_study, trained):
    table = tiny_study.execute(tiny_study.plan(["stsb", "mrpc"], ["adapter", "full"], rates=0.25), group="some")
    assert table["arm"].tolist() == ["adapter", "full"] * 2 and table["arm_place"].tolist() == [2, 0] * 2
    assert table["task_place"].tolist() == [2, 2, 0, 0]  # the study's, whatever the order of the plan
    assert table["task_title"].tolist() == ["STS-B"] * 2 + ["MRPC"] * 2
    assert table["metric_axis"].tolist() == ["Pearson correlation × 100"] * 2 + ["F1 × 100"] * 2
    assert table[["metric_low", "metric_high", "better"]].values.tolist() == [[-100, 100, 1]] * 2 + [[0, 100, 1]] * 2
    assert table["score"].tolist() == pytest.approx([25] * 4)
    assert table["chance"].tolist() == pytest.approx([0, 0, 200 / 3, 200 / 3])
    assert table["learnt"].all() and set(table["status"]) == {"ok"}


def test_real_training_gives_rows_with_scores_in_points(tiny_study, monkeypatch):
    wanted = tiny_study.plan("cola", ["head", "bitfit"], rates=3e-2, fractions=[0.5])
    table = tiny_study.execute(wanted, group="some")
    stored = records.read(paths.results("tiny"))
    assert table["score"].tolist() == pytest.approx([100 * stored[run.key]["score"] for run in wanted])
    assert table["score"].max() > 1
    monkeypatch.setattr(runs, "train_run", lambda *_: pytest.fail("trained again"))
    assert tiny_study.execute(wanted, group="some")["score"].tolist() == table["score"].tolist()


@pytest.mark.parametrize("error", [RuntimeError("no luck"), MemoryError("no room"), torch.OutOfMemoryError("no room there")],
                         ids=lambda error: type(error).__name__)
def test_a_run_that_meets_an_accident_has_no_row_and_others_go_on(tiny_study, wanted, trained, error, monkeypatch, capsys):
    train_run = runs.train_run

    def fail_on_head(run, *where):
        if run.method == "head":
            raise error
        return train_run(run, *where)

    monkeypatch.setattr(runs, "train_run", fail_on_head)
    table = tiny_study.execute(wanted, group="some")
    assert table["key"].tolist() == [run.key for run in wanted if run.method != "head"]
    reason = f"{type(error).__name__}: {error}"
    assert ("4 trained, 0 diverged, 4 accidents; they have no result, and the next call tries them again. The first: cola "
            f"head: {reason}") in capsys.readouterr().out
    assert {accident["reason"] for accident in accidents().values()} == {reason}
    assert "fail_on_head" in accidents()[wanted[1].key]["traceback"]
    assert not any(file.stem.endswith(wanted[1].key) for file in files(tiny_study) if file.parent.name == "some")
    monkeypatch.setattr(runs, "train_run", train_run)
    assert tiny_study.execute(wanted, group="some")["key"].tolist() == [run.key for run in wanted]
    assert accidents() == {}


def test_where_accidents_leave_nothing_it_is_an_error(tiny_study, wanted, monkeypatch):
    monkeypatch.setattr(runs, "train_run", lambda *_: 1 / 0)
    with pytest.raises(RuntimeError, match="all 8 runs met an accident, the first: ZeroDivisionError: division by zero"):
        tiny_study.execute(wanted, group="some")


def test_a_run_that_diverges_is_a_result_at_the_score_of_knowing_nothing(tiny_study):
    wild, = tiny_study.plan("mrpc", "full", rates=1e38, fractions=[0.5])
    other, = tiny_study.plan("mrpc", "head", rates=1e-2, fractions=[0.5])
    table = tiny_study.execute([wild, other], group="some")
    assert table["status"].tolist() == ["diverged", "ok"]
    assert table["learnt"].tolist()[0] is False
    assert table["score"][0] == table["chance"][0] > 50
    assert accidents() == {}


@pytest.mark.parametrize("stopped_at", [0, 2])
def test_stopped_it_loses_only_the_run_in_flight(tiny_study, wanted, trained, monkeypatch, stopped_at):
    train_run = runs.train_run

    def stop(run, *where):
        if len(trained) == stopped_at:
            raise KeyboardInterrupt
        return train_run(run, *where)

    monkeypatch.setattr(runs, "train_run", stop)
    with pytest.raises(KeyboardInterrupt):
        tiny_study.execute(wanted, group="some")
    assert len(files(tiny_study)) == stopped_at
    monkeypatch.setattr(runs, "train_run", train_run)
    table = tiny_study.execute(wanted, group="some")
    assert len(trained) == len({run.key for run in trained}) == len(wanted)
    assert (table["status"] == "ok").all()


def test_a_record_that_is_not_sound_is_trained_again(tiny_study, wanted, trained, capsys):
    tiny_study.execute(wanted, group="some")
    truncated, edited, *_ = files(tiny_study)
    truncated.write_text(truncated.read_text()[:100])
    edited.write_text(edited.read_text().replace('"lr": 0.001', '"lr": 0.002'))
    trained.clear()
    table = tiny_study.execute(wanted, group="some")
    assert {f"{run.name}.json" for run in trained} == {truncated.name, edited.name}
    assert len(files(tiny_study, "*.broken")) == 2
    assert capsys.readouterr().out.count("set aside a record that is not sound") == 2
    assert set(table["lr"]) == {0.001}


def test_two_processes_at_once_give_the_scores_of_one(tiny_study, monkeypatch, tmp_path):
    wanted = tiny_study.plan("cola", ["full", "adapter"], seeds=[0, 1], fractions=[0.5], rates=1e-3)
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "two"))
    two = tiny_study.execute(wanted, group="some", jobs=2)
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "one"))
    one = tiny_study.execute(wanted, group="some")
    stored = [records.read(tmp_path / home / "results" / "tiny") for home in ("two", "one")]
    assert two["score"].tolist() == one["score"].tolist()
    for run in wanted:
        assert stored[0][run.key]["losses"] == stored[1][run.key]["losses"]
        assert stored[0][run.key]["predictions"] == stored[1][run.key]["predictions"]


# Input errors, before anything trains

def refuses(tiny_study, wanted, message):
    with pytest.raises(ValueError, match=message):
        tiny_study.execute(wanted, group="some")
    assert not files(tiny_study)


def test_other_data_than_the_published_is_refused(tiny_yaml, tiny_encoder, tiny_glue, tiny_study, trained):
    pinned = study.load(changed(tiny_yaml, data="published"), source=tiny_glue, encoder=tiny_encoder)
    wanted = pinned.plan("cola", "full", rates=1e-3)
    assert wanted[0].data == tasks.get("cola").digest
    refuses(pinned, wanted, "is not the published data")
    assert not trained


def test_weights_that_changed_since_are_refused(tiny_yaml, tiny_glue, tiny_study, tmp_path, trained):
    folder = save_encoder(tmp_path / "encoder")
    loaded = study.load(str(tiny_yaml), source=tiny_glue, encoder=str(folder))
    save_encoder(folder, seed=1)
    refuses(loaded, loaded.plan("cola", "full", rates=1e-3), "are not those of study tiny")
    assert not trained


def test_unsound_data_is_refused_when_the_plan_is_made(tiny_yaml, tiny_encoder, tmp_path):
    for split in ("train", "validation"):
        write_split(tmp_path / "glue", "mrpc", split, [{**row, "label": 7} for row in rows("mrpc", split)])
    loaded = study.load(str(tiny_yaml), source=str(tmp_path / "glue"), encoder=tiny_encoder)
    with pytest.raises(ValueError, match=r"mrpc.*train.*label 7 is not known"):
        loaded.plan("mrpc", "full", rates=1e-3)


def with_arm(tiny_yaml, tiny_glue, tiny_encoder, **settings):
    """The study with the arm that these settings make, and no other."""
    return study.load(changed(tiny_yaml, arms={"odd": {"rates": [0.01], **settings}}), tiny_glue, tiny_encoder)


def test_one_run_that_cannot_train_stops_those_before_it(tiny_study, wanted, trained, tiny_yaml, tiny_glue, tiny_encoder):
    odd = with_arm(tiny_yaml, tiny_glue, tiny_encoder, method="last_k", options={"k": 7})
    refuses(tiny_study, [*wanted, *odd.plan("cola", rates=1e-3)], "k must be 1 to 2")
    assert not trained


@pytest.mark.parametrize("arm, message", [
    ({"method": "adapter", "options": {"botleneck": 8}}, r"tiny\.yaml: arms: odd: adapter has no option botleneck"),
    ({"method": "bitfit", "options": {"terms": ["quarry"]}}, "unknown bitfit term quarry"),
    ({"method": "last_k", "options": {"k": 7}}, "k must be 1 to 2")], ids=str)
def test_arms_that_cannot_train_are_refused(tiny_yaml, tiny_glue, tiny_encoder, tiny_study, arm, message):
    """Rather than trained, and met by so many accidents."""
    def execute():
        odd = with_arm(tiny_yaml, tiny_glue, tiny_encoder, **arm)
        odd.execute(odd.plan("cola", rates=1e-3), group="some")

    with pytest.raises(ValueError, match=message):
        execute()
    assert not files(tiny_study)


@pytest.mark.parametrize("wrong, message", [
    ({"pooler": "fresh"}, "pooler must be one of"),
    ({"precision": "fp16"}, "precision must be"),
    ({"steps": 0}, "steps must be a positive whole number, got 0"),
    ({"points": -1}, "points"),
    ({"steps": 3, "seconds": 1}, "a budget is one of epochs, steps and seconds"),
    ({"max_length": 3}, "max_length must be at least 4, for 3 special tokens and one of each text|max_length"),
    ({"max_length": 65}, "max_length"),
], ids=str)
def test_settings_that_cannot_train_are_refused(tiny_study, wrong, message):
    def execute():
        wanted = tiny_study.plan("mrpc", "full", rates=1e-3, fractions=[0.5], **wrong)
        tiny_study.execute(wanted, group="some")

    with pytest.raises(ValueError, match=message):
        execute()
    assert not files(tiny_study)


def test_bf16_on_an_accelerator_without_it_is_refused_in_one_sentence(tiny_yaml, tiny_glue, tiny_encoder, tiny_study,
                                                                      trained, monkeypatch):
    from studykit.training import machine

    own = study.load(changed(tiny_yaml, precision="bf16"), tiny_glue, tiny_encoder)
    monkeypatch.setattr(machine, "best_device", lambda: torch.device("mps"))
    refuses(own, own.plan("cola", "full", rates=1e-3), "^study tiny trains in bf16, which this machine's accelerator .*"
            "precision: fp32, whose records are kept apart$")
    assert not trained


def test_a_study_in_bf16_is_not_refused_on_a_processor_without_units_for_it(tiny_yaml, tiny_glue, tiny_encoder, tiny_study,
                                                                            trained, monkeypatch):
    from studykit.training import machine

    own = study.load(changed(tiny_yaml, precision="bf16"), tiny_glue, tiny_encoder)
    wanted = own.plan("cola", "full", rates=1e-3)
    assert {run.precision for run in wanted} == {"bf16"}
    monkeypatch.setattr(machine, "best_precision", lambda device: "fp32")
    own.execute(wanted, group="some")
    assert trained == wanted
    monkeypatch.setattr(machine, "best_precision", lambda device: "bf16")
    assert len(own.execute(wanted, group="some")) == 1 and trained == wanted  # one record, whatever the machine has


def test_runs_in_another_precision_are_other_runs(tiny_study, trained):
    both = [*tiny_study.plan("cola", "full", rates=1e-3), *tiny_study.plan("cola", "full", rates=1e-3, precision="bf16")]
    assert len({run.key for run in both}) == 2


def few(tiny_glue, tmp_path, count):
    """A folder in which MRPC has so few rows to train on."""
    for split, made in (("train", rows("mrpc", "train")[:count]), ("validation", rows("mrpc", "validation"))):
        write_split(tmp_path / "few", "mrpc", split, made)
    return str(tmp_path / "few")


def test_rows_that_are_added_to_a_file_are_seen_at_once(tiny_yaml, tiny_glue, tiny_encoder, tiny_study, tmp_path):
    """As in a notebook whose reader mends his file and runs the cell again."""
    keys, counts = set(), []
    for count in (40, 60):
        own = study.load(str(tiny_yaml), few(tiny_glue, tmp_path, count), tiny_encoder)
        keys |= {run.key for run in own.plan("mrpc", "head", rates=1e-2)}
        counts.append(len(runs.encodings(own.tasks["mrpc"], own.source, own.encoder_at, 32)[0]["train"]))
    assert len(keys) == 2 and counts == [40, 60]


def test_too_few_rows_to_choose_rates_on_are_refused_and_how_many_it_takes_is_said(tiny_yaml, tiny_glue, tiny_encoder,
                                                                                   tiny_study, tmp_path, trained):
    small = study.load(str(tiny_yaml), few(tiny_glue, tmp_path, 8), tiny_encoder)
    with pytest.raises(ValueError, match=r"mrpc has 8 rows to train on, too few .* (\d+) rows with these shares .* would do"
                       ) as refusal:
        small.choose_rates("mrpc")
    assert not trained and not files(tiny_study)
    needed = int(str(refusal.value).split(": ")[-1].split()[0])
    assert 13 < needed < 120
    enough = study.load(str(tiny_yaml), few(tiny_glue, tmp_path, needed), tiny_encoder)
    enough.choose_rates("mrpc", "full")
    assert trained


# Learning rates

def test_each_arm_has_as_many_trials_on_the_selection_split(tiny_study, trained):
    table = tiny_study.execute(tiny_study.trials(["mrpc", "cola"]), group="02_learning_rates")
    assert set(table.groupby(["task", "arm"]).size()) == {2}
    assert {run.score_on for run in trained} == {"selection"}
    assert {(run.fraction, run.seed) for run in trained} == {(0.5, 1000)}
    assert [file.parent.name for file in files(tiny_study)] == ["02_learning_rates"] * 16


def scored(monkeypatch, score, **fields):
    """Training that is not done: each run's score is that of this function."""
    monkeypatch.setattr(runs, "train_run", lambda run, *_: made_result(
        run, score(run), **{name: field(run) for name, field in fields.items()}))


def test_a_best_rate_at_the_edge_has_the_range_widened_there(tiny_study, monkeypatch):
    """The best rates lie outside the two that the study tries."""
    best = {"full": 1e-3, "bitfit": 0.1, "adapter": 5e-4, "head": 1e-9}
    scored(monkeypatch, lambda run: -abs(math.log(run.lr / best[run.method])))
    rates, trials = tiny_study.choose_rates("mrpc", ARMS)
    tried = {arm: sorted(of["lr"]) for arm, of in trials.groupby("arm")}
    given = {arm: list(tiny_study.arms[arm].rates) for arm in ARMS}
    assert tried["full"] == [3e-4, 1e-3, 3e-3]
    assert tried["bitfit"] == [*given["bitfit"], 0.1, 0.3]
    assert tried["adapter"] == [3e-4, 1e-3, *given["adapter"]]
    assert len(tried["head"]) == len(given["head"]) + 2  # no further than twice
    assert rates["mrpc", "bitfit"] == 0.1
    assert len(files(tiny_study)) == len(trials)


def test_the_rate_with_the_best_score_is_chosen(tiny_study, monkeypatch):
    """Here the higher rate scores better for BitFit, and the lower one for the others, on the same answers."""
    scored(monkeypatch, lambda run: run.lr if run.method == "bitfit" else 1 - run.lr)
    monkeypatch.setattr(rates, "WIDEN", 0)
    chosen, _ = tiny_study.choose_rates(["mrpc", "cola"], ARMS)
    tried = {arm: tiny_study.arms[arm].rates for arm in ARMS}
    assert chosen == {(task, arm): (max if arm == "bitfit" else min)(tried[arm])
                      for task in ("mrpc", "cola") for arm in ARMS}


def test_close_choices_have_more_seeds_where_the_study_has_some(tiny_yaml, tiny_encoder, tiny_glue, monkeypatch):
    """BitFit's rates score alike, those of the others do not."""
    trials = {**yaml.safe_load(tiny_yaml.read_text())["trials"], "close": [2001, 2002]}
    own = study.load(changed(tiny_yaml, trials=trials), source=tiny_glue, encoder=tiny_encoder)
    scored(monkeypatch, lambda run: 0.5 if run.method == "bitfit" else 1 - run.lr)
    monkeypatch.setattr(rates, "WIDEN", 0)
    _, tried = own.choose_rates("mrpc", ["full", "bitfit"])
    by_rate = tried.groupby(["arm", "lr"])["seed"].agg(set)
    assert all(seeds == set(trials["seeds"]) for seeds in by_rate["full"])
    assert all(seeds == {*trials["seeds"], 2001, 2002} for seeds in by_rate["bitfit"])
    assert own.choose_rates("mrpc", ["full", "bitfit"], train=False)[1]["key"].tolist() == tried["key"].tolist()
    with pytest.raises(ValueError, match="trials: seeds: 0 is a seed of the report too"):
        study.load(changed(tiny_yaml, trials={**trials, "close": [0]}), source=tiny_glue, encoder=tiny_encoder)


def test_an_arm_with_one_rate_has_no_edge():
    assert rates.beyond(SimpleNamespace(learnt=True, rate=1e-3, best=1e-3), [1e-3]) == []


def test_a_constant_answer_is_not_chosen_however_well_it_scores(tiny_study, monkeypatch):
    scored(monkeypatch, lambda run: run.lr, collapsed=lambda run: run.lr > 2e-3)
    assert tiny_study.choose_rates("mrpc", "full")[0] == {("mrpc", "full"): 1e-3}


def test_where_no_rate_taught_anything_the_middle_one_is_run_and_marked(tiny_study, monkeypatch):
    scored(monkeypatch, lambda run: 0.5, collapsed=lambda run: run.method == "head")
    chosen, trials = tiny_study.choose_rates("mrpc", ["full", "head"])
    assert chosen["mrpc", "head"] == 3e-2  # of two the upper
    choices = rates.judged(trials).set_index("arm")
    assert choices["learnt"].to_dict() == {"full": True, "head": False}
    assert len(trials[trials["arm"] == "head"]) == 2  # nothing is widened


def test_trials_may_have_epochs_of_their_own(tiny_yaml, tiny_encoder, tiny_glue, tiny_study, trained):
    trials = {**yaml.safe_load(tiny_yaml.read_text())["trials"], "epochs": 9}
    own = study.load(changed(tiny_yaml, trials=trials), source=tiny_glue, encoder=tiny_encoder)
    own.choose_rates("mrpc", "full")
    assert {run.epochs for run in trained} == {9}


def test_killed_it_loses_only_the_run_in_flight(tiny_study, tiny_yaml, tiny_glue, tiny_encoder, capsys):
    plan = "plan(arms=['full', 'bitfit'], seeds=[0, 1], rates=1e-3)"
    load = f"study.load({str(tiny_yaml)!r}, source={tiny_glue!r}, encoder={tiny_encoder!r})"
    code = f"from studykit import study; s = {load}; s.execute(s.{plan}, group='x')"
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    folder = paths.results(tiny_study.name)
    while len(list(folder.rglob("*.json"))) < 3:
        assert worker.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    worker.kill()
    worker.wait()
    done = {file.name: file.read_bytes() for file in folder.rglob("*.json")}
    wanted = tiny_study.plan(arms=["full", "bitfit"], seeds=[0, 1], rates=1e-3)
    table = tiny_study.execute(wanted, group="x")
    assert f"{len(done)} read from records, {len(wanted) - len(done)} trained" in capsys.readouterr().out
    assert len(done) < len(wanted) == len(table)
    assert all((folder / "x" / name).read_bytes() == made for name, made in done.items())


def driver(tiny_yaml, tiny_glue, tiny_encoder, log, jobs=1, group="x", seeds=3):
    """A process that executes what is ``planned`` and, with one job, writes to a log the key of each run that it trains."""
    code = f"""
import os
from studykit import study
from studykit.study import runs
train = runs.train_run
def logged(run, *where):
    with open({str(log)!r}, "a") as lines:
        lines.write(run.key + "\\n")
    return train(run, *where)
runs.train_run = logged
s = study.load({str(tiny_yaml)!r}, source={tiny_glue!r}, encoder={tiny_encoder!r})
s.execute(s.plan(**{planned(seeds)}), group={group!r}, jobs={jobs})
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def planned(seeds):
    return {"arms": ["full", "bitfit"], "seeds": [*range(seeds)], "rates": 1e-3, "steps": 3}


def scores_of(table):
    return dict(zip(table["key"], table["score"], strict=True))


@pytest.mark.parametrize("groups", [("x", "x"), ("x", "y")])
def test_two_drivers_at_once_train_no_run_twice(groups, tiny_study, tiny_yaml, tiny_glue, tiny_encoder, tmp_path):
    both = [driver(tiny_yaml, tiny_glue, tiny_encoder, tmp_path / "log", group=group) for group in groups]
    assert [each.wait() for each in both] == [0, 0]
    trained = (tmp_path / "log").read_text().split()
    assert len(trained) == len(set(trained)) == 18
    assert len(files(tiny_study)) == 18
    assert not list(paths.results(tiny_study.name).rglob(".*"))  # no lock and no temporary file is left


KILLS = int(os.environ.get("STUDYKIT_KILLS", "0"))  # the full setting: 50, over 102 runs


@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_again_and_again_the_table_is_that_of_an_undisturbed_run(tiny_study, tiny_yaml, tiny_glue, tiny_encoder,
                                                                        tmp_path, monkeypatch, jobs):
    """At random moments, the driver or, of two jobs, now and then a worker of its."""
    rng, seeds, kills = random.Random(jobs), 17 if KILLS else 3, -(-KILLS // 2) or 3
    wanted, deaths, started = tiny_study.plan(**planned(seeds)), 0, None
    while deaths < kills and len(files(tiny_study)) < len(wanted):
        if started is None or started.poll() is not None:
            started = driver(tiny_yaml, tiny_glue, tiny_encoder, tmp_path / "log", jobs, seeds=seeds)
        before = len(files(tiny_study))
        while started.poll() is None and len(files(tiny_study)) == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))  # it trains, or writes
        victim = rng.choice([started.pid, *workers(started.pid)])
        if started.poll() is None:
            os.kill(victim, signal.SIGKILL)
            deaths += 1
        assert len(files(tiny_study)) >= before
    started.kill()
    started.wait()
    assert deaths >= min(kills, 3)
    disturbed = tiny_study.execute(wanted, group="x")
    assert not list(paths.results(tiny_study.name).rglob("*.broken"))
    assert len(files(tiny_study)) == len(wanted) == len(disturbed)
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "undisturbed"))
    assert scores_of(tiny_study.execute(wanted, group="x")) == scores_of(disturbed)


def workers(driver):
    """The process ids of a driver's loky workers."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"PPid:\t{driver}\n" in status.read_text() and "loky" in (status.parent / "cmdline").read_text():
                found.append(int(status.parent.name))
    return found


def test_on_a_full_disk_it_stops_with_one_sentence_and_goes_on_later(tiny_study, monkeypatch):
    wanted, replace = tiny_study.plan(["mrpc", "cola"], "bitfit", rates=1e-3, steps=2), os.replace
    written = []

    def full(*names):
        if len(written) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(names)
        replace(*names)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"No space left on device.*make room and call again"):
        tiny_study.execute(wanted, group="x")
    assert len(files(tiny_study)) == 1
    monkeypatch.setattr(os, "replace", replace)
    assert len(tiny_study.execute(wanted, group="x")) == 2
    assert len(files(tiny_study)) == 2


def test_an_edited_record_is_set_aside_and_trained_again(tiny_study, capsys):
    wanted = tiny_study.plan("mrpc", "bitfit", rates=1e-3, steps=2)
    before = tiny_study.execute(wanted, group="x")
    (file,) = files(tiny_study)
    file.write_text(file.read_text().replace('"steps": 2', '"steps": 3', 1).replace('"status": "ok"', '"status": "fine"'))
    assert scores_of(tiny_study.execute(wanted, group="x")) == scores_of(before)
    assert "set aside a record that is not sound" in capsys.readouterr().out
    assert file.with_suffix(".broken").exists()


def test_an_encoder_is_found_beside_the_study_s_file_from_any_folder(tiny_yaml, tiny_encoder, tmp_path, monkeypatch):
    shutil.copytree(tiny_encoder, tmp_path / "enc")
    own = tmp_path / "own.yaml"
    own.write_text(re.sub(r"^encoder:.*$", "encoder: enc", tiny_yaml.read_text(), flags=re.MULTILINE))
    monkeypatch.chdir(paths.REPO / "notebooks")
    loaded = study.load(own)
    assert (loaded.encoder, loaded.encoder_at) == ("enc", str(tmp_path / "enc"))


def test_what_chose_the_rates_is_no_report(tiny_study):
    chose = tiny_study.design.trials.seeds[0]
    with pytest.raises(ValueError, match=f"seeds: {chose} chose this study's learning rates: report with others"):
        tiny_study.check(seeds=[0, chose])


def test_a_system_s_timeout_is_an_accident_and_the_others_train(tiny_study, monkeypatch, capsys):
    train = runs.train_run

    def slow_disk(run, *given, **options):
        if run.subset_seed == 0:
            raise OSError(110, "Connection timed out")
        return train(run, *given, **options)

    monkeypatch.setattr(runs, "train_run", slow_disk)
    table = tiny_study.execute(tiny_study.plan("cola", "head", rates=1e-3, seeds=[0, 1]), group="x")
    assert table["seed"].tolist() == [1]


def test_an_encoder_that_is_written_anew_is_read_anew(tiny_encoder, tmp_path):
    from studykit.study import worker

    folder = tmp_path / "enc"
    shutil.copytree(tiny_encoder, folder)
    before = worker._weights(str(folder), runs.stamp(folder))
    encoders.load(folder, 2, seed=5, pretrained=False).base_model.save_pretrained(folder)
    assert worker._weights(str(folder), runs.stamp(folder)) != before
