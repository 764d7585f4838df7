"""Pre-trained encoders: load one with a fresh head, its tokenizer, and whether the two fit."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Generator, nn

from studykit import checks
from studykit.models import families, trial
from studykit.models.families import MORE_ROLES, READINGS, ROLES, Block, blocks, head_parameters, positions
from studykit.models.files import digest, located, opening, quiet, weights_file

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["MORE_ROLES", "READINGS", "ROLES", "Block", "blocks", "check_fit", "digest", "draw_head", "from_config",
           "generator", "head_parameters", "load", "located", "opening", "positions", "quiet", "tokenizer", "weights_file"]
DEVIATION = 0.02  # of a head's weights, where the encoder's configuration names none
STRAY = re.compile(r"(position_ids|inv_freq|attn(\.attention)?\.(masked_)?bias|word_embeddings\._weight)$")  # of old files
INSERTED = re.compile(r"(^|\.)(prompt|prefix|adapters?|lora_\w+|ia3_\w+)(\.|$)")  # what methods put into an encoder


def load(encoder: str | Path, num_labels: int = 2, seed: int = 0, pooler: str = "pretrained",
         output_bias: float | None = None, pretrained: bool = True, reads: str = "") -> "PreTrainedModel":
    """A sequence classifier with the encoder's weights, in fp32, and a head drawn by ``seed`` alone.

    ``encoder`` is a hub id, a folder, or ``"mini"``, the miniature that comes with the package. The head is what the task
    adds: everything outside the base model, and with ``pooler="new"`` the pooler too, for encoders whose pre-training
    never trained theirs. It ``reads`` the ``first`` token, the ``mean`` or the ``last`` token, or (``""``) what the
    encoder's own class does. ``output_bias`` starts the output's bias there (a regression's mean label); a decoder's output
    has no bias, and starts without. The same seed gives the same head whatever was drawn before. With ``pretrained=False``
    the encoder's weights are random, drawn by ``seed``.
    An encoder of a family that is not known is tried first (``trial.passed``).
    Raises ``FileNotFoundError`` or ``ValueError`` for a folder that is not a safetensors checkpoint of an encoder.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    checks.value("pooler", pooler, str)
    encoder = located(encoder)
    weights_file(encoder)
    config = _config(encoder, num_labels=num_labels)
    if type(config) not in AutoModelForSequenceClassification._model_mapping:
        raise ValueError(f"{encoder} is a {config.model_type}, which transformers has no classifier for: give another "
                         f"encoder, such as one of {families.KNOWN}")
    config.new_pooler = pooler == "new" and config.model_type not in families.POOLER_UNREAD
    config.return_dict = True
    if getattr(config, "chunk_size_feed_forward", 0):  # the same numbers in one piece: some batches cannot be cut so
        config.chunk_size_feed_forward = 0
    _set_reading(config, reads, encoder)
    if families.own_reading(config) in ("last", ""):  # it may look for the last token that is no padding: the tokenizer's
        config.pad_token_id, config.use_cache = tokenizer(encoder).pad_token_id, False
    if not pretrained:
        return _tried(from_config(config, seed, output_bias), encoder)
    with opening("weights", encoder), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            encoder, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True, ignore_mismatched_sizes=True)
    _check_weights(model, loading, encoder)
    return _tried(draw_head(_presented(model), seed, output_bias), encoder)


def _tried(model, encoder):
    """The model; one of a family that is not known, once it has been tried."""
    known = families.family(model.config)
    return model if known else trial.passed(model, tokenizer(encoder), encoder)


def _config(encoder, **settings):
    from transformers import AutoConfig

    with opening("config.json", encoder):
        return AutoConfig.from_pretrained(located(encoder), trust_remote_code=False, **settings)


def _set_reading(config, reads, encoder):
    """Let the configuration say what the head reads: ``config.reads``, or (``""``) what the family's own classifier does."""
    if reads not in ("", *families.READINGS):
        raise ValueError(f"reads must be one of {', '.join(families.READINGS)}, or left out, got {reads!r}")
    reads, own = reads or getattr(config, "reads", ""), families.own_reading(config)
    if reads and not own:
        raise ValueError(f"reads must be left out for {encoder}, a {config.model_type}: what the head reads can be chosen "
                         f"for {families.KNOWN}")
    if config.model_type == "modernbert" and reads in ("first", "mean"):  # its own classifier does either
        config.classifier_pooling = "cls" if reads == "first" else "mean"
    config.reads = reads


def _presented(model):
    """The model, its head reading what its configuration says."""
    if families.reading(model.config) != families.own_reading(model.config):
        model.base_model.register_forward_hook(families.present, with_kwargs=True)
    return model


def _check_weights(model, loading, encoder):
    """Raise ``ValueError`` where the encoder's weights are not exactly those of the file."""
    if strange := _strange(model, loading["unexpected_keys"]):
        raise ValueError(f"the weights of {encoder} hold {strange[0]}, which the encoder of its config.json has not: it "
                         "would be dropped; give a folder with the encoder alone (methods.load opens what was saved)")
    head = {name for name, _ in head_parameters(model)}
    lost = {*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])} - head
    own, prefix = dict(model.named_parameters()), f"{model.base_model_prefix}."
    if model.config.model_type in families.POOLER_UNREAD:  # nothing depends on it
        for name in (unread := {name for name in lost & own.keys() if name.startswith(f"{prefix}pooler.")}):
            nn.init.zeros_(own[name])
        lost -= unread
    if lost := lost & own.keys():
        first = min(lost)
        part = first.removeprefix(prefix).split(".")[0]
        inside = {name for name in own if name.startswith(prefix)}
        missing = set(loading["missing_keys"])
        whole = not missing >= inside and missing >= {name for name in inside if name.startswith(f"{prefix}{part}.")}
        raise ValueError(f"the weights of {encoder} lack {first} in the shape of its config.json: it would stay random: "
                         + ("say pooler: new, so that it is part of the head" if part == "pooler"
                            else f"give the whole model, with its {part}" if whole else "fetch its folder anew"))


