"""What people see of advice: sentences that follow the value, figures for any number of classes, a page that is whole."""

import dataclasses
import json
import re

import made_advice
import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_advice import MADE, advice

from studykit import paths
from studykit.advise.advice import Curve, read
from studykit.advise.session import Texts
from studykit.telling import advised, advised_figures, advised_page, door, facts, style
from studykit.telling.advised_parts import mean

CHOICES = {"take": "`lora` (learning rate 0.003)", "cheaper": "`bitfit` (learning rate 0.01)",
           "cannot tell": "`lora` (learning rate 0.003)", "floor": "TF-IDF + logistic regression"}


def said(found):
    return " ".join(fact.sentence for fact in found)


# Sentences


@pytest.mark.parametrize("kind", made_advice.KINDS)
def test_the_decision_is_told_with_its_choice_and_how_sure_it_is(kind):
    given = advice(kind)
    fact, = advised.decision(given)
    assert fact.kind == "answer" and fact.about == {"decision": kind, "choice": given.decision.choice}
    assert CHOICES[kind] in fact.sentence and f"{100 * given.decision.sure:.0f} %" in fact.sentence
    assert ("cannot be told" in fact.sentence) == (kind == "cannot tell")
    assert fact.sentence.startswith("Take ") == (kind != "cannot tell")


def test_of_several_that_will_do_the_cheapest_is_named_and_the_others_too():
    assert "the cheapest of `bitfit`, `lora` and `full`" in said(advised.decision(advice("cheaper")))


@pytest.mark.parametrize(("more", "expected"), [
    ({"more_rounds": 14.0, "more_minutes": 12.4}, "About 10 more rounds of finals, 13 minutes, would settle it"),
    ({"more_rounds": 5.0}, "About 1 more round of finals would settle it"),
    ({"more_labels": 4}, "about 2,400 labelled rows instead of 600 would"),
    ({}, "neither more trainings of this length nor more labels within reach")])
def test_what_it_would_take_to_tell(more, expected):
    assert expected in said(advised.decision(advice("cannot tell", more=more)))


def test_what_ended_early_says_so_with_a_decision_and_without():
    assert "no decision yet: interrupted in the race" in said(advised.decision(advice("")))
    stopped = dataclasses.replace(advice(), stopped="time was up in the finals")
    told = advised.decision(stopped)
    assert told[0] == advised.decision(advice())[0] and "time was up in the finals" in told[1].sentence
    assert "no model yet" in said(advised.use(advice("")))


def test_the_promise_has_an_interval_and_says_what_it_is_from():
    assert said(advised.promise(advice())) == ("On new rows like these expect macro F1 of 78.1 (74.9 to 81.0), accuracy "
                                               "80.2, by 3 runs on 120 rows that decided nothing.")
    fact, = advised.promise(advice(promised=False))
    assert fact.kind == "no_promise" and "10 rows decide nothing" in fact.sentence


@pytest.mark.parametrize(("low", "high", "gain", "kind", "word"), [
    (0.3, 2.0, 1.2, "more_labels", "1.2 points more (0.3 to 2.0)"),
    (-0.6, 1.4, 0.4, "labels_open", "is open"), (-2.0, -0.1, -1.0, "fewer_points", "1.0 point less")])
def test_what_twice_the_labels_would_give_follows_the_interval(low, high, gain, kind, word):
    given = dataclasses.replace(advice(), curve=Curve(((240, 70.0), (480, 75.0)), gain, low, high))
    fact, = advised.curve(given)
    assert fact.kind == kind and word in fact.sentence and "960 instead of 480" in fact.sentence
    assert "collapsed" in said(advised.curve(advice(told=False)))


@pytest.mark.parametrize("kind", made_advice.KINDS)
def test_who_is_ahead_and_who_behind_follows_the_gaps(kind):
    given = advice(kind)
    for fact in advised.certainty(given):
        if "gap" in fact.numbers:
            assert ("behind the choice" in fact.sentence) == (fact.numbers["gap"] > 0)
    left = {row.label for row in given.contenders if row.kind == "arm" and not row.finalist}
    told = next(fact for fact in advised.certainty(given) if fact.kind == "left")
    assert set(re.findall("`(.+?)`", told.sentence)) == left


