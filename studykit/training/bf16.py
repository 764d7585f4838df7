"""Whether a model can be trained in bf16."""

from typing import TYPE_CHECKING

import torch

from studykit.models import files, trial
from studykit.training import fast

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def fails(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", device: torch.device) -> str:
    """Why a step on texts, most of them padded, cannot be made in bf16 as the training loop makes it; ``""`` where it can.
    What fails in fp32 as well is raised."""
    inputs = {name: values.to(device) for name, values in trial.batch(tokenizer, model).items()}
    training, fused = model.training, model.to(device).config._attn_implementation == "sdpa"
    try:
        multiplied = fused and fast.proven(model, inputs, fast.multiplied_out(model))
        with fast.on_cpu(model, 0, multiplied), torch.autocast(device.type, torch.bfloat16):
            logits = trial.backward(model, inputs)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        return "" if all(bool(values.isfinite().all()) for values in (logits, *gradients)) else "its numbers overflow"
    except (RuntimeError, NotImplementedError) as error:  # an operation that there is no bf16 of
        trial.backward(model, inputs)
        return files.reason(error)
    finally:
        model.train(training)
        model.zero_grad(set_to_none=True)
