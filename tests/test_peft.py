"""LoRA, IA³, prefix and prompt tuning: sizes, equality with ``peft``'s own way, and what becomes of a trained model."""

import copy

import numpy as np
import peft
import pytest
import torch
import transformers
from conftest import tiny_model
from torch import nn

from studykit import methods, tasks, training
from studykit.methods import __main__ as by_family
from studykit.models import encoders, families
from studykit.training import budgets

KINDS = [kind for row in families.FAMILIES for kind in row.kinds]
PREFIX = ("bert", "roberta", "electra", "gpt2", "llama", "qwen3")  # kinds that take keys and values in front of the text
PEFT = {"lora": {"rank": 4}, "ia3": {}, "prefix": {"tokens": 5}, "prompt": {"tokens": 5}}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2}


def tiny(kind, **options):
    return encoders.from_config(by_family.config(kind, **options)).eval()


def shaken(model, seed=0):
    """The model with everything that trains changed a little, as by training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model


logits = by_family.logits


# Sizes

@pytest.fixture(scope="module")
def bert_base():
    with torch.device("meta"):
        return transformers.BertForSequenceClassification(transformers.BertConfig())


@pytest.mark.parametrize("method, options, expected", [
    ("lora", {}, 12 * 2 * 8 * (768 + 768)), ("lora", {"rank": 1}, 12 * 2 * (768 + 768)),
    ("lora", {"roles": ("intermediate", "output"), "rank": 4}, 12 * 2 * 4 * (768 + 3072)),
    ("ia3", {}, 12 * (768 + 768 + 3072)), ("prefix", {}, 20 * 12 * 2 * 768), ("prompt", {}, 20 * 768),
    ("prefix", {"tokens": 8}, 8 * 12 * 2 * 768), ("prompt", {"tokens": 50}, 50 * 768)])
def test_sizes_on_bert_base_are_those_of_the_closed_form(bert_base, method, options, expected):
    found = methods.counts(methods.apply(method, copy.deepcopy(bert_base), **options))
    assert found == {"total": 109_483_778 + expected, "trained": expected + 1_538, "head": 1_538, "encoder": expected}


def test_the_known_sizes(bert_base):
    found = {name: methods.counts(methods.apply(name, copy.deepcopy(bert_base)))["encoder"] for name in PEFT}
    assert found == {"lora": 294_912, "ia3": 55_296, "prefix": 368_640, "prompt": 15_360}


def test_ia3_of_minilm_has_not_caught_the_attention_s_output():
    with torch.device("meta"):
        minilm = transformers.BertForSequenceClassification(transformers.BertConfig(
            hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536))
    assert methods.counts(methods.apply("ia3", minilm))["encoder"] == 6 * (384 + 384 + 1536) == 13_824


def test_bitfit_of_mpnet_leaves_out_its_relative_attention():
    with torch.device("meta"):
        mpnet = transformers.MPNetForSequenceClassification(transformers.MPNetConfig())
    assert methods.counts(methods.apply("bitfit", mpnet))["encoder"] == 102_144


# The same as peft's own way

def peft_lora(model, **options):
    """peft's own model from a copy of ours: its configuration, and our weights."""
    config = peft.LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["query", "value"],
                             modules_to_save=["classifier"], **options)
    return peft.get_peft_model(model, config)


def copied(theirs, ours):
    """Their parameters with our values, by names that end alike."""
    own = dict(ours.named_parameters())
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            for piece in ("base_model.model.", "modules_to_save.default.", "original_module."):
                name = name.replace(piece, "")
            parameter.copy_(own[name])
    return theirs


def encodings(count=24, seed=0):
    rng = np.random.default_rng(seed)
    tokens = [rng.integers(5, 60, rng.integers(3, 12)).tolist() for _ in range(count)]
    columns = {"input_ids": tokens, "attention_mask": [[1] * len(text) for text in tokens]}
    return tasks.Encodings(columns, np.arange(count) % 2, {"input_ids": 0, "attention_mask": 0})


