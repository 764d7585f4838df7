"""What arms cost: their lines, tables, figures and facts; arms beside a study's own; what it takes to keep a model."""



import made
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from studykit import methods, study
from studykit.evidence import costs, stats
from studykit.study import keeping
from studykit.study.arms import Arm
from studykit.telling import facts, plots, style

matplotlib.use("agg")

ARMS = {  # label -> method, options, parameters besides the head, mean score
    "full": ("full", "", 400_000, 74), "bitfit": ("bitfit", "", 3_500, 71), "head": ("head", "", 0, 60),
    "adapter": ("adapter", "bottleneck=16", 30_000, 78), "adapter 64": ("adapter", "bottleneck=64", 110_000, 78.2),
    "pfeiffer": ("adapter", "bottleneck=16, placement=pfeiffer", 15_000, 76), "lora": ("lora", "", 12_000, 77.5),
    "lora 1": ("lora", "rank=1", 1_500, 70), "wide lora": ("lora", "rank=1, roles=('query', 'key')", 3_000, 72)}
SEEDS = 4


def table(sign=1, arms=ARMS, tasks=("essays",), metric="accuracy", **options):
    """A table of runs in which scores are as above, or, with ``sign`` -1, the other way round."""
    rng = np.random.default_rng(0)
    scores = {(task, arm): list(70 + sign * (arms[arm][3] - 70) + rng.normal(0, 0.3, SEEDS))
              for task in tasks for arm in arms}
    runs = made.table(scores, metric=metric, **options)
    for arm, (method, given, besides, _) in arms.items():
        own = runs["arm"] == arm
        runs.loc[own, ["method", "options"]] = method, given
        runs.loc[own, "trained"] = besides + runs["head"]
        runs.loc[own, "train_seconds"] = 2.0 + besides / 1e6 + 0.1 * runs["seed"]
        runs.loc[own, "peak_mb"] = 600.0 + besides / 1e4
    return runs



@pytest.fixture(params=[1, -1], ids=["as it is", "reversed"])
def runs(request):
    return table(request.param)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


# Evidence

def test_sizes_of_one_kind_are_one_line(runs):
    assert costs.lines(runs) == {"full": "full", "bitfit": "bitfit", "head": "head", "adapter": "adapter",
                                 "adapter 64": "adapter", "pfeiffer": "pfeiffer", "lora": "lora", "lora 1": "lora",
                                 "wide lora": "wide lora"}


def test_a_row_an_arm_with_what_it_costs(runs):
    kept = pd.DataFrame({"arm": ["full", "head"], "file_mb": [1.8, 0.1]})
    found = costs.by_arm(runs, kept, pd.DataFrame({"arm": ["full"], "step_ms": [12.0]})).set_index("arm")
    assert list(found["besides"]) == sorted(besides for *_, besides, _ in ARMS.values())
    own = runs[runs["arm"] == "full"]
    assert found.loc["full", "train_seconds"] == pytest.approx(own["train_seconds"].mean())
    assert found.loc["full", "step_ms"] == 12 and np.isnan(found.loc["head", "step_ms"])
    assert found.loc["full", "memory_mb"] == pytest.approx(600 + 40 - 500)
    assert tuple(found.loc["full", ["score", "low", "high"]]) == pytest.approx(
        stats.mean_interval(own["score"], bounds=(0, 100)))
    _, low, high = stats.mean_interval(own["train_seconds"])
    assert tuple(found.loc["full", ["train_low", "train_high"]]) == pytest.approx((low, high))
    assert found["file_mb"].to_dict() == pytest.approx({arm: {"full": 1.8, "head": 0.1}.get(arm, np.nan) for arm in ARMS},
                                                       nan_ok=True)


def test_seconds_of_a_clock_are_those_of_tokens(runs):
    timed = costs.on_clock(runs, {("essays", "full"): 1e-4, ("letters", "head"): 1.0})
    own = timed["arm"] == "full"
    assert timed.loc[own, "train_seconds"].tolist() == pytest.approx([4.0] * SEEDS)
    assert timed.loc[~own, "train_seconds"].isna().all()