def test_floors_are_told_best_first_whatever_way_is_better():
    given = advice()
    less = json.loads(json.dumps(given.task).replace('"more"', '"less"'))
    for task in (given.task, less):
        fact, = advised.floors(dataclasses.replace(given, task=task))
        best = (max if task is given.task else min)(
            (row for row in given.contenders if row.kind == "floor"), key=mean)
        assert f"An arm must beat {best.label}" in fact.sentence
        places = [fact.sentence.index(f"{label} {score:.1f}") for label, score in fact.numbers.items()]
        assert places == sorted(places)


def test_a_training_that_went_wrong_is_told():
    assert "1 of the race's 20 trainings collapsed or diverged: of `full` 1." in said(advised.race(advice()))


@pytest.mark.parametrize("options", MADE.values(), ids=MADE)
def test_only_elapsed_speaks_of_seconds_and_the_same_advice_gives_the_same_sentences(options):
    given = advice(**options)
    rows = tuple(dataclasses.replace(row, seconds=row.seconds and 2 * row.seconds) for row in given.contenders)
    spent = {stage: 3 * seconds for stage, seconds in given.spent.items()}
    slower = dataclasses.replace(given, spent=spent, contenders=rows)
    for tell in (advised.decision, advised.certainty, advised.promise, advised.curve, advised.reading, advised.oddities,
                 advised.floors, advised.race, advised.cost, advised.use, advised.plan):
        assert tell(given) == tell(slower) and tell(given) is not None
    assert advised.elapsed(given) != advised.elapsed(slower)


def test_advice_is_kept_and_read_again_without_any_text(tmp_path):
    for options in MADE.values():
        given = advice(**options)
        given.write(tmp_path / "advice.json")
        assert read(tmp_path / "advice.json") == given
        written = (tmp_path / "advice.json").read_text()
        assert not [text for mistake in made_advice.MISTAKES for text in mistake["texts"] if text in written]


# Figures


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


SEEN = {name: MADE[name] for name in ("take", "floor", "many", "number")}


@pytest.mark.parametrize("width", [6.3, advised_figures.PHONE])
@pytest.mark.parametrize("options", SEEN.values(), ids=SEEN)
def test_every_figure_is_as_wide_as_asked_and_has_a_caption(options, width):
    given = advice(**options)
    for name, draw in advised_figures.drawn(given).items():
        fig = draw(given, width)
        fig.canvas.draw()
        assert fig.get_figwidth() == width
        assert len(advised_figures.caption(given, name)) > 50
        box, inside = fig.get_tightbbox(), fig.bbox_inches
        assert box.x0 > inside.x0 - 0.05 and box.x1 < inside.x1 + 0.05, f"{name} is cut"


def test_there_is_no_figure_of_what_is_not_there():
    assert list(advised_figures.drawn(advice(""))) == ["race", "answers"]
    assert "learning_curve" not in advised_figures.drawn(advice(told=False))
    gone = {"certainty": {"decision": None}, "learning_curve": {"curve": Curve()}, "race": {"trials": ()},
            "answers": {"labels": (), "answers": ()}}
    for name, without in gone.items():
        with pytest.raises(ValueError, match=r"give it more minutes|nothing has been"):
            advised_figures.FIGURES[name](dataclasses.replace(advice(), **without))


def test_certainty_stands_where_its_numbers_are():
    given = advice("take")
    ax = advised_figures.certainty(given).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == [row.label for row in given.contenders]
    marks = {int(line.get_ydata()[0]): line.get_xdata()[0] for line in ax.lines
             if line.get_marker() != "None" and line.get_label() != style.CUT}
    shown = [place for place, row in enumerate(given.contenders) if -row.gap >= ax.get_xlim()[0]]
    assert marks == {place: -given.contenders[place].gap for place in shown} and len(shown) >= 3
    arrows = [text.get_text() for text in ax.texts if "←" in text.get_text()]
    assert len(arrows) == len(given.contenders) - len(shown)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_grid_counts_each_row_once(classes):
    given = advice(classes=classes)
    ax = advised_figures.answers(given).axes[0]
    counts = np.array([int(text.get_text()) for text in ax.texts]).reshape(classes, classes)
    assert counts.sum() == len(given.labels)
    assert counts.trace() == sum(truth == answer for truth, answer in zip(given.labels, given.answers, strict=True))


