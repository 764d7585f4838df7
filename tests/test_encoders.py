import hashlib
import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers
from conftest import save_encoder, tiny_config, tiny_model

from studykit import methods
from studykit.models import encoders

FAMILIES = ("bert", "roberta", "electra", "distilbert")
HEADS = {"bert": ["classifier.weight", "classifier.bias"],
         "roberta": [f"classifier.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("weight", "bias")],
         "electra": [f"classifier.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("weight", "bias")],
         "distilbert": [f"{layer}.{kind}" for layer in ("pre_classifier", "classifier") for kind in ("weight", "bias")]}
POOLER = ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]


def head_of(model):
    return {name: parameter.detach().clone() for name, parameter in encoders.head_parameters(model)}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", methods.METHODS)
@pytest.mark.parametrize("pooler", ("pretrained", "new"))
def test_a_seed_gives_one_head_whatever_was_drawn_before_and_whatever_the_method(tiny_encoder, method, pooler):
    torch.manual_seed(1)
    expected = head_of(encoders.load(tiny_encoder, seed=5, pooler=pooler))
    torch.manual_seed(2)
    found = head_of(methods.apply(method, encoders.load(tiny_encoder, seed=5, pooler=pooler), seed=5))
    assert equal(found, expected)


def test_another_seed_gives_another_head(tiny_encoder):
    one, other = (head_of(encoders.load(tiny_encoder, seed=seed))["classifier.weight"] for seed in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_is_what_the_task_adds(family):
    assert [name for name, _ in encoders.head_parameters(tiny_model(family))] == HEADS[family]


def test_a_new_pooler_is_part_of_the_head(tiny_encoder):
    found = [name for name, _ in encoders.head_parameters(encoders.load(tiny_encoder, pooler="new"))]
    assert found == [*POOLER, *HEADS["bert"]]


@pytest.mark.parametrize("family", ("roberta", "electra", "distilbert"))
def test_a_family_without_a_pooler_has_none_to_draw(family):
    model = tiny_model(family)
    model.config.new_pooler = True
    assert [name for name, _ in encoders.head_parameters(model)] == HEADS[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_is_drawn_in_each_family(family):
    model = tiny_model(family, seed=3)
    drawn = head_of(encoders.draw_head(model, seed=3))
    assert equal(head_of(encoders.draw_head(model, seed=3)), drawn)
    other = head_of(encoders.draw_head(model, seed=4))
    for name, value in drawn.items():
        assert (value == 0).all() if name.endswith("bias") else not torch.equal(value, other[name])


@pytest.fixture(scope="module")
def stored(tiny_encoder):
    return safetensors.torch.load_file(Path(tiny_encoder) / "model.safetensors")


@pytest.mark.parametrize("pooler, kept", [("pretrained", True), ("new", False)])
def test_the_pooler_is_the_checkpoint_s_or_drawn_anew(tiny_encoder, stored, pooler, kept):
    weight = encoders.load(tiny_encoder, pooler=pooler).bert.pooler.dense.weight
    assert torch.equal(weight, stored["pooler.dense.weight"]) == kept


@pytest.mark.parametrize("pooler", ("pretrained", "new"))
def test_the_encoder_is_the_checkpoint_s(tiny_encoder, stored, pooler):
    own = encoders.load(tiny_encoder, seed=9, pooler=pooler).bert.state_dict()
    rest = [name for name in stored if not name.startswith("pooler.")]
    assert len(rest) == len(stored) - 2
    assert all(torch.equal(own[name], stored[name]) for name in rest)


def test_the_output_starts_at_output_bias(tiny_encoder):
    model = encoders.load(tiny_encoder, num_labels=1, pooler="new", output_bias=2.5)
    assert model.classifier.bias.tolist() == [2.5]
    assert (model.bert.pooler.dense.bias == 0).all()


@pytest.mark.parametrize("family, output", [("roberta", "classifier.out_proj"), ("distilbert", "classifier")])
def test_output_bias_reaches_only_the_last_layer(family, output):
    model = encoders.draw_head(tiny_model(family), seed=0, output_bias=2.5)
    started = [name for name, value in head_of(model).items() if (value == 2.5).any()]
    assert started == [f"{output}.bias"]


def test_a_checkpoint_without_a_pooler_has_no_pretrained_one(tmp_path):
    """transformers would fill it from the global generator: random, frozen under most methods, and another each time."""
    folder = save_encoder(tmp_path / "encoder")
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}
    safetensors.torch.save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    assert encoders.load(folder, pooler="new")
    with pytest.raises(ValueError, match="pooler"):
        encoders.load(folder, pooler="pretrained")


def test_an_unknown_pooler_is_an_error(tiny_encoder):
    with pytest.raises(ValueError, match="pooler must be one of pretrained, new, got 'fresh'"):
        encoders.load(tiny_encoder, pooler="fresh")


def test_an_absent_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no encoder at .*nowhere: give a hub id, or a folder"):
        encoders.load(tmp_path / "nowhere")


def test_a_hub_id_has_no_file_here():
    assert encoders.weights_file("someone/an-encoder") is None


@pytest.fixture
def copied(tiny_encoder, tmp_path):
    return Path(shutil.copytree(tiny_encoder, tmp_path / "copied"))


def test_a_folder_without_configuration_is_an_error(copied):
    (copied / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        encoders.load(copied)


def test_a_folder_without_weights_is_an_error(copied):
    (copied / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        encoders.load(copied)


def test_pickled_weights_are_not_opened(copied):
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights only"):
        encoders.load(copied)


def test_a_tokenizer_that_cannot_pad_is_an_error(copied):
    file = copied / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": None}))
    with pytest.raises(ValueError, match="no padding token"):
        encoders.tokenizer(copied)


def test_the_digest_is_the_sha256_of_the_weights_file(tiny_encoder):
    content = (Path(tiny_encoder) / "model.safetensors").read_bytes()
    assert encoders.digest(tiny_encoder) == hashlib.sha256(content).hexdigest()[:16]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_may_be_as_long_as_the_encoder_has_positions(family, tiny_encoder):
    """RoBERTa uses up two of them: its own forward pass says where the end is."""
    model, tokenizer = tiny_model(family), encoders.tokenizer(tiny_encoder)
    longest = 62 if family == "roberta" else 64
    model(input_ids=torch.full((1, longest), 7))
    encoders.check_fit(tiny_encoder, model, tokenizer, longest)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 7))
    with pytest.raises(ValueError, match=f"max_length must be at most {longest}"):
        encoders.check_fit(tiny_encoder, model, tokenizer, longest + 1)


@pytest.mark.parametrize("layers", (1, 3))
@pytest.mark.parametrize("family", FAMILIES)
def test_there_are_as_many_blocks_as_layers(family, layers):
    count = {"n_layers": layers} if family == "distilbert" else {"num_hidden_layers": layers}
    found = encoders.blocks(tiny_model(family, **count))
    assert len(found) == layers
    assert len({id(linear) for block in found for linear in block.linear.values()}) == layers * len(encoders.ROLES)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_s_parts_have_the_shapes_of_their_roles(family):
    for block in encoders.blocks(tiny_model(family)):
        shapes = {role: tuple(linear.weight.shape) for role, linear in block.linear.items()}
        square = dict.fromkeys(("query", "key", "value", "attention_output"), (32, 32))
        assert shapes == {**square, "intermediate": (64, 32), "output": (32, 64)}


def test_another_architecture_is_an_error_that_names_the_known_ones():
    config = transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=60, n_positions=64)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(ValueError, match=r"GPT2ForSequenceClassification has no layers.*ELECTRA and DistilBERT"):
        encoders.blocks(model)


def test_from_config_is_decided_by_its_seed_and_moves_no_other_draw():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one = encoders.from_config(tiny_config(), seed=4).state_dict()
    assert torch.equal(torch.rand(3), expected)
    assert equal(one, encoders.from_config(tiny_config(), seed=4).state_dict())
