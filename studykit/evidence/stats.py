"""Intervals, paired gaps and tests. NumPy, pandas and SciPy only."""

import bisect
import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.optimize
import scipy.special
import scipy.stats

from studykit.tasks import known
from studykit.tasks.metrics import GENERIC
from studykit.tasks.packing import unpacked

RESAMPLES = 2000  # fewer of more than four thousand examples
Interval = tuple[float, float, float]  # estimate, low, high


def mean_interval(values: npt.ArrayLike, level: float = 0.95, bounds: tuple[float, float] = (-np.inf, np.inf),
                  correlation: bool = False) -> Interval:
    """``(mean, low, high)`` in the unit of the values: Student's t interval for the mean of independent runs.

    It covers what differs between the runs (the seeds), not the choice of test examples. It stays within ``bounds``, the
    range of the metric: of correlations, and of what a t interval would leave its range with, it is taken of Fisher's z at
    the mean, which is half the log odds of the place in the range (of a range with one end, of the logarithm), and brought
    back. By simulation that covers the mean of five runs near an end as often as it says; a percentile bootstrap of so few
    does not. With fewer than two values the bounds are NaN: one run has no spread.

    >>> tuple(round(x, 2) for x in mean_interval([1.0, 2.0, 3.0]))
    (2.0, -0.48, 4.48)
    >>> tuple(round(x, 1) for x in mean_interval([80.0, 90.0, 99.0], bounds=(-100, 100), correlation=True))
    (89.7, 24.5, 99.0)
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return (float(values.mean()) if len(values) else np.nan, np.nan, np.nan)
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    low, high = interval(mean, error, len(values) - 1, level)
    if error and (correlation or low < bounds[0] or high > bounds[1]):
        low, high = _within(mean, high - mean, *bounds)
    return mean, low, high


def _within(mean: float, half: float, lowest: float, highest: float) -> tuple[float, float]:
    """A symmetric interval on the scale of log odds (or of logarithms) that has no ends, in the unit of the mean."""
    below, above = mean - lowest, highest - mean
    if not (below > 0 and above > 0) or (np.isinf(below) and np.isinf(above)):
        return max(mean - half, lowest), min(mean + half, highest)
    step = half * (1 / below + 1 / above) * np.array([-1, 1])
    with np.errstate(over="ignore"):
        if np.isinf(above):
            low, high = lowest + below * np.exp(step)
        elif np.isinf(below):
            low, high = highest - above * np.exp(-step)
        else:
            low, high = lowest + (highest - lowest) * scipy.special.expit(np.log(below / above) + step)
    return float(low), float(high)


def summary(table: pd.DataFrame, by: Sequence[str] = ("task", "arm", "fraction"), level: float = 0.95) -> pd.DataFrame:
    """Mean ``score`` of every run with its interval for each group, and beside it what became of them: ``seeds`` with a
    score, how many runs ``collapsed`` or ``diverged`` (both are in the mean), ``learnt``, and the mean of the ``others``,
    those that did neither. Columns of the table that a group shares (title, places, chance, metric) are carried along."""
    def row(group):
        scores, bounds = group["score"].dropna(), (group["metric_low"].iloc[0], group["metric_high"].iloc[0])
        mean, low, high = mean_interval(scores, level, bounds, group["scored_by"].iloc[0].correlation)
        count = {status: int((group["status"] == status).sum()) for status in ("ok", "collapsed", "diverged")}
        return {"score": mean, "low": low, "high": high, "seeds": len(scores), "collapsed": count["collapsed"],
                "diverged": count["diverged"], "not_ok": len(group) - count["ok"],
                "learnt": int(group["learnt"].sum()), "others": float(group.loc[group["status"] == "ok", "score"].mean()),
                **{name: group[name].iloc[0] for name in CARRIED}}

    return _by_group(table, list(by), row)


CARRIED = ("task_title", "task_place", "arm_place", "metric_title", "metric_axis", "chance", "better")


def paired_gaps(table: pd.DataFrame, baseline: str | None = None, by: Sequence[str] = ("task", "fraction"),
                level: float = 0.95) -> pd.DataFrame:
    """Mean gap ``arm - baseline`` over pairs of runs that share a seed, positive where the arm is better, with an interval
    that covers other seeds and other test examples alike (see ``gap``).

    A pair has the same examples, head and order, so what a seed does to both cancels. ``baseline`` is an arm's label, the
    study's first without one. Columns: ``by``, ``arm``, ``baseline``, ``gap``, ``error`` (standard), ``examples_error`` (its
    part that more seeds would not lessen), ``freedom`` (degrees of), ``low``, ``high``, ``pairs``; ``lost``, the pairs in
    which a run has no score; ``not_ok``, those in which a run collapsed or diverged (they are in the mean); ``learnt``,
    whether more than half of the baseline's runs there did, and ``arm_learnt``, of the arm's. A group in which the baseline
    has no run has rows too, with no ``pairs`` and a gap of NaN, from which nothing can be told. Raises ``ValueError`` where
    the baseline has no run at all, a seed has two, or runs were scored on different examples.
    """
    by = list(by)
    order = table.drop_duplicates("arm").sort_values("arm_place", kind="stable")["arm"].tolist() if len(table) else []
    baseline = order[0] if baseline is None and order else baseline
    need_baseline(order, baseline)
    rows, table = [], table[[name for name in table if name in {*by, *PAIRED, *CARRIED}]]  # the fewer columns the quicker
    for group, part in table.groupby(by, sort=False):
        if (twice := part.duplicated(["arm", "seed"])).any():
            raise ValueError(f"duplicate runs: two of {part.loc[twice, 'arm'].iloc[0]} have one seed")
        there = (part["arm"] == baseline).any()
        scores = resampled(part) if there and part["seed"].nunique() > 1 else np.empty((0, len(part)))
        about = part.drop_duplicates("arm").set_index("arm")[list(CARRIED)].to_dict("index")
        width = float(part["metric_high"].iloc[0] - part["metric_low"].iloc[0])
        runs = pd.DataFrame({"score": _signed(part), "fine": part["status"].eq("ok").to_numpy(), "column": range(len(part)),
                             "learnt": part["learnt"].to_numpy(bool)}, index=pd.MultiIndex.from_frame(part[["arm", "seed"]]))
        others = runs.loc[baseline] if there else runs.droplevel(0).iloc[:0]
        rows += [{**dict(zip(by, group, strict=True)), "arm": arm, "baseline": baseline,
                  **_paired(runs.loc[arm], others, scores, width, level), **about[arm]}
                 for arm in order if arm in about and arm != baseline]
    return pd.DataFrame(sorted(rows, key=lambda row: order.index(row["arm"])),
                        columns=None if rows else [*by, *GAP, *CARRIED])


def need_baseline(arms: Iterable[str], baseline: str | None) -> None:
    """Raises ``ValueError`` where the baseline is none of the arms that a table has runs of."""
    if baseline not in (there := list(arms)):
        raise ValueError(f"no run of the baseline {baseline!r} in the table: it has {', '.join(there)}")


PAIRED = ("arm", "seed", "score", "better", "status", "learnt", "metric_low", "metric_high", "scored_by", "labels",
          "predictions", "probabilities")
GAP = ("arm", "baseline", "gap", "error", "examples_error", "freedom", "low", "high", "pairs", "lost", "not_ok", "learnt",
       "arm_learnt")


def _paired(runs: pd.DataFrame, baseline: pd.DataFrame, scores: np.ndarray, width: float, level: float) -> dict:
    """The gap of two arms' runs by seed, from all scores on resampled examples, within the width of the metric's range."""
    learnt, own = baseline["learnt"].mean() > 0.5, runs["learnt"].mean() > 0.5
    seeds = runs.index.intersection(baseline.index).sort_values()
    runs, baseline = runs.loc[seeds], baseline.loc[seeds]
    gaps = runs["score"].to_numpy() - baseline["score"].to_numpy()
    scored = ~np.isnan(gaps)
    moved = scores[:, runs["column"][scored]] - scores[:, baseline["column"][scored]]
    middle, error, freedom, shared = combined(gaps[scored], moved)
    low, high = interval(middle, error, freedom, level)
    return {"gap": middle, "error": error, "examples_error": shared, "freedom": freedom, "low": max(low, -width),
            "high": min(high, width), "pairs": int(scored.sum()), "lost": int((~scored).sum()),
            "not_ok": int((~(runs["fine"] & baseline["fine"])).sum()), "learnt": bool(learnt), "arm_learnt": bool(own)}


@functools.lru_cache(maxsize=16)
def _resamples(examples: int) -> np.ndarray:
    """How often each resample holds each example, shape (resamples, examples): the same on every call."""
    count = min(RESAMPLES, max(GENERIC, 8_000_000 // examples))
    return np.random.default_rng(0).multinomial(examples, np.full(examples, 1 / examples), size=count).astype(np.uint16)


def resampled(runs: pd.DataFrame) -> np.ndarray:
    """Each run's score on resampled test examples, more is better, shape (resamples, runs); NaN where a run has none."""
    there = runs["score"].notna().to_numpy()
    if not there.any():
        return np.empty((0, len(runs)))
    metric, labels = runs["scored_by"].iloc[0], [np.asarray(row) for row in runs["labels"][there]]
    if not all(np.array_equal(row, labels[0]) for row in labels):
        raise ValueError("these runs were scored on different examples: they cannot be paired")
    answers = np.array([unpacked(kept) for kept in runs["probabilities"][there]] if metric.reads == "probabilities"
                       else runs["predictions"][there].tolist())
    moved = metric.sign * metric.factor * metric.resampled(labels[0], answers, _resamples(len(labels[0])))
    scores = np.full((len(moved), len(runs)), np.nan)
    scores[:, there] = moved
    return scores


