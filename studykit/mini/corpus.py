"""Small MRPC-, CoLA- and STS-B-like tasks in the miniature language: generated, the same for the same seed, any size."""

import random
from dataclasses import replace

from studykit.mini import language
from studykit.mini.language import DETERMINERS, SELF, TIMES, VERBS, Thing

SIZES = {"mrpc": (1000, 500), "cola": (1500, 800), "stsb": (1000, 500)}  # train, validation


def load(name, train=None, validation=None, seed=0):
    """The task's ``datasets.DatasetDict`` with the columns of the real one; CoLA's has ``kind`` too, the violation.

    No sentence of the validation set stands in the training set.
    """
    import datasets

    if name not in SIZES:
        raise ValueError(f"the miniature has no task {name!r}: choose from {', '.join(SIZES)}")
    sizes = dict(zip(("train", "validation"), SIZES[name], strict=True))
    sizes.update({split: size for split, size in (("train", train), ("validation", validation)) if size is not None})
    seen, sets = set(), {}
    for split in ("validation", "train"):
        rng = random.Random(f"{name} {split} {seed}")
        rows, own = [], set()
        while len(rows) < sizes[split]:
            row = MAKE[name](rng)
            texts = {row[column] for column in row if column.startswith("sentence")}
            if not texts & seen and not (name == "cola" and texts & own):
                rows.append(row)
                own |= texts
        seen |= own
        sets[split] = datasets.Dataset.from_list(rows)
    return datasets.DatasetDict({"train": sets["train"], "validation": sets["validation"]})


ROLES = ("agent", "patient", "recipient")


def things(meaning):
    """Who and what takes part, by role: not a patient that is the agent itself."""
    return {role: what for role in ROLES if isinstance(what := getattr(meaning, role), Thing)}


# CoLA: acceptable or not


def acceptability(rng):
    """A sentence, acceptable or with one violation. Its kind is drawn before it is known whether it will be violated: the
    sentences that a violation can befall are as common among the acceptable ones."""
    kind = rng.choice(sorted(VIOLATIONS))
    while True:
        meaning = language.event(rng)
        parts = language.clause(meaning, rng)
        bad = VIOLATIONS[kind](meaning, parts, rng)
        if bad is not None:
            break
    if rng.random() < 0.7:
        return {"sentence": language.sentence(parts), "label": 1, "kind": ""}
    return {"sentence": language.sentence(bad), "label": 0, "kind": kind}


def agreement(meaning, parts, rng):
    """The verb has the number that its subject has not: *The girls waits*."""
    wrong = language.finite(parts.stem, past=meaning.past, plural=not parts.plural, negated=meaning.negated,
                            passive=parts.passive)
    return replace(parts, verb=wrong) if wrong != parts.verb else None


def determiner(meaning, parts, rng):
    """A determiner of the other number: *these girl*."""
    role = rng.choice([role for role in parts.phrases if role in things(meaning)])
    plural = getattr(meaning, role).plural
    right, wrong = ({forms[number] for forms in DETERMINERS.values()} for number in (plural, not plural))
    word = rng.choice(sorted(wrong - right - {None, "some"}))
    return _with(parts, role, lambda words: language.article([word, *words[1:]]))


# What English lets some verbs do, which is then no violation: go without an object (*the boy paints*), take one (*works the
# mules*), have a thing as their agent (*the mirror scared the hare*).
WITHOUT_OBJECT = {
    "applaud", "assist", "clean", "collect", "follow", "gather", "mend", "observe", "offend", "open", "paint", "pull",
    "recall", "remember", "salute", "trail"}
WITH_OBJECT = {"roam", "wander", "work"}
BY_THINGS = {
    "aid", "alert", "assist", "award", "conceal", "cover", "dance", "deliver", "follow", "frighten", "grant", "haul",
    "hoist", "insult", "lift", "linger", "offend", "offer", "pull", "roam", "scare", "trail", "wait", "wander", "warn",
    "work"}


