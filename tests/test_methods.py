import copy
import itertools

import pytest
import safetensors.torch
import torch
import transformers
from conftest import save_encoder, tiny_config, tiny_model
from torch import nn

from studykit import encoders, methods, training

FAMILIES = ("bert", "roberta", "electra", "distilbert")
LAYERS, WIDTH, INNER = 2, 32, 64


@pytest.fixture(scope="module")
def bert_base():
    """BERT-base without its values: only shapes are counted."""
    with torch.device("meta"):
        return transformers.BertForSequenceClassification(transformers.BertConfig())


def applied_to_copy(model, method, **options):
    return methods.apply(method, copy.deepcopy(model), **options)


def test_bitfit_trains_104_450_parameters_of_bert_base(bert_base):
    """Ben Zaken et al. 2022 and the arithmetic: 12 layers of 11 × 768 biases, the embeddings' and the pooler's, the head."""
    found = methods.counts(applied_to_copy(bert_base, "bitfit"))
    assert found["trained"] == 104_450
    assert found["head"] == 2 * 768 + 2 == 1_538
    assert found["encoder"] == 12 * (3 + 1 + 1 + 4 + 1 + 1) * 768 + 768 + 768 == 102_912


def test_full_trains_all_of_bert_base(bert_base):
    found = methods.counts(applied_to_copy(bert_base, "full"))
    assert found["total"] == found["trained"] == 109_483_778  # as transformers counts it


@pytest.mark.parametrize("options, expected", [
    ({"placement": "houlsby", "bottleneck": 64}, 2_379_264), ({"placement": "pfeiffer", "bottleneck": 48}, 894_528)])
def test_adapters_add_the_published_numbers_to_bert_base(bert_base, options, expected):
    with torch.device("meta"):
        found = methods.counts(applied_to_copy_on_meta(bert_base, layernorms=False, **options))
    assert found["encoder"] == expected
    assert found["total"] == 109_483_778 + expected


def applied_to_copy_on_meta(model, **options):
    """Adapters on a model without values: what is drawn comes from a generator, which the meta device has not."""
    from studykit import adapters

    model = copy.deepcopy(model).requires_grad_(False)
    normal, nn.init.normal_ = nn.init.normal_, lambda tensor, **_: tensor
    try:
        methods.adapter(model, **options)
    finally:
        nn.init.normal_ = normal
    assert adapters.PLACEMENTS
    return model
