"""Files as people have them: no row is lost, no text is changed, and the same rows are the same data however they are
stored."""

import csv
import json
import random
import re
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from studykit import tasks
from studykit.tasks import sheets
from studykit.tasks.reading import files
from studykit.tasks.sheets import sheet

GLUE, BEYOND = (Path(__file__).parents[2] / "shared" / name for name in ("glue", "beyond"))
KIND = tasks.Task(name="kind", columns=["text"], label="kind", labels=["praise", "question", "complaint"])
DEGREES = tasks.Task(name="degrees", columns=["text"], label="degrees", range=[-50, 900])
AWKWARD = ('he said "no"', "a, b; and c", "two\nlines", 'a "quote"\nand, a break', "\ttab", "NA", "None", "null", "nan",
           "N/A", "",
           "  blanks  ", '"', '""', "\u2028 é \x85 漢", "1,5", "x" * 200_000, "=1+1", "'", "\\", "a\\n", "#comment", "-")


def rows(count=60, texts=AWKWARD):
    """Rows of three classes by name, awkward texts among them, with columns that no task needs."""
    return [{"id": i, "text": texts[i] if i < len(texts) else f"text {i}", "kind": KIND.labels[i % 3], "note": ""}
            for i in range(count)]


def data(folder: Path):
    return tasks.load(KIND.model_copy(update={"data": str(folder)}))


def texts(loaded):
    return [text for split in loaded.values() for text in split["text"][:]]


# name -> writes rows as somebody's program does; the file's ending
WRITERS = {
    "csv": (lambda frame, file: frame.to_csv(file, index=False), "csv"),
    "csv with an index": (lambda frame, file: frame.to_csv(file), "csv"),
    "csv all quoted": (lambda frame, file: frame.to_csv(file, index=False, quoting=csv.QUOTE_ALL), "csv"),
    "csv with semicolons": (lambda frame, file: frame.to_csv(file, index=False, sep=";"), "csv"),
    "csv with tabs": (lambda frame, file: frame.to_csv(file, index=False, sep="\t"), "csv"),
    "csv with a byte order mark": (lambda frame, file: frame.to_csv(file, index=False, encoding="utf-8-sig"), "csv"),
    "csv of a spreadsheet": (lambda frame, file: frame.to_csv(file, index=False, lineterminator="\r\n"), "CSV"),
    "csv of an old Mac": (lambda frame, file: file.write_bytes(frame.to_csv(index=False).replace("\n", "\r").encode()),
                          "csv"),
    "tsv quoted": (lambda frame, file: frame.to_csv(file, index=False, sep="\t"), "tsv"),
    "json lines": (lambda frame, file: frame.to_json(file, orient="records", lines=True), "jsonl"),
    "json lines in .json": (lambda frame, file: frame.to_json(file, orient="records", lines=True, force_ascii=False),
                            "json"),
    "json array": (lambda frame, file: frame.to_json(file, orient="records"), "json"),
    "json array, indented": (lambda frame, file: frame.to_json(file, orient="records", indent=2), "json"),
    "parquet": (lambda frame, file: frame.to_parquet(file), "parquet"),
    "parquet with categories": (lambda frame, file: frame.astype({"kind": "category"}).to_parquet(file), "parquet"),
    "numbers of classes": (lambda frame, file: frame.assign(kind=frame["kind"].map(KIND.labels.index)).to_csv(file), "csv"),
    "numbers with a point": (lambda frame,
                             file: frame.assign(kind=frame["kind"].map(KIND.labels.index) * 1.0).to_csv(file), "csv"),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    for split in ("train", "validation"):
        pd.DataFrame(rows()).to_parquet(folder / f"{split}.parquet")
    return data(folder)


@pytest.mark.parametrize("kind", WRITERS)
def test_the_same_rows_have_the_same_digest_however_they_are_stored(tmp_path, expected, kind):
    write, ending = WRITERS[kind]
    for split in ("train", "validation"):
        write(pd.DataFrame(rows()), tmp_path / f"{split}.{ending}")
    assert texts(data(tmp_path)) == [row["text"] for row in rows()] * 2
    assert tasks.digest(data(tmp_path)) == tasks.digest(expected)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_split_may_be_in_parts_read_in_the_order_of_their_numbers(tmp_path, expected, ending):
    write = {kind: write for write, kind in WRITERS.values()}[ending]
    frame = pd.DataFrame(rows())
    for part in range(12):
        write(frame[part * 5: part * 5 + 5], tmp_path / f"train-{part + 1}.{ending}")  # 10 is after 9
    write(frame, tmp_path / f"dev.{ending}")
    assert tasks.digest(data(tmp_path)) == tasks.digest(expected)


def test_random_texts_come_back_from_every_delimiter_and_quoting(tmp_path):
    rng = random.Random(0)
    for trial in range(60):
        made = [{"text": "".join(rng.choices('ab ",;\t\n\'', k=rng.randint(1, 12))), "kind": KIND.labels[i % 3], "more": "x"}
                for i in range(20)]
        mark, quoting = rng.choice([",", ";", "\t"]), rng.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC])
        file = tmp_path / f"{trial}.csv"
        pd.DataFrame(made).to_csv(file, index=False, sep=mark, quoting=quoting)
        own = pd.read_csv(file, sep=mark, dtype=str, keep_default_na=False)
        held = sheet(file, ("text", "kind"))
        assert held.columns["text"] == own["text"].tolist() == [row["text"] for row in made]
        assert held.columns["kind"] == own["kind"].tolist()


