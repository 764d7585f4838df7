"""Every method with a tiny model of every family: what trains, what stays, what a file holds; and the page that says so."""

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
import safetensors
import torch
import transformers
from conftest import save_encoder, tiny_config

from studykit import methods, training
from studykit.methods import __main__ as by_family
from studykit.methods import plain
from studykit.models import encoders, families
from studykit.training import fleet

KINDS = by_family.kinds()
BIASED = [kind for kind in KINDS if kind not in ("modernbert", "llama", "mistral", "qwen3")]
STRANGERS = {"squeezebert": {"embedding_size": 32}, "convbert": {"embedding_size": 32}, "xlnet": {}, "fnet": {}, "ibert": {},
             "rembert": {"input_embedding_size": 16, "output_embedding_size": 16}, "nystromformer": {}}  # without a row


def tiny(kind):
    if kind == "xlnet":
        config = transformers.XLNetConfig(d_model=32, n_layer=2, n_head=2, d_inner=64, vocab_size=60)
        return encoders.from_config(config).eval()
    return encoders.from_config(by_family.config(kind, **STRANGERS.get(kind, {}))).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_train_is_bit_identical_after_a_step(kind):
    for method in methods.METHODS:
        try:
            model = methods.apply(method, tiny(kind))
        except ValueError as error:
            assert f"{error}".count(". ") == 0, "one sentence"
            continue
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        lower = method in ("bitfit", "lora", "prefix", "prompt") and kind != "deberta"  # which cannot be trained in bf16
        by_family.step(model, precision="bf16" if lower else "fp32")
        for name, parameter in model.named_parameters():
            moved = parameter != before[name]
            allowed = getattr(parameter, "trained", torch.full_like(moved, parameter.requires_grad))
            assert not (moved & ~allowed).any(), (method, name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_is_the_same_and_whole_under_every_method(kind):
    expected = {name: parameter.detach().clone() for name, parameter in encoders.head_parameters(tiny(kind))}
    assert expected
    for method in methods.METHODS:
        try:
            model = methods.apply(method, tiny(kind), seed=5)
        except ValueError:
            continue
        head = dict(encoders.head_parameters(model))
        assert head.keys() == expected.keys(), method
        assert all(p.requires_grad and torch.equal(p, expected[name]) for name, p in head.items()), method


# Biases and norms, whatever holds them

BIASES = {  # kind -> how many biases a tiny encoder of it has
    "bert": 18, "deberta": 17, "mobilebert": None, "gpt2": 13, "squeezebert": 18, "mpnet": 17}


@pytest.mark.parametrize("kind", [*BIASED, *STRANGERS])
def test_bitfit_trains_every_additive_bias_and_nothing_else(kind):
    model = methods.apply("bitfit", tiny(kind))
    head = {name for name, _ in encoders.head_parameters(model)}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad} - head
    meant = {name for name, _ in model.named_parameters() if name not in head and name.endswith(("bias", "_bias"))}
    assert trained == meant
    assert not any("relative_attention_bias" in name for name in trained)
    if BIASES.get(kind):
        assert len(trained) == BIASES[kind]


@pytest.mark.parametrize("kind", [*BIASED, *STRANGERS])
def test_random_trains_as_many_single_weights(kind):
    random, bitfit = (methods.counts(methods.apply(method, tiny(kind))) for method in ("random", "bitfit"))
    assert random == bitfit


def test_a_table_of_relative_positions_is_no_bias_though_no_module_holds_it():
    model = tiny("bert")
    attention = model.bert.encoder.layer[0].attention.self
    attention.relative_attention_bias, attention.q_bias = (torch.nn.Parameter(torch.zeros(9, 2)) for _ in range(2))
    methods.apply("bitfit", model)
    assert attention.q_bias.requires_grad and not attention.relative_attention_bias.requires_grad


def test_random_draws_of_weights_that_two_modules_share_once():
    model = tiny("bert")
    first, second = model.bert.encoder.layer
    second.intermediate.dense.weight = first.intermediate.dense.weight
    counts = methods.counts(methods.apply("random", model))
    assert counts["encoder"] == sum(bias.numel() for bias in plain.biases(model))


NORMS = {"deberta": "LayerNorm", "mobilebert": "LayerNorm|layer_norm", "llama": "norm", "gpt2": r"ln_\w",
         "modernbert": "norm", "squeezebert": "LayerNorm|layernorm", "qwen3": "norm"}


@pytest.mark.parametrize("kind", NORMS)
def test_layernorm_trains_what_the_family_has_in_its_place(kind):
    model = methods.apply("layernorm", tiny(kind))
    parameters = dict(model.base_model.named_parameters())
    trained = {name for name, parameter in parameters.items() if parameter.requires_grad}
    assert trained == {name for name in parameters if re.search(rf"({NORMS[kind]})[^.]*\.\w+$", name)}


