"""Which arm to take, and how sure: the chance that it is within a margin of the best, from the runs on record."""

import numpy as np
import pandas as pd

from studykit.evidence import stats

DRAWS = 4000
ABOUT = ("task_title", "arm", "arm_place", "examples", "chance", "learnt")  # of a chance, besides the place


def chances(table: pd.DataFrame, margin: float = 1.0, by=("task", "fraction")) -> pd.DataFrame:
    """For each group of runs and arm, the probability that its true mean lies within ``margin`` points of the best arm's,
    given seeds and test examples. Columns: ``by``, ``task_title``, ``arm``, ``arm_place``, ``chance``, ``examples``,
    ``learnt`` (whether most of the arm's runs did).

    True means are drawn around the mean scores: what seeds do to each arm as Student's t, what other test examples do to
    all arms together by resampling. A run without a score is none. Seeds that an arm lacks take the whole arm out.
    """
    rows, rng = [], np.random.default_rng(0)
    for group, runs in table[table["score"].notna()].groupby(list(by), sort=False):
        arms = {arm: part.sort_values("seed") for arm, part in runs.groupby("arm", sort=False)}
        most = max(len(part) for part in arms.values())
        arms = {arm: part for arm, part in arms.items() if len(part) == most > 1}
        if len(arms) < 2:
            continue
        drawn = np.stack([_drawn(part, rng) for part in arms.values()])
        close = drawn >= drawn.max(0) - margin
        rows += [{**dict(zip(by, group, strict=True)), **part.iloc[0][["task_title", "arm", "arm_place", "examples"]],
                  "chance": float(within.mean()),
                  "learnt": bool(part["learnt"].mean() > 0.5)}
                 for (arm, part), within in zip(arms.items(), close, strict=True)]
    return pd.DataFrame(rows)


def _drawn(runs: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Draws of an arm's true mean, better ones larger."""
    scores = (runs["better"] * runs["score"]).to_numpy(dtype=float)
    moved = stats.resampled(runs).mean(1)
    examples = np.resize(moved - moved.mean(), DRAWS)  # the same resamples for all arms: what they share cancels
    seeds = rng.standard_t(len(scores) - 1, DRAWS) * scores.std(ddof=1) / np.sqrt(len(scores))
    return scores.mean() + seeds + examples


def advice(found: pd.DataFrame, groups: pd.Series) -> pd.DataFrame:
    """A row for each group of the rows of ``chances``: the arm whose chance is highest in the mean over the group's tasks
    and places, that mean (``sure``), the lowest of them (``least``), the row of ``found`` that has it (``lowest``) and
    ``where``, the number of places. Places in which no arm learnt say nothing and are left out; a group of such places has
    no arm."""
    places = [name for name in found.columns if name not in ABOUT]
    told = found.groupby(places)["learnt"].transform("any")
    rows = []
    for group, part in found.assign(told=told).groupby(groups, sort=False):
        told_part = part[part["told"]]
        means = told_part.groupby(["arm_place", "arm"])["chance"].agg(["mean", "min", "size", "idxmin"])
        whole = means[means["size"] == means["size"].max()] if len(means) else means
        best = whole.sort_values("mean", kind="stable").tail(1).reset_index()
        rows.append({"group": group, "arm": best["arm"].iloc[0] if len(best) else "",
                     "sure": best["mean"].iloc[0] if len(best) else np.nan,
                     "least": best["min"].iloc[0] if len(best) else np.nan,
                     "lowest": best["idxmin"].iloc[0] if len(best) else None,
                     "where": int(best["size"].iloc[0]) if len(best) else 0})
    return pd.DataFrame(rows)
