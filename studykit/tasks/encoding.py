"""Rows as tokens: what a model trains on."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from studykit.tasks.task import Task, get

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encodings:
    """Tokenised examples. ``columns[key][i]`` are the tokens of example ``i``, ``texts[i]`` its texts, where they are known;
    ``labels`` has shape (n,)."""

    columns: dict
    labels: np.ndarray
    pad: dict
    texts: Sequence[tuple[str, ...]] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        return np.array([len(tokens) for tokens in self.columns["input_ids"]])

    def take(self, indices) -> "Encodings":
        """The examples at these indices, in this order."""
        columns = {key: [values[i] for i in indices] for key, values in self.columns.items()}
        return Encodings(columns, self.labels[indices], self.pad, [self.texts[i] for i in indices] if self.texts else ())

    def labelled(self, labels: np.ndarray) -> "Encodings":
        """The same examples with other labels, such as standardised ones."""
        return Encodings(self.columns, labels, self.pad, self.texts)

    @functools.cached_property
    def _flat(self) -> tuple[dict, np.ndarray]:
        """The tokens of all examples one after another, by column, and where each example's begin."""
        flat = {key: np.fromiter(itertools.chain.from_iterable(values), np.int64) for key, values in self.columns.items()}
        return flat, np.cumsum(self.lengths) - self.lengths

    def batch(self, indices) -> dict:
        """Model inputs of shape (len(indices), longest of them): padded to the longest member, no further."""
        import torch

        (flat, starts), rows = self._flat, np.asarray(indices)
        places = np.arange(self.lengths[rows].max())
        real = places < self.lengths[rows][:, None]
        tokens, padded = (starts[rows][:, None] + places)[real], {}
        for key, values in flat.items():
            padded[key] = np.full(real.shape, self.pad[key], dtype=np.int64)
            padded[key][real] = values[tokens]
        return {key: torch.from_numpy(values) for key, values in padded.items()}


def encode(task: str | Path | Task, data: "Dataset", tokenizer: "PreTrainedTokenizerBase",
           max_length: int = 128) -> Encodings:
    """``Encodings`` of one split, cut at ``max_length`` tokens. Raises ``ValueError`` where that leaves no room for text."""
    task = get(task)
    special = tokenizer.num_special_tokens_to_add(pair=len(task.columns) == 2)
    if max_length < special + len(task.columns):
        raise ValueError(f"max_length must be at least {special + len(task.columns)}, for {special} special tokens and one "
                         f"of each text, got {max_length}")
    texts = [data[column][:] for column in task.columns]
    tokens = tokenizer(*texts, truncation=True, max_length=max_length,
                       return_attention_mask=True)
    pad = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id, "attention_mask": 0}
    columns = {key: values for key, values in tokens.items() if key in pad}
    labels = np.array(data[task.label if task.label in data.column_names else "label"][:],
                      dtype=np.int64 if task.labels else np.float32)
    return Encodings(columns, labels, pad, list(zip(*texts, strict=True)))


@dataclass(frozen=True)
class Scale:
    """How a number is trained: minus ``mean``, over ``deviation``."""

    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, task: Task, labels: np.ndarray) -> "Scale":
        """By the training labels, where the task is a number that is standardised."""
        if task.labels or not task.standardise:
            return cls()
        return cls(float(np.mean(labels, dtype=float)), float(np.std(labels, dtype=float)) or 1.0)

    def shrunk(self, labels: np.ndarray) -> np.ndarray:
        """As trained on."""
        return labels if self == Scale() else ((labels - self.mean) / self.deviation).astype(labels.dtype)

    def grown(self, answers: np.ndarray) -> np.ndarray:
        """As given."""
        return answers if self == Scale() else answers * self.deviation + self.mean
