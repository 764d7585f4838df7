import copy

import pytest
import torch
from conftest import tiny_model
from torch import nn

from studykit.methods import __main__ as by_family
from studykit.methods import adapters
from studykit.models import encoders, families

KINDS = [kind for row in families.FAMILIES for kind in row.kinds]
TOKENS = torch.randint(5, 60, (6, 10), generator=torch.Generator().manual_seed(0))
MASK = torch.arange(10) < torch.tensor([[10], [10], [7], [5], [3], [2]])


def outputs(model):
    with torch.no_grad():
        return model(input_ids=TOKENS * MASK, attention_mask=MASK.long()).logits


def disturbed(inserted):
    """The adapters with up-projections that are no longer zero."""
    generator = torch.Generator().manual_seed(1)
    for adapter in inserted:
        nn.init.normal_(adapter.up.weight, generator=generator)
    return inserted


@pytest.fixture(params=KINDS)
def model(request):
    return encoders.from_config(by_family.config(request.param)).eval()


@pytest.fixture(params=adapters.PLACEMENTS)
def placement(request):
    return request.param


@pytest.fixture(params=[(kind, placement) for kind in KINDS for placement in adapters.PLACEMENTS
                        if (kind, placement) != ("albert", "parallel")], ids="-".join)
def pair(request):
    """A family's tiny model and a placement that it has room for."""
    kind, placement = request.param
    return encoders.from_config(by_family.config(kind)).eval(), placement


def test_a_family_without_a_feed_forward_of_its_own_module_has_no_place_beside_it():
    with pytest.raises(ValueError, match="no adapter can stand beside it: use houlsby or pfeiffer in place of parallel"):
        adapters.insert(encoders.from_config(by_family.config("albert")), "parallel")


def test_inserted_adapters_change_nothing(pair):
    model, placement = pair
    expected = outputs(model)
    inserted = adapters.insert(model, placement, bottleneck=8)
    assert torch.equal(outputs(model), expected)
    disturbed(inserted)
    assert not torch.allclose(outputs(model), expected)


def test_every_adapter_is_used(pair):
    model, placement = pair
    expected = outputs(model)
    for adapter in adapters.insert(model, placement, bottleneck=8):
        disturbed([adapter])
        assert not torch.allclose(outputs(model), expected)
        nn.init.zeros_(adapter.up.weight)
    assert torch.equal(outputs(model), expected)


def test_adapters_get_a_gradient(pair):
    model, placement = pair
    inserted = disturbed(adapters.insert(model, placement, bottleneck=8))
    model(input_ids=TOKENS).logits.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for adapter in inserted for parameter in adapter.parameters())


def test_inserting_moves_no_other_draw(placement):
    model = tiny_model()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    adapters.insert(model, placement)
    assert torch.equal(torch.rand(3), expected)


def drawn(seed):
    return torch.stack([adapter.down.weight for adapter in adapters.insert(tiny_model(), bottleneck=8, seed=seed)])


def test_the_seed_decides_the_weights():
    torch.manual_seed(1)
    first = drawn(5)
    torch.manual_seed(2)
    assert torch.equal(drawn(5), first)
    assert not torch.equal(drawn(6), first)
    assert len(first.unique(dim=0)) == 4  # each adapter has its own


def test_the_weights_are_those_of_no_head():
    """The same seed draws head and adapters, and they must not be the same numbers."""
    head = encoders.draw_head(tiny_model(initializer_range=1.0), seed=5).classifier.weight.flatten()
    down = drawn(5)[0].flatten() * 32 ** 0.5
    assert not torch.isin(head, down).any()


def test_each_adapter_has_two_projections_and_their_biases(pair):
    model, where = pair
    inserted = adapters.insert(model, where, bottleneck=8)
    expected = len(encoders.blocks(model)) * (2 if where == "houlsby" else 1)
    assert len(inserted) == expected
    total = sum(parameter.numel() for adapter in inserted for parameter in adapter.parameters())
    assert total == expected * (2 * 32 * 8 + 8 + 32)


def test_an_adapter_computes_what_it_says():
    adapter, = disturbed([adapters.Adapter(4, 3)])
    x = torch.randn(2, 5, 4)
    expected = nn.functional.gelu(x @ adapter.down.weight.T + adapter.down.bias) @ adapter.up.weight.T + adapter.up.bias
    torch.testing.assert_close(adapter(x), x + expected)
    adapter.residual = False
    torch.testing.assert_close(adapter(x), expected)


def by_hand(layer, x, after_attention=None, after_feedforward=None, beside=None):
    """A BERT layer for unpadded ``x``, in evaluation mode, with functions where adapters go."""
    same, nothing = lambda value: value, lambda value: 0
    attended = (after_attention or same)(layer.attention.output.dense(layer.attention.self(x)[0]))
    attended = layer.attention.output.LayerNorm(attended + x)
    fed = (after_feedforward or same)(layer.output.dense(nn.functional.gelu(layer.intermediate.dense(attended))))
    return layer.output.LayerNorm(fed + attended + (beside or nothing)(attended))


def change(adapter):
    """The adapter's change, without the ``x +``."""
    return lambda x: adapter.up(nn.functional.gelu(adapter.down(x)))


@pytest.mark.parametrize("where", [None, *adapters.PLACEMENTS])
def test_adapters_of_a_bert_layer_stand_where_they_should(where):
    """In parallel the adapter reads what the feed-forward reads; one after the other it reads its output."""
    model = tiny_model(initializer_range=0.2, num_hidden_layers=1)
    layer = model.bert.encoder.layer[0]
    plain = copy.deepcopy(layer)
    inserted = disturbed(adapters.insert(model, where, bottleneck=8)) if where else []
    functions = {None: {},
                 "houlsby": lambda one, other: {"after_attention": one, "after_feedforward": other},
                 "pfeiffer": lambda one: {"after_feedforward": one},
                 "parallel": lambda one: {"beside": change(one)}}[where]
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        found = layer(x)
        expected = by_hand(plain, x, **(functions(*inserted) if where else {}))
    torch.testing.assert_close(found[0] if isinstance(found, tuple) else found, expected)


def test_in_parallel_distilbert_s_adapter_reads_the_feedforward_s_input():
    model = tiny_model("distilbert", initializer_range=0.2)
    ffn = model.distilbert.transformer.layer[0].ffn
    adapter = disturbed(adapters.insert(model, "parallel", bottleneck=8))[0]
    x = torch.randn(2, 5, 32)
    beside = model.distilbert.transformer.layer[0].ffn
    torch.testing.assert_close(beside(x), ffn(x) + change(adapter)(x))


def test_an_unknown_placement_is_an_error():
    with pytest.raises(ValueError, match="placement must be one of houlsby, pfeiffer, parallel, got 'prefix'"):
        adapters.insert(tiny_model(), "prefix")


@pytest.mark.parametrize("bottleneck", [0, -1, 2.5, "64"])
def test_a_bottleneck_that_is_no_width_is_an_error(bottleneck):
    with pytest.raises(ValueError, match=f"bottleneck must be a whole number of units, at least 1, got {bottleneck!r}"):
        adapters.insert(tiny_model(), bottleneck=bottleneck)