@pytest.mark.parametrize("mark, name", [(",", "commas"), (";", "semicolons"), ("\t", "tabs")])
def test_what_separates_is_found_and_said(tmp_path, mark, name):
    for kind in ("csv", "tsv"):
        file = tmp_path / f"x.{kind}"
        file.write_text(f"id{mark}text{mark}kind\n1{mark}hello there{mark}praise\n")
        assert sheet(file).layout == f"separated by {name}"
        assert sheet(file).columns == {"id": ["1"], "text": ["hello there"], "kind": ["praise"]}


READ = {  # what stands in a file -> its columns
    "text;a,b;kind,c\nhello;1,2;praise,x\nyou;3,4;x,y\n": {
        "text": ["hello", "you"], "a,b": ["1,2", "3,4"], "kind,c": ["praise,x", "x,y"]},
    "sep=;\ntext;kind\nhello, you;praise\n": {"text": ["hello, you"], "kind": ["praise"]},
    '"sep=,"\r\ntext,kind\r\nhello;you,praise\r\n': {"text": ["hello;you"], "kind": ["praise"]},
    "text|kind\nwell, hello|praise\n": {"text": ["well, hello"], "kind": ["praise"]},
    "\ufeff\ufefftext,kind\nhello,praise\n": {"text": ["hello"], "kind": ["praise"]},
    'text,kind\n" ""no"", he said",praise\n"a, ",question\n': {
        "text": [' "no", he said', "a, "], "kind": ["praise", "question"]},
    "text,kind;of\nhello;you,praise\nwell;no;yes,praise\n": {
        "text": ["hello;you", "well;no;yes"], "kind;of": ["praise", "praise"]},
}


@pytest.mark.parametrize("content", READ)
def test_the_rows_have_a_say_in_what_separates(tmp_path, content):
    (tmp_path / "x.csv").write_text(content, newline="")
    held = sheet(tmp_path / "x.csv")
    assert held.columns == READ[content]
    assert held.lines == [2 + content.lower().count("sep=") + row for row in range(len(held))]


def test_a_name_that_cannot_be_written_is_left_out(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "a", "\\ud83d": 1}\n')
    held = sheet(tmp_path / "x.jsonl")
    assert list(held.columns) == ["text"]
    assert held.unread == {"\\ud83d": "has half a character (a lone surrogate) in its name: mend it"}


def test_one_row_of_json_with_lists_in_it_is_a_row(tmp_path):
    (tmp_path / "x.json").write_text('{"text": "a", "kind": "praise", "spans": [{"a": 1}, {"b": 2}], "more": {}}')
    assert sheet(tmp_path / "x.json", ("text", "kind")).columns == {"text": ["a"], "kind": ["praise"]}


def test_a_wanted_column_decides_what_separates(tmp_path):
    (tmp_path / "x.csv").write_text("text;kind;a,b,c,d\nhello;praise;1,2\n")
    assert sheet(tmp_path / "x.csv", ("text", "kind")).columns == {"text": ["hello"], "kind": ["praise"]}


def test_a_column_s_name_may_stand_on_two_lines_as_in_spreadsheets(tmp_path):
    (tmp_path / "x.csv").write_text('"the\ntext", kind \nhello,praise\n')
    assert sheet(tmp_path / "x.csv").columns == {"the text": ["hello"], "kind": ["praise"]}
    with pytest.raises(ValueError, match=r"column text is missing; the file has the text, kind: rename"):
        sheet(tmp_path / "x.csv", ("text", "kind"))


