"""Scores on many resamples of the examples at once, for metrics that are made of counts, sums or ranks.

A resample is how often it holds each example, so a score on all of them is a product of matrices. What is worked on at once
is bounded, whatever the number of examples, classes and runs.
"""

from collections.abc import Callable, Iterator

import numpy as np

BLOCK = 4_000_000  # numbers that are worked on at once


def _ratio(above: np.ndarray, below: np.ndarray, least: float = 0.0) -> np.ndarray:
    return np.where(below > least, above / np.where(below > least, below, 1), 0.0)


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices of so many things that take ``size`` numbers each, in blocks of bounded size."""
    step = max(1, BLOCK // max(size, 1))
    return (slice(start, start + step) for start in range(0, count, step))


def _weighted(weights: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """``weights @ columns``, shape (resamples, columns), in the precision of the columns and little memory."""
    return np.concatenate([weights[rows].astype(columns.dtype) @ columns for rows in blocks(len(weights), len(columns))])


def _by_counts(name: str, labels: np.ndarray, answers: np.ndarray, weights: np.ndarray, one: int | None) -> np.ndarray:
    """From how often each class is true, ``said`` and both (``hits``), shape (resamples, runs, classes), and how often a run
    is ``right``, shape (resamples, runs). Single precision counts exactly to sixteen million."""
    parts, formula = FROM_COUNTS[name]
    kinds = np.arange(1 + max(labels.max(), answers.max())) if one is None else np.array([one])
    is_true = (labels[:, None] == kinds).astype(np.float32)
    true, total, scores = _weighted(weights, is_true)[:, None].astype(float), weights.sum(1, dtype=float)[:, None], []
    for runs in blocks(len(answers), len(labels) * len(kinds)):
        said = answers[runs].T
        counted = _counts if len(weights) > 1 else _counts_of_all
        sums = counted(parts, weights, labels, said, kinds, is_true)
        scores.append(formula(true, total, *(sums[part] for part in parts)))
    return np.concatenate(scores, axis=1)


def _counts(parts, weights, labels, said, kinds, is_true) -> dict[str, np.ndarray]:
    is_said = (said[:, :, None] == kinds).astype(np.float32)
    columns = {"said": lambda: is_said, "hits": lambda: is_said * is_true[:, None],
               "right": lambda: (said == labels[:, None]).astype(np.float32)}
    shaped = {part: columns[part]() for part in parts}
    return {part: _weighted(weights, values.reshape(len(labels), -1)).reshape(-1, *values.shape[1:]).astype(float)
            for part, values in shaped.items()}


def _counts_of_all(parts, weights, labels, said, kinds, is_true) -> dict[str, np.ndarray]:
    """The same for many runs and one resample, which shuffles are: no table of runs by classes is made."""
    right, runs = said == labels[:, None], said.shape[1]
    size = 1 + max(labels.max(), said.max(), kinds.max())
    cells, weight = said + size * np.arange(runs), np.broadcast_to(weights[0].astype(float)[:, None], said.shape)
    counted = {part: np.bincount(cells[where], weight[where], runs * size).reshape(1, runs, size)[:, :, kinds]
               for part, where in (("said", np.ones_like(right)), ("hits", right)) if part in parts}
    return counted | {"right": weights[0].astype(float)[None] @ right}


def _balanced(true, total, hits):
    return _ratio(hits, np.broadcast_to(true, hits.shape)).sum(2) / (true > 0).sum(2)


def _f1_of_one(true, total, hits, said):
    return _ratio(2 * hits, true + said)[:, :, 0]


def _macro_f1(true, total, hits, said):
    return _ratio(2 * hits, true + said).sum(2) / (true + said > 0).sum(2)


def _matthews(true, total, said, right):
    spread = (total ** 2 - (true ** 2).sum(2)) * (total ** 2 - (said ** 2).sum(2))
    return _ratio(right * total - (true * said).sum(2), np.sqrt(np.maximum(spread, 0)))


FROM_COUNTS: dict[str, tuple[tuple[str, ...], Callable]] = {  # name -> (what it needs, the score from that)
    "accuracy": (("right",), lambda true, total, right: right / total),
    "balanced_accuracy": (("hits",), _balanced),
    "f1": (("hits", "said"), _f1_of_one),
    "macro_f1": (("hits", "said"), _macro_f1),
    "matthews_correlation": (("said", "right"), _matthews),
}


def _pearson(labels, answers, weights):
    answers = answers - answers.mean(1, keepdims=True)  # or nearly equal answers would be lost in rounding
    spread = answers.std(1, keepdims=True)
    labels = labels - labels.mean()
    answers, labels = answers / np.where(spread > 0, spread, 1), labels / (labels.std() or 1)
    runs = len(answers)
    columns = np.concatenate([np.ones((1, len(labels))), labels[None], labels[None] ** 2, answers, answers * labels,
                              answers ** 2])
    sums = _weighted(weights, columns.T)
    sums = sums[:, 1:] / sums[:, :1]
    y, yy = sums[:, :1], sums[:, 1:2]
    x, xy, xx = np.split(sums[:, 2:], [runs, 2 * runs], axis=1)
    return _ratio(xy - x * y, np.sqrt(np.maximum((xx - x ** 2) * (yy - y ** 2), 0)), least=1e-9)


def _held(counts: np.ndarray, places: tuple) -> np.ndarray:
    """How much of each value there is, values rising, shape (values, resamples); ``counts`` has shape (n, resamples)."""
    order, starts = places
    ordered = counts[order]
    return ordered if len(starts) == len(order) else np.add.reduceat(ordered, starts, axis=0)


def _places(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(order, starts)``: rows in order of their value, and where in that each value begins."""
    order = np.argsort(values, kind="stable")
    return order, np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)


