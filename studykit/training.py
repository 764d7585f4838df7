"""Train one model within a budget, and know where the time went."""

import contextlib
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from studykit import fast, machine, methods

WARMUP = 0.1  # share of the budget over which the learning rate rises
WEIGHT_DECAY = 0.01  # on weight matrices only, never on biases or LayerNorms
CLIP = 1.0  # norm of the gradient of what trains; it therefore bites differently per method
POOL = 50  # batches that are grouped by length together


@dataclass(frozen=True)
class Budget:
    """How long to train: ``steps``, or ``epochs`` with a floor of ``min_steps`` so that small fractions do not starve.

    >>> Budget(epochs=3, min_steps=200).total_steps(examples=160, batch_size=16), Budget(steps=7).total_steps(160, 16)
    (200, 7)
    """

    epochs: float | None = None
    min_steps: int = 0
    steps: int | None = None

    def __post_init__(self):
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"a budget is either epochs or steps, got epochs={self.epochs} and steps={self.steps}")
        if not (self.steps if self.epochs is None else self.epochs) > 0 or self.min_steps < 0:
            raise ValueError(f"a budget must be positive, got {self}")

    def total_steps(self, examples, batch_size):
        """Optimiser steps for so many training examples."""
        if self.steps is not None:
            return self.steps
        return max(math.ceil(self.epochs * math.ceil(examples / batch_size)), self.min_steps)

    def __str__(self):
        if self.steps is not None:
            return f"{self.steps} steps"
        floor = f", at least {self.min_steps} steps" if self.min_steps else ""
        return f"{self.epochs:g} epochs{floor}"


@dataclass
class Outcome:
    """What a training run was: ``status`` is ``ok`` or ``diverged``, with a ``reason``."""

    status: str = "ok"
    reason: str = ""
    steps: int = 0
    tokens: int = 0  # real ones, padding not counted
    precision: str = "fp32"
    losses: list = field(default_factory=list)  # mean training loss of each tenth of the budget
    curve: list = field(default_factory=list)  # (steps, training seconds, score) where a curve was asked for


