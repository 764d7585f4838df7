"""README's tables, a study's report and the page of a run: by code, from records and from what notebooks kept."""

import json
import re
import types
from pathlib import Path

import made
import nbformat
import numpy as np
import pandas as pd
import pytest

from studykit import paths, study
from studykit.evidence import advice, stats
from studykit.study import engines
from studykit.tasks import known
from studykit.telling import facts, report

TITLES = {"essays": "Essays", "prices": "Prices"}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    scores = {(task, arm, share): list(rng.normal(level, 1, 5)) for task in TITLES for share in (0.1, 1.0)
              for arm, level in (("all", 80), ("lora r=8", 75), ("none", 60))}
    runs = made.table(scores, titles=TITLES, metric={"essays": "accuracy", "prices": "matthews_correlation"},
                      collapsed=[("essays", "none", 1)])
    runs["macro_f1"] = np.where(runs["task"] == "essays", runs["score"] - 3, np.nan)
    runs["metrics"] = [(kind, known("macro_f1")) for kind in runs["scored_by"]]
    return runs


def cells(markdown):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if "---" not in line]


# Tables


def test_scores_of_any_study_have_its_titles_arms_and_shares(table):
    head, *rows = cells(report.scores_markdown(table))
    assert head == ["5 seeds", "data", "all", "lora r=8", "none"]
    names = "Essays (accuracy)", "Prices (Matthews correlation)"
    assert [row[:2] for row in rows] == [[name, share] for name in names for share in ("10 %", "100 %")]
    mean = stats.summary(table).iloc[0]
    assert rows[0][2] == f"{mean['score']:.1f} ({mean['low']:.1f} to {mean['high']:.1f})"
    assert rows[0][4].endswith("; 1 not ok)")
    with_others = cells(report.scores_markdown(table, others=True))
    assert [row[0] for row in with_others].count("Essays (macro F1)") == 2


def test_a_cell_without_runs_is_a_dash(table):
    some = table[(table["task"] == "essays") | (table["arm"] == "all")]
    assert cells(report.scores_markdown(some))[-1][3:] == ["–", "–"]
    assert cells(report.gaps_markdown(stats.paired_gaps(some)))[0] == ["5 pairs", "data", "lora r=8 − all", "none − all"]


def test_gaps_are_bold_where_they_are_shown_and_open_where_the_baseline_has_not_learnt(table):
    row = cells(report.gaps_markdown(stats.paired_gaps(table)))[1]
    assert re.fullmatch(r"\*\*-\d\.\d \(-\d+\.\d to -\d\.\d\)\*\*", row[2])
    silent = stats.paired_gaps(table.assign(learnt=False))
    assert cells(report.gaps_markdown(silent))[1][2].endswith("), cannot be told")
    timed = stats.paired_gaps(table.assign(seconds=10 * table["fraction"]), by=("task", "seconds"))
    assert cells(report.gaps_markdown(timed))[1][:2] == ["Essays (accuracy)", "1 s"]


def test_rates_and_parameters_of_any_study(table):
    choices = pd.DataFrame([{"task": task, "task_title": title, "task_place": i, "arm": arm, "arm_place": j, "rate": 0.001,
                             "learnt": arm != "none"} for i, (task, title) in enumerate(TITLES.items())
                            for j, arm in enumerate(("all", "none"))])
    assert cells(report.rates_markdown(choices)) == [["", "all", "none"], ["Essays", "0.001", "0.001 (not learnt)"],
                                                     ["Prices", "0.001", "0.001 (not learnt)"]]
    assert cells(report.parameters_markdown(table))[1] == ["`all`", "120", "20", "100", "0.1 %"]


def test_advice_has_a_row_for_amounts_and_for_budgets(table):
    small = table.assign(examples=np.where(table["fraction"] == 1, 5000, 500), batch_size=16,
                         steps=np.where(table["fraction"] == 1, 626, 200))
    budgets = small[small["fraction"] == 1].assign(seconds=10.0)
    head, *rows = cells(report.advice_markdown(small, budgets))
    assert head[:2] == ["you have", "take"]
    assert [row[0] for row in rows] == ["up to 1,000 examples, 200 batches of 16",
                                        "over 3,000 examples, 2 passes over them, at least 200 batches",
                                        "10 s of training, 5,000 to 5,000 examples"]
    assert {row[1] for row in rows} == {"`all`"}
    found = advice.chances(small[small["examples"] == 5000])
    least = found[found["arm"] == "all"].sort_values("chance", kind="stable").iloc[0]
    assert rows[1][2].endswith(f"(lowest of {(found['arm'] == 'all').sum()} comparisons: {100 * least['chance']:.0f} %, "
                               f"{least['task_title']} with 100 %)")
    nothing = cells(report.advice_markdown(small.assign(learnt=False), budgets.iloc[:0]))
    assert {row[1] for row in nothing[1:]} == {"cannot tell: no arm learnt"}


