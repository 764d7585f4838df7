"""From a question to advice: floors, a race, finals, a decision, what it promises, and the model to keep."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from studykit import paths
from studykit.advise import asking, racing, session, settling
from studykit.advise.advice import Advice
from studykit.advise.running import Purse, TimeUp
from studykit.advise.session import Session, Texts

STAGES: dict[str, Callable[[Session], None]] = {
    "floors": racing.first, "race": racing.race, "finals": racing.finals, "curve": settling.curve, "model": settling.model}
OWN_END = ("finals", "curve")  # stages that end when time is up, and not before


def run(data: str | Path, text: str = "", label: str = "", minutes: float = 0, encoder: str = "", arms: Sequence[str] = (),
        margin: float = 0, told: Callable[[Advice, Texts], None] | None = None) -> Advice:
    """Advice on somebody's own data, within so many minutes from the call.

    ``data`` is a file, a folder with train and validation, or a task's YAML file. ``text`` names its column or two
    (``"first,second"``) and ``label`` the label's, where they are not to be guessed. ``encoder`` is a hub id, a folder or
    ``"mini"``; ``arms`` are names of methods. Two arms within ``margin`` points are as good as each other. What is left
    out is as the YAML's ``advise:`` says, or by default. ``told(advice, texts)`` is called whenever there is better advice.

    Runs are kept in ``results/<name>``, the advice and the model in ``runs/<name>``. Called again with as many minutes it
    reads what it found; with more it goes on. Ctrl-C ends it with the best so far. Raises ``ValueError`` or
    ``FileNotFoundError``, in one sentence, where the data, the encoder or the minutes will not do.
    """
    purse = Purse(0)
    question = asking.question(data, text, label, minutes, encoder, arms, margin)
    purse.seconds = 60 * question.minutes
    threads = torch.get_num_threads()
    try:
        return _advised(session.begun(question, purse, told or (lambda *_: None)))
    finally:
        torch.set_num_threads(threads)


def _advised(work: Session) -> Advice:
    torch.set_num_threads(work.bench.pace.threads)
    if not work.bench.read_only:  # else what an earlier call wrote would be lost before it is read
        work.changed = lambda: _tell(work)
    for stage, function in STAGES.items():
        _staged(work, stage, function)
    work.bench.line.show("done")
    if not work.stopped:
        session.answered(work)
    return _tell(work)


def _staged(work: Session, stage: str, function: Callable[[Session], None]) -> None:
    """One stage, which ends early where time is up or somebody interrupts."""
    begin, work.bench.doing = work.bench.purse.spent, stage
    if work.stopped.startswith("interrupted") and stage == "curve":
        return
    try:
        function(work)
    except TimeUp:
        if stage not in OWN_END:
            work.stopped = work.stopped or f"time was up in the {stage}"
    except KeyboardInterrupt:
        work.stopped = f"interrupted in the {stage}"
        work.bench.purse.seconds = 0.0  # what is there is told, and nothing more is trained
    work.seconds[stage] = round(work.bench.purse.spent - begin, 1)


def _tell(work: Session) -> Advice:
    """Write and tell what is known now, unless an earlier call knew more."""
    if standing := settling.earlier(work):
        return standing
    settling.provisional(work)
    told, texts = settling.advice(work)
    told.write(paths.runs(work.question.name) / "advice.json")
    work.told(told, texts)
    return told
