import hashlib
import json
import shutil
from pathlib import Path

import datasets
import pytest
import safetensors.torch
import torch
import transformers
from conftest import save_encoder, tiny_config, tiny_model

from studykit import methods, tasks
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


def test_a_checkpoint_in_parts_is_read_and_digested_whole(tiny_encoder, tmp_path):
    transformers.AutoModel.from_pretrained(tiny_encoder).save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    parts = sorted((tmp_path / "parts").glob("*.safetensors"))
    assert len(parts) > 1
    assert equal(encoders.load(tmp_path / "parts").state_dict(), encoders.load(tiny_encoder).state_dict())
    content = b"".join(part.read_bytes() for part in parts)
    assert encoders.digest(tmp_path / "parts") == hashlib.sha256(content).hexdigest()[:16]
    parts[1].unlink()
    with pytest.raises(FileNotFoundError, match="lacks a part of its weights"):
        encoders.digest(tmp_path / "parts")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_weights_are_loaded_in_fp32_whatever_the_file_and_its_configuration_say(tiny_encoder, copied, dtype):
    model = transformers.AutoModel.from_pretrained(tiny_encoder).to(dtype)
    model.save_pretrained(copied)
    assert json.loads((copied / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    for pretrained in (True, False):
        assert {p.dtype for p in encoders.load(copied, pretrained=pretrained).parameters()} == {torch.float32}
    expected = model.encoder.layer[0].output.dense.weight.float()
    assert torch.equal(encoders.load(copied).bert.encoder.layer[0].output.dense.weight, expected)


def test_a_folder_that_holds_an_adapter_model_is_refused(tiny_encoder, copied):
    """Its adapters would be dropped without a word."""
    methods.apply("adapter", encoders.load(tiny_encoder)).save_pretrained(copied)
    with pytest.raises(ValueError, match=r"hold bert\.encoder\.layer\.0.*down.*, which the encoder of its config"):
        encoders.load(copied)


def test_more_layers_in_the_file_than_in_the_configuration_are_refused(copied):
    save_encoder(copied, tiny_config(num_hidden_layers=3))
    settings = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**settings, "num_hidden_layers": 2}))
    with pytest.raises(ValueError, match=r"hold encoder\.layer\.2|hold bert\.encoder\.layer\.2"):
        encoders.load(copied)


def test_the_head_of_another_task_in_the_file_is_no_matter(copied):
    """A masked language model's, and a pooler that the family's classifier does not use."""
    transformers.BertForMaskedLM(tiny_config()).save_pretrained(copied)
    assert encoders.load(copied, pooler="new")
    config = tiny_config("mpnet")
    transformers.MPNetModel(config).save_pretrained(copied)
    assert encoders.load(copied, pooler="new")


def test_a_peft_adapter_s_folder_is_refused(copied):
    (copied / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="an adapter that peft wrote"):
        encoders.load(copied)


def test_a_configuration_that_asks_for_tuples_gives_outputs_all_the_same(copied):
    settings = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**settings, "return_dict": False}))
    assert encoders.load(copied)(input_ids=torch.tensor([[2, 5, 3]])).logits.shape == (1, 2)


def test_a_head_is_drawn_where_the_configuration_names_no_deviation():
    model = tiny_model("xlm", emb_dim=32, n_layers=1, n_heads=2)
    assert not hasattr(model.config, "initializer_range")
    weight = encoders.draw_head(model, 0).sequence_summary.summary.weight
    assert 0.01 < float(weight.detach().std()) < 0.03


@pytest.mark.parametrize("segments, kept", [(1, False), (2, True)])
def test_segments_that_the_encoder_has_no_embedding_for_are_left_out(tmp_path, segments, kept):
    save_encoder(tmp_path, tiny_config(type_vocab_size=segments))
    pair = encoders.tokenizer(tmp_path)("the cat", "a dog")
    assert ("token_type_ids" in pair) == kept
    encoders.load(tmp_path)(**{name: torch.tensor([values]) for name, values in pair.items()})


