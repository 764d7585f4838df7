"""Train one model within a budget, and know where the time went."""

import contextlib
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from studykit import methods
from studykit.models import files
from studykit.tasks import Encodings
from studykit.training import bf16, budgets, checkpoints, fast, lighter, machine

WARMUP = 0.1  # share of the budget over which the learning rate rises
WEIGHT_DECAY = 0.01  # on weight matrices only, never on biases or LayerNorms
PARTS = ("forward", "backward", "update")  # of a step
CLIP = 1.0  # norm of the gradient of what trains; it therefore bites differently per method


@dataclass
class Outcome:
    """What a training run was: ``status`` is ``ok`` or ``diverged``, with a ``reason``."""

    status: str = "ok"
    reason: str = ""
    steps: int = 0
    tokens: int = 0  # real ones, padding not counted
    flops: float = 0.0  # of matrix products: floating-point operations a token while warming up, times tokens
    parts: dict = field(default_factory=dict)  # seconds in forward, backward and update, on a CPU
    precision: str = "fp32"
    shortcuts: list = field(default_factory=list)  # that proved themselves on the model: attention, first_token, rows, …
    losses: list = field(default_factory=list)  # mean training loss of each tenth of the budget
    curve: list = field(default_factory=list)  # (steps, training seconds, score) where a curve was asked for
    step_seconds: list = field(default_factory=list)  # of each step in forward, backward and update; not kept in records
    step_tokens: list = field(default_factory=list)


def train(model: nn.Module, data: Encodings, budget: budgets.Budget, *, lr: float, batch_size: int = 16, seed: int = 0,
          precision: str = "auto", device: torch.device | None = None, ledger: machine.Ledger | None = None,
          score: Callable[[nn.Module], float | None] | None = None, points: int = 0, timed: bool = False,
          deadline: float = math.inf, unfinished: Path | None = None) -> Outcome:
    """Train what ``methods.apply`` left trainable, in place, and return the ``Outcome``.

    ``budget`` is a ``budgets.Budget`` and ``data`` are ``tasks.Encodings``; ``seed`` is the order seed: it decides batches
    and dropout. AdamW with bias correction, linear warm-up and decay. ``score(model)`` is called at ``points`` moments,
    evenly over the budget for the anytime curve, its time not counted. A loss that is not finite ends the run as
    ``diverged``. ``timed`` waits for an accelerator within each step, so that its parts have their times there too.
    Raises ``budgets.DeadlinePassed`` where ``time.monotonic()`` passes ``deadline``. A long run keeps its state in the
    file ``unfinished``, if one is given (``checkpoints``), and goes on from there; whoever keeps the model removes it.
    Where only the head trains, the encoder stays in evaluation mode and each example passes through it once.
    """
    device = device or machine.best_device()
    ledger = ledger or machine.Ledger(device)
    outcome = Outcome(precision=machine.best_precision(device) if precision == "auto" else precision)
    model.to(device)
    total = budget.total_steps(data.lengths, batch_size, seed)
    alone = methods.only_head(model)
    with torch.random.fork_rng(), bf16.products(device, outcome.precision), fast.shortcuts(
            model, data, device, seed) as outcome.shortcuts, lighter.Lighter(
            model, data, device, outcome.precision, outcome.shortcuts) as light:
        torch.manual_seed(seed)
        with ledger("warmup"):
            token_flops = _warmed(model, data, batch_size, device, outcome.precision, light)
        torch.manual_seed(seed)
        with light.whole():
            features = fast.features(model, data, device, outcome.precision) if alone else None
        if features is not None:
            data = features  # type: ignore[assignment]  # of examples in the same order
            outcome.shortcuts.append("features")
        spent, limit = _clock(budget, total, ledger, outcome)
        optimizer, schedule = make_optimizer(groups(model.parameters()), lr, total, lambda: spent() / limit)
        light.follow(optimizer)
        batches = budgets.batch_order(data.lengths, batch_size, total, seed)
        moments: list[float] = [limit * (i + 1) / points for i in range(points)]
        losses: list[torch.Tensor] = []
        kept = checkpoints.Checkpoint(unfinished, model, optimizer, schedule, outcome, ledger, losses, features)
        begun = kept.read()
        batches = itertools.islice(batches, outcome.steps, None)
        while spent() < limit and outcome.status == "ok":
            until = min(moment for moment in (*moments, limit, begun + limit / 10) if moment > begun)
            with ledger("train"), fast.on_features(model) if features else contextlib.nullcontext():
                model.train()
                if alone:
                    model.base_model.eval()
                while spent() < until and not kept.due:
                    if time.monotonic() > deadline:
                        raise budgets.DeadlinePassed(f"the deadline came after {outcome.steps} steps")
                    rows = next(batches)
                    losses.append(_step(model, data, rows, optimizer, schedule, device, outcome, timed))
                    outcome.steps += 1
                    outcome.step_tokens.append(int(data.lengths[rows].sum()))
                if (ended := spent() >= until) and not torch.isfinite(torch.stack(losses)).all():
                    outcome.status = "diverged"
                    outcome.reason = f"the loss was not finite within {outcome.steps} steps of {total or budget}"
            if not ended:
                kept.write(begun)
                continue
            if score and any(begun < moment <= spent() for moment in moments):
                with light.whole():
                    outcome.curve.append((outcome.steps, ledger.seconds["train"], score(model)))
            begun = spent()
    model.eval()
    _sum_up(outcome, losses, token_flops, features)
    return outcome


