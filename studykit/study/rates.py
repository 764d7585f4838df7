"""Choosing a learning rate from trials: the same effort for every arm, and a choice has an error too."""

import math

import numpy as np
import pandas as pd

from studykit.evidence import stats

RULES = ("lowest within one error", "best score")
WIDEN = 2  # how often a range of learning rates is widened where a choice lies at its edge


def judged(trials: pd.DataFrame, rule: str = RULES[0]) -> pd.DataFrame:
    """A row per task and arm: the ``rate`` that these trials choose, and how.

    Rates that learnt in most of their trials are looked at. By the rule ``lowest within one error``, of these those whose gap
    to the best is at most its standard error (paired, over rows and seeds), and of these the lowest rate; by ``best score``
    the best. Where no rate learnt there is no choice: ``learnt`` is false, and the middle rate is taken. Columns: ``task``,
    ``arm``, ``rate``, ``learnt``, ``best`` (rate), ``level`` (how many rates cannot be told from the best), ``tried`` (rates),
    ``runs``, ``score`` (mean at the rate), ``behind`` (the best's lead over it) and ``error`` (of that).
    """
    if rule not in RULES:
        raise ValueError(f"a rule for rates is one of {', '.join(RULES)}, got {rule!r:.80}")
    return pd.DataFrame([{"task": task, "arm": arm, **_choice(runs, rule), **{name: runs[name].iloc[0] for name in stats.CARRIED}}
                         for (task, arm), runs in trials.groupby(["task", "arm"], sort=False)])


def _choice(runs: pd.DataFrame, rule: str) -> dict:
    by_rate = {rate: of_rate.sort_values("seed") for rate, of_rate in runs.sort_values("lr").groupby("lr")}
    rates, learnt = list(by_rate), {rate: of_rate["learnt"].mean() for rate, of_rate in by_rate.items()}
    about = {"tried": len(rates), "runs": len(runs)}
    if not max(learnt.values()):
        middle = rates[len(rates) // 2]
        return {"rate": middle, "learnt": False, "best": math.nan, "level": 0, **about,
                "score": by_rate[middle]["score"].mean(), "behind": math.nan, "error": math.nan}
    steady = [rate for rate in rates if learnt[rate] == max(learnt.values())]
    means = {rate: (by_rate[rate]["score"] * by_rate[rate]["better"]).mean() for rate in steady}
    best = max(steady, key=means.__getitem__)
    behind = {rate: _behind(by_rate[best], by_rate[rate]) for rate in steady}
    level = [rate for rate in steady if behind[rate][0] <= behind[rate][1]]
    chosen = min(level) if rule == RULES[0] else best
    return {"rate": chosen, "learnt": True, "best": best, "level": len(level), **about,
            "score": by_rate[chosen]["score"].mean(), "behind": behind[chosen][0], "error": behind[chosen][1]}


def _behind(best: pd.DataFrame, other: pd.DataFrame) -> tuple[float, float]:
    """The best rate's lead over another, and its standard error over rows and, with more than one, seeds."""
    seeds = sorted(set(best["seed"]) & set(other["seed"]))
    pair = [runs.set_index("seed").loc[seeds] for runs in (best, other)]
    if best is other or pair[0]["lr"].equals(pair[1]["lr"]):
        return 0.0, 0.0
    lead, error, _, _ = stats.gap(*pair)
    return lead, stats.error_of_examples(*pair) if len(seeds) == 1 else error


def beyond(choice, tried: list[float]) -> list[float]:
    """Rates one step further out, on each side on which the best or the chosen rate is the last of those tried."""
    tried = sorted(tried)
    if len(tried) < 2 or not choice.learnt:
        return []
    edges = [pair for pair in (tried[:2], tried[:-3:-1]) if pair[0] in (choice.rate, choice.best)]
    return [_rounded(edge ** 2 / inner) for edge, inner in edges]


def _rounded(rate: float) -> float:
    """The nearest of …, 0.01, 0.03, 0.1, … on a log scale."""
    return float(f"{10 ** (round(2 * math.log10(rate)) / 2):.1g}")


def effort(trials: pd.DataFrame) -> pd.DataFrame:
    """Trials and minutes of tuning per task and arm: equal effort can be looked at."""
    minutes = trials.groupby(["task", "arm"], sort=False)["train_seconds"].sum().div(60)
    return pd.DataFrame({"trials": trials.groupby(["task", "arm"], sort=False).size(), "minutes": np.round(minutes, 1)})
