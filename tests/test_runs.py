import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch

from studykit import paths, tasks, training
from studykit.evidence import table
from studykit.models import encoders
from studykit.study import records, runs
from studykit.study.runs import Run
from studykit.tasks import Task
from studykit.training import budgets, machine

PLAIN = {"task": "mrpc", "asks": "89abcdef", "method": "full", "fraction": 0.3, "lr": 1e-4, "encoder": "an-encoder",
         "weights": "0123abcd", "data": "4567cdef", "precision": "fp32", "epochs": 3}


def test_the_key_stays_what_it_was():
    """It names records that are in git: if this fails, they would all be trained again."""
    assert Run(**PLAIN).key == "ed0ddfa749c8"
    decided = json.dumps({**PLAIN, "recipe": 1}, sort_keys=True)
    assert hashlib.sha256(decided.encode()).hexdigest().startswith(Run(**PLAIN).key)


def test_the_records_in_git_are_of_this_recipe():
    """A recipe that is raised leaves them behind: then they are to be trained again, or taken out."""
    kept = [json.loads(file.read_text()) for file in sorted(paths.results("minilm").glob("*/*.json"))[::60]]
    assert len(kept) > 5
    assert {(record["run"]["recipe"], records.key(record) == record["key"]) for record in kept} == {(runs.RECIPE, True)}


DEFAULTS = {field.name: field.default for field in dataclasses.fields(Run) if field.default is not dataclasses.MISSING}


@pytest.mark.parametrize("field", sorted(set(DEFAULTS) - {"epochs"}))
def test_a_default_that_is_spelled_out_is_the_same_run(field):
    assert Run(**PLAIN, **{field: DEFAULTS[field]}).key == Run(**PLAIN).key


@pytest.mark.parametrize("one, other", [
    ({"fraction": 1}, {"fraction": 1.0}), ({"epochs": 3}, {"epochs": 3.0}), ({"lr": 1}, {"lr": 1.0}),
    ({"epochs": None, "seconds": 9}, {"epochs": None, "seconds": 9.0}),
    ({"epochs": None, "seconds": 9, "token_seconds": 1}, {"epochs": None, "seconds": 9, "token_seconds": 1.0})], ids=str)
def test_equal_numbers_are_one_run(one, other):
    assert Run(**{**PLAIN, **one}).key == Run(**{**PLAIN, **other}).key


OTHER = {"task": "cola", "asks": "0", "method": "bitfit", "fraction": 0.5, "lr": 1e-3, "encoder": "another", "weights": "0",
         "data": "0", "pooler": "new", "reads": "mean", "options": (("bottleneck", 8),), "epochs": 4, "min_steps": 10,
         "steps": 10, "batch_size": 8, "max_length": 64, "subset_seed": 1, "init_seed": 1, "order_seed": 1,
         "score_on": "selection", "points": 5, "precision": "bf16", "pretrained": False, "seconds": 9.0,
         "token_seconds": 1e-3, "fold": 1, "score_rows": 100, "recipe": 2}


def test_each_field_has_another_value_to_try():
    assert OTHER.keys() == {field.name for field in dataclasses.fields(Run)}


@pytest.mark.parametrize("field", OTHER)
def test_each_field_decides_the_key(field):
    assert Run(**{**PLAIN, field: OTHER[field]}).key != Run(**PLAIN).key


def test_a_run_is_frozen_and_hashable():
    run = Run(**PLAIN)
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.lr = 1.0
    assert len({run, Run(**PLAIN), Run(**OTHER)}) == 2


@pytest.mark.parametrize("field, value, message", [
    ("fraction", 0, r"fraction must be in \(0, 1\], got 0"),
    ("fraction", 1.5, "got 1.5"), ("fraction", "all", "got 'all'"), ("fraction", float("nan"), "got nan"),
    ("lr", 0, "lr must be a positive number, got 0"), ("lr", None, "got None"), ("lr", float("inf"), "got inf"),
    ("batch_size", 0, "batch_size must be a positive whole number, got 0"), ("batch_size", 1.5, "got 1.5"),
    ("max_length", -1, "max_length must be a positive whole number, got -1"),
    ("subset_seed", -1, "subset_seed must be a whole number, at least 0, got -1"), ("init_seed", 0.5, "init_seed"),
    ("order_seed", None, "order_seed"), ("init_seed", 2 ** 32, "at most 4294967295, got 4294967296"),
    ("precision", "auto", "precision must be one of fp32, bf16, got 'auto'"),
    ("reads", "all", "reads must be one of first, mean, last, got 'all'"), ("recipe", 0, "recipe must be a positive"),
    ("options", (("bottleneck",),), "options must be a tuple of"), ("task", None, "task must be text, got None"),
    ("score_on", "test", "score_on must be one of validation, selection, both, got 'test'")])
