"""What one file holds: CSV, TSV, JSON lines, a JSON array or Parquet as columns by name, and the line of each row.

Parquet is read by pyarrow, text by Python's own ``csv`` and ``json``: they are strict, and know which line a row begins on.
"""

import csv
import io
import itertools
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
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "upright strokes"}
DECLARED = re.compile(r"\ufeff?\"?sep=([,;|\t])\"?[ \t]*(?=[\r\n])", re.I)  # how Excel is told what separates
SAMPLE, VOTERS = 100_000, 20  # characters, and rows in them, that tell what separates
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
        text = content.decode().lstrip("\ufeff")
    except UnicodeDecodeError as error:
        line = len(re.split(rb"\r\n|\r|\n", content[: error.start]))
        raise ValueError(f"{file}, line {line}: it is not UTF-8 (at byte {error.start}): save the file as UTF-8") from None
    if "\0" in LINE_END.split(text[:SAMPLE], maxsplit=1)[0]:
        raise ValueError(f"{file}, line 1: it holds a NUL character, so it looks like UTF-16: save the file as UTF-8")
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
    _rows_apart(file, text, lines, wanted)
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
    unread = {name.encode(errors="backslashreplace").decode(): "has half a character (a lone surrogate) in its name: mend it"
              for name in names if not sound(name)}
    if rows:
        need(wanted, names, f"{file}, line {lines[0][0]}", unread)
    return Sheet(str(file), {name: [row.get(name) for row in rows] for name in wanted or names if sound(name)},
                 "a JSON array" if array else "JSON lines", [] if array else [number for number, _ in lines], unread=unread)


def _rows_apart(file: Path, text: str, lines: list[tuple[int, str]], wanted: tuple[str, ...]) -> None:
    """Raises ``ValueError`` where the file is one object that holds all rows, by column or under a name of their own."""
    try:
        held = json.loads(text) if text.lstrip()[:1] == "{" else None
    except (ValueError, RecursionError):  # lines of objects, or what is named by its line
        return
    if not isinstance(held, dict) or any(isinstance(held.get(name), str | float) for name in wanted):
        return
    below = [value for value in held.values() if isinstance(value, list | dict)]
    rows = [value for value in below if len(value) > 1 and all(isinstance(row, list | dict) for row in value)]
    if rows or (held and len(below) == len(held)):
        raise ValueError(f"{file}, line {lines[0][0]}: it is one object, not rows ({listed(held)}): write it as an array of "
                         "objects, one a row, as pandas does with orient='records'")


def _delimited(file: Path, text: str, wanted: tuple[str, ...]) -> Sheet:
    """CSV or TSV, whatever separates. Rows of empty values alone are no rows, and empty columns at the end are none."""
    csv.field_size_limit(2 ** 31 - 1)  # a long text is no error: it is cut at max_length tokens
    declared = DECLARED.match(text)
    text = text[declared.end():] if declared else text  # its line stays, empty
    mark, names = (declared[1], _header(text, declared[1])) if declared else separated(text, file.suffix.lower(), wanted)
    _names_first(file, text, names)
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
    _no_blank_before_quotes(file, text, mark, [line for values, (line, _) in zip(rows, spans, strict=True)
                                               if any(value.lstrip(" ")[:1] == '"' != value[:1] for value in values)])
    rows, spans = rows[1:], spans[1:]  # the first has the names
    for values, (line, _) in zip(rows, spans, strict=True):
        if names == [value.strip("\ufeff \r\n") for value in values[: len(names)]]:
            raise ValueError(f"{file}, line {line}: it repeats line {header}, the names of the columns: take it out; "
                             f"or, where line {header} is a row itself, put names above it")
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
    """``(mark, names)``: what separates the values of a text, and its columns. It is what finds the wanted columns in the
    first line; then what most of the rows below have as often; then what finds most columns, commas last."""
    headers = {mark: _header(text, mark) for mark in DELIMITERS}

    def votes(mark: str) -> tuple:
        rows, names = _sample(text, mark)[1:], headers[mark]
        several = len(names) > 1
        alike = several and sum(len(row) >= len(names) and not any(row[len(names):]) for row in rows) / max(1, len(rows))
        usual = (mark == "\t") == (suffix == ".tsv"), (mark == ",") != several
        return {*wanted} <= {*names}, several, alike, len(names), *usual

    mark = max(DELIMITERS, key=votes)
    return mark, headers[mark]


def _sample(text: str, mark: str) -> list[list[str]]:
    """The first rows, the one of names among them; a last one that may be cut off is none."""
    reader = csv.reader(io.StringIO(text[:SAMPLE], newline=""), delimiter=mark)
    rows = list(itertools.islice(filter(any, reader), VOTERS + 1))
    return rows if len(text) <= SAMPLE or len(rows) > VOTERS else rows[:1] + rows[1:-1]


def _header(text: str, mark: str) -> list[str]:
    names = [" ".join(name.split()) for name in next(iter(_sample(text, mark)), [])]
    return names[: max((place for place, name in enumerate(names, 1) if name), default=0)]


def _names_first(file: Path, text: str, names: list[str]) -> None:
    """Raises ``ValueError`` where the first line is one value and the rows below are not: a title, or a remark."""
    for mark in DELIMITERS if len(names) == 1 else ():
        widths = Counter(len(row) for row in _sample(text, mark)[1:])
        width, count = max(widths.items(), key=lambda item: item[1], default=(0, 0))
        if width > 1 and count > 2 and 2 * count > widths.total():
            title = names[0].rstrip("".join(DELIMITERS))
            raise ValueError(f"{file}, line 1: {title!r:.80} stands there alone, and the rows below have {width} values: "
                             "take out what stands above the names of the columns, or give each a name")


def _no_blank_before_quotes(file: Path, text: str, mark: str, places: list[int]) -> None:
    """Raises ``ValueError`` where rows of these lines have a blank outside of quotes: the quotes would be taken for text."""
    lines = LINE_END.split(text) if places and mark != "\t" else []
    if wrong := [place for place in places if lines and re.search(rf'(?:^|{re.escape(mark)}) +"(?!")', lines[place - 1])]:
        raise ValueError(f"{file}, line {wrong[0]}: a blank stands before a quote, which then encloses nothing: take the "
                         "blank out")


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