def argument(meaning, parts, rng):
    """An object too few or too many, or an agent without its *by*: *The girl greets*; *The girl waits the dog*."""
    if meaning.recipient or meaning.patient == SELF:
        return None
    if parts.stem in WITH_OBJECT or (parts.stem in WITHOUT_OBJECT and not parts.passive):
        return None
    if parts.passive:
        return replace(parts, phrases={**parts.phrases, "agent": parts.phrases["agent"][1:]})
    if meaning.patient:
        return replace(parts, phrases={"agent": parts.phrases["agent"]})
    other = language.thing(rng, [noun for noun in language.ANIMATE + language.THINGS if noun != meaning.agent.noun])
    return replace(parts, phrases={**parts.phrases, "patient": language.noun_phrase(other, rng.choice)})


def selection(meaning, parts, rng):
    """A thing does what only someone can do: *The stone greets the girl*."""
    if meaning.patient == SELF or parts.stem in BY_THINGS:
        return None
    others = [noun for noun in language.THINGS if not meaning.patient or noun != meaning.patient.noun]
    agent = replace(meaning.agent, noun=rng.choice(others))
    return _with(parts, "agent", lambda _: language.noun_phrase(agent, rng.choice))


def anaphor(meaning, parts, rng):
    """A reflexive that does not fit its subject: *The girls greet himself*."""
    if meaning.patient != SELF:
        return None
    wrong = {"himself", "herself", "itself", "themselves"} - set(parts.phrases["patient"])
    if not meaning.agent.plural and meaning.agent.noun in language.ANIMALS:
        wrong = {"themselves"}
    if "monarch" in parts.phrases["agent"]:
        wrong -= {"herself"}
    return replace(parts, phrases={**parts.phrases, "patient": [rng.choice(sorted(wrong))]})


def order(meaning, parts, rng):
    """Two neighbours have changed places: *girl the*, *the girl old*, *not does greet*."""
    if meaning.negated and rng.random() < 0.3:
        return replace(parts, verb=[parts.verb[1], parts.verb[0], *parts.verb[2:]])
    role = rng.choice([role for role in parts.phrases if role in things(meaning)])
    at = rng.randrange(2 if getattr(meaning, role).adjective else 1)
    return _with(parts, role, lambda words: [*words[:at], words[at + 1], words[at], *words[at + 2:]])


def form(meaning, parts, rng):
    """The wrong form of the verb after an auxiliary: *did not greeted*, *is greet by*."""
    if len(parts.verb) == 1:
        return None
    forms = {parts.stem, language.inflect(parts.stem, "s"), language.inflect(parts.stem, "ed")} - {parts.verb[-1]}
    return replace(parts, verb=[*parts.verb[:-1], rng.choice(sorted(forms))])


def tense(meaning, parts, rng):
    """A time that does not fit the tense: *Yesterday, the girl waits*."""
    if not meaning.time:
        return None
    return replace(parts, time=["nowadays"] if meaning.past else rng.choice(TIMES[True])[0].split())


VIOLATIONS = {f.__name__: f for f in (agreement, determiner, argument, selection, anaphor, order, form, tense)}


def _with(parts, role, change):
    """The clause with the words of one participant changed, its preposition left alone."""
    words = parts.phrases[role]
    head = [word for word in words[:1] if word in ("by", "to")]
    return replace(parts, phrases={**parts.phrases, role: head + change(words[len(head):])})


# MRPC: do two sentences say the same?


def paraphrase(rng):
    """Two tellings of one meaning, or of two that differ in one thing. What differs is told with fewer synonyms, so that the
    words which two sentences share say little."""
    meaning = language.event(rng)
    same = rng.random() < 0.67
    while True:
        synonyms = rng.choice((0.4, 1.0)) if same else rng.choice((0.0, 0.6))
        other = meaning if same else depart(meaning, rng)
        favourites = {}
        first, second = (language.tell(each, rng, synonyms, favourites) for each in (meaning, other))
        if first != second:
            return {"sentence1": first, "sentence2": second, "label": int(same)}
        meaning = language.event(rng)


def depart(meaning, rng):
    """A meaning that differs in one thing."""
    while (changed := rng.choice(CHANGES)(meaning, rng)) is None or changed == meaning:
        pass
    return changed


def swap_roles(meaning, rng):
    """Who did it to whom, the other way round."""
    if not isinstance(meaning.patient, Thing) or meaning.patient.noun not in language.ANIMATE or meaning.agent.holding:
        return None
    return replace(meaning, agent=meaning.patient, patient=meaning.agent)


