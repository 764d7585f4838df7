"""Advice on somebody's own data: what is asked, what is planned, and a call from beginning to end."""

import csv
import dataclasses
import json
import random
import re
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from studykit import advise, methods, paths, tasks, training
from studykit.advise import advice as values
from studykit.advise import asking, floors, planning, racing, running, session, settling
from studykit.advise.planning import Pace
from studykit.evidence import curves
from studykit.study import runs
from studykit.tasks import known
from studykit.tasks.packing import packed
from studykit.telling import advised

WORDS = {"calm": ("gentle", "quiet", "slow"), "soon": ("later", "week", "month"), "urgent": ("now", "fire", "help")}
OTHERS = ("the", "girl", "sees", "a", "boy", "and", "sings")
PACE = Pace({"full": 2e-5, "bitfit": 1e-5, "lora": 1e-5, "adapter": 1e-5, "head": 5e-6}, 5e-6, 0.05, 1)


def tickets(folder, count=240, wrong=0.0, name="tickets"):
    """Texts with a word or two that say which of three classes they are; a share of labels is drawn by chance."""
    rng, rows = random.Random(0), []
    for i in range(count):
        kind = sorted(WORDS)[i % 3]
        text = " ".join([rng.choice(OTHERS) for _ in range(5)] + [rng.choice(WORDS[kind])])
        rows.append((text, rng.choice(sorted(WORDS)) if rng.random() < wrong else kind))
    file = folder / f"{name}.csv"
    with open(file, "w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([("what", "urgency"), *rows])
    return file


def sentences(folder, count=600, name="sentences"):
    """The miniature's sentences, right or wrong by which words agree: more than counting words can tell."""
    data, task = tasks.load("cola", "mini")["train"], tasks.get("cola")
    rows = [(text, task.labels[label]) for text, label in zip(data["sentence"][:count], data["label"][:count], strict=True)]
    with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([("what", "kind"), *rows])
    return folder / f"{name}.csv"


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """Results in a folder of the test's own, and a pace that does not depend on this machine."""
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(planning, "_measured", lambda study: dataclasses.replace(
        PACE, token={arm: PACE.token[arm] for arm in study.arms}))
    return tmp_path


# What is asked


def test_a_yaml_says_what_to_do_with_it_and_the_call_may_say_otherwise(tmp_path):
    tickets(tmp_path)
    file = tmp_path / "asked.yaml"
    file.write_text("columns: [what]\nlabel: urgency\nlabels: [calm, soon, urgent]\ndata: tickets.csv\n"
                    "advise: {encoder: mini, minutes: 2, arms: [full, head]}\n")
    question = asking.question(file)
    assert (question.minutes, [arm.label for arm in question.arms], question.margin) == (2, ["full", "head"], 1.0)
    assert question.encoder == "mini" and question.task.title == "asked"
    assert asking.question(file, minutes=5, arms=["bitfit"]).minutes == 5
    assert asking.question(file, arms=["bitfit"]).arms[0].rates == (3e-3, 1e-2, 3e-2)  # as study mini tries


def test_an_arm_that_is_named_twice_is_said_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="full is there twice: name each method once"):
        asking.asked(tickets(tmp_path), arms=["full", "head", "full"])


def test_a_sample_leaves_what_is_given_as_it_was(quick):
    """Or a call with more minutes would train on the sample of the one before."""
    question = asking.question(tickets(quick, count=3000), encoder="mini", minutes=1)
    whole = runs.data(question.task, "hub")[0]
    part, data, told = session._sampled(question)
    assert len(whole["train"]) > len(data["train"]) == 2000 and told
    assert len(runs.data(question.task, "hub")[0]["train"]) == len(whole["train"])
    assert session._sampled(dataclasses.replace(question, minutes=2.0))[2] == ()
    assert part.task.hub is None and part.task.also == ()


def test_an_arm_that_the_encoder_does_not_take_is_left_out_and_said(quick, monkeypatch):
    question, apply = asking.question(tickets(quick), encoder="mini"), methods.apply

    def picky(name, *given, **options):
        if name == "bitfit":
            raise ValueError("it has no biases to train")
        return apply(name, *given, **options)

    monkeypatch.setattr(methods, "apply", picky)
    left, _, said = session._fitting(question)
    assert [arm.label for arm in left.arms] == ["full", "lora", "adapter", "head"]
    assert said == ("bitfit is left out: it has no biases to train.",)
    with pytest.raises(ValueError, match=r"^bitfit is left out: it has no biases to train\.$"):
        session._fitting(dataclasses.replace(question, arms=question.arms[1:2]))


