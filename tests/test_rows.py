"""AdamW over the rows in use leaves what AdamW over all of them leaves."""

import copy

import numpy as np
import pytest
import torch
from conftest import tiny_model
from test_families import KINDS, encodings, folder
from test_training import NO_DROPOUT, assert_same_training, batches_of, plain_loop
from torch import nn

from studykit import methods, tasks, training
from studykit.models import encoders
from studykit.training import fast, lighter, rows
from studykit.training.budgets import Budget

CPU = torch.device("cpu")


def some(count=24, words=(5, 9, 11, 30, 31, 58), seed=0, pad=0):
    """Encodings of random texts of these tokens, each of 3 to 11; the last word is in the last example alone."""
    rng = np.random.default_rng(seed)
    texts = [rng.choice(words[:-1], rng.integers(3, 12)).tolist() for _ in range(count - 1)] + [[words[-1]] * 4]
    columns = {"input_ids": texts, "attention_mask": [[1] * len(text) for text in texts]}
    return tasks.Encodings(columns, np.arange(count) % 2, {"input_ids": pad, "attention_mask": 0})


def train(model, data, steps=30, **options):
    options = {"lr": 1e-3, "batch_size": 4, "precision": "fp32", "device": CPU, **options}
    return training.train(model, data, Budget(steps=steps), **options)


def plainly(model, data, monkeypatch, **options):
    """The same model trained with AdamW over all rows."""
    other = copy.deepcopy(model)
    with monkeypatch.context() as patched:
        patched.setattr(rows, "of", lambda *_: None)
        assert "rows" not in train(other, data, **options).shortcuts
    return other


def words_of(model):
    return model.get_input_embeddings().weight.detach()


def assert_same(model, other):
    for (name, one), (_, two) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        if "key" not in name or "bias" not in name:  # a key's bias has no gradient but rounding error
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_all_rows_are_those_of_a_plain_loop():
    """By hand, over the whole table: rows in every step, rows in some steps, the padding's, and rows that no text has."""
    model = methods.apply("full", tiny_model(**NO_DROPOUT))
    before, by_hand, data = words_of(model).clone(), copy.deepcopy(model).train(), some()
    assert "rows" in train(model, data, lr=1e-2).shortcuts
    plain_loop(by_hand, batches_of(data, 30), 1e-2, 30)
    assert_same_training(model, by_hand, rtol=1e-3, atol=1e-4)
    unused = [row for row in range(60) if row not in (0, 5, 9, 11, 30, 31, 58)]
    torch.testing.assert_close(words_of(model)[unused], words_of(by_hand)[unused], rtol=2e-6, atol=0)
    shrunk = words_of(model)[unused] / before[unused]
    rates = [1e-2 * min((step + 1) / 3, (30 - step) / 27) for step in range(30)]
    torch.testing.assert_close(shrunk, torch.full_like(shrunk, np.prod([1 - 0.01 * rate for rate in rates])))
    assert shrunk.max() < 1 - 1e-3  # a thousand times the tolerance


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_ends_as_with_all_rows(kind, monkeypatch):
    at = folder(kind)
    model, data = methods.apply("full", encoders.load(at, pooler="new")), encodings(at)
    other = plainly(model, data, monkeypatch, steps=10)
    assert "rows" in train(model, data, steps=10).shortcuts
    assert_same(model, other)
    assert model.get_input_embeddings().padding_idx == other.get_input_embeddings().padding_idx
    assert not model.get_input_embeddings()._forward_pre_hooks


def test_a_row_that_pads_has_no_gradient_and_shrinks(monkeypatch):
    """The padding is another row than the first, and not where the embedding's own is."""
    model = methods.apply("full", tiny_model(pad_token_id=7))
    with torch.no_grad():
        model.get_input_embeddings().weight[7] = 1.0
    before, data = words_of(model).clone(), some(pad=7)
    assert model.get_input_embeddings().padding_idx == 7
    other = plainly(model, data, monkeypatch)
    assert "rows" in train(model, data).shortcuts
    assert_same(model, other)
    ratio = words_of(model)[7] / before[7]
    assert ratio.max() < 1 and torch.allclose(ratio, ratio[0].expand_as(ratio), rtol=1e-6)


def tied(model):
    """A model whose word embedding has a second use."""
    model.decoder = nn.Linear(32, 60, bias=False)
    model.decoder.weight = model.get_input_embeddings().weight
    return model


