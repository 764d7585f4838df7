"""How far a study is: a bar in a terminal, one line updated in place in a notebook, lines elsewhere."""

import itertools
import os
import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<LEFT, {rate_fmt}{postfix}]"


class Line:
    """A line that says how far something is: updated in place in a notebook, else a new one each time."""

    def __init__(self):
        self.handle = None

    def show(self, text: str) -> None:
        self.log(text)
        if not in_notebook():
            print(text, flush=True)
            return
        from IPython.display import Pretty, display

        shown = Pretty(text)
        if self.handle is None:
            self.handle = display(shown, display_id=True)
        else:
            self.handle.update(shown)

    def log(self, text: str) -> None:
        """For whoever runs the notebook without a screen."""
        if log := os.environ.get("STUDYKIT_PROGRESS"):
            with open(log, "a", encoding="utf-8") as lines:
                lines.write(text + "\n")


class Progress:
    """``total`` runs, of which those that have no record are trained; ``costs`` say, in their order, how long each takes
    beside the others, in any unit."""

    def __init__(self, total: int, costs: Sequence[float]):
        self.total, self.missing, self.done, self.diverged = total, len(costs), 0, 0
        self.accidents: list[str] = []
        self.spent = [0, *itertools.accumulate(costs)]  # cost of the first 0, 1, 2 … runs
        self.start, self.line, self.bar = time.monotonic(), Line(), None
        if costs:
            self.line.show(f"{total - len(costs)} of {total} runs read from records, {len(costs)} to train …")
            if _in_terminal():
                self.bar = tqdm(total=len(costs), unit="run", dynamic_ncols=True, bar_format=BAR.replace("LEFT", "?"))

    def step(self, outcome: dict) -> None:
        """A run ended, with this record or accident."""
        self.done += 1
        run, status = outcome["run"], outcome["status"]
        last = f"{run['task']} {outcome.get('arm') or run['method']} {run['fraction']:g}"
        last += "" if status == "ok" else f" {status}"
        if status == "accident":
            self.accidents.append(f"{run['task']} {run['method']}: {outcome['reason']}")
            last += f" ({outcome['reason']})"
        else:
            self.diverged += status == "diverged"
            last += "" if outcome["score"] is None else f" {outcome['score']:.3f}"
        elapsed = time.monotonic() - self.start
        left = elapsed * (self.spent[-1] / self.spent[self.done] - 1)
        text = (f"{self.done} of {self.missing} trained, {self._counts()}, {self.missing - self.done} left, "
                f"{elapsed / self.done:.1f} s a run, about {duration(left)}; last: {last}")
        if self.bar is None:
            self.line.show(text)
            return
        self.line.log(text)
        self.bar.bar_format = BAR.replace("LEFT", tqdm.format_interval(left))
        self.bar.set_postfix_str(f"{self._counts()}; {last}", refresh=False)
        self.bar.update()

    def end(self) -> None:
        """All of it is there, but for accidents."""
        if self.bar is not None:
            self.bar.close()
        if not self.missing:
            self.line.show(f"{self.total} runs read from records, none trained")
            return
        text = (f"{self.total} runs: {self.total - self.missing} read from records, "
                f"{self.missing - len(self.accidents)} trained, {self._counts()}")
        if self.accidents:
            text += f"; they have no result, and the next call tries them again. The first: {self.accidents[0]}"
        self.line.show(text)

    def _counts(self):
        number = len(self.accidents)
        return f"{self.diverged} diverged" + (f", {number} accident{'s'[:number > 1]}" if number else "")


def duration(seconds):
    """A time in one unit, for people.

    >>> duration(41.2), duration(200), duration(7000)
    ('41 s', '3 min', '1.9 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _in_terminal():
    return sys.stderr.isatty() and not in_notebook()


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None
