"""How libraries compute a metric."""

import importlib
import inspect
import math
from typing import Any

import numpy as np


def library(metric: Any, labels: np.ndarray, answers: np.ndarray) -> Any:
    """The score of a ``metrics.Metric`` as its library gives it."""
    options = dict(metric.options)
    if metric.function in KNOWN:
        return KNOWN[metric.function][4](labels, answers, metric)
    module, _, function = metric.function.rpartition(".")
    classes = answers.shape[1] if metric.reads == "probabilities" else 0
    if metric.reads == "probabilities" and (metric.of or answers.shape[1] == 2):  # of two classes it wants one column
        labels, answers = (labels == metric.positive).astype(int), answers[:, metric.positive]
    elif metric.of:
        labels, answers = (labels == metric.positive).astype(int), (answers == metric.positive).astype(int)
    if module == "evaluate":
        import evaluate

        return next(iter(evaluate.load(function).compute(predictions=answers, references=labels, **options).values()))
    compute = getattr(importlib.import_module(module), function)
    if module == "scipy.stats":
        result = compute(answers, labels, **options)
        return getattr(result, "statistic", result)
    if classes and "labels" in inspect.signature(compute).parameters:  # or a class that these rows lack would be missed
        options = {"labels": np.arange(2 if answers.ndim == 1 else classes), **options}
    return compute(labels, answers, **options)


def _sklearn(name: str, **fixed):
    def compute(labels, answers, metric):
        import sklearn.metrics

        return getattr(sklearn.metrics, name)(labels, answers, **fixed)

    return compute


def _f1(labels, answers, metric):
    return _sklearn("f1_score", zero_division=0)(labels == metric.positive, answers == metric.positive, metric)


def _scipy(name: str):
    def compute(labels, answers, metric):
        import scipy.stats

        return getattr(scipy.stats, name)(answers, labels).statistic

    return compute


def _ranking(name: str):
    """Of one class against the rest: the one that it is of, the positive one where there are two, else the mean over those
    classes that these labels have."""
    def compute(labels, answers, metric):
        import sklearn.metrics

        score, there = getattr(sklearn.metrics, name), np.unique(labels)
        kinds = [metric.positive] if metric.of or answers.shape[1] == 2 else there
        if len(there) < 2 or not set(kinds) <= set(there):
            return math.nan
        return np.mean([score(labels == kind, answers[:, int(kind)]) for kind in kinds])

    return compute


# name -> (title, what it reads, range, what is better, how the library computes it)
KNOWN: dict[str, tuple] = {
    "accuracy": ("accuracy", "classes", (0, 1), "more", _sklearn("accuracy_score")),
    "balanced_accuracy": ("balanced accuracy", "classes", (0, 1), "more", _sklearn("balanced_accuracy_score")),
    "f1": ("F1", "classes", (0, 1), "more", _f1),
    "macro_f1": ("macro F1", "classes", (0, 1), "more", _sklearn("f1_score", average="macro", zero_division=0)),
    "matthews_correlation": ("Matthews correlation", "classes", (-1, 1), "more", _sklearn("matthews_corrcoef")),
    "roc_auc": ("area under the ROC curve", "probabilities", (0, 1), "more", _ranking("roc_auc_score")),
    "average_precision": ("average precision", "probabilities", (0, 1), "more", _ranking("average_precision_score")),
    "pearson": ("Pearson correlation", "values", (-1, 1), "more", _scipy("pearsonr")),
    "spearmanr": ("Spearman correlation", "values", (-1, 1), "more", _scipy("spearmanr")),
    "r2": ("R²", "values", (-math.inf, 1), "more", _sklearn("r2_score")),
    "mean_absolute_error": ("mean absolute error", "values", (0, math.inf), "less", _sklearn("mean_absolute_error")),
}
OF_A_CLASS = ("f1", "roc_auc", "average_precision")  # that may be of a class by name
