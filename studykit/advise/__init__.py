"""Advice on somebody's own data: which way of fine-tuning, how sure, and the model to keep.

``run`` gives advice; ``load`` opens the model that it kept. Both load torch when first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studykit.advise.advice import Advice
    from studykit.advise.advisor import run
    from studykit.advise.predicting import load

__all__ = ["Advice", "load", "run"]
PLACES = {"run": "advisor", "load": "predicting", "Advice": "advice"}


def __getattr__(name: str):
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{PLACES[name]}"), name)