def test_a_stop_within_a_rung_compares_arms_after_as_many_steps(quick):
    """Those of the second rung had twice the steps."""
    trial = values.Trial("full", 1e-3, 0, 16, 60.0, "ok", False)
    more = dataclasses.replace(trial, rung=1, steps=32, score=90.0)
    other = dataclasses.replace(trial, arm="head", score=70.0)
    work = SimpleNamespace(trials=[(trial, "short"), (other, "short too"), (more, "long")], rungs=1, finalists=[], floors={},
                           rates={"full": 1e-3, "head": 1e-3}, rounds=0, bench=SimpleNamespace(row=lambda record: record))
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(racing, "_floors_of", lambda *_: None)
        patch.setattr(racing, "_round", seen.append)
        racing.rounds(work)
    assert seen == [{"full": "short", "head": "short too"}]


def test_a_file_that_is_called_as_a_study_has_a_folder_of_its_own(tmp_path):
    task, _ = asking.asked(tickets(tmp_path, name="mini"))
    assert task.name == "mini-data" and asking.asked(tickets(tmp_path, name="mine"))[0].name == "mine"
    assert asking.asked(tickets(tmp_path, name="example"))[0].name == "example-data"
    assert asking.asked(paths.EXAMPLE)[0].name == "example"


def test_another_file_of_the_same_name_has_a_folder_of_its_own(quick):
    first, second = (tickets(paths.made(quick / name)) for name in ("a", "b"))
    known, _ = asking.asked(first)
    paths.write(paths.runs(known.name) / asking.PLACE, known.data)
    assert known.name == "tickets" and asking.asked(first)[0].name == "tickets"
    assert re.fullmatch("tickets-[0-9a-f]{6}", asking.asked(second)[0].name)
    first.unlink()  # the file has moved: what was found of it is gone on with
    assert asking.asked(second)[0].name == "tickets"


@pytest.mark.parametrize("asked, message", [
    ({"arms": ["fool"]}, "unknown method 'fool'"), ({"encoder": "/nowhere/to/be/found"}, "no encoder at /nowhere"),
    ({"label": "kind"}, "column kind is missing"), ({"minutes": -1}, "minutes: input should be greater than 0")])
