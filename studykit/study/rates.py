"""Choosing a learning rate from trials: the same effort for every arm, and a choice has an error too."""

import math

import pandas as pd

from studykit.evidence import stats

RULES = ("lowest within one error", "best score")
WIDEN = 2  # how often a range of learning rates is widened where a choice lies at its edge


def judged(trials: pd.DataFrame, rule: str = RULES[0]) -> pd.DataFrame:
    """A row per task and arm: the ``rate`` that these trials choose, and how.

    By the rule ``lowest within one error`` only the rates that learnt most often are looked at: those whose share of seeds
    that learnt is the highest of all rates tried, so that one that learnt with two seeds of three is passed over where
    another learnt with three, however well it scores. Of these the one with the best mean is the best; of those whose gap
    to it is at most that gap's standard error (paired, over rows and seeds), the lowest is taken. Where none learnt there is
    no choice: ``learnt`` is false, and the middle rate is taken. By ``best score``, the first edition's rule, which records
    on file follow, the rates that collapsed least often are looked at, and the best mean decides, whether it has learnt or
    not; where all collapsed and none is better than another, the middle rate is taken.

    Columns: ``task``, ``arm``, ``rate``, ``learnt``, ``best`` (rate), ``level`` (how many rates cannot be told from the
    best), ``tried`` (rates), ``runs``, ``score`` (mean at the rate), ``behind`` (the best's lead over it) and ``error`` (of
    that). Raises ``ValueError`` where trials have no score, or for an unknown rule.
    """
    if rule not in RULES:
        raise ValueError(f"a rule for rates is one of {', '.join(RULES)}, got {rule!r:.80}")
    lost = trials[trials["score"].isna()]
    if len(lost):
        run = lost.iloc[0]
        raise ValueError(f"{len(lost)} trials of {run['arm']} on {run['task']} have no {run['metric_title']}, for their "
                         "records lack what it needs, or it refuses their answers: choose rates by another main metric, or "
                         "train these trials anew")
    return pd.DataFrame([{"task": task, "arm": arm, **_choice(runs, rule), **runs.iloc[0][list(stats.CARRIED)]}
                         for (task, arm), runs in trials.groupby(["task", "arm"], sort=False)])


def _choice(runs: pd.DataFrame, rule: str) -> dict:
    by_rate = {rate: of_rate.sort_values("seed") for rate, of_rate in runs.sort_values("lr").groupby("lr")}
    rates, learnt = list(by_rate), {rate: of_rate["learnt"].mean() for rate, of_rate in by_rate.items()}
    means = {rate: (of_rate["score"] * of_rate["better"]).mean() for rate, of_rate in by_rate.items()}
    shares = learnt if rule == RULES[0] else {rate: (of_rate["status"] == "ok").mean() for rate, of_rate in by_rate.items()}
    about = {"tried": len(rates), "runs": len(runs)}
    if not max(shares.values()) and (rule == RULES[0] or len(set(means.values())) == 1):
        middle = rates[len(rates) // 2]
        return {"rate": middle, "learnt": False, "best": math.nan, "level": 0, **about,
                "score": by_rate[middle]["score"].mean(), "behind": math.nan, "error": math.nan}
    steady = [rate for rate in rates if shares[rate] == max(shares.values())]
    best = max(steady, key=means.__getitem__)
    behind = {rate: _behind(by_rate[best], by_rate[rate]) for rate in steady}
    level = [rate for rate in steady if behind[rate][0] <= behind[rate][1]]
    chosen = min(level) if rule == RULES[0] else best
    return {"rate": chosen, "learnt": bool(learnt[chosen]), "best": best, "level": len(level), **about,
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
    ends = ((tried[0], tried[1]), (tried[-1], tried[-2]))
    return [_further(end, inner) for end, inner in ends if end in (choice.rate, choice.best)]


def _further(end: float, inner: float) -> float:
    """As far beyond the end as that is from the rate within, on the grid; where that is not beyond, the grid's next."""
    further, out = _rounded(end ** 2 / inner), math.copysign(1, math.log(end / inner))
    return further if out * math.log(further / end) > 0 else _rounded(further * 10 ** (out / 2))


def _rounded(rate: float) -> float:
    """The nearest of …, 0.01, 0.03, 0.1, … on a log scale."""
    return float(f"{10 ** (round(2 * math.log10(rate)) / 2):.1g}")


def effort(trials: pd.DataFrame) -> pd.DataFrame:
    """Trials and seconds of training per task and arm: equal effort can be looked at. NaN where no trial's are known, as of
    runs that trained at once on a graphics card."""
    groups = trials.groupby(["task", "arm"], sort=False)
    return pd.DataFrame({"trials": groups.size(), "seconds": groups["train_seconds"].sum(min_count=1).round(1)})
