import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch

from studykit import methods, tasks, training
from studykit.models import encoders
from studykit.study import runs
from studykit.training import budgets, machine
from studykit.study.runs import Run

PLAIN = {"task": "mrpc", "method": "full", "fraction": 0.3, "lr": 1e-4, "encoder": "an-encoder", "weights": "0123abcd",
         "data": "4567cdef", "epochs": 3}


def test_the_key_stays_what_it_was():
    """It names records that are in git: if this fails, they would all be trained again."""
    assert Run(**PLAIN).key == "1f71ef160132"
    assert hashlib.sha256(json.dumps(PLAIN, sort_keys=True).encode()).hexdigest().startswith(Run(**PLAIN).key)


DEFAULTS = {field.name: field.default for field in dataclasses.fields(Run) if field.default is not dataclasses.MISSING}


@pytest.mark.parametrize("field", sorted(set(DEFAULTS) - {"epochs"}))
def test_a_default_that_is_spelled_out_is_the_same_run(field):
    assert Run(**PLAIN, **{field: DEFAULTS[field]}).key == Run(**PLAIN).key


@pytest.mark.parametrize("one, other", [
    ({"fraction": 1}, {"fraction": 1.0}), ({"epochs": 3}, {"epochs": 3.0}), ({"lr": 1}, {"lr": 1.0}),
    ({"epochs": None, "seconds": 9}, {"epochs": None, "seconds": 9.0})], ids=str)
def test_equal_numbers_are_one_run(one, other):
    assert Run(**{**PLAIN, **one}).key == Run(**{**PLAIN, **other}).key


OTHER = {"task": "cola", "method": "bitfit", "fraction": 0.5, "lr": 1e-3, "encoder": "another", "weights": "0", "data": "0",
         "pooler": "new", "options": (("bottleneck", 8),), "epochs": 4, "min_steps": 10, "steps": 10, "batch_size": 8,
         "max_length": 64, "subset_seed": 1, "init_seed": 1, "order_seed": 1, "score_on": "selection", "points": 5,
         "precision": "fp32", "pretrained": False, "seconds": 9.0, "token_seconds": 1e-3}


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
    ("task", "rte", "unknown task 'rte'"), ("fraction", 0, r"fraction must be in \(0, 1\], got 0"),
    ("fraction", 1.5, "got 1.5"), ("fraction", "all", "got 'all'"), ("fraction", float("nan"), "got nan"),
    ("lr", 0, "lr must be a positive number, got 0"), ("lr", None, "got None"), ("lr", float("inf"), "got inf"),
    ("batch_size", 0, "batch_size must be a positive whole number, got 0"), ("batch_size", 1.5, "got 1.5"),
    ("max_length", -1, "max_length must be a positive whole number, got -1"),
    ("subset_seed", -1, "subset_seed must be a whole number, at least 0, got -1"), ("init_seed", 0.5, "init_seed"),
    ("order_seed", None, "order_seed"),
    ("score_on", "test", "score_on must be one of validation, selection, got 'test'")])
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


def rows(**options):
    return runs.examples(Run(**{**PLAIN, "task": "cola", **options}), LABELS)


def test_a_run_trains_on_the_subset_of_its_seed_and_fraction():
    train, selection = rows(subset_seed=4, fraction=0.5)
    assert selection is None
    assert train.tolist() == tasks.subset("cola", LABELS, 0.5, 4).tolist()


@pytest.mark.parametrize("options", [{"score_on": "selection"}, {"points": 3}], ids=str)
@pytest.mark.parametrize("fraction", [0.1, 1.0])
def test_a_run_that_reads_the_selection_split_trains_without_it(options, fraction):
    train, selection = rows(fraction=fraction, **options)
    assert selection.tolist() == tasks.selection_split("cola", LABELS)[1].tolist()
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
    def train(task="cola", method="full", **options):
        run, = tiny_study.grid(task=task, method=method, **{"lr": 1e-3, "fraction": 0.5, "precision": "fp32", **options})
        return runs.train_run(run, tiny_study.source, tiny_study.encoder_at)

    return train


