"""One function per figure: table in, figure out. Titles, order, colours and axes come from the table's columns;
what a figure cannot show is an error, and what lies off its panels is written at their edge."""

from studykit.telling.contrasts import (
    gap_by_fraction,
    gap_by_study,
    gap_by_task,
    score_by_rate,
    score_by_second,
    score_by_step,
    step_parts,
)
from studykit.telling.costs import score_by_parameters, score_by_training_time
from studykit.telling.grids import claims, estimate, pretraining, shares, task_titles
from studykit.telling.scores import (
    AXES,
    score_by_budget,
    score_by_fraction,
    score_by_passes,
    score_by_pretraining,
    score_by_source,
)
from studykit.telling.style import save

__all__ = ["AXES", "claims", "estimate", "gap_by_fraction", "gap_by_study", "gap_by_task", "pretraining", "save",
           "score_by_budget", "score_by_fraction", "score_by_parameters", "score_by_passes", "score_by_pretraining",
           "score_by_rate", "score_by_second", "score_by_source", "score_by_step", "score_by_training_time", "shares",
           "step_parts", "task_titles"]