@pytest.mark.parametrize("texts, least", [(1, 3), (2, 5)])
def test_max_length_leaves_room_for_each_text(tiny_encoder, texts, least):
    model, tokenizer = encoders.load(tiny_encoder), encoders.tokenizer(tiny_encoder)
    encoders.check_fit(tiny_encoder, model, tokenizer, least, texts)
    with pytest.raises(ValueError, match=f"max_length must be at least {least}, got {least - 1}"):
        encoders.check_fit(tiny_encoder, model, tokenizer, least - 1, texts)


def test_an_encoder_may_have_no_limit_of_positions(tiny_encoder):
    config = transformers.XLNetConfig(vocab_size=60, d_model=32, n_layer=1, n_head=2, d_inner=64)
    encoders.check_fit("xlnet", encoders.from_config(config), encoders.tokenizer(tiny_encoder), 5000)


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
    model = tiny_model("squeezebert", embedding_size=32, q_groups=1, k_groups=1, v_groups=1)
    with pytest.raises(ValueError, match=r"SqueezeBert\w+ has no layers.* full and head .*BERT, RoBERTa,.*Qwen"):
        encoders.blocks(model)


def test_from_config_is_decided_by_its_seed_and_moves_no_other_draw():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one = encoders.from_config(tiny_config(), seed=4).state_dict()
    assert torch.equal(torch.rand(3), expected)
    assert equal(one, encoders.from_config(tiny_config(), seed=4).state_dict())


# Files that hold more, or less, than the encoder

@pytest.mark.parametrize("whole", [True, False], ids=["with its head", "the base alone"])
@pytest.mark.parametrize("method", ["prompt", "prefix", "lora", "ia3", "adapter"])
def test_a_folder_that_holds_what_a_method_inserted_is_refused(method, whole, tiny_encoder, copied):
    """Or virtual tokens would be dropped without a word."""
    model = methods.apply(method, encoders.load(tiny_encoder))
    (model if whole else model.base_model).save_pretrained(copied)
    with pytest.raises(ValueError, match=r"the weights of .* hold .*, which the encoder of its config\.json has not"):
        encoders.load(copied)


@pytest.mark.parametrize("name", ["attn.bias", "attn.attention.bias", "attn.attention.masked_bias"])
def test_buffers_that_old_files_hold_are_no_matter(name, tiny_encoder, copied):
    stored = safetensors.torch.load_file(copied / "model.safetensors")
    stored[f"encoder.layer.0.{name}"] = torch.ones(1)
    safetensors.torch.save_file(stored, copied / "model.safetensors", metadata={"format": "pt"})
    assert equal(encoders.load(copied).state_dict(), encoders.load(tiny_encoder).state_dict())


def test_half_a_model_is_refused_with_what_it_lacks(tmp_path):
    config = transformers.T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, vocab_size=60)
    save_encoder(tmp_path)
    transformers.T5EncoderModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lack transformer\.decoder\..* random: give the whole model, with its decoder$"):
        encoders.load(tmp_path)


def test_an_error_of_others_is_cut_at_its_first_sentence(copied):
    (copied / "config.json").write_text(json.dumps({"model_type": "none such"}))
    with pytest.raises(ValueError, match=r"the config\.json of .* cannot be read \(.*\): fetch its folder anew") as caught:
        encoders.load(copied)
    assert ". " not in str(caught.value)


def test_a_feed_forward_in_pieces_is_made_in_one(copied):
    settings = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**settings, "chunk_size_feed_forward": 4}))
    assert encoders.load(copied)(input_ids=torch.tensor([[2, 5, 3]])).logits.shape == (1, 2)


def test_a_tokenizer_that_leaves_the_mask_out_gives_it_all_the_same(copied):
    file = copied / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_input_names": ["input_ids"]}))
    tokenizer = encoders.tokenizer(copied)
    assert tokenizer("the cat")["attention_mask"] == [1] * 4
    task = tasks.Task(name="one", columns=("text",), labels=("no", "yes"), metrics=("accuracy",))
    rows = datasets.Dataset.from_dict({"text": ["the cat", "a dog near the house"], "label": [0, 1]})
    tokenizer.model_input_names = ["input_ids"]
    assert tasks.encode(task, rows, tokenizer).batch([0, 1])["attention_mask"].tolist() == [[1] * 4 + [0] * 3, [1] * 7]
