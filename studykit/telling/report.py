"""README's tables and a study's report, from its records; nothing here trains or measures."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from studykit import paths, study
from studykit.evidence import advice, paper, stats, travel
from studykit.study import rates
from studykit.telling import comparisons, facts, gallery, plots, words
from studykit.telling.lesson import metrics_of, with_metric
from studykit.telling.pages import as_html, write_index

__all__ = ["REFERENCE", "Evidence", "advice_markdown", "answer_markdown", "as_html", "claims_markdown", "evidence", "filled",
           "gaps_markdown", "parameters_markdown", "rates_markdown", "report_markdown", "scores_markdown", "study_title",
           "write_index", "write_readme"]

README = paths.REPO / "README.md"
REFERENCE = "minilm"  # the study that README is about
DOMAINS = "beyond"  # the study of other tasks that README has a sentence of
LARGER = "mpnet"  # the study of a larger encoder that README holds beside it
WHOLE = "domains"  # the study of other tasks with all of their data
EXAMPLES = (1000, 3000)  # of training: where README's advice changes row


@dataclass(frozen=True)
class Evidence:
    """What a study has on record: its trials and the rates that these choose, runs over shares of the data and
    over budgets with their paired gaps, and the verdicts on the paper's claims with their parts."""

    experiment: study.Study
    trials: pd.DataFrame
    choices: pd.DataFrame
    reports: pd.DataFrame
    budgets: pd.DataFrame
    gaps: pd.DataFrame
    budget_gaps: pd.DataFrame
    parts: pd.DataFrame
    verdicts: pd.DataFrame


def evidence(name: str | Path = REFERENCE) -> Evidence:
    """The evidence of a study, read from its records. Raises ``ValueError`` where it has no trials or no
    reports."""
    experiment = study.load(name)
    _, trials = experiment.choose_rates(train=False)
    if trials.empty:
        raise ValueError(f"study {experiment.name} has no trials on record: run notebook 02 of it first")
    choices = rates.judged(trials, experiment.design.trials.rule)
    chosen = {(choice.task, choice.arm): choice.rate for choice in choices.itertuples()}
    design = experiment.design
    reports = experiment.recorded([run for task, arm in chosen for run in experiment.plan(
        [task], [arm], rates=chosen, fractions=design.shares, seeds=design.seeds)])
    if reports.empty:
        raise ValueError(f"study {experiment.name} has no runs over shares of the data on record: run notebook 03 of it "
                         "first")
    budgets = experiment.recorded(experiment.timed(chosen))
    about_paper = design.notebooks.get("06_claims") is not False
    parts = paper.parts(reports, budgets, seeds=len(design.seeds)) if about_paper else pd.DataFrame()
    timed = stats.paired_gaps(budgets, experiment.baseline, by=("task", "seconds")) if len(budgets) else pd.DataFrame()
    return Evidence(experiment, trials, choices, reports, budgets, stats.paired_gaps(reports, experiment.baseline), timed,
                    parts, paper.judge(parts))


def study_title(experiment: study.Study) -> str:
    """A study by its name and what it trains and how long, beside others: its encoder, and its passes over the data."""
    return f"{experiment.name}: {experiment.encoder.rsplit('/')[-1]}, {experiment.design.epochs:g} passes"


# Tables as Markdown


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _place(axis: str, value: float) -> str:
    return f"{100 * value:g} %" if axis == "fraction" else f"{value:g} s"


def _not_ok(row: Any) -> str:
    return f"; {row['not_ok']:.0f} not ok" if row["not_ok"] else ""


def _ordered(table: pd.DataFrame, column: str) -> list[str]:
    return table.drop_duplicates(column).sort_values(f"{column}_place", kind="stable")[column].tolist()


