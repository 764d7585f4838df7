"""What notebooks say of their runs, on studies whose truth is known: as it is, and with every ranking reversed."""

import itertools
import json
import re

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pytest
import yaml
from conftest import STUDY as TINY

from studykit import paths, study
from studykit.evidence import stats
from studykit.study import clock, provenance, records
from studykit.telling import style

matplotlib.use("agg")

ARMS = {"whole": {"method": "full", "rates": [0.001, 0.003]}, "last": {"method": "head", "rates": [0.01, 0.03]},
        **{f"lora r={rank}": {"method": "lora", "options": {"rank": rank}, "rates": [0.01, 0.03]} for rank in (2, 4)}}
OTHER = yaml.safe_dump({**yaml.safe_load(TINY), "tasks": ["tickets.yaml", "mood.yaml"], "arms": ARMS, "seeds": [0, 1, 2],
                        "trials": {"fraction": 0.5, "seeds": [1000, 1001]}}, sort_keys=False)
TICKETS = "title: Tickets\nquestion: Who should answer?\ncolumns: [text]\nlabels: [sales, help, law]\nmetrics: [accuracy]\n"
MOOD = "title: Mood\nquestion: How glad?\ncolumns: [text]\nrange: [-50, 900]\nmetrics: [mean_absolute_error]\n"
MORE = {"mood": -12.0}  # that the next better arm scores; on other tasks four points
WORST = {"mood": 90.0}


@pytest.fixture(params=[1, -1], ids=["as it is", "reversed"])
def direction(request):
    """1 where each arm is better than the one before it in the study, -1 where it is worse."""
    return request.param


@pytest.fixture
def made_up(direction, tmp_path, monkeypatch):
    """Runs of any study have made-up results, its clock made-up paces, and nothing is drawn into files."""
    def result(experiment, run):
        task, arms = experiment.tasks[run.task], [arm.does for arm in experiment.arms.values()]
        place, more = arms.index((run.method, run.options)), MORE.get(run.task, 0.04)
        luck = (run.subset_seed + run.init_seed + 2 * run.order_seed) % 3
        rank = place if direction > 0 else len(arms) - 1 - place
        score = WORST.get(run.task, 0.6) + more * rank + 0.01 * more * luck * (place + 1)
        labels, spread, mean = ([0, 1, 2] * 20, None, None) if task.labels else (list(range(0, 600, 10)), 170.0, 295.0)
        labels = [label % len(task.labels) for label in labels] if task.labels else labels
        return {"status": "ok", "reason": "", "scores": {task.metric.name: score}, "score": score, "labels": labels,
                "predictions": labels, "label_spread": spread, "label_mean": mean, "p_shuffled": 0.001,
                "curve": [(10 * i, i, score) for i in range(1, 1 + run.points)], "examples": 60, "steps": 30, "tokens": 9000,
                "parameters": {"trained": 120, "head": 20, "total": 9000},
                "seconds": {"train": 9000 * (run.token_seconds or 0.01)}, "hardware": {"processor": "made up"},
                "precision": "fp32"}

    def table(experiment, wanted, **_):
        return experiment.table([records.new(run, experiment.tasks[run.task], None, result(experiment, run))
                                 for run in dict.fromkeys(wanted)])

    for name in ("execute", "recorded"):
        monkeypatch.setattr(study.Study, name, table)
    for folder in ("figures", "runs", "results"):
        monkeypatch.setattr(paths, folder, lambda study, folder=folder: tmp_path / folder / paths.plain(study))
    monkeypatch.setattr(style, "save", lambda *_, **__: None)
    monkeypatch.setattr(provenance, "stamp", lambda *_: "")
    monkeypatch.setattr(stats, "RESAMPLES", 100)


@pytest.fixture
def other(made_up, tmp_path, tiny_encoder):
    """A study of which nobody thought: other tasks, other arms."""
    rows = [(f"the cat sees a dog {number}", number) for number in range(90)]
    for name, settings, labels in (("tickets", TICKETS, ["sales", "help", "law"] * 30), ("mood", MOOD, range(-50, 850, 10))):
        lines = ["text,label", *(f"{text},{label}" for (text, _), label in zip(rows, labels, strict=True))]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
        (tmp_path / f"{name}.yaml").write_text(f"{settings}data: {name}.csv\n")
    (tmp_path / "other.yaml").write_text(OTHER)
    return {"study_name": str(tmp_path / "other.yaml"), "encoder": tiny_encoder, "task": "", "longer_task": ""}


