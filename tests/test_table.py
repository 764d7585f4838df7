"""Records as a table: what became of a run, told as its record is read."""

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from studykit.evidence.table import collapsed, table
from studykit.tasks import Task, known
from studykit.tasks.packing import packed, unpacked

RNG = np.random.default_rng(0)
COLA = Task(name="cola", title="CoLA", columns=["text"], labels=["no", "yes"], metrics=["matthews_correlation", "accuracy"])
STSB = Task(name="stsb", columns=["text"], range=(0, 5), metrics=["pearson", "mean_absolute_error"])
LABELS = np.arange(300) % 10 // 3 > 0  # 70 % yes


def record(task, answers, labels, status="ok", arm="full", probabilities=None, p_shuffled=0.001, label_spread=None,
           options=(), **run):
    """A record of a run with these answers, as ``study.records`` keeps it."""
    answers, labels = np.asarray(answers), np.asarray(labels)
    scores = {} if status == "diverged" else task.scores(labels, answers, probabilities)
    run = {"task": task.name, "method": arm, "options": [list(pair) for pair in options], "fraction": 1.0, "subset_seed": 0,
           "init_seed": 0, "order_seed": 0, "score_on": "validation", **run}
    kept = {} if probabilities is None else {"probabilities": packed(probabilities)}
    if not task.labels:
        kept |= {"label_spread": label_spread or float(np.std(labels)), "label_mean": float(np.mean(labels))}
    made = {} if status == "diverged" else {"predictions": answers.tolist(), "p_shuffled": p_shuffled}
    scores = {name: None if np.isnan(value) else value for name, value in scores.items()}
    return {"run": run, "task": task.model_dump(mode="json"), "arm": arm, "key": "k", "status": status, "reason": "",
            "scores": scores, "labels": labels.tolist(), "versions": {"torch": "2", "transformers": "5"}, "commit": "c",
            **kept, **made}


def row(*args, tasks=None, **kwargs):
    found, = table([record(*args, **kwargs)], tasks or {}, {}).to_dict("records")
    return found


def few(others, rows=300):
    """Answers that are all yes, but for so many."""
    return (np.arange(rows) >= others).astype(int)


@pytest.mark.parametrize("yes, others, expected", [
    (210, 2, True), (210, 3, False),  # of 300 with 90 no: a thirtieth of 90 is 3
    (150, 4, True), (150, 5, False),  # balanced: a thirtieth of 150
    (298, 0, True), (298, 1, False)])  # 99.3 to 0.7: one rare answer is an answer
def test_classes_collapse_below_a_thirtieth_of_the_labels_other_than_the_commonest(yes, others, expected):
    labels = (np.arange(300) >= 300 - yes).astype(int)
    assert collapsed(few(others), labels, None) is expected


def test_one_class_in_two_hundred_is_no_collapse():
    labels = (np.arange(1000) >= 5).astype(int)  # 99.5 to 0.5
    assert not collapsed(labels, labels, None) and collapsed(np.ones(1000, int), labels, None)


def test_many_classes_collapse_by_what_is_not_the_commonest_answer():
    labels = np.arange(770) % 77
    answers = np.where(np.arange(770) < 25, labels, 3)
    assert collapsed(answers, labels, None)  # 24 others, a thirtieth of 760 is 25.3
    assert not collapsed(np.where(np.arange(770) < 60, labels, 3), labels, None)


@pytest.mark.parametrize("spread, expected", [(0.0199, True), (0.0201, False), (0.0, True)])
def test_a_number_collapses_below_a_fiftieth_of_the_spread_of_training_labels(spread, expected):
    answers = 2.5 + 1.4 * spread * np.tile([-1, 1], 50)
    assert collapsed(answers, np.linspace(0, 5, 100), 1.4) is expected


