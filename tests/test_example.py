"""The example that is shipped: the committed file is what is generated, and a task that must be read to be solved."""

import csv

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from studykit import paths, tasks
from studykit.advise import asking
from studykit.mini import example
from studykit.training import machine


def test_the_committed_file_is_what_is_generated():
    assert example.FILE.read_text(encoding="utf-8") == example.text() == example.text()


def test_rows_are_as_people_have_them():
    with open(example.FILE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == example.ROWS and {row["relation"] for row in rows} == set(example.RELATIONS)
    assert any(f'"{row["sentence"]}"' in example.text() for row in rows if "," in row["sentence"])
    assert min([row["relation"] for row in rows].count(label) for label in example.RELATIONS) > example.ROWS / 10


def test_it_is_described_without_a_word_and_its_oddities_are_found():
    task = tasks.described(example.FILE)
    assert (task.columns, task.label, set(task.labels)) == (("sentence",), "relation", set(example.RELATIONS))
    odd = {oddity.kind: oddity.count for oddity in tasks.oddities(task, tasks.load(task))}
    assert 0 < odd["duplicates"] <= example.AGAIN and "leaks" not in odd


def test_its_yaml_says_the_same_and_asks_for_the_bundled_encoder():
    task = tasks.get(paths.EXAMPLE)
    assert task.labels == example.RELATIONS and task.data == str(example.FILE)
    assert tasks.load(task)["train"].num_rows + tasks.load(task)["validation"].num_rows == example.ROWS
    assert "encoder: mini" in paths.EXAMPLE.read_text(encoding="utf-8")


@pytest.mark.parametrize("fast", ["fp32", "bf16"])
def test_it_asks_for_the_same_runs_on_a_processor_that_is_fast_in_bf16(fast, tiny_encoder, monkeypatch):
    """Else its records would be found on some machines only."""
    monkeypatch.setattr(machine, "best_precision", lambda device: fast)
    assert asking.question(paths.EXAMPLE).study(64).design.precision == "fp32"
    assert asking.question(paths.EXAMPLE, encoder=tiny_encoder).study(64).design.precision == fast


def test_single_words_do_not_tell():
    task = tasks.described(example.FILE)
    data = tasks.load(task)
    bag = CountVectorizer().fit(data["train"]["sentence"])
    words = {split: bag.transform(rows["sentence"]) for split, rows in data.items()}
    model = LogisticRegression(max_iter=1000).fit(words["train"], data["train"]["label"])
    assert model.score(words["validation"], data["validation"]["label"]) < 0.7