def test_what_was_damaged_is_read_or_refused_in_a_sentence_and_nothing_else(tmp_path):
    rng, task = random.Random(0), tasks.Task(name="x", columns=["text"], labels=["0", "1"])
    damage = ['"', '""', ",", ";", "\t", "\n", "\r", "{", "]", "\\ud800", "9" * 400, "\0", "\ufeff", "text,label\n",
              "a,1\n", '"b;0\n']
    for trial in range(300):
        kind = rng.choice(["csv", "tsv", "jsonl"])
        mark = rng.choice(",;\t")
        lines = [f"text{mark}label\n" if kind != "jsonl" else ""]
        lines += [json.dumps({"text": f"some text {i}",
                              "label": i % 2}) + "\n" if kind == "jsonl" else f"some text {i}{mark}{i % 2}\n"
                  for i in range(40)]
        lines.insert(rng.randint(1, 40), rng.choice(damage))
        file = tmp_path / f"{trial}.{kind}"
        file.write_text("".join(lines), newline="")
        try:
            loaded = tasks.load(task.model_copy(update={"data": str(file)}))
            assert sum(map(len, loaded.values())) >= 40
        except ValueError as error:
            assert str(file) in str(error) and "\n" not in str(error) and re.search(r"line \d+", str(error)), error


def test_empty_columns_at_the_end_and_empty_rows_are_none(tmp_path):
    (tmp_path / "x.csv").write_text("text,kind,,\nhello,praise,,\n\n,,,\nyou,question,,\nok,praise\n")
    held = sheet(tmp_path / "x.csv")
    assert held.columns == {"text": ["hello", "you", "ok"], "kind": ["praise", "question", "praise"]}
    assert held.lines == [2, 5, 6]


def test_tabs_without_quoting_lose_no_row(tmp_path):
    """As GLUE's own files are; with its default quoting pandas reads 12 of these 20 rows."""
    lines = [f'"he said {i}\t{i % 2}' if i % 5 in (1, 3) else f'{i} is "quoted"\t{i % 2}' for i in range(20)]
    (tmp_path / "x.tsv").write_text("\n".join(["text\tlabel", *lines]))
    assert len(pd.read_csv(tmp_path / "x.tsv", sep="\t")) < 20
    held = sheet(tmp_path / "x.tsv")
    assert [f"{text}\t{label}" for text, label in zip(*held.columns.values(), strict=True)] == lines
    assert held.layout == "separated by tabs, quotes are text"


def test_quotes_that_pair_up_over_rows_are_text_between_tabs_and_an_error_between_commas(tmp_path):
    lines = ['"a{}1', "b{}0", 'c"{}1', "d{}0"]
    (tmp_path / "x.tsv").write_text("\n".join(["text\tlabel", *(line.format("\t") for line in lines)]))
    assert sheet(tmp_path / "x.tsv", ("text", "label")).columns["text"] == ['"a', "b", 'c"', "d"]
    (tmp_path / "x.csv").write_text("\n".join(["text,label", "e,1", *(line.format(",") for line in lines)]))
    with pytest.raises(ValueError, match=r"x\.csv, line 3: a quote that opens here closes in line 5, .* are rows: take"):
        sheet(tmp_path / "x.csv", ("text", "label"))


def test_a_place_in_a_file_is_the_line_that_its_row_begins_on(tmp_path):
    (tmp_path / "x.csv").write_bytes(b'text,kind\r\n"two\r\nlines",praise\r\n\r\nhello,prase\r\nyou,\r\n')
    with pytest.raises(ValueError,
                       match=r"x\.csv, line 5 \(and 1 more\): label 'prase' is not known: expected praise, question, "
                                         "complaint, or 0 to 2"):
        data(tmp_path / "x.csv")


# Labels

def labels(tmp_path, task, values, kind="jsonl"):
    file = tmp_path / f"x.{kind}"
    given = [{"text": f"text {i}", task.label: value} for i, value in enumerate(values)]
    if kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in given))
    else:
        file.write_text("\n".join([f"text;{task.label}", *(f"{row['text']};{row[task.label]}" for row in given)]))
    loaded = tasks.load(task.model_copy(update={"data": str(file)}))
    found = {row["text"]: row["label"] for split in loaded.values() for row in split}
    return [found[f"text {i}"] for i in range(len(values))]


