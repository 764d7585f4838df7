"""What a reader needs: code to look at where it is used, numbers beside the ones they should be, tables folded,
runs to explore."""

import ast
import html
import inspect
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from studykit.study import progress
from studykit.tasks import Metric
from studykit.telling import style, words


def show(function: Callable) -> None:
    """Print a function's or class's code without its docstrings: the reader sees the code that runs, not a
    copy."""
    source = textwrap.dedent(inspect.getsource(function))
    lines: list[str | None] = [*source.splitlines()]
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            for number in range(body[0].lineno - 1, body[0].end_lineno):
                lines[number] = None
            if len(body) == 1:
                lines[body[0].lineno - 1] = " " * body[0].col_offset + "pass"
    kept = "\n".join(line for line in lines if line is not None)
    print(re.sub(r":\n\n", ":\n", kept))  # where a docstring stood, no empty line stays


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def check(what: str, seen: Any, expected: Any, within: float = 0.0) -> None:
    """Print what we see beside what is expected, and whether they match; ``within`` is how far apart they may
    be."""
    same = abs(seen - expected) <= within if within else seen == expected
    text = [f"{value:,}" if type(value) is int else str(value) for value in (seen, expected)]
    print(f"{what}: we see {text[0]} · expected {text[1]} · {'match' if same else 'NO MATCH'}")


def fold(table: pd.DataFrame, title: str, rows: int = 3, digits: int = 1) -> None:
    """Show a table's first rows, those that matter, under its title, and fold the others away: in a notebook a
    click opens them. Elsewhere the first rows are printed, and how many more there are. ``digits`` after the
    point are shown of what is no whole number. Sort the table first, so that what matters stands on top."""
    shown, rest = table.head(rows), len(table) - min(rows, len(table))
    if not progress.in_notebook():
        more = f"\n… and {rest} more" if rest else ""
        print(f"{title}\n{shown.to_string(index=_named(table), float_format=f'{{:.{digits}f}}'.format, na_rep='–')}{more}")
        return
    from IPython.display import HTML, display

    folded = f"<details><summary>and {rest} more</summary>{_html(table.iloc[rows:], digits)}</details>" if rest else ""
    display(HTML(f"<p><b>{html.escape(title)}</b></p>{_html(shown, digits)}{folded}"))


def _named(table: pd.DataFrame) -> bool:
    """Whether a table's index says something."""
    return not isinstance(table.index, pd.RangeIndex) and any(name is not None for name in table.index.names)


def _html(table: pd.DataFrame, digits: int) -> str:
    return table.to_html(index=_named(table), border=0, na_rep="–", float_format=f"{{:.{digits}f}}".format)


def explored(table: pd.DataFrame, task: str, arms: Sequence[str] = (), metric: str = "", axis: str = "fraction",
             about: str = "") -> Figure:
    """The figure of one task's runs: a metric, or the main one, against one of ``plots.AXES``, for these arms or
    all. ``table`` is a study's table. Runs without that metric, whose records lack what it needs, are left out,
    and their number is under the figure."""
    from studykit.telling import plots

    rows = table[(table["task"] == task) & (table["arm"].isin(list(arms)) if len(arms) else True)]
    kinds = {kind.name: kind for kind in metrics_of(rows)}
    rows = with_metric(rows, kinds[metric]) if metric else rows
    lost = int(rows["score"].isna().sum())
    note = f"{about} · {words.counted(lost, 'run')} without this metric" if lost else about
    return plots.AXES[axis](rows[rows["score"].notna()], note)


def metrics_of(rows: pd.DataFrame) -> list[Metric]:
    """Metrics that one task's runs have a value of, the main one first."""
    main, *others = rows["metrics"].iloc[0]
    return [main, *[kind for kind in others if rows[kind.name].notna().any()]]


def with_metric(rows: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """One task's runs with another of its metrics as their score; what chance scores by it is not known."""
    if metric == rows["scored_by"].iloc[0]:
        return rows
    return rows.assign(score=rows[metric.name], chance=math.nan, scored_by=[metric] * len(rows), metric=metric.name,
                       metric_title=metric.title, metric_axis=metric.axis, better=metric.sign,
                       metric_low=metric.factor * metric.range[0], metric_high=metric.factor * metric.range[1])


def choices(table: pd.DataFrame) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """``(metrics, arms, axes)`` that ``explored`` can show of a table: metrics by task, the main one first, and
    the axes along which runs differ; that of a single seed only where seeds differ one at a time."""
    from studykit.telling import plots

    known = {task: [kind.name for kind in metrics_of(table[table["task"] == task])] for task in style.titles(table)}
    apart = table["seed"].isna().any()
    axes = [name for name in plots.AXES if name in table and table[name].nunique() > 1 and (apart or "_seed" not in name)]
    return known, list(style.styles(table)), axes or ["fraction"]


def explore(table: pd.DataFrame, about: str = "", task: str = "", metric: str = "", axis: str = "") -> Any:
    """Show ``explored``, beginning with this task, metric and axis where the table has them. Where the cell of a
    page asks, as JupyterLab's does, these and the arms can be chosen; for papermill, nbconvert or a test the
    figure stands alone."""
    known, arms, axes = choices(table)
    task = task if task in known else next(iter(known))
    metric = metric if metric in known[task] else known[task][0]
    axis = axis if axis in axes else axes[0]
    if not _asked_by_a_page():
        explored(table, task, metric=metric, axis=axis, about=about)
        return None
    import ipywidgets as widgets

    def draw(task, arms, metric, axis):
        explored(table, task, arms, metric, axis, about)

    asked = {"task": widgets.Dropdown(options=[(title, name) for name, title in style.titles(table).items()], value=task),
             "arms": widgets.SelectMultiple(options=arms, value=arms, rows=len(arms)),
             "metric": widgets.Dropdown(options=known[task], value=metric),
             "axis": widgets.Dropdown(options=axes, value=axis)}
    asked["task"].observe(lambda change: setattr(asked["metric"], "options", known[change["new"]]), "value")
    return widgets.interactive(draw, **asked)


def _asked_by_a_page() -> bool:
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)  # a page with cells says which of them asks
    return kernel is not None and "cellId" in kernel.get_parent("shell")["metadata"]
