"""Whether a model can be trained as this study trains: found by trying it on a few texts, before anything else is spent.

Families of the table are known, and tested. Any other encoder is tried when it is loaded.
"""

import functools
from typing import TYPE_CHECKING, Any

import torch

from studykit.models import families

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEXTS = ("one", "now two", "here are three", "of four words even",
         "and a text of more words than any of the others has, and so of more tokens")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def passed(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", encoder: str) -> "PreTrainedModel":
    """The model, once it has taken texts of several lengths, forward and backward.

    A text must say among longer ones, where it is padded, what it says alone. Some models mix padding in, or read it
    (FNet, ConvBERT, XLNet): these get texts of one length at a time from then on. Raises ``ValueError`` for a model that
    can do neither.
    """
    inputs = batch(tokenizer)
    try:
        _backward(model, inputs)  # some ask for certain lengths in training alone
        if not _leaves_padding_out(model.eval(), inputs):
            model.forward = functools.partial(by_length, model.forward)  # type: ignore[method-assign]
    except Exception as error:  # whatever a family raises
        reason, *_ = (str(error).strip() or type(error).__name__).splitlines()
        raise ValueError(f"{encoder}, a {model.config.model_type}, cannot be trained on texts as they come ({reason}): give "
                         f"another encoder, such as one of {families.KNOWN}") from error
    finally:
        model.zero_grad(set_to_none=True)
    return model


@torch.no_grad()
def _leaves_padding_out(model, inputs):
    """Whether each text says the same alone, to rounding."""
    logits, lengths = model(**inputs).logits, inputs["attention_mask"].sum(1)
    alone = [model(**{name: values[[i], :length] for name, values in inputs.items()}).logits
             for i, length in enumerate(lengths)]
    if not (spread := (logits - logits.mean(0)).abs().max()):
        raise ValueError("it says the same of every text")
    return bool((torch.cat(alone) - logits).abs().max() <= 1e-3 * spread + 1e-5 * logits.abs().max())


def by_length(forward: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **given: Any) -> Any:
    """What ``forward`` gives of texts, run once for each length that they have, so that none of them is padded."""
    from transformers.modeling_outputs import SequenceClassifierOutput

    if attention_mask is None:
        return forward(input_ids=input_ids, **given)
    inputs, lengths = {"input_ids": input_ids, "attention_mask": attention_mask, **given}, attention_mask.sum(1)
    rows = [(lengths == length).nonzero()[:, 0] for length in lengths.unique()]
    parts = [forward(**{name: values[own, :int(lengths[own[0]])] for name, values in inputs.items()}).logits for own in rows]
    return SequenceClassifierOutput(logits=torch.cat(parts)[torch.cat(rows).argsort()])


def fails_in_bf16(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", device: torch.device) -> str:
    """Why a step on texts, most of them padded, cannot be made in bf16; ``""`` where it can."""
    inputs = {name: values.to(device) for name, values in batch(tokenizer).items()}
    training = model.training
    try:
        with torch.autocast(device.type, torch.bfloat16):
            logits = _backward(model.to(device), inputs)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        return "" if all(bool(values.isfinite().all()) for values in (logits, *gradients)) else "its numbers overflow"
    except (RuntimeError, NotImplementedError) as error:  # an operation that there is no bf16 of
        return str(error).strip().splitlines()[0]
    finally:
        model.train(training)
        model.zero_grad(set_to_none=True)


def _backward(model, inputs):
    """The logits of a pass in training, whose gradients the model then has; it moves no random draw of others."""
    with torch.random.fork_rng(devices=[inputs["input_ids"].device] if inputs["input_ids"].is_cuda else []):
        logits = model.train()(**inputs).logits.float()
    logits.square().mean().backward()
    return logits.detach()


def batch(tokenizer: "PreTrainedTokenizerBase") -> dict[str, torch.Tensor]:
    """The texts as a batch of this study: padded at the right, whatever the tokenizer's own side is."""
    padded = tokenizer(list(TEXTS), padding=True, padding_side="right", return_attention_mask=True, return_tensors="pt")
    return {name: padded[name] for name in INPUTS if name in padded}
