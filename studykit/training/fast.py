"""The same computation in less time: nothing that the head does not read, dropout and attention on a CPU, and a frozen
encoder that runs once.

PyTorch draws a CPU's dropout mask one element after another, and its fused attention is slow there in bfloat16. Within
``on_cpu`` a model draws masks four elements at a time and multiplies attention out.

Models differ, so a shortcut proves itself on the very model, by one batch with and without: ``shortcuts`` and ``features``
take those that gave the same outputs, and say which.
"""

import contextlib
import contextvars
import ctypes
import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from studykit.models import families
from studykit.training import machine

# Within on_cpu: the NumPy generator of dropout's masks.
DRAWS: contextvars.ContextVar[Any] = contextvars.ContextVar("DRAWS", default=None)


def kept(shape, p, rng):
    """A dropout mask: a byte per element, zero with probability ``p``, else one. An element's fate is 16 random bits of a
    NumPy ``rng``, so ``p`` is met to 2^-16."""
    count = math.prod(shape)
    drawn = rng.bit_generator.random_raw(-(-count // 4)).view(np.int16)[:count]
    return torch.from_numpy((drawn >= round(p * 2 ** 16) - 2 ** 15).view(np.int8)).view(shape)


def dropout(x, p, rng):
    """``x`` with each element zeroed with probability ``p``, the others over ``1 - p``."""
    return _Dropout.apply(x, kept(x.shape, p, rng), 1 / (1 - p))


def _keep(x, mask):
    """``x`` times a mask of bytes, in the fewest passes over memory."""
    return mask.to(x.dtype).mul_(x)


class _Dropout(torch.autograd.Function):
    """``x`` times a mask of bytes times ``scale``."""

    @staticmethod
    def forward(ctx, x, mask, scale):
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return _keep(x, mask).mul_(scale)

    @staticmethod
    def backward(ctx, gradient):
        return _keep(gradient, *ctx.saved_tensors).mul_(ctx.scale), None, None


class _Attention(torch.autograd.Function):
    """Softmax attention with dropout, its mask given: query, key, value of shape (batch, heads, length, width) to (batch,
    length, heads, width). Autograd would keep the weights twice, before and after dropout, as many as all else that
    attention keeps; and would copy whatever a product wants in another order once more than this."""

    @staticmethod
    def forward(ctx, query, key, value, bias, scaling, mask, p):
        ctx.shape, ctx.scaling, ctx.scale = query.shape, scaling, 1 / (1 - p)
        query, key, value = (x.flatten(0, 1) for x in (_scaled(query, scaling), key, value))
        if bias is None:
            scores = query @ key.mT
        else:  # a copy of the mask, which all heads and layers share, becomes the scores
            scores = query.new_empty(*ctx.shape[:3], key.shape[1]).copy_(bias).flatten(0, 1).baddbmm_(query, key.mT)
        weights = nn.functional.softmax(scores, dim=-1)
        ctx.save_for_backward(query, key, value, weights, mask)
        found = _keep(weights, mask).to(value.dtype) @ value
        return _scaled(found.view(ctx.shape).transpose(1, 2), ctx.scale)

    @staticmethod
    def backward(ctx, gradient):
        query, key, value, weights, mask = ctx.saved_tensors
        gradient = _scaled(gradient.transpose(1, 2), ctx.scale).flatten(0, 1)
        of_value = _keep(weights, mask).to(value.dtype).mT @ gradient
        of_weights = _keep((gradient @ value.mT).to(weights.dtype), mask)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype).to(query.dtype)
        of_query = _scaled((of_scores @ key).view(ctx.shape).transpose(1, 2), ctx.scaling).transpose(1, 2)
        of_key = of_scores.mT @ query
        return of_query, *(x.unflatten(0, ctx.shape[:2]) for x in (of_key, of_value)), None, None, None, None


def _scaled(x, factor):
    """``x * factor``, laid out anew in the order of its dimensions."""
    return torch.mul(x, factor, out=x.new_empty(x.shape))


def _attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **_):
    """Softmax attention, multiplied out, its dropout's mask from ``DRAWS`` where that is set. Shapes as transformers'
    attention functions; a mask is added, or says what to attend to."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if key.shape[1] != query.shape[1]:  # several queries share a key
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    key, value = key.to(query.dtype), value.to(query.dtype)  # a prefix's are in fp32
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        attention_mask = torch.zeros_like(attention_mask, dtype=query.dtype).masked_fill_(
            ~attention_mask, torch.finfo(query.dtype).min)
    if attention_mask is not None:
        attention_mask = attention_mask[..., : key.shape[-2]]
    if dropout and (rng := DRAWS.get()) is not None:
        mask = kept((query.shape[0] * query.shape[1], query.shape[2], key.shape[2]), dropout, rng)
        return _Attention.apply(query, key, value, attention_mask, scaling, mask, dropout), None
    scores = torch.matmul(query * scaling, key.transpose(2, 3))  # the query is smaller than the scores
    if attention_mask is not None:
        scores = scores + attention_mask.to(scores.dtype)
    weights = nn.functional.softmax(scores, dim=-1)
    found = torch.matmul(nn.functional.dropout(weights, dropout).to(value.dtype), value)
    return found.transpose(1, 2).contiguous(), weights


AttentionInterface.register("studykit", _attention)
AttentionMaskInterface.register("studykit", eager_mask)


def sample(data, count: int = 4) -> np.ndarray:
    """Rows of the shortest, the longest and some between: what a shortcut is tried on, with padding in it."""
    order = np.argsort(data.lengths, kind="stable")
    return order[np.unique(np.linspace(0, len(order) - 1, count).round().astype(int))]


@torch.no_grad()
def proven(model: PreTrainedModel, inputs: dict, shortcut, instead: dict | None = None) -> bool:
    """Whether the model's outputs within the context ``shortcut`` (of the inputs ``instead``, where they are others) are
    those without, to rounding; in evaluation mode and in the precision of its weights."""
    before = model.training
    model.eval()
    try:
        plain = model(**inputs).logits
        with shortcut:
            quick = model(**(instead or inputs)).logits
        return same(quick, plain)
    except Exception:  # a model of another build: the plain way it is, and what fails there is said when it trains
        return False
    finally:
        model.train(before)


def same(quick: torch.Tensor, plain: torch.Tensor) -> bool:
    """Whether outputs of shape (rows, outputs) differ by rounding only: by less than a thousandth of rows' spread."""
    spread = (plain - plain.mean(0)).abs().max()
    return quick.shape == plain.shape and bool((quick - plain).abs().max() <= 1e-3 * spread + 1e-5 * plain.abs().max())


