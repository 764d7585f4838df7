"""What one file holds: CSV, TSV, JSON lines, a JSON array or Parquet as columns by name, and the line of each row.

Parquet is read by pyarrow, text by Python's own ``csv`` and ``json``: they are strict, and know which line a row begins on.
"""

import json
import re
from pathlib import Path
from typing import Any

from studykit.tasks.cells import LINE_END, Sheet, listed, name, need, number, sound, twice
from studykit.tasks.separated import DELIMITERS, SAMPLE, delimited, layout, quotes_enclose, separated

__all__ = ["DELIMITERS", "KINDS", "LINE_END", "Sheet", "by_name", "layout", "listed", "name", "need", "number",
           "quotes_enclose", "separated", "sheet", "sound"]
KINDS = ("csv", "tsv", "jsonl", "json", "parquet")


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
    return (delimited if kind in ("csv", "tsv") else _json)(file, text, wanted)


def _parquet(file: Path, wanted: tuple[str, ...]) -> Sheet:
    """Other columns than those are never opened; of all, those that can hold no text, name or number."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            unread = {field.name: f"is of type {field.type!s:.80}, which is not read: write it as text or numbers, one a row"
                      for field in schema if not _plain(field.type)} | twice(schema.names)
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
