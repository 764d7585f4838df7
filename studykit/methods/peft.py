"""The methods of the library ``peft``, added in place: parameters keep their names, and the head is trained as with every
other method.

LoRA and IA³ go into linear layers, which ``peft`` wraps. Prefix and prompt tuning put virtual tokens before the text:
``peft``'s own encoder of them becomes a part of the base model, and hooks hand its tokens to the base model's forward
pass. ``peft``'s wrapper around the whole model would do the same, but would rename every parameter, and let the head read a
virtual token.
"""

import contextlib
import copy
import functools
import inspect
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from studykit import Later
from studykit.methods import options, plain, saving

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from studykit.models import encoders, families, trial
else:
    torch, nn, encoders, families, trial = map(Later, ("torch", "torch.nn", "studykit.models.encoders",
                                                       "studykit.models.families", "studykit.models.trial"))

READ = {"first": "the first token", "mean": "the mean", "last": "the last token"}
FUSED = ("query", "key", "value")  # roles that some families keep in one layer, ``qkv``


def lora(model: "PreTrainedModel", rank: int = 8, alpha: float | None = None, dropout: float = 0.0,
         roles: Sequence[str] = ("query", "value"), seed: int = 0) -> None:
    """A change of low rank beside the linear layers of some roles (Hu et al. 2021, arXiv 2106.09685): ``x`` is changed by
    ``x A B · alpha / rank``, where ``B`` starts at zero.

    ``alpha`` is 2 · ``rank`` unless given. Where a family keeps query, key and value in one layer, that is changed whole.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraLayer

    options.check(lora, {"rank": rank, "alpha": alpha, "dropout": dropout, "roles": roles})
    names = layer_names(model, roles)
    scale = 2 * rank if alpha is None else alpha
    _inject(model, LoraConfig(r=rank, lora_alpha=scale, lora_dropout=dropout, target_modules=names,  # type: ignore[arg-type]
                              fan_in_fan_out=_transposed(model, names)))
    generator = encoders.generator(seed, 3)
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            down = layer.get_parameter("lora_A.default.weight")
            drawn = nn.init.kaiming_uniform_(torch.empty(down.shape), a=math.sqrt(5), generator=generator)
            down.data.copy_(drawn)  # as peft draws it; the other factor starts at zero


def ia3(model: "PreTrainedModel", roles: Sequence[str] = ("key", "value", "output")) -> None:
    """A factor for each output of the linear layers of some roles, or, of ``output``, for each input: keys, values and what
    is between the feed-forward's two layers (Liu et al. 2022, arXiv 2205.05638). They start at one."""
    from peft import IA3Config
    from peft.tuners.ia3 import IA3Layer

    options.check(ia3, {"roles": roles})
    names, inner = layer_names(model, roles), layer_names(model, [role for role in roles if role == "output"])
    _inject(model, IA3Config(target_modules=names, feedforward_modules=inner, fan_in_fan_out=_transposed(model, names)))
    for layer in model.modules():
        if isinstance(layer, IA3Layer):
            plain.mark(layer.ia3_l["default"])  # weight decay draws to zero, and these start at one


def prefix(model: "PreTrainedModel", tokens: int = 20, seed: int = 0) -> None:
    """Keys and values of virtual tokens before the text, in every layer (Li and Liang 2021, arXiv 2101.00190), without their
    reparameterisation. The text's positions begin after them, so it has that much less room."""
    from peft import PrefixEncoder, PrefixTuningConfig

    options.check(prefix, {"tokens": tokens})
    try:
        heads, width = _heads(model.config)
        layers = model.config.num_hidden_layers
    except AttributeError as error:
        raise _refusal(model, "prefix", "whose configuration does not say how many heads its layers have") from error
    with _drawing_nothing():
        encoder = PrefixEncoder(PrefixTuningConfig(num_virtual_tokens=tokens, token_dim=heads * width,
                                                   num_layers=layers, num_attention_heads=heads))
    nn.init.normal_(encoder.embedding.weight, generator=encoders.generator(seed, 4))  # as peft draws it
    base = _added(model, "prefix", encoder)
    base.register_forward_pre_hook(functools.partial(_with_prefix, heads=heads, tokens=tokens), with_kwargs=True)
    base.register_forward_hook(functools.partial(_without_prefix, tokens=tokens), with_kwargs=True, prepend=True)
    _prove(model, "prefix", encoder.embedding.weight)


