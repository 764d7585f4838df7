"""Pages for a browser: executed notebooks as HTML, and the page about a whole run. They need no network and no
scripts."""

import base64
import html
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studykit import paths
from studykit.study import provenance
from studykit.telling import story

if TYPE_CHECKING:
    from studykit.study import Study


def as_html(notebook: Path) -> Path:
    """Write an executed notebook as one HTML file beside it: figures inside, each with its caption as alternative
    text, links to the other notebooks' HTML, and no scripts. Returns its path."""
    import nbformat
    from nbconvert import HTMLExporter

    captions = iter(_captions(nbformat.read(notebook, as_version=4).cells))
    text, _ = HTMLExporter().from_filename(str(notebook))  # figures are inside; embedding images it would empty every fold
    text = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    text = re.sub(r'alt="No description[^"]*"', lambda _: f'alt="{next(captions, "")}"', text)
    text = re.sub(r'href="(\d\d_\w+)\.ipynb"', r'href="\1.html"', text)
    target = notebook.with_suffix(".html")
    target.write_text(text, encoding="utf-8")
    return target


def relinked(notebook: Path) -> None:
    """Have an executed notebook's links out of ``notebooks/`` lead there from where it lies now."""
    text, there = notebook.read_text(encoding="utf-8"), os.path.relpath(paths.REPO, notebook.parent)
    paths.write(notebook, text.replace("](../", f"]({there}/"))


def _captions(cells: list) -> list[str]:
    """The caption of each image, as an HTML attribute may hold it: the Markdown that is shown under it, else the
    first paragraph of the next cell."""
    found = []
    for cell, after in itertools.zip_longest(cells, cells[1:]):
        outputs = cell.get("outputs", [])
        for output, below in itertools.zip_longest(outputs, outputs[1:]):
            if "image/png" in output.get("data", {}):
                caption = (below or {}).get("data", {}).get("text/markdown", "")
                if not caption and after is not None and after.cell_type == "markdown":
                    caption = after.source.split("\n\n")[0]
                found.append(html.escape(" ".join(caption.replace("*", "").replace("`", "").split())))
    return found