@pytest.mark.parametrize("names, given, places", [
    (["praise", "question"], ["praise", "question", " praise ", 0, 1, "0", "1.0", 1.0], [0, 1, 0, 0, 1, 0, 1, 1]),
    (["1", "2", "3"], [1, 2, 3, "1", "2.0", 3.0], [0, 1, 2, 0, 1, 2]),  # a name counts before a place
    (["no", "yes"], ["yes", "no", 1, 0], [1, 0, 1, 0]),
    (["False", "True"], [True, False, "true", "FALSE", "True"], [1, 0, 1, 0, 1]),
    (["false", "true"], [True, False, "True", "false"], [1, 0, 1, 0]),
    (["NA", "None", "null", "nan"], ["NA", "None", "null", "nan"], [0, 1, 2, 3]),
    (["1", "1.5"], ["1", 1.5], [0, 1]),
], ids=lambda value: str(value)[:30])
def test_a_label_is_a_name_or_a_number(tmp_path, names, given, places):
    task = tasks.Task(name="x", columns=["text"], label="kind", labels=names)
    assert labels(tmp_path, task, given * 8) == places * 8


def test_names_that_are_digits_are_no_places(tmp_path):
    stars = tasks.Task(name="x", columns=["text"], label="stars", labels=["1", "2", "3"])
    with pytest.raises(ValueError, match=r"line 21: label 0 is not known: expected 1, 2, 3$"):
        labels(tmp_path, stars, [1, 2] * 10 + [0])


def test_numbers_are_read_as_they_are_written(tmp_path):
    assert labels(tmp_path, DEGREES, [-50, 899.5, "12", "1e2", " 3.5 ", 7] * 5) == [-50, 899.5, 12, 100, 3.5, 7] * 5
    assert labels(tmp_path, DEGREES, ["-3,5", "12", "899,25", "7.5"] * 5, "csv") == [-3.5, 12, 899.25, 7.5] * 5


LABEL_ERRORS = [
    (DEGREES, "9" * 400, r"x\.jsonl, line 21: label '9{79,80}.* is not a number, or too large a one: expected -50 to 900"),
    (DEGREES, 10 ** 400, r"line 21: label 10{70,80} is not a number, or too large a one"),
    (DEGREES, "1e39", "line 21: label '1e39' is not a number, or too large a one"),
    (DEGREES, 901, "line 21: label 901 is out of range: expected -50 to 900"),
    (DEGREES, "hot", "line 21: label 'hot' is not a number"),
    (DEGREES, True, "line 21: label True is not a number"),
    (DEGREES, "1_0", "line 21: label '1_0' is not a number"),
    (DEGREES, "1,5", "line 21: label '1,5' is not a number"),
    (DEGREES, None, "line 21: label is missing: fill it in, or take the row out"),
    (DEGREES, " ", "line 21: label is missing: fill it in"),
    (DEGREES, float("nan"), "line 21: label is missing: fill it in"),
    (DEGREES, float("inf"), "line 21: label inf is not a number"),
    (KIND, "nan", "line 21: label 'nan' is not known: expected praise, question, complaint, or 0 to 2"),
    (KIND, 10 ** 400, r"line 21: label 10{70,80} is not known"),
    (KIND, "Praise", "line 21: label 'Praise' is not known: expected praise"),
    (KIND, ["praise"], r"line 21: label \['praise'\] is not known"),
    (KIND, "\ud800", r"line 21: label '\\ud800' is not known"),
    (KIND, 3, "line 21: label 3 is not known: .*or 0 to 2"),
]


@pytest.mark.parametrize("task, value, message", LABEL_ERRORS)
def test_a_label_that_is_none_is_named_with_its_line(tmp_path, task, value, message):
    with pytest.raises(ValueError, match=message) as raised:
        labels(tmp_path, task, [0, 1] * 10 + [value])
    assert len(str(raised.value)) < 400


# Parquet

def parquet(folder, *tables):
    folder.mkdir(parents=True, exist_ok=True)
    for part, table in enumerate(tables):
        pq.write_table(table, folder / f"train-{part:05d}-of-{len(tables):05d}.parquet")
    (folder / "validation.csv").write_text("sentence,label\na,0\nb,1\n")
    return str(folder.parent)


def test_columns_that_are_not_needed_are_never_looked_at(tmp_path):
    odd = pa.array([[("k", 1)]] * 2, pa.map_(pa.string(), pa.int64()))
    source = parquet(tmp_path / "cola", pa.table({"sentence": ["a", "b"], "label": [0, 1], "meta": odd}))
    assert tasks.load("cola", source)["train"].to_list() == [{"sentence": "a", "label": 0}, {"sentence": "b", "label": 1}]
    assert list(sheet(next((tmp_path / "cola").glob("*.parquet"))).columns) == ["sentence", "label"]


