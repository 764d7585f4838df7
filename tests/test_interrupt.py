"""Ctrl-C, or Stop in a notebook: training ends at once, the store stays whole, and the same call goes on."""

import queue
import time

import psutil
import pytest
from jupyter_client.manager import start_new_kernel

from studykit import paths
from studykit.study import records

PLAN = """from studykit import study
experiment = study.load({yaml!r}, source={glue!r}, encoder={encoder!r})
runs = experiment.plan("mrpc", "full", rates=1e-3, steps=3)
runs += experiment.plan("mrpc", ["full", "bitfit"], rates=1e-3, steps=300)"""
EXECUTE = "print(len(experiment.execute(runs, group='x', jobs={jobs})), 'rows')"


@pytest.fixture
def kernel(tiny_yaml, tiny_glue, tiny_encoder, tiny_study):
    manager, client = start_new_kernel()
    said(client, PLAN.format(yaml=str(tiny_yaml), glue=tiny_glue, encoder=tiny_encoder))
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def said(client, code, meanwhile=lambda: None):
    """What the code prints, or the name of the error that ends it; ``meanwhile`` is called over and over."""
    asked, said = client.execute(code), []
    while True:
        meanwhile()
        try:
            message = client.get_iopub_msg(timeout=0.05)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") == asked:
            said += [message["content"].get("text") or message["content"].get("ename") or ""]
            if message["content"].get("execution_state") == "idle":
                return "".join(said)


@pytest.mark.parametrize("jobs", [1, 2])
def test_stopped_in_a_notebook_it_ends_at_once_and_goes_on_later(kernel, tiny_study, jobs):
    manager, client = kernel
    folder, stopped = paths.results(tiny_study.name) / "x", []

    def stop():
        in_flight = {file.name for file in folder.parent.glob(".*.lock")}
        if not stopped and len(list(folder.glob("*.json"))) == 1 and len(in_flight) == jobs:
            time.sleep(0.3)  # until it trains
            manager.interrupt_kernel()
            stopped.append(time.monotonic())

    assert "KeyboardInterrupt" in said(client, EXECUTE.format(jobs=jobs), stop)
    crowd = max(1, psutil.getloadavg()[0] / psutil.cpu_count())  # how many others wait for the core
    assert time.monotonic() - stopped[0] < 5 * crowd
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert len(before) == 1 and not next(iter(before)).startswith("."), "half a record, or a lock, is left"
    assert "3 rows" in said(client, EXECUTE.format(jobs=jobs))
    assert len(records.read(folder.parent)) == len(list(folder.iterdir())) == 3
    assert all((folder / name).read_bytes() == made for name, made in before.items())
