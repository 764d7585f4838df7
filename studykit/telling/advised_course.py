"""Facts about how advice came about: how the files were read, the plan, floors, race and cost; and how its model is used."""

from pathlib import Path

from studykit import paths
from studykit.advise import card
from studykit.advise.advice import Advice
from studykit.telling import words
from studykit.telling.advised_parts import arms, floors_of, mean, runs, unit
from studykit.telling.story import Fact

AGAIN = "Run it again with more minutes."


def reading(advice: Advice) -> list[Fact]:
    """How the files were read, and how many rows there are for what."""
    train, validation = advice.rows.get("train", 0), advice.rows.get("validation", 0)
    return [*(Fact("account", sentence) for sentence in advice.account),
            Fact("rows", f"{train:,} rows to train and decide on, {validation:,} that decide nothing. The encoder is given "
                 f"up to {advice.max_length} tokens of a text.", numbers=dict(advice.rows))]


def oddities(advice: Advice) -> list[Fact]:
    """What is odd about the rows, with counts."""
    facts = [Fact("odd", f"{kind.capitalize()}, {count:,} of {total:,}: {meaning.rstrip('.')}.", {"kind": kind},
                  {"count": count, "total": total}) for kind, count, total, meaning in advice.oddities]
    return facts or [Fact("nothing_odd", "Nothing is odd about the rows.")]


def plan(advice: Advice) -> list[Fact]:
    """The plan, as it was said before anything was spent."""
    return [Fact("plan", sentence) for sentence in advice.plan] or [Fact("plan", "No plan was made.")]


def floors(advice: Advice) -> list[Fact]:
    """What needs no fine-tuning scores, the best first, and what that asks of an arm."""
    of = unit(advice)
    rows = sorted((row for row in floors_of(advice) if row.scores), key=lambda row: -of["better"] * mean(row))
    if not rows:
        return [Fact("no_floors", "No floor has been scored.")]
    listed = words.listed([f"{row.label} {words.number(mean(row), of)}" for row in rows])
    less = ", lower is better" if of["better"] < 0 else ""
    return [Fact("floors", f"Without fine-tuning ({of['metric_axis']}{less}): {listed}. An arm must beat {rows[0].label}.",
                 numbers={row.label: mean(row) for row in rows})]


def race(advice: Advice) -> list[Fact]:
    """Who raced, who went on to the finals, and which trainings went wrong."""
    table = runs(advice)
    if table.empty:
        return [Fact("no_race", "Nothing has been raced.")]
    first = table[table["rung"] == 0]
    rates = first.groupby("arm", sort=False)["rate"].nunique().max()
    shortest, *longer = sorted(set(table["steps"]))
    raced = f"{words.counted(first['arm'].nunique(), 'arm')} raced at {words.counted(int(rates), 'rate')} each"
    then = f", then each at its best rate over {words.listed([f'{steps:,}' for steps in longer])}" if longer else ""
    facts = [Fact("race", f"{raced} over {shortest:,} steps{then}.", numbers={"trainings": len(table)})]
    finalists = [row for row in arms(advice) if row.finalist]
    if listed := [words.arm(row.label) + (f" at {row.rate:g}" if row.rate else "") for row in finalists]:
        facts.append(Fact("finalists", f"In the finals: {words.listed(listed, 8)}; {advice.steps:,} steps a training.",
                          numbers={"steps": advice.steps}))
    if len(lost := table[table["status"] != "ok"]):
        names = [f"of {words.arm(arm)} {count}" for arm, count in lost.groupby("arm", sort=False).size().items()]
        facts.append(Fact("not_ok", f"{len(lost)} of the race's {words.counted(len(table), 'training')} collapsed or "
                          f"diverged: "
                          f"{words.listed(names, 6)}.", numbers={"not_ok": len(lost)}))
    return facts


def cost(advice: Advice) -> list[Fact]:
    """How many parameters each finalist trains, the fewest first: what a model of one's own takes to store."""
    rows = sorted((row for row in arms(advice) if row.finalist and row.trained), key=lambda row: row.trained or 0)
    listed = [f"{words.arm(row.label)} {row.trained:,}" for row in rows]
    return [Fact("cost", f"Parameters that are trained: {words.listed(listed, 8)}.",
                 numbers={row.label: row.trained for row in rows})] if rows else []


def elapsed(advice: Advice) -> list[Fact]:
    """What it took in seconds, by stage, and what one training of each finalist takes: nothing that a notebook stores."""
    facts = []
    if advice.spent:
        stages = [f"{stage} {seconds:.1f} s" for stage, seconds in advice.spent.items()]
        given, spent = words.counted(round(60 * advice.minutes), "second"), sum(advice.spent.values())
        facts.append(Fact("spent", f"Of {given} its stages took {spent:.1f} s: {words.listed(stages, 9)}. What had a record "
                          "was read: what it took then is not counted.",
                          numbers=dict(advice.spent)))
    timed = [row for row in arms(advice) if row.seconds and row.finalist]
    if took := [f"{words.arm(row.label)} {row.seconds:.3g} s" for row in timed]:
        facts.append(Fact("seconds", f"One training of the finals takes, by the pace of all the arm's runs, about: "
                          f"{words.listed(took, 8)}."))
    return facts


def use(advice: Advice) -> list[Fact]:
    """Where the model is, and what opens it."""
    folder, kind = advice.model.get("folder"), advice.model.get("kind")
    if not folder:
        return [Fact("no_model", f"There is no model yet. {AGAIN}")]
    choice = advice.decision.choice if advice.decision else ""
    floor = "It is the floor: no encoder was tuned." if advice.model.get("choice") == choice else \
        f"It is the best floor: nothing of {words.arm(choice)} was trained to its end. {AGAIN}"
    opens = {"transformers": "Plain `transformers` opens it, and so does this project.",
             "floor": f"{floor} This project opens it."}
    short = Path(folder).relative_to(paths.REPO) if Path(folder).is_relative_to(paths.REPO) else folder
    return [Fact("model", f"The model is in `{short}`. {opens.get(kind or '', 'This project opens it.')}", {"kind": kind})]


def lines(advice: Advice) -> dict[str, str]:
    """Code that uses the model, by what one has in front of oneself."""
    folder = advice.model.get("folder", "")
    return card.uses(advice, folder, advice.model.get("kind", "")) if folder else {}
