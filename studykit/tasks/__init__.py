"""The tasks: what they are, where their data is, and how a fraction of it is drawn."""

import csv
import functools
import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HUB = "nyu-mll/glue"
HUB_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
SELECTION_SHARE = 0.15  # of train, carved off to choose learning rates on; never the validation set


@dataclass(frozen=True)
class Task:
    """A GLUE task as data. ``labels`` is empty for regression; the first metric is the main one."""

    name: str
    columns: tuple
    labels: tuple
    metrics: tuple
    digest: str  # of the published train and validation rows

    @property
    def num_labels(self):
        return len(self.labels) or 1

    @property
    def metric(self):
        return self.metrics[0]


PAIR = ("sentence1", "sentence2")
TASKS = {task.name: task for task in (
    Task("mrpc", PAIR, ("not_equivalent", "equivalent"), ("f1", "accuracy"), "88a1280974a47d42"),
    Task("cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews_correlation",), "7aca181bac0f99b1"),
    Task("stsb", PAIR, (), ("pearson", "spearmanr"), "b2a38bfb52cdfba7"),
    Task("sst2", ("sentence",), ("negative", "positive"), ("accuracy",), "7b9e98f7f2cf0a6c"),
)}


def get(name):
    """The task of that name. Raises ``ValueError`` for an unknown one."""
    if not isinstance(name, str) or name not in TASKS:
        raise ValueError(f"unknown task {name!r}: choose from {', '.join(TASKS)}")
    return TASKS[name]


def load(name, source="hub"):
    """A task's train and validation sets as a ``datasets.DatasetDict`` with the task's columns and ``label``.

    ``source`` is ``"hub"`` (GLUE at a pinned revision), ``"mini"`` (the miniature, generated) or a folder: laid out as the
    hub's, ``<folder>/<task>/<split>-*.parquet``, or with one file a split, ``<folder>/<task>/<split>.csv``, ``.tsv``,
    ``.jsonl``, ``.json`` or ``.parquet``. Columns beyond the task's are left out. Raises ``FileNotFoundError`` where files
    are missing and ``ValueError`` where rows, columns or labels are not sound: nothing is repaired silently.
    """
    import datasets

    task = get(name)
    if source == "hub":
        try:
            data = datasets.load_dataset(HUB, name, revision=HUB_REVISION)
        except (OSError, ValueError) as error:
            raise FileNotFoundError(f"{name} is not here and could not be fetched from the hub ({type(error).__name__}): "
                                    f"give --source a folder laid out as a downloaded copy of {HUB}") from None
    elif source == "mini":
        from studykit.mini import corpus

        data = corpus.load(name)
    else:
        data = datasets.DatasetDict({split: _read(task, Path(source), split) for split in ("train", "validation")})
    return datasets.DatasetDict({split: _checked(task, data[split], split) for split in ("train", "validation")})


def _read(task, folder, split):
    """A split from its one kind of file."""
    import datasets

    here, patterns = folder / task.name, (f"{split}-*.parquet", *(f"{split}.{kind}" for kind in ("parquet", *LINE)))
    found = {pattern: files for pattern in patterns if (files := sorted(here.glob(pattern)))}
    if not found:
        raise FileNotFoundError(f"no {task.name} data at {here}: expected {', '.join(patterns[:-1])} or {patterns[-1]} "
                                f"there. Give --source a folder laid out as a downloaded copy of {HUB}, or --source hub")
    if len(found) > 1:
        raise ValueError(f"{here} holds {split} more than once, as {' and as '.join(found)}: keep one of them")
    (files,) = found.values()
    if folders := [file for file in files if not file.is_file()]:
        raise ValueError(f"{folders[0]} is a folder: it must be a file with the rows of {task.name} {split}")
    read = _parquet if files[0].suffix == ".parquet" else _lines
    return datasets.concatenate_datasets([datasets.Dataset(read(task, file)) for file in files])


def _parquet(_, file):
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
        table.validate(full=True)  # that its texts are UTF-8
    except (ValueError, OSError) as error:
        raise ValueError(f"{file} is not a sound Parquet file ({str(error).splitlines()[0]}): fetch or write it "
                         "again") from None
    return table


def _lines(task, file):
    """The table of a UTF-8 text file with a row in each line: CSV, TSV (without quoting, as GLUE has it) or JSON lines.

    A line that is no whole row is an error that names it, so that no quote can swallow the rows after it.
    """
    import pyarrow

    try:
        text = file.read_bytes().decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 at byte {error.start}: save it as UTF-8") from None
    kind, header, rows = file.suffix[1:], None, []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not line:
            continue
        try:
            values = LINE[kind](line)
            if kind in ("csv", "tsv") and header is None:
                header = values
                continue
            rows.append(_row(task, values if header is None else _by_name(header, values)))
        except ValueError as error:
            whole = "JSON object" if header is None else f"row of {kind.upper()}, the first the names of the columns"
            raise ValueError(f"{file}, line {number}: {getattr(error, 'msg', error)}; each line must be one whole "
                             f"{whole}") from None
    return pyarrow.Table.from_pylist(rows)


