"""Training the runs that have no record: in this process, in several on this machine, or on many machines."""

import contextlib
import functools
import os
import traceback

from studykit import paths
from studykit.study import records, runs

ENGINES = "local, loky, dask, or the address of a Dask scheduler such as tcp://host:8786"
WORKER_DIED = ("TerminatedWorkerError", "BrokenProcessPool", "KilledWorker")  # loky's two errors, and Dask's
DEATHS = 3  # of its process, by itself, that a run is given
QUEUE = 24 * 3600  # seconds to wait for a cluster's first worker


def known(engine):
    """The engine as given, or as ``$STUDYKIT_ENGINE`` says, or ``local``. Raises ``ValueError`` for an unknown one."""
    name = engine or os.environ.get("STUDYKIT_ENGINE") or "local"
    if not isinstance(name, str) or (name not in ("local", "loky", "dask") and "://" not in name):
        raise ValueError(f"unknown engine {name!r:.80}: choose from {ENGINES}")
    return name


def train(study, wanted, folder, jobs=1, engine="local"):
    """Yield the records of these runs as they come; last those that another process had begun.

    ``local`` is this process for one job and loky's processes for more, as is ``loky``; ``dask`` starts a cluster of as many
    workers here; an address is that of a cluster elsewhere, whose workers have this project installed, and the study's
    files at the same places. A worker that dies takes nothing with it but what it was at, which another does again, by
    itself: a run that kills its process is a failed one, and the others go on.
    """
    from studykit.training import fleet, machine

    left, wait, idle = {run.key: run for run in wanted}, False, 0
    while left:
        of = functools.partial(records_of, source=study.source, encoder_at=study.encoder_at, folder=folder, wait=wait)
        try:
            for record in _mapped(of, fleet.together(left.values(), machine.best_device()), jobs, engine):
                yield from _taken(record, left, folder, engine)
            wait = True
        except Exception as error:
            suspects = [left[key] for key in records.sweep(folder.parent) if key in left]
            idle += not suspects
            if type(error).__name__ not in WORKER_DIED or idle >= DEATHS:
                raise
            for run in suspects:  # which of those in flight was it?
                yield from _taken(_alone(of, run, jobs, engine, folder), left, folder, engine)


def _taken(record, left, folder, engine):
    """Yield the record, if there is one, once its run is no longer left."""
    if record is not None:
        run = left.pop(record["key"])
        if "://" in engine and not records.find(folder.parent, run):  # its disk is another
            records.write(record, folder / f"{run.name}.json")
        yield record


def _alone(of, run, jobs, engine, folder):
    """The record of a run while no other runs: a failed one, where its process dies ``DEATHS`` times."""
    for _ in range(DEATHS):
        try:
            (record,) = _mapped(of, [[run]], jobs, engine)
            return record
        except Exception as error:
            if type(error).__name__ not in WORKER_DIED:
                raise
            reason = f"its process died {DEATHS} times: {str(error).splitlines()[0]}"
    return _written(run, _failed(reason), folder)


def _mapped(function, lists, jobs, engine):
    """The records in ``function(members)`` for each list of runs, as the results come."""
    if engine in ("local", "loky") and jobs == 1:
        for members in lists:
            yield from function(members)
        return
    import joblib

    calls = (joblib.delayed(_all)(function, members) for members in lists)
    with _backend(engine, jobs) as options:
        for found in joblib.Parallel(return_as="generator_unordered", batch_size=1, **options)(calls):
            yield from found


def _all(function, members):
    return list(function(members))


@contextlib.contextmanager
def _backend(engine, jobs):
    """Within, joblib works with these processes. Yields what else ``joblib.Parallel`` is to be told."""
    import joblib

    if engine in ("local", "loky"):
        with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=max(1, (os.cpu_count() or 1) // jobs)):
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


def records_of(members, source, encoder_at, folder, wait):
    """Yield the records of runs that can train at once. What another process is at or has done is left to ``_record``, and
    so are all where together they fail, say for want of memory. Raises ``ValueError`` where data or weights here are not
    those that the runs name."""
    from studykit.training import machine

    results = []
    for run in members:
        if (given := _given(run.task, source, encoder_at)) != (run.data, run.weights):
            raise ValueError(f"data and weights at {source} and {encoder_at} have digests {given}, but {run.name} is about "
                             f"{run.data, run.weights}: give this machine the study's files")
    paths.made(folder)
    with machine.leased():
        with contextlib.ExitStack() as held:
            fleet = [run for run in members if held.enter_context(records.reserved(folder.parent, run, wait=False))
                     and not records.find(folder.parent, run)] if len(members) > 1 else []
            try:
                results = runs.train_fleet(fleet, source, encoder_at) if len(fleet) > 1 else []
            except Exception as error:
                print(f"{len(fleet)} runs of {fleet[0].task} {fleet[0].method} do not train together, so one after another: "
                      f"{type(error).__name__}: {error}")
            done = {run: _written(run, result, folder) for run, result in zip(fleet, results, strict=False)}
        for run in members:
            yield done.get(run) or _record(run, source, encoder_at, folder, wait)


@functools.cache
def _given(task, source, encoder_at):
    """Digests of the data and the weights that this process trains with."""
    from studykit.models import encoders

    return runs.data(task, source)[1], encoders.digest(encoder_at)


def _record(run, source, encoder_at, folder, wait=True):
    """Train one run and write its record, whatever happens to it. Where another process is at it or has just done it, its
    record is taken; without ``wait``, ``None`` while it is at it."""
    with records.reserved(folder.parent, run, wait) as mine:
        if not mine:
            return None
        if record := records.find(folder.parent, run):
            return record
        try:
            result = runs.train_run(run, source, encoder_at)
        except Exception as error:  # a run that fails is a result: it is counted, and the others go on
            result = _failed(f"{type(error).__name__}: {error}") | {"traceback": traceback.format_exc()}
        return _written(run, result, folder)


def _failed(reason):
    return {"status": "failed", "reason": reason, "scores": {}, "score": None}


def _written(run, result, folder):
    record = records.new(run, result)
    records.write(record, folder / f"{run.name}.json")
    return record