def test_ten_steps_of_lora_are_those_of_peft_in_a_plain_loop():
    base, data, seed = tiny_model(**STILL), encodings(), 3
    ours = methods.apply("lora", copy.deepcopy(base), rank=4)
    theirs = copied(peft_lora(copy.deepcopy(base)), ours)
    outcome = training.train(ours, data, budgets.Budget(steps=10), lr=1e-2, batch_size=8, seed=seed, precision="fp32",
                             device=torch.device("cpu"))
    trained = [parameter for parameter in theirs.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW([{"params": [p for p in trained if p.ndim > 1], "weight_decay": 0.01},
                                   {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0}], lr=1e-2)
    losses = []
    for step, rows in zip(range(10), budgets.batch_order(data.lengths, 8, 10, seed), strict=False):
        loss = theirs(**data.batch(rows), labels=torch.as_tensor(data.labels[rows])).loss
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(step + 1, (10 - step) / 9)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert outcome.losses == pytest.approx(losses, abs=1e-4)  # a tenth of the steps is a step
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", PREFIX)
def test_a_prefix_says_what_peft_s_own_does(kind):
    base = tiny(kind)
    ours = shaken(methods.apply("prefix", copy.deepcopy(base), tokens=5))
    theirs = peft.get_peft_model(copy.deepcopy(base), peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=5,
                                                                              **grouped(base.config)))
    head = dict(encoders.head_parameters(ours))
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(ours.base_model.prefix.embedding.weight)
        for name, parameter in theirs.named_parameters():
            if (own := name.removeprefix("base_model.").replace("modules_to_save.default.", "")) in head:
                parameter.copy_(head[own])
    torch.testing.assert_close(logits(ours), logits(theirs))


def grouped(config):
    """What peft has to be told where the width of a head is not that of the model divided by their number."""
    if config.model_type != "qwen3":
        return {}
    return {"token_dim": config.num_key_value_heads * config.head_dim, "num_attention_heads": config.num_key_value_heads,
            "num_layers": config.num_hidden_layers}


@pytest.mark.parametrize("kind", ["bert", "electra", "distilbert", "mpnet", "modernbert", "gpt2", "llama"])
def test_a_prompt_gives_the_text_s_tokens_what_peft_s_own_gives_them(kind):
    ours = shaken(methods.apply("prompt", tiny(kind), tokens=5))
    words = ours.get_input_embeddings()
    virtual = ours.base_model.prompt.embedding.weight.detach()
    longer = torch.cat([virtual.expand(4, -1, -1), words(by_family.TOKENS)], dim=1)  # as peft lays them out
    mask = nn.functional.pad(by_family.MASK, (5, 0), value=1)
    found = ours.base_model(input_ids=by_family.TOKENS, attention_mask=by_family.MASK).last_hidden_state
    for hooks in (ours.base_model._forward_pre_hooks, ours.base_model._forward_hooks):
        hooks.clear()
    expected = ours.base_model(inputs_embeds=longer, attention_mask=mask).last_hidden_state
    real = by_family.MASK.bool()
    torch.testing.assert_close(found[real], expected[:, 5:][real])


def test_the_head_reads_the_text_s_first_token_and_not_a_virtual_one():
    model = shaken(methods.apply("prompt", tiny("bert"), tokens=5))
    hidden = model.bert(input_ids=by_family.TOKENS, attention_mask=by_family.MASK).last_hidden_state
    assert hidden.shape[1] == by_family.TOKENS.shape[1]
    by_hand = model.classifier(torch.tanh(model.bert.pooler.dense(hidden[:, 0])))
    torch.testing.assert_close(logits(model), by_hand)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "longformer"])  # it pads all to its windows
@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_padding_moves_no_answer(kind, method):
    """By the mask, which grows with the virtual tokens."""
    try:
        model = shaken(methods.apply(method, tiny(kind), tokens=5))
    except ValueError:
        assert method == "prefix"
        return
    short = by_family.TOKENS[3:, :3]
    padded = nn.functional.pad(short, (0, 4))
    mask = (torch.arange(7) < 3).long()[None]
    with torch.no_grad():
        alone = model(input_ids=short, attention_mask=torch.ones_like(short)).logits
        torch.testing.assert_close(model(input_ids=padded, attention_mask=mask).logits, alone)