def prompt(model: "PreTrainedModel", tokens: int = 20, seed: int = 0) -> None:
    """Embeddings of virtual tokens before the text (Lester et al. 2021, arXiv 2104.08691). They start as those of words
    drawn from the vocabulary (section 3.2). The head reads the text's own tokens; the text has that much less room."""
    from peft import PromptEmbedding, PromptTuningConfig

    options.check(prompt, {"tokens": tokens})
    if (words := families.words(model)) is None:
        raise ValueError(f"{type(model).__name__} has no table of embeddings for virtual tokens to be like: use full or "
                         "head in place of prompt")
    with _drawing_nothing():
        encoder = PromptEmbedding(PromptTuningConfig(num_virtual_tokens=tokens, token_dim=words.shape[1],
                                                     num_transformer_submodules=1), None)
    drawn = torch.randint(len(words), (tokens,), generator=encoders.generator(seed, 5))
    encoder.embedding.weight = nn.Parameter(words.detach()[drawn.to(words.device)])
    base = _added(model, "prompt", encoder)
    base.register_forward_pre_hook(functools.partial(_with_prompt, tokens=tokens), with_kwargs=True)
    base.register_forward_hook(functools.partial(_without_prompt, tokens=tokens), with_kwargs=True, prepend=True)
    _prove(model, "prompt", encoder.embedding.weight)


def layer_names(model: "PreTrainedModel", roles: Sequence[str]) -> list[str]:
    """Full dotted names of the layers that play these roles. Raises ``ValueError`` for a role that the family has not."""
    blocks = encoders.blocks(model)
    own = [*(FUSED if "qkv" in blocks[0].linear else ()), *blocks[0].linear]
    if unknown := [role for role in roles if role not in own]:
        raise ValueError(f"{type(model).__name__} has no layers of the role {', '.join(map(str, unknown))}: choose from "
                         + ", ".join(own))
    names = {id(module): name for name, module in model.named_modules()}
    return list(dict.fromkeys(names[id(layer)] for block in blocks for role in roles
                              for layer in families.linears(block, role)))


