"""Whether a value that somebody gave is of its kind and in its range: if not, one sentence that says so."""

import dataclasses
import math
import types
import typing

FROM_ZERO = {"min_steps", "token_seconds", "points", "seed", "subset_seed", "init_seed", "order_seed"}  # others: above 0
CHOICES = {"score_on": ("validation", "selection"), "pooler": ("pretrained", "new"), "precision": ("auto", "fp32", "bf16")}
WORDS = {str: "text", bool: "true or false", dict: "a mapping", list: "a list of at least one item",
         tuple: "a tuple of (name, value) pairs"}


def value(name, given, kind, where=""):
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
        sound, wanted = given in CHOICES[name], f"one of {', '.join(CHOICES[name])}"
    elif first in (int, float):
        number = "whole number" if first is int else "number"
        wanted = ("in (0, 1]" if name == "fraction" else f"a {number}, at least 0" if name in FROM_ZERO
                  else f"a positive {number}")
        sound = (isinstance(given, int | first) and not isinstance(given, bool) and 0 <= given < math.inf
                 and (given > 0 or name in FROM_ZERO) and (given <= 1 or name != "fraction"))
    else:
        sound, wanted = isinstance(given, first) and (first is not list or bool(given)), WORDS[first]
    if not sound:
        raise ValueError(f"{where}{name} must be {wanted}, got {given!r:.80}")


def fields(instance, where=""):
    """Raise ``ValueError`` where a value of a dataclass is not of its field's kind."""
    for field in dataclasses.fields(instance):
        value(field.name, getattr(instance, field.name), field.type, where)


def mapping(where, given, needed, optional):
    """Raise ``ValueError`` where a mapping read from a file lacks a setting, has an unknown one, or one of another kind."""
    if not isinstance(given, dict):
        raise ValueError(f"{where} must be a mapping of settings to values, got {given!r:.80}")
    if lacking := needed.keys() - given:
        raise ValueError(f"{where} lacks {', '.join(sorted(lacking))}: give each a value")
    known = needed | optional
    if unknown := given.keys() - known:
        raise ValueError(f"{where} has unknown settings {', '.join(sorted(map(str, unknown)))}: choose from "
                         f"{', '.join(known)}")
    for name in given:
        value(name, given[name], known[name], f"{where}: ")
