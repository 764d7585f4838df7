"""What looks like code is never run: names, values and files are data."""

import ast
import dataclasses
import re

import pytest
import yaml
from conftest import STUDY

from studykit import paths, study, tasks
from studykit.__main__ import main
from studykit.models import encoders
from studykit.tasks import task

HOSTILE = ["$(touch x)", "`touch x`", "; touch x", "'; import os; os.system('touch x')",
           '__import__("os").system("touch x")', "{__import__('os').system('touch x')}",
           "!!python/object/apply:os.system [touch x]", "../../x", "x\ny", "%run x"]
TASK = {"columns": ["text"], "labels": ["no", "yes"], "metrics": ["accuracy"]}


@pytest.fixture
def at(tmp_path, monkeypatch, tiny_glue, tiny_encoder):
    """An empty folder to work in; afterwards nothing in it, or above it, is called ``x``."""
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "deep" / "er" / "home"))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    yield tmp_path / "deep" / "er"
    assert not list(tmp_path.rglob("x"))


@pytest.mark.parametrize("word", HOSTILE)
@pytest.mark.parametrize("option", ["--study", "--source", "--encoder", "--only", "--jobs", "--engine", "--set",
                                    "--nonsense"])
def test_the_command_line_refuses_it_in_one_line(at, capsys, option, word):
    assert main(["run", option, word]) == 2
    said = capsys.readouterr().err
    assert said.startswith("run_all.sh: ") and said.count("\n") == 1
    assert not (at / "home").exists()


@pytest.mark.parametrize("word", HOSTILE)
@pytest.mark.parametrize("name", ["bottleneck", "num_labels"])
def test_a_notebook_s_number_is_a_number(at, capsys, name, word):
    assert main(["run", "--only", "01", "--set", f"{name}={word}"]) == 2
    assert capsys.readouterr().err.startswith("run_all.sh: ")
    assert not (at / "home").exists()


@pytest.mark.parametrize("word", HOSTILE)
def test_text_for_a_notebook_is_written_into_it_as_text(word):
    """papermill writes a parameter as a Python literal, which is that text again."""
    from papermill.translators import PythonTranslator

    written = ast.parse(PythonTranslator.codify({"task": word})).body
    assert [ast.literal_eval(line.value) for line in written] == [word]


@pytest.mark.parametrize("setting", ["encoder", "pooler", "source", "data", "weights"])
@pytest.mark.parametrize("word", HOSTILE)
def test_a_study_s_settings_are_text(at, tiny_glue, tiny_encoder, setting, word):
    (at / "tiny.yaml").write_text(yaml.safe_dump({**yaml.safe_load(STUDY), setting: word}))
    if setting == "encoder":  # a name that says what the study is about; the files are elsewhere
        assert study.load("tiny.yaml", tiny_glue, tiny_encoder).encoder == word
        with pytest.raises((ValueError, OSError)):
            study.load("tiny.yaml", tiny_glue)
    else:
        with pytest.raises(ValueError):
            study.load("tiny.yaml", "" if setting == "source" else tiny_glue, tiny_encoder)


@pytest.mark.parametrize("word", HOSTILE)
def test_names_are_names(at, tiny_yaml, tiny_glue, tiny_encoder, word):
    one = study.load(str(tiny_yaml), tiny_glue, tiny_encoder)
    for wrong in ({"tasks": [word]}, {"arms": [word]}, {"fractions": [word]}, {"seeds": [word]}, {"pooler": word},
                  {"options": ((word, 1),)}, {"arms": ["adapter"], "options": (("placement", word),)}, {"precision": word}):
        with pytest.raises(ValueError):
            one.execute(one.plan(**{"tasks": ["cola"], "arms": ["full"], "rates": 1e-3, **wrong}), group="some")
    (run,) = one.plan("cola", "full", rates=1e-3)
    for wrong in ({"task": word}, {"method": word}, {"asks": word}):
        with pytest.raises(ValueError):
            one.execute([dataclasses.replace(run, **wrong)], group="some")
    for ask in (lambda: tasks.load(word), lambda: tasks.load("cola", word), lambda: encoders.load(word),
                lambda: encoders.tokenizer(word), lambda: study.load(word)):
        with pytest.raises((ValueError, OSError)):
            ask()
    assert not (at / "home").exists()


@pytest.mark.parametrize("name", ["../../x", "a/b", ".hidden", ""])
def test_a_task_s_name_does_not_lead_out_of_its_folder(name):
    with pytest.raises(ValueError, match="cannot be a folder's name"):
        tasks.made({**TASK, "name": name}, "here")


@pytest.mark.parametrize("word", ["../../x", "..", "/tmp/x", "x/../../..", "x\ny", ".x", ""])
def test_no_name_leads_out_of_the_results(at, tiny_yaml, tiny_glue, tiny_encoder, word):
    one = study.load(str(tiny_yaml), tiny_glue, tiny_encoder)
    with pytest.raises(ValueError, match="cannot be a folder's name here"):
        one.execute(one.plan("cola", "head", rates=1e-3, steps=1), group=word)
    for folder in (paths.results, paths.figures, paths.runs):
        with pytest.raises(ValueError, match="cannot be a folder's name here"):
            folder(word)


FORBIDDEN = {r"\bpickle\b": "pickle", r"(?<![\w.])eval\(": "eval", r"(?<![\w.])exec\(": "exec",
             r"torch\.load\((?!.*weights_only=True)": "pickle",
             r"trust_remote_code\s*=\s*True": "code from the hub", r"shell\s*=\s*True": "a shell", r"os\.system": "a shell",
             r"yaml\.(unsafe_load|full_load)\(|yaml\.load\((?!.*, _Plain\))": "YAML that makes objects",
             r"allow_pickle\s*=\s*True": "pickle"}


@pytest.mark.parametrize("file", sorted((paths.REPO / "studykit").rglob("*.py")), ids=lambda file: file.stem)
def test_the_package_opens_nothing_that_could_run_code(file):
    found = [what for pattern, what in FORBIDDEN.items() if re.search(pattern, file.read_text())]
    assert found == []


def test_the_loader_of_tasks_is_a_safe_one():
    assert issubclass(task._Plain, yaml.SafeLoader) and not task._Plain.yaml_multi_constructors
