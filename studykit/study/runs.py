"""One training run: everything that decides it, and training it."""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import time
from dataclasses import dataclass

import numpy as np

from studykit import checks, tasks
from studykit.study import provenance
from studykit.training import budgets


@dataclass(frozen=True)
class Run:
    """Everything that decides a training run, and nothing else.

    Three seeds: which examples (``subset``), which head and adapter weights (``init``), which order and dropout
    (``order``). ``score_on="selection"`` trains on train without the selection split and scores on that split; the
    validation set is read by no such run. ``points`` asks for an anytime curve on the selection split, which such a run
    then leaves out of training too. ``seconds`` and ``token_seconds`` are those of ``budgets.Budget``.
    ``pretrained=False`` gives the encoder random weights, by the init seed. ``data`` and ``weights`` are digests.
    """

    task: str
    method: str
    fraction: float
    lr: float
    encoder: str
    weights: str
    data: str
    pooler: str = "pretrained"
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
    precision: str = "auto"

    def __post_init__(self):
        tasks.get(self.task)
        checks.fields(self)
        if not all(isinstance(option, tuple) and len(option) == 2 and isinstance(option[0], str) for option in self.options):
            raise ValueError(f"options must be a tuple of (name, value) pairs, got {self.options!r:.80}")
        for name in ("fraction", "lr", "seconds", "token_seconds"):  # 1 and 1.0 are one run
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, float(value))
        if self.epochs is not None and float(self.epochs).is_integer():
            object.__setattr__(self, "epochs", int(self.epochs))

    @property
    def budget(self):
        return budgets.Budget(self.epochs, self.min_steps, self.steps, self.seconds, self.token_seconds)

    @property
    def clock(self):
        """What ends the run: ``steps``, the ``wall`` clock, or a ``calibrated`` one."""
        return "steps" if self.seconds is None else "calibrated" if self.token_seconds else "wall"

    @property
    def seed(self):
        """The seed, where all three are one; else ``None``."""
        return self.subset_seed if self.subset_seed == self.init_seed == self.order_seed else None

    @functools.cached_property
    def key(self):
        """The run's hash. A field left at its default is not part of it, so a new field leaves old records valid."""
        decided = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
                   if getattr(self, field.name) != field.default}
        return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def name(self):
        """A name for people and files, with the hash at its end."""
        seeds = f"s{self.seed}" if self.seed is not None else f"s{self.subset_seed}.{self.init_seed}.{self.order_seed}"
        budget = "" if self.seconds is None else f"-{self.seconds:g}s"
        return f"{self.task}-{self.method}-f{self.fraction:g}-lr{self.lr:g}{budget}-{seeds}-{self.key}"


@functools.lru_cache(maxsize=8)
def data(task, source):
    """A task's ``DatasetDict`` and its digest, loaded once."""
    loaded = tasks.load(task, source)
    return loaded, tasks.digest(loaded)


@functools.lru_cache(maxsize=8)
def _encodings(task, source, encoder, max_length):
    """Encodings by split, and the seconds that loading and tokenising took: once per task and encoder."""
    from studykit.models import encoders

    start = time.monotonic()
    sets, _ = data(task, source)
    loaded = time.monotonic()
    tokenizer = encoders.tokenizer(encoder)
    encoded = {split: tasks.encode(task, sets[split], tokenizer, max_length) for split in ("train", "validation")}
    return encoded, loaded - start, time.monotonic() - loaded


def examples(run, train_labels):
    """``(train, selection)`` indices into train: what the run trains on, and the split carved off, if it is."""
    if run.score_on == "validation" and not run.points:
        return tasks.subset(run.task, train_labels, run.fraction, run.subset_seed), None
    rest, selection = tasks.selection_split(run.task, train_labels)
    return rest[tasks.subset(run.task, train_labels[rest], run.fraction, run.subset_seed)], selection


def build(run, encoder_at, labels):
    """The run's model before its first step: encoder, head by the init seed, method applied.

    ``labels`` are the run's training labels: a regression's output starts at their mean, for every method alike.
    """
    from studykit import methods
    from studykit.models import encoders

    task = tasks.get(run.task)
    bias = None if task.labels else float(np.mean(labels))
    model = encoders.load(encoder_at, task.num_labels, run.init_seed, run.pooler, bias, run.pretrained)
    return methods.apply(run.method, model, run.init_seed, **dict(run.options))