def _transposed(model, names):
    """Whether these layers keep their weights as (inputs, outputs), as GPT-2's do."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(model.get_submodule(names[0]), Conv1D)


def _inject(model, config):
    from peft import inject_adapter_in_model

    with _drawing_nothing():
        inject_adapter_in_model(config, model)


@contextlib.contextmanager
def _drawing_nothing():
    """Within, what is drawn moves no draw of others: ``peft`` draws what is drawn anew here, by the init seed."""
    with torch.random.fork_rng(devices=[]):
        yield


def _heads(config):
    """``(number, width)`` of a layer's heads of keys and values."""
    heads = config.num_attention_heads
    return (getattr(config, "num_key_value_heads", None) or heads,
            getattr(config, "head_dim", None) or config.hidden_size // heads)


def _added(model, name, encoder):
    """The base model, with an encoder of virtual tokens as one of its parts."""
    base = model.base_model
    base.add_module(name, encoder.to(next(base.parameters()).device))
    plain.train(encoder.parameters())
    model.virtual_tokens = encoder.embedding.num_embeddings
    return base


def _named(base, args, kwargs):
    """What the base model is given, by name."""
    return {**dict(zip(inspect.signature(base.forward).parameters, args, strict=False)), **kwargs}


def _shape(given):
    """``(texts, tokens)`` of a batch."""
    return (given["input_ids"] if given.get("input_ids") is not None else given["inputs_embeds"]).shape[:2]


def _longer(mask, shape, tokens, device):
    """An attention mask that sees ``tokens`` more in front: of ones, or one that is added, of zeros."""
    mask = torch.ones(shape, dtype=torch.long, device=device) if mask is None else mask
    return nn.functional.pad(mask, (tokens, 0), value=1 if mask.ndim == 2 else 0)


def _with_prefix(base, args, kwargs, heads, tokens):
    """The base model's arguments, with a cache that holds the virtual tokens' keys and values."""
    from transformers import DynamicCache

    given = _named(base, args, kwargs)
    shape, device = _shape(given), base.prefix.embedding.weight.device
    _check_room(base, shape[1], tokens)
    values = base.prefix(torch.arange(tokens, device=device)).view(tokens, -1, 2, heads, _heads(base.config)[1])
    cache = DynamicCache()
    for layer, (key, value) in enumerate(values.permute(1, 2, 3, 0, 4)):
        cache.update(key.expand(shape[0], -1, -1, -1), value.expand(shape[0], -1, -1, -1), layer)
    mask = _longer(given.get("attention_mask"), shape, tokens, device)
    renamed = "cache" in inspect.signature(base.forward).parameters  # transformers 5.24 calls it that
    name = "cache" if renamed else "past_key_values"
    return (), {**given, name: cache, "attention_mask": mask}


def _with_prompt(base, args, kwargs, tokens):
    """The base model's arguments, with embeddings in place of tokens, the virtual ones in front."""
    given = _named(base, args, kwargs)
    shape, device = _shape(given), base.prompt.embedding.weight.device
    _check_room(base, shape[1], tokens)
    words = given.pop("inputs_embeds", None)
    words = base.get_input_embeddings()(given.pop("input_ids")) if words is None else words
    words = words[0] if isinstance(words, tuple) else words  # I-BERT's come with their scale
    virtual = base.prompt(torch.arange(tokens, device=device)).to(words.dtype).expand(shape[0], -1, -1)
    mask = _longer(given.pop("attention_mask", None), shape, tokens, device)
    other = {name: nn.functional.pad(value, (tokens, 0)) if _is_per_token(name, value, shape) else value
             for name, value in given.items()}
    return (), {**other, "inputs_embeds": torch.cat([virtual, words], dim=1), "attention_mask": mask}


def _is_per_token(name, value, shape):
    """Whether an argument says something of each token that an encoder reads; a decoder's gets no virtual ones."""
    return isinstance(value, torch.Tensor) and value.shape == shape and not name.startswith("decoder_")


def _without_prefix(base, _, given, output, tokens):
    """The base model's output; hooks that come later, such as that of ``reads``, see the text's own mask."""
    given["attention_mask"] = given["attention_mask"][..., tokens:]
    return output


def _without_prompt(base, _, given, output, tokens):
    """The base model's output for the text's own tokens."""
    if output.last_hidden_state.shape[1] == given["inputs_embeds"].shape[1]:  # a decoder's has the text's own tokens
        output.last_hidden_state = output.last_hidden_state[:, tokens:]
    if output.get("pooler_output") is not None:
        output.pooler_output = families.pooled(base, output.last_hidden_state)
    return _without_prefix(base, _, given, output, tokens)


def _check_room(base, length, tokens):
    """Raise ``ValueError`` where a text and the virtual tokens need more positions than the encoder has."""
    table = getattr(base, "wpe", None) or getattr(getattr(base, "embeddings", None), "position_embeddings", None)
    if table is None:  # positions are relative, or turned
        return
    positions = len(table.weight) - (0 if table.padding_idx is None else table.padding_idx + 1)
    if length + tokens > positions:
        raise ValueError(f"{type(base).__name__} has {positions} positions, too few for {tokens} virtual tokens and a text "
                         f"of {length}: max_length must be at most {positions - tokens}, or there must be fewer tokens")


def _prove(model, name, weight):
    """Raise ``ValueError`` unless a pass over two texts shows that every virtual token reaches the logits (and, with prefix,
    in every layer), that the base model gives something for each of the texts' own tokens, and that padding moves nothing:
    some families cannot take what they are given, others leave it out without a word."""
    if weight.device.type == "meta":  # nothing there can be computed
        return
    inputs = {name: values.to(weight.device) for name, values in _two_texts(model.config).items()}
    training, why, lengths = model.training, "whose layers do not take the virtual tokens", []
    hook = model.base_model.register_forward_hook(lambda *given: lengths.append(given[-1].last_hidden_state.shape[1]))
    model.eval()
    try:
        logits = model(**inputs).logits
        given = lengths in ([6], [3, 6])  # at once, or one length at a time
        reached = logits.requires_grad and _all_reach(model, name, torch.autograd.grad(logits.square().sum(), [weight])[0])
        if given and reached and trial.leaves_padding_out(model, inputs):
            return
        cause = None
        if reached:
            why = "whose answers padding moves then" if given else "whose outputs are not one for each token"
    except Exception as error:  # whatever a family raises where it cannot take them
        cause = error
    finally:
        model.train(training)
        hook.remove()
    raise _refusal(model, name, why) from cause


def _two_texts(config):
    """A batch of six tokens and of three, which is padded. An encoder–decoder reads at the text's end, so each has one."""
    padding, end = config.pad_token_id or 0, config.eos_token_id if config.is_encoder_decoder else None
    words = torch.tensor([word for word in range(15) if word not in (padding, end)][:12]).view(2, 6)
    mask = (torch.arange(6) < torch.tensor([[6], [3]])).long()
    words[1, 3:] = padding
    if end is not None:
        words[[0, 1], [5, 2]] = end
    return {"input_ids": words, "attention_mask": mask}


def _refusal(model, name, why):
    others = "lora, ia3 or adapter" if families.family(model.config) else "full or head"
    return ValueError(f"{name} cannot be used with {type(model).__name__} in this version of transformers, {why}: use "
                      f"{others} in its place")


def _all_reach(model, name, gradient):
    """Whether every virtual token moves the logits: by its embedding, or by its keys and values in every layer."""
    parts = 2 * model.config.num_hidden_layers if name == "prefix" else 1
    return bool(gradient.unflatten(1, (parts, -1)).any(-1).all())


def merged(model: "PreTrainedModel", labels: Sequence[str] = ()) -> "PreTrainedModel":
    """A copy of a model whose LoRA or IA³ is multiplied into its weights, so that it is one of the plain architecture again,
    in fp32: the same logits to rounding, and ``save_pretrained`` writes a folder that ``transformers`` opens, with the names
    of the ``labels`` in it.

    A model of ``full``, ``head`` or any other method that adds no parameters is copied as it is. Raises ``ValueError`` for
    ``adapter``, ``prefix`` and ``prompt``, which are no change of weights, and for a head that does not read what its class
    in ``transformers`` reads.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    if (reads := families.reading(model.config)) != (own := families.own_reading(model.config)):
        raise ValueError(f"a head that reads {READ[reads]} cannot be merged, since plain {type(model).__name__} reads "
                         f"{READ[own]}: keep what was trained with methods.save, and open it with methods.load")
    if (name := vars(model)["method"]["method"]) in ("adapter", "prefix", "prompt"):
        raise ValueError(f"{name} cannot be merged into the encoder's weights: keep what was trained with methods.save, and "
                         "open it with methods.load")
    plain_model = copy.deepcopy(model).float()
    saving.name_labels(plain_model, labels)
    for name, module in list(plain_model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, own = name.rpartition(".")
            setattr(plain_model.get_submodule(parent), own, module.get_base_layer())
    plain_model.__dict__.pop("peft_config", None)
    return plain_model.eval()
