"""The bundled miniature: its encoder is what it says, pre-training it again works, and studies take it like any other."""

import json

import numpy as np
import pytest
import torch

from studykit import methods, study, tasks
from studykit.mini import ENCODER, pretrain
from studykit.models import encoders


@pytest.fixture(scope="module")
def told():
    return pretrain.corpus(300, seed=1)


def test_the_bundled_encoder_is_small_and_the_one_that_the_study_names():
    assert sum(file.stat().st_size for file in ENCODER.iterdir()) < 4e6
    assert not list(ENCODER.glob("*.bin"))
    assert encoders.digest("mini") == study.load("mini").weights
    assert 200_000 <= methods.counts(methods.apply("full", encoders.load("mini")))["total"] <= 1_000_000


def test_its_course_is_that_of_these_weights_by_committed_code():
    course = json.loads((ENCODER / "pretraining.json").read_text())
    assert course["weights"] == encoders.digest("mini")
    assert not course["commit"].endswith("+")
    loss = [row[course["columns"].index("pair loss")] for row in course["course"]]
    assert loss[-1] < loss[0] / 2


def test_its_tokenizer_is_the_one_that_pretraining_makes():
    sentences = ["The girls did not greet an old king.", "Yesterday, these stones were praised."]
    bundled, made = encoders.tokenizer("mini")(sentences), pretrain.tokenizer()(sentences)
    assert bundled["input_ids"] == made["input_ids"]


def test_mini_is_a_source_with_the_columns_of_the_real_tasks():
    data = tasks.load("cola", "mini")
    assert data["train"].column_names == [*tasks.get("cola").columns, "label"] == ["sentence", "label"]
    assert tasks.digest(data) == tasks.digest(tasks.load("cola", "mini")) != tasks.get("cola").digest


@pytest.mark.parametrize("name", ["mini", "tiny"])
def test_without_pretraining_only_the_head_is_the_same(name, tiny_encoder):
    encoder = tiny_encoder if name == "tiny" else name
    options = {"num_labels": 1, "seed": 3, "pooler": "new", "output_bias": 2.5}
    trained, random = (encoders.load(encoder, pretrained=pretrained, **options) for pretrained in (True, False))
    again, other = (encoders.load(encoder, pretrained=False, **{**options, "seed": seed}) for seed in (3, 4))
    heads = {key for key, _ in encoders.head_parameters(trained)}
    for (key, one), two, three, four in zip(trained.named_parameters(), random.parameters(), again.parameters(),
                                            other.parameters(), strict=True):
        assert torch.equal(two, three)
        assert torch.equal(one, two) == (key in heads or one.std() == 0), key  # LayerNorms start at one and zero in any case
        assert torch.equal(two, four) == bool(two.numel() == 1 or two.std() == 0), key


def test_a_run_from_random_weights_is_another_run(tiny_study):
    runs = [run for given in (True, False) for run in tiny_study.plan("cola", "full", rates=1e-3, pretrained=given)]
    assert runs[0].key != runs[1].key
    table = tiny_study.execute(runs, group="x")
    assert list(table["pretrained"]) == [True, False]
    assert table["predictions"].map(len).eq(40).all()


def test_a_word_is_replaced_by_one_that_stood_between_the_same_neighbours(told):
    ids, _ = told
    table = pretrain.Table(ids, len(pretrain.tokenizer()))
    stood = {tuple(row[i: i + 3]) for side in ids for row in side for i in range(len(row) - 2)}
    rates = np.where(np.arange(300) % 2, 0.3, 0.0)
    for seed in range(3):
        changed = table.replace(ids[0], rates, np.random.default_rng(seed))
        rows, places = np.nonzero(changed != ids[0])
        assert len(rows) > 50 and (rows % 2 == 1).all()
        assert (ids[0][rows, places] > pretrain.SEP).all(), "never a special token or padding"
        for row, at in zip(rows, places, strict=True):
            assert (ids[0][row, at - 1], changed[row, at], ids[0][row, at + 1]) in stood


def test_pairs_are_joined_as_the_tokenizer_joins_them(told):
    ids, lengths = told
    tokens = pretrain.tokenizer()
    joined, segments = pretrain.join(ids[0], ids[1], lengths)
    texts = [tokens.batch_decode(side, skip_special_tokens=True) for side in ids]
    expected = tokens(*texts)
    for row in range(300):
        total = lengths[:, row].sum() - 1
        assert joined[row, :total].tolist() == expected["input_ids"][row]
        assert segments[row, :total].tolist() == expected["token_type_ids"][row]
        assert (joined[row, total:] == pretrain.PAD).all()


def test_batches_are_of_like_length_and_take_every_pair_once(told):
    _, lengths = pretrain.corpus(3 * pretrain.BATCH, seed=2)
    batches = pretrain.batches(lengths, np.random.default_rng(0))
    rows = [next(batches) for _ in range(3)]
    assert sorted(np.concatenate(rows)) == list(range(3 * pretrain.BATCH))
    width = [np.ptp(lengths[:, batch].sum(0)) for batch in rows]
    assert np.mean(width) < np.ptp(lengths.sum(0)) / 2


def test_pretraining_from_nothing_gives_an_encoder_that_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "EVERY", 2)
    pretrain.pretrain(0.05, tmp_path, meanings=2 * pretrain.BATCH, compiled=False)
    model = encoders.load(str(tmp_path), num_labels=2)
    assert sum(p.numel() for p in model.base_model.parameters()) == sum(
        p.numel() for p in encoders.load("mini").base_model.parameters())
    course = json.loads((tmp_path / "pretraining.json").read_text())
    assert course["weights"] == encoders.digest(str(tmp_path)) and course["steps"] >= 2
