"""Where things are, found from anywhere: the notebooks' kernels start in different folders."""

import os
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def home():
    """The folder that holds results, figures and runs: ``$STUDYKIT_HOME``, or the checkout."""
    return Path(os.environ.get("STUDYKIT_HOME") or REPO)


def params(study):
    """The YAML file of a study."""
    return REPO / "params" / f"{study}.yaml"


def studies():
    """Names of the studies that have parameters, sorted."""
    return sorted(file.stem for file in (REPO / "params").glob("*.yaml"))


def notebooks():
    """The study's notebooks, in their order."""
    return sorted((REPO / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def results(study):
    return home() / "results" / study


def figures(study):
    return home() / "figures" / study


def runs(study):
    return home() / "runs" / study
