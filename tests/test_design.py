"""A study as somebody writes it: values from YAML, mistakes told in one sentence, one's own tasks run like any other."""

import csv
import random

import numpy as np
import pytest
import yaml
from conftest import changed, made_result, rows, write_split
from scipy.stats import spearmanr

from studykit import study, tasks
from studykit.evidence import table
from studykit.study import records, runs
from studykit.tasks import Task

# Mistakes


def arms(**settings):
    return {"full": {"rates": [0.001]}, **settings}


def labels_of(task, **settings):
    """A task's file with these settings, beside the study's."""
    def write(folder):
        (folder / f"{task}.yaml").write_text(yaml.safe_dump({"columns": ["text"], **settings}))
        return {"tasks": [f"{task}.yaml"]}

    return write


MISTAKES = {
    "an unknown setting": ({"momentum": 0.9}, "tiny.yaml: unknown setting momentum"),
    "a missing setting": ({"batch_size": None}, "tiny.yaml: batch_size is missing: give it a value"),
    "a number as text": ({"batch_size": "many"}, "tiny.yaml: batch_size: .*integer.*, got 'many'"),
    "a batch of none": ({"batch_size": 0}, "tiny.yaml: batch_size: .*greater than 0, got 0"),
    "epochs below 0": ({"epochs": -1}, "tiny.yaml: epochs: .*greater than 0, got -1"),
    "no precision": ({"precision": None}, "tiny.yaml: precision is missing"),
    "a precision that is none": ({"precision": "fp16"}, "tiny.yaml: precision: .*'fp32' or 'bf16', got 'fp16'"),
    "shares above 1": ({"shares": [0.5, 1.5]}, "tiny.yaml: shares: 1: .*less than or equal to 1, got 1.5"),
    "an unknown task": ({"tasks": ["mrpc", "rtee"]}, "tiny.yaml: tasks: unknown task 'rtee': choose from cola, mnli"),
    "a task twice": ({"tasks": ["mrpc", "mrpc"]}, "tiny.yaml: tasks must be different, got mrpc, mrpc"),
    "no tasks": ({"tasks": []}, "tiny.yaml: tasks: .*at least 1 item"),
    "a task's file that is not there": ({"tasks": ["own.yaml"]}, "tasks: no task at .*own.yaml: give a YAML file"),
    "arms as a list": ({"arms": ["full"]}, "tiny.yaml: arms: a mapping of labels to settings, such as full: .*got .'full'"),
    "an arm's settings as a list": ({"arms": {"full": [1e-4]}},
                                    "tiny.yaml: arms: full: settings must be a mapping, such as {rates: .1.0e-4.}, got"),
    "the same arm twice, once with its default": (
        {"arms": {"adapter": {"rates": [0.1]}, "adapter 64": {"method": "adapter", "options": {"bottleneck": 64},
                                                              "rates": [0.1]}}},
        "tiny.yaml: arms: adapter 64 does what another arm does: leave one of them out"),
    "an unknown method": ({"arms": arms(lorra={"rates": [0.1]})},
                          "tiny.yaml: arms: lorra: unknown method 'lorra': choose from full, bitfit"),
    "an unknown option": ({"arms": arms(adapter={"options": {"botleneck": 8}, "rates": [0.1]})},
                          "tiny.yaml: arms: adapter: adapter has no option botleneck: choose from"),
    "an arm's unknown setting": ({"arms": arms(head={"rate": [0.1]})}, "tiny.yaml: unknown setting arms: head: rate"),
    "the same arm twice": ({"arms": arms(everything={"method": "full", "rates": [0.01]})},
                           "tiny.yaml: arms: everything does what another arm does: leave one of them out"),
    "unequal rates": ({"arms": arms(head={"rates": [0.1, 0.2]})},
                      "tiny.yaml: arms have different numbers of rates to try, or none: they must be equal to be fair"),
    "no rates": ({"arms": {"full": {}, "head": {}}}, "tiny.yaml: arms have different numbers of rates to try, or none"),
    "a rate twice": ({"arms": {"full": {"rates": [0.1, 0.1]}}}, "tiny.yaml: arms: full: the rates of full must be "),
    "a rate below 0": ({"arms": {"full": {"rates": [-0.1]}}}, "tiny.yaml: arms: full: rates: 0: .*greater than 0, got -0.1"),
    "an unknown baseline": ({"baseline": "fulll"}, "tiny.yaml: baseline: there is no arm 'fulll': choose from full, bitfit"),
    "a seed of trials that reports": ({"trials": {"fraction": 0.5, "seeds": [1000, 1]}},
                                      "tiny.yaml: trials: seeds: 1 is a seed of the report too: choose rates from others"),
    "a seed too large": ({"seeds": [0, 2 ** 32]}, "tiny.yaml: seeds: 1: .*less than 4294967296, got 4294967296"),
    "a seed below 0": ({"seeds": [-1]}, "tiny.yaml: seeds: 0: .*greater than or equal to 0, got -1"),
    "trials without seeds": ({"trials": {"fraction": 0.5, "seeds": []}}, "tiny.yaml: trials: seeds: .*at least 1 item"),
    "trials without a share": ({"trials": {"seeds": [1000]}}, "tiny.yaml: trials: fraction is missing"),
    "an unknown rule": ({"trials": {"fraction": 0.5, "seeds": [1000], "rule": "best"}}, "trials: rule: .*got 'best'"),
    "an unknown metric": (labels_of("own", labels=["a", "b"], metrics=["acuracy"]),
                          "tiny.yaml: tasks: .*own.yaml: metrics: .*acuracy"),
    "f1 of a label that is not there": (labels_of("own", labels=["a", "b"], metrics=[{"f1": {"of": "c"}}]),
                                        "own.yaml: .*there is no label 'c': choose from a, b"),
    "f1 of no class in particular": (labels_of("own", labels=["a", "b", "c"], metrics=["accuracy", "f1"]),
                                     "own.yaml: F1 is of one class, and own has 3: name it, as in f1: {of: c}, or take mac"),
    "a metric of numbers for classes": (labels_of("own", labels=["a", "b"], metrics=["pearson"]),
                                        "own.yaml: metric Pearson correlation is about values, but own has labels"),
    "a metric of classes for numbers": (labels_of("own", metrics=["f1"]),
                                        "metric F1 is about classes, but own has no labels, so it predicts a number"),
    "a label twice": (labels_of("own", labels=["a", "a"]), "own.yaml: labels must be two or more different names, got a, a"),
    "labels and a range": (labels_of("own", labels=["a", "b"], range=[0, 1]), "a task has labels or a range, not both"),
    "three texts": (labels_of("own", columns=["a", "b", "c"]), "own.yaml: columns: .*at most 2"),
    "a task's unknown setting": (labels_of("own", kolumns=["a"]), "own.yaml: unknown setting kolumns"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_with_the_file_and_the_place(tiny_yaml, tiny_glue, tiny_encoder, mistake):
    settings, message = MISTAKES[mistake]
    settings = settings(tiny_yaml.parent) if callable(settings) else settings
    with pytest.raises(ValueError, match=message) as raised:
        study.load(changed(tiny_yaml, **settings), tiny_glue, tiny_encoder)
    said = str(raised.value)
    assert said.startswith(str(tiny_yaml)) and "\n" not in said and "pydantic" not in said


def test_a_file_that_is_not_yaml_is_said(tiny_yaml):
    tiny_yaml.write_text("encoder: [")
    with pytest.raises(ValueError, match=r"tiny\.yaml is not YAML .*: mend it there"):
        study.load(str(tiny_yaml))
    tiny_yaml.write_text("just words")
    with pytest.raises(ValueError, match=r"tiny\.yaml must be a mapping of settings to values, got 'just words'"):
        study.load(str(tiny_yaml))


# Values


def test_a_study_is_tasks_arms_and_a_design(tiny_study):
    assert list(tiny_study.tasks) == ["mrpc", "cola", "stsb"] and tiny_study.tasks["cola"] == tasks.get("cola")
    assert {label: arm.method for label, arm in tiny_study.arms.items()} == {
        name: name for name in ("full", "bitfit", "adapter", "head")}
    assert tiny_study.baseline == "full"
    assert (tiny_study.design.seeds, tiny_study.design.trials.rule) == ((0, 1), "lowest within one error")


def test_the_baseline_is_the_one_that_the_study_names(tiny_yaml, tiny_glue, tiny_encoder):
    assert study.load(changed(tiny_yaml, baseline="head"), tiny_glue, tiny_encoder).baseline == "head"


def test_two_sizes_of_one_method_are_two_arms(tiny_yaml, tiny_glue, tiny_encoder, tiny_study, monkeypatch):
    sizes = {f"adapter {size}": {"method": "adapter", "options": {"bottleneck": size}, "rates": [0.01]} for size in (4, 8)}
    own = study.load(changed(tiny_yaml, arms=sizes), tiny_glue, tiny_encoder)
    wanted = own.plan("cola", rates={("cola", "adapter 4"): 0.01, ("cola", "adapter 8"): 0.03})
    assert len({run.key for run in wanted}) == 2
    monkeypatch.setattr(runs, "train_run", lambda run, *_: made_result(run))
    made = own.execute(wanted, group="some")
    assert made["arm"].tolist() == ["adapter 4", "adapter 8"] and made["arm_place"].tolist() == [0, 1]
    assert made["options"].tolist() == ["bottleneck=4", "bottleneck=8"] and made["lr"].tolist() == [0.01, 0.03]


# Keys


def key(tiny_yaml, tiny_glue, tiny_encoder, task, arm=None, **design):
    (tiny_yaml.parent / "own.yaml").write_text(yaml.safe_dump({"columns": ["sentence1", "sentence2"], **task}))
    for split in ("train", "validation"):
        write_split(tiny_yaml.parent / "glue", "own", split, rows("mrpc", split))
    arms = {"small": {"method": "adapter", "options": {"bottleneck": 8}, "rates": [0.01], **(arm or {})}}
    file = changed(tiny_yaml, tasks=["own.yaml"], arms=arms, **design)
    (run,) = study.load(file, str(tiny_yaml.parent / "glue"), tiny_encoder).plan(rates=0.01)
    return run.key


CLASSES = {"labels": ["other", "same"]}


@pytest.mark.parametrize("change", [
    {"title": "My task"}, {"question": "Are they the same?"}, {"metrics": ["accuracy"]},
    {"metrics": [{"f1": {"of": "same"}}]}], ids=str)
def test_titles_questions_and_metrics_leave_the_key(tiny_yaml, tiny_glue, tiny_encoder, change):
    where = tiny_yaml, tiny_glue, tiny_encoder
    assert key(*where, CLASSES) == key(*where, {**CLASSES, **change})


@pytest.mark.parametrize("change", [
    {"labels": ["same", "other"]}, {"labels": []}, {"columns": ["sentence2", "sentence1"]},
    {"columns": ["sentence1"]}], ids=str)
def test_columns_and_the_order_of_labels_are_in_the_key(tiny_yaml, tiny_glue, tiny_encoder, change):
    where = tiny_yaml, tiny_glue, tiny_encoder
    assert key(*where, CLASSES) != key(*where, {**CLASSES, **change})


def test_so_are_standardisation_options_and_precision(tiny_yaml, tiny_glue, tiny_encoder):
    where = tiny_yaml, tiny_glue, tiny_encoder
    keys = [key(*where, {}), key(*where, {"standardise": False}), key(*where, {}, {"options": {"bottleneck": 9}}),
            key(*where, {}, precision="bf16"), key(*where, {}, reads="mean")]
    assert len(set(keys)) == 5


@pytest.mark.parametrize("arm, design", [
    ({"rates": [0.02]}, {}), ({}, {"seeds": [7, 8]}), ({}, {"shares": [0.25]}), ({}, {"jobs": 2}),
    ({}, {"baseline": "small"}), ({}, {"epochs": 4.0}), ({}, {"trials": {"fraction": 1, "seeds": [7]}})], ids=str)
def test_what_is_about_the_plan_or_written_another_way_is_not(tiny_yaml, tiny_glue, tiny_encoder, arm, design):
    """``4`` epochs are ``4.0``; rates, seeds and shares to try are other runs' business."""
    where = tiny_yaml, tiny_glue, tiny_encoder
    assert key(*where, CLASSES) == key(*where, CLASSES, arm, **design)


def test_a_label_of_an_arm_is_not_in_the_key(tiny_yaml, tiny_glue, tiny_encoder):
    one, other = (study.load(changed(tiny_yaml, arms={label: {"method": "full", "rates": [0.01]}}), tiny_glue, tiny_encoder)
                  .plan("cola", rates=0.01) for label in ("full", "everything"))
    assert one == other


# Tasks of one's own, from a CSV and a dozen lines

WORDS = {"calm": ("cat", "dog", "bird"), "soon": ("lawyer", "office", "market"), "urgent": ("river", "road", "garden")}


def write_csv(file, header, made):
    with open(file, "w", newline="") as opened:
        csv.writer(opened).writerows([header, *made])


def text(rng, words):
    return " ".join(rng.choice(words) if i % 2 else rng.choice(("the", "a", "near", "of")) for i in range(6)) + " ."


def tickets(folder, count=150):
    """Texts whose words say which of three classes they are, in columns of other names."""
    rng = random.Random(0)
    made = [(i, kind, text(rng, WORDS[kind])) for i, kind in enumerate(["calm", "soon", "urgent", "urgent"] * (count // 4))]
    write_csv(folder / "tickets.csv", ("number", "how soon", "what"), made)
    (folder / "tickets.yaml").write_text("""\
title: Tickets
question: "How soon must somebody look at it?"
columns: [what]
label: how soon
labels: [calm, soon, urgent]
metrics:
  - macro_f1
  - accuracy
  - f1: {of: urgent}
  - roc_auc
data: tickets.csv
""")


def grades(folder, count=150, shift=0.0, factor=1.0):
    """Two texts and a number from -50 to 900: the share of places at which they have the same word."""
    rng = random.Random(1)
    words, made = sum(WORDS.values(), ()), []
    for _ in range(count):
        first = [rng.choice(words) for _ in range(5)]
        same = rng.randrange(6)
        second = [word if i < same else rng.choice(("buys", "sells", "banker")) for i, word in enumerate(first)]
        label = -50 + 950 * same / 5
        made.append((" ".join(first), " ".join(second), f"{factor * label + shift:.12g}"))
    write_csv(folder / "grades.csv", ("question", "answer", "points"), made)
    (folder / "grades.yaml").write_text(f"""\
title: Grades
question: "How many points does the answer get?"
columns: [question, answer]
label: points
range: [{factor * -50 + shift:g}, {factor * 900 + shift:g}]
metrics: [spearmanr, r2, mean_absolute_error]
data: grades.csv
""")


def own_study(tiny_yaml, tiny_encoder, *names):
    arms = {"full": {"rates": [3e-3, 1e-2]}, "head": {"rates": [1e-2, 3e-2]}}
    file = changed(tiny_yaml, tasks=[f"{name}.yaml" for name in names], arms=arms, epochs=8)
    return study.load(file, encoder=tiny_encoder)


@pytest.fixture
def own(tiny_study, tiny_yaml, tiny_encoder):
    """A study of both of these tasks, its rates chosen and its runs trained: study, rates, tables of trials and of runs."""
    tickets(tiny_yaml.parent)
    grades(tiny_yaml.parent)
    loaded = own_study(tiny_yaml, tiny_encoder, "tickets", "grades")
    rates, trials = loaded.choose_rates()
    return loaded, rates, trials, loaded.execute(loaded.plan(rates=rates), group="some")


def test_tasks_of_one_s_own_are_chosen_for_trained_and_scored_like_any_other(own):
    loaded, rates, trials, made = own
    assert set(rates) == {(task, arm) for task in ("tickets", "grades") for arm in ("full", "head")}
    assert trials.groupby(["task", "arm"]).size().min() >= 2 and set(trials["score_on"]) == {"selection"}
    assert made["task_title"].tolist() == ["Tickets", "Tickets", "Grades", "Grades"]
    assert made["arm"].tolist() == ["full", "head"] * 2

    classes = made[made["task"] == "tickets"]
    shares = np.array([0.25, 0.25, 0.5])
    for row in classes.to_dict("records"):
        assert np.bincount(row["labels"]) / len(row["labels"]) == pytest.approx(shares, abs=0.03)
        assert row["metric"] == "macro_f1" and row["metric_axis"] == "macro F1 × 100"
        always = np.full(len(row["labels"]), 2)
        assert row["chance"] == pytest.approx(100 * loaded.tasks["tickets"].metric.score(row["labels"], always))
        probabilities = table.unpacked(row["probabilities"])
        assert probabilities.shape == (len(row["labels"]), 3)
        assert probabilities.argmax(1).tolist() == row["predictions"].tolist()
        assert row["accuracy"] == pytest.approx(100 * np.mean(row["predictions"] == row["labels"]))
        assert 0 <= row["f1"] <= 100 and 0 <= row["roc_auc"] <= 100
    assert classes["score"].tolist()[0] > 60 and classes["learnt"].tolist()[0]  # words tell the class

    numbers = made[made["task"] == "grades"]
    for row in numbers.to_dict("records"):
        labels, answers = row["labels"], row["predictions"]
        assert labels.min() == -50 and labels.max() == 900  # as given
        assert row["score"] == pytest.approx(100 * spearmanr(labels, answers).statistic, abs=0.1)
        assert row["mean_absolute_error"] == pytest.approx(np.mean(np.abs(labels - answers)), rel=1e-3)
        assert row["r2"] == pytest.approx(1 - np.mean((labels - answers) ** 2) / np.var(labels), abs=1e-3)
        assert (row["chance"], row["metric_low"], row["metric_high"], row["better"]) == (0, -100, 100, 1)
        assert row["probabilities"] is None
    full = numbers.iloc[0]
    assert full["score"] > 50 and full["learnt"]
    assert 100 < np.mean(full["predictions"]) < 800  # on the labels' scale, though trained standardised

    stored = records.read(study.paths.results("tiny"))  # a record says what its task was
    assert Task(**stored[made["key"][0]]["task"]) == loaded.tasks["tickets"]
    spread = np.std([-50 + 190 * i for i in range(6)])
    assert stored[made["key"][2]]["label_spread"] == pytest.approx(spread, rel=0.1)


def test_training_a_number_knows_neither_its_scale_nor_its_shift(tiny_study, tiny_yaml, tiny_encoder):
    """Labels y, and 1000 y - 3: standardised they are the same, to rounding."""
    answers, scores = [], []
    for factor, shift in ((1, 0), (1000, -3)):
        grades(tiny_yaml.parent, shift=shift, factor=factor)
        loaded = own_study(tiny_yaml, tiny_encoder, "grades")
        row = loaded.execute(loaded.plan(arms="full", rates=3e-3), group="some").iloc[0]
        answers.append((row["predictions"] - shift) / factor)
        scores.append(row["score"])
    assert scores[0] == pytest.approx(scores[1], abs=0.5) and scores[0] > 50
    assert answers[0] == pytest.approx(answers[1], abs=2)


def test_without_standardisation_it_is_trained_as_it_is(tiny_study, tiny_yaml, tiny_encoder, monkeypatch):
    from studykit import training

    seen, train = [], training.train
    monkeypatch.setattr(training, "train", lambda model, data, *rest, **more: seen.append(data.labels) or train(
        model, data, *rest, **more))
    for standardise in (True, False):
        grades(tiny_yaml.parent)
        with open(tiny_yaml.parent / "grades.yaml", "a") as opened:
            opened.write(f"standardise: {str(standardise).lower()}\n")
        loaded = own_study(tiny_yaml, tiny_encoder, "grades")
        loaded.execute(loaded.plan(arms="head", rates=1e-2, steps=2), group="some")
    assert (np.mean(seen[0]), np.std(seen[0])) == pytest.approx((0, 1), abs=1e-5)
    assert set(seen[1]) == {-50 + 190 * i for i in range(6)}


def test_a_further_split_is_scored_beside_validation(tiny_study, tiny_yaml, tiny_encoder):
    """As MNLI has: one genre like train's, and one of another."""
    folder = tiny_yaml.parent / "glue"
    for split, count in (("train", 120), ("validation", 40), ("elsewhere", 30)):
        made = rows("mrpc", "train" if split == "train" else "validation")[:count]
        write_split(folder, "pairs", split, [{**row, "label": 1 - row["label"] if split == "elsewhere" else row["label"]}
                                             for row in made])
    (tiny_yaml.parent / "pairs.yaml").write_text(
        "columns: [sentence1, sentence2]\nlabels: [other, same]\nmetrics: [accuracy, macro_f1]\nalso: [elsewhere]\n")
    file = changed(tiny_yaml, tasks=["pairs.yaml"], arms={"full": {"rates": [3e-3]}})
    loaded = study.load(file, str(folder), tiny_encoder)
    (row,) = loaded.execute(loaded.plan(rates=3e-3), group="some").to_dict("records")
    assert len(row["labels"]) == 40
    right = row["predictions"][:30] == row["labels"][:30]
    assert row["elsewhere accuracy"] == pytest.approx(100 * (1 - np.mean(right)))  # there every label is the other one
    assert row["score"] == row["accuracy"] != row["elsewhere accuracy"]
    (trial,) = loaded.execute(loaded.trials(), group="some").to_dict("records")
    assert "elsewhere accuracy" not in trial  # a trial looks at no more than its selection split


def test_the_rest_of_glue_is_described_too():
    known = {name: tasks.get(name) for name in ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")}
    assert all(task.hub and task.question and task.title != name for name, task in known.items())
    assert known["mnli"].num_labels == 3 and known["mnli"].also == ("mismatched",)
    assert known["mnli"].stored("mismatched") == "validation_mismatched"
