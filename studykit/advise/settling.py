"""After the finals: the learning curve over labels, what the choice promises, the model to keep, and all of it as advice."""

import contextlib
import dataclasses
import math

import numpy as np
import pandas as pd

from studykit import methods, paths, tasks
from studykit.advise import calibration, floors, keeping, planning, racing
from studykit.advise.advice import Advice, Contender, Curve, Promise
from studykit.advise.running import TimeUp
from studykit.advise.session import Session, Texts, same_question
from studykit.evidence import curves, stats
from studykit.study import runs
from studykit.tasks import Encodings
from studykit.tasks.packing import unpacked
from studykit.training import budgets

SHARES = (0.5, 0.25)  # of the rows, besides all, that the learning curve is drawn through
FEW = 30  # rows that decided nothing: from fewer there is no promise
WORST = 20  # mistakes that are shown
TINY = 1e-45  # what a probability of 0 counts as: small ones are kept by their logarithm


def curve(session: Session) -> None:
    """Train the choice on a half and a quarter of the labels, as long and on the same rounds as on all."""
    choice, plan = session.decision.choice, session.plan
    rows = round((1 - tasks.SELECTION_SHARE) * len(session.sets["train"]))
    if choice in session.study.arms and not planning.reads_all(plan.steps, len(session.sets["train"])):
        session.curve = Curve(reason=(
            f"in {session.question.minutes:g} minutes a training sees {planning.BATCH * plan.steps:,} of {rows:,} rows, so "
            "more labels would not be read: give it more time first"))
        return
    if choice in session.study.arms and not plan.curve:
        session.curve = Curve(reason="there was no time for trainings on fewer labels, so give it more minutes")
        return
    points = [(rows, racing.better(row), k) for k, row in _rounds_of(session, choice)]
    rounds = len(points)
    with contextlib.suppress(TimeUp):
        for k in range(rounds):
            for share in SHARES:
                points.append((round(share * rows), _at(session, choice, share, k), k))
    session.curve = _curve(session, points)
    made, all_ = len(points) - rounds, len(SHARES) * rounds
    if made < all_ and session.curve.gain is None:
        session.curve = dataclasses.replace(session.curve, reason=f"the minutes were over when {made} of {all_} trainings "
                                            "on fewer labels had been made, so give it more")


def _rounds_of(session: Session, choice: str) -> list[tuple[int, pd.Series]]:
    """The rows of a table of an arm or a floor, by round."""
    if choice in session.study.arms:
        return [(k, session.bench.row(session.finals[k, choice])) for k in range(session.rounds)]
    return [(k, row) for (k, name), (_, row) in session.floors.items() if name == choice and k in _floor_rounds(session)]


def _floor_rounds(session: Session) -> range:
    """Rounds whose floors count: those of the finals, or else that of the race."""
    return range(session.rounds) if session.rounds else range(racing.RACE, racing.RACE + 1)


def _at(session: Session, choice: str, share: float, k: int) -> float:
    """The choice's score in a round, trained on a share of the labels; more is better."""
    if choice in session.study.arms:
        run, = session.study.plan(arms=[choice], rates=session.rates[choice], seeds=[k], steps=session.plan.steps, fold=k,
                                  fractions=[share], score_on="selection", score_rows=session.plan.score_rows)
        row = session.bench.row(session.bench.result(run, racing.reserve(session)))
        return racing.better(row)
    if session.bench.purse.left < racing.reserve(session) and not session.bench.read_only:
        raise TimeUp
    rest, part = session.parts(k)
    some = rest[tasks.subset(session.task, session.sets["train"].labels[rest], share, k)]
    row = racing.scored(session, _floor(session, choice, "train", some), "train", part)
    return racing.better(row)


def _floor(session: Session, title: str, split: str, rows: np.ndarray) -> floors.Floor:
    return racing.fitted(session, split, rows, title)[0]


