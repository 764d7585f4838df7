"""Numbers, places and lists in words: what figures and sentences share, from a table's columns alone."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

# where runs differ -> a place there in words, and several
PLACES: dict[str, Callable[[str], str]] = {
    "fraction": lambda values: f"with {values} of the data", "seconds": lambda values: f"within {values}",
    "epochs": lambda values: f"with {values} planned passes", "steps": lambda values: f"with {values} steps",
    "lr": lambda values: f"at a rate of {values}", "source": lambda values: f"where {values} differs",
    "equal": lambda values: f"with equal {values}", "pretrained": lambda values: f"with {values} weights"}
NOUNS = {"fraction": "share", "seconds": "budget", "lr": "rate", "epochs": "length", "source": "seed"}  # what a place is


def axis_of(table: Any, known: Iterable[str] = PLACES) -> str:
    """The first column of a table of groups that says where a group stands, or ""."""
    return next((name for name in known if name in table), "")


def place(axis: str, value: Any) -> str:
    """One place on an axis in words.

    >>> place("fraction", 0.3), place("fraction", 1.0), place("seconds", 10), place("", None)
    ('with 30 % of the data', 'with all of the data', 'within 10 s', '')
    """
    return places(axis, [value])


def places(axis: str, values: Sequence, among: Sequence = ()) -> str:
    """Places on an axis in words; three or more that follow each other ``among`` all of them by their ends.

    >>> places("fraction", [0.1, 0.3, 1.0]), places("seconds", [10, 20])
    ('with 10, 30 and 100 % of the data', 'within 10 and 20 s')
    >>> places("fraction", [0.1, 0.3, 0.5, 1.0], among=[0.1, 0.2, 0.3, 0.5, 1.0])
    'with 10 and 30 to 100 % of the data'
    """
    if not axis:
        return ""
    if axis == "fraction":
        alone = len(values) == 1 and values[0] == 1
        return PLACES[axis]("all" if alone else listed(_spans([100 * value for value in values],
                                                              [100 * value for value in among]), 8) + " %")
    if axis == "seconds":
        return PLACES[axis](listed(_spans(values, among), 8) + " s")
    if axis == "pretrained":
        return PLACES[axis](listed(["pre-trained" if value else "random" for value in values]))
    text = listed([f"{value:g}" if isinstance(value, int | float) else str(value) for value in values], 8)
    return PLACES[axis](text) if axis in PLACES else f"at {axis} {text}"


def _spans(values: Sequence[float], among: Sequence[float]) -> list[str]:
    """Numbers as digits, three or more that follow each other ``among`` all of them as one span."""
    spans: list[list[float]] = []
    order = sorted({*among, *values}) if among else []
    for value in values:
        if spans and order and order.index(value) == order.index(spans[-1][-1]) + 1:
            spans[-1].append(value)
        else:
            spans.append([value])
    return [text for span in spans for text in
            ([f"{span[0]:g} to {span[-1]:g}"] if len(span) > 2 else [f"{value:g}" for value in span])]


def listed(words: Iterable[str], most: int = 5) -> str:
    """Words as people list them; of more than ``most`` the first ones, and how many there are besides.

    >>> listed(["a"]), listed(["a", "b", "c"]), listed("abcdefg", most=3)
    ('a', 'a, b and c', 'a, b and 5 more')
    """
    words = list(words)
    if len(words) > most:
        words = [*words[:most - 1], f"{len(words) - most + 1} more"]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def counted(number: int, noun: str, many: str = "") -> str:
    """A number of things.

    >>> counted(1, "run"), counted(12000, "run"), counted(0, "study", "studies")
    ('1 run', '12,000 runs', '0 studies')
    """
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"


def be(number: int) -> str:
    return "is" if number == 1 else "are"


def all_of(number: int, noun: str) -> str:
    """All of a number of things.

    >>> all_of(2, "task"), all_of(3, "task")
    ('both tasks', 'all 3 tasks')
    """
    return f"{'both' if number == 2 else f'all {number}'} {noun}s"


def in_points(row: Any) -> bool:
    """Whether a row's score is in points, that is, its metric × 100."""
    return row["metric_axis"] != row["metric_title"]


def number(value: float, row: Any, signed: bool = False) -> str:
    """A score or gap as digits: points to a tenth, what has a unit of its own to three digits."""
    if value is None or math.isnan(value):
        return "–"
    sign = "+" if signed else ""
    if in_points(row):
        return format(value + 0.0 if abs(value) >= 0.05 else 0.0, f"{sign}.1f")
    return format(value, f"{sign},.0f" if abs(value) >= 1000 else f"{sign}.3g")


def amount(value: float, row: Any, signed: bool = False) -> str:
    """A score or gap with its unit: points, or that of the metric, which is named."""
    text = number(value, row, signed)
    if in_points(row):
        return f"{text} point{'' if text.lstrip('+-') == '1.0' else 's'}"
    return f"{text} ({row['metric_title']})"


def span(row: Any, signed: bool = False, flipped: bool = False) -> str:
    """A row's interval ``low`` to ``high``, in brackets; ``flipped`` for a gap that is told without its minus."""
    ends = (-row["high"], -row["low"]) if flipped else (row["low"], row["high"])
    return f"({number(ends[0], row, signed)} to {number(ends[1], row, signed)})"


def arm(label: str) -> str:
    """An arm's label as a word of a sentence."""
    return f"`{label}`"


def arms(labels: Iterable[str], most: int = 5) -> str:
    return listed([arm(label) for label in labels], most)