def test_a_step_of_a_clock_is_the_sum_of_its_parts():
    paces = [{"arm": "full", "forward_ms": 1.0, "backward_ms": 2.5, "update_ms": 0.5}]
    assert costs.steps(paces).to_dict("records") == [{"arm": "full", "step_ms": 4.0}]
    assert list(costs.steps([])) == ["arm", "step_ms"]


# Figures

FIGURES = (plots.score_by_parameters, plots.score_by_training_time)


@pytest.mark.parametrize("figure", FIGURES)
def test_every_run_and_arm_is_in_the_figure(figure, runs):
    (ax,) = figure(runs, "tiny: tiny-bert").axes
    dots = np.concatenate([dot.get_offsets() for dot in ax.collections
                           if isinstance(dot, matplotlib.collections.PathCollection)])
    assert sorted(dots[:, 1]) == pytest.approx(sorted(runs["score"]))
    labels = {text.get_text(): text.get_color() for text in ax.texts}
    assert labels.keys() == set(ARMS)
    assert labels["adapter"] == labels["adapter 64"] == style.STYLE[3][0] != labels["pfeiffer"]
    assert labels["full"] == style.STYLE[0][0]


@pytest.mark.parametrize("figure", FIGURES)
def test_labels_do_not_lie_on_one_another(figure, runs):
    fig = figure(runs)
    fig.canvas.draw()
    boxes = [text.get_window_extent() for text in fig.axes[0].texts]
    shared = [one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i]]
    assert sum(shared) == 0


@pytest.mark.parametrize("figure", FIGURES)
def test_one_arm_that_is_far_off_flattens_no_panel_and_stands_at_its_edge_with_its_mean(figure, runs):
    far = runs.assign(score=runs["score"].where(runs["arm"] != "head", 20.0))
    (ax,) = figure(far).axes
    assert ax.get_ylim()[0] > 50
    assert "head: 20.0" in {text.get_text() for text in ax.texts}


def test_a_line_leads_to_a_label_that_stands_off_its_mark():
    crowd = {f"adapter {k}": ("adapter", f"bottleneck={k}", 1000 + k, 70.0) for k in range(1, 9)} | {"full": ARMS["full"]}
    (ax,) = plots.score_by_parameters(table(arms=crowd)).axes
    leaders = [line for line in ax.lines if line.get_linewidth() == 0.4]
    off = [text for text in ax.texts if text.get_text() in crowd and abs(text.get_position()[1]) > 20]
    assert len(leaders) == len(off) > 0


def test_runs_that_no_clock_times_are_left_out(runs):
    (ax,) = plots.score_by_training_time(costs.on_clock(runs, {("essays", "full"): 1e-4, ("essays", "head"): 1e-5})).axes
    assert {text.get_text() for text in ax.texts} == {"full", "head"}
    with pytest.raises(ValueError, match="there is nothing to draw"):
        plots.score_by_training_time(costs.on_clock(runs, {}))


def test_arms_that_train_the_head_alone_have_a_place_of_their_own(runs):
    (ax,) = plots.score_by_parameters(runs).axes
    ticks = dict(zip([tick.get_text() for tick in ax.get_xticklabels()], ax.get_xticks(), strict=True))
    assert ax.get_xscale() == "log" and ticks["none"] < 1_500 and ticks["10,000"] == pytest.approx(10_000)
    alone = {arm: value for arm, value in ARMS.items() if arm != "head"}
    (ax,) = plots.score_by_parameters(table(arms=alone)).axes
    assert "none" not in [tick.get_text() for tick in ax.get_xticklabels()]


def test_a_study_of_heads_alone_can_be_drawn():
    (ax,) = plots.score_by_parameters(table(arms={"head": ARMS["head"]})).axes
    assert "none" in [tick.get_text() for tick in ax.get_xticklabels()]


def test_an_interval_stays_within_the_metric():
    near = {arm: (*ARMS[arm][:3], 99.8) for arm in ("full", "lora")}
    (ax,) = plots.score_by_training_time(table(arms=near)).axes
    tops = [segment[:, 1].max() for lines in ax.collections if isinstance(lines, matplotlib.collections.LineCollection)
            for segment in lines.get_segments()]
    assert max(tops) <= 100


@pytest.mark.parametrize("figure", FIGURES)
def test_several_tasks_have_a_panel_each_and_a_key(figure):
    fig = figure(table(tasks=("essays", "letters")))
    assert len(fig.axes) == 2 and len(fig.legends) == 1


