"""The calibrated clock: what a real token of training costs each arm, measured so that a passing load is seen."""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from studykit import paths
from studykit.evidence.table import tuples
from studykit.study import provenance, runs
from studykit.study.runs import Run
from studykit.tasks import Task
from studykit.training.budgets import Budget

ROUNDS = 3  # of all arms, in turn; so many of an arm count, its quickest
STEPS = 12  # of a round and arm that are timed; two before them are not
TRIES = 3
APART = 0.1  # rounds may differ by so much of their median
OTHERS = 0.1  # of a core that other processes may take meanwhile
LOOK = 0.5  # seconds before each try, in which they may not either
PARTS = ("forward", "backward", "update")


@dataclass(frozen=True)
class Clock:
    """``paces``: a dict per task and arm with ``token_seconds``, ``spread`` (of rounds, as a share of the median),
    milliseconds a step by part, ``tokens_a_step`` and ``flops`` a token. ``refusal`` says, in one sentence, why there are
    none."""

    paces: list = field(default_factory=list)
    machine: dict = field(default_factory=dict)
    refusal: str = ""

    @property
    def token_seconds(self) -> dict[tuple[str, str], float]:
        """Seconds that a real token costs, by task and arm."""
        return {(pace["task"], pace["arm"]): pace["token_seconds"] for pace in self.paces}

    @property
    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.paces)

    @property
    def about(self) -> str:
        """Where and how it was measured."""
        if not self.paces:
            return self.refusal
        known = self.machine
        rounds, threads = (f"{known[name]} {name[:-1]}{'s' * (known[name] != 1)}" for name in ("rounds", "threads"))
        return (f"on {known['processor']}, {threads}, {known['precision']}, recipe {known['recipe']}; "
                f"{rounds} of {known['steps']} steps")


def read(file: Path, wanted: Mapping[tuple[str, str], tuple], precision: str) -> Clock | None:
    """The clock of a file, in the order of ``wanted``, (task, arm) -> what the arm does; ``None`` where the file is not
    there, lacks one of them, or was measured in another precision or by another recipe."""
    return next(filter(None, (_of_one(path, wanted, precision) for path in _machines(file))), None)


def fullest(files: Iterable[Path], tasks: Mapping[str, Task], arms: Mapping, precision: str) -> Clock | None:
    """Of these files' clocks, and of those of other machines beside them, the first of those that have most of these tasks
    and arms: the one that ``read`` gives for all of them, where one has all."""
    found = [_of_one(path, cells(path, tasks, arms), precision) for file in files for path in _machines(file)]
    return max(filter(None, found), key=lambda clock: len(clock.paces), default=None)


def _machines(file: Path) -> list[Path]:
    return [file, *sorted(file.parent.glob(f"{file.stem}-*.json"))]


def _of_one(file: Path, wanted: Mapping[tuple[str, str], tuple], precision: str) -> Clock | None:
    if not file.is_file() or not wanted:
        return None
    kept = json.loads(file.read_text())
    if (kept["machine"]["precision"], kept["machine"]["recipe"]) != (precision, runs.RECIPE):
        return None
    paces = {(pace["task"], (pace["method"], tuples(pace["options"]))): pace for pace in kept["paces"]}
    if any((task, does) not in paces for (task, _), does in wanted.items()):
        return None
    return Clock([{**paces[task, does], "arm": arm} for (task, arm), does in wanted.items()], kept["machine"])


def cells(file: Path, tasks: Mapping[str, Task], arms: Mapping) -> dict[tuple[str, str], tuple]:
    """Of these tasks and arms those that a clock's file has: (task, arm) -> what the arm does."""
    kept = json.loads(file.read_text())["paces"] if file.is_file() else []
    there = {(pace["task"], (pace["method"], tuples(pace["options"]))) for pace in kept}
    return {(task, label): arm.does for task in tasks for label, arm in arms.items() if (task, arm.does) in there}


def write(clock: Clock, file: Path) -> None:
    """Keep a clock, with what the file has of other tasks and arms. Where the file is another machine's it is left alone:
    runs on record go by it. This machine then has one of its own beside it."""
    before = json.loads(file.read_text()) if file.is_file() else {"machine": clock.machine, "paces": []}
    if before["machine"] != clock.machine:
        named = hashlib.sha256(json.dumps(clock.machine, sort_keys=True).encode()).hexdigest()[:8]
        return write(clock, file.with_name(f"{file.stem}-{named}.json"))
    own = {(pace["task"], pace["method"], str(pace["options"])) for pace in clock.paces}
    kept = [pace for pace in before["paces"] if (pace["task"], pace["method"], str(tuples(pace["options"]))) not in own]
    paths.write(file, json.dumps({"machine": clock.machine, "paces": [*kept, *clock.paces]}, indent=1) + "\n")


