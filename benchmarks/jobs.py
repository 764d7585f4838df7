"""Runs at once with a thread each, against one after another with all threads, by the size of the encoder."""

import concurrent.futures
import datetime
import json
import multiprocessing
import time

import numpy as np
import torch

from benchmarks import limit
from studykit import methods, tasks, training
from studykit.models import encoders
from studykit.study import provenance
from studykit.training import budgets, machine

SIZES = {"3 x 128": (3, 128, 40), "6 x 384": (6, 384, 8), "12 x 768": (12, 768, 2)}  # layers, width, steps of a run
METHODS = {"full": "all weights", "bitfit": "biases and head"}  # and what trains
REPEATS = 2
WORDS = 6000  # that the texts are made of: a small task's
PATIENCE = 300  # seconds that a run waits for the others


class Meeting(machine.Ledger):
    """A ledger whose training begins when that of all others does."""

    def __init__(self, barrier):
        super().__init__()
        self.barrier = barrier

    def __call__(self, stage):
        if stage == "train" and self.barrier is not None and not self.seconds["train"]:
            self.barrier.wait(PATIENCE)
        return super().__call__(stage)


def measure(sizes=SIZES, repeats=REPEATS, enough=0.1) -> dict:
    """What ``machine.best_jobs`` reads: a row for each size, method and repeat, with seconds of as many runs as there are
    cores, ``after`` one another with all threads and ``together`` with one each, taking turns. Raises ``RuntimeError`` where
    other processes took more than ``enough`` of a core before or meanwhile."""
    cores, rows = machine.threads(), []
    with machine.busy() as load:
        time.sleep(1)
    _check(load, enough)
    with machine.busy() as load, _processes(cores) as pool:
        for repeat in range(repeats):
            for layers, width, steps in sizes.values():
                for method in METHODS:
                    work = (layers, width, steps, method)
                    (alone,) = _at_once(pool, [(*work, cores, cores)])
                    together = _at_once(pool, [(*work, 1, 1)] * cores)
                    longest, parameters = max(seconds for seconds, _ in together), alone[1]
                    rows.append({"layers": layers, "width": width, "parameters": parameters, "trains": METHODS[method],
                                 "repeat": repeat, "steps": steps, "after": alone[0], "together": longest})
    _check(load, enough)
    return {"date": str(datetime.date.today()), "commit": provenance.commit(), "torch": provenance.versions()["torch"],
            "hardware": limit.hardware(), "others": round(load.others, 3), "cores": cores, "rows": rows}


def _check(load, enough):
    if load.others > enough:
        raise RuntimeError(f"no measurement: other processes took {load.others:.1f} of a core meanwhile; call again when "
                           "the machine is idle")


def _processes(count):
    """A pool of so many processes, for one task each at a time, which start with a barrier between them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.limit"])
    return concurrent.futures.ProcessPoolExecutor(count, mp_context=context, initializer=_know,
                                                  initargs=(context.Barrier(count),))


def _know(barrier):
    """Keep the barrier that this process shares with the others."""
    global _barrier
    _barrier = barrier


def _at_once(pool, works):
    return [waited.result() for waited in [pool.submit(_train, work, len(works) > 1) for work in works]]


def _train(work, meets):
    """``(seconds, parameters)`` of training ``runs`` models one after another, in this process, with so many threads."""
    layers, width, steps, method, threads, runs = work
    torch.set_num_threads(threads)
    ledger = Meeting(_barrier if meets else None)
    data = _texts(steps * 16)
    for seed in range(runs):
        model = methods.apply(method, encoders.from_config(_config(layers, width), seed))
        training.train(model, data, budgets.Budget(steps=steps), lr=1e-4, ledger=ledger, device=torch.device("cpu"))
    return ledger.seconds["train"], methods.counts(model)["total"]


def _config(layers, width):
    from transformers import BertConfig

    return BertConfig(num_hidden_layers=layers, hidden_size=width, num_attention_heads=max(2, width // 64),
                      intermediate_size=4 * width)


def _texts(count):
    """Encodings of random texts that are as long as pairs of short sentences are."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(1000, 1000 + WORDS, int(length)).tolist() for length in rng.normal(30, 12, count).clip(8, 90)]
    columns = {"input_ids": texts, "attention_mask": [[1] * len(text) for text in texts]}
    return tasks.Encodings(columns, np.arange(count) % 2, {"input_ids": 0, "attention_mask": 0})


def write(found, file) -> None:
    """Keep a measurement, a line a row."""
    rows = ",\n".join(f"  {json.dumps(row)}" for row in found["rows"])
    about = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in found.items() if key != "rows")
    file.write_text(f"{{\n{about},\n \"rows\": [\n{rows}\n ]\n}}\n")