def gap(runs: pd.DataFrame, baseline: pd.DataFrame) -> tuple[float, float, float, float]:
    """``(mean gap runs - baseline, standard error, degrees of freedom, error of the test examples alone)``, in the unit of
    the score and positive where ``runs`` are better, of two tables of runs paired row by row.

    Two sources of chance: other seeds, seen in how the paired gaps differ; and other test examples, which all runs share,
    seen by resampling them. A bootstrap over a few seeds is too short, so seeds enter as in Student's t: at 95 % the
    squared half-width is t² times the seeds' variance plus z² times the examples', and the degrees of freedom are those
    that give it (Satterthwaite's are too hopeful with two or three seeds). With fewer than two pairs the error is NaN: one
    pair has no spread. Raises ``ValueError`` where labels differ.
    """
    return combined(_signed(runs) - _signed(baseline), _moved(runs, baseline))


def combined(gaps: np.ndarray, moved: np.ndarray) -> tuple[float, float, float, float]:
    """``gap``'s numbers, of paired gaps and of the same on resampled examples, shape (resamples, pairs)."""
    if len(gaps) < 2:
        return float(gaps.mean()) if len(gaps) else np.nan, np.nan, np.nan, np.nan
    shared = np.cov(moved.T)
    examples = max(0.0, shared[~np.eye(len(gaps), dtype=bool)].mean())  # what other examples do to all seeds at once
    seeds = gaps.var(ddof=1) / len(gaps)
    error = seeds + examples
    t, z = student(len(gaps) - 1), scipy.special.ndtri(0.975)
    factor = np.sqrt((t ** 2 * seeds + z ** 2 * examples) / error) if error else t
    return float(gaps.mean()), float(np.sqrt(error)), _freedom(factor, len(gaps) - 1), float(np.sqrt(examples))


