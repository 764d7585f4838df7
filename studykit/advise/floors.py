"""Floors that need no fine-tuning, as values: a constant, TF-IDF or the frozen encoder's mean embedding with a linear model.

A fine-tuned model must beat them to be worth its minutes. A floor is a few arrays, so it can be kept and opened without
running anybody's code.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from studykit import Later, tasks
from studykit.tasks import Encodings, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from studykit.models import encoders, families
    from studykit.training import machine
else:
    encoders, families, machine = map(Later, ("studykit.models.encoders", "studykit.models.families",
                                              "studykit.training.machine"))

WORDS = {"ngram_range": (1, 2), "sublinear_tf": True, "lowercase": True}  # how TF-IDF counts words and pairs of them
FEATURES = 50_000  # of the commonest words and pairs, at most
BATCH = 64
ROUNDS = 50  # of the solver, at most
ABSENT = -30.0  # the logit of a class without rows to learn from
# How strongly a linear model is held back, the strongest first: 1 / C for classes, alpha for a number.
STRENGTHS = {("tfidf", "classes"): (1.0, 0.1), ("embedding", "classes"): (10.0, 1.0, 0.1),
             ("tfidf", "number"): (10.0, 1.0, 0.1), ("embedding", "number"): (1000.0, 100.0, 10.0)}


@dataclass(frozen=True)
class Floor:
    """``outputs`` are logits, or numbers: ``features @ weights + intercept``.

    ``name`` is ``majority``, ``mean``, ``tfidf`` or ``embedding``. ``weights`` has shape (features, outputs), no features
    for a constant; ``intercept`` (outputs,). ``vocabulary`` are TF-IDF's words and pairs in the order of its features, and
    ``idf`` their weights.
    """

    name: str
    title: str
    weights: np.ndarray
    intercept: np.ndarray
    vocabulary: tuple[str, ...] | None = None
    idf: np.ndarray | None = None

    @property
    def constant(self) -> bool:
        """Whether it answers all texts alike."""
        return not self.weights.size


def outputs(floor: Floor, texts: Sequence[tuple[str, ...]], embeddings: np.ndarray | None = None) -> np.ndarray:
    """Logits or numbers of shape (n, outputs). ``embeddings`` are those of the texts, for the floor that reads them."""
    if floor.vocabulary is not None:
        features = _vectorizer(floor).transform(_joined(texts))
    elif floor.name == "embedding":
        if embeddings is None:
            raise ValueError(f"the floor {floor.title} reads embeddings of the texts: give them")
        features = embeddings
    else:
        features = np.zeros((len(texts), 0))
    return np.asarray(features @ floor.weights, dtype=float) + floor.intercept


def fit(task: Task, texts: Sequence[tuple[str, ...]], labels: npt.ArrayLike,
        embeddings: np.ndarray | None = None, only: str = "") -> list[Floor]:
    """The floors of these rows, or the one of that title ``only``: a constant; TF-IDF, unless no text has a word of two
    letters; and, where ``embeddings`` of shape (n, width) are given, those. How strongly a linear model is held back is
    chosen by the task's metric on a fifth of the rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    labels, kind = np.asarray(labels), "classes" if task.labels else "number"
    ending = "logistic regression" if task.labels else "ridge regression"
    floors = [_constant(task, labels)]
    vectorizer, title = TfidfVectorizer(max_features=FEATURES, **WORDS), f"TF-IDF + {ending}"
    try:
        counted = vectorizer.fit_transform(_joined(texts)) if only in ("", title) else None
    except ValueError:  # no words at all
        counted = None
    if counted is not None:
        weights, intercept = _chosen(task, counted, labels, texts, STRENGTHS["tfidf", kind])
        words = tuple(map(str, vectorizer.get_feature_names_out()))
        floors.append(Floor("tfidf", title, weights, intercept, words, vectorizer.idf_))
    title = f"embeddings + {ending}"
    if embeddings is not None and only in ("", title):
        mean, deviation = embeddings.mean(0, dtype=float), embeddings.std(0, dtype=float)
        deviation[deviation == 0] = 1.0
        standard = (embeddings - mean) / deviation
        weights, intercept = _chosen(task, standard, labels, texts, STRENGTHS["embedding", kind])
        weights = weights / deviation[:, None]  # so that it reads embeddings as they are
        floors.append(Floor("embedding", title, weights, intercept - mean @ weights))
    return [floor for floor in floors if only in ("", floor.title)]


def embeddings(encoder_at: str, encodings: Encodings) -> np.ndarray:
    """The frozen encoder's mean embeddings, of shape (n, width): the mean over real tokens of its last layer."""
    return embed(reader(encoder_at), encodings)