def measure(members: dict[tuple[str, str], Run], tasks: Mapping[str, Task], source: str, encoder_at: str) -> Clock:
    """The clock of these runs, by task and arm: for each task interleaved rounds of all arms, and of each step the median
    over the ``ROUNDS`` quickest: what a machine does beside only adds. An arm has more rounds where these differ by more
    than a tenth, and rounds do not count in which other processes took more than a tenth of a core; after ``TRIES`` times
    there is no clock but a refusal."""
    paces: list[dict] = []
    by_task: dict[str, dict[str, Run]] = {}
    for (task, arm), run in members.items():
        by_task.setdefault(task, {})[arm] = run
    for name, arms in by_task.items():
        measured: dict[str, dict] = {}
        seen: dict[str, list] = {arm: [] for arm in arms}
        for attempt in range(TRIES):
            left = {arm: run for arm, run in arms.items() if arm not in measured}
            rounds, others = _rounds(left, tasks[name], source, encoder_at)
            for arm in left:
                seen[arm] += [outcomes[arm] for outcomes in rounds if others <= OTHERS]
            found = {arm: _pace(seen[arm]) for arm in left if seen[arm]}
            worst = max((pace["spread"] for pace in found.values()), default=0.0)
            measured |= {arm: pace for arm, pace in found.items() if pace["spread"] <= APART}
            if len(measured) == len(arms):
                break
            time.sleep(attempt)
        else:
            state, reason = (("busy", f"other processes took {others:.1f} of a core meanwhile") if others > OTHERS else
                             ("busy or unsteady", f"rounds of the same steps differed by {worst:.0%}"))
            return Clock(refusal=f"no clock: this machine is {state} ({name}: {reason}, {TRIES} times); call again when it "
                                 "is idle")
        paces += [{"task": name, "arm": arm, "method": run.method, "options": run.options, "rate": run.lr, **measured[arm]}
                  for arm, run in arms.items()]
    return Clock(paces, _machine(next(iter(members.values()))))


def _machine(run: Run) -> dict:
    from studykit.training import machine

    known = provenance.hardware(machine.best_device())
    named = ("processor", "cores", "threads", "system", "device", "accelerator")
    return {**{name: known[name] for name in named if known.get(name) is not None},
            "precision": run.precision, "recipe": run.recipe, "rounds": ROUNDS, "steps": STEPS,
            "torch": provenance.versions()["torch"]}


def _rounds(arms: dict[str, Run], task: Task, source: str, encoder_at: str) -> tuple[list[dict], float]:
    """``(rounds, others)``: of each round the outcome by arm, and the part of a core that other processes took. Where they
    take too much before it begins, there are no rounds."""
    from studykit.training import loop, machine

    with machine.busy() as before:
        time.sleep(LOOK)
    if before.others > OTHERS:
        return [], before.others
    device = machine.best_device()
    parts = {arm: runs.prepared(run, task, source, encoder_at, machine.Ledger(device)) for arm, run in arms.items()}
    rounds = []
    with machine.busy() as load:
        for _ in range(ROUNDS):
            rounds.append({arm: loop.train(part.model, part.train, Budget(steps=STEPS + 2), lr=1e-9, seed=0, timed=True,
                                           batch_size=arms[arm].batch_size, precision=arms[arm].precision)
                           for arm, part in parts.items()})
    return rounds, load.others


def _pace(rounds: list) -> dict:
    """One arm's pace from the outcomes of its quickest rounds; all took the same steps."""
    rounds = sorted(rounds, key=lambda outcome: np.sum(outcome.step_seconds))[:ROUNDS]
    times = np.array([outcome.step_seconds for outcome in rounds])[:, 2:]  # rounds, steps, parts
    tokens = np.array(rounds[0].step_tokens)[2:]
    totals, middle = times.sum(2), np.median(times, axis=0)
    by_round = np.median(totals / tokens, axis=1)
    return {"token_seconds": float(f"{middle.sum() / tokens.sum():.3g}"),
            "spread": round(float(np.ptp(by_round) / np.median(by_round)), 3),
            **{f"{part}_ms": round(1000 * float(middle[:, i].mean()), 2) for i, part in enumerate(PARTS)},
            "tokens_a_step": round(float(tokens.mean()), 1), "flops": rounds[0].flops / rounds[0].tokens}


def apart(table: pd.DataFrame, by: float = 0.25) -> pd.DataFrame:
    """Where runs on a calibrated clock went at another pace than it says, by more than this share: ``task`` and its title,
    ``arm``, ``ratio`` of what a token took to what the clock says, held against the ratio of all runs together, since
    another machine may be slower for all."""
    paced = table[table["token_seconds"] > 0]
    if paced.empty:
        return pd.DataFrame(columns=["task", "task_title", "arm", "ratio"])
    ratios = paced["train_seconds"] / paced["tokens"] / paced["token_seconds"]
    by_arm = (ratios / ratios.median()).groupby([paced[name] for name in ("task", "task_title", "arm")], sort=False).median()
    ratios = by_arm.rename("ratio").reset_index()
    return ratios[(ratios["ratio"] - 1).abs() > by].reset_index(drop=True)