@pytest.mark.parametrize("reads", ["mean", "last"])
@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_what_is_read_is_read_of_the_text_alone(method, reads):
    model = shaken(methods.apply(method, tiny("bert", reads=reads), tokens=5))
    plain = methods.apply(method, tiny("bert"), tokens=5)
    plain.load_state_dict(model.state_dict())
    hidden = plain.bert(input_ids=by_family.TOKENS, attention_mask=by_family.MASK).last_hidden_state
    read = families.pool(hidden, reads, by_family.MASK)
    expected = model.classifier(torch.tanh(model.bert.pooler.dense(read)))
    torch.testing.assert_close(logits(model), expected)


def test_ia3_says_what_peft_s_own_does():
    base = tiny("bert")
    ours = shaken(methods.apply("ia3", copy.deepcopy(base)))
    theirs = peft.get_peft_model(copy.deepcopy(base), peft.IA3Config(
        task_type="SEQ_CLS", target_modules=r".*(key|value|intermediate\.dense|\d\.output\.dense)",
        feedforward_modules=r".*\d\.output\.dense", modules_to_save=["classifier"]))
    scales = {name: p for name, p in theirs.named_parameters() if "ia3_l" in name and "intermediate" not in name}
    own = {name: p for name, p in ours.named_parameters() if "ia3_l" in name}
    assert scales.keys() == {f"base_model.model.{name}" for name in own}
    with torch.no_grad():
        for name, parameter in own.items():
            scales[f"base_model.model.{name}"].copy_(parameter)
        theirs.base_model.model.classifier.modules_to_save["default"].load_state_dict(ours.classifier.state_dict())
    torch.testing.assert_close(logits(ours), logits(theirs))


# Where they go, and what they start from

ROLES = {"bert": ("query", "value"), "distilbert": ("q_lin", "v_lin"), "mpnet": ("attn.q", "attn.v"), "gpt2": ("c_attn",),
         "modernbert": ("Wqkv",), "llama": ("q_proj", "v_proj"), "albert": ("query", "value"), "deberta": ("in_proj",),
         "deberta-v2": ("query_proj", "value_proj")}


@pytest.mark.parametrize("kind", ROLES)
def test_lora_goes_where_the_family_keeps_these_roles(kind):
    model = methods.apply("lora", tiny(kind))
    wrapped = [name for name, module in model.named_modules() if hasattr(module, "lora_A")]
    blocks = encoders.blocks(model)
    assert len(wrapped) == len(blocks) * len(ROLES[kind])
    assert all(name.endswith(ROLES[kind]) for name in wrapped)


@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_in_longformer_they_go_too_where_the_token_that_the_head_reads_attends(method):
    """The first token attends by projections of its own; in the last layer nothing else is read."""
    model = methods.apply(method, tiny("longformer"))
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    for _ in range(2):  # of LoRA's two factors one is zero at first
        by_family.step(model)
    moved = {name for name, p in model.named_parameters() if name in before and not torch.equal(p, before[name])}
    still = {name.split(".self.")[1].split(".")[0] for name in before.keys() - moved if ".layer.1." in name}
    assert still == ({"query", "value"} if method == "lora" else {"key", "value"})
    assert any(".layer.1.attention.self.value_global." in name for name in moved)
    shares = methods.shares(model)
    assert shares["value global"] == shares["value"] == 0


@pytest.mark.parametrize("method", PEFT)
def test_they_start_at_the_init_seed_s_draws_and_move_no_others(method):
    def own(seed):
        model = methods.apply(method, tiny("bert"), seed=seed, **PEFT[method])
        head = {name for name, _ in encoders.head_parameters(model)}
        trained = [p for name, p in model.named_parameters() if p.requires_grad and name not in head]
        return torch.cat([parameter.detach().flatten() for parameter in trained])

    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = own(5)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(own(5), first)
    assert torch.equal(own(6), first) == (method == "ia3")  # which starts at ones