def test_a_run_that_cannot_be_is_an_error(field, value, message):
    with pytest.raises(ValueError, match=message):
        Run(**{**PLAIN, field: value})


def test_a_run_s_name_is_for_people_and_ends_in_its_key():
    run = Run(**PLAIN)
    assert run.name == f"mrpc-full-f0.3-lr0.0001-s0-{run.key}"
    run = Run(**PLAIN, subset_seed=1, init_seed=2, order_seed=3)
    assert run.name == f"mrpc-full-f0.3-lr0.0001-s1.2.3-{run.key}"


def test_seed_is_the_one_that_all_three_are():
    assert Run(**PLAIN, subset_seed=2, init_seed=2, order_seed=2).seed == 2
    assert Run(**PLAIN, subset_seed=2).seed is None


def test_the_budget_is_the_run_s():
    assert Run(**PLAIN, min_steps=7).budget == budgets.Budget(epochs=3, min_steps=7)


# Which examples

LABELS = np.random.default_rng(0).random(400) < 0.7


COLA = tasks.get("cola")


TRAIN = tasks.Encodings({"input_ids": [[1]] * len(LABELS)}, LABELS, {"input_ids": 0},
                        [(f"{i % 7}",) for i in range(len(LABELS))])


def rows(**options):
    return runs.examples(Run(**{**PLAIN, "task": "cola", **options}), COLA, TRAIN)


def test_rows_that_read_alike_are_split_together_but_for_published_tasks():
    own = COLA.model_copy(update={"digest": ""})
    rest, part = runs.split(own, TRAIN)
    assert not set(rest % 7) & set(part % 7)
    assert all(map(np.array_equal, runs.split(COLA, TRAIN), tasks.selection_split(COLA, LABELS)))


def test_a_run_trains_on_the_subset_of_its_seed_and_fraction():
    train, selection = rows(subset_seed=4, fraction=0.5)
    assert selection is None
    assert train.tolist() == tasks.subset(COLA, LABELS, 0.5, 4).tolist()


@pytest.mark.parametrize("options", [{"score_on": "selection"}, {"points": 3}], ids=str)
@pytest.mark.parametrize("fraction", [0.1, 1.0])
def test_a_run_that_reads_the_selection_split_trains_without_it(options, fraction):
    train, selection = rows(fraction=fraction, **options)
    assert selection.tolist() == tasks.selection_split(COLA, LABELS)[1].tolist()
    assert not set(train) & set(selection)
    assert len(train) == round(fraction * (len(LABELS) - len(selection)))
    assert np.mean(LABELS[train]) == pytest.approx(np.mean(LABELS), abs=1.5 / len(train))


# Training one

class Unreadable:
    def __getattr__(self, name):
        raise AssertionError(f"the validation set is read: {name}")


@pytest.fixture
def train_one(tiny_study):
    """A function that trains a run of the small study and returns its result."""
    def train(task="cola", arm="full", *, seed=0, fraction=0.5, lr=1e-3, **fields):
        run, = tiny_study.plan([task], [arm], rates=lr, fractions=[fraction], seeds=[seed], **fields)
        return runs.train_run(run, tiny_study.tasks[task], tiny_study.source, tiny_study.encoder_at)

    return train


@pytest.mark.parametrize("task", ["mrpc", "cola", "stsb"])
def test_the_score_is_that_of_the_stored_predictions(train_one, task):
    result, task = train_one(task, lr=3e-3), tasks.get(task)
    assert result["status"] == "ok"
    again = task.scores(result["labels"], result["predictions"])
    assert result["scores"] == pytest.approx(again, abs=1e-4)  # values are kept to six figures
    assert result["score"] == result["scores"][task.metric.name]
    assert len(result["predictions"]) == len(result["labels"]) == 40