def _signed(runs: pd.DataFrame) -> np.ndarray:
    return (runs["score"] * runs["better"]).to_numpy(dtype=float)


def _moved(runs: pd.DataFrame, baseline: pd.DataFrame) -> np.ndarray:
    """The paired gaps on resampled test examples, shape (resamples, pairs)."""
    return np.subtract(*np.split(resampled(pd.concat([runs, baseline])), 2, axis=1))


def error_of_examples(runs: pd.DataFrame, baseline: pd.DataFrame) -> float:
    """The standard error of one pair's gap that comes from the test examples alone, in the unit of the score."""
    return float(_moved(runs, baseline).mean(1).std(ddof=1))


def _freedom(factor: float, least: int) -> float:
    """Degrees of freedom at which Student's t has this factor at 95 %, at least ``least``."""
    off = lambda power: student(least * 10 ** power) - factor  # noqa: E731
    if off(0) <= 1e-9:
        return float(least)
    if off(6) >= 0:
        return np.inf
    return float(least * 10 ** scipy.optimize.brentq(off, 0, 6))


def interval(middle: float, error: float, freedom: float, level: float = 0.95) -> tuple[float, float]:
    """``(low, high)``: Student's t interval."""
    half = student(freedom, level) * error
    return middle - half, middle + half


