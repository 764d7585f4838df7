"""README and docs say what is so: tables and sentences come from the records, commands, links and examples work."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from studykit import encoders, methods, paths, study, tasks
from studykit.evidence import stats
from studykit.evidence.table import unpacked
from studykit.study import design, records
from studykit.telling import gallery, report, words

README = (paths.REPO / "README.md").read_text(encoding="utf-8")
PAGES = [paths.REPO / "README.md", *sorted((paths.REPO / "docs").glob("*.md"))]
FILES = sorted((paths.REPO / "results" / "minilm").glob("*/*.json"))


@pytest.fixture(scope="module")
def found():
    return report.evidence()


@pytest.fixture(scope="module")
def domains():
    return report.evidence(report.DOMAINS)


@pytest.fixture(scope="module")
def whole():
    return report.evidence(report.WHOLE)


@pytest.fixture(scope="module")
def larger():
    return report.evidence(report.LARGER)


def test_readme_and_reports_are_what_the_records_say(found, larger, domains, whole):
    assert report.filled(README, found, larger, domains, whole) == README, "run: python -m studykit readme"
    for each in (found, larger, domains, whole):
        written = (paths.REPO / "results" / each.experiment.name / "REPORT.md").read_text(encoding="utf-8")
        assert report.report_markdown(each) == written, "run: python -m studykit readme"


def test_the_gallery_shows_every_figure_on_record():
    page = (paths.REPO / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert gallery.markdown() == page, "run: python -m studykit readme"
    assert "minilm" in gallery.studies() and "mini" not in gallery.studies()
    for name in gallery.studies():
        for file in sorted((paths.REPO / "figures" / name).glob("*.png")):
            assert f"](../figures/{name}/{file.name})" in page, "its notebook must be run again, to keep its caption"


def test_records_are_those_of_the_project_s_studies():
    known = {*paths.studies(), "example"}
    assert {folder.name for folder in (paths.REPO / "results").iterdir() if folder.is_dir()} <= known


def test_readme_is_short():
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_exist(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r'src="([^":]+)"', text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_options_that_exist(page):
    known = set(re.findall(r"--[a-z]+", (paths.REPO / "run_all.sh").read_text()))
    commands = re.findall(r"\./run_all\.sh[^\n`]*", page.read_text(encoding="utf-8"))
    assert {word for line in commands for word in re.findall(r"--[a-z]+", line)} <= known


def fenced(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (paths.REPO / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_task_in_the_docs_is_sound(tmp_path):
    rows = pd.DataFrame({"text": [f"words {i}" for i in range(90)], "urgency": ["low", "normal", "urgent"] * 30})
    rows.to_csv(tmp_path / "tickets.csv", index=False)
    (tmp_path / "tickets.yaml").write_text(fenced("data.md", "yaml")[0])
    task = tasks.get(tmp_path / "tickets.yaml")
    (tmp_path / "reviews.yaml").write_text(fenced("data.md", "yaml")[1])
    assert not tasks.get(tmp_path / "reviews.yaml").labels and tasks.get(tmp_path / "reviews.yaml").range == (0, 5)
    assert [metric.title for metric in task.metrics] == ["macro F1", "accuracy", "F1 of urgent"]
    assert {split: len(part) for split, part in tasks.load(task).items()} == {"train": 72, "validation": 18}


def test_the_arms_in_the_docs_are_sound(tmp_path):
    settings = yaml.safe_load((paths.REPO / "params" / "mini.yaml").read_text())
    settings |= yaml.safe_load(fenced("extending.md", "yaml")[0]) | {"notebooks": {}}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    own = tmp_path / "own.yaml"
    own.write_text(fenced("extending.md", "yaml")[1])
    read = design.read(own)
    assert [arm.label for arm in read.arms] == ["full", "bitfit", "lora"] and read.source == "glue"
    runs = study.load(tmp_path / "my.yaml").plan(["cola"], rates=1e-3)
    assert [(run.method, dict(run.options)) for run in runs] == [("full", {}), ("lora", {"rank": 2}), ("lora", {"rank": 16})]


def test_the_method_in_the_docs_trains_what_it_says(monkeypatch):
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
    exec(compile(fenced("extending.md", "python")[0], "extending.md", "exec"), {})
    model = methods.apply("query_weights", encoders.load("mini"))
    queries = sum(block.linear["query"].weight.numel() for block in encoders.blocks(model))
    assert methods.counts(model)["encoder"] == queries > 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_committed_record_is_sound(file):
    _sound(file, tasks.get(json.loads(file.read_text())["run"]["task"]))


@pytest.mark.parametrize("name", ["sizes", "beyond", "mpnet", "domains"])
def test_each_committed_record_of_the_other_studies_is_sound(name):
    experiment, files = study.load(name), sorted((paths.REPO / "results" / name).glob("*/*.json"))
    assert files
    for file in files:
        _sound(file, experiment.tasks[json.loads(file.read_text())["run"]["task"]])


def _sound(file, task):
    """Its name is its configuration's, its task is the one that it names, and its scores are what its answers give."""
    record = json.loads(file.read_text())
    assert file.stem.endswith(records.key(record)) and record["key"] == records.key(record)
    assert record["digest"] == records.digest(record)
    assert (record["run"]["data"], record["run"]["asks"]) == (task.digest, task.identity)
    kept = record.get("probabilities")
    again = task.scores(record["labels"], record["predictions"], kept and unpacked(kept))
    if not task.labels and np.std(record["predictions"]) < 0.02:
        return  # values are kept to four decimals: too few for the correlation of an answer that hardly varies
    ties = kept is not None and len(np.unique(unpacked(kept)[:, -1])) < 0.2 * len(record["labels"])
    for metric in task.metrics:
        near = 0.05 if metric.reads == "probabilities" else 1e-4  # kept to four decimals, those of a rare class tie
        if metric.reads == "probabilities" and ties:
            continue
        if record["scores"].get(metric.name) is not None:
            assert record["scores"][metric.name] == pytest.approx(again[metric.name], abs=near), metric.name


