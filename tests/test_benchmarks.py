import dataclasses
import json
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_model

from benchmarks import __main__ as benchmarks
from benchmarks import advice, check, driver, gpu, jobs, limit, measure, report
from studykit import encoders, methods, tasks
from studykit.study import records, runs
from studykit.training import machine

README = benchmarks.HERE / "README.md"


@pytest.fixture
def work(tiny_study):
    (run,) = tiny_study.plan("cola", "bitfit", rates=1e-3, steps=4)
    return measure.Work(run, tiny_study.tasks["cola"], 4, 1, tiny_study.source, tiny_study.encoder_at, 1, scored=True)


@pytest.mark.parametrize(("system", "method"), [*((system, "bitfit") for system in measure.SYSTEMS if system != "peft"),
                                                *(("peft", method) for method in measure.PEFT)])
def test_every_system_trains_the_same_parameters_for_as_many_steps(work, system, method, monkeypatch):
    run = dataclasses.replace(work.run, method=method)
    work = dataclasses.replace(work, run=run)
    built, seen = [], []
    build = measure.with_peft if system == "peft" else runs.build
    where = measure if system == "peft" else runs
    monkeypatch.setattr(where, build.__name__, lambda *of: built.append(build(*of)) or built[0])
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *of: seen.append(1) or step(self, *of))
    found = measure.measure(system, work)
    assert len(seen) == 4
    assert found["seconds"] > 0 and found["tokens"] > 0 and np.isfinite(found["score"])
    monkeypatch.undo()
    expected = methods.counts(runs.build(run, work.task, work.encoder_at, np.zeros(1)))["trained"]
    assert sum(p.numel() for p in built[0].parameters() if p.requires_grad) == expected


def test_work_is_whole_batches(work):
    labels = np.arange(120) % 2
    assert len(measure.examples(work, labels)) == 64
    three = dataclasses.replace(work, steps=9, epochs=3)
    assert len(measure.examples(three, labels)) == 48
    with pytest.raises(ValueError, match="800 steps of 16 examples are more than 1 epochs of cola, which has 120"):
        measure.examples(dataclasses.replace(work, steps=800), labels)


def encodings(lengths):
    ids = [[2] + [7] * (length - 1) for length in lengths]
    return tasks.Encodings({"input_ids": ids, "attention_mask": [[1] * n for n in lengths]}, np.zeros(len(ids), dtype=int),
                           {"input_ids": 0, "attention_mask": 0})


def test_needed_work_is_that_of_matrix_products_by_hand():
    """Two layers of width 32 and 64 inside, one example of 10 tokens. Products of a layer: four of 32 x 32, two of
    32 x 64, two of attention; of the last layer all but keys and values for one token; then pooler and classifier on it."""
    length, width, inner = 10, 32, 64
    linear = 2 * length * (4 * width * width + 2 * width * inner)
    linear += 2 * length * 2 * width * width + 2 * (2 * width * width + 2 * width * inner)
    attention = 2 * 2 * length * length * width + 2 * 2 * length * width
    head = 2 * width * width + 2 * width * 2
    forward = linear + attention + head
    found = {name: limit.needed_flops(methods.apply(name, tiny_model(attn_implementation="eager")), encodings([length]))
             for name in ("full", "bitfit", "head")}
    assert found["full"] == pytest.approx(3 * forward, rel=1e-3)
    gradients = linear + 2 * attention + head  # of activations; an attention's product has two of them
    assert found["bitfit"] == forward + gradients + 2 * width * 2  # and of no weight but the classifier's
    assert found["head"] == pytest.approx(forward + 2 * width * 2, rel=0.01)


def test_needed_work_knows_no_padding():
    model = methods.apply("bitfit", tiny_model())
    short, long, both = (limit.needed_flops(model, encodings(lengths)) for lengths in ([5], [20], [5, 20, 5]))
    assert both == 2 * short + long


