"""Where each family of encoders keeps its parts: one table, a row a family.

Everything that has to know how a model is built asks here: which layers there are, which module plays which role, where an
adapter goes, and what the family's own classifier reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

ROLES = ("query", "key", "value", "attention_output", "intermediate", "output")
GLOBAL = ("query_global", "key_global", "value_global")  # Longformer's, for tokens that attend to all, as the first one does
MORE_ROLES = ("qkv", "gate", *GLOBAL)  # query, key and value in one product; what a gated feed-forward multiplies by
POOLER_UNREAD = ("big_bird",)  # kinds whose own classifier does not read the pooler that their base model has
SEGMENTED = ("funnel", "tapas", "xlnet")  # kinds that know segments, though their configurations do not say how many
READINGS = ("first", "mean", "last")


@dataclass(frozen=True)
class Family:
    """A family's row. Names are dotted: of layers from the base model (``*``: each of a list), of the rest from a layer."""

    name: str
    kinds: tuple[str, ...]  # the model types of its configurations
    layers: str
    linear: dict[str, str]  # role -> name
    attention: str  # what gives the attention sub-layer's output, before the residual sum
    feedforward: str  # the same for the feed-forward sub-layer
    parallel: str  # what an adapter beside the feed-forward wraps; "" where no one module is the whole of it
    reads: str = "first"  # what the family's own classifier reads; "" where its configuration says


@dataclass(frozen=True)
class Block:
    """The parts of one transformer layer, whatever its family calls them."""

    module: nn.Module
    linear: dict[str, nn.Module]  # role -> nn.Linear, or GPT-2's Conv1D; without what is inserted around it
    attention_site: tuple[nn.Module, str]  # (parent, attribute) whose output is the attention sub-layer's, before the sum
    feedforward_site: tuple[nn.Module, str]  # the same for the feed-forward sub-layer
    parallel_site: tuple[nn.Module, str] | None  # what an adapter beside the feed-forward wraps; None where nothing is

    @property
    def width(self) -> int:
        """Features of a token between layers."""
        output: Any = self.linear["output"]
        return getattr(output, "nf", None) or output.out_features


def _roles(attention: str, feedforward: str) -> dict[str, str]:
    """Role -> name, from the names of query, key, value and attention output, and of intermediate and output."""
    return dict(zip(ROLES, [*attention.split(), *feedforward.split()], strict=True))


def _fused(qkv: str, attention_output: str, feedforward: str) -> dict[str, str]:
    intermediate, output = feedforward.split()
    return {"qkv": qkv, "attention_output": attention_output, "intermediate": intermediate, "output": output}


def _bert(attention: str, more: Sequence[str] = ()) -> tuple:
    """Layers, roles and sites of the families that are built like BERT, but for their attention's own names, and ``more``
    roles that it has."""
    names = " ".join(f"attention.self.{name}" for name in attention.split()) + " attention.output.dense"
    others = {role: f"attention.self.{role}" for role in more}
    return ("encoder.layer.*", {**_roles(names, BERT_FEEDFORWARD), **others}, *BERT_SITES)


BERT_FEEDFORWARD = "intermediate.dense output.dense"
BERT_SITES = ("attention.output.dropout", "output.dropout", "output")
LLAMA_ROLES = _roles("self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj", "mlp.up_proj mlp.down_proj")
LLAMA = ("layers.*", {**LLAMA_ROLES, "gate": "mlp.gate_proj"}, "self_attn.o_proj", "mlp.down_proj", "mlp")

