"""Where a study's runs are trained: in this process, in several on this machine, or on many machines."""

import contextlib
import os

ENGINES = "local, loky, dask, or the address of a Dask scheduler such as tcp://host:8786"


def mapped(function, items, jobs=1, engine="local"):
    """Yield ``function(item)`` for each item, as the results come.

    ``local`` is this process for one job and loky's processes for more; ``loky`` is those for one job too; ``dask`` starts a
    cluster of as many workers here; an address is that of a cluster elsewhere, whose workers have this project installed. A
    worker that dies takes nothing with it but what it was at, which another does again.
    """
    if engine == "local" and jobs == 1:
        yield from map(function, items)
        return
    import joblib

    with _backend(engine, jobs):
        yield from joblib.Parallel(return_as="generator_unordered")(joblib.delayed(function)(item) for item in items)


def known(engine):
    """The engine as given, or as ``$STUDYKIT_ENGINE`` says, or ``local``. Raises ``ValueError`` for an unknown one."""
    name = engine or os.environ.get("STUDYKIT_ENGINE") or "local"
    if name not in ("local", "loky", "dask") and "://" not in name:
        raise ValueError(f"unknown engine {name!r}: choose from {ENGINES}")
    return name


@contextlib.contextmanager
def _backend(engine, jobs):
    """joblib's setting for an engine."""
    import joblib

    if engine in ("local", "loky"):
        threads = max(1, (os.cpu_count() or 1) // jobs)
        with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=threads):
            yield
        return
    from dask.distributed import Client, LocalCluster

    with contextlib.ExitStack() as opened:
        where = engine
        if engine == "dask":
            where = opened.enter_context(LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None))
        try:
            client = opened.enter_context(Client(where))
        except OSError:
            raise ValueError(f"no Dask scheduler answers at {engine}: start one, or use --engine local") from None
        with joblib.parallel_config("dask", n_jobs=-1, client=client):
            yield
