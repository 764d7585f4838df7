import copy
import itertools
import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import tiny_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from studykit import methods, tasks, training
from studykit.models import encoders
from studykit.training import bf16, budgets, fast, machine
from studykit.training.budgets import Budget

CPU = torch.device("cpu")
FAMILIES = ("bert", "roberta", "electra", "distilbert")
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2}


def examples(count=21, classes=True, seed=0, length=None):
    """Encodings of random tokens, of 3 to 11 each unless there is a ``length``."""
    rng = np.random.default_rng(seed)
    tokens = [rng.integers(5, 60, length or rng.integers(3, 12)).tolist() for _ in range(count)]
    columns = {"input_ids": tokens, "attention_mask": [[1] * len(text) for text in tokens]}
    labels = np.arange(count) % 2 if classes else rng.uniform(0, 5, count).astype(np.float32)
    return tasks.Encodings(columns, labels, {"input_ids": 0, "attention_mask": 0})


def train(model, data, steps=12, **options):
    options = {"lr": 1e-3, "batch_size": 4, "precision": "fp32", "device": CPU, **options}
    return training.train(model, data, Budget(steps=steps), **options)


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# The budget

@pytest.mark.parametrize("budget, count, expected", [
    (Budget(epochs=3), 100, 3 * 7), (Budget(epochs=3, min_steps=20), 100, 21), (Budget(epochs=3, min_steps=200), 100, 200),
    (Budget(epochs=0.5), 100, 4), (Budget(steps=7), 100, 7), (Budget(epochs=1), 3, 1)])
def test_a_budget_is_so_many_steps(budget, count, expected):
    assert budget.total_steps([9] * count, batch_size=16) == expected


@pytest.mark.parametrize("settings", [{}, {"epochs": 3, "steps": 7}, {"epochs": -1}, {"steps": 0}, {"epochs": 0},
                                      {"epochs": float("nan")}, {"epochs": 1, "min_steps": -1}, {"seconds": 0},
                                      {"seconds": 1, "steps": 1}, {"seconds": 1, "token_seconds": -1},
                                      {"steps": 1, "token_seconds": 1e-3}, {"seconds": math.inf}], ids=str)
def test_a_budget_that_is_none_is_an_error(settings):
    with pytest.raises(ValueError, match="a budget"):
        Budget(**settings)


def test_a_budget_says_what_it_is():
    assert [str(Budget(steps=7)), str(Budget(epochs=3)), str(Budget(epochs=0.5, min_steps=200)), str(Budget(seconds=2)),
            str(Budget(seconds=2, token_seconds=1e-3))] == [
        "7 steps", "3 epochs", "0.5 epochs, at least 200 steps", "2 s on the wall clock", "2 s on a calibrated clock"]


def test_the_calibrated_clock_takes_steps_until_its_tokens_have_used_the_seconds_up():
    """By hand: add up the tokens of the batches in the run's own order; the total nearest to the seconds is taken."""
    budget = Budget(seconds=1.0, token_seconds=1e-3)
    for seed in range(5):
        used = np.cumsum([LENGTHS[rows].sum() * 1e-3 for rows in order(seed, 100)])
        steps = budget.total_steps(LENGTHS, 8, seed)
        assert steps == 1 + np.argmin(np.abs(used - 1.0))
    assert Budget(seconds=1e-6, token_seconds=1e-3).total_steps(LENGTHS, 8) == 1


def test_the_wall_clock_gives_no_number_of_steps():
    assert Budget(seconds=1.0).total_steps(LENGTHS, 8) is None


# The loop

