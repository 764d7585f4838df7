"""The fine-tuning methods: each is one short function that says which parameters train.

``apply`` freezes the whole model, calls the method's function, and trains the head, which every method does.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from studykit import Later, checks
from studykit.methods import options as _options
from studykit.methods.peft import ia3, lora, merged, prefix, prompt
from studykit.methods.plain import adapter, biases, bitfit, full, head, is_norm, last_k, layernorm, mark, random, train
from studykit.methods.saving import load, save, switch

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from studykit.methods import adapters
    from studykit.models import encoders, families
else:  # names and options are checked where records are only read, and there nobody waits for torch
    nn, adapters, encoders, families = map(Later, ("torch.nn", "studykit.methods.adapters", "studykit.models.encoders",
                                                   "studykit.models.families"))

__all__ = ["METHODS", "adapter", "apply", "bitfit", "check", "counts", "full", "get", "head", "ia3", "last_k", "layernorm",
           "load", "lora", "merged", "only_head", "prefix", "prompt", "random", "save", "shares", "switch"]

METHODS: dict[str, Callable] = {
    "full": full, "bitfit": bitfit, "adapter": adapter, "lora": lora, "ia3": ia3, "prefix": prefix, "prompt": prompt,
    "head": head, "layernorm": layernorm, "random": random, "last_k": last_k}
INSERTED = {".lora_": "lora", ".ia3_": "ia3", "prefix.": "prefix", "prompt.": "prompt"}  # piece of a name -> part
USUAL = ("full", "bitfit", "lora", "adapter", "head")  # methods that somebody who names none compares
HEAD_ONLY = ("head",)  # methods that leave the encoder as it is
ALONE = ("random", "ia3", "prefix", "prompt")  # methods of which no two runs train as one: some of what they train is marked


def get(name: str) -> Callable:
    """The method's function. Raises ``ValueError`` for an unknown name."""
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"unknown method {name!r}: choose from {', '.join(METHODS)}")
    return METHODS[name]


def check(name: str, options: Mapping) -> None:
    """Raise ``ValueError`` where ``options`` is no mapping from options of the method to sound values."""
    checks.value(f"options of {name}", options, dict)
    _options.check(get(name), options)


def apply(name: str, model: "PreTrainedModel", seed: int = 0, **options) -> "PreTrainedModel":
    """Set up ``model`` in place for a method and return it: freeze all, let the method choose, train the head.

    ``options`` are those of the method's function; ``seed`` is the init seed, for methods that draw something of their own.
    Raises ``ValueError`` where the method cannot be used with the model.
    """
    method = get(name)
    drawn = {"seed": seed} if "seed" in inspect.signature(method).parameters else {}
    try:
        inspect.signature(method).bind(model, **options, **drawn)
    except TypeError as error:
        raise ValueError(f"method {name}: {error}") from None
    model.requires_grad_(False)
    method(model, **options, **drawn)
    train(parameter for _, parameter in encoders.head_parameters(model))
    for bias in biases(model):
        if bias.ndim >= 2:  # XLNet's are of shape (heads, width), and no weight matrices
            mark(bias)
    vars(model)["method"] = {"method": name, "options": options}
    return model


def counts(model: "PreTrainedModel") -> dict[str, int]:
    """Numbers of parameters: ``total``, ``trained``, and of those the ``head``'s and the ``encoder``'s (with adapters).

    Single weights count where only they train (``random``).
    """
    head = {id(parameter) for _, parameter in encoders.head_parameters(model)}
    trained = sum(_trained(p) for p in model.parameters())
    in_head = sum(_trained(p) for p in model.parameters() if id(p) in head)
    return {"total": sum(p.numel() for p in model.parameters()), "trained": trained, "head": in_head,
            "encoder": trained - in_head}


def shares(model: "PreTrainedModel") -> dict[str, float]:
    """The share of each part's weights that trains, from 0 to 1, by part: embeddings, the roles of linear layers,
    LayerNorms, what was inserted, pooler, the task's layers, and whatever else a family has."""
    parts = _parts(model)
    order = ("embeddings", *encoders.ROLES, *encoders.MORE_ROLES, "LayerNorms", "adapters", *INSERTED.values(), "other",
             "pooler", "task layers")
    sizes = {name: [0, 0] for name in order}
    for p in model.parameters():
        sizes[parts[id(p)]][0] += _trained(p)
        sizes[parts[id(p)]][1] += p.numel()
    return {name.replace("_", " "): trained / size for name, (trained, size) in sizes.items() if size}


def _parts(model):
    """The part that each parameter belongs to, by the parameter's id."""
    base = model.base_model
    parts = {id(p): "task layers" for p in model.parameters()} | {id(p): "other" for p in base.parameters()}
    for module in base.modules():
        name = "embeddings" if isinstance(module, nn.Embedding) else "LayerNorms" if is_norm(module) else ""
        if name:
            parts |= {id(p): name for p in module.parameters(recurse=False)}
    for block in encoders.blocks(model) if families.family(model.config) else ():
        parts |= {id(p): role for role, linear in block.linear.items() for p in linear.parameters()}
    if getattr(base, "pooler", None) is not None:
        parts |= {id(p): "pooler" for p in base.pooler.parameters()}
    for module in base.modules():
        if isinstance(module, adapters.Adapter):
            parts |= {id(p): "adapters" for p in module.parameters()}
    return parts | {id(p): part for name, p in base.named_parameters() for piece, part in INSERTED.items()
                    if (piece in name if piece.startswith(".") else name.startswith(piece))}


def _trained(parameter):
    if hasattr(parameter, "trained"):
        return int(parameter.trained.sum())
    return parameter.numel() if parameter.requires_grad else 0


def only_head(model: "PreTrainedModel") -> bool:
    """Whether the encoder is frozen whole: then it can stay in evaluation mode and be run once."""
    return counts(model)["encoder"] == 0
