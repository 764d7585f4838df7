"""Training the runs that have no record: in this process, in several on this machine, or on many machines.

Runs wait in a queue of rounds. Those of a round go out in lists of runs that can train at once; a worker answers with what
became of each. Where a worker dies, the runs in flight have rounds of their own next, and then the round is taken up again.
"""

import collections
import contextlib
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from studykit.study import locks, records, worker
from studykit.study.runs import Run

ENGINES = "local, loky, dask, or the address of a Dask scheduler such as tcp://host:8786"
WORKER_DIED = ("TerminatedWorkerError", "BrokenProcessPool", "KilledWorker")  # loky's two errors, and Dask's
DEATHS = 3  # of its process, by itself, that a run is given
QUEUE = 24 * 3600  # seconds to wait for a cluster's first worker


@dataclass
class Round:
    """Runs that train in any order: a list holds those that can train at once. With ``wait``, those that other processes are
    at are waited for, else left out. ``deaths``: of a worker, where no run was in flight or the round has only one."""

    lists: list[list[Run]]
    wait: bool
    deaths: int = 0

    def only(self, left: dict[str, Run]) -> None:
        """Leave out all runs but these."""
        lists = [[run for run in members if run.key in left] for members in self.lists]
        self.lists = [members for members in lists if members]

    @property
    def single(self) -> Run | None:
        """Its run, where it has just one."""
        return self.lists[0][0] if len(self.lists) == len(self.lists[0]) == 1 else None


def known(engine: str) -> str:
    """The engine as given, or as ``$STUDYKIT_ENGINE`` says, or ``local``. Raises ``ValueError`` for an unknown one."""
    name = engine or os.environ.get("STUDYKIT_ENGINE") or "local"
    if not isinstance(name, str) or (name not in ("local", "loky", "dask") and "://" not in name):
        raise ValueError(f"unknown engine {name!r:.80}: choose from {ENGINES}")
    return name


def train(study, wanted: Sequence[Run], folder: Path, jobs: int = 1, engine: str = "local") -> Generator[dict, None, None]:
    """Yield what becomes of these runs, as it comes; last what another process had begun. It is a run's record, or, where an
    exception or the death of its process stopped it, an accident: a dict with ``key``, ``run``, ``status`` "accident",
    ``reason`` and more, which is kept apart from the records, and goes once the run succeeds.

    ``local`` is this process for one job and loky's processes for more, as is ``loky``; ``dask`` starts a cluster of as many
    workers here; an address is that of a cluster elsewhere, whose workers have this project installed, and the study's
    files at the same places. A worker that dies takes nothing with it but what it was at.
    """
    from studykit.training import fleet, machine

    place = worker.Place(study.tasks, {arm.does: arm for arm in study.arms.values()}, study.source, study.encoder_at, folder,
                         1 if "://" in engine else machine.share(jobs))
    left = {run.key: run for run in wanted}
    rounds = collections.deque([Round(fleet.together(wanted, machine.best_device()), wait=False),
                                Round([[run] for run in wanted], wait=True)])
    while left:
        current = rounds.popleft()
        current.only(left)
        try:
            for outcome in _outcomes(place, current, jobs, engine):
                run = left.pop(outcome["key"])
                if "://" in engine and not records.find(folder.parent, run):  # that machine's disk is another
                    worker.kept(place, run, outcome)
                yield outcome
        except Exception as error:
            if type(error).__name__ not in WORKER_DIED:
                raise
            suspects = [left[key] for key in locks.sweep(folder.parent) if key in left]
            alone = current.single
            current.deaths += bool(alone or not suspects)
            if current.deaths < DEATHS:
                rounds.appendleft(current)
                rounds.extendleft(Round([[run]], current.wait) for run in suspects if run != alone)
            elif alone:
                del left[alone.key]
                yield worker.accident(place, alone, f"its process died {DEATHS} times: {str(error).splitlines()[0]}")
            else:
                raise


def _outcomes(place, current, jobs, engine):
    """What becomes of a round's runs, as it comes."""
    import joblib

    calls = (joblib.delayed(worker.outcomes_of)(place, members, current.wait) for members in current.lists)
    with _backend(engine, jobs) as options:
        for outcomes in joblib.Parallel(return_as="generator_unordered", batch_size=1, **options)(calls):
            yield from outcomes


@contextlib.contextmanager
def _backend(engine, jobs):
    """Within, joblib works with these processes. Yields what else ``joblib.Parallel`` is to be told."""
    import joblib

    from studykit.training import machine

    if engine in ("local", "loky"):
        threads = {} if jobs == 1 else {"inner_max_num_threads": machine.threads(jobs)}
        with joblib.parallel_config("sequential" if jobs == 1 else "loky", n_jobs=jobs, **threads):
            yield {}
        return
    from dask.distributed import Client, LocalCluster

    with contextlib.ExitStack() as opened:
        if engine == "dask":
            engine = opened.enter_context(LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None))
        try:
            client = opened.enter_context(Client(engine))
        except OSError:
            raise ValueError(f"no Dask scheduler answers at {engine}: start one there, or use the engine local") from None
        if any(threads > 1 for threads in client.nthreads().values()):
            raise ValueError(f"a Dask worker at {engine} trains runs in several threads, which would share one random "
                             "generator: start its workers with --nthreads 1")
        with joblib.parallel_config("dask", n_jobs=-1, client=client, wait_for_workers_timeout=QUEUE):
            yield {"pre_dispatch": "all"}  # so that workers that come later find work