def plain_loop(model, batches, lr, total, regression=False):
    """Training as one writes it by hand: every step, its rate, its update. ``batches`` are (model inputs, labels)."""
    decayed = [p for name, p in model.named_parameters() if p.requires_grad and p.ndim == 2]
    plain = [p for name, p in model.named_parameters() if p.requires_grad and p.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}])
    warmup = total // 10
    for step, (inputs, labels) in enumerate(batches):
        rate = lr * (step + 1) / warmup if step < warmup else lr * (total - step) / (total - warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        outputs = model(**inputs).logits
        loss = nn.MSELoss()(outputs.squeeze(1), labels) if regression else nn.CrossEntropyLoss()(outputs, labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(decayed + plain, 1.0)
        optimizer.step()
    return model


def batches_of(data, total, batch_size=4, seed=0):
    for rows in budgets.batch_order(data.lengths, batch_size, total, seed):
        yield data.batch(rows), torch.tensor(data.labels[rows])


def assert_same_training(model, by_hand, **tolerance):
    """A key's bias adds the same to all of a query's scores: its gradient is rounding error, which Adam blows up."""
    for (name, one), (_, other) in zip(model.named_parameters(), by_hand.named_parameters(), strict=True):
        if "key.bias" in name:
            continue
        torch.testing.assert_close(one, other, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


@pytest.mark.parametrize("classes", [True, False], ids=["classes", "values"])
@pytest.mark.parametrize("method", ["full", "bitfit", "adapter", "layernorm", "last_k"])
def test_training_is_a_plain_loop(method, classes):
    model = methods.apply(method, tiny_model(**NO_DROPOUT, num_labels=2 if classes else 1))
    start, by_hand = weights(model), copy.deepcopy(model)
    data = examples(classes=classes)
    train(model, data, steps=20)
    plain_loop(by_hand.train(), batches_of(data, 20), 1e-3, 20, regression=not classes)
    assert_same_training(model, by_hand, rtol=1e-4, atol=1e-5)
    far = [name for name, value in weights(model).items() if (value - start[name]).abs().max() > 1e-3]
    assert len(far) >= 2  # far beyond the tolerance


def test_weight_decay_is_on_whole_matrices_only():
    model = methods.apply("full", tiny_model())
    optimizer, _ = training.make_optimizer(training.groups(model.parameters()), 1e-3, 10)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decays[id(p)] for name, p in model.named_parameters()} == {
        name: 0.0 if name.endswith("bias") or "LayerNorm" in name else 0.01 for name, _ in model.named_parameters()}


def test_only_what_trains_is_in_the_optimizer():
    model = methods.apply("bitfit", tiny_model())
    optimizer, _ = training.make_optimizer(training.groups(model.parameters()), 1e-3, 10)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}


@pytest.mark.parametrize("total", [1, 2, 10, 37])
def test_the_rate_rises_to_its_peak_and_falls_to_almost_nothing(total):
    trained = training.groups(methods.apply("head", tiny_model()).parameters())
    optimizer, schedule = training.make_optimizer(trained, 1.0, total)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    peak = rates.index(max(rates))
    assert max(rates) == 1.0
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(1 / max(1, total - max(1, round(0.1 * total))))
    assert optimizer.param_groups[0]["lr"] == 0.0


# Batches

LENGTHS = np.random.default_rng(0).integers(5, 60, 1003)


def order(seed=0, total=252, batch_size=8):
    return list(budgets.batch_order(LENGTHS, batch_size, total, seed))


def test_an_epoch_has_every_example_once_in_batches_of_at_most_the_asked_size():
    per_epoch = -(-len(LENGTHS) // 8)  # two pools, of which the last batches are smaller
    batches = order(total=2 * (per_epoch + 1))
    sizes = np.array([len(batch) for batch in batches])
    assert sizes.max() == 8
    ends = np.searchsorted(np.cumsum(sizes), [len(LENGTHS), 2 * len(LENGTHS)])
    epochs = [batches[: ends[0] + 1], batches[ends[0] + 1: ends[1] + 1]]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch)) == list(range(len(LENGTHS)))
    assert not np.array_equal(epochs[0][0], epochs[1][0])


