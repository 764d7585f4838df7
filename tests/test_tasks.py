import csv
import json

import datasets
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics
from conftest import rows, write_split

from studykit import tasks
from studykit.models import encoders
from studykit.tasks import Task

RNG = np.random.default_rng(0)
CLASSES = RNG.integers(0, 2, 200), RNG.integers(0, 2, 200)
VALUES = RNG.uniform(0, 5, 200).astype(np.float32), RNG.uniform(0, 5, 200).astype(np.float32)

OUTSIDE = {  # task -> (predictions, labels, what scikit-learn and SciPy say of them)
    "mrpc": (*CLASSES, {"f1": sklearn.metrics.f1_score(CLASSES[1], CLASSES[0]),
                        "accuracy": sklearn.metrics.accuracy_score(CLASSES[1], CLASSES[0])}),
    "cola": (*CLASSES, {"matthews_correlation": sklearn.metrics.matthews_corrcoef(CLASSES[1], CLASSES[0])}),
    "stsb": (*VALUES, {"pearson": scipy.stats.pearsonr(*VALUES)[0], "spearmanr": scipy.stats.spearmanr(*VALUES)[0]}),
    "sst2": (*CLASSES, {"accuracy": sklearn.metrics.accuracy_score(CLASSES[1], CLASSES[0])}),
}


@pytest.mark.parametrize("task", OUTSIDE)
def test_scores_are_those_of_scikit_learn_and_scipy(task):
    predictions, labels, expected = OUTSIDE[task]
    scores = tasks.get(task).scores(labels, predictions)
    assert list(scores) == list(expected) == [metric.name for metric in tasks.get(task).metrics]
    assert scores == pytest.approx(expected, abs=1e-12)


def test_f1_hides_an_answer_that_is_always_positive_and_accuracy_does_not():
    labels = np.array([1, 1, 0] * 136)
    assert tasks.get("mrpc").scores(labels, np.ones(408, dtype=int)) == pytest.approx({"f1": 0.8, "accuracy": 2 / 3})


def test_f1_without_a_positive_answer_is_zero():
    assert tasks.get("mrpc").scores([1, 1, 0], [0, 0, 0])["f1"] == 0


@pytest.mark.parametrize("predictions, labels", [([2, 2, 2], [1, 2, 3]), ([1, 2, 3], [2, 2, 2])])
def test_a_correlation_with_a_constant_is_nan(predictions, labels):
    assert np.isnan(list(tasks.get("stsb").scores(labels, predictions).values())).all()


def test_matthews_correlation_of_a_constant_answer_is_zero():
    assert tasks.get("cola").scores([1, 0, 1], [1, 1, 1]) == {"matthews_correlation": 0.0}


def test_an_unknown_task_names_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown task 'snli'.*cola, mnli, mrpc, .*, or give a task's YAML file"):
        tasks.get("snli")


LABELS = {"cola": RNG.random(997) < 0.7, "mrpc": RNG.random(50) < 2 / 3, "stsb": RNG.uniform(0, 5, 601)}


@pytest.mark.parametrize("task", LABELS)
def test_fractions_nest(task):
    small, middle, whole = (tasks.subset(tasks.get(task), LABELS[task], fraction, seed=3) for fraction in (0.1, 0.3, 1))
    assert set(small) < set(middle) < set(whole)
    assert whole.tolist() == list(range(len(LABELS[task])))
    assert len(small) == round(0.1 * len(LABELS[task]))
    assert len(middle) == round(0.3 * len(LABELS[task]))


def worst_imbalance(groups, order):
    """The largest distance, over all beginnings and groups, of a group's count from its share."""
    groups = np.asarray(groups)[order]
    sizes = np.arange(1, len(groups) + 1)
    return max(np.abs(np.cumsum(groups == group) - sizes * np.mean(groups == group)).max() for group in np.unique(groups))


@pytest.mark.parametrize("task", LABELS)
def test_every_beginning_holds_each_stratum_in_its_share(task):
    """To within one example for two classes, less than two for the five bins of a regression."""
    groups = tasks.strata(tasks.get(task), LABELS[task])
    worst = [worst_imbalance(groups, tasks.stratified_order(groups, seed)) for seed in range(10)]
    assert max(worst) <= (1 if tasks.get(task).labels else 1.9)


