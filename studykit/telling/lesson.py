"""What a reader needs: code to look at where it is used, and numbers beside the ones they should be."""

import ast
import inspect
import math
import re
import textwrap


def show(function):
    """Print a function's or class's code without its docstrings: the reader sees the code that runs, not a copy."""
    source = textwrap.dedent(inspect.getsource(function))
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            for number in range(body[0].lineno - 1, body[0].end_lineno):
                lines[number] = None
            if len(body) == 1:
                lines[body[0].lineno - 1] = " " * body[0].col_offset + "pass"
    kept = "\n".join(line for line in lines if line is not None)
    print(re.sub(r":\n\n", ":\n", kept))  # where a docstring stood, no empty line stays


def _is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def check(what, seen, expected, within=0.0):
    """Print what we see beside what is expected, and whether they match; ``within`` is how far apart they may be."""
    same = abs(seen - expected) <= within if within else seen == expected
    text = [f"{value:,}" if type(value) is int else str(value) for value in (seen, expected)]
    print(f"{what}: we see {text[0]} · expected {text[1]} · {'match' if same else 'NO MATCH'}")
    return None


def explored(table, task, methods=(), metric="", axis="fraction", about=""):
    """The figure of one task's runs: a metric, or the main one, against one of ``plots.AXES``, for these methods or all.
    ``table`` is a study's table."""
    from studykit import tasks
    from studykit.telling import plots

    rows = table[(table["task"] == task) & (table["method"].isin(methods) if methods else True)]
    if metric and metric != tasks.get(task).metric:
        rows = rows.assign(score=rows[metric], majority=math.nan)
    fig = plots.AXES[axis](rows, about)
    fig.axes[0].set_ylabel(f"{tasks.METRIC_NAMES[metric or tasks.get(task).metric]} × 100")
    return fig


def choices(table):
    """``(metrics, methods, axes)`` that ``explored`` can show of a table: metrics by task, the main one first, and the axes
    along which runs differ; that of a single seed only where seeds differ one at a time."""
    from studykit import tasks
    from studykit.telling import plots

    metrics = {task: [tasks.get(task).metric] for task in table["task"].unique()}
    for task, of in table.groupby("task"):
        metrics[task] += [name for name in tasks.METRIC_NAMES if name in of and of[name].any() and name not in metrics[task]]
    apart = table["seed"].isna().any()
    axes = [name for name in plots.AXES if name in table and table[name].nunique() > 1 and (apart or "_seed" not in name)]
    return metrics, [name for name in plots.STYLE if name in set(table["method"])], axes or ["fraction"]


def explore(table, about="", task="", metric="", axis=""):
    """Show ``explored``, beginning with this task, metric and axis where the table has them. Where the cell of a page asks,
    as JupyterLab's does, these and the methods can be chosen; for papermill, nbconvert or a test the figure stands alone."""
    metrics, methods, axes = choices(table)
    task = task if task in metrics else next(iter(metrics))
    metric = metric if metric in metrics[task] else metrics[task][0]
    axis = axis if axis in axes else axes[0]
    if not _asked_by_a_page():
        explored(table, task, metric=metric, axis=axis, about=about)
        return None
    import ipywidgets as widgets

    def draw(task, methods, metric, axis):
        explored(table, task, methods, metric, axis, about)

    asked = {"task": widgets.Dropdown(options=list(metrics), value=task),
             "methods": widgets.SelectMultiple(options=methods, value=methods, rows=len(methods)),
             "metric": widgets.Dropdown(options=metrics[task], value=metric),
             "axis": widgets.Dropdown(options=axes, value=axis)}
    asked["task"].observe(lambda change: setattr(asked["metric"], "options", metrics[change["new"]]), "value")
    return widgets.interactive(draw, **asked)


def _asked_by_a_page():
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)  # a page with cells says which of them asks
    return kernel is not None and "cellId" in kernel.get_parent("shell")["metadata"]
