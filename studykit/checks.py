"""Whether a value that somebody gave in code or on the command line is of its kind and in its range: if not, one sentence
that says so. What people write in YAML is checked by pydantic."""

import dataclasses
import math
import types
import typing
from typing import Any

SEEDS = {"seed", "subset_seed", "init_seed", "order_seed"}
LAST_SEED = 2 ** 32 - 1  # that NumPy takes
FROM_ZERO = {"min_steps", "token_seconds", "points", "fold", "score_rows", *SEEDS}  # others: above 0
CHOICES = {"score_on": ("validation", "selection", "both"), "pooler": ("pretrained", "new"), "precision": ("fp32", "bf16"),
           "reads": ("", "first", "mean", "last")}
WORDS = {str: "text", bool: "true or false", dict: "a mapping", list: "a list of at least one item",
         tuple: "a tuple of (name, value) pairs"}


def value(name: str, given: Any, kind: Any, where: str = "") -> None:
    """Raise ``ValueError`` where what was given for ``name`` is not of the kind (a type, or a type and ``None``) or is out
    of range: numbers are finite and above 0, or from 0 for names in ``FROM_ZERO``; a fraction is in (0, 1].

    >>> value("lr", "high", float, "my.yaml: ")
    Traceback (most recent call last):
    ValueError: my.yaml: lr must be a positive number, got 'high'
    """
    first, *others = typing.get_args(kind) or (kind,)
    if given is None and types.NoneType in others:
        return
    if name in CHOICES:
        sound, wanted = given in CHOICES[name], f"one of {', '.join(filter(None, CHOICES[name]))}"
    elif first in (int, float):
        sound, wanted = _number(name, given, first)
    else:
        sound, wanted = isinstance(given, first) and (first is not list or bool(given)), WORDS[first]
    if not sound:
        raise ValueError(f"{where}{name} must be {wanted}, got {given!r:.80}")


def _number(name: str, given: Any, kind: Any) -> tuple[bool, str]:
    """Whether it is the number that it must be, and what that is."""
    word = "whole number" if kind is int else "number"
    sound = isinstance(given, int | kind) and not isinstance(given, bool) and 0 <= given < math.inf
    if name == "fraction":
        return sound and 0 < given <= 1, "in (0, 1]"
    if name in SEEDS and sound and given > LAST_SEED:
        return False, f"a {word}, at most {LAST_SEED}"
    return sound and (given > 0 or name in FROM_ZERO), f"a {word}, at least 0" if name in FROM_ZERO else f"a positive {word}"


def fields(instance: Any, where: str = "") -> None:
    """Raise ``ValueError`` where a value of a dataclass is not of its field's kind."""
    for field in dataclasses.fields(instance):
        value(field.name, getattr(instance, field.name), field.type, where)