def test_a_plain_random_order_does_not():
    groups = tasks.strata(tasks.get("cola"), LABELS["cola"])
    assert worst_imbalance(groups, np.random.default_rng(0).permutation(len(groups))) > 1


def test_the_seed_decides_the_subset():
    first, again, other = (tasks.subset(tasks.get("cola"), LABELS["cola"], 0.3, seed) for seed in (0, 0, 1))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_similarities_are_binned_by_the_unit_that_they_lie_in():
    assert tasks.strata(tasks.get("stsb"), [0, 0.99, 1, 2.5, 3.999, 4, 5]).tolist() == [0, 0, 1, 2, 3, 4, 4]
    assert tasks.strata(tasks.get("cola"), [0, 1, 1]).tolist() == [0, 1, 1]


def test_numbers_without_a_range_are_binned_by_fifths_of_the_rows():
    ages = tasks.Task(name="ages", columns=["text"])
    assert tasks.strata(ages, [1, 2, 3, 4, 5, 6, 7, 8, 9, 1e6]).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert len(set(tasks.strata(ages, [3.0] * 90 + [1.0, 2.0, 4.0, 5.0]))) > 1  # ties: some fifths are empty


@pytest.mark.parametrize("fraction", [0, 1.5, -0.1])
def test_a_fraction_outside_its_range_is_an_error(fraction):
    with pytest.raises(ValueError, match=rf"fraction must be in \(0, 1\], got {fraction}"):
        tasks.subset(tasks.get("cola"), [0, 1], fraction, seed=0)


@pytest.mark.parametrize("task", LABELS)
def test_the_selection_split_is_a_fixed_and_stratified_part_of_train(task):
    rest, selection = tasks.selection_split(tasks.get(task), LABELS[task])
    assert sorted([*rest, *selection]) == list(range(len(LABELS[task])))  # so they share nothing
    assert len(selection) == round(0.15 * len(LABELS[task]))
    np.random.seed(1)  # the global generator must not matter
    assert tasks.selection_split(tasks.get(task), LABELS[task])[1].tolist() == selection.tolist()
    groups = tasks.strata(tasks.get(task), LABELS[task])
    for group in np.unique(groups):
        assert np.mean(groups[selection] == group) * len(selection) == pytest.approx(
            np.mean(groups == group) * len(selection), abs=1)


def test_loading_keeps_the_columns_of_the_task_and_every_row(tiny_glue):
    data = tasks.load("mrpc", tiny_glue)
    assert list(data) == ["train", "validation"]
    assert data["train"].column_names == ["sentence1", "sentence2", "label"]
    assert data["train"].to_list() == [{key: row[key] for key in ("sentence1", "sentence2", "label")}
                                       for row in rows("mrpc", "train")]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no mrpc data at .*nowhere.*train\.csv.*train-00000-of-.*--source"):
        tasks.load("mrpc", tmp_path / "nowhere")


def test_a_missing_file_is_named(tmp_path):
    write_split(tmp_path, "cola", "train", rows("cola", "train"))
    with pytest.raises(FileNotFoundError, match=r"no cola data.*validation\.csv"):
        tasks.load("cola", tmp_path)


def with_values(task, **values):
    """Validation rows of a task with the first row's values, or those of all rows where a function is given, replaced."""
    made = rows(task, "validation")
    return [{**row, **{key: value(row[key]) if callable(value) else (value if i == 0 else row[key])
                       for key, value in values.items()}} for i, row in enumerate(made)]


