"""The race of arms and rates, the floors beside them, and the finals."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from studykit import methods, paths, tasks
from studykit.advise import floors, planning
from studykit.advise.advice import Trial
from studykit.advise.running import TimeUp
from studykit.advise.session import Session
from studykit.evidence import deciding, stats
from studykit.study import runs
from studykit.study.arms import Arm
from studykit.tasks.packing import packed

RACE_SEED = 1000
LOOKS = 6  # rounds of the finals, at most: together they score nine rows of ten
FORMER = ("adapter", "full", "lora", "bitfit", "head")  # by their mean rank in the studies on record, the best first
RACE = LOOKS  # the part of train that the race is scored on: another than that of any round


def race(session: Session) -> None:
    """Every arm at every rate for a few steps; each arm at its best rate for twice as many; the best arms go on. Where time
    is up before the first rung's end, what has run of it is all there is."""
    plan, arms = session.plan, session.study.arms
    entries = [(label, rate) for label, arm in arms.items() for rate in (arm.rates if plan.rates > 1 else (_middle(arm),))]
    entries.sort(key=lambda entry: entry[1] != _middle(arms[entry[0]]))  # of all arms the middle first
    try:
        for rung, steps in enumerate(plan.rungs):
            for entry in entries:
                _trial(session, rung, steps, *entry)
            _over(session, rung)
            entries = list(session.rates.items())
    except (TimeUp, KeyboardInterrupt) as ending:
        if session.rung is None and session.trials:
            _over(session, 0)
        if isinstance(ending, KeyboardInterrupt):
            raise
    if session.rung is None:
        raise TimeUp
    session.finalists = deciding.first(session.rung, _former(arms), plan.finalists)
    session.trials = [(dataclasses.replace(trial, kept=_went_on(session, trial)), record)
                      for trial, record in session.trials]


def _former(arms: dict[str, Arm]) -> list[str]:
    """Labels by what former studies saw of their methods; those that none had, after them."""
    return sorted(arms, key=lambda label: (*FORMER, arms[label].method).index(arms[label].method))


