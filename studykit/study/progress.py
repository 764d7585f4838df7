"""How far a study is."""

import itertools
import os
import sys
import time


class Progress:
    """One line that says how far it is: updated in place in a notebook, a line per run in a terminal."""

    def __init__(self, total, costs):
        self.total, self.missing, self.done, self.failed = total, len(costs), 0, 0
        self.spent = [0, *itertools.accumulate(costs)]  # cost of the first 0, 1, 2 … runs
        self.start, self.handle = time.monotonic(), None
        if costs:
            self.show(f"{total - len(costs)} of {total} runs read from records, {len(costs)} to train …")

    def step(self, record):
        self.done += 1
        self.failed += record["status"] != "ok"
        elapsed = time.monotonic() - self.start
        left = elapsed * (self.spent[-1] / self.spent[self.done] - 1)
        run = record["run"]
        score = "–" if record["score"] is None else f"{100 * record['score']:.1f}"
        self.show(f"{self.done} of {self.missing} trained, {self.failed} not ok, {self.missing - self.done} left, about "
                  f"{left / 60:.0f} min; last: {run['task']} {run['method']} {run['fraction']:g} {record['status']} {score}")

    def end(self):
        if self.missing:
            self.show(f"{self.total} runs: {self.total - self.missing} read from records, {self.missing} trained, "
                      f"{self.failed} not ok")
        else:
            self.show(f"{self.total} runs read from records, none trained")

    def show(self, text):
        if log := os.environ.get("STUDYKIT_PROGRESS"):
            with open(log, "a") as lines:
                lines.write(text + "\n")
        if not _in_notebook():
            print(text, flush=True)
            return
        from IPython.display import Pretty, display

        shown = Pretty(text)
        if self.handle is None:
            self.handle = display(shown, display_id=True)
        else:
            self.handle.update(shown)


def _in_notebook():
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None
