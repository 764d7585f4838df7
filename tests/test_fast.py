import contextlib
import copy

import numpy as np
import pytest
import torch
from conftest import tiny_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from studykit import methods
from studykit.training import fast

DTYPES = [torch.bfloat16, torch.float32, torch.float64]


def rng(seed=0):
    return np.random.Generator(np.random.SFC64(seed))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
def test_the_mask_drops_its_share_and_scales_the_rest(p, dtype):
    values = fast.dropout(torch.ones(400, 1001, dtype=dtype), p, rng())
    assert set(values.unique().tolist()) == {0.0, torch.tensor(1 / (1 - p), dtype=dtype).item()}
    dropped = (values == 0).double()
    error = (p * (1 - p) / dropped.numel()) ** 0.5
    assert abs(dropped.mean() - p) < 4 * error
    assert dropped.mean(0).var() == pytest.approx(p * (1 - p) / 400, rel=0.2)  # draws of their own, along rows
    assert dropped.mean(1).var() == pytest.approx(p * (1 - p) / 1001, rel=0.35)  # and along columns


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_neighbours_are_dropped_independently(dtype):
    dropped = (fast.dropout(torch.ones(10 ** 6, dtype=dtype), 0.3, rng()) == 0).double() - 0.3
    for apart in (1, 2, 3, 4, 8):
        assert abs((dropped[apart:] * dropped[:-apart]).mean()) < 4 * 0.21 / 1000


def test_the_gradient_goes_where_the_values_went():
    x = torch.randn(30, 7, requires_grad=True)
    y = fast.dropout(x, 0.4, rng())
    y.sum().backward()
    torch.testing.assert_close(x.grad * x, y)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7)], ids=str)
def test_any_shape(shape):
    assert fast.dropout(torch.ones(shape), 0.5, rng()).shape == shape


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
@pytest.mark.parametrize("method", ["full", "bitfit", "adapter"])
def test_without_dropout_outputs_and_gradients_are_those_of_the_plain_model(family, method):
    plain = methods.apply(method, tiny_model(family, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                                             dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0))
    other = copy.deepcopy(plain)
    inputs = {"input_ids": torch.randint(5, 60, (4, 9)), "attention_mask": torch.ones(4, 9, dtype=torch.long)}
    inputs["attention_mask"][1, 5:] = 0
    expected = plain.train()(**inputs).logits
    expected.sum().backward()
    with fast.on_cpu(other, 0):
        found = other.train()(**inputs).logits
        found.sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for (name, one), (_, two) in zip(plain.named_parameters(), other.named_parameters(), strict=True):
        if one.grad is not None and "key.bias" not in name:
            torch.testing.assert_close(two.grad, one.grad, rtol=1e-4, atol=1e-6)


def test_the_model_draws_its_masks_there_by_seed_and_is_given_back_whole():
    model, inputs = tiny_model().train(), {"input_ids": torch.randint(5, 60, (4, 9))}
    before = model.config._attn_implementation
    outputs = []
    for seed in (0, 0, 1):
        with fast.on_cpu(model, seed), torch.random.fork_rng():
            torch.manual_seed(len(outputs))  # torch's own generator has no say
            outputs.append(model(**inputs).logits)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert model.config._attn_implementation == before
    assert not any({"forward", "kept"} & set(vars(module)) for module in model.modules())
    with fast.on_cpu(model.eval(), 0):
        evaluated = model(**inputs).logits
    torch.testing.assert_close(evaluated, model(**inputs).logits)


def test_attention_weights_are_dropped_too():
    """With every dropout but attention's at zero, two seeds still differ."""
    model = tiny_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout) and module is not model.bert.encoder.layer[0].attention.self.dropout:
            module.p = 0.0
    inputs, outputs = {"input_ids": torch.randint(5, 60, (4, 9))}, []
    for seed in (0, 1):
        with fast.on_cpu(model, seed):
            outputs.append(model(**inputs).logits)
    assert not torch.equal(*outputs)


@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("shape", [
    None, (1, 1, 1), (1, 1, "queries"), ("batch", 1, 1), ("batch", "heads", "queries")], ids=str)
