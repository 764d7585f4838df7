"""What fits into so many minutes: how fast this machine trains, and the plan that follows from it."""

import contextlib
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from studykit import paths, tasks
from studykit.study import Study
from studykit.training import budgets

LENGTHS = (128, 256, 512)  # tokens that a text may have; longer ones are cut
TIMED = 4  # steps
BATCH = 16  # examples a step
WHOLE, FROZEN = ("full", "last_k"), 0.7  # methods that train whole matrices; what a step of others takes beside theirs
PASSES = 10  # over the data, that no training exceeds
LEAST, SMALL = 24, 64  # steps of a training: the fewest; and few
ENOUGH = (256, 128, SMALL, LEAST)  # steps that a plan should reach: with too few, arms lose that only learn slowly
ROWS = (100, 1500)  # the fewest and the most rows that a run is scored on
BRIEF = (16, 32)  # steps of the race's rungs, at least
END = (6.0, 0.01)  # seconds for what comes last, the model's folder and the page, and that share of the time
KEPT = 0.97  # of the time are planned with
LAST = 1.2  # what the last training, on all rows, takes beside one of the finals
CURVE = 4  # trainings on fewer labels, with two rounds the fewest that a forecast is made of


@dataclass(frozen=True)
class Pace:
    """Seconds on this machine: of a token in training, by arm; of one that is scored, padding counted as tokens; and before
    a run begins; all with so many ``threads``, the number that is quickest now."""

    token: dict[str, float]
    scored: float
    start: float
    threads: int


@dataclass(frozen=True)
class Plan:
    """``steps`` of a training in the finals, and of one in each rung of the race before; how many rates an arm, how many
    finalists, at least how many rounds; whether labels' learning curve is drawn; rows that a run is scored on; and
    ``seconds`` by stage, as far as one can tell beforehand."""

    steps: int
    rungs: tuple[int, ...]
    rates: int
    finalists: int
    rounds: int
    curve: bool
    score_rows: int
    embedded: bool  # the floor on the frozen encoder's embeddings fits too
    seconds: dict[str, float]


SHAPES = (  # rates, finalists, rounds, curve
    (3, 3, 3, True), (3, 2, 3, True), (3, 2, 2, False), (1, 2, 2, False), (1, 2, 1, False), (1, 1, 1, False))


def measured(study: Study, file: Path) -> Pace:
    """The pace of the study's arms on this machine: the file's where that is of the same weights and arms; else it is
    measured, and kept there."""
    about = {"weights": study.weights, "precision": study.design.precision,
             "arms": [str(arm.does) for arm in study.design.arms]}
    if file.is_file() and (kept := json.loads(file.read_text()))["about"] == about:
        return Pace(**kept["pace"])
    pace = _measured(study)
    paths.write(file, json.dumps({"about": about, "pace": asdict(pace)}, indent=1) + "\n")
    return pace


def _measured(study: Study) -> Pace:
    """The first arm is timed; others' paces follow from it until runs of theirs have been seen."""
    from studykit.study import runs
    from studykit.training import machine

    (task,), (first, *_) = study.tasks.values(), study.design.arms
    begin = time.monotonic()
    run, = study.plan(arms=[first.label], rates=1e-9, steps=TIMED, score_on="selection", score_rows=48)
    parts = runs.prepared(run, task, study.source, study.encoder_at, machine.Ledger(machine.best_device()))
    start = time.monotonic() - begin
    threads, trained = _threads(parts)
    scored = min(_scoring(parts) for _ in range(2))
    trained /= 1.0 if first.method in WHOLE else FROZEN
    tokens = {arm.label: trained * (1.0 if arm.method in WHOLE else FROZEN) for arm in study.design.arms}
    return Pace({label: float(f"{value:.3g}") for label, value in tokens.items()}, float(f"{scored:.3g}"), round(start, 2),
                threads)


def _threads(parts) -> tuple[int, float]:
    """``(threads, seconds a token)``: how many train quickest, set from now on: one, or all where they are done before one
    was. Beside other programs one may be far quicker, since threads wait for one another."""
    import torch

    every, begin = torch.get_num_threads(), time.monotonic()
    torch.set_num_threads(1)
    taken = {1: _quickest(parts)}
    with contextlib.suppress(budgets.DeadlinePassed):
        torch.set_num_threads(every)
        taken[every] = _quickest(parts, 2 * time.monotonic() - begin)
    threads = min(taken, key=taken.__getitem__)
    torch.set_num_threads(threads)
    return threads, taken[threads]


def _quickest(parts, deadline: float = math.inf) -> float:
    """Seconds a token of the quickest of a few steps: what a busy machine adds is seen while runs train."""
    from studykit.training import loop

    outcome = loop.train(parts.model, parts.train, budgets.Budget(steps=TIMED), lr=1e-9, timed=True, deadline=deadline)
    return float((np.sum(outcome.step_seconds, axis=1) / np.array(outcome.step_tokens))[1:].min())


def _scoring(parts) -> float:
    """Seconds a token, padding counted: the few rows timed are one batch, mostly padding; many rows have little of it."""
    from studykit.training import loop

    rows, begin = parts.scored[""], time.monotonic()
    loop.logits(parts.model, rows, batch_size=len(rows))
    return (time.monotonic() - begin) / (len(rows) * int(rows.lengths.max()))


def longest(lengths: np.ndarray, limit: int, pace: Pace, seconds: float) -> int:
    """How many tokens of a text the encoder is given: enough for 19 texts of 20 where training ``SMALL`` steps of that
    length then takes no more than a tenth of the time, at most ``limit``."""
    wanted = float(np.quantile(lengths, 0.95))
    fitting = [length for length in LENGTHS if length <= max(limit, LENGTHS[0])]
    for length in fitting:
        more = fitting[fitting.index(length) + 1:]
        step = BATCH * float(np.minimum(lengths, more[0]).mean()) * max(pace.token.values()) if more else math.inf
        if wanted <= length or SMALL * step > seconds / 10:
            return min(length, limit)
    return min(fitting[-1], limit)


