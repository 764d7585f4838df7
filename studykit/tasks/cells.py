"""The columns of a file by name, and what single values are: text that can be written, numbers, names of classes."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

SHOWN = 200  # characters of a list of names
LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Sheet:
    """What a file holds: its columns by name, of one length; how it is laid out; the line that each row begins on, where it
    has lines. ``comma`` says that its numbers may be written 3,5, ``unread`` what is wrong with columns that are left out,
    ``header`` the line of the columns' names, where they stand in one."""

    source: str
    columns: dict[str, list]
    layout: str
    lines: Sequence[int] = ()
    comma: bool = False
    unread: dict[str, str] = field(default_factory=dict)
    header: int = 0

    def __len__(self) -> int:
        return max(map(len, self.columns.values()), default=0)

    @property
    def head(self) -> str:
        """Where the names of its columns stand."""
        return self.source + (f", line {self.header}" if self.header else "")

    def place(self, rows: Sequence[int]) -> str:
        """Where the first of these rows stands, and how many more there are."""
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        return f"{self.source}, " + (f"line {self.lines[rows[0]]}" if self.lines else f"row {rows[0] + 1}") + more


def need(wanted: Iterable[str], names: Iterable[str], where: str, unread: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raises ``ValueError`` where a wanted column is missing, or is one that is not read."""
    for column in wanted:
        if column in unread:
            raise ValueError(f"{where}: column {column} {unread[column]}")
    if missing := [column for column in wanted if column not in names]:
        raise ValueError(f"{where}: column {listed(missing)} is missing; the file has {listed(names)}: rename "
                         "what it holds, or name its columns and its label in the task's YAML")


def twice(names: Sequence[str]) -> dict[str, str]:
    """Columns that cannot be told apart."""
    return {name: f"stands there {count} times: rename the others" for name, count in Counter(names).items()
            if name and count > 1}


def listed(names: Iterable[str]) -> str:
    """Names of columns as a sentence has them: in one line, and not endless."""
    text = " ".join(", ".join(names).split())
    return text if len(text) <= SHOWN else text[:SHOWN] + " …"


def sound(text: Any) -> bool:
    """Whether it is text that can be written as UTF-8."""
    try:
        return isinstance(text, str) and text.encode() is not None
    except UnicodeEncodeError:
        return False


def number(value: Any, comma: bool = False) -> float | None:
    """What a value reads as: a number that 32 bits can hold, or none."""
    if isinstance(value, str) and comma and re.fullmatch(r"\s*[+-]?\d+,\d+\s*", value):
        value = value.replace(",", ".")
    try:
        read = math.nan if isinstance(value, bool) or (isinstance(value, str) and "_" in value) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return read if abs(read) < 3e38 else None


def name(value: Any) -> str:
    """A label as the name of a class: no blanks around it, a whole number without a point; 1e3 written so is a name.

    >>> name(" urgent "), name(1.0), name("2.0"), name("007"), name(True)
    ('urgent', '1', '2', '007', 'True')
    """
    text, read = str(value).strip(), number(value)
    read = read if not isinstance(value, str) or re.fullmatch(r"[+-]?\d+(\.0*)?", text) else None
    return str(int(read)) if read is not None and read % 1 == 0 and not text.isdigit() and abs(read) < 1e15 else text
