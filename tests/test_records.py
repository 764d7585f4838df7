import errno
import fcntl
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from studykit.study import records
from studykit.study.runs import Run

RUN = Run("cola", "adapter", 0.3, 1e-4, "an-encoder", "0123", "4567", epochs=3,
          options=(("bottleneck", 8), ("terms", ("query", "key"))))
PLAIN = {"task": "cola", "method": "full", "fraction": 1.0, "lr": 1e-4, "encoder": "an-encoder", "weights": "0123",
         "data": "4567", "steps": 3}
RESULT = {"status": "ok", "reason": "", "scores": {"matthews_correlation": 0.5}, "score": 0.5, "seconds": {"train": 1.5},
          "parameters": {"trained": 7, "total": 70}, "examples": 60, "steps": 30, "tokens": 600, "precision": "fp32",
          "curve": [], "hardware": {"processor": "a processor"}, "predictions": [1, 1, 1, 0, 1, 0, 0, 0],
          "labels": [1, 1, 1, 1, 0, 0, 0, 0]}


@pytest.fixture
def record():
    return records.new(RUN, RESULT)


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


def test_what_is_written_is_what_is_read(record, file, tmp_path):
    assert records.read(tmp_path) == {RUN.key: json.loads(json.dumps(record))}
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


def test_the_table_tells_near_constant_answers_and_what_one_answer_would_score(file, tmp_path):
    record = json.loads(file.read_text())
    record.update(predictions=[1] * 9 + [0], labels=[1, 1, 0, 1, 1, 0, 1, 1, 1, 0])
    row = records.table([record]).iloc[0]
    expected = {"mrpc": 100 * 2 * 7 / (2 * 7 + 3), "cola": 0.0}[record["run"]["task"]]
    assert (row["top_answer"], row["majority"]) == pytest.approx((90, expected))


UNSOUND = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "another rate": lambda text: text.replace('"lr": 0.0001', '"lr": 0.001'),
    "another seed": lambda text: text.replace('"init_seed": 0', '"init_seed": 1'),
    "impossible": lambda text: text.replace('"fraction": 0.3', '"fraction": 3'),
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


FAILED = {"status": "failed", "reason": "RuntimeError: no", "traceback": "", "scores": {}, "score": None}


def test_a_table_has_a_row_for_each_record_and_scores_in_points(record):
    other = records.new(Run(**{**record["run"], "options": (), "subset_seed": 1}), FAILED)
    table = records.table([record, other])
    assert table["score"].tolist() == pytest.approx([50.0, np.nan], nan_ok=True)
    assert table["matthews_correlation"].tolist() == pytest.approx([50.0, np.nan], nan_ok=True)
    assert table["status"].tolist() == ["ok", "failed"]
    assert table["reason"].tolist() == ["", "RuntimeError: no"]
    assert table["seed"].tolist() == pytest.approx([0, np.nan], nan_ok=True)
    assert table["key"].tolist() == [RUN.key, other["key"]]
    assert table.loc[0, ["method", "lr", "trained", "total", "steps", "train_seconds"]].tolist() == [
        "adapter", 1e-4, 7, 70, 30, 1.5]


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
    other = records.new(Run(**{**record["run"], "options": (), "subset_seed": 1}), FAILED)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\); all earlier ones are safe"):
        records.write(other, file.with_name("other.json"))
    assert os.listdir(file.parent) == [file.name]
    assert records.read(tmp_path) == {RUN.key: record}


def test_a_folder_that_cannot_be_written_is_said(record, tmp_path):
    with pytest.raises(OSError, match="cannot be written"):
        records.write(record, tmp_path / "nowhere" / "x.json")


def test_a_run_is_reserved_for_one_process_until_it_ends(tmp_path):
    with records.reserved(tmp_path, RUN, wait=False) as mine:
        with records.reserved(tmp_path, RUN, wait=False) as other:
            assert (mine, other) == (True, False)
        with records.reserved(tmp_path, Run(**{**PLAIN, "lr": 1.0}), wait=False) as another:
            assert another
    assert os.listdir(tmp_path) == []
    with records.reserved(tmp_path, RUN, wait=False) as again:
        assert again


def test_a_reservation_ends_with_its_process(tmp_path):
    """Killed, it leaves a file, and nobody waits for it. What it was writing goes when another process takes its run, since
    no sweep will see a reservation then."""
    half, others = (tmp_path / "group" / f".{run.name}.json.7.tmp" for run in (RUN, Run(**PLAIN)))
    half.parent.mkdir()
    code = ("import sys, time; from pathlib import Path; from studykit import records; from types import SimpleNamespace\n"
            f"with records.reserved(Path({str(tmp_path)!r}), SimpleNamespace(key={RUN.key!r}), True): print(1, flush=True); "
            "time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as worker:
        worker.stdout.readline()
        with records.reserved(tmp_path, RUN, wait=False) as mine:
            assert not mine
        half.write_text("{")
        others.write_text("{")
        worker.kill()
    with records.reserved(tmp_path, RUN, wait=True) as mine:
        assert mine
        assert [half.exists(), others.exists()] == [False, True]


def test_a_reservation_that_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    lock, flock, times = tmp_path / f".{RUN.key}.lock", fcntl.flock, []

    def late(held, how):
        times.append(how)
        if len(times) == 1:
            lock.unlink()
        flock(held, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with records.reserved(tmp_path, RUN, wait=True) as mine:
        assert mine and lock.exists() and len(times) == 2
    assert os.listdir(tmp_path) == []


def test_what_stopped_processes_left_is_swept_and_what_runs_is_not(record, file):
    folder, running = file.parent, Run(**{**PLAIN, "lr": 1.0})
    (folder.parent / f".{RUN.key}.lock").touch()
    (folder / f".{file.name}.7.tmp").write_text("{")
    with records.reserved(folder.parent, running, wait=False):
        (folder / f".{running.name}.json.8.tmp").write_text("{")
        assert records.sweep(folder.parent) == [RUN.key]
        assert sorted(os.listdir(folder.parent)) == sorted([f".{running.key}.lock", folder.name])
        assert sorted(os.listdir(folder)) == sorted([f".{running.name}.json.8.tmp", file.name])


def test_a_record_is_found_in_any_group(record, file, tmp_path):
    assert records.find(tmp_path, RUN) == record
    assert records.find(tmp_path, Run(**{**PLAIN, "lr": 1.0})) is None