def _strange(model, unexpected):
    """Names of an encoder's file that the encoder does not know, in order; heads of other tasks, poolers that the classifier
    leaves out and buffers of old files are none of them."""
    prefix, parts = f"{model.base_model_prefix}.", {name for name, _ in model.base_model.named_children()}
    unread = ("pooler.", "decoder.") if model.config.model_type == "funnel" else ("pooler.",)
    unknown = [name for name in sorted(unexpected)
               if not STRAY.search(name) and not name.removeprefix(prefix).startswith(unread)]
    return [name for name in unknown
            if name.startswith(prefix) or name.split(".")[0] in parts or INSERTED.search(name)]


def from_config(config: "PretrainedConfig", seed: int = 0, output_bias: float | None = None) -> "PreTrainedModel":
    """The same architecture with random weights: for counting, for tests, and to see what pre-training buys."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    return draw_head(_presented(model), seed, output_bias)


def draw_head(model: "PreTrainedModel", seed: int, output_bias: float | None = None) -> "PreTrainedModel":
    """Redraw the head in place from a generator of its own: normal weights, zero biases. Returns the model."""
    generator = Generator().manual_seed(seed)
    head = {id(parameter) for _, parameter in head_parameters(model)}
    modules = [module for module in model.modules() if id(getattr(module, "weight", None)) in head]
    linear = [module for module in modules if isinstance(module, nn.Linear)]
    deviation = getattr(model.config, "initializer_range", None) or getattr(model.config, "init_std", None) or DEVIATION
    for module in modules:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=deviation, generator=generator)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            nn.init.zeros_(module.bias)
    if output_bias is not None and linear[-1].bias is not None:
        nn.init.constant_(linear[-1].bias, output_bias)
    return model


def generator(seed: int, stream: int) -> Generator:
    """A generator whose draws have nothing in common with those of another stream of the same seed. (torch's own takes only
    the low 32 bits of a seed, so adding a large constant would give the same draws again.)"""
    return Generator().manual_seed(int(np.random.SeedSequence([seed, stream]).generate_state(1)[0]))


def tokenizer(encoder: str | Path) -> "PreTrainedTokenizerBase":
    """The encoder's tokenizer. It gives no segments (``token_type_ids``) that the encoder has no embedding for, and where a
    decoder's has no padding token, its end of text pads. Raises ``ValueError`` where there is none, or it cannot pad."""
    from transformers import AutoTokenizer

    config = _config(encoder)
    with opening("tokenizer", encoder):
        loaded = AutoTokenizer.from_pretrained(located(encoder), trust_remote_code=False)
    if len(loaded) <= len(loaded.all_special_ids):  # what transformers makes of a folder without a tokenizer
        raise ValueError(f"{encoder} has no tokenizer: put the tokenizer.json that it was pre-trained with into its folder")
    if loaded.pad_token_id is None and families.own_reading(config) in ("last", ""):
        loaded.pad_token = loaded.eos_token
    if loaded.pad_token_id is None:
        raise ValueError(f"the tokenizer of {encoder} has no padding token, so batches cannot be made: name one as "
                         "pad_token in its tokenizer_config.json")
    segments = getattr(config, "type_vocab_size", None if config.model_type in families.SEGMENTED else 0)
    if segments is not None and max(loaded("a", "a").get("token_type_ids", [0])) >= segments:
        loaded.model_input_names = [name for name in loaded.model_input_names if name != "token_type_ids"]
    if "attention_mask" not in loaded.model_input_names:  # FNet's own leaves it out, and padding is not to be read
        loaded.model_input_names = [*loaded.model_input_names, "attention_mask"]
    return loaded


def check_fit(encoder: str | Path, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", max_length: int,
              texts: int = 1) -> None:
    """Raise ``ValueError`` where the encoder has no embedding for a token of the tokenizer or for one of its positions, or
    where ``max_length`` leaves no room for a task's one or two texts."""
    words = families.words(model)
    if words is not None and len(tokenizer) > len(words):
        raise ValueError(f"the tokenizer of {encoder} has {len(tokenizer)} tokens, its weights {len(words)}: put its own "
                         "there")
    special = tokenizer.num_special_tokens_to_add(pair=texts == 2)
    if max_length < special + texts:
        raise ValueError(f"max_length must be at least {special + texts}, got {max_length}: the tokenizer of {encoder} adds "
                         f"{special} tokens, and each text needs one")
    virtual = getattr(model, "virtual_tokens", 0)
    if (most := positions(model)) and max_length + virtual > most:
        beside = f" less {virtual} virtual tokens" if virtual else ""
        raise ValueError(f"max_length must be at most {most - virtual}, the positions that {encoder} has{beside}, got "
                         f"{max_length}")
