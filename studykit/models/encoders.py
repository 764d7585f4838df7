"""Pre-trained encoders: load one with a fresh head, and know its parts by type rather than by name."""

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Generator, nn

from studykit import checks


def load(encoder, num_labels=2, seed=0, pooler="pretrained", output_bias=None, pretrained=True):
    """A sequence classifier with the encoder's weights and a head drawn by ``seed`` alone.

    ``encoder`` is a hub id, a folder, or ``"mini"``, the miniature that comes with the package. The head is what the task
    adds: everything outside the base model, and with ``pooler="new"`` the pooler too, for encoders whose pre-training
    never trained theirs. ``output_bias`` starts the output's bias there (a regression's mean label). The same seed gives
    the same head whatever was drawn before. With ``pretrained=False`` the encoder's weights are random, drawn by ``seed``.
    Raises ``FileNotFoundError`` or ``ValueError`` for a folder that is not a safetensors checkpoint.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    checks.value("pooler", pooler, str)
    encoder = located(encoder)
    weights_file(encoder)
    with _reading("config.json", encoder):
        config = AutoConfig.from_pretrained(encoder, num_labels=num_labels, trust_remote_code=False)
    config.new_pooler = pooler == "new"
    if not pretrained:
        return from_config(config, seed, output_bias)
    with _reading("model.safetensors", encoder):
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            encoder, config=config, use_safetensors=True, trust_remote_code=False, output_loading_info=True,
            ignore_mismatched_sizes=True)
    head = {name for name, _ in head_parameters(model)}
    lost = {*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])}
    if lost := sorted(lost & {name for name, _ in model.named_parameters()} - head):
        raise ValueError(f"the weights of {encoder} lack {lost[0]} in the shape of its config.json: it would stay random"
                         + (": say pooler: new, so that it is part of the head" if "pooler" in lost[0]
                            else ": fetch its folder anew"))
    return draw_head(model, seed, output_bias)


def located(encoder):
    """Where an encoder's files are: the package's folder for ``"mini"``, else what was given."""
    from studykit import mini

    return str(mini.ENCODER) if encoder == "mini" else str(encoder)


def from_config(config, seed=0, output_bias=None):
    """The same architecture with random weights: for counting, for tests, and to see what pre-training buys."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config)
    return draw_head(model, seed, output_bias)


def draw_head(model, seed, output_bias=None):
    """Redraw the head in place from a generator of its own: normal weights, zero biases. Returns the model."""
    generator = Generator().manual_seed(seed)
    head = {id(parameter) for _, parameter in head_parameters(model)}
    linear = [module for module in model.modules()
              if isinstance(module, nn.Linear) and id(module.weight) in head]
    for module in linear:
        nn.init.normal_(module.weight, std=model.config.initializer_range, generator=generator)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if output_bias is not None:
        nn.init.constant_(linear[-1].bias, output_bias)
    return model


def generator(seed, stream):
    """A generator whose draws have nothing in common with those of another stream of the same seed. (torch's own takes only
    the low 32 bits of a seed, so adding a large constant would give the same draws again.)"""
    return Generator().manual_seed(int(np.random.SeedSequence([seed, stream]).generate_state(1)[0]))


def head_parameters(model):
    """``(name, parameter)`` of the head: what the task adds to the encoder and every method trains."""
    prefix = model.base_model_prefix + "."
    pooler = f"{prefix}pooler." if getattr(model.config, "new_pooler", False) else None
    return [(name, parameter) for name, parameter in model.named_parameters()
            if not name.startswith(prefix) or (pooler and name.startswith(pooler))]


def tokenizer(encoder):
    """The encoder's tokenizer. Raises ``ValueError`` where there is none, or it cannot pad."""
    from transformers import AutoTokenizer

    with _reading("tokenizer", encoder):
        loaded = AutoTokenizer.from_pretrained(located(encoder), trust_remote_code=False)
    if len(loaded) <= len(loaded.all_special_ids):  # what transformers makes of a folder without a tokenizer
        raise ValueError(f"{encoder} has no tokenizer: put the tokenizer.json that it was pre-trained with into its folder")
    if loaded.pad_token_id is None:
        raise ValueError(f"the tokenizer of {encoder} has no padding token, so batches cannot be made: name one as "
                         "pad_token in its tokenizer_config.json")
    return loaded


