"""JSON of any size, again with columns added: each object stands in the new file as it stood in the old, with values put at
its end."""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from studykit.advise import files

BLOCK = 1 << 16  # characters that an array is read by, at first
LARGEST = 1 << 26  # characters of one object of it
BETWEEN, DECODER = re.compile(r"[ \t\r\n,]*"), json.JSONDecoder()


def fill(source: Path, given: TextIO, written: TextIO, columns: Sequence[str], added: files.Added,
         answer: files.Answer, size: Callable[[], int]) -> tuple[str, list[str]]:
    """JSON lines, or one array of objects."""
    array = given.read(BLOCK).removeprefix("\ufeff").lstrip()[:1] == "["
    given.seek(0)
    objects, rows = _items(source, given) if array else _lines(source, given), 0
    called: list[str] = []
    while chunk := list(itertools.islice(objects, size())):
        real = [(values, place) for _, values, place, _ in chunk if values is not None]
        if real and not called:
            called = files.free([name for name, _ in added], list(real[0][0]))
        texts = [_texts(source, values, place, columns, called) for values, place in real]
        answers = iter(answer(texts, files.share(source, given))) if texts else iter(())
        for raw, values, _, end in chunk:
            more = "" if values is None else json.dumps(dict(zip(called, next(answers), strict=True)), ensure_ascii=False)
            written.write(raw if values is None else f"{raw[:-1].rstrip()}, {more[1:]}{end}")
        rows += len(texts)
    files.some(source, rows)
    return "a JSON array" if array else "JSON lines", called


def _texts(source: Path, values: dict, place: str, columns: Sequence[str], called: list[str]) -> tuple[str, ...]:
    files.need(f"{source}, {place}", columns, list(values))
    if taken := [name for name in called if name in values]:
        raise ValueError(f"{source}, {place}: it holds {taken[0]}, which rows before have not, and which would be added: "
                         "rename it there")
    return tuple(files.text(source, place, column, values[column]) for column in columns)


def _lines(source: Path, given: TextIO) -> Iterator[tuple[str, dict | None, str, str]]:
    """``(raw, values, place, end)`` of each line; an empty one has no values."""
    for number, line in enumerate(given, 1):
        body = line.rstrip()
        values = None
        if body.removeprefix("\ufeff").strip():
            try:
                values = json.loads(body.removeprefix("\ufeff"))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{source}, line {number}: {getattr(error, 'msg', error)}; each line must be one whole "
                                 "JSON object, or the file one array of them") from None
            _object(source, f"line {number}", values)
        yield (body, values, f"line {number}", line[len(body):]) if values is not None else (line, None, "", "")


def _items(source: Path, given: TextIO) -> Iterator[tuple[str, dict | None, str, str]]:
    """The same of a JSON array's objects, and of what stands between them."""
    held, row = given.read(BLOCK), 0
    begin = len(held) - len(held.removeprefix("\ufeff").lstrip()) + 1  # after the bracket
    yield held[:begin], None, "", ""
    while True:
        end = len(BETWEEN.match(held, begin)[0]) + begin  # type: ignore[index]
        if end == len(held) and (more := given.read(BLOCK)):
            held, begin = held[begin:] + more, 0
            continue
        if end == len(held):
            raise ValueError(f"{source}, after row {row}: the array has no end: fetch or write the file again")
        last = held[end] == "]"
        if held[begin:end].count(",") != (row > 0 and not last):
            raise ValueError(f"{source}, after row {row}: one comma must stand between two objects of an array")
        yield held[begin:end], None, "", ""
        if last:
            rest = held[end:] + given.read(BLOCK)
            if rest[1:].strip():
                raise ValueError(f"{source}: something stands after the array's end: take it out")
            yield rest, None, "", ""
            return
        row += 1
        values, begin, held = _item(source, given, held, end, row)
        _object(source, f"row {row}", values)
        yield held[end:begin], values, f"row {row}", ""


def _item(source: Path, given: TextIO, held: str, begin: int, row: int) -> tuple[Any, int, str]:
    """``(values, end, held)``: the object that begins there, after reading as much more as it takes."""
    while True:
        try:
            return *DECODER.raw_decode(held, begin), held
        except (ValueError, RecursionError) as error:
            more = given.read(max(BLOCK, len(held))) if len(held) - begin < LARGEST else ""
            if not more:
                raise ValueError(f"{source}, row {row}: {getattr(error, 'msg', error)}; each item of the array must be one "
                                 "whole JSON object") from None
            held += more


def _object(source: Path, place: str, values: Any) -> None:
    if not isinstance(values, dict):
        raise ValueError(f"{source}, {place}: it is not a JSON object; each row must be one")