@pytest.mark.parametrize("method", ["lora", "ia3"])
@pytest.mark.parametrize("kind", KINDS)
def test_in_place_they_change_nothing_before_they_train(method, kind):
    model = tiny(kind)
    expected, names = logits(model), dict(model.named_parameters()).keys()
    methods.apply(method, model)
    assert torch.equal(logits(model), expected)
    kept = {name.replace(".base_layer.", ".") for name, _ in model.named_parameters()}
    assert names <= kept


def test_factors_are_not_drawn_to_zero_by_weight_decay():
    """IA³'s are vectors of shape (1, n) that mean "no change" at one."""
    model = methods.apply("ia3", tiny_model())
    decayed, _ = training.groups(model.parameters())
    factors = {id(p) for name, p in model.named_parameters() if ".ia3_" in name}
    assert factors and not factors & {id(p) for p in decayed}


@pytest.mark.parametrize("method", [*PEFT, "adapter"])
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_predictions_are_those_of_the_plain_model_and_training_moves_the_loss(kind, method):
    """Whatever shortcut the loop takes."""
    data = encodings()
    model = methods.apply(method, tiny(kind))
    outcome = training.train(model, data, budgets.Budget(steps=30), lr=3e-2, batch_size=8, precision="fp32",
                             device=torch.device("cpu"))
    assert outcome.status == "ok" and outcome.losses[-1] < outcome.losses[0]
    with torch.no_grad():
        plain = torch.cat([model(**data.batch([i])).logits for i in range(len(data))])
    np.testing.assert_allclose(training.logits(model, data), plain, rtol=1e-3, atol=1e-4)


# Merged

@pytest.mark.parametrize("method", ["lora", "ia3"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "mpnet", "albert", "deberta-v2", "modernbert", "gpt2",
                                  "qwen2"])
def test_plain_transformers_open_a_merged_model(kind, method, tmp_path):
    model = shaken(methods.apply(method, tiny(kind)))
    expected = logits(model)
    merged = methods.merged(model, labels=("no", "yes"))
    merged.save_pretrained(tmp_path)
    again, loading = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert again.config.id2label == {0: "no", 1: "yes"}
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    torch.testing.assert_close(logits(again), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=0)  # the trained model is left as it was


def test_what_adds_nothing_is_merged_as_it_is():
    model = shaken(methods.apply("bitfit", tiny("bert")))
    assert torch.equal(logits(methods.merged(model)), logits(model))


@pytest.mark.parametrize("method", ["adapter", "prefix", "prompt"])
def test_what_is_no_change_of_weights_is_not_merged(method):
    with pytest.raises(ValueError, match=f"{method} cannot be merged into the encoder's weights: keep .* with methods.save"):
        methods.merged(methods.apply(method, tiny("bert")))


@pytest.mark.parametrize("kind, reads, own", [
    ("bert", "mean", "the first token"), ("bert", "last", "the first token"), ("gpt2", "mean", "the last token"),
    ("modernbert", "last", "the first token")])
def test_a_head_that_plain_transformers_would_let_read_something_else_is_not_merged(kind, reads, own, tmp_path):
    model = methods.apply("lora", encoders.load(by_family.encoder(kind, tmp_path), reads=reads))
    with pytest.raises(ValueError, match=rf"a head that reads the {reads}.* cannot be merged, since plain \w+ reads {own}:"):
        methods.merged(model)


@pytest.mark.parametrize("kind, reads", [("bert", "first"), ("modernbert", "mean"), ("gpt2", "last")])
def test_a_head_that_reads_what_its_class_reads_is_merged(kind, reads, tmp_path):
    model = shaken(methods.apply("lora", encoders.load(by_family.encoder(kind, tmp_path), reads=reads)))
    methods.merged(model).save_pretrained(tmp_path / "merged")
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(again), logits(model), rtol=1e-5, atol=1e-5)


# Refused in one sentence, before anything trains

