"""A model's answers to the rows of a file of any size: the same file again, with columns added."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from studykit import Later
from studykit.advise import delimited, files, objects, predicting
from studykit.study import progress
from studykit.tasks import sheets

if TYPE_CHECKING:
    import torch
else:
    torch = Later("torch")

FEWEST, MOST = 64, 4096  # rows of a chunk: as many as take about SECONDS
SECONDS = 2.0
DIGITS = 6  # of the numbers that are written to a file
QUIET, LINES = 2.0, 20  # seconds between lines of progress at first; later a share of what has passed


def predict_file(file: str | Path, model: str | Path, out: str | Path = "", encoder: str = "") -> str:
    """Write a file's rows with the model's answers added, and return what was done in a sentence.

    All columns are kept. Added are ``predicted`` and ``probability``, or for a number ``predicted``, ``low`` and ``high``.
    ``out`` is ``<name>.predicted.<kind>`` in the working folder, if nothing else is said; it is written whole or not at
    all. Raises ``ValueError`` or ``OSError``, in one sentence, where the file, the model or ``out`` will not do.
    """
    file = Path(file)
    if not file.is_file():
        problem = "is a folder" if file.is_dir() else "is not there"
        raise FileNotFoundError(f"{file} {problem}: give a file with texts to predict for")
    if file.suffix[1:].lower() not in sheets.KINDS:
        raise ValueError(f"{file} is of a kind that is not read here: save it as one of {', '.join(sheets.KINDS)}")
    out = _out(file, Path(out or named(file)))
    opened, temporary = predicting.load(model, encoder), out.with_name(f".{out.stem}.{os.getpid()}.tmp{out.suffix}")
    names = ("predicted", *opened.columns[1:])
    added = [(name, str if name == "predicted" and opened.task.labels else float) for name in names]
    try:
        with Pace(opened) as pace:
            layout, called = _filled(file, temporary, opened.task.columns, added, pace.answer, pace.size)
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    renamed = "" if called == list(names) else " (the file has columns of these names already, hence the number)"
    cut = f"; {100 * pace.cut / pace.rows:.1f} % of them have more than the {opened.about['max_length']} tokens that the " \
        "model is given, and were cut" if pace.cut else ""
    return f"{pace.rows:,} rows of {file.name} ({layout}) are in {out}, with {', '.join(called)}{renamed}{cut}."


def named(file: Path) -> str:
    """What the file with predictions is called, if nothing else is said."""
    return f"{file.stem}.predicted{file.suffix}"


def _out(file: Path, out: Path) -> Path:
    """Where it is written to, once it is known that it can be."""
    if out.suffix.lower() != file.suffix.lower():
        raise ValueError(f"{out} must end in {file.suffix}, as {file.name} does: it holds the same rows in the same way")
    if out.exists() and file.exists() and out.samefile(file):
        raise ValueError(f"{out} is the file that is read: give --out another name")
    if out.is_dir() or not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        problem = "is a folder" if out.is_dir() else "lies in no folder that is there" if not out.parent.is_dir() else \
            "lies in a folder that is not yours to write to"
        raise OSError(f"{out} cannot be written, since it {problem}: give --out another place")
    return out


class Pace:
    """Answers chunk by chunk, of a size that takes about two seconds, and says how far it is.

    Within, an encoder computes with one thread or with all, whichever was quicker when last tried: beside other programs
    one may be far quicker, since threads wait for one another. Both are tried at the beginning, and then ever more seldom.
    """

    def __init__(self, model: predicting.Model):
        self.model, self.rows, self.cut, self.chunks, self.most = model, 0, 0, 0, FEWEST
        self.line, self.begin, self.shown = progress.Line(), time.monotonic(), time.monotonic()
        self.every = torch.get_num_threads() if model.about["weights"] else 1
        self.speeds = {self.every: 0.0}  # characters a second, by number of threads

    def __enter__(self) -> "Pace":
        return self

    def __exit__(self, *_) -> None:
        self._set(self.every)

    @property
    def trying(self) -> bool:
        """Whether the next chunk is computed with the other number of threads."""
        return self.every > 1 and self.chunks > 0 and self.chunks & (self.chunks - 1) == 0

    def size(self) -> int:
        """Rows of the next chunk, at most."""
        return FEWEST if self.trying else self.most

    def answer(self, texts: predicting.Rows, share: float) -> list[tuple]:
        """A row of values for each row of texts; ``share`` of the file has been read."""
        trying, quickest = self.trying, max(self.speeds, key=self.speeds.__getitem__)
        threads = 1 + self.every - quickest if trying else quickest
        self._set(threads)
        begin = time.monotonic()
        found, cut = self.model.answers(texts)
        now = time.monotonic()
        self.speeds[threads] = sum(1 + len(text) for row in texts for text in row) / (now - begin + 1e-9)
        self.rows, self.cut, self.chunks = self.rows + len(texts), self.cut + cut, self.chunks + 1
        if not trying and len(texts) == self.most:
            self.most = min(MOST, 2 * self.most) if now - begin < SECONDS / 2 else \
                max(FEWEST, self.most // 2) if now - begin > 2 * SECONDS else self.most
        elapsed = now - self.begin
        if now - self.shown >= max(QUIET, elapsed / LINES):
            self.shown = now
            self.line.show(f"{self.rows:,} rows, {self.rows / elapsed:,.3g} a second, about "
                           f"{progress.duration(elapsed * (1 / max(share, 1e-9) - 1))} left")
        return list(zip(*map(_written, found), strict=True))

    def _set(self, threads: int) -> None:
        if self.every > 1:
            torch.set_num_threads(threads)


def _written(values: np.ndarray) -> list:
    """Values as a file has them; ``None`` where there is none."""
    if values.dtype == object:
        return list(values)
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in values]


def _filled(source: Path, target: Path, columns: Sequence[str], added: files.Added, answer: files.Answer,
            size: Callable[[], int]) -> tuple[str, list[str]]:
    """Write ``source`` to ``target`` with columns added, and return how it is laid out and what they are called there.

    ``columns`` are those with the texts; where the file has one of the ``added`` already, all get the same number at their
    end. ``answer`` is given the texts of at most ``size()`` rows. Raises ``ValueError``, with file and line, for what is not
    sound.
    """
    if (kind := source.suffix[1:].lower()) == "parquet":
        return files.parquet(source, target, columns, added, answer, size)
    fill = delimited.fill if kind in ("csv", "tsv") else objects.fill
    with open(source, encoding="utf-8", newline="") as given, open(target, "w", encoding="utf-8", newline="") as written:
        try:
            return fill(source, given, written, columns, added, answer, size)
        except UnicodeDecodeError:
            raise ValueError(f"{source}, line {_broken(source)}: it is not UTF-8: save the file as UTF-8") from None


def _broken(source: Path) -> int:
    """The line of the first byte that is not UTF-8."""
    with open(source, encoding="utf-8", errors="surrogateescape", newline="") as given:
        return next(number for number, line in enumerate(given, 1) if not sheets.sound(line))
