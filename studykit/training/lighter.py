"""Lighter weights for the steps of a run: the same numbers, with nothing done to what no step needs.

Each is tried on the very model first, as all shortcuts are (``fast.proven``).
"""

import contextlib
from collections.abc import Iterator

import torch

from studykit.training import fast, frozen, machine, rows


class Lighter(contextlib.AbstractContextManager):
    """Within, the model trains with lighter weights, where they proved themselves on a sample of ``data``; left, it has its
    own again, trained. Adds the names of those that are used to ``names``."""

    def __init__(self, model, data, device: torch.device, precision: str, names: list[str]):
        inputs = {key: values.to(device) for key, values in data.batch(fast.sample(data)).items()}
        self.parts: list[contextlib.AbstractContextManager] = []
        few = rows.of(model, data)
        if few and fast.proven(model, inputs, few):
            self.parts.append(few)
            names.append("rows")
        if precision == "bf16":
            self.parts += _frozen(model, inputs, device, names)

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Know what the optimizer does to the rows that it does not see."""
        for part in self.parts:
            if isinstance(part, rows.Rows):
                part.follow(optimizer)

    def __enter__(self):
        for part in self.parts:
            part.__enter__()
        return self

    def __exit__(self, *_):
        for part in reversed(self.parts):
            part.__exit__(None, None, None)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Within, the model has its own weights, as they are by now: to be scored."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()


def _frozen(model, inputs, device, names):
    """Frozen weights in bf16, where there are some and that changes nothing."""
    cast = frozen.Frozen(model, torch.bfloat16, joined=False)
    with machine.autocast(device, "bf16"):
        if not cast.own or not fast.proven(model, inputs, cast):
            return []
    names.append("cast")
    if frozen.triples(model) and fast.proven(model, inputs, frozen.Frozen(model, torch.float32, joined=True)):
        cast = frozen.Frozen(model, torch.bfloat16, joined=True)
        names.append("joined")
    return [cast]