def reader(encoder_at: str) -> "PreTrainedModel":
    """The encoder alone, in evaluation mode, on the best device."""
    return encoders.load(encoder_at, pooler="new").base_model.to(machine.best_device()).eval()


def embed(encoder: "PreTrainedModel", encodings: Encodings) -> np.ndarray:
    """``embeddings`` by an encoder that is loaded already; the longest texts first, with texts of like length."""
    import torch

    device = next(encoder.parameters()).device
    found: dict[int, np.ndarray] = {}
    with torch.no_grad():
        for rows in _batches(encodings.lengths, alike=families.family(encoder.config) is None):
            batch = {key: values.to(device) for key, values in encodings.batch(rows).items()}
            hidden = encoder(**batch).last_hidden_state
            means = families.pool(hidden, "mean", batch.get("attention_mask")).float().cpu().numpy()
            found.update(zip(rows, means, strict=True))
    return np.stack([found[row] for row in range(len(encodings))])


def _batches(lengths: np.ndarray, alike: bool) -> Iterator[np.ndarray]:
    """Rows of a batch each, the longest first; ``alike``: of one length each, for encoders that may mix padding in."""
    order = np.argsort(-lengths, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1) if alike else [order]
    for part in parts:
        yield from np.split(part, range(BATCH, len(part), BATCH))


def _joined(texts: Sequence[tuple[str, ...]]) -> list[str]:
    return ["\n".join(row) for row in texts]


def _vectorizer(floor: Floor):
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(vocabulary=floor.vocabulary, **WORDS)
    vectorizer.idf_ = floor.idf
    return vectorizer


def _constant(task: Task, labels: np.ndarray) -> Floor:
    """The mean, or the shares of the classes; one without rows counts half a row."""
    if not task.labels:
        return Floor("mean", "mean", np.zeros((0, 1)), np.array([labels.mean(dtype=float)]))
    counts = np.maximum(np.bincount(labels.astype(int), minlength=task.num_labels), 0.5)
    return Floor("majority", "majority", np.zeros((0, task.num_labels)), np.log(counts / counts.sum()))


def _chosen(task: Task, features, labels: np.ndarray, texts: Sequence[tuple[str, ...]],
            strengths: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """``(weights, intercept)`` at the strength that scores best on a held-out fifth; where there are too few rows to hold
    some out, at the strongest."""
    fit: Callable = _logistic if task.labels else _ridge
    try:
        kept, held = tasks.held_out(task, labels, list(texts))
    except ValueError:
        return fit(task, features, labels, strengths[0])
    scores = []
    for strength in strengths:
        weights, intercept = fit(task, features[kept], labels[kept], strength)
        scores.append(_score(task, labels[held], np.asarray(features[held] @ weights) + intercept))
    return fit(task, features, labels, strengths[int(np.argmax(scores))])


def _score(task: Task, labels: np.ndarray, found: np.ndarray) -> float:
    """The task's main metric, signed so that more is better."""
    from scipy.special import softmax

    answers = {"values": lambda: found[:, 0], "classes": lambda: found.argmax(1), "probabilities": lambda: softmax(found, 1)}
    return task.metric.worth(labels, answers[task.metric.reads]())


def _logistic(task: Task, features, labels: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression. Of two classes the first has the logit 0; of several, TF-IDF compares each with the rest, which
    takes a third of the time of all with all."""
    from scipy.sparse import issparse
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    there = np.unique(labels)
    model = LogisticRegression(C=1 / strength, max_iter=ROUNDS, tol=1e-3)
    if issparse(features):
        model = OneVsRestClassifier(LogisticRegression(C=1 / strength, solver="liblinear", tol=1e-2))
    with warnings.catch_warnings():  # that it could be a little nearer to the optimum
        warnings.simplefilter("ignore")
        model.fit(features, labels)
    parts = model.estimators_ if issparse(features) else [model]
    found = np.concatenate([part.coef_ for part in parts]).T, np.concatenate([part.intercept_ for part in parts])
    weights, intercept = np.zeros((features.shape[1], task.num_labels)), np.full(task.num_labels, ABSENT)
    if len(there) == 2:
        intercept[there[0]] = 0.0
    places = there[1:] if len(there) == 2 else there
    weights[:, places], intercept[places] = found
    return weights, intercept


def _ridge(task: Task, features, labels: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import Ridge

    model = Ridge(strength, solver="lsqr").fit(features, labels.astype(float))
    return model.coef_[:, None], np.array([model.intercept_], dtype=float)
