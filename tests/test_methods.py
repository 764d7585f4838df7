import copy

import pytest
import safetensors.torch
import torch
import transformers
from conftest import save_encoder, tiny_config, tiny_model
from torch import nn

from studykit import methods, training
from studykit.models import encoders

FAMILIES = ("bert", "roberta", "electra", "distilbert")


@pytest.fixture(scope="module")
def bert_base():
    """BERT-base without its values: only shapes are counted."""
    with torch.device("meta"):
        return transformers.BertForSequenceClassification(transformers.BertConfig())


def count(model, method, **options):
    return methods.counts(methods.apply(method, copy.deepcopy(model), **options))


def test_bitfit_trains_104_450_parameters_of_bert_base(bert_base):
    found = count(bert_base, "bitfit")
    per_layer = (3 + 1 + 1 + 4 + 1 + 1) * 768  # query, key, value; output; LayerNorm; 4 × 768 wide; back; LayerNorm
    assert found["encoder"] == 12 * per_layer + 768 + 768 == 102_912  # and the embeddings' LayerNorm, and the pooler's
    assert found["head"] == 2 * 768 + 2 == 1_538
    assert found["trained"] == 104_450


def test_full_trains_all_of_bert_base(bert_base):
    found = count(bert_base, "full")
    assert found["total"] == found["trained"] == bert_base.num_parameters() == 109_483_778


@pytest.mark.parametrize("placement, bottleneck, expected", [("houlsby", 64, 2_379_264), ("pfeiffer", 48, 894_528)])
def test_adapters_of_bert_base_have_the_known_sizes(bert_base, placement, bottleneck, expected):
    found = count(bert_base, "adapter", placement=placement, bottleneck=bottleneck, layernorms=False)
    assert found["encoder"] == expected
    assert found["total"] == bert_base.num_parameters() + expected


def test_adapters_train_the_layernorms_too_unless_told_not_to(bert_base):
    layernorms = 2 * 768 * (1 + 2 * 12)
    assert count(bert_base, "adapter")["encoder"] == 2_379_264 + layernorms
    assert count(bert_base, "layernorm")["encoder"] == layernorms


def test_the_last_layers_of_bert_base_have_their_size(bert_base):
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    assert count(bert_base, "last_k", k=2)["encoder"] == 2 * layer


def test_the_head_of_bert_base_is_its_classifier(bert_base):
    assert count(bert_base, "head") == {"total": 109_483_778, "trained": 1_538, "head": 1_538, "encoder": 0}


def is_layernorm(name):
    return "layernorm" in name.lower() or "layer_norm" in name


MEANT = {  # method -> which of the encoder's parameters, by their names in the four families, it means to train
    "full": lambda name: True,
    "bitfit": lambda name: name.endswith("bias"),
    "adapter": lambda name: ".down." in name or ".up." in name or is_layernorm(name),
    "lora": lambda name: ".lora_" in name,
    "ia3": lambda name: ".ia3_" in name,
    "prefix": lambda name: ".prefix." in name,
    "prompt": lambda name: ".prompt." in name,
    "head": lambda name: False,
    "layernorm": is_layernorm,
    "random": lambda name: name.endswith("weight") and not is_layernorm(name) and ".embeddings." not in name,
    "last_k": lambda name: ".layer.1." in name,
}


def test_every_method_is_tested():
    assert MEANT.keys() == methods.METHODS.keys()


NO_PREFIX = ("distilbert",)  # families that leave a prefix out


@pytest.fixture(params=[(family, method) for family in FAMILIES for method in MEANT
                        if (family in NO_PREFIX, method) != (True, "prefix")], ids="-".join)
def pair(request):
    """A family's tiny model and a method that works with it."""
    family, method = request.param
    return tiny_model(family), method


@pytest.fixture(params=FAMILIES)
def model(request):
    return tiny_model(request.param)


