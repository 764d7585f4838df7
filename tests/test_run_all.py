"""The command line: what it refuses, and a study from beginning to end."""

import collections
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import nbformat
import pytest
from conftest import changed
from test_design import grades, tickets

from studykit import __main__ as cli
from studykit import paths
from studykit.__main__ import SHELL, _execute, _options, main, plan_of

RUN_ALL = paths.REPO / "run_all.sh"


def run(*words):
    return main(["run", *map(str, words)])


@pytest.mark.parametrize(("words", "said"), [
    (["--study", "nonesuch"], "unknown study"),
    (["--only", "03,99"], "no notebook 99"),
    (["--set", "fractoin=[0.1]"], "unknown parameter fractoin"),
    (["--only", "01", "--set", "seeds=[1]"], "unknown parameter seeds"),
    (["--set", "fractions"], "NAME=VALUE"),
    (["--set", "fractions=[0.1"], "not a YAML value"),
    (["--jobs", "0"], "--jobs must be at least 1"),
    (["--encoder", "/nowhere/encoder"], "no encoder"),
    (["--source", "/nowhere/glue"], "no folder at /nowhere/glue"),
    (["--stduy", "minilm"], "unknown option '--stduy', perhaps --study or --set was meant: see ./run_all.sh --help"),
    (["--offlne"], "unknown option '--offlne', perhaps --offline was meant: see"),
    (["--zzz"], "unknown option '--zzz': see ./run_all.sh --help"),
    (["minilm"], "unknown word 'minilm': see ./run_all.sh --help"),
])
def test_wrong_words_are_refused_before_anything_runs(words, said, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path))
    assert run(*words) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_with_other_weights_is_not_the_reference_study(tiny_encoder, capsys):
    assert run("--encoder", tiny_encoder) == 2
    assert "study of your own" in capsys.readouterr().err


def test_values_that_look_like_code_stay_values(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert run("--set", "$(touch x)=1") == 2
    assert run("--only", "01", "--set", "bottleneck='; import os; open(\"x\", \"w\")'") == 2
    assert list(tmp_path.rglob("x")) == []


def shell(tmp_path, *words):
    """What ``run_all.sh`` starts, as a list of words: its environment is a stand-in that prints them."""
    for name in ("run_all.sh", "environment.yml", "lock.txt", "pyproject.toml"):
        shutil.copy(paths.REPO / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    python.chmod(0o755)
    wanted = subprocess.run("cat environment.yml lock.txt pyproject.toml | cksum", shell=True, cwd=tmp_path, text=True,
                            capture_output=True, check=True).stdout
    (tmp_path / ".venv" / ".ready").write_text(f"{tmp_path} {wanted}")
    done = subprocess.run([tmp_path / "run_all.sh", *words], cwd=tmp_path, text=True, capture_output=True, check=True)
    return done.stdout.split("\0")[:-1]


ODD = ["$(touch x)", "`touch x`", "two words", "it's", 'say "x"', "*", "; touch x", ""]


LAB = ["-m", "jupyter", "lab", "--notebook-dir=notebooks", "--LabApp.news_url=None",
       "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
FIRST = "notebooks/00_start_here.ipynb"  # after the caller's words: another notebook that these name is opened instead


@pytest.mark.parametrize("mode, started, last", [
    ([], ["-m", "studykit", "run"], []), (["--offline"], ["-m", "studykit", "run"], []),
    (["--student"], ["-m", "studykit", "student"], []), (["--lab"], LAB, [FIRST])], ids=str)
def test_the_shell_passes_words_on_as_they_are_and_nothing_of_its_own(tmp_path, mode, started, last):
    """So the Lab keeps its token and listens on this machine only."""
    assert shell(tmp_path, *mode, *ODD) == [*started, *ODD, *last]
    assert not list(tmp_path.rglob("x"))


def test_the_lab_opens_the_first_notebook_and_asks_about_no_news(monkeypatch, tmp_path):
    """As JupyterLab itself reads these words."""
    from jupyterlab.labapp import LabApp

    monkeypatch.chdir(paths.REPO)
    words = [*LAB[3:], FIRST]
    app = LabApp(parent=None)
    app.parse_command_line([word for word in words if "LabApp" in word])
    assert app.news_url is None and app.check_for_updates_class.__name__ == "NeverCheckForUpdate"
    assert (paths.REPO / FIRST).is_file()


def test_the_shell_says_nothing_of_tokens_addresses_and_eval():
    forbidden = r"token(?!izers)|password|--ip|0\.0\.0\.0|allow.origin|allow.root|\beval\b"
    assert not re.search(forbidden, RUN_ALL.read_text(), re.IGNORECASE)


@pytest.fixture
def cheap(tiny_yaml, tiny_glue, tiny_encoder, tmp_path, monkeypatch):
    """The words that run notebook 03 on a tiny study, with its results in a folder of their own."""
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path))
    return ["--study", tiny_yaml, "--source", tiny_glue, "--encoder", tiny_encoder, "--only", "03", "--set",
            "tasks=[mrpc]", "arms=[full, bitfit]", "fractions=[0.5, 1.0]", "seeds=[0, 1]"]


def test_a_study_from_beginning_to_end_again_and_elsewhere(cheap, tmp_path, capsys, monkeypatch):
    assert run(*cheap) == 0
    records = {file: file.stat().st_mtime_ns for file in tmp_path.glob("results/tiny/*/*.json")}
    groups = collections.Counter(file.parent.name for file in records)
    assert groups["03_data_fractions"] == 2 * 2 * 2  # arms × fractions × seeds
    assert 2 * 2 <= groups["02_learning_rates"] <= 2 * 4  # trials, and up to two beyond an edge
    assert {file.name for file in tmp_path.glob("runs/tiny/*")} == {
        "03_data_fractions.ipynb", "03_data_fractions.html", "03_data_fractions.json", "index.html"}
    assert {file.stem for file in tmp_path.glob("figures/tiny/*.svg")} == {"score_by_fraction", "gap_by_fraction"}
    page = (tmp_path / "runs/tiny/index.html").read_text()
    assert page.count("<img ") == page.count('src="data:image/png;base64,') == page.count('alt="Figure: ') == 2
    assert 'href="03_data_fractions.html"' in page and "passed" in page and "width=device-width" in page
    assert not re.search(r'(src|href)="(https?:)?//', page), "it needs a network"
    manifest = json.loads((tmp_path / "figures/tiny/manifest.json").read_text())
    assert manifest["score_by_fraction"]["seeds"] == [0, 1]
    said = capsys.readouterr().out
    assert "passed   score_by_fraction, gap_by_fraction\n" in said and "1 passed, 0 failed" in said
    drawn = {file: file.read_bytes() for file in tmp_path.glob("figures/tiny/*")}
    assert run(*cheap) == 0
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("results/tiny/*/*.json")} == records, "trained again"
    assert {file: file.read_bytes() for file in tmp_path.glob("figures/tiny/*")} == drawn, "figures differ"
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "elsewhere"))
    assert run(*cheap, "--jobs", "1") == 0
    first, second = (made(home) for home in (tmp_path, tmp_path / "elsewhere"))
    assert len(first[0]) >= 12 and len(first[1]) == 4
    assert first == second, "trained twice on one machine, scores and figures are identical"