@pytest.fixture
def miniature(made_up):
    """The miniature's study, which has the paper's tasks and methods."""
    experiment = study.load("mini")
    paces = [{"task": task, "arm": arm, "method": value.method, "options": value.options, "token_seconds": 1e-4 * (1 + i),
              "spread": 0.0, "tokens_a_step": 100.0, "flops": 1e6, "forward_ms": 10.0, "backward_ms": 20.0 * (1 + i),
              "update_ms": 1.0} for task in experiment.tasks for i, (arm, value) in enumerate(experiment.arms.items())]
    made = {"processor": "made up", "threads": 2, "precision": "fp32", "recipe": study.runs.RECIPE, "rounds": 3, "steps": 12}
    clock.write(clock.Clock(paces, made), paths.results("mini") / "clock.json")
    return {"study_name": "mini"}


def told(number, given, name, tmp_path):
    """``(study, facts)``: what a notebook tells of that study."""
    (file,) = [file for file in paths.notebooks() if file.stem.startswith(number)]
    names = {}
    for cell in nbformat.read(file, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, "cell", "exec"), names)
            if "parameters" in cell.metadata.get("tags", []):
                names.update(given)
            plt.close("all")
    kept = (tmp_path / "runs" / name / f"{file.stem}.json").read_text(encoding="utf-8")
    return names["experiment"], json.loads(kept)["facts"]


def orders(sentence, arms):
    """What a sentence says of arms: pairs (better, worse)."""
    arm = "`([^`]+)`"
    pairs = []
    for one, word, two in re.findall(rf"{arm} is (behind|ahead of) {arm}", sentence):
        pairs.append((two, one) if word == "behind" else (one, two))
    if match := re.match(rf"{arm} against {arm}[^:]*: (.*)", sentence):
        one, two, rest = match.groups()
        pairs += [(two, one)] * ("behind" in rest) + [(one, two)] * ("ahead" in rest)
    if re.match(r"On [^`]*: `|On [^`]* curves end at `", sentence):
        named = re.findall(rf"{arm} -?[\d.]+", sentence)
        pairs += itertools.pairwise(named)
    pairs = [tuple(max((arm for arm in arms if label.startswith(arm)), key=len) for label in pair) for pair in pairs]
    return [(better, worse) for better, worse in pairs if better != worse]


def test_what_a_sentence_says_of_arms_is_read():
    arms = ["full", "few", "few more"]
    assert orders("With all of the data, `few` is behind `full` on both tasks.", arms) == [("full", "few")]
    assert orders("`few more` against `full` on A: ahead with 10 % by 2.0 points; behind with 30 %.", arms) == [
        ("full", "few more"), ("few more", "full")]
    assert orders("On A with all of the data: `few` 80.0, `full` 75.0 and `few more` -1.0 (means of 5 runs).", arms) == [
        ("few", "full"), ("full", "few more")]
    assert orders("`few at equal passes` against `few at equal steps`: behind on A by 1.0 points.", arms) == []


def contradictions(facts, arms, direction):
    """Sentences that say another order than that of the made-up scores."""
    rank = {arm: direction * place for place, arm in enumerate(arms)}
    return [fact["sentence"] for fact in facts
            if any(rank[better] < rank[worse] for better, worse in orders(fact["sentence"], arms))]


@pytest.mark.parametrize("number", ["00", "02", "03"])
def test_readings_follow_the_table_of_any_study(number, other, direction, tmp_path):
    experiment, facts = told(number, other, "other", tmp_path)
    said = [pair for fact in facts for pair in orders(fact["sentence"], experiment.arms)]
    assert said and not contradictions(facts, experiment.arms, direction)
    assert contradictions(facts, experiment.arms, -direction), "the other way round it would be wrong"


