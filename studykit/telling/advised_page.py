"""The page that advice on somebody's own data gets: one HTML file without scripts, that needs no network.

Texts of the data stand here, and nowhere else: the page lies under ``runs/``, which is never committed.
"""

import base64
import functools
import html
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from studykit import paths
from studykit.advise.advice import Advice
from studykit.telling import advised, advised_figures, pages, style
from studykit.telling.advised_parts import points
from studykit.telling.story import Fact

if TYPE_CHECKING:
    from studykit.advise.session import Texts

WORST = 20  # mistakes that are shown
LONG = 400  # characters of a text; the rest is folded
UNFINISHED = '<p class="caution">The work goes on: this is the best so far. Figures come at its end.</p>'
Draw = Callable[[str], str]  # from a figure's name to HTML


def write_page(advice: Advice, file: Path, mistakes: Sequence[dict] = (),
               examples: Mapping[str, Sequence[str]] | None = None, ended: bool = True) -> Path:
    """Write the page, whole or not at all; returns ``file``.

    ``mistakes``, the worst first, are ``{"texts", "true", "predicted", "probability"}`` of rows that decided nothing; a
    number's have no ``probability``. ``examples`` are texts by kind of oddity. Before the work has ``ended`` there are no
    figures: they take seconds.
    """
    draw = functools.partial(_figure, advice) if ended else lambda _: ""
    body = ["" if ended else UNFINISHED, _top(advice), _certainty(advice, draw), _labels(advice, draw),
            _floors(advice), _answers(advice, draw), _mistakes(advice, mistakes), _oddities(advice, examples or {}),
            _cost(advice), _tried(advice, draw), _use(advice), _about(advice)]
    title = f"{html.escape(advice.task['title'])}: which way of fine-tuning?"
    paths.write(file, pages.PAGE.format(title=title, body="\n".join(filter(None, body))))
    return file


def keep(advice: Advice, texts: "Texts") -> Path:
    """Write the page beside the advice, as ``advise.run(..., told=keep)`` does whenever there is better advice."""
    ended = bool(advice.stopped) or "model" in advice.spent  # the last stage
    return write_page(advice, paths.runs(advice.name) / "advice.html", texts.mistakes, texts.examples, ended)


def _section(title: str, *parts: str) -> str:
    """A part of the page; nothing where it is empty."""
    held = "\n".join(filter(None, parts))
    return f"<h2>{html.escape(title)}</h2>\n{held}" if held else ""


def _sentences(facts: Sequence[Fact]) -> str:
    """One fact as a paragraph, several as a list."""
    told = [pages.sentence(fact.sentence) for fact in facts]
    if len(told) == 1:
        return f"<p>{told[0]}</p>"
    return f"<ul>{''.join(f'<li>{text}</li>' for text in told)}</ul>" if told else ""


def _top(advice: Advice) -> str:
    answer, *more = advised.decision(advice)
    asked = html.escape(advice.task["question"])
    said = (f"By {advice.rows.get('train', 0):,} rows with labels and the encoder {advice.encoder}; given: "
            f"{advice.minutes:g} minute{'s' * (advice.minutes != 1)}.")
    caution = ('<p class="caution">The encoder is a miniature that comes with the project. It shows how advice is made; a '
               "real encoder may rank the methods otherwise.</p>" if advice.encoder == "mini" else "")
    return "\n".join([f"<p>{asked}</p>", f'<p class="answer">{pages.sentence(answer.sentence)}</p>', _sentences(more),
                      _sentences(advised.promise(advice)), f"<p>{html.escape(said)}</p>", caution])


def _figure(advice: Advice, name: str) -> str:
    """A figure with its caption, narrow on a phone; nothing where there is none to draw."""
    draw = advised_figures.drawn(advice).get(name)
    if draw is None:
        return ""
    wide, narrow = (_png(draw, advice, width) for width in (style.WIDTH, advised_figures.PHONE))
    caption = f"Figure: {advised_figures.caption(advice, name)}"
    alternative = html.escape(caption.replace("`", ""))
    return (f'<figure><picture><source media="(max-width: 40rem)" srcset="{narrow}"><img src="{wide}" '
            f'alt="{alternative}"></picture><figcaption>{pages.sentence(caption)}</figcaption></figure>')


