import fcntl
import os
import threading
import time

import pytest
import torch

from studykit import engines, machine, paths, records, runs

distributed = pytest.importorskip("distributed", reason="engines on many machines need the package distributed")


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
            seen.extend(before.values())

    killer = threading.Thread(target=kill)
    killer.start()
    table = tiny_study.execute(wanted, group="x", engine=cluster.scheduler_address)
    killer.join()
    assert len(seen) == 2
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
        other = tmp_path / "another disk" / folder.name
        other.mkdir(parents=True, exist_ok=True)
        return of(members, source, encoder_at, other, wait)

    monkeypatch.setattr(engines, "records_of", elsewhere)
    monkeypatch.setattr(engines, "_backend", lambda *_: engines.contextlib.nullcontext())
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
    with distributed.Client(processes=False, dashboard_address=None), pytest.raises(ValueError, match="no Dask scheduler"), \
            engines._backend("tcp://127.0.0.1:1", 1):
        pass


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
    """A lock file that a dead process left behind is held by nobody."""
    (tmp_path / f"studykit-{os.getuid()}-gpu0.lock").touch()
    with machine.leased():
        assert two_gpus == [0]
    with open(tmp_path / f"studykit-{os.getuid()}-gpu0.lock") as free:
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