@pytest.mark.parametrize("number", ["03", "04"])
def test_readings_follow_the_table_of_the_miniature(number, miniature, direction, tmp_path):
    experiment, facts = told(number, miniature, "mini", tmp_path)
    assert not contradictions(facts, experiment.arms, direction)
    assert contradictions(facts, experiment.arms, -direction)
    tally = [fact["numbers"] for fact in facts if fact["kind"] == "tally"]
    assert all(count["behind" if direction > 0 else "ahead"] == 0 for count in tally)
    cost = [fact["sentence"] for fact in facts if fact["kind"] == "cost"]
    assert cost in ([], ["A step of `full` takes 31 ms, and of `bitfit` 1.65 and `adapter` 2.29 times as long."])


def test_spreads_are_those_of_the_runs_whichever_way_arms_rank(miniature, tmp_path):
    experiment, facts = told("05", miniature, "mini", tmp_path)
    spreads = {fact["about"]["arm"]: fact["numbers"]["deviation"] for fact in facts if fact["kind"] == "spread"}
    lucks = [0, 1, 2]  # of three seeds, in hundredths of four points
    assert spreads == {arm: pytest.approx(stats.deviation([0.04 * luck * place for luck in lucks])[0], rel=1e-3)
                       for place, arm in enumerate(experiment.moving, 1)}


def test_verdicts_turn_with_the_table(miniature, direction, tmp_path):
    _, facts = told("06", miniature, "mini", tmp_path)
    kinds = {kind: " ".join(fact["sentence"] for fact in facts if fact["kind"] == kind) for kind in ("upheld", "refuted")}
    assert "BitFit beats full fine-tuning" in kinds["upheld" if direction > 0 else "refuted"]
    assert "BitFit beats full fine-tuning" not in kinds["refuted" if direction > 0 else "upheld"]
    assert "BitFit matches full fine-tuning with all of the data" in kinds["refuted"]


def test_sizes_are_told_as_the_table_has_them(miniature, direction, monkeypatch, tmp_path):
    monkeypatch.setitem(MORE, "cola", 0.02)  # so that eleven arms stay within the metric
    monkeypatch.setattr(study.Study, "clock", lambda *_, **__: clock.Clock(refusal="no clock: it is made up"))
    _, facts = told("07", miniature, "mini", tmp_path)
    arms = ["full", "bitfit", "adapter", "head", "adapter 4", "adapter 64", "pfeiffer", "parallel",
            "norms frozen", "lora 1", "lora 8"]
    beside = [fact for fact in facts if fact["kind"] == "beside"]
    assert [list(fact["numbers"]) for fact in beside] == [arms[4:6], arms[10:], arms[6:9]]
    for fact in beside:
        first = arms.index(fact["about"]["baseline"])
        for arm, kind in fact["numbers"].items():
            assert kind == ("ahead" if direction * (arms.index(arm) - first) > 0 else "behind")
    (best,) = [fact["about"]["best"] for fact in facts if fact["kind"] == "frugal"]
    assert best == (arms[-1] if direction > 0 else arms[0])


def test_what_travels_follows_the_table(made_up, direction, tmp_path):
    """Every made-up task has one order of arms, so it travels wholly, and a new task would show it too."""
    experiment, facts = told("08", {"study_name": "beyond"}, "beyond", tmp_path)
    assert not contradictions(facts, experiment.arms, direction) and contradictions(facts, experiment.arms, -direction)
    kinds = {kind: [fact for fact in facts if fact["kind"] == kind] for kind in ("alike", "firsts", "contradiction")}
    assert [fact["numbers"]["mean"] for fact in kinds["alike"]] == [1.0] and not kinds["contradiction"]
    arms, tasks = list(experiment.arms), len(experiment.tasks)
    assert [fact["numbers"] for fact in kinds["firsts"]] == [{arms[-1] if direction > 0 else arms[0]: tasks}]
    new = [fact for fact in facts if "new_low" in fact["numbers"]]
    assert [(fact["about"]["arm"], fact["kind"]) for fact in new] == [
        (arm, "ahead" if direction > 0 else "behind") for arm in arms[1:]]