def test_a_run_says_what_it_did(train_one):
    result = train_one(arm="bitfit")
    assert (result["examples"], result["steps"], result["precision"]) == (60, 30, "fp32")
    assert result["parameters"]["trained"] == result["parameters"]["head"] + result["parameters"]["encoder"]
    assert result["seconds"].keys() == set(machine.STAGES)
    assert result["seconds"]["train"] > 0
    assert result["tokens"] > 60 * 5
    json.dumps(result, allow_nan=False)


def test_the_validation_set_s_labels_are_those_it_is_scored_on(train_one, tiny_glue):
    assert train_one()["labels"] == tasks.load("cola", tiny_glue)["validation"]["label"][:]


def test_a_selection_run_never_reads_the_validation_set(train_one, monkeypatch):
    encodings = runs.encodings
    monkeypatch.setattr(runs, "encodings", lambda *where: (
        {"train": encodings(*where)[0]["train"], "validation": Unreadable()}, 0.0, 0.0))
    assert len(train_one(score_on="selection")["labels"]) == 18
    with pytest.raises(AssertionError, match="the validation set is read"):
        train_one()


@pytest.fixture
def seen(monkeypatch):
    """What ``training.train`` was given, call by call: the head as it was, the data, the seed."""
    calls, train = [], training.train

    def spy(model, data, budget, **options):
        head = {name: parameter.detach().clone() for name, parameter in encoders.head_parameters(model)}
        calls.append((head, data, options["seed"]))
        return train(model, data, budget, **options)

    monkeypatch.setattr(training, "train", spy)
    return calls


@pytest.mark.parametrize("task", ["cola", "stsb"])
def test_methods_under_one_seed_are_paired(train_one, seen, tiny_study, task):
    for arm in tiny_study.arms:
        train_one(task, arm, seed=3)
    head, data, seed = seen[0]
    assert seed == 3
    for other_head, other_data, other_seed in seen[1:]:
        assert other_seed == seed
        assert other_data.columns == data.columns
        assert np.array_equal(other_data.labels, data.labels)
        assert all(torch.equal(value, other_head[name]) for name, value in head.items())


@pytest.mark.parametrize("kind", ["subset_seed", "init_seed", "order_seed"])
def test_each_seed_decides_its_own_draw(train_one, seen, kind):
    train_one(seed=3)
    train_one(seed=3, **{kind: 4})
    (head, data, seed), (other_head, other_data, other_seed) = seen
    assert {"subset_seed": data.columns != other_data.columns,
            "init_seed": not torch.equal(head["classifier.weight"], other_head["classifier.weight"]),
            "order_seed": seed != other_seed} == {name: name == kind for name in ("subset_seed", "init_seed", "order_seed")}


def test_a_selection_run_trains_on_the_rest(train_one, seen, tiny_study):
    train_one(score_on="selection", fraction=1.0)
    whole = runs.encodings(tiny_study.tasks["cola"], tiny_study.source, tiny_study.encoder_at, 32)[0]["train"]
    rest, _ = tasks.selection_split(tiny_study.tasks["cola"], whole.labels)
    assert seen[0][1].columns == whole.take(rest).columns


def test_a_regression_starts_at_the_mean_of_its_training_labels(train_one, seen):
    train_one("stsb", "head")
    head, data, _ = seen[0]
    assert head["classifier.bias"].item() == pytest.approx(data.labels.mean(), rel=1e-6)


def test_a_curve_is_on_the_selection_split(train_one, monkeypatch):
    scored, logits = [], training.logits
    monkeypatch.setattr(training, "logits", lambda model, data: scored.append(len(data)) or logits(model, data))
    result = train_one(points=3)
    assert [step for step, _, _ in result["curve"]] == [10, 20, 30]
    assert scored == [18, 18, 18, 40]


@pytest.mark.parametrize("task, constant, score", [
    ("mrpc", [0.0, 9.0], "f1"), ("cola", [0.0, 9.0], 0.0), ("stsb", [2.5], None)])
