"""One training run: everything that decides it, and training it."""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studykit import checks, tasks
from studykit.study import provenance
from studykit.tasks import Task
from studykit.tasks.packing import packed
from studykit.training import budgets

RECIPE = 1  # raised whenever the same settings would give other numbers


@dataclass(frozen=True)
class Run:
    """Everything that decides a training run, and nothing else.

    Three seeds: which examples (``subset``), which head and adapter weights (``init``), which order and dropout
    (``order``). ``score_on="selection"`` trains on train without the selection split and scores on that split; the
    validation set is read by no such run. ``points`` asks for an anytime curve on the selection split, which such a run
    then leaves out of training too. ``score_on="both"`` scores on the selection split, and keeps the answers to the
    validation set beside that. ``fold`` says which part of train the selection split is; ``score_rows`` is the most rows
    that are scored of a set, 0 for all. ``seconds`` and ``token_seconds`` are those of ``budgets.Budget``.
    ``pretrained=False`` gives the encoder random weights, by the init seed. ``data`` and ``weights`` are digests,
    ``asks`` is the task's identity. ``recipe`` is the version of how settings become numbers.
    """

    task: str
    asks: str
    method: str
    fraction: float
    lr: float
    encoder: str
    weights: str
    data: str
    precision: str
    pooler: str = "pretrained"
    reads: str = ""
    options: tuple = ()
    epochs: float | None = None
    min_steps: int = 0
    steps: int | None = None
    seconds: float | None = None
    token_seconds: float = 0.0
    batch_size: int = 16
    max_length: int = 128
    subset_seed: int = 0
    init_seed: int = 0
    order_seed: int = 0
    score_on: str = "validation"
    points: int = 0
    pretrained: bool = True
    fold: int = 0
    score_rows: int = 0
    recipe: int = RECIPE

    def __post_init__(self):
        checks.fields(self)
        if not all(isinstance(option, tuple) and len(option) == 2 and isinstance(option[0], str) for option in self.options):
            raise ValueError(f"options must be a tuple of (name, value) pairs, got {self.options!r:.80}")
        for name in ("fraction", "lr", "seconds", "token_seconds"):  # 1 and 1.0 are one run
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, float(value))
        if self.epochs is not None and float(self.epochs).is_integer():
            object.__setattr__(self, "epochs", int(self.epochs))

    @property
    def budget(self) -> budgets.Budget:
        return budgets.Budget(self.epochs, self.min_steps, self.steps, self.seconds, self.token_seconds)

    @property
    def clock(self) -> str:
        """What ends the run: ``steps``, the ``wall`` clock, or a ``calibrated`` one."""
        return "steps" if self.seconds is None else "calibrated" if self.token_seconds else "wall"

    @property
    def seed(self) -> int | None:
        """The seed, where all three are one; else ``None``."""
        return self.subset_seed if self.subset_seed == self.init_seed == self.order_seed else None

    @functools.cached_property
    def key(self) -> str:
        """The run's hash. A field left at its default is not part of it, so a new field leaves old records valid; the
        recipe always is."""
        decided = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
                   if getattr(self, field.name) != field.default or field.name == "recipe"}
        return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """A name for people and files, with the hash at its end."""
        seeds = f"s{self.seed}" if self.seed is not None else f"s{self.subset_seed}.{self.init_seed}.{self.order_seed}"
        budget = "" if self.seconds is None else f"-{self.seconds:g}s"
        return f"{self.task}-{self.method}-f{self.fraction:g}-lr{self.lr:g}{budget}-{seeds}-{self.key}"


def data(task: Task, source: str):
    """A task's ``DatasetDict`` and its digest, loaded once, and again where its files have changed."""
    return _data(task, source, _stamp(task, source))


@functools.lru_cache(maxsize=8)
def _data(task, source, stamp):
    loaded = tasks.load(task, source)
    return loaded, tasks.digest(loaded)


def encodings(task: Task, source: str, encoder: str, max_length: int) -> tuple[dict, float, float]:
    """Encodings by split, and the seconds that loading and tokenising took: once per task and encoder."""
    return _encodings(task, source, encoder, max_length, _stamp(task, source), stamp(Path(encoder)))


@functools.lru_cache(maxsize=8)
def _encodings(task, source, encoder, max_length, *stamps):
    from studykit.models import encoders

    start = time.monotonic()
    sets, _ = data(task, source)
    loaded = time.monotonic()
    tokenizer = encoders.tokenizer(encoder)
    encoded = {split: tasks.encode(task, rows, tokenizer, max_length) for split, rows in sets.items()}
    return encoded, loaded - start, time.monotonic() - loaded


def _stamp(task: Task, source: str) -> tuple:
    return stamp(Path(task.data or Path(source) / task.name))