def train(model, data, budget, *, lr, batch_size=16, seed=0, precision="auto", device=None, ledger=None, score=None,
          points=0):
    """Train what ``methods.apply`` left trainable, in place, and return the ``Outcome``.

    ``data`` are ``tasks.Encodings``; ``seed`` is the order seed: it decides batches and dropout. AdamW with bias
    correction, linear warm-up and decay. ``score(model)`` is called at ``points`` moments evenly over the budget for the
    anytime curve, its time not counted. A loss that is not finite ends the run as ``diverged``.
    Where only the head trains, the encoder stays in evaluation mode and each example passes through it once.
    """
    device = device or machine.best_device()
    ledger = ledger or machine.Ledger(device)
    outcome = Outcome(precision=machine.best_precision(device) if precision == "auto" else precision)
    model.to(device)
    total = budget.total_steps(len(data), batch_size)
    moments = {math.ceil(total * (i + 1) / points) for i in range(points)}
    alone = methods.only_head(model)
    with torch.random.fork_rng(), fast.on_cpu(model, seed):
        torch.manual_seed(seed)
        with ledger("warmup"):
            _warm_up(model, data, batch_size, device, outcome.precision)
        torch.manual_seed(seed)
        if alone:
            with ledger("train"):
                data = run_encoder(model, data, device, outcome.precision)
        optimizer, schedule = make_optimizer(model, lr, total)
        batches = batch_order(data.lengths, batch_size, total, np.random.default_rng([seed, 3]))
        losses = torch.full((total,), torch.nan, device=device)
        while outcome.steps < total and outcome.status == "ok":
            until = min(moment for moment in {*moments, total, outcome.steps + max(1, total // 10)}
                        if moment > outcome.steps)
            with ledger("train"), on_features(model) if alone else contextlib.nullcontext():
                model.train()
                for step in range(outcome.steps, min(until, total)):
                    rows = next(batches)
                    losses[step] = _step(model, data, rows, optimizer, schedule, device, outcome.precision)
                    outcome.tokens += int(data.lengths[rows].sum())
                outcome.steps = min(until, total)
                if not torch.isfinite(losses[: outcome.steps]).all():
                    outcome.status = "diverged"
                    outcome.reason = f"the loss was not finite within {outcome.steps} steps of {total}"
            if outcome.steps in moments and score:
                outcome.curve.append((outcome.steps, ledger.seconds["train"], score(model)))
    outcome.losses = [_finite(part.mean().item()) for part in losses[: outcome.steps].tensor_split(10) if len(part)]
    model.eval()
    return outcome


def _finite(value):
    return round(value, 4) if math.isfinite(value) else None  # JSON has no NaN


def _step(model, data, rows, optimizer, schedule, device, precision):
    loss = batch_loss(model, data, rows, device, precision)
    loss.backward()
    nn.utils.clip_grad_norm_(optimizer.trained, CLIP)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    return loss.detach()


def batch_loss(model, data, rows, device, precision):
    """Cross-entropy, or mean squared error for one output, of a batch; the loss itself is always in fp32."""
    batch = {key: values.to(device, non_blocking=True) for key, values in data.batch(rows).items()}
    with machine.autocast(device, precision):
        logits = model(**batch).logits
    labels = torch.as_tensor(data.labels[rows], device=device)
    if logits.shape[1] == 1:
        return nn.functional.mse_loss(logits.float()[:, 0], labels)
    return nn.functional.cross_entropy(logits.float(), labels)


def _warm_up(model, data, batch_size, device, precision):
    """One forward and backward pass, so that kernels are built and memory is there before the clock runs."""
    model.train()
    batch_loss(model, data, np.argsort(data.lengths)[-batch_size:], device, precision).backward()
    model.zero_grad()


def make_optimizer(model, lr, total):
    """AdamW over what trains, weight decay on whole weight matrices only; and its linear warm-up and decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim >= 2 and not hasattr(p, "trained")]
    plain = [p for p in trained if p.ndim < 2 or hasattr(p, "trained")]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": WEIGHT_DECAY},
                                   {"params": plain, "weight_decay": 0.0}], lr=lr, fused=trained[0].device.type != "mps")
    optimizer.trained = trained
    rise = max(1, round(WARMUP * total))
    factor = lambda step: min((step + 1) / rise, max(0.0, (total - step) / max(1, total - rise)))  # noqa: E731
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def batch_order(lengths, batch_size, total, rng):
    """``total`` batches of indices: each epoch shuffled, then sorted by length within pools, then batches shuffled."""
    done = 0
    while True:
        order = rng.permutation(len(lengths))
        pools = [order[i: i + POOL * batch_size] for i in range(0, len(order), POOL * batch_size)]
        pools = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
        batches = [pool[i: i + batch_size] for pool in pools for i in range(0, len(pool), batch_size)]
        for i in rng.permutation(len(batches)):
            if done == total:
                return
            yield batches[i]
            done += 1


@torch.no_grad()
def logits(model, data, device=None, batch_size=64):
    """Outputs of shape (n, outputs) in the order of ``data``, in evaluation mode and fp32, longest batches first."""
    device = device or next(model.parameters()).device
    model.eval()
    order = np.argsort(-data.lengths, kind="stable")
    parts = []
    for i in range(0, len(order), batch_size):
        batch = {key: values.to(device) for key, values in data.batch(order[i: i + batch_size]).items()}
        parts.append(model(**batch).logits.float().cpu())
    found = torch.empty(len(data), parts[0].shape[1])
    found[torch.from_numpy(order)] = torch.cat(parts)
    return found.numpy()


def predict(model, data, device=None):
    """Classes, or values for one output, of shape (n,)."""
    outputs = logits(model, data, device)
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs.argmax(1)


@dataclass(frozen=True)
class Features:
    """What the frozen encoder says of each example's first token, shape (n, 1, width), in place of tokens."""

    hidden: torch.Tensor
    labels: np.ndarray
    lengths: np.ndarray

    def __len__(self):
        return len(self.labels)

    def batch(self, indices):
        return {"inputs_embeds": self.hidden[torch.as_tensor(indices, device=self.hidden.device)]}


@torch.no_grad()
def run_encoder(model, data, device, precision):
    """Run the encoder once over the data, in evaluation mode."""
    model.eval()
    order = np.argsort(-data.lengths, kind="stable")
    hidden = [None] * len(data)
    for i in range(0, len(order), 64):
        rows = order[i: i + 64]
        batch = {key: values.to(device) for key, values in data.batch(rows).items()}
        with machine.autocast(device, precision):
            first = model.base_model(**batch).last_hidden_state[:, :1].float()
        for row, vector in zip(rows, first, strict=True):
            hidden[row] = vector
    return Features(torch.stack(hidden), data.labels, data.lengths)


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