def _curve(session: Session, points: list[tuple[int, float, int]]) -> Curve:
    metric = session.task.metric
    low, high = sorted(metric.sign * metric.factor * end for end in metric.range)
    nothing = [racing.better(row) for floor, row in session.floors.values()
               if floor.constant]
    found = curves.forecast(pd.DataFrame(points, columns=["labels", "score", "fold"]), bounds=(low, high),
                            margin=session.question.margin, chance=float(np.mean(nothing)))
    drawn = tuple((size, metric.sign * score) for size, score, _ in points)
    return Curve(drawn, found.gain, found.low, found.high, found.reason)


def promise(session: Session) -> tuple[Promise, pd.Series | None]:
    """What the choice scores on validation, which decided nothing; and its first answers there, as a row of a table."""
    if not session.rounds and "finals" not in session.seconds:
        return Promise(reason="the comparison goes on"), None
    rows = _promised(session)
    count = len(rows[0]["labels"]) if rows else 0
    if not rows or count < FEW:
        reason = f"{count} rows that decided nothing are too few: {FEW} would do" if rows else "no run was scored on them"
        return Promise(rows=count, runs=len(rows), reason=reason), rows[0] if rows else None
    table, metric = pd.DataFrame(rows), session.task.metric
    scores = (table["better"] * table["score"]).to_numpy(dtype=float)
    moved = stats.resampled(table)
    if len(rows) > 1:
        middle, error, freedom, _ = stats.combined(scores, moved)
        low, high = stats.interval(middle, error, freedom)
    else:
        middle = float(scores[0])  # resampled scores lie around another: rows twice help no class that is missing
        low, high = middle + np.quantile(moved[:, 0], (0.025, 0.975)) - moved[:, 0].mean()
    least, most = (metric.factor * end for end in metric.range)
    low, high = (min(most, max(least, metric.sign * float(end))) for end in (low, high))
    others = {kind.title: float(table[kind.name].mean()) for kind in session.task.metrics[1:] if kind.name in table}
    return Promise(metric.sign * middle, min(low, high), max(low, high), count, len(rows), others), rows[0]


def _promised(session: Session) -> list[pd.Series]:
    choice = session.decision.choice
    if choice in session.study.arms:
        records = [session.finals[k, choice] for k in range(session.rounds)]
        return [session.bench.row({**record, **record["beside"]["validation"]}) if "beside" in record else _constant(session)
                for record in records]
    if choice not in session.whole:
        session.whole[choice] = _floor(session, choice, "train", np.arange(len(session.sets["train"])))
    return [racing.scored(session, session.whole[choice], "validation", _held(session))]


def _constant(session: Session) -> pd.Series:
    """What a run that diverged counts as: the best constant answer, on the rows that decided nothing."""
    constant = next(floor for floor, _ in session.floors.values() if floor.constant)
    return racing.scored(session, constant, "validation", _held(session))


def _held(session: Session) -> np.ndarray:
    """Rows of validation that the choice is scored on: a floor on all, since that takes no time."""
    labels = session.sets["validation"].labels
    most = session.plan.score_rows if session.decision.choice in session.study.arms else 0
    return tasks.some(session.task, labels, np.arange(len(labels)), most)


def model(session: Session) -> None:
    """The model to keep: the choice, trained once more on all rows where time allows, else as it was in the finals."""
    choice = session.decision.choice
    if session.bench.read_only and (before := _before(session, advice(session)[0])):
        session.model = before
    elif earlier(session):
        return
    elif choice in session.study.arms:
        _kept(session, choice, *_last(session, choice))
    else:
        _kept(session, choice, _on_all(session, choice))


def earlier(session: Session) -> Advice | None:
    """What finals of an earlier call found on the same data, with this encoder and margin, where this one has no round of
    its own yet: it stands until then."""
    known, question = session.before, session.question
    if session.bench.read_only or session.rounds or known is None or known.decision is None:
        return None
    if not same_question(known, question, session.study) or not any(row.trained for row in known.contenders):
        return None
    return dataclasses.replace(known, stopped=session.stopped)


