"""Open a model that was kept, and let it predict."""

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studykit import Later, tasks
from studykit.advise import floors, keeping
from studykit.advise.calibration import probabilities
from studykit.tasks import Task, sheets

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from studykit import methods, training
    from studykit.models import encoders, families, trial
    from studykit.training import machine
else:
    pd, methods, training, encoders, families, trial, machine = map(Later, (
        "pandas", "studykit.methods", "studykit.training", "studykit.models.encoders", "studykit.models.families",
        "studykit.models.trial", "studykit.training.machine"))

Rows = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Model:
    """A model that was kept. ``read`` gives its outputs for rows of texts, shape (n, outputs), and how many were cut."""

    folder: Path
    about: dict[str, Any]  # what studykit.json holds
    task: Task
    read: Callable[[Rows], tuple[np.ndarray, int]]

    def predict(self, texts: Iterable) -> "pd.DataFrame":
        """A row for each text, or pair of texts where the task has two: ``label`` and its ``probability``; or, of a number,
        ``value`` and the ends of its 80 % interval, ``low`` and ``high``, NaN where the folder has none.

        ``attrs["cut"]`` is the share of rows with more tokens than the model is given. Raises ``ValueError`` for what is
        not text.
        """
        rows = self._rows(texts)
        if not rows:
            return pd.DataFrame(columns=self.columns)
        found, cut = self.answers(rows)
        frame = pd.DataFrame(dict(zip(self.columns, found, strict=True)))
        frame.attrs["cut"] = cut / len(rows)
        return frame

    @property
    def columns(self) -> tuple[str, ...]:
        return ("label", "probability") if self.task.labels else ("value", "low", "high")

    def answers(self, rows: Rows) -> tuple[tuple, int]:
        """What ``columns`` name, an array of length n each, and how many rows were cut."""
        outputs, cut = self.read(rows)
        if self.task.labels:
            shares = probabilities(outputs, 1.0 if self.about.get("folded") else self.about["temperature"])
            best = shares.argmax(1)
            return (np.array(self.task.labels, dtype=object)[best], shares[np.arange(len(rows)), best]), cut
        values = outputs[:, 0].astype(float)
        if scale := not self.about.get("folded") and self.about.get("scale"):
            values = tasks.Scale(**scale).grown(values)
        half = np.nan if self.about["half_width"] is None else self.about["half_width"]
        return (values, values - half, values + half), cut

    def _rows(self, texts: Iterable) -> list[tuple[str, ...]]:
        many, rows = len(self.task.columns), []
        if isinstance(texts, str):
            raise ValueError(f"predict takes a list of texts, got one text {texts!r:.80}: put it in brackets")
        for place, given in enumerate(texts):
            row = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else ()
            if len(row) != many or not all(map(sheets.sound, row)):
                wanted = "one text" if many == 1 else f"a pair of texts, {' and '.join(self.task.columns)}"
                raise ValueError(f"texts[{place}] is {given!r:.80}: it must be {wanted}")
            rows.append(tuple(sheets.LINE_END.sub("\n", text) for text in row))
        return rows


def load(folder: str | Path, encoder: str = "") -> Model:
    """The model of a folder that ``keeping`` wrote. ``encoder`` says where the encoder is that it was trained on, if the
    folder needs it and it is not where it was. Raises ``ValueError`` or ``FileNotFoundError``, in one sentence."""
    folder = keeping.recovered(Path(folder).expanduser())
    about = _about(folder)
    task = tasks.made(about["task"], f"{folder / keeping.ABOUT}: task")
    read = {"transformers": _plain, "studykit": _tuned, "floor": _floor}[about["kind"]](folder, about, task, encoder)
    return Model(folder, about, task, read)