def made(home):
    """What runs gave, and the figures' bytes."""
    records = [json.loads(file.read_text()) for file in sorted(home.glob("results/tiny/*/*.json"))]
    return ([(record["key"], record["score"], record["predictions"], record["losses"]) for record in records],
            {file.name: file.read_bytes() for file in home.glob("figures/tiny/*.[sp][vn]g")})


def test_classes_by_name_and_a_number_on_a_scale_of_its_own_go_through_notebook_03(tiny_yaml, tmp_path, monkeypatch, capsys):
    """Each is a CSV and a YAML of a dozen lines, on the encoder that comes with the project."""
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "home"))
    tickets(tmp_path)
    grades(tmp_path)
    arms = {"full": {"rates": [3e-3, 1e-2]}, "lora r=2": {"method": "lora", "options": {"rank": 2}, "rates": [1e-2, 3e-2]}}
    file = changed(tiny_yaml, encoder="mini", source="mini", weights=None, tasks=["tickets.yaml", "grades.yaml"], arms=arms,
                   epochs=4, seeds=[0, 1], shares=[0.5, 1.0])
    assert run("--study", file, "--only", "03") == 0, capsys.readouterr().out
    figures = {figure.stem for figure in tmp_path.glob("home/figures/tiny/*.svg")}
    assert figures == {"score_by_fraction", "gap_by_fraction"}
    for figure in figures:
        drawn = (tmp_path / f"home/figures/tiny/{figure}.svg").read_text()
        assert "Tickets" in drawn and "Grades" in drawn and "lora r=2" in drawn
    story = json.loads((tmp_path / "home/runs/tiny/03_data_fractions.json").read_text())
    assert "Grades" in json.dumps(story) and "Tickets" in json.dumps(story)


@pytest.fixture
def unexecuted(monkeypatch):
    """Notebooks pass without being run."""
    monkeypatch.setattr(cli, "_execute", lambda *_: "passed")


