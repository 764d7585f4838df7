"""The miniature's tasks, read by a recogniser that knows the lexicon and some English, and nothing of the generator."""

import hashlib
import itertools
import json
import os
import random
import re
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, matthews_corrcoef, roc_auc_score

from studykit import tasks
from studykit.mini import corpus, language, pretrain
from studykit.mini.language import ANIMALS, ANIMATE, FEMALE, MALE, PEOPLE, PLACES, SELF, THINGS, VERBS, Event, Thing

SMALL = {"train": 60, "validation": 20}

# The recogniser. A sentence becomes a string of marks, one a word, that a regular expression reads.

SINGULAR, PLURAL, EITHER = {False}, {True}, {False, True}
DETERMINERS = {  # word -> what it says, the numbers of its noun
    "the": ("definite", EITHER), "a": ("indefinite", SINGULAR), "an": ("indefinite", SINGULAR),
    "some": ("indefinite", EITHER), "this": ("near", SINGULAR), "these": ("near", PLURAL), "that": ("far", SINGULAR),
    "those": ("far", PLURAL), "every": ("each", SINGULAR), "two": ("two", PLURAL), "three": ("three", PLURAL),
    "many": ("many", PLURAL)}  # "some girl", one whom we do not know, is English
AUXILIARIES = {  # word -> mark, numbers of its subject, past?
    "do": ("X", PLURAL, False), "does": ("X", SINGULAR, False), "did": ("X", EITHER, True), "is": ("B", SINGULAR, False),
    "are": ("B", PLURAL, False), "was": ("B", SINGULAR, True), "were": ("B", PLURAL, True)}
FINITE = {"": PLURAL, "s": SINGULAR, "ed": EITHER}  # ending of a verb -> the numbers of its subject
TIMES = {"yesterday": {True}, "last week": {True}, "last night": {True}, "nowadays": {False},  # past?
         "today": EITHER, "every day": EITHER}  # "the girl waited every day" is as good as "waits"
ONE = ((MALE, {"himself"}), (FEMALE, {"herself"}), (PEOPLE, {"himself", "herself"}),
       (ANIMALS, {"himself", "herself", "itself"}))  # nouns -> the reflexives of one of them
WITHOUT_OBJECT = {  # as in "the girls gathered", "the boy paints", "that dog follows"
    "applaud", "assist", "clean", "collect", "follow", "gather", "mend", "observe", "offend", "open", "paint", "pull",
    "recall", "remember", "salute", "trail"}
WITH_OBJECT = {"roam", "wander", "work"}  # as in "the cook roamed the boat", "the boy works the mules"
BY_THINGS = {  # as in "the car hauls the boat", "the stones conceal a coin", "the mirror scared the hare", "the lamp works"
    "aid", "alert", "assist", "award", "conceal", "cover", "dance", "deliver", "follow", "frighten", "grant", "haul",
    "hoist", "insult", "lift", "linger", "offend", "offer", "pull", "roam", "scare", "trail", "wait", "wander", "warn",
    "work"}

STEMS = {word: (mark, lexeme) for mark, lexemes in (
    ("N", ANIMATE + THINGS), ("L", PLACES), ("A", language.ADJECTIVES), ("P", language.PREPOSITIONS),
    ("V", sum(VERBS.values(), ()))) for lexeme in lexemes for word in lexeme}
MARKS = {**dict.fromkeys(DETERMINERS, "D"), **{word: mark for word, (mark, *_) in AUXILIARIES.items()},
         **dict.fromkeys(TIMES, "t"), **dict.fromkeys(("himself", "herself", "itself", "themselves"), "R"),
         "not": "n", "with": "W", "by": "Y", "to": "T", ",": ","}
ENDINGS = {"N": ("", "s"), "V": ("", "s", "ed")}
NOUN = "DA?N(?:WDA?N)?"
SHAPE = re.compile(
    rf"(?:(?:(?P<place>PDL)|(?P<time>t)),)?(?P<subject>{NOUN})(?P<aux>Xn|Bn?)?(?P<verb>V)(?P<first>{NOUN}|R)?(?P<second>{NOUN})?"
    rf"(?:T(?P<to>{NOUN}))?(?:Y(?P<by>{NOUN}))?(?P<late_place>PDL)?(?P<late_time>t)?")


