import ast
import graphlib
import importlib
import inspect
import json
import subprocess
import sys
import textwrap
import tomllib

import pytest
from conftest import made_result

import studykit
from studykit import methods, paths, study, tasks, training
from studykit.evidence import stats
from studykit.methods import adapters
from studykit.models import encoders
from studykit.study import provenance, records, runs
from studykit.telling import lesson
from studykit.training import budgets, machine


def fresh(code, *words):
    """What a new process prints, as JSON."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), *map(str, words)], capture_output=True, text=True,
                          check=True, cwd=paths.REPO)
    return json.loads(done.stdout)


def test_importing_the_package_is_quick_and_imports_no_torch():
    seconds, heavy = fresh("""
        import json, sys, time
        start = time.process_time()
        import studykit
        seconds = time.process_time() - start
        print(json.dumps([seconds, sorted({"torch", "transformers", "evaluate", "pandas"} & set(sys.modules))]))
    """)
    assert seconds < 0.5
    assert heavy == []


def test_analysis_imports_no_torch(tmp_path):
    cola = tasks.get("cola")
    run = runs.Run("cola", cola.identity, "full", 0.5, 1e-3, "an-encoder", "0123", "4567", "fp32", epochs=3)
    (tmp_path / "some").mkdir()
    records.write(records.new(run, cola, None, made_result(run)), tmp_path / "some" / f"{run.name}.json")
    score, heavy = fresh("""
        import json, sys
        from studykit import study
        from studykit.evidence import paper as claims, stats
        from studykit.study import provenance, records
        from studykit.telling import lesson, plots
        from studykit.training import budgets
        minilm = study.load("minilm")
        assert len(minilm.recorded([*minilm.trials("cola", "bitfit"), *minilm.plan("cola", "adapter", rates=1e-3)]))
        assert minilm.clock(["cola"], ["full", "bitfit"], measure=False).token_seconds
        found = stats.summary(minilm.table(records.read(sys.argv[1]).values()))
        print(json.dumps([found["score"].tolist(), sorted({"torch", "transformers", "evaluate"} & set(sys.modules))]))
    """, tmp_path)
    assert score == [50.0]
    assert heavy == []


def test_modules_load_when_they_are_named():
    assert all(getattr(studykit, name).__name__ == f"studykit.{place}" for name, place in studykit.MODULES.items()
               if name in studykit.__all__)
    with pytest.raises(AttributeError, match="'studykit' has no attribute 'trainnig'"):
        _ = studykit.trainnig


# What a lesson shows

def without_docstrings(code):
    """The code's meaning: its syntax tree, docstrings taken out."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


SHOWN = [*methods.METHODS.values(), methods.apply, adapters.Adapter, adapters.insert, encoders.blocks, encoders.draw_head,
         budgets.Budget, machine.Ledger, training.train, budgets.batch_order, training.batch_loss, tasks.subset,
         tasks.stratified_order, tasks.Encodings, runs.Run, study.Study.execute, stats.paired_gaps, stats.mean_interval]


@pytest.mark.parametrize("function", SHOWN, ids=lambda function: f"{function.__module__}.{function.__qualname__}")
def test_shown_code_is_the_code_without_its_docstrings(function, capsys):
    lesson.show(function)
    shown = capsys.readouterr().out
    compile(shown, "shown", "exec")
    assert without_docstrings(shown) == without_docstrings(textwrap.dedent(inspect.getsource(function)))
    assert '"""' not in shown
    assert all(line == line.rstrip() for line in shown.splitlines())


@pytest.mark.parametrize("seen, expected, within, said", [
    (104450, 104450, 0, "we see 104,450 · expected 104,450 · match"), (3, 4, 0, "we see 3 · expected 4 · NO MATCH"),
    (0.31, 0.30, 0.02, "we see 0.31 · expected 0.3 · match"), (0.33, 0.30, 0.02, "we see 0.33 · expected 0.3 · NO MATCH"),
    (0.27, 0.30, 0.02, "we see 0.27 · expected 0.3 · NO MATCH"), (True, True, 0, "we see True · expected True · match"),
    (float("nan"), 0.3, 0.02, "we see nan · expected 0.3 · NO MATCH"), ("a", "a", 0, "we see a · expected a · match")])
def test_check_says_whether_two_numbers_match(capsys, seen, expected, within, said):
    assert lesson.check("parameters", seen, expected, within) is None
    assert capsys.readouterr().out == f"parameters: {said}\n"


# Where things are, and what they were made with

def test_results_and_figures_are_below_home(monkeypatch, tmp_path):
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path))
    assert (paths.results("a"), paths.figures("a"), paths.runs("a")) == (
        tmp_path / "results" / "a", tmp_path / "figures" / "a", tmp_path / "runs" / "a")
    monkeypatch.delenv("STUDYKIT_HOME")
    assert paths.home() == paths.REPO


def test_the_reference_study_is_known():
    assert "minilm" in paths.studies()
    assert paths.params("minilm").is_file()


def test_the_version_is_that_of_the_package_s_metadata():
    assert tomllib.loads((paths.REPO / "pyproject.toml").read_text())["project"]["version"] == studykit.__version__


def test_the_stamp_says_what_a_notebook_s_numbers_are_from(tiny_study, monkeypatch):
    monkeypatch.setattr(runs, "train_run", lambda run, *_: made_result(
        run, collapsed=bool(run.seed), precision="fp32", hardware={"processor": f"processor {run.seed}"}))
    table = tiny_study.execute(tiny_study.plan("cola", "full", rates=1e-3, seeds=[0, 1]), group="some")
    stamp = provenance.stamp(tiny_study, table)
    assert "tiny: tiny-bert, weights " + tiny_study.weights in stamp
    assert "2 runs, 2 seeds, 1 not ok" in stamp
    assert "processor 0, processor 1" in stamp
    assert "precision fp32" in stamp
    assert f"transformers {provenance.versions()['transformers']}" in stamp


NAMES = {  # that people's notebooks use
    "studykit.tasks": ("load", "encode", "get"), "studykit.encoders": ("load", "tokenizer"),
    "studykit.methods": ("apply", "save", "load", "counts"), "studykit.budgets": ("Budget",),
    "studykit.training": ("train", "predict", "logits"), "studykit.study": ("load",)}


@pytest.mark.parametrize("module", NAMES)
def test_the_names_that_notebooks_use_are_there(module):
    for name in NAMES[module]:
        assert callable(getattr(getattr(studykit, module.removeprefix("studykit.")), name))
        assert callable(getattr(importlib.import_module(module), name))


def test_modules_import_one_way():
    """No circle, even of imports within functions; the methods' own package, which opens what it saved, counts as one."""
    files = {".".join(file.relative_to(paths.REPO).with_suffix("").parts).removesuffix(".__init__"): file
             for file in (paths.REPO / "studykit").rglob("*.py")}

    def whole(name):
        return "studykit.methods" if name.startswith("studykit.methods.") and not name.endswith("__main__") else name

    imported = {whole(name): set() for name in files}
    for name, file in files.items():
        for node in ast.walk(ast.parse(file.read_text())):
            for alias in node.names if isinstance(node, ast.ImportFrom) else ():
                module = next((each for each in (f"{node.module}.{alias.name}", node.module) if each in files), name)
                imported[whole(name)] |= {whole(module)} - {whole(name)}
    assert len(list(graphlib.TopologicalSorter(imported).static_order())) == len(imported) > 100
