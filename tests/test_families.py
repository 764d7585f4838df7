"""Every family of the table, by a tiny model of its real configuration class."""

import copy
import functools
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from studykit import methods, tasks, training
from studykit.models import encoders, families, trial
from studykit.training import bf16, budgets, fast, fleet

CPU, WIDTH, INNER = torch.device("cpu"), 32, 64
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": INNER,
         "max_position_embeddings": 80, "vocab_size": 60, "pad_token_id": 0}
ENDS = {"bos_token_id": 2, "eos_token_id": 3}
DECODER = {**SIZES, **ENDS, "num_key_value_heads": 1, "head_dim": 16}
KINDS = {
    "bert": SIZES, "roberta": SIZES, "xlm-roberta": SIZES, "camembert": SIZES, "electra": {**SIZES, "embedding_size": 16},
    "distilbert": {"dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": INNER, "max_position_embeddings": 80,
                   "vocab_size": 60, "pad_token_id": 0},
    "mpnet": SIZES, "albert": {**SIZES, "embedding_size": 16}, "longformer": {**SIZES, "attention_window": 8},
    "deberta": {**SIZES, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {**SIZES, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False,
                   "type_vocab_size": 0},
    "modernbert": {**SIZES, **ENDS, "cls_token_id": 2, "sep_token_id": 3, "global_attn_every_n_layers": 2,
                   "local_attention": 8, "classifier_pooling": "mean"},
    "gpt2": {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_inner": INNER, "vocab_size": 60, "n_positions": 80, **ENDS},
    "llama": DECODER, "qwen2": DECODER, "qwen3": DECODER,
}
UNKNOWN = {  # encoders without a row
    "mobilebert": {**SIZES, "embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "squeezebert": {**SIZES, "embedding_size": WIDTH, "q_groups": 1, "k_groups": 1, "v_groups": 1}, "fnet": SIZES,
    "convbert": SIZES, "xlm": {"emb_dim": WIDTH, "n_layers": 2, "n_heads": 2, "vocab_size": 60, "pad_token_id": 0},
    "opt": {**SIZES, **ENDS, "ffn_dim": INNER, "word_embed_proj_dim": WIDTH}, "gemma": DECODER,
    "xlnet": {"d_model": WIDTH, "n_layer": 2, "n_head": 2, "d_inner": INNER, "vocab_size": 60, "pad_token_id": 0},
    "nystromformer": {**SIZES, "num_landmarks": 4, "segment_means_seq_len": 4}, "roformer": {**SIZES, "embedding_size": 16},
    "canine": {**SIZES, "num_hash_buckets": 32, "local_transformer_stride": 16, "downsampling_rate": 2},
    "gpt_neo": {"hidden_size": WIDTH, "num_layers": 2, "num_heads": 2, "intermediate_size": INNER, "vocab_size": 60,
                "max_position_embeddings": 80, "attention_types": [[["global", "local"], 1]], **ENDS},
    "rembert": {**SIZES, "input_embedding_size": 16, "output_embedding_size": 16},
    "big_bird": {**SIZES, "attention_type": "original_full"}, "ibert": SIZES, "esm": {**SIZES, "mask_token_id": 1},
    "t5": {"d_model": WIDTH, "d_kv": 16, "d_ff": INNER, "num_layers": 2, "num_heads": 2, "vocab_size": 60, "pad_token_id": 0,
           "eos_token_id": 3, "decoder_start_token_id": 0}}
MIX_PADDING_IN = ("mobilebert", "fnet", "convbert", "xlnet", "nystromformer", "canine")
REFUSED = {"reformer": ({**SIZES, "attention_head_size": 16, "attn_layers": ["local", "local"], "axial_pos_embds": False,
                         "feed_forward_size": INNER, "is_decoder": False, "local_attn_chunk_length": 8}, "multiple"),
           "tapas": (SIZES, "too many indices"), "mra": ({**SIZES, "max_position_embeddings": 128}, "it says the same")}
DECODERS = ("gpt2", "llama", "qwen2", "qwen3")
DENSE = WIDTH * WIDTH + WIDTH
OUT = 2 * WIDTH + 2
HEAD = {"bert": OUT, "albert": OUT, "modernbert": WIDTH * WIDTH + WIDTH + OUT, **dict.fromkeys(DECODERS, 2 * WIDTH)}
ADAPTED = {"albert": 1}  # layers that are there once; elsewhere two
ALL = KINDS | UNKNOWN | {kind: sizes for kind, (sizes, _) in REFUSED.items()}
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c")


@functools.cache
def folder(kind, padding="[PAD]", **options):
    """A tiny encoder of a kind with random weights large enough to matter, and a tokenizer of three words."""
    at = tempfile.mkdtemp(prefix=f"{kind}-")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(kind, **{**ALL[kind], **options})
        model = transformers.AutoModel.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(at)
    tokens = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if kind not in DECODERS:
        tokens.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokens, unk_token="[UNK]", pad_token=padding, cls_token="[CLS]", sep_token="[SEP]",
        eos_token="[SEP]", padding_side="left",
        model_input_names=["input_ids", "attention_mask", "token_type_ids"]).save_pretrained(at)
    return at


def encodings(at, texts=1, examples=24):
    """Random texts of random lengths, whose label is whether they begin with an a."""
    rng, tokenizer = np.random.default_rng(0), encoders.tokenizer(at)
    made = [[" ".join(rng.choice(["a", "b", "c"], rng.integers(2, 12))) for _ in range(examples)] for _ in range(texts)]
    columns = dict(tokenizer(*made).items())
    pad = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": 0}
    return tasks.Encodings(columns, np.array([text[0] == "a" for text in made[0]], dtype=np.int64), pad)


def trained(method, at, data, **options):
    model = methods.apply(method, encoders.load(at, pooler="new", **options))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    outcome = training.train(model, data, budgets.Budget(steps=3), lr=1e-3, batch_size=8, precision="fp32")
    return model, before, outcome


@pytest.mark.parametrize("kind", KINDS)
def test_roles_and_sites_are_where_the_row_says(kind):
    model = encoders.load(folder(kind), pooler="new")
    blocks = encoders.blocks(model)
    assert len(blocks) == ADAPTED.get(kind, 2)
    names = {id(module) for module in model.modules()}
    fused = kind in ("deberta", "modernbert", "gpt2")
    for block in blocks:
        roles = {"qkv", "attention_output", "intermediate", "output"} if fused else set(families.ROLES)
        assert set(block.linear) - {"gate", *families.GLOBAL} == roles and block.width == WIDTH
        assert (set(families.GLOBAL) <= set(block.linear)) == (kind == "longformer")
        assert all(id(module) in names for module in block.linear.values())
        sizes = {role: module.weight.numel() for role, module in block.linear.items()}
        keys = WIDTH * WIDTH // 2 if kind in ("llama", "qwen2", "qwen3") else WIDTH * WIDTH  # two queries share one there
        gated = 2 if kind == "modernbert" else 1
        expected = {"query": WIDTH * WIDTH, "key": keys, "value": keys, "qkv": 3 * WIDTH * WIDTH, "gate": WIDTH * INNER,
                    **dict.fromkeys(families.GLOBAL, WIDTH * WIDTH),
                    "attention_output": WIDTH * WIDTH, "intermediate": gated * WIDTH * INNER, "output": WIDTH * INNER}
        assert sizes == {role: expected[role] for role in sizes}
        for site in (block.attention_site, block.feedforward_site, block.parallel_site):
            if site is None:
                assert kind == "albert"
            else:
                assert id(getattr(*site)) in names


@pytest.mark.parametrize("kind", KINDS)
def test_sites_give_what_is_added_to_the_residual(kind):
    """A sub-layer whose site gives nothing changes nothing but the norm after it: with all of them silent, every token is
    what it was, normalised. So the model cannot tell what other tokens a text has."""
    model = encoders.load(folder(kind), pooler="new").eval()
    ids = torch.tensor([[2, 4, 5, 6, 3], [2, 5, 4, 4, 3]])

    def silent(module, _, output):
        return output * 0

    hidden = [model.base_model(input_ids=ids).last_hidden_state]
    for block in encoders.blocks(model):
        for parent, name in (block.attention_site, block.feedforward_site):
            getattr(parent, name).register_forward_hook(silent)
    hidden.append(model.base_model(input_ids=ids).last_hidden_state)
    first_differs = [not torch.allclose(values[0, 0], values[1, 0], atol=1e-6) for values in hidden]
    last_differs = [not torch.allclose(values[0, -1], values[1, -1], atol=1e-6) for values in hidden]
    assert last_differs == [True, False] and first_differs == [kind not in DECODERS, False]


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_is_what_the_task_adds_and_drawn_by_its_seed(kind):
    def head(seed):
        torch.manual_seed(seed + 1)  # has no say
        return dict(encoders.head_parameters(encoders.load(folder(kind), seed=seed // 2)))

    one, same, other = (head(seed) for seed in (0, 1, 2))
    assert sum(p.numel() for p in one.values()) == HEAD.get(kind, DENSE + OUT)
    assert all(torch.equal(p, same[name]) for name, p in one.items())
    assert any(not torch.equal(p, other[name]) for name, p in one.items())
    new = encoders.head_parameters(encoders.load(folder(kind), pooler="new"))
    assert sum(p.numel() for _, p in new) == HEAD.get(kind, DENSE + OUT) + DENSE * (kind in ("bert", "albert"))


@pytest.mark.parametrize("reads", ["", *families.READINGS])
@pytest.mark.parametrize("kind", KINDS)
def test_the_head_reads_what_the_study_says(kind, reads):
    """Beside the base model's own outputs pooled by hand; and a text says the same alone as among longer ones."""
    at = folder(kind)
    plain, model = (encoders.load(at, pooler="new", reads=reading).eval() for reading in ("", reads))
    own = "last" if kind in DECODERS else "mean" if kind == "modernbert" else "first"
    data = encodings(at)
    batch = data.batch(np.arange(8))
    logits = model(**batch).logits
    for i in range(8):
        alone = data.batch([i])
        torch.testing.assert_close(model(**alone).logits[0], logits[i], rtol=1e-4, atol=1e-5)
    if kind == "longformer":  # its classifier lets all tokens attend to the first one
        batch["global_attention_mask"] = torch.zeros_like(batch["input_ids"]).index_fill(1, torch.tensor([0]), 1)
    hidden = plain.base_model(**batch).last_hidden_state
    length = batch["attention_mask"].sum(1)
    wanted = {"first": hidden[:, 0], "last": hidden[torch.arange(8), length - 1],
              "mean": torch.stack([row[:n].mean(0) for row, n in zip(hidden, length, strict=True)])}[reads or own]
    if kind == "longformer":
        found = plain.classifier(wanted[:, None])
    else:
        with fast.on_features(plain):
            found = plain(input_ids=torch.full((8, 1), 5), inputs_embeds=wanted[:, None]).logits
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reads", ["", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_head_trains_on_what_it_is_scored_on(kind, reads):
    at = folder(kind)
    data = encodings(at)
    model, before, outcome = trained("head", at, data, reads=reads)
    head = dict(encoders.head_parameters(model))
    assert outcome.status == "ok" and outcome.steps == 3
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == (name not in head), name
    kept = fast.features(model, data, CPU, "fp32")
    assert (kept is not None) == ("features" in outcome.shortcuts) == (kind != "longformer")
    if kept is not None:
        with fast.on_features(model), torch.no_grad():
            quick = model.eval()(**kept.batch(np.arange(len(data)))).logits.numpy()
        np.testing.assert_allclose(quick, training.logits(model, data), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_all_parameters_train_on_pairs_of_texts(kind):
    at = folder(kind)
    model, before, outcome = trained("full", at, encodings(at, texts=2))
    assert outcome.status == "ok"
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert all("layer.1.attention.self" in name for name in still) if kind == "longformer" else not still  # the first token,
    # the only one that is read, attends by other weights there


@pytest.mark.parametrize("kind", KINDS)
def test_shortcuts_are_those_that_prove_themselves(kind):
    model = encoders.load(folder(kind), pooler="new")
    with fast.shortcuts(model, encodings(folder(kind)), CPU, seed=0) as used:
        pass
    assert ("attention" in used) == (kind not in ("mpnet", "deberta", "deberta-v2", "longformer"))
    assert ("first_token" in used) == (kind in fast.READS_FIRST)


def test_a_shortcut_that_changes_what_a_model_says_is_not_taken(monkeypatch):
    """Were the first token taken for another one, or the mean for what is read, the proof would tell."""
    at = folder("bert")
    data, attend = encodings(at), fast._attend_first
    monkeypatch.setattr(fast, "_attend_first", lambda module, hidden, *more, **named: attend(
        module, hidden.roll(1, 1), *more, **named))
    _, _, outcome = trained("full", at, data)
    assert outcome.shortcuts == ["attention", "rows"]
    monkeypatch.setattr(families, "own_reading", lambda config: "mean")
    _, _, outcome = trained("head", at, data)
    assert "features" not in outcome.shortcuts and outcome.status == "ok"


@pytest.mark.parametrize("kind", ["modernbert", "gpt2"])
def test_stacked_models_that_say_something_else_are_no_fleet(kind):
    at = folder(kind)
    members = [methods.apply("full", encoders.load(at, seed=seed)) for seed in range(2)]
    with pytest.raises(ValueError, match="train them one by one"):
        fleet.train(members, [encodings(at)] * 2, budgets.Budget(steps=2), lr=1e-3, seeds=[0, 1], precision="fp32")


@pytest.mark.parametrize("kind", UNKNOWN)
def test_another_encoder_trains_whole_or_its_head_and_refuses_the_rest_in_a_sentence(kind, tmp_path):
    at = folder(kind)
    data = encodings(at)
    for method in ("full", "head", "bitfit"):
        try:
            model, before, outcome = trained(method, at, data)
        except ValueError as error:
            assert method == "bitfit" and "has no biases to train: bitfit cannot be used with it; layernorm or" in f"{error}"
            continue
        said = training.logits(model, data)
        assert outcome.status == "ok" and np.isfinite(said).all()
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if not p.requires_grad)
        methods.save(model, tmp_path / "trained.safetensors")
        np.testing.assert_array_equal(training.logits(methods.load(tmp_path / "trained.safetensors", at), data), said)
    for method in ("adapter", "lora"):
        with pytest.raises(ValueError, match=f"has no layers that .* cannot be used .* full and head can.*{families.KNOWN}"):
            methods.apply(method, copy.deepcopy(model))
    with pytest.raises(ValueError, match=f"reads must be left out for .*, a {kind}"):
        encoders.load(at, reads="mean")


@pytest.mark.parametrize("kind", UNKNOWN)
def test_another_encoder_says_of_a_text_among_longer_ones_what_it_says_of_it_alone(kind):
    """Also where its own way would mix the padding in, or read it."""
    model, data = encoders.load(folder(kind), pooler="new").eval(), encodings(folder(kind))
    together = model(**data.batch(np.arange(8))).logits
    alone = torch.cat([model(**data.batch([i])).logits for i in range(8)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    del vars(model)["forward" if kind in MIX_PADDING_IN else "name_or_path"]
    own = model(**data.batch(np.arange(8))).logits
    assert torch.allclose(own, alone, rtol=1e-4, atol=1e-5) == (kind not in MIX_PADDING_IN)


@pytest.mark.parametrize("kind", REFUSED)
def test_an_encoder_that_takes_no_texts_as_they_come_is_refused_in_a_sentence(kind):
    reason = REFUSED[kind][1]
    with pytest.raises(ValueError, match=f"a {kind}, cannot be trained on texts as they come .*{reason}.*: give "):
        encoders.load(folder(kind))


def test_an_encoder_that_transformers_has_no_classifier_for_is_refused_in_a_sentence(tmp_path):
    transformers.AutoConfig.for_model("mamba").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match=f"is a mamba, which transformers has no classifier for: .* {families.KNOWN}$"):
        encoders.load(tmp_path)


def test_a_copy_of_a_model_that_takes_one_length_at_a_time_has_weights_of_its_own():
    data = encodings(folder("fnet"))
    model = encoders.load(folder("fnet")).eval()
    before, other = training.logits(model, data), copy.deepcopy(model)
    with torch.no_grad():
        other.classifier.weight.mul_(2)
    assert np.array_equal(training.logits(model, data), before)
    assert not np.allclose(training.logits(other, data), before)


def test_a_pooler_that_is_not_read_is_no_part_of_the_head():
    head = encoders.head_parameters(encoders.load(folder("big_bird"), pooler="new"))
    assert [name for name, _ in head if not name.startswith("classifier")] == []


@pytest.mark.parametrize("kind, reason", [("bert", ""), ("fnet", ""), ("deberta", "cannot be converted to .*BFloat16")])
def test_a_step_in_bf16_is_tried(kind, reason):
    at = folder(kind)
    model = methods.apply("full", encoders.load(at))
    found = bf16.fails(model, encoders.tokenizer(at), CPU)
    assert re.search(reason, found) and bool(found) == bool(reason)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("method", ["full", "prompt"])
@pytest.mark.parametrize("kind", ["bert", "rembert"])
def test_the_trial_s_texts_fit_a_small_encoder(kind, method):
    at = folder(kind, max_position_embeddings=16)
    model = methods.apply(method, encoders.load(at), **({"tokens": 5} if method == "prompt" else {}))
    assert trial.batch(encoders.tokenizer(at), model)["input_ids"].shape[1] == (11 if method == "prompt" else 16)
    assert bf16.fails(model, encoders.tokenizer(at), CPU) == ""


def test_what_fails_in_fp32_too_is_not_laid_to_bf16():
    at = folder("bert")
    model = encoders.load(at)
    model.bert.encoder.layer[0].output.dense.weight.data = torch.zeros(WIDTH, 7)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        bf16.fails(model, encoders.tokenizer(at), CPU)


def test_the_trial_leaves_buffers_as_they_were():
    """I-BERT counts ranges in training, which only its quantised mode reads: that is refused."""
    fresh = encoders.from_config(transformers.AutoConfig.for_model("ibert", **SIZES)).state_dict()
    own = {name: values for name, values in encoders.load(folder("ibert")).state_dict().items() if name.endswith(".x_max")}
    assert own and all(torch.equal(values, fresh[name]) for name, values in own.items())
    with pytest.raises(ValueError, match=r"a ibert, cannot be .*training moves its .*, which is no parameter and would"):
        encoders.load(folder("ibert", quant_mode=True))


def test_an_encoder_within_which_its_head_is_cannot_be_told_apart():
    sizes = {"d_model": 16, "d_latents": 16, "num_latents": 4, "num_blocks": 1, "num_self_attends_per_block": 1,
             "num_self_attention_heads": 2, "num_cross_attention_heads": 2, "vocab_size": 60, "max_position_embeddings": 80}
    model = transformers.PerceiverForSequenceClassification(transformers.AutoConfig.for_model("perceiver", **sizes))
    with pytest.raises(ValueError, match="PerceiverForSequenceClassification does not keep its encoder apart from its head"):
        encoders.head_parameters(model)


@pytest.mark.parametrize("kind", ["fnet", "xlnet"])
def test_one_length_at_a_time_takes_labels_and_flags(kind):
    model, data = encoders.load(folder(kind)).eval(), encodings(folder(kind))
    batch, labels = data.batch(np.arange(8)), torch.arange(8) % 2
    output = model(**batch, labels=labels, output_hidden_states=True)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, labels))
    torch.testing.assert_close(output.logits, model(**batch).logits)
    loss, logits = model(**batch, labels=labels, return_dict=False)
    assert loss == output.loss and torch.equal(logits, output.logits)


def test_a_pooler_that_is_not_read_may_be_lacking_and_is_the_same_every_time():
    at = tempfile.mkdtemp(prefix="big_bird-")
    whole = transformers.AutoModel.from_pretrained(folder("big_bird"), add_pooling_layer=False)
    whole.save_pretrained(at)
    encoders.tokenizer(folder("big_bird")).save_pretrained(at)
    one, other = (encoders.load(at, pooler=pooler, seed=seed) for seed, pooler in enumerate(("new", "pretrained")))
    assert torch.equal(one.bert.pooler.weight, other.bert.pooler.weight)


@pytest.mark.parametrize("kind, kept", [("gpt_neo", False), ("xlm", False), ("xlnet", True), ("roformer", True)])
def test_segments_are_given_to_encoders_that_know_them(kind, kept):
    pair = encoders.tokenizer(folder(kind))("a", "b")
    assert ("token_type_ids" in pair) == kept and "attention_mask" in pair


@pytest.mark.parametrize("method", ["full", "bitfit"])
def test_training_in_a_precision_that_a_family_cannot_take_says_which_it_can(method):
    at = folder("deberta")
    model = methods.apply(method, encoders.load(at))
    with pytest.raises(ValueError, match=r'Deberta\w+ cannot be trained in bf16 \(.*BFloat16.*\): say precision="fp32"$'):
        training.train(model, encodings(at), budgets.Budget(steps=1), lr=1e-3, precision="bf16", device=CPU)


@pytest.mark.parametrize("place", ["answers", "gradients"])
def test_numbers_that_overflow_in_bf16_are_found(place):
    at = folder("bert")
    model = methods.apply("full", encoders.load(at))

    def spoilt(*given):
        if given[-1].dtype == torch.bfloat16:
            return given[-1] * 1e38 * 1e38

    layer = model.bert.encoder.layer[0].output.dense
    if place == "answers":
        layer.register_forward_hook(spoilt)
    else:
        layer.register_forward_hook(lambda *given: given[-1].register_hook(spoilt) and None)
    assert bf16.fails(model, encoders.tokenizer(at), CPU) == "its numbers overflow"


def test_an_unknown_reading_is_an_error():
    with pytest.raises(ValueError, match="reads must be one of first, mean, last, or left out, got 'middle'"):
        encoders.load(folder("bert"), reads="middle")


@pytest.mark.parametrize("kind, reads", [
    ("bert", "mean"), ("modernbert", "first"), ("modernbert", "last"), ("gpt2", "mean")])
def test_what_is_read_survives_saving(kind, reads, tmp_path):
    model = encoders.load(folder(kind), pooler="pretrained", reads=reads).eval()
    model.save_pretrained(tmp_path)
    encoders.tokenizer(folder(kind)).save_pretrained(tmp_path)
    methods.save(methods.apply("head", model), tmp_path / "trained.safetensors")
    for again in (encoders.load(tmp_path).eval(), methods.load(tmp_path / "trained.safetensors", folder(kind))):
        assert families.reading(again.config) == reads
        batch = encodings(folder(kind)).batch(np.arange(4))
        assert torch.equal(again(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_pads_with_its_end_where_it_has_no_padding(kind):
    """A padded batch then says what texts alone say, though the configuration names another padding, or none."""
    at = folder(kind, padding=None)
    settings = json.loads(Path(at, "config.json").read_text())
    assert encoders.tokenizer(at).pad_token == "[SEP]"
    model, data = encoders.load(at).eval(), encodings(at)
    assert model.config.pad_token_id == 3 != settings.get("pad_token_id")
    alone = torch.cat([model(**data.batch([i])).logits for i in range(6)])
    torch.testing.assert_close(model(**data.batch(np.arange(6))).logits, alone, rtol=1e-4, atol=1e-5)


def test_a_regression_of_a_decoder_starts_without_an_offset():
    model = encoders.load(folder("gpt2"), num_labels=1, output_bias=2.5)
    assert model.score.bias is None


@pytest.mark.parametrize("kind, longest", [("mpnet", 78), ("roberta", 79), ("albert", 80), ("gpt2", 80), ("llama", 80)])
def test_texts_may_be_as_long_as_the_encoder_has_positions(kind, longest):
    at = folder(kind)
    model, tokenizer = encoders.load(at), encoders.tokenizer(at)
    encoders.check_fit(at, model, tokenizer, longest)
    model(input_ids=torch.full((1, longest), 5))
    with pytest.raises(ValueError, match=f"max_length must be at most {longest}"):
        encoders.check_fit(at, model, tokenizer, longest + 1)
