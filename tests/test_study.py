import contextlib
import errno
import itertools
import math
import os
import random
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
from conftest import rows, save_encoder, write_split

from studykit import paths, study, tasks
from studykit.models import encoders
from studykit.study import records, runs

METHODS = ["full", "bitfit", "adapter", "head"]
RATES = {(task, method): 10 ** -(i + 1.0)
         for i, (task, method) in enumerate(itertools.product(["mrpc", "cola", "stsb"], METHODS))}


# The grid

def test_a_grid_is_all_combinations(tiny_study):
    axes = {"task": ["mrpc", "cola"], "method": METHODS, "fraction": [0.1, 1.0], "seed": range(3)}
    grid = tiny_study.grid(**axes, lr=1e-3)
    found = {(run.task, run.method, run.fraction, run.seed) for run in grid}
    assert found == set(itertools.product(*axes.values()))
    assert len(grid) == len({run.key for run in grid}) == 2 * 4 * 2 * 3


def test_a_grid_has_the_study_s_settings(tiny_study, tiny_encoder, tiny_glue):
    run, = tiny_study.grid(task="cola", method="full", lr=1e-3)
    assert (run.encoder, run.pooler, run.batch_size, run.max_length) == ("tiny-bert", "new", 16, 32)
    assert (run.epochs, run.min_steps, run.fraction, run.seed) == (4, 30, 1.0, 0)
    assert run.data == tasks.digest(tasks.load("cola", tiny_glue))
    assert run.weights == encoders.digest(tiny_encoder)


def test_runs_of_a_grid_differ_in_nothing_but_its_axes(tiny_study):
    """So all methods under one seed share their examples, head and order."""
    one, other = tiny_study.grid(task="cola", method=["full", "adapter"], seed=4, lr=1e-3)
    fields = vars(one).keys() | vars(other).keys()
    assert {name for name in fields - {"key"} if getattr(one, name) != getattr(other, name)} == {"method"}
    assert (one.subset_seed, one.init_seed, one.order_seed) == (4, 4, 4)


def test_rates_may_differ_by_task_and_method(tiny_study):
    grid = tiny_study.grid(task=["mrpc", "cola", "stsb"], method=METHODS, lr=RATES, seed=[0, 1])
    assert all(run.lr == RATES[run.task, run.method] for run in grid)


def test_fixed_fields_go_to_every_run(tiny_study):
    grid = tiny_study.grid(task="cola", method=["adapter"], seed=[1, 2], lr=1e-3, steps=7, order_seed=9,
                           options={"placement": "parallel", "bottleneck": 8})
    assert [(run.subset_seed, run.order_seed) for run in grid] == [(1, 9), (2, 9)]
    assert {(run.steps, run.epochs, run.options) for run in grid} == {
        (7, None, (("bottleneck", 8), ("placement", "parallel")))}


def test_options_may_be_lists_as_yaml_has_them(tiny_study):
    one, = tiny_study.grid(task="cola", method="bitfit", lr=1e-3, options={"terms": ["query"]})
    other, = tiny_study.grid(task="cola", method="bitfit", lr=1e-3, options={"terms": ("query",)})
    assert one == other
    assert len({one, other}) == 1


@pytest.mark.parametrize("axes, message", [
    ({"task": "rte"}, "unknown task 'rte'"), ({"method": ["full", "bitfitt"]}, "unknown method 'bitfitt'"),
    ({"fraction": 1.5}, "fraction must be in"), ({"lr": {("cola", "bitfit"): 1e-3}}, "no lr for cola full")])
def test_a_grid_that_cannot_be_is_an_error(tiny_study, axes, message):
    with pytest.raises(ValueError, match=message):
        tiny_study.grid(**{"task": "cola", "method": "full", "lr": 1e-3, **axes})


# Loading a study

def changed(tiny_yaml, **settings):
    """The study's YAML file with other settings; ``None`` takes one out."""
    merged = {**yaml.safe_load(tiny_yaml.read_text()), **settings}
    tiny_yaml.write_text(yaml.safe_dump({key: value for key, value in merged.items() if value is not None}))
    return str(tiny_yaml)


def test_an_unknown_study_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown study 'nonesuch': choose from .*minilm"):
        study.load("nonesuch")


def test_a_study_without_a_setting_is_an_error(tiny_yaml):
    with pytest.raises(ValueError, match="lacks batch_size, trials"):
        study.load(changed(tiny_yaml, batch_size=None, trials=None))