@pytest.mark.parametrize("count, batch_size", [(3668, 16), (855, 16), (16, 16), (3, 16)])
def test_an_epoch_of_the_budget_is_an_epoch_of_the_data(count, batch_size):
    total = Budget(epochs=1).total_steps([9] * count, batch_size)
    lengths = np.random.default_rng(0).integers(5, 60, count)
    seen = np.concatenate(list(budgets.batch_order(lengths, batch_size, total, 0)))
    assert sorted(seen) == list(range(count))


def test_the_seed_decides_the_order():
    assert all(np.array_equal(one, other) for one, other in zip(order(3), order(3), strict=True))
    assert not all(np.array_equal(one, other) for one, other in zip(order(3), order(4), strict=True))


def test_a_batch_holds_similar_lengths():
    def padding(batches):
        longest = sum(LENGTHS[batch].max() * len(batch) for batch in batches)
        return 1 - sum(LENGTHS[batch].sum() for batch in batches) / longest

    shuffled = np.random.default_rng(0).permutation(len(LENGTHS))
    assert padding(order(total=120)) < 0.03
    assert padding([shuffled[i: i + 8] for i in range(0, len(LENGTHS), 8)]) > 0.3


@pytest.mark.parametrize("mean, deviation, shortest, longest", [(53, 14, 20, 103), (11, 4, 5, 45), (31, 14, 9, 128)],
                         ids=["mrpc", "cola", "stsb"])
def test_padding_is_under_three_percent_of_the_tokens(mean, deviation, shortest, longest):
    """Of a batch of 16, at the lengths of such tasks, as the model gets it."""
    rng = np.random.default_rng(0)
    lengths = rng.normal(mean, deviation, 3600).clip(shortest, longest).astype(int)
    rows = [[5] * length for length in lengths]
    data = tasks.Encodings({"input_ids": rows}, np.arange(3600) % 2, {"input_ids": 0})
    batches = [data.batch(batch)["input_ids"] for batch in budgets.batch_order(data.lengths, 16, 225, 0)]
    padded = sum(int((batch == 0).sum()) for batch in batches)
    assert sum(batch.numel() for batch in batches) - padded == lengths.sum()
    assert padded < 0.03 * lengths.sum()


def test_a_batch_is_the_examples_asked_for_padded_to_the_longest():
    data = examples()
    batch = data.batch([7, 2, 7])
    longest = max(data.lengths[[7, 2]])
    for key, values in data.columns.items():
        expected = [values[i] + [0] * (longest - len(values[i])) for i in (7, 2, 7)]
        assert batch[key].tolist() == expected and batch[key].dtype == torch.int64


def test_making_a_batch_takes_a_small_part_of_a_step():
    """In seconds of this process at work; a real encoder's steps take many times as long as this one's."""
    data, model = examples(count=400, length=50), methods.apply("bitfit", tiny_model())
    order, start = list(budgets.batch_order(data.lengths, 16, 100, 0)), time.process_time()
    for rows in order:
        data.batch(rows)
    made = time.process_time() - start
    start = time.process_time()
    train(model, data, steps=100, batch_size=16)
    assert made < 0.05 * (time.process_time() - start)


def test_batches_do_not_come_in_the_order_of_their_lengths():
    means = [LENGTHS[batch].mean() for batch in order(total=100)]
    assert abs(np.corrcoef(means, np.arange(100))[0, 1]) < 0.5


# Seeds

@pytest.mark.parametrize("method", ["full", "head"])
def test_the_order_seed_decides_the_result_to_the_bit(method):
    model = methods.apply(method, tiny_model())
    found = []
    for seed, before in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(before)
        trained = copy.deepcopy(model)
        train(trained, examples(), seed=seed)
        found.append(weights(trained))
    assert equal(found[0], found[1])
    assert not equal(found[0], found[2])


def test_training_leaves_the_global_generators_alone():
    torch.manual_seed(1)
    np.random.seed(1)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1]
    train(methods.apply("full", tiny_model()), examples())
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


