"""A kept model's answers: to texts in Python, and to the rows of files of every kind, which keep their columns."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import conftest
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from made_advice import advice as made_advice
from test_keeping import CLASSES, NUMBER, PAIRS, keep, tuned

from studykit import advise, methods, paths
from studykit.__main__ import main
from studykit.advise import filling, floors, keeping, predicting
from studykit.models import encoders
from studykit.tasks import sheets

TEXTS = ["the girl waits", 'a boy says "no, thanks"; and\twaits', "the dogs\nsleep near the river", "", "an Äpfel 漢字 king"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with models: ``classes``, ``number`` and ``pairs``; and a floor, ``quick``."""
    home = tmp_path_factory.mktemp("models")
    keep(home / "classes", tuned("bitfit", CLASSES), CLASSES, "bitfit", temperature=1.5)
    keep(home / "number", tuned("adapter", NUMBER), NUMBER, "adapter", half_width=40.0)
    keep(home / "pairs", tuned("head", PAIRS), PAIRS, "head")
    words = ("cold", "warm")
    floor = floors.Floor("tfidf", "TF-IDF + logistic regression", np.array([[4.0, 0, 0], [0, 4.0, 0]]),
                         np.array([0.0, 0, 0.5]), words, np.ones(2))
    keeping.keep_floor(home / "quick", floor, made_advice("floor"), CLASSES, "mini", max_length=32)
    return home


@pytest.fixture
def at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STUDYKIT_FROM", raising=False)
    return tmp_path


def predict(*words):
    return main(["predict", *map(str, words)])


# In Python

def test_a_frame_has_a_row_for_each_text(models):
    found = advise.load(models / "classes").predict(TEXTS)
    assert found.columns.tolist() == ["label", "probability"] and len(found) == len(TEXTS)
    assert set(found["label"]) <= {*CLASSES.labels} and found["probability"].between(1 / 3, 1).all()
    again = pd.concat([advise.load(models / "classes").predict([text]) for text in TEXTS], ignore_index=True)
    assert again["label"].equals(found["label"])
    np.testing.assert_allclose(again["probability"], found["probability"], atol=1e-5)
    number = advise.load(models / "number").predict(iter(TEXTS))
    assert number.columns.tolist() == ["value", "low", "high"]
    assert advise.load(models / "pairs").predict([("a", "b"), ["c", "d"]]).shape == (2, 2)
    assert advise.load(models / "number").predict([]).columns.tolist() == ["value", "low", "high"]


def test_a_text_that_is_cut_is_counted(models):
    model = advise.load(models / "classes")
    fits = " ".join(["king"] * 30)  # with the two special tokens as many as the model is given
    assert model.predict([fits, fits + " king", "king"]).attrs["cut"] == pytest.approx(1 / 3)


def test_line_ends_are_one_kind_as_in_training(models):
    model = advise.load(models / "number")
    assert model.predict(["the girl\r\nwaits"]).equals(model.predict(["the girl\nwaits"]))


@pytest.mark.parametrize(("name", "texts", "said"), [
    ("classes", "one text", "put it in brackets"), ("classes", ["a", 3], r"texts\[1\] is 3: it must be one text"),
    ("classes", [("a", "b")], "must be one text"), ("classes", [None], "must be one text"),
    ("classes", ["\ud800"], "must be one text"), ("pairs", ["a"], "a pair of texts, first and second"),
    ("pairs", [("a", None)], "a pair of texts")])
def test_what_is_no_text_is_refused(models, name, texts, said):
    with pytest.raises(ValueError, match=said):
        advise.load(models / name).predict(texts)


def test_importing_it_waits_for_no_torch_and_a_floor_of_words_needs_none(models):
    code = (f"import sys, studykit.advise.filling\nmodel = studykit.advise.load({str(models / 'quick')!r})\n"
            "print(*model.predict(['cold', 'warm'])['label'], {'torch', 'transformers'} & {*sys.modules})")
    said = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=paths.REPO)
    assert said.strip() == "yes no set()"