def _png(draw: Callable[..., Figure], advice: Advice, width: float) -> str:
    fig, held = draw(advice, width), io.BytesIO()
    fig.savefig(held, format="png", dpi=1000 / width if width >= style.WIDTH else 780 / width, metadata={"Software": None})
    plt.close(fig)
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


def _certainty(advice: Advice, draw: Draw) -> str:
    return _section("How sure?", draw("certainty"), _sentences(advised.certainty(advice)))


def _labels(advice: Advice, draw: Draw) -> str:
    return _section("Would more labels help?", _sentences(advised.curve(advice)), draw("learning_curve"))


def _floors(advice: Advice) -> str:
    return _section("What needs no fine-tuning", _sentences(advised.floors(advice)))


def _answers(advice: Advice, draw: Draw) -> str:
    title = "What it confuses" if advice.task["labels"] else "Predicted and true"
    return _section(title, draw("answers"))


def _mistakes(advice: Advice, mistakes: Sequence[dict]) -> str:
    """The worst mistakes, a card each."""
    worst = list(mistakes)[:WORST]
    how = "the surest first" if advice.task["labels"] else "the farthest first"
    cards = "".join(_card(mistake) for mistake in worst)
    return _section("The worst mistakes", f"<p>On rows that decided nothing, {how}. Some may be labels that are wrong.</p>"
                    f"{cards}" if worst else "")


def _card(mistake: dict) -> str:
    chance = mistake.get("probability")
    likely = "" if chance is None else f" ({100 * chance:.0f} %)"
    given = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in (mistake["true"], mistake["predicted"])]
    return (f'<div class="card">{"".join(map(_text, mistake["texts"]))}<p>true <b>{html.escape(given[0])}</b> · predicted '
            f"<b>{html.escape(given[1])}</b>{likely}</p></div>")


def _text(text: str) -> str:
    """A text of the data, as it is; what is long is folded."""
    if len(text) <= LONG:
        return f'<p class="text" dir="auto">{html.escape(text)}</p>'
    return (f'<details class="text"><summary dir="auto">{html.escape(text[:LONG])} …</summary>'
            f'<p dir="auto">{html.escape(text[LONG:])}</p></details>')


def _oddities(advice: Advice, examples: Mapping[str, Sequence[str]]) -> str:
    """What is odd, with a few of the texts folded, and how the files were read."""
    parts = []
    for fact in advised.oddities(advice):
        texts = examples.get(fact.about.get("kind", ""), ())
        shown = "".join(map(_text, texts))
        parts.append(f"<p>{pages.sentence(fact.sentence)}</p>"
                     + (f"<details><summary>such as</summary>{shown}</details>" if shown else ""))
    return _section("What is odd about the data", *parts, "<p>How the files were read:</p>",
                    _sentences(advised.reading(advice)))


def _cost(advice: Advice) -> str:
    return _section("Cost and time", _sentences(advised.cost(advice) + advised.elapsed(advice)))


def _tried(advice: Advice, draw: Draw) -> str:
    planned = "".join(f"<li>{pages.sentence(fact.sentence)}</li>" for fact in advised.plan(advice))
    return _section("What was tried", _sentences(advised.race(advice)), draw("race"),
                    f"<details><summary>The plan, as it was made beforehand</summary><ul>{planned}</ul></details>")


def _use(advice: Advice) -> str:
    code = "".join(f"<p>{html.escape(where[0].upper() + where[1:])}:</p><pre>{html.escape(lines)}</pre>"
                   for where, lines in advised.lines(advice).items())
    return _section("How to use the model", _sentences(advised.use(advice)), code)


def _about(advice: Advice) -> str:
    rows = [("data", f"{advice.name}, digest {advice.digest}"), ("encoder", advice.encoder),
            ("margin", points(advice, advice.decision.margin) if advice.decision else ""),
            ("stays here", "This page holds texts of the data. It was made on this machine and has been sent nowhere.")]
    return _section("About this page", pages.table([(name, html.escape(value)) for name, value in rows if value]))
