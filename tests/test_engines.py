import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import dask
import distributed
import filelock
import psutil
import pytest
import torch

from studykit import paths
from studykit.study import engines, locks, records, runs, worker
from studykit.training import machine


@pytest.fixture
def wanted(tiny_study):
    return tiny_study.plan(["cola", "stsb"], ["bitfit", "head"], seeds=[0, 1, 2], rates=1e-2, steps=3)


@pytest.fixture
def cluster():
    """Two workers, a thread each."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


def scores(table):
    return dict(zip(table["key"], table["score"], strict=True))


def accidents():
    """What is kept of accidents, by key."""
    files = (paths.results("tiny") / locks.ACCIDENTS).glob("*.json")
    return {kept["key"]: kept for kept in (json.loads(file.read_text()) for file in files)}


def test_a_cluster_that_loses_a_worker_gives_the_table_of_one_process(tiny_study, wanted, cluster, tmp_path, monkeypatch):
    folder, seen = paths.results("tiny") / "x", []

    def kill():
        while len(list(folder.glob("*.json"))) < 2:
            time.sleep(0.01)
        with distributed.Client(cluster) as client:
            before = client.run(os.getpid)
            os.kill(next(iter(before.values())), 9)
            seen.extend([*before.values(), len(list(folder.glob("*.json")))])

    killer = threading.Thread(target=kill)
    killer.start()
    table = tiny_study.execute(wanted, group="x", engine=cluster.scheduler_address)
    killer.join()
    assert len(seen) == 3 and seen.pop() < len(wanted)  # runs were open when it was killed
    assert table["key"].tolist() == [run.key for run in wanted] and not accidents()
    assert len(list(folder.iterdir())) == len(wanted)  # no run twice, no lock, nothing half written
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "alone"))
    assert scores(tiny_study.execute(wanted, group="x")) == scores(table)


def test_the_engine_dask_starts_a_cluster_of_its_own(tiny_study, wanted):
    assert len(tiny_study.execute(wanted[:3], group="x", jobs=2, engine="dask")) == 3


def test_records_from_a_machine_with_another_disk_are_written_here(tiny_study, wanted, tmp_path, monkeypatch):
    """The cluster's records are made elsewhere: the driver finds none and writes its own. So it does with accidents."""
    outcomes_of, train_run = worker.outcomes_of, runs.train_run

    def elsewhere(place, members, wait):
        return outcomes_of(dataclasses.replace(place, folder=tmp_path / "another disk" / place.folder.name), members, wait)

    def failing(run, *where):
        if run == wanted[1]:
            raise RuntimeError("no luck")
        return train_run(run, *where)

    monkeypatch.setattr(worker, "outcomes_of", elsewhere)
    monkeypatch.setattr(runs, "train_run", failing)
    monkeypatch.setattr(engines, "_backend", lambda *_: engines.contextlib.nullcontext({}))
    tiny_study.execute(wanted[:3], group="x", engine="tcp://elsewhere:8786")
    stored = records.read(paths.results("tiny"))
    assert set(stored) == {wanted[0].key, wanted[2].key} and set(accidents()) == {wanted[1].key}
    assert stored == records.read(tmp_path / "another disk")


def test_the_engine_is_the_environment_s_where_none_is_named(monkeypatch):
    assert engines.known("") == "local"
    monkeypatch.setenv("STUDYKIT_ENGINE", "loky")
    assert (engines.known(""), engines.known("dask")) == ("loky", "dask")


def test_an_unknown_engine_and_one_that_does_not_answer_are_said(tiny_study, wanted):
    with pytest.raises(ValueError, match="unknown engine 'ray': choose from local, loky, dask, or the address"):
        tiny_study.execute(wanted, group="x", engine="ray")
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(ValueError, match="no Dask scheduler"):
        tiny_study.execute(wanted, group="x", engine="tcp://127.0.0.1:1")
    assert not list(paths.results("tiny").rglob("*.json"))


def test_a_cluster_whose_workers_train_in_several_threads_is_refused(tiny_study, wanted):
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as shared, \
            pytest.raises(ValueError, match="start its workers with --nthreads 1"):
        tiny_study.execute(wanted, group="x", engine=shared.scheduler_address)
    assert not list(paths.results("tiny").rglob("*.json"))