def test_an_encoder_that_has_moved_is_named_and_can_be_given(tmp_path):
    encoder = conftest.save_encoder(tmp_path / "encoder")
    model = methods.apply("adapter", encoders.load(encoder, 3, pooler="new"))
    keeping.keep(tmp_path / "model", model, made_advice(), CLASSES, str(encoder), method="adapter", options={},
                 max_length=16)
    found = advise.load(tmp_path / "model").predict(["the cat"])
    (tmp_path / "encoder").rename(tmp_path / "elsewhere")
    assert advise.load(tmp_path / "model", tmp_path / "elsewhere").predict(["the cat"]).equals(found)
    for given in ("", "mini"):  # which has other weights
        with pytest.raises(FileNotFoundError, match=r"needs the encoder mini .*: say where it is, as --encoder"):
            about = json.loads((tmp_path / "model" / keeping.ABOUT).read_text())
            assert about["encoder_at"] == str(tmp_path / "encoder")
            advise.load(tmp_path / "model", given)


# Files

def written_csv(mark=",", **options):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=mark, **options)
    writer.writerow(["id", "text", "a note"])
    writer.writerows([f"{place:03}", text, f'note {mark} "{place}"'] for place, text in enumerate(TEXTS))
    return stream.getvalue()


CSVS = {"commas": ("x.csv", written_csv()), "semicolons": ("x.csv", written_csv(";")), "tabs": ("x.tsv", written_csv("\t")),
        "BOM": ("x.csv", "\ufeff" + written_csv(lineterminator="\n")),
        "all quoted": ("x.csv", "\ufeff" + written_csv(quoting=csv.QUOTE_ALL)),
        "old Mac": ("x.csv", written_csv(lineterminator="\r", quoting=csv.QUOTE_ALL)),
        "no last line end": ("x.csv", written_csv().rstrip()),
        "capitals": ("x.CSV", written_csv())}


@pytest.mark.parametrize("kind", CSVS)
@pytest.mark.parametrize("name", ["classes", "number"])
def test_a_csv_keeps_its_bytes_and_has_answers_at_its_end(at, models, kind, name, capsys):
    file, text = CSVS[kind]
    (at / file).write_bytes(text.encode())
    assert predict(file, "--model", models / name) == 0
    out = at / f"x.predicted{file[1:]}"
    assert f"{len(TEXTS)} rows of {file}" in capsys.readouterr().out
    given, found = text, out.read_bytes().decode()
    assert (found[0] == "\ufeff") == (given[0] == "\ufeff")
    mark = sheets.separated(given.removeprefix("\ufeff"), out.suffix.lower(), ["text"])[0]
    before, after = (list(csv.reader(io.StringIO(part.removeprefix("\ufeff"), newline=""), delimiter=mark, strict=True))
                     for part in (given, found))
    wanted = advise.load(models / name).predict(TEXTS)
    added = ["predicted", *wanted.columns[1:]]
    assert [row[:3] for row in after] == before and after[0][3:] == added
    for row, (_, expected) in zip(after[1:], wanted.iterrows(), strict=True):
        first, *others = row[3:]
        assert first == expected.iloc[0] if name == "classes" else float(first) == pytest.approx(expected.iloc[0], rel=1e-4)
        np.testing.assert_allclose([float(value) for value in others], expected.iloc[1:].astype(float), rtol=1e-4)
    end = "\r\n" if "\r\n" in given else "\r" if "\r" in given else "\n"
    for line, old in zip(found.split(end), given.split(end), strict=True):  # what stood there stands there still
        assert line.startswith(old)


def test_a_line_that_says_what_separates_stays_first(at, models):
    (at / "x.csv").write_bytes(b"sep=;\r\n" + written_csv(";").encode())
    (at / "y.csv").write_bytes(written_csv(";").encode())
    assert predict("x.csv", "--model", models / "classes") == predict("y.csv", "--model", models / "classes") == 0
    assert (at / "x.predicted.csv").read_bytes() == b"sep=;\r\n" + (at / "y.predicted.csv").read_bytes()


def test_tabs_with_quotes_as_text_stay_so(at, models):
    (at / "x.tsv").write_text('text\tnote\nthe "girl waits\ta\nthe dogs"\tb\n')
    assert predict("x.tsv", "--model", models / "quick") == 0
    lines = (at / "x.predicted.tsv").read_text().splitlines()
    assert [line.split("\t")[:2] for line in lines] == [["text", "note"], ['the "girl waits', "a"], ['the dogs"', "b"]]
    assert [len(line.split("\t")) for line in lines] == [4, 4, 4]


