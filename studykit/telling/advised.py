"""Facts about advice on somebody's own data: sentences from an ``Advice`` alone, the same each time.

A notebook stores them, so none speaks of elapsed seconds: these are in ``elapsed`` only. In a notebook::

    story.tell(advised.decision(advice) + advised.promise(advice))
    advised_figures.tell(story, advice, "certainty")

====================  =========================================================================
what it says          ``decision``, ``certainty``, ``promise``, ``curve``
how it came about     ``reading``, ``oddities``, ``plan``, ``floors``, ``race``, ``cost``, ``elapsed``
how to use it         ``use``; ``lines`` are code
====================  =========================================================================
"""

import math

from studykit.advise import planning
from studykit.advise.advice import Advice, Contender, Curve, Decision
from studykit.telling import words
from studykit.telling.advised_course import (
    AGAIN,
    cost,
    elapsed,
    floors,
    lines,
    oddities,
    plan,
    race,
    reading,
    use,
)
from studykit.telling.advised_parts import (
    arms,
    called,
    choice_of,
    floors_of,
    points,
    sure,
    unit,
)
from studykit.telling.story import Fact

__all__ = ["certainty", "cost", "curve", "decision", "elapsed", "floors", "lines", "oddities", "plan",
           "promise", "race", "reading", "use"]


def decision(advice: Advice) -> list[Fact]:
    """The decision in one sentence. Its kind is ``answer``, which a page of runs puts on top."""
    decided = advice.decision
    if decided is None:
        return [Fact("answer", f"There is no decision yet{_because(advice)}. {AGAIN}", {"decision": ""})]
    said = {"take": _take, "cheaper": _cheaper, "cannot tell": _cannot, "floor": _floor}[decided.kind](advice, decided)
    passes = planning.passes(advice.steps, advice.rows.get("train", 0))
    ended = [Fact("short", f"Trainings of the finals saw {passes:.1f} passes over the rows: with more minutes they are "
                  "longer, and arms may do better and rank otherwise.", numbers={"passes": passes})] if passes < 1 else []
    ended += [Fact("stopped", f"It ended before its time: {advice.stopped}. {AGAIN}")] if advice.stopped else []
    return [Fact("answer", said, {"decision": decided.kind, "choice": decided.choice},
                 {"sure": decided.sure, "margin": decided.margin}), *ended]


def _because(advice: Advice) -> str:
    return f": {advice.stopped}" if advice.stopped else ""


def _at(advice: Advice) -> str:
    """The choice, with its learning rate."""
    chosen = choice_of(advice)
    label = called(advice, advice.decision.choice) if advice.decision else ""
    return f"{label} (learning rate {chosen.rate:g})" if chosen and chosen.rate else label


def _tried(advice: Advice) -> str:
    return words.counted(len(arms(advice)), "arm") + (
        f" and {words.counted(len(floors_of(advice)), 'floor')}" if floors_of(advice) else "")


def _take(advice: Advice, decided: Decision) -> str:
    margin = points(advice, decided.margin)
    return (f"Take {_at(advice)}: of {_tried(advice)} it is the best, or within {margin} of the best. "
            f"Sure: {sure(decided.sure)}.")


def _cheaper(advice: Advice, decided: Decision) -> str:
    names = words.listed([called(advice, label) for label in (decided.choice, *decided.others)])
    each = "either" if len(decided.others) == 1 else "any of them"
    return (f"Take {_at(advice)}, the cheapest of {names}: {each} will do, within {points(advice, decided.margin)} of the "
            f"best. Sure: {sure(decided.sure)}.")


def _cannot(advice: Advice, decided: Decision) -> str:
    margin = points(advice, decided.margin)
    return (f"It cannot be told yet which is best. So far it is {_at(advice)}, which is within {margin} of the best with a "
            f"probability of {sure(decided.sure)}.{_would(advice, decided)}")


def _would(advice: Advice, decided: Decision) -> str:
    """What it would take to settle it, with a space before it; of what ended early only where that is known."""
    if decided.more_rounds:
        rounds = words.counted(math.ceil(decided.more_rounds) - decided.rounds, "more round")
        takes = f", {_minutes(decided.more_minutes)}," if decided.more_minutes else ""
        return f" About {rounds} of finals{takes} would settle it, if scores stay as they are."
    if decided.more_labels:
        rows = sum(advice.rows.values())
        enough = f"{_round(decided.more_labels * rows):,} labelled rows instead of {rows:,}"
        return f" More trainings of this length would not settle it; about {enough} would, if scores stay as they are."
    said = "As far as one can tell now, neither more trainings of this length nor more labels within reach would settle it."
    return "" if advice.stopped else f" {said}"


def _minutes(minutes: float) -> str:
    return words.counted(max(1, math.ceil(minutes)), "minute") if minutes < 100 else f"{minutes / 60:.0f} hours"


def _round(number: float) -> int:
    """To two digits: more would be a promise."""
    return int(float(f"{number:.2g}"))


