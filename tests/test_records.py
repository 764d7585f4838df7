import errno
import json
import os

import numpy as np
import pytest

from studykit import tasks
from studykit.evidence.table import table
from studykit.study import locks, records
from studykit.study.arms import Arm
from studykit.study.runs import Run
from studykit.tasks.packing import packed

COLA = tasks.get("cola")
ARM = Arm(label="small adapter", method="adapter", options={"bottleneck": 8})
PLAIN = {"task": "cola", "asks": COLA.identity, "method": "full", "fraction": 1.0, "lr": 1e-4, "encoder": "an-encoder",
         "weights": "0123", "data": "4567", "precision": "fp32", "steps": 3}
RUN = Run(**{**PLAIN, "method": "adapter", "fraction": 0.3, "steps": None, "epochs": 3,
             "options": (("bottleneck", 8), ("layernorm", False), ("terms", ("query", "key")))})
RESULT = {"status": "ok", "reason": "", "scores": {"matthews_correlation": 0.5}, "score": 0.5, "p_shuffled": 0.001,
          "label_spread": None, "label_mean": None, "seconds": {"train": 1.5},
          "parameters": {"trained": 7, "total": 70}, "examples": 60, "steps": 30, "tokens": 600, "precision": "fp32",
          "curve": [], "hardware": {"processor": "a processor"}, "predictions": [1, 1, 1, 0, 1, 0, 0, 0],
          "labels": [1, 1, 1, 1, 0, 0, 0, 0]}


def other(result=RESULT, **fields):
    """A record of another run."""
    return records.new(Run(**{**PLAIN, "subset_seed": 1, **fields}), COLA, None, result)


@pytest.fixture
def record():
    return records.new(RUN, COLA, ARM, RESULT)


@pytest.fixture
def file(record, tmp_path):
    """A written record."""
    file = tmp_path / "group" / f"{RUN.name}.json"
    file.parent.mkdir()
    records.write(record, file)
    return file