def test_a_large_file_with_tabs_has_values_of_several_lines(at, models):
    """What is looked at first ends within a quoted value."""
    text = "the girl waits\nthe dogs sleep\nthe king sings"
    count = 1_200_000 // len(text)
    (at / "x.tsv").write_text("text\tnote\n" + f'"{text}"\ta\n' * count)
    assert predict("x.tsv", "--model", models / "quick") == 0
    assert len(pd.read_csv(at / "x.predicted.tsv", sep="\t")) == count


def test_empty_lines_and_empty_columns_at_the_end_stay_and_answers_stand_in_their_columns(at, models):
    (at / "x.csv").write_text('\ntext,note,,\ncold,a,,\n\nwarm,b\n,,,\nwarm,"c, d",,,,\n')
    assert predict("x.csv", "--model", models / "quick") == 0
    assert (at / "x.predicted.csv").read_text() == (
        "\ntext,note,,,predicted,probability\ncold,a,,,yes,0.953732\n\nwarm,b,,,no,0.953732\n,,,,,\n"
        'warm,"c, d",,,no,0.953732\n')


LINES = [{"id": place, "text": text, "more": {"a": [1, None, 2.50]}} for place, text in enumerate(TEXTS)]


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n\n"])
def test_json_lines_keep_what_they_held(at, models, ascii_only, end):
    lines = [json.dumps(line, ensure_ascii=ascii_only).replace("2.5", "2.50") for line in LINES]
    (at / "x.jsonl").write_bytes(end.join([*lines, ""]).encode())
    assert predict("x.jsonl", "--model", models / "classes", "--out", "y.jsonl") == 0
    wanted = advise.load(models / "classes").predict(TEXTS)
    found = (at / "y.jsonl").read_bytes().decode().split(end)
    assert found.pop() == ""
    for line, old, (_, row) in zip(found, lines, wanted.iterrows(), strict=True):
        assert line.startswith(old[:-1] + ", ")
        assert json.loads(line) == {**json.loads(old), "predicted": row["label"],
                                    "probability": pytest.approx(row["probability"], rel=1e-4)}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("block", [1, 7, 1 << 16])
def test_a_json_array_stays_one(at, models, indent, block, monkeypatch):
    monkeypatch.setattr("studykit.advise.objects.BLOCK", max(block, 4))
    (at / "x.json").write_text("\ufeff \n" + json.dumps(LINES, indent=indent) + "\n", encoding="utf-8")
    assert predict("x.json", "--model", models / "number") == 0
    found = json.loads((at / "x.predicted.json").read_text(encoding="utf-8").removeprefix("\ufeff"))
    assert [{name: row[name] for name in LINES[0]} for row in found] == LINES
    wanted = advise.load(models / "number").predict(TEXTS)
    np.testing.assert_allclose([row["predicted"] for row in found], wanted["value"], rtol=1e-4)
    np.testing.assert_allclose([row["high"] - row["low"] for row in found], 80, rtol=1e-3)


def test_parquet_keeps_its_types(at, models):
    table = pa.table({"id": pa.array(range(5), pa.int8()), "text": pa.array(TEXTS).dictionary_encode(),
                      "when": pa.array([0, None, 2, 3, 4], pa.timestamp("ms")), "more": [[1], [], None, [2, 3], [4]]},
                     metadata={"from": "here"})
    pq.write_table(table, at / "x.parquet", row_group_size=2)
    assert predict("x.parquet", "--model", models / "classes") == 0
    found = pq.read_table(at / "x.predicted.parquet")
    assert found.select(table.column_names).equals(table) and found.schema.metadata[b"from"] == b"here"
    wanted = advise.load(models / "classes").predict(TEXTS)
    assert found["predicted"].to_pylist() == wanted["label"].tolist()
    np.testing.assert_allclose(found["probability"], wanted["probability"], rtol=1e-4)
    assert pd.read_parquet(at / "x.predicted.parquet").columns.tolist() == [*table.column_names, "predicted", "probability"]


