"""``python -m benchmarks advice FOLDER… --minutes 3 10``: is the advice good, beside what people do now?

Each folder holds train and validation of a real data set. Advice is asked for; beside it stand what people do now, full
fine-tuning at 2e-5 for three epochs, and TF-IDF with a linear model. All are scored on the same rows of validation, which
decide nothing. Rows go to ``benchmarks/advice.json``; what has a row is not run again. Beside it stands the best arm of a
study of the same sets, where its runs with all of the data are on record; what the advice lacks of that is its regret.
"""

import argparse
import collections
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import report
from studykit import advise, paths, tasks
from studykit.advise import asking, floors
from studykit.study import provenance, runs
from studykit.telling import report as evidence

HERE = Path(__file__).parent
FILE = HERE / "advice.json"
USUAL = {"rate": 2e-5, "epochs": 3}  # of full fine-tuning, as examples on the web have it
STUDY = "domains"  # trained five passes over all of the data
HEADER = ("| set | minutes | advice | sure | its score | TF-IDF | full at 2e-5, 3 epochs | best arm, 5 passes | took, s |\n"
          "|---|---|---|---|---|---|---|---|---|\n")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks advice", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--minutes", nargs="+", type=float, default=[3.0, 10.0])
    parser.add_argument("--encoder", default=asking.ENCODER)
    parser.add_argument("--usual", action="store_true", help="train what people do now, too: minutes a set")
    options = parser.parse_args(argv)
    rows, trained = report.read(FILE, []), evidence.evidence(STUDY).reports
    for folder in options.folders:
        for minutes in options.minutes:
            if not any((row["set"], row["minutes"]) == (folder.name, minutes) for row in rows):
                rows.append(_asked(folder, minutes, options.encoder))
                report.save(FILE, rows)
        if options.usual:
            _with_usual(rows, folder, options.encoder)
        for row in (row for row in rows if row["set"] == folder.name):
            row["best"] = best(tasks.described(folder), trained[trained["task"] == folder.name])
        report.save(FILE, rows)
    report.write(HERE / "README.md", table(rows), "advice")
    print(table(rows))
    return 0


def _asked(folder: Path, minutes: float, encoder: str) -> dict:
    """A row: the advice, and how a linear model on TF-IDF does on the same rows."""
    begin = time.monotonic()
    told = advise.run(folder, minutes=minutes, encoder=encoder)
    took = time.monotonic() - begin
    decision, promise = told.decision, told.promise
    assert decision
    task, rows = tasks.described(folder), promise.rows
    return {"set": folder.name, "minutes": minutes, "metric": task.metric.title, "kind": decision.kind,
            "choice": decision.choice, "sure": decision.sure, "score": promise.score, "low": promise.low,
            "high": promise.high, "rows": rows, "runs": promise.runs, "rounds": decision.rounds, "steps": told.steps,
            "tfidf": _tfidf(task, rows), "usual": None, "seconds": round(took, 1), "encoder": told.encoder,
            "threads": json.loads((paths.results(told.name) / "pace.json").read_text())["pace"]["threads"],
            "hardware": provenance.hardware(_device()), "commit": provenance.commit()}


def _device():
    from studykit.training import machine

    return machine.best_device()


def _tfidf(task: tasks.Task, rows: int) -> float:
    """Its score on as many rows of validation."""
    data, _ = runs.data(task, "hub")
    texts = {split: list(zip(*(data[split][column][:] for column in task.columns), strict=True)) for split in data}
    labels = {split: np.asarray(data[split]["label"][:]) for split in data}
    held = labels["validation"]
    chosen = tasks.some(task, held, np.arange(len(held)), rows)
    floor = next(floor for floor in floors.fit(task, texts["train"], labels["train"]) if floor.name == "tfidf")
    outputs = floors.outputs(floor, [texts["validation"][row] for row in chosen])
    answers = outputs.argmax(1) if task.labels else outputs[:, 0]
    scores = task.scores(held[chosen], answers, runs.softmax(outputs) if task.labels else None)
    return round(task.metric.factor * scores[task.metric.name], 2)


