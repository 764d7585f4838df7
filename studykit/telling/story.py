"""What a notebook says and shows, as data: facts, figures and verdicts, which the page of a run is made of."""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from studykit import paths
from studykit.study.progress import in_notebook

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from studykit.study import Study


@dataclass(frozen=True)
class Fact:
    """A true ``sentence``. ``kind`` says what it is (``behind``, ``collapsed`` …), ``about`` what it is about
    (task, arm, place …), ``numbers`` what it was written from: plain values, as JSON holds them."""

    kind: str
    sentence: str
    about: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


MINIATURE = ("*Tasks and encoder are a miniature, in a made-up language: of GLUE it has the tasks' titles alone. Its "
             "numbers show how methods work and say nothing about real encoders.*")
ENCODER = "*The encoder is the bundled miniature: its numbers show how methods work and say nothing about real encoders.*"
EMPTY = Fact("empty", "There is nothing to read here: no run is on record.")


class Story:
    """What a notebook tells, shown where it stands and kept in ``runs/<study>/<notebook>.json``, anew after each
    call: ``{"notebook", "facts": [{"kind", "sentence", "about", "numbers"}], "figures": [{"name", "caption"}],
    "verdicts": [...]}``.

    Told again, as when a cell is run twice, a sentence or a figure is kept once.
    """

    def __init__(self, experiment: "Study", notebook: str, read: "Study | None" = None):
        """``notebook`` is its file's stem, as ``03_data_fractions``. ``read`` is the study whose records it tells of, where
        that is another: the page of the run then says so. What is of the miniature is said to be, at once."""
        self.experiment = experiment
        self.kept: dict[str, Any] = {"notebook": paths.plain(notebook), "facts": [], "figures": []}
        if read and read.name != experiment.name:
            self.kept["of"] = f"study {read.about}"
        self._keep()
        if "mini" in ((read or experiment).source, (read or experiment).encoder):
            shown(MINIATURE if (read or experiment).source == "mini" else ENCODER)

    def tell(self, facts: Sequence[Fact], folded: str = "") -> None:
        """Show facts, a sentence once, as Markdown in a notebook and as plain lines elsewhere, and keep them. In a
        notebook they are ``folded`` away under that title, if one is given: a click opens them."""
        facts = list({fact.sentence: fact for fact in facts}.values())
        mark = "- " if len(facts) > 1 else ""
        text = "\n".join(f"{mark}{fact.sentence}" for fact in facts)
        if folded and in_notebook():
            text = f"<details><summary>{folded}</summary>\n\n{text}\n\n</details>"
        shown(text)
        told = [plain(dataclasses.asdict(fact)) for fact in facts]
        self.kept["facts"] = [fact for fact in self.kept["facts"] if fact not in told] + told
        self._keep()

    def draw(self, fig: "Figure", name: str, table: pd.DataFrame, caption: str) -> None:
        """Save a figure (``style.save``), show it with its caption under it, and keep its name and caption.
        ``table`` is what it was drawn from."""
        from studykit.telling import style

        style.save(fig, name, self.experiment, table, caption=caption, notebook=self.kept["notebook"])
        if in_notebook():
            import matplotlib.pyplot as plt
            from IPython.display import display

            display(fig)
            plt.close(fig)  # or the cell shows it again at its end
        shown(f"*Figure: {caption}*")
        figure = {"name": name, "caption": caption}
        self.kept["figures"] = [kept for kept in self.kept["figures"] if kept["name"] != name] + [figure]
        self._keep()

    def verdicts(self, table: pd.DataFrame) -> None:
        """Keep the table of the claims' verdicts (``paper.judge``) for the page of the run; nothing is shown."""
        self.kept["verdicts"] = [plain(row) for row in table.to_dict("records")]
        self._keep()

    def _keep(self) -> None:
        file = kept_in(self.experiment.name, self.kept["notebook"])
        paths.made(file.parent)
        paths.write(file, json.dumps(self.kept, indent=1, ensure_ascii=False) + "\n")


def kept_in(study: str, notebook: str) -> Path:
    """The file that a notebook's story is kept in."""
    return paths.runs(study) / f"{notebook}.json"


def read(study: str, notebook: str) -> dict:
    """What a notebook has told so far; nothing where it has not run."""
    file = kept_in(study, notebook)
    nothing: dict = {"notebook": notebook, "facts": [], "figures": []}
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else nothing


def plain(value: Any) -> Any:
    """A value as JSON holds it: Python's own, numbers to six digits, NaN as ``None``.

    >>> import numpy as np
    >>> plain({"gap": np.float64(1.23456789), "pairs": (np.int64(5), float("nan"))})
    {'gap': 1.23457, 'pairs': [5, None]}
    """
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def shown(text: str) -> None:
    """Show Markdown in a notebook; print it elsewhere."""
    if not in_notebook():
        print(text)
        return
    from IPython.display import Markdown, display

    display(Markdown(text))
