import dataclasses
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import dask
import distributed
import pytest
import torch

from studykit import paths
from studykit.study import engines, records, runs
from studykit.training import machine


@pytest.fixture
def wanted(tiny_study):
    return tiny_study.grid(task=["cola", "stsb"], method=["bitfit", "head"], seed=[0, 1, 2], lr=1e-2, steps=3)


@pytest.fixture
def cluster():
    """Two workers, a thread each."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


def scores(table):
    return dict(zip(table["key"], table["score"], strict=True))


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
    assert table["key"].tolist() == [run.key for run in wanted] and (table["status"] != "failed").all()
    assert len(list(folder.iterdir())) == len(wanted)  # no run twice, no lock, nothing half written
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "alone"))
    assert scores(tiny_study.execute(wanted, group="x")) == scores(table)


def test_the_engine_dask_starts_a_cluster_of_its_own(tiny_study, wanted):
    assert len(tiny_study.execute(wanted[:3], group="x", jobs=2, engine="dask")) == 3


def test_records_from_a_machine_with_another_disk_are_written_here(tiny_study, wanted, cluster, tmp_path, monkeypatch):
    """The cluster's records are made elsewhere: the driver finds none and writes its own."""
    of = engines.records_of

    def elsewhere(members, source, encoder_at, folder, wait):
        return of(members, source, encoder_at, tmp_path / "another disk" / folder.name, wait)

    monkeypatch.setattr(engines, "records_of", elsewhere)
    monkeypatch.setattr(engines, "_backend", lambda *_: engines.contextlib.nullcontext({}))
    tiny_study.execute(wanted[:3], group="x", engine="tcp://elsewhere:8786")
    stored = records.read(paths.results("tiny"))
    assert set(stored) == {run.key for run in wanted[:3]}
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
    run = wanted[0]
    for other in ({"data": "another"}, {"weights": "others"}):
        with pytest.raises(ValueError, match=r"have digests .*: give this machine the study's files"):
            list(engines.records_of([dataclasses.replace(run, **other)], tiny_study.source, tiny_study.encoder_at,
                                    paths.results("tiny") / "x", wait=True))


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
    of, train = engines.records_of, killing(wanted[3], kills, tmp_path)

    def deadly(members, **places):
        engines.runs.train_run = train
        return of(members, **places)

    monkeypatch.setattr(engines, "records_of", deadly)
    table = tiny_study.execute(wanted, group="x", jobs=2).set_index("key")
    failed = table[table["status"] == "failed"]
    assert len(table) == len(wanted)
    assert list(failed.index) == ([wanted[3].key] if kills > 2 else [])
    assert all(reason.startswith("its process died 3 times: ") for reason in failed["reason"])
    assert not list(paths.results("tiny").rglob(".*"))


@pytest.mark.parametrize("how", [{"jobs": 2}, {"engine": "dask"}, {"engine": "tcp://host:8786"}], ids=str)
def test_a_wall_clock_shares_its_machine_with_nobody(tiny_study, how):
    timed = tiny_study.grid(task="cola", method="full", lr=1e-3, seconds=1)
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


def test_a_lease_ends_with_its_process(two_gpus, tmp_path):
    """Another process holds the first GPU and is killed: its lock file is still there, and held by nobody."""
    lock = tmp_path / f"studykit-{os.getuid()}-gpu0.lock"
    code = (f"import fcntl, time; held = open({str(lock)!r}, 'w'); fcntl.flock(held, fcntl.LOCK_EX); "
            "print(1, flush=True); time.sleep(99)")
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    other.stdout.readline()
    with machine.leased():
        pass
    other.kill()
    other.wait()
    with machine.leased():
        assert two_gpus == [1, 0]
    with open(lock) as free:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_without_gpus_there_is_nothing_to_lease(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with machine.leased():
        assert runs is not None


def test_the_recipe_for_slurm_in_the_documentation_makes_a_job(tmp_path):
    """README's lines, run as they stand but for starting jobs."""
    jobqueue = pytest.importorskip("dask_jobqueue", reason="the recipe for Slurm needs the package dask-jobqueue")
    text = (paths.REPO / "README.md").read_text()
    recipe = next(block for block in text.split("```") if "SLURMCluster(" in block).removeprefix("python\n")
    made = recipe[: recipe.index("cluster.scale")].replace("SLURMCluster(", "SLURMCluster(log_directory=None, ")
    scope = {}
    exec(made, scope)
    with scope["cluster"] as cluster:
        assert isinstance(cluster, jobqueue.SLURMCluster)
        script = cluster.job_script()
    assert "#SBATCH" in script and "distributed.cli.dask_worker" in script and "--gres=gpu:1" in script
