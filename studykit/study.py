"""A study: its runs, executing what is missing, and records as a table.

A run is its configuration. Its hash names its record, so executing a plan twice trains nothing the second time.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import os
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from studykit import paths, provenance, tasks

SCHEMA = 1
SCORE_ON = ("validation", "selection")


@functools.cache
def _budget():
    from studykit.training import Budget  # torch loads when a run is first made, not when records are read

    return Budget


@dataclass(frozen=True)
class Run:
    """Everything that decides a training run, and nothing else.

    Three seeds: which examples (``subset``), which head and adapter weights (``init``), which order and dropout
    (``order``). ``score_on="selection"`` trains on train without the selection split and scores on that split; the
    validation set is read by no such run. ``points`` asks for an anytime curve on the selection split, which such a run
    then leaves out of training too. ``data`` and ``weights`` are digests.
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
    batch_size: int = 16
    max_length: int = 128
    subset_seed: int = 0
    init_seed: int = 0
    order_seed: int = 0
    score_on: str = "validation"
    points: int = 0
    precision: str = "auto"

    def __post_init__(self):
        tasks.get(self.task)
        if not (isinstance(self.fraction, int | float) and 0 < self.fraction <= 1):
            raise ValueError(f"fraction must be in (0, 1], got {self.fraction!r}")
        if not (isinstance(self.lr, int | float) and 0 < self.lr < math.inf):
            raise ValueError(f"lr must be a positive number, got {self.lr!r}")
        for name in ("batch_size", "max_length"):
            if not (isinstance(value := getattr(self, name), int) and value > 0):
                raise ValueError(f"{name} must be a positive whole number, got {value!r}")
        for name in ("subset_seed", "init_seed", "order_seed"):
            if not (isinstance(value := getattr(self, name), int) and value >= 0):
                raise ValueError(f"{name} must be a whole number, at least 0, got {value!r}")
        if self.score_on not in SCORE_ON:
            raise ValueError(f"score_on must be one of {', '.join(SCORE_ON)}, got {self.score_on!r}")

    @property
    def budget(self):
        return _budget()(self.epochs, self.min_steps, self.steps)

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
        return f"{self.task}-{self.method}-f{self.fraction:g}-lr{self.lr:g}-{seeds}-{self.key}"


