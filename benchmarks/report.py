"""The benchmarks' tables, from what was measured, and the files that keep it."""

import json
import re

import numpy as np
import pandas as pd

from studykit.training import fleet

ORDER = ("studykit", "trainer", "run_glue", "peft")
GOALS: dict[str, dict] = {  # set before it was measured, by precision
    "fp32": {("full", "trainer"): 1.2, ("bitfit", "trainer"): 1.5, ("adapter", "trainer"): 1.4, ("head", "trainer"): 5,
             ("head", "run_glue"): 15, ("full", "run_glue"): {"cola": 6, "mrpc": 2.5}, ("bitfit", "run_glue"): {
                 "cola": 12, "mrpc": 4}, ("adapter", "run_glue"): {"cola": 10, "mrpc": 3.5}},
    "bf16": {("full", "trainer"): {"mrpc": 1.7, "cola": 1.4}, ("bitfit", "trainer"): {"mrpc": 2, "cola": 1.6},
             ("adapter", "trainer"): {"mrpc": 1.8, "cola": 1.5}, ("lora", "peft"): {"mrpc": 1.8, "cola": 1.5},
             ("head", "trainer"): {"cola": 8}}}
TEXT = """\
### {study}, {precision}

{encoder}; {threads} threads, batches of {batch_size}. {processor}, {cores} cores, load {load};
torch {torch}, transformers {transformers}; {date}, commit {commit}.

How many times as fast as the others, the median of the pairs with their range; in square brackets the goal set beforehand:

{ratios}

<details><summary>Steps, memory, the limit, and more</summary>

Each by itself, medians. Tokens are real ones, padding not counted. Memory is the peak above the process with its model
loaded. `head` makes {head_epochs} epochs of its steps, all others one.

{speeds}

The limit: what a method must multiply (forward, gradients of activations, and of the weights that train; real tokens only)
over the rate at which this machine multiplies matrices of these shapes, the fastest seen for the task; each system's share
of it. Then where the time of this project's steps goes, by operator, from a profile:

{limits}

Equal work, and its scores: on the validation set, mean and range over the repeats, which differ in their seeds:

{scores}
{besides}
</details>
"""
BESIDES = """
Fleets: runs that differ only by seed, trained one after another and at once (`studykit.training.fleet`). `execute` uses
them on {used_on} only.

{fleets}

The driver: what a run costs besides its training, and what it takes to read all of them again.

{driver}
"""


def all_of(results):
    """The tables of all results on record, as Markdown."""
    return "\n".join(markdown(result) for result in results)


def markdown(result):
    """All tables of a result as Markdown."""
    table = pd.DataFrame(result["measured"])
    scored = table[table["score"].notna()] if "score" in table else table[:0]
    besides = BESIDES.format(fleets=fleets(result["fleets"]), driver=driver(result["driver"]),
                             used_on=", ".join(fleet.DEVICES)) if result["driver"] else ""
    return TEXT.format_map({
        **result["hardware"], **result["versions"], **result, "besides": besides,
        "ratios": ratios(table, GOALS[result["precision"]]), "speeds": speeds(table),
        "limits": limits(table, result["limits"]), "scores": scores(scored)})


def ratios(table, goals):
    """Seconds of the others over this project's, with the goal where there is one, a row per task and method."""
    others = [system for system in ORDER[1:] if system in set(table["system"])]
    lines = _head("task", "method", *(f"against {system}" for system in others))
    for (task, method), of in table.groupby(["task", "method"], sort=False):
        seconds = of.pivot(index="repeat", columns="system", values="seconds")
        cells = []
        for system in others:
            if system not in seconds:
                cells.append("")
                continue
            ratio = seconds[system] / seconds["studykit"]
            goal = goals.get((method, system))
            goal = goal.get(task) if isinstance(goal, dict) else goal
            goal = f" [{goal:g}]" if goal else ""
            cells.append(f"**{ratio.median():.2f}** ({ratio.min():.2f} to {ratio.max():.2f}){goal}")
        lines.append(_row(task, method, *cells))
    return "\n".join(lines)


def speeds(table):
    """Seconds a step, examples and tokens a second, memory, and that over ``full``'s: a row per task, method and system."""
    lines = _head("task", "method", "system", "s a step", "range", "examples/s", "tokens/s", "MB", "of full's")
    of_full = table[table["method"] == "full"].groupby(["task", "system"])["mb"].median()
    for (task, method), of in table.groupby(["task", "method"], sort=False):
        for system in [system for system in ORDER if system in set(of["system"])]:
            rows = of[of["system"] == system]
            step, seconds = rows["seconds"] / rows["steps"], rows["seconds"].median()
            memory = rows["mb"].median() if rows["mb"].notna().any() else np.nan
            lines.append(_row(task, method, system, f"{step.median():.3f}", f"{step.min():.3f} to {step.max():.3f}",
                              f"{rows['examples'].iloc[0] / seconds:.0f}", f"{rows['tokens'].iloc[0] / seconds:.0f}",
                              f"{memory:.0f}", f"{memory / full:.2f}" if (full := of_full.get((task, system))) else ""))
    return "\n".join(lines)


