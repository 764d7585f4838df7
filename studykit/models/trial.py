"""Whether a model can be trained as this study trains: found by trying it on a few texts, before anything else is spent.

Families of the table are known, and tested. Any other encoder is tried when it is loaded.
"""

import functools
from typing import TYPE_CHECKING, Any

import torch

from studykit.models import families
from studykit.models.files import reason

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEXTS = ("one", "now two", "here are three", "of four words even",
         "and a text of more words than any of the others has, and so of more tokens")
LONGEST = 128  # tokens of a text, where the encoder has positions for so many
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def passed(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", encoder: str) -> "PreTrainedModel":
    """The model, once it has taken texts of several lengths, forward and backward.

    A text must say among longer ones, where it is padded, what it says alone. Some models mix padding in, or read it
    (FNet, ConvBERT, XLNet): these get texts of one length at a time from then on. Raises ``ValueError`` for a model that
    can do neither.
    """
    inputs = batch(tokenizer, model)
    try:
        _train_once(model, inputs)  # some ask for certain lengths in training alone
        if not leaves_padding_out(model.eval(), inputs):
            model.forward = functools.partial(by_length, model.forward)  # type: ignore[method-assign]
    except Exception as error:  # whatever a family raises
        raise ValueError(f"{encoder}, a {model.config.model_type}, cannot be trained on texts as they come "
                         f"({reason(error)}): give another encoder, such as one of {families.KNOWN}") from error
    finally:
        model.zero_grad(set_to_none=True)
    return model


def _train_once(model, inputs):
    """A pass in training, after which buffers are as they were. Raises ``ValueError`` where what it does to them is read:
    only parameters are kept (I-BERT's quantised mode)."""
    own = {name: values for name, values in model.state_dict().items() if name in dict(model.named_buffers())}
    before = {name: values.clone() for name, values in own.items()}
    backward(model, inputs)
    after = model.state_dict()
    if not (moved := [name for name, values in before.items() if not torch.equal(values, after[name])]):
        return
    answers = []
    for _ in range(2):  # as the pass left them, and as they were
        with torch.no_grad():
            answers.append(model.eval()(**inputs).logits)
        model.load_state_dict(before, strict=False)
    if not torch.equal(*answers):
        raise ValueError(f"training moves its {moved[0]}, which is no parameter and would not be kept")


@torch.no_grad()
def leaves_padding_out(model: "PreTrainedModel", inputs: dict[str, torch.Tensor]) -> bool:
    """Whether each text of a batch, padded at the right, says the same alone, to rounding."""
    logits, lengths = model(**inputs).logits, inputs["attention_mask"].sum(1)
    alone = [model(**{name: values[[i], :length] for name, values in inputs.items()}).logits
             for i, length in enumerate(lengths)]
    if not (spread := (logits - logits.mean(0)).abs().max()):
        raise ValueError("it says the same of every text")
    return bool((torch.cat(alone) - logits).abs().max() <= 1e-3 * spread + 1e-5 * logits.abs().max())


def by_length(forward: Any, input_ids: torch.Tensor | None = None, attention_mask: torch.Tensor | None = None, *,
              labels: torch.Tensor | None = None, **given: Any) -> Any:
    """What ``forward``, a classifier's own, gives of texts, run once for each length that they have, so that none of them is
    padded: their logits, and with ``labels`` the loss. What is given for each token, of shape (texts, tokens, …), is cut."""
    from transformers.loss.loss_utils import ForSequenceClassificationLoss
    from transformers.modeling_outputs import SequenceClassifierOutput

    if attention_mask is None or input_ids is None:
        return forward(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **given)
    plainly = given.pop("return_dict", None) is not False
    inputs, lengths = {"input_ids": input_ids, "attention_mask": attention_mask, **given}, attention_mask.sum(1)
    rows = [(lengths == length).nonzero()[:, 0] for length in lengths.unique()]
    parts = [forward(**{name: _cut(values, own, int(lengths[own[0]]), input_ids.shape) for name, values in inputs.items()},
                     return_dict=True).logits for own in rows]
    logits = torch.cat(parts)[torch.cat(rows).argsort()]
    loss = None if labels is None else ForSequenceClassificationLoss(labels, logits, config=forward.__self__.config)
    output = SequenceClassifierOutput(loss=loss, logits=logits)
    return output if plainly else output.to_tuple()


def _cut(values, rows, length, shape):
    """What is given of these texts, no longer than they are; anything that is not by text and token is left as it is."""
    per_token = isinstance(values, torch.Tensor) and values.ndim >= 2 and values.shape[:2] == shape
    return values[rows, :length] if per_token else values


def backward(model: "PreTrainedModel", inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits of a pass in training, whose gradients the model then has; it moves no random draw of others."""
    with torch.random.fork_rng(devices=[inputs["input_ids"].device] if inputs["input_ids"].is_cuda else []):
        logits = model.train()(**inputs).logits.float()
    logits.square().mean().backward()
    return logits.detach()


def batch(tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel | None" = None) -> dict[str, torch.Tensor]:
    """The texts as a batch of this study: padded at the right, whatever the tokenizer's own side is, and no longer than a
    ``model``, with its virtual tokens, has positions for."""
    room = model and families.positions(model)
    longest = min(LONGEST, room - getattr(model, "virtual_tokens", 0)) if room else LONGEST
    padded = tokenizer(list(TEXTS), padding=True, padding_side="right", return_attention_mask=True, return_tensors="pt",
                       truncation=True, max_length=longest)
    return {name: padded[name] for name in INPUTS if name in padded}