@dataclass(frozen=True)
class Study:
    """A study's settings, with where its encoder and data lie. Made by ``load``."""

    name: str
    encoder: str
    weights: str
    encoder_at: str  # a hub id or a folder
    source: str  # "hub" or a folder
    settings: dict

    def data_digest(self, task):
        """The published data's digest for the hub and for a study pinned to it, else that of the folder's rows."""
        if self.source == "hub" or self.settings.get("data") == "published":
            return tasks.get(task).digest
        return _data(task, self.source)[1]

    def grid(self, *, task, method, fraction=1.0, seed=0, lr=None, **fixed):
        """All combinations as a list of ``Run``s. Each of the four axes is a value or a list.

        ``lr`` is a number or a dict from (task, method) to one; ``seed`` sets all three seeds, and ``fixed`` any other
        field of ``Run`` (``options`` as a dict).
        """
        from studykit import methods

        axes = [[axis] if isinstance(axis, str | int | float) else list(axis) for axis in (task, method, fraction, seed)]
        for name in axes[1]:
            methods.get(name)
        fixed["options"] = tuple(sorted(dict(fixed.get("options", ())).items()))
        budget = {} if "steps" in fixed else {key: self.settings[key] for key in ("epochs", "min_steps")}
        common = {"batch_size": self.settings["batch_size"], "max_length": self.settings["max_length"], **budget,
                  "encoder": self.encoder, "weights": self.weights, "pooler": self.settings["pooler"]}
        return [Run(task=t, method=m, fraction=f, lr=lr[t, m] if isinstance(lr, dict) else lr,
                    data=self.data_digest(t), **{**common, "subset_seed": s, "init_seed": s, "order_seed": s, **fixed})
                for s, f, t, m in itertools.product(axes[3], axes[2], axes[0], axes[1])]

    def choose_rates(self, task, method, *, jobs=1):
        """``(rates, trials)``: the learning rate per (task, method), and the table of the trials that chose it.

        Every method gets as many trials, on a part of train and scored on the selection split: the validation set is not
        looked at, and the trials' seed is none of the report's.
        """
        trial = self.settings["trials"]
        method = [method] if isinstance(method, str) else method
        if missing := [name for name in method if name not in trial["rates"]]:
            raise ValueError(f"study {self.name} has no learning rates to try for {', '.join(missing)}: add them under "
                             "trials in its parameters")
        runs = [run for name in method for lr in trial["rates"][name]
                for run in self.grid(task=task, method=name, fraction=trial["fraction"], seed=trial["seed"], lr=lr,
                                     score_on="selection")]
        trials = self.execute(runs, group="02_learning_rates", jobs=jobs)
        learnt = trials[trials["status"] == "ok"]
        if lost := set(zip(trials["task"], trials["method"], strict=True)) - set(
                zip(learnt["task"], learnt["method"], strict=True)):
            raise ValueError(f"no rate taught {sorted(lost)} anything: try others, or more steps")
        best = learnt.loc[learnt.groupby(["task", "method"])["score"].idxmax()]
        return {(row.task, row.method): row.lr for row in best.itertuples()}, trials

    def execute(self, runs, *, group, jobs=1):
        """Train the runs that have no record, and return the table of all of them, in the order of ``runs``.

        Records are looked for in the whole study and written under ``group``. ``jobs`` processes share the cores. Input
        errors are raised before anything trains; a run that fails or diverges is a record that says so. Smallest
        fractions go first. Stopped at any moment, it loses the runs in flight.
        """
        runs = list(dict.fromkeys(runs))
        found = read(paths.results(self.name))
        missing = sorted((run for run in runs if run.key not in found), key=lambda run: run.fraction)
        progress = Progress(len(runs), len(missing))
        if missing:
            _check(self, missing)
            folder = paths.results(self.name) / group
            folder.mkdir(parents=True, exist_ok=True)
            for record in _train_all(self, missing, folder, jobs):
                found[_key(record)] = record
                progress.step(record)
        progress.end()
        return table([found[run.key] for run in runs])


def load(name, source="", encoder=""):
    """The study of that name, or of a YAML file, with other places for its data and its encoder's weights.

    Raises ``ValueError`` for an unknown study, and where a study that names its weights' digest is given others.
    """
    file = Path(name) if str(name).endswith((".yaml", ".yml")) else paths.params(name)
    if not file.is_file():
        raise ValueError(f"unknown study {str(name)!r}: choose from {', '.join(paths.studies())}, or give a YAML file")
    settings = yaml.safe_load(file.read_text())
    if wanted := {"encoder", "pooler", "source", "batch_size", "max_length", "epochs", "min_steps", "trials"} - set(settings):
        raise ValueError(f"{file} lacks {', '.join(sorted(wanted))}")
    if len({len(rates) for rates in settings["trials"]["rates"].values()}) != 1:
        raise ValueError(f"{file} gives methods different numbers of trials: they must be equal to be fair")
    at, weights = str(encoder or settings["encoder"]), settings.get("weights")
    if Path(at).is_dir() or not weights:
        from studykit import encoders

        given = encoders.digest(at)
        if weights and given != weights:
            raise ValueError(f"the encoder at {at} has weights {given}, but study {file.stem} is about {settings['encoder']} "
                             f"with weights {weights}: copy {file.name} to a study of your own")
        weights = given
    elif at != settings["encoder"]:
        raise ValueError(f"no encoder's folder at {at}, and study {file.stem} is about {settings['encoder']}")
    return Study(file.stem, settings["encoder"], weights, at, str(source or settings["source"]), settings)


# Training one run


@functools.lru_cache(maxsize=8)
def _data(task, source):
    """``(DatasetDict, digest)``."""
    data = tasks.load(task, source)
    return data, tasks.digest(data)


