"""One run of the advisor after another, within what is left of the time."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from studykit import paths
from studykit.advise.planning import BATCH, Pace
from studykit.study import Study, records, worker
from studykit.study.progress import Line
from studykit.study.runs import Run
from studykit.training import budgets


class TimeUp(Exception):
    """What is asked for does not fit into what is left of the time."""


@dataclass
class Purse:
    """So many seconds from ``start``, a moment of ``time.monotonic()``."""

    seconds: float
    start: float = field(default_factory=lambda: _started())

    @property
    def spent(self) -> float:
        return time.monotonic() - self.start

    @property
    def left(self) -> float:
        return self.seconds - self.spent


def _started() -> float:
    """When ``run_all.sh --data`` had set up, if that has called, else now."""
    started = float(os.environ.get("STUDYKIT_STARTED") or time.time())
    return time.monotonic() - max(0.0, time.time() - started)


@dataclass
class Bench:
    """Trains runs, or reads them. ``read_only``: these minutes were spent before, and what they left is all there is.
    ``slower``: how much longer runs take than expected, by what has been seen of the machine."""

    study: Study
    folder: Path
    purse: Purse
    pace: Pace
    tokens: float  # of a row in the mean
    line: Line
    read_only: bool = False
    slower: float = 1.0
    paces: dict[str, list[float]] = field(default_factory=dict)  # seconds of a token, by arm, of its runs
    doing: str = ""
    best: str = ""

    def expected(self, run: Run, rows: int = 0) -> float:
        """Seconds that the run will take, with ``rows`` to score."""
        label = self.label(run)
        tokens = BATCH * (run.steps or 0) * self.tokens
        return self.slower * (self.pace.start + rows * self.tokens * self.pace.scored) + tokens * self.token(label)

    def token(self, label: str) -> float:
        """Seconds that a token takes an arm in training: by its runs so far, else by the pace and how much slower those of
        others were."""
        return float(np.median(self.paces[label])) if label in self.paces else self.slower * self.pace.token[label]

    def _seen(self, run: Run, record: dict) -> dict:
        self.paces.setdefault(self.label(run), []).append(record["seconds"]["train"] / max(1, record["tokens"]))
        return record

    def label(self, run: Run) -> str:
        return next(arm.label for arm in self.study.design.arms if arm.does == (run.method, run.options))

    def result(self, run: Run, reserve: float, keep: Callable[[Any], None] | None = None) -> dict:
        """The run's record, read or trained now, where it and then ``reserve`` seconds fit into what is left. A model that
        is trained now is handed to ``keep``. Raises ``TimeUp`` where it does not fit, ``RuntimeError`` for an accident."""
        if found := records.find(self.folder, run):
            return self._seen(run, found)
        rows = run.score_rows * (2 if run.score_on == "both" else 1)
        expected = self.expected(run, rows)
        if self.read_only or self.purse.left < expected + reserve:
            raise TimeUp
        self.show(f"{self.label(run)} at {run.lr:g}, {run.steps} steps, about {expected:.0f} s")
        begin, deadline = time.monotonic(), time.monotonic() + self.purse.left - reserve
        try:
            outcome: Any = worker.single(self.place, run, deadline=deadline, keep=keep)
        except budgets.DeadlinePassed:
            raise TimeUp from None
        if outcome["status"] == "accident":
            raise RuntimeError(f"{run.name}: {outcome['reason']}")
        spent = time.monotonic() - begin
        self.slower *= min(3.0, max(1 / 3, (spent / expected) ** 0.5))
        return self._seen(run, outcome)

    @property
    def place(self) -> worker.Place:
        arms = {arm.does: arm for arm in self.study.arms.values()}
        return worker.Place(self.study.tasks, arms, self.study.source, self.study.encoder_at,
                            paths.made(self.folder / paths.OWN))

    def row(self, record: dict) -> pd.Series:
        """The record as a row of the study's table."""
        return self.study.table([record]).iloc[0]

    def show(self, doing: str) -> None:
        """What is done, how long still, the best so far."""
        left = max(0.0, self.purse.left)
        self.line.show(f"{self.doing}: {doing}; at most {left:.0f} s left"
                       + (f"; best so far: {self.best}" if self.best else ""))