def scores_markdown(table: pd.DataFrame, axis: str = "fraction", others: bool = False) -> str:
    """Mean score and 95 % interval in the unit of the metric, a row per task and place, a column per arm; a dash
    where no run is on record. ``others``: a task's other metrics too, each below the main one."""
    arms, rows = _ordered(table, "arm"), []
    for task in _ordered(table, "task"):
        runs = table[table["task"] == task]
        for metric in metrics_of(runs) if others else metrics_of(runs)[:1]:
            scored = with_metric(runs, metric)
            means = stats.summary(scored[scored["score"].notna()], by=(axis, "arm")).set_index([axis, "arm"])
            for place in sorted(runs[axis].unique()):
                cells = [_score_cell(means.loc[place, arm]) if (place, arm) in means.index else "–" for arm in arms]
                rows.append([f"{runs['task_title'].iloc[0]} ({metric.title})", _place(axis, place), *cells])
    head = [words.counted(table["seed"].nunique(), "seed"), "data" if axis == "fraction" else "budget", *arms]
    return _markdown(head, rows)


def _score_cell(row: Any) -> str:
    return f"{words.number(row['score'], row)} {words.span(row)[:-1]}{_not_ok(row)})"


def gaps_markdown(gaps: pd.DataFrame) -> str:
    """Mean paired gap to the baseline with its 95 % interval, positive where the arm is better, a row per task
    and place; in bold what is shown: on one side of zero."""
    axis, arms, rows = words.axis_of(gaps.loc[:, :"arm"]), _ordered(gaps, "arm"), []
    cells = {(row["task"], row[axis], row["arm"]): row for row in gaps.to_dict("records")}
    for task in _ordered(gaps, "task"):
        of_task = gaps[gaps["task"] == task]
        title = f"{of_task['task_title'].iloc[0]} ({of_task['metric_title'].iloc[0]})"
        rows += [[title, _place(axis, place), *[_gap_cell(cells.get((task, place, arm))) for arm in arms]]
                 for place in sorted(of_task[axis].unique())]
    baseline = gaps["baseline"].iloc[0]
    head = [words.counted(int(gaps["pairs"].max()), "pair"), "data" if axis == "fraction" else "budget"]
    return _markdown(head + [f"{arm} − {baseline}" for arm in arms], rows)


def _gap_cell(row: Any) -> str:
    if row is None:
        return "–"
    if not row["pairs"] + row["lost"]:
        return f"no pair with {words.arm(row['baseline'])}"
    text = f"{words.number(row['gap'], row, signed=True)} {words.span(row, signed=True)[:-1]}{_not_ok(row)})"
    kind = comparisons.verdict(row)
    return f"**{text}**" if kind in ("ahead", "behind") else f"{text}, cannot be told" if kind == "untold" else text


def rates_markdown(choices: pd.DataFrame) -> str:
    """The learning rates that the trials chose, a row per task, a column per arm; marked where the arm has not
    learnt."""
    arms = _ordered(choices, "arm")
    cells = {(row.task, row.arm): f"{row.rate:g}{'' if row.learnt else ' (not learnt)'}" for row in choices.itertuples()}
    titles = dict(zip(choices["task"], choices["task_title"], strict=True))
    rows = [[titles[task], *[cells.get((task, arm), "–") for arm in arms]] for task in _ordered(choices, "task")]
    return _markdown(["", *arms], rows)


def parameters_markdown(table: pd.DataFrame) -> str:
    """Trained parameters by arm, on the first task: all, the head's, the others, and as a share of the model."""
    rows = table.sort_values(["task_place", "arm_place"], kind="stable").drop_duplicates("arm").sort_values("arm_place")
    return _markdown([f"arm, on {rows['task_title'].iloc[0]}", "trains", "of these the head", "the others", "of the model"],
                     [[f"`{row.arm}`", f"{row.trained:,.0f}", f"{row.head:,.0f}", f"{row.trained - row.head:,.0f}",
                       f"{100 * row.trained / row.total:.1f} %"]
                      for row in rows.itertuples()])


def claims_markdown(verdicts: pd.DataFrame, parts: pd.DataFrame) -> str:
    """The verdict on each of the paper's claims, and per task with its mean estimate."""
    titles, rows = plots.task_titles(parts), []
    for row in verdicts.to_dict("records"):
        own = parts[parts["claim"] == row["claim"]]
        counted = f": {own['estimate'].iloc[0]:.1f} ‰, {own['where'].iloc[0]}" if set(own["unit"]) == {"thousandths"} else ""
        cells = [f"{row[task]}: {plots.estimate(parts, row['claim'], task)}" if isinstance(row.get(task), str) else ""
                 for task in titles]
        rows.append([row["statement"], f"**{paper.told(row)}**{counted}", *cells])
    return _markdown(["the paper's claim", "all tasks", *titles.values()], rows)