def provisional(session: Session) -> None:
    """Keep the choice as it came out of the finals, so that whatever happens there is a model; where nothing of it is here,
    the best floor."""
    choice = session.decision.choice
    if session.bench.read_only or session.model.get("choice") == choice or earlier(session):
        return
    if choice in session.study.arms and racing.tuned(session, choice):
        _kept(session, choice, *_of_finals(session, choice))
    elif choice not in session.study.arms or not session.model:
        rows = {name: racing.better(row) for (k, name), (_, row) in session.floors.items() if k == racing.RACE}
        name = choice if choice in rows else max(rows, key=rows.__getitem__)
        _kept(session, name, session.floors[racing.RACE, name][0], rows=len(session.parts(racing.RACE)[0]))


def _kept(session: Session, choice: str, trained, scale: tasks.Scale | None = None, rows: int = 0) -> None:
    (told, _), folder = advice(session), paths.runs(session.question.name) / "model"
    common = {"max_length": session.study.design.max_length, "rows": rows or sum(map(len, session.sets.values())),
              **_calibrated(session, choice)}
    if arm := session.study.arms.get(choice):
        about = keeping.keep(folder, trained, told, session.task, session.question.encoder_at, method=arm.method,
                             options=dict(arm.options), scale=scale, **common)
    else:
        about = keeping.keep_floor(folder, trained, told, session.task, session.question.encoder_at, **common)
    session.model = {**about, "choice": choice, "rows": common["rows"]}


def _before(session: Session, told: Advice) -> dict:
    """The model of an earlier call, where that gave the same advice on the same data."""
    known = session.before
    if known is None or not (paths.runs(session.question.name) / "model").is_dir():
        return {}
    return known.model if (known.digest, known.decision) == (told.digest, told.decision) else {}


def _on_all(session: Session, title: str) -> floors.Floor:
    splits = ("train", "validation")
    texts = [text for split in splits for text in session.rows[split]]
    labels = np.concatenate([session.sets[split].labels for split in splits])
    embedded = np.concatenate([session.embeddings[split] for split in splits]) if session.embeddings else None
    return floors.fit(session.task, texts, labels, embedded, title)[0]


def _last(session: Session, choice: str):
    """``(model, scale, rows)``: the choice trained on train and validation, or, where time is up, on what it last saw.
    Where minutes were spent before and left no model here, rather late than none."""
    from studykit import training

    bench, whole = session.bench, _joined(session.sets["train"], session.sets["validation"])
    late = bench.read_only and not session.stopped and racing.tuned(session, choice) is None
    run, = session.study.plan(arms=[choice], rates=session.rates[choice], seeds=[0], steps=session.plan.steps)
    scale = tasks.Scale.of(session.task, whole.labels)
    try:
        if not late and bench.purse.left < bench.expected(run) + session.plan.seconds["end"] / 2:
            raise budgets.DeadlinePassed
        bench.show(f"the last training of {choice} on all {len(whole):,} rows")
        model = runs.build(run, session.task, session.question.encoder_at, scale.shrunk(whole.labels))
        outcome = training.train(model, whole.labelled(scale.shrunk(whole.labels)), run.budget, lr=run.lr,
                                 batch_size=run.batch_size, seed=0, precision=run.precision,
                                 deadline=math.inf if late else _deadline(session))
        if outcome.status == "ok":
            return model, scale, len(whole)
        if late:
            session.stopped = f"the last training of {choice} diverged, and what the finals trained is not here any more"
    except budgets.DeadlinePassed:
        pass
    return _of_finals(session, choice)


def _of_finals(session: Session, choice: str):
    """``(model, scale, rows)`` of the choice as it last came out of the finals. Raises ``TimeUp`` where nothing of it is
    here."""
    if (found := racing.tuned(session, choice)) is None:
        raise TimeUp
    file, k = found
    rest, _ = session.parts(k)
    scale = tasks.Scale.of(session.task, session.sets["train"].labels[rest])
    return methods.load(file, session.question.encoder_at), scale, len(rest)


def _deadline(session: Session) -> float:
    import time

    return time.monotonic() + session.bench.purse.left - session.plan.seconds["end"] / 2


def _joined(first: Encodings, second: Encodings) -> Encodings:
    columns = {key: [*first.columns[key], *second.columns[key]] for key in first.columns}
    return Encodings(columns, np.concatenate([first.labels, second.labels]), first.pad)


