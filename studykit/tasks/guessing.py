"""A task from a file that says nothing of itself: its columns guessed, what was guessed, and what is odd about its rows."""

import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studykit import paths
from studykit.tasks import reading, sheets, splits
from studykit.tasks.sheets import Sheet
from studykit.tasks.task import Task, made

CLASSES = 20  # numbers with more different values than this are no classes
WORDS = 3  # texts have at least as many, in the mean
FEW = 5  # rows of a class
PIECES = 4  # of a word, in the mean: a text with more is broken to pieces
SHOWN = 80  # characters of an example
LABELS = ("label", "labels", "class", "category", "target", "intent", "sentiment", "score", "rating", "y")  # usual names
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


@dataclass(frozen=True)
class Oddity:
    """Something odd about a data set: how many rows (or classes) of how many, a few of them, what it means."""

    kind: str
    count: int
    total: int
    examples: tuple[str, ...]
    meaning: str


def described(path: str | Path, text: str | Sequence[str] = "", label: str = "") -> Task:
    """The task of a file, or of a folder with train and validation: the columns named, or else guessed from what they hold.

    ``text`` is one column or two, also as ``"first,second"``. Labels are names in alphabetical or numerical order; a label
    with many different values that read as numbers is a number to predict. Raises ``ValueError`` where it is ambiguous.
    """
    path = Path(path).expanduser().resolve()
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder at {path}: give one with rows of your own")
    parts = [part for found in _parts(path).values() for part in found]
    shared = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    columns = {name: [value for part in parts for value in part.columns[name]] for name in shared}
    texts = tuple(name.strip() for name in text.split(",")) if isinstance(text, str) and text else tuple(text)
    sheets.need((*texts, *([label] if label else [])), shared, str(path))
    if not any(map(len, columns.values())):
        raise ValueError(f"{path} has no rows: give it some, with different labels")
    texts = texts or _texts({name: values for name, values in columns.items() if name != label}, path)
    label = label or _label({name: values for name, values in columns.items() if name not in texts}, path)
    classes = _classes(label, columns[label], any(part.comma for part in parts), path)
    asked = "the text" if len(texts) == 1 else "the pair of texts"
    return made({"name": paths.plain(path.stem), "columns": texts, "label": label, "labels": classes, "data": str(path),
                 "question": f"Which {label} does {asked} have?"}, str(path))


def _parts(path: Path, wanted: tuple[str, ...] = ()) -> dict[str, list[Sheet]]:
    """What the files hold, by split."""
    if path.is_file():
        return {"": [sheets.sheet(path, wanted)]}
    return {split: [sheets.sheet(file, wanted) for file in reading.files(path, split, path.name)]
            for split in ("train", "validation")}


def _words(values: list) -> float:
    """Words of a value in the mean; 0 where some value is not text. A Chinese or Japanese character counts as one."""
    given = [value for value in values if value is not None]
    return sum(len(WORD.findall(value)) for value in given) / len(given) if given and all(map(sheets.sound, given)) else 0


def _texts(columns: dict[str, list], path: Path) -> tuple[str, ...]:
    """The columns with many different values of several words; or the only one with many different values."""
    many = {name: _words(values) for name, values in columns.items()
            if len({*map(str, values)}) > min(CLASSES, len(values) / 2) and not _numbers(values) and _words(values)}
    texts = [name for name, words in many.items() if words >= WORDS] or list(many)
    if not texts or len(texts) > 2 or (len(texts) == 2 and many[texts[0]] < WORDS):
        problem = f"texts could be {sheets.listed(texts)}" if texts else "no column holds texts, many different ones"
        raise ValueError(f"{path}: {problem}; its columns are {sheets.listed(columns)}: name one or two as text, such as "
                         f"--text {sheets.listed((texts or list(columns))[:1])}")
    return tuple(texts)


def _label(columns: dict[str, list], path: Path) -> str:
    """The column with few different values, or numbers; of several the one that is called as labels usually are."""
    possible = [name for name, values in columns.items() if _is_label(values)]
    usual = [name for name in possible if name.lower() in LABELS]
    if len(chosen := usual or possible) != 1:
        problem = f"the label could be {sheets.listed(chosen)}" if chosen else "no column holds labels, few names or numbers"
        raise ValueError(f"{path}: {problem}; beside the text it has {sheets.listed(columns) or 'no column'}: name the "
                         f"label, such as --label {sheets.listed((chosen or list(columns) or ['label'])[:1])}")
    return chosen[0]


def _is_label(values: list) -> bool:
    """Whether these can be labels: a few different values, each for several rows, or numbers that do not count the rows."""
    different, numbers = len({*map(str, values)}), _numbers(values)
    counting = numbers and all(value % 1 == 0 for value in numbers) and different == len(values) > 2
    return different > 1 and not counting and (bool(numbers) or different <= max(2, len(values) / 2))


def _numbers(values: list, comma: bool = True) -> list[float]:
    """What the values read as, without those that are missing; none where one is no number."""
    read = [sheets.number(value, comma) for value in values if value is not None and str(value).strip() and value == value]
    return [number for number in read if number is not None] if None not in read else []