def read_elsewhere(model):
    """A model that adds the mean of its whole table to what it says."""
    forward = model.forward

    def and_the_table(**inputs):
        outputs = forward(**inputs)
        outputs.logits = outputs.logits + model.get_input_embeddings().weight.mean()
        return outputs

    model.forward = and_the_table
    return model


def normed(model):
    model.get_input_embeddings().max_norm = 1.0
    return model


@pytest.mark.parametrize("change", [tied, read_elsewhere, normed], ids=lambda change: change.__name__)
def test_a_table_with_another_use_is_trained_whole(change):
    model = change(methods.apply("full", tiny_model(initializer_range=0.2)))
    assert "rows" not in train(model, some(), steps=2).shortcuts
    assert model.get_input_embeddings().weight.shape == (60, 32)


@pytest.mark.parametrize("method", ["bitfit", "head", "adapter"])
def test_a_frozen_table_is_left_alone(method):
    model = methods.apply(method, tiny_model())
    before = words_of(model).clone()
    assert "rows" not in train(model, some(), steps=2).shortcuts
    assert torch.equal(words_of(model), before)


def test_where_every_row_is_in_use_there_is_nothing_to_leave_out():
    model = methods.apply("full", tiny_model())
    assert rows.of(model, some(words=range(1, 60), count=400)) is None


def test_the_optimizer_holds_the_rows_in_use_alone(monkeypatch):
    held, make = [], training.loop.make_optimizer
    monkeypatch.setattr(training.loop, "make_optimizer", lambda groups, *of: held.extend(groups[0]) or make(groups, *of))
    train(methods.apply("full", tiny_model()), some(), steps=1)
    assert [7, 32] in [list(parameter.shape) for parameter in held] and [60, 32] not in [
        list(parameter.shape) for parameter in held]


def test_a_curve_sees_the_whole_table_and_changes_nothing():
    """It is scored on words that training has not: their rows have shrunk by then as they would have."""
    plain, watched = (methods.apply("full", tiny_model()) for _ in range(2))
    train(plain, some())
    seen, others = [], some(words=(40, 41, 42, 43))
    train(watched, some(), points=3, score=lambda model: seen.append(words_of(model)[40].norm().item()) or float(
        training.logits(model, others)[0, 0]))
    assert seen == sorted(seen, reverse=True) and len(set(seen)) == 3
    assert all(torch.equal(one, two) for one, two in zip(plain.parameters(), watched.parameters(), strict=True))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_stopped_in_the_middle_the_model_has_its_table_as_it_is_by_then(error, monkeypatch):
    model = methods.apply("full", tiny_model())
    weight, before, data = model.get_input_embeddings().weight, words_of(model).clone(), some()
    step, taken = training.loop._step, []

    def stopped(*given):
        if len(taken) == 5:
            raise error
        taken.append(step(*given))
        return taken[-1]

    monkeypatch.setattr(training.loop, "_step", stopped)
    with pytest.raises(error):
        train(model, data)
    assert model.get_input_embeddings().weight is weight and not model.get_input_embeddings()._forward_pre_hooks
    rates = [1e-3 * (step + 1) / 3 for step in range(3)] + [1e-3, 1e-3 * 26 / 27]
    expected = np.prod([1 - 0.01 * rate for rate in rates])
    torch.testing.assert_close(weight[40] / before[40], torch.full((32,), expected, dtype=torch.float32), rtol=1e-6, atol=0)
    assert not torch.equal(weight[5], before[5])


def test_a_diverged_run_leaves_the_table_whole():
    model = methods.apply("full", tiny_model())
    assert train(model, some(), lr=1e38).status == "diverged"
    assert words_of(model).shape == (60, 32)


def test_inputs_that_no_row_is_for_are_an_error():
    model = methods.apply("full", tiny_model())
    with rows.of(model, some()), pytest.raises(IndexError):
        model(input_ids=torch.tensor([[40]]))


def test_one_can_look_at_the_whole_model_and_go_on():
    model, data, names = methods.apply("full", tiny_model()), some(), []
    inputs = data.batch(fast.sample(data))
    plain = model(**inputs).logits
    with lighter.Lighter(model, data, CPU, "fp32", names) as light:
        assert names == ["rows"] and len(words_of(model)) == 7
        quick = model(**inputs).logits
        with light.whole():
            assert len(words_of(model)) == 60
            assert torch.equal(model(**inputs).logits, plain)
        assert len(words_of(model)) == 7
    assert torch.equal(quick, plain) and len(words_of(model)) == 60