def _calibrated(session: Session, choice: str) -> dict:
    """Temperature of classes, or half an interval's width of a number, from the choice's answers to parts that the runs did
    not train on."""
    rows = [row for _, row in _rounds_of(session, choice) if row["status"] != "diverged"]
    if not rows:
        return {}
    labels = np.concatenate([row["labels"] for row in rows])
    if session.task.labels:
        outputs = np.concatenate([np.log(np.maximum(unpacked(row["probabilities"]), TINY)) for row in rows])
        return {"temperature": calibration.temperature(outputs, labels)}
    return {"half_width": calibration.half_width(labels - np.concatenate([row["predictions"] for row in rows]))}


def advice(session: Session) -> tuple[Advice, Texts]:
    """All that is known, as a value, and the texts that belong to it."""
    question, decision = session.question, _with_minutes(session)
    promised, first = promise(session)
    told = Advice(
        name=question.name, task=session.task.model_dump(mode="json"), encoder=question.encoder,
        digest=session.study.data_digest(question.name), account=session.account,
        rows={split: len(session.sets[split]) for split in ("train", "validation")},
        oddities=tuple((odd.kind, odd.count, odd.total, odd.meaning) for odd in session.oddities),
        minutes=question.minutes, max_length=session.study.design.max_length, steps=session.plan.steps,
        plan=planning.sentences(session.plan, question.minutes, len(question.arms), len(session.sets["train"])),
        trials=tuple(trial for trial, _ in session.trials), contenders=_contenders(session), decision=decision,
        promise=promised, curve=session.curve, spent=session.seconds, stopped=session.stopped, model=session.model,
        labels=() if first is None else tuple(np.asarray(first["labels"]).tolist()),
        answers=() if first is None else tuple(np.asarray(first["predictions"]).tolist()))
    return told, Texts(_mistakes(session, first), {odd.kind: odd.examples for odd in session.oddities})


def _with_minutes(session: Session):
    """The decision, with the minutes that its further rounds would take."""
    decision = session.decision
    if decision.more_rounds is None:
        return decision
    rounds = decision.more_rounds - decision.rounds
    seconds = rounds * sum(racing.seconds(session, label) for label in session.finalists or session.rates)
    return dataclasses.replace(decision, more_minutes=round(seconds / 60, 1))


def _contenders(session: Session) -> tuple[Contender, ...]:
    rows, sign = [], session.task.metric.sign
    for standing in session.decision.standings:
        label, arm = standing.label, session.study.arms.get(standing.label)
        own = [session.finals[k, label] for k in range(session.rounds) if (k, label) in session.finals] if arm else []
        scores = [float(session.bench.row(record)["score"]) for record in own]
        if arm and not own and session.rung:
            scores = [sign * session.rung.scores[label]]
        if not arm:
            scores = [float(row["score"]) for (k, name), (_, row) in session.floors.items()
                      if name == label and k in _floor_rounds(session)]
        rows.append(Contender(
            label, "arm" if arm else "floor", arm.method if arm else "", session.rates[label] if arm else None,
            own[0]["parameters"]["trained"] if own else None, racing.seconds(session, label) if arm else None, tuple(scores),
            bool(own) or not arm, standing.gap, standing.low, standing.high, standing.chance))
    return tuple(rows)


def _mistakes(session: Session, first: pd.Series | None) -> tuple[dict, ...]:
    """The answers that are most surely wrong, or furthest off, with their texts."""
    if first is None or (session.task.labels and first["probabilities"] is None):
        return ()
    task, places = session.task, _held(session)
    labels, answers = np.asarray(first["labels"]), np.asarray(first["predictions"])
    if task.labels:
        given = unpacked(first["probabilities"])[np.arange(len(answers)), answers]
        wrong = [row for row in np.argsort(-given, kind="stable") if labels[row] != answers[row]][:WORST]
        return tuple({"texts": session.rows["validation"][places[row]], "true": task.labels[labels[row]],
                      "predicted": task.labels[answers[row]], "probability": float(given[row])} for row in wrong)
    worst = np.argsort(-np.abs(labels - answers), kind="stable")[:WORST]
    return tuple({"texts": session.rows["validation"][places[row]], "true": float(labels[row]),
                  "predicted": float(answers[row])} for row in worst)