def test_two_texts_are_read_from_their_columns(at, models):
    pairs = [("the girl waits", "a boy waits"), ("the dogs", "the king")]
    (at / "x.csv").write_text("second,x,first\n" + "".join(f"{second},1,{first}\n" for first, second in pairs))
    assert predict("x.csv", "--model", models / "pairs") == 0
    wanted = advise.load(models / "pairs").predict(pairs)
    assert pd.read_csv(at / "x.predicted.csv")["predicted"].tolist() == wanted["label"].tolist()


def test_columns_that_are_there_already_get_no_second_of_their_name(at, models, capsys):
    (at / "x.csv").write_text("text,predicted\ncold,yes\n")
    assert predict("x.csv", "--model", models / "quick") == 0
    assert "predicted_2, probability_2 (the file has columns of these names already" in capsys.readouterr().out
    assert (at / "x.predicted.csv").read_text().startswith("text,predicted,predicted_2,probability_2\ncold,yes,yes,0.95")
    assert predict("x.predicted.csv", "--model", models / "quick", "--out", "again.csv") == 0
    assert pd.read_csv(at / "again.csv").columns[-1] == "probability_3"


def test_what_was_cut_is_said_once(at, models, capsys):
    (at / "x.csv").write_text("text\n" + "king " * 40 + "\n" + "king\n" * 3)
    assert predict("x.csv", "--model", models / "classes") == 0
    assert capsys.readouterr().out.count("25.0 % of them have more than the 32 tokens") == 1


def test_a_number_without_an_interval_has_empty_ends(at, tmp_path):
    floor = floors.Floor("mean", "mean", np.zeros((0, 1)), np.array([12.25]))
    keeping.keep_floor(tmp_path / "mean", floor, made_advice("floor", 0), NUMBER, "mini", max_length=32)
    (at / "x.csv").write_text("text\na\n")
    (at / "x.jsonl").write_text('{"text": "a"}\n')
    assert predict("x.csv", "--model", "mean") == predict("x.jsonl", "--model", "mean") == 0
    assert (at / "x.predicted.csv").read_text() == "text,predicted,low,high\na,12.25,,\n"
    assert json.loads((at / "x.predicted.jsonl").read_text()) == {"text": "a", "predicted": 12.25, "low": None, "high": None}


# Size

@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet"])
def test_a_large_file_goes_by_in_chunks_in_its_order(at, models, kind, monkeypatch):
    rows = [f"{'cold' if place % 3 else 'warm'} {place}" for place in range(20_000)]
    frame = pd.DataFrame({"text": rows, "place": range(20_000)})
    if kind == "csv":
        frame.to_csv("x.csv", index=False)
    elif kind == "parquet":
        frame.to_parquet("x.parquet")
    else:
        frame.to_json(f"x.{kind}", orient="records", lines=kind == "jsonl")
    seen, read = [], predicting.Model.answers

    def answers(self, texts):
        seen.append(len(texts))
        return read(self, texts)

    monkeypatch.setattr(predicting.Model, "answers", answers)
    monkeypatch.setattr(filling, "MOST", 512)
    assert predict(f"x.{kind}", "--model", models / "quick") == 0
    assert sum(seen) == 20_000 and max(seen) <= 512 and len(seen) >= 40
    found = {"csv": pd.read_csv, "parquet": pd.read_parquet}.get(kind, lambda file: pd.read_json(
        file, lines=kind == "jsonl"))(f"x.predicted.{kind}")
    assert found["place"].tolist() == list(range(20_000)) and found["text"].tolist() == rows
    assert found["predicted"].tolist() == ["yes" if place % 3 else "no" for place in range(20_000)]


def test_it_says_how_far_it_is(at, models, capsys, monkeypatch):
    monkeypatch.setattr(filling, "QUIET", 0.0)
    monkeypatch.setattr(filling, "LINES", 1e9)
    (at / "x.csv").write_text("text\n" + "the girl waits\n" * 3000)
    assert predict("x.csv", "--model", models / "quick") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("64 rows, ") and " a second, about " in lines[0] and lines[0].endswith(" left")
    assert lines[-2].startswith("3,000 rows, ") and lines[-2].endswith("about 0 s left")