def _csv(line):
    csv.field_size_limit(2 ** 31 - 1)  # a long text is no error: it is cut at max_length tokens
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise ValueError(f"its quotes are not balanced ({error})") from None


LINE = {"csv": _csv, "tsv": lambda line: line.split("\t"), "jsonl": json.loads, "json": json.loads}  # kind -> reads a line


def _by_name(header, values):
    if len(values) != len(header) or len(set(header)) != len(header):
        raise ValueError(f"it has {len(values)} values for the columns {', '.join(header)}")
    return dict(zip(header, values, strict=True))


def _row(task, values):
    """The task's columns of a line, its label as a number."""
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    if missing := [column for column in (*task.columns, "label") if column not in values]:
        raise ValueError(f"column {', '.join(missing)} is missing; the file has {', '.join(values)}")
    if bad := [column for column in task.columns if not isinstance(values[column], str)]:
        raise ValueError(f"{bad[0]} {values[bad[0]]!r:.80} is not text")
    label = values["label"]
    try:
        number = float(None if isinstance(label, bool) else label)
    except (TypeError, ValueError):
        raise ValueError(f"label {label!r:.80} is not a number") from None
    return {**{column: values[column] for column in task.columns},
            "label": int(number) if number in range(len(task.labels)) else number}


def _checked(task, data, split):
    """The columns that the task needs, once they are known to be sound."""
    wanted = [*task.columns, "label"]
    where, low, high = f"{task.name} {split}", 0, len(task.labels) - 1 if task.labels else 5
    if not len(data):
        raise ValueError(f"{where}: the file has no rows; give it at least two, with different labels")
    if missing := [column for column in wanted if column not in data.column_names]:
        raise ValueError(f"{where}: column {', '.join(missing)} is missing; the file has {', '.join(data.column_names)}: "
                         "rename what it holds")
    data = data.select_columns(wanted)
    for column in task.columns:
        texts = data[column][:]
        if bad := sum(not isinstance(text, str) for text in texts):
            raise ValueError(f"{where}: {bad} values of column {column} are not text: every row needs one")
        if bad := sum(not text.strip() for text in texts):
            raise ValueError(f"{where}: {bad} texts of column {column} are empty: fill them in or take these rows out")
    given = data["label"][:]
    if wrong := [label for label in given if isinstance(label, bool) or not isinstance(label, int | float | None)]:
        raise ValueError(f"{where}: label {wrong[0]!r:.80} is not a number: expected {low} to {high}")
    labels = np.array(given, dtype=float)  # a label that is missing becomes NaN
    if not np.isfinite(labels).all():
        raise ValueError(f"{where}: {np.sum(~np.isfinite(labels))} labels are missing or not finite: expected {low} "
                         f"to {high}")
    if (wrong := (labels < low) | (labels > high) | (bool(task.labels) & (labels % 1 != 0))).any():
        raise ValueError(f"{where}: label {labels[wrong][0]:g} is out of range, expected {low} to {high}")
    if (labels == labels[0]).all():
        raise ValueError(f"{where}: every label is {labels[0]:g}; at least two different ones are needed")
    return data


def digest(data):
    """A SHA-256 over all rows of all splits, independent of how the files are stored (first 16 hex digits).

    Similarities count as the 32-bit numbers that GLUE's are, and that training takes: text files have more or fewer digits.
    """
    sha = hashlib.sha256()
    for split in sorted(data):
        for row in data[split].to_pandas().itertuples(index=False):
            said = [str(float(np.float32(value)) if isinstance(value, float) else value) for value in row]
            sha.update(json.dumps([split, *said], ensure_ascii=False).encode())
    return sha.hexdigest()[:16]


def strata(name, labels):
    """The stratum of each example: its class, or for regression the fifth of the label range that it lies in."""
    labels = np.asarray(labels, dtype=float)
    return labels.astype(int) if get(name).labels else np.minimum(labels.astype(int), 4)


def stratified_order(groups, seed):
    """A random order of all examples in which every beginning has each group in its share: to within one example for two
    groups, less than two for more.

    So the first 10 % lie inside the first 30 %: fractions nest.
    """
    rng = np.random.default_rng(seed)
    key = np.empty(len(groups))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        key[rng.permutation(members)] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    return np.argsort(key, kind="stable")