FAMILIES = (
    Family("BERT", ("bert", "ernie"), *_bert("query key value")),
    Family("RoBERTa", ("roberta", "xlm-roberta", "camembert", "data2vec-text"), *_bert("query key value")),
    Family("ELECTRA", ("electra",), *_bert("query key value")),
    Family("Longformer", ("longformer",), *_bert("query key value", GLOBAL)),
    Family("DistilBERT", ("distilbert",), "transformer.layer.*",
           _roles("attention.q_lin attention.k_lin attention.v_lin attention.out_lin", "ffn.lin1 ffn.lin2"),
           "attention.out_lin", "ffn.dropout", "ffn"),
    Family("MPNet", ("mpnet",), "encoder.layer.*",
           _roles("attention.attn.q attention.attn.k attention.attn.v attention.attn.o", BERT_FEEDFORWARD),
           "attention.dropout", "output.dropout", "output"),
    Family("ALBERT", ("albert",), "encoder.albert_layer_groups.*.albert_layers.*",  # a shared layer is there once
           _roles("attention.query attention.key attention.value attention.dense", "ffn ffn_output"),
           "attention.output_dropout", "ffn_output", ""),
    Family("DeBERTa", ("deberta",), "encoder.layer.*",
           _fused("attention.self.in_proj", "attention.output.dense", BERT_FEEDFORWARD), *BERT_SITES),
    Family("DeBERTa-v2/v3", ("deberta-v2",), *_bert("query_proj key_proj value_proj")),
    Family("ModernBERT", ("modernbert",), "layers.*", _fused("attn.Wqkv", "attn.Wo", "mlp.Wi mlp.Wo"),
           "attn.out_drop", "mlp.Wo", "mlp", reads=""),
    Family("GPT-2", ("gpt2",), "h.*", _fused("attn.c_attn", "attn.c_proj", "mlp.c_fc mlp.c_proj"),
           "attn.resid_dropout", "mlp.dropout", "mlp", reads="last"),
    Family("Llama", ("llama", "mistral"), *LLAMA, reads="last"),
    Family("Qwen2/3", ("qwen2", "qwen3"), *LLAMA, reads="last"),
)
KNOWN = ", ".join(family.name for family in FAMILIES)


def family(config: "PretrainedConfig") -> Family | None:
    """The row of a configuration's model type, or ``None``."""
    return next((row for row in FAMILIES if config.model_type in row.kinds), None)


def own_reading(config: "PretrainedConfig") -> str:
    """What the family's own classifier reads: ``first``, ``mean`` or ``last``; ``""`` where the family is not known."""
    if config.model_type == "modernbert":
        return "mean" if config.classifier_pooling == "mean" else "first"
    return row.reads if (row := family(config)) else ""


def reading(config: "PretrainedConfig") -> str:
    """What the head reads: as the study says, else as the family's own classifier does (``""``: not known)."""
    return getattr(config, "reads", "") or own_reading(config)


def classifier(model: Any) -> "PreTrainedModel":
    """The transformers model with the head, also where peft's wrapper is around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def blocks(model: "PreTrainedModel") -> list[Block]:
    """The encoder's layers as ``Block``s, in order; a layer that is used several times is there once. Raises ``ValueError``
    for a family without a row."""
    row, base = family(model.config), classifier(model).base_model
    if row is None:
        raise ValueError(f"{type(classifier(model)).__name__} has no layers that this study knows, so what goes by "
                         f"layers or roles cannot be used with it, and full and head can: the families known are {KNOWN}")
    return [Block(layer, {role: _at(layer, name) for role, name in row.linear.items()}, _site(layer, row.attention),
                  _site(layer, row.feedforward), _site(layer, row.parallel) if row.parallel else None)
            for layer in _layers(base, row.layers)]


def linears(block: Block, role: str) -> list[nn.Module]:
    """The layers of a block that play a role: the one that has its name, or does it among others, and, where there is one,
    that for tokens that attend to all."""
    names = (role if role in block.linear else "qkv", f"{role}_global")
    return [block.linear[name] for name in names if name in block.linear]


def words(model: "PreTrainedModel") -> Tensor | None:
    """The table of the encoder's embeddings of tokens, of shape (tokens, width); ``None`` where it has none, as CANINE."""
    try:
        return model.get_input_embeddings().weight  # type: ignore[union-attr,return-value]
    except (NotImplementedError, AttributeError):
        return None