def _middle(arm: Arm) -> float:
    return arm.rates[len(arm.rates) // 2]


def _over(session: Session, rung: int) -> None:
    """A rung has been run: each arm's best rate, the middle one where that cannot be told from it, and the scores there."""
    rates, rows = {}, {}
    for label, arm in session.study.arms.items():
        own = {trial.rate: session.bench.row(record) for trial, record in session.trials
               if (trial.arm, trial.rung) == (label, rung)}
        if own:
            known = sorted(own, key=lambda rate: rate != _middle(arm))
            rates[label], = known if len(own) == 1 else deciding.first(_round(own), known)
            rows[label] = own[rates[label]]
    session.rates, session.rung, session.rungs = rates, _round(rows), rung + 1
    _decide(session)


def _went_on(session: Session, trial: Trial) -> bool:
    last = trial.rung == len(session.plan.rungs) - 1
    return session.rates.get(trial.arm) == trial.rate and (not last or trial.arm in session.finalists)


def _trial(session: Session, rung: int, steps: int, label: str, rate: float) -> None:
    run, = session.study.plan(arms=[label], rates=rate, seeds=[RACE_SEED], steps=steps, fold=RACE, score_on="selection",
                              score_rows=session.plan.score_rows)
    record = session.bench.result(run, reserve(session))
    row = session.bench.row(record)
    session.trials.append((Trial(label, rate, rung, steps, float(row["score"]), row["status"], False), record))
    best, _ = max(session.trials, key=lambda pair: (pair[0].rung, session.task.metric.sign * pair[0].score))
    session.bench.best = f"{best.arm} {best.score:.1f}"


def better(row: pd.Series) -> float:
    """A row's score in points, more is better."""
    return float(row["better"] * row["score"])


def _round(rows: dict[Any, pd.Series]) -> deciding.Round:
    """Scores of rows of a table on the same examples, and on resampled ones."""
    table = pd.DataFrame(list(rows.values()))
    if unscored := [name for name, row in rows.items() if row["score"] != row["score"]]:
        raise ValueError(f"{table['scored_by'].iloc[0].title} gives the answers of {', '.join(unscored)} no score: name "
                         "another metric first in the task's YAML")
    scores = (table["better"] * table["score"]).astype(float)
    step = step_of(table["scored_by"].iloc[0], np.asarray(table["labels"].iloc[0]))
    return deciding.Round(dict(zip(rows, scores, strict=True)), stats.resampled(table), step)


def step_of(metric: tasks.Metric, labels: np.ndarray) -> float:
    """By how many points one row can move a score: of answers that are all right, what one wrong one of some class does; of
    numbers and probabilities the range's share of a row, 0 where the range has no end."""
    if metric.reads != "classes":
        width = metric.factor * (metric.range[1] - metric.range[0])
        return float(width / len(labels)) if np.isfinite(width) else 0.0
    there, firsts = np.unique(labels, return_index=True)
    answers = np.repeat(labels[None], len(there) + 1, axis=0)
    answers[1 + np.arange(len(there)), firsts] = np.where(there == there[0], there[-1], there[0])
    found = metric.resampled(labels, answers, np.ones((1, len(labels))))[0]
    return float(metric.factor * np.abs(found[1:] - found[0]).max())


def reserve(session: Session) -> float:
    """Seconds to leave for the last training and what comes after it; of the dearest of the arms that are left."""
    last = max(seconds(session, label) for label in session.finalists or session.study.arms)
    return planning.LAST * last + session.plan.seconds["end"]


def held(session: Session) -> float:
    """Seconds that rounds beyond those planned leave for the learning curve, where there will be one."""
    return session.plan.seconds["curve"] if planning.reads_all(session.plan.steps, len(session.sets["train"])) else 0.0


def finals(session: Session) -> None:
    """Rounds of all finalists, each with another seed and scored on another part of train, until it is settled or time is
    up. An arm that left the race comes back where it is what keeps the matter open."""
    try:
        if session.rung is None:
            raise TimeUp
        _rounds(session)
    except (TimeUp, KeyboardInterrupt):
        if not session.rounds:
            _decide(session)
        raise


def _rounds(session: Session) -> None:
    for k in range(LOOKS):
        for label in list(session.finalists):
            _final(session, k, label)
        _decide(session)
        if k + 1 >= min(2, session.plan.rounds) and deciding.settled(session.decision):
            return
        if k + 1 >= session.plan.rounds and (label := _threat(session)):
            for earlier in range(k + 1):
                _final(session, earlier, label)
            session.finalists.append(label)
            _decide(session)


def _final(session: Session, k: int, label: str) -> None:
    if (k, label) in session.finals:
        return
    run, = session.study.plan(arms=[label], rates=session.rates[label], seeds=[k], steps=session.plan.steps, fold=k,
                              score_on="both", score_rows=session.plan.score_rows)
    more = held(session) if k >= session.plan.rounds else 0.0
    session.finals[k, label] = session.bench.result(run, reserve(session) + more,
                                                    keep=lambda model: _keep(session, model, k, label, run.key))
    _floors_of(session, k)


def _keep(session: Session, model, k: int, label: str, key: str) -> None:
    """Keep what a run of the finals trained, in place of the arm's former round."""
    methods.save(model, _tuned_file(session, key))
    if former := session.finals.get((k - 1, label)):
        _tuned_file(session, former["key"]).unlink(missing_ok=True)


def _tuned_file(session: Session, key: str) -> Path:
    return paths.made(paths.runs(session.question.name) / "tuned") / f"{key}.safetensors"


def tuned(session: Session, label: str) -> tuple[Path, int] | None:
    """What was trained last of an arm in these finals, and in which round; ``None`` where none of it is here."""
    found = ((_tuned_file(session, record["key"]), k) for (k, arm), record in session.finals.items() if arm == label)
    return max(((file, k) for file, k in found if file.is_file()), key=lambda pair: pair[1], default=None)


def _threat(session: Session) -> str:
    """The arm that left the race, where it is likelier to be the best than any finalist but the choice; else none."""
    others = [standing for standing in session.decision.standings if standing.label != session.decision.choice]
    worst = max(others, key=lambda standing: standing.chance, default=None)
    return worst.label if worst and worst.label in session.study.arms and worst.label not in session.finalists else ""


def rounds(session: Session) -> list[deciding.Round]:
    """Rounds that are whole, with the floors in them; without any, the last rung of the race, or the floors alone."""
    names = sorted({name for _, name in session.floors})
    found = [_round({label: session.bench.row(session.finals[k, label]) for label in session.finalists}
                    | {name: session.floors[k, name][1] for name in names}) for k in range(session.rounds)]
    if found:
        return found
    _floors_of(session, RACE)
    names = sorted({name for _, name in session.floors})
    last = {trial.arm: record for trial, record in session.trials  # of a rung that all ran: more steps are no merit
            if session.rates.get(trial.arm) == trial.rate and trial.rung == session.rungs - 1}
    return [_round({label: session.bench.row(record) for label, record in last.items()}
                   | {name: session.floors[RACE, name][1] for name in names})]


def _decide(session: Session) -> None:
    names = {name for _, name in session.floors}
    found, race = rounds(session), session.rung
    left = deciding.left(race, set(race.scores) - set(session.finalists), found) if race else []
    cost = {label: seconds(session, label) for label in session.study.arms}
    session.decision = deciding.decide(found, left, cost=cost, floors=names, margin=session.question.margin,
                                       looks=LOOKS)
    session.bench.best = session.decision.choice
    session.changed()


def seconds(session: Session, label: str) -> float:
    """Of one training in the finals."""
    return planning.BATCH * session.plan.steps * session.bench.tokens * session.bench.token(label)


def embed(session: Session) -> None:
    """The frozen encoder's mean embeddings of all rows, kept between calls."""
    if not session.plan.embedded:
        return
    question, study = session.question, session.study
    file = paths.made(paths.runs(question.name)) / (
        f"embeddings-{study.weights}-{study.data_digest(question.name)}-{study.design.max_length}.npz")
    if file.is_file():
        with np.load(file, allow_pickle=False) as kept:
            session.embeddings = dict(kept)
        return
    session.bench.show("the frozen encoder's embeddings of all rows")
    session.embeddings = {split: floors.embeddings(question.encoder_at, session.sets[split])
                          for split in ("train", "validation")}
    np.savez(kept := io.BytesIO(), **session.embeddings)  # type: ignore[arg-type]
    paths.write(file, kept.getvalue())


def _floors_of(session: Session, k: int) -> None:
    """The floors of a round: fitted without its part of train, scored on that."""
    if any(round_ == k for round_, _ in session.floors):
        return
    rest, part = session.parts(k)
    for floor in fitted(session, "train", rest):
        session.floors[k, floor.title] = floor, scored(session, floor, "train", part)


def fitted(session: Session, split: str, rows: np.ndarray, only: str = "") -> list[floors.Floor]:
    """The floors, fitted on these rows; or the one of that title ``only``."""
    texts = [session.rows[split][row] for row in rows]
    embedded = session.embeddings[split][rows] if session.embeddings else None
    return floors.fit(session.task, texts, session.sets[split].labels[rows], embedded, only)


def scored(session: Session, floor: floors.Floor, split: str, rows: np.ndarray) -> pd.Series:
    """A floor's answers to these rows as a row of a study's table."""
    task, labels = session.task, session.sets[split].labels[rows]
    embedded = session.embeddings[split][rows] if session.embeddings else None
    outputs = floors.outputs(floor, [session.rows[split][row] for row in rows], embedded)
    probabilities = runs.softmax(outputs) if task.labels else None
    answers = outputs.argmax(1) if task.labels else outputs[:, 0]
    refused: dict[str, str] = {}
    given = task.scores(labels, answers, probabilities, refused)
    scores = {metric.name: metric.factor * (np.nan if metric.name in refused else np.nan_to_num(given[metric.name]))
              for metric in task.metrics}  # 0: of one answer
    return pd.Series({"score": scores[task.metric.name], "better": task.metric.sign, "scored_by": task.metric,
                      "labels": np.array(runs.compact(task, labels)), "predictions": answers, "status": "ok",
                      "probabilities": None if probabilities is None else packed(probabilities), **scores})


def first(session: Session) -> None:
    """The floors before the race: the best so far until an arm is better."""
    embed(session)
    _floors_of(session, RACE)
    _decide(session)

