"""What is written for people: README's tables from the records, executed notebooks as HTML, and a page about a whole run."""

import base64
import html
import itertools
import re

import numpy as np

from studykit import paths, study
from studykit.evidence import paper as claims, stats
from studykit.study import provenance, records

README = paths.REPO / "README.md"
REFERENCE = "minilm"
TASK_TITLES = {"mrpc": "MRPC (F1)", "cola": "CoLA (Matthews)", "stsb": "STS-B (Pearson)"}
FRACTIONS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
METHODS = ("full", "bitfit", "adapter", "head")
CLAIMED = {"fractions": FRACTIONS, "budgets": (10, 20, 40), "seeds": (0, 1, 2, 3, 4)}  # notebook 06's


def as_html(notebook):
    """Write an executed notebook as one HTML file beside it: figures inside, each with its caption as alternative text,
    links to the other notebooks' HTML, and no scripts, so that it needs no network. Returns its path."""
    import nbformat
    from nbconvert import HTMLExporter

    cells = nbformat.read(notebook, as_version=4).cells
    captions = iter([_caption(after) for cell, after in itertools.pairwise(cells)
                     for output in cell.get("outputs", []) if "image/png" in output.get("data", {})])
    text, _ = HTMLExporter(embed_images=True).from_filename(str(notebook))
    text = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    text = re.sub(r'alt="No description[^"]*"', lambda _: f'alt="{next(captions, "")}"', text)
    text = re.sub(r'href="(\d\d_\w+)\.ipynb"', r'href="\1.html"', text)
    target = notebook.with_suffix(".html")
    target.write_text(text)
    return target


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem; color: #222 }}
img {{ max-width: 100%; height: auto }} figure {{ margin: 2rem 0 }} figcaption {{ color: #555; font-size: .9rem }}
div {{ overflow-x: auto }} table {{ border-collapse: collapse }}
td, th {{ text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top }} th:first-child {{ min-width: 9rem }}
@media (max-width: 40rem) {{ figure {{ overflow-x: auto }} img {{ max-width: none; width: 40rem }} }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def write_index(experiment, folder, rows):
    """Write ``index.html`` into the folder of the executed notebooks: what was run, the verdicts and every figure with its
    caption, in one file that needs no network. ``rows`` are (notebook's file, seconds, status). Returns its path."""
    import nbformat

    table = _html_table([(f'<a href="{html.escape(file.stem)}.html">{html.escape(file.stem)}</a>', f"{seconds:.0f}", status)
                         for file, seconds, status in rows], ["notebook", "seconds", "status"])
    where = {"hub": "nyu-mll/glue", "mini": "the bundled miniature"}.get(experiment.source, "a folder of GLUE's layout")
    facts = _html_table([("study", html.escape(experiment.name)), ("encoder", html.escape(experiment.encoder)),
                         ("weights", experiment.weights), ("data", where), ("machine", html.escape(provenance.processor()))])
    body = [facts, "<h2>Notebooks</h2>", table]
    for file, *_ in rows:
        executed = folder / file.name
        if not executed.is_file():
            continue
        cells = nbformat.read(executed, as_version=4).cells
        for cell, after in zip(cells, [*cells[1:], None], strict=True):
            printed = "".join(output.get("text", "") for output in cell.get("outputs", []))
            if "claims.judge(found)" in cell.source:
                body.append(_html_verdicts(printed))
            for name in re.findall(r'plots\.save\(fig, "(\w+)"', cell.source):
                drawn = any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))  # now, not earlier
                if drawn and (figure := paths.figures(experiment.name) / f"{name}.png").is_file() and after is not None:
                    body.append(_html_figure(figure, _caption(after)))
    target = folder / "index.html"
    target.write_text(PAGE.format(title=f"{html.escape(experiment.name)}: which way of fine-tuning?", body="\n".join(body)))
    return target


def _html_table(rows, head=()):
    cells = [f"<tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>"] if head else []
    cells += [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
    return f"<div><table>{''.join(cells)}</table></div>"


def _html_verdicts(printed):
    """The table of verdicts that notebook 06 printed, its claims in words; nothing where it did not come so far."""
    lines = [line.split() for line in printed.splitlines()]
    starts = [i for i, words in enumerate(lines) if words[:2] == ["claim", "verdict"]]
    if not starts:
        return ""
    (_, _, *names), *rows = lines[starts[0]:]
    shown = [i for i, name in enumerate(names, 2) if name not in ("p", "needs", "stuck")]
    statements = {claim.name: html.escape(claim.statement) for claim in claims.CLAIMS}
    return "<h2>Verdicts</h2>" + _html_table(
        [(statements[row[0]], f"<b>{row[1]}</b>", *(row[i] for i in shown)) for row in rows],
        ["the paper's claim", "all tasks", *(TASK_TITLES.get(names[i - 2], names[i - 2]) for i in shown)])


def _caption(cell):
    """The first paragraph of a Markdown cell, plain, as an HTML attribute may hold it."""
    text = cell.source.split("\n\n")[0] if cell.cell_type == "markdown" else ""
    return html.escape(" ".join(text.replace("*", "").replace("`", "").split()))


def _html_figure(figure, caption):
    image = base64.b64encode(figure.read_bytes()).decode()
    return f'<figure><img src="data:image/png;base64,{image}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def reference_table():
    """The report runs of the data-fraction notebook, as a table: its methods, shares and tasks, and the seeds that all of
    these have. Runs that a user adds beside them do not change it."""
    found = records.read(paths.REPO / "results" / REFERENCE / "03_data_fractions")
    table = records.table(record for record in found.values() if record["run"]["score_on"] == "validation")
    table = table[table["task"].isin(TASK_TITLES) & table["method"].isin(METHODS) & table["fraction"].isin(FRACTIONS)]
    cells = table.groupby("seed").size()
    whole = cells[cells == len(TASK_TITLES) * len(METHODS) * len(FRACTIONS)].index
    return table[table["seed"].isin(whole)].reset_index(drop=True)


def scores_markdown(table):
    """Mean score and 95 % interval in points, a row per task and share of the data, a column per method."""
    lines = [f"| {_seeds(table)} | data | {' | '.join(METHODS)} |", f"|---|---|{'---|' * len(METHODS)}"]
    for task, metric, title in (("mrpc", "score", "MRPC (F1)"), ("mrpc", "accuracy", "MRPC (accuracy)"),
                                *((task, "score", TASK_TITLES[task]) for task in ("cola", "stsb"))):
        means = stats.summary(table.assign(score=table[metric])).set_index(["task", "fraction", "method"])
        for fraction in FRACTIONS:
            cells = [_cell(means.loc[task, fraction, method]) for method in METHODS]
            lines.append(f"| {title} | {100 * fraction:g} % | {' | '.join(cells)} |")
    return "\n".join(lines)


def _seeds(table):
    return f"{table['seed'].nunique()} seeds"


def _cell(row):
    return f"{row['score']:.1f} ({row['low']:.1f} to {row['high']:.1f}{_not_ok(row)})"


def _not_ok(row):
    return f"; {row['not_ok']:.0f} not ok" if row["not_ok"] else ""


def gaps_markdown(table):
    """Mean paired gap to full fine-tuning with its 95 % interval."""
    gaps = stats.paired_gaps(table).set_index(["task", "fraction", "method"])
    lines = [f"| {_seeds(table)} | data | bitfit − full | adapter − full | head − full |", "|---|---|---|---|---|"]
    for task in TASK_TITLES:
        for fraction in FRACTIONS:
            rows = [gaps.loc[task, fraction, method] for method in METHODS[1:]]
            cells = [f"{row['gap']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f}{_not_ok(row)})" for row in rows]
            lines.append(f"| {TASK_TITLES[task]} | {100 * fraction:g} % | {' | '.join(cells)} |")
    return "\n".join(lines)


def claimed_runs():
    """``(reports, budgets)``: the runs of the reference study that the claims are judged by, those that are on record."""
    reference, tasks, seeds = study.load(REFERENCE), list(TASK_TITLES), CLAIMED["seeds"]
    rates, _ = reference.choose_rates(tasks, METHODS)
    clock, _ = reference.calibrate(tasks, METHODS[:3], rates)
    reports = reference.grid(task=tasks, method=METHODS, fraction=CLAIMED["fractions"], seed=seeds, lr=rates)
    budgets = [run for seconds in CLAIMED["budgets"] for run in reference.grid(
        task=tasks, method=METHODS[:3], seed=seeds, lr=rates, seconds=seconds, token_seconds=clock)]
    return reference.recorded(reports), reference.recorded(budgets)


def claims_markdown():
    """The verdict on each claim, and per task with its mean estimate."""
    found = claims.parts(*claimed_runs())
    lines = [f"| the paper's claim | all tasks | {' | '.join(TASK_TITLES.values())} |", "|---|---|---|---|---|"]
    for row in claims.judge(found).to_dict("records"):
        of = found[found["claim"] == row["claim"]]
        cells = [_estimate(of[of["task"] == task], row.get(task)) for task in TASK_TITLES]
        counted = f"{of['estimate'].iloc[0]:.1f} ‰, {of['where'].iloc[0]}" if set(of["unit"]) == {"thousandths"} else ""
        lines.append(f"| {row['statement']} | **{row['verdict']}**{counted and ': ' + counted} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _estimate(of, verdict):
    if of.empty:
        return ""
    value, count = of["estimate"].mean(), of["estimate"].count()
    if np.isnan(value):
        return f"{verdict} (no evidence)"
    number = f"{value:.2f} ×" if of["unit"].iloc[0] == "times" else f"{value:+.1f}"
    return f"{verdict} ({number}{f', mean of {count}' if len(of) > 1 else ''})"


def rates_markdown():
    """The learning rates that the trials chose, from their records."""
    reference = study.load(REFERENCE)
    rates, _ = reference.choose_rates(list(TASK_TITLES), list(METHODS))
    lines = [f"| | {' | '.join(METHODS)} |", f"|---|{'---|' * len(METHODS)}"]
    for task in TASK_TITLES:
        lines.append(f"| {TASK_TITLES[task]} | {' | '.join(f'{rates[task, method]:g}' for method in METHODS)} |")
    return "\n".join(lines)


def parameters_markdown(table):
    """Trained parameters by method: with the head, and as a share of the model."""
    lines = ["| method | trains | parameters | of the model |", "|---|---|---|---|"]
    kinds = ("everything", "every bias, and the head", "adapters of 64 units, LayerNorms, and the head", "the head")
    for method, what in zip(METHODS, kinds, strict=True):
        row = table[(table["method"] == method) & (table["task"] == "mrpc")].iloc[0]
        lines.append(f"| `{method}` | {what} | {int(row['trained']):,} | {100 * row['trained'] / row['total']:.1f} % |")
    return "\n".join(lines)


def filled(text):
    """README's text with each table between ``<!-- name -->`` and ``<!-- end -->`` written anew from records."""
    table = reference_table()
    parts = {"claims": claims_markdown, "scores": lambda: scores_markdown(table), "gaps": lambda: gaps_markdown(table),
             "rates": rates_markdown, "parameters": lambda: parameters_markdown(table)}
    for name, part in parts.items():
        text, times = re.subn(rf"(<!-- {name} -->\n).*?(<!-- end -->)",
                              lambda match, part=part: match[1] + part() + "\n" + match[2], text, flags=re.DOTALL)
        if times != 1:
            raise ValueError(f"README needs one place for {name}, it has {times}")
    return text


def write_readme():
    """Write README's tables in place."""
    README.write_text(filled(README.read_text()))