@contextlib.contextmanager
def shortcuts(model: PreTrainedModel, data, device: torch.device, seed: int | None = None) -> Iterator[list[str]]:
    """Within, the model takes the shortcuts that proved themselves on a sample of ``data``; yields their names. Where a
    ``seed`` is given the model is to be trained, and its dropout draws from that on a CPU."""
    inputs = {key: values.to(device) for key, values in data.batch(sample(data)).items()}
    with contextlib.ExitStack() as stack:
        used = []
        if seed is not None and device.type == "cpu":
            multiplied = model.config._attn_implementation == "sdpa" and proven(model, inputs, multiplied_out(model))
            stack.enter_context(on_cpu(model, seed, multiplied))
            used += ["attention"] * multiplied
        if _last_attention(model) and proven(model, inputs, first_token(model)):
            stack.enter_context(first_token(model))
            used.append("first_token")
        yield used


READS_FIRST = ("bert", "roberta", "electra", "camembert", "xlm-roberta")  # whose last layer can leave out the others


def _last_attention(model):
    """The attention of the last layer, where that can work for the first token alone; else ``None``."""
    known = model.config.model_type in READS_FIRST and families.reading(model.config) == "first"
    if not known or model.config._attn_implementation not in ("eager", "sdpa", "studykit"):
        return None
    layers = [module for module in model.base_model.modules() if hasattr(getattr(module, "attention", None), "self")]
    return layers[-1].attention if layers and "forward" not in vars(layers[-1].attention.self) else None  # else it does


@contextlib.contextmanager
def first_token(model: PreTrainedModel) -> Iterator[None]:
    """Within, the model's last layer works for the first token alone, the only one that the head reads: the queries, sums
    and feed-forward of all others are left out, forward and backward. Their keys and values are not. Same outputs and
    gradients, to rounding; models whose head reads otherwise are left as they are."""
    attention = _last_attention(model)
    if attention is None:
        yield
        return
    hook = attention.output.register_forward_pre_hook(lambda _, given: (given[0], given[1][:, :1]))  # what is added to it
    attention.self.forward = functools.partial(_attend_first, attention.self)
    try:
        yield
    finally:
        del attention.self.forward
        hook.remove()


def _attend_first(module, hidden_states, attention_mask=None, **_):
    """What self-attention of BERT's family gives for the first token, of shape (batch, 1, width)."""
    def heads(x):
        return x.view(*x.shape[:2], module.num_attention_heads, -1).transpose(1, 2)

    query, key, value = heads(module.query(hidden_states[:, :1])), heads(module.key(hidden_states)), heads(
        module.value(hidden_states))
    mask = None if attention_mask is None else attention_mask[:, :, :1]
    found, weights = _attention(module, query, key, value, mask, dropout=module.dropout.p if module.training else 0.0)
    return found.flatten(2), weights