def student(freedom: float, level: float = 0.95) -> float:
    """The factor by which an interval is wider than its standard error."""
    return float(scipy.special.stdtrit(freedom, 0.5 + level / 2))


def verdict(row, margin: float, level: float = 0.05) -> str:
    """What one gap, a row of ``paired_gaps``, says: ``matches`` where it is shown to lie within the margin (in the unit of
    the score), ``ahead`` or ``behind`` where its interval leaves out zero, else ``cannot tell``; that too where the baseline
    has not learnt, a pair has no score, or there are fewer than two. It is about one gap: of many, some err."""
    if not row.learnt or row.lost or not row.error >= 0:
        return "cannot tell"
    if equivalence(row.gap, row.error, row.freedom, margin) <= level:
        return "matches"
    low, high = interval(row.gap, row.error, row.freedom, 1 - level)
    return "ahead" if low > 0 else "behind" if high < 0 else "cannot tell"


def ahead(gap: float, error: float, freedom: float) -> float:
    """p value of the one-sided t test that a gap is above zero; that it is below is 1 minus it. Without any error it is 0
    or 1, and a half at zero."""
    if error == 0:
        return float(1 - np.heaviside(gap, 0.5))
    return float(scipy.stats.t.sf(gap / error, freedom))


def equivalence(gap: float, error: float, freedom: float, margin: float = 1.0) -> float:
    """p value of two one-sided t tests (Schuirmann 1987): small where the gap lies within the margin, either way."""
    if error == 0:
        return float(abs(gap) >= margin)
    above = scipy.stats.t.sf((gap + margin) / error, freedom)
    below = scipy.stats.t.cdf((gap - margin) / error, freedom)
    return float(max(above, below))


