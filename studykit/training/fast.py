"""The same computation in less time: nothing that the head does not read, dropout and attention on a CPU, and a frozen
encoder that runs once.

PyTorch draws a CPU's dropout mask one element after another, and its fused attention is slow there in bfloat16. Within
``on_cpu`` a model draws masks four elements at a time and multiplies attention out.
"""

import contextlib
import ctypes
import functools
import math

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from studykit.training import machine


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
    """Softmax attention, multiplied out, its dropout's mask from ``module.kept`` where there is one. Shapes as transformers'
    attention functions; a mask is added, or says what to attend to."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        attention_mask = torch.zeros_like(attention_mask, dtype=query.dtype).masked_fill_(
            ~attention_mask, torch.finfo(query.dtype).min)
    if attention_mask is not None:
        attention_mask = attention_mask[..., : key.shape[-2]]
    if dropout and hasattr(module, "kept"):
        mask = module.kept((query.shape[0] * query.shape[1], query.shape[2], key.shape[2]), dropout)
        return _Attention.apply(query, key, value, attention_mask, scaling, mask, dropout), None
    scores = torch.matmul(query * scaling, key.transpose(2, 3))  # the query is smaller than the scores
    if attention_mask is not None:
        scores = scores + attention_mask.to(scores.dtype)
    weights = nn.functional.softmax(scores, dim=-1)
    found = torch.matmul(nn.functional.dropout(weights, dropout).to(value.dtype), value)
    return found.transpose(1, 2).contiguous(), weights


AttentionInterface.register("studykit", _attention)
AttentionMaskInterface.register("studykit", eager_mask)


READS_FIRST = ("bert", "roberta", "electra", "camembert", "xlm-roberta")  # kinds of model whose head reads the first token


@contextlib.contextmanager
def first_token(model):
    """Within, the model's last layer works for the first token alone, the only one that the head reads: the queries, sums
    and feed-forward of all others are left out, forward and backward. Their keys and values are not. Same outputs and
    gradients, to rounding; models whose head reads otherwise are left as they are."""
    known = model.config.model_type in READS_FIRST and model.config._attn_implementation in ("eager", "sdpa", "studykit")
    layers = [module for module in model.base_model.modules() if hasattr(getattr(module, "attention", None), "self")]
    if not known or not layers or "forward" in vars((attention := layers[-1].attention).self):  # the last: it is so already
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


@contextlib.contextmanager
def on_cpu(model, seed):
    """Within, the model's dropout draws from ``seed``, and attention that was fused is multiplied out. Elsewhere than on a
    CPU nothing changes."""
    if next(model.parameters()).device.type != "cpu":
        yield
        return
    rng = np.random.Generator(np.random.SFC64(seed))
    changed, attention = list(model.modules()), model.config._attn_implementation

    for module in changed:
        if isinstance(module, nn.Dropout):
            module.forward = lambda x, module=module: dropout(x, module.p, rng) if module.training and module.p else x
        module.kept = functools.partial(kept, rng=rng)
    if attention == "sdpa":
        model.set_attn_implementation("studykit")
    try:
        with _memory_kept():
            yield
    finally:
        if attention == "sdpa":
            model.set_attn_implementation(attention)
        for module in changed:
            module.__dict__.pop("forward", None)
            del module.kept


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
    """What a frozen encoder says of each example's first token, in place of its tokens: in evaluation mode, when an example
    is first asked for, and then kept."""

    def __init__(self, model, data, device, precision):
        self.encoder, self.data, self.device, self.precision = model.base_model, data, device, precision
        self.labels, self.lengths, self.pad = data.labels, data.lengths, {"inputs_embeds": 0.0}
        self.seen = np.zeros(len(data), dtype=bool)
        self.hidden = torch.zeros(len(data), 1, model.config.hidden_size, device=device)

    def __len__(self):
        return len(self.labels)

    @property
    def tokens(self):
        """The real tokens that went through the encoder."""
        return int(self.lengths[self.seen].sum())

    @torch.no_grad()
    def batch(self, indices):
        """``inputs_embeds`` of shape (batch, 1, width)."""
        indices = np.asarray(indices)
        if len(new := indices[~self.seen[indices]]):
            tokens = {key: values.to(self.device) for key, values in self.data.batch(new).items()}
            self.encoder.eval()
            with machine.autocast(self.device, self.precision):
                self.hidden[new] = self.encoder(**tokens).last_hidden_state[:, :1].float()
            self.seen[new] = True
        return {"inputs_embeds": self.hidden[torch.as_tensor(indices, device=self.device)]}


class _Done(nn.Module):
    """Stands in for an encoder that has already run; keeps its pooler, which may be part of the head."""

    def __init__(self, base):
        super().__init__()
        self.pooler = getattr(base, "pooler", None)
        self.config = base.config

    def forward(self, *_, inputs_embeds, **__):
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        pooled = self.pooler(inputs_embeds) if self.pooler is not None else None
        return BaseModelOutputWithPooling(last_hidden_state=inputs_embeds, pooler_output=pooled)


@contextlib.contextmanager
def on_features(model):
    """Within, the model reads ``Features`` instead of tokens; its parameters are the same objects."""
    base = model.base_model
    setattr(model, model.base_model_prefix, _Done(base))
    try:
        yield
    finally:
        setattr(model, model.base_model_prefix, base)
