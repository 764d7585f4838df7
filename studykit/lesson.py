"""What a reader needs: code to look at where it is used, and numbers beside the ones they should be."""

import ast
import inspect
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
