"""A model card, written from advice: what the model is, how good, how sure, how it is used. It holds no text of the data."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from studykit import tasks
from studykit.advise.advice import Advice, Contender

HUB = {"accuracy": "accuracy", "f1": "f1", "macro_f1": "f1", "matthews_correlation": "matthews_correlation",
       "roc_auc": "roc_auc", "pearson": "pearsonr", "spearmanr": "spearmanr", "r2": "r_squared",
       "mean_absolute_error": "mae"}  # the hub's names of metrics
DECIDED = {"take": "It was chosen as the best of what was compared.",
           "cheaper": "Several were within the margin of the best; it is the cheapest of them.",
           "cannot tell": "It was the best so far; which is best could not be told.",
           "floor": "No fine-tuned model was shown to beat it."}
CLASSES = 30  # that are listed by name


def text(advice: Advice, about: dict[str, Any]) -> str:
    """The card in Markdown, with the hub's front matter. ``about`` is what ``studykit.json`` holds."""
    parts = (_front(advice, about), _what(advice, about), _scores(advice), _certainty(advice, about), _limits(advice, about),
             _use(advice, about))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _front(advice: Advice, about: dict[str, Any]) -> list[str]:
    task = tasks.made(advice.task, "the advice")
    tags = ["text-classification" if task.labels else "text-regression", "studykit", about["method"]]
    front = {"library_name": "transformers" if about["kind"] == "transformers" else "studykit",
             "pipeline_tag": "text-classification", "tags": tags,
             "metrics": list(dict.fromkeys(HUB[metric.name] for metric in task.metrics if metric.name in HUB))}
    if about["weights"] and advice.encoder.count("/") == 1 and not Path(advice.encoder).exists():  # else a folder
        front["base_model"] = advice.encoder
    return ["---", yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip(), "---"]


def _what(advice: Advice, about: dict[str, Any]) -> list[str]:
    task = tasks.made(advice.task, "the advice")
    names = [" ".join(label.split()) for label in task.labels[:CLASSES]] + ["…"] * (len(task.labels) > CLASSES)
    answers = f"It answers with one of {len(task.labels)} classes: {', '.join(names)}." if task.labels else \
        f"It answers with a number, `{task.label}`, in the unit that it was given in."
    rows = f"{advice.rows['train']:,} rows to train on and {advice.rows['validation']:,} to score on"
    trained = f", then trained on {about['rows']:,} rows" if about["rows"] else ""
    return [f"# {advice.name}", "", f"{task.question} {answers}".strip(), "", f"- Model: {_called(advice, about)}.",
            *([f"- Encoder: `{advice.encoder}`, weights `{about['weights']}`; it is given {about['max_length']} tokens of a "
               "text."] if about["weights"] else []),
            f"- Data: digest `{advice.digest}`, {rows}{trained}."]


def _called(advice: Advice, about: dict[str, Any]) -> str:
    """The choice with its rate, options and steps."""
    if about["kind"] == "floor":
        return f"{about['title']}, without fine-tuning"
    own = _choice(advice)
    options = ", ".join(f"{name} {value}" for name, value in about["options"].items())
    rate = f", learning rate {own.rate:g}" if own and own.rate else ""
    trained = f", {own.trained:,} parameters trained" if own and own.trained else ""
    return f"`{about['method']}`" + (f" ({options})" if options else "") + f"{rate}, {advice.steps:,} steps{trained}"


def _choice(advice: Advice) -> Contender | None:
    return next((row for row in advice.contenders if advice.decision and row.label == advice.decision.choice), None)


def _scores(advice: Advice) -> list[str]:
    metric, promise = tasks.made(advice.task, "the advice").metric, advice.promise
    lines = ["## How good it is", ""]
    if promise.score is None:
        lines += [f"No score is promised: {promise.reason or 'none was measured'}."]
    else:
        titled = {kind.title: kind for kind in tasks.made(advice.task, "the advice").metrics}
        others = "".join(f"; {title} {_digits(score, titled.get(title, metric))}" for title, score in promise.others.items())
        low, high = (end if end is None else _digits(end, metric) for end in (promise.low, promise.high))
        within = f" (95 % interval {low} to {high})" if promise.low is not None else ""
        lines += [f"{metric.axis}: {_digits(promise.score, metric)}{within}{others}, on {promise.rows:,} rows that decided "
                  f"nothing, over {promise.runs} training run{'s' * (promise.runs != 1)}."]
    if advice.contenders:
        lines += ["", "What was compared, on parts of the training rows that each run did not train on:", "",
                  f"| | {metric.axis}, mean | runs | behind the choice (interval) |", "|---|---|---|---|"]
    left = [row.label for row in advice.contenders if not row.finalist]
    told = ["", f"Left in the race: {', '.join(left)}. Score and gap are from there."] if left else []
    return lines + [_row(advice, row) for row in advice.contenders] + told


