"""What a class gets: the notebooks without outputs and answers, and the answers apart."""

import re

import nbformat
import pytest

from studykit import paths
from studykit.__main__ import main
from studykit.telling import student


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    student.write(folder)
    return folder


def read(folder):
    return {file.name: nbformat.read(file, as_version=4) for file in sorted(folder.glob("*.ipynb"))}


def test_notebooks_have_all_their_code_and_no_output_nor_answer(folder):
    whole, given = read(paths.REPO / "notebooks"), read(folder)
    assert list(given) == list(whole)
    for name, notebook in given.items():
        nbformat.validate(notebook)
        assert [cell.source for cell in notebook.cells if cell.cell_type == "code"] == \
            [cell.source for cell in whole[name].cells if cell.cell_type == "code"]
        for cell in notebook.cells:
            assert not cell.get("outputs") and cell.get("execution_count") is None
            assert not re.search(r"<details>|Answers", cell.source)
        text = "\n".join(cell.source for cell in notebook.cells)
        assert "## On your own" in text and "](../" not in text


def test_every_answer_stands_apart_below_its_exercises(folder):
    for name, notebook in read(paths.REPO / "notebooks").items():
        page = (folder / "answers" / name).with_suffix(".md").read_text(encoding="utf-8")
        blocks = [block for cell in notebook.cells for block in re.findall(r"```python\n.*?```", cell.source, re.DOTALL)]
        assert blocks and all(block in page for block in blocks)
        assert page.index("## On your own") < page.index("### Answers") < page.index(blocks[0])


def test_no_student_s_work_is_written_over(folder, capsys, monkeypatch):
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert main(["student", str(folder)]) == 2
    assert "has notebooks already" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_the_folder_is_the_caller_s(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STUDYKIT_FROM", str(tmp_path))
    assert main(["student", "class"]) == 0
    assert len(list((tmp_path / "class").glob("*.ipynb"))) == len(paths.notebooks())
    assert "answers" in capsys.readouterr().out
    assert main(["student"]) == 2 and "FOLDER" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_said_in_a_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["student", str(tmp_path / "file" / "class")]) == 2
    assert "cannot be used" in capsys.readouterr().err