def test_more_kinds_than_can_be_told_apart_are_refused():
    many = {f"last {k}": ("last_k", f"drop={k}", 1000 * k, 70) for k in range(1, 14)}
    with pytest.raises(ValueError, match="a figure tells 12 kinds of arms apart, got 13: leave some out"):
        plots.score_by_parameters(table(arms=many))


# Facts

def test_what_is_told_of_the_best_arm_is_so(runs):
    (fact,) = facts.frugal(runs)
    means = runs.groupby("arm")["score"].mean()
    best = means.idxmax()
    assert fact.about["best"] == best and f"`{best}` has the best mean, {means[best]:.1f}" in fact.sentence
    gaps = stats.paired_gaps(runs, best, by=["task"])
    level = {best, *gaps.loc[[facts.verdict(row) != "behind" for row in gaps.to_dict("records")], "arm"]}
    assert fact.numbers["level"] == len(level) and fact.about["few"] in level and set(fact.about["quick"]) <= level
    assert fact.numbers["besides"] == min(ARMS[arm][2] for arm in level)


def test_arms_whose_times_a_clock_cannot_tell_apart_are_quickest_together(runs):
    seconds = dict(zip(runs["arm"].unique(), (100.0, 109, 111, 150), strict=False))
    table = runs.assign(score=80.0, train_seconds=runs["arm"].map(seconds).fillna(200.0))
    (fact,) = facts.frugal(table)
    assert fact.about["quick"] == list(seconds)[1::-1] and fact.sentence.endswith("are quickest (within 10 %).")


def test_less_is_better_where_the_metric_says_so():
    (fact,) = facts.frugal(table(metric="mean_absolute_error"))
    assert fact.about["best"] == "head"


def test_an_arm_that_all_others_are_behind_stands_alone():
    (fact,) = facts.frugal(table(arms={arm: ARMS[arm] for arm in ("head", "adapter")}))
    assert fact.sentence == "On essays `adapter` has the best mean, 78.2, and all other arms are shown behind it."


def test_an_arm_by_itself_is_ahead_of_none():
    (fact,) = facts.frugal(table(arms={"head": ARMS["head"]}))
    assert fact.sentence.endswith("and no other arm is there.")


def steps_of(*arms):
    """A clock's table: a step takes a millisecond more with each arm."""
    return pd.DataFrame({"arm": arms, "step_ms": np.arange(1.0, 1 + len(arms))})


def test_what_took_most_and_least_is_told(runs):
    steps, memory = facts.spent(costs.by_arm(runs, steps_of("head", "lora", "full")))
    assert (steps.about, memory.about) == ({"most": "full", "least": "head"},) * 2
    assert memory.sentence == ("Memory beyond the process's own: most with `full`, 140 MB; least with `head`, 100 MB.")


def test_without_a_clock_the_quickest_run_of_an_arm_tells_its_seconds(runs):
    slow = runs.assign(train_seconds=runs["train_seconds"] * (1 + 5 * (runs["seed"] > runs["seed"].min())))
    found = costs.by_arm(costs.quickest(slow)).set_index("arm")
    least = runs[runs["seed"] == runs["seed"].min()].set_index("arm")["train_seconds"]
    assert found["train_seconds"].to_dict() == pytest.approx(least.to_dict())


def test_memory_is_not_told_apart_where_runs_of_one_arm_differ_as_much(runs):
    noisy = runs.assign(peak_mb=runs["peak_mb"] + 50 * (runs["seed"] == runs["seed"].min()))
    assert facts.spent(costs.by_arm(noisy))[0].sentence == ("Memory beyond the process's own: runs of one arm differ as "
                                                            "much as arms do.")


def test_what_nobody_knows_is_not_told(runs):
    found = costs.by_arm(runs.assign(peak_mb=None), steps_of("head", "full"))
    assert [fact.kind for fact in facts.spent(found)] == ["step_ms"]
    assert [fact.kind for fact in facts.spent(costs.by_arm(runs))] == ["memory_mb"]
    (fact,) = facts.frugal(costs.on_clock(runs, {}))
    assert "quickest" not in fact.sentence and not fact.about["quick"]