def holm(p: npt.ArrayLike) -> np.ndarray:
    """Holm's adjusted p values, in the order given: reject those up to the level, and at most that share errs at all.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))))
    return adjusted


def probability_of_improvement(scores: npt.ArrayLike, others: npt.ArrayLike) -> float:
    """The share of pairs (x of scores, y of others) with x above y, ties counted half (Agarwal et al. 2021).

    >>> probability_of_improvement([2, 3], [1, 3])
    0.625
    """
    gap = np.subtract.outer(np.asarray(scores, dtype=float), np.asarray(others, dtype=float))
    return float(np.mean((gap > 0) + 0.5 * (gap == 0)))


def deviation(values: npt.ArrayLike, level: float = 0.95) -> Interval:
    """``(standard deviation, low, high)`` with the chi-squared interval, which takes the values to be normal."""
    values = np.asarray(values, dtype=float)
    spread, freedom = values.std(ddof=1), len(values) - 1
    low, high = (spread * np.sqrt(freedom / scipy.stats.chi2.ppf(q, freedom)) for q in (0.5 + level / 2, 0.5 - level / 2))
    return float(spread), float(low), float(high)


def spread_test(scores: npt.ArrayLike, others: npt.ArrayLike) -> float:
    """p value of the Brown-Forsythe test (Levene's about the median) that two groups of runs spread alike. With five runs
    each it hardly ever rejects, so a large p says little there."""
    return float(scipy.stats.levene(scores, others, center="median").pvalue)


def paired_spread_test(scores: npt.ArrayLike, others: npt.ArrayLike, factor: float = 1.0) -> float:
    """p value of the one-sided test that ``scores`` spread more than ``factor`` times as much as ``others``; both of shape
    (conditions, seeds).

    As in Brown and Forsythe's test, spread is distance from a condition's median. Since a seed shares its draws between
    methods and conditions, distances (each condition's on a scale of its own) are averaged for each seed, and a paired t
    test over seeds compares them. Without any spread p is 1.
    """
    away = [scale * np.abs(values - np.median(values, axis=1, keepdims=True))
            for values, scale in ((np.asarray(scores), 1.0), (np.asarray(others), factor))]
    scale = (away[0] + away[1]).mean(axis=1, keepdims=True)
    further = ((away[0] - away[1]) / np.where(scale > 0, scale, 1)).mean(axis=0)
    if not further.std() > 0:
        return 1.0
    return float(scipy.stats.ttest_1samp(further, 0, alternative="greater").pvalue)


def deviation_ratio(scores: Sequence, others: Sequence, level: float = 0.95) -> Interval:
    """``(ratio, low, high)`` of the standard deviations of two groups of runs, or lists of groups whose variance is pooled,
    with a percentile bootstrap interval of its logarithm, runs drawn within their group.

    NaN where a group does not vary. Of 95 % intervals 93 to 96 % hold the truth for normal scores, five or ten runs a group;
    about 90 % with heavy tails.
    """
    pools = [_groups(values) for values in (scores, others)]
    variance = [np.mean([group.var(ddof=1) for group in groups]) for groups in pools]
    if not min(variance) > 0:
        return np.nan, np.nan, np.nan
    rng = np.random.default_rng(0)
    drawn = [np.mean([group[rng.integers(0, len(group), (RESAMPLES, len(group)))].var(axis=1, ddof=1)
                      for group in groups], axis=0) for groups in pools]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = 0.5 * (np.log(drawn[0]) - np.log(drawn[1]))
    low, high = np.exp(np.nanpercentile(logs, [50 - 50 * level, 50 + 50 * level], method="nearest"))
    return float(np.sqrt(variance[0] / variance[1])), float(low), float(high)


def _groups(values: Sequence) -> list[np.ndarray]:
    values = list(values)
    return [np.asarray(group, dtype=float) for group in (values if np.ndim(values[0]) else [values])]


def outside(gap: float, error: float, freedom: float, margin: float = 1.0) -> float:
    """p value of the test that a gap lies beyond the margin, either way: small where that is shown. It is the chance of an
    estimate at least as far out, were the true gap on the margin."""
    if error == 0:
        return float(abs(gap) <= margin)
    return float(scipy.stats.t.sf((abs(gap) - margin) / error, freedom)
                 + scipy.stats.t.sf((abs(gap) + margin) / error, freedom))


def seeds_needed(deviation: float, gap: float, power: float = 0.8, level: float = 0.05, most: int = 10_000, *,
                 paired: bool = True) -> float:
    """How many pairs of runs a paired t test needs to see a mean ``gap`` with this probability, where paired gaps have this
    standard deviation (same unit); or, not ``paired``, how many runs of each arm, where that is the deviation of the
    difference of one run each. Infinity where ``most`` are not enough, NaN where the deviation is not known.

    >>> seeds_needed(deviation=1.0, gap=1.0)
    10
    """
    if not deviation > 0:
        return 2 if deviation == 0 else np.nan

    def enough(seeds: int) -> bool:
        freedom = (seeds - 1) * (1 if paired else 2)
        return scipy.stats.ncf.sf(student(freedom, 1 - level) ** 2, 1, freedom, seeds * (gap / deviation) ** 2) >= power

    if not enough(most):
        return np.inf
    return 2 + bisect.bisect_left(range(2, most), True, key=enough)


def time_to_reach(seconds: npt.ArrayLike, scores: npt.ArrayLike, goal: float) -> str:
    """When a score that is known at some budgets reaches a goal, in words: a straight line between budgets, and "over" or
    "under" for what lies outside them.

    >>> time_to_reach([10, 20], [50, 60], 55), time_to_reach([10, 20], [50, 60], 70), time_to_reach([10, 20], [50, 60], 40)
    ('15 s', 'over 20 s', 'under 10 s')
    """
    known = np.array(sorted((x, y) for x, y in zip(np.ravel(seconds), np.ravel(scores), strict=True) if not np.isnan(y)))
    there = np.flatnonzero(known[:, 1] >= goal)
    if not len(there):
        return f"over {known[-1, 0]:g} s"
    if (i := there[0]) == 0:
        return f"under {known[0, 0]:g} s"
    return f"{np.interp(goal, known[i - 1: i + 1, 1], known[i - 1: i + 1, 0]):.3g} s"


def seeds_to_decide(gap: float, error: float, examples_error: float, pairs: int, margin: float = 0.0, level: float = 0.05,
                    most: int = 10_000) -> int | None:
    """How many pairs of runs a one-sided test at this level would need to decide on which side of ``margin`` (either sign) a
    gap lies, if it and the runs' spread stay as measured; ``None`` where no number would: the gap is too near to the margin
    for what the test examples alone leave open (or for ``most`` pairs)."""
    distance = abs(abs(gap) - margin)
    spread = max(error ** 2 - examples_error ** 2, 0.0) * pairs

    def decided(seeds: int) -> bool:
        return (scipy.special.stdtrit(seeds - 1, 1 - level) ** 2 * spread / seeds
                + scipy.special.ndtri(1 - level) ** 2 * examples_error ** 2) ** 0.5 <= distance

    if not decided(most):
        return None
    return 2 + bisect.bisect_left(range(2, most), True, key=decided)


def _by_group(table: pd.DataFrame, by: list[str], row: Callable[[pd.DataFrame], dict]) -> pd.DataFrame:
    return pd.DataFrame([{**dict(zip(by, group, strict=True)), **row(part)}
                         for group, part in table.groupby(by, sort=False)])


def simulated(rng: np.random.Generator, seeds: int, examples: int, gap: float = 0.0, seed_sd: float = 0.15,
              accuracy: float = 0.8) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``(runs, baseline)``: tables of paired runs whose true gap in accuracy is known, to see if the above keeps its word.

    An answer is right where skill, the seed's luck, the example's ease (shared, and each method's own) and a draw of the
    run's own sum to more than zero, all normal; so accuracy is the normal distribution at skill over the sum's deviation.
    """
    metric = known("accuracy")
    own = 0.6  # how much an example's ease differs between methods
    wide = np.sqrt(seed_sd ** 2 + 1 + own ** 2 + 1)
    labels, ease, tables = rng.integers(0, 2, examples), rng.normal(size=examples), []
    for level in (accuracy + gap / 100, accuracy):
        skill = wide * scipy.special.ndtri(level) + rng.normal(0, seed_sd, (seeds, 1))
        right = skill + ease + rng.normal(0, own, examples) + rng.normal(size=(seeds, examples)) > 0
        answers = np.where(right, labels, 1 - labels)
        tables.append(pd.DataFrame({"score": 100 * right.mean(1), "better": 1, "scored_by": [metric] * seeds,
                                    "predictions": list(answers), "labels": [labels] * seeds}))
    return tables[0], tables[1]