class Word(NamedTuple):
    text: str
    mark: str
    lexeme: tuple = ()
    ending: str = ""


FORMS = {(stem.removesuffix("e") if ending == "ed" else stem) + ending: Word(stem, mark, lexeme, ending)
         for stem, (mark, lexeme) in STEMS.items() for ending in ENDINGS.get(mark, ("",))}


class Parse(NamedTuple):
    """Who does what; a participant that the sentence has not is empty, and so are place and time."""

    verb: Word
    aux: list
    subject: list
    objects: list
    to: list
    by: list
    place: list
    time: list


def tagged(text):
    """The sentence's words, each with its mark, or ``?`` for a word that is none."""
    found = re.findall(rf"{'|'.join(TIMES)}|\w+|\S", text[0].lower() + text[1:-1])
    return [tag(word) for word in found] if text[0].isupper() and text[-1] == "." else []


def tag(word):
    if word in MARKS:
        return Word(word, MARKS[word])
    return FORMS.get(word, Word(word, "?"))


def parse(text):
    """What the words of a sentence are to each other, or ``None`` where they are no sentence."""
    words = tagged(text)
    found = SHAPE.fullmatch("".join(word.mark for word in words))
    if not found or (found["place"] and found["late_place"]) or (found["time"] and found["late_time"]):
        return None
    part = {name: words[slice(*found.span(name))] if found[name] else [] for name in SHAPE.groupindex}
    return Parse(part["verb"][0], part["aux"], part["subject"], [each for each in (part["first"], part["second"]) if each],
                 part["to"], part["by"], part["place"] or part["late_place"], part["time"] or part["late_time"])


def passive(found):
    return bool(found.aux) and found.aux[0].mark == "B"


def kind(found):
    return next(kind for kind, lexemes in VERBS.items() if found.verb.lexeme in lexemes)


def roles(found):
    """The words of agent, patient and recipient, each empty where there is none."""
    if passive(found):
        return found.by, found.subject, found.to
    *recipient, patient = found.objects or [[]]
    return found.subject, patient, recipient[0] if recipient else found.to


def noun(words):
    return next(word for word in words if word.mark in "NL")


def plural(words):
    return noun(words).ending == "s"


def past(found):
    return AUXILIARIES[found.aux[0].text][2] if found.aux else found.verb.ending == "ed"


def violations(text):
    """The names of the rules that a sentence breaks: none for an acceptable one."""
    found = parse(text)
    if found is None:
        return {"no parse"}
    return {name for name, holds in RULES.items() if not holds(found)}


def agreement_holds(found):
    return plural(found.subject) in (AUXILIARIES[found.aux[0].text][1] if found.aux else FINITE[found.verb.ending])


def form_holds(found):
    return not found.aux or found.verb.ending == ("ed" if passive(found) else "")


def tense_holds(found):
    return not found.time or past(found) in TIMES[found.time[0].text]


def determiner_holds(found):
    """Also of what someone is *with*; and *an* stands before a vowel, nowhere else."""
    words = [word for part in (found.subject, *found.objects, found.to, found.by, found.place) for word in part]
    starts = [i for i, word in enumerate(words) if word.mark == "D"]
    return all(plural(words[i:]) in DETERMINERS[words[i].text][1] for i in starts) and all(
        (words[i].text == "an") == (words[i + 1].text[0] in "aeiou") for i in starts if words[i].text in ("a", "an"))


def argument_holds(found):
    """As many participants as the verb takes, each with its preposition."""
    objects, to, by, verb = len(found.objects), bool(found.to), bool(found.by), found.verb.text
    if passive(found):
        return (objects, by, to) == (0, True, kind(found) == "giving") and kind(found) != "intransitive"
    wanted = {"intransitive": {(0, False), (verb in WITH_OBJECT, False)}, "giving": {(2, False), (1, True)}}
    return not by and (objects, to) in wanted.get(kind(found), {(1, False), (verb not in WITHOUT_OBJECT, False)})


