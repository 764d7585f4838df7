"""A miniature of English: a lexicon, meanings, and the sentences that say them.

A meaning is who does what to whom, where, when, and whether at all. One meaning has several sentences (synonyms, passive,
fronting, two orders of giving), and a small change of meaning can look almost the same (roles swapped, another number).
All randomness comes from the ``random.Random`` that is handed in. All words and sentences are this project's own.
"""

from dataclasses import dataclass

# Lexemes: words that mean the same. Nouns take -s, verbs -s and -ed; nothing is irregular.
MALE = (("boy", "lad"), ("king", "monarch"), ("uncle",), ("monk", "friar"))
FEMALE = (("girl", "maiden"), ("queen",), ("aunt",), ("nun",))
ANIMALS = (("dog", "hound"), ("rabbit", "hare"), ("donkey", "mule"), ("robot", "android"))
PEOPLE = (("doctor", "physician"), ("teacher", "tutor"), ("pilot", "aviator"), ("singer", "vocalist"), ("cook", "chef"),
          ("painter", "artist"), ("lawyer", "attorney"), ("visitor", "guest"))
ANIMATE = MALE + FEMALE + ANIMALS + PEOPLE
THINGS = (("car", "auto"), ("stone", "rock"), ("lamp", "lantern"), ("boat", "ship"), ("rope", "cord"),
          ("gift", "present"), ("chair", "seat"), ("coin",), ("mirror",), ("drum",), ("basket",), ("letter",))
PLACES = (("garden", "park"), ("river", "stream"), ("market", "bazaar"), ("castle", "fort"), ("forest", "wood"),
          ("harbor", "port"), ("village", "hamlet"), ("field", "meadow"))
ADJECTIVES = (("big", "large"), ("small", "little"), ("old", "ancient"), ("happy", "glad"), ("angry", "furious"),
              ("rich", "wealthy"), ("quiet", "silent"), ("clever", "smart"))
PREPOSITIONS = (("in", "inside"), ("near", "beside"), ("behind",))
TIMES = {True: (("yesterday",), ("last week",), ("last night",)),  # past?
         False: (("today",), ("every day",), ("nowadays",))}
VERBS = {  # kind -> lexemes; every agent is animate
    "intransitive": (("laugh", "chuckle"), ("wait", "linger"), ("wander", "roam"), ("shout", "yell"),
                     ("work", "labor"), ("sneeze",), ("dance",), ("listen",)),
    "person": (("greet", "salute"), ("assist", "aid"), ("follow", "trail"), ("warn", "alert"), ("thank",),
               ("praise", "applaud"), ("scare", "frighten"), ("insult", "offend")),
    "thing": (("repair", "mend"), ("lift", "hoist"), ("pull", "haul"), ("collect", "gather"), ("clean",),
              ("borrow",), ("open",), ("paint",)),
    "any": (("admire", "adore"), ("observe", "view"), ("remember", "recall"), ("want", "desire"),
            ("ignore", "neglect"), ("conceal", "cover")),
    "giving": (("hand", "deliver"), ("offer",), ("mail", "post"), ("award", "grant")),
}
DETERMINERS = {  # what it says -> its singular and plural form
    "definite": ("the", "the"), "indefinite": ("a", "some"), "near": ("this", "these"), "far": ("that", "those"),
    "each": ("every", None), "two": (None, "two"), "three": (None, "three"), "many": (None, "many")}
SELF = "self"  # a patient that is the agent


@dataclass(frozen=True)
class Thing:
    """Someone or something: ``noun`` is a lexeme; ``holding`` another thing, or nothing."""

    noun: tuple
    plural: bool
    determiner: str
    adjective: tuple = ()
    holding: "Thing | None" = None


@dataclass(frozen=True)
class Event:
    """A meaning. ``patient`` is a ``Thing``, ``SELF`` or ``None``; ``place`` is (preposition, noun), ``time`` a lexeme."""

    verb: tuple
    kind: str
    agent: Thing
    patient: Thing | str | None
    recipient: Thing | None
    past: bool
    negated: bool
    place: tuple
    time: tuple


def thing(rng, nouns, holds=False):
    plural = rng.random() < 0.4
    determiner = "definite" if rng.random() < 0.4 else rng.choice([d for d, forms in DETERMINERS.items() if forms[plural]])
    adjective = rng.choice(ADJECTIVES) if rng.random() < 0.3 else ()
    holding = thing(rng, THINGS) if holds and rng.random() < 0.15 else None
    return Thing(rng.choice(nouns), plural, determiner, adjective, holding)


def event(rng):
    """A meaning drawn at random. Agent, patient and recipient are different nouns."""
    kind = rng.choice(("intransitive", "person", "person", "thing", "any", "any", "giving"))
    agent = thing(rng, ANIMATE, holds=True)
    others = [noun for noun in ANIMATE if noun != agent.noun]
    patient = recipient = None
    if kind in ("thing", "giving") or (kind == "any" and rng.random() < 0.5):
        patient = thing(rng, THINGS)
    elif kind != "intransitive":
        patient = SELF if kind == "person" and reflexive(agent) and rng.random() < 0.15 else thing(rng, others)
    if kind == "giving":
        recipient = thing(rng, others)
    past = rng.random() < 0.5
    place = (rng.choice(PREPOSITIONS), rng.choice(PLACES)) if rng.random() < 0.35 else ()
    time = rng.choice(TIMES[past]) if rng.random() < 0.35 else ()
    return Event(rng.choice(VERBS[kind]), kind, agent, patient, recipient, past, rng.random() < 0.25, place, time)