def _row(advice: Advice, row: Contender) -> str:
    """An arm or a floor of the table. One that left in the race has its score and its gap from there."""
    metric = tasks.made(advice.task, "the advice").metric
    mean = _digits(sum(row.scores) / len(row.scores), metric) if row.scores else "–"
    name = row.label + (f" at {row.rate:g}" if row.rate else "") + (" (a floor)" if row.kind == "floor" else "")
    ends = (row.low, row.high)
    interval = f" ({_digits(row.low, metric)} to {_digits(row.high, metric)})" if None not in ends else ""
    chosen = advice.decision is not None and row.label == advice.decision.choice
    behind = "the choice" if chosen else "–" if row.gap is None else f"{_digits(row.gap, metric)}{interval}"
    return f"| {name} | {mean} | {len(row.scores)} | {behind} |"


def _digits(value: Any, metric: tasks.Metric) -> str:
    """A score or gap: points to a tenth, what has a unit of its own to three digits."""
    return format(value, ".1f" if metric.factor == 100 else ".3g")


def _points(advice: Advice, value: float) -> str:
    """So many points of a metric, or of its own unit, where it has one."""
    points = tasks.made(advice.task, "the advice").metric.factor == 100
    return f"{value:.3g}" + (f" point{'s' * (abs(value) != 1)}" if points else "")


def _certainty(advice: Advice, about: dict[str, Any]) -> list[str]:
    lines, decision = ["## How sure", ""], advice.decision
    if decision:
        rounds = f" after {decision.rounds} round{'s' * (decision.rounds != 1)} of paired seeds" if decision.rounds else ""
        sure = "over 99 %" if decision.sure > 0.995 else f"{100 * decision.sure:.0f} %"
        lines += [f"{DECIDED[decision.kind]} The probability that it is within {_points(advice, decision.margin)} of the "
                  f"best is {sure}{rounds}."
                  if decision.kind == "floor" or about.get("title", decision.choice) == decision.choice else
                  f"It is the best floor: of `{decision.choice}`, the choice so far, nothing was trained to its end."]
    if advice.task["labels"]:
        lines += [f"Probabilities are calibrated, at temperature {about['temperature']:.3g}"]
    elif about["half_width"] is not None:
        lines += [f"80 % of labels are expected within {about['half_width']:.4g} of the predicted number"]
    else:
        return [*lines, "Around a number no interval is given: there were too few rows to find one."]
    lines[-1] += ", found on rows that the comparison's runs did not train on, before the last training."
    return lines


def _limits(advice: Advice, about: dict[str, Any]) -> list[str]:
    lines = ["## Limits", "", "- It knows texts like those that it was trained on. How good it is on others, or on later "
             "ones, is not known: label some of yours and look."]
    lines += [f"- {count:,} of {total:,}: {meaning}." for _, count, total, meaning in advice.oddities]
    if advice.curve.gain is not None:
        metric = tasks.made(advice.task, "the advice").metric  # a gain is for the better, which may be down
        ends = sorted(metric.sign * end for end in (advice.curve.low, advice.curve.high) if end is not None)
        within = f" ({' to '.join(_digits(end, metric) for end in ends)})" if len(ends) == 2 else ""
        gain = _points(advice, metric.sign * advice.curve.gain)
        lines += [f"- With twice as many labels the score is expected to change by {gain}{within}."]
    if about["method"] == "tfidf":
        lines += ["- `floor.json` holds words and pairs of words of the training texts: mind that before sharing it."]
    if advice.stopped:
        lines += [f"- The comparison ended before its time: {advice.stopped}."]
    return lines


def uses(advice: Advice, folder: str, kind: str) -> dict[str, str]:
    """Code that uses the model in a folder, by what one has in front of oneself."""
    pair = len(advice.task["columns"]) == 2
    own, others = (('("first text", "second text")', '{"text": "first text", "text_pair": "second text"}') if pair
                   else ('"a new text"',) * 2)
    found = {"in a terminal": f"./run_all.sh --predict NEW.csv --model {folder}",
             "in Python": f'from studykit import advise\n\nadvise.load("{folder}").predict([{own}])'}
    if kind == "transformers":
        found["with transformers alone"] = ('from transformers import pipeline\n\nmodel = pipeline("text-classification", '
                                            f'"{folder}")\nmodel({others}, truncation=True)')
    return found


def _use(advice: Advice, about: dict[str, Any]) -> list[str]:
    code = uses(advice, "FOLDER", about["kind"])
    lines = ["## How to use it", "", "`FOLDER` is where this file lies.", ""]
    if plain := code.get("with transformers alone"):
        lines += ["Plain `transformers` opens this folder:", *_code(plain), ""]
    else:
        needs = f" and the encoder `{advice.encoder}`" if about["weights"] else ""
        lines += [f"It needs `studykit`{needs}; plain `transformers` does not open it.", ""]
    return [*lines, "With `studykit`, in Python or for a whole file:", *_code(code["in Python"]), "",
            *_code(code["in a terminal"], language="bash")]


def _code(*lines: str, language: str = "python") -> Iterable[str]:
    return ["```" + language, *lines, "```"]
