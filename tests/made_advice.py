"""Made-up advice, for tests and for looking at pages: every kind of decision, classes or a number, with and without a
promise or a curve. ``python tests/made_advice.py FOLDER`` writes their pages."""

import sys
from pathlib import Path

import numpy as np

from studykit.advise.advice import Advice, Contender, Curve, Decision, Promise, Trial
from studykit.tasks import Task

KINDS = ("take", "cheaper", "cannot tell", "floor")
GAPS = {"take": (0.0, 2.1, 3.4, 9.0, 24.0), "cheaper": (0.0, -0.2, 0.3, 8.0, 24.0),  # of each arm behind the choice
        "cannot tell": (0.0, 0.6, 1.9, 7.5, 24.0), "floor": (0.8, 2.0, 3.1, 8.0, 9.0)}
CHANCES = {"take": (0.97, 0.11, 0.04, 0.001, 0.0), "cheaper": (0.96, 0.97, 0.955, 0.01, 0.0),
           "cannot tell": (0.81, 0.62, 0.3, 0.02, 0.0), "floor": (0.5, 0.2, 0.06, 0.01, 0.01)}
ARMS = {"lora": (3e-3, 14_000, 21.0), "full": (1e-3, 565_000, 30.0), "bitfit": (1e-2, 7_400, 24.0),
        "adapter": (3e-3, 31_000, 26.0), "head": (1e-2, 4_600, 9.0)}
FLOORS = {"majority": 42.0, "TF-IDF + logistic regression": 30.5, "embeddings + logistic regression": 22.0}
ODDITIES = (("duplicates", 7, 480, "training rows that repeat an earlier one; they are kept, and count for more"),
            ("two labels", 2, 473, "texts that stand with two labels or more; look at them"))
MORE = {"more_rounds": 14.0, "more_minutes": 12.4}


def task(classes: int = 4, name: str = "sentences", labels: tuple = ()) -> Task:
    """A task with so many classes; 0 is a number to predict."""
    names = labels or (("agreement", "tense", "verb form", "none") if classes == 4 else
                       tuple(f"kind of question no. {number}" for number in range(classes)))
    return Task(name=name, title="Sentences", question="Which mistake does the sentence have?", columns=("sentence",),
                label="mistake", labels=names, data="sentences.csv")


def advice(kind: str = "take", classes: int = 4, *, promised: bool = True, told: bool = True, rows: int = 120,
           labels: tuple = (), more: dict | None = None, name: str = "sentences") -> Advice:
    """Advice with this decision, or none for ``""``; without a promise, or a curve that cannot be told."""
    asked, rng = task(classes, name, labels), np.random.default_rng(0)
    return Advice(
        name=name, task=asked.model_dump(mode="json"), encoder="mini", digest="0123456789abcdef",
        rows={"train": 480, "validation": rows}, account=("sentences.csv: 600 rows, separated by commas.",),
        oddities=ODDITIES, minutes=1.0, plan=("How 1 minute is planned.", "A race of 5 arms: about 20 s."),
        max_length=128, steps=96, trials=trials(), contenders=contenders(kind) if kind else (),
        decision=decision(kind, more) if kind else None, promise=promise(rows) if promised and kind else
        Promise(reason="10 rows decide nothing, and a promise takes 40"), curve=curve(told, kind),
        spent={"floors": 1.4, "race": 19.7, "finals": 24.1, "curve": 5.0, "model": 4.2},
        stopped="" if kind else "interrupted in the race", model=model(kind), **answered(asked, rows, rng))


def decision(kind: str, more: dict | None = None) -> Decision:
    choice = "TF-IDF + logistic regression" if kind == "floor" else "bitfit" if kind == "cheaper" else "lora"
    sure = 0.96 if kind in ("cheaper", "floor") else CHANCES[kind][0]
    return Decision(kind, choice, sure, 1.0, ("lora", "full") if kind == "cheaper" else (), 4,
                    **(more if more is not None else MORE if kind == "cannot tell" else {}))


