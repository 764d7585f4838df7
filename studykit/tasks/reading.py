"""Where a task's rows come from: the hub, the miniature, files. What is not sound is an error; nothing is repaired silently."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np

from studykit.tasks import splits
from studykit.tasks.task import Task, get

KINDS = ("parquet", "csv", "tsv", "jsonl", "json")


def load(task: str | Task, source: str = "hub"):
    """A task's rows as a ``datasets.DatasetDict``: ``train``, ``validation`` and what the task scores ``also``, with its text
    columns and ``label``, a class's number or a number.

    ``source`` is ``"hub"`` (at the task's pinned revision), ``"mini"`` (the miniature, generated) or a folder: laid out as
    the hub's, ``<folder>/<task>/<split>-*.parquet``, or with one file a split, ``<folder>/<task>/<split>.csv``, ``.tsv``,
    ``.jsonl``, ``.json`` or ``.parquet``. A task that names its own ``data`` is read from there, wherever the others are: a
    folder with a file a split, or one file, of which a fifth is held out. Raises ``FileNotFoundError`` where files are missing
    and ``ValueError`` where rows, columns or labels are not sound.
    """
    import datasets

    task = get(task)
    names = ("train", "validation", *task.also)
    if task.data and Path(task.data).is_file():
        rows = _checked(task, _table(task, [Path(task.data)]), Path(task.data).name)
        kept, held = splits.held_out(task, rows["label"][:])
        return datasets.DatasetDict(train=rows.select(kept), validation=rows.select(held))
    if task.data:
        data = {split: _read(task, Path(task.data), split) for split in names}
    elif source == "hub":
        data = _from_hub(task, names)
    elif source == "mini":
        from studykit.mini import corpus

        data = corpus.load(task.name)
    else:
        data = {split: _read(task, Path(source) / task.name, split) for split in names}
    return datasets.DatasetDict({split: _checked(task, data[split], split) for split in names})


def _from_hub(task: Task, names: tuple):
    import datasets

    if not task.hub:
        raise ValueError(f"{task.name} does not say where it is on the hub: give --source a folder, or its YAML data: or hub:")
    try:
        found = datasets.load_dataset(task.hub.path, task.hub.config, revision=task.hub.revision)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f"{task.name} is not here and could not be fetched from the hub ({type(error).__name__}): "
                                f"give --source a folder laid out as a downloaded copy of {task.hub.path}") from None
    return {split: found[task.stored(split)] for split in names}


def _read(task: Task, here: Path, split: str):
    """A split from its one kind of file."""
    stored = task.stored(split)
    patterns = (f"{stored}-*.parquet", *(f"{stored}.{kind}" for kind in KINDS))
    found = {pattern: files for pattern in patterns if (files := sorted(here.glob(pattern)))}
    if not found:
        raise FileNotFoundError(f"no {task.name} data at {here}: expected {', '.join(patterns[:-1])} or {patterns[-1]} "
                                "there. Give --source a folder laid out as a downloaded copy of the hub's, or --source hub")
    if len(found) > 1:
        raise ValueError(f"{here} holds {split} more than once, as {' and as '.join(found)}: keep one of them")
    (files,) = found.values()
    if folders := [file for file in files if not file.is_file()]:
        raise ValueError(f"{folders[0]} is a folder: it must be a file with the rows of {task.name} {split}")
    return _table(task, files)


def _table(task: Task, files: list[Path]):
    """The rows of some files as a ``datasets.Dataset`` with the task's columns alone."""
    import datasets

    if files[0].suffix[1:] not in KINDS:
        raise ValueError(f"{files[0]} is of a kind that is not read here: save it as one of {', '.join(KINDS)}")
    read = _parquet if files[0].suffix == ".parquet" else _lines
    return datasets.concatenate_datasets([datasets.Dataset(read(task, file)) for file in files])


def _parquet(task: Task, file: Path):
    import pyarrow as pa
    import pyarrow.parquet

    wanted = [*task.columns, task.label]
    try:
        here = pyarrow.parquet.read_schema(file)
        if missing := [column for column in wanted if column not in here.names]:
            raise ValueError(f"column {', '.join(missing)} is missing; the file has {', '.join(here.names)}")
        table = pyarrow.parquet.read_table(file, columns=wanted)
        table.validate(full=True)  # that its texts are UTF-8
    except (ValueError, OSError) as error:
        if "is missing" in str(error):
            raise ValueError(f"{file}: {error}: rename what it holds") from None
        raise ValueError(f"{file} is not a sound Parquet file ({str(error).splitlines()[0]}): fetch or write it "
                         "again") from None
    labels = _by_the_files_names(task, here, table[task.label].to_pylist())
    kind = pa.int64() if task.labels and all(isinstance(label, int) for label in labels) else None
    columns = [table[column].cast(pa.large_string()) if pa.types.is_string(table[column].type) else table[column]
               for column in task.columns]
    return pa.table([*columns, pa.array(labels, kind)], names=[*task.columns, "label"])


def _by_the_files_names(task: Task, schema, labels: list) -> list:
    """Labels by the task's numbers: of numbers by the file's own names for them, where it has some, as ``datasets`` writes."""
    about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    names = about.get("info", {}).get("features", {}).get(task.label, {}).get("names")
    if not names or not task.labels or tuple(names) == task.labels:
        return labels
    if set(names) == set(task.labels):
        return [names[label] if isinstance(label, int) and 0 <= label < len(names) else label for label in labels]
    raise ValueError(f"the file's names of labels are {', '.join(names)}, the task's {', '.join(task.labels)}: give the task "
                     "the file's")


def _lines(task: Task, file: Path):
    """The table of a UTF-8 text file with a row in each line: CSV, TSV (without quoting, as GLUE has it) or JSON lines.

    A line that is no whole row is an error that names it, so that no quote can swallow the rows after it.
    """
    import pyarrow

    try:
        text = file.read_bytes().decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 at byte {error.start}: save it as UTF-8") from None
    kind, header, rows = file.suffix[1:], None, []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not line:
            continue
        try:
            values = LINE[kind](line)
            if kind in ("csv", "tsv") and header is None:
                header = values
                continue
            rows.append(_row(task, values if header is None else _by_name(header, values)))
        except ValueError as error:
            whole = "JSON object" if header is None else f"row of {kind.upper()}, the first the names of the columns"
            raise ValueError(f"{file}, line {number}: {getattr(error, 'msg', error)}; each line must be one whole "
                             f"{whole}") from None
    return pyarrow.Table.from_pylist(rows)


def _csv(line: str) -> list:
    csv.field_size_limit(2 ** 31 - 1)  # a long text is no error: it is cut at max_length tokens
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise ValueError(f"its quotes are not balanced ({error})") from None


LINE = {"csv": _csv, "tsv": lambda line: line.split("\t"), "jsonl": json.loads, "json": json.loads}  # kind -> reads a line


def _by_name(header: list, values: list) -> dict:
    if len(values) != len(header) or len(set(header)) != len(header):
        raise ValueError(f"it has {len(values)} values for the columns {', '.join(header)}")
    return dict(zip(header, values, strict=True))


def _row(task: Task, values) -> dict:
    """The task's columns of a line, its label as a number."""
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    if missing := [column for column in (*task.columns, task.label) if column not in values]:
        raise ValueError(f"column {', '.join(missing)} is missing; the file has {', '.join(values)}")
    if bad := [column for column in task.columns if not isinstance(values[column], str)]:
        raise ValueError(f"{bad[0]} {values[bad[0]]!r:.80} is not text")
    return {**{column: values[column] for column in task.columns}, "label": _number(task, values[task.label])}


def _number(task: Task, label) -> float:
    """A label as a number: a class by its name, or by its number in the order of the names."""
    if isinstance(label, str) and label in task.labels:
        return task.labels.index(label)
    try:
        number = float(None if isinstance(label, bool) else label)
    except (TypeError, ValueError):
        raise ValueError(f"label {label!r:.80} is not " + (f"one of {', '.join(task.labels)}" if task.labels else "a number")
                         ) from None
    return int(number) if number in range(len(task.labels)) else number


def _checked(task: Task, data, split: str):
    """The columns that the task needs, once they are known to be sound."""
    import datasets

    where, (low, high) = f"{task.name} {split}", task.bounds
    expected = f"{', '.join(task.labels)}, or {low} to {high}" if task.labels else f"{low:g} to {high:g}"
    if not len(data):
        raise ValueError(f"{where}: the file has no rows; give it at least two, with different labels")
    if task.label != "label" and task.label in data.column_names and "label" not in data.column_names:
        data = data.rename_column(task.label, "label")
    if missing := [column for column in (*task.columns, "label") if column not in data.column_names]:
        raise ValueError(f"{where}: column {', '.join(missing)} is missing; the file has {', '.join(data.column_names)}: "
                         "rename what it holds")
    data = data.select_columns([*task.columns, "label"])
    for column in task.columns:
        texts = data[column][:]
        if bad := sum(not isinstance(text, str) for text in texts):
            raise ValueError(f"{where}: {bad} values of column {column} are not text: every row needs one")
        if bad := sum(not text.strip() for text in texts):
            raise ValueError(f"{where}: {bad} texts of column {column} are empty: fill them in or take these rows out")
    given = data["label"][:]
    if wrong := [label for label in given if isinstance(label, bool)
                 or not isinstance(label, int | float | None) and label not in task.labels]:
        raise ValueError(f"{where}: label {wrong[0]!r:.80} is not {'a number' if not task.labels else 'known'}: expected "
                         f"{expected}")
    numbers = [task.labels.index(label) if isinstance(label, str) else label for label in given]
    labels = np.array(numbers, dtype=float)  # a label that is missing becomes NaN
    if not np.isfinite(labels).all():
        raise ValueError(f"{where}: {np.sum(~np.isfinite(labels))} labels are missing or not finite: expected {expected}")
    if (wrong := (labels < low) | (labels > high) | (bool(task.labels) & (labels % 1 != 0))).any():
        raise ValueError(f"{where}: label {labels[wrong][0]:g} is out of range, expected {expected}")
    if (labels == labels[0]).all():
        raise ValueError(f"{where}: every label is {task.labels[int(labels[0])] if task.labels else labels[0]}; at least two "
                         "different ones are needed")
    if numbers != given:
        data = data.remove_columns("label").add_column("label", datasets.Dataset.from_dict({"label": numbers})["label"][:])
    return data


def digest(data) -> str:
    """A SHA-256 over all rows of all splits, independent of how the files are stored (first 16 hex digits).

    A number counts as the 32-bit number that training takes: text files have more or fewer digits.
    """
    sha = hashlib.sha256()
    for split in sorted(data):
        for row in data[split].to_pandas().itertuples(index=False):
            values = [str(float(np.float32(value)) if isinstance(value, float) else value) for value in row]
            sha.update(json.dumps([split, *values], ensure_ascii=False).encode())
    return sha.hexdigest()[:16]