def test_types_of_other_programs_are_read(tmp_path):
    days = pa.array([0, 1], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"text": pa.array(["a", "b"], pa.string_view()), "day": days,
                             "at": days.cast(pa.timestamp("s"))}), tmp_path / "x.parquet")
    assert sheet(tmp_path / "x.parquet").columns == {
        "text": ["a", "b"], "day": ["1970-01-01", "1970-01-02"],
        "at": ["1970-01-01 00:00:00.000", "1970-01-02 00:00:00.000"]}


@pytest.mark.parametrize("metadata, labels", [
    ("[1]", [0, 1, -1]), ('{"info": null}', [0, 1, -1]), ("{", [0, 1, -1]),
    ('{"info": {"features": {"label": [1]}}}', [0, 1, -1]),
    ('{"info": {"features": {"label": {"names": {"0": "x", "1": "y"}}, "more": [1]}}}', ["x", "y", None]),
    ('{"info": {"features": {"label": {"names": ["x", "y"]}}}}', ["x", "y", None])])
def test_names_of_classes_are_read_where_they_are_sound_and_minus_one_is_none(tmp_path, metadata, labels):
    made = pa.table({"text": ["a", "b", "c"], "label": [0, 1, -1]}).replace_schema_metadata({"huggingface": metadata})
    pq.write_table(made, tmp_path / "x.parquet")
    assert sheet(tmp_path / "x.parquet").columns["label"] == labels


def test_a_part_without_rows_is_no_obstacle(tmp_path):
    (tmp_path / "train-1.csv").write_text("text,kind\na,0\nb,1\n")
    (tmp_path / "train-2.csv").write_text("")
    (tmp_path / "validation.csv").write_text("text,kind\na,0\nb,1\n")
    assert len(data(tmp_path)["train"]) == 2


def test_shards_of_unlike_types_are_cast(tmp_path):
    kinds = [pa.array([0, 1], pa.int8()), pa.array([0, 1], pa.int64()), pa.array([0.0, 1.0]),
             pa.array([False, True]).cast("int32"),
             pa.array(["unacceptable", "acceptable"]), pa.array(["0", "1"], pa.large_string()),
             pa.array(["unacceptable", "acceptable"]).dictionary_encode()]
    sentences = [pa.array(["a", "b"]), pa.array(["a", "b"], pa.large_string()), pa.array(["a", "b"]).dictionary_encode()]
    shards = [pa.table({"sentence": sentences[i % 3], "label": kind}) for i, kind in enumerate(kinds)]
    loaded = tasks.load("cola", parquet(tmp_path / "cola", *shards))["train"]
    assert loaded["label"][:] == [0, 1] * 7
    assert loaded["sentence"][:] == ["a", "b"] * 7


def class_labels(names):
    held = datasets.Dataset.from_dict({"sentence": ["a", "b", "c"], "label": [0, 1, 1]})
    return held.cast_column("label", datasets.ClassLabel(names=names))


def test_the_file_s_own_names_of_labels_count(tmp_path):
    source = parquet(tmp_path / "cola")
    file = tmp_path / "cola" / "train.parquet"
    for names, places in ((["unacceptable", "acceptable"], [0, 1, 1]), (["acceptable", "unacceptable"], [1, 0, 0]),
                          (["0", "1"], [0, 1, 1])):
        class_labels(names).to_parquet(str(file))
        assert tasks.load("cola", source)["train"]["label"][:] == places
    class_labels(["bad", "good"]).to_parquet(str(file))
    with pytest.raises(ValueError,
                       match=r"row 1 \(and 2 more\): label 'bad' is not known: expected unacceptable, acceptable"):
        tasks.load("cola", source)


def test_the_hub_s_own_names_of_labels_count(monkeypatch):
    held = datasets.DatasetDict({split: class_labels(["acceptable", "unacceptable"]) for split in ("train", "validation")})
    monkeypatch.setattr(datasets, "load_dataset", lambda path, config, revision: held)
    assert tasks.load("cola")["train"].to_list() == [{"sentence": "a", "label": 1}, {"sentence": "b", "label": 0},
                                                     {"sentence": "c", "label": 0}]


# Files and folders

@pytest.mark.parametrize("names, message", [
    (["train.csv"], r"no x data at .*: expected validation\.csv, .*validation-00000-of-00001\.parquet"),
    (["train.txt", "dev.csv"], r"no x data at .*: expected train\.csv"),
    (["train-notes.csv", "dev.csv"], r"no x data at .*: expected train\.csv"),
    (["train.csv", "train-1.csv", "dev.csv"], r"holds train more than once, as train-\*\.csv and as train\.csv: keep one"),
    (["train.csv", "dev.csv", "val.csv"], r"holds validation more than once, as dev\.csv and as val\.csv: keep one"),
    (["train-00000-of-00003.csv", "train-00002-of-00003.csv", "dev.csv"],
     r"holds 2 of the parts train-\*\.csv, where their names say 00003: put all of them there"),
    (["train.csv/x", "dev.csv"], r"train\.csv is a folder: it must be a file with the rows of x train"),
])
def test_a_folder_that_is_not_clear_is_an_error(tmp_path, names, message):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text,kind\n")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        [files(tmp_path, split, "x") for split in ("train", "validation")]


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev", "Validation"])
def test_people_call_the_validation_set_many_names(tmp_path, name):
    (tmp_path / f"{name}.csv").write_text("")
    assert files(tmp_path, "validation", "x") == [tmp_path / f"{name}.csv"]