def test_the_driver_s_cost_is_linear_in_runs(monkeypatch):
    """Each run costs the same few looks into the folder, however many there are."""
    looks, find = [], records.find
    monkeypatch.setattr(records, "find", lambda *of: looks.append("find") or find(*of))
    monkeypatch.setattr(records, "read_one", lambda file, read=records.read_one: looks.append("read") or read(file))
    counted = {}
    for count in (10, 40):
        looks.clear()
        assert driver.cost(count)["runs"] == count
        counted[count] = len(looks) - driver.WARM
    assert counted[40] == 4 * counted[10]


# Runs at once

TINY = {"2 x 32": (2, 32, 2)}


def test_runs_at_once_take_no_more_threads_than_there_are_cores_and_as_many_runs(monkeypatch):
    called = []

    def at_once(pool, works):
        called.append(works)
        return [(2.0 if len(works) == 1 else 1.0, 5000)] * len(works)

    monkeypatch.setattr(jobs, "_at_once", at_once)
    monkeypatch.setattr(machine, "threads", lambda: 4)
    found = jobs.measure(TINY, repeats=1, enough=99)
    assert [(row["trains"], row["after"], row["together"], row["parameters"]) for row in found["rows"]] == [
        ("all weights", 2.0, 1.0, 5000), ("biases and head", 2.0, 1.0, 5000)]
    assert {sum(threads for *_, threads, _ in works) for works in called} == {4}  # at any moment
    assert {sum(runs for *_, runs in works) for works in called} == {4}
    with pytest.raises(RuntimeError, match=r"other processes took .* of a core meanwhile; call again when .* is idle"):
        jobs.measure(TINY, repeats=1, enough=-1)


def test_runs_at_once_train_in_processes_that_begin_together(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "METHODS", {"bitfit": "biases and head"})
    found = jobs.measure({"2 x 32": (2, 32, 1)}, repeats=1, enough=99)
    assert [row["after"] > 0 and row["together"] > 0 for row in found["rows"]] == [True]
    jobs.write(found, tmp_path / "jobs.json")
    assert json.loads((tmp_path / "jobs.json").read_text()) == json.loads(json.dumps(found))
    assert machine.best_jobs(1e6, tmp_path / "jobs.json") in (1, machine.threads())
    assert report.jobs(found).splitlines()[4].startswith("| 2 x 32 | 1.0 M | biases and head |")


def test_what_is_said_of_runs_at_once_is_what_was_measured(tmp_path):
    """README's table is that of the file which the default follows."""
    copy = tmp_path / "README.md"
    copy.write_text(README.read_text())
    if machine.JOBS.is_file():
        report.write(copy, report.jobs(json.loads(machine.JOBS.read_text())), "jobs")
        assert copy.read_text() == README.read_text()
    else:
        assert "<!-- jobs -->\nnot measured" in README.read_text()


# The tables

ROWS = [{"task": "cola", "method": "full", "system": system, "repeat": repeat, "steps": 10, "examples": 160, "tokens": 1600,
         "seconds": seconds * (1 + repeat), "mb": 100.0}
        for system, seconds in (("studykit", 1.0), ("trainer", 1.5), ("run_glue", 8.0)) for repeat in (0, 1, 2)]


def test_ratios_are_of_pairs_and_stand_beside_their_goal():
    assert report.ratios(pd.DataFrame(ROWS), report.GOALS["fp32"]).splitlines()[2:] == [
        "| cola | full | **1.50** (1.50 to 1.50) [1.2] | **8.00** (8.00 to 8.00) [6] |"]


def test_speeds_are_medians():
    assert report.speeds(pd.DataFrame(ROWS)).splitlines()[2] == (
        "| cola | full | studykit | 0.200 | 0.100 to 0.300 | 80 | 800 | 100 | 1.00 |")


def test_a_share_of_the_limit_is_what_could_be_over_what_is():
    found = [{"task": "cola", "method": "full", "flops": 3e9, "rate": 2e9, "profile": {"matrix products": 80.0}}]
    assert report.limits(pd.DataFrame(ROWS), found).splitlines()[2] == "| cola | full | 3 | 2 | 75 % | 50 % | 9 % | 80 % |"