class Dropout(nn.Dropout):
    """Dropout whose masks NumPy draws."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return dropout(input, self.p, DRAWS.get()) if self.training and self.p else input


@contextlib.contextmanager
def on_cpu(model: PreTrainedModel, seed: int, attention: bool = True) -> Iterator[None]:
    """Within, the model's dropout draws from ``seed``, and attention that was fused is multiplied out. Elsewhere than on a
    CPU nothing changes."""
    if next(model.parameters()).device.type != "cpu":
        yield
        return
    token = DRAWS.set(np.random.Generator(np.random.SFC64(seed)))
    places = [(parent, name, child) for parent in model.modules() for name, child in parent.named_children()
              if isinstance(child, nn.Dropout)]
    for parent, name, child in places:
        setattr(parent, name, Dropout(child.p).train(child.training))
    try:
        with multiplied_out(model) if attention else contextlib.nullcontext(), _memory_kept():
            yield
    finally:
        for parent, name, child in places:
            setattr(parent, name, child.train(getattr(parent, name).training))
        DRAWS.reset(token)


@contextlib.contextmanager
def multiplied_out(model: PreTrainedModel) -> Iterator[None]:
    """Within, attention that was fused is multiplied out."""
    before = model.config._attn_implementation
    if before == "sdpa":
        model.set_attn_implementation("studykit")
    try:
        yield
    finally:
        if before == "sdpa":
            model.set_attn_implementation(before)


@contextlib.contextmanager
def _memory_kept():
    """Within, the C library keeps freed memory for the next step instead of giving it back page by page; at the end it gives
    all back. Only glibc has such a switch."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        most, trim = (-4, 65536), (-1, 128 * 1024)  # M_MMAP_MAX, M_TRIM_THRESHOLD and what they are at first
        libc.mallopt(most[0], 0)  # large blocks come from the heap too
        libc.mallopt(trim[0], 2 ** 31 - 1)
    except (OSError, AttributeError):
        yield
        return
    try:
        yield
    finally:
        libc.mallopt(*most)
        libc.mallopt(*trim)
        libc.malloc_trim(0)


class Features:
    """What a frozen encoder says of each example to the head that reads it, in place of its tokens: in evaluation mode, when
    an example is first asked for, and then kept."""

    def __init__(self, model, data, device, precision):
        self.encoder, self.data = families.classifier(model).base_model, data
        self.device, self.precision = device, precision
        self.labels, self.lengths, self.pad = data.labels, data.lengths, {"inputs_embeds": 0.0, "input_ids": 0}
        self.reads = families.own_reading(model.config) or "first"  # as a study says it, every token says the same
        self.padding = getattr(model.config, "pad_token_id", None)
        self.seen, self.hidden = np.zeros(len(data), dtype=bool), None

    def __len__(self):
        return len(self.labels)

    @property
    def tokens(self):
        """The real tokens that went through the encoder."""
        return int(self.lengths[self.seen].sum())

    @torch.no_grad()
    def batch(self, indices):
        """``inputs_embeds`` of shape (batch, 1, width), and ``input_ids`` that are no padding, for heads that look."""
        indices = np.asarray(indices)
        if len(new := indices[~self.seen[indices]]):
            tokens = {key: values.to(self.device) for key, values in self.data.batch(new).items()}
            real = tokens.get("attention_mask")
            if self.reads == "last" and self.padding is not None:  # as the family's own head looks for it
                real = tokens["input_ids"] != self.padding
            self.encoder.eval()
            with machine.autocast(self.device, self.precision):
                said = families.pool(self.encoder(**tokens).last_hidden_state, self.reads, real).float()
            if self.hidden is None:
                self.hidden = torch.zeros(len(self), 1, said.shape[1], device=self.device)
            self.hidden[new, 0] = said
            self.seen[new] = True
        hidden = self.hidden[torch.as_tensor(indices, device=self.device)]
        ids = torch.full(hidden.shape[:2], int(self.padding == 0), device=self.device)
        return {"inputs_embeds": hidden, "input_ids": ids}


def features(model: PreTrainedModel, data, device: torch.device, precision: str) -> Features | None:
    """``Features`` of the data, or ``None`` where the model's head does not say the same of them as of tokens."""
    few = data.take(sample(data))
    inputs = {key: values.to(device) for key, values in few.batch(np.arange(len(few))).items()}
    try:
        instead = Features(model, few, device, "fp32").batch(np.arange(len(few)))
    except Exception:  # a base model that gives no hidden states: the plain way it is
        return None
    return Features(model, data, device, precision) if proven(model, inputs, on_features(model), instead) else None


class _Done(nn.Module):
    """Stands in for an encoder that has already run; keeps its pooler, which may be part of the head."""

    def __init__(self, base):
        super().__init__()
        for name in ("pooler", "pooler_activation", "activation"):
            setattr(self, name, getattr(base, name, None))
        self.config = base.config

    def forward(self, *_, inputs_embeds, **__):
        from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

        return BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=inputs_embeds, pooler_output=families.pooled(self, inputs_embeds))


@contextlib.contextmanager
def on_features(model: PreTrainedModel) -> Iterator[None]:
    """Within, the model reads ``Features`` instead of tokens; its parameters are the same objects."""
    model = families.classifier(model)
    base = model.base_model
    setattr(model, model.base_model_prefix, _Done(base))
    try:
        yield
    finally:
        setattr(model, model.base_model_prefix, base)