def test_mnli_has_two_validation_sets(tmp_path):
    made = [{"premise": f"a {i}", "hypothesis": f"b {i}", "label": i % 3, "idx": i} for i in range(9)]
    (tmp_path / "mnli").mkdir()
    for split in ("train", "validation_matched", "validation_mismatched", "test_matched"):
        pd.DataFrame(made).assign(premise=split).to_parquet(tmp_path / "mnli" / f"{split}-00000-of-00001.parquet")
    loaded = tasks.load("mnli", tmp_path)
    assert {split: loaded[split]["premise"][0] for split in loaded} == {
        "train": "train", "validation": "validation_matched", "mismatched": "validation_mismatched"}


FILE_ERRORS = {
    "a kind that is not read": ("x.xlsx", "",
                                r"x\.xlsx is of a kind that is not read here: save it as one of csv, tsv, jsonl"),
    "Latin-1": ("x.csv", b"text,kind\na,praise\nna\xefve,praise\n",
                r"x\.csv, line 3: it is not UTF-8 \(at byte 21\): save the"),
    "UTF-16": ("x.csv", "text,kind\n".encode("utf-16"), r"x\.csv, line 1: it is not UTF-8 \(at byte 0\)"),
    "a lone surrogate": ("x.jsonl", '{"text": "a", "kind": 0}\n{"text": "\\ud83d", "kind": 1}\n',
                         r"x\.jsonl, line 2: text '\\ud83d' holds half a character \(a lone surrogate\): mend it"),
    "one in an array": ("x.json", '[{"text": "a", "kind": 0},\n{"text": "\\ud83d", "kind": 1}]',
                        r"x\.json, row 2: text .*surrogate"),
    "an array that breaks off": ("x.json", '[{"text": "a",\n "kind": 0},\n',
                                 r"x\.json, line \d: .*the file one array of them"),
    "an array of arrays": ("x.json", '[["a", 0]]', r"x\.json, row 1: it is not a JSON object"),
    "an object over lines": ("x.json", '{"text":\n "a"}', r"x\.json, line 1: .*each line must be one whole JSON object"),
    "5000 digits": ("x.jsonl", '{"text": "a", "kind": ' + "9" * 5000 + "}", r"x\.jsonl, line 1: Exceeds the limit"),
    "too deep": ("x.jsonl", '{"text": ' + "[" * 100_000, r"x\.jsonl, line 1: "),
    "a row without a key": ("x.jsonl", '{"text": "a", "kind": 0}\n{"kind": 1}',
                            r"x\.jsonl, line 2: text None is not text: give it"),
    "a column twice": ("x.csv", "text,kind,kind\na,0,1\n",
                       r"x\.csv, line 1: column kind stands there 2 times: rename the others"),
    "a column that is missing": ("x.csv", "sentence;kind\na;0\n",
                                 r"line 1: column text is missing; the file has sentence, kind: "),
    "one comma too many": ("x.csv", "text,kind\nwell, well,0\n",
                           r"x\.csv, line 2: it has 3 values for the 2 columns text, kind; a text that holds commas must"),
    "one tab too few": ("x.tsv", "text\tkind\nwell\n",
                        r"x\.tsv, line 2: it has 1 value for the 2 columns .* holds tabs must"),
    "an open quote": ("x.csv", 'text,kind\na,0\n"b,1\nc,0\n',
                      r"x\.csv, line 3: its quotes are not balanced \(unexpected end"),
    "a quote within quotes": ("x.csv", 'text,kind\n"a "b" c",0\n',
                              r"x\.csv, line 2: its quotes are not balanced \(',' expected"),
    "no row": ("x.csv", "text,kind\n", r"x\.csv: the file has no rows"),
    "nothing": ("x.csv", "", r"x\.csv: the file has no rows"),
    "an empty array": ("x.json", "[]", r"x\.json: the file has no rows"),
    "one class": ("x.csv", "text,kind\na,0\nb,praise\n", r"x\.csv: every label is praise; at least two different ones"),
    "too few to hold a fifth out": ("x.csv", "text,kind\na,0\nb,1\nc,0\n",
                                    r"kind has 3 rows, too few to hold 20% of them out .*: 30 rows with these .* would do"),
}


