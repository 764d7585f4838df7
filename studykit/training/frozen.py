"""Frozen weights in the precision that products are made in: cast once a run, not in every step.

Under autocast PyTorch casts a weight that does not train whenever it is used. Here linear layers hold their frozen weights
in the lower precision while they train; the weights themselves stay as they are, for scoring and saving. Where query, key
and value of a layer are all frozen, their products are one: what goes in is cast once, and read once.
"""

import contextlib
import functools

import torch
from torch import nn

from studykit.models import families

ROLES = ("query", "key", "value")


class Frozen(contextlib.AbstractContextManager):
    """Within, the model's linear layers hold frozen parameters in ``dtype``, and with ``joined`` query, key and value are
    one product; left, it is as it was. It can be entered again: nothing is cast a second time."""

    def __init__(self, model, dtype: torch.dtype, joined: bool):
        self.own = {(module, name): parameter for module in model.modules() if type(module) is nn.Linear
                    for name, parameter in module.named_parameters(recurse=False) if not parameter.requires_grad}
        self.cast = {place: parameter.detach().to(dtype) for place, parameter in self.own.items()}
        self.joints = [Joint(linears, self._one(linears)) for linears in triples(model)] if joined else []

    def _one(self, linears):
        """The weights of these layers one under the other; each layer's own becomes a part of it."""
        whole = torch.cat([self.cast[linear, "weight"] for linear in linears])
        for linear, part in zip(linears, whole.split([linear.out_features for linear in linears]), strict=True):
            self.cast[linear, "weight"] = part
        return whole

    def __enter__(self):
        for (module, name), values in self.cast.items():
            setattr(module, name, nn.Parameter(values, requires_grad=False))
        for joint in self.joints:
            for i, linear in enumerate(joint.linears):
                linear.forward = functools.partial(joint.forward, i)
        return self

    def __exit__(self, *_):
        for (module, name), parameter in self.own.items():
            setattr(module, name, parameter)
        for joint in self.joints:
            joint.given = None
            for linear in joint.linears:
                del linear.forward


class Joint:
    """Linear layers that read the same: the first that is asked multiplies for all of them, and the others take their part.
    One that is given something else multiplies by itself."""

    def __init__(self, linears: list[nn.Linear], weight: torch.Tensor):
        self.linears, self.weight = linears, weight
        self.sizes = [linear.out_features for linear in linears]
        self.given: torch.Tensor | None = None
        self.parts: tuple[torch.Tensor, ...] = ()

    def forward(self, i: int, x: torch.Tensor) -> torch.Tensor:
        if i == 0:
            biases = [linear.bias for linear in self.linears if linear.bias is not None]
            whole = nn.functional.linear(x, self.weight, torch.cat(biases) if biases else None)
            self.given, self.parts = x, torch.unsafe_split_with_sizes(whole, self.sizes, -1)  # a model may change its part
        if x is not self.given:
            self.given, self.parts = None, ()
            return nn.functional.linear(x, self.linears[i].weight, self.linears[i].bias)
        part = self.parts[i]
        if i == len(self.linears) - 1:
            self.given, self.parts = None, ()
        return part


def triples(model) -> list[list[nn.Linear]]:
    """Query, key and value of each layer where they are linear layers whose weights are frozen."""
    if not families.family(model.config):
        return []
    found = [[block.linear[role] for role in ROLES] for block in families.blocks(model) if set(ROLES) <= block.linear.keys()]
    return [linears for linears in found if _alike(linears)]


def _alike(linears):
    kinds = {(type(linear), linear.weight.requires_grad, linear.bias is None, linear.in_features) for linear in linears}
    return len(kinds) == 1 and isinstance(linears[0], nn.Linear) and not linears[0].weight.requires_grad