def selection_holds(found):
    """Someone acts, on what the verb is for, and someone receives."""
    if not argument_holds(found):
        return True  # we cannot say who is who
    agent, patient, recipient = roles(found)
    fits = {"person": ANIMATE, "thing": THINGS, "giving": THINGS}.get(kind(found), ANIMATE + THINGS)
    return ((noun(agent).lexeme in ANIMATE or found.verb.text in BY_THINGS)
            and (not patient or patient[0].mark == "R" or noun(patient).lexeme in fits)
            and (not recipient or noun(recipient).lexeme in ANIMATE))


def anaphor_holds(found):
    mirrors = [words[0].text for words in found.objects if words[0].mark == "R"]
    one = next((words for nouns, words in ONE if noun(found.subject).lexeme in nouns), {"itself"})
    one = one | {"herself"} if noun(found.subject).text == "monarch" else one
    return set(mirrors) <= ({"themselves"} if plural(found.subject) else one)


RULES = {"agreement": agreement_holds, "form": form_holds, "tense": tense_holds, "determiner": determiner_holds,
         "argument": argument_holds, "selection": selection_holds, "anaphor": anaphor_holds}


def thing(words):
    """The ``Thing`` that a noun phrase speaks of, ``SELF`` for a reflexive, ``None`` for nothing."""
    if not words or words[0].mark == "R":
        return SELF if words else None
    own = next((i for i, word in enumerate(words) if word.mark == "W"), len(words))
    adjective = words[1].lexeme if words[1].mark == "A" else ()
    return Thing(noun(words).lexeme, plural(words), DETERMINERS[words[0].text][0], adjective, thing(words[own + 1:]))


def meaning(text):
    """The ``Event`` that an acceptable sentence tells."""
    found = parse(text)
    place = (found.place[0].lexeme, noun(found.place).lexeme) if found.place else ()
    return Event(found.verb.lexeme, kind(found), *map(thing, roles(found)), past(found),
                 any(word.mark == "n" for word in found.aux), place, tuple(word.text for word in found.time))


BY_HAND = {
    "The girl waits.": set(), "Two quiet aunts with an old drum roam.": set(), "Last night, a monk did not dance.": set(),
    "These dogs thank themselves.": set(), "The letter was handed to every king by some nuns in the garden.": set(),
    "The nun hands a king the coin.": set(), "The nun hands the coin to a king.": set(),
    "Some girl waited every day.": set(), "The girls waits.": {"agreement"},
    "The ropes was borrowed by a boy.": {"agreement"}, "A boy do not wait.": {"agreement"},
    "These girl waits.": {"determiner"}, "The girl greets an king.": {"determiner"}, "A aunt waits.": {"determiner"},
    "The boy with two coin waits.": {"determiner"}, "Yesterday, the girl waits.": {"tense"},
    "The girl did not wait nowadays.": {"tense"}, "The girl did not waited.": {"form"},
    "The car is repair by a cook.": {"form"}, "The girl greets.": {"argument"}, "The girl waits the dog.": {"argument"},
    "The dog is greeted the girl.": {"argument"}, "The nun hands the coin.": {"argument"},
    "The boat is waited by the girl.": {"argument"}, "The stone greets the girl.": {"selection"},
    "The girl thanks the stone.": {"selection"}, "The girl repairs the king.": {"selection"},
    "The nun mails a coin the king.": {"selection"}, "The girls greet himself.": {"anaphor"},
    "The king praises herself.": {"anaphor"}, "The nun greets itself.": {"anaphor"},
    "The dog greets themselves.": {"anaphor"}, "The girl old waits.": {"no parse"}, "Girl the waits.": {"no parse"},
    "The girl not does wait.": {"no parse"}, "The girl waits today today.": {"no parse"},
    "Today, the girl waits today.": {"no parse"}, "In the garden the girl waits.": {"no parse"},
    "The girl praiseed a boy.": {"no parse"}, "The girl cut a rope.": {"no parse"}, "the girl waits.": {"no parse"},
    "The girl waits": {"no parse"}, "The girls waits the dog yesterday.": {"agreement", "argument", "tense"}}


@pytest.mark.parametrize("text", BY_HAND)
def test_the_recogniser_finds_what_we_see(text):
    assert violations(text) == BY_HAND[text]