def _about(folder: Path) -> dict[str, Any]:
    file = folder / keeping.ABOUT
    if not file.is_file():
        problem = f"has no {keeping.ABOUT}" if folder.is_dir() else "is not a folder" if folder.exists() else "is not there"
        raise FileNotFoundError(f"{folder} {problem}, so it is no model that was kept here: give the folder that --data "
                                "wrote, runs/<name>/model")
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        if (about["format"], about["kind"] in ("transformers", "studykit", "floor")) != (keeping.FORMAT, True):
            raise ValueError(f"its format is {about['format']}, its kind {about['kind']}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not as this version of studykit writes it ({error}): keep the model anew") from None
    return about


def _plain(folder: Path, about: dict, task: Task, _: str) -> Callable:
    """A folder that transformers opens."""
    from transformers import AutoModelForSequenceClassification

    with encoders.opening("weights", folder):
        model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True, trust_remote_code=False,
                                                                   dtype="float32")
    tokenizer = _tokenizer(folder)
    model = model if families.family(model.config) else trial.passed(model, tokenizer, str(folder))
    return functools.partial(_outputs, model.to(machine.best_device()).eval(), tokenizer, about, task)


def _tuned(folder: Path, about: dict, task: Task, encoder: str) -> Callable:
    model = methods.load(folder / keeping.TUNED, _found(folder, about, encoder))
    return functools.partial(_outputs, model.to(machine.best_device()), _tokenizer(folder), about, task)


def _outputs(model, tokenizer: "PreTrainedTokenizerBase", about: dict, task: Task, rows: Rows) -> tuple[np.ndarray, int]:
    encodings, cut = _encoded(tokenizer, about["max_length"], task, rows)
    return training.logits(model, encodings), cut


def _floor(folder: Path, about: dict, task: Task, encoder: str) -> Callable:
    """A floor's arrays and words are data: nothing of them is run."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays, words = load_file(folder / keeping.FLOOR), folder / keeping.WORDS_OF_FLOOR
        vocabulary = tuple(json.loads(words.read_text(encoding="utf-8"))["vocabulary"]) if words.is_file() else None
        floor = floors.Floor(about["method"], about["title"], arrays["weights"], arrays["intercept"], vocabulary,
                             arrays.get("idf"))
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"the floor in {folder} cannot be read ({error}): keep it anew") from None
    if floor.name != "embedding":
        return lambda rows: (floors.outputs(floor, rows), 0)
    reader, tokenizer = floors.reader(_found(folder, about, encoder)), _tokenizer(folder)

    def read(rows: Rows) -> tuple[np.ndarray, int]:
        encodings, cut = _encoded(tokenizer, about["max_length"], task, rows)
        return floors.outputs(floor, rows, floors.embed(reader, encodings)), cut

    return read


def _found(folder: Path, about: dict, encoder: str) -> str:
    """Where the encoder is that the folder was trained on: as given, where it was, or what it is called."""
    tried = list(dict.fromkeys([encoder] if encoder else [about["encoder_at"], about["encoder"]]))
    problems = []
    for place in tried:
        try:
            if (weights := encoders.digest(place)) == about["weights"]:
                return place
            problems.append(f"{place} has weights {weights}")
        except (OSError, ValueError) as error:
            problems.append(" ".join(str(error).split()))
    raise FileNotFoundError(f"{folder} needs the encoder {about['encoder']} (weights {about['weights']}), which is not at "
                            f"{' or '.join(tried)} ({'; '.join(problems)}): say where it is, as --encoder or load(folder, "
                            "encoder)")


def _tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    with encoders.opening("tokenizer", folder):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def _encoded(tokenizer, max_length: int, task: Task, rows: Rows) -> tuple[tasks.Encodings, int]:
    """Rows as tokens, and how many of them have more than the model is given."""
    import datasets

    columns = {column: list(texts) for column, texts in zip(task.columns, zip(*rows, strict=True), strict=True)}
    encodings = tasks.encode(task, datasets.Dataset.from_dict({**columns, "label": [0] * len(rows)}), tokenizer, max_length)
    full = [row for row, length in zip(rows, encodings.lengths, strict=True) if length == max_length]
    whole = tokenizer(*map(list, zip(*full, strict=True)), verbose=False)["input_ids"] if full else []
    return encodings, sum(len(tokens) > max_length for tokens in whole)
