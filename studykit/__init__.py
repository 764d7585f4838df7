"""A thin helper for a study of fine-tuning methods: freezing, adapter insertion, training and records.

Read it in the order of its folders, each of which leans on those before it: ``tasks``, ``models``, ``methods``,
``training``, ``study``, ``evidence``, ``telling``.
"""

import importlib

__version__ = "0.2.0"
__all__ = ["budgets", "encoders", "methods", "paths", "study", "tasks", "training"]

# Names that people's notebooks use -> where they are.
MODULES = {
    "adapters": "methods.adapters", "budgets": "training.budgets", "claims": "evidence.paper", "encoders": "models.encoders",
    "engines": "study.engines", "facts": "telling.facts", "fast": "training.fast", "fleet": "training.fleet",
    "lesson": "telling.lesson", "machine": "training.machine", "plots": "telling.plots", "progress": "study.progress",
    "provenance": "study.provenance", "records": "study.records", "report": "telling.report", "runs": "study.runs",
    "stats": "evidence.stats",
    **{name: name for name in ("checks", "evidence", "methods", "mini", "models", "paths", "study", "tasks", "telling",
                               "training")}}


class Later:
    """A module that is imported when something of it is first used."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str):
        if attribute.startswith("_"):  # what copying and pickling look for
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)


def __getattr__(name: str):
    """Import a module when it is first named, so that ``import studykit`` does not wait for torch."""
    if name in MODULES:
        return importlib.import_module(f"{__name__}.{MODULES[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