def advice_markdown(reports: pd.DataFrame, budgets: pd.DataFrame) -> str:
    """What to take with so many examples, or within so many seconds, and how sure that is: the chance that the
    arm lies within a point of the best, over tasks and places, and the lowest of these with its place."""
    rows = []
    if len(reports):
        found = advice.chances(reports)
        few = f"up to {EXAMPLES[0]:,} examples"
        groups = pd.cut(found["examples"], [0, *EXAMPLES, float("inf")], labels=[
            few, f"{EXAMPLES[0]:,} to {EXAMPLES[1]:,} examples", f"over {EXAMPLES[1]:,} examples"]).astype(str)
        order = [*dict.fromkeys(groups[found["examples"].argsort()])]
        largest = found["examples"].groupby(groups).max()
        rows += _advised(found, groups, {group: _length(reports[reports["examples"] <= largest[group]]) for group in order},
                         order)
    if len(budgets):
        found = advice.chances(budgets, by=("task", "seconds"))
        groups = found["seconds"].map(lambda seconds: f"{seconds:g} s of training")
        told = found[found.groupby(["task", "seconds"])["learnt"].transform("any")]  # others say nothing
        order = [*dict.fromkeys(groups[found["seconds"].argsort()])]
        sizes = {group: told.loc[groups[told.index] == group, "examples"] for group in order}
        besides = {group: f"{own.min():,} to {own.max():,} examples" for group, own in sizes.items() if len(own)}
        rows += _advised(found, groups, besides, order)
    return _markdown(["you have", "take", "chance to be within a point of the best"], rows)


def _length(runs: pd.DataFrame) -> str:
    """How long runs trained: so many steps where the floor decided of all of them, else passes and the floor."""
    floor = runs["min_steps"].max()
    if floor > 0 and runs["steps"].max() <= floor:
        return f"{floor:,.0f} batches of {runs['batch_size'].max()}"
    return f"{runs['epochs'].max():g} passes over them" + (f", at least {floor:,.0f} batches" if floor > 0 else "")


def _advised(found: pd.DataFrame, groups: pd.Series, besides: dict[str, str], order: list[str]) -> list[list[str]]:
    """A row a group, in this order, with what is said ``besides`` its name."""
    advised = advice.advice(found, groups).set_index("group")
    axis, rows = words.axis_of(found), []
    for group in order:
        row = advised.loc[group]
        lowest = found.loc[row["lowest"]] if row["arm"] else None
        where = words.counted(int(row["where"]), "comparison")
        sure = "–" if lowest is None else (f"{100 * row['sure']:.0f} % (lowest of {where}: {100 * row['least']:.0f} %, "
                                           f"{lowest['task_title']} with {_place(axis, lowest[axis])})")
        rows.append([", ".join(filter(None, (group, besides.get(group)))),
                     f"`{row['arm']}`" if row["arm"] else "cannot tell: no arm learnt", sure])
    return rows


def _bullets(told: list[facts.Fact]) -> str:
    return "\n".join(f"- {fact.sentence}" for fact in told)


def answer_markdown(found: Evidence) -> str:
    """The answer in sentences: over shares of the data, over budgets, which of the paper's claims hold, and how many
    runs over shares collapsed or diverged."""
    told = facts.answer(found.gaps) + (facts.answer(found.budget_gaps) if len(found.budget_gaps) else [])
    claims = [dataclasses.replace(fact, sentence=fact.sentence.replace("Of ", "Of the paper's ", 1))
              for fact in facts.claims(found.verdicts, plots.task_titles(found.parts)) if fact.kind in ("claims", "refuted")]
    dull = [fact for fact in facts.rates(found.choices) if fact.kind == "no_rate"
            and fact.about["arm"] in found.experiment.moving]
    fallen = [dataclasses.replace(fact, sentence=f"Over shares of the data {fact.sentence[0].lower()}{fact.sentence[1:]}")
              for fact in facts.not_ok(found.reports)]
    return _bullets(told + claims + dull + fallen)


