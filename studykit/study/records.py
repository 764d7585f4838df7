"""Records: one JSON file per run, written whole or not at all."""

import contextlib
import dataclasses
import glob
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from studykit.evidence.table import tuples
from studykit.study import provenance
from studykit.study.arms import Arm
from studykit.study.locks import ACCIDENTS
from studykit.study.runs import Run
from studykit.tasks import Task

SCHEMA = 2
FIELDS = {field.name for field in dataclasses.fields(Run)}


def new(run: Run, task: Task, arm: Arm | None, result: dict) -> dict:
    """A run's record as a dict: configuration, task and arm as they were then, result, what it was made with, and a digest
    of all that."""
    record = {"schema": SCHEMA, "run": dataclasses.asdict(run), "key": run.key, "task": task.model_dump(mode="json"),
              "arm": arm.label if arm else run.method, **result, "versions": provenance.versions(),
              "commit": provenance.commit()}
    record = json.loads(json.dumps(record))  # just as it will be read again: lists for tuples
    return {**record, "digest": digest(record)}


def digest(record: dict) -> str:
    """SHA-256 of all fields but the digest itself (first 16 hex digits)."""
    fields = {name: value for name, value in record.items() if name != "digest"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def write(record: dict, file: Path) -> None:
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


def find(folder: Path, run: Run) -> dict | None:
    """The run's record in a study's folder, whichever group it is in, or ``None``. Looks at one name per group, so its cost
    does not grow with the number of records."""
    named = Path(folder).glob(f"*/{glob.escape(run.name)}.json")
    found = (read_one(file) for file in named if file.parent.name != ACCIDENTS)
    return next((record for record in found if record), None)


def read_one(file: Path) -> dict | None:
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


def read(folder: Path, wanted: Iterable[Run] | None = None) -> dict[str, dict]:
    """All records below a folder, by key, or those of the ``wanted`` runs. One that cannot be read, or was edited, is set
    aside as ``*.broken`` and said."""
    files = sorted(file for file in Path(folder).glob("*/*.json") if file.parent.name != ACCIDENTS)
    if wanted is not None:
        keys = {run.key for run in wanted}
        files = [file for file in files if file.stem.rpartition("-")[2] in keys]
    return {record["key"]: record for file in files if (record := read_one(file))}


def key(record: dict) -> str:
    """The key that a record's configuration gives it."""
    run = record["run"]
    return Run(**{**run, "options": tuples(run["options"])}).key
