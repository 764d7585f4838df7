"""AdamW over those rows of the word embedding that a run's tokens can touch.

A small data set uses few of the words that an encoder knows. The others get no gradient; full AdamW multiplies them by
1 − rate · decay in every step, the same for all. So a step works with a table of the rows in use, and the others are
multiplied once, by the product.
"""

import contextlib
import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from studykit.models import families


class Rows(contextlib.AbstractContextManager):
    """Within, an embedding has the rows in use alone; left, it has all again, as full AdamW would leave them. It can be
    entered again, and goes on where it was. ``used`` says of each row whether it is, of shape (rows,); the padding's is."""

    def __init__(self, embedding: nn.Embedding, used: torch.Tensor):
        self.embedding, self.whole, self.used = embedding, embedding.weight, used
        self.few = nn.Parameter(embedding.weight.detach()[used])
        self.places = torch.where(used, used.cumsum(0) - 1, -1)  # an error, where it is asked for
        self.padding = embedding.padding_idx
        self.others: torch.Tensor | None = None  # as they began, from when they are first multiplied
        self.group: Callable[[], dict] = dict  # gives the optimizer's group with these rows, once there is one

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep the product with the optimizer, in the group of these rows, which its state holds too."""
        (number,) = (i for i, group in enumerate(optimizer.param_groups) if any(p is self.few for p in group["params"]))
        self.group = lambda: optimizer.param_groups[number]
        optimizer.register_step_post_hook(self._shrink)

    def _shrink(self, *_):
        group = self.group()
        group["shrunk"] = group.get("shrunk", 1.0) * (1 - group["lr"] * group["weight_decay"])

    def __enter__(self):
        self.embedding.weight = self.few
        if self.padding is not None:
            self.embedding.padding_idx = int(self.places[self.padding])
        self.hook = self.embedding.register_forward_pre_hook(lambda _, given: (self.places[given[0]],))
        return self

    @torch.no_grad()
    def __exit__(self, *_):
        self.hook.remove()
        self.embedding.weight, self.embedding.padding_idx = self.whole, self.padding
        if (shrunk := self.group().get("shrunk")) is None:  # not a step yet
            return
        if self.others is None:
            self.others = self.whole[~self.used]
        self.whole[self.used], self.whole[~self.used] = self.few, shrunk * self.others


def of(model, data) -> Rows | None:
    """The ``Rows`` of a model's word embedding for these ``tasks.Encodings``; ``None`` where it is frozen, or not a plain
    one, or its weight has another use, or every row is in use."""
    try:
        embedding = families.classifier(model).get_input_embeddings()
    except NotImplementedError:  # a model of another build
        return None
    plain = type(embedding) is nn.Embedding and embedding.max_norm is None
    if not plain or embedding.scale_grad_by_freq or embedding.sparse or not _trains_alone(embedding.weight, model):
        return None
    used = np.zeros(embedding.num_embeddings, dtype=bool)
    used[np.fromiter(itertools.chain.from_iterable(data.columns["input_ids"]), dtype=np.int64)] = True
    used[[number for number in (data.pad["input_ids"], embedding.padding_idx) if number is not None]] = True
    return None if used.all() else Rows(embedding, torch.from_numpy(used).to(embedding.weight.device))


def _trains_alone(weight, model):
    """Whether a weight trains whole, with weight decay, in one place of the model."""
    places = [name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter is weight]
    return weight.requires_grad and len(places) == 1 and not hasattr(weight, "trained") and not hasattr(weight, "undecayed")
