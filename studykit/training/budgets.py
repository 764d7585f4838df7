"""How long to train, and on which batches."""

import math
from dataclasses import dataclass

import numpy as np

from studykit import checks

POOL = 50  # batches that are grouped by length together


class DeadlinePassed(Exception):
    """A moment came by which a training was to have ended."""


@dataclass(frozen=True)
class Budget:
    """How long to train: ``steps``; ``epochs`` with a floor of ``min_steps`` so that small fractions do not starve; or
    ``seconds`` of training, in which evaluation, loading and saving do not count.

    Seconds are the wall clock's, unless ``token_seconds`` says what a real token costs this method on some machine: that
    calibrated clock gives the same steps on every machine and under any load.

    >>> Budget(epochs=3, min_steps=200).total_steps([9] * 160, 16), Budget(steps=7).total_steps([9] * 160, 16)
    (200, 7)
    >>> Budget(seconds=1.6, token_seconds=1e-3).total_steps([10] * 160, 16)
    10
    """

    epochs: float | None = None
    min_steps: int = 0
    steps: int | None = None
    seconds: float | None = None
    token_seconds: float = 0.0

    def __post_init__(self):
        given = [value for value in (self.epochs, self.steps, self.seconds) if value is not None]
        if len(given) != 1:
            raise ValueError(f"a budget is one of epochs, steps and seconds, got epochs={self.epochs}, steps={self.steps} "
                             f"and seconds={self.seconds}")
        checks.fields(self, "a budget's ")
        if self.token_seconds and self.seconds is None:
            raise ValueError("a budget with token_seconds, the calibrated clock, must be in seconds")

    def total_steps(self, lengths, batch_size, seed=0):
        """Optimiser steps for training examples of these lengths in tokens; ``None`` where the wall clock decides.

        On the calibrated clock ``seed``, the order seed, matters: steps are taken until the tokens of its batches have
        used the seconds up.
        """
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return max(math.ceil(self.epochs * math.ceil(len(lengths) / batch_size)), self.min_steps)
        if not self.token_seconds:
            return None
        lengths, spent = np.asarray(lengths), 0.0
        for step, rows in enumerate(batch_order(lengths, batch_size, None, seed)):
            last, spent = spent, spent + self.token_seconds * lengths[rows].sum()
            if spent >= self.seconds:
                return max(1, step + int(spent - self.seconds <= self.seconds - last))

    def __str__(self):
        if self.steps is not None:
            return f"{self.steps} steps"
        if self.seconds is not None:
            return f"{self.seconds:g} s on {'a calibrated' if self.token_seconds else 'the wall'} clock"
        floor = f", at least {self.min_steps} steps" if self.min_steps else ""
        return f"{self.epochs:g} epochs{floor}"


def batch_order(lengths, batch_size, total, seed):
    """``total`` batches of indices, or without end for ``None``: each epoch shuffled by the order seed, then sorted by
    length within pools, then batches shuffled."""
    rng, done = np.random.default_rng([seed, 3]), 0
    while True:
        order = rng.permutation(len(lengths))
        pools = [order[i: i + POOL * batch_size] for i in range(0, len(order), POOL * batch_size)]
        pools = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
        batches = [pool[i: i + batch_size] for pool in pools for i in range(0, len(pool), batch_size)]
        for i in rng.permutation(len(batches)):
            if done == total:
                return
            yield batches[i]
            done += 1
