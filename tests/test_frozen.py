"""Frozen weights that are cast once, and query, key and value as one product."""

import copy
import itertools

import pytest
import torch
from conftest import tiny_model
from test_families import KINDS, encodings, folder
from test_rows import some
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from studykit import methods, training
from studykit.models import encoders
from studykit.training import frozen, lighter, machine
from studykit.training.budgets import Budget

CPU = torch.device("cpu")
JOINED = [kind for kind in KINDS if kind not in ("deberta", "modernbert", "gpt2")]  # those have one product by themselves


class Operations(TorchDispatchMode):
    """Counts operations by name, and casts of weights: of what has a weight's shape, to bf16."""

    def __init__(self, shapes=()):
        super().__init__()
        self.shapes, self.names, self.casts = shapes, [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.__name__.split(".")[0])
        if self.names[-1] == "_to_copy" and (kwargs or {}).get("dtype") == torch.bfloat16:
            self.casts += tuple(args[0].shape) in self.shapes
        return function(*args, **(kwargs or {}))


def train(model, data, steps=6, precision="bf16", **options):
    options = {"lr": 1e-3, "batch_size": 4, "device": CPU, **options}
    return training.train(model, data, Budget(steps=steps), precision=precision, **options)


def values(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def batch(model, data, precision):
    with machine.autocast(CPU, precision):
        return model(**data.batch(range(6))).logits


@pytest.mark.parametrize("method", ["bitfit", "adapter", "lora", "layernorm"])
def test_cast_once_is_the_same_to_the_bit(method, monkeypatch):
    model, data = methods.apply(method, tiny_model()), some()
    plain = copy.deepcopy(model)
    monkeypatch.setattr(frozen, "triples", lambda _: [])
    outcome = train(model, data)
    assert "cast" in outcome.shortcuts and "joined" not in outcome.shortcuts
    monkeypatch.setattr(lighter, "_frozen", lambda *_: [])
    assert train(plain, data).losses == outcome.losses
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("kind, method", [*itertools.product(JOINED, ["bitfit", "lora"])])
def test_query_key_and_value_as_one_give_the_same_outputs_and_gradients(kind, method):
    at = folder(kind)
    if kind in ("llama", "qwen3") and method == "bitfit":
        pytest.skip("it has no biases")
    model, data = methods.apply(method, encoders.load(at, pooler="new")).eval(), encodings(at)
    before = dict(model.named_parameters())
    found = []
    for joined in (False, True):
        model.zero_grad()
        with frozen.Frozen(model, torch.float32, joined) as light:
            assert len(light.joints) == joined * len(encoders.blocks(model))
            outputs = batch(model, data, "fp32")
            (outputs ** 2).sum().backward()
        found.append((outputs, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (outputs, gradients), (others, theirs) = found
    torch.testing.assert_close(others, outputs, rtol=1e-5, atol=1e-6)
    assert theirs.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(theirs[name], gradient, rtol=1e-3, atol=1e-5, msg=name)
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    assert not any("forward" in vars(module) for module in model.modules() if isinstance(module, nn.Linear))


@pytest.mark.parametrize("method", ["bitfit", "adapter", "lora"])
def test_a_run_in_bf16_ends_where_the_plain_one_does_to_its_rounding(method, monkeypatch):
    model, data = methods.apply(method, tiny_model(initializer_range=0.1)), some()
    plain, before = copy.deepcopy(model), values(model)
    outcome = train(model, data)
    assert {"cast", "joined"} <= set(outcome.shortcuts)
    monkeypatch.setattr(lighter, "_frozen", lambda *_: [])
    without = train(plain, data)
    assert outcome.losses == pytest.approx(without.losses, abs=0.01)
    far = [name for name, value in values(model).items() if not torch.equal(value, before[name])]
    assert far == [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_no_frozen_weight_is_cast_in_a_step():
    """Of two layers: without, each weight of each layer in every step; within, none. What goes into three products is cast
    once."""
    model, data = methods.apply("bitfit", tiny_model()).train(), some()
    shapes = {tuple(linear.weight.shape) for block in encoders.blocks(model) for linear in block.linear.values()}
    counted = []
    for context in (frozen.Frozen(model, torch.float32, False), frozen.Frozen(model, torch.bfloat16, True)):
        with context, Operations(shapes) as seen:
            batch(model, data, "bf16").sum().backward()
        counted.append((seen.casts, sum(name in ("mm", "addmm") for name in seen.names)))
    (casts, products), (none, fewer) = counted
    assert casts == 2 * 6 + 1 and none == 0  # and the pooler's
    assert products - fewer == 2 * (2 + 2)  # forward and backward, in both layers


def test_weights_stay_as_they_are_and_the_model_is_given_back_whole():
    model = methods.apply("bitfit", tiny_model())
    before, parameters = values(model), list(model.parameters())
    light = frozen.Frozen(model, torch.bfloat16, True)
    for _ in range(2):  # entered again, nothing is cast anew
        with pytest.raises(RuntimeError), light:
            inner = model.bert.encoder.layer[0].attention.self.query
            assert inner.weight.dtype == torch.bfloat16 and inner.bias.dtype == torch.float32  # it trains
            raise RuntimeError
        assert all(one is two for one, two in zip(model.parameters(), parameters, strict=True))
        assert all(torch.equal(value, before[name]) for name, value in values(model).items())
    assert inner.weight.dtype == torch.float32 and "forward" not in vars(inner)


def test_in_fp32_or_without_frozen_weights_there_is_nothing_to_cast():
    assert not {"cast", "joined"} & set(train(methods.apply("bitfit", tiny_model()), some(), 1, "fp32").shortcuts)
    assert not {"cast", "joined"} & set(train(methods.apply("full", tiny_model()), some(), 1).shortcuts)


def test_layers_that_are_asked_for_something_else_multiply_by_themselves():
    """As the last layer is where only the first token is read: its keys and values are of all tokens."""
    linears = [nn.Linear(4, 6) for _ in range(3)]
    joint = frozen.Joint(linears, torch.cat([linear.weight for linear in linears]).detach())
    one, other = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    given = [one, other, other, one, one, one]
    for i, x in enumerate(given):
        torch.testing.assert_close(joint.forward(i % 3, x), linears[i % 3](x))
    assert joint.given is None and joint.parts == ()


def test_a_curve_and_stored_features_see_the_weights_themselves():
    """Scoring is in fp32: it would fail on weights in bf16."""
    for method in ("bitfit", "head"):
        model, data = methods.apply(method, tiny_model()), some()
        outcome = train(model, data, points=2, score=lambda model, data=data: float(training.logits(model, data)[0, 0]))
        assert "cast" in outcome.shortcuts and ("features" in outcome.shortcuts) == (method == "head")
        assert outcome.curve[-1][2] == pytest.approx(float(training.logits(model, data)[0, 0]), rel=1e-5)