def test_what_cannot_be_is_one_sentence(asked, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        asking.question(tickets(tmp_path), **{"encoder": "mini", **asked})
    assert "\n" not in str(raised.value)


def test_a_yaml_with_a_wish_that_is_none_or_columns_twice_is_refused(tmp_path):
    tickets(tmp_path)
    file = tmp_path / "asked.yaml"
    file.write_text("columns: [what]\nlabel: urgency\nlabels: [calm, soon, urgent]\ndata: tickets.csv\nadvise: {hours: 2}\n")
    with pytest.raises(ValueError, match=r"asked\.yaml: advise: unknown setting hours"):
        asking.question(file)
    with pytest.raises(ValueError, match="names its columns itself"):
        asking.question(file, label="urgency")


def test_scoring_is_timed_a_token_with_padding(monkeypatch):
    """One long text among short ones makes a batch of padding: that is no cost of each short text."""
    class Scored(SimpleNamespace):
        def __len__(self):
            return len(self.lengths)

    clock = iter([0.0, 1.0])
    monkeypatch.setattr(planning.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr("studykit.training.loop.logits", lambda model, rows, batch_size: batch_size)
    parts = SimpleNamespace(model=None, scored={"": Scored(lengths=np.array([100] + 3 * [4]))})
    assert planning._scoring(parts) == 1 / (4 * 100)


def test_a_study_of_these_weights_gives_its_middle_rates_and_its_pooler():
    known = asking._study_of("53aa51172d142c89")
    assert asking._arm("full", known).rates == (3e-5, 1e-4, 3e-4)
    assert asking._arm("lora", known).rates == asking._arm("adapter", known).rates == (3e-4, 1e-3, 3e-3)
    assert asking._arm("lora", known).options == () and known.pooler == "new"


# What is planned


@pytest.mark.parametrize("rows, tokens, classes", [(6000, 35, 3), (6000, 14, 77), (700, 400, 2), (120, 12, 4)])
@pytest.mark.parametrize("minutes", [1, 3, 10, 60])
def test_a_plan_fits_and_more_minutes_never_make_it_poorer(rows, tokens, classes, minutes):
    slow = Pace({arm: 30 * value for arm, value in PACE.token.items()}, 30 * PACE.scored, 1.0, 2)
    lengths = np.full(rows, tokens)
    try:
        plan = planning.planned(slow, 5, lengths, rows // 4, classes, 60.0 * minutes)
    except ValueError as error:
        needed = int(str(error).rpartition("at least ")[2])
        assert needed > minutes
        assert planning.planned(slow, 5, lengths, rows // 4, classes, 60.0 * needed)
        with pytest.raises(ValueError, match="too few to train anything"):
            planning.planned(slow, 5, lengths, rows // 4, classes, 60.0 * (needed - 1))
        return
    assert sum(plan.seconds.values()) <= 60 * minutes
    richer = planning.planned(slow, 5, lengths, rows // 4, classes, 120.0 * minutes)
    assert richer.steps >= plan.steps or richer.rates * richer.rounds > plan.rates * plan.rounds
    told = planning.sentences(plan, minutes, 5, rows)
    assert f"{plan.steps} steps a training" in " ".join(told)


@pytest.mark.parametrize("slower", [1, 3, 10, 30, 100])
def test_trainings_are_long_before_they_are_many(slower):
    pace = Pace({arm: slower * value for arm, value in PACE.token.items()}, slower * PACE.scored, 1.0, 2)
    plan = planning.planned(pace, 5, np.full(6000, 35), 1500, 3, 600.0)
    longest = planning._fitting(planning.SHAPES[-1], pace, 5, np.full(6000, 35), 1500, 3, planning.KEPT * 600.0).steps
    assert plan.steps >= min(planning.ENOUGH[0], longest) or plan.steps in planning.ENOUGH[1:]
    assert not plan.curve or planning.reads_all(plan.steps, 6000)


def test_where_more_rounds_would_settle_it_a_longer_call_makes_more_of_the_same(monkeypatch):
    slow = Pace({arm: 10 * value for arm, value in PACE.token.items()}, 10 * PACE.scored, 1.0, 2)
    asked = slow, 5, np.full(6000, 35), 1500, 3
    first, next_ = (planning.planned(*asked, seconds) for seconds in (900.0, 1200.0))
    assert first.steps < next_.steps < 2 * first.steps
    assert planning.planned(*asked, 1200.0, first.steps).steps == first.steps
    assert planning.planned(*asked, 36000.0, first.steps).steps == planning.planned(*asked, 36000.0).steps
    monkeypatch.setattr(session, "same_question", lambda *_: True)
    known = SimpleNamespace(max_length=128, steps=192, minutes=2, decision=SimpleNamespace(more_rounds=4.0))
    this, longer = SimpleNamespace(design=SimpleNamespace(max_length=128)), SimpleNamespace(minutes=3)
    assert session._former(known, longer, this) == 192 and session._former(None, longer, this) == 0
    assert session._former(SimpleNamespace(**{**vars(known), "max_length": 256}), longer, this) == 0
    known.decision.more_rounds = None
    assert session._former(known, longer, this) == 0
    assert session._former(known, SimpleNamespace(minutes=2), this) == 192, "the same call reads what it found"


def test_long_texts_are_read_further_where_there_is_time():
    lengths = np.full(700, 400)
    assert planning.longest(lengths, 512, PACE, 600.0) == 512
    assert planning.longest(lengths, 256, PACE, 600.0) == 256
    slow = Pace({"full": 1e-3}, 3e-4, 1.0, 2)
    assert planning.longest(lengths, 512, slow, 600.0) == 128
    assert planning.longest(np.full(700, 20), 512, PACE, 600.0) == 128


# From beginning to end


def test_advice_is_given_kept_and_read_again(quick):
    file, seen = tickets(quick), []
    told = advise.run(file, minutes=3, encoder="mini", told=lambda advice, texts: seen.append((advice, texts)))
    assert told.decision.kind in ("take", "cheaper", "cannot tell", "floor") and 0 < told.decision.sure <= 1
    assert {contender.label for contender in told.contenders} >= {"full", "bitfit", "lora", "adapter", "head", "majority"}
    assert told.promise.rows == 48 and 0 <= told.promise.low <= told.promise.score <= told.promise.high <= 100
    assert len(seen) > 1 and seen[-1][0] == told and all(set(mistake) for mistake in seen[-1][1].mistakes)
    kept = paths.runs("tickets") / "advice.json"
    assert values.read(kept) == told
    assert not any(word in kept.read_text() for word in ("gentle", "sings"))
    files = {path: path.stat().st_mtime_ns for path in paths.results("tickets").rglob("*.json")}
    again = advise.run(file, minutes=3, encoder="mini")
    assert dataclasses.replace(again, spent={}) == dataclasses.replace(told, spent={})
    assert {path: path.stat().st_mtime_ns for path in paths.results("tickets").rglob("*.json")
            if path.name != "answered.json"} == {path: when for path, when in files.items() if path.name != "answered.json"}


@pytest.mark.parametrize("after", [2, 16], ids=["race", "finals"])
def test_a_stop_gives_the_best_so_far(quick, monkeypatch, after):
    result, calls = running.Bench.result, []

    def stopped(self, run, reserve, keep=None):
        if len(calls) == after and self.purse.seconds:
            raise KeyboardInterrupt
        record = result(self, run, reserve, keep)
        calls.append(run)
        return record

    monkeypatch.setattr(running.Bench, "result", stopped)
    told = advise.run(tickets(quick), minutes=5, encoder="mini")
    assert told.stopped.startswith("interrupted") and told.decision.choice
    assert len(calls) == after, "it went on training"
    kept = advise.load(paths.runs("tickets") / "model")
    assert len(kept.predict(["the girl sees a fire"])) == 1 and told.model["folder"] == str(paths.runs("tickets") / "model")
    sentence, = (fact.sentence for fact in advised.use(told))
    if after == 2:  # nothing of an arm was trained to its end
        assert told.model["kind"] == "floor" and ("nothing of" in sentence) == (told.model["choice"] != told.decision.choice)
    assert not (paths.results("tickets") / "answered.json").exists(), "so the next call goes on"


def test_what_an_earlier_call_found_stands_until_a_later_one_has_finals(quick, monkeypatch):
    rows = tickets(quick)
    first = advise.run(rows, minutes=3, encoder="mini", arms=["full", "head"])
    files = [paths.runs("tickets") / name for name in ("advice.json", "model/studykit.json")]
    kept = {file: file.read_bytes() for file in files}

    def stopped(self, run, reserve, keep=None):
        if self.purse.seconds:
            raise KeyboardInterrupt
        raise running.TimeUp

    monkeypatch.setattr(running.Bench, "result", stopped)
    again = advise.run(rows, minutes=9, encoder="mini", arms=["full", "head"])
    assert (again.decision, again.model) == (first.decision, first.model) and again.stopped.startswith("interrupted")
    assert first.decision.rounds and all(file.read_bytes() == content for file, content in kept.items())


def test_a_curve_that_time_cut_off_says_so(quick, monkeypatch):
    def late(*_):
        raise running.TimeUp

    monkeypatch.setattr(settling, "_at", late)
    told = advise.run(tickets(quick), minutes=3, encoder="mini", arms=["full", "head"])
    sentence, = (fact.sentence for fact in advised.curve(told))
    assert told.curve.gain is None and re.search(r"when \d of \d+ trainings on fewer labels had been made", sentence)


def test_whoever_is_killed_before_anything_is_trained_has_the_floors(quick, monkeypatch):
    def killed(self, run, reserve, keep=None):
        told = values.read(paths.runs("tickets") / "advice.json")
        assert told.decision.kind == "floor" and told.promise.score is None
        assert advise.load(paths.runs("tickets") / "model").predict(["the girl sees a fire"]).shape[0] == 1
        raise RuntimeError("killed")

    monkeypatch.setattr(running.Bench, "result", killed)
    with pytest.raises(RuntimeError, match="killed"):
        advise.run(tickets(quick), minutes=3, encoder="mini")


def test_minutes_count_from_the_call_however_long_reading_takes(monkeypatch):
    monkeypatch.setenv("STUDYKIT_STARTED", str(time.time() - 500))
    assert 499 < running.Purse(600).spent < 510
    monkeypatch.delenv("STUDYKIT_STARTED")
    assert running.Purse(600).spent < 5


def test_a_last_training_that_diverges_is_no_model(quick, monkeypatch):
    """What the finals left is kept instead, of these finals and no others. Without the floor on embeddings an arm wins."""
    train, former = training.train, paths.runs("sentences") / "tuned" / "full.safetensors"
    monkeypatch.setattr(racing, "embed", lambda session: None)

    def lost(model, data, *given, **options):
        outcome = train(model, data, *given, **options)
        return dataclasses.replace(outcome, status="diverged") if len(data) == 600 else outcome

    paths.made(former.parent)
    former.write_bytes(b"of other rows")
    monkeypatch.setattr(training, "train", lost)
    told = advise.run(sentences(quick), minutes=1, encoder="mini", arms=["full"])
    assert told.decision.choice == "full" and told.model["rows"] == pytest.approx(0.85 * 480, abs=3)
    monkeypatch.setattr(training, "train", train)


def test_a_call_that_reads_leaves_a_model_however_slow_the_machine(quick, monkeypatch):
    """Its minutes were spent before, elsewhere perhaps: what the finals trained is not here."""
    shutil.copytree(paths.REPO / "results" / "example", quick / "home" / "results" / "example")
    monkeypatch.setenv("STUDYKIT_STARTED", str(time.time() - 100))  # of the minute that the example asks for
    told = advise.run(paths.EXAMPLE)
    assert not told.stopped and told.model["choice"] == told.decision.choice
    assert len(advise.load(paths.runs("example") / "model").predict(["Two girls greet the old king."])) == 1


def test_where_time_is_up_before_the_race_the_floors_are_compared(quick, monkeypatch):
    monkeypatch.setattr(running.Bench, "expected", lambda *_: 1e9)
    told = advise.run(tickets(quick), minutes=3, encoder="mini")
    assert told.decision.kind == "floor" and told.stopped == "time was up in the race"
    assert told.promise.rows == told.rows["validation"] and told.promise.low <= told.promise.score <= told.promise.high
    assert {contender.kind for contender in told.contenders} == {"floor"} and told.model


def test_one_row_of_a_rare_class_moves_a_score_by_more_than_its_share_of_the_rows():
    """Of four rows one is missed: its recall is 3/4, so its F1 6/7; of the other class's 96 one more: F1 192/193."""
    labels = np.repeat([0, 1], [96, 4])
    assert racing.step_of(known("accuracy"), labels) == pytest.approx(1.0)
    assert racing.step_of(known("macro_f1"), labels) == pytest.approx(100 * (1 - (6 / 7 + 192 / 193) / 2))
    assert racing.step_of(known("spearmanr"), np.arange(50.0)) == pytest.approx(200 / 50)


def test_an_arm_whose_runs_have_been_seen_is_not_slowed_twice():
    """The machine is three times as slow as its pace: what an arm's own runs took says so already."""
    bench = running.Bench.__new__(running.Bench)
    vars(bench).update(pace=PACE, slower=3.0, paces={"full": [6e-5]}, tokens=10.0, label=lambda run: run)
    assert bench.token("full") == 6e-5 and bench.token("head") == pytest.approx(3 * PACE.token["head"])


def test_another_main_metric_is_another_question(tmp_path):
    tickets(tmp_path)
    found = set()
    for metric in ("accuracy", "macro_f1"):
        (tmp_path / "asked.yaml").write_text("columns: [what]\nlabel: urgency\nlabels: [calm, soon, urgent]\n"
                                             f"data: tickets.csv\nmetrics: [{metric}]\nadvise: {{encoder: mini}}\n")
        plan = planning.planned(PACE, 5, np.full(200, 12), 50, 3, 60.0)
        found.add(session._identity(asking.question(tmp_path / "asked.yaml"), "digest", plan))
    assert len(found) == 2


def test_probabilities_are_calibrated_by_what_was_answered_however_sure(monkeypatch):
    """Outputs six times too sharp: small probabilities count, and a run that diverged has none."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 1.5, (2000, 3)), np.zeros(2000, dtype=int)
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    lost = {"status": "diverged", "probabilities": None, "labels": labels, "predictions": None}
    fine = {"status": "ok", "probabilities": packed(runs.softmax(6 * logits)), "labels": labels}
    monkeypatch.setattr(settling, "_rounds_of", lambda *_: [(0, lost), (1, fine)])
    asked = SimpleNamespace(task=SimpleNamespace(labels=("a", "b", "c")))
    assert settling._calibrated(asked, "full")["temperature"] == pytest.approx(6, rel=0.08)
    monkeypatch.setattr(settling, "_rounds_of", lambda *_: [(0, lost)])
    assert settling._calibrated(asked, "full") == {}


def test_the_curve_that_is_planned_for_is_one_that_can_be_told():
    sizes = [100, 50, 25] * 2
    runs_made = pd.DataFrame({"labels": sizes, "score": [80.0, 75.1, 69.9, 80.1, 75.0, 70.0], "fold": [0, 0, 0, 1, 1, 1]})
    assert len(sizes) - 2 == planning.CURVE and curves.forecast(runs_made).gain == pytest.approx(5, abs=1)


def test_one_floor_is_fitted_where_one_is_asked_for():
    task = tasks.Task(name="tickets", columns=["text"], labels=["calm", "urgent"])
    texts, labels = [("a quiet day",), ("a great fire",)] * 20, np.array([0, 1] * 20)
    (floor,) = floors.fit(task, texts, labels, None, "TF-IDF + logistic regression")
    whole = floors.fit(task, texts, labels)
    assert floor.name == "tfidf" and np.array_equal(floor.weights, whole[1].weights)
    assert [floor.name for floor in floors.fit(task, texts, labels, None, "majority")] == ["majority"]


def test_a_yaml_of_another_spelling_is_one_and_a_time_of_day_no_number(tmp_path):
    tickets(tmp_path)
    said = ("columns: [what]\nlabel: urgency\nlabels: [calm, soon, urgent]\ndata: tickets.csv\n"
            "advise: {encoder: mini, minutes: %s}\n")
    (tmp_path / "asked.YAML").write_text(said % 2)
    assert asking.question(tmp_path / "asked.YAML").minutes == 2
    (tmp_path / "asked.YAML").write_text(said % "1:30")
    with pytest.raises(ValueError, match="minutes"):
        asking.question(tmp_path / "asked.YAML")


def test_a_metric_that_refuses_a_score_is_named():
    row = pd.Series({"score": float("nan"), "better": 1, "scored_by": known("accuracy"), "labels": np.zeros(3)})
    with pytest.raises(ValueError, match="accuracy gives the answers of lora no score: name another metric first"):
        racing._round({"full": pd.Series({**row, "score": 1.0}), "lora": row})


def test_labels_by_chance_are_worth_no_fine_tuning(quick):
    told = advise.run(tickets(quick, wrong=1.0), minutes=3, encoder="mini", arms=["full", "head"])
    assert told.decision.kind != "take", told.decision
    assert told.promise.score < 50


def test_a_number_is_advised_on_in_its_own_unit(quick):
    rng, file = random.Random(1), quick / "points.csv"
    with open(file, "w", newline="", encoding="utf-8") as opened:
        texts = [" ".join(rng.choice(("now", "fire", "gentle")) for _ in range(6)) for _ in range(200)]
        rows = [(text, -50 + 158 * text.count("fire") + i / 100) for i, text in enumerate(texts)]
        csv.writer(opened).writerows([("text", "points"), *rows])
    task = tasks.described(file)
    assert not task.labels and task.metric.name == "spearmanr"
    told = advise.run(file, minutes=3, encoder="mini", arms=["full", "head"])
    assert told.promise.score > 50 and "mean absolute error" in told.promise.others
    assert min(told.answers) > -400 and max(told.answers) > 100


def test_too_few_rows_or_minutes_are_said(quick, monkeypatch):
    with pytest.raises(ValueError, match="too few"):
        advise.run(tickets(quick, count=9), minutes=1, encoder="mini")
    monkeypatch.setattr(planning, "_measured", lambda study: Pace(dict.fromkeys(study.arms, 1.0), 0.5, 1.0, 1))
    with pytest.raises(ValueError, match=r"give at least \d+"):
        advise.run(tickets(quick, name="slow"), minutes=1, encoder="mini")


def test_of_very_many_rows_a_part_is_used(quick, monkeypatch):
    from studykit.advise import session

    monkeypatch.setattr(session, "ROWS", {"train": 40, "validation": 10})
    told = advise.run(tickets(quick), minutes=3, encoder="mini", arms=["full", "head"])
    assert told.rows == {"train": 120, "validation": 30}
    assert "a stratified part is used, 120 to train on" in told.account[-1]
    assert json.loads((paths.results("tickets") / "pace.json").read_text())["pace"]["threads"] == 1
