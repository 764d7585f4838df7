"""Tasks and metrics as values; where their data comes from; shares and splits of it; rows as tokens."""

from studykit.tasks.encoding import Encodings, Scale, encode
from studykit.tasks.floors import baselines
from studykit.tasks.guessing import described
from studykit.tasks.looking import Oddity, account, oddities
from studykit.tasks.metrics import KNOWN, Metric, known
from studykit.tasks.reading import digest, load
from studykit.tasks.splits import (
    SELECTION_SHARE,
    held_out,
    rows_needed,
    selection_split,
    some,
    strata,
    stratified_order,
    subset,
)
from studykit.tasks.task import Hub, Task, get, made, sentence, written

__all__ = ["KNOWN", "SELECTION_SHARE", "Encodings", "Hub", "Metric", "Oddity", "Scale", "Task", "account", "baselines",
           "described", "digest", "encode", "get", "held_out", "known", "load", "made", "oddities", "rows_needed",
           "selection_split", "sentence", "some", "strata", "stratified_order", "subset", "written"]