# README and the report of the reference study


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("STUDYKIT_HOME", raising=False)
        patch.setattr(engines, "train", lambda *_: pytest.fail("a reading path trains"))
        patch.setattr(study.clocks, "measure", lambda *_: pytest.fail("a reading path measures"))
        return report.evidence()


def test_the_reference_study_is_read_and_nothing_trains(found):
    assert found.experiment.name == report.REFERENCE
    assert len(found.reports) and len(found.trials) and len(found.gaps) and len(found.verdicts)
    assert set(found.trials["score_on"]) == {"selection"} and set(found.reports["score_on"]) == {"validation"}


def test_places_that_are_there_are_filled_and_others_refused(found):
    text = "before\n<!-- rates -->\nstale\n<!-- end -->\nbetween\n<!-- answer -->\n<!-- end -->\nafter\n"
    filled = report.filled(text, found)
    assert report.filled(filled, found) == filled and "stale" not in filled
    assert report.rates_markdown(found.choices) in filled and report.answer_markdown(found) in filled
    counts = found.verdicts["verdict"].value_counts()
    assert f"- Of the paper's {len(found.verdicts)} claims: {counts['upheld']} upheld, {counts['refuted']} refuted" in filled
    with pytest.raises(ValueError, match="a place for ratess: choose from"):
        report.filled("<!-- ratess -->\n<!-- end -->", found)
    with pytest.raises(ValueError, match="need an <!-- end -->"):
        report.filled("<!-- rates -->\n", found)


def test_another_score_in_one_record_changes_the_tables(found):
    reports = found.reports.copy()
    reports.loc[0, "score"] += 5
    assert report.scores_markdown(reports) != report.scores_markdown(found.reports)
    assert report.gaps_markdown(stats.paired_gaps(reports)) != report.gaps_markdown(found.gaps)


def test_the_report_holds_all_tables_with_their_sentences(found):
    text = report.report_markdown(found)
    assert report.report_markdown(found) == text
    for table in (report.scores_markdown(found.reports, others=True), report.gaps_markdown(found.gaps),
                  report.rates_markdown(found.choices), report.claims_markdown(found.verdicts, found.parts)):
        assert table in text
    assert all(task.title in text for task in found.experiment.tasks.values()) and "nan" not in text


def test_a_claim_without_a_run_is_called_untested_not_undecided(found):
    rows = found.verdicts.assign(verdict="undecided", parts=[0, *[2] * (len(found.verdicts) - 1)])
    first, second, *_ = report.claims_markdown(rows, found.parts).splitlines()[2:]
    assert "| **untested** |" in first and "| **undecided** |" in second


# The page of a run


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path))
    tasks = {name: types.SimpleNamespace(title=title) for name, title in TITLES.items()}
    return types.SimpleNamespace(name="tiny", encoder="tiny-bert", weights="0123", source="hub", tasks=tasks,
                                 arms={"all": None, "lora r=8": None})


def kept(name, **story):
    folder = paths.made(paths.runs("tiny"))
    (folder / f"{name}.json").write_text(json.dumps({"notebook": name, "facts": [], "figures": [], **story}))
    return Path(f"{name}.ipynb")


def fact(kind, sentence):
    return {"kind": kind, "sentence": sentence, "about": {}, "numbers": {}}


def figure(name):
    png = paths.made(paths.figures("tiny")) / f"{name}.png"
    png.write_bytes(b"not a picture")
    return {"name": name, "caption": f"what `{name}` shows."}