@pytest.mark.parametrize("kind", FILE_ERRORS)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, kind):
    name, content, message = FILE_ERRORS[kind]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as raised:
        data(tmp_path / name)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500


def test_rows_that_are_said_to_do_really_do():
    for made in ([0, 1, 0], [0] * 9 + [1], [0, 1, 2, 3], [0.5, 1.5, 2.5]):
        task = KIND if isinstance(made[0], int) and max(made) < 3 else DEGREES
        for share, split in ((0.15, tasks.selection_split), (0.2, lambda task, labels: tasks.held_out(task, labels))):
            needed = tasks.rows_needed(made, share)
            parts = split(task, np.resize(made, needed))
            assert all(len(np.unique(np.resize(made, needed)[part])) > 1 for part in parts)


# One file

def whole(folder, made):
    pd.DataFrame(made).to_csv(folder / "x.csv", index=False)
    return data(folder / "x.csv")


def test_of_one_file_a_fifth_is_held_out_and_no_row_is_lost(tmp_path):
    loaded = whole(tmp_path, rows(500))
    assert {split: len(part) for split, part in loaded.items()} == {"train": 400, "validation": 100}
    assert sorted(texts(loaded)) == sorted(row["text"] for row in rows(500))
    assert np.bincount(loaded["validation"]["label"][:]).tolist() == pytest.approx([33, 33, 33], abs=1)
    assert texts(whole(tmp_path, rows(500))) == texts(loaded)


def test_rows_of_equal_texts_stay_on_one_side(tmp_path):
    made = [{**row, "text": f"text {i // 4}"} for i, row in enumerate(rows(400))]
    loaded = whole(tmp_path, made)
    assert not {*loaded["train"]["text"]} & {*loaded["validation"]["text"]}
    assert len(loaded["validation"]) == 80


REPEATED = {  # texts of rows -> rows to train on and held out
    "none": ([f"text {i}" for i in range(200)], (160, 40)),
    "many are empty": ([f"text {i}" for i in range(30)] + [""] * 90, (105, 15)),  # half of the texts
    "most are one": ([f"text {i}" for i in range(40)] + ["thanks"] * 160, (180, 20)),
    "three are many": ([f"text {i}" if i % 4 == 0 else f"ok {i % 3}" for i in range(200)], (174, 26)),
    "some are many": ([f"text {i}" for i in range(140)] + ["ok"] * 60, (160, 40)),
}


@pytest.mark.parametrize("kind", REPEATED)
def test_where_texts_repeat_rows_are_counted(kind):
    given, expected = REPEATED[kind]
    for seed in range(5):
        made = random.Random(seed).sample(given, len(given))
        train, held = tasks.held_out(KIND, np.arange(len(made)) % 3, made)
        assert (len(train), len(held)) == expected and sorted([*train, *held]) == list(range(len(made)))
        assert not {made[row] for row in train} & {made[row] for row in held}


def test_too_few_different_texts_are_said_to_be(tmp_path):
    (tmp_path / "x.csv").write_text("text,kind\n" + "the same text here,praise\nthe same text here,question\n" * 30)
    with pytest.raises(ValueError, match=r"kind has 60 rows, but 1 different text, too few .*: 20 different texts with"):
        data(tmp_path / "x.csv")


def test_learning_rates_are_not_chosen_where_the_rest_would_hold_one_class():
    for count in range(14, 60):
        with pytest.raises(ValueError, match=r"which must hold different labels, and so must the rest: .* rows"):
            tasks.selection_split(KIND, [1] + [0] * (count - 1))
    rest, selection = tasks.selection_split(KIND, [0, 1, 2] + [0, 1] * 20)
    assert len(rest) == 37 and len(selection) == 6


def test_the_only_row_of_a_class_is_trained_on(tmp_path):
    made = [{**row, "kind": "complaint" if i == 7 else KIND.labels[i % 2]} for i, row in enumerate(rows(100))]
    for shuffle in range(8):
        loaded = whole(tmp_path, random.Random(shuffle).sample(made, len(made)))
        assert loaded["train"]["label"][:].count(2) == 1


# A task in a dozen lines

def written(folder, yaml, frame):
    frame.to_csv(folder / "mine.csv", index=False)
    (folder / "mine.yaml").write_text(yaml)
    return tasks.get(str(folder / "mine.yaml"))