def test_methods_with_different_numbers_of_trials_are_an_error(tiny_yaml, tiny_encoder):
    trials = yaml.safe_load(tiny_yaml.read_text())["trials"]
    trials["rates"]["bitfit"].append(0.1)
    with pytest.raises(ValueError, match="different numbers of trials"):
        study.load(changed(tiny_yaml, trials=trials), encoder=tiny_encoder)


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
    keys = [[run.key for run in one.grid(task="cola", method="full", lr=1e-3)] for one in (tiny_study, elsewhere)]
    assert keys[0] == keys[1]


# Executing

@pytest.fixture
def trained(monkeypatch):
    """Training that is not done: the list of runs that would have been trained, each scored by its own learning rate."""
    called = []

    def train_run(run, source, encoder_at):
        called.append(run)
        return {"status": "ok", "reason": "", "scores": {}, "score": run.lr}

    monkeypatch.setattr(runs, "train_run", train_run)
    return called


@pytest.fixture
def grid(tiny_study):
    return tiny_study.grid(task="cola", method=["full", "head"], fraction=[1.0, 0.5], seed=[0, 1], lr=1e-3)


def files(tiny_study, pattern="*.json"):
    return sorted(paths.results(tiny_study.name).rglob(pattern))


def test_what_has_a_record_is_not_trained_again(tiny_study, grid, trained):
    first = tiny_study.execute(grid[:3], group="some")
    assert len(trained) == 3
    again = tiny_study.execute(grid[:3], group="others")
    assert len(trained) == 3
    assert first["score"].tolist() == again["score"].tolist()
    tiny_study.execute(grid, group="others")
    assert sorted(run.key for run in trained) == sorted(run.key for run in grid)
    assert [file.parent.name for file in files(tiny_study)] == ["others"] * 5 + ["some"] * 3


def test_a_table_is_the_same_whether_its_runs_were_trained_now_or_before(tiny_study):
    run, = tiny_study.grid(task="cola", method="adapter", lr=1e-3, fraction=0.5, options={"bottleneck": 8}, points=2)
    now, before = (tiny_study.execute([run], group="some").iloc[0].dropna().to_dict() for _ in range(2))
    assert now == before


def test_rows_are_in_the_order_of_the_runs_and_small_fractions_train_first(tiny_study, grid, trained):
    tiny_study.execute(grid[2:4], group="some")
    table = tiny_study.execute([*grid, grid[0]], group="some")
    assert table["key"].tolist() == [run.key for run in grid]
    assert [run.fraction for run in trained[2:]] == sorted(run.fraction for run in trained[2:])


def test_real_training_gives_rows_with_scores_in_points(tiny_study, monkeypatch):
    grid = tiny_study.grid(task="cola", method=["head", "bitfit"], lr=3e-2, fraction=0.5)
    table = tiny_study.execute(grid, group="some")
    stored = records.read(paths.results("tiny"))
    assert table["score"].tolist() == pytest.approx([100 * stored[run.key]["score"] for run in grid])
    assert table["score"].max() > 1
    monkeypatch.setattr(runs, "train_run", lambda *_: pytest.fail("trained again"))
    assert tiny_study.execute(grid, group="some")["score"].tolist() == table["score"].tolist()


@pytest.mark.parametrize("error", [RuntimeError("no luck"), MemoryError("no room"), torch.OutOfMemoryError("no room there")],
                         ids=lambda error: type(error).__name__)
def test_a_run_that_fails_is_a_record_and_the_others_go_on(tiny_study, grid, trained, error, monkeypatch, capsys):
    train_run = runs.train_run

    def fail_on_head(run, *where):
        if run.method == "head":
            raise error
        return train_run(run, *where)

    monkeypatch.setattr(runs, "train_run", fail_on_head)
    table = tiny_study.execute(grid, group="some")
    assert table["status"].tolist() == ["failed" if run.method == "head" else "ok" for run in grid]
    assert set(table["reason"]) == {"", f"{type(error).__name__}: {error}"}
    assert table["score"].isna().tolist() == [run.method == "head" for run in grid]
    assert "8 trained, 4 not ok" in capsys.readouterr().out
    record = records.read(paths.results("tiny"))[grid[1].key]
    assert "fail_on_head" in record["traceback"]