def limits(table, found):
    """The share of the limit that each reaches, and the profile of this project's step."""
    kinds = sorted({kind for row in found for kind in row["profile"]},
                   key=lambda kind: -np.mean([row["profile"].get(kind, 0) for row in found]))
    systems = [system for system in ORDER[:3] if system in set(table["system"])]
    lines = _head("task", "method", "GFLOP", "GFLOP/s", *systems, *kinds)
    rates = pd.DataFrame(found).groupby("task")["rate"].max()  # all methods make the same products: the fastest seen
    for row in found:
        rate = rates[row["task"]]
        of = table[(table["task"] == row["task"]) & (table["method"] == row["method"])]
        seconds = of.groupby("system")["seconds"].median()
        shares = [f"{100 * row['flops'] / rate / seconds[system]:.0f} %" if system in seconds else "" for system in systems]
        lines.append(_row(row["task"], row["method"], f"{row['flops'] / 1e9:.0f}", f"{rate / 1e9:.0f}", *shares,
                          *(f"{row['profile'].get(kind, 0):.0f} %" for kind in kinds)))
    return "\n".join(lines)


def scores(table):
    """Scores of equal work."""
    if table.empty:
        return "not measured in this setting"
    systems = [system for system in ORDER if system in set(table["system"])]
    lines = _head("task", "method", "steps", *systems)
    for (task, method), of in table.groupby(["task", "method"], sort=False):
        seen = of.groupby("system")["score"].agg(["mean", "min", "max"])
        lines.append(_row(task, method, str(of["steps"].iloc[0]), *(
            f"{seen.loc[s, 'mean']:.1f} ({seen.loc[s, 'min']:.1f} to {seen.loc[s, 'max']:.1f})" if s in seen.index else ""
            for s in systems)))
    return "\n".join(lines)


def fleets(found):
    """How many times as fast fleets are."""
    lines = _head("device", "task", "method", "runs", "one after another", "at once", "times as fast")
    for row in found:
        lines.append(_row(row["device"], row["task"], row["method"], str(row["members"]), f"{row['alone']:.1f} s",
                          f"{row['fleet']:.1f} s", f"**{row['alone'] / row['fleet']:.2f}**"))
    for device in [device for device in fleet.DEVICES if device not in {row["device"] for row in found}]:
        lines.append(_row(device, "", "", "", "", "", "not measured"))
    return "\n".join(lines)


def gpu(found):
    """Milliseconds a step on a GPU, this project's and Trainer's, and of a fleet's member: medians and ranges."""
    table, fleets = pd.DataFrame(found["rows"]), {(row["study"], row["task"], row["method"]): row for row in found["fleets"]}
    lines = _head("study", "task", "method", "studykit, ms a step", "Trainer", "times as fast", "a fleet's member", "MB",
                  "Trainer's")
    for (name, task, method), of in table.groupby(["study", "task", "method"], sort=False):
        ms = of.assign(ms=1000 * of["seconds"] / of["steps"]).pivot(index="repeat", columns="system", values="ms")
        mb, ratio = of.groupby("system")["mb"].median(), ms["trainer"] / ms["studykit"]
        row = fleets.get((name, task, method))
        member = f"{1000 * row['fleet'] / row['members'] / row['steps']:.1f} ({row['members']} at once)" if row else ""
        lines.append(_row(name, task, method, *(f"{ms[s].median():.1f} ({ms[s].min():.1f} to {ms[s].max():.1f})"
                                                for s in ("studykit", "trainer")), f"**{ratio.median():.2f}**", member,
                          f"{mb['studykit']:.0f}", f"{mb['trainer']:.0f}"))
    about = dict.fromkeys(f"{row['study']}: {row['hardware']['accelerator']}; torch {row['versions']['torch']}; "
                          f"{row['when']}, commit {row['commit']}; {row['precision']}, batches of {row['batch_size']}"
                          for row in found["rows"])
    return "\n".join([*(f"{each}." for each in about), "", *lines])


def driver(found):
    """Cost by number of runs."""
    lines = _head("runs", "ms a run", "reading all again", "MB")
    lines += [_row(f"{row['runs']:,}", f"{1000 * row['first']:.2f}", f"{row['again']:.2f} s", f"{row['mb']:.0f}")
              for row in found]
    return "\n".join(lines)


def jobs(found):
    """How many times as fast runs at once are, by the encoder's size, with where that was measured."""
    rows = pd.DataFrame(found["rows"])
    rows["ratio"] = rows["after"] / rows["together"]
    lines = _head("layers x width", "parameters", "trains", "one after another", "at once", "times as fast", "range")
    for (layers, width, trains), of in rows.groupby(["layers", "width", "trains"], sort=False):
        ratio = of["ratio"]
        lines.append(_row(f"{layers} x {width}", f"{of['parameters'].iloc[0] / 1e6:.1f} M", trains,
                          f"{of['after'].median():.1f} s", f"{of['together'].median():.1f} s", f"**{ratio.median():.2f}**",
                          f"{ratio.min():.2f} to {ratio.max():.2f}"))
    hardware = found["hardware"]
    about = (f"{found['cores']} runs on {hardware['processor']}, {found['cores']} cores, other processes at "
             f"{found['others']:.2f} of a core; torch {found['torch']}; {found['date']}, commit {found['commit']}.")
    return "\n".join([about, "", *lines, ""])


def _head(*names):
    return [_row(*names), "|" + "---|" * len(names)]


def _row(*cells):
    return f"| {' | '.join(cells)} |"


def read(file, empty):
    """What a file keeps of what was measured, ``empty`` where there is none yet."""
    return json.loads(file.read_text()) if file.is_file() else empty


def save(file, found):
    """Write what was measured for ``read``."""
    file.write_text(json.dumps(found, indent=1) + "\n")


def write(file, tables, mark):
    """Write tables into a Markdown file, between ``<!-- mark -->`` and ``<!-- end -->``."""
    text, times = re.subn(rf"(<!-- {mark} -->\n).*?(<!-- end -->)", lambda match: match[1] + tables + match[2],
                          file.read_text(), flags=re.DOTALL)
    if times != 1:
        raise ValueError(f"{file} needs one place for {mark}, it has {times}")
    file.write_text(text)