def subset(name, labels, fraction, seed):
    """Indices of a stratified fraction of the examples, in ascending order. Smaller fractions of one seed lie inside
    larger ones.

    >>> a, b = (set(subset("cola", [0, 1, 1] * 20, fraction, seed=3)) for fraction in (0.1, 0.3))
    >>> len(a), len(b), a <= b
    (6, 18, True)
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], got {fraction:g}")
    size = max(1, round(fraction * len(labels)))
    return np.sort(stratified_order(strata(name, labels), [seed, 1])[:size])


def selection_split(name, labels):
    """``(rest, selection)``: indices of train without, and of, the part that learning rates are chosen on.

    It is the same for every seed, method and fraction.
    """
    order = stratified_order(strata(name, labels), [0, 2])
    cut = round(SELECTION_SHARE * len(labels))
    return np.sort(order[cut:]), np.sort(order[:cut])


@dataclass(frozen=True)
class Encodings:
    """Tokenised examples. ``columns[key][i]`` are the tokens of example ``i``; ``labels`` has shape (n,)."""

    columns: dict
    labels: np.ndarray
    pad: dict

    def __len__(self):
        return len(self.labels)

    @functools.cached_property
    def lengths(self):
        return np.array([len(tokens) for tokens in self.columns["input_ids"]])

    def take(self, indices):
        """The examples at these indices, in this order."""
        columns = {key: [values[i] for i in indices] for key, values in self.columns.items()}
        return Encodings(columns, self.labels[indices], self.pad)

    def batch(self, indices):
        """Model inputs of shape (len(indices), longest of them): padded to the longest member, no further."""
        import torch

        batch = {key: torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(values[i]) for i in indices], batch_first=True, padding_value=self.pad[key])
            for key, values in self.columns.items()}
        return batch


def encode(name, data, tokenizer, max_length=128):
    """``Encodings`` of one split, cut at ``max_length`` tokens."""
    task = get(name)
    tokens = tokenizer(*[data[column][:] for column in task.columns], truncation=True, max_length=max_length)
    pad = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id, "attention_mask": 0}
    columns = {key: values for key, values in tokens.items() if key in pad}
    labels = np.array(data["label"][:], dtype=np.int64 if task.labels else np.float32)
    return Encodings(columns, labels, pad)


def scores(name, predictions, labels):
    """All metrics of a task, on a scale from 0 (or -1) to 1, main metric first.

    ``predictions`` are classes, or values for regression, of shape (n,). A correlation with a constant is NaN.
    Computed by scikit-learn and SciPy, as the GLUE metric of ``evaluate`` does.

    >>> scores("mrpc", [1, 0, 1, 1], [1, 0, 1, 0])
    {'f1': 0.8, 'accuracy': 0.75}
    """
    return {metric: METRICS[metric](np.asarray(labels), np.asarray(predictions)) for metric in get(name).metrics}


def _f1(labels, predictions):
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, zero_division=0))


def _matthews(labels, predictions):
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def _correlation(kind):
    def correlation(labels, predictions):
        import scipy.stats

        if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
            return float("nan")
        with warnings.catch_warnings():  # a run that hardly varies its answers is told of in its record
            warnings.simplefilter("ignore", scipy.stats.NearConstantInputWarning)
            return float(getattr(scipy.stats, kind)(predictions, labels).statistic)

    return correlation


METRICS = {
    "accuracy": lambda labels, predictions: float(np.mean(labels == predictions)),
    "f1": _f1,
    "matthews_correlation": _matthews,
    "pearson": _correlation("pearsonr"),
    "spearmanr": _correlation("spearmanr"),
}
METRIC_NAMES = {"accuracy": "accuracy", "f1": "F1", "matthews_correlation": "Matthews correlation",
                "pearson": "Pearson correlation", "spearmanr": "Spearman correlation"}


def metric(name):
    """A task's metrics as an ``evaluate.Metric`` that needs no network: what ``evaluate.load("glue", name)`` gives."""
    import datasets
    import evaluate

    task = get(name)
    kind = datasets.Value("int64" if task.labels else "float32")

    class Glue(evaluate.Metric):
        def _info(self):
            return evaluate.MetricInfo(
                description=f"GLUE {name}", citation="Wang et al. 2019, arXiv 1804.07461",
                features=datasets.Features({"predictions": kind, "references": kind}))

        def _compute(self, predictions, references):
            return scores(name, predictions, references)

    return Glue(config_name=name, keep_in_memory=True)


def baselines(name, data):
    """Scores on validation of what needs no understanding: a linear model on the lengths of an example's sentences, and on
    the share of words that they have in common too. ``{"length": score, "length and overlap": score}``, main metric, 0 to 1.
    """
    from sklearn.linear_model import LinearRegression, LogisticRegression

    task, found = get(name), {}
    for features in ("length", "length and overlap")[: len(task.columns)]:
        seen = {split: [_surface([row[column] for column in task.columns], features) for row in rows]
                for split, rows in data.items()}
        model = LogisticRegression() if task.labels else LinearRegression()
        model.fit(seen["train"], data["train"]["label"][:])
        predicted = model.predict(seen["validation"])
        found[features] = scores(name, predicted, data["validation"]["label"][:])[task.metric]
    return found


def _surface(texts, features):
    words = [text.lower().replace(",", "").rstrip(".").split() for text in texts]
    lengths = [len(each) for each in words]
    shared = len(set(words[0]) & set(words[-1])) / len({*words[0], *words[-1]})
    return [*lengths, abs(lengths[0] - lengths[-1]), *([shared] if "overlap" in features else [])]