def test_no_word_is_two_words():
    """Or the recogniser would have to guess."""
    lexemes = [*ANIMATE, *THINGS, *PLACES, *language.ADJECTIVES, *language.PREPOSITIONS, *sum(VERBS.values(), ())]
    assert len(STEMS) == sum(map(len, lexemes))
    assert len(FORMS) == sum(len(ENDINGS.get(mark, " ")) for mark, _ in STEMS.values())
    assert not FORMS.keys() & MARKS.keys()


# Acceptability


@pytest.fixture(scope="module")
def cola():
    """Many rows of the task."""
    rng = random.Random("acceptability")
    return [corpus.acceptability(rng) for _ in range(16_000)]


def test_no_acceptable_sentence_breaks_a_rule(cola):
    texts = [row["sentence"] for row in cola if row["label"]]
    assert len(texts) > 10_000
    assert [text for text in texts if violations(text)] == []


@pytest.mark.parametrize("name", [*RULES, "order"])
def test_a_violation_breaks_its_own_rule_and_no_other(name, cola):
    texts = [row["sentence"] for row in cola if row["kind"] == name]
    wrong = [text for text in texts if violations(text) != {"no parse" if name == "order" else name}]
    assert len(texts) > 400
    assert not wrong, f"{len(wrong)} of {len(texts)}, such as {wrong[:6]}"


def test_no_two_participants_are_the_same(cola):
    found = [parse(row["sentence"]) for row in cola if row["kind"] in ("", "selection")]
    nouns = [[noun(words).lexeme for words in roles(each) if words and words[0].mark != "R"] for each in found]
    wrong = [each for each in nouns if len(set(each)) < len(each)]
    assert not wrong, f"{len(wrong)} of {len(nouns)}, such as {wrong[:3]}"


def test_every_shape_of_sentence_is_acceptable_and_not(cola):
    """Or its shape would tell: *by*, fronting, *with*, *to*, a reflexive, *not*, each tense."""
    for mark in "B,WTRnPt":
        labels = [row["label"] for row in cola if mark in "".join(word.mark for word in tagged(row["sentence"]))]
        assert len(labels) > 1000
        assert np.mean(labels) == pytest.approx(0.7, abs=0.05)


# The tasks as data


@pytest.fixture(scope="module")
def data():
    """The tasks at the size that is used."""
    return {name: corpus.load(name) for name in corpus.SIZES}


def told(split, name):
    return [text for column in tasks.get(name).columns for text in split[column]]


def fingerprint(seed=0):
    """A SHA-256 over all rows of the three tasks, small."""
    rows = [corpus.load(name, **SMALL, seed=seed)[split].to_list() for name in corpus.SIZES for split in SMALL]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def test_another_process_makes_the_same_rows():
    code = "import test_mini_language; print(test_mini_language.fingerprint())"
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(["tests", *sys.path])}
    run = subprocess.run([sys.executable, "-c", code], env=env, cwd=os.path.dirname(os.path.dirname(__file__)),
                         capture_output=True, text=True, check=True)
    assert run.stdout.split()[-1] == fingerprint()


def test_another_seed_makes_other_rows():
    assert len({fingerprint(seed) for seed in (0, 1, 2)}) == 3


@pytest.mark.parametrize("name", corpus.SIZES)
@pytest.mark.parametrize("size", [1, 7, 500])
def test_any_size_can_be_had(name, size):
    made = corpus.load(name, train=size, validation=size)
    assert {split: len(made[split]) for split in made} == {"train": size, "validation": size}


@pytest.mark.parametrize("name", corpus.SIZES)
def test_no_sentence_of_validation_stands_in_train(name, data):
    assert (len(data[name]["train"]), len(data[name]["validation"])) == corpus.SIZES[name]
    assert not set(told(data[name]["train"], name)) & set(told(data[name]["validation"], name))


@pytest.mark.parametrize("name", corpus.SIZES)
def test_nor_where_sentences_are_so_few_that_they_come_again(name, monkeypatch):
    """And no sentence of CoLA comes twice."""
    columns = tasks.get(name).columns
    row = lambda rng: {**{column: str(rng.randrange(60)) for column in columns}, "label": 1}  # noqa: E731
    monkeypatch.setitem(corpus.MAKE, name, row)
    made = corpus.load(name, train=20, validation=20)
    train, validation = (told(made[split], name) for split in ("train", "validation"))
    assert not set(train) & set(validation)
    assert name != "cola" or len(set(train + validation)) == 40