def travels(found: Evidence) -> list[facts.Fact]:
    """What the study's tasks say of another, at its largest share of the data; nothing where it has too few of them."""
    gaps = found.gaps[found.gaps["fraction"] == found.gaps["fraction"].max()]
    if gaps["task"].nunique() < travel.FEWEST:
        return []
    there = found.reports[found.reports["fraction"] == gaps["fraction"].iloc[0]]
    told = travel.told(there, found.experiment.baseline)
    agreed = facts.agreement(told, found.experiment.moving)
    return facts.turns(gaps) + facts.firsts(told) + agreed + facts.new_task(travel.new_task(gaps))


def travels_markdown(found: Evidence, whole: Evidence) -> str:
    """README's sentences about other tasks: whether arms turn with the task, whether their order travels, and what is sure
    of a new one; and what another study of such tasks says of all of their data."""
    told = [fact for fact in travels(found) if fact.kind not in ("firsts", "all_arms") and "arm" not in fact.about]
    name, precision = whole.experiment.name, whole.experiment.design.precision
    more = "\n".join(f"- In study {name} ({precision}): {fact.sentence[0].lower()}{fact.sentence[1:]}"
                     for fact in facts.answer(whole.gaps))
    return f"{_bullets(told)}\n{more}"


def larger_markdown(larger: Evidence) -> str:
    """README's sentences about what the larger encoder shows, share by share."""
    told = [fact for _, rows in larger.gaps.groupby("fraction") for fact in facts.answer(rows)]
    return _bullets(told)


def apart_markdown(larger: Evidence, found: Evidence, domains: Evidence) -> str:
    """README's sentences about where the larger encoder's gaps, of the arms that move it, differ from those of the reference
    study; and whether they do from those of the study of other tasks."""
    moving = larger.gaps[larger.gaps["arm"].isin(larger.experiment.moving)]
    beside, again = (facts.side_by_side(moving, each.gaps, (larger.experiment.name, each.experiment.name))
                     for each in (found, domains))
    count, told = domains.gaps["task"].nunique(), again[-1].sentence
    also = dataclasses.replace(again[-1], sentence=(
        f"With {found.experiment.name}'s encoder in study {domains.experiment.name} (the {count} tasks below; other rates, "
        f"{domains.experiment.design.precision}) in place of study {found.experiment.name}: {told[0].lower()}{told[1:]}"))
    return _bullets([beside[-1], *beside[1:-1], also])


def published_markdown(rows: pd.DataFrame) -> str:
    """Full fine-tuning here and what is published for BERT-base, a row a task."""
    return _markdown(["", "here", "BERT-base, published", "apart"],
                     [[f"{row.task_title} ({row.metric})", f"{row.here:.1f} ({words.counted(row.runs, 'run')})",
                       f"{row.published:.1f}", f"{row.here - row.published:+.1f}"] for row in rows.itertuples()])


def _places(found: Evidence, *others: Evidence) -> dict:
    """By the name of a place in README, what is written there."""
    known = {each.experiment.name: each for each in others}

    def of(name):
        if name not in known:
            known[name] = evidence(name)
        return known[name]

    return {"answer": lambda: answer_markdown(found), "travels": lambda: travels_markdown(of(DOMAINS), of(WHOLE)),
            "larger": lambda: larger_markdown(of(LARGER)), "apart": lambda: apart_markdown(of(LARGER), found, of(DOMAINS)),
            "advice": lambda: advice_markdown(found.reports, found.budgets),
            "claims": lambda: claims_markdown(found.verdicts, found.parts), "scores": lambda: scores_markdown(found.reports),
            "gaps": lambda: gaps_markdown(found.gaps), "rates": lambda: rates_markdown(found.choices),
            "parameters": lambda: parameters_markdown(found.reports)}