def test_one_answer_for_everything_is_kept_as_it_is(train_one, monkeypatch, task, constant, score):
    """Whether that is a collapse is judged as records are read."""
    monkeypatch.setattr(training, "logits", lambda model, data: np.tile(np.float32(constant), (len(data), 1)))
    result = train_one(task)
    assert (result["status"], result["reason"], len(set(result["predictions"]))) == ("ok", "", 1)
    positive = np.mean(result["labels"])
    assert result["score"] == (pytest.approx(2 * positive / (1 + positive)) if score == "f1" else score)
    assert result["p_shuffled"] == 1
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("task", ["cola", "stsb"])
def test_answers_that_are_no_numbers_are_a_diverged_run(train_one, monkeypatch, task):
    width = tasks.get(task).num_labels
    monkeypatch.setattr(training, "logits", lambda model, data: np.full((len(data), width), np.nan))
    result = train_one(task)
    assert (result["status"], result["reason"]) == ("diverged", "its answers are not finite")
    assert (result["score"], result["scores"]) == (None, {})
    json.dumps(result, allow_nan=False)


def test_a_diverged_run_has_a_reason_and_no_score(train_one):
    result = train_one(lr=1e38)
    assert result["status"] == "diverged"
    assert "not finite" in result["reason"]
    assert result["score"] is None
    assert result["scores"] == {}


def test_an_error_is_raised(train_one, tiny_study):
    run, = tiny_study.plan("cola", "full", rates=1e-3)
    run = dataclasses.replace(run, method="last_k", options=(("k", 7),))
    with pytest.raises(ValueError, match="k must be 1 to 2"):
        runs.train_run(run, tiny_study.tasks["cola"], tiny_study.source, tiny_study.encoder_at)


def test_probabilities_are_kept_and_are_those_of_the_predictions(train_one):
    result = train_one("cola", lr=3e-3)
    kept = table.unpacked(result["probabilities"])
    assert kept.shape == (40, 2) and kept.sum(1) == pytest.approx(np.ones(40), abs=2e-4)
    assert kept.argmax(1).tolist() == result["predictions"]
    assert len(set(kept[:, 0])) > 10
    assert "probabilities" not in train_one("stsb")


def test_a_metric_that_refuses_a_score_leaves_its_reason_in_the_record():
    kept = tasks.known("sklearn.metrics.mean_squared_log_error", reads="values", range=[0, 9])
    task = Task(name="doses", columns=["text"], metrics=[kept, "mean_absolute_error"])
    labels = np.array([1.0, 2, 3, 4])
    result = runs._scored(task, tasks.Scale(), np.array([[-1.0], [2], [3], [4]]), labels)
    assert result["scores"] == {kept.name: None, "mean_absolute_error": 0.5} and result["score"] is None
    assert (result["refused"], result["p_shuffled"]) == ([kept.name], 1.0)
    assert result["reason"].startswith(f"metric {kept.name} gives no number here (") and "\n" not in result["reason"]
    sound = runs._scored(task, tasks.Scale(), labels[:, None], labels)
    assert sound["score"] == 0 and not {"refused", "reason"} & sound.keys()


def test_a_number_s_record_knows_how_far_its_training_labels_spread(train_one, seen):
    result = train_one("stsb")
    labels = seen[0][1].labels
    assert result["label_spread"] == pytest.approx(np.std(labels), rel=1e-5)
    assert result["label_mean"] == pytest.approx(np.mean(labels), rel=1e-5)
    assert (train_one("cola")["label_spread"], train_one("cola")["label_mean"]) == (None, None)


def test_with_heavy_outliers_the_spread_is_that_of_the_middle():
    """The standard normal's interquartile range is 1.349: 0.741 times that is its standard deviation."""
    task, labels = tasks.get("stsb"), np.random.default_rng(0).normal(size=4000)
    assert runs.label_spread(task, labels) == pytest.approx(1, abs=0.05)
    labels[0] = 1e4
    assert np.std(labels) > 100
    assert runs.label_spread(task, labels) == pytest.approx(1, abs=0.05)


