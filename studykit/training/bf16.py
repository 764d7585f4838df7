"""Training in bf16: whether a model can be, and its products where the processor has none."""

import contextlib
from typing import TYPE_CHECKING

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from studykit.models import files, trial
from studykit.training import fast, machine

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default,
            torch.ops.aten.baddbmm.default)
IN_PLACE = {torch.ops.aten.baddbmm_.default: torch.ops.aten.baddbmm.default}


class _InSingle(TorchDispatchMode):
    """Matrix products of bf16 numbers are made in fp32 and rounded to bf16, as processors with bf16 units make them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        product = IN_PLACE.get(func, func)
        if product not in PRODUCTS or args[-1].dtype != torch.bfloat16:
            return func(*args, **kwargs)
        found = product(*tree_map(_single, args), **kwargs)
        return args[0].copy_(found) if func in IN_PLACE else found.to(torch.bfloat16)


def _single(value):
    return value.float() if isinstance(value, torch.Tensor) else value


def products(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Within, bf16 products of matrices on a processor that lacks units for them are made from the same rounded numbers in
    fp32: the same results, to the order of sums, in about the time of fp32, where PyTorch's own take many times as long.
    Convolutions and fused attention stay PyTorch's own."""
    slow = device.type == "cpu" and precision == "bf16" and machine.best_precision(device) != "bf16"
    return _InSingle() if slow else contextlib.nullcontext()


def fails(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", device: torch.device) -> str:
    """Why a step on texts, most of them padded, cannot be made in bf16 as the training loop makes it; ``""`` where it can.
    What fails in fp32 as well is raised."""
    inputs = {name: values.to(device) for name, values in trial.batch(tokenizer, model).items()}
    training, fused = model.training, model.to(device).config._attn_implementation == "sdpa"
    try:
        multiplied = fused and fast.proven(model, inputs, fast.multiplied_out(model))
        with products(device, "bf16"), fast.on_cpu(model, 0, multiplied), torch.autocast(device.type, torch.bfloat16):
            logits = trial.backward(model, inputs)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        return "" if all(bool(values.isfinite().all()) for values in (logits, *gradients)) else "its numbers overflow"
    except (RuntimeError, NotImplementedError) as error:  # an operation that there is no bf16 of
        trial.backward(model, inputs)
        return files.reason(error)
    finally:
        model.train(training)
        model.zero_grad(set_to_none=True)
