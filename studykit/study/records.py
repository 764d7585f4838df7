"""Records: one JSON file per run, written whole or not at all, and read as a table."""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from studykit import tasks
from studykit.study import provenance
from studykit.study.runs import Run

SCHEMA = 1
FIELDS = {field.name for field in dataclasses.fields(Run)}


def new(run, result):
    """A run's record as a dict: configuration, result, what it was made with, and a digest of all that."""
    record = {"schema": SCHEMA, "run": dataclasses.asdict(run), "key": run.key, **result,
              "versions": provenance.versions(), "commit": provenance.commit()}
    record = json.loads(json.dumps(record))  # just as it will be read again: lists for tuples
    return {**record, "digest": digest(record)}


def digest(record):
    """SHA-256 of all fields but the digest itself (first 16 hex digits)."""
    fields = {name: value for name, value in record.items() if name != "digest"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def write(record, file):
    """Write a record, a line per field, under a temporary name and then rename it: it is there whole or not at all.

    Raises ``OSError``, with what is wrong, where the disk is full or the folder cannot be written; other records stay.
    """
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w") as opened:
            opened.write("{\n" + lines + "\n}\n")
            opened.flush()
            os.fsync(opened.fileno())  # or a power cut could leave the new name and no content
        os.replace(temporary, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, f"the record {file.name} cannot be written ({error.strerror}); all earlier ones are "
                                   "safe: make room and call again, and the study goes on") from error


@contextlib.contextmanager
def reserved(folder, run, wait):
    """Within, no other process on this machine trains the run of the study whose folder this is. Yields whether that is so:
    without ``wait``, ``False`` where another is at it. The system gives the reservation back when a process dies; what that
    one had half written is removed."""
    lock, mine = folder / f".{run.key}.lock", False
    while not mine:
        left = lock.exists()
        with open(lock, "w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if mine := _is_at(held, lock):  # else who had it before has removed it
                if left:
                    _clear(folder, run.key)
                yield True
                lock.unlink(missing_ok=True)


def _is_at(opened, file):
    try:
        return os.path.samestat(os.fstat(opened.fileno()), file.stat())
    except FileNotFoundError:
        return False


def sweep(folder):
    """Remove what stopped processes left in a study's folder: reservations that nobody holds, and records cut off while
    written. Returns the keys of the runs that they were at."""
    left = []
    for lock in folder.glob(".*.lock"):
        with contextlib.suppress(BlockingIOError, FileNotFoundError), open(lock) as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(held, lock):  # else it is another's by now
                left.append(lock.stem[1:])
                _clear(folder, left[-1])
                lock.unlink()
    return left


def _clear(folder, key):
    for part in folder.glob(f"*/.*-{key}.json.*.tmp"):
        part.unlink()


def find(folder, run):
    """The run's record in a study's folder, whichever group it is in, or ``None``. Looks at one name per group, so its cost
    does not grow with the number of records."""
    found = (read_one(file) for file in Path(folder).glob(f"*/{run.name}.json"))
    return next((record for record in found if record), None)


def read_one(file):
    """A record; ``None`` where it is of another version, or not sound: then it is set aside as ``*.broken``, and said."""
    try:
        record = json.loads(file.read_text())
        if not isinstance(record, dict) or not isinstance(record.get("run"), dict):
            raise ValueError("it holds no run")
        unknown = [f"its run has {name}" for name in sorted(set(record["run"]) - FIELDS)]
        if record.get("schema") != SCHEMA:
            unknown.append(f"its schema is {record.get('schema')!r:.80}, not {SCHEMA}")
        if unknown:
            print(f"left out a record of another version, {file.name}: {', '.join(unknown)}; take the version that wrote it "
                  "to read it")
            return None
        if not file.stem.endswith(named := key(record)) or record["key"] != named:
            raise ValueError("its name is not its run's")
        if record.get("digest") != digest(record):
            raise ValueError("it was changed after it was written")
        return record
    except FileNotFoundError:  # another process has set it aside
        return None
    except (ValueError, KeyError, TypeError) as error:
        with contextlib.suppress(FileNotFoundError):
            file.rename(file.with_suffix(".broken"))
        print(f"set aside a record that is not sound, {file.name}: {error}; asked for again, its run will be trained again")
        return None


def read(folder, wanted=None):
    """All records below a folder, by key, or those of the ``wanted`` runs. One that cannot be read, or was edited, is set
    aside as ``*.broken`` and said."""
    files = sorted(Path(folder).rglob("*.json"))
    if wanted is not None:
        keys = {run.key for run in wanted}
        files = [file for file in files if file.stem.rpartition("-")[2] in keys]
    return {record["key"]: record for file in files if (record := read_one(file))}


def key(record):
    """The key that a record's configuration gives it."""
    run = dict(record["run"])
    run["options"] = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in run["options"])
    return Run(**run).key


def _top_answer(record):
    """The share, in percent, of the most frequent answer; NaN for a regression."""
    answers = record.get("predictions")
    if not answers or not tasks.get(record["run"]["task"]).labels:
        return np.nan
    return 100 * np.bincount(answers).max() / len(answers)


def _majority(record):
    """The score, in points, of giving the most frequent label to every example; NaN for a regression."""
    task = tasks.get(record["run"]["task"])
    if not record.get("labels") or not task.labels:
        return np.nan
    return _majority_score(task.name, tuple(np.bincount(record["labels"], minlength=task.num_labels)))


@functools.cache
def _majority_score(task, counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return 100 * tasks.scores(task, np.full(len(labels), np.argmax(counts)), labels)[tasks.get(task).metric]


def table(records):
    """Records as a ``DataFrame``, a row per run: its configuration, ``status``, and ``score`` in points (100 × metric)."""
    rows = []
    for record in records:
        run = record["run"]
        seeds = {run[f"{kind}_seed"] for kind in ("subset", "init", "order")}
        parameters, seconds = record.get("parameters", {}), record.get("seconds", {})
        rows.append({
            **run, "options": ", ".join(f"{name}={value}" for name, value in run["options"]),
            "seed": seeds.pop() if len(seeds) == 1 else None, "key": record["key"], "status": record["status"],
            "reason": record["reason"], "score": 100 * record["score"] if record["score"] is not None else np.nan,
            "top_answer": _top_answer(record), "majority": _majority(record),
            **{name: np.nan if value is None else 100 * value for name, value in record["scores"].items()},
            **{name: parameters.get(name) for name in ("trained", "head", "total")},
            **{key: record.get(key) for key in ("examples", "tokens", "flops", "curve", "predictions", "labels")},
            **{f"{part}_seconds": value for part, value in record.get("parts", {}).items()},
            "steps": record.get("steps"), "train_seconds": seconds.get("train"), "used_precision": record.get("precision"),
            **{name: record.get("hardware", {}).get(name) for name in ("processor", "threads", "load")},
            **{name: record["versions"][name] for name in ("torch", "transformers")}, "commit": record["commit"]})
    return pd.DataFrame(rows)
