"""What one file holds: CSV, TSV, JSON lines, a JSON array or Parquet as columns by name, and the line of each row.

Parquet is read by pyarrow, text by Python's own ``csv`` and ``json``: they are strict, and know which line a row begins on.
"""

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

KINDS = ("csv", "tsv", "jsonl", "json", "parquet")
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
QUOTED = r'(?<![^{0}\r\n])"[^"]*(?:""[^"]*)*"(?![^{0}\r\n])'  # a whole quoted value
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


def sheet(file: Path, wanted: tuple[str, ...] = ()) -> Sheet:
    """What a file holds: the wanted columns, of which the last is the label, or all."""
    kind = file.suffix[1:].lower()
    if kind not in KINDS:
        raise ValueError(f"{file} is of a kind that is not read here: save it as one of {', '.join(KINDS)}")
    if kind == "parquet":
        return _parquet(file, wanted)
    content = file.read_bytes()
    try:
        text = content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = len(re.split(rb"\r\n|\r|\n", content[: error.start]))
        raise ValueError(f"{file}, line {line}: it is not UTF-8 (at byte {error.start}): save the file as UTF-8") from None
    return (_delimited if kind in ("csv", "tsv") else _json)(file, text, wanted)


def need(wanted: Iterable[str], names: Iterable[str], where: str, unread: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raises ``ValueError`` where a wanted column is missing, or is one that is not read."""
    for column in wanted:
        if column in unread:
            raise ValueError(f"{where}: column {column} {unread[column]}")
    if missing := [column for column in wanted if column not in names]:
        raise ValueError(f"{where}: column {listed(missing)} is missing; the file has {listed(names)}: rename "
                         "what it holds, or name its columns and its label in the task's YAML")


def _twice(names: Sequence[str]) -> dict[str, str]:
    """Columns that cannot be told apart."""
    return {name: f"stands there {count} times: rename the others" for name, count in Counter(names).items()
            if name and count > 1}


def listed(names: Iterable[str]) -> str:
    """Names of columns as a sentence has them: in one line, and not endless."""
    text = " ".join(", ".join(names).split())
    return text if len(text) <= SHOWN else text[:SHOWN] + " …"


def _parquet(file: Path, wanted: tuple[str, ...]) -> Sheet:
    """Other columns than those are never opened; of all, those that can hold no text, name or number."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            unread = {field.name: f"is of type {field.type!s:.80}, which is not read: write it as text or numbers, one a row"
                      for field in schema if not _plain(field.type)} | _twice(schema.names)
            names = [name for name in schema.names if name not in unread and name in (wanted or schema.names)]
            table = opened.read(columns=names)
        table.validate(full=True)  # that its texts are UTF-8
    except (ValueError, OSError, pa.ArrowException) as error:
        raise ValueError(f"{file} is not a sound Parquet file ({str(error).splitlines()[0]}): fetch or write it "
                         "again") from None
    need(wanted, schema.names, str(file), unread)
    classes = _class_names((schema.metadata or {}).get(b"huggingface", b""))
    columns = {name: by_name((column.cast(pa.string()) if pa.types.is_temporal(column.type) else column).to_pylist(),
                             classes.get(name)) for name, column in zip(names, table.columns, strict=True)}
    return Sheet(str(file), columns, "Parquet", unread=unread)


def _plain(kind: Any) -> bool:
    """Whether a type of Parquet's holds texts, numbers, truths or dates."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    return any(holds(kind) for holds in (
        types.is_string, types.is_large_string, types.is_string_view, types.is_integer, types.is_floating, types.is_boolean,
        types.is_decimal, types.is_date, types.is_timestamp, types.is_time, types.is_null))


def _class_names(metadata: bytes) -> dict[str, list[str]]:
    """Names of classes by column, as ``datasets`` writes them: a list, or by number. What is otherwise says nothing."""
    try:
        features = json.loads(metadata)["info"]["features"]
        named = {column: feature["names"] for column, feature in features.items()
                 if isinstance(feature, dict) and feature.get("names")}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    named = {column: [names.get(str(place)) for place in range(len(names))] if isinstance(names, dict) else names
             for column, names in named.items()}
    return {column: names for column, names in named.items() if isinstance(names, list) and all(map(sound, names))}


def by_name(labels: list, names: list[str] | None) -> list:
    """Numbers of classes as the file's own names for them, where it has some, as ``datasets`` writes; -1 is no label."""
    if not names:
        return labels
    return [None if label == -1 else names[label] if isinstance(label, int) and 0 <= label < len(names) else label
            for label in labels]