def test_a_terminal_that_knows_ascii_only_is_written_to_all_the_same(cheap, unexecuted, monkeypatch):
    """Its letters are not those of the sentences: it gets others for them."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert run(*cheap) == 0
    assert run("--only", "zwölf …") == 2
    out, err = (stream.detach().getvalue() for stream in (sys.stdout, sys.stderr) if stream.flush() is None)
    assert b"03_data_fractions ...\n" in out and b"1 passed, 0 failed" in out
    assert err.startswith(b"run_all.sh: no notebook zw?lf ...: there are")


def test_a_relative_home_is_the_caller_s(cheap, unexecuted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDYKIT_HOME", "my work")
    assert run(*cheap) == 0
    assert (tmp_path / "my work" / "runs" / "tiny" / "index.html").is_file()
    assert os.environ["STUDYKIT_HOME"] == str(tmp_path / "my work"), "the kernels start elsewhere"
    monkeypatch.setenv("STUDYKIT_HOME", "my work")
    stand_in = tmp_path / "elsewhere"
    stand_in.mkdir()
    assert shell(stand_in, "--offline") == ["-m", "studykit", "run"]
    (stand_in / ".venv" / "bin" / "python").write_text('#!/bin/sh\nprintf "%s" "$STUDYKIT_HOME"\n')
    done = subprocess.run([stand_in / "run_all.sh"], cwd=tmp_path, text=True, capture_output=True, check=True)
    assert done.stdout == str(tmp_path / "my work")


def test_a_kernel_that_dies_is_a_failed_notebook(tmp_path, capsys):
    cells = [nbformat.v4.new_code_cell(code) for code in ("print('begun')", "import os; os._exit(9)", "print('too late')")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "dies.ipynb")
    assert _execute(tmp_path / "dies.ipynb", tmp_path / "executed.ipynb", {}) == "failed"
    assert "dies failed: " in capsys.readouterr().err
    assert "begun" in (tmp_path / "executed.ipynb").read_text()


def test_a_failing_notebook_does_not_stop_the_others(cheap, capsys):
    only = cheap.index("03")
    words = [*cheap[:only], "01,03", *cheap[only + 1:-3], "arms=[nonesuch]"]
    assert run(*words) == 1
    captured = capsys.readouterr()
    assert "1 passed, 1 failed" in captured.out
    assert "study tiny has no arm 'nonesuch'" in captured.err


def test_a_study_may_set_only_parameters_that_exist(tiny_yaml, tmp_path, monkeypatch):
    study = tmp_path / "odd.yaml"
    study.write_text(tiny_yaml.read_text() + "weights: any\nnotebooks: {03_data_fractions: {fractoins: [1]}}\n")
    options = type("Options", (), {"study": str(study), "source": "", "encoder": "", "only": "", "jobs": 1,
                                  "engine": "", "set": []})()
    with pytest.raises(ValueError, match="sets fractoins"):
        plan_of(options)


def test_a_study_without_notebooks_is_refused_in_a_sentence(tmp_path, tiny_yaml):
    own = tmp_path / "own.yaml"
    out = "".join(f"  {file.stem}: false\n" for file in paths.notebooks())
    own.write_text(f"{tiny_yaml.read_text()}weights: any\nnotebooks:\n{out}")
    options = type("Options", (), {"study": str(own), "source": "", "encoder": "", "only": "", "jobs": 1,
                                  "engine": "", "set": []})()
    with pytest.raises(ValueError, match="leaves out every notebook"):
        plan_of(options)


def test_help_lists_every_option_of_the_parser():
    said = subprocess.run([RUN_ALL, "--help"], capture_output=True, text=True, check=True).stdout
    parser = subprocess.run([sys.executable, "-m", "studykit", "run", "--help"], capture_output=True, text=True, check=True)
    for word in ("--study", "--source", "--encoder", "--only", "--jobs", "--engine", "--set"):
        assert word in said and word in parser.stdout
    for word in SHELL:
        assert word in said


def test_every_example_of_the_help_can_be_planned(tmp_path, tiny_yaml, monkeypatch):
    said = subprocess.run([RUN_ALL, "--help"], capture_output=True, text=True, check=True).stdout
    examples = re.findall(r"^[A-Z][a-z ]+:  +\./run_all\.sh (.*?)(?:   .*)?$", said, re.MULTILINE)
    assert len(examples) >= 3, "one for each door"
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path))
    monkeypatch.setenv("STUDYKIT_FROM", str(tmp_path))
    shutil.copy(paths.params("minilm"), tmp_path / "my.yaml")
    for words in map(shlex.split, examples):
        command, words = (words[0][2:], words[1:]) if words[0] in ("--data", "--predict") else ("run", words)
        options = _options([command, *words])
        assert options.command == command
        if command == "run":
            assert plan_of(options)[1]