def test_dropout_stays_on_in_frozen_layers():
    """One step of BitFit from equal weights differs by what the order seed drops, batches being equal."""
    model = methods.apply("bitfit", tiny_model(hidden_dropout_prob=0.5))
    found = []
    for seed in (0, 1):
        trained = copy.deepcopy(model)
        train(trained, examples(count=4), steps=1, batch_size=4, seed=seed)
        found.append(weights(trained)["bert.encoder.layer.1.output.dense.bias"])
    assert not torch.allclose(*found)


# The curve and the clock

def test_scoring_is_not_training_time():
    ledger = machine.Ledger(CPU)
    outcome = train(methods.apply("full", tiny_model()), examples(), ledger=ledger, points=3,
                    score=lambda model: time.sleep(0.5) or 0.5)
    assert outcome.curve[-1][1] == ledger.seconds["train"] < sum(outcome.parts.values()) + 0.5  # scoring took 1.5
    assert [moment[2] for moment in outcome.curve] == [0.5] * 3


@pytest.mark.parametrize("method", ["full", "head"])
def test_each_step_has_its_tokens_and_the_seconds_of_its_parts(method):
    """The clock is made of these."""
    data = examples(count=20)
    outcome = train(methods.apply(method, tiny_model()), data, steps=7, timed=True)
    assert np.shape(outcome.step_seconds) == (7, 3) and np.min(outcome.step_seconds) > 0
    assert list(outcome.parts.values()) == pytest.approx(np.sum(outcome.step_seconds, axis=0))
    order = budgets.batch_order(data.lengths, 4, 7, 0)
    assert outcome.step_tokens == [data.lengths[rows].sum() for rows in order] and sum(outcome.step_tokens) == outcome.tokens


@pytest.mark.parametrize("steps, points", [(12, 1), (12, 4), (12, 5), (7, 7), (100, 3), (5, 1)])
def test_the_curve_has_the_points_asked_for_evenly_and_the_last_at_the_end(steps, points):
    model = methods.apply("layernorm", tiny_model())
    outcome = train(model, examples(), steps=steps, points=points, score=lambda model: 0.0)
    moments = [moment for moment, _, _ in outcome.curve]
    assert len(moments) == points
    assert moments[-1] == outcome.steps == steps
    assert np.ptp(np.diff([0, *moments])) <= 1
    assert sorted(seconds for _, seconds, _ in outcome.curve) == [seconds for _, seconds, _ in outcome.curve]


REFUSED = ("distilbert", "prefix")  # its layers take no virtual tokens


@pytest.mark.parametrize("family, method", [
    pair for pair in itertools.product(FAMILIES, methods.METHODS) if pair != REFUSED])
def test_a_curve_changes_nothing_and_is_scored_by_the_model_as_it_is(family, method):
    data = examples()
    plain, with_curve = (methods.apply(method, tiny_model(family)) for _ in range(2))
    train(plain, data, steps=4)
    outcome = train(with_curve, data, steps=4, points=2,
                    score=lambda model: float(training.logits(model, data)[:, 0].sum()))
    assert equal(weights(plain), weights(with_curve))
    assert outcome.curve[-1][2] == pytest.approx(float(training.logits(plain, data)[:, 0].sum()), rel=1e-5)


@pytest.mark.parametrize("method", ["full", "head"])
def test_a_budget_in_seconds_spends_them_on_training_whatever_scoring_costs(method):
    ledger = machine.Ledger(CPU)
    outcome = training.train(methods.apply(method, tiny_model()), examples(), Budget(seconds=0.5), lr=1e-3, batch_size=4,
                             ledger=ledger, points=3, score=lambda model: time.sleep(0.2) or 0.5)
    assert ledger.seconds["train"] == pytest.approx(0.5, abs=0.1)  # a step, on a busy machine
    assert [round(seconds, 1) for _, seconds, _ in outcome.curve] == pytest.approx([0.2, 0.3, 0.5], abs=0.101)
    assert outcome.steps >= 3  # many more, on a machine that does nothing else
    assert sum(outcome.parts.values()) < ledger.seconds["train"]