@pytest.mark.parametrize("name", corpus.SIZES)
def test_the_tasks_have_columns_and_labels_of_the_real_ones(name, data, tmp_path):
    """``tasks.load`` takes them, and it is strict."""
    (tmp_path / name).mkdir()
    for split in data[name]:
        data[name][split].to_parquet(str(tmp_path / name / f"{split}-0.parquet"))
    read = tasks.load(name, tmp_path)
    assert read["train"].column_names == [*tasks.get(name).columns, "label"]
    assert set(data[name]["train"].column_names) - set(read["train"].column_names) == ({"kind"} if name == "cola" else set())


@pytest.mark.parametrize("name, share", [("cola", 0.7), ("mrpc", 2 / 3)])
def test_labels_are_balanced_as_in_the_real_task(name, share, data):
    for split in data[name].values():
        assert np.mean(split["label"]) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(split)))


def test_grades_are_fifths_over_the_whole_range(data):
    for split in data["stsb"].values():
        fifths = 5 * np.array(split["label"])
        assert fifths == pytest.approx(fifths.round(), abs=1e-9)
        assert set(fifths.round()) == set(range(26))


def test_a_sentence_has_a_kind_of_violation_exactly_where_it_is_not_acceptable(data):
    for split in data["cola"].values():
        kinds, labels = split["kind"][:], split["label"][:]
        assert [kind == "" for kind in kinds] == [label == 1 for label in labels]
        assert set(kinds) == {"", *corpus.VIOLATIONS} == {"", "order", *RULES}
        assert len(set(split["sentence"])) == len(split)


# Meanings and pairs


@pytest.fixture(scope="module")
def meanings():
    rng = random.Random("meanings")
    return [language.event(rng) for _ in range(1500)]


def departed(event, times, rng):
    for _ in range(times):
        event = corpus.depart(event, rng)
    return event


def test_every_telling_is_acceptable_and_says_what_is_meant(meanings):
    """Also of a meaning that departures led to, with many synonyms or with few."""
    rng = random.Random(1)
    for first in meanings:
        for event in (first, departed(first, 3, rng)):
            text = language.tell(event, rng, rng.choice((0.0, 0.5, 1.0)))
            assert violations(text) == set()
            assert meaning(text) == event


def test_two_sentences_are_equivalent_where_they_mean_the_same():
    rng = random.Random("equivalence")
    pairs = [corpus.paraphrase(rng) for _ in range(4000)]
    assert all(pair["sentence1"] != pair["sentence2"] for pair in pairs)
    same = [meaning(pair["sentence1"]) == meaning(pair["sentence2"]) for pair in pairs]
    assert [pair["label"] for pair in pairs] == same


def test_a_departure_changes_the_meaning(meanings):
    rng = random.Random(2)
    for event in meanings:
        assert corpus.depart(event, rng) != event


def test_each_change_happens(meanings):
    rng = random.Random(3)
    for change in corpus.CHANGES:
        changed = [change(event, rng) for event in meanings]
        assert sum(other not in (None, event) for event, other in zip(meanings, changed, strict=True)) > 50


def test_similarity_is_symmetric_and_1_for_the_same_meaning_only(meanings):
    rng = random.Random(4)
    for one, other in itertools.pairwise(meanings):
        assert corpus.similarity(one, one) == 1
        for second in (other, corpus.depart(one, rng), departed(one, 4, rng)):
            found = corpus.similarity(one, second)
            assert (found == 1) if second == one else (0 <= found < 1)
            assert corpus.similarity(second, one) == pytest.approx(found, abs=1e-12)


def test_similarity_falls_with_each_departure(meanings):
    rng = random.Random(5)
    means = [np.mean([corpus.similarity(event, departed(event, times, rng)) for event in meanings])
             for times in (0, 1, 2, 3, 4, 6)]
    assert means[0] == 1
    assert np.diff(means).max() < -0.02


