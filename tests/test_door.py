"""``run_all.sh --data``: what it passes on, what it refuses, and advice from beginning to end, read from records."""

import os
import re
import shutil
import signal
import subprocess
import sys

import nbformat
import pytest
from test_run_all import ODD, shell

from studykit import paths
from studykit.__main__ import _options, main, plan_of
from studykit.telling import door


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STUDYKIT_FROM", str(tmp_path))
    return tmp_path / "home"


def test_the_shell_passes_words_on_as_they_are(tmp_path):
    assert shell(tmp_path, "--data", *ODD) == ["-m", "studykit", "data", *ODD]


@pytest.mark.parametrize(("words", "said"), [
    (["nonesuch.csv"], "there is no file or folder at"), ([], "the following arguments are required"),
    (["rows.csv", "--minuts", "3"], "unknown option '--minuts', perhaps --minutes"),
    (["rows.csv", "--minutes", "many"], "argument --minutes: 'many' is no number above 0"),
    (["rows.csv", "--minutes", "0"], "argument --minutes: '0' is no number above 0"),
    (["rows.csv", "--margin", "nan"], "argument --margin: 'nan' is no number above 0"),
    (["rows.csv", "--arms", "full,fool"], "unknown method 'fool'"),
    (["rows.csv", "--text", "body"], "column body is missing; the file has text, kind"),
    (["rows.md"], "of a kind that is not read here"), (["task.yaml"], "there is no file or folder at")])
def test_wrong_words_are_refused_in_a_line_before_anything_runs(words, said, home, tmp_path, capsys):
    rows = [f"words and words {i},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,kind", *rows]) + "\n")
    (tmp_path / "rows.md").write_text("text")
    assert main(["data", *words]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert said in line and not home.exists()


def test_the_notebook_runs_by_itself_only_in_the_study_that_it_is_about(home):
    chosen = {study: [notebook.stem for notebook, _ in plan_of(_options(["run", "--study", study]))[1]]
              for study in ("mini", "minilm")}
    assert paths.OWN in chosen["mini"] and paths.OWN not in chosen["minilm"]


def test_the_example_from_beginning_to_end(home, tmp_path, capsys):
    """Its runs are on record, so nothing but the last training is trained."""
    shutil.copytree(paths.REPO / "results" / "example", home / "results" / "example")
    before = {file: file.read_bytes() for file in home.rglob("*.json")}
    assert main(["data", str(paths.EXAMPLE)]) == 0
    *_, decision, promise, _, page, model, notebook = capsys.readouterr().out.splitlines()
    assert decision.startswith(("Take ", "It cannot be told")) and "On new rows like these expect macro F1" in promise
    for line, name in ((page, "advice.html"), (model, "model"), (notebook, "20_your_data.ipynb")):
        assert line.split(maxsplit=1)[1] == os.path.join("home", "runs", "example", name)  # from where it was called
    shown = (home / "runs" / "example" / "advice.html").read_text(encoding="utf-8")
    assert re.search(r"(?:Take|So far it is) (.+?) \(", decision)[1] in shown and shown.count("<figure>") >= 3
    assert before == {file: file.read_bytes() for file in home.rglob("results/**/*.json")}
    executed = nbformat.read(home / "runs" / "example" / "20_your_data.ipynb", as_version=4)
    assert not [output for cell in executed.cells for output in cell.get("outputs", []) if output.output_type == "error"]


CHILD = """\
import time
try:
    print("at work", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("ended early", flush=True)
"""
PARENT = """\
import os, signal, subprocess, sys
from studykit.telling import door
with door.interruptible():
    child = subprocess.Popen([sys.executable, "-c", {child!r}, "ipykernel"], start_new_session=True)
    print("ready", flush=True)
    child.wait()
print("went on", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_the_first_interrupt_goes_to_the_kernel_and_the_work_goes_on():
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(child=CHILD)], stdout=subprocess.PIPE, text=True)
    heard = [parent.stdout.readline().strip() for _ in range(2)]
    assert set(heard) == {"ready", "at work"}
    parent.send_signal(signal.SIGINT)
    rest, _ = parent.communicate(timeout=60)
    assert "ended early" in rest and rest.endswith("went on\n") and parent.returncode == 0


def test_outside_the_main_thread_nothing_is_changed():
    import threading

    before, seen = signal.getsignal(signal.SIGINT), []

    def enter():
        with door.interruptible():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]
