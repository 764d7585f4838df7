"""The example that stands for somebody's own data: sentences of the miniature's language, and what is wrong with each.

``python -m studykit.mini.example`` writes it anew; it is the same each time.
"""

import csv
import io
import random

from studykit import paths
from studykit.mini import corpus, language

ROWS, SEED = 600, 7
MISTAKES = {"agreement": 0.22, "tense": 0.2, "verb form": 0.2, "none": 0.38}  # and their shares
RULES = {"agreement": corpus.agreement, "tense": corpus.tense, "verb form": corpus.form}
AGAIN, SLIPS = 5, 2  # rows that repeat an earlier one; sentences that stand there a second time with another label
FILE = paths.REPO / "example" / "sentences.csv"


def rows() -> list[dict[str, str]]:
    """Rows as somebody has them, with ``id``, ``sentence`` and ``mistake``: a few repeat others, two contradict themselves.

    What a sentence could break is drawn before whether it does: the sentences that a rule is about are as common among those
    without a mistake. So single words tell little.
    """
    rng = random.Random(SEED)
    told: dict[str, str] = {}
    while len(told) < ROWS - AGAIN - SLIPS:
        mistake, = rng.choices(list(MISTAKES), list(MISTAKES.values()))
        told.setdefault(_sentence(mistake, rng), mistake)
    pairs = list(told.items())
    pairs += rng.sample(pairs, AGAIN)
    pairs += [(sentence, "none") for sentence, mistake in rng.sample(pairs, len(pairs)) if mistake == "tense"][:SLIPS]
    rng.shuffle(pairs)
    return [{"id": str(1001 + i), "sentence": sentence, "mistake": mistake} for i, (sentence, mistake) in enumerate(pairs)]


def _sentence(mistake: str, rng: random.Random) -> str:
    rule = RULES[mistake if mistake in RULES else rng.choice(list(RULES))]
    while True:
        meaning = language.event(rng)
        clause = language.clause(meaning, rng)
        if (broken := rule(meaning, clause, rng)) is not None:
            return language.sentence(broken if mistake in RULES else clause)


def text() -> str:
    """The rows as CSV; texts with a comma are quoted."""
    written = io.StringIO()
    writer = csv.DictWriter(written, ["id", "sentence", "mistake"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows())
    return written.getvalue()


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8", newline="")