def _ranks(held: np.ndarray) -> np.ndarray:
    """The rank of each value, ties at their middle."""
    return np.cumsum(held, axis=0) - held / 2 + 0.5


def middle_ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each of these values, ties at their middle."""
    order, starts = places = _places(values)
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(_ranks(_held(np.ones(len(values)), places)), np.diff(starts, append=len(values)))
    return ranks


def _spearman(labels, answers, weights):
    places, order = [_places(run) for run in answers], np.argsort(labels, kind="stable")
    labels, of_labels, scores = labels[order], _places(labels[order]), []
    value = np.repeat(np.arange(len(of_labels[1])), np.diff(of_labels[1], append=len(labels)))
    places = [(np.argsort(order)[rows], starts) for rows, starts in places]
    for rows in blocks(len(weights), 32 * len(labels)):  # what fits a processor's cache is quicker
        counts = weights[rows][:, order].T.astype(float, order="C")
        total = counts.sum(0)
        middle = (total + 1) / 2
        y = _ranks(_held(counts, of_labels))[value] - middle
        spread, of_runs = (counts * y ** 2).sum(0), []
        for place in places:
            held = _held(counts, place)
            x = _ranks(held) - middle
            both, own = (_held(counts * y, place) * x).sum(0), (held * x ** 2).sum(0)
            of_runs.append(_ratio(both, np.sqrt(own * spread), least=1e-9))
        scores.append(np.stack(of_runs, axis=1))
    return np.concatenate(scores)


def _r2(labels, answers, weights):
    labels, answers = labels - labels.mean(), answers - labels.mean()
    columns = np.concatenate([np.ones((1, len(labels))), labels[None], labels[None] ** 2, (answers - labels) ** 2])
    sums = _weighted(weights, columns.T)
    mean, squares, missed = np.split(sums[:, 1:] / sums[:, :1], [1, 2], axis=1)
    spread = squares - mean ** 2
    there = spread > 1e-12 * np.var(labels)
    return np.where(there, 1 - missed / np.where(there, spread, 1), missed == 0)


def _absolute(labels, answers, weights):
    sums = _weighted(weights, np.concatenate([np.ones((1, len(labels))), np.abs(answers - labels)]).T)
    return sums[:, 1:] / sums[:, :1]


def _by_ranks(name: str, labels: np.ndarray, answers: np.ndarray, weights: np.ndarray, one: int | None,
              undefined: float) -> np.ndarray:
    """Of one class against the rest, or the mean over a resample's classes; ``undefined`` where it has one only."""
    kinds = np.unique(labels) if one is None else [one]
    places, scores = [[_places(run[:, kind]) for kind in kinds] for run in answers], []
    for rows in blocks(len(weights), 32 * len(labels)):
        counts = weights[rows].T.astype(float, order="C")
        true = [counts * (labels == kind)[:, None] for kind in kinds]
        there = np.array([(held.sum(0) > 0) & (held.sum(0) < counts.sum(0)) for held in true])
        own = [np.array([FROM_RANKS[name](_held(counts, place), _held(held, place))
                         for held, place in zip(true, of_run, strict=True)]) for of_run in places]
        scores.append(np.stack([np.where(there.any(0), _ratio(np.where(there, values, 0).sum(0), there.sum(0)), undefined)
                                for values in own], axis=1))
    return np.concatenate(scores)


def _area(held: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, from the ranks of the true ones (Mann and Whitney)."""
    positive, total = true.sum(0), held.sum(0)
    return _ratio((true * _ranks(held)).sum(0) - positive * (positive + 1) / 2, positive * (total - positive))


def _average_precision(held: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The precision at each threshold from above, weighted by how much recall it adds."""
    precision = _ratio(np.cumsum(true[::-1], axis=0), np.cumsum(held[::-1], axis=0))
    return _ratio((precision * true[::-1]).sum(0), true.sum(0))


FROM_RANKS = {"roc_auc": _area, "average_precision": _average_precision}
FROM_SUMS = {"pearson": _pearson, "spearmanr": _spearman, "r2": _r2, "mean_absolute_error": _absolute}
QUICK = {*FROM_COUNTS, *FROM_SUMS, *FROM_RANKS}


def scores(name: str, labels: np.ndarray, answers: np.ndarray, weights: np.ndarray, one: int | None = None,
           undefined: float = 0.0) -> np.ndarray:
    """Scores by the metric of that name in ``QUICK``, shape (resamples, runs), as ``Metric.resampled`` describes them.
    ``one`` is the class that a metric is about, where that is one against the rest."""
    if name in FROM_COUNTS:
        return _by_counts(name, labels.astype(int), answers.astype(int), weights, one)
    if name in FROM_SUMS:
        return FROM_SUMS[name](labels.astype(float), answers.astype(float), weights)
    return _by_ranks(name, labels.astype(int), answers, weights, one, undefined)
