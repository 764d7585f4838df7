"""``python -m benchmarks``: this project's training beside what people use today, in pairs; two minutes on the miniature.

``python -m benchmarks --full --study minilm --source FOLDER --encoder FOLDER`` is the one on record: it writes its part of
``benchmarks/latest.json`` and the tables of ``benchmarks/README.md``, and wants an idle machine for half an hour. So does
each other study, and ``--precision bf16``.
``python -m benchmarks jobs`` measures how many runs to train at once, and keeps it where ``studykit`` looks.
``advice``, ``check`` and ``gpu`` in place of ``jobs`` are modules with a ``--help`` of their own.
"""

import argparse
import concurrent.futures
import dataclasses
import datetime
import importlib
import multiprocessing
import os
import sys
from pathlib import Path

from benchmarks import driver, jobs, limit, report
from benchmarks.measure import PEFT, Work, at_once, measure
from studykit import study
from studykit.study import provenance
from studykit.training import machine

HERE = Path(__file__).parent
SMALL = {"works": {"mrpc": ["full", "bitfit"], "cola": ["full", "bitfit", "head"]}, "repeats": 2, "members": [5],
         "runs": [40, 400]}
FOUR = ["full", "bitfit", "adapter", "head"]
FULL = {"works": {"mrpc": [*FOUR, "lora"], "cola": [*FOUR, "lora", "layernorm"], "stsb": FOUR}, "repeats": 3, "members": [5],
        "runs": [40, 400, 10_000]}
STEPS = 15
SCORED = {"stsb": 60}  # trained for long enough to learn, and scored: equal work must give equal scores
HEAD_EPOCHS = 3  # a frozen encoder runs once, whatever the number of epochs


def main(argv=None):
    what, *rest = (argv or sys.argv[1:]) or [""]
    if what in ("advice", "check", "gpu"):
        return importlib.import_module(f"benchmarks.{what}").main(rest)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="pairs", choices=["pairs", "jobs"])
    parser.add_argument("--study", default="mini")
    parser.add_argument("--source", default="")
    parser.add_argument("--encoder", default="")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tasks", default="", help="these only, without fleets and driver: mrpc,cola for a large encoder")
    parser.add_argument("--full", action="store_true", help="more tasks, methods, repeats; on record")
    options = parser.parse_args(argv)
    for name, value in (("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0"), ("OMP_WAIT_POLICY", "PASSIVE"),
                        ("GOMP_SPINCOUNT", "1000")):
        os.environ.setdefault(name, value)  # as run_all.sh sets it; for all systems alike
    if options.what == "jobs":
        return measure_jobs()
    experiment = study.load(options.study, options.source, options.encoder)
    setting = FULL if options.full else SMALL
    if options.tasks:
        try:
            setting = only(setting, options.tasks.split(","))
        except ValueError as error:
            parser.error(str(error))
    planned = list(works(experiment, setting, options))
    result = {"study": experiment.name, "encoder": experiment.encoder, "date": str(datetime.date.today()),
              "precision": options.precision, "threads": options.threads, "head_epochs": HEAD_EPOCHS,
              "batch_size": experiment.design.batch_size,
              "measured": [row for work in planned for row in in_pairs(work, setting["repeats"])],
              "limits": [alone(limit.of, work) for work in planned if work.run.task not in SCORED],
              "fleets": [alone(at_once, work, members) for work in planned for members in setting["members"]
                         if work.run.task == "cola" and work.run.method in ("full", "bitfit")],
              "driver": [alone(driver.cost, count) for count in setting["runs"]],
              "versions": provenance.versions(), "commit": provenance.commit(), "hardware": alone(limit.hardware)}
    print(report.markdown(result))
    if options.full:
        report.write(HERE / "README.md", report.all_of(keep(result)), "measured")
    return 0


def only(setting, names):
    """The setting with these tasks alone, and without fleets and the driver."""
    if unknown := [name for name in names if name not in setting["works"]]:
        raise ValueError(f"no task {unknown[0]!r} here: choose from {','.join(setting['works'])}")
    return {**setting, "works": {name: setting["works"][name] for name in names}, "members": [], "runs": []}


def keep(result, file=HERE / "latest.json"):
    """All results on record, this one in the place of an earlier one of its study, precision, threads and tasks."""
    def setting(result):
        return result["study"], result["precision"], result["threads"], *{row["task"]: None for row in result["measured"]}

    kept = list({setting(each): each for each in [*report.read(file, []), result]}.values())
    report.save(file, kept)
    return kept


def measure_jobs():
    """Measure runs at once, and write that into the package and README."""
    try:
        found = jobs.measure()
    except RuntimeError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    jobs.write(found, machine.JOBS)
    report.write(HERE / "README.md", report.jobs(found), "jobs")
    print(report.jobs(found))
    return 0


def works(experiment, setting, options):
    """What is measured: a ``Work`` per task and arm, with the study's settings and the middle of the arm's learning rates; a
    method that is no arm of the study, such as ``layernorm``, has those of ``bitfit``."""
    for name, arms in setting["works"].items():
        for label in arms:
            steps, known = SCORED.get(name, STEPS), label in experiment.arms
            arm = experiment.arms[label if known else "bitfit"]
            (run,) = experiment.plan(name, arm.label, rates=sorted(arm.rates)[len(arm.rates) // 2], steps=steps,
                                     precision=options.precision)
            run = run if known else dataclasses.replace(run, method=label)
            yield Work(run, experiment.tasks[name], steps, HEAD_EPOCHS if label == "head" else 1, experiment.source,
                       experiment.encoder_at, options.threads, name in SCORED)


def in_pairs(work, repeats):
    """Rows of measurements, the systems taking turns, each in a process of its own."""
    as_script = work.run.task not in SCORED and work.run.precision == "fp32"  # which it runs in unless told otherwise
    systems = ["studykit", "trainer"] + ["run_glue"] * as_script + ["peft"] * (work.run.method in PEFT)
    for repeat in range(repeats):
        work = work.seeded(repeat)
        for system in systems:
            row = alone(measure, system, work)
            print(f"{work.run.task} {work.run.method} {system}: {row['seconds'] / work.steps:.3f} s a step", file=sys.stderr)
            yield {"task": work.run.task, "method": work.run.method, "system": system, "repeat": repeat,
                   "steps": work.steps, "examples": work.steps * work.run.batch_size, **row}


def alone(function, *arguments):
    """The result of a function called in a new process, which starts quickly: a server has imported what it needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.limit", "transformers.trainer", "datasets"])
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


if __name__ == "__main__":
    sys.exit(main())