def test_a_worker_with_other_data_or_weights_trains_nothing(tiny_study, wanted):
    place = place_of(tiny_study)
    for other in ({"data": "another"}, {"weights": "others"}):
        with pytest.raises(ValueError, match=r"have digests .*: give this machine the study's files"):
            worker.outcomes_of(place, [dataclasses.replace(wanted[0], **other)], wait=True)


def place_of(study):
    arms = {arm.does: arm for arm in study.arms.values()}
    return worker.Place(study.tasks, arms, study.source, study.encoder_at, paths.results("tiny") / "x")


# Accidents are no results

@pytest.mark.parametrize("error", [RuntimeError("no luck"), MemoryError("no room"), torch.OutOfMemoryError("no room there")],
                         ids=lambda error: type(error).__name__)
def test_an_accident_is_no_record_and_is_tried_again(tiny_study, wanted, error, monkeypatch, capsys):
    train_run, broken = runs.train_run, [wanted[1], wanted[4]]

    def failing(run, *where):
        if run in broken:
            raise error
        return train_run(run, *where)

    monkeypatch.setattr(runs, "train_run", failing)
    table = tiny_study.execute(wanted, group="x")
    assert table["key"].tolist() == [run.key for run in wanted if run not in broken]
    assert set(accidents()) == {run.key for run in broken}
    kept = accidents()[wanted[1].key]
    assert kept["reason"] == f"{type(error).__name__}: {error}" and kept["status"] == "accident"
    assert kept["run"]["method"] == "head" and kept["versions"]["torch"] and kept["when"]
    assert "in failing" in kept["traceback"]
    assert not set(records.read(paths.results("tiny"))) & set(accidents())
    assert "2 accidents" in capsys.readouterr().out

    error = TypeError("a later one")  # overwrites the first
    broken.pop()
    tiny_study.execute(wanted, group="x")
    assert {key: kept["reason"] for key, kept in accidents().items()} == {wanted[1].key: "TypeError: a later one"}

    broken.clear()
    assert len(tiny_study.execute(wanted, group="another")) == len(wanted)
    assert accidents() == {}


def test_an_accident_says_what_a_reader_of_progress_needs(tiny_study, wanted, monkeypatch):
    monkeypatch.setattr(runs, "train_run", lambda *_: 1 / 0)
    (outcome,) = engines.train(tiny_study, wanted[:1], paths.made(paths.results("tiny") / "x"))
    assert outcome["key"] == wanted[0].key and outcome["run"]["task"] == "cola"
    assert (outcome["status"], outcome["reason"]) == ("accident", "ZeroDivisionError: division by zero")


def test_what_another_process_is_at_is_waited_for_last(tiny_study, wanted, monkeypatch):
    """Its record is taken once it is there."""
    folder, order = paths.made(paths.results("tiny") / "x"), []
    train_run = runs.train_run
    monkeypatch.setattr(runs, "train_run", lambda run, *where: (order.append(run), train_run(run, *where))[1])
    held = locks.reserved(folder.parent, wanted[0], wait=False)
    held.__enter__()
    outcomes = engines.train(tiny_study, wanted[:3], folder)
    assert [next(outcomes)["key"] for _ in range(2)] == [wanted[1].key, wanted[2].key]
    held.__exit__(None, None, None)
    assert [outcome["key"] for outcome in outcomes] == [wanted[0].key]
    assert order == [wanted[1], wanted[2], wanted[0]]


# Processes that die

