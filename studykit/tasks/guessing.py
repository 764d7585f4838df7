"""A task from a file that says nothing of itself: its columns guessed, what was guessed, and what is odd about its rows."""

import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studykit import paths
from studykit.tasks import reading, sheets, splits
from studykit.tasks.sheets import Sheet
from studykit.tasks.task import Task, made

CLASSES = 20  # numbers with more different values than this are no classes
WORDS = 3  # texts have at least as many, in the mean
FEW = 5  # rows of a class
PIECES = 4  # of a word, in the mean: a text with more is broken to pieces
SHOWN = 80  # characters of an example
MOSTLY = 0.9  # of a column: where so much is text or numbers, the rest is a mistake
TEXTS = ("text", "texts", "sentence", "review", "message", "body", "title", "question", "answer", "comment", "content",
         "tweet", "description", "document", "premise", "hypothesis", "utterance")  # usual names
NONE = ("na", "n/a", "#n/a", "nan", "none", "null", "-", "?", "inf", "-inf")  # how programs write a number that is none
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
    found = _parts(path)
    for split in found.values():
        if not any(map(len, split)):
            raise ValueError(f"{split[0].source} has no rows: give it some, with different labels")
    parts = [part for split in found.values() for part in split if len(part)]
    texts, named = _asked(text, parts), bool(text or label)
    for part in parts:
        sheets.need((*texts, *([label] if label else [])), part.columns, part.head, part.unread)
    texts, label = _guessed(parts, texts, label, path)
    if not named:
        _names_above(parts, texts, label)
    for part in parts:
        for column in texts:
            reading.texts(part, column)
    classes = _classes(label, parts, path)
    asked = "the text" if len(texts) == 1 else "the pair of texts"
    return made({"name": paths.plain(path.stem), "columns": texts, "label": label, "labels": classes, "data": str(path),
                 "question": f"Which {label} does {asked} have?"}, str(path))


def _asked(text: str | Sequence[str], parts: list[Sheet]) -> tuple[str, ...]:
    """The text columns that are named; a name may hold a comma itself."""
    if not isinstance(text, str):
        return tuple(text)
    whole = text.strip() in parts[0].columns
    return tuple(name.strip() for name in ([text] if whole else text.split(","))) if text else ()


def _guessed(parts: list[Sheet], texts: tuple[str, ...], label: str, path: Path) -> tuple[tuple[str, ...], str]:
    """The text columns and the label, of the columns that all files have."""
    fullest = max(parts, key=lambda part: len(part.columns))
    shared = [name for name in fullest.columns if all(name in part.columns for part in parts)]
    columns = {name: [value for part in parts for value in part.columns[name]] for name in shared}
    usual = () if texts else TEXTS, () if label else LABELS
    try:
        texts = texts or _texts({name: values for name, values in columns.items() if name != label}, path)
        label = label or _label({name: values for name, values in columns.items() if name not in texts}, path)
    except ValueError:
        _all_read(parts, usual[0] + usual[1])
        _all_there(parts, fullest, fullest.columns)
        raise
    for chosen, names in zip((texts, (label,)), usual, strict=True):
        if not {*map(str.lower, chosen)} & {*names}:  # perhaps it is one that is not read, or that a file lacks
            _all_read(parts, names)
            _all_there(parts, fullest, [name for name in fullest.columns if name.lower() in names])
    return texts, label


def _all_read(parts: list[Sheet], usual: Iterable[str]) -> None:
    """Raises ``ValueError`` where a column with a usual name is one that is not read."""
    for part in parts:
        sheets.need([name for name in part.unread if name.lower() in usual], part.columns, part.head, part.unread)


def _all_there(parts: list[Sheet], fullest: Sheet, names: Iterable[str]) -> None:
    """Raises ``ValueError`` where a file lacks such columns, which another has."""
    for part in parts:
        if missing := [name for name in names if name not in part.columns]:
            raise ValueError(f"{part.head}: column {sheets.listed(missing)} is missing, which "
                             f"{Path(fullest.source).name} has; it has {sheets.listed(part.columns)}: give all files the "
                             "same columns")


