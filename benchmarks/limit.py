"""How fast it could be: what a method must compute, over the rate at which this machine multiplies matrices."""

import time
from collections import Counter
from unittest import mock

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import measure
from studykit import training
from studykit.models import encoders
from studykit.study import provenance, runs
from studykit.training import budgets, fast, machine

KINDS = {  # PyTorch's operators by what they are for; all others are "the rest"
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "baddbmm_", "_scaled_dot_product_flash_attention_for_cpu",
                        "_scaled_dot_product_flash_attention_for_cpu_backward"),
    "GELU": ("gelu", "gelu_backward"), "softmax": ("_softmax", "_softmax_backward_data"),
    "LayerNorm": ("native_layer_norm", "native_layer_norm_backward"),
    "dropout's masks": ("native_dropout", "bernoulli_"),
    "sums and scalings": ("add", "add_", "mul", "mul_", "div", "sum"), "copies": ("copy_", "cat", "fill_", "zero_"),
    "optimiser": ("_fused_adamw_", "linalg_vector_norm", "_foreach_norm", "_foreach_mul_")}
OF = {f"aten::{operator}": kind for kind, operators in KINDS.items() for operator in operators}
OF["kept"] = "dropout's masks"  # those that NumPy draws
STEPS = 8  # that are profiled


def of(work):
    """A row per task and method: ``flops`` that its work needs, ``rate`` at which this machine multiplies, ``profile``."""
    torch.set_num_threads(work.threads)
    run, device = work.run, machine.best_device()
    _, train, _ = measure.prepared(work)
    model = runs.build(run, work.task, work.encoder_at, train.labels).to(device)
    flops = needed_flops(model, train)
    tokens = int(train.lengths.mean() * run.batch_size)
    return {"task": run.task, "method": run.method, "flops": flops,
            "rate": matmul_rate(model, tokens, device, run.precision),
            "profile": where_time_goes(model, train, run, device)}


def hardware():
    """The machine, as records name it."""
    return provenance.hardware(machine.best_device())


def needed_flops(model, data):
    """Floating-point operations that one pass over the examples must take, matrix products only: forward, gradients of the
    activations down to the lowest trained parameter, and of the weights that train. Each example alone: no padding. In the
    last layer only what the head reads is needed, and the keys and values of all tokens.

    Where only the head trains, all epochs together need hardly more than this: the encoder's answers can be kept.
    """
    model.train()
    counts = {}
    for length, row in {int(length): row for row, length in enumerate(data.lengths)}.items():
        with fast.first_token(model), FlopCounterMode(display=False) as counter:
            training.batch_loss(model, data, np.array([row]), next(model.parameters()).device, "fp32").backward()
        counts[length] = counter.get_total_flops()
        model.zero_grad()
    return float(sum(counts[int(length)] for length in data.lengths))


def matmul_rate(model, tokens, device, precision, repeats=30):
    """Floating-point operations a second of an encoder layer's matrix products on a batch of so many tokens: forward, and
    the gradients of activations and of weights. The median of the repeats, each of all products."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    sizes = [linear.weight.shape for linear in encoders.blocks(model)[0].linear.values()]
    arrays = [[torch.randn(*shape, device=device).to(dtype) for shape in ((tokens, n), (m, n), (tokens, m))]
              for m, n in sizes]
    flops = sum(3 * 2 * tokens * m * n for m, n in sizes)
    times = []
    for _ in range(repeats):
        machine.synchronize(device)
        start = time.monotonic()
        for x, weight, y in arrays:
            x @ weight.T, y @ weight, y.T @ x
        machine.synchronize(device)
        times.append(time.monotonic() - start)
    return flops / float(np.median(times))


def where_time_goes(model, data, run, device):
    """Shares, in percent, of the time in operators by kind, over some steps of ``training.train``."""
    recorded = mock.patch.object(fast, "kept", record_function("kept")(fast.kept))
    with recorded, profile(activities=[ProfilerActivity.CPU]) as seen:
        training.train(model, data, budgets.Budget(steps=STEPS), lr=run.lr, batch_size=run.batch_size,
                       precision=run.precision, device=device)
    spent = Counter()
    for event in seen.key_averages():
        spent[OF.get(event.key, "the rest")] += event.self_cpu_time_total
    return {name: round(100 * micros / spent.total(), 1) for name, micros in spent.most_common()}
