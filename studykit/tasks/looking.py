"""What was found in a task's files, and what is odd about its rows."""

import textwrap
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studykit.tasks import reading, sheets, splits
from studykit.tasks.guessing import CLASSES, FEW, numbers_of, parts_of
from studykit.tasks.task import Task

PIECES = 4  # of a word, in the mean: a text with more is broken to pieces
SHOWN = 80  # characters of an example


@dataclass(frozen=True)
class Oddity:
    """Something odd about a data set: how many rows (or classes) of how many, a few of them, what it means."""

    kind: str
    count: int
    total: int
    examples: tuple[str, ...]
    meaning: str


def account(task: Task) -> list[str]:
    """What was found in the files of a task that names its data, a sentence each: rows and layout, columns, labels."""
    parts = parts_of(Path(task.data))
    for part in [part for found in parts.values() for part in found if len(part)]:
        sheets.need((*task.columns, task.label), part.columns, part.head, part.unread)
    told = [f"{Path(part.source).name}: {len(part):,} rows, {part.layout}." for found in parts.values() for part in found]
    if "" in parts:
        kept, held = map(len, reading.parted(task, parts[""][0]))
        told.append(f"Its rows are split: {kept:,} to train on, {held:,} held out to score on, the same each time.")
    unread = {name: why for found in parts.values() for part in found for name, why in part.unread.items()}
    told += [f"Left out: column {name}, which {why}." for name, why in unread.items()]
    names = [name for name in next(iter(parts.values()))[0].columns if name not in (*task.columns, task.label)]
    alone = "" if len(task.columns) == 1 else \
        " (a pair: to read one alone, name it as --text, or as columns: in the task's YAML)"
    told.append(f"Text is read from {' and '.join(task.columns)}{alone}, the label from {task.label}; "
                + (f"not used: {sheets.listed(names)}." if names else "no column is left over."))
    values = [value for found in parts.values() for part in found if len(part) for value in part.columns[task.label]]
    otherwise = f"to have it otherwise, write a YAML file with data: {Path(task.data).name}, columns:, label: and "
    if not task.labels:
        numbers = numbers_of(values)
        broken = next((number for number in numbers if number % 1), None)
        why = f", {broken:g} among them" if len({*numbers}) <= CLASSES and broken else ""
        return [*told, f"{task.label} has {len({*numbers})} different values from {min(numbers):g} to {max(numbers):g}"
                f"{why}, so it is a number to predict; {otherwise}labels:, and its values are classes."]
    rows = Counter(sheets.name(value) for value in values)
    rare = [name for name in task.labels if 0 < rows[name] < FEW]
    if 2 * len(rare) > len(task.labels):
        told.append(f"{len(rare)} of the {len(task.labels)} classes have fewer than {FEW} rows, as dates or order numbers "
                    f"have: where {task.label} is not the label, name another.")
    kinds = f"{task.label} names {len(task.labels)} classes: {textwrap.shorten(', '.join(task.labels), 200)}"
    return [*told, kinds + (f"; {otherwise}no labels:, and it is a number to predict." if numbers_of(values) else ".")]


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
    odd.insert(4, _alike(task, counts, Counter(data["validation"]["label"][:])))
    return [oddity for oddity in odd + (_unseen(train + validation, tokenizer, max_length) if tokenizer else [])
            if oddity.count]


def _odd(kind: str, rows: Sequence[tuple | str], total: int, meaning: str) -> Oddity:
    different = dict.fromkeys(" ".join((row if isinstance(row, str) else " | ".join(row)).split()) for row in rows)
    examples = [row if len(row) <= SHOWN else row[: SHOWN - 1] + "…" for row in different]
    return Oddity(kind, len(rows), total, tuple(examples[:3]), meaning)


def _alike(task: Task, train: Counter, validation: Counter) -> Oddity:
    """Classes whose names differ in case, form or a program's way to write truth alone."""
    folded: dict[str, list[int]] = {}
    for place, name in enumerate(task.labels):
        plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        folded.setdefault({"true": "1", "false": "0"}.get(plain, plain), []).append(place)
    alike = sorted((places for places in folded.values() if len(places) > 1),
                   key=lambda places: all(train[place] and validation[place] for place in places))
    return _odd("classes alike",
                [", ".join(f"{task.labels[place]} ({train[place]} + {validation[place]})" for place in places)
                 for places in alike],
                len(task.labels), "names that differ in case or form alone (rows in train + in validation); they are kept "
                                  "apart as classes: where they are one, give it one spelling")


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