def positions(model: "PreTrainedModel") -> int | None:
    """How many tokens the encoder has positions for; ``None`` where positions are relative alone."""
    most = getattr(model.config, "max_position_embeddings", None)
    if most is None or most < 1:
        return None
    table = getattr(getattr(classifier(model).base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)  # RoBERTa counts its positions from after the padding's
    return most if padding is None else most - padding - 1


def _layers(base: Any, path: str) -> list[nn.Module]:
    modules: list[Any] = [base]
    for name in path.split("."):
        modules = [child for module in modules for child in (module if name == "*" else [_plain(getattr(module, name))])]
    return modules


def _site(layer: nn.Module, path: str) -> tuple[nn.Module, str]:
    *parents, attribute = path.split(".")
    return _at(layer, ".".join(parents)) if parents else layer, attribute


def _at(module: nn.Module, path: str) -> nn.Module:
    for name in path.split("."):
        module = _plain(getattr(module, name))
    return module


def _plain(module: Any) -> nn.Module:
    """A module without the adapters that were put after, beside or around it."""
    while True:
        if isinstance(module, nn.Sequential):
            module = module[0]
        elif hasattr(module, "sublayer") or hasattr(module, "base_layer"):
            module = module.sublayer if hasattr(module, "sublayer") else module.base_layer
        else:
            return module


def head_parameters(model: "PreTrainedModel") -> list[tuple[str, nn.Parameter]]:
    """``(name, parameter)`` of what the task adds to the encoder: all of the classification model outside its base, and the
    base's pooler where the study says that it is new."""
    plain = classifier(model)
    base = getattr(plain, plain.base_model_prefix, None)
    if base is None or {id(parameter) for parameter in plain.parameters()} <= {id(p) for p in base.parameters()}:
        raise ValueError(f"{type(plain).__name__} does not keep its encoder apart from its head: give another encoder")
    encoder = {id(parameter) for parameter in base.parameters()}
    if getattr(plain.config, "new_pooler", False) and (pooler := getattr(base, "pooler", None)) is not None:
        encoder -= {id(parameter) for parameter in pooler.parameters()}
    head = {id(parameter) for parameter in plain.parameters()} - encoder
    return [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) in head]


def pool(hidden: Tensor, reads: str, real: Tensor | None) -> Tensor:
    """What a head reads of ``hidden`` (batch, length, width), of shape (batch, width): the first token, the mean of the real
    tokens or the last of them. ``real`` is 1 where a token is no padding (batch, length); ``None``: everywhere."""
    if real is None:
        real = hidden.new_ones(hidden.shape[:2])
    if reads == "first":
        return hidden[:, 0]
    if reads == "mean":
        weight = real.to(hidden.dtype).unsqueeze(-1)
        return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)
    places = real.new_ones(real.shape[1]).cumsum(0) * (real != 0)
    return hidden.take_along_dim(places.argmax(1)[:, None, None], 1).squeeze(1)


def pooled(base: Any, hidden: Tensor) -> Tensor | None:
    """What the base model's own pooler, if it has one, makes of ``hidden`` (batch, length, width)."""
    pooler = getattr(base, "pooler", None)
    if pooler is None:
        return None
    if isinstance(pooler, nn.Linear):  # ALBERT's
        activation = getattr(base, "pooler_activation", None) or base.activation  # BigBird's
        return activation(pooler(hidden[:, 0]))
    return pooler(hidden)


def present(base: Any, _, inputs: dict, outputs: Any) -> Any:
    """A forward hook of a base model whose head is to read otherwise than its family's own does: every token of the outputs
    becomes what is to be read, so the head finds it wherever it looks."""
    mask = inputs.get("attention_mask")
    if mask is not None and mask.ndim == 4:  # additive, as fleets give it
        mask = mask[:, 0, 0] == 0
    hidden = outputs["last_hidden_state"]
    outputs["last_hidden_state"] = pool(hidden, base.config.reads, mask)[:, None].expand_as(hidden)
    if outputs.get("pooler_output") is not None:
        outputs["pooler_output"] = pooled(base, outputs["last_hidden_state"])
    return outputs