def killing(run, kills, tmp_path):
    """``train_run`` that kills its process so many times when it is at the run; a file counts."""
    def train(given, *where, train=runs.train_run):
        if given.key == run.key and len(list(tmp_path.glob("kill*"))) < kills:
            (tmp_path / f"kill{time.monotonic_ns()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return train(given, *where)
    return train


@pytest.mark.parametrize("kills", [2, 99])
def test_a_run_that_kills_its_process_is_found_out_and_the_others_go_on(tiny_study, wanted, kills, tmp_path, monkeypatch):
    outcomes_of, train = worker.outcomes_of, killing(wanted[3], kills, tmp_path)

    def deadly(*work):
        worker.runs.train_run = train
        return outcomes_of(*work)

    monkeypatch.setattr(worker, "outcomes_of", deadly)
    table = tiny_study.execute(wanted, group="x", jobs=2)
    lost = [wanted[3].key] if kills > 2 else []
    assert set(table["key"]) == {run.key for run in wanted} - set(lost)
    assert list(accidents()) == lost
    assert all(kept["reason"].startswith("its process died 3 times: ") for kept in accidents().values())
    assert len(list(tmp_path.glob("kill*"))) == (4 if lost else 2)  # once among others, and three times by itself
    assert not list(paths.results("tiny").rglob(".*"))


class TerminatedWorkerError(Exception):
    """Named as loky's is."""


def test_workers_that_die_before_they_begin_are_given_up(tiny_study, wanted, monkeypatch):
    """No run was in flight, so none is to blame."""
    started = []

    def outcomes(*_):
        started.append(1)
        raise TerminatedWorkerError("it died")
        yield

    monkeypatch.setattr(engines, "_outcomes", outcomes)
    with pytest.raises(TerminatedWorkerError):
        tiny_study.execute(wanted, group="x", jobs=2)
    assert len(started) == engines.DEATHS and not accidents()


@pytest.mark.parametrize("how", [{"jobs": 2}, {"engine": "dask"}, {"engine": "tcp://host:8786"}], ids=str)
def test_a_wall_clock_shares_its_machine_with_nobody(tiny_study, how):
    timed = tiny_study.plan("cola", "full", rates=1e-3, seconds=1)
    with pytest.raises(ValueError, match=r"must have the machine to itself: use one job and the engine local"):
        tiny_study.execute(timed, group="x", **how)
    assert not paths.results("tiny").exists() or not list(paths.results("tiny").rglob("*.json"))


# GPUs

@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    """As on a machine with two GPUs: which of them each process would use."""
    used = []

    class Device:
        def __init__(self, number):
            self.number = number

        def __enter__(self):
            used.append(self.number)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", Device)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=f"gpu{number}"))
    monkeypatch.setattr(machine.tempfile, "gettempdir", lambda: str(tmp_path))
    return used


def test_each_process_has_a_gpu_of_its_own_and_a_third_waits(two_gpus, tmp_path):
    with machine.leased():
        with machine.leased():
            assert two_gpus == [0, 1]
            third = threading.Thread(target=lambda: machine.leased().__enter__())
            third.start()
            third.join(0.3)
            assert third.is_alive()
        third.join(5)
        assert not third.is_alive() and two_gpus == [0, 1, 1]


def test_more_jobs_than_gpus_share_them_evenly(two_gpus):
    """Four jobs on two GPUs: each has two, and a fifth process waits."""
    assert [machine.share(jobs) for jobs in (1, 2, 3, 4, 5)] == [1, 1, 2, 2, 3]
    with contextlib.ExitStack() as held:
        for _ in range(4):
            held.enter_context(machine.leased(share=2))
        assert two_gpus == [0, 1, 0, 1]
        fifth = threading.Thread(target=lambda: machine.leased(share=2).__enter__())
        fifth.start()
        fifth.join(0.3)
        assert fifth.is_alive()
    fifth.join(5)
    assert not fifth.is_alive()


def test_a_lease_ends_with_its_process(two_gpus, tmp_path):
    """Another process holds the first GPU and is killed: its lock file is still there, and held by nobody."""
    user = re.sub(r"\W", "-", psutil.Process().username())
    lock = tmp_path / f"studykit-{user}-gpu0.lock"
    code = (f"import filelock, time; held = filelock.FileLock({str(lock)!r}); held.acquire(); "
            "print(1, flush=True); time.sleep(99)")
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    other.stdout.readline()
    with machine.leased():
        pass
    other.kill()
    other.wait()
    with machine.leased():
        assert two_gpus == [1, 0]
    filelock.FileLock(lock).acquire(blocking=False).lock.release()


def test_without_gpus_there_is_nothing_to_lease(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with machine.leased():
        assert machine.best_device().type != "cuda"


def test_the_recipe_for_slurm_in_the_documentation_makes_a_job(tmp_path):
    """The page's lines, run as they stand but for starting jobs."""
    jobqueue = pytest.importorskip("dask_jobqueue", reason="the recipe for Slurm needs the package dask-jobqueue")
    text = (paths.REPO / "docs" / "machines.md").read_text(encoding="utf-8")
    recipe = next(block for block in text.split("```") if "SLURMCluster(" in block).removeprefix("python\n")
    made = recipe[: recipe.index("cluster.scale")].replace("SLURMCluster(", "SLURMCluster(log_directory=None, ")
    scope = {}
    exec(made, scope)
    with scope["cluster"] as cluster:
        assert isinstance(cluster, jobqueue.SLURMCluster)
        script = cluster.job_script()
    assert "#SBATCH" in script and "distributed.cli.dask_worker" in script and "--gres=gpu:1" in script
