import os
import subprocess
import sys
import threading
import time

import pytest

from studykit import paths
from studykit.study import locks


class Reservable:
    """A run as far as a lock needs it."""

    def __init__(self, key):
        self.key = key


RUN, OTHER = Reservable("0123456789ab"), Reservable("ba9876543210")


def half_written(folder, run, process=7):
    """A record of the run that was cut off."""
    file = folder / "group" / f".cola-full-{run.key}.json.{process}.tmp"
    file.parent.mkdir(exist_ok=True)
    file.write_text("{")
    return file


@pytest.fixture
def holder(tmp_path):
    """Another process that holds ``RUN``."""
    code = ("import time; from pathlib import Path; from types import SimpleNamespace; from studykit.study import locks\n"
            f"with locks.reserved(Path({str(tmp_path)!r}), SimpleNamespace(key={RUN.key!r}), True):\n"
            "    print(1, flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=paths.REPO) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_a_run_is_reserved_for_one_process_until_it_ends(tmp_path):
    with locks.reserved(tmp_path, RUN, wait=False) as mine:
        with locks.reserved(tmp_path, RUN, wait=False) as again:
            assert (mine, again) == (True, False)
        with locks.reserved(tmp_path, OTHER, wait=False) as other:
            assert other
    assert os.listdir(tmp_path) == []
    with locks.reserved(tmp_path, RUN, wait=False) as again:
        assert again


def test_a_reservation_ends_with_its_process(tmp_path, holder):
    """Killed, it leaves a file, and nobody waits for it. What it was writing goes when another process takes its run, since
    no sweep will see a reservation then."""
    with locks.reserved(tmp_path, RUN, wait=False) as mine:
        assert not mine
    assert locks.sweep(tmp_path) == []
    cut_off, others = half_written(tmp_path, RUN), half_written(tmp_path, OTHER)
    holder.kill()
    holder.wait()
    with locks.reserved(tmp_path, RUN, wait=True) as mine:
        assert mine
        assert [cut_off.exists(), others.exists()] == [False, True]


def test_who_waits_goes_on_when_the_holder_dies(tmp_path, holder):
    threading.Timer(0.3, holder.kill).start()
    start = time.monotonic()
    with locks.reserved(tmp_path, RUN, wait=True) as mine:
        assert mine and 0.2 < time.monotonic() - start < 10
    assert os.listdir(tmp_path) == []


def test_one_of_many_that_wait_has_it_at_a_time(tmp_path):
    """Each removes the file that the others wait for."""
    inside, most, lock = [], [], threading.Lock()

    def work():
        for _ in range(10):
            with locks.reserved(tmp_path, RUN, wait=True):
                with lock:
                    inside.append(1)
                    most.append(len(inside))
                time.sleep(0.001)
                with lock:
                    inside.pop()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(most) == 40 and max(most) == 1
    assert os.listdir(tmp_path) == []


def test_stopped_within_it_leaves_nothing_half_written(tmp_path):
    others = half_written(tmp_path, OTHER)
    with pytest.raises(KeyboardInterrupt), locks.reserved(tmp_path, RUN, wait=True):
        half_written(tmp_path, RUN)
        raise KeyboardInterrupt
    assert list(tmp_path.rglob(".*")) == [others]


def test_what_stopped_processes_left_is_swept_and_what_runs_is_not(tmp_path):
    (tmp_path / f".{RUN.key}.lock").touch()
    cut_off = half_written(tmp_path, RUN)
    with locks.reserved(tmp_path, OTHER, wait=False):
        running = half_written(tmp_path, OTHER, 8)
        assert locks.sweep(tmp_path) == [RUN.key]
        assert set(tmp_path.rglob(".*")) == {tmp_path / f".{OTHER.key}.lock", running}
        assert not cut_off.exists()