def test_no_run_is_read_as_ok_whose_answers_do_not_vary():
    experiment = study.load("minilm")
    table = experiment.table(records.read(paths.REPO / "results" / "minilm").values())
    fine = table[table["status"] == "ok"]
    spreads = [np.std(row["predictions"]) / np.std(row["labels"]) for row in fine[fine["task"] == "stsb"].to_dict("records")]
    assert min(spreads) > 0.1
    assert (table.loc[(table["status"] == "collapsed") & (table["task"] == "stsb"), "score"] == 0).all()
    assert (len(table), int((table["status"] == "collapsed").sum())) == (663, 127)
    assert "127 of the 663 records" in (paths.REPO / "docs" / "protocol.md").read_text(encoding="utf-8")


def test_the_reference_study_is_whole(found):
    cells = found.reports.groupby(["task", "arm", "fraction"])["seed"].nunique()
    assert len(cells) == 3 * 4 * 6 and cells.min() == 5
    assert found.reports["commit"].notna().all() and not found.reports["commit"].str.endswith("+").any()


def test_the_study_of_more_data_is_whole_task_by_task_in_the_order_of_its_file_and_the_protocol_names_them(whole):
    experiment, done = whole.experiment, list(dict.fromkeys(whole.reports.sort_values("task_place")["task"]))
    assert done == list(experiment.tasks)[:len(done)]
    cells = whole.reports.groupby(["task", "arm", "fraction"])["seed"].nunique()
    assert len(cells) == len(done) * len(experiment.arms) * 2 and set(cells) == {3}
    said = (paths.REPO / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert f"the runs of {' and '.join(done)}, both shares" in said


def test_the_study_of_other_tasks_is_whole_and_its_protocol_says_what_was_left_out(domains):
    experiment = domains.experiment
    laid_down = ["stsb", "cola", "unfair_tos", "banking77", "irony", "wikiqa", "scicite", "mrpc"]
    cells = domains.reports.groupby(["task", "arm", "fraction"])["seed"].nunique()
    assert len(cells) == 5 * len(experiment.tasks) and set(cells) == {3}
    done = list(experiment.tasks)
    assert done == laid_down[:len(done)]  # whole tasks, in the order of the plan
    page = (paths.REPO / "docs" / "protocol.md").read_text(encoding="utf-8").replace("\n     ", " ")
    titles = {"scicite": "scicite", "mrpc": "MRPC", "wikiqa": "wikiqa", "irony": "irony", "banking77": "banking77"}
    left = words.listed(titles[name] for name in laid_down[len(done):])
    assert not left or f"Not trained when time was up: {left}." in page
    planned = {run.key for run in experiment.trials()}
    trials = domains.trials[domains.trials["key"].isin(planned)]
    assert set(trials.groupby(["task", "arm"]).size()) == {3}
    assert set(domains.trials["score_on"]) == {"selection"} and set(domains.reports["score_on"]) == {"validation"}
    assert set(domains.reports["used_precision"]) == {"fp32"} and domains.reports["commit"].notna().all()


def test_the_larger_encoder_s_study_has_what_its_protocol_says(larger):
    cells = larger.reports.groupby(["task", "fraction", "arm"])["seed"].nunique()
    planned = {(task, share, arm) for task in larger.experiment.tasks for share in larger.experiment.design.shares
               for arm in larger.experiment.arms}
    assert set(cells) == {3}  # whole seeds
    assert planned == set(cells.index)
    trials = larger.trials[larger.trials["key"].isin({run.key for run in larger.experiment.trials()})]
    assert set(trials.groupby(["task", "arm"]).size()) == {6}  # three rates, two seeds
    assert not set(larger.trials["seed"]) & set(larger.reports["seed"]) and set(larger.reports["used_precision"]) == {"bf16"}


def test_every_arm_had_as_many_trials_and_none_read_the_validation_set(found):
    planned = {run.key for run in found.experiment.trials()}
    trials = found.trials[found.trials["key"].isin(planned)]
    assert trials.groupby(["task", "arm"]).size().tolist() == [5] * 12
    assert set(found.trials["score_on"]) == {"selection"}
    assert not set(found.trials["seed"]) & set(found.reports["seed"])


@pytest.mark.parametrize("name", ["minilm", "sizes", "beyond"])
def test_committed_figures_are_drawn_from_the_committed_records(name):
    folder = paths.REPO / "figures" / name
    known = {json.loads(file.read_text())["key"] for file in (paths.REPO / "results").glob("*/*/*.json")
             if file.parts[-3] != "mini"}
    for figure, entry in json.loads((folder / "manifest.json").read_text()).items():
        assert set(entry["runs"]) <= known, figure
        assert (folder / f"{figure}.svg").is_file()


def test_clock_and_budgets_come_with_the_project_from_any_home(tmp_path, monkeypatch):
    here = study.load("minilm")
    runs, clock = here.timed(0.001), here.clock(arms=here.moving, measure=False)
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path))
    assert runs and here.timed(0.001) == runs
    assert here.clock(arms=here.moving, measure=False) == clock and clock.paces and not clock.refusal