def reflexive(agent):
    """The pronoun for an agent that acts on itself, or ``None`` where English would want to know more."""
    if agent.plural:
        return "themselves"
    for nouns, pronoun in ((MALE, "himself"), (FEMALE, "herself"), (ANIMALS, "itself")):
        if agent.noun in nouns:
            return pronoun
    return None


def inflect(word, ending):
    """``word`` with ``s`` or ``ed``.

    >>> inflect("greet", "ed"), inflect("praise", "ed"), inflect("queen", "s")
    ('greeted', 'praised', 'queens')
    """
    return word + ("d" if ending == "ed" and word.endswith("e") else ending)


def finite(word, *, past, plural, negated, passive):
    """The verb group as a list of words.

    >>> finite("greet", past=False, plural=True, negated=True, passive=False)
    ['do', 'not', 'greet']
    """
    no = ["not"] if negated else []
    if passive:
        return [("were" if plural else "was") if past else ("are" if plural else "is"), *no, inflect(word, "ed")]
    if negated:
        return ["did" if past else "do" if plural else "does", "not", word]
    return [inflect(word, "ed") if past else word if plural else inflect(word, "s")]


@dataclass(frozen=True)
class Clause:
    """A sentence before it is put together, so that one thing in it can be changed. ``phrases`` are lists of words by role
    (agent, patient, recipient) in the order of the sentence, the subject first."""

    phrases: dict
    verb: list
    place: list
    time: list
    front: str  # which adjunct goes first: "place", "time" or ""
    plural: bool  # the subject
    passive: bool
    stem: str  # of the verb


def clause(meaning, rng, synonyms=1.0, favourites=None):
    """One way to say it. ``synonyms`` is how often a word is drawn from its lexeme rather than the favourite is taken, which
    is drawn once and kept in ``favourites``."""
    favourites = {} if favourites is None else favourites

    def say(lexeme):
        if rng.random() < synonyms:
            return rng.choice(lexeme)
        return favourites.setdefault(lexeme, rng.choice(lexeme))

    stem, agent, phrases = say(meaning.verb), noun_phrase(meaning.agent, say), {}
    if meaning.patient:
        phrases["patient"] = [reflexive(meaning.agent)] if meaning.patient == SELF else noun_phrase(meaning.patient, say)
    passive = isinstance(meaning.patient, Thing) and rng.random() < 0.35
    if meaning.recipient:
        recipient = noun_phrase(meaning.recipient, say)
        if not passive and rng.random() < 0.5:
            phrases = {"recipient": recipient, **phrases}
        else:
            phrases["recipient"] = ["to", *recipient]
    phrases = {**phrases, "agent": ["by", *agent]} if passive else {"agent": agent, **phrases}
    plural = (meaning.patient if passive else meaning.agent).plural
    place = [say(meaning.place[0]), "the", say(meaning.place[1])] if meaning.place else []
    time = say(meaning.time).split() if meaning.time else []
    fronts = [name for name, words in (("place", place), ("time", time)) if words]
    front = rng.choice(fronts) if fronts and rng.random() < 0.35 else ""
    verb = finite(stem, past=meaning.past, plural=plural, negated=meaning.negated, passive=passive)
    return Clause(phrases, verb, place, time, front, plural, passive, stem)


def noun_phrase(what, say):
    words = [DETERMINERS[what.determiner][what.plural]]
    if what.adjective:
        words.append(say(what.adjective))
    noun = say(what.noun)
    words.append(inflect(noun, "s") if what.plural else noun)
    return article(words) + (["with", *noun_phrase(what.holding, say)] if what.holding else [])


def article(words):
    """*a* becomes *an* before a vowel."""
    return ["an", *words[1:]] if words[0] == "a" and words[1][0] in "aeiou" else words


def sentence(parts):
    """The clause as text.

    >>> sentence(Clause({"agent": ["the", "dog"]}, ["waits"], ["by", "the", "sea"], ["today"], "time", False, False, "wait"))
    'Today, the dog waits by the sea.'
    """
    subject, *objects = parts.phrases.values()
    adjuncts = {"place": parts.place, "time": parts.time}
    front = adjuncts.pop(parts.front, [])
    words = [*subject, *parts.verb, *(word for phrase in (*objects, *adjuncts.values()) for word in phrase)]
    text = (" ".join(front) + ", " if front else "") + " ".join(words)
    return text[0].upper() + text[1:] + "."


def tell(meaning, rng, synonyms=1.0, favourites=None):
    """One sentence that says it."""
    return sentence(clause(meaning, rng, synonyms, favourites))


def words():
    """Every stem and function word of the language, without endings, in a fixed order."""
    lexemes = [*ANIMATE, *THINGS, *PLACES, *ADJECTIVES, *PREPOSITIONS, *TIMES[True], *TIMES[False],
               *(lexeme for kind in VERBS.values() for lexeme in kind)]
    found = [word for lexeme in lexemes for phrase in lexeme for word in phrase.split()]
    found += [form for forms in DETERMINERS.values() for form in forms if form]
    found += ["an", "with", "to", "by", "not", "do", "does", "did", "is", "are", "was", "were", "himself", "herself",
              "itself", "themselves", ",", "."]
    return list(dict.fromkeys(found))
