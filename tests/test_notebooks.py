"""Hygiene of the committed notebooks; ``run_all.sh --test`` compares their outputs with nbval."""

import ast
import re

import matplotlib.pyplot as plt
import nbformat
import pytest

from studykit import paths, tasks

NOTEBOOKS = paths.notebooks()
FIRST = ["00", "01", "02", "03", "04", "05", "06", "10"]  # the course as it was first told; others may stand between
KNOWN = {"study_name", "source", "encoder", "jobs", "task", "tasks", "arms", "fraction", "fractions", "seed", "seeds",
         "budgets", "points", "watched_task", "margin", "longer_task", "longer_epochs", "bottleneck", "rank", "num_labels",
         "sizes", "bottlenecks", "ranks", "data", "minutes", "text", "label", "others", "records_of"}
WORDS_A_LINE, LONGEST_PARAGRAPH, LONGEST_LINE, ROWS = 12, 70, 88, 12
MINUTES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
           "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda file: file.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def outputs(notebook, kind):
    """What cells show of a kind, such as ``text/markdown``."""
    return [output["data"][kind] for cell in code(notebook) for output in cell.outputs if kind in output.get("data", {})]


def printed(notebook):
    return [output["text"] for cell in code(notebook) for output in cell.outputs if output.output_type == "stream"]


def reading(notebook):
    """What there is to read: prose, and what code told, without what is folded."""
    text = "\n\n".join([prose(notebook), *outputs(notebook, "text/markdown")])
    return re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)


def paragraphs(text):
    """Paragraphs and items of lists."""
    return [part.strip() for part in re.split(r"\n\s*\n|\n(?=- |\d+\. )", text) if part.strip()]


def lines(notebook):
    return [line for cell in code(notebook) for line in cell.source.splitlines() if line.strip()]


def figures(notebook):
    return len(outputs(notebook, "image/png"))


def test_there_are_notebooks():
    numbers = [file.stem[:2] for file in NOTEBOOKS]
    assert set(FIRST) <= set(numbers) and len(set(numbers)) == len(numbers)


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


def parameters(notebook):
    (cell,) = [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", [])]
    return cell.source


def whole(notebook):
    """All its code, as Python reads it."""
    return ast.parse("\n".join(cell.source for cell in code(notebook)))


def test_one_parameters_cell_of_plain_typed_commented_assignments(notebook):
    written = parameters(notebook).splitlines()
    tree = ast.parse(parameters(notebook)).body
    assert all(isinstance(node, ast.AnnAssign) and "#" in line for node, line in zip(tree, written, strict=True))
    for node in tree:
        ast.literal_eval(node.value)  # nothing derived
    assert {node.target.id for node in tree} <= KNOWN, "a parameter's name is new: one name per thing"


def test_no_loop_overwrites_a_parameter(notebook):
    given = {node.target.id for node in ast.parse(parameters(notebook)).body}
    loops = [node.target for node in ast.walk(whole(notebook)) if isinstance(node, ast.For)]
    over = {name.id for target in loops for name in ast.walk(target) if isinstance(name, ast.Name)}
    assert not over & given


def test_cells_are_short_and_plain(notebook):
    for cell in code(notebook):
        assert len(cell.source.splitlines()) <= 15, cell.source
        assert not re.search(r"^\s*[!%]|['\"]/(home|root|work|tmp)", cell.source, re.MULTILINE)
        long = [line for line in cell.source.splitlines() if len(line) > LONGEST_LINE]
        assert not long, "JupyterLab cuts it"


def test_functions_are_short(notebook):
    for node in ast.walk(whole(notebook)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 10, node.name


def test_paragraphs_are_short(notebook):
    long = [text for text in paragraphs(reading(notebook)) if len(text.split()) > LONGEST_PARAGRAPH]
    assert not long


def test_prose_is_short_for_its_code():
    books = [nbformat.read(file, as_version=4) for file in NOTEBOOKS]
    words, written = sum(len(reading(book).split()) for book in books), sum(len(lines(book)) for book in books)
    assert words <= WORDS_A_LINE * written, f"{words / written:.1f} words for a line of code"


def test_minutes_to_read_are_true(notebook):
    """At 200 words or 15 lines of code a minute, and a minute for a figure: within a third or so."""
    (stated,) = re.findall(r"(\w+) minutes\s+to\s+read", reading(notebook))
    minutes = 1 + MINUTES.index(stated.lower())
    expected = len(reading(notebook).split()) / 200 + len(lines(notebook)) / 15 + figures(notebook)
    assert 2 / 3 < minutes / expected < 3 / 2, f"rather {expected:.0f}"


def test_tables_are_short_unless_folded(notebook):
    for page in outputs(notebook, "text/html"):
        unfolded = re.sub(r"<details.*?</details>", "", page, flags=re.DOTALL)
        assert len(re.findall(r"<tr[^>]*>(?:(?!</tr>).)*<td", unfolded, flags=re.DOTALL)) <= ROWS
    for text in printed(notebook):
        rows = [line for line in text.splitlines() if re.search(r"(\s+[-+]?[\d.,]+|\s+–){2,}$", line)]
        assert len(rows) <= ROWS, text


def test_no_run_is_printed_whole(notebook):
    shown = [*printed(notebook), *outputs(notebook, "text/plain")]
    assert not [text for text in shown if re.search(r"\bRun\(task=", text)]


def test_prose_names_no_task_of_one_study(notebook):
    """A notebook runs on any study: what it says of a task stands in its outputs. The miniature's own may name its tasks."""
    if "mini" in notebook.cells[0].source.lower():
        return
    titles = {tasks.get(file.stem).title for file in (paths.REPO / "params" / "tasks").glob("*.yaml")}
    text = re.sub(r"<details>.*?</details>", "", prose(notebook), flags=re.DOTALL)
    assert not [title for title in titles if re.search(rf"\b{re.escape(title)}\b", text)]


def test_has_the_parts_that_a_reader_expects(notebook):
    text = prose(notebook)
    parts = ["What you'll do", "What you'll learn", "What you'll need", "## What we expect", "## What people", "We can say",
             "We cannot say", "## In practice", "## On your own", "<details>"]
    assert [part for part in parts if part not in text] == []
    assert "stamp" in notebook.cells[-2].metadata.get("tags", [])
    for link in re.findall(r"\]\(([^)h][^)]*)\)", text):
        assert (paths.REPO / "notebooks" / link).is_file(), link


def test_every_figure_has_a_caption(notebook):
    """Right after it: told by the cell that draws it (``story.draw``), or in the next cell."""
    for cell, after in zip(notebook.cells, notebook.cells[1:], strict=False):
        shown = [output.get("data", {}) for output in cell.get("outputs", [])]
        for place, data in enumerate(shown):
            if "image/png" in data:
                caption = shown[place + 1].get("text/markdown", "") if place + 1 < len(shown) else after.source
                assert caption.startswith("*Figure:")


def test_the_answers_of_the_exercises_run(notebook, monkeypatch, tmp_path):
    """Answers use the notebook's variables: run its cells, then them. Figures and what is told go elsewhere."""
    answers = re.findall(r"```python\n(.*?)```", prose(notebook), re.DOTALL)
    assert answers
    for folder in ("figures", "runs"):
        monkeypatch.setattr(paths, folder, lambda study, folder=folder: tmp_path / folder / paths.plain(study))
    names = {}
    for cell in code(notebook):
        exec(compile(cell.source, "cell", "exec"), names)
        plt.close("all")
    for answer in answers:
        exec(compile(answer, "answer", "exec"), names)