@pytest.mark.parametrize("kind", ["modernbert", "llama", "qwen3"])
@pytest.mark.parametrize("method", ["bitfit", "random"])
def test_a_family_without_biases_is_refused_with_what_can_be_used(kind, method):
    with pytest.raises(ValueError, match=r"has no biases.* layernorm, adapter or head can"):
        methods.apply(method, tiny(kind))


def test_terms_of_a_family_that_fuses_them_are_refused():
    with pytest.raises(ValueError, match=r"GPT2.* has no layer of its own for query: choose bitfit's terms from att"):
        methods.apply("bitfit", tiny("gpt2"), terms=("query",))


# Weight decay

@pytest.mark.parametrize("kind, bias", [("xlnet", "r_w_bias"), ("convbert", "key_conv_attn_layer.bias")])
def test_a_bias_of_two_dimensions_does_not_decay(kind, bias):
    model = methods.apply("full", tiny(kind))
    decayed, spared = ({id(p) for p in group} for group in training.groups(model.parameters()))
    own = [p for name, p in model.named_parameters() if name.endswith(bias)]
    assert own and all(p.ndim == 2 and id(p) in spared and id(p) not in decayed for p in own)
    assert {id(p) for p in spared_by_dimension(model)} == spared - {id(p) for p in model.parameters() if p.ndim >= 2}
    stacked = {name: torch.stack([p.detach()] * 3) for name, p in model.named_parameters()}
    assert [len(group) for group in fleet._groups(model, stacked)] == [len(decayed), len(spared)]


def spared_by_dimension(model):
    return [p for p in model.parameters() if p.ndim < 2]


@pytest.mark.parametrize("kind", ["bert", "mpnet", "roberta", "electra"])
def test_in_bert_s_kin_what_decays_goes_by_dimension(kind):
    model = methods.apply("full", tiny(kind))
    assert [id(p) for p in training.groups(model.parameters())[1]] == [id(p) for p in spared_by_dimension(model)]


# Copies

@pytest.mark.parametrize("method", ["random", "ia3"])
def test_a_copy_of_a_model_trains_what_the_model_trains(method):
    model = methods.apply(method, tiny("bert"))
    other = copy.deepcopy(copy.deepcopy(model))
    assert methods.counts(other) == methods.counts(model)
    steps = []
    for each in (model, other):
        torch.manual_seed(0)  # of dropout
        steps.append([len(group) for group in training.groups(each.parameters())])
        by_family.step(each)
    assert steps[0] == steps[1]
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


# Files

@pytest.fixture
def two(tmp_path):
    """Two encoders of one shape and other weights."""
    return [str(save_encoder(tmp_path / f"encoder {seed}", tiny_config(initializer_range=0.2), seed)) for seed in (0, 1)]


@pytest.mark.parametrize("method", [method for method in methods.METHODS if method != "full"])
def test_a_file_is_refused_on_another_encoder_of_its_shape(method, two, tmp_path):
    methods.save(methods.apply(method, encoders.load(two[0])), tmp_path / "trained.safetensors")
    assert methods.load(tmp_path / "trained.safetensors", two[0])
    with pytest.raises(ValueError, match=r"trained\.safetensors was trained on other weights than those of .*: give the"):
        methods.load(tmp_path / "trained.safetensors", two[1])


def test_a_file_of_full_holds_every_weight_so_it_opens_the_same_on_any_encoder_of_its_shape(two, tmp_path):
    model = methods.apply("full", encoders.load(two[0]))
    methods.save(model, tmp_path / "trained.safetensors")
    assert torch.equal(by_family.logits(methods.load(tmp_path / "trained.safetensors", two[1])), by_family.logits(model))


def test_the_same_weights_in_other_files_are_the_same_encoder(two, tmp_path):
    model = methods.apply("bitfit", encoders.load(two[0]))
    methods.save(model, tmp_path / "trained.safetensors")
    encoders.load(two[0]).bert.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    shutil.copy(Path(two[0]) / "tokenizer.json", tmp_path / "parts")
    again = methods.load(tmp_path / "trained.safetensors", tmp_path / "parts")
    assert torch.equal(by_family.logits(again), by_family.logits(model))


def test_a_file_trained_on_random_weights_is_refused_on_the_pre_trained_ones(two, tmp_path):
    methods.save(methods.apply("bitfit", encoders.load(two[0], seed=9, pretrained=False)), tmp_path / "trained.safetensors")
    with pytest.raises(ValueError, match=r"was trained on other weights than those of"):
        methods.load(tmp_path / "trained.safetensors", two[0])


def test_a_file_of_before_names_no_encoder_and_opens(two, tmp_path):
    model = methods.apply("bitfit", encoders.load(two[0]))
    methods.save(model, tmp_path / "trained.safetensors", frozen="")
    assert methods.load(tmp_path / "trained.safetensors", two[1])


def resettled(folder, at, **settings):
    """A copy of an encoder's folder whose configuration says something else."""
    shutil.copytree(folder, at)
    file = at / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return at