def test_both_numbers_of_threads_are_tried_and_all_are_given_back(at, models, monkeypatch):
    tried, before = [], torch.get_num_threads()

    def answers(texts):
        tried.append(torch.get_num_threads())
        time.sleep(0.05 * (tried[-1] == 2))  # waiting for one another
        return np.array(["yes"] * len(texts), dtype=object), np.ones(len(texts))

    monkeypatch.setattr(predicting.Model, "answers", lambda self, texts: (answers(texts), 0))
    torch.set_num_threads(2)
    try:
        (at / "x.csv").write_text("text\n" + "the girl waits\n" * 2000)
        assert predict("x.csv", "--model", models / "classes") == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert tried[:5] == [2, 1, 2, 1, 2] and set(tried[5:8]) == {1}


# What will not do

def refused(capsys, *words):
    """The one sentence that it is refused with; nothing is left behind."""
    before = {file: file.stat().st_size for file in paths.Path.cwd().rglob("*") if file.is_file()}
    assert predict(*words) == 2
    said = capsys.readouterr().err
    assert said.startswith("run_all.sh: ") and said.count("\n") == 1 and "Traceback" not in said
    assert {file: file.stat().st_size for file in paths.Path.cwd().rglob("*") if file.is_file()} == before
    return said


@pytest.mark.parametrize(("file", "content", "said"), [
    ("x.csv", "", "has no rows"), ("x.csv", "text\n", "has no rows"), ("x.csv", "text\n\n,\n", "has no rows"),
    ("x.csv", "txet,b\na,b\n", "column text is missing; it has txet, b: rename"),
    ("x.csv", "text,text\na,b\n", "column text stands there 2 times"),
    ("x.csv", "text,b\nx,y\na, b,c\n", "x.csv, line 3: it has 3 values for the 2 columns text, b"),
    ("x.csv", "text,b\nx,y\na\n", "x.csv, line 3: it has 1 value for the 2 columns"),
    ("x.csv", 'text,b\nx,y\n"a,b\nc,d\n', "line 3: its quotes are not balanced"),
    ("x.csv", b"text,b\nx,y\n\xff,b\n", "x.csv, line 3: it is not UTF-8"),
    ("x.jsonl", "", "has no rows"), ("x.json", "[]", "has no rows"),
    ("x.jsonl", '{"text": "a"}\n{"text": "b"\n', "x.jsonl, line 2: "), ("x.jsonl", "[1]", "it is not a JSON object"),
    ("x.jsonl", '{"text": "a"}\n3\n', "line 2: it is not a JSON object"),
    ("x.jsonl", '{"text": "a"}\n{"txet": "b"}\n', "line 2: column text is missing; it has txet"),
    ("x.jsonl", '{"text": "a"}\n{"text": null}\n', "line 2: text None is not text"),
    ("x.jsonl", '{"text": "a"}\n{"text": 5}\n', "line 2: text 5 is not text"),
    ("x.jsonl", '{"text": "\\ud800"}\n', "half a character"),
    ("x.jsonl", '{"text": "a"}\n{"text": "b", "predicted": 1}\n', "line 2: it holds predicted, which rows before have not"),
    ("x.json", '[{"text": "a"}', "the array has no end"), ("x.json", '[{"text": "a"} {"text": ""}]', "one comma must stand"),
    ("x.json", '[{"text": "a"}, ]', "one comma must stand"), ("x.json", '[{"text": "a"}] x', "something stands after"),
    ("x.json", '[{"text": "a"}, {"text": ', "row 2: "),
    ("x.parquet", "not Parquet", "is not a sound Parquet file"), ("x.parquet", "", "is not a sound Parquet file"),
    ("x.xlsx", "", "is of a kind that is not read here: save it as one of csv, tsv")])
def test_files_that_are_not_sound_are_refused_in_a_sentence(at, models, capsys, file, content, said):
    (at / file).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    assert said in refused(capsys, file, "--model", models / "quick")


def test_parquet_without_texts_is_refused(at, models, capsys):
    pq.write_table(pa.table({"text": ["a", None]}), at / "x.parquet")
    assert "x.parquet, row 2: text None is not text" in refused(capsys, "x.parquet", "--model", models / "quick")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), at / "x.parquet")
    assert "has no rows" in refused(capsys, "x.parquet", "--model", models / "quick")
    pq.write_table(pa.table({"txet": ["a"]}), at / "x.parquet")
    assert "column text is missing" in refused(capsys, "x.parquet", "--model", models / "quick")


