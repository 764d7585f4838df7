"""CSV and TSV, whatever separates: read strictly, each row with the line that it begins on."""

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from studykit.tasks.cells import LINE_END, Sheet, listed, need, twice

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "upright strokes"}
DECLARED = re.compile(r"\ufeff?\"?sep=([,;|\t])\"?[ \t]*(?=[\r\n])", re.I)  # how Excel is told what separates
SAMPLE, VOTERS = 100_000, 20  # characters, and rows in them, that tell what separates
QUOTED = r'(?<![^{0}\r\n])"[^"]*(?:""[^"]*)*"(?![^{0}\r\n])'  # a whole quoted value


def delimited(file: Path, text: str, wanted: tuple[str, ...]) -> Sheet:
    """CSV or TSV, whatever separates. Rows of empty values alone are no rows, and empty columns at the end are none."""
    csv.field_size_limit(2 ** 31 - 1)  # a long text is no error: it is cut at max_length tokens
    text, mark, names = layout(text, file.suffix.lower(), wanted)
    _names_first(file, text, names)
    quoted = quotes_enclose(text, mark, len(names))
    unread = twice(names)
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


def layout(text: str, suffix: str, wanted: Iterable[str]) -> tuple[str, str, list[str]]:
    """``(text, mark, names)``: a text without the line that says what separates, if it has one (that line stays, empty);
    what separates its values; and its columns."""
    if declared := DECLARED.match(text):
        text = text[declared.end():]
        return text, declared[1], _header(text, declared[1])
    return text, *separated(text, suffix, wanted)


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
