"""Runs that differ only by seed, trained at once: on a GPU a small encoder's step is mostly the launching of kernels, and
one launch can serve all seeds.

What trains is stacked, a member of the fleet each; what is frozen is there once. Every member has its own examples, head,
order, dropout and clipping, so without dropout it ends where ``training.train`` would, to rounding.
"""

import contextlib
import dataclasses

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, vmap

from studykit import methods, training
from studykit.training import budgets, fast, machine

DEVICES = ("cuda",)  # on a CPU a fleet is slower than one run after another (benchmarks/README.md)
MEMBERS = 10  # at most


def together(wanted, device):
    """The runs as lists of those that can train at once on the device: they differ by seed only, and end after a number of
    steps. Every list starts where its first run stood."""
    lists = {}
    for run in wanted:
        alike = dataclasses.replace(run, subset_seed=0, init_seed=0, order_seed=0)
        single = device.type not in DEVICES or run.seconds or run.points or run.method in methods.ALONE
        lists.setdefault(run if single else alike, []).append(run)
    return [runs[i: i + MEMBERS] for runs in lists.values() for i in range(0, len(runs), MEMBERS)]


def train(models, sets, budget, *, lr, batch_size=16, seeds, precision="auto", device=None, ledger=None):
    """Train ``models`` in place, each on its ``sets[i]`` by its order seed, and return an ``Outcome`` for each.

    Arguments are those of ``training.train``; the budget is in steps or epochs, the same number of steps for all. Seconds in
    the ledger are those of the whole fleet. A member whose loss is not finite is ``diverged``; the others go on. Raises
    ``ValueError`` where members differ in what trains, or cannot take the same steps, or where stacked models of their
    kind do not say what a single one says.
    """
    device = device or machine.best_device()
    ledger = ledger or machine.Ledger(device)
    precision = machine.best_precision(device) if precision == "auto" else precision
    total = _steps(budget, sets, batch_size, seeds)
    base, alone = models[0].to(device), methods.only_head(models[0])
    outcomes, seen = [training.Outcome(precision=precision, steps=total, shortcuts=["fleet"]) for _ in models], []
    longest = max(sets, key=lambda data: data.lengths.max())
    few = longest.take(fast.sample(longest))
    plain = _plain(base, few, device)
    with torch.random.fork_rng(), _stackable(base), fast.first_token(base):
        with ledger("warmup"):
            token_flops = training.warm_up(base, sets[0], batch_size, device, precision)
        torch.manual_seed(seeds[0])
        sets = [fast.Features(base, data, device, precision) for data in sets] if alone else sets
        stacked = _stacked(models, device)
        _check(base, stacked, fast.Features(base, few, device, "fp32") if alone else few, plain, device, len(models))
        optimizer, schedule = training.make_optimizer(_groups(base, stacked), lr, total)
        orders = [budgets.batch_order(data.lengths, batch_size, total, seed) for data, seed in zip(sets, seeds, strict=True)]
        losses = vmap(_loss(base, device, precision), randomness="different")
        with ledger("train"), fast.on_features(base) if alone else contextlib.nullcontext():
            base.train()
            for all_rows in zip(*orders, strict=True):
                loss = losses(stacked, *_batch(sets, all_rows, batch_size, device))
                loss.sum().backward()
                _clip(stacked.values())
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                seen.append(loss.detach())
                for outcome, data, rows in zip(outcomes, sets, all_rows, strict=True):
                    outcome.tokens += int(data.lengths[rows].sum())
    for i, (model, outcome, data) in enumerate(zip(models, outcomes, sets, strict=True)):
        outcome.flops = token_flops * (data.tokens if alone else outcome.tokens)
        _end(outcome, torch.stack(seen)[:, i], total)
        _give_back(model.to(device), stacked, i)
    return outcomes


@torch.no_grad()
def _plain(base, few, device):
    """What a single model says of a few examples, in evaluation mode."""
    batch = {key: values.to(device) for key, values in few.batch(np.arange(len(few))).items()}
    return base.eval()(**batch).logits


@torch.no_grad()
def _check(base, stacked, few, plain, device, members):
    """Raise ``ValueError`` where the first of the stacked models does not say that of them, to rounding."""
    inputs, _, _ = _batch([few] * members, [np.arange(len(few))] * members, len(few), device)
    base.eval()
    wrong = ValueError(f"{type(base).__name__} says something else where several are stacked: train them one by one")
    try:
        with fast.on_features(base) if isinstance(few, fast.Features) else contextlib.nullcontext():
            quick = vmap(lambda trained, batch: functional_call(base, trained, kwargs=batch).logits)(stacked, inputs)
    except Exception as error:  # of the many kinds that a model may raise whose inputs are not what it knows
        raise wrong from error
    if not fast.same(quick[0], plain):
        raise wrong


