import builtins
import json
import os
import subprocess
import sys
import time

import joblib
import psutil
import pytest
import torch
from conftest import changed

from studykit import paths, study
from studykit.models import encoders, files
from studykit.study import provenance
from studykit.training import machine

BURN = "import time; start = time.time()\nwhile time.time() - start < 600: pass"


def others(tries=5, enough=0.1, work=time.sleep):
    """What other processes took within a second: the least of some tries, for whatever else the machine does only adds."""
    least = 99.0
    for _ in range(tries):
        with machine.busy() as load:
            work(1)
        least = min(least, load.others)
        if least < enough:
            break
    return least


def burn(seconds):
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        pass


@pytest.fixture
def stranger():
    """A process that would burn a core, held back, and no child of this one, as its parent has ended."""
    code = ("import subprocess, sys\n"
            f"print(subprocess.Popen([sys.executable, '-c', {BURN!r}], stdout=subprocess.DEVNULL).pid)")
    process = psutil.Process(int(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout))
    process.suspend()
    yield process
    process.kill()


@pytest.fixture
def quiet(stranger):
    """What other processes take while it is held back; a busy machine shows nothing."""
    if (least := others()) > 0.3:
        pytest.skip(f"this machine is busy: other processes take {least:.1f} of a core")
    return least


@pytest.mark.alone
def test_a_process_that_burns_a_core_is_seen_and_an_idle_machine_is_idle(stranger, quiet):
    assert quiet < 0.1
    assert os.getpid() not in [parent.pid for parent in stranger.parents()]
    stranger.resume()
    assert others(tries=3, enough=1.0) == pytest.approx(1, abs=0.25)


@pytest.mark.alone
def test_what_this_process_and_its_children_take_is_not_others(stranger, quiet):
    assert others(work=burn) < 0.2
    with subprocess.Popen([sys.executable, "-c", BURN]) as child:
        assert others() < 0.2
        child.kill()


def test_on_a_busy_machine_what_is_seen_is_no_less(stranger):
    """On whatever machine: a stranger that burns adds what it has."""
    stranger.resume()
    before, start = sum(stranger.cpu_times()[:2]), time.monotonic()
    with machine.busy() as load:
        time.sleep(2)
    had = (sum(stranger.cpu_times()[:2]) - before) / (time.monotonic() - start)
    assert load.others > had - 0.15


def test_the_sum_of_what_is_at_work_is_right(monkeypatch):
    """By hand: of two cores, 9 seconds at work before and 15 after, of which this process and a dead child took 2."""
    Core = type(psutil.cpu_times())
    zero = dict.fromkeys(Core._fields, 0.0)
    times = iter([[Core(**{**zero, "user": 4, "idle": 99}), Core(**{**zero, "system": 5, "iowait": 7})],
                  [Core(**{**zero, "user": 9, "idle": 99}), Core(**{**zero, "system": 6, "iowait": 50})]])
    own, clock = iter([10.0, 12.0]), iter([100.0, 104.0])
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: next(times))
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: [0, 1])
    monkeypatch.setattr(machine, "_own_seconds", lambda: next(own))
    monkeypatch.setattr(machine.time, "monotonic", lambda: next(clock))
    with machine.busy() as load:
        pass
    assert load.others == pytest.approx((15 - 9 - 2) / 4)


@pytest.mark.parametrize("jobs", [1, 2, 3, 1000])
def test_threads_are_no_more_than_cores(jobs):
    threads = machine.threads(jobs)
    assert threads >= 1
    assert threads == 1 or threads * jobs <= joblib.cpu_count()
    assert machine.threads() == joblib.cpu_count()


def measured(file, ratios):
    """A file as ``python -m benchmarks jobs`` writes it: how many times as fast at once, by parameters."""
    rows = [{"parameters": parameters, "after": ratio, "together": 1.0} for parameters, ratio in ratios]
    file.write_text(json.dumps({"rows": rows}))
    return file