def test_what_trains_is_what_is_meant(pair):
    model, method = pair
    head = {name for name, _ in encoders.head_parameters(model)}
    methods.apply(method, model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    meant = {name for name, _ in model.named_parameters() if name not in head and MEANT[method](name)}
    assert trained == meant | head
    assert bool(meant) == (method != "head")


def three_steps(model, lr=1e-2):
    """Three optimiser steps on tokens at random; the parameters before them, by name."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer, schedule = training.make_optimizer(training.groups(model.parameters()), lr, 3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        tokens = torch.randint(5, 60, (8, 12), generator=generator)
        model(input_ids=tokens, labels=torch.arange(8) % 2).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return before


def test_steps_move_what_trains_and_nothing_else(pair):
    model, method = pair
    methods.apply(method, model)
    before = three_steps(model)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_random_moves_its_chosen_entries_and_no_others(model):
    """Not even by weight decay, which a mask on the gradient does not stop."""
    methods.apply("random", model, seed=3)
    before = three_steps(model)
    masked = [(name, parameter) for name, parameter in model.named_parameters() if hasattr(parameter, "trained")]
    for name, parameter in masked:
        assert torch.equal(parameter != before[name], parameter.trained)
    assert sum(int(parameter.trained.sum()) for _, parameter in masked) > 0


@pytest.mark.parametrize("pooler", ("pretrained", "new"))
def test_random_trains_as_many_weights_as_bitfit_trains_biases(tiny_encoder, pooler):
    random, bitfit = (methods.counts(methods.apply(method, encoders.load(tiny_encoder, pooler=pooler)))
                      for method in ("random", "bitfit"))
    assert random == bitfit


@pytest.mark.parametrize("method", MEANT)
def test_every_method_trains_the_whole_head_with_a_new_pooler(tiny_encoder, method):
    head = count(encoders.load(tiny_encoder, pooler="new"), method)["head"]
    assert head == 32 * 32 + 32 + 2 * 32 + 2


def test_random_draws_by_the_init_seed():
    def chosen(seed):
        model = methods.apply("random", tiny_model(), seed=seed)
        return torch.cat([p.trained.flatten() for p in model.parameters() if hasattr(p, "trained")])

    assert torch.equal(chosen(1), chosen(1))
    assert not torch.equal(chosen(1), chosen(2))


TERMS = {"bert": ("attention.self.query", "intermediate.dense"), "distilbert": ("attention.q_lin", "ffn.lin1")}


@pytest.mark.parametrize("family", TERMS)
def test_terms_restrict_bitfit(family):
    model = methods.apply("bitfit", tiny_model(family), terms=("query", "intermediate"))
    head = {name for name, _ in encoders.head_parameters(model)}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad} - head
    prefix = f"{family}.transformer" if family == "distilbert" else f"{family}.encoder"
    assert trained == {f"{prefix}.layer.{i}.{term}.bias" for i in range(2) for term in TERMS[family]}


def test_attention_output_is_not_output():
    model = methods.apply("bitfit", tiny_model(), terms=("output",))
    trained = [name for name, parameter in model.bert.named_parameters() if parameter.requires_grad]
    assert trained == [f"encoder.layer.{i}.output.dense.bias" for i in range(2)]


@pytest.mark.parametrize("options", [{}, {"terms": ("query",)}])
def test_bitfit_without_biases_is_an_error_that_names_what_else_there_is(model, options):
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.LayerNorm):
            module.bias = None
    with pytest.raises(ValueError, match=r"has no biases to train.*layernorm, adapter or head can"):
        methods.apply("bitfit", model, **options)


@pytest.mark.parametrize("method, options, message", [
    ("bitfitt", {}, "unknown method 'bitfitt': choose from full, bitfit, adapter"),
    ("bitfit", {"terms": ("query", "quarry")}, "unknown bitfit term quarry: choose from query, key"),
    ("full", {"bottleneck": 8}, "method full: .*bottleneck"),
    ("adapter", {"botleneck": 8}, "method adapter: .*botleneck"),
    ("last_k", {"k": 0}, "k must be 1 to 2, the encoder's layers, got 0"),
    ("last_k", {"k": 3}, "k must be 1 to 2, the encoder's layers, got 3")])
def test_unknown_names_and_options_are_errors(method, options, message):
    with pytest.raises(ValueError, match=message):
        methods.apply(method, tiny_model(), **options)


def test_the_seed_is_no_option_of_the_method():
    assert methods.apply("adapter", tiny_model(), seed=3, bottleneck=8).method == {
        "method": "adapter", "options": {"bottleneck": 8}}


def test_only_head():
    assert methods.only_head(methods.apply("head", tiny_model()))
    assert not any(methods.only_head(methods.apply(method, tiny_model())) for method in MEANT if method != "head")


SAVED = [*((method, {}) for method in MEANT), ("lora", {"rank": 2, "alpha": 3.0, "roles": ("key", "intermediate")}),
         ("ia3", {"roles": ("output",)}), ("prefix", {"tokens": 3}), ("prompt", {"tokens": 3}),
         ("adapter", {"placement": "parallel", "bottleneck": 8, "layernorms": False}),
         ("bitfit", {"terms": ("query", "intermediate")}), ("last_k", {"k": 2})]
TOKENS = torch.randint(5, 25, (6, 10), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=SAVED, ids=str)
def saved(request, tiny_encoder, tmp_path):
    """A function that saves a model, trained by one of the methods, and returns it with its file."""
    method, options = request.param

    def save(pooler, labels=("no", "yes")):
        model = encoders.load(tiny_encoder, len(labels) or 1, seed=7, pooler=pooler)
        methods.apply(method, model, seed=7, **options)
        loss = model(input_ids=TOKENS).logits.square().sum()
        loss.backward()
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2).step()
        methods.save(model.eval(), tmp_path / "trained.safetensors", labels=labels)
        return model, tmp_path / "trained.safetensors"

    return save


@pytest.mark.parametrize("pooler", ("pretrained", "new"))
def test_a_saved_model_answers_the_same_when_it_is_loaded(saved, pooler, tiny_encoder):
    model, file = saved(pooler)
    again = methods.load(file, tiny_encoder)
    assert not again.training
    assert again.config.id2label == {0: "no", 1: "yes"}
    assert again.config.label2id == {"no": 0, "yes": 1}
    assert torch.equal(again(input_ids=TOKENS).logits, model(input_ids=TOKENS).logits)
    untrained = encoders.load(tiny_encoder, seed=7, pooler=pooler).eval()
    assert not torch.equal(untrained(input_ids=TOKENS).logits, model(input_ids=TOKENS).logits)


def test_the_file_holds_what_was_trained_and_nothing_else(saved):
    model, file = saved("new")
    stored = safetensors.torch.load_file(file)
    assert stored.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_a_regression_has_no_label_names(tiny_encoder, tmp_path):
    model = methods.apply("bitfit", encoders.load(tiny_encoder, 1, output_bias=2.5)).eval()
    methods.save(model, tmp_path / "trained.safetensors")
    again = methods.load(tmp_path / "trained.safetensors", tiny_encoder)
    assert again.config.num_labels == 1
    assert torch.equal(again(input_ids=TOKENS).logits, model(input_ids=TOKENS).logits)


def test_a_foreign_file_is_an_error(tiny_encoder, tmp_path):
    safetensors.torch.save_file({"classifier.weight": torch.zeros(2, 32)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match=r"foreign\.safetensors was not written by studykit"):
        methods.load(tmp_path / "foreign.safetensors", tiny_encoder)


@pytest.mark.parametrize("method", ["full", "bitfit", "adapter", "head"])
def test_a_file_of_a_narrower_encoder_is_an_error(tiny_encoder, tmp_path, method):
    must_not_fit(tiny_encoder, tmp_path, method, hidden_size=48)


@pytest.mark.parametrize("method", ["full", "bitfit", "adapter"])  # a head alone fits any encoder of its width
@pytest.mark.parametrize("layers", [1, 3])
def test_a_file_of_a_shallower_or_deeper_encoder_is_an_error(tiny_encoder, tmp_path, method, layers):
    """With 3 layers for 2 saved ones, the third would stay untrained above two that are trained."""
    must_not_fit(tiny_encoder, tmp_path, method, num_hidden_layers=layers)


def must_not_fit(encoder, tmp_path, method, **other):
    methods.save(methods.apply(method, encoders.load(encoder)), tmp_path / "trained.safetensors")
    folder = save_encoder(tmp_path / "encoder", tiny_config(**other))
    with pytest.raises(ValueError, match=r"trained\.safetensors does not fit"):
        methods.load(tmp_path / "trained.safetensors", folder)


@pytest.mark.parametrize("method, options", SAVED, ids=str)
def test_a_model_in_memory_switches_to_another_task_and_back(method, options, tiny_encoder, tmp_path):
    model = methods.apply(method, encoders.load(tiny_encoder, pooler="new"), **options)
    answers = {}
    for task in ("first", "second"):
        three_steps(model)
        methods.save(model.eval(), tmp_path / task, labels=(f"{task} no", "yes"))
        answers[task] = model(input_ids=TOKENS).logits
    assert not torch.equal(answers["first"], answers["second"])
    for task in ("first", "second"):
        assert methods.switch(model, tmp_path / task) is model and not model.training
        assert torch.equal(model(input_ids=TOKENS).logits, answers[task])
        assert model.config.id2label[0] == f"{task} no"


@pytest.mark.parametrize("other, message", [
    ({"method": "adapter"}, "method"), ({"options": {"terms": ("query",)}}, "choice of options"),
    ({"labels": 3}, "number of outputs"), ({"pooler": "new"}, "pooler"), ({"reads": "mean"}, "reading")])
def test_a_file_that_is_no_task_of_the_model_is_refused(other, message, tiny_encoder, tmp_path):
    own = {"method": "bitfit", "options": {}, "labels": 2, "pooler": "pretrained", "reads": ""}

    def made(method, options, labels, **about):
        return methods.apply(method, encoders.load(tiny_encoder, labels, **about), **options)

    methods.save(made(**{**own, **other}), tmp_path / "other")
    with pytest.raises(ValueError, match=f"other is of another {message} than this model: open it with methods.load"):
        methods.switch(made(**own), tmp_path / "other")


def test_a_file_of_another_encoder_is_refused(tiny_encoder, tmp_path):
    other = save_encoder(tmp_path / "encoder", tiny_config(initializer_range=0.2), seed=1)
    methods.save(methods.apply("bitfit", encoders.load(other)), tmp_path / "other")
    with pytest.raises(ValueError, match="other is of another encoder than this model"):
        methods.switch(methods.apply("bitfit", encoders.load(tiny_encoder)), tmp_path / "other")
