"""What rows of every kind of file have in common when columns are added to them; and Parquet."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from studykit.tasks import sheets

BATCH = 4096  # rows of a Parquet file that are held at once
Added = Sequence[tuple[str, type]]  # columns to add: name, and str or float
# Called with a chunk's texts and the share of the file that has been read, it gives the values to add, a row each.
Answer = Callable[[Sequence[tuple[str, ...]], float], Sequence[tuple]]


def free(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """The names, or, where one of them is taken, all of them with the first number that leaves none taken.

    >>> free(["predicted", "low"], ["text"]), free(["predicted", "low"], ["low", "low_2"])
    (['predicted', 'low'], ['predicted_3', 'low_3'])
    """
    tried = (list(names) if number == 1 else [f"{name}_{number}" for name in names] for number in itertools.count(1))
    return next(found for found in tried if not {*found} & {*taken})


def parquet(source: Path, target: Path, columns: Sequence[str], added: Added, answer: Answer,
            size: Callable[[], int]) -> tuple[str, list[str]]:
    """Other columns keep their types, and the file what it says of itself."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(source) as opened:
            schema, total = opened.schema_arrow, opened.metadata.num_rows
            need(source, columns, schema.names, twice=True)
            some(source, total)
            called, rows = free([name for name, _ in added], schema.names), 0
            fields = [pa.field(name, pa.string() if kind is str else pa.float64())
                      for name, (_, kind) in zip(called, added, strict=True)]
            for field in fields:
                schema = schema.append(field)
            with pyarrow.parquet.ParquetWriter(target, schema) as writer:
                for batch in opened.iter_batches(BATCH):
                    batch.validate(full=True)  # that its texts are UTF-8
                    texts = list(zip(*(_column(source, batch, column, rows) for column in columns), strict=True))
                    answers: list[tuple] = []
                    while len(answers) < len(texts):
                        part = texts[len(answers): len(answers) + size()]
                        answers += answer(part, (rows + len(answers) + len(part)) / total)
                    new = [pa.array(values, field.type) for values, field in zip(zip(*answers, strict=True), fields,
                                                                                strict=True)]
                    writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, *new], schema=schema))
                    rows += len(batch)
    except pa.ArrowException as error:
        raise ValueError(f"{source} is not a sound Parquet file ({str(error).splitlines()[0]}): fetch or write it "
                         "again") from None
    return "Parquet", called


def _column(source: Path, batch, column: str, rows: int) -> list[str]:
    return [text(source, f"row {rows + place}", column, value)
            for place, value in enumerate(batch.column(batch.schema.names.index(column)).to_pylist(), 1)]


def text(source: Path, place: str, column: str, value: Any) -> str:
    if not sheets.sound(value):
        problem = "holds half a character (a lone surrogate): mend it" if isinstance(value, str) else \
            "is not text: give it one, or an empty one"
        raise ValueError(f"{source}, {place}: {column} {value!r:.80} {problem}")
    return sheets.LINE_END.sub("\n", value)


def need(source: Path | str, columns: Sequence[str], names: Sequence[str], twice: bool = False) -> None:
    if missing := [column for column in columns if column not in names]:
        raise ValueError(f"{source}: column {sheets.listed(missing)} is missing; it has {sheets.listed(names) or 'none'}: "
                         "rename the column that holds the texts as it was called when the model was trained")
    if doubled := [column for column in columns if twice and names.count(column) > 1]:
        raise ValueError(f"{source}: column {doubled[0]} stands there {names.count(doubled[0])} times: rename the others")


def some(source: Path, rows: int) -> None:
    if not rows:
        raise ValueError(f"{source} has no rows: give a file with texts to predict for")


def share(source: Path, given: TextIO) -> float:
    """How much of the file has been read, from 0 to 1."""
    return given.buffer.tell() / max(1, source.stat().st_size)
