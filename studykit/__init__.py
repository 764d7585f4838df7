"""A thin helper for a study of fine-tuning methods: freezing, adapter insertion, training and records.

Read the modules in this order: tasks, encoders, methods, adapters, budgets, training, runs,
study, records, stats, plots.
"""

import importlib

__version__ = "0.1.0"
__all__ = ["adapters", "budgets", "checks", "encoders", "lesson", "machine", "methods", "paths", "plots", "progress",
           "provenance", "records", "runs", "stats", "study", "tasks", "training"]


class Later:
    """A module that is imported when something of it is first used."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        if attribute.startswith("_"):  # what copying and pickling look for
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)


def __getattr__(name):
    """Import a module when it is first named, so that ``import studykit`` does not wait for torch."""
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