@pytest.mark.parametrize("task", ["mrpc", "cola", "stsb"])
def test_the_score_is_that_of_the_stored_predictions(train_one, task):
    result = train_one(task, lr=3e-3)
    assert result["status"] == "ok"
    again = tasks.scores(task, result["predictions"], result["labels"])
    assert result["scores"] == pytest.approx(again, abs=1e-4)  # values are kept to four decimals
    assert result["score"] == result["scores"][tasks.get(task).metric]
    assert len(result["predictions"]) == len(result["labels"]) == 40


def test_a_run_says_what_it_did(train_one):
    result = train_one(method="bitfit")
    assert (result["examples"], result["steps"], result["precision"]) == (60, 30, "fp32")
    assert result["parameters"]["trained"] == result["parameters"]["head"] + result["parameters"]["encoder"]
    assert result["seconds"].keys() == set(machine.STAGES)
    assert result["seconds"]["train"] > 0
    assert result["tokens"] > 60 * 5
    json.dumps(result, allow_nan=False)


def test_the_validation_set_s_labels_are_those_it_is_scored_on(train_one, tiny_glue):
    assert train_one()["labels"] == tasks.load("cola", tiny_glue)["validation"]["label"][:]


def test_a_selection_run_never_reads_the_validation_set(train_one, monkeypatch):
    encodings = runs._encodings
    monkeypatch.setattr(runs, "_encodings", lambda *where: (
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
def test_methods_under_one_seed_are_paired(train_one, seen, task):
    for method in methods.METHODS:
        train_one(task, method, seed=3)
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
    whole = runs._encodings("cola", tiny_study.source, tiny_study.encoder_at, 32)[0]["train"]
    rest, _ = tasks.selection_split("cola", whole.labels)
    assert seen[0][1].columns == whole.take(rest).columns


def test_a_regression_starts_at_the_mean_of_its_training_labels(train_one, seen):
    train_one("stsb", "head")
    head, data, _ = seen[0]
    assert head["classifier.bias"].item() == pytest.approx(data.labels.mean(), rel=1e-6)


def test_a_curve_is_on_the_selection_split(train_one, monkeypatch):
    scored, predict = [], training.predict
    monkeypatch.setattr(training, "predict", lambda model, data: scored.append(len(data)) or predict(model, data))
    result = train_one(points=3)
    assert [step for step, _, _ in result["curve"]] == [10, 20, 30]
    assert scored == [18, 18, 18, 40]


@pytest.mark.parametrize("task, answer, score", [("mrpc", 1, "f1"), ("cola", 1, 0.0), ("stsb", 2.5, None)])
def test_one_answer_for_everything_is_said(train_one, monkeypatch, task, answer, score):
    monkeypatch.setattr(training, "predict", lambda model, data: np.full(len(data), answer))
    result = train_one(task)
    assert (result["status"], result["reason"]) == ("constant", "one answer for every example")
    positive = np.mean(result["labels"])
    assert result["score"] == (pytest.approx(2 * positive / (1 + positive)) if score == "f1" else score)
    json.dumps(result, allow_nan=False)


def test_predictions_that_are_no_numbers_are_not_ok(train_one, monkeypatch):
    monkeypatch.setattr(training, "predict", lambda model, data: np.full(len(data), np.nan))
    result = train_one("stsb")
    assert result["status"] != "ok"
    assert result["reason"]


def test_a_diverged_run_has_a_reason_and_no_score(train_one):
    result = train_one(lr=1e38)
    assert result["status"] == "diverged"
    assert "not finite" in result["reason"]
    assert result["score"] is None
    assert result["scores"] == {}


def test_an_error_is_raised(train_one):
    with pytest.raises(ValueError, match="k must be 1 to 2"):
        train_one(method="last_k", options={"k": 7})