def test_a_device_that_was_not_there_is_said():
    assert report.fleets([]).splitlines()[-1] == "| cuda |  |  |  |  |  | not measured |"


def test_steps_on_a_gpu_are_told_beside_trainer_s():
    about = {"study": "tiny", "task": "cola", "method": "full", "steps": 10, "batch_size": 16, "when": "2026-01-01",
             "precision": "bf16", "hardware": {"accelerator": "a GPU"}, "versions": {"torch": "2"}, "commit": "c0ffee"}
    rows = [{**about, "system": system, "repeat": repeat, "seconds": seconds, "mb": 100.0}
            for system, both in (("studykit", (0.1, 0.3)), ("trainer", (0.3, 0.3))) for repeat, seconds in enumerate(both)]
    told = report.gpu({"rows": rows, "fleets": [{**about, "members": 3, "fleet": 0.15, "alone": 0.6}]})
    assert told.splitlines()[0].startswith("tiny: a GPU; torch 2; 2026-01-01, commit c0ffee; bf16, batches of 16")
    assert told.splitlines()[-1] == ("| tiny | cola | full | 20.0 (10.0 to 30.0) | 30.0 (30.0 to 30.0) | **2.00** | "
                                     "5.0 (3 at once) | 100 | 100 |")


def test_without_a_gpu_its_benchmark_says_so(capsys, monkeypatch):
    monkeypatch.setattr(gpu.machine, "best_device", lambda: torch.device("cpu"))
    assert benchmarks.main(["gpu"]) == 2 and "there is no GPU here" in capsys.readouterr().err
    assert "<!-- gpu -->\nnot measured yet\n" in README.read_text() or gpu.FILE.is_file()


def test_the_benchmark_of_a_gpu_measures_what_it_names(tiny_yaml, tiny_glue, tiny_encoder, tmp_path, monkeypatch):
    """On a processor that stands for one."""
    shown, cpu = {"accelerator": "a GPU"}, torch.device("cpu")
    monkeypatch.setattr(gpu.machine, "best_device", lambda: SimpleNamespace(type="cuda"))
    monkeypatch.setattr(gpu.provenance, "hardware", lambda device: shown)
    for name in ("measure", "at_once"):
        monkeypatch.setattr(gpu, name, on(cpu, getattr(gpu, name)))
    monkeypatch.setattr(gpu.report, "write", lambda *given: None)
    file = tmp_path / "gpu.json"
    for _ in range(2):  # the second call's rows stand instead of the first's
        assert benchmarks.main(["gpu", "--study", str(tiny_yaml), "--source", tiny_glue, "--encoder", tiny_encoder,
                                "--works", "cola:full,head", "--steps", "2", "--repeats", "2", "--file", str(file)]) == 0
    found = json.loads(file.read_text())
    assert [(row["method"], row["system"], row["repeat"]) for row in found["rows"]] == [
        (method, system, repeat) for method in ("full", "head") for repeat in (0, 1) for system in gpu.SYSTEMS]
    assert [row["method"] for row in found["fleets"]] == ["full"] and found["fleets"][0]["members"] == gpu.MEMBERS