def test_three_classes_named_by_text_are_a_task_of_a_few_lines(tmp_path):
    task = written(tmp_path, "title: Mail\nquestion: What does the customer want?\ncolumns: [message]\nlabel: wish\n"
                             "labels: [help, refund, praise]\ndata: mine.csv\n",
                   pd.DataFrame({"message": [f"message {i}, please" for i in range(90)],
                                 "wish": ["help", "refund", "praise"] * 30}))
    assert (task.name, task.title, task.num_labels, task.metric.name) == ("mine", "Mail", 3, "macro_f1")
    loaded = tasks.load(task)
    assert {split: len(part) for split, part in loaded.items()} == {"train": 72, "validation": 18}
    assert loaded["train"].column_names == ["message", "label"]
    assert loaded["train"]["label"][:6] == [int(text.split()[1][:-1]) % 3 for text in loaded["train"]["message"][:6]]


def test_a_number_from_minus_50_to_900_is_a_task_of_a_few_lines(tmp_path):
    values = np.linspace(-50, 900, 100).round(1)
    task = written(tmp_path, "columns: [first, second]\nlabel: degrees\nrange: [-50, 900]\ndata: mine.csv\n",
                   pd.DataFrame({"first": "warmer than", "second": [f"day {i}" for i in range(100)], "degrees": values}))
    assert (task.labels, task.range, task.metric.name, task.num_labels) == ((), (-50, 900), "spearmanr", 1)
    loaded = tasks.load(task)
    assert sorted(loaded["train"]["label"][:] + loaded["validation"]["label"][:]) == values.tolist()
    assert loaded["train"].features["label"].dtype == "float64"
    scale = tasks.Scale.of(task, values)
    assert scale.grown(scale.shrunk(values)) == pytest.approx(values)


def test_yes_and_no_are_names_in_yaml_too(tmp_path):
    task = written(tmp_path,
                   "columns: [text]\nlabels: [no, yes, on, off]\nmetrics: [{f1: {of: yes}}]\n"
                   "data: mine.csv\nlabel: answer\n",
                   pd.DataFrame({"text": [f"text {i}" for i in range(40)], "answer": ["yes", "no", "on", "off"] * 10}))
    assert task.labels == ("no", "yes", "on", "off")
    assert task.metric.positive == 1
    assert len(tasks.load(task)["train"]) == 32


def test_a_text_column_cannot_be_called_as_labels_are():
    with pytest.raises(ValueError, match="a text column must not be called label"):
        tasks.Task(name="x", columns=["label"], label="kind")


def test_a_label_s_name_is_plain():
    assert [sheets.name(value) for value in ("1e3", "7E1", 1e3)] == ["1e3", "7E1", "1000"]
    assert [sheets.name(value) for value in (1, 1.0, "1.0", "1", "-2.0", True, " a b ", "1.5", "1e400", "٣")] == [
        "1", "1", "1", "1", "-2", "True", "a b", "1.5", "1e400", "٣"]


# Real data, where it is

@pytest.mark.skipif(not GLUE.is_dir(), reason="the real GLUE tasks are not beside this checkout")
@pytest.mark.parametrize("task, digest",
                         [("mrpc", "88a1280974a47d42"), ("cola", "7aca181bac0f99b1"), ("stsb", "b2a38bfb52cdfba7"),
                                          ("sst2", "7b9e98f7f2cf0a6c")])
def test_real_glue_has_its_published_digest(task, digest):
    assert tasks.digest(tasks.load(task, GLUE)) == digest == tasks.get(task).digest


@pytest.mark.skipif(not GLUE.is_dir(), reason="the real GLUE tasks are not beside this checkout")
def test_real_glue_written_as_text_is_the_same(tmp_path):
    """Its quotes are those of real sentences; as TSV without quoting it is GLUE's own form."""
    (tmp_path / "mrpc").mkdir()
    for split in ("train", "validation"):
        frame = pd.read_parquet(next((GLUE / "mrpc").glob(f"{split}-*")))
        lines = ["\t".join(map(str, row)) for row in [frame.columns, *frame.itertuples(index=False)]]
        (tmp_path / "mrpc" / f"{split}.tsv").write_text("\n".join(lines))
    assert tasks.digest(tasks.load("mrpc", tmp_path)) == tasks.get("mrpc").digest


def test_the_miniature_s_data_stay():
    assert {task: tasks.digest(tasks.load(task, "mini")) for task in ("mrpc", "cola", "stsb")} == {
        "mrpc": "df6cab5c770cbc68", "cola": "d7c8a8f6ba755466", "stsb": "e4f932031e9d18b3"}