@functools.lru_cache(maxsize=8)
def _encodings(task, source, encoder, max_length):
    """Encodings by split, and the seconds that loading and tokenising took: once per task and encoder."""
    from studykit import encoders

    start = time.monotonic()
    data, _ = _data(task, source)
    loaded = time.monotonic()
    tokenizer = encoders.tokenizer(encoder)
    encoded = {split: tasks.encode(task, data[split], tokenizer, max_length) for split in ("train", "validation")}
    return encoded, loaded - start, time.monotonic() - loaded


def _check(study, runs):
    """Raise what would stop these runs before the first of them trains."""
    from studykit import encoders, methods

    for task in dict.fromkeys(run.task for run in runs):
        _, digest = _data(task, study.source)
        if digest != study.data_digest(task):
            raise ValueError(f"{task} at {study.source} is not the published data (digest {digest}, not "
                             f"{study.data_digest(task)}): study {study.name} is about that; make a study of your own")
    encoders.tokenizer(study.encoder_at)
    if encoders.digest(study.encoder_at) != study.weights:
        raise ValueError(f"the weights of {study.encoder_at} are not those of study {study.name}")
    for method, options in dict.fromkeys((run.method, run.options) for run in runs):
        methods.apply(method, encoders.load(study.encoder_at), **dict(options))


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
    from studykit import encoders, methods

    task = tasks.get(run.task)
    bias = None if task.labels else float(np.mean(labels))
    model = encoders.load(encoder_at, task.num_labels, run.init_seed, run.pooler, bias)
    return methods.apply(run.method, model, run.init_seed, **dict(run.options))


def train_run(run, source, encoder_at):
    """Train and score one run; its record as a dict. Errors are raised."""
    from studykit import methods, training

    device = training.best_device()
    ledger = training.Ledger(device)
    data, ledger.seconds["load"], ledger.seconds["tokenise"] = _encodings(run.task, source, encoder_at, run.max_length)
    rows, selection = examples(run, data["train"].labels)
    train = data["train"].take(rows)
    held_out = None if selection is None else data["train"].take(selection)
    with ledger("load"):
        model = build(run, encoder_at, train.labels)
    score = lambda model: tasks.scores(  # noqa: E731
        run.task, training.predict(model, held_out), held_out.labels)[tasks.get(run.task).metric]
    with training.peak_memory(device) as memory:
        outcome = training.train(model, train, run.budget, lr=run.lr, batch_size=run.batch_size, seed=run.order_seed,
                                 precision=run.precision, device=device, ledger=ledger, score=score, points=run.points)
    result = {}
    if outcome.status == "ok":
        with ledger("evaluate"):
            scored = held_out if run.score_on == "selection" else data["validation"]
            predictions = training.predict(model, scored)
        result = _scored(run, predictions, scored.labels)
    return {"examples": len(train), "seconds": {k: round(v, 3) for k, v in ledger.seconds.items()},
            "memory": {k: v and round(v, 1) for k, v in memory.items()}, "parameters": methods.counts(model),
            **dataclasses.asdict(outcome), **result, "hardware": provenance.hardware(device)}


def _scored(run, predictions, labels):
    scores = tasks.scores(run.task, predictions, labels)
    scores = {name: None if math.isnan(value) else value for name, value in scores.items()}
    constant = bool(np.ptp(predictions) < 1e-6)
    return {"status": "constant" if constant else "ok", "reason": "one answer for every example" if constant else "",
            "scores": scores, "score": scores[tasks.get(run.task).metric],
            "predictions": [round(float(value), 4) if labels.dtype.kind == "f" else int(value) for value in predictions],
            "labels": [round(float(value), 4) if labels.dtype.kind == "f" else int(value) for value in labels]}


def _record(run, source, encoder_at, folder):
    """Train one run and write its record, whatever happens to it."""
    try:
        result = train_run(run, source, encoder_at)
    except Exception as error:  # a run that fails is a result: it is counted, and the others go on
        result = {"status": "failed", "reason": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc(),
                  "scores": {}, "score": None}
    record = {"schema": SCHEMA, "run": dataclasses.asdict(run), "key": run.key, **result,
              "versions": provenance.versions(), "commit": provenance.commit()}
    write(record, folder / f"{run.name}.json")
    return record