def test_the_spread_and_mean_of_small_labels_are_kept():
    task, labels = Task(name="doses", columns=["text"]), 1e-7 * np.linspace(-1, 3, 100)
    spread = runs.label_spread(task, labels)
    assert spread == pytest.approx(np.std(labels), rel=1e-6) and runs.label_spread(task, np.ones(9)) == 0
    assert table.collapsed(np.full(100, 2e-7), labels, spread) and not table.collapsed(labels, labels, spread)
    assert runs.label_spread(task, 1e7 * labels) == round(float(np.std(1e7 * labels)), 6)  # as records of before have it


def test_numbers_far_from_zero_are_kept_to_a_millionth_of_their_spread():
    task, rng = Task(name="dates", columns=["text"]), np.random.default_rng(0)
    labels = 1.7e9 + 1000 * rng.normal(size=200)
    answers = labels + 100 * rng.normal(size=200)
    for values in (labels, answers):
        kept = np.array(runs.compact(task, values, labels))
        assert kept == pytest.approx(values, rel=0, abs=1e-3) and len(set(kept)) == 200
    assert not table.collapsed(np.array(runs.compact(task, answers, labels)), labels, runs.label_spread(task, labels))
    ordinary = 3 + rng.normal(size=200)
    near = 3 + 1e-9 * rng.normal(size=200)  # what a collapsed run answers is rounded as ever
    assert runs.compact(task, near, ordinary) == [3.0] * 200
    assert runs.compact(task, ordinary) == [float(f"{value:.6g}") for value in ordinary]


# The key and the task

BASE = {"name": "tickets", "columns": ["text"], "labels": ["calm", "urgent"]}


@pytest.mark.parametrize("change", [
    {"columns": ["body"]}, {"columns": ["text", "title"]}, {"label": "class"}, {"labels": ["urgent", "calm"]},
    {"labels": ["calm", "urgent", "other"]}, {"labels": []}], ids=str)
def test_what_decides_training_is_in_the_task_s_identity(change):
    assert Task(**{**BASE, **change}).identity != Task(**BASE).identity


def test_so_is_standardisation():
    number = {"name": "grades", "columns": ["text"]}
    assert Task(**number).identity != Task(**number, standardise=False).identity


def test_so_is_a_range_by_whose_fifths_rows_are_drawn_where_no_published_rows_settle_it():
    number = {"name": "grades", "columns": ["text"]}
    first, other = (Task(**number, range=bounds) for bounds in ((0, 5), (0, 10)))
    assert len({first.identity, other.identity, Task(**number).identity}) == 3
    assert Task(**number, range=(0, 5), digest="0123").identity == Task(**number, digest="0123").identity
    assert tasks.get("stsb").identity == "776857250c9f"  # records in git are named by it


@pytest.mark.parametrize("change", [
    {"title": "Tickets"}, {"question": "How urgent?"}, {"metrics": ["accuracy"]}, {"metrics": [{"f1": {"of": "calm"}}]},
    {"also": ["later"]}, {"name": "others"}], ids=str)
def test_what_decides_nothing_of_training_is_not(change):
    assert Task(**{**BASE, **change}).identity == Task(**BASE).identity


def test_a_run_scored_on_both_decides_by_the_fold_and_keeps_the_validation_answers(train_one, tiny_glue):
    result = train_one(score_on="both", fold=2, score_rows=20, steps=2)
    beside = result["beside"]["validation"]
    assert len(result["labels"]) <= 20 and len(beside["labels"]) == len(beside["predictions"]) <= 20
    assert beside["score"] == pytest.approx(tasks.get("cola").metric.score(beside["labels"], beside["predictions"]))
    assert train_one(score_on="selection", fold=2, score_rows=20, steps=2)["predictions"] == result["predictions"]


def test_a_deadline_ends_a_run(tiny_study):
    run, = tiny_study.plan("cola", "full", rates=1e-3, steps=50)
    with pytest.raises(budgets.DeadlinePassed, match="after 0 steps"):
        runs.train_run(run, tiny_study.tasks["cola"], tiny_study.source, tiny_study.encoder_at, deadline=0.0)


def test_the_trained_model_can_be_kept(tiny_study):
    run, = tiny_study.plan("cola", "bitfit", rates=1e-3, steps=2)
    models = []
    runs.train_run(run, tiny_study.tasks["cola"], tiny_study.source, tiny_study.encoder_at, keep=models.append)
    assert vars(models[0])["method"]["method"] == "bitfit"