def test_a_folder_that_is_no_model_is_refused(at, models, capsys):
    (at / "x.csv").write_text("text\na\n")
    (at / "empty").mkdir()
    for folder, said in (("empty", "has no studykit.json, so it is no model"), ("nowhere", "is not there"),
                         ("x.csv", "is not a folder")):
        assert said in refused(capsys, "x.csv", "--model", folder)
    for content in ("{", "[]", '{"format": 99, "kind": "floor"}', '{"format": 1, "kind": "pickle"}'):
        (at / "empty" / keeping.ABOUT).write_text(content)
        assert "is not as this version of studykit writes it" in refused(capsys, "x.csv", "--model", "empty")
    shutil.copytree(models / "quick", at / "broken")
    (at / "broken" / keeping.FLOOR).write_bytes(b"nothing")
    assert "cannot be read" in refused(capsys, "x.csv", "--model", "broken")
    shutil.copytree(models / "classes", at / "torn")
    (at / "torn" / "model.safetensors").write_bytes(b"nothing")
    assert "the weights of" in refused(capsys, "x.csv", "--model", "torn")


def test_places_that_cannot_be_written_are_refused(at, models, capsys):
    (at / "x.csv").write_text("text\na\n")
    (at / "folder.csv").mkdir()
    (at / "link.csv").symlink_to(at / "x.csv")
    for out, said in (("x.csv", "is the file that is read"), ("./folder.csv/../x.csv", "is the file that is read"),
                      ("link.csv", "is the file that is read"), ("folder.csv", "it is a folder"),
                      ("nowhere/y.csv", "lies in no folder that is there"), ("y.txt", "must end in .csv, as x.csv does")):
        assert said in refused(capsys, "x.csv", "--model", models / "quick", "--out", out)
    assert "nw.csv is not there" in refused(capsys, "nw.csv", "--model", models / "quick")
    assert "folder.csv is a folder" in refused(capsys, "folder.csv", "--model", models / "quick")
    assert "required: --model" in refused(capsys, "x.csv")
    assert "unknown option '--modle', perhaps --model or --offline was meant" in refused(
        capsys, "x.csv", "--model", models / "quick", "--modle", "x")


def test_what_was_there_stays_where_anything_goes_wrong(at, models, capsys):
    (at / "x.csv").write_text("text,b\n" + "a,b\n" * 500 + "a\n")
    (at / "x.predicted.csv").write_text("of yesterday\n")
    refused(capsys, "x.csv", "--model", models / "quick")
    assert (at / "x.predicted.csv").read_text() == "of yesterday\n"


def test_ctrl_c_leaves_nothing(at, models, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    (at / "x.csv").write_text("text\na\n")
    monkeypatch.setattr(predicting.Model, "answers", interrupted)
    assert predict("x.csv", "--model", models / "quick") == 130
    assert "nothing was written" in capsys.readouterr().err
    assert [file.name for file in at.iterdir()] == ["x.csv"]


def test_paths_are_those_of_the_caller(tmp_path, models, monkeypatch):
    (tmp_path / "caller").mkdir()
    (tmp_path / "caller" / "x.csv").write_text("text\ncold\n")
    monkeypatch.setenv("STUDYKIT_FROM", str(tmp_path / "caller"))
    monkeypatch.chdir(paths.REPO)
    relative = os.path.relpath(models / "quick", tmp_path / "caller")
    assert predict("x.csv", "--model", relative) == predict("x.csv", "--model", relative, "--out", "../y.csv") == 0
    assert {file.name for file in tmp_path.rglob("*.csv")} == {"x.csv", "x.predicted.csv", "y.csv"}
    assert (tmp_path / "y.csv").is_file()


def test_a_kill_leaves_what_was_there(at, models, monkeypatch):
    (at / "x.csv").write_text("text\n" + "the girl waits\n" * 2000)
    (at / "x.predicted.csv").write_text("of yesterday\n")
    read = predicting.Model.answers

    def answers(self, texts):
        if len(texts) < filling.FEWEST:  # the last chunk: most is written by then
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, texts)

    monkeypatch.setattr(predicting.Model, "answers", answers)
    if (child := os.fork()) == 0:
        try:
            predict("x.csv", "--model", models / "quick")
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert (at / "x.predicted.csv").read_text() == "of yesterday\n"