def _sum_up(outcome, losses, token_flops, features):
    """What all steps together took, and how the loss went."""
    outcome.tokens = sum(outcome.step_tokens)
    if outcome.step_seconds:
        outcome.parts = dict(zip(PARTS, map(float, np.sum(outcome.step_seconds, axis=0)), strict=True))
    outcome.flops = token_flops * (features.tokens if features else outcome.tokens)
    outcome.losses = tenths(torch.stack(losses))


def _clock(budget, total, ledger, outcome):
    """``(spent, limit)``: a function that says what of the budget is spent, in steps or seconds, and all there is.

    On the wall clock half a step is added, so that a step begins only where most of it still fits.
    """
    if total is not None:
        return lambda: outcome.steps, total
    before = ledger.seconds["train"]
    return lambda: (ledger.running("train") - before) * (1 + 0.5 / max(1, outcome.steps)), budget.seconds


def tenths(losses):
    """The mean loss of each tenth of the steps; ``None`` where it is not finite, since JSON has no NaN."""
    means = [part.mean().item() for part in losses.tensor_split(10) if len(part)]
    return [round(mean, 4) if math.isfinite(mean) else None for mean in means]


def _step(model, data, rows, optimizer, schedule, device, outcome, timed):
    def now():
        if timed:
            machine.synchronize(device)
        return time.perf_counter()

    times = [now()]
    loss = batch_loss(model, data, rows, device, outcome.precision)
    times.append(now())
    loss.backward()
    times.append(now())
    nn.utils.clip_grad_norm_(optimizer.trained, CLIP)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    times.append(now())
    if timed or device.type == "cpu":  # elsewhere work is only queued here
        outcome.step_seconds.append(np.diff(times))
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


def _warmed(model, data, batch_size, device, precision, light):
    """What ``warm_up`` gives. Raises ``ValueError`` where the model can be trained in fp32 and not in bf16."""
    try:
        return warm_up(model, data, batch_size, device, precision)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError) as error:  # an operation that there is no bf16 of
        if precision != "bf16":
            raise
        with light.whole():
            warm_up(model, data, batch_size, device, "fp32")
        raise ValueError(f"{type(model).__name__} cannot be trained in bf16 ({files.reason(error)}): say precision=\"fp32\""
                         ) from error


def warm_up(model, data, batch_size, device, precision):
    """One forward and backward pass over the longest examples, so that kernels are built and memory is there before the
    clock runs. Returns the floating-point operations a token that its matrix products took, padding counted."""
    rows = np.argsort(data.lengths)[-batch_size:]
    model.eval()  # draws nothing; and of one example alone, since what counts keeps more than the pass itself
    with FlopCounterMode(display=False) as counter:
        batch_loss(model, data, rows[-1:], device, precision).backward()
    model.train()
    batch_loss(model, data, rows, device, precision).backward()
    model.zero_grad()
    return counter.get_total_flops() / int(data.lengths[rows[-1]])


def groups(parameters):
    """``(decayed, plain)``: those of the parameters that train, with weight decay (whole weight matrices) and without."""
    decayed, plain = [], []
    for p in parameters:
        if p.requires_grad:
            (decayed if p.ndim >= 2 and not hasattr(p, "trained") and not hasattr(p, "undecayed") else plain).append(p)
    return decayed, plain


def make_optimizer(groups, lr, total, share=None):
    """AdamW over the ``groups``; and its linear warm-up and decay over ``total`` steps, or, where that is ``None``, over
    the ``share()`` of the budget that is spent."""
    decayed, plain = groups
    trained = [*decayed, *plain]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": WEIGHT_DECAY},
                                   {"params": plain, "weight_decay": 0.0}], lr=lr, fused=trained[0].device.type != "mps")
    optimizer.trained = trained
    rise = max(1, round(WARMUP * (total or 0)))

    def by_step(step):
        return min((step + 1) / rise, max(0.0, (total - step) / max(1, total - rise)))

    def by_share(_):
        return min(max(share(), 0.01) / WARMUP, max(0.0, 1 - share()) / (1 - WARMUP))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, by_share if total is None else by_step)


@torch.no_grad()
def logits(model: nn.Module, data: Encodings, device: torch.device | None = None, batch_size: int = 64) -> np.ndarray:
    """Outputs of shape (n, outputs) in the order of ``data``, in evaluation mode and fp32, longest batches first."""
    device = device or next(model.parameters()).device
    model.eval()
    order = np.argsort(-data.lengths, kind="stable")
    parts = []
    with fast.shortcuts(model, data, device):
        for i in range(0, len(order), batch_size):
            batch = {key: values.to(device) for key, values in data.batch(order[i: i + batch_size]).items()}
            parts.append(model(**batch).logits.float().cpu())
    found = torch.empty(len(data), parts[0].shape[1])
    found[torch.from_numpy(order)] = torch.cat(parts)
    return found.numpy()


def predict(model: nn.Module, data: Encodings, device: torch.device | None = None) -> np.ndarray:
    """Classes, or values for one output, of shape (n,)."""
    outputs = logits(model, data, device)
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs.argmax(1)
