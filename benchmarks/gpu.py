"""``python -m benchmarks gpu``: this project's steps on this machine's GPU beside Hugging Face's Trainer, and its fleets.

All in one process, since a GPU's memory is counted by what is asked of it: systems take turns, and a first turn, not
counted, loads the kernels. It adds to ``benchmarks/gpu.json`` as it goes, and writes the table of ``benchmarks/README.md``.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.measure import Work, at_once, measure
from studykit import methods, study
from studykit.study import provenance
from studykit.training import machine

FILE = Path(__file__).with_name("gpu.json")
SYSTEMS = ("studykit", "trainer")
MEMBERS = 3  # of a fleet


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="mpnet")
    parser.add_argument("--source", default="")
    parser.add_argument("--encoder", default="")
    parser.add_argument("--works", nargs="+", default=["cola:full,bitfit,adapter,lora,head", "mrpc:full,bitfit"],
                        metavar="TASK:ARM,…")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=2, choices=range(1, 10))
    parser.add_argument("--file", type=Path, default=FILE)
    options = parser.parse_args(argv)
    device = machine.best_device()
    if device.type == "cpu":
        print("benchmarks: there is no GPU here; python -m benchmarks measures on the processor", file=sys.stderr)
        return 2
    found = report.read(options.file, {"rows": [], "fleets": []})
    experiment = study.load(options.study, options.source, options.encoder)
    about = {"study": experiment.name, "precision": experiment.design.precision, "hardware": provenance.hardware(device),
             "versions": provenance.versions(), "commit": provenance.commit()}
    for work in works(experiment, options):
        cell = experiment.name, work.run.task, work.run.method
        for kind, rows in found.items():
            found[kind] = [row for row in rows if (row["study"], row["task"], row["method"]) != cell]
        for repeat in range(-1, options.repeats):
            for system in SYSTEMS:
                measured = measure(system, work.seeded(max(0, repeat)))
                row = {**_named(work), "system": system, "repeat": repeat, **measured, **about}
                machine.release_memory()
                if repeat >= 0:
                    found["rows"].append(row)
                    print(f"{row['task']} {row['method']} {system}: {1000 * row['seconds'] / row['steps']:.1f} ms a step",
                          flush=True)
        if work.run.method not in (*methods.ALONE, "head"):  # a head alone takes next to no steps of the encoder
            found["fleets"].append({**_named(work), **at_once(work, MEMBERS), **about})
        machine.release_memory()
        report.save(options.file, found)
    report.write(Path(__file__).with_name("README.md"), report.gpu(found) + "\n", "gpu")
    return 0


def works(experiment, options):
    """What is measured: a ``Work`` per task and arm, at the middle of the arm's learning rates."""
    for task, _, labels in (each.partition(":") for each in options.works):
        for label in labels.split(","):
            rates = sorted(experiment.arms[label].rates)
            (run,) = experiment.plan(task, label, rates=rates[len(rates) // 2], steps=options.steps, seeds=[0])
            yield Work(run, experiment.tasks[task], options.steps, 1, experiment.source, experiment.encoder_at, 1)


def _named(work):
    return {"task": work.run.task, "method": work.run.method, "steps": work.steps, "batch_size": work.run.batch_size,
            "when": time.strftime("%Y-%m-%d")}
