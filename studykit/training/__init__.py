"""Training: the loop, budgets and clocks, what makes a step quick, fleets, the machine.

``train``, ``predict`` and ``logits`` are the loop's; they load torch when first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studykit.training.loop import Outcome, batch_loss, logits, predict, train

__all__ = ["Outcome", "batch_loss", "logits", "predict", "train"]
MODULES = ("bf16", "budgets", "checkpoints", "fast", "fleet", "frozen", "lighter", "loop", "machine", "rows")


def __getattr__(name: str):
    """Reading records asks for budgets only, and must not wait for torch."""
    if name.startswith("__") or name in MODULES:  # these are imported as ever
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("studykit.training.loop"), name)