def test_in_seconds_the_rate_follows_the_share_that_is_spent():
    share = [0.0]
    trained = training.groups(methods.apply("head", tiny_model()).parameters())
    optimizer, schedule = training.make_optimizer(trained, 1.0, None, lambda: share[0])
    rates = []
    for share[0] in (0.0, 0.05, 0.1, 0.55, 1.0, 1.2):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.5, 1.0, 0.5, 0.0, 0.0])


def test_a_clock_that_is_set_meanwhile_moves_no_budget(monkeypatch):
    """The time of day jumps by an hour at every look."""
    jumps = itertools.cycle([3600.0, -3600.0, 0.0])
    monkeypatch.setattr(time, "time", lambda: 1e9 + next(jumps))
    ledger, start = machine.Ledger(CPU), time.monotonic()
    training.train(methods.apply("bitfit", tiny_model()), examples(), Budget(seconds=0.3), lr=1e-3, ledger=ledger)
    assert ledger.seconds["train"] == pytest.approx(0.3, abs=0.1)
    assert all(0 <= seconds <= time.monotonic() - start for seconds in ledger.seconds.values())


def test_two_budgets_on_one_ledger_each_have_their_seconds():
    ledger = machine.Ledger(CPU)
    for _ in range(2):
        training.train(methods.apply("bitfit", tiny_model()), examples(), Budget(seconds=0.2), lr=1e-3, ledger=ledger)
    assert ledger.seconds["train"] == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("method, passes", [("full", 3), ("bitfit", 2), ("head", 1)])
def test_operations_are_counted_by_pencil(method, passes):
    """A matrix product takes 2 operations a weight and token; so do the gradients of its input and of its weight."""
    model, data = methods.apply(method, tiny_model()), examples(count=8, length=12)
    layers = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and ".layer." in name)
    outcome = train(model, data, steps=2)
    tokens = data.lengths.sum() if method == "head" else outcome.tokens
    assert outcome.flops / tokens == pytest.approx(2 * passes * layers, rel=0.3)  # the rest: attention, pooler and head


def test_the_ledger_adds_up_each_stage_and_refuses_others():
    ledger = machine.Ledger()
    for _ in range(2):
        with ledger("train"):
            time.sleep(0.05)
    assert 0.1 <= ledger.seconds.pop("train") < 1
    assert ledger.seconds == {"load": 0.0, "tokenise": 0.0, "warmup": 0.0, "evaluate": 0.0, "save": 0.0}
    with pytest.raises(KeyError), ledger("tea"):
        pass


def test_the_ledger_counts_a_stage_that_ends_in_an_error():
    ledger = machine.Ledger()
    with pytest.raises(RuntimeError), ledger("load"):
        time.sleep(0.02)
        raise RuntimeError
    assert ledger.seconds["load"] >= 0.02


def test_the_outcome_counts_steps_and_tokens_and_keeps_the_losses():
    data = examples(count=20)
    ledger = machine.Ledger(CPU)
    outcome = train(methods.apply("full", tiny_model(**NO_DROPOUT)), data, steps=50, lr=1e-2, ledger=ledger)
    assert (outcome.status, outcome.steps, outcome.precision) == ("ok", 50, "fp32")
    assert outcome.tokens == 10 * data.lengths.sum()  # 50 steps of 4 are ten epochs of 20
    assert len(outcome.losses) == 10
    assert outcome.losses[-1] < 0.5 * outcome.losses[0]
    assert ledger.seconds["train"] > 0 < ledger.seconds["warmup"]


# Divergence

def test_a_loss_that_is_not_finite_ends_the_run_as_diverged():
    model = methods.apply("full", tiny_model())
    model.bert.embeddings.word_embeddings.weight.data[:] = torch.nan
    outcome = train(model, examples(), steps=40)
    assert outcome.status == "diverged"
    assert outcome.reason == "the loss was not finite within 4 steps of 40"
    assert outcome.steps == 4