def stamp(where: Path) -> tuple:
    """What changes when somebody edits a file, or one of a folder's: their names, sizes and times."""
    files = [where] if where.is_file() else sorted(where.glob("*")) if where.is_dir() else []
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def examples(run: Run, task: Task, train: tasks.Encodings) -> tuple[np.ndarray, np.ndarray | None]:
    """``(train, selection)`` indices into train: what the run trains on, and the split carved off, if it is."""
    if run.score_on == "validation" and not run.points:
        return tasks.subset(task, train.labels, run.fraction, run.subset_seed), None
    rest, selection = split(task, train, run.fold)
    return rest[tasks.subset(task, train.labels[rest], run.fraction, run.subset_seed)], selection


def split(task: Task, train: tasks.Encodings, fold: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """``tasks.selection_split`` of a task's rows to train on. Rows of equal texts stay on one side, but for published
    tasks, which have runs on record."""
    return tasks.selection_split(task, train.labels, fold, () if task.digest else train.texts)


def build(run: Run, task: Task, encoder_at: str, labels: np.ndarray):
    """The run's model before its first step: encoder, head by the init seed, method applied.

    ``labels`` are those that the run trains on: a number's output starts at their mean, for every arm alike.
    """
    from studykit import methods
    from studykit.models import encoders

    bias = None if task.labels else float(np.mean(labels))
    model = encoders.load(encoder_at, task.num_labels, run.init_seed, run.pooler, bias, run.pretrained,
                          run.reads)
    return methods.apply(run.method, model, run.init_seed, **dict(run.options))


def train_run(run: Run, task: Task, source: str, encoder_at: str, unfinished: Path | None = None,
              deadline: float = math.inf, keep=None) -> dict:
    """Train and score one run; its result as a dict, for ``records.new``. Errors are raised, ``DeadlinePassed`` where
    ``time.monotonic()`` passes ``deadline``. A long run keeps its state in the file ``unfinished``, and goes on from there.
    ``keep(model)`` is called with the trained model."""
    from studykit import training
    from studykit.training import machine

    device = machine.best_device()
    ledger = machine.Ledger(device)
    parts = prepared(run, task, source, encoder_at, ledger)

    def score(model) -> float | None:
        held_out: Any = parts.held_out  # there where points are asked for
        return _scored(task, parts.scale, training.logits(model, held_out), held_out.labels).get("score")

    with machine.peak_memory(device) as memory:
        outcome = training.train(parts.model, parts.train, run.budget, lr=run.lr, batch_size=run.batch_size,
                                 seed=run.order_seed, precision=run.precision, device=device, ledger=ledger, score=score,
                                 points=run.points, deadline=deadline, unfinished=unfinished)
    if keep and outcome.status == "ok":
        keep(parts.model)
    return _result(run, task, outcome, parts, ledger, memory, device)


def train_fleet(members: list[Run], task: Task, source: str, encoder_at: str) -> list[dict]:
    """Train runs that differ only by seed at once, and score them; their results as dicts, like ``train_run``'s but for
    ``fleet``, the number of members, which share its seconds and whose memory is not known. Errors are raised."""
    from studykit.training import fleet, machine

    device, run = machine.best_device(), members[0]
    ledger, ledgers = machine.Ledger(device), [machine.Ledger(device) for _ in members]
    parts = [prepared(member, task, source, encoder_at, own) for member, own in zip(members, ledgers, strict=True)]
    outcomes = fleet.train([part.model for part in parts], [part.train for part in parts], run.budget, lr=run.lr,
                           batch_size=run.batch_size, device=device, ledger=ledger,
                           seeds=[member.order_seed for member in members], precision=run.precision)
    for own, stage in itertools.product(ledgers, ("warmup", "train")):
        own.seconds[stage] = ledger.seconds[stage] / len(members)
    return [_result(member, task, outcome, part, own, {}, device) | {"fleet": len(members)}
            for member, outcome, part, own in zip(members, outcomes, parts, ledgers, strict=True)]


@dataclass(frozen=True)
class Parts:
    """What a run needs: encodings to train on (labels as they are trained), of the selection split or ``None``, of the
    sets to score on by name, main one first (labels as given), how labels are scaled, and the model."""

    train: tasks.Encodings
    held_out: tasks.Encodings | None
    scored: dict
    scale: tasks.Scale
    model: object


def prepared(run: Run, task: Task, source: str, encoder_at: str, ledger) -> Parts:
    sets, ledger.seconds["load"], ledger.seconds["tokenise"] = encodings(task, source, encoder_at, run.max_length)
    rows, selection = examples(run, task, sets["train"])
    train = sets["train"].take(rows)
    held_out = None if selection is None else sets["train"].take(selection)
    scored: dict[str, Any] = {} if run.score_on == "validation" else {"": held_out}
    if run.score_on != "selection":
        scored |= {name: sets[name] for name in ("validation", *task.also)}
    scored = {name: rows.take(tasks.some(task, rows.labels, np.arange(len(rows)), run.score_rows))
              for name, rows in scored.items()}
    scale = tasks.Scale.of(task, train.labels)
    train = train.labelled(scale.shrunk(train.labels))
    with ledger("load"):
        model = build(run, task, encoder_at, train.labels)
    return Parts(train, held_out, scored, scale, model)


def _result(run: Run, task: Task, outcome, parts: Parts, ledger, memory: dict, device) -> dict:
    """A run's result, scored unless it diverged."""
    from studykit import methods, training

    result: dict[str, Any] = {"scores": {}, "score": None}
    main, *others = parts.scored
    if outcome.status == "ok":
        with ledger("evaluate"):
            answers = training.logits(parts.model, parts.scored[main])
            result = _scored(task, parts.scale, answers, parts.scored[main].labels)
            for name in others:
                rows = parts.scored[name]
                more = _scored(task, parts.scale, training.logits(parts.model, rows), rows.labels)
                result["scores"] |= {f"{name} {metric}": value for metric, value in more["scores"].items()}
                if run.score_on == "both":
                    result.setdefault("beside", {})[name] = {**more, "labels": compact(task, rows.labels)}
    fields = {name: value for name, value in vars(outcome).items() if not name.startswith("step_")}
    return {"examples": len(parts.train), "label_spread": label_spread(task, parts.scale.grown(parts.train.labels)),
            "label_mean": None if task.labels else _short(np.mean(parts.scale.grown(parts.train.labels))),
            "seconds": {k: round(v, 3) for k, v in ledger.seconds.items()},
            "memory": {k: v and round(v, 1) for k, v in memory.items()}, "parameters": methods.counts(parts.model),
            **fields, "parts": {k: round(v, 3) for k, v in outcome.parts.items()},
            "clock": run.clock, "labels": compact(task, parts.scored[main].labels), **result,
            "hardware": provenance.hardware(device)}


def label_spread(task: Task, labels: np.ndarray) -> float | None:
    """How far training labels of a number spread: their standard deviation, or 0.741 times their interquartile range
    where outliers make that much smaller; ``None`` for classes."""
    if task.labels:
        return None
    low, high = np.quantile(labels, [0.25, 0.75])
    deviation, middle = float(np.std(labels, dtype=float)), 0.741 * float(high - low)
    return _short(middle if 0 < middle < deviation / 2 else deviation)


def _short(value: float) -> float:
    """The number to six decimals, and to seven digits where it is below one.

    >>> _short(1234.56789012), _short(1.23456789e-7)
    (1234.56789, 1.234568e-07)
    """
    return round(float(value), 6 - min(0, math.floor(math.log10(abs(value))))) if value else 0.0


def _scored(task: Task, scale: tasks.Scale, outputs: np.ndarray, labels: np.ndarray) -> dict:
    """Scores of a model's outputs, shape (n, outputs), with its answers and, for classes, their probabilities; ``None`` for
    a metric that is not defined, or that is among those that ``refused``, as the ``reason`` says."""
    if not np.isfinite(outputs).all():
        return {"status": "diverged", "reason": "its answers are not finite", "scores": {}, "score": None}
    if task.labels:
        answers, probabilities = outputs.argmax(1), softmax(outputs)
        kept = {"probabilities": packed(probabilities)}
    else:
        answers, probabilities, kept = scale.grown(outputs[:, 0]), None, {}
    refused: dict[str, str] = {}
    scores = {name: None if math.isnan(value) else value
              for name, value in task.scores(labels, answers, probabilities, refused).items()}
    read: Any = probabilities if task.metric.reads == "probabilities" else answers
    p = 1.0 if task.metric.name in refused else task.metric.p_shuffled(labels, read)
    why = {"refused": list(refused), "reason": "; ".join(refused.values())} if refused else {}
    return {"scores": scores, "score": scores[task.metric.name], "p_shuffled": round(p, 4),
            "predictions": compact(task, answers, labels), **kept, **why}


def softmax(outputs: np.ndarray) -> np.ndarray:
    """Probabilities of outputs, shape (n, classes)."""
    powers = np.exp(outputs - outputs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def compact(task: Task, values: np.ndarray, labels: np.ndarray | None = None) -> list:
    """Classes, or numbers to six digits, as records keep them. Where ``labels`` (the values themselves, if not told) lie
    further from zero than a hundred times their spread, numbers are kept to a millionth of that spread.

    >>> compact(Task(name="dates", columns=["text"]), np.array([1.7e9 - 1000, 1.7e9 + 0.123]))
    [1699999000.0, 1700000000.123]
    """
    if task.labels:
        return [int(value) for value in values]
    labels = np.asarray(values if labels is None else labels, dtype=float)
    far = float(np.abs(labels).max()) / (float(labels.std()) or math.inf)
    digits = 6 if far < 100 else min(17, 6 + math.ceil(math.log10(far)))
    return [float(f"{value:.{digits}g}") for value in values]
