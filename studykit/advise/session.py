"""All that the advisor knows while it works, and how it begins."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from studykit import methods, paths, tasks
from studykit.advise import planning
from studykit.advise.advice import Advice, Curve, Trial, read
from studykit.advise.asking import PLACE, Question
from studykit.advise.floors import Floor
from studykit.advise.planning import Plan
from studykit.advise.running import Bench, Purse
from studykit.evidence import deciding
from studykit.study import Study, runs
from studykit.study.progress import Line
from studykit.tasks import Encodings, Oddity, Task

ANSWERED = "answered.json"  # beside the records: what has been asked, and how many minutes it was given
ROWS = {"train": 2000, "validation": 500}  # a minute; of more rows a stratified part is read


@dataclass(frozen=True)
class Texts:
    """What advice leaves out, since it holds the data's own texts: the choice's worst mistakes, and examples of oddities."""

    mistakes: tuple[dict, ...] = ()
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class Session:
    """A question, its plan, and what has come of it: ``trials`` of the race with their records; of the finals records by
    (round, arm), and the floors by (round, name), each with its row of a table."""

    question: Question
    identity: str
    study: Study
    plan: Plan
    bench: Bench
    sets: dict[str, Encodings]
    rows: dict[str, list[tuple[str, ...]]]  # texts
    account: tuple[str, ...]
    oddities: tuple[Oddity, ...]
    told: Callable[[Advice, Texts], None]
    changed: Callable[[], Any] = lambda: None  # called when there is a new decision
    embeddings: dict[str, np.ndarray] = field(default_factory=dict)
    trials: list[tuple[Trial, dict]] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    rung: deciding.Round | None = None  # the last of the race that all arms ran
    rungs: int = 0  # of the race that all arms ran
    finalists: list[str] = field(default_factory=list)
    finals: dict[tuple[int, str], dict] = field(default_factory=dict)
    floors: dict[tuple[int, str], tuple[Floor, pd.Series]] = field(default_factory=dict)
    decision: Any = None  # a deciding.Decision, once there is one
    curve: Curve = field(default_factory=Curve)
    stopped: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    before: Advice | None = None  # what an earlier call left
    seconds: dict[str, float] = field(default_factory=dict)
    whole: dict[str, Floor] = field(default_factory=dict)  # fitted on all of train, by title

    @property
    def task(self) -> Task:
        return self.question.task

    def parts(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """``(rest, part)``: rows of train that round ``k`` trains on, and those of the rest that it is scored on."""
        rest, part = runs.split(self.task, self.sets["train"], k)
        return rest, tasks.some(self.task, self.sets["train"].labels, part, self.plan.score_rows)

    @property
    def rounds(self) -> int:
        """Rounds that all finalists have run."""
        done = (all((k, label) in self.finals for label in self.finalists) for k in itertools.count())
        return next(k for k, whole in enumerate(done) if not whole) if self.finalists else 0


def begun(question: Question, purse: Purse, told: Callable[[Advice, Texts], None]) -> Session:
    """The data read and looked at, this machine's pace measured or known, the plan made and said."""
    from studykit.models import encoders

    task, at, line = question.task, question.encoder_at, Line()
    line.show(f"reading {task.name} …")
    account = tuple(tasks.account(task)) if task.data else ()
    paths.write(paths.runs(question.name) / PLACE, task.data)
    question, data, more = _sampled(question)
    task, digest = question.task, tasks.digest(data)
    tokenizer = encoders.tokenizer(at)
    question, room, without = _fitting(question)
    limit = min(room or planning.LENGTHS[-1], planning.LENGTHS[-1])
    sets, *_ = runs.encodings(task, question.source, at, limit)
    lengths = sets["train"].lengths
    runs.split(task, sets["train"])
    folder = paths.made(paths.results(question.name))
    line.show(f"{task.name}: {len(lengths):,} rows to train on; measuring how fast this machine trains …")
    pace = planning.measured(question.study(min(planning.LENGTHS[0], limit)), folder / "pace.json")
    length = planning.longest(lengths, limit, pace, purse.seconds)
    study, seen = question.study(length), np.minimum(lengths, length)
    file = paths.runs(question.name) / "advice.json"
    before = read(file) if file.is_file() else None
    plan = planning.planned(pace, len(question.arms), seen, len(sets["validation"]), len(task.labels), purse.seconds,
                            _former(before, question, study))
    sets, *_ = runs.encodings(task, question.source, at, length)
    identity = _identity(question, digest, plan)
    known = _answered(folder).get(identity, 0) >= question.minutes
    bench = Bench(study, folder, purse, pace, float(seen.mean()), line, known)
    rows = {split: list(zip(*(data[split][column][:] for column in task.columns), strict=True)) for split in sets}
    session = Session(question, identity, study, plan, bench, sets, rows, account + more + without,
                      tuple(tasks.oddities(task, data, tokenizer, length)), told)
    session.before = before
    line.show(" ".join(planning.sentences(plan, question.minutes, len(question.arms), len(lengths))))
    return session