def test_a_run_that_diverges_is_a_record_and_the_others_go_on(tiny_study):
    one, = tiny_study.grid(task="cola", method="full", lr=1e38, fraction=0.5, precision="fp32")
    other, = tiny_study.grid(task="cola", method="head", lr=1e-2, fraction=0.5)
    table = tiny_study.execute([one, other], group="some")
    assert table["status"].tolist() == ["diverged", "ok"]
    assert table["score"].isna().tolist() == [True, False]


@pytest.mark.parametrize("stopped_at", [0, 2])
def test_stopped_it_loses_only_the_run_in_flight(tiny_study, grid, trained, monkeypatch, stopped_at):
    train_run = runs.train_run

    def stop(run, *where):
        if len(trained) == stopped_at:
            raise KeyboardInterrupt
        return train_run(run, *where)

    monkeypatch.setattr(runs, "train_run", stop)
    with pytest.raises(KeyboardInterrupt):
        tiny_study.execute(grid, group="some")
    assert len(files(tiny_study)) == stopped_at
    monkeypatch.setattr(runs, "train_run", train_run)
    table = tiny_study.execute(grid, group="some")
    assert len(trained) == len({run.key for run in trained}) == len(grid)
    assert (table["status"] == "ok").all()


def test_a_record_that_is_not_sound_is_trained_again(tiny_study, grid, trained, capsys):
    tiny_study.execute(grid, group="some")
    truncated, edited, *_ = files(tiny_study)
    truncated.write_text(truncated.read_text()[:100])
    edited.write_text(edited.read_text().replace('"lr": 0.001', '"lr": 0.002'))
    trained.clear()
    table = tiny_study.execute(grid, group="some")
    assert {f"{run.name}.json" for run in trained} == {truncated.name, edited.name}
    assert len(files(tiny_study, "*.broken")) == 2
    assert capsys.readouterr().out.count("set aside a record that is not sound") == 2
    assert set(table["lr"]) == {0.001}


def test_two_processes_at_once_give_the_scores_of_one(tiny_study, monkeypatch, tmp_path):
    grid = tiny_study.grid(task="cola", method=["full", "adapter"], seed=[0, 1], fraction=0.5, lr=1e-3)
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "two"))
    two = tiny_study.execute(grid, group="some", jobs=2)
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "one"))
    one = tiny_study.execute(grid, group="some")
    stored = [records.read(tmp_path / home / "results") for home in ("two", "one")]
    assert two["score"].tolist() == one["score"].tolist()
    for run in grid:
        assert stored[0][run.key]["losses"] == stored[1][run.key]["losses"]
        assert stored[0][run.key]["predictions"] == stored[1][run.key]["predictions"]


# Input errors, before anything trains

def refuses(tiny_study, grid, message):
    with pytest.raises(ValueError, match=message):
        tiny_study.execute(grid, group="some")
    assert not files(tiny_study)


def test_other_data_than_the_published_is_refused(tiny_yaml, tiny_encoder, tiny_glue, tiny_study, trained):
    pinned = study.load(changed(tiny_yaml, data="published"), source=tiny_glue, encoder=tiny_encoder)
    grid = pinned.grid(task=["cola"], method="full", lr=1e-3)
    assert grid[0].data == tasks.get("cola").digest
    refuses(pinned, grid, "is not the published data")
    assert not trained


def test_weights_that_changed_since_are_refused(tiny_yaml, tiny_glue, tiny_study, tmp_path, trained):
    folder = save_encoder(tmp_path / "encoder")
    loaded = study.load(str(tiny_yaml), source=tiny_glue, encoder=str(folder))
    save_encoder(folder, seed=1)
    refuses(loaded, loaded.grid(task="cola", method="full", lr=1e-3), "are not those of study tiny")
    assert not trained


def test_unsound_data_is_refused_when_the_grid_is_made(tiny_yaml, tiny_encoder, tmp_path):
    for split in ("train", "validation"):
        write_split(tmp_path / "glue", "mrpc", split, [{**row, "label": 7} for row in rows("mrpc", split)])
    loaded = study.load(str(tiny_yaml), source=str(tmp_path / "glue"), encoder=tiny_encoder)
    with pytest.raises(ValueError, match="mrpc train: label 7 is out of range"):
        loaded.grid(task="mrpc", method="full", lr=1e-3)


def test_one_run_that_cannot_train_stops_those_before_it(tiny_study, grid, trained):
    wrong = tiny_study.grid(task="cola", method="last_k", lr=1e-3, options={"k": 7})
    refuses(tiny_study, [*grid, *wrong], "k must be 1 to 2")
    assert not trained


