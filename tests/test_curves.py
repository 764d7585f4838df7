"""Forecasts of a learning curve: by hand on exact curves, by simulation on noisy ones, refused where they say nothing."""

import numpy as np
import pandas as pd
import pytest

from studykit.evidence import curves
from studykit.evidence.curves import forecast

SHAPES = {(100, 200, 400): 3, (50, 100, 200, 400): 2}  # numbers of labels: folds
STUDIES = 500


def runs(sizes, scores, folds=1, noise=0.0) -> pd.DataFrame:
    """The same scores in each fold, which has a level of its own where there is noise."""
    rng = np.random.default_rng(0)
    return pd.DataFrame([{"labels": size, "score": score + level + rng.normal(0, noise), "fold": fold}
                         for fold, level in enumerate(rng.normal(0, 3 * noise, folds))
                         for size, score in zip(sizes, scores, strict=True)])


def power(exponent: float, sizes) -> tuple[np.ndarray, float]:
    """``(scores, gain at twice the largest)``: what is missing to a perfect score falls with this power of the labels."""
    missing = lambda size: 10 * (np.asarray(size) / max(sizes)) ** -exponent  # noqa: E731
    return 80 - missing(sizes), float(missing(max(sizes)) - missing(2 * max(sizes)))


def test_a_straight_line_over_the_logarithm_goes_on_straight():
    """Three points with each doubling. Two folds of three sizes, less two levels, a slope and an exponent, leave 2 degrees
    of freedom; noise of a margin counts for 2 more, so its variance is 2 / 4. Sizes lie at -1, 0 and 1 about their middle,
    in two folds: a sum of squares of 4. t is 4.303 with 2 degrees of freedom. Bends can lower the gain, not raise it."""
    found = forecast(runs([100, 200, 400], [60, 63, 66], folds=2), bounds=(0, 100), margin=1.0)
    assert found.gain == pytest.approx(3.0)
    assert found.high == pytest.approx(3.0 + 4.303 * np.sqrt(0.5 / 4), abs=1e-3)
    assert found.low < 3.0 - 4.303 * np.sqrt(0.5 / 4)
    assert not found.reason and found.points == ((100, 60), (200, 63), (400, 66)) * 2


def test_a_curve_that_flattens_goes_on_flattening():
    """90 - 1000 / n: of the 2.5 points still missing at 400 half come with 800."""
    found = forecast(runs([50, 100, 200, 400], [70, 80, 85, 87.5], folds=3))
    assert found.gain == pytest.approx(1.25) and found.low < 1.25 < found.high


def test_levels_of_folds_do_not_matter():
    moved = runs([100, 200, 400], [60, 63, 66], folds=3)
    moved["score"] += 7.0 * moved["fold"]
    assert forecast(moved).gain == pytest.approx(3.0)


def simulated(exponent: float, sizes, noise: float, folds: int):
    """Forecasts of noisy runs with the true gain; unlike ``forecast``, also those that would not be told."""
    rng, (scores, gain) = np.random.default_rng(3), power(exponent, sizes)
    labels, fold = np.tile(sizes, folds), np.repeat(np.arange(folds), len(sizes))
    for _ in range(STUDIES):
        drawn = np.tile(scores, folds) + rng.normal(0, 3 * noise, folds)[fold] + rng.normal(0, noise, len(fold))
        found = curves._gain(labels, drawn, fold, 1.0)
        yield found[1] <= gain <= found[2], not curves._untold(*found, 1.0)


@pytest.mark.parametrize("sizes, folds", SHAPES.items(), ids=str)
@pytest.mark.parametrize("noise", [0.5, 1.5])
@pytest.mark.parametrize("exponent", [0.1, 0.3, 0.6, 1.0, 1.5])
def test_intervals_hold_the_true_gain_of_power_laws(exponent, noise, sizes, folds):
    held = np.mean([held for held, _ in simulated(exponent, sizes, noise, folds)])
    assert held > 0.95 - 2.5 * np.sqrt(0.95 * 0.05 / STUDIES)


def test_so_do_those_that_are_told():
    """They are the narrow ones, so some are narrow by luck."""
    told = [held for exponent in (0.3, 0.6, 1.0) for sizes, folds in SHAPES.items()
            for held, told in simulated(exponent, sizes, 1.0, folds) if told]
    assert len(told) > STUDIES and np.mean(told) > 0.94


def test_a_straight_line_alone_would_not(monkeypatch):
    monkeypatch.setattr(curves, "EXPONENTS", np.zeros(1))
    held = np.mean([held for held, _ in simulated(1.0, (50, 100, 200, 400), 0.5, 3)])
    assert held < 0.5


@pytest.mark.parametrize("points, reason", [
    (runs([100, 200], [60, 63], folds=5), "known at 2 numbers of labels, and a curve takes three"),
    (runs([100, 200, 400], [60, 63, 66]), "too few runs to tell a curve from noise: two rounds would do"),
    (runs([100, 200, 400], [74, 72, 69], folds=3), "the score falls with more labels"),
    (runs([100, 200, 400], [70, 76, 70], folds=3), "too few or too unlike"),  # up and down
    (runs([100, 200, 400], [60, 63, 66], folds=3, noise=6.0), "too few or too unlike"),
    (runs([100, 200, 400], [20, 35, 60], folds=3), "too few or too unlike")], ids=lambda value: str(value)[:30])
def test_what_cannot_be_told_has_a_reason(points, reason):
    found = forecast(points, bounds=(0, 100))
    assert reason in found.reason and found.gain is found.low is found.high is None
    assert len(found.points) == len(points)


@pytest.mark.parametrize("chance, learnt", [(65.9, True), (66.1, False), (None, True)])
def test_what_has_not_learnt_has_no_curve_yet(chance, learnt):
    found = forecast(runs([100, 200, 400], [60, 63, 66], folds=3), chance=chance)
    assert ("its curve has not begun" in found.reason) != learnt and (found.gain is not None) == learnt


def test_a_flat_curve_is_told_as_flat():
    """Its interval is narrow against the margin, though not against the gain."""
    found = forecast(runs([50, 100, 200, 400], [70, 70, 70, 70], folds=5, noise=0.2), margin=1.0)
    assert not found.reason and abs(found.gain) < 0.5 and -1 < found.low < 0 < found.high < 1


def test_nothing_is_forecast_beyond_the_metric_s_range():
    found = forecast(runs([50, 100, 200, 400], [90, 93, 96, 99], folds=4), bounds=(0, 100))
    assert found.gain == found.high == pytest.approx(1.0) and found.low <= 1.0


def test_runs_without_a_score_are_left_out():
    points = runs([50, 100, 200, 400], [57, 60, 63, 66], folds=3)
    lost = pd.concat([points, pd.DataFrame([{"labels": 800, "score": np.nan, "fold": 0}])])
    assert forecast(lost) == forecast(points)


def test_the_unit_of_scores_does_not_matter():
    points = runs([50, 100, 200, 400], [57, 60, 63, 66], folds=3, noise=0.5)
    small = points.assign(score=points["score"] / 100)
    found, same = forecast(points, margin=1.0), forecast(small, margin=0.01)
    assert (same.gain, same.low, same.high) == pytest.approx((found.gain / 100, found.low / 100, found.high / 100))