@pytest.mark.parametrize("batch, heads", [(2, 3), (1, 3), (2, 1), (1, 1)])
def test_outputs_and_gradients_of_attention_with_dropout(batch, heads, shape, queries):
    """With a mask of any shape that fits, which all layers share: it stays as it is."""
    query, key, value = (torch.randn(batch, heads, length, 4, dtype=torch.float64, requires_grad=True)
                         for length in (queries, 5, 5))
    sizes = {"batch": batch, "heads": heads, "queries": queries}
    bias = None if shape is None else torch.randn(*(sizes.get(size, size) for size in shape), 5, dtype=torch.float64)
    before = copy.deepcopy(bias)
    mask = fast.kept((batch * heads, queries, 5), 0.4, rng())

    def attend(query, key, value):
        return fast._Attention.apply(query, key, value, bias, 0.3, mask, 0.4)

    scores = 0.3 * query @ key.mT if bias is None else 0.3 * query @ key.mT + bias
    expected = scores.softmax(-1) * mask.view(batch, heads, queries, 5) / 0.6 @ value
    torch.testing.assert_close(attend(query, key, value), expected.transpose(1, 2))
    assert torch.autograd.gradcheck(attend, (query, key, value))
    assert bias is None or torch.equal(bias, before)


def test_attention_weights_are_kept_once():
    """Beside them a byte each, not the dropped ones again."""
    model, kept = tiny_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5).train(), []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with fast.on_cpu(model, 0), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=torch.randint(5, 60, (4, 9)))
    of_attention = {tensor.data_ptr(): tensor.dtype for tensor in kept if tensor.numel() == 4 * 2 * 9 * 9}
    assert sorted(map(str, of_attention.values())) == 2 * ["torch.float32"] + 2 * ["torch.int8"]  # two layers


PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "dropout": 0.0, "attention_dropout": 0.0,
         "seq_classif_dropout": 0.0, "summary_last_dropout": 0.0, "classifier_dropout": 0.0}


def outputs_and_gradients(model):
    inputs = {"input_ids": torch.randint(5, 60, (4, 9), generator=torch.Generator().manual_seed(0)),
              "attention_mask": torch.ones(4, 9, dtype=torch.long)}
    inputs["attention_mask"][1, 5:] = 0
    model.zero_grad()
    outputs = model(**inputs).logits
    (outputs ** 2).sum().backward()
    return outputs.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attention", ["eager", "sdpa", "studykit"])
@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
@pytest.mark.parametrize("method, options", [
    ("full", {}), ("bitfit", {}), ("head", {}), ("last_k", {}), ("adapter", {"placement": "houlsby"}),
    ("adapter", {"placement": "pfeiffer"}), ("adapter", {"placement": "parallel"})], ids=str)
def test_the_first_token_alone_gives_the_same_outputs_and_gradients(method, options, family, attention):
    model = methods.apply(method, tiny_model(family, **PLAIN), **options).double().train()
    for p in model.parameters():  # adapters begin as nothing: here they must do something
        with torch.no_grad():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    model.set_attn_implementation(attention if family != "distilbert" else "eager")
    outputs, gradients = outputs_and_gradients(model)
    with fast.first_token(model):
        found, seen = outputs_and_gradients(model)
    torch.testing.assert_close(found, outputs)
    assert seen.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(seen[name], gradient, msg=name)
    assert not any("forward" in vars(module) or module._forward_pre_hooks for module in model.modules())


def test_the_first_token_alone_takes_less_work():
    """Of two layers' products, those of the second that are left: keys, values, and a query's share."""
    model, width, inner, length = tiny_model(attn_implementation="eager"), 32, 64, 9
    counted = []
    for context in (contextlib.nullcontext(), fast.first_token(model)):
        with context, FlopCounterMode(display=False) as counter, torch.no_grad():
            model(input_ids=torch.randint(5, 60, (1, length)))
        counted.append(counter.get_total_flops())
    left_out = 2 * (length - 1) * (2 * width * width + 2 * width * inner + 2 * length * width)
    assert counted[0] - counted[1] == left_out


def test_a_model_whose_head_reads_otherwise_is_left_alone():
    model = tiny_model("distilbert")
    with fast.first_token(model):
        assert not any("forward" in vars(module) for module in model.modules())