def test_a_run_that_learnt():
    answers = np.where(RNG.random(300) < 0.2, 1 - LABELS, LABELS).astype(int)
    found = row(COLA, answers, LABELS.astype(int), tasks={"cola": COLA})
    score = 100 * sklearn.metrics.matthews_corrcoef(LABELS, answers)
    assert found["score"] == found["matthews_correlation"] == pytest.approx(score) and found["chance"] == 0
    assert found["accuracy"] == pytest.approx(100 * np.mean(answers == LABELS))
    assert (found["status"], found["learnt"], found["reason"]) == ("ok", True, "")
    assert found["top_answer"] == pytest.approx(100 * max(answers.mean(), 1 - answers.mean()))
    assert (found["task_title"], found["metric"], found["metric_axis"]) == ("CoLA", "matthews_correlation",
                                                                           "Matthews correlation × 100")
    assert (found["metric_low"], found["metric_high"], found["better"], found["seed"]) == (-100, 100, 1, 0)


def test_a_run_no_better_than_its_answers_shuffled_has_not_learnt():
    answers = RNG.permutation(LABELS.astype(int))
    found = row(COLA, answers, LABELS.astype(int), p_shuffled=0.01)
    assert (found["status"], found["learnt"]) == ("ok", False)


def test_a_collapsed_run_of_classes_keeps_its_score_and_has_not_learnt():
    found = row(COLA, few(2), LABELS.astype(int), p_shuffled=0.001)
    score = 100 * sklearn.metrics.matthews_corrcoef(LABELS, few(2))
    assert (found["status"], found["learnt"], found["score"]) == ("collapsed", False, pytest.approx(score)) and score != 0
    assert found["reason"] == "one answer for nearly every example" and found["top_answer"] == pytest.approx(100 * 298 / 300)


def test_a_collapsed_number_correlates_with_nothing_whatever_its_rounding_says():
    labels = np.linspace(0, 5, 100)
    found = row(STSB, 2.6 + 1e-4 * labels, labels)  # Pearson would be 1
    assert (found["status"], found["score"], found["pearson"], found["learnt"]) == ("collapsed", 0.0, 0.0, False)
    assert found["mean_absolute_error"] == pytest.approx(np.abs(2.6 - labels).mean(), rel=1e-3)
    assert len(set(found["predictions"])) == 1 and np.isnan(found["top_answer"])


def test_a_constant_number_has_a_score():
    found = row(STSB, np.full(100, 2.5), np.linspace(0, 5, 100))
    assert (found["status"], found["score"]) == ("collapsed", 0.0)


@pytest.mark.parametrize("task, labels, chance, answer", [
    (COLA, LABELS.astype(int), 0.0, None), (STSB, np.linspace(0, 5, 100), 0.0, 2.5),
    (Task(name="m", columns=["text"], labels=["no", "yes"], metrics=["f1"]), LABELS.astype(int), 100 * 2 * 0.7 / 1.7, 1),
    (Task(name="a", columns=["text"], labels=["a", "b", "c"], metrics=["accuracy"]), np.arange(100) % 3, 34.0, 0),
    (Task(name="e", columns=["text"], metrics=["mean_absolute_error"]), np.arange(101.0), 2550 / 101, 50.0),
    (Task(name="p", columns=["text"], labels=["no", "yes"], metrics=["roc_auc", "accuracy"]), LABELS.astype(int), 50.0, 1)],
    ids=lambda value: getattr(value, "name", ""))
def test_a_diverged_run_scores_as_the_best_constant_answer(task, labels, chance, answer):
    found = row(task, labels, labels, status="diverged")
    assert (found["status"], found["learnt"]) == ("diverged", False)
    assert found["score"] == found["chance"] == pytest.approx(chance)
    assert len(set(found["predictions"])) == 1 and answer in (None, found["predictions"][0])
    for metric in task.metrics:
        assert found[metric.name] == pytest.approx(metric.factor * metric.chance(labels))
    assert (found["probabilities"] is not None) == (task.metric.reads == "probabilities")
    if found["probabilities"]:
        assert unpacked(found["probabilities"])[:2].tolist() == [[0.3, 0.7]] * 2


