"""A model that was kept says what it said in memory, to plain transformers too; its folder is whole whatever happens."""

import json
import os

import conftest
import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
import yaml
from made_advice import advice as made_advice
from made_advice import task as made_task

from studykit import advise, methods, tasks, training
from studykit.advise import advice as values
from studykit.advise import calibration, floors, keeping, predicting
from studykit.models import encoders

TEXTS = ["the girl waits", "a boy sees the old house near the river", "the dogs", "", "which letters does she send ?",
         "the king " * 40]
CLASSES = tasks.Task(name="kinds", columns=["text"], labels=["yes", "no", "it depends"], question="Is it so?")
NUMBER = tasks.Task(name="scores", columns=["text"], label="score", metrics=["spearmanr"])
PAIRS = tasks.Task(name="pairs", columns=["first", "second"], labels=["same", "other"])
SCALE = tasks.Scale(425.0, 280.0)  # of labels from -50 to 900
LENGTH = 32
PLAIN = ("full", "bitfit", "lora", "ia3", "head", "layernorm")


def tuned(method, task, reads="", **options):
    """The bundled encoder as if it had been fine-tuned: what trains has been moved, so that outputs depend on the text."""
    model = encoders.load("mini", task.num_labels, reads=reads)
    methods.apply(method, model, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model.eval()


def keep(folder, model, task, method, **settings):
    given = {"options": {}, "max_length": LENGTH, "scale": None if task.labels else SCALE, "rows": 600, **settings}
    return keeping.keep(folder, model, made_advice(), task, "mini", method=method, **given)


def in_memory(model, task, texts):
    columns = dict(zip(task.columns, zip(*[text if isinstance(text, tuple) else (text,) for text in texts], strict=True),
                       strict=True))
    data = datasets.Dataset.from_dict({**columns, "label": [0] * len(texts)})
    return training.logits(model, tasks.encode(task, data, encoders.tokenizer("mini"), LENGTH))


def by_pipeline(folder, texts):
    """What plain transformers gives: a row of scores by label for each text."""
    pipeline = transformers.pipeline("text-classification", str(folder), top_k=None)
    said = [pipeline(text, truncation=True) for text in texts]  # of a text it is a list in a list, of a pair one list
    return [{row["label"]: row["score"] for row in (rows[0] if isinstance(rows[0], list) else rows)} for rows in said]


@pytest.mark.parametrize("method", [*PLAIN, "adapter", "prefix", "prompt"])
def test_classes_are_said_alike_in_memory_and_from_the_folder(tmp_path, method):
    options = {"tokens": 4} if method in ("prefix", "prompt") else {"rank": 4} if method == "lora" else {}
    model = tuned(method, CLASSES, **options)
    outputs = in_memory(model, CLASSES, TEXTS)
    wanted = calibration.probabilities(outputs, 1.7)
    assert np.ptp(wanted, axis=0).min() > 0.01, "the test would see no difference"
    about = keep(tmp_path / "model", model, CLASSES, method, options=options, temperature=1.7)
    assert about == {"folder": str(tmp_path / "model"), "kind": "transformers" if method in PLAIN else "studykit"}
    found = advise.load(tmp_path / "model").predict(TEXTS)
    assert found["label"].tolist() == [CLASSES.labels[place] for place in wanted.argmax(1)]
    np.testing.assert_allclose(found["probability"], wanted.max(1), atol=1e-5)
    if method in PLAIN:
        for row, shares in zip(by_pipeline(tmp_path / "model", TEXTS), wanted, strict=True):
            np.testing.assert_allclose([row[label] for label in CLASSES.labels], shares, atol=1e-5)
    np.testing.assert_array_equal(in_memory(model, CLASSES, TEXTS), outputs, "keeping changed the model")


@pytest.mark.parametrize("method", ["full", "bitfit", "lora", "adapter"])
def test_a_number_is_said_on_its_own_scale(tmp_path, method):
    model = tuned(method, NUMBER)
    wanted = SCALE.grown(in_memory(model, NUMBER, TEXTS)[:, 0].astype(float))
    assert np.ptp(wanted) > 10
    keep(tmp_path / "model", model, NUMBER, method, half_width=61.5)
    found = advise.load(tmp_path / "model").predict(TEXTS)
    np.testing.assert_allclose(found["value"], wanted, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(found["high"] - found["value"], 61.5)
    np.testing.assert_allclose(found["value"] - found["low"], 61.5)
    if method != "adapter":
        rows = by_pipeline(tmp_path / "model", TEXTS)
        np.testing.assert_allclose([row["score"] for row in rows], wanted, rtol=1e-5, atol=1e-2)  # under the column's name


def test_pairs_go_through_the_pipeline_too(tmp_path):
    texts = [("the girl waits", "a boy waits"), ("the dogs sleep", "the dogs sleep near the river")]
    model = tuned("full", PAIRS)
    wanted = calibration.probabilities(in_memory(model, PAIRS, texts))
    keep(tmp_path / "model", model, PAIRS, "full")
    np.testing.assert_allclose(advise.load(tmp_path / "model").predict(texts)["probability"], wanted.max(1), atol=1e-5)
    rows = by_pipeline(tmp_path / "model", [{"text": first, "text_pair": second} for first, second in texts])
    np.testing.assert_allclose([[row[label] for label in PAIRS.labels] for row in rows], wanted, atol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_head_that_reads_the_mean_is_opened_by_studykit(tmp_path, method):
    """Plain transformers would read the first token, and say something else."""
    model = tuned(method, CLASSES, reads="mean")
    assert keep(tmp_path / "model", model, CLASSES, method)["kind"] == "studykit"
    assert not (tmp_path / "model" / "config.json").exists()
    found = advise.load(tmp_path / "model").predict(TEXTS)
    wanted = calibration.probabilities(in_memory(model, CLASSES, TEXTS))
    np.testing.assert_allclose(found["probability"], wanted.max(1), atol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora", "adapter"])
def test_what_was_tuned_stands_beside_with_the_digest_of_its_base(tmp_path, method):
    from safetensors import safe_open

    model = tuned(method, CLASSES)
    outputs = in_memory(model, CLASSES, TEXTS)
    keep(tmp_path / "model", model, CLASSES, method, temperature=3.0)
    with safe_open(tmp_path / "model" / keeping.TUNED, "pt") as opened:
        notes = json.loads(opened.metadata()["studykit"])
    assert (notes["weights"], notes["temperature"]) == (encoders.digest("mini"), 3.0)
    opened = methods.load(tmp_path / "model" / keeping.TUNED, "mini")
    np.testing.assert_allclose(in_memory(opened, CLASSES, TEXTS), outputs, atol=1e-5)


def test_an_encoder_without_segments_keeps_a_tokenizer_without(tmp_path, tmp_path_factory):
    """transformers writes no such thing of its own, and the pipeline would hand the model segments that it has not."""
    encoder = conftest.save_encoder(tmp_path_factory.mktemp("one"), conftest.tiny_config(type_vocab_size=1))
    model = encoders.load(encoder, 3, pooler="new")
    methods.apply("full", model)
    keeping.keep(tmp_path / "model", model, made_advice(), CLASSES, str(encoder), method="full", options={},
                 max_length=LENGTH)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert (tokenizer.model_input_names, tokenizer.model_max_length) == (["input_ids", "attention_mask"], LENGTH)
    assert len(by_pipeline(tmp_path / "model", ["the cat sees a dog"])[0]) == 3


# Floors

def rows_of(task, count=90):
    generator = np.random.default_rng(0)
    words = [["the girl waits", "a boy sees"], ["many old dogs", "the river"], ["kings and letters", "a painter"]]
    labels = np.arange(count) % 3
    texts = [tuple(" ".join(generator.choice(words[label], 3)) for _ in task.columns) for label in labels]
    return texts, labels if task.labels else labels * 400.0 - 50 + generator.normal(size=count)


@pytest.mark.parametrize("task", [CLASSES, NUMBER], ids=["classes", "number"])
def test_floors_are_said_alike_from_the_folder(tmp_path, task):
    texts, labels = rows_of(task)
    data = [text for text, in texts]
    embedded = floors.embeddings("mini", predicting._encoded(encoders.tokenizer("mini"), LENGTH, task, texts)[0])
    fitted = floors.fit(task, texts, labels, embedded)
    assert [floor.name for floor in fitted] == ["majority" if task.labels else "mean", "tfidf", "embedding"]
    for floor in fitted:
        outputs = floors.outputs(floor, texts, embedded)
        about = keeping.keep_floor(tmp_path / floor.name, floor, made_advice("floor"), task, "mini", max_length=LENGTH,
                                   temperature=0.5, half_width=None)
        assert about["kind"] == "floor"
        found = advise.load(tmp_path / floor.name).predict(data)
        if task.labels:
            np.testing.assert_allclose(found["probability"], calibration.probabilities(outputs, 0.5).max(1), atol=1e-5)
            if floor.name != "majority":
                assert np.mean(found["label"] == [task.labels[label] for label in labels]) > 0.95
        else:
            np.testing.assert_allclose(found["value"], outputs[:, 0], rtol=1e-6)
            assert found["low"].isna().all()
        assert not list((tmp_path / floor.name).glob("*.p*kl*"))


@pytest.mark.parametrize("classes", [2, 3])
def test_a_floor_s_logits_are_those_of_scikit_learn(classes):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    task = CLASSES if classes == 3 else tasks.Task(name="two", columns=["text"], labels=["a", "b"])
    texts, labels = rows_of(CLASSES)
    labels = labels % classes
    floor = floors.fit(task, texts, labels)[1]
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), max_features=50_000)
    counted = vectorizer.fit_transform([text for text, in texts])
    assert floor.vocabulary == tuple(vectorizer.get_feature_names_out())
    decisions = [OneVsRestClassifier(LogisticRegression(C=strength, solver="liblinear", tol=1e-2)).fit(
        counted, labels).decision_function(counted) for strength in (1, 10)]
    found = floors.outputs(floor, texts)
    found = found[:, 1] - found[:, 0] if classes == 2 else found
    assert any(np.allclose(found, decision, atol=1e-6) for decision in decisions)


def test_a_class_without_rows_is_never_answered_and_counts_half_a_row():
    texts, labels = rows_of(CLASSES)
    kept = [row for row, label in enumerate(labels) if label != 2]
    majority, words = floors.fit(CLASSES, [texts[row] for row in kept], labels[kept])
    assert set(floors.outputs(words, texts).argmax(1)) == {0, 1}
    np.testing.assert_allclose(np.exp(majority.intercept), np.array([30, 30, 0.5]) / 60.5)


def test_texts_without_words_have_no_tfidf():
    assert [floor.name for floor in floors.fit(CLASSES, [("?",), ("!",), (".",)] * 9, np.arange(27) % 3)] == ["majority"]


# Calibration

@pytest.mark.parametrize("true", [0.4, 1.0, 2.5])
def test_the_temperature_is_found_again(true):
    rng = np.random.default_rng(0)
    right = rng.normal(size=(4000, 5)) * 2
    labels = (right + rng.gumbel(size=right.shape)).argmax(1)  # drawn from the softmax
    assert keeping.temperature(true * right, labels) == pytest.approx(true, rel=0.06)


def test_a_few_right_answers_make_no_model_certain():
    outputs = np.eye(3)[np.arange(12) % 3] * 4
    found = calibration.probabilities(outputs, keeping.temperature(outputs, np.arange(12) % 3))
    assert 0.9 < found.max() < 0.99
    with pytest.raises(ValueError, match="there are none"):
        keeping.temperature(np.zeros((0, 3)), [])


@pytest.mark.parametrize("rows", [4, 9, 30, 200])
def test_the_interval_covers_as_many_as_it_says(rows):
    rng = np.random.default_rng(rows)
    covered = []
    for _ in range(4000):
        residuals = rng.standard_t(4, size=rows + 1)  # of the held-out rows, and of a new one
        covered.append(abs(residuals[-1]) <= keeping.half_width(residuals[:-1]))
    assert 0.8 - 0.02 < np.mean(covered) < 0.8 + 1 / (rows + 1) + 0.02


# The folder

def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_model_takes_the_place_of_another_and_leaves_nothing_beside(tmp_path):
    keep(tmp_path / "model", tuned("full", CLASSES), CLASSES, "full")
    keep(tmp_path / "model", tuned("adapter", CLASSES), CLASSES, "adapter")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "model.safetensors").exists()
    assert advise.load(tmp_path / "model").about["method"] == "adapter"


@pytest.mark.parametrize("place", ["card", "first rename", "second rename"])
@pytest.mark.parametrize("killed", [False, True], ids=["error", "kill"])
def test_a_crash_leaves_the_old_folder_whole(tmp_path, monkeypatch, place, killed):
    folder, new = tmp_path / "model", tuned("adapter", CLASSES)
    keep(folder, tuned("bitfit", CLASSES), CLASSES, "bitfit")
    before, calls, replace = contents(folder), [], os.replace

    def crash(*_):
        if killed:
            os._exit(9)
        raise OSError("no space left on device")

    def replaced(*paths):
        calls.append(paths)
        return crash() if len(calls) == (1 if place == "first rename" else 2) else replace(*paths)

    if place == "card":
        monkeypatch.setattr(keeping.card, "text", crash)
    else:
        monkeypatch.setattr(keeping.os, "replace", replaced)
    if not killed:
        with pytest.raises(OSError, match="no space left"):
            keep(folder, new, CLASSES, "adapter")
        assert [file.name for file in tmp_path.iterdir()] == ["model"]
    elif (child := os.fork()) == 0:
        try:
            keep(folder, new, CLASSES, "adapter")
        finally:
            os._exit(1)
    else:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    monkeypatch.undo()
    assert advise.load(folder).about["method"] == "bitfit"
    assert contents(folder) == before
    keep(folder, new, CLASSES, "adapter")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    assert advise.load(folder).about["method"] == "adapter"


def test_a_folder_of_other_things_is_not_replaced(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("three years")
    with pytest.raises(FileExistsError, match="would be replaced: give another"):
        keep(tmp_path / "model", tuned("head", CLASSES), CLASSES, "head")
    assert (tmp_path / "model" / "thesis.txt").read_text() == "three years"


@pytest.mark.parametrize("kind", ["take", "cheaper", "cannot tell", "floor", ""])
@pytest.mark.parametrize("classes", [0, 4, 77])
def test_the_card_says_what_the_advice_says(tmp_path, kind, classes):
    task = made_task(classes)
    given = made_advice(kind, classes, promised=kind != "cheaper")
    if kind == "floor":
        floor = floors.Floor("majority", "majority", np.zeros((0, task.num_labels)), np.zeros(task.num_labels))
        keeping.keep_floor(tmp_path / "model", floor, given, task, "mini", max_length=LENGTH, half_width=3.25, rows=600)
    else:
        keeping.keep(tmp_path / "model", tuned("lora", task), given, task, "mini", method="lora", options={"rank": 8},
                     max_length=LENGTH, half_width=3.25, rows=600)
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["library_name"] == ("studykit" if kind == "floor" else "transformers")
    assert front["metrics"] == (["f1", "accuracy"] if classes else ["spearmanr", "mae"])
    assert "0123456789abcdef" in body and "480 rows to train on" in body and "600 rows" in body
    assert ("78.1 (95 % interval 74.9 to 81.0)" in body) == (given.promise.score is not None)
    assert ("The probability that it is within 1 point of the best" in body) == (given.decision is not None)
    assert ("expected within 3.25 of" in body) == (classes == 0)
    assert "None" not in body and str(tmp_path) not in body
    for row in given.contenders:
        assert f"| {row.label}" in body
    left = [row.label for row in given.contenders if not row.finalist]
    assert (f"Left in the race: {', '.join(left)}. Score and gap are from there." in body) == bool(left)
    assert huggingface_hub.ModelCard(text).data.pipeline_tag == "text-classification"


def test_a_contender_without_scores_has_a_row(tmp_path):
    given = values.Advice(**{**vars(made_advice()), "contenders": (values.Contender("lora r=8", "arm", "lora"),)})
    keep(tmp_path / "model", tuned("lora", CLASSES), CLASSES, "lora")
    about = json.loads((tmp_path / "model" / keeping.ABOUT).read_text())
    assert "| lora r=8 | – | 0 | – |" in keeping.card.text(given, about)


def test_what_is_kept_says_what_predicting_needs_and_no_path_of_the_data(tmp_path):
    keep(tmp_path / "model", tuned("adapter", CLASSES, bottleneck=8), CLASSES.model_copy(update={"data": "/home/me/x.csv"}),
         "adapter", options={"bottleneck": 8}, temperature=1.5)
    about = json.loads((tmp_path / "model" / keeping.ABOUT).read_text())
    assert "/home/me" not in json.dumps(about)
    assert (about["kind"], about["method"], about["options"], about["temperature"], about["max_length"], about["rows"]) == (
        "studykit", "adapter", {"bottleneck": 8}, 1.5, LENGTH, 600)
    assert (about["encoder"], about["encoder_at"], about["weights"]) == ("mini", "mini", encoders.digest("mini"))
    assert tasks.Task(**about["task"]) == CLASSES


FAMILIES = ("bert", "roberta", "electra", "distilbert", "mpnet", "albert", "deberta-v2", "llama")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", [CLASSES, NUMBER], ids=["classes", "number"])
def test_calibration_is_folded_into_every_family_s_last_layer(tiny_encoder, family, task):
    """A decoder's output has no bias to take a mean: plain transformers cannot say a number of it as it was given."""
    options = {"embedding_size": 16} if family == "albert" else {"pad_token_id": 0} if family == "llama" else {}
    model = conftest.tiny_model(family, num_labels=task.num_labels, **options)
    methods.apply("full", model)
    scale = tasks.Scale() if task.labels else SCALE
    tokenizer = encoders.tokenizer(tiny_encoder)
    if family in ("roberta", "mpnet", "distilbert", "llama"):
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    plain = keeping._plain(model, task, "full", 0.5, scale, tokenizer)
    if family == "llama" and not task.labels:
        assert plain is None
        return
    inputs = tokenizer(["the cat sees a dog"], return_tensors="pt")
    with torch.no_grad():
        wanted = model(**inputs).logits * scale.deviation / 0.5 + scale.mean
        torch.testing.assert_close(plain(**inputs).logits, wanted, rtol=1e-5, atol=1e-4)