def test_a_rate_that_is_too_high_diverges():
    outcome = train(methods.apply("full", tiny_model()), examples(), steps=40, lr=1e38)
    assert outcome.status == "diverged"


def test_the_losses_of_a_diverged_run_are_sound_json():
    """NaN is not JSON: other readers than Python's refuse the whole record."""
    outcome = train(methods.apply("full", tiny_model()), examples(), steps=40, lr=1e38)
    json.dumps(outcome.losses, allow_nan=False)


# The head alone

@pytest.mark.parametrize("classes", [True, False], ids=["classes", "values"])
@pytest.mark.parametrize("family, pooler", [("bert", "pretrained"), ("bert", "new"), ("roberta", "pretrained"),
                                            ("electra", "pretrained"), ("distilbert", "pretrained")])
def test_training_the_head_on_features_is_a_plain_loop_through_the_encoder(family, pooler, classes):
    """The encoder in evaluation mode, whatever its dropout; the head's own is off here, for the loops to be comparable."""
    off = {"seq_classif_dropout": 0.0} if family == "distilbert" else {"classifier_dropout": 0.0}
    model = tiny_model(family, num_labels=2 if classes else 1, **off, initializer_range=0.2)
    model.config.new_pooler = pooler == "new"
    methods.apply("head", model)
    before, by_hand = weights(model), copy.deepcopy(model).eval()
    data = examples(classes=classes)
    train(model, data, steps=20)
    plain_loop(by_hand, batches_of(data, 20), 1e-3, 20, regression=not classes)
    assert_same_training(model, by_hand, rtol=1e-4, atol=1e-5)
    head = {name for name, _ in encoders.head_parameters(model)}
    moved = {name for name, value in weights(model).items() if not torch.equal(value, before[name])}
    assert moved == head


def test_on_features_the_model_is_given_back_whole():
    model = methods.apply("head", tiny_model())
    base = model.bert
    with pytest.raises(RuntimeError), fast.on_features(model):
        assert model.bert is not base
        raise RuntimeError
    assert model.bert is base


def test_what_the_encoder_says_is_said_once_and_in_order(monkeypatch):
    model, data = tiny_model(), examples(count=70)
    features = fast.Features(model, data, CPU, "fp32")
    heard, plain = [], model.bert.forward
    monkeypatch.setattr(model.bert, "forward", lambda **batch: heard.append(len(batch["input_ids"])) or plain(**batch))
    both = features.batch(np.array([69, 3]))["inputs_embeds"]
    assert features.batch(np.array([3, 1, 69]))["inputs_embeds"][[2, 0]].tolist() == both.tolist()
    assert heard == [2, 1]
    assert features.tokens == data.lengths[[1, 3, 69]].sum()
    torch.testing.assert_close(both[:1], model.eval().bert(**data.batch([69])).last_hidden_state[:, :1])


# Outputs

@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_logits_are_in_the_original_order_whatever_the_batch_size(batch_size):
    model, data = tiny_model(**NO_DROPOUT), examples()
    alone = torch.cat([model(input_ids=torch.tensor([tokens])).logits for tokens in data.columns["input_ids"]])
    found = training.logits(model.train(), data, batch_size=batch_size)
    np.testing.assert_allclose(found, alone.detach().numpy(), rtol=1e-4, atol=1e-6)
    assert len(np.unique(found[:, 0].round(4))) > 15  # the examples do differ


def test_predictions_are_classes_or_values():
    data = examples()
    model = tiny_model(**NO_DROPOUT)
    assert training.predict(model, data).tolist() == training.logits(model, data).argmax(1).tolist()
    model = tiny_model(**NO_DROPOUT, num_labels=1)
    assert training.predict(model, data).tolist() == training.logits(model, data)[:, 0].tolist()


@pytest.mark.parametrize("device, able, expected", [
    ("cpu", {"avx512_bf16": True}, "bf16"), ("cpu", {"amx_bf16": True}, "bf16"), ("cpu", {"avx2": True}, "fp32"),
    ("mps", {}, "fp32")])
