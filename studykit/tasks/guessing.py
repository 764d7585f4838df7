"""A task from a file that says nothing of itself: its columns guessed."""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from studykit import paths
from studykit.tasks import reading, sheets
from studykit.tasks.sheets import Sheet
from studykit.tasks.task import Task, made

CLASSES = 20  # numbers with more different values than this are no classes
WORDS = 3  # texts have at least as many, in the mean
FEW = 5  # rows of a class
MOSTLY = 0.9  # of a column: where so much is text or numbers, the rest is a mistake
TEXTS = ("text", "texts", "sentence", "review", "message", "body", "title", "question", "answer", "comment", "content",
         "tweet", "description", "document", "premise", "hypothesis", "utterance")  # usual names
NONE = ("na", "n/a", "#n/a", "nan", "none", "null", "-", "?", "inf", "-inf")  # how programs write a number that is none
LABELS = ("label", "labels", "class", "category", "target", "intent", "sentiment", "score", "rating", "y")  # usual names
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


def described(path: str | Path, text: str | Sequence[str] = "", label: str = "") -> Task:
    """The task of a file, or of a folder with train and validation: the columns named, or else guessed from what they hold.

    ``text`` is one column or two, also as ``"first,second"``. Labels are names in alphabetical or numerical order; a label
    with many different values that read as numbers is a number to predict. Raises ``ValueError`` where it is ambiguous.
    """
    path = Path(path).expanduser().resolve()
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder at {path}: give one with rows of your own")
    found = parts_of(path)
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
        words, usually = texts[0].lower().split(), statistics.median(len(text.split()) for text in part.columns[texts[0]])
        as_long = len(words) >= max(WORDS, usually / 2) and not texts[0].endswith(("?", ":"))
        like_text = as_long and 2 * len({*words} & held) > len(words)
        if like_text or sheets.number(label, part.comma) is not None or sheets.name(label) in map(sheets.name, labels):
            raise ValueError(f"{part.head}: it looks like a row, not column names "
                             f"({sheets.listed(names)}): put names above it, such as text and label; or, where these are "
                             "names, give them as --text and --label")


def parts_of(path: Path, wanted: tuple[str, ...] = ()) -> dict[str, list[Sheet]]:
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
    read = {name: _words(values) for name, values in columns.items() if not numbers_of(values)}
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
    whole = [name for name in plain if len(numbers_of(columns[name])) in (0, sum(map(_given, columns[name])))]
    chosen = [name for name in possible if name.lower() in LABELS] or whole or plain or possible
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
    different, numbers = len({*map(str, values)}), numbers_of(values)
    counting = numbers and all(value % 1 == 0 for value in numbers) and different == len(values) > 2
    return different > 1 and not counting and (bool(numbers) or different <= max(2, len(values) / 2))


def _given(value: Any) -> bool:
    return value is not None and value == value and bool(str(value).strip())


def numbers_of(values: list, comma: bool = True) -> list[float]:
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
    if numbers := numbers_of(values, comma):
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
    if len(counts) > most and numbers_of(values):
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