def test_probabilities_are_packed_to_four_decimals():
    probabilities = RNG.dirichlet([1, 2, 3], 500)
    kept = packed(probabilities)
    assert isinstance(kept["zlib"], str) and len(kept["zlib"]) < 500 * 3 * 2.5
    assert unpacked(kept).shape == (500, 3) and unpacked(kept) == pytest.approx(probabilities, abs=1.1e-4)
    assert unpacked(packed(np.array([[0.0, 1.0]]))).tolist() == [[0, 1]]


def test_a_metric_that_a_record_lacks_is_counted_anew_or_not_available():
    labels, answers = LABELS.astype(int), np.where(RNG.random(300) < 0.2, 1 - LABELS, LABELS).astype(int)
    wider = COLA.model_copy(update={"metrics": (*COLA.metrics, known("f1"), known("roc_auc"))})
    found = row(COLA, answers, labels, tasks={"cola": wider})
    assert found["f1"] == pytest.approx(100 * sklearn.metrics.f1_score(labels, answers)) and np.isnan(found["roc_auc"])
    shares = np.clip(np.stack([1 - answers, answers], axis=1) * 0.6 + RNG.uniform(0, 0.4, (300, 2)), 0, 1)
    shares /= shares.sum(1, keepdims=True)
    found = row(COLA, answers, labels, tasks={"cola": wider}, probabilities=shares)
    assert found["roc_auc"] == pytest.approx(100 * sklearn.metrics.roc_auc_score(labels, shares[:, 1]), abs=0.01)
    main = COLA.model_copy(update={"metrics": (known("roc_auc"),)})
    assert np.isnan(row(COLA, answers, labels, tasks={"cola": main})["score"])
    assert row(COLA, answers, labels, tasks={"cola": main}, probabilities=shares)["score"] == found["roc_auc"]


def test_a_metric_of_another_class_or_options_is_not_taken_from_a_record_of_its_name():
    labels, answers = LABELS.astype(int), np.where(RNG.random(300) < 0.2, 1 - LABELS, LABELS).astype(int)
    plain = Task(name="x", columns=["text"], labels=["no", "yes"], metrics=["f1"])
    of_no = Task(name="x", columns=["text"], labels=["no", "yes"], metrics=[{"f1": {"of": "no"}}])
    scores = {kind: 100 * sklearn.metrics.f1_score(labels == kind, answers == kind) for kind in (0, 1)}
    assert row(plain, answers, labels, tasks={"x": of_no})["score"] == pytest.approx(scores[0])
    assert row(of_no, answers, labels, tasks={"x": plain})["score"] == pytest.approx(scores[1])


def test_learnt_is_about_the_metric_that_is_the_main_one_now():
    """A record whose main metric was another: its p value is counted anew."""
    labels = LABELS.astype(int)
    good, random = np.where(RNG.random(300) < 0.1, 1 - labels, labels), RNG.permutation(labels)
    other = COLA.model_copy(update={"metrics": COLA.metrics[::-1]})
    assert row(COLA, good, labels, p_shuffled=0.5, tasks={"cola": other})["learnt"]
    assert not row(COLA, random, labels, p_shuffled=0.001, tasks={"cola": other})["learnt"]
    assert not row(COLA, good, labels, p_shuffled=0.5, tasks={"cola": COLA})["learnt"]


def test_further_sets_have_columns_in_the_metric_s_unit():
    task = Task(name="mnli", columns=["text"], labels=["a", "b"], metrics=["accuracy"], also=["mismatched"])
    one = record(task, LABELS.astype(int), LABELS.astype(int))
    one["scores"]["mismatched accuracy"] = 0.25
    found, = table([one], {}, {}).to_dict("records")
    assert (found["accuracy"], found["mismatched accuracy"]) == (100.0, 25.0)


