"""The example that is shipped: the committed file is what is generated, and a task that must be read to be solved."""

import csv

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from studykit import tasks
from studykit.mini import corpus, example

LABELS = {"agreement", "tense", "verb form", "none"}


def test_the_committed_file_is_what_is_generated():
    assert example.FILE.read_text(encoding="utf-8") == example.text() == example.text()


def test_rows_are_as_people_have_them():
    with open(example.FILE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == example.ROWS and {row["mistake"] for row in rows} == LABELS
    assert any(f'"{row["sentence"]}"' in example.text() for row in rows if "," in row["sentence"])
    assert min([row["mistake"] for row in rows].count(label) for label in LABELS) > example.ROWS / 7


def test_it_is_described_without_a_word_and_its_oddities_are_found():
    task = tasks.described(example.FILE)
    assert (task.columns, task.label, set(task.labels)) == (("sentence",), "mistake", LABELS)
    odd = {oddity.kind: oddity.count for oddity in tasks.oddities(task, tasks.load(task))}
    assert odd["two labels"] <= example.SLIPS and 0 < odd["duplicates"] <= example.SLIPS + example.AGAIN
    assert "leaks" not in odd


def test_single_words_do_not_tell():
    task = tasks.described(example.FILE)
    data = tasks.load(task)
    bag = CountVectorizer().fit(data["train"]["sentence"])
    words = {split: bag.transform(rows["sentence"]) for split, rows in data.items()}
    model = LogisticRegression(max_iter=1000).fit(words["train"], data["train"]["label"])
    assert model.score(words["validation"], data["validation"]["label"]) < 0.6


def test_each_mistake_is_a_rule_of_the_language():
    assert set(example.RULES.values()) <= set(corpus.VIOLATIONS.values())
    assert set(example.MISTAKES) == {*example.RULES, "none"}