def test_of_many_classes_the_most_confused_pairs_are_shown():
    given = advice(classes=77, rows=900)
    ax = advised_figures.answers(given).axes[0]
    assert len(ax.patches) == advised_figures.PAIRS
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == sorted(widths, reverse=True)
    assert all(text.get_text().startswith(f"{width:.0f} of ") for text, width in zip(ax.texts, widths, strict=True))


# The page


def page_of(tmp_path, **options):
    file = advised_page.write_page(advice(**options), tmp_path / "advice.html", made_advice.MISTAKES, made_advice.EXAMPLES)
    assert [path.name for path in tmp_path.iterdir()] == ["advice.html"]
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["floor", "many", "number", "nothing"])
def test_the_page_asks_nobody_for_anything_and_escapes_the_texts(name, tmp_path):
    page = page_of(tmp_path, **MADE[name])
    assert not re.search(r"<script|<link|<iframe|url\(|http:|https:|@import", page)
    assert {source[:22] for source in re.findall(r'(?:src|srcset|href)="([^"]*)', page)} == {"data:image/png;base64,"}
    assert "&lt;b&gt;the girl&lt;/b&gt; waits &amp; &#x27;works&#x27; &quot;nowadays&quot;." in page
    assert "<b>the girl" not in page and "<i>many" not in page


def test_the_decision_is_on_top_of_the_page_and_everything_else_below(tmp_path):
    page = page_of(tmp_path)
    order = ['class="answer"', "How sure?", "Would more labels help?", "What needs no fine-tuning", "What it confuses",
             "The worst mistakes", "What is odd about the data", "Cost and time", "What was tried", "How to use the model"]
    places = [page.index(part) for part in order]
    assert places == sorted(places) and page.count("<figure>") == 4
    assert "<code>lora</code> (learning rate 0.003)" in page


def test_while_the_work_goes_on_the_page_has_no_figures_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path))
    texts = Texts(tuple(made_advice.MISTAKES), made_advice.EXAMPLES)
    begun = dataclasses.replace(advice(), spent={"floors": 1.0})
    page = advised_page.keep(begun, texts).read_text()
    assert "<figure>" not in page and "The work goes on" in page and 'class="answer"' in page
    for ended in (dataclasses.replace(begun, stopped="interrupted in the race"), advice()):
        page = advised_page.keep(ended, texts).read_text()
        assert page.count("<figure>") == 4 and "The work goes on" not in page
    assert [path.name for path in paths.runs(begun.name).iterdir()] == ["advice.html"]


def test_twenty_mistakes_are_shown_and_a_long_text_is_folded(tmp_path):
    many = [{"texts": (f"text {number} " + "word " * 200,), "true": 3.14159, "predicted": 2.0} for number in range(30)]
    page = advised_page.write_page(advice(classes=0), tmp_path / "advice.html", many).read_text()
    assert page.count('class="card"') == page.count('<details class="text">') == 20
    assert "true <b>3.142</b> · predicted <b>2</b>" in page and "farthest first" in page


def test_a_name_of_a_class_cannot_break_the_page(tmp_path):
    page = page_of(tmp_path, classes=2, labels=("<script>alert(1)</script>", "`odd`"))
    assert "<script>" not in page


# The door


def test_the_door_says_decision_promise_and_places(tmp_path, monkeypatch, tiny_study):
    monkeypatch.chdir(tmp_path)
    story = facts.Story(tiny_study, paths.OWN)
    story.tell(advised.promise(advice()) + advised.decision(advice()))
    folder = paths.runs(tiny_study.name)
    (folder / "advice.html").write_text("")
    told = door.said(tiny_study.name, folder / f"{paths.OWN}.ipynb").splitlines()
    assert told[1].startswith("Take lora") and told[2].startswith("On new rows")
    assert told[-1].split() == ["page", "home/runs/tiny/advice.html"]
    (folder / "model").mkdir()  # an earlier call's, until this one says that it has left one
    assert "model" not in door.said(tiny_study.name, folder / "none.ipynb") and door.answered(tiny_study.name)
    story.tell(advised.use(dataclasses.replace(advice(), model={"folder": str(folder / "model"), "kind": "studykit"})))
    assert "home/runs/tiny/model" in door.said(tiny_study.name, folder / "none.ipynb")
    assert not door.answered("nonesuch")
    assert "There is no advice." in door.said("nonesuch", folder / "none.ipynb")
