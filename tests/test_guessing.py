"""A file that says nothing of itself: columns guessed or refused, what is odd counted. Real sets where they are."""

import json
import random
from pathlib import Path

import pandas as pd
import pytest

from studykit import tasks
from studykit.models import encoders
from studykit.tasks import account, described, oddities

BEYOND = Path(__file__).parents[2] / "shared" / "beyond"
WORDS = ("red", "green", "blue", "small", "large", "old", "house", "tree", "river", "road", "bird", "sees", "likes", "near")


def text(i, words=6):
    return " ".join(random.Random(i).choices(WORDS, k=words)) + f" {i}"


def columns(count=120, **others):
    """A text of several words and a label of three names, beside others."""
    return {"text": [text(i) for i in range(count)], "label": [("calm", "urgent", "angry")[i % 3] for i in range(count)],
            **others}


def written(folder, made, name="mails.csv", **options):
    pd.DataFrame(made).to_csv(folder / name, index=False, **options)
    return folder / name


COUNT = range(120)
GUESSED = {
    "text and label": (columns(), ("text",), "label", ("angry", "calm", "urgent")),
    "other names": ({"Mail body": [text(i) for i in COUNT], "Queue": ["b", "a"] * 60}, ("Mail body",), "Queue", ("a", "b")),
    "an id": (columns(id=list(COUNT), code=[f"A-{i}" for i in COUNT]), ("text",), "label", ("angry", "calm", "urgent")),
    "a constant": (columns(source=["web"] * 120), ("text",), "label", ("angry", "calm", "urgent")),
    "a usual name among several": (columns(source=["web", "mail"] * 60, stars=[i % 5 for i in COUNT]), ("text",), "label",
                                   ("angry", "calm", "urgent")),
    "a pair": ({"question": [text(i // 4) for i in COUNT], "answer": [text(-i) for i in COUNT], "right": ["no", "yes"] * 60},
               ("question", "answer"), "right", ("no", "yes")),
    "a long and a short column": (columns(author=[f"name{i % 60}" for i in COUNT]), ("text",), "label",
                                  ("angry", "calm", "urgent")),
    "short texts alone": ({"word": [f"word{i}" for i in COUNT], "kind": ["noun", "verb"] * 60}, ("word",), "kind",
                          ("noun", "verb")),
    "Chinese": ({"text": [f"这本书很好看{chr(0x4e00 + i)}" for i in COUNT], "id": [f"x{i}" for i in COUNT],
                 "kind": ["好", "坏"] * 60},
                ("text",), "kind", ("坏", "好")),
    "numbers of classes": (columns(label=[i % 12 for i in COUNT]), ("text",), "label", tuple(map(str, range(12)))),
    "numbers of classes with a point": (columns(label=[float(i % 3) for i in COUNT]), ("text",), "label", ("0", "1", "2")),
    "a number": (columns(label=[i * 7 % 113 for i in COUNT]), ("text",), "label", ()),
    "halves": (columns(label=[i % 8 / 2 for i in COUNT]), ("text",), "label", ()),
    "truth": (columns(label=[i % 4 == 0 for i in COUNT]), ("text",), "label", ("False", "True")),
}


@pytest.mark.parametrize("kind", GUESSED)
def test_columns_and_labels_are_guessed_from_what_they_hold(tmp_path, kind):
    made, texts, label, labels = GUESSED[kind]
    task = described(written(tmp_path, made))
    assert (task.name, task.columns, task.label, task.labels) == ("mails", texts, label, labels)
    assert [metric.name for metric in task.metrics] == (["macro_f1", "accuracy"] if labels
                                                        else ["spearmanr", "mean_absolute_error"])
    loaded = tasks.load(task)
    names = [task.labels[place] for place in loaded["train"]["label"]] if labels else loaded["train"]["label"][:]
    given = dict(zip(made[texts[-1]], made[label], strict=True))
    expected = [given[text] for text in loaded["train"][texts[-1]]]
    assert names == ([str(value).removesuffix(".0") for value in expected] if labels else expected)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet"])
def test_the_kind_of_file_changes_nothing(tmp_path, kind):
    frame = pd.DataFrame(columns(id=list(COUNT)))
    write = {"csv": lambda file: frame.to_csv(file, sep=";"),
             "jsonl": lambda file: frame.to_json(file, orient="records", lines=True),
             "json": lambda file: frame.to_json(file, orient="records"),
             "parquet": lambda file: frame.to_parquet(file)}[kind]
    write(tmp_path / f"mails.{kind}")
    task, expected = described(tmp_path / f"mails.{kind}"), described(written(tmp_path, columns(), "again.csv"))
    assert (task.columns, task.label, task.labels) == (expected.columns, expected.label, expected.labels)
    assert tasks.digest(tasks.load(task)) == tasks.digest(tasks.load(expected))


REFUSED = {
    "two labels": (columns(label=["a", "b"] * 60, category=["x", "y", "z"] * 40), {},
                   r"mails\.csv: the label could be label, category; beside the text it has label, .*--label label"),
    "no label": ({"text": columns()["text"], "id": list(COUNT)}, {},
                 "no column holds labels, few names or numbers; .*has id"),
    "only texts": ({"text": columns()["text"]}, {},
                   "no column holds labels, .* beside the text it has no column: give it one, or name it as --label"),
    "three texts": (columns(title=[text(-i) for i in COUNT], body=[text(i, 30) for i in COUNT]), {},
                    "texts could be text, title, body; its columns are .*: name one or two as text, such as --text text"),
    "no text": ({"label": ["a", "b"] * 60, "age": list(COUNT)}, {},
                "no column holds texts, many different ones; its columns are label, age: give it one, or name it as --text"),
    "two short columns": ({"name": [f"n{i}" for i in COUNT], "city": [f"c{i}" for i in COUNT], "kind": ["a", "b"] * 60}, {},
                          "texts could be name, city; .*--text name"),
    "a text column that is not there": (columns(), {"text": "body"}, "column body is missing; the file has text, label"),
    "a label that is not there": (columns(), {"label": "kind"}, "column kind is missing; the file has text, label"),
    "a label of free text": (columns(note=[text(-i) for i in COUNT]), {"text": "text", "label": "note"},
                             "label note has 120 different values in 120 rows, such as '.*', and they are no numbers: name"),
    "no rows": ({"text": [], "label": []}, {}, "mails.csv has no rows: give it some"),
    "three texts asked for": (columns(a=COUNT, b=COUNT), {"text": "text,a,b"}, "mails.csv: columns: .*at most 2"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_ambiguous_is_refused_in_a_sentence(tmp_path, kind):
    made, asked, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message) as raised:
        described(written(tmp_path, made), **asked)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder at .*nowhere\.csv: give one with rows"):
        described(tmp_path / "nowhere.csv")
    with pytest.raises(FileNotFoundError, match=r"no .* data at .*: expected train\.csv"):
        described(tmp_path)


ACCEPTED = {
    "a header that pandas counts": ({"0": [text(i) for i in COUNT], "1": [i % 2 for i in COUNT]}, ("0",), "1"),
    "a label called as one of its classes": (columns() | {"label": None, "calm": columns()["label"]}, ("text",), "calm"),
    "a long question above its answers": ({"What did you see in town": [text(i) for i in COUNT], "kind": ["a", "b"] * 60},
                                          ("What did you see in town",), "kind"),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_names_of_columns_are_not_taken_for_rows(tmp_path, kind):
    made, texts, label = ACCEPTED[kind]
    task = described(written(tmp_path, {name: values for name, values in made.items() if values}))
    assert (task.columns, task.label) == (texts, label)


def test_what_looks_like_a_row_may_be_said_to_be_names(tmp_path):
    file = written(tmp_path, {text(-1): [text(i) for i in COUNT], "calm": columns()["label"]})
    with pytest.raises(ValueError, match=r"line 1: it looks like a row"):
        described(file)
    assert described(file, text(-1), "calm").label == "calm"


def test_long_names_of_columns_are_names(tmp_path):
    """A name is no row because its words stand in the texts, of which each is far longer."""
    long = [f"{text(i)} and this consumer has a complaint, a long narrative of what the bank did {i}" for i in COUNT]
    file = written(tmp_path, {"Consumer complaint narrative": long, "Product": columns()["label"]})
    assert described(file).columns == ("Consumer complaint narrative",)


def test_of_labels_and_partial_numbers_labels_are_chosen(tmp_path):
    prices = [f"{i}.5" if i % 20 else "n/a" for i in COUNT]
    file = written(tmp_path, {"text": columns()["text"], "verdict": columns()["label"], "price": prices})
    assert described(file).label == "verdict"


def test_columns_that_nobody_needs_may_stand_twice(tmp_path):
    frame = pd.DataFrame(columns(note="x", more="y")).rename(columns={"more": "note"})
    frame.to_csv(tmp_path / "x.csv", index=False)
    assert described(tmp_path / "x.csv") == described(tmp_path / "x.csv", "text", "label")
    assert "Left out: column note, which stands there 2 times: rename the others." in account(described(tmp_path / "x.csv"))


def test_a_class_beside_numbers_is_one_where_it_has_rows(tmp_path):
    task = described(written(tmp_path, columns(label=[i % 5 if i % 10 else "other" for i in COUNT])))
    assert task.labels == ("0", "1", "2", "3", "4", "other")


def test_a_name_may_hold_a_comma(tmp_path):
    file = written(tmp_path, {"text, body": columns()["text"], "kind": columns()["label"]})
    assert described(file, "text, body").columns == ("text, body",)


def test_columns_may_be_named(tmp_path):
    file = written(tmp_path,
                   columns(title=[text(-i) for i in COUNT], body=[text(i, 30) for i in COUNT], stars=[i % 5 for i in COUNT]))
    assert described(file, "title, body", "stars").columns == ("title", "body")
    assert described(file, ["body"]).columns == ("body",)
    assert described(file, "text", "stars").labels == tuple("01234")


def test_a_folder_and_its_parts_are_one_task(tmp_path):
    made = columns()
    written(tmp_path, {name: values[:60] for name, values in made.items()}, "train-1.csv")
    written(tmp_path, {name: values[60:] for name, values in made.items()}, "train-2.csv")
    written(tmp_path, {**columns(9), "label": ["angry", "other", "calm"] * 3}, "dev.csv")
    task = described(tmp_path)
    assert task.labels == ("angry", "calm", "other", "urgent")  # those of validation too
    assert {split: len(part) for split, part in tasks.load(task).items()} == {"train": 120, "validation": 9}


def test_a_missing_label_is_named_by_its_line_once_rows_are_read(tmp_path):
    task = described(written(tmp_path, columns(label=[*["a", "b"] * 59, "", "a"])))
    assert task.labels == ("a", "b")
    with pytest.raises(ValueError, match=r"mails\.csv, line 120: label is missing"):
        tasks.load(task)


def test_a_missing_text_is_named_by_its_line_once_rows_are_read(tmp_path):
    made = [{"text": text(i) if i != 7 else None, "label": "ab"[i % 2]} for i in COUNT]
    (tmp_path / "mails.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    with pytest.raises(ValueError, match=r"mails\.jsonl, line 8: text None is not text"):
        tasks.load(described(tmp_path / "mails.jsonl"))


def test_what_was_guessed_is_said(tmp_path):
    said = account(described(written(tmp_path, columns(id=list(COUNT)), sep=";")))
    assert said == [
        "mails.csv: 120 rows, separated by semicolons.",
        "Its rows are split: 96 to train on, 24 held out to score on, the same each time.",
        "Text is read from text, the label from label; not used: id.",
        "label names 3 classes: angry, calm, urgent."]
    numbers = " ".join(account(described(written(tmp_path, columns(label=[i * 7 % 113 - 20 for i in COUNT])))))
    assert "label has 113 different values from -20 to 92, so it is a number to predict; to have it otherwise" in numbers
    stars = " ".join(account(described(written(tmp_path, columns(label=[i % 5 for i in COUNT])))))
    assert "names 5 classes: 0, 1, 2, 3, 4; to have it otherwise, write a YAML file with data: mails.csv" in stars
    assert "no labels:, and it is a number to predict" in stars


def test_what_may_be_meant_otherwise_is_said(tmp_path):
    halves = account(described(written(tmp_path, columns(label=[(1, 1.5, 2)[i % 3] for i in COUNT]))))
    assert "label has 3 different values from 1 to 2, 1.5 among them, so it is a number to predict" in halves[-1]
    days = account(described(written(tmp_path, columns(label=[f"day {i // 2}" for i in COUNT]))))
    assert days[-2] == ("60 of the 60 classes have fewer than 5 rows, as dates or order numbers have: where label is not "
                        "the label, name another.")
    pair = account(described(written(tmp_path, columns(address=[f"{i} Main Street Springfield" for i in COUNT]))))
    assert any("text and address (a pair: to read one alone, name it as --text" in sentence for sentence in pair)


def test_the_account_has_the_counts_of_the_two_parts(tmp_path):
    task = described(written(tmp_path, columns(text=[text(i) if i < 30 else "" for i in COUNT])), "text", "label")
    loaded = tasks.load(task)
    assert account(task)[1].startswith("Its rows are split: 105 to train on, 15 held out to score on")
    assert (len(loaded["train"]), len(loaded["validation"])) == (105, 15)


def test_what_the_account_advises_works(tmp_path):
    written(tmp_path, columns(label=[i % 5 for i in COUNT]))
    (tmp_path / "mine.yaml").write_text("data: mails.csv\ncolumns: [text]\nlabel: label\n")
    task = tasks.get(str(tmp_path / "mine.yaml"))
    assert task.labels == () and sorted({*tasks.load(task)["train"]["label"]}) == [0, 1, 2, 3, 4]


# What is odd

def odd(folder, train, validation=None, tokenizer=None, max_length=128):
    """Oddities by kind; each row is (text, label)."""
    sets = {"train": train, "validation": validation or [(f"other text {i}", "ab"[i % 2]) for i in range(10)]}
    for split, made in sets.items():
        written(folder, {"text": [text for text, _ in made], "label": [label for _, label in made]}, f"{split}.csv")
    task = described(folder, "text", "label")
    return {oddity.kind: oddity for oddity in oddities(task, tasks.load(task), tokenizer, max_length)}


PLAIN = [(text(i), "ab"[i % 2]) for i in range(60)]


def test_nothing_is_odd_about_plain_rows(tmp_path):
    assert odd(tmp_path, PLAIN) == {}


def test_oddities_are_counted_with_examples(tmp_path):
    train = [*PLAIN, ("the same", "a"), ("the same", "a"), ("the same", "b"), ("torn", "a"), ("torn", "b"), ("", "a"),
             (" ", "b"),
             *[("rare " + "x" * 100 + str(i), "c") for i in range(3)]]
    validation = [("the same", "a"), ("torn", "b"), ("torn", "a"), ("new", "d"), ("", "b")]
    found = odd(tmp_path, train, validation)
    assert {kind: (oddity.count, oddity.total) for kind, oddity in found.items()} == {
        "duplicates": (3, 70), "two labels": (2, 67), "leaks": (4, 5), "rare classes": (2, 4), "empty texts": (3, 75)}
    assert found["duplicates"].examples == ("the same", "torn")
    assert found["rare classes"].examples == ("c (3)", "d (0)")
    assert found["leaks"].examples == ("the same", "torn", "")
    assert "fewer than 5 rows" in found["rare classes"].meaning and "kept" in found["rare classes"].meaning
    assert all(len(example) <= 80 for oddity in found.values() for example in oddity.examples)


def test_one_class_in_two_spellings_is_said(tmp_path):
    spellings = ("Spam", "spam", "caf\u00e9", "cafe\u0301", "True", "1", "tea")
    train = [(text(i), spellings[i % 7]) for i in range(70)]
    found = odd(tmp_path, train, [(text(-i), "SPAM") for i in range(1, 9)] + [("other text", "tea")])["classes alike"]
    assert (found.count, found.total) == (3, 8)
    assert {*found.examples} == {"SPAM (0 + 8), Spam (10 + 0), spam (10 + 0)", "1 (10 + 0), True (10 + 0)",
                                 "cafe\u0301 (10 + 0), caf\u00e9 (10 + 0)"}
    made = [{"text": text(i), "label": (True, 0, False, 1)[i % 4]} for i in COUNT]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    task = described(tmp_path / "x.jsonl")
    assert {oddity.kind: oddity.count for oddity in oddities(task, tasks.load(task))} == {"classes alike": 2}


def test_too_few_rows_say_how_many_it_takes(tmp_path):
    found = odd(tmp_path, [(text(i), "aaab"[i % 4]) for i in range(12)])
    assert found["few rows"].count == 12
    assert "54 with these shares of the labels would do" in found["few rows"].meaning
    assert "few rows" not in odd(tmp_path, [(text(i), "aaab"[i % 4]) for i in range(56)])


def test_what_the_encoder_does_not_see_is_counted(tmp_path, tiny_encoder):
    tokenizer = encoders.tokenizer(tiny_encoder)
    plain = [(" ".join(["the cat sees a dog near the house"] * (1 + i % 3)), "ab"[i % 2]) for i in range(30)]
    plain = [(f"{text} {'. ' * i}".strip(), label) for i, (text, label) in enumerate(plain)]
    found = odd(tmp_path, plain, [("the cat", "a"), ("the dog", "b")], tokenizer, 30)
    lengths = [len(tokenizer(text)["input_ids"]) for text, _ in plain]
    assert found["cut texts"].count == sum(length > 30 for length in lengths) > 0
    assert f"more than the 30 tokens that the encoder is given, the longest {max(lengths)}" in found["cut texts"].meaning
    assert "broken words" not in found
    assert odd(tmp_path, [*plain, ("the zebra", "a")], None, tokenizer, 999)["broken words"].count == 11  # "other text" too


def test_words_in_many_pieces_are_counted(tmp_path):
    import transformers

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = transformers.BertTokenizerFast(vocab={piece: place for place, piece in enumerate(vocabulary)})
    made = [("a b c", "a"), ("four four", "b"), ("fives fives", "a"), ("a bcdefgh", "b"),
            ("a bcdefghi", "a")]  # pieces: 3 of 3 words, 8 of 2 (4 are few), 10, 8, 9
    found = odd(tmp_path, made * 6, [("a", "a"), ("b", "b")], tokenizer, 20)
    assert found["broken words"].examples == ("fives fives", "a bcdefghi")
    assert (found["broken words"].count, found["broken words"].total) == (12, 32)


# Real sets, as somebody would bring them: rows, classes, oddities as their README has them

REAL = {  # set -> (train, validation, classes, texts, repeats, texts with two labels, leaks)
    "banking77": (6000, 2000, 77, 1, 1, 0, 3), "unfair_tos": (6000, 2000, 2, 1, 428, 0, 143),
    "legal_roles": (6000, 2000, 7, 1, 81, 18, 39), "pubmedqa": (500, 500, 3, 2, 0, 0, 0),
        "scicite": (6000, 916, 3, 1, 0, 0, 2),
    "movie_reviews": (700, 300, 2, 1, 0, 0, 0), "emobank": (6000, 1000, 0, 1, 62, 33, 23),
        "wikiqa": (5994, 1130, 2, 2, 0, 0, 0),
    "irony": (2862, 955, 2, 1, 0, 0, 0)}


@pytest.mark.skipif(not BEYOND.is_dir(), reason="the real sets beyond GLUE are not beside this checkout")
@pytest.mark.parametrize("name", REAL)
def test_a_real_set_is_read_whole_and_its_oddities_are_those_known(name):
    train, validation, classes, texts, *odd = REAL[name]
    task = described(BEYOND / name)
    data = tasks.load(task)
    assert (len(data["train"]), len(data["validation"]), len(task.labels), len(task.columns)) == (train, validation,
                                                                                                  classes, texts)
    found = {oddity.kind: oddity.count for oddity in oddities(task, data)}
    assert [found.get(kind, 0) for kind in ("duplicates", "two labels", "leaks")] == odd
    for split in ("train", "validation"):  # pandas reads the same rows
        frame = pd.read_csv(BEYOND / name / f"{split}.csv", keep_default_na=False, dtype=str)
        for column in task.columns:
            assert data[split][column][:] == frame[column].str.replace("\r\n", "\n").str.replace("\r", "\n").tolist()
        labels = [task.labels[place] for place in data[split]["label"]] if classes else data[split]["label"][:]
        assert labels == (frame["label"].tolist() if classes else frame["label"].astype(float).tolist())


@pytest.mark.skipif(not BEYOND.is_dir(), reason="the real sets beyond GLUE are not beside this checkout")
def test_none_is_a_text_of_a_set_with_a_number_to_predict():
    task = described(BEYOND / "emobank")
    assert task.labels == () and task.metric.name == "spearmanr"
    assert "None" in tasks.load(task)["validation"]["text"][:]
    assert any("so it is a number to predict" in sentence for sentence in account(task))
