import io
import re
import sys
import time

import pytest

from studykit.study import progress
from studykit.study.progress import Progress

RUN = {"task": "reviews", "method": "lora", "fraction": 0.3}
OK = {"run": RUN, "status": "ok", "score": 0.51234, "arm": "lora r=8"}
DIVERGED = {"run": RUN, "status": "diverged", "score": None}
ACCIDENT = {"run": RUN, "status": "accident", "reason": "MemoryError: no room"}


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets: ``clock[0]`` in seconds."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_log_has_a_line_a_run_with_what_is_left_by_what_runs_cost(capsys, clock):
    state = Progress(4, [1, 1, 8])
    clock[0] = 20
    state.step(OK)
    clock[0] = 40
    state.step(DIVERGED)
    clock[0] = 200
    state.step(ACCIDENT)
    state.end()
    assert capsys.readouterr().out.splitlines() == [
        "1 of 4 runs read from records, 3 to train …",
        "1 of 3 trained, 0 diverged, 2 left, 20.0 s a run, about 3 min; last: reviews lora r=8 0.3 0.512",
        "2 of 3 trained, 1 diverged, 1 left, 20.0 s a run, about 3 min; last: reviews lora 0.3 diverged",
        "3 of 3 trained, 1 diverged, 1 accident, 0 left, 66.7 s a run, about 0 s; "
        "last: reviews lora 0.3 accident (MemoryError: no room)",
        "4 runs: 1 read from records, 2 trained, 1 diverged, 1 accident; they have no result, and the next call tries them "
        "again. The first: reviews lora: MemoryError: no room"]


def test_where_nothing_trains_it_says_the_same_every_time(capsys):
    Progress(7, []).end()
    assert capsys.readouterr().out == "7 runs read from records, none trained\n"


def test_whoever_follows_the_log_reads_the_same_lines(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDYKIT_PROGRESS", str(tmp_path / "log"))
    state = Progress(1, [1])
    state.step(OK)
    state.end()
    assert (tmp_path / "log").read_text(encoding="utf-8") == capsys.readouterr().out


def test_a_terminal_has_a_bar_with_rate_and_time_left(capsys, monkeypatch, tmp_path):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("STUDYKIT_PROGRESS", str(tmp_path / "log"))
    state = Progress(3, [1, 1, 1])
    for outcome in (OK, DIVERGED, ACCIDENT):
        time.sleep(0.11)  # tqdm draws ten times a second
        state.step(outcome)
    state.end()
    drawn = screen.getvalue().split("\r")
    assert any(re.search(r"33%.*\| 1/3 \[00:00<00:00, .*run/s, 0 diverged; reviews lora r=8 0.3 0.512\]", line)
               for line in drawn), drawn
    assert any("3/3" in line and "1 diverged, 1 accident; reviews" in line for line in drawn), drawn
    assert len(capsys.readouterr().out.splitlines()) == 2  # before and after the bar
    assert len((tmp_path / "log").read_text(encoding="utf-8").splitlines()) == 5


def test_a_notebook_has_one_display_that_is_updated(capsys, monkeypatch):
    shown = []

    class Handle:
        def update(self, text):
            shown.append(("update", text.data))

    def display(text, display_id):
        shown.append(("display", text.data))
        return Handle()

    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", display)
    state = Progress(2, [1, 1])
    state.step(OK)
    state.step(OK)
    state.end()
    assert [how for how, _ in shown] == ["display", "update", "update", "update"]
    assert shown[-1][1] == "2 runs: 0 read from records, 2 trained, 0 diverged"
    assert capsys.readouterr() == ("", "")
