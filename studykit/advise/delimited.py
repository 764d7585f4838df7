"""CSV and TSV of any size, again with columns added: each row stands in the new file as it stood in the old, with values put
at its end."""

import csv
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from studykit.advise import files
from studykit.tasks import sheets

HEAD = 1 << 20  # characters that tell how a file is laid out


def _whole(head: str) -> str:
    """The beginning of a file up to the last line at whose end no quote is open: no half row."""
    end = whole = quotes = 0
    for match in sheets.LINE_END.finditer(head):
        quotes, end = quotes + head.count('"', end, match.end()), match.end()
        whole = whole if quotes % 2 else end
    return head[:whole or end or len(head)]


def fill(source: Path, given: TextIO, written: TextIO, columns: Sequence[str], added: files.Added,
         answer: files.Answer, size: Callable[[], int]) -> tuple[str, list[str]]:
    """CSV or TSV. Rows of empty values alone are no rows: they get empty values."""
    csv.field_size_limit(2 ** 31 - 1)
    head = given.read(HEAD)
    if len(head) == HEAD:
        head = _whole(head)
    files.some(source, len(head.removeprefix("\ufeff").strip()))
    head = head.lstrip("\ufeff")
    text, mark, names = sheets.layout(head, source.suffix.lower(), columns)
    quoted = sheets.quotes_enclose(text, mark, len(names))
    files.need(source, columns, names, twice=True)
    given.seek(0)
    called, places = files.free([name for name, _ in added], names), [names.index(column) for column in columns]
    records, width = _records(source, given, mark, quoted), 0
    if len(text) < len(head):  # it begins with a line that says what separates
        written.write(next(records)[0])
    while not width:  # what stands before the header stays there
        raw, values, _ = next(records)
        width = len(values) if any(values) else 0
        written.write(_ended(raw, called, mark, quoted) if width else raw)
    rows = 0
    while chunk := list(itertools.islice(records, size())):
        real = [values for _, values, line in chunk if _is_row(source, values, line, names, mark)]
        texts = [tuple(sheets.LINE_END.sub("\n", values[place]) for place in places) for values in real]
        answers = iter(answer(texts, files.share(source, given))) if texts else iter(())
        for raw, values, _ in chunk:
            new = next(answers) if any(values) else [""] * len(added)
            raw = raw if len(values) == width or not values else _refitted(raw, values, width, mark, quoted)
            written.write(_ended(raw, new, mark, quoted) if values else raw)
        rows += len(texts)
    files.some(source, rows)
    return f"separated by {sheets.DELIMITERS[mark]}" + ("" if quoted else ", quotes are text"), called


def _records(source: Path, given: TextIO, mark: str, quoted: bool) -> Iterator[tuple[str, list[str], int]]:
    """``(raw, values, line)``: each record as it stands in the file, what it holds, the line that it begins on."""
    raw: list[str] = []

    def lines() -> Iterator[str]:
        for number, line in enumerate(given):
            raw.append(line)
            yield line.lstrip("\ufeff") if number == 0 else line

    reader = csv.reader(lines(), delimiter=mark, strict=True, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    begin = 1
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{source}, line {begin}: its quotes are not balanced ({error}); each row must be one whole "
                             "row of CSV, with a quote within quotes written twice") from None
        yield "".join(raw), values, begin
        raw.clear()
        begin = reader.line_num + 1


def _is_row(source: Path, values: list[str], line: int, names: list[str], mark: str) -> bool:
    """Whether a record is a row. Raises ``ValueError`` where it has other values than there are columns."""
    if any(values) and (len(values) < len(names) or any(values[len(names):])):
        many = f"{len(values)} value{'s' * (len(values) > 1)}"
        raise ValueError(f"{source}, line {line}: it has {many} for the {len(names)} columns {sheets.listed(names)}; a text "
                         f"that holds {sheets.DELIMITERS[mark]} must stand in double quotes")
    return any(values)


def _refitted(raw: str, values: list[str], width: int, mark: str, quoted: bool) -> str:
    """A record with as many empty values at its end as the header has, so that what is added stands in its column."""
    body, end = _apart(raw)
    return (body + mark * (width - len(values)) if len(values) < width else _line(values[:width], mark, quoted)) + end


def _apart(raw: str) -> tuple[str, str]:
    """A record and the end of its line."""
    body = raw.removesuffix("\n").removesuffix("\r")
    return body, raw[len(body):]


def _ended(raw: str, values: Sequence, mark: str, quoted: bool) -> str:
    body, end = _apart(raw)
    return body + mark + _line(values, mark, quoted) + end


def _line(values: Sequence, mark: str, quoted: bool) -> str:
    values = ["" if value is None else value for value in values]
    if not quoted:
        return mark.join(" ".join(str(value).split()) for value in values)  # a tab or line break would end the value
    line = io.StringIO()
    csv.writer(line, delimiter=mark, lineterminator="").writerow(values)
    return line.getvalue()