@pytest.mark.parametrize("wrong, message", [
    ({"method": "adapter", "options": {"botleneck": 8}}, "botleneck"),
    ({"method": "bitfit", "options": {"terms": ["quarry"]}}, "unknown bitfit term quarry"),
    ({"method": "last_k", "options": {"k": 7}}, "k must be 1 to 2"),
    ({"pooler": "fresh"}, "pooler must be one of"),
    ({"precision": "fp16"}, "precision must be"),
    ({"steps": 0}, "steps must be a positive whole number, got 0"),
    ({"points": -1}, "points"),
], ids=str)
def test_settings_that_cannot_train_are_refused(tiny_study, wrong, message):
    """Rather than trained, and recorded as so many failed runs."""
    def execute():
        grid = tiny_study.grid(**{"task": "cola", "method": "full", "lr": 1e-3, "fraction": 0.5, **wrong})
        tiny_study.execute(grid, group="some")

    with pytest.raises(ValueError, match=message):
        execute()
    assert not files(tiny_study)


# Learning rates

def test_each_method_has_as_many_trials_on_the_selection_split(tiny_study, trained):
    table = tiny_study.execute(tiny_study.trials(["mrpc", "cola"], METHODS), group="02_learning_rates")
    assert set(table.groupby(["task", "method"]).size()) == {2}
    assert {run.score_on for run in trained} == {"selection"}
    assert {(run.fraction, run.seed) for run in trained} == {(0.5, 1000)}
    assert [file.parent.name for file in files(tiny_study)] == ["02_learning_rates"] * 16


def test_a_best_rate_at_the_edge_has_the_range_widened_there(tiny_study, monkeypatch):
    """The best rates lie outside the two that the study tries."""
    best = {"full": 1e-3, "bitfit": 0.1, "adapter": 5e-4, "head": 1e-9}
    monkeypatch.setattr(runs, "train_run", lambda run, *_: {
        "status": "ok", "reason": "", "scores": {}, "score": -abs(math.log(run.lr / best[run.method]))})
    rates, trials = tiny_study.choose_rates("mrpc", METHODS)
    tried = {method: sorted(of["lr"]) for method, of in trials.groupby("method")}
    given = tiny_study.settings["trials"]["rates"]
    assert tried["full"] == [3e-4, 1e-3, 3e-3]
    assert tried["bitfit"] == [*given["bitfit"], 0.1, 0.3]
    assert tried["adapter"] == [3e-4, 1e-3, *given["adapter"]]
    assert len(tried["head"]) == len(given["head"]) + 2  # no further than twice
    assert rates["mrpc", "bitfit"] == 0.1
    assert len(files(tiny_study)) == len(trials)


def test_the_rate_with_the_best_score_is_chosen(tiny_study, monkeypatch):
    """Here the higher rate scores better for BitFit, and the lower one for the others."""
    monkeypatch.setattr(runs, "train_run", lambda run, *_: {
        "status": "ok", "reason": "", "scores": {}, "score": run.lr if run.method == "bitfit" else 1 - run.lr})
    monkeypatch.setattr(study, "WIDEN", 0)
    rates, _ = tiny_study.choose_rates(["mrpc", "cola"], METHODS)
    tried = tiny_study.settings["trials"]["rates"]
    assert rates == {(task, method): (max if method == "bitfit" else min)(tried[method])
                     for task in ("mrpc", "cola") for method in METHODS}


def test_a_method_with_one_rate_has_no_edge():
    run = SimpleNamespace(task="cola", method="full", lr=1e-3)
    assert study._beyond(run, [run]) == []


def test_a_clock_that_was_not_measured_is_said(tiny_study, monkeypatch):
    monkeypatch.setattr(runs, "train_run", lambda *_: 1 / 0)
    with pytest.raises(ValueError, match="no clock: a run that measures it failed, of cola full ZeroDivisionError"):
        tiny_study.calibrate("cola", "full", 1e-3)