def test_the_page_is_there_from_the_first_notebook_with_its_answer_on_top(experiment):
    first = kept("02_rates", facts=[fact("coverage", "On record: 3 runs.")])
    page = report.write_index(experiment, paths.runs("tiny"), [(first, 12.3, "passed")]).read_text()
    assert "2 ways of fine-tuning" in page and "on Essays, Prices" in page and '<p class="answer">On record: 3 runs.' in page
    second = kept("03_data", facts=[fact("behind", "`few` <is> behind."), fact("answer", "`few` is behind `all`.")],
                  figures=[figure("score_by_fraction"), {"name": "never_drawn", "caption": "x"}])
    page = report.write_index(experiment, paths.runs("tiny"),
                              [(first, 12.3, "passed"), (second, 5, "failed")]).read_text()
    assert '<p class="answer"><code>few</code> is behind <code>all</code>.</p>' in page
    assert "<h2>Score by fraction</h2>" in page and 'From notebook <a href="03_data.html">03_data</a>' in page
    assert 'alt="Figure: what score_by_fraction shows."' in page and page.count("<img") == 1
    assert "<code>few</code> &lt;is&gt; behind." in page and "<td>failed</td>" in page
    assert page.index('class="answer"') < page.index("<img") < page.index("<h2>Notebooks</h2>")


def test_a_notebook_that_kept_nothing_is_on_the_page(experiment):
    rows = [(Path("00_start.ipynb"), 1, "failed")]
    page = report.write_index(experiment, paths.made(paths.runs("tiny")), rows).read_text()
    assert "No notebook has given an answer yet." in page and "00_start" in page


@pytest.mark.parametrize("source, cautious", [("hub", False), ("mini", True)])
def test_the_miniature_s_page_says_that_its_numbers_say_nothing(experiment, source, cautious):
    experiment.source = source
    page = report.write_index(experiment, paths.runs("tiny"), [(kept("03_data"), 1, "passed")]).read_text()
    assert ("say nothing about real encoders" in page) == cautious


def test_the_page_says_which_notebook_tells_of_another_study(experiment):
    other = types.SimpleNamespace(name="other", about="other: tiny-bert", source="hub", encoder="tiny-bert")
    facts.Story(experiment, "08_other", other).tell([facts.Fact("order", "On Essays.")])
    experiment.source = "mini"
    page = report.write_index(experiment, paths.runs("tiny"),
                              [(paths.runs("tiny") / "08_other.ipynb", 1, "passed")]).read_text()
    assert "What notebook 08_other found is of study other" in page and "tasks, but for notebook 08_other, are" in page
    assert "<summary>What notebook 08_other found, of study other" in page


def test_verdicts_stand_as_a_table_that_a_phone_can_show(experiment):
    rows = [{"claim": "a", "statement": "A <b> claim", "verdict": "refuted", "essays": "undecided", "prices": None,
             "p": 0.01},
            {"claim": "b", "statement": "B", "verdict": "upheld", "essays": None, "prices": None, "p": 0.02}]
    page = report.write_index(experiment, paths.runs("tiny"), [(kept("06_claims", verdicts=rows), 1, "passed")]).read_text()
    assert "A &lt;b&gt; claim" in page and page.count('data-of="all tasks"') == 2
    assert '<td data-of="Essays"><span class="undecided">undecided</span></td>' in page and "<th>Prices</th>" not in page


def test_a_notebook_as_html_names_its_figures_by_their_captions(tmp_path):
    image = {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"}

    def cell(*outputs):
        return nbformat.v4.new_code_cell("draw()", outputs=[nbformat.v4.new_output("display_data", data=data)
                                                            for data in outputs])

    notebook = nbformat.v4.new_notebook(cells=[
        cell(image, {"text/markdown": "*Figure: told by code, with `all` & more.*"}),
        cell(image), nbformat.v4.new_markdown_cell("*Figure: in the next cell.*\n\nMore [text](03_data.ipynb).\n\n<details>"
                                                   "<summary>Folded</summary>\n\n- one\n- two\n\n</details>\n\nAfter.")])
    file = tmp_path / "02_rates.ipynb"
    nbformat.write(notebook, file)
    text = report.as_html(file).read_text()
    assert 'alt="Figure: told by code, with all &amp; more."' in text and 'alt="Figure: in the next cell."' in text
    assert "<script" not in text and 'href="03_data.html"' in text
    folded = re.search(r"<details>(.*?)</details>", text, re.DOTALL)[1]
    assert "<li>one" in folded.replace("<p>", "") and "After." not in folded  # a fold holds what it should