def test_bf16_is_for_devices_that_multiply_it_fast(monkeypatch, device, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert machine.best_precision(torch.device(device)) == expected


def test_bf16_keeps_weights_and_losses_in_fp32():
    model = methods.apply("full", tiny_model())
    outcome = train(model, examples(), precision="bf16")
    assert outcome.precision == "bf16"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert training.batch_loss(model, examples(), np.arange(4), CPU, "bf16").dtype == torch.float32


@pytest.fixture
def without_units(monkeypatch):
    monkeypatch.setattr(machine, "best_precision", lambda device: "fp32")


def test_without_units_products_of_bf16_are_fp32_s_rounded(without_units):
    generator = torch.Generator().manual_seed(0)
    one, two, three = (torch.randn(2, *shape, generator=generator).bfloat16() for shape in ((8, 24), (24, 4), (8, 4)))
    with bf16.products(CPU, "bf16"):
        made = [one[0] @ two[0], torch.addmm(three[0], one[0], two[0]), one @ two, torch.baddbmm(three, one, two),
                three.clone().baddbmm_(one, two), nn.functional.linear(one, two[0].T, three[0, 0])]
    single = [x.float() for x in (one, two, three)]
    exact = [single[0][0] @ single[1][0], single[2][0] + single[0][0] @ single[1][0], single[0] @ single[1],
             *[single[2] + single[0] @ single[1]] * 2, single[0] @ single[1][0] + single[2][0, 0]]
    for found, wanted in zip(made, exact, strict=True):
        assert found.dtype == torch.bfloat16 and torch.equal(found, wanted.bfloat16())


class Seen(TorchDispatchMode):
    """Notes in what numbers each product is made, below all modes that are entered later."""

    def __init__(self):
        super().__init__()
        self.kinds = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (*bf16.PRODUCTS, *bf16.IN_PLACE):
            self.kinds.append(args[-1].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ["full", "bitfit", "lora"])
def test_a_run_without_units_is_the_one_that_pytorch_s_own_products_give(method, without_units, monkeypatch):
    """To the order of sums; forward and backward, no product is made in bf16."""
    def trained(precision):
        model = methods.apply(method, tiny_model(**NO_DROPOUT))
        with Seen() as seen:
            train(model, examples(), precision=precision)
        with torch.no_grad():
            return training.logits(model, examples()), seen.kinds

    rounded, kinds = trained("bf16")
    assert set(kinds) == {torch.float32} and len(kinds) > 12
    single, _ = trained("fp32")
    monkeypatch.setattr(machine, "best_precision", lambda device: "bf16")
    own, kinds = trained("bf16")
    assert torch.bfloat16 in kinds
    assert np.abs(rounded - own).max() < 0.5 * np.abs(single - own).max()


@pytest.mark.parametrize("precision, units", [("fp32", "fp32"), ("bf16", "bf16")])
def test_elsewhere_products_are_pytorch_s_own(monkeypatch, precision, units):
    monkeypatch.setattr(machine, "best_precision", lambda device: units)
    assert not isinstance(bf16.products(CPU, precision), bf16._InSingle)
    assert not isinstance(bf16.products(torch.device("cuda"), "bf16"), bf16._InSingle)


def test_an_unknown_precision_is_an_error():
    with pytest.raises(ValueError, match="precision must be auto, fp32 or bf16, got 'fp16'"):
        train(methods.apply("head", tiny_model()), examples(), precision="fp16")


def test_memory_is_measured_where_it_can_be():
    """In a process of its own: here, memory that earlier tests gave back would be used again without a trace."""
    code = """if True:
        import json, numpy, torch
        from studykit.training import fast, machine
        with machine.peak_memory(torch.device("cpu")) as memory:
            block = numpy.ones(20 * 2 ** 20)  # 160 MB
        print(json.dumps(memory))"""
    memory = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    if memory["peak_mb"] is not None:
        assert memory["peak_mb"] > memory["idle_mb"] + 100
