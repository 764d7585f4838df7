"""Where a task's rows come from: the hub, the miniature, files as people have them. What is not sound is an error that names
file, line and remedy; no row is lost, nothing is repaired silently."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studykit.tasks import splits
from studykit.tasks.sheets import KINDS, LINE_END, Sheet, by_name, name, need, number, sheet, sound
from studykit.tasks.task import Task, get

if TYPE_CHECKING:
    import datasets

NAMES = {"validation": ("validation", "valid", "val", "dev")}  # what people call a split
YEARS = 1000  # numbers from here on may be years or dates, which have gaps
TRUTH = {"true": ("true", "True"), "false": ("false", "False")}  # how programs write it


def load(task: str | Path | Task, source: str | Path = "hub") -> "datasets.DatasetDict":
    """A task's rows as a ``datasets.DatasetDict``: ``train``, ``validation`` and what the task scores ``also``, with its
    text columns and ``label``, a class's number or a number. Line breaks within texts are ``\\n``.

    ``source`` is ``"hub"`` (at the task's pinned revision), ``"mini"`` (the miniature, generated) or a folder: laid out as
    the hub's, ``<folder>/<task>/<split>-*.parquet``, or with CSV, TSV, JSON lines, a JSON array or Parquet for a split, in
    one file or in numbered parts. A task that names its own ``data`` is read from there, wherever the others are: a
    folder like that, or one file, of which a fifth is held out. Raises ``FileNotFoundError`` where files are missing
    and ``ValueError`` where rows, columns or labels are not sound.
    """
    import datasets

    task = get(task)
    wanted = (*task.columns, task.label)
    if task.data and Path(task.data).is_file():
        if task.also:
            raise ValueError(f"{task.name} also scores {', '.join(task.also)}, which one file does not hold: give a folder")
        whole = sheet(Path(task.data), wanted)
        rows = _rows(task, [whole], Path(task.data).name)
        kept, held = parted(task, whole)
        return datasets.DatasetDict(train=rows.select(kept), validation=rows.select(held))
    names = ("train", "validation", *task.also)
    if not task.data and source == "hub":
        sheets = _from_hub(task, names)
    elif not task.data and source == "mini":
        from studykit.mini import corpus

        sheets = {split: [_of_dataset(task, rows, split)] for split, rows in corpus.load(task.name).items()}
    else:
        folder = Path(task.data or Path(source) / task.name)
        sheets = {split: [sheet(file, wanted) for file in files(folder, task.stored(split), task.name)] for split in names}
    return datasets.DatasetDict({split: _rows(task, sheets[split], f"{task.name} {split}") for split in names})


def _from_hub(task: Task, names: Iterable[str]) -> dict[str, list[Sheet]]:
    import datasets

    if not task.hub:
        raise ValueError(f"{task.name} does not say where it is on the hub: give --source a folder, or its YAML data: or "
                         "hub:")
    try:
        found = datasets.load_dataset(task.hub.path, task.hub.config, revision=task.hub.revision)
    except (OSError, ValueError) as error:
        reason, *_ = (str(error).strip() or type(error).__name__).splitlines()
        raise FileNotFoundError(f"{task.name} is not here and could not be fetched from the hub ({reason:.300}): give "
                                f"--source a folder laid out as a downloaded copy of {task.hub.path}") from None
    return {split: [_of_dataset(task, found[task.stored(split)], split)] for split in names}


def _of_dataset(task: Task, rows, split: str) -> Sheet:
    wanted, where = (*task.columns, task.label), f"{task.name} {split}"
    need(wanted, rows.column_names, where)
    columns = {name: rows[name][:] for name in wanted}
    columns[task.label] = by_name(columns[task.label], getattr(rows.features[task.label], "names", None))
    return Sheet(where, columns, "as datasets has it")


ELSEWHERE = "another folder as --source, or as data: in the task's YAML"


def files(folder: Path, split: str, name: str, instead: str = ELSEWHERE) -> list[Path]:
    """The files of a split of the task of that name, all of one kind: one, or parts in the order of their numbers."""
    called = NAMES.get(split, (split,))
    pattern = re.compile(rf"({'|'.join(called)})([-_]?\d+(?:-of-(\d+))?(?:-[0-9a-f]+)?)?\.({'|'.join(KINDS)})", re.I)
    matches = [match for file in (folder.iterdir() if folder.is_dir() else ()) if (match := pattern.fullmatch(file.name))]
    found: dict[str, list] = {}
    for match in sorted(matches, key=lambda match: [int(part) for part in re.findall(r"\d+", match[2] or "")]):
        found.setdefault(f"{match[1]}{'-*' if match[2] else ''}.{match[4]}", []).append(match)
    if not found:
        raise FileNotFoundError(f"no {name} data at {folder}: expected {split}.csv, .tsv, .jsonl, .json or .parquet there, "
                                f"or parts such as {split}-1.csv or {split}-00000-of-00001.parquet: put them there, or give "
                                f"{instead}")
    if len(found) > 1:
        raise ValueError(f"{folder} holds {split} more than once, as {' and as '.join(sorted(found))}: keep one of them")
    ((kind, parts),) = found.items()
    if (totals := {part[3] for part in parts}) != {None} and {int(total or 0) for total in totals} != {len(parts)}:
        raise ValueError(f"{folder} holds {len(parts)} of the parts {kind}, where their names say "
                         f"{', '.join(map(str, totals))}: put all of them there, and no others")
    numbers = [int(re.findall(r"\d+", part[2])[0]) for part in parts if part[2]]
    if twice := [number for number in numbers if numbers.count(number) > 1]:
        raise ValueError(f"{folder} holds part {twice[0]} of {kind} more than once: keep one of them")
    if numbers and numbers[-1] < YEARS and numbers[-1] - numbers[0] >= len(numbers):
        lacking = next(number for number in range(numbers[0], numbers[-1]) if number not in numbers)
        raise ValueError(f"{folder} holds parts {numbers[0]} to {numbers[-1]} of {kind}, but not {lacking}: put it there, "
                         "or number them without a gap")
    if folders := [folder / part[0] for part in parts if not (folder / part[0]).is_file()]:
        raise ValueError(f"{folders[0]} is a folder: it must be a file with the rows of {name} {split}")
    return [folder / part[0] for part in parts]


def _rows(task: Task, sheets: list[Sheet], where: str):
    """A split's ``datasets.Dataset``, once all that the task needs is known to be sound."""
    import datasets
    import pyarrow as pa

    if not any(map(len, sheets)):
        raise ValueError(f"{where}: the file has no rows; give it at least two, with different labels")
    sheets = [part for part in sheets if len(part)]
    read = {column: [text for part in sheets for text in texts(part, column)] for column in task.columns}
    for column, given in read.items():
        if not any(map(str.strip, given)):
            raise ValueError(f"{where}: every text of column {column} is empty: fill them in, or name another column")
    labels = [number for part in sheets for number in _labels(task, part)]
    if len(set(labels)) < 2:
        raise ValueError(f"{where}: every label is {task.labels[labels[0]] if task.labels else labels[0]}; at least two "
                         "different ones are needed")
    columns = {column: pa.array(given, pa.large_string()) for column, given in read.items()}
    return datasets.Dataset(pa.table({**columns, "label": pa.array(labels, pa.int64() if task.labels else pa.float64())}))


def parted(task: Task, whole: Sheet) -> tuple[np.ndarray, np.ndarray]:
    """``(train, validation)``: which rows of a file that holds all are trained on, and which are held out."""
    together = list(zip(*(texts(whole, column) for column in task.columns), strict=True))
    return splits.held_out(task, _labels(task, whole), together)


def texts(part: Sheet, column: str) -> list[str]:
    """A column's texts, their line breaks ``\\n``. Raises ``ValueError`` where one is no text."""
    given = part.columns[column]
    if wrong := [row for row, text in enumerate(given) if not sound(text)]:
        value = given[wrong[0]]
        problem = "holds half a character (a lone surrogate): mend it" if isinstance(value, str) else \
            "is not text: give it one, or an empty one"
        raise ValueError(f"{part.place(wrong)}: {column} {value!r:.80} {problem}")
    return [LINE_END.sub("\n", text) if "\r" in text else text for text in given]


def _labels(task: Task, part: Sheet) -> list:
    """Labels as numbers: of a class its name's place among the task's, or its number where no name is one."""
    places = {name: place for place, name in enumerate(task.labels)}
    by_number = range(0 if any(number(name) is not None for name in task.labels) else len(task.labels))
    low, high = task.bounds

    def read(value: Any) -> float | None:
        found = number(value, part.comma)
        if not task.labels:
            return found if found is not None and low <= found <= high else None
        spellings = (str(value).strip(), name(value), *TRUTH.get(str(value).strip().lower(), ()))
        place = next((places[spelling] for spelling in spellings if spelling in places), None)
        return place if place is not None else int(found) if found in by_number else None  # type: ignore[arg-type]

    given = part.columns[task.label]
    numbers = [read(value) for value in given]
    if wrong := [row for row, found in enumerate(numbers) if found is None]:
        value, where = given[wrong[0]], part.place(wrong)
        if value is None or value != value or not str(value).strip():
            raise ValueError(f"{where}: label is missing: fill it in, or take the row out")
        if task.labels:
            expected = f"{', '.join(task.labels):.300}" + (f", or 0 to {len(by_number) - 1}" if by_number else "")
            raise ValueError(f"{where}: label {value!r:.80} is not known: expected {expected}")
        problem = "not a number, or too large a one" if number(value, part.comma) is None else "out of range"
        raise ValueError(f"{where}: label {value!r:.80} is {problem}: expected "
                         + (f"{low:g} to {high:g}" if task.range else "one such as 3.5"))
    return numbers


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