def swap_giving(meaning, rng):
    """Who gave and who was given to, the other way round."""
    if not meaning.recipient or meaning.agent.holding:
        return None
    return replace(meaning, agent=meaning.recipient, recipient=meaning.agent)


def negate(meaning, rng):
    return replace(meaning, negated=not meaning.negated)


def other_verb(meaning, rng):
    return replace(meaning, verb=rng.choice(VERBS[meaning.kind]))


def other_noun(meaning, rng):
    role, what = _someone(meaning, rng)
    taken = {each.noun for each in things(meaning).values()}
    if role == "agent" and meaning.patient == SELF:
        return None
    nouns = language.ANIMATE if what.noun in language.ANIMATE else language.THINGS
    return replace(meaning, **{role: replace(what, noun=rng.choice([noun for noun in nouns if noun not in taken]))})


def other_number(meaning, rng):
    role, what = _someone(meaning, rng)
    if None in DETERMINERS[what.determiner] or meaning.patient == SELF:
        return None
    return replace(meaning, **{role: replace(what, plural=not what.plural)})


def other_determiner(meaning, rng):
    role, what = _someone(meaning, rng)
    choices = [name for name, forms in DETERMINERS.items() if forms[what.plural]]
    return replace(meaning, **{role: replace(what, determiner=rng.choice(choices))})


def other_adjective(meaning, rng):
    role, what = _someone(meaning, rng)
    return replace(meaning, **{role: replace(what, adjective=rng.choice(language.ADJECTIVES))}) if what.adjective else None


def other_place(meaning, rng):
    if not meaning.place:
        return None
    preposition, noun = meaning.place
    return replace(meaning, place=rng.choice([(rng.choice(language.PREPOSITIONS), noun),
                                              (preposition, rng.choice(language.PLACES))]))


def other_time(meaning, rng):
    return replace(meaning, time=rng.choice(TIMES[meaning.past])) if meaning.time else None


CHANGES = (swap_roles, swap_roles, swap_giving, negate, other_verb, other_noun, other_number, other_determiner,
           other_adjective, other_place, other_time)


def _someone(meaning, rng):
    return rng.choice(list(things(meaning).items()))


# STS-B: how much of the meaning is shared?


def similarity(first, second):
    """The share of the meaning that two events have in common, from 0 to 1: 1 for the same meaning.

    Verb and participants weigh most. Someone who takes part in both, in another role, counts a little.
    """
    total = shared = 0.0
    for name, weight in WEIGHTS.items():
        one, two = getattr(first, name), getattr(second, name)
        if one != () or two != ():
            total += weight
            shared += weight * (one == two)
    everyone = [each.noun for each in things(second).values()]
    for role in ROLES:
        one, two = getattr(first, role), getattr(second, role)
        total += PARTICIPANT * (one is not None or two is not None)
        if isinstance(one, Thing) and isinstance(two, Thing) and one.noun == two.noun:
            shared += PARTICIPANT - sum(worth for name, worth in DETAILS.items() if getattr(one, name) != getattr(two, name))
        elif one is not None and one == two:  # both act on themselves
            shared += PARTICIPANT
        elif isinstance(one, Thing) and one.noun in everyone:
            shared += ELSEWHERE
    return shared / total


WEIGHTS = {"verb": 3.0, "negated": 1.5, "past": 0.5, "place": 0.7, "time": 0.7}
PARTICIPANT, ELSEWHERE = 2.5, 0.5
DETAILS = {"plural": 0.4, "determiner": 0.2, "adjective": 0.2, "holding": 0.2}


def graded(rng):
    """Two sentences and how alike they are, 0 to 5: the mean of five people's whole numbers, each with an error."""
    first = second = language.event(rng)
    for _ in range(rng.choice((0, 1, 1, 2, 3, 4, 6))):
        second = depart(second, rng)
    if rng.random() < 0.12:  # two that have nothing to do with each other
        second = language.event(rng)
    synonyms = rng.choice((0.3, 1.0))
    value = 5 * similarity(first, second)
    votes = [min(5, max(0, round(rng.gauss(value, 0.7)))) for _ in range(5)]
    favourites = {}
    return {"sentence1": language.tell(first, rng, synonyms, favourites),
            "sentence2": language.tell(second, rng, synonyms, favourites),
            "label": sum(votes) / 5}


MAKE = {"cola": acceptability, "mrpc": paraphrase, "stsb": graded}