def _with_usual(rows: list[dict], folder: Path, encoder: str) -> None:
    """Train what people do now, once a set, and put its score on the same rows into the set's rows."""
    question = asking.question(folder, encoder=encoder)
    study = question.study(128)
    for row in (row for row in rows if row["set"] == folder.name and row["usual"] is None):
        run, = study.plan(arms=["full"], rates=USUAL["rate"], epochs=USUAL["epochs"], score_rows=row["rows"])
        row["usual"] = round(float(study.execute([run], group="usual")["score"].iloc[0]), 2)


def best(task: tasks.Task, trained: pd.DataFrame) -> dict | None:
    """``arm`` and ``score`` of the best arm of a study's runs of a task with all of the data, by the task's main metric on
    validation: chosen by its mean over all seeds but one and valued on that one, in turn. ``None`` where none are whole."""
    whole = trained[trained["fraction"] == 1]
    if whole.empty:
        return None
    valued = whole.assign(value=[_value(task, run) for run in whole.itertuples()])
    scores = valued.pivot(index="seed", columns="arm", values="value").dropna(axis=1)
    found = [scores.loc[seed, scores.drop(index=seed).mean().idxmax()] for seed in scores.index]
    return {"arm": scores.mean().idxmax(), "seeds": len(scores), "study": STUDY, "score": round(float(np.mean(found)), 2)}


def _value(task: tasks.Task, run) -> float:
    """A run's score by the task's main metric, where more is better and no probabilities are read."""
    metric = task.metric
    assert metric.reads != "probabilities" and metric.sign == 1
    return float(metric.factor * task.scores(run.labels, run.predictions)[metric.name])


def table(rows: list[dict]) -> str:
    """The rows as Markdown."""
    def cell(row):
        usual = "not run" if row["usual"] is None else f"{row['usual']:.1f}"
        long = f"{row['best']['arm']} {row['best']['score']:.1f}" if row.get("best") else "not run"
        score = "too few rows" if row["score"] is None else f"{row['score']:.1f} ({row['low']:.1f} to {row['high']:.1f})"
        told = f"{row['kind']}: {row['choice']} | {row['sure']:.0%}"
        return (f"| {row['set']} ({row['metric']}) | {row['minutes']:g} | {told} | {score} | {row['tfidf']:.1f} | {usual} | "
                f"{long} | {row['seconds']:.0f} |\n")

    slowest = max((row["seconds"] / row["minutes"] for row in rows), default=0.0)
    told = [f"{len({row['set'] for row in rows})} sets; of each minute that was given a call took {slowest:.0f} s at most."]
    judged = [row for row in rows if row["score"] is not None]
    lost = [f"{row['set']} ({row['minutes']:g})" for row in judged if row["tfidf"] > row["high"]]
    told.append(f"TF-IDF is above the whole interval of the advice's score in {len(lost)} of {len(judged)} calls"
                + (f": {', '.join(lost)}." if lost else "."))
    for minutes in sorted({row["minutes"] for row in rows}):
        known = [row for row in judged if row["minutes"] == minutes and row.get("best")]
        away = [(row["set"], row["score"] - row["best"]["score"]) for row in known]
        if parts := [f"{name} {abs(gap):.1f} points {'ahead of' if gap > 0 else 'behind'} it" for name, gap in away]:
            told.append(f"In {minutes:g} minutes, beside the best arm of study {STUDY}: {', '.join(parts)}.")
    kinds = collections.Counter(row["kind"] for row in rows)
    told.append("Decisions: " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()) + ".")
    return (HEADER + "".join(cell(row) for row in sorted(rows, key=lambda row: (row["set"], row["minutes"])))
            + "\n" + " ".join(told) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