def _where(parts: list[Sheet], column: str, wrong: Callable[[Any], bool]) -> tuple[str, Any]:
    """The place of the first value of a column that is wrong, and that value; of none nothing."""
    for part in parts:
        if rows := [row for row, value in enumerate(part.columns[column]) if wrong(value)]:
            return part.place(rows), part.columns[column][rows[0]]
    return "", None


def _names_above(parts: list[Sheet], texts: tuple[str, ...], label: str) -> None:
    """Raises ``ValueError`` where what stands for the names of columns looks like a row of them."""
    for part in parts:
        names = [*part.columns]
        usual = {word for name in names if len(WORD.findall(name)) < WORDS
                 for word in re.split(r"[\W\d_]+", name.lower())} & {*TEXTS, *LABELS}
        counted = [str(place) for place in range(len(names))]  # as pandas calls them
        if not part.header or usual or names == counted:
            continue
        labels, held = part.columns[label], {word for text in part.columns[texts[0]] for word in text.lower().split()}
        words = texts[0].lower().split()
        like_text = len(words) >= WORDS and not texts[0].endswith(("?", ":")) and 2 * len({*words} & held) > len(words)
        if like_text or sheets.number(label, part.comma) is not None or sheets.name(label) in map(sheets.name, labels):
            raise ValueError(f"{part.head}: it looks like a row, not column names "
                             f"({sheets.listed(names)}): put names above it, such as text and label; or, where these are "
                             "names, give them as --text and --label")


def _parts(path: Path, wanted: tuple[str, ...] = ()) -> dict[str, list[Sheet]]:
    """What the files hold, by split."""
    if path.is_file():
        return {"": [sheets.sheet(path, wanted)]}
    return {split: [sheets.sheet(file, wanted) for file in reading.files(path, split, path.name, "another folder")]
            for split in ("train", "validation")}


def _words(values: list) -> float:
    """Words of a value in the mean; 0 where too few values are text. A Chinese or Japanese character counts as one."""
    given = [value for value in values if value is not None]
    texts = [value for value in given if sheets.sound(value)]
    return sum(len(WORD.findall(text)) for text in texts) / len(texts) if texts and len(texts) >= MOSTLY * len(given) else 0


def _texts(columns: dict[str, list], path: Path) -> tuple[str, ...]:
    """The columns with many different values of several words; or the only one with many different values."""
    read = {name: _words(values) for name, values in columns.items() if not _numbers(values)}
    many = {name: words for name, words in read.items()
            if words and len({*map(str, columns[name])}) > min(CLASSES, len(columns[name]) / 2)}
    texts = [name for name, words in many.items() if words >= WORDS] or list(many)
    if not texts or len(texts) > 2 or (len(texts) == 2 and many[texts[0]] < WORDS):
        problem = f"texts could be {sheets.listed(texts)}" if texts else "no column holds texts, many different ones"
        remedy = f"name one or two as text, such as --text {sheets.listed(texts[:1])}" if texts else \
            "give it one, or name it as --text"
        raise ValueError(f"{path}: {problem}; its columns are {sheets.listed(columns)}: {remedy}")
    return tuple(texts)


def _label(columns: dict[str, list], path: Path) -> str:
    """The column with few different values, or numbers; of several the one that is called as labels usually are."""
    possible = [name for name, values in columns.items() if _is_label(values)]
    plain = [name for name in possible if not any(isinstance(value, list | dict) for value in columns[name])]
    chosen = [name for name in possible if name.lower() in LABELS] or plain or possible
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise ValueError(f"{path}: the label could be {sheets.listed(chosen)}; beside the text it has "
                         f"{sheets.listed(columns)}: name the label, such as --label {sheets.listed(chosen[:1])}")
    for name in [name for name in columns if name.lower() in LABELS] or list(columns)[: len(columns) == 1]:
        _two(name, {sheets.name(value) for value in columns[name] if _given(value)}, path)
    raise ValueError(f"{path}: no column holds labels, few names or numbers; beside the text it has "
                     f"{sheets.listed(columns) or 'no column'}: give it one, or name it as --label")