def test_what_is_kept_is_told():
    kept = pd.DataFrame({"arm": ["full", "bitfit"], "file_mb": [2.0, 0.1], "load_ms": [200.0, 100.0],
                         "switch_ms": [20.0, 10.0]})
    assert [fact.sentence for fact in facts.kept(kept)] == [
        "The file to keep is largest for `full`, 2 MB, and smallest for `bitfit`, 0.1 MB: a factor of 20.",
        "Loading encoder and file takes 150 ms, switching in memory 15 ms (medians over arms)."]


@pytest.mark.parametrize("tell", [facts.frugal, facts.spent, facts.kept])
def test_nothing_is_told_of_nothing(tell):
    empty = costs.by_arm(table()).head(0) if tell is facts.spent else table().head(0)
    assert tell(empty)[0].kind in ("empty", "untold")


def test_sizes_are_told_beside_one_of_them(runs):
    gaps = stats.paired_gaps(runs, "adapter")
    (fact,) = facts.beside(gaps)
    for row in gaps.to_dict("records"):
        assert fact.numbers[row["arm"]] == facts.verdict(row) and f"`{row['arm']}`" in fact.sentence
    assert fact.sentence.startswith(f"Against `adapter` on essays, {SEEDS} pairs of runs each, ")
    (head,) = gaps[gaps["arm"] == "head"].to_dict("records")
    kind, low, high = ("behind", -head["high"], -head["low"]) if head["gap"] < 0 else ("ahead", head["low"], head["high"])
    told = f"`head` by {abs(head['gap']):.1f} points ({low:.1f} to {high:.1f})"
    assert told in fact.sentence and fact.sentence.index(f"{kind}: ") < fact.sentence.index(told)
    assert facts.beside(gaps.head(0))[0].kind == "empty"


# A study with more arms, and what it takes to keep them

def sizes(*numbers, **options):
    return [Arm(label=f"adapter {number}", method="adapter", options={"bottleneck": number, **options}, rates=[3e-3, 1e-2])
            for number in numbers]


def test_more_arms_come_after_the_study_s_own(tiny_study):
    wider = tiny_study.with_arms(sizes(4, 64))
    assert list(wider.arms) == [*tiny_study.arms, "adapter 4"]  # 64 units are what adapter has by itself
    assert wider.baseline == tiny_study.baseline and list(tiny_study.arms) == ["full", "bitfit", "adapter", "head"]
    runs = [one.plan("cola", "adapter", rates=1e-2) for one in (tiny_study, wider)]
    assert runs[0] == runs[1]  # whose records are shared


@pytest.mark.parametrize("more, message", [
    ([Arm(label="full", method="adapter", rates=[1e-3, 1e-2], options={"bottleneck": 4})], "different labels, got full"),
    ([Arm(label="lora", rates=[1e-3])], "different numbers of rates")])
def test_arms_that_would_not_be_fair_or_told_apart_are_refused(more, message, tiny_study):
    with pytest.raises(ValueError, match=message):
        tiny_study.with_arms(more)


def test_rates_are_chosen_from_what_is_on_record_alone(tiny_study, monkeypatch):
    assert tiny_study.choose_rates("cola", train=False)[0] == {}
    chosen, trials = tiny_study.choose_rates("cola", "bitfit")
    monkeypatch.setattr(study.Study, "execute", None)
    found, read = tiny_study.choose_rates("cola", train=False)
    assert found == chosen and sorted(read["key"]) == sorted(trials["key"])


def test_what_it_takes_to_keep_a_model(tiny_study):
    kept = keeping.measure(tiny_study, "cola").set_index("arm")
    assert list(kept.index) == list(tiny_study.arms)
    for label, arm in tiny_study.arms.items():
        from studykit.models import encoders

        model = methods.apply(arm.method, encoders.load(tiny_study.encoder_at, pooler="new"), **dict(arm.options))
        bytes_ = 4 * methods.counts(model)["trained"]
        assert bytes_ < 1e6 * kept.loc[label, "file_mb"] < bytes_ + 12_000  # names and shapes beside the numbers
    assert (kept[["load_ms", "switch_ms"]] > 0).all(axis=None)
    assert kept.loc["full", "file_mb"] > kept.loc["adapter", "file_mb"] > kept.loc["head", "file_mb"]
