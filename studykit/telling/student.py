"""Notebooks for a class: without outputs and without answers, and the answers apart."""

import re
from pathlib import Path
from typing import Any

from studykit import paths

ANSWERS = re.compile(r"\n*<details><summary>Answers</summary>\n*(.*?)\n*</details>", re.DOTALL)
ELSEWHERE = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")  # a link to a file that the class does not get


def write(folder: Path) -> list[Path]:
    """Write every notebook into the folder without outputs and answers, and under ``answers/`` a page a notebook: its
    exercises with their answers. Returns the notebooks' paths.

    Raises ``ValueError`` where the folder has notebooks already, since a student may have worked in them, and
    ``OSError`` where it cannot be written to.
    """
    import nbformat

    there = sorted(folder.glob("*.ipynb"))
    if there:
        raise ValueError(f"--student writes over no work: {folder} has notebooks already, {there[0].name}: give a new one")
    answers, written = paths.made(folder / "answers"), []
    for file in paths.notebooks():
        notebook = nbformat.read(file, as_version=4)
        page = answers_of(notebook)
        emptied(notebook)
        nbformat.write(notebook, folder / file.name)
        (answers / f"{file.stem}.md").write_text(page, encoding="utf-8")
        written.append(folder / file.name)
    return written


def answers_of(notebook: Any) -> str:
    """The notebook's title, and its exercises with their answers, as Markdown."""
    title = notebook.cells[0].source.split("\n")[0]
    parts = [title]
    for cell in notebook.cells:
        for match in ANSWERS.finditer(cell.source):
            parts += [cell.source[:match.start()].strip(), "### Answers", match[1].strip()]
    return "\n\n".join(parts) + "\n"


def emptied(notebook: Any) -> None:
    """Take outputs and answers out of a notebook; links to what lies outside its folder become words."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = ELSEWHERE.sub(r"\1 (`\2` in the project)", ANSWERS.sub("", cell.source))
