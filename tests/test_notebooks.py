"""Hygiene of the committed notebooks; ``run_all.sh --test`` compares their outputs with nbval."""

import ast
import re

import nbformat
import pytest

from studykit import paths

NOTEBOOKS = paths.notebooks()
KNOWN = {"study_name", "source", "encoder", "jobs", "task", "fraction", "seed", "points", "tasks", "methods", "fractions",
         "seeds", "budgets", "longer_task", "longer_epochs", "bottleneck", "num_labels"}


@pytest.fixture(params=NOTEBOOKS, ids=lambda file: file.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def parameters(notebook):
    return [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", [])]


def test_there_are_notebooks():
    assert [file.stem[:2] for file in NOTEBOOKS] == ["00", "01", "02", "03", "04", "05", "06", "10"]


def test_executed_in_order(notebook):
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))


def test_outputs_hold_no_error_warning_or_path(notebook):
    for cell in code(notebook):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.get("text")
            text = str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
            assert not re.search(r"/(home|root|work|tmp|Users)/|Warning|%\|", text), text


def test_one_parameters_cell_of_plain_typed_commented_assignments(notebook):
    (cell,) = parameters(notebook)
    lines = cell.source.splitlines()
    tree = ast.parse(cell.source).body
    assert all(isinstance(node, ast.AnnAssign) and "#" in line for node, line in zip(tree, lines, strict=True))
    for node in tree:
        ast.literal_eval(node.value)  # nothing derived
    assert {node.target.id for node in tree} <= KNOWN, "a parameter's name is new: one name per thing"


def test_cells_are_short_and_plain(notebook):
    for cell in code(notebook):
        assert len(cell.source.splitlines()) <= 15
        assert not re.search(r"^\s*[!%]|['\"]/(home|root|work|tmp)", cell.source, re.MULTILINE)


def test_has_the_parts_that_a_reader_expects(notebook):
    text = prose(notebook)
    parts = ["What you'll do", "What you'll learn", "What you'll need", "## What we expect", "We can say", "We cannot say",
             "## In practice", "## On your own", "<details>"]
    assert [part for part in parts if part not in text] == []
    assert "stamp" in notebook.cells[-2].metadata.get("tags", [])
    for link in re.findall(r"\]\(([^)h][^)]*)\)", text):
        assert (paths.REPO / "notebooks" / link).is_file(), link


def test_every_figure_has_a_caption(notebook):
    for cell, after in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "code" and any("image/png" in output.get("data", {}) for output in cell.outputs):
            assert after.cell_type == "markdown" and after.source.startswith("*Figure:")


def test_the_answers_of_the_exercises_run(notebook):
    """Answers use the notebook's variables: run its cells, then them."""
    answers = re.findall(r"```python\n(.*?)```", prose(notebook), re.DOTALL)
    assert answers
    names = {}
    for cell in code(notebook):
        exec(compile(cell.source.replace("plots.save(", "(lambda *_: None)("), "cell", "exec"), names)
    for answer in answers:
        exec(compile(answer, "answer", "exec"), names)
