"""The example that stands for somebody's own data: sentences of the miniature's language, and how many act on how many.

``python -m studykit.mini.example`` writes it anew; it is the same each time.
"""

import csv
import io
import random

from studykit import paths
from studykit.mini import language

ROWS, SEED = 600, 7
AGAIN, WRONG = 7, 15  # rows that repeat an earlier one; labels that are wrong, as some always are
RELATIONS = ("one to one", "one to many", "many to one", "many to many")
FILE = paths.REPO / "example" / "sentences.csv"


def rows() -> list[dict[str, str]]:
    """Rows as somebody has them, with ``id``, ``sentence`` and ``relation``; a few repeat others, with another label too.

    Words say how many there are, but not who acts: in the passive it is the other way round. Counting words is not enough.
    """
    rng = random.Random(SEED)
    told: dict[str, str] = {}
    while len(told) < ROWS - AGAIN:
        told.setdefault(*_told(rng))
    pairs = list(told.items())
    pairs += rng.sample(pairs, AGAIN)
    wrong = set(rng.sample(range(ROWS), WRONG))
    given = [(sentence, rng.choice([name for name in RELATIONS if name != relation]) if place in wrong else relation)
             for place, (sentence, relation) in enumerate(pairs)]
    rng.shuffle(given)
    return [{"id": str(number), "sentence": sentence, "relation": relation}
            for number, (sentence, relation) in enumerate(given, 1001)]


def _told(rng: random.Random) -> tuple[str, str]:
    """A sentence in which somebody acts on somebody or something else, and its label."""
    while True:
        meaning = language.event(rng)
        if isinstance(meaning.patient, language.Thing) and not meaning.recipient:
            number = [("one", "many")[what.plural] for what in (meaning.agent, meaning.patient)]
            return language.tell(meaning, rng), " to ".join(number)


def text() -> str:
    """The rows as CSV; texts with a comma are quoted."""
    written = io.StringIO()
    writer = csv.DictWriter(written, ["id", "sentence", "relation"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows())
    return written.getvalue()


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8", newline="")
