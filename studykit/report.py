"""What is written for people from records: README's tables, and executed notebooks as HTML."""

import re

from studykit import paths, records, stats, study

README = paths.REPO / "README.md"
REFERENCE = "minilm"
TASK_TITLES = {"mrpc": "MRPC (F1)", "cola": "CoLA (Matthews)", "stsb": "STS-B (Pearson)"}
METHODS = ("full", "bitfit", "adapter", "head")


def as_html(notebook):
    """Write an executed notebook as one HTML file with its figures inside, beside it. Returns its path."""
    from nbconvert import HTMLExporter

    html, _ = HTMLExporter(embed_images=True).from_filename(str(notebook))
    target = notebook.with_suffix(".html")
    target.write_text(html)
    return target


def reference_table():
    """The report runs of the data-fraction notebook that are in git, as a table."""
    found = records.read(paths.REPO / "results" / REFERENCE / "03_data_fractions")
    return records.table(record for record in found.values() if record["run"]["score_on"] == "validation")


def scores_markdown(table):
    """Mean score and 95 % interval in points, a row per task and share of the data, a column per method."""
    means = stats.summary(table).set_index(["task", "fraction", "method"])
    lines = [f"| | data | {' | '.join(METHODS)} |", f"|---|---|{'---|' * len(METHODS)}"]
    for task in TASK_TITLES:
        for fraction in sorted(table["fraction"].unique()):
            cells = [_cell(means.loc[task, fraction, method]) for method in METHODS]
            lines.append(f"| {TASK_TITLES[task]} | {100 * fraction:g} % | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row):
    not_ok = f", {row['not_ok']:.0f} of {row['seeds']:.0f} gave one answer" if row["not_ok"] else ""
    return f"{row['score']:.1f} ({row['low']:.1f} to {row['high']:.1f}{not_ok})"


def gaps_markdown(table):
    """Mean paired gap to full fine-tuning with its 95 % interval."""
    gaps = stats.paired_gaps(table).set_index(["task", "fraction", "method"])
    lines = ["| | data | bitfit − full | adapter − full | head − full |", "|---|---|---|---|---|"]
    for task in TASK_TITLES:
        for fraction in sorted(table["fraction"].unique()):
            rows = [gaps.loc[task, fraction, method] for method in METHODS[1:]]
            cells = [f"{row['gap']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f})" for row in rows]
            lines.append(f"| {TASK_TITLES[task]} | {100 * fraction:g} % | {' | '.join(cells)} |")
    return "\n".join(lines)


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
    parts = {"scores": lambda: scores_markdown(table), "gaps": lambda: gaps_markdown(table), "rates": rates_markdown,
             "parameters": lambda: parameters_markdown(table)}
    for name, part in parts.items():
        text, times = re.subn(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)",
                              lambda match, part=part: match[1] + part() + match[2], text, flags=re.DOTALL)
        if times != 1:
            raise ValueError(f"README needs one place for {name}, it has {times}")
    return text


def write_readme():
    """Write README's tables in place."""
    README.write_text(filled(README.read_text()))