def _json(file: Path, text: str, wanted: tuple[str, ...]) -> Sheet:
    """JSON lines, or one array of objects."""
    array = text.lstrip()[:1] == "["
    lines = [(1, text)] if array else [(number, line) for number, line in enumerate(LINE_END.split(text), 1) if line.strip()]
    rows: list = []
    for place, line in lines:
        try:
            rows += json.loads(line) if array else [json.loads(line)]
            if not array and not isinstance(rows[-1], dict):
                raise ValueError("it is not a JSON object")
        except (ValueError, RecursionError) as error:
            place += getattr(error, "lineno", 1) - 1
            raise ValueError(f"{file}, line {place}: {getattr(error, 'msg', error)}; each line must be one whole JSON "
                             "object, or the file one array of them") from None
    if wrong := [place for place, row in enumerate(rows, 1) if not isinstance(row, dict)]:
        raise ValueError(f"{file}, row {wrong[0]}: it is not a JSON object; each item of the array must be one")
    names = list(dict.fromkeys(name for row in rows for name in row))
    if rows:
        need(wanted, names, f"{file}, line {lines[0][0]}")
    return Sheet(str(file), {name: [row.get(name) for row in rows] for name in wanted or names},
                 "a JSON array" if array else "JSON lines", [] if array else [number for number, _ in lines])


def _delimited(file: Path, text: str, wanted: tuple[str, ...]) -> Sheet:
    """CSV or TSV, whichever of commas, semicolons and tabs separates: the one that finds the wanted columns in the first
    line, and most. Rows of empty values alone are no rows, and empty columns at the end are no columns."""
    csv.field_size_limit(2 ** 31 - 1)  # a long text is no error: it is cut at max_length tokens
    mark, names = separated(text, file.suffix.lower(), wanted)
    quoted = quotes_enclose(text, mark, len(names))
    unread = _twice(names)
    if text.strip():
        need(wanted, names, f"{file}, line 1", unread)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True,
                        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    rows, spans, begin = [], [], 1
    try:
        for values in reader:
            if any(values):
                rows.append(values)
                spans.append((begin, reader.line_num))
            begin = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{file}, line {begin}: its quotes are not balanced ({error}); each row must be one whole row of "
                         "CSV, with a quote within quotes written twice") from None
    header = spans[0][0] if spans else 0
    rows, spans = rows[1:], spans[1:]  # the first has the names
    for values, (line, _) in zip(rows, spans, strict=True):
        if len(values) < len(names) or any(values[len(names):]):
            many = f"{len(values)} value{'s' * (len(values) > 1)}"
            raise ValueError(f"{file}, line {line}: it has {many} for the {len(names)} columns {listed(names)}; a text that "
                             f"holds {DELIMITERS[mark]} must stand in double quotes")
    columns = {name: [values[place] for values in rows] for place, name in enumerate(names)
               if name and name not in unread and name in (wanted or names)}
    if wanted and rows:
        _nothing_swallowed(file, text, mark, names.index(wanted[-1]), len(names), columns[wanted[-1]], spans)
    return Sheet(str(file), columns, f"separated by {DELIMITERS[mark]}" + ("" if quoted else ", quotes are text"),
                 [line for line, _ in spans], mark == ";", unread, header)


def separated(text: str, suffix: str, wanted: Iterable[str]) -> tuple[str, list[str]]:
    """``(mark, names)``: what separates the values of a text, and its columns."""
    headers, usual = {mark: _header(text, mark) for mark in DELIMITERS}, "\t" if suffix == ".tsv" else ","
    mark = max(DELIMITERS, key=lambda mark: ({*wanted} <= {*headers[mark]}, len(headers[mark]), mark == usual))
    return mark, headers[mark]


def _header(text: str, mark: str) -> list[str]:
    first = next(filter(any, csv.reader(io.StringIO(text[:100_000], newline=""), delimiter=mark)), [])
    names = [" ".join(name.split()) for name in first]
    return names[: max((place for place, name in enumerate(names, 1) if name), default=0)]


def quotes_enclose(text: str, mark: str, columns: int) -> bool:
    """Whether quotes enclose values. With tabs they may be mere text, as in GLUE's own files: where one is not part of a
    whole quoted value, or where lines that a value would hold are whole rows themselves."""
    if mark != "\t" or '"' not in text:
        return True
    whole = re.compile(QUOTED.format(mark))
    if '"' in whole.sub("", text):
        return False
    rows_apart = all(line.count(mark) + 1 >= columns for line in LINE_END.split(text) if line.strip())
    return not (rows_apart and any(LINE_END.search(match[0]) for match in whole.finditer(text)))


def _nothing_swallowed(file: Path, text: str, mark: str, label: int, columns: int, labels: list, spans: list) -> None:
    """Raises ``ValueError`` where every line of a row could be a row, with a label that other rows have: two quotes that do
    not belong together have swallowed what stands between them."""
    known = {value for value, (begin, end) in zip(labels, spans, strict=True) if begin == end}
    longer = [(begin, end) for begin, end in spans if end > begin]
    lines = LINE_END.split(text) if longer else []
    for begin, end in longer:
        apart = [line.split(mark) for line in lines[begin - 1: end]]
        if all(len(values) == columns and values[label] in known for values in apart):
            raise ValueError(f"{file}, line {begin}: a quote that opens here closes in line {end}, and what stands between "
                             "are rows: take the quotes out, or write each twice within quotes")


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
    """A label as the name of a class: no blanks around it, a whole number without a point.

    >>> name(" urgent "), name(1.0), name("2.0"), name("007"), name(True)
    ('urgent', '1', '2', '007', 'True')
    """
    text, read = str(value).strip(), number(value)
    return str(int(read)) if read is not None and read % 1 == 0 and not text.isdigit() and abs(read) < 1e15 else text