def _train_all(study, runs, folder, jobs):
    """Yield records as they come."""
    if jobs == 1:
        yield from (_record(run, study.source, study.encoder_at, folder) for run in runs)
        return
    import joblib

    with joblib.parallel_config("loky", inner_max_num_threads=max(1, (os.cpu_count() or 1) // jobs)):
        yield from joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(
            joblib.delayed(_record)(run, study.source, study.encoder_at, folder) for run in runs)


# Records


def write(record, file):
    """Write a record, a line per field, under a temporary name and then rename it: it is there whole or not at all."""
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_text("{\n" + lines + "\n}\n")
    os.replace(temporary, file)


def read(folder):
    """All records below a folder, by key. One that cannot be read, or was edited, is set aside as ``*.broken`` and said."""
    found = {}
    for file in sorted(Path(folder).rglob("*.json")):
        try:
            record = json.loads(file.read_text())
            key = _key(record)
            if not file.stem.endswith(key):
                raise ValueError("its name is not its run's")
        except (ValueError, KeyError, TypeError) as error:
            file.rename(file.with_suffix(".broken"))
            print(f"set aside a record that is not sound, {file.name}: {error}")
            continue
        found[key] = record
    return found


def _key(record):
    run = dict(record["run"])
    run["options"] = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in run["options"])
    return Run(**run).key


def table(records):
    """Records as a ``DataFrame``, a row per run: its configuration, ``status``, and ``score`` in points (100 × metric)."""
    rows = []
    for record in records:
        run = record["run"]
        seeds = {run[f"{kind}_seed"] for kind in ("subset", "init", "order")}
        parameters, seconds = record.get("parameters", {}), record.get("seconds", {})
        rows.append({
            **run, "seed": seeds.pop() if len(seeds) == 1 else None, "key": record["key"], "status": record["status"],
            "reason": record["reason"], "score": 100 * record["score"] if record["score"] is not None else np.nan,
            **{name: np.nan if value is None else 100 * value for name, value in record["scores"].items()},
            "trained": parameters.get("trained"), "total": parameters.get("total"),
            **{key: record.get(key) for key in ("examples", "steps", "tokens")},
            "train_seconds": seconds.get("train"), "used_precision": record.get("precision"),
            "processor": record.get("hardware", {}).get("processor"), "torch": record["versions"]["torch"],
            "transformers": record["versions"]["transformers"], "commit": record["commit"]})
    return pd.DataFrame(rows)


class Progress:
    """One line that says how far it is: updated in place in a notebook, a line per run in a terminal."""

    def __init__(self, total, missing):
        self.total, self.missing, self.done, self.failed = total, missing, 0, 0
        self.start, self.handle = time.monotonic(), None
        if missing:
            self.show(f"{total - missing} of {total} runs read from records, {missing} to train …")

    def step(self, record):
        self.done += 1
        self.failed += record["status"] != "ok"
        left = (time.monotonic() - self.start) / self.done * (self.missing - self.done)
        run = record["run"]
        score = "–" if record["score"] is None else f"{100 * record['score']:.1f}"
        self.show(f"{self.done} of {self.missing} trained, {self.failed} not ok, {self.missing - self.done} left, "
                  f"about {left / 60:.0f} min; last: {run['task']} {run['method']} {run['fraction']:g} {record['status']} {score}")

    def end(self):
        if self.missing:
            self.show(f"{self.total} runs: {self.total - self.missing} read from records, {self.missing} trained, "
                      f"{self.failed} not ok")
        else:
            self.show(f"{self.total} runs read from records, none trained")

    def show(self, text):
        if not _in_notebook():
            print(text, flush=True)
            return
        from IPython.display import Pretty, display

        shown = Pretty(text)
        if self.handle is None:
            self.handle = display(shown, display_id=True)
        else:
            self.handle.update(shown)


def _in_notebook():
    import sys

    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None