def _two(label: str, names: set[str], path: Path) -> None:
    """Raises ``ValueError`` where there are not two labels."""
    if len(names) < 2:
        problem = f"every label of {label} is {min(names)!r:.80}" if names else f"column {label} holds no label"
        raise ValueError(f"{path}: {problem}; at least two different ones are needed: give it rows of others, or name "
                         "another column")


def _is_label(values: list) -> bool:
    """Whether these can be labels: a few different values, each for several rows, or numbers that do not count the rows."""
    different, numbers = len({*map(str, values)}), _numbers(values)
    counting = numbers and all(value % 1 == 0 for value in numbers) and different == len(values) > 2
    return different > 1 and not counting and (bool(numbers) or different <= max(2, len(values) / 2))


def _given(value: Any) -> bool:
    return value is not None and value == value and bool(str(value).strip())


def _numbers(values: list, comma: bool = True) -> list[float]:
    """What the values read as, without those that are missing; none where too few are numbers."""
    read = [sheets.number(value, comma) for value in values if _given(value)]
    numbers = [number for number in read if number is not None]
    return numbers if len(numbers) >= MOSTLY * len(read) else []


def _classes(label: str, parts: list[Sheet], path: Path) -> list[str]:
    """Names of classes in their order; none where the label is a number to predict."""
    values = [value for part in parts for value in part.columns[label] if _given(value)]
    counts, comma = Counter(map(sheets.name, values)), any(part.comma for part in parts)
    _each_a_name(label, parts)
    _two(label, {*counts}, path)
    most = min(CLASSES, sum(map(len, parts)) / 2)
    if numbers := _numbers(values, comma):
        is_number = (len(counts) > most and len(counts) > 2) or any(number % 1 for number in numbers)

        def stray(value: Any) -> bool:
            named = sheets.name(value)
            return _given(value) and sheets.number(value, comma) is None and (
                is_number or counts[named] < FEW or named.lower() in NONE)

        place, value = _where(parts, label, stray)
        if place:
            otherwise = "" if is_number else "; where it is a class, say so in a YAML file with labels:"
            raise ValueError(f"{place}: label {value!r:.80} is no number, or too large a one, and nearly all others are "
                             f"numbers: mend it, or take the row out{otherwise}")
        return [] if is_number else sorted(counts, key=lambda name: (
            (number := sheets.number(name, comma)) is None, number or 0, name))
    if len(counts) > most and _numbers(values):
        raise ValueError(f"{path}: label {label} has numbers with a decimal comma, such as {values[0]!r:.80}, which are "
                         "read only where semicolons separate: write them with a point")
    if len(counts) > max(2, sum(map(len, parts)) / 2):
        raise ValueError(f"{path}: label {label} has {len(counts)} different values in {sum(map(len, parts))} rows, such as "
                         f"{min(counts)!r:.80}, and they are no numbers: name the column that holds labels as --label")
    return sorted(counts)


def _each_a_name(label: str, parts: list[Sheet]) -> None:
    """Raises ``ValueError`` where a label is a list or cannot be written, or where one file has names, another numbers."""
    place, value = _where(parts, label, lambda value: isinstance(value, list | dict))
    if place:
        raise ValueError(f"{place}: label {value!r:.80} is not one name or number: give each row one label")
    place, value = _where(parts, label, lambda value: not sheets.sound(str(value)))
    if place:
        raise ValueError(f"{place}: label {value!r:.80} holds half a character (a lone surrogate): mend it")
    kinds: dict[bool, tuple[str, Any]] = {}
    for part in parts:
        given = [value for value in part.columns[label] if _given(value)]
        numeric = {sheets.number(value, part.comma) is not None for value in given}
        if len(numeric) == 1:
            kinds.setdefault(numeric.pop(), (part.source, given[0]))
    if len(kinds) == 2:
        (numbers, number), (names, name) = kinds[True], kinds[False]
        raise ValueError(f"{numbers}: its labels are numbers, such as {number!r:.80}, where {Path(names).name} has names, "
                         f"such as {name!r:.80}: give all files the one or the other")


def account(task: Task) -> list[str]:
    """What was found in the files of a task that names its data, a sentence each: rows and layout, columns, labels."""
    parts = _parts(Path(task.data))
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
        numbers = _numbers(values)
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