def same_question(known: Advice, question: Question, study: Study) -> bool:
    """Whether an earlier call's advice is about the same rows, encoder, margin and metrics."""
    asked = study.data_digest(question.name), question.encoder, question.margin
    metrics = question.task.model_dump(mode="json")["metrics"]
    return known.decision is not None and known.task.get("metrics") == metrics and (
        known.digest, known.encoder, known.decision.margin) == asked


def _former(known: Advice | None, question: Question, study: Study) -> int:
    """The steps of an earlier call's trainings, where the same is asked with as many minutes, or more rounds of these would
    settle it; else 0."""
    if known is None or not same_question(known, question, study) or known.max_length != study.design.max_length:
        return 0
    assert known.decision
    return known.steps if known.minutes == question.minutes or known.decision.more_rounds else 0


def _fitting(question: Question) -> tuple[Question, int | None, tuple[str, ...]]:
    """The question with those arms that its encoder takes; how many tokens of a text all of them have room for, ``None``
    without a limit; and a sentence for each arm that is left out. Raises ``ValueError`` where the encoder takes none."""
    from studykit.models import encoders

    arms, rooms, without = [], [], []
    for arm in question.arms:
        model = encoders.load(question.encoder_at, pooler=question.pooler)
        try:
            methods.apply(arm.method, model, **dict(arm.options))
        except ValueError as error:
            without.append(f"{arm.label} is left out: {error}.")
            continue
        arms.append(arm)
        if positions := encoders.positions(model):
            rooms.append(positions - getattr(model, "virtual_tokens", 0))
    if not arms:
        raise ValueError(" ".join(without))
    return dataclasses.replace(question, arms=tuple(arms)), min(rooms, default=None), tuple(without)


def _sampled(question: Question):
    """``(question, rows, account)``: as it is, or, of very many rows, about a stratified part, kept under ``runs/``."""
    task, (given, _) = question.task, runs.data(question.task, question.source)
    data = dict(given)  # what is given is kept for the next call, so it is not changed
    most = {split: int(number * max(1.0, question.minutes)) for split, number in ROWS.items()}
    if all(len(data[split]) <= most[split] for split in most):
        return question, given, ()
    folder = paths.made(paths.runs(question.name) / "sample")
    for split, number in most.items():
        labels = np.asarray(data[split]["label"][:])
        data[split] = data[split].select(tasks.some(task, labels, np.arange(len(labels)), number))
        named = data[split].map(lambda row: {task.label: task.labels[row["label"]] if task.labels else row["label"]},
                                remove_columns=["label"])
        named.to_parquet(folder / f"{split}.parquet")
    told = (f"Of these rows a stratified part is used, {len(data['train']):,} to train on and "
            f"{len(data['validation']):,} to score on: {question.minutes:g} minutes do not see more.",)
    part = task.model_copy(update={"data": str(folder), "hub": None, "also": ()})
    return dataclasses.replace(question, task=part), runs.data(part, question.source)[0], told


def _identity(question: Question, digest: str, plan: Plan) -> str:
    """A hash of what is asked, and of how it is answered."""
    shape = {name: value for name, value in vars(plan).items() if name != "seconds"}
    asked = [question.task.identity, list(map(str, question.task.metrics)), digest, question.weights,
             [str(arm) for arm in question.arms], question.margin, shape]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]


def _answered(folder: Path) -> dict[str, float]:
    """Minutes by what was asked."""
    file = folder / ANSWERED
    return json.loads(file.read_text()) if file.is_file() else {}


def answered(session: Session) -> None:
    """Keep that these minutes were spent, so that the same call reads what they found."""
    known = _answered(session.bench.folder)
    known[session.identity] = max(session.question.minutes, known.get(session.identity, 0))
    paths.write(session.bench.folder / ANSWERED, json.dumps(known, indent=1) + "\n")