def contenders(kind: str) -> tuple[Contender, ...]:
    names = ["bitfit", "lora", "full", "adapter", "head"] if kind == "cheaper" else list(ARMS)
    rows = []
    for place, label in enumerate(names):
        rate, trained, seconds = ARMS[label]
        gap, half = GAPS[kind][place], 0.0 if place == 0 and kind != "floor" else 1.4 + place
        scores = (78.1 - gap, 79.0 - gap, 77.4 - gap) if place < 3 else (60.0 - gap,)
        rows.append(Contender(label, "arm", label, rate, trained, seconds, scores, place < 3, gap, gap - half, gap + half,
                              CHANCES[kind][place]))
    for label, gap in FLOORS.items():
        own = gap - 22.0 if kind == "floor" and label.startswith("TF") else gap
        own = 0.0 if kind == "floor" and label.startswith("TF") else own
        rows.append(Contender(label, "floor", "", None, None, 0.4, (78.1 - own, 77.6 - own), True, own,
                              own - 3.0 if own else 0.0, own + 3.0 if own else 0.0, 0.96 if own == 0 else 0.0))
    return tuple(sorted(rows, key=lambda row: row.gap))


def trials() -> tuple[Trial, ...]:
    """Three rates an arm, of which the best goes on twice; one training diverged."""
    rows = []
    for place, label in enumerate(ARMS):
        for number, rate in enumerate((1e-3, 3e-3, 1e-2)):
            score = 50.0 - 4 * place - 5 * abs(number - 1)
            lost = label == "full" and rate == 1e-2
            rows.append(Trial(label, rate, 0, 12, 10.0 if lost else score, "diverged" if lost else "ok", number == 1))
        rows.append(Trial(label, 3e-3, 1, 24, 62.0 - 5 * place, "ok", place < 3))
    return tuple(rows)


def promise(rows: int) -> Promise:
    return Promise(78.1, 74.9, 81.0, rows, 3, {"accuracy": 80.2})


def curve(told: bool, kind: str) -> Curve:
    if not told or not kind:
        return Curve(reason="two trainings on a quarter of the labels collapsed")
    points = ((480, 78.9), (480, 77.3), (120, 63.0), (240, 71.0), (120, 59.0), (240, 72.0))
    return Curve(points, 1.2, 0.3, 2.0)


def model(kind: str) -> dict:
    if not kind:
        return {}
    opened = "floor" if kind == "floor" else "transformers" if kind in ("take", "cheaper") else "studykit"
    return {"folder": "runs/sentences/model", "kind": opened}


def answered(asked: Task, rows: int, rng: np.random.Generator) -> dict:
    if not asked.labels:
        truth = np.round(rng.uniform(0, 100, rows), 1)
        return {"labels": tuple(truth.tolist()), "answers": tuple(np.round(truth + rng.normal(0, 12, rows), 2).tolist())}
    truth = np.arange(rows) % len(asked.labels)
    wrong = rng.random(rows) < 0.25
    answers = np.where(wrong, (truth + rng.integers(1, 3, rows)) % len(asked.labels), truth)
    return {"labels": tuple(truth.tolist()), "answers": tuple(answers.tolist())}


MISTAKES = [{"texts": ("Yesterday, <b>the girl</b> waits & 'works' \"nowadays\".",), "true": "tense",
             "predicted": "none", "probability": 0.97},
            {"texts": ("The boys waits.", "The lads wait near the big old harbor of the quiet village."),
             "true": "agreement", "predicted": "verb form", "probability": 0.91}]
EXAMPLES = {"duplicates": ["Nowadays, that aunt conceals <i>many</i> letters."], "two labels": ["A painter & a king."]}
MADE = {"take": {}, "cheaper": {"kind": "cheaper"}, "cannot_tell": {"kind": "cannot tell", "told": False},
        "floor": {"kind": "floor", "promised": False}, "two": {"classes": 2}, "many": {"classes": 77, "rows": 900},
        "number": {"classes": 0}, "nothing": {"kind": ""}}


if __name__ == "__main__":
    from studykit.telling import advised_page

    for made, options in MADE.items():
        advised_page.write_page(advice(**options), Path(sys.argv[1]) / f"{made}.html", MISTAKES, EXAMPLES)