def filled(text: str, found: Evidence | None = None, *others: Evidence) -> str:
    """A text with each part between ``<!-- name -->`` and ``<!-- end -->`` written anew, of the reference study and of
    ``others``, which are read where they are not given. Raises ``ValueError`` for a place that it does not know or that has
    no end."""
    places = _places(found or evidence(), *others)
    names = re.findall(r"<!-- (\w+) -->", text)
    if unknown := [name for name in names if name != "end" and name not in places]:
        raise ValueError(f"README has a place for {unknown[0]}: choose from {', '.join(places)}")
    if names[1::2] != ["end"] * (len(names) // 2) or len(names) % 2 or "end" in names[::2]:
        raise ValueError("README's places need an <!-- end --> each")
    return re.sub(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", lambda match: f"{match[1]}{places[match[2]]()}\n{match[3]}", text,
                  flags=re.DOTALL)


def report_markdown(found: Evidence) -> str:
    """All that a study has on record in tables, with the sentences that read them."""
    experiment, runs = found.experiment, found.reports
    sections: list[tuple[str, list[facts.Fact], str]] = [
        ("Scores", facts.coverage(runs, _planned(experiment)) + facts.not_ok(runs) + facts.learnt(runs) + facts.chance(runs),
         scores_markdown(runs, others=True)),
        (f"Gaps to `{experiment.baseline}`", facts.gaps(found.gaps) + facts.tally(found.gaps) + facts.crossings(found.gaps),
         gaps_markdown(found.gaps))]
    if len(found.budget_gaps):
        sections += [("Scores within budgets", facts.coverage(found.budgets) + facts.not_ok(found.budgets)
                      + facts.learnt(found.budgets, "seconds"), scores_markdown(found.budgets, "seconds")),
                     ("Gaps within budgets", facts.gaps(found.budget_gaps), gaps_markdown(found.budget_gaps))]
    sections += [("Learning rates", facts.rates(found.choices) + facts.effort(rates.effort(found.trials)),
                  rates_markdown(found.choices)),
                 ("Parameters", [], parameters_markdown(runs))]
    if told := travels(found):
        sections.insert(2, ("Another task", told, ""))
    if len(beside := paper.beside_published(runs)):
        sections.append(("Beside BERT-base", [_why_apart(runs)], published_markdown(beside)))
    if len(found.verdicts):
        sections.append(("The paper's claims", facts.claims(found.verdicts), claims_markdown(found.verdicts, found.parts)))
    head = (f"# Study {experiment.about}\n\nWritten by `python -m studykit readme` from the records in this folder. In "
            "brackets beside scores and gaps 95 % intervals: of scores over seeds, of gaps over seeds and test examples; a "
            "match is judged by the 90 % interval, which is shorter. Not ok: runs, or pairs with a run, that collapsed "
            "(nearly one answer for every example) or diverged; they are in every mean. Bold: ahead or behind, that is, on "
            "one side of zero where the baseline has learnt; to refute that two match takes more, a gap beyond a point. "
            "Beside claims: the mean gap or ratio, in brackets of how many parts. A claim's verdict on one task is a hint: "
            "it allows for the tests of its parts there only, that for all tasks for those of all parts and claims.\n")
    for title, told, table in sections:
        sentences = "".join(f"- {fact.sentence}\n" for fact in told)
        head += "\n".join(["", f"## {title}", "", *([sentences] if told else []), *([table, ""] if table else [])])
    return head


def _planned(experiment: study.Study) -> int:
    """How many runs over shares of the data the study is to have."""
    design = experiment.design
    return len(design.tasks) * len(design.arms) * len(design.shares) * len(design.seeds)


def _why_apart(runs: pd.DataFrame) -> facts.Fact:
    """Why scores here are not those of BERT-base: what differs in what was trained, and how long."""
    return facts.Fact("why", f"The encoder here has {runs['total'].max() / 1e6:.0f} million parameters, BERT-base 108; runs "
                      f"here made {runs['epochs'].max():g} passes over the data, those published three. The published "
                      "ones are bert-base-cased's, of the scripts that come with transformers.")


def write_readme() -> None:
    """Write README's tables in place, the reports of the reference study, of the larger encoder's and of those of other
    tasks beside their records, and the gallery."""
    each_of = [evidence(name) for name in (REFERENCE, LARGER, DOMAINS, WHOLE)]
    README.write_text(filled(README.read_text(encoding="utf-8"), *each_of), encoding="utf-8")
    for each in each_of:
        (paths.results(each.experiment.name) / "REPORT.md").write_text(report_markdown(each), encoding="utf-8")
    gallery.write()