def train_run(run, source, encoder_at):
    """Train and score one run; its record as a dict. Errors are raised."""
    from studykit import training
    from studykit.training import machine

    device = machine.best_device()
    ledger = machine.Ledger(device)
    train, held_out, scored, model = _prepared(run, source, encoder_at, ledger)

    def score(model):
        return _scored(run, training.predict(model, held_out), held_out.labels)["score"]

    with machine.peak_memory(device) as memory:
        outcome = training.train(model, train, run.budget, lr=run.lr, batch_size=run.batch_size, seed=run.order_seed,
                                 precision=run.precision, device=device, ledger=ledger, score=score, points=run.points)
    return _result(run, outcome, train, scored, model, ledger, memory, device)


def train_fleet(members, source, encoder_at):
    """Train runs that differ only by seed at once, and score them; their records as dicts, like ``train_run``'s but for
    ``fleet``, the number of members, which share its seconds and whose memory is not known. Errors are raised."""
    from studykit.training import fleet, machine

    device, run = machine.best_device(), members[0]
    ledger, ledgers = machine.Ledger(device), [machine.Ledger(device) for _ in members]
    parts = [_prepared(each, source, encoder_at, own) for each, own in zip(members, ledgers, strict=True)]
    trains, _, scored, models = zip(*parts, strict=True)
    outcomes = fleet.train(models, trains, run.budget, lr=run.lr, batch_size=run.batch_size, device=device, ledger=ledger,
                           seeds=[each.order_seed for each in members], precision=run.precision)
    for each, stage in itertools.product(ledgers, ("warmup", "train")):
        each.seconds[stage] = ledger.seconds[stage] / len(members)
    return [_result(*each, {}, device) | {"fleet": len(members)}
            for each in zip(members, outcomes, trains, scored, models, ledgers, strict=True)]


def _prepared(run, source, encoder_at, ledger):
    """``(train, held_out, scored, model)``: encodings to train on, of the selection split or ``None``, and to score on."""
    sets, ledger.seconds["load"], ledger.seconds["tokenise"] = _encodings(run.task, source, encoder_at, run.max_length)
    rows, selection = examples(run, sets["train"].labels)
    train = sets["train"].take(rows)
    held_out = None if selection is None else sets["train"].take(selection)
    with ledger("load"):
        model = build(run, encoder_at, train.labels)
    return train, held_out, held_out if run.score_on == "selection" else sets["validation"], model


def _result(run, outcome, train, scored, model, ledger, memory, device):
    """A run's record, scored unless it diverged."""
    from studykit import methods, training

    result = {"scores": {}, "score": None}
    if outcome.status == "ok":
        with ledger("evaluate"):
            predictions = training.predict(model, scored)
        result = _scored(run, predictions, scored.labels)
    return {"examples": len(train), "seconds": {k: round(v, 3) for k, v in ledger.seconds.items()},
            "memory": {k: v and round(v, 1) for k, v in memory.items()}, "parameters": methods.counts(model),
            **dataclasses.asdict(outcome), "parts": {k: round(v, 3) for k, v in outcome.parts.items()},
            "clock": run.clock, **result, "hardware": provenance.hardware(device)}


def _scored(run, predictions, labels):
    if not np.isfinite(predictions).all():
        return {"status": "diverged", "reason": "its answers are not finite", "scores": {}, "score": None}
    scores = tasks.scores(run.task, predictions, labels)
    scores = {name: None if math.isnan(value) else value for name, value in scores.items()}
    constant = bool(np.ptp(predictions) < 1e-6)
    return {"status": "constant" if constant else "ok", "reason": "one answer for every example" if constant else "",
            "scores": scores, "score": scores[tasks.get(run.task).metric],
            "predictions": [float(f"{value:.6g}") if labels.dtype.kind == "f" else int(value) for value in predictions],
            "labels": [round(float(value), 4) if labels.dtype.kind == "f" else int(value) for value in labels]}