def test_grades_follow_the_similarity_of_what_is_said(data):
    """Five votes with errors of 0.7 leave 0.3 points of noise."""
    rows = data["stsb"]["validation"].to_list()
    truth = np.array([5 * corpus.similarity(meaning(row["sentence1"]), meaning(row["sentence2"])) for row in rows])
    labels = np.array([row["label"] for row in rows])
    assert pearsonr(labels, truth)[0] > 0.95
    assert np.sqrt(np.mean((labels - truth) ** 2)) == pytest.approx(0.7 / np.sqrt(5), abs=0.05)


# What needs no understanding


def test_length_and_overlap_are_not_enough(data):
    found = {name: tasks.baselines(name, data[name]) for name in data}
    assert set(found["cola"]) == {"length"}
    assert found["cola"]["length"] < 0.15
    assert 0.3 < found["stsb"]["length and overlap"] < 0.75
    positive = f1_score(data["mrpc"]["validation"]["label"], [1] * len(data["mrpc"]["validation"]))
    assert found["mrpc"] == pytest.approx({"length": positive, "length and overlap": positive}, abs=0.02)


def counted(train, test, labels):
    """The probability of label 1 for the test texts from a logistic regression on words counted in the training texts."""
    count = CountVectorizer(token_pattern=r"\w+")
    model = LogisticRegression(C=0.3, max_iter=500).fit(count.fit_transform(train), labels)
    return model.predict_proba(count.transform(test))[:, 1]


def test_the_words_of_a_sentence_hardly_tell_whether_it_is_acceptable(data):
    train, test = data["cola"]["train"], data["cola"]["validation"]
    found = counted(train["sentence"], test["sentence"], train["label"])
    cut = np.quantile(found, 0.3)
    assert matthews_corrcoef(test["label"], found > cut) < 0.25


@pytest.mark.parametrize("column", tasks.get("mrpc").columns)
def test_one_sentence_does_not_tell_whether_another_means_the_same(column):
    rng = random.Random("one sentence")
    rows = [corpus.paraphrase(rng) for _ in range(5000)]
    texts, labels = [row[column] for row in rows], [row["label"] for row in rows]
    assert roc_auc_score(labels[3000:], counted(texts[:3000], texts[3000:], labels[:3000])) < 0.6


def test_synonyms_are_as_common_in_pairs_that_mean_the_same():
    rng = random.Random("synonyms")
    shares = {0: [], 1: []}
    for row in (corpus.paraphrase(rng) for _ in range(4000)):
        words = [word for text in (row["sentence1"], row["sentence2"]) for word in tagged(text) if len(word.lexeme) == 2]
        shares[row["label"]] += [word.text == word.lexeme[1] for word in words]
    assert np.mean(shares[1]) == pytest.approx(np.mean(shares[0]), abs=0.03)


# Over seeds and sizes

seeds, sizes = st.integers(0, 2 ** 63), st.integers(1, 40)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(corpus.SIZES)), seeds, sizes, sizes)
def test_every_load_is_of_the_size_asked_for_disjoint_and_repeatable(name, seed, train, validation):
    made, again = (corpus.load(name, train=train, validation=validation, seed=seed) for _ in range(2))
    assert (len(made["train"]), len(made["validation"])) == (train, validation)
    assert not set(told(made["train"], name)) & set(told(made["validation"], name))
    assert [made[split].to_list() for split in made] == [again[split].to_list() for split in again]


@pytest.fixture(scope="module")
def tokenizer():
    return pretrain.tokenizer()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(corpus.SIZES)), seeds)
def test_the_tokenizer_knows_every_word_as_a_stem_and_at_most_one_ending(tokenizer, name, seed):
    stems = set(language.words())
    for text in told(corpus.load(name, train=1, validation=40, seed=seed)["validation"], name):
        for word in re.findall(r"\w+|\S", text):
            stem, *endings = tokenizer.tokenize(word)
            assert stem in stems
            assert endings in ([], *([ending] for ending in pretrain.ENDINGS))
            assert stem + "".join(endings).replace("##", "") == word.lower()
        assert len(tokenizer(text)["input_ids"]) <= tokenizer.model_max_length