def planned(pace: Pace, arms: int, lengths: np.ndarray, others: int, classes: int, seconds: float, former: int = 0) -> Plan:
    """The plan for training rows of these lengths and ``others`` more rows, of so many classes, in so many seconds.

    Of the plans' shapes the richest is taken whose trainings are long enough, or, where none is, the next length down. Its
    trainings have as many steps as ``former`` ones, so that these count, unless they could have twice as many. Raises
    ``ValueError`` where nothing fits, with the minutes that would do.
    """
    rows = len(lengths)
    plans = [_fitting(shape, pace, arms, lengths, others, classes, KEPT * seconds) for shape in SHAPES]
    for enough in ENOUGH:
        if best := next((plan for plan in plans if plan and plan.steps >= min(enough, _most(rows))), None):
            same = [plan for shape in SHAPES if former < best.steps < 2 * former and (
                plan := _fitting(shape, pace, arms, lengths, others, classes, KEPT * seconds, [former]))]
            return next(iter(same), best)
    for minutes in range(1, 10_000):
        if _fitting(SHAPES[-1], pace, arms, lengths, others, classes, KEPT * 60.0 * minutes):
            raise ValueError(f"{seconds / 60:.1f} minutes are too few to train anything on these {rows} rows here: give at "
                             f"least {minutes}")
    raise ValueError("these texts are too long to train on here")


def _most(rows: int) -> int:
    return max(100, math.ceil(PASSES * rows / BATCH))


def _fitting(shape, pace, arms, lengths, others, classes, seconds, ladder=()) -> Plan | None:
    """The plan of a shape with the most steps, of those of a ladder, that fit; ``None`` where none do."""
    for steps in sorted(ladder or _ladder(_most(len(lengths))), reverse=True):
        plan = _of(shape, steps, pace, arms, lengths, others, classes, seconds)
        if sum(plan.seconds.values()) <= seconds:
            return plan
    return None


def _ladder(most: int) -> list[int]:
    """24, 32, 48, 64, 96 …: so that a call with more minutes finds runs on record."""
    steps = [round(2 ** (power / 2 + 5) * (1 if power % 2 == 0 else 1.0607)) for power in range(-1, 26)]
    return [number for number in steps if number < most] + [most]


def _of(shape, steps, pace, arms, lengths, others, classes, seconds) -> Plan:
    rates, finalists, rounds, curve = shape
    curve = curve and reads_all(steps, len(lengths))
    tokens, costs = float(lengths.mean()), sorted(pace.token.values(), reverse=True)
    step, dear = BATCH * tokens * float(np.mean(costs)), BATCH * tokens * costs[0]
    score_rows = int(np.clip(0.15 * steps * step / (pace.scored * tokens), *ROWS))
    score = pace.start + score_rows * tokens * pace.scored
    rungs = tuple(max(least, steps // part) for least, part in zip(BRIEF, (8, 4), strict=True))[-1 if rates == 1 else 0:]
    embedding = float(lengths.sum() + others * tokens) * pace.scored
    embedded = embedding <= seconds / 5
    fits = (len(lengths) + others) * (2 + classes) * 1.5e-5 * (rounds + 2)  # of the linear floors, roughly
    race = arms * rates * (rungs[0] * step + score) + (arms * (rungs[1] * step + score) if rates > 1 else 0)
    return Plan(steps, rungs, rates, finalists, rounds, curve, score_rows, embedded, {
        "floors": 1 + fits + (embedding if embedded else 0), "race": race,
        "finals": rounds * finalists * (steps * (step + dear) / 2 + 2 * score),
        "curve": CURVE * (steps * dear + score) if curve else 0.0,
        "last training": LAST * steps * dear, "end": END[0] + END[1] * seconds})


def passes(steps: int, rows: int) -> float:
    """How often a training in the finals sees each of its rows: those to train on but the part that it is scored on."""
    return steps * BATCH / max(1.0, (1 - tasks.SELECTION_SHARE) * rows)


def reads_all(steps: int, rows: int) -> bool:
    """Whether a training of so many steps reads all of its rows, so that more labels could tell."""
    return BATCH * steps >= round((1 - tasks.SELECTION_SHARE) * rows)


def sentences(plan: Plan, minutes: float, arms: int, rows: int) -> tuple[str, ...]:
    """The plan in words, with its times."""
    def about(stage):
        spent = plan.seconds[stage]
        return f"about {spent:.0f} s" if spent < 100 else f"about {spent / 60:.0f} min"

    told = [f"How {minutes:g} {'minute is' if minutes == 1 else 'minutes are'} planned.",
            f"Floors that need no fine-tuning: {about('floors')}.",
            f"A race of {arms} arms{f' at {plan.rates} rates' if plan.rates > 1 else ''}, "
            f"{' and '.join(map(str, plan.rungs))} steps: {about('race')}.",
            f"Finals of the best {plan.finalists}, {plan.steps} steps a training ({passes(plan.steps, rows):.1f} passes "
            f"over its rows), {plan.rounds} rounds, fewer if it is settled before, more if time is left: {about('finals')}."]
    if plan.curve:
        told.append(f"The choice with a half and a quarter of the labels, {CURVE} trainings or more: {about('curve')}.")
    told.append(f"A last training on all rows: {about('last training')}.")
    if not plan.embedded:
        told.append("The floor on the frozen encoder's embeddings does not fit, and is left out.")
    return tuple(told)
