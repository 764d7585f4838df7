"""What ``run_all.sh --data`` says at its end, and how Ctrl-C reaches the notebook that it runs."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from studykit import paths
from studykit.telling import story

TOLD = ("answer", "stopped", "promise", "no_promise")  # kinds of facts


def said(name: str, notebook: Path) -> str:
    """The decision and what it promises, and where page, model and the executed notebook are."""
    facts = _of_kinds(name, *TOLD)
    sentences = [fact["sentence"].replace("`", "") for fact in facts] or ["There is no advice."]
    files = {"page": paths.runs(name) / "advice.html", "model": paths.runs(name) / "model", "notebook": notebook}
    if not _of_kinds(name, "model"):
        del files["model"]  # what lies there is an earlier call's
    places = [f"{what:9} {short(file)}" for what, file in files.items() if file.exists()]
    return "\n".join(["", *sentences, "", *places])


def answered(name: str) -> bool:
    """Whether this call has come to a decision, whatever became of the notebook after it."""
    return bool(_of_kinds(name, "answer"))


def _of_kinds(name: str, *kinds: str) -> list[dict]:
    """What the call has told of these kinds, in their order."""
    return [fact for kind in kinds for fact in story.read(name, paths.OWN)["facts"] if fact["kind"] == kind]


def short(file: Path) -> str:
    """The path from where ``run_all.sh`` was called, where it lies below that; else whole."""
    caller = paths.callers()
    return os.path.relpath(file, caller) if file.is_relative_to(caller) else str(file)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """While this is entered, the first Ctrl-C goes to the notebook's kernel, which ends with the best so far; the second
    ends all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def passed_on(*_) -> None:
        signal.signal(signal.SIGINT, before)
        for process in psutil.Process().children():
            if any("ipykernel" in word for word in process.cmdline()):
                process.send_signal(signal.SIGINT)
        print("interrupted: it ends with the best so far (again to end at once) …", flush=True)

    before = signal.signal(signal.SIGINT, passed_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