@pytest.mark.parametrize("parameters, quick", [(4e5, True), (1e6, True), (22e6, True), (40e6, True), (60e6, False),
                                               (109e6, False), (3e8, False)])
def test_runs_at_once_are_what_was_quickest_at_the_nearest_size(parameters, quick, tmp_path):
    """By the median at a size; nearest by their ratio: 22 and 109 millions meet at 49."""
    file = measured(tmp_path / "jobs.json", [(1e6, 1.9), (22e6, 1.2), (22e6, 1.1), (22e6, 0.5), (109e6, 0.9)])
    assert machine.best_jobs(parameters, file) == (joblib.cpu_count() if quick else 1)


def test_where_nothing_is_known_it_is_one_run_at_a_time(tmp_path):
    assert machine.best_jobs(22e6, tmp_path / "none.json") == 1
    assert machine.best_jobs(0, measured(tmp_path / "jobs.json", [(1e6, 2.0)])) == 1


def test_with_gpus_it_is_one_run_for_each(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert machine.best_jobs(1e6) == 4


def test_a_study_that_names_no_jobs_has_those(tiny_study, tiny_yaml, tiny_glue, tiny_encoder, monkeypatch):
    asked = []
    monkeypatch.setattr(machine, "best_jobs", lambda parameters: asked.append(parameters) or 7)
    assert tiny_study.jobs == 7
    total = sum(p.numel() for p in encoders.load(tiny_encoder).base_model.parameters())
    assert asked == [pytest.approx(total, rel=0.3)]  # a header comes with so few
    assert study.load(changed(tiny_yaml, jobs=3), tiny_glue, tiny_encoder).jobs == 3


def test_an_encoder_that_is_not_here_has_no_size_and_in_parts_has_their_sum(tmp_path):
    assert files.size("somebody/never-fetched") == 0
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / files.INDEX).write_text(json.dumps({"metadata": {"total_size": 4000}, "weight_map": {}}))
    assert files.size(tmp_path) == 1000


def test_peak_memory_is_that_of_the_block_or_not_known(monkeypatch):
    """Where the system cannot forget an earlier peak, a lower one is not known."""
    code = """if True:
        import json, sys, torch
        from studykit.training import machine
        if sys.argv[1] == "never forgets":
            machine._peak_set_back = lambda: False
        seen = []
        for megabytes in (300, 100, 500):
            with machine.peak_memory(torch.device("cpu")) as memory:
                block = torch.ones(megabytes * 2 ** 18)
                del block
            seen.append(memory["peak_mb"] and round(memory["peak_mb"] - memory["idle_mb"]))
        print(json.dumps(seen))"""

    def seen(system):
        command = [sys.executable, "-c", code, system]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=paths.REPO).stdout)

    parent = bytearray(800 * 2 ** 20)  # Linux counts what the process had that started it
    if sys.platform == "linux":
        assert seen("forgets") == pytest.approx([300, 100, 500], abs=30)
    first, second, third = seen("never forgets")
    assert (first, third) == pytest.approx((300, 500), abs=30) and second is None
    assert len(parent) > 0


def test_without_proc_resource_and_windows_s_own_the_peak_is_not_known(monkeypatch):
    opened = open

    def absent(file, *rest, **options):
        if str(file) in ("/proc/self/clear_refs", "/proc/self/status"):
            raise FileNotFoundError(2, "No such file or directory", file)
        return opened(file, *rest, **options)

    monkeypatch.setattr(machine, "resource", None)
    monkeypatch.setattr(builtins, "open", absent)
    with machine.peak_memory(torch.device("cpu")) as memory:
        pass
    assert memory["peak_mb"] is None and memory["idle_mb"] > 10


@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows"])
def test_the_processor_has_a_name_on_every_system(system, monkeypatch):
    """Where the system's own way is not there, the shorter name that Python knows."""
    monkeypatch.setattr(provenance.platform, "system", lambda: system)
    assert isinstance(name := provenance.processor.__wrapped__(), str) and name