@pytest.mark.parametrize("kind", ["distilbert", "mpnet", "albert", "deberta", "deberta-v2", "modernbert", "longformer"])
def test_a_family_that_takes_no_prefix_says_so(kind):
    with pytest.raises(ValueError, match=r"prefix cannot be used with .* use lora, ia3 or adapter in its place"):
        methods.apply("prefix", tiny(kind))


STRANGERS = {
    "big_bird": {"attention_type": "original_full"}, "ibert": {},
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0},
    "bart": {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64,
             "decoder_attention_heads": 2, "decoder_ffn_dim": 64}}
FUNNEL = {"d_model": 32, "block_sizes": [1, 1], "n_head": 2, "d_head": 16, "d_inner": 64, "vocab_size": 60}


@pytest.mark.parametrize("kind, method, reason", [
    ("big_bird", "prompt", ""), ("ibert", "prompt", ""), ("t5", "prompt", ""), ("big_bird", "prefix", ""),
    ("t5", "prefix", "do not take"), ("bart", "prefix", "do not take")])
def test_other_families_take_virtual_tokens_with_padding_or_say_why_not(kind, method, reason):
    model = tiny(kind, **STRANGERS[kind])
    if reason:
        with pytest.raises(ValueError, match=f"{method} cannot be used with .*{reason}.*: use full or head in its place"):
            methods.apply(method, model)
        return
    model = shaken(methods.apply(method, model, tokens=5))
    short, padded = (torch.tensor([[5, 6, 3, *[0] * more]]) for more in (0, 4))
    alone, among = (model(input_ids=ids, attention_mask=(ids > 0).long()).logits for ids in (short, padded))
    torch.testing.assert_close(among, alone)


def test_a_model_whose_outputs_are_pooled_takes_no_prompt():
    model = encoders.from_config(transformers.FunnelConfig(**FUNNEL))
    with pytest.raises(ValueError, match=r"prompt cannot .*Funnel.*, whose outputs are not one for each token: use"):
        methods.apply("prompt", model)


def test_a_prompt_of_an_encoder_decoder_stands_before_what_the_encoder_reads():
    model = methods.apply("prompt", tiny("t5", **STRANGERS["t5"]), tokens=5)
    ids = torch.tensor([[5, 6, 7, 3]])
    inner, base = model.get_input_embeddings(), model.base_model
    longer = torch.cat([base.prompt.embedding.weight[None], inner(ids)], dim=1)
    found = base(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=ids).last_hidden_state
    for hooks in (base._forward_pre_hooks, base._forward_hooks):
        hooks.clear()
    torch.testing.assert_close(found, base(inputs_embeds=longer, decoder_input_ids=ids).last_hidden_state)


def test_a_configuration_without_heads_is_refused_in_a_sentence():
    model = tiny("bert")
    model.config = transformers.PerceiverConfig()
    with pytest.raises(ValueError, match=r"prefix cannot be .* does not say how many heads its layers have: use "):
        methods.apply("prefix", model)


@pytest.mark.parametrize("kind", ["bert", "electra", "gpt2"])
@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_virtual_tokens_train_in_bf16(method, kind):
    """Keys that come from a cache are in fp32 there."""
    model = methods.apply(method, tiny(kind), tokens=5)
    before = model.base_model.get_submodule(method).embedding.weight.detach().clone()
    outcome = training.train(model, encodings(), budgets.Budget(steps=2), lr=1e-2, batch_size=8, precision="bf16",
                             device=torch.device("cpu"))
    assert outcome.status == "ok" and "attention" in outcome.shortcuts
    assert (model.base_model.get_submodule(method).embedding.weight != before).any(1).all()


@pytest.mark.parametrize("method", ["lora", "ia3", "adapter", "last_k"])
def test_a_family_without_a_row_is_refused_by_what_goes_by_roles(method):
    with pytest.raises(ValueError, match=r"MobileBert.* has no layers that this study knows, so what goes by layers"):
        methods.apply(method, tiny("mobilebert"))