def check_fit(encoder, model, tokenizer, max_length):
    """Raise ``ValueError`` where the encoder has no embedding for a token of the tokenizer or for one of its positions."""
    if len(tokenizer) > (words := model.get_input_embeddings().num_embeddings):
        raise ValueError(f"the tokenizer of {encoder} has {len(tokenizer)} tokens, its weights {words}: put its own there")
    positions = getattr(model.config, "max_position_embeddings", max_length)
    table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    if getattr(table, "padding_idx", None) is not None:  # RoBERTa counts its positions from after the padding's
        positions -= table.padding_idx + 1
    if max_length > positions:
        raise ValueError(f"max_length must be at most {positions}, the positions that {encoder} has, got {max_length}")


def weights_file(encoder):
    """The folder's safetensors file, or ``None`` for a hub id, whose files are not here yet."""
    folder = Path(encoder := located(encoder))
    if not folder.is_dir():
        if folder.is_absolute() or str(encoder).startswith("."):
            raise FileNotFoundError(f"no encoder at {encoder}: give a hub id, or a folder with config.json and "
                                    "model.safetensors")
        return None
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{encoder} has no config.json: give an encoder's folder, as save_pretrained writes it")
    if (folder / "model.safetensors").is_file():
        return folder / "model.safetensors"
    if sorted(folder.glob("*.bin")):
        raise ValueError(f"{encoder} has pickled weights only, which can run code when they are opened: "
                         "save it with safetensors first")
    raise FileNotFoundError(f"{encoder} has no model.safetensors, so no weights to load: put them there")


def digest(encoder):
    """SHA-256 of an encoder's weights file (first 16 hex digits); a hub id is fetched, or taken from the cache."""
    file = weights_file(encoder)
    if file is None:
        from huggingface_hub import hf_hub_download

        try:
            file = hf_hub_download(str(encoder), "model.safetensors")
        except (OSError, ValueError) as error:
            raise FileNotFoundError(f"the weights of {encoder} are not here and could not be fetched from the hub "
                                    f"({type(error).__name__}): give --encoder a folder that holds them") from None
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


@dataclass(frozen=True)
class Block:
    """The parts of one transformer layer, whatever its family calls them."""

    module: nn.Module
    linear: dict  # role -> nn.Linear
    attention_site: tuple  # (parent, attribute) whose output is the attention sub-layer's, before the residual sum
    feedforward_site: tuple  # the same for the feed-forward sub-layer
    parallel_site: tuple  # (parent, attribute) of what an adapter beside the feed-forward wraps


ROLES = ("query", "key", "value", "attention_output", "intermediate", "output")


def blocks(model):
    """The encoder's layers as ``Block``s, in order, for the BERT and DistilBERT families (RoBERTa and ELECTRA are of
    BERT's). Raises ``ValueError`` for another architecture."""
    found = [_bert_block(module) or _distilbert_block(module) for module in model.base_model.modules()]
    if not (found := [block for block in found if block]):
        raise ValueError(f"{type(model).__name__} has no layers that this study knows: it knows the families of BERT, "
                         "RoBERTa, ELECTRA and DistilBERT")
    return found


def _bert_block(module):
    if not (hasattr(module, "intermediate") and hasattr(module, "output") and hasattr(module, "attention")):
        return None
    inner, after = module.attention.self, module.attention.output
    linear = dict(zip(ROLES, (inner.query, inner.key, inner.value, after.dense, module.intermediate.dense,
                              module.output.dense), strict=True))
    return Block(module, linear, (after, "dropout"), (module.output, "dropout"), (module, "output"))


def _distilbert_block(module):
    if not (hasattr(module, "sa_layer_norm") and hasattr(module, "ffn")):
        return None
    attention, ffn = module.attention, module.ffn
    linear = dict(zip(ROLES, (attention.q_lin, attention.k_lin, attention.v_lin, attention.out_lin, ffn.lin1,
                              ffn.lin2), strict=True))
    return Block(module, linear, (attention, "out_lin"), (ffn, "dropout"), (module, "ffn"))


@contextlib.contextmanager
def _reading(part, encoder):
    """Within, transformers is quiet, and an error of the many kinds that it raises is one sentence."""
    with _quiet():
        try:
            yield
        except Exception as error:
            reason, *_ = (str(error).strip() or type(error).__name__).splitlines()
            raise ValueError(f"the {part} of {encoder} cannot be read ({reason}): fetch its folder anew, or write it with "
                             "save_pretrained") from error


class _quiet:
    """transformers without its loading report and progress bars: that the head is new is what is meant."""

    def __enter__(self):
        from transformers.utils import logging

        self.before = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *_):
        from transformers.utils import logging

        logging.set_verbosity(self.before[0])
        if self.before[1]:
            logging.enable_progress_bar()