@pytest.mark.parametrize("kind, setting, value", [
    ("bert", "num_attention_heads", 4), ("bert", "hidden_act", "relu"), ("modernbert", "classifier_pooling", "mean")])
@pytest.mark.parametrize("method", ["bitfit", "full", "lora"])
def test_a_file_is_refused_on_the_same_weights_under_another_configuration(method, kind, setting, value, tmp_path):
    if (kind, method) == ("modernbert", "bitfit"):  # it has no biases
        return
    folder = by_family.encoder(kind, tmp_path / "encoder")
    model = methods.apply(method, encoders.load(folder, pooler="new"))
    methods.save(model, file := tmp_path / "trained.safetensors")
    other = resettled(folder, tmp_path / "other", **{setting: value})
    with pytest.raises(ValueError, match=rf"was trained with another {setting} than the config\.json of .* has: give the"):
        methods.load(file, other)
    with pytest.raises(ValueError, match=r"is of another configuration than this model: open it"):
        methods.switch(methods.apply(method, encoders.load(other, pooler="new")), file)
    named = resettled(folder, tmp_path / "named", architectures=["Other"], transformers_version="4.0", dtype="float16")
    assert torch.equal(by_family.logits(methods.load(file, named)), by_family.logits(model))


def test_a_file_of_before_says_nothing_of_a_configuration_and_opens(two, tmp_path):
    model = methods.apply("bitfit", encoders.load(two[0]))
    methods.save(model, tmp_path / "trained.safetensors", config={})
    assert methods.load(tmp_path / "trained.safetensors", two[0])
    assert methods.switch(model, tmp_path / "trained.safetensors") is model


@pytest.mark.parametrize("sizes", [{"num_hidden_layers": 3}, {"hidden_size": 48}], ids=str)
def test_a_file_of_full_is_refused_by_a_model_of_another_shape(sizes, two, tmp_path):
    """Also one of before, which does not say its configuration."""
    other = save_encoder(tmp_path / "other", tiny_config(**sizes))
    for about in ({}, {"config": {}}):
        methods.save(methods.apply("full", encoders.load(other)), tmp_path / "trained.safetensors", **about)
        with pytest.raises(ValueError, match=r"than this model: open it|does not fit this model \(.*\): open it with"):
            methods.switch(methods.apply("full", encoders.load(two[0])), tmp_path / "trained.safetensors")


def test_a_file_of_another_family_is_refused(two, tmp_path):
    """Their names differ, so not one tensor would change."""
    roberta = by_family.encoder("roberta", tmp_path / "roberta")
    methods.save(methods.apply("full", encoders.load(roberta)), tmp_path / "trained.safetensors", config={})
    with pytest.raises(ValueError, match=r"does not fit this model"):
        methods.switch(methods.apply("full", encoders.load(two[0])), tmp_path / "trained.safetensors")


@pytest.mark.parametrize("reads", ["mean", "last"])
@pytest.mark.parametrize("method", methods.METHODS)
def test_what_the_head_reads_is_kept(method, reads, two, tmp_path):
    model = methods.apply(method, encoders.load(two[0], reads=reads))
    by_family.step(model)
    expected = by_family.logits(model)
    methods.save(model, tmp_path / "trained.safetensors")
    assert torch.equal(by_family.logits(methods.load(tmp_path / "trained.safetensors", two[0])), expected)


def test_a_file_says_what_was_done(two, tmp_path):
    model = methods.apply("lora", encoders.load(two[0], pooler="new"), rank=2)
    methods.save(model, tmp_path / "trained.safetensors", labels=("no", "yes"), task="mrpc")
    with safetensors.safe_open(tmp_path / "trained.safetensors", "pt") as opened:
        names, about = list(opened.keys()), json.loads(opened.metadata()["studykit"])
    assert len(about.pop("frozen")) == 16
    assert about["config"].pop("reading") == "first" and about.pop("config")["num_attention_heads"] == 2
    assert about == {"method": "lora", "options": {"rank": 2}, "labels": ["no", "yes"], "num_labels": 2, "pooler": "new",
                     "reads": "", "task": "mrpc"}
    assert all(".lora_" in name or name.startswith(("classifier", "bert.pooler")) for name in names)


@pytest.mark.parametrize("method", ["adapter", "lora", "prefix"])
def test_a_checkpoint_in_half_precision_is_trained_in_fp32(method, tmp_path):
    folder = by_family.encoder("bert", tmp_path / "half", dtype=torch.bfloat16)
    model = methods.apply(method, encoders.load(folder, pooler="new"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    by_family.step(model)
    assert by_family.logits(model).isfinite().all()


# The page

def test_the_page_is_what_its_command_writes():
    assert by_family.FILE.read_text() == by_family.table()


def test_every_family_of_the_table_is_on_the_page():
    rows = re.findall(r"^\| ([\w-]+) \|", by_family.FILE.read_text(), re.MULTILINE)
    assert rows == [*(kind for row in families.FAMILIES for kind in row.kinds), by_family.UNKNOWN]