PAPER = "claim of Doering et al. (arXiv 2401.04051)"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem; color: #222 }}
.answer {{ font-size: 1.15rem }} .caution {{ border-left: 4px solid #D55E00; padding-left: .8rem }}
img {{ max-width: 100%; height: auto }} figure {{ margin: 1rem 0 2rem }} figcaption {{ color: #555; font-size: .9rem }}
code {{ background: #f2f2f2; padding: 0 .2em; border-radius: 3px }} summary {{ cursor: pointer; color: #0072B2 }}
div {{ overflow-x: auto }} table {{ border-collapse: collapse }}
td, th {{ text-align: left; padding: .3rem .8rem .3rem 0; vertical-align: top }} .claims td {{ border-top: 1px solid #ddd }}
.card {{ border-left: 4px solid #ddd; padding-left: .8rem; margin: 0 0 1.2rem }} .card p {{ margin: .2rem 0 }}
.text, pre {{ white-space: pre-wrap; overflow-wrap: anywhere }} pre {{ background: #f2f2f2; padding: .6rem }}
h1, h2, p, li {{ overflow-wrap: anywhere }} td {{ overflow-wrap: break-word }}
.upheld {{ color: #0072B2; font-weight: bold }} .refuted {{ color: #B64A00; font-weight: bold }}
.undecided, .no-evidence {{ color: #666 }}
@media (max-width: 40rem) {{
  figure div img {{ max-width: none; width: 40rem }}
  .claims th {{ display: none }} .claims td {{ display: block; border: 0; padding: .1rem 0 }}
  .claims tr {{ display: block; border-top: 1px solid #ddd; padding: .6rem 0 }}
  .claims td[data-of]::before {{ content: attr(data-of) ": "; color: #666 }} }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def write_index(experiment: "Study", folder: Path, rows: Sequence[tuple[Path, float, str]]) -> Path:
    """Write ``index.html`` into the folder of the executed notebooks, from what each has kept there (``Story``):
    what this is and its answer on top, then the verdicts, every figure under a title and linked to its notebook,
    and the notebooks with what became of them. ``rows`` are (notebook's file, seconds, status), of those that
    have run so far. Returns its path."""
    stories = [(file.stem, story.read(experiment.name, file.stem)) for file, *_ in rows]
    others = {stem: kept["of"] for stem, kept in stories if "of" in kept}
    body = [_what(experiment, others), _answer(stories), _verdicts(experiment, stories)]
    for stem, kept in stories:
        body += [_figure(experiment, stem, figure) for figure in kept["figures"]]
        body.append(_told(stem, kept))
    notebooks = [(_link(file.stem), f"{seconds:.0f} s", status) for file, seconds, status in rows]
    body += ["<h2>Notebooks</h2>", table(notebooks), "<h2>What was run</h2>", table(_about(experiment))]
    target = folder / "index.html"
    target.write_text(PAGE.format(title=f"{html.escape(experiment.name)}: which way of fine-tuning?",
                                  body="\n".join(filter(None, body))), encoding="utf-8")
    return target


def sentence(told: str) -> str:
    """A sentence as HTML; what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(told))


def _what(experiment: "Study", others: dict[str, str]) -> str:
    arms, tasks = list(experiment.arms), [task.title for task in experiment.tasks.values()]
    what = (f"This page compares {len(arms)} ways of fine-tuning ({', '.join(f'`{arm}`' for arm in arms)}), and in some "
            f"notebooks more, of the encoder {experiment.encoder} on {', '.join(tasks)}.")
    what += "".join(f" What notebook {stem} found is of {of}." for stem, of in others.items())
    if experiment.source != "mini" and experiment.encoder != "mini":
        return f"<p>{sentence(what)}</p>"
    other = f", but for notebook {', '.join(others)}," if others else ""
    return (f'<p>{sentence(what)}</p>\n<p class="caution">Encoder and tasks{other} are a miniature that comes with the '
            "project. Its numbers say nothing about real encoders; they show how the methods work.</p>")


def _answer(stories: list[tuple[str, dict]]) -> str:
    """The answers that notebooks have given; what is on record so far, while there is none."""
    told = [fact["sentence"] for _, kept in stories for fact in kept["facts"] if fact["kind"] == "answer"]
    told = told or [fact["sentence"] for _, kept in stories for fact in kept["facts"] if fact["kind"] == "coverage"][-1:]
    sentences = " ".join(dict.fromkeys(told)) or "No notebook has given an answer yet."
    return f'<p class="answer">{sentence(sentences)}</p>'


def _verdicts(experiment: "Study", stories: list[tuple[str, dict]]) -> str:
    """The claims with their verdicts; on a narrow page each is a card."""
    rows = [row for _, kept in stories for row in kept.get("verdicts", [])]
    titles = {name: task.title for name, task in experiment.tasks.items() if any(row.get(name) for row in rows)}
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in (PAPER, "all tasks", *titles.values()))
    lines = []
    for row in rows:
        cells = [f"<td>{sentence(row['statement'])}</td>", _verdict(row["verdict"], "all tasks")]
        cells += [_verdict(row[name], title) if row.get(name) else "<td></td>" for name, title in titles.items()]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<h2>Verdicts</h2>\n<div><table class="claims"><tr>{head}</tr>{"".join(lines)}</table></div>\n' \
           "<p>Verdicts on single tasks are not corrected for the number of claims.</p>"


def _verdict(verdict: str, of: str) -> str:
    kind = html.escape(verdict.replace(" ", "-"))
    return f'<td data-of="{html.escape(of)}"><span class="{kind}">{html.escape(verdict)}</span></td>'


def _figure(experiment: "Study", stem: str, figure: dict) -> str:
    file = paths.figures(experiment.name) / f"{figure['name']}.png"
    if not file.is_file():
        return ""
    caption = sentence(f"Figure: {figure['caption']}")
    plain = html.escape(f"Figure: {figure['caption']}".replace("`", "").replace("*", ""))
    image = base64.b64encode(file.read_bytes()).decode()
    title = html.escape(figure["name"].replace("_", " ").capitalize())
    return (f'<h2>{title}</h2>\n<figure><div><img src="data:image/png;base64,{image}" alt="{plain}"></div>'
            f"<figcaption>{caption} From notebook {_link(stem)}.</figcaption></figure>")


def _told(stem: str, kept: dict) -> str:
    """A notebook's facts, folded."""
    if not kept["facts"]:
        return ""
    lines = "".join(f"<li>{sentence(fact['sentence'])}</li>" for fact in kept["facts"])
    title = html.escape(f"What notebook {stem} found{', of ' + kept['of'] if 'of' in kept else ''}, in sentences")
    return f"<details><summary>{title}</summary><ul>{lines}</ul></details>"


def _link(stem: str) -> str:
    return f'<a href="{html.escape(stem)}.html">{html.escape(stem)}</a>'


def table(rows: Sequence[tuple]) -> str:
    lines = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
    return f"<div><table>{''.join(lines)}</table></div>"


def _about(experiment: "Study") -> list[tuple[str, Any]]:
    sources = {"hub": "the tasks' published data", "mini": "the bundled miniature"}
    about = {"study": experiment.name, "encoder": experiment.encoder, "weights": experiment.weights,
             "data": sources.get(experiment.source, "a folder on this machine"), "machine": provenance.processor()}
    return [(name, html.escape(str(value))) for name, value in about.items()]