@pytest.mark.parametrize("method", ["prefix", "prompt"])
@pytest.mark.parametrize("kind, positions", [("bert", 80), ("roberta", 79), ("gpt2", 80)])
def test_virtual_tokens_take_room_from_the_text(method, kind, positions):
    model = methods.apply(method, tiny(kind), tokens=20)
    assert model.virtual_tokens == 20
    longest = torch.full((1, positions - 20), 7)
    assert model(input_ids=longest).logits.isfinite().all()
    with pytest.raises(ValueError, match=f"{positions} positions, too few for 20 virtual tokens and a text of "
                                         f"{positions - 19}: max_length must be at most {positions - 20}"):
        model(input_ids=torch.full((1, positions - 19), 7))


@pytest.mark.parametrize("method, options, message", [
    ("lora", {"rank": 0}, "rank of lora must be a positive whole number, got 0"),
    ("lora", {"rank": 2.5}, r"rank of lora must be a positive whole number, got 2\.5"),
    ("lora", {"alpha": -1}, "alpha of lora must be a positive number, got -1"),
    ("lora", {"alpha": "16"}, "alpha of lora must be a positive number, got '16'"),
    ("lora", {"dropout": 1}, "dropout of lora must be a number from 0 to less than 1, got 1"),
    ("lora", {"dropout": "no"}, "dropout of lora must be a number from 0 to less than 1, got 'no'"),
    ("lora", {"roles": "query"}, "roles of lora must be a list of at least one item, got 'query'"),
    ("lora", {"roles": []}, r"roles of lora must be a list of at least one item, got \[\]"),
    ("ia3", {"roles": 3}, "roles of ia3 must be a list of at least one item, got 3"),
    ("prefix", {"tokens": 0}, "tokens of prefix must be a positive whole number, got 0"),
    ("prompt", {"tokens": True}, "tokens of prompt must be a positive whole number, got True"),
    ("lora", {"r": 8}, "lora has no option r: choose from rank, alpha, dropout, roles")])
def test_unsound_options_are_errors_before_there_is_a_model(method, options, message):
    with pytest.raises(ValueError, match=message):
        methods.check(method, options)
    if "no option" not in message:
        with pytest.raises(ValueError, match=message):
            methods.apply(method, tiny("bert"), **options)


@pytest.mark.parametrize("options", [{}, {"rank": 4, "alpha": 8, "dropout": 0}, {"alpha": None, "dropout": 0.1},
                                     {"roles": ["query"]}, {"roles": ("query",)}])
def test_sound_options_pass(options):
    methods.check("lora", options)
    methods.apply("lora", tiny("bert"), **options)


@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_an_unknown_role_is_an_error_that_names_the_known_ones(method):
    with pytest.raises(ValueError, match=r"Bert.* has no layers of the role quarry: choose from query, key, value"):
        methods.apply(method, tiny("bert"), roles=("query", "quarry"))


# What of a model trains

@pytest.mark.parametrize("method", PEFT)
def test_shares_name_what_was_inserted(method):
    shares = methods.shares(methods.apply(method, tiny("bert")))
    assert {name for name, share in shares.items() if share} == {method, "task layers"}
    assert shares[method] == 1


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer", "parallel"])
@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2"])
def test_shares_tell_adapters_from_the_layers_they_stand_at(kind, placement):
    shares = methods.shares(methods.apply("adapter", tiny(kind), placement=placement, layernorms=False))
    assert {name for name, share in shares.items() if share} == {"adapters", "task layers"}


@pytest.mark.parametrize("kind", [*KINDS, by_family.UNKNOWN])
def test_shares_of_full_are_whole_in_every_family(kind):
    assert set(methods.shares(methods.apply("full", tiny(kind))).values()) == {1}


def test_lora_with_dropout_drops_in_training_alone():
    model = shaken(methods.apply("lora", tiny_model("bert", **STILL), dropout=0.5))
    assert torch.equal(logits(model), logits(model))
    model.train()
    one, other = (model(input_ids=by_family.TOKENS).logits for _ in range(2))
    assert not torch.equal(one, other)
