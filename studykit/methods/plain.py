"""The methods that need no library: each says which of the model's own parameters train, or inserts adapters."""

import functools
import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from studykit import Later

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from studykit.methods import adapters
    from studykit.models import encoders, families
else:  # names and options are checked where records are only read, and there nobody waits for torch
    torch, nn, adapters, encoders, families = map(Later, ("torch", "torch.nn", "studykit.methods.adapters",
                                                          "studykit.models.encoders", "studykit.models.families"))


def full(model: "PreTrainedModel") -> None:
    """Every parameter."""
    train(model.parameters())


def head(model: "PreTrainedModel") -> None:
    """Nothing but the head."""


def bitfit(model: "PreTrainedModel", terms: Sequence[str] | None = None) -> None:
    """Every additive bias that the encoder has, whatever module holds it (Ben Zaken et al. 2022, arXiv 2106.10199).

    ``terms`` keeps only the biases of those roles (``encoders.ROLES``): ``("query", "intermediate")`` is the paper's
    subset of section 3.1, which it calls b_q and b_m2.
    """
    chosen = biases(model) if terms is None else _biases_of_roles(model, terms)
    if not chosen:
        raise ValueError(f"{type(model).__name__} has no biases to train: bitfit cannot be used with it; "
                         f"{_others(model)} can")
    train(chosen)


def adapter(model: "PreTrainedModel", placement: str = "houlsby", bottleneck: int = 64, layernorms: bool = True,
            seed: int = 0) -> None:
    """Bottleneck adapters, and the LayerNorms unless told not to (Houlsby et al. 2019, section 2.1)."""
    inserted = adapters.insert(model, placement, bottleneck, seed)
    if layernorms:
        layernorm(model)
    for module in inserted:
        train(module.parameters())


def layernorm(model: "PreTrainedModel") -> None:
    """Weights and biases of the LayerNorms, or of what the family has in their place: a control for BitFit."""
    norms = [parameter for module, _, parameter in encoder_parameters(model) if is_norm(module)]
    if not norms:
        raise ValueError(f"{type(model).__name__} has no LayerNorms with weights of their own: layernorm cannot be used "
                         "with it; full or head can")
    train(norms)


def random(model: "PreTrainedModel", seed: int = 0) -> None:
    """As many single weights as BitFit trains biases, drawn at random: is it the biases, or only their number?"""
    count = sum(bias.numel() for bias in biases(model))
    if not count:
        raise ValueError(f"{type(model).__name__} has no biases, and random trains as many weights as bitfit trains biases: "
                         f"it cannot be used with it; {_others(model)} can")
    weights = [parameter for module, name, parameter in encoder_parameters(model)
               if name == "weight" and parameter.ndim >= 2 and not isinstance(module, nn.Embedding)]
    generator = encoders.generator(seed, 2)
    chosen = torch.zeros(sum(weight.numel() for weight in weights), dtype=torch.bool)
    while missing := count - int(chosen.sum()):  # those drawn twice; a permutation of all weights would take longer
        chosen[torch.randint(len(chosen), (missing,), generator=generator)] = True
    train(weights)
    for weight, flat in zip(weights, chosen.split([weight.numel() for weight in weights]), strict=True):
        mark(weight, flat.view_as(weight))


def last_k(model: "PreTrainedModel", k: int = 1) -> None:
    """The last ``k`` layers."""
    blocks = encoders.blocks(model)
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= len(blocks):
        raise ValueError(f"k must be 1 to {len(blocks)}, the encoder's layers, got {k!r}")
    for block in blocks[-k:]:
        train(block.module.parameters())


def train(parameters: Iterable["nn.Parameter"]) -> None:
    """Let these parameters train."""
    for parameter in parameters:
        parameter.requires_grad_(True)


def mark(parameter: "nn.Parameter", trained: "torch.Tensor | None" = None) -> None:
    """Let no weight decay fall on a parameter, and, where ``trained`` says of each of its weights whether it trains, no
    gradient on the others. A copy of the parameter is marked as well."""
    if trained is None:
        parameter.undecayed = True  # type: ignore[attr-defined]
    else:
        parameter.trained = trained  # type: ignore[attr-defined]
        if parameter.requires_grad:
            parameter.register_hook(lambda gradient: gradient * trained.to(gradient.device))
    vars(parameter)["__deepcopy__"] = functools.partial(_copied, weakref.ref(parameter))  # torch's own drops all this


def _copied(own, memo):
    parameter = own()
    copied = type(parameter).__deepcopy__(parameter, memo)
    mark(copied, getattr(parameter, "trained", None))
    return copied


def encoder_parameters(model: "PreTrainedModel") -> list[tuple["nn.Module", str, "nn.Parameter"]]:
    """``(module, its name for the parameter, parameter)`` of the encoder, the head left out, in the order of its modules."""
    seen = {id(parameter) for _, parameter in encoders.head_parameters(model)}
    found = []
    for module in model.base_model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:  # weights that two modules share count once
                seen.add(id(parameter))
                found.append((module, name, parameter))
    return found


def biases(model: "PreTrainedModel") -> list["nn.Parameter"]:
    """The encoder's additive biases. They are known by their own name, not by a part of a longer one: DeBERTa's ``q_bias``
    is a bias, the ``weight`` of MPNet's embedding ``relative_attention_bias`` is none, nor is such a table without a module
    of its own."""
    return [parameter for _, name, parameter in encoder_parameters(model)
            if (name == "bias" or name.endswith("_bias")) and not name.startswith(("relative_", "rel_pos", "position_"))]


def _biases_of_roles(model, roles):
    if unknown := set(roles) - set(encoders.ROLES):
        raise ValueError(f"unknown bitfit term {', '.join(sorted(map(str, unknown)))}: choose from "
                         + ", ".join(encoders.ROLES))
    blocks = encoders.blocks(model)
    if absent := sorted(set(roles) - blocks[0].linear.keys()):
        raise ValueError(f"{type(model).__name__} has no layer of its own for {', '.join(absent)}: choose bitfit's terms "
                         f"from {', '.join(role for role in blocks[0].linear if role in encoders.ROLES)}")
    layers = [layer for block in blocks for role in roles for layer in families.linears(block, role)]
    return [layer.bias for layer in layers if layer.bias is not None]


def is_norm(module: "nn.Module") -> bool:
    """Whether a module normalises, as LayerNorm does, or RMSNorm, or MobileBERT's NoNorm: each family has its own class."""
    return "norm" in type(module).__name__.lower()


def _others(model):
    """Methods that need no biases."""
    return "layernorm, adapter or head" if families.family(model.config) else "layernorm or head"