PLACE = r"validation-00000-of-00001\.parquet, row 1"
WRONG = {
    "out of range": ("mrpc", {"label": -1},
                     f"{PLACE}: label -1 is not known: expected not_equivalent, equivalent, or 0 to 1"),
    "too large": ("stsb", {"label": 5.5}, rf"{PLACE}: label 5\.5 is out of range: expected 0 to 5"),
    "fractional class": ("cola", {"label": lambda label: label * 0.5},
                         r"parquet, row \d+ \(and \d+ more\): label 0\.5 is not known: expected unacceptable, acceptable"),
    "not a number": ("stsb", {"label": float("nan")}, f"{PLACE}: label is missing: fill it in, or take the row out"),
    "missing": ("cola", {"label": None}, f"{PLACE}: label is missing: fill it in, or take the row out"),
    "no text": ("mrpc", {"sentence2": None}, f"{PLACE}: sentence2 None is not text: give it one, or an empty one"),
    "one class": ("cola", {"label": lambda label: 1}, "cola validation: every label is acceptable; at least two different"),
    "words": ("mrpc", {"label": lambda label: "ny"[label]},
              r"row 1 \(and 39 more\): label '[ny]' is not known: expected not_eq"),
    "no text at all": ("cola", {"sentence": lambda text: " "}, "cola validation: every text of column sentence is empty"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_unsound_data_is_an_error_that_names_what_is_wrong(kind, tmp_path):
    task, values, message = WRONG[kind]
    write_split(tmp_path, task, "train", rows(task, "train"))
    write_split(tmp_path, task, "validation", with_values(task, **values))
    with pytest.raises(ValueError, match=message):
        tasks.load(task, tmp_path)


def test_a_missing_column_is_named_beside_those_that_are_there(tmp_path):
    for split in ("train", "validation"):
        made = [{"text": row["sentence"], "label": row["label"]} for row in rows("cola", split)]
        write_split(tmp_path, "cola", split, made)
    with pytest.raises(ValueError, match=r"train-0.*parquet: column sentence is missing; the file has text, label"):
        tasks.load("cola", tmp_path)


def test_a_file_without_rows_is_an_error(tmp_path):
    import pyarrow.parquet

    write_split(tmp_path, "cola", "train", rows("cola", "train"))
    write_split(tmp_path, "cola", "validation", rows("cola", "validation"))
    file = next((tmp_path / "cola").glob("validation-*"))
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(file)[:0], file)
    with pytest.raises(ValueError, match="cola validation: the file has no rows"):
        tasks.load("cola", tmp_path)


def digest_of(folder, change=None, shards=1):
    for split in ("train", "validation"):
        made = rows("mrpc", split)
        if split == "validation" and change:
            made[7] = {**made[7], **change}
        write_split(folder, "mrpc", split, made, shards)
    return tasks.digest(tasks.load("mrpc", folder))


def test_the_digest_knows_the_rows_and_not_the_files(tmp_path):
    label = rows("mrpc", "validation")[7]["label"]
    digest = digest_of(tmp_path / "one")
    assert len(digest) == 16
    assert digest_of(tmp_path / "two", shards=2) == digest
    assert digest_of(tmp_path / "label", {"label": 1 - label}) != digest
    assert digest_of(tmp_path / "text", {"sentence2": "another one ."}) != digest


def write_as(folder, task, split, kind, made):
    """Write rows as a file of a user's own, with a column that no task needs."""
    file = folder / task / f"{split}.{kind}"
    file.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(made)
    if kind == "parquet":
        frame.to_parquet(file)
    elif kind in ("jsonl", "json"):
        file.write_text("".join(json.dumps(row) + "\n" for row in made))
    else:
        quoted = {"csv": {}, "tsv": {"sep": "\t", "quoting": csv.QUOTE_NONE}}[kind]
        frame.to_csv(file, index=False, **quoted)
    return file


def awkward(task, split):
    """Rows with quotes, commas, line separators that are none, and what pandas would take for missing."""
    made = rows(task, split)
    for i, text in enumerate(('he said "no', "a, b, and c", 'say ""', "NA", "\u2028 é \x85 漢", "it's", "x" * 200_000,
                              "None",
                              "null", "nan", "", "; ;", " blanks ")):
        made[i] = {**made[i], "sentence" if "sentence" in made[i] else "sentence2": text}
    return made


@pytest.mark.parametrize("task", ["mrpc", "cola", "stsb"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_the_same_rows_in_any_kind_of_file_are_the_same_data(tmp_path, task, kind):
    for split in ("train", "validation"):
        write_split(tmp_path / "shards", task, split, awkward(task, split))
        write_as(tmp_path / "own", task, split, kind, awkward(task, split))
    expected, found = (tasks.load(task, tmp_path / where) for where in ("shards", "own"))
    assert found["train"].to_list() == expected["train"].to_list()
    assert tasks.digest(found) == tasks.digest(expected)


def test_glue_s_similarities_are_the_same_in_32_bits_and_in_decimals(tmp_path):
    for split in ("train", "validation"):
        made = pd.DataFrame(rows("stsb", split))
        write_as(tmp_path / "decimals", "stsb", split, "csv", made)
        write_as(tmp_path / "bits", "stsb", split, "parquet", made.astype({"label": np.float32}))
    assert tasks.digest(tasks.load("stsb", tmp_path / "bits")) == tasks.digest(tasks.load("stsb", tmp_path / "decimals"))


@pytest.mark.parametrize("change", [
    lambda text: b"\xef\xbb\xbf" + text, lambda text: text.replace(b"\n", b"\r\n"), lambda text: text.rstrip(b"\n"),
    lambda text: text + b"\n\n", lambda text: text.replace(b",1,", b",1.0,")],
    ids=["byte order mark", "carriage returns", "no end of line", "empty lines", "1.0 for 1"])
def test_what_programs_do_to_text_files_changes_no_data(tmp_path, change):
    made = [{key: row[key] for key in ("sentence", "label", "idx")} for row in awkward("cola", "train")]
    files = [write_as(tmp_path, "cola", split, "csv", made) for split in ("train", "validation")]
    before = tasks.digest(tasks.load("cola", tmp_path))
    content = files[0].read_bytes()
    assert change(content) != content
    files[0].write_bytes(change(content))
    assert tasks.digest(tasks.load("cola", tmp_path)) == before


def test_one_split_may_be_of_another_kind_and_rows_may_repeat(tmp_path):
    made = rows("mrpc", "train")
    write_as(tmp_path, "mrpc", "train", "tsv", [*made, *made])
    write_as(tmp_path, "mrpc", "validation", "jsonl", made)
    assert {split: len(data) for split, data in tasks.load("mrpc", tmp_path).items()} == {
        "train": 2 * len(made), "validation": len(made)}


@pytest.mark.parametrize("name", ["with a space", "it's \"quoted\"", "$(touch x)", "ünï;cödé &"])
def test_a_folder_may_have_any_name(tmp_path, name):
    for split in ("train", "validation"):
        write_as(tmp_path / name, "cola", split, "csv", rows("cola", split))
    assert len(tasks.load("cola", str(tmp_path / name))["train"]) == 120
    assert not list(tmp_path.rglob("x"))


def test_a_quote_swallows_no_row(tmp_path):
    """pandas would read 20 rows of such a file as 12."""
    lines = [f'"he said {i}",{i % 2}' if i % 3 else f'"he said {i},{i % 2}' for i in range(20)]
    for split in ("train", "validation"):
        write_as(tmp_path, "cola", split, "csv", rows("cola", split)).write_text("\n".join(["sentence,label", *lines]))
    with pytest.raises(ValueError, match=r"train\.csv, line 2: its quotes are not balanced"):
        tasks.load("cola", tmp_path)


@pytest.fixture(scope="module")
def encoded(tiny_glue, tiny_encoder):
    return tasks.encode("mrpc", tasks.load("mrpc", tiny_glue)["train"], encoders.tokenizer(tiny_encoder), 32)


def test_encodings_are_the_tokenizer_s(encoded, tiny_encoder):
    row = rows("mrpc", "train")[5]
    expected = encoders.tokenizer(tiny_encoder)(row["sentence1"], row["sentence2"])
    assert {key: values[5] for key, values in encoded.columns.items()} == dict(expected)
    assert encoded.labels[5] == row["label"]
    assert encoded.lengths[5] == len(expected["input_ids"])


def test_a_very_long_text_is_cut(tiny_encoder):
    long = datasets.Dataset.from_list([{"sentence": "the cat " * 10_000, "label": 1}])
    assert tasks.encode("cola", long, encoders.tokenizer(tiny_encoder), 32).lengths.tolist() == [32]


def test_texts_are_cut_at_max_length(tiny_glue, tiny_encoder):
    data = tasks.load("mrpc", tiny_glue)["train"]
    assert tasks.encode("mrpc", data, encoders.tokenizer(tiny_encoder), 9).lengths.tolist() == [9] * len(data)


def test_labels_have_the_type_that_the_loss_wants(tiny_glue, tiny_encoder):
    tokenizer = encoders.tokenizer(tiny_encoder)
    kinds = {task: tasks.encode(task, tasks.load(task, tiny_glue)["validation"], tokenizer).labels.dtype
             for task in ("cola", "stsb")}
    assert kinds == {"cola": np.int64, "stsb": np.float32}


def ragged(lengths):
    """Encodings of examples of these lengths, all tokens 7."""
    columns = {"input_ids": [[7] * n for n in lengths], "attention_mask": [[1] * n for n in lengths]}
    return tasks.Encodings(columns, np.arange(len(lengths)), {"input_ids": 3, "attention_mask": 0})


def test_a_batch_is_padded_to_its_longest_member_and_no_further():
    batch = ragged([2, 9, 4]).batch([0, 2])
    assert batch["input_ids"].tolist() == [[7, 7, 3, 3], [7, 7, 7, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_take_keeps_the_order_asked_for():
    taken = ragged([2, 9, 4]).take([2, 0])
    assert len(taken) == 2
    assert taken.lengths.tolist() == [4, 2]
    assert taken.labels.tolist() == [2, 0]


def test_folds_share_no_row_until_train_is_used_up_and_then_are_drawn_anew():
    task = Task(name="tickets", columns=["text"], labels=["calm", "urgent", "rude"])
    labels = np.arange(200) % 3
    parts = [set(tasks.selection_split(task, labels, fold)[1]) for fold in range(7)]
    assert len(set().union(*parts[:6])) == sum(map(len, parts[:6])) == 180
    assert parts[6] not in parts[:6] and len(parts[6]) == 30
    for fold, part in enumerate(parts):
        assert np.ptp(np.bincount(labels[sorted(part)])) <= 2, fold
        assert not part & set(tasks.selection_split(task, labels, fold)[0])


def test_rows_of_equal_texts_are_on_one_side_of_every_fold():
    task = Task(name="tickets", columns=["text"], labels=["calm", "urgent"])
    texts = [f"template {i % 250}" for i in range(1000)]
    labels = np.array([int(text[-1]) % 2 for text in texts])
    for fold in range(7):
        rest, part = tasks.selection_split(task, labels, fold, texts)
        assert len(rest) + len(part) == 1000 and len(part) == pytest.approx(150, abs=10)
        assert not {texts[row] for row in rest} & {texts[row] for row in part}
        alone = tasks.selection_split(task, labels, fold, [str(i) for i in range(1000)])
        assert all(map(np.array_equal, alone, tasks.selection_split(task, labels, fold)))


def test_some_rows_are_a_stratified_part_of_those_given():
    task = Task(name="tickets", columns=["text"], labels=["calm", "urgent"])
    labels = np.array([0, 0, 0, 1] * 50)
    rows = tasks.some(task, labels, np.arange(100), 40)
    assert len(rows) == 40 and rows.max() < 100 and 9 <= labels[rows].sum() <= 11
    assert len(tasks.some(task, labels, np.arange(100), 0)) == len(tasks.some(task, labels, np.arange(100), 100)) == 100


def test_labels_that_yaml_would_read_as_other_numbers_are_text(tmp_path):
    """As a table of texts has them: 007 is not 7, nor 010 eight, as older YAML has it, nor 1:30 ninety."""
    (tmp_path / "agents.yaml").write_text("columns: [text]\nlabel: agent\nlabels: [007, 010, +1, -1, 1:30, 0x1F, 12]\n"
                                          "data: agents.csv\nmetrics: [{f1: {of: 010}}, accuracy]\n")
    (tmp_path / "agents.csv").write_text("text,agent\n" + "".join(
        f"{word} {i},{label}\n" for i in range(9) for word, label in (("a", "007"), ("b", "010"), ("c", "1:30"))))
    task = tasks.get(str(tmp_path / "agents.yaml"))
    assert task.labels == ("007", "010", "+1", "-1", "1:30", "0x1F", "12") and task.metric.positive == 1
    assert {*tasks.load(task)["train"]["label"]} == {0, 1, 4}