def test_tasks_and_arms_have_their_places_in_the_study_and_its_labels():
    labels = LABELS.astype(int)
    lora = {"arm": "lora", "options": (("r", 8),)}
    records = [record(COLA, labels, labels, **lora), record(COLA, labels, labels, arm="lora", options=(("r", 64),)),
               record(COLA, labels, labels), record(STSB, np.linspace(0, 5, 100), np.linspace(0, 5, 100))]
    found = table(records, {"stsb": STSB, "cola": COLA}, {("full", ()): "all", ("lora", (("r", 8),)): "small"})
    assert found["arm"].tolist() == ["small", "lora", "all", "all"]  # the second is no arm of the study
    assert found["arm_place"].tolist() == [1, 2, 0, 0] and found["task_place"].tolist() == [1, 1, 1, 0]
    assert found["options"].tolist() == ["r=8", "r=64", "", ""]
    assert found["method"].tolist() == ["lora", "lora", "full", "full"]


def test_seeds_that_differ_are_no_seed():
    labels = LABELS.astype(int)
    found = table([record(COLA, labels, labels, init_seed=1), record(COLA, labels, labels)], {}, {})
    assert found["seed"].isna().tolist() == [True, False]


def test_no_records_are_an_empty_table():
    assert isinstance(table([], {}, {}), pd.DataFrame) and table([], {}, {}).empty


def refusing(labels, answers, **more):
    """A record whose metric refuses a score: the logarithm of a negative answer is none."""
    task = Task(name="doses", columns=["text"], metrics=[known("mean_absolute_error"), LOG])
    kept = record(Task(name="doses", columns=["text"], metrics=["mean_absolute_error"]), answers, labels)
    return task, {**kept, "task": task.model_dump(mode="json"), **more}


LOG = known("sklearn.metrics.mean_squared_log_error", range=[0, 99], reads="values")


def test_a_metric_that_refuses_a_score_gives_none_and_is_no_accident():
    labels, answers = np.linspace(1, 9, 30), np.linspace(-1, 9, 30)
    task, kept = refusing(labels, answers)
    asks = {"beside": task, "main": task.model_copy(update={"metrics": task.metrics[::-1]})}
    for place, wanted in asks.items():
        found, = table([kept], {"doses": wanted}, {}).to_dict("records")
        assert np.isnan(found[LOG.name]) and found["mean_absolute_error"] == pytest.approx(np.abs(labels - answers).mean())
        assert np.isnan(found["score"]) == (place == "main") and found["learnt"] == (place == "beside")
    told = {"scores": {LOG.name: None}, "refused": [LOG.name], "reason": "metric gives no number", "p_shuffled": 1}
    found, = table([{**kept, **told}], {"doses": asks["main"]}, {}).to_dict("records")
    assert np.isnan(found["score"]) and (found["reason"], found["learnt"]) == ("metric gives no number", False)


def test_a_record_s_only_class_is_found_where_another_stands_beside_it_now():
    labels, answers = LABELS.astype(int), np.where(RNG.random(300) < 0.2, 1 - LABELS, LABELS).astype(int)
    alone = Task(name="cola", columns=["text"], labels=["no", "yes"], metrics=[{"f1": {"of": "no"}}])
    both = Task(name="cola", columns=["text"], labels=["no", "yes"], metrics=[{"f1": {"of": "yes"}}, {"f1": {"of": "no"}}])
    kept = record(alone, answers, labels)
    assert list(kept["scores"]) == ["f1"]
    kept["scores"]["f1"] = 0.123  # read, not counted anew
    found, = table([kept], {"cola": both}, {}).to_dict("records")
    assert found["f1 of no"] == pytest.approx(12.3)
    assert found["f1 of yes"] == found["score"] == pytest.approx(100 * sklearn.metrics.f1_score(labels, answers))