def _classes(label: str, values: list, comma: bool, path: Path) -> list[str]:
    """Names of classes in their order; none where the label is a number to predict."""
    names = {sheets.name(value) for value in values if value is not None and value == value} - {""}
    if numbers := _numbers(values, comma):
        if (len(names) > min(CLASSES, len(values) / 2) and len(names) > 2) or any(number % 1 for number in numbers):
            return []
        return sorted(names, key=lambda name: (sheets.number(name, comma), name))
    if len(names) > max(2, len(values) / 2) or not all(map(sheets.sound, names)):
        raise ValueError(f"{path}: label {label} has {len(names)} different values in {len(values)} rows, such as "
                         f"{min(names)!r:.80}, and they are no numbers: name the column that holds labels as --label")
    return sorted(names)


def account(task: Task) -> list[str]:
    """What was found in the files of a task that names its data, a sentence each: rows and layout, columns, labels."""
    parts = _parts(Path(task.data))
    told = [f"{Path(part.source).name}: {len(part):,} rows, {part.layout}." for found in parts.values() for part in found]
    if "" in parts:
        told.append("Its rows are split: a fifth is held out to score on, the same fifth each time.")
    names = [name for name in next(iter(parts.values()))[0].columns if name not in (*task.columns, task.label)]
    told.append(f"Text is read from {' and '.join(task.columns)}, the label from {task.label}; "
                + (f"not used: {sheets.listed(names)}." if names else "no column is left over."))
    values = [value for found in parts.values() for part in found for value in part.columns[task.label]]
    otherwise = f"to have it otherwise, write a YAML file with data: {Path(task.data).name}, columns:, label: and "
    if not task.labels:
        numbers = _numbers(values)
        return [*told, f"{task.label} has {len({*numbers})} different values from {min(numbers):g} to {max(numbers):g}, so "
                f"it is a number to predict; {otherwise}labels:, and its values are classes."]
    kinds = f"{task.label} names {len(task.labels)} classes: {textwrap.shorten(', '.join(task.labels), 200)}"
    return [*told, kinds + (f"; {otherwise}no labels:, and it is a number to predict." if _numbers(values) else ".")]


def oddities(task: Task, data, tokenizer=None, max_length: int = 128) -> list[Oddity]:
    """What is odd about a task's rows, as ``reading.load`` gives them; nothing is taken out. With a tokenizer also what the
    encoder does not see of them."""
    train, validation = ([tuple(row[column] for column in task.columns) for row in data[split]]
                         for split in ("train", "validation"))
    labels = data["train"]["label"][:]
    given: dict[tuple, list] = {}
    for texts, label in zip(train, labels, strict=True):
        given.setdefault(texts, []).append(label)
    counts, needed = Counter(labels), splits.rows_needed(labels)
    rare = [f"{name} ({counts[place]})" for place, name in enumerate(task.labels) if counts[place] < FEW]
    odd = [
        _odd("duplicates", [texts for texts, all_ in given.items() for _ in all_[1:]], len(train),
             "training rows that repeat an earlier one; they are kept, and count for more than the others"),
        _odd("two labels", [texts for texts, all_ in given.items() if len({*all_}) > 1], len(given),
             "texts that stand with two labels or more; one of them is wrong, or the text does not decide it: look at them"),
        _odd("leaks", [texts for texts in validation if texts in given], len(validation),
             "validation rows that also stand in train, which flatters the score: take them out of one of the two"),
        _odd("rare classes", rare, len(task.labels),
             f"classes with fewer than {FEW} rows to train on; they are kept, but can hardly be learnt, and chance decides "
             "their scores: add rows, or join them to others"),
        _odd("empty texts", [texts for texts in train + validation if not all(map(str.strip, texts))],
             len(train) + len(validation), "rows with an empty text; they are kept, and nothing in them tells the label"),
        Oddity("few rows", len(train) if len(train) < needed else 0, len(train), (),
               f"too few rows to choose anything on a part of them: {needed} with these shares of the labels would do"),
    ]
    return [oddity for oddity in odd + (_unseen(train + validation, tokenizer, max_length) if tokenizer else [])
            if oddity.count]


def _odd(kind: str, rows: Sequence[tuple | str], total: int, meaning: str) -> Oddity:
    different = dict.fromkeys(" ".join((row if isinstance(row, str) else " | ".join(row)).split()) for row in rows)
    examples = [row if len(row) <= SHOWN else row[: SHOWN - 1] + "…" for row in different]
    return Oddity(kind, len(rows), total, tuple(examples[:3]), meaning)


def _unseen(rows: list[tuple], tokenizer, max_length: int) -> list[Oddity]:
    """Rows that the encoder sees in part, or in pieces."""
    encoded = tokenizer(*map(list, zip(*rows, strict=True)), verbose=False)
    cut, broken = [], []
    for place, (row, tokens) in enumerate(zip(rows, encoded["input_ids"], strict=True)):
        words = encoded.word_ids(place)  # None for special tokens
        starts = sum(word is not None and word != before for word, before in zip(words, [None, *words], strict=False))
        if len(tokens) > max_length:
            cut.append(row)
        if tokenizer.unk_token_id in tokens or len(words) - words.count(None) > PIECES * starts:
            broken.append(row)
    longest = max(map(len, encoded["input_ids"]))
    return [_odd("cut texts", cut, len(rows),
                 f"rows with more than the {max_length} tokens that the encoder is given, the longest {longest}; it does "
                 "not see what comes after: a larger max_length sees more and takes longer"),
            _odd("broken words", broken, len(rows),
                 f"rows with characters that the encoder's vocabulary lacks, or more than {PIECES} pieces a word; it knows "
                 "little of them: one that was trained on this language or kind of text would know more")]