def _steps(budget, sets, batch_size, seeds):
    totals = {budget.total_steps(data.lengths, batch_size, seed) for data, seed in zip(sets, seeds, strict=True)}
    if len(totals) != 1 or None in totals:
        raise ValueError(f"a fleet's members take the same number of steps, but {budget} is not that for all of them")
    return totals.pop()


@contextlib.contextmanager
def _stackable(model):
    """Within, attention is multiplied out: fused kernels have no rule for stacks of models."""
    before = model.config._attn_implementation
    if before in ("sdpa", "eager"):
        model.set_attn_implementation("studykit")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _stacked(models, device):
    """What trains, by name, the members along the first axis."""
    every = [{name: p.detach().to(device) for name, p in model.named_parameters() if p.requires_grad} for model in models]
    if any(each.keys() != every[0].keys() for each in every) or any(hasattr(p, "trained") for p in models[0].parameters()):
        raise ValueError("a fleet's members train the same whole parameters: these do not")
    return {name: torch.stack([each[name] for each in every]).requires_grad_() for name in every[0]}


def _groups(base, stacked):
    """Stacked parameters as ``training.groups`` has one model's: the members' axis is no axis of a weight matrix."""
    names = {id(p): name for name, p in base.named_parameters()}
    decayed, plain = training.groups(base.parameters())
    return [stacked[names[id(p)]] for p in decayed], [stacked[names[id(p)]] for p in plain]


def _loss(base, device, precision):
    """The loss of one member's batch, by its parameters; ``vmap`` makes it that of all."""
    def loss(trained, batch, labels, weight):
        with machine.autocast(device, precision):
            logits = functional_call(base, trained, kwargs=batch).logits.float()
        if logits.shape[1] == 1:
            each = (logits[:, 0] - labels) ** 2
        else:
            each = nn.functional.cross_entropy(logits, labels, reduction="none")
        return (each * weight).sum() / weight.sum()

    return loss


def _batch(sets, all_rows, batch_size, device):
    """``(inputs, labels, weight)`` of all members, each (members, batch_size, …). An epoch's last batch may be short: its
    rows are repeated with weight 0."""
    whole = [np.resize(rows, batch_size) for rows in all_rows]
    weight = np.stack([np.arange(batch_size) < len(rows) for rows in all_rows]).astype(np.float32)
    batches = [data.batch(rows) for data, rows in zip(sets, whole, strict=True)]
    inputs = {key: _stack([batch[key] for batch in batches], sets[0].pad[key]).to(device) for key in batches[0]}
    if "attention_mask" in inputs:  # additive, for all heads: transformers makes none of its own from such a one
        hidden = inputs["attention_mask"][:, :, None, None, :] == 0
        inputs["attention_mask"] = hidden * torch.finfo(torch.float32).min
    labels = np.stack([data.labels[rows] for data, rows in zip(sets, whole, strict=True)])
    return inputs, torch.as_tensor(labels, device=device), torch.as_tensor(weight, device=device)


def _stack(values, pad):
    """Batches one on the other, padded to the longest of them."""
    length = max(each.shape[1] for each in values)
    return torch.stack([each if each.shape[1] == length else nn.functional.pad(each, (0, length - each.shape[1]), value=pad)
                        for each in values])


def _clip(parameters):
    """Scale each member's gradient to the norm that ``training`` allows, over all that trains."""
    gradients = [p.grad.flatten(1) for p in parameters]
    norm = torch.stack([gradient.norm(dim=1) for gradient in gradients]).norm(dim=0)
    scale = (training.CLIP / (norm + 1e-6)).clamp(max=1.0)  # as nn.utils.clip_grad_norm_
    for gradient in gradients:
        gradient.mul_(scale[:, None])


def _end(outcome, losses, total):
    outcome.losses = training.tenths(losses)
    if len(bad := (~torch.isfinite(losses)).nonzero()):
        outcome.status, outcome.steps = "diverged", int(bad[0]) + 1
        outcome.reason = f"the loss was not finite within {outcome.steps} steps of {total}"


@torch.no_grad()
def _give_back(model, stacked, i):
    """Put a member's trained parameters into its own model."""
    own = dict(model.named_parameters())
    for name, values in stacked.items():
        own[name].copy_(values[i])