@pytest.mark.parametrize("arm", ["full", "bitfit"])
def test_the_check_trains_the_same_cell_by_a_plain_loop(tiny_study, tiny_yaml, tiny_glue, tiny_encoder, tmp_path,
                                                        monkeypatch, arm):
    """The miniature's runs of a task that is easily learnt, and the plain loop's, come to scores alike."""
    rates, _ = tiny_study.choose_rates(["cola"], [arm])
    known = tiny_study.execute(tiny_study.plan(["cola"], [arm], rates=rates, fractions=[1.0], seeds=[0, 1]), group="some")
    monkeypatch.setattr(check.report, "write", lambda *given: None)
    file = tmp_path / "check.json"
    assert benchmarks.main(["check", "--study", str(tiny_yaml), "--source", tiny_glue, "--encoder", tiny_encoder, "--cells",
                            f"cola:{arm}", "--file", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert [(row["seed"], row["key"]) for row in rows] == list(zip(known["seed"], known["key"], strict=True))
    assert [row["studykit"] for row in rows] == known["score"].tolist()
    assert np.mean([row["other"] for row in rows]) > 50 and known["score"].mean() > 50
    told = check.tables(rows).splitlines()
    assert len(told) == 3 and told[-1].startswith(f"| {known['task_title'].iloc[0]} (Matthews correlation) | {arm} | ")


def test_the_check_in_another_precision_trains_the_very_runs_again_in_it(tiny_study, tiny_yaml, tiny_glue, tiny_encoder,
                                                                         tmp_path, monkeypatch):
    rates, _ = tiny_study.choose_rates(["cola"], ["full"])
    tiny_study.execute(tiny_study.plan(["cola"], ["full"], rates=rates, seeds=[0, 1], precision="fp32"), group="some")
    monkeypatch.setattr(check.report, "write", lambda *given: None)
    file, trained, train = tmp_path / "check.json", [], check.runs.train_run
    monkeypatch.setattr(check.runs, "train_run", lambda run, *of: trained.append(run) or train(run, *of))
    given = ["check", "--study", str(tiny_yaml), "--source", tiny_glue, "--encoder", tiny_encoder, "--cells", "cola:full",
             "--file", str(file), "--share", "1.0", "--precision"]
    for precision in ("fp32", "bf16", "bf16"):
        assert benchmarks.main([*given, precision]) == 0
    rows = json.loads(file.read_text())
    own = "this project, "
    assert [(row["by"], row["seed"]) for row in rows] == [(f"{own}fp32", 0), (f"{own}fp32", 1), (f"{own}bf16", 0),
                                                          (f"{own}bf16", 1)]
    assert [(own + run.precision, run.seed) for run in trained] == [(row["by"], row["seed"]) for row in [*rows, *rows[2:]]]
    assert all(row["other"] == row["studykit"] for row in rows[:2])  # the same run once more
    assert len(check.tables(rows).split("\n\n")) == 2


def test_the_plain_loop_trains_what_this_project_s_methods_do(tiny_encoder):
    for method in ("full", "bitfit", "lora"):
        plain, own = (apply(method, encoders.load(tiny_encoder, pooler="new")) for apply in (check.arms, methods.apply))
        counts = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in (plain, own)]
        assert counts[0] == counts[1], method
    with pytest.raises(ValueError, match="the plain loop has full, bitfit and lora, not head"):
        check.arms("head", tiny_model())


def test_the_table_of_the_check_is_that_of_its_rows():
    rows = json.loads(check.FILE.read_text())
    assert f"<!-- check -->\n{check.tables(rows)}<!-- end -->" in README.read_text()
    for _, of in pd.DataFrame(rows).groupby(["by", *check.CELL]):
        assert len(of) >= 3 and of["seed"].is_unique and of["versions"].notna().all()


def on(device, function):
    def there(*given):
        with mock.patch.object(machine, "best_device", lambda: device):
            return function(*given)

    return there


def test_the_readme_s_tables_are_those_of_what_was_measured(tmp_path):
    copy = tmp_path / "README.md"
    copy.write_text(README.read_text())
    report.write(copy, report.all_of(json.loads((benchmarks.HERE / "latest.json").read_text())), "measured")
    assert copy.read_text() == README.read_text()


def test_a_result_takes_the_place_of_an_earlier_one_of_its_study_precision_and_tasks(tmp_path):
    file = tmp_path / "latest.json"
    first, other, again, part = (
        {"study": "a", "precision": precision, "threads": 2, "date": date, "measured": [{"task": task} for task in names]}
        for precision, date, names in (("fp32", "then", "bc"), ("bf16", "then", "bc"), ("fp32", "now", "bc"),
                                       ("fp32", "now", "b")))
    for result in (first, other, again, part):
        kept = benchmarks.keep(result, file)
    assert kept == json.loads(file.read_text()) == [again, other, part]


def test_tasks_that_are_asked_for_are_measured_alone_and_in_bf16_without_the_script(tiny_study, tiny_glue, tiny_encoder,
                                                                                   monkeypatch, capsys):
    monkeypatch.setattr(benchmarks, "alone", lambda function, system, work: {"seconds": 1.0})
    for precision, there in (("fp32", True), ("bf16", False)):
        setting = benchmarks.only({"works": {"mrpc": ["full"], "cola": ["full"]}, "members": [5], "runs": [40]}, ["cola"])
        assert setting["members"] == setting["runs"] == []
        works = list(benchmarks.works(tiny_study, setting, SimpleNamespace(precision=precision, threads=1)))
        assert [(work.run.task, work.run.precision) for work in works] == [("cola", precision)]
        assert ("run_glue" in {row["system"] for row in benchmarks.in_pairs(works[0], 1)}) == there
    with pytest.raises(SystemExit):
        benchmarks.main(["--tasks", "colla"])
    assert "no task 'colla' here: choose from mrpc,cola" in capsys.readouterr().err


def test_the_table_of_advice_is_that_of_its_rows():
    rows = json.loads(advice.FILE.read_text())
    assert rows and f"<!-- advice -->\n{advice.table(rows)}<!-- end -->" in README.read_text()
    for row in rows:
        assert row["seconds"] <= 60 * 1.1 * row["minutes"] and row["kind"] in ("take", "cheaper", "cannot tell", "floor")


def test_the_table_of_advice_says_where_tf_idf_is_better_and_how_long_calls_take():
    row = {"set": "a", "minutes": 10.0, "metric": "accuracy", "kind": "take", "choice": "full", "sure": 0.9, "score": 50.0,
           "low": 45.0, "high": 55.0, "tfidf": 54.0, "usual": None, "seconds": 500.0}
    better = {"set": "b", "tfidf": 56.0, "seconds": 550.0, "kind": "floor"}
    rows = [row, {**row, **better}, {**row, "minutes": 3.0, "score": None}]
    last = advice.table(rows).splitlines()[-1]
    assert last.startswith("2 sets; of each minute that was given a call took 167 s at most.")
    assert "in 1 of 2 calls: b (10). Decisions: take 2, floor 1." in last
    known = [{**each, "best": {"arm": "lora", "score": score}} for each, score in zip(rows, (53.0, 51.0, 90.0), strict=True)]
    last = advice.table(known).splitlines()[-1]
    assert "In 10 minutes, beside the best arm of study domains: a 3.0 points behind it, b 1.0 points behind it." in last
    ahead = advice.table([{**row, "best": {"arm": "lora", "score": 40.0}}]).splitlines()[-1]
    assert "a 10.0 points ahead of it." in ahead
    assert "In 3 minutes" not in last and "| lora 53.0 |" in advice.table(known)


def test_the_best_arm_is_chosen_on_other_seeds_than_it_is_valued_on():
    """Of two arms that take turns each is chosen where it is worse."""
    task = tasks.Task(name="a", columns=["text"], labels=["no", "yes"], metrics=["accuracy"])
    right = {("full", 0): 8, ("lora", 0): 6, ("full", 1): 5, ("lora", 1): 8, ("head", 0): 10}  # of ten answers
    runs = pd.DataFrame([{"arm": arm, "seed": seed, "fraction": 1.0, "labels": np.ones(10, int),
                          "predictions": (np.arange(10) < count).astype(int)} for (arm, seed), count in right.items()])
    found = advice.best(task, runs)
    assert found == {"arm": "lora", "seeds": 2, "study": "domains", "score": 55.0}
    assert advice.best(task, runs.assign(fraction=0.1)) is None