def test_a_calibrated_clock_is_measured_once_and_gives_runs_their_steps(tiny_study):
    clock, measured = tiny_study.calibrate("cola", ["full", "bitfit"], 1e-3)
    assert measured["steps"].tolist() == [study.CALIBRATION] * 2
    assert list(clock) == [("cola", "full"), ("cola", "bitfit")]
    assert clock["cola", "full"] == pytest.approx(measured["train_seconds"][0] / measured["tokens"][0], rel=0.01)
    assert tiny_study.calibrate("cola", ["full", "bitfit"], 1e-3)[0] == clock
    wanted = tiny_study.grid(task="cola", method=["full", "bitfit"], lr=1e-3, seconds=0.05, token_seconds=clock)
    table = tiny_study.execute(wanted, group="04_time_budgets")
    assert (table["tokens"] * list(clock.values())).tolist() == pytest.approx([0.05] * 2, rel=0.3)
    assert tiny_study.recorded([*wanted, *tiny_study.grid(task="mrpc", method="full", lr=1.0)])["key"].tolist() == [
        run.key for run in wanted]


def test_a_constant_answer_is_not_chosen_however_well_it_scores(tiny_study, monkeypatch):
    monkeypatch.setattr(runs, "train_run", lambda run, *_: {
        "status": "constant" if run.lr > 2e-3 else "ok", "reason": "", "scores": {}, "score": run.lr})
    assert tiny_study.choose_rates("mrpc", "full")[0] == {("mrpc", "full"): 1e-3}


def test_where_no_rate_taught_anything_there_is_none_to_choose(tiny_study, monkeypatch):
    monkeypatch.setattr(runs, "train_run", lambda run, *_: {
        "status": "constant" if run.method == "head" else "ok", "reason": "", "scores": {}, "score": 0.5})
    with pytest.raises(ValueError, match=r"no rate taught \[\('mrpc', 'head'\)\] anything"):
        tiny_study.choose_rates("mrpc", ["full", "head"])


def test_a_method_without_rates_to_try_is_an_error(tiny_study, trained):
    with pytest.raises(ValueError, match="study tiny has no learning rates to try for layernorm"):
        tiny_study.choose_rates("mrpc", ["full", "layernorm"])
    assert not trained


def test_trials_may_have_epochs_of_their_own(tiny_yaml, tiny_encoder, tiny_glue, tiny_study, trained):
    trials = {**yaml.safe_load(tiny_yaml.read_text())["trials"], "epochs": 9}
    own = study.load(changed(tiny_yaml, trials=trials), source=tiny_glue, encoder=tiny_encoder)
    own.choose_rates("mrpc", "full")
    assert {run.epochs for run in trained} == {9}


def test_killed_it_loses_only_the_run_in_flight(tiny_study, tiny_yaml, tiny_glue, tiny_encoder, capsys):
    plan = "grid(task=['mrpc', 'cola', 'stsb'], method=['full', 'bitfit'], seed=[0, 1], lr=1e-3)"
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
    wanted = tiny_study.grid(task=["mrpc", "cola", "stsb"], method=["full", "bitfit"], seed=[0, 1], lr=1e-3)
    table = tiny_study.execute(wanted, group="x")
    assert f"{len(done)} read from records, {len(wanted) - len(done)} trained" in capsys.readouterr().out
    assert len(done) < len(wanted) == len(table) and (table["status"] != "failed").all()
    assert all((folder / "x" / name).read_bytes() == made for name, made in done.items())


def driver(tiny_yaml, tiny_glue, tiny_encoder, log, jobs=1, group="x", seeds=3):
    """A process that executes ``plan`` and, with one job, writes the key of each run that it really trains to a log."""
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
s.execute(s.grid(**{plan(seeds)}), group={group!r}, jobs={jobs})
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def plan(seeds):
    return {"task": ["mrpc", "cola", "stsb"], "method": ["full", "bitfit"], "seed": [*range(seeds)], "lr": 1e-3, "steps": 3}


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
    wanted, deaths, started = tiny_study.grid(**plan(seeds)), 0, None
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
    assert len(files(tiny_study)) == len(wanted) and (disturbed["status"] != "failed").all()
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
    wanted, replace = tiny_study.grid(task=["mrpc", "cola"], method="bitfit", lr=1e-3, steps=2), os.replace
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
    wanted = tiny_study.grid(task="mrpc", method="bitfit", lr=1e-3, steps=2)
    before = tiny_study.execute(wanted, group="x")
    (file,) = files(tiny_study)
    file.write_text(file.read_text().replace('"steps": 2', '"steps": 3', 1).replace('"status": "ok"', '"status": "fine"'))
    assert scores_of(tiny_study.execute(wanted, group="x")) == scores_of(before)
    assert "set aside a record that is not sound" in capsys.readouterr().out
    assert file.with_suffix(".broken").exists()