def test_a_record_says_where_it_comes_from(record):
    import torch

    assert record["schema"] == records.SCHEMA
    assert record["key"] == RUN.key
    assert record["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]  # some builds add +cu130 to one only
    assert {"python", "studykit", "transformers", "numpy"} <= record["versions"].keys()
    assert "commit" in record
    assert record["arm"] == "small adapter" and other()["arm"] == "full"  # an arm that the study has not: its method
    assert tasks.Task(**record["task"]) == COLA  # as it was then: its labels and metrics


def test_what_is_written_is_what_is_read(record, file, tmp_path):
    assert records.read(tmp_path) == {RUN.key: json.loads(json.dumps(record))}
    assert records.read(tmp_path, [RUN]) == records.read(tmp_path) and not records.read(tmp_path, [Run(**PLAIN)])
    assert records.key(json.loads(file.read_text())) == RUN.key


def test_a_record_is_json_with_a_line_for_each_field(record, file):
    lines = file.read_text().splitlines()
    assert [json.loads("{" + line.rstrip(",") + "}").popitem()[0] for line in lines[1:-1]] == list(record)
    assert os.listdir(file.parent) == [file.name]


def test_a_write_that_is_stopped_leaves_no_record(record, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        records.write(record, tmp_path / f"{RUN.name}.json")
    assert not (tmp_path / f"{RUN.name}.json").exists()
    assert records.read(tmp_path) == {}
    assert not list(tmp_path.glob("*.broken"))


def test_a_write_that_is_stopped_leaves_the_old_record(record, file, monkeypatch):
    before = file.read_text()
    monkeypatch.setattr(json, "dumps", lambda value: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        records.write(record, file)
    assert file.read_text() == before


def test_a_record_of_another_version_is_left_where_it_is(file, tmp_path, capsys):
    text = file.read_text().replace('"lr": 0.0001', '"lr": 0.0001, "momentum": 0.9')
    file.write_text(text)
    assert records.read(tmp_path) == {}
    assert file.read_text() == text
    assert "its run has momentum" in capsys.readouterr().out


def test_an_accident_is_no_record(record, file, tmp_path):
    beside = tmp_path / locks.ACCIDENTS
    beside.mkdir()
    records.write({"run": record["run"], "key": RUN.key, "status": "accident"}, beside / file.name)
    assert list(records.read(tmp_path)) == [RUN.key] and records.find(tmp_path, RUN) == record
    file.unlink()
    assert records.read(tmp_path) == {} and records.find(tmp_path, RUN) is None
    assert (beside / file.name).exists()


UNSOUND = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "another rate": lambda text: text.replace('"lr": 0.0001', '"lr": 0.001'),
    "another seed": lambda text: text.replace('"init_seed": 0', '"init_seed": 1'),
    "impossible": lambda text: text.replace('"fraction": 0.3', '"fraction": 3'),
    "another recipe": lambda text: text.replace('"recipe": 1', '"recipe": 2'),
    "another precision": lambda text: text.replace('"precision": "fp32", "pooler"', '"precision": "bf16", "pooler"'),
    "missing field": lambda text: text.replace('"method": "adapter", ', ""),
    "no record": lambda text: "[1, 2]",
    "another score": lambda text: text.replace('"score": 0.5', '"score": 0.6'),
    "another answer": lambda text: text.replace('"predictions": [1, 1', '"predictions": [0, 1'),
    "another commit": lambda text: text.replace('"commit": ', '"commit": "0123", "was": '),
}


@pytest.mark.parametrize("kind", UNSOUND)
def test_an_unsound_record_is_set_aside_and_said(file, tmp_path, capsys, kind):
    text = file.read_text()
    file.write_text(UNSOUND[kind](text))
    assert file.read_text() != text
    assert records.read(tmp_path) == {}
    assert [path.name for path in file.parent.iterdir()] == [f"{RUN.name}.broken"]
    assert file.with_suffix(".broken").read_text() == UNSOUND[kind](text)
    assert f"set aside a record that is not sound, {file.name}" in capsys.readouterr().out


def test_a_record_under_another_s_name_is_set_aside(file, tmp_path):
    file.rename(file.with_name("cola-adapter-0123456789ab.json"))
    assert records.read(tmp_path) == {}


def test_a_folder_that_is_not_there_has_no_records(tmp_path):
    assert records.read(tmp_path / "nowhere") == {}


# The table

def of_study(*found, arms=None):
    return table(found, {"cola": COLA}, arms or {ARM.does: ARM.label})


def test_a_table_has_a_row_for_each_record_and_scores_in_points(record):
    rows = of_study(record, other(subset_seed=1))
    assert rows["score"].tolist() == rows["matthews_correlation"].tolist() == [50.0, 50.0]
    assert rows["status"].tolist() == ["ok", "ok"] and rows["learnt"].tolist() == [True, True]
    assert rows["reason"].tolist() == ["", ""]
    assert rows["seed"].tolist() == pytest.approx([0, np.nan], nan_ok=True)  # where the three differ there is no one seed
    assert rows["key"].tolist() == [RUN.key, other()["key"]]
    assert rows.loc[0, ["method", "lr", "trained", "total", "steps", "train_seconds"]].tolist() == [
        "adapter", 1e-4, 7, 70, 30, 1.5]
    assert rows.loc[0, ["used_precision", "recipe", "task_title", "metric_title"]].tolist() == [
        "fp32", 1, "CoLA", "Matthews correlation"]


def test_arms_have_the_labels_and_places_of_the_study(record):
    options = tuple(tuple(option) if not isinstance(option[1], list) else (option[0], tuple(option[1]))
                    for option in record["run"]["options"])
    rows = of_study(record, other(), arms={("full", ()): "everything", ("adapter", options): "adapter 8"})
    assert rows["arm"].tolist() == ["adapter 8", "everything"] and rows["arm_place"].tolist() == [1, 0]
    rows = of_study(record, other(), arms={("full", ()): "everything"})
    assert rows["arm"].tolist() == ["small adapter", "everything"] and rows["arm_place"].tolist() == [1, 0]


def test_the_table_tells_near_constant_answers_and_what_one_answer_would_score():
    """Of 100 answers one is other than the commonest; of the labels 30 are, and a thirtieth of them is one."""
    labels, answers = [1] * 70 + [0] * 30, [1] * 99 + [0]
    (row,) = of_study(other({**RESULT, "labels": labels, "predictions": answers})).to_dict("records")
    assert (row["top_answer"], row["chance"], row["status"]) == (99, 0, "ok")
    (row,) = of_study(other({**RESULT, "labels": labels, "predictions": [1] * 100, "p_shuffled": 1.0})).to_dict("records")
    assert (row["top_answer"], row["status"], row["learnt"]) == (100, "collapsed", False)
    assert row["reason"] == "one answer for nearly every example"
    assert row["score"] == 50  # of classes the score that it got


def test_what_is_better_than_itself_shuffled_by_chance_has_not_learnt():
    assert of_study(other({**RESULT, "p_shuffled": 0.02}))["learnt"].tolist() == [False]


STSB, NUMBERS = tasks.get("stsb"), np.linspace(0, 5, 50)


def number(answers, spread=1.5, **fields):
    result = {"status": "ok", "reason": "", "score": 0.4, "scores": {"pearson": 0.4, "spearmanr": 0.3}, "p_shuffled": 0.001,
              "labels": NUMBERS.tolist(), "predictions": list(answers), "label_spread": spread, "label_mean": 2.0, **fields}
    record = records.new(Run(**{**PLAIN, "task": "stsb", "asks": STSB.identity}), STSB, None, result)
    (row,) = table([record], {"stsb": STSB}, {}).to_dict("records")
    return row


def test_a_number_s_answers_that_spread_less_than_a_fiftieth_of_its_labels_are_a_collapse_and_count_as_0():
    rising = NUMBERS / NUMBERS.std()  # of standard deviation 1
    assert number(2 + 0.031 * rising)["status"] == "ok"
    row = number(2 + 0.029 * rising)
    assert (row["status"], row["score"], row["spearmanr"], row["learnt"]) == ("collapsed", 0, 0, False)
    assert np.isnan(row["top_answer"])


@pytest.mark.parametrize("task, chance", [("cola", 0.0), ("mrpc", 100 * 2 * 0.5 / 1.5)])
def test_a_diverged_run_counts_as_the_best_constant_answer(task, chance):
    value = tasks.get(task)
    diverged = {**RESULT, "status": "diverged", "reason": "the loss was not finite", "scores": {}, "score": None}
    del diverged["predictions"], diverged["p_shuffled"]
    record = records.new(Run(**{**PLAIN, "task": task, "asks": value.identity}), value, None, diverged)
    (row,) = table([record], {}, {}).to_dict("records")
    assert (row["status"], row["learnt"], row["score"]) == ("diverged", False, pytest.approx(chance))
    assert row["chance"] == row["score"] and len(set(row["predictions"])) == 1


def test_a_metric_that_the_record_has_not_is_counted_from_its_answers():
    """A list of metrics is no part of a run, so it may grow afterwards."""
    more = COLA.model_copy(update={"metrics": tasks.Task(**{**COLA.model_dump(), "metrics": [
        "matthews_correlation", "accuracy", {"f1": {"of": "unacceptable"}}, "roc_auc"]}).metrics})
    (row,) = table([other()], {"cola": more}, {}).to_dict("records")
    assert (row["accuracy"], row["f1"]) == (75, 75)
    assert np.isnan(row["roc_auc"])  # it needs probabilities, which this record did not keep
    kept = packed(np.array([[0.1, 0.9]] * 4 + [[0.8, 0.2]] * 4))
    (row,) = table([other({**RESULT, "probabilities": kept})], {"cola": more}, {}).to_dict("records")
    assert row["roc_auc"] == 100


def test_a_record_without_its_digest_may_have_been_changed(file, tmp_path, record, capsys):
    records.write({name: value for name, value in record.items() if name != "digest"}, file)
    assert records.read(tmp_path) == {} and file.with_suffix(".broken").exists()
    assert "it was changed after it was written" in capsys.readouterr().out


@pytest.mark.parametrize("schema", [0, 99, None])
def test_a_record_of_another_schema_is_left_where_it_is(file, tmp_path, record, schema, capsys):
    records.write({**record, "schema": schema}, file)
    assert records.read(tmp_path) == {} and file.exists()
    assert f"its schema is {schema}, not {records.SCHEMA}" in capsys.readouterr().out


def test_a_full_disk_is_said_and_leaves_what_is_there(record, file, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\); all earlier ones are safe"):
        records.write(other(), file.with_name("other.json"))
    assert os.listdir(file.parent) == [file.name]
    assert records.read(tmp_path) == {RUN.key: record}


def test_a_folder_that_cannot_be_written_is_said(record, tmp_path):
    with pytest.raises(OSError, match="cannot be written"):
        records.write(record, tmp_path / "nowhere" / "x.json")


def test_a_record_is_found_in_any_group(record, file, tmp_path):
    assert records.find(tmp_path, RUN) == record
    assert records.find(tmp_path, Run(**{**PLAIN, "lr": 1.0})) is None