def test_gaps_are_those_of_the_records(found):
    """One gap, computed again by hand: seeds by SciPy, test sentences by scikit-learn on drawn sentences."""
    import scipy.stats
    from sklearn.metrics import f1_score

    table = found.reports
    rows = table[(table["task"] == "mrpc") & (table["fraction"] == 0.1)].set_index(["arm", "seed"]).sort_index()
    gaps = (rows["score"]["bitfit"] - rows["score"]["full"]).to_numpy()
    labels, rng, moved = np.array(rows["labels"].iloc[0]), np.random.default_rng(5), []
    for _ in range(300):
        drawn = rng.integers(0, len(labels), len(labels))
        scored = rows["predictions"].map(lambda answers: 100 * f1_score(labels[drawn], np.array(answers)[drawn]))  # noqa: B023
        moved.append((scored["bitfit"] - scored["full"]).to_numpy())
    shared = np.cov(np.array(moved).T)
    count = len(gaps)
    seeds, examples = gaps.var(ddof=1) / count, max(0, (shared.sum() - np.trace(shared)) / (count * (count - 1)))
    half = np.sqrt(scipy.stats.t.ppf(0.975, count - 1) ** 2 * seeds + scipy.stats.norm.ppf(0.975) ** 2 * examples)
    row = stats.paired_gaps(table).set_index(["task", "fraction", "arm"]).loc[("mrpc", 0.1, "bitfit")]
    assert row["gap"] == pytest.approx(gaps.mean())
    assert (row["low"], row["high"]) == pytest.approx((gaps.mean() - half, gaps.mean() + half), abs=0.6)


def test_records_that_come_with_the_project_are_read_from_any_home(monkeypatch, tmp_path):
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path))
    experiment = study.load(report.DOMAINS)
    rates, trials = experiment.choose_rates(["cola"], ["full"], train=False)
    wanted = experiment.plan(["cola"], ["full"], rates=rates, fractions=[0.1], seeds=[0, 1, 2])
    assert len(trials) >= 3 and len(experiment.execute(wanted, group="08_other_encoders_other_domains")) == 3
