"""What becomes of runs where they are trained: a record each, or an accident, which is no result."""

import contextlib
import dataclasses
import datetime
import functools
import traceback
from dataclasses import dataclass
from pathlib import Path

from studykit import paths
from studykit.study import locks, provenance, records, runs
from studykit.study.arms import Arm
from studykit.study.runs import Run
from studykit.tasks import Task
from studykit.training import budgets


@dataclass(frozen=True)
class Place:
    """What a worker knows of a study besides its runs: tasks by name, arms by what they do, where data and encoder lie, the
    folder for records, and how many workers share a GPU."""

    tasks: dict[str, Task]
    arms: dict[tuple, Arm]
    source: str
    encoder_at: str
    folder: Path
    share: int = 1


def outcomes_of(place: Place, members: list[Run], wait: bool) -> list[dict]:
    """What became of runs that can train at once: records and accidents; nothing of a run that another process is at, unless
    that one is waited for. Raises ``ValueError`` where data or weights here are not those that the runs name."""
    from studykit.training import machine

    for run in members:
        if (given := _digests(place.tasks[run.task], place.source, place.encoder_at)) != (run.data, run.weights):
            raise ValueError(f"data and weights at {place.source} and {place.encoder_at} have digests {given}, but "
                             f"{run.name} is about {run.data, run.weights}: give this machine the study's files")
    paths.made(place.folder)
    with machine.leased(place.share):
        done = _together(place, members) if len(members) > 1 else {}
        outcomes = [done.get(run.key) or single(place, run, wait) for run in members]
    return [outcome for outcome in outcomes if outcome]


def _digests(task, source, encoder_at):
    """Digests of the data and the weights that this process trains with."""
    return runs.data(task, source)[1], _weights(encoder_at, runs.stamp(Path(encoder_at)))


@functools.lru_cache(maxsize=8)
def _weights(encoder_at, stamp):
    from studykit.models import encoders

    return encoders.digest(encoder_at)


def _together(place, members):
    """Records by key of those runs that no other process is at or has done, trained at once; none where that fails, say for
    want of memory."""
    with contextlib.ExitStack() as reservations:
        free = [run for run in members
                if reservations.enter_context(locks.reserved(place.folder.parent, run, wait=False))
                and not records.find(place.folder.parent, run)]
        if len(free) < 2:
            return {}
        try:
            results = runs.train_fleet(free, place.tasks[free[0].task], place.source, place.encoder_at)
        except Exception as error:
            print(f"{len(free)} runs of {free[0].task} {free[0].method} do not train together, so one after another: "
                  f"{type(error).__name__}: {error}")
            return {}
        return {run.key: _record(place, run, result) for run, result in zip(free, results, strict=True)}


def single(place: Place, run: Run, wait: bool = True, **options) -> dict | None:
    """The run's record, trained now, or by another process meanwhile; an accident where an error stops it; ``None`` where
    another process is at it and is not waited for. ``options`` are those of ``runs.train_run``; past its deadline
    ``budgets.DeadlinePassed`` is raised."""
    with locks.reserved(place.folder.parent, run, wait) as mine:
        if not mine:
            return None
        if record := records.find(place.folder.parent, run):
            return record
        try:
            result = runs.train_run(run, place.tasks[run.task], place.source, place.encoder_at, unfinished(place, run),
                                    **options)
        except budgets.DeadlinePassed:
            raise
        except Exception as error:
            return accident(place, run, f"{type(error).__name__}: {error}", traceback.format_exc())
        return _record(place, run, result)


def _record(place, run, result):
    arm = place.arms.get((run.method, run.options))
    return kept(place, run, records.new(run, place.tasks[run.task], arm, result))


def accident(place: Place, run: Run, reason: str, trace: str = "") -> dict:
    """What stopped a run, written beside the study's records: no result, so the next call tries the run again."""
    return kept(place, run, {"run": dataclasses.asdict(run), "key": run.key, "status": "accident", "reason": reason,
                             "traceback": trace, "versions": provenance.versions(), "commit": provenance.commit(),
                             "when": datetime.datetime.now().isoformat(timespec="seconds")})


def kept(place: Place, run: Run, outcome: dict) -> dict:
    """The outcome, once it is written: an accident over the run's last one, which a record removes."""
    beside = place.folder.parent / locks.ACCIDENTS
    if outcome["status"] == "accident":
        records.write(outcome, paths.made(beside) / f"{run.name}.json")
    else:
        records.write(outcome, place.folder / f"{run.name}.json")
        (beside / f"{run.name}.json").unlink(missing_ok=True)
        unfinished(place, run).unlink(missing_ok=True)
    return outcome


def unfinished(place: Place, run: Run) -> Path:
    """Where a long run keeps its state until its record is there, beside the study's records."""
    return place.folder.parent / locks.UNFINISHED / f"{run.name}.pt"