def _floor(advice: Advice, decided: Decision) -> str:
    tried, margin = len(arms(advice)), points(advice, decided.margin)
    beaten = f"none of {tried} arms is" if tried > 1 else "the one arm that was tried is not"
    more = _would(advice, decided) if decided.more_minutes or decided.more_rounds or decided.more_labels else ""
    return (f"Take the floor, {decided.choice}: {beaten} shown to beat it, and it needs no fine-tuning. It is within "
            f"{margin} of the best with a probability of {sure(decided.sure)}.{more}")


def certainty(advice: Advice) -> list[Fact]:
    """How the others stand against the choice, and what "sure" means here."""
    if advice.decision is None:
        return []
    others = [row for row in advice.contenders if row.gap is not None and row.label != advice.decision.choice]
    finals = [row for row in others if row.finalist and row.kind == "arm"]
    facts = [Fact("behind" if (row.gap or 0) > 0 else "ahead", _stands(advice, row), {"arm": row.label},
                  {"gap": row.gap, "low": row.low, "high": row.high, "chance": row.chance})
             for row in finals + [row for row in others if row.kind == "floor"][:1]]
    if left := [words.arm(row.label) for row in others if row.kind == "arm" and not row.finalist]:
        facts.append(Fact("left", f"Left before the finals: {words.listed(left, 8)}.", {"arms": left}))
    rounds, margin = words.counted(advice.decision.rounds, "round"), points(advice, advice.decision.margin)
    return [*facts, Fact("sure", f"Sure, after {rounds} of finals: how probable it is that the choice is within {margin} of "
                         "the best of all that were tried, with other rows and seeds.")]


def _stands(advice: Advice, row: Contender) -> str:
    """A finalist against the choice."""
    name, gap = called(advice, row.label), row.gap or 0.0
    if row.kind == "floor":
        name = f"The best {'other ' * (choice_of(advice) in floors_of(advice))}floor, {name},"
    size, kind = words.amount(abs(gap), unit(advice)), "ahead of" if gap < 0 else "behind"
    span = _reach(row, unit(advice))
    margin = points(advice, advice.decision.margin) if advice.decision else ""
    chance = "" if row.chance is None else f"; within {margin} of the best: {sure(row.chance)}"
    return f"{name} is {size} {kind} the choice{span}{chance}."


def _reach(row: Contender, of: dict) -> str:
    """The interval of a gap to the choice, in words where it holds zero."""
    if row.low is None or row.high is None:
        return ""
    if row.low < 0 < row.high:
        return f" (from {words.number(row.high, of)} behind to {words.number(-row.low, of)} ahead)"
    return f" {words.span({**of, 'low': row.low, 'high': row.high}, flipped=(row.gap or 0.0) < 0)}"


def promise(advice: Advice) -> list[Fact]:
    """What the choice will score on new rows, or why that is not promised."""
    promised, of = advice.promise, unit(advice)
    if promised.score is None:
        reason = f": {promised.reason}" if promised.reason else ""
        return [Fact("no_promise", f"What the choice will score on new rows cannot be promised{reason}.")]
    span = "" if promised.low is None else f" {words.span({**of, 'low': promised.low, 'high': promised.high})}"
    beside = "".join(f", {title} {value:.3g}" for title, value in promised.others.items())
    runs = f"{words.counted(promised.runs, 'run')} on " if promised.runs > 1 else ""
    return [Fact("promise", f"On new rows like these expect {of['metric_title']} of {words.number(promised.score, of)}{span}"
                 f"{beside}, by {runs}{words.counted(promised.rows, 'row')} that decided nothing.",
                 numbers={"score": promised.score, "low": promised.low, "high": promised.high})]


def curve(advice: Advice) -> list[Fact]:
    """What twice the labels would give, or why that cannot be told."""
    found = advice.curve
    if found.gain is None:
        return [Fact("no_curve", "Whether more labels would score better cannot be told"
                     + (f": {found.reason}." if found.reason else "."))]
    of = unit(advice)
    span = "" if found.low is None else f" {words.span({**of, 'low': found.low, 'high': found.high}, signed=found.low < 0)}"
    now = max((count for count, _ in found.points), default=advice.rows.get("train", 0))
    labels = f"Twice the labels, {2 * now:,} instead of {now:,},"
    more = "more" if of["better"] > 0 else "better"
    kind, said = _helps(found, words.amount(abs(found.gain), of), span, labels, more)
    return [Fact(kind, said, numbers={"gain": found.gain, "low": found.low, "high": found.high, "labels": now})]


def _helps(found: Curve, size: str, span: str, labels: str, more: str) -> tuple[str, str]:
    """The kind of fact and its sentence: shown to help, shown not to, or open."""
    low, high, gain = (-math.inf if found.low is None else found.low, math.inf if found.high is None else found.high,
                       found.gain or 0.0)
    if low > 0:
        return "more_labels", f"{labels} would give {size} {more}{span}."
    less = "less" if more == "more" else "worse"
    if high < 0:
        return "fewer_points", f"{labels} would give {size} {less}{span}, by the forecast."
    return "labels_open", (f"Whether more labels would score better is open. {labels} would give {size} "
                           f"{less if gain < 0 else more}{span}, by the forecast.")
