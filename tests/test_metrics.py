"""Metrics against scikit-learn and SciPy, on all examples and on resamples written out row by row."""

import json
import warnings

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from studykit.tasks import KNOWN, Metric, Task, known
from studykit.tasks.metrics import written
from studykit.tasks.packing import packed, unpacked

LIBRARY = {  # name -> the same by hand from the library: of labels and answers; with two classes, of class 1
    "accuracy": sklearn.metrics.accuracy_score,
    "balanced_accuracy": sklearn.metrics.balanced_accuracy_score,
    "f1": lambda labels, answers: sklearn.metrics.f1_score(labels == 1, answers == 1, zero_division=0),
    "macro_f1": lambda labels, answers: sklearn.metrics.f1_score(labels, answers, average="macro", zero_division=0),
    "matthews_correlation": sklearn.metrics.matthews_corrcoef,
    "roc_auc": lambda labels, answers: _one_by_one(sklearn.metrics.roc_auc_score, labels, answers),
    "average_precision": lambda labels, answers: _one_by_one(sklearn.metrics.average_precision_score, labels, answers),
    "pearson": lambda labels, answers: scipy.stats.pearsonr(labels, answers).statistic,
    "spearmanr": lambda labels, answers: scipy.stats.spearmanr(labels, answers).statistic,
    "r2": sklearn.metrics.r2_score,
    "mean_absolute_error": sklearn.metrics.mean_absolute_error,
}
ONLY_TWO = ("f1",)
CASES = [(name, classes) for name in KNOWN for classes in ((0,) if KNOWN[name][1] == "values" else (2, 4))]


def _one_by_one(score, labels, answers):
    kinds = [1] if answers.shape[1] == 2 else np.unique(labels)
    return np.mean([score(labels == kind, answers[:, kind]) for kind in kinds])


def drawn(metric: Metric, classes: int, runs: int, examples: int, seed: int = 0):
    """``(labels, answers)``: runs that are right more often than not, with ties, of the kind that the metric reads."""
    rng = np.random.default_rng(seed)
    if metric.reads == "values":
        labels = rng.integers(0, 6, examples) / 2
        return labels, np.round(labels + rng.normal(0, 1, (runs, examples)), 1)
    labels = rng.permutation(np.arange(examples) % classes)
    if metric.reads == "classes":
        return labels, np.where(rng.random((runs, examples)) < 0.4, rng.integers(0, classes, (runs, examples)), labels)
    shares = rng.dirichlet(np.ones(classes), (runs, examples))
    shares[:, np.arange(examples), labels] += 0.3
    return labels, np.round(shares / shares.sum(2, keepdims=True), 2)


@pytest.mark.parametrize("name, classes", CASES)
def test_a_score_is_the_library_s(name, classes):
    metric = known(name)
    labels, answers = drawn(metric, classes, 3, 50)
    assert set(LIBRARY) == set(KNOWN)
    for run in answers:
        assert metric.score(labels, run) == pytest.approx(LIBRARY[name](labels, run))
        low, high = metric.range
        assert low <= metric.score(labels, run) <= high


@pytest.mark.parametrize("name, classes", CASES)
def test_resampled_scores_are_the_library_s_on_the_examples_written_out(name, classes):
    """Among the resamples: each example once, one example alone, one class alone; among the runs: perfect and constant ones.
    Where the library has no score, the metric's chance stands for it."""
    metric, rng = known(name), np.random.default_rng(1)
    labels, answers = drawn(metric, classes, 3, 24)
    perfect = np.eye(max(classes, 1))[labels.astype(int)] if metric.reads == "probabilities" else labels
    answers = np.concatenate([answers, [perfect, np.broadcast_to(answers[0, 0], perfect.shape)]])
    weights = np.vstack([rng.multinomial(24, np.full(24, 1 / 24), size=12), np.ones(24, int), 24 * np.eye(24, dtype=int)[:3],
                         2 * (labels == labels[0]), 3 * (labels != labels[0])])
    found = metric.resampled(labels, answers, weights)
    assert found.shape == (len(weights), len(answers))
    for counts, scores in zip(weights, found, strict=True):
        for run, score in zip(answers, scores, strict=True):
            true, said = np.repeat(labels, counts), np.repeat(run, counts, axis=0)
            assert score == pytest.approx(_or_chance(metric, true, said, labels), abs=1e-9)
    assert found[12] == pytest.approx([_or_chance(metric, labels, run, labels) for run in answers])


def _or_chance(metric, true, said, labels):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if metric.name in ("roc_auc", "average_precision") and len(np.unique(true)) < 2:
            return metric.chance(labels)
        if metric.name == "r2" and len(np.unique(true)) < 2:  # scikit-learn has none of one row
            return float(np.array_equal(true, said))
        score = LIBRARY[metric.name](true, said) if len(true) > 1 else np.nan
    return 0.0 if np.isnan(score) else score


@pytest.mark.parametrize("name, classes", [("accuracy", 77), ("macro_f1", 77), ("matthews_correlation", 3), ("roc_auc", 2),
                                           ("spearmanr", 0), ("pearson", 0), ("r2", 0)])
def test_working_in_small_blocks_changes_nothing(name, classes, monkeypatch):
    from studykit.tasks import resampling

    metric = known(name)
    labels, answers = drawn(metric, classes, 5, 200)
    weights = np.random.default_rng(2).multinomial(200, np.full(200, 1 / 200), size=60).astype(np.uint16)
    whole, p = metric.resampled(labels, answers, weights), metric.p_shuffled(labels, answers[0], 99)
    monkeypatch.setattr(resampling, "BLOCK", 1000)
    assert metric.resampled(labels, answers, weights) == pytest.approx(whole, abs=1e-12)
    assert metric.p_shuffled(labels, answers[0], 99) == p


@pytest.mark.parametrize("name, expected", [
    ("accuracy", 3 / 4), ("f1", 2 * 2 / (2 * 2 + 1)), ("matthews_correlation", 2 / 12 ** 0.5),
    ("balanced_accuracy", (2 / 3 + 1) / 2), ("macro_f1", (4 / 5 + 2 / 3) / 2)])
def test_resampled_scores_by_hand(name, expected):
    """Two right positives, a missed one, no false one, one right negative."""
    (found,), = known(name).resampled([1, 1, 0, 0], [[1, 0, 1, 0]], [[2, 1, 0, 1]])
    assert found == pytest.approx(expected)


def test_a_resampled_correlation_by_hand():
    """1, 2, 2, 4 beside 1, 3, 3, 5: products of deviations add up to 6, squares to 4.75 and 8."""
    (found,), = known("pearson").resampled([1, 3, 5], [[1, 2, 4]], [[1, 2, 1]])
    assert found == pytest.approx(6 / 38 ** 0.5)


@pytest.mark.parametrize("name, classes", CASES)
def test_chance_is_the_best_of_all_constant_answers(name, classes):
    metric, rng = known(name), np.random.default_rng(3)
    labels = rng.choice(classes, 60, p=rng.dirichlet(np.ones(classes) * 3)) if classes else rng.exponential(2, 60)
    if metric.reads == "classes":
        constants = [np.full(60, kind) for kind in range(classes)]
    elif metric.reads == "values":
        constants = [np.full(60, value) for value in (*np.linspace(0, labels.max(), 400), labels.mean(), np.median(labels))]
    else:
        constants = [np.tile(shares, (60, 1)) for shares in rng.dirichlet(np.ones(classes), 50)]
    scores = [metric.sign * metric.score(labels, answers) for answers in constants]
    best = 0.0 if metric.correlation else metric.sign * np.nanmax(scores)
    assert metric.chance(labels) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("name, bounds, better", [
    ("max_error", [0, "inf"], "less"), ("mean_pinball_loss", [0, "inf"], "less"),
    ("explained_variance_score", ["-inf", 1], "more")])
def test_chance_of_another_library_metric_tries_constants_between_the_labels(name, bounds, better):
    options = {"alpha": 0.9} if name == "mean_pinball_loss" else {}
    metric = known(f"sklearn.metrics.{name}", range=[float(end) for end in bounds], better=better, reads="values", **options)
    labels = np.random.default_rng(4).exponential(2, 101)
    scores = [metric.score(labels, np.full(101, value)) for value in np.linspace(labels.min(), labels.max(), 500)]
    best = max(scores) if better == "more" else min(scores)
    assert metric.chance(labels) == pytest.approx(best, rel=0.01)


@pytest.mark.parametrize("name, classes", [
    ("accuracy", 2), ("f1", 2), ("matthews_correlation", 2), ("macro_f1", 4), ("pearson", 0), ("spearmanr", 0),
    ("roc_auc", 2), ("mean_absolute_error", 0)])
def test_p_shuffled_is_uniform_without_an_effect_and_small_with_one(name, classes):
    metric, rng, values = known(name), np.random.default_rng(5), []
    labels, answers = drawn(metric, classes, 1, 80)
    for _ in range(100):
        values.append(metric.p_shuffled(labels, answers[0][rng.permutation(80)], shuffles=99))
    assert np.mean(np.array(values) <= 0.05) <= 0.12 and 0.38 < np.mean(values) < 0.64
    assert metric.p_shuffled(labels, answers[0]) == 1 / 1000
    constant = np.broadcast_to(answers[0, 0], answers[0].shape)
    assert metric.p_shuffled(labels, constant, shuffles=99) == 1.0


def test_p_shuffled_is_the_share_of_shuffles_that_score_as_well():
    labels, answers = np.array([0, 0, 1, 1, 1, 0]), np.array([0, 1, 1, 1, 0, 0])
    rng, own = np.random.default_rng(0), sklearn.metrics.matthews_corrcoef(labels, answers)
    orders = rng.permuted(np.tile(np.arange(6), (99, 1)), axis=1)
    others = np.array([sklearn.metrics.matthews_corrcoef(labels, answers[order]) for order in orders])
    assert known("matthews_correlation").p_shuffled(labels, answers, 99) == (1 + np.sum(others >= own - 1e-9)) / 100


@pytest.mark.parametrize("name", ["pearson", "spearmanr", "r2", "mean_absolute_error"])
@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_the_unit_of_the_labels_changes_no_resampled_score_and_no_p_value(name, unit):
    metric = known(name)
    labels, answers = drawn(metric, 0, 2, 60)
    weights = np.random.default_rng(7).multinomial(60, np.full(60, 1 / 60), size=20)
    scale = unit if name == "mean_absolute_error" else 1
    assert metric.resampled(unit * labels, unit * answers, weights) == pytest.approx(
        scale * metric.resampled(labels, answers, weights), rel=1e-6)
    assert metric.p_shuffled(unit * labels, unit * answers[0]) == metric.p_shuffled(labels, answers[0]) == 1 / 1000


@pytest.mark.parametrize("value, title, positive, reads", [
    ("accuracy", "accuracy", 1, "classes"), ({"f1": {"of": "urgent"}}, "F1 of urgent", 1, "classes"),
    ({"f1": {"title": "my F1"}}, "my F1", 1, "classes"),
    ({"roc_auc": {"of": "urgent"}}, "area under the ROC curve of urgent", 1, "probabilities"),
    ({"sklearn.metrics.fbeta_score": {"beta": 2, "average": "macro", "range": [0, 1]}}, "fbeta score", 1, "classes"),
    ({"scipy.stats.kendalltau": {"range": [-1, 1]}}, "kendalltau", 1, "values")], ids=str)
def test_a_metric_as_it_is_written(value, title, positive, reads):
    metric = written(value)
    assert (metric.title, metric.positive, metric.reads) == (title, positive, reads)
    assert written(metric) is metric and hash(metric)
    kept = written(json.loads(json.dumps(metric.model_dump(mode="json"))))  # as a record holds it
    assert kept == metric and hash(kept) == hash(metric)


def test_units_and_signs():
    assert (known("f1").factor, known("f1").axis, known("f1").sign) == (100, "F1 × 100", 1)
    error = known("mean_absolute_error")
    assert (error.factor, error.axis, error.sign) == (1, "mean absolute error", -1)
    assert known("mean_absolute_error", range=[0, 1]).factor == 100 and known("r2").factor == 1
    assert known("pearson").correlation and known("spearmanr").correlation
    assert not known("r2").correlation and not known("matthews_correlation").correlation
    assert known("scipy.stats.kendalltau", range=[-1, 1]).correlation
    assert not known("scipy.stats.wasserstein_distance", range=[0, float("inf")], better="less").correlation


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name, options, library", [
    ("fbeta_score", {"beta": 2, "average": "macro"},
     lambda *pair: sklearn.metrics.fbeta_score(*pair, beta=2, average="macro")),
    ("cohen_kappa_score", {"weights": "linear"}, lambda *pair: sklearn.metrics.cohen_kappa_score(*pair, weights="linear")),
    ("hamming_loss", {"better": "less"}, sklearn.metrics.hamming_loss)])
def test_any_metric_of_scikit_learn_by_name(name, options, library, classes):
    bounds = [-1, 1] if name == "cohen_kappa_score" else [0, 1]
    metric = known(f"sklearn.metrics.{name}", range=bounds, **options)
    metric.check(classes)
    labels, answers = drawn(metric, classes, 2, 40)
    weights = np.random.default_rng(6).multinomial(40, np.full(40, 1 / 40), size=5)
    assert metric.score(labels, answers[0]) == pytest.approx(library(labels, answers[0]))
    expected = [[library(np.repeat(labels, counts), np.repeat(run, counts)) for run in answers] for counts in weights]
    assert metric.resampled(labels, answers, weights) == pytest.approx(np.array(expected))
    assert metric.p_shuffled(labels, answers[0]) < 0.05 and metric.p_shuffled(labels, labels) == 1 / 200
    assert metric.chance(labels) == pytest.approx(metric.sign * max(
        metric.sign * library(labels, np.full(40, kind)) for kind in range(classes)))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name, better", [("log_loss", "less"), ("roc_auc_score", "more")])
def test_metrics_of_probabilities_by_name(name, better, classes):
    options = {"multi_class": "ovr"} if name == "roc_auc_score" else {}
    metric = known(f"sklearn.metrics.{name}", range=[0, float("inf")], reads="probabilities", better=better, **options)
    metric.check(classes)
    labels, answers = drawn(metric, classes, 2, 40)
    answers = (answers + 0.01) / (1 + 0.01 * classes)
    answers /= answers.sum(2, keepdims=True)
    given = answers[0][:, 1] if classes == 2 else answers[0]
    assert metric.score(labels, answers[0]) == pytest.approx(getattr(sklearn.metrics, name)(labels, given, **options))
    shares = np.bincount(labels) / 40
    entropy = scipy.stats.entropy(shares)
    assert metric.chance(labels) == pytest.approx(entropy if name == "log_loss" else 0.5)
    one_class = 40 * np.eye(40, dtype=int)[:2]  # of which the library has no area, but a loss
    expected = (-np.log(answers[:, [0, 1], labels[:2]]).T if name == "log_loss" else metric.chance(labels))
    assert metric.resampled(labels, answers, one_class) == pytest.approx(expected)
    assert metric.p_shuffled(labels, answers[0]) <= 0.01


def test_a_metric_of_a_class_is_about_that_class_against_the_rest():
    labels, shares = drawn(known("roc_auc"), 3, 1, 60)
    answers = shares[0].argmax(1)
    two = {"of": "third", "positive": 2}
    assert known("f1").model_copy(update=two).score(labels, answers) == pytest.approx(
        sklearn.metrics.f1_score(labels == 2, answers == 2))
    for name in ("roc_auc", "average_precision"):
        metric = known(name).model_copy(update=two)
        expected = getattr(sklearn.metrics, f"{name}_score")(labels == 2, shares[0][:, 2])
        assert metric.score(labels, shares[0]) == pytest.approx(expected)
        assert metric.resampled(labels, shares, np.ones((1, 60), int))[0, 0] == pytest.approx(expected)
    recall = known("sklearn.metrics.recall_score", range=[0, 1], of="third")
    assert recall.title == "recall score of third"
    assert recall.model_copy(update=two).score(labels, answers) == pytest.approx(
        sklearn.metrics.recall_score(labels == 2, answers == 2))


def test_any_statistic_of_scipy_by_name():
    labels, answers = drawn(known("pearson"), 0, 1, 30)
    tau = known("scipy.stats.kendalltau", range=[-1, 1])
    assert tau.score(labels, answers[0]) == pytest.approx(scipy.stats.kendalltau(answers[0], labels).statistic)
    assert np.isnan(tau.score(labels, np.ones(30))) and tau.chance(labels) == 0
    distance = known("scipy.stats.wasserstein_distance", range=[0, float("inf")], better="less")
    assert distance.score(labels, answers[0]) == pytest.approx(scipy.stats.wasserstein_distance(answers[0], labels))


def test_an_unknown_metric_never_falls_into_another_s_formula(monkeypatch):
    """Names that contain a known one are computed by their own function, one resample after another."""
    labels, answers = drawn(known("accuracy"), 2, 2, 30)
    weights = np.ones((3, 30), int)
    for name, library in (("sklearn.metrics.f1_score", sklearn.metrics.f1_score),
                          ("sklearn.metrics.balanced_accuracy_score", sklearn.metrics.balanced_accuracy_score),
                          ("sklearn.metrics.zero_one_loss", sklearn.metrics.zero_one_loss)):
        metric = known(name, range=[0, 1])
        expected = [library(labels, run) for run in answers]
        assert metric.resampled(labels, answers, weights) == pytest.approx(np.array([expected] * 3))
    made_up = Metric(name="accuracy_of_mine", title="mine", reads="classes", range=(0, 1))
    with pytest.raises(ValueError, match="metric accuracy_of_mine gives no number here"):
        made_up.score(labels, answers[0])


@pytest.mark.parametrize("value, message", [
    ("acuracy", "unknown metric 'acuracy': choose from accuracy, "),
    ("os.system", "unknown metric 'os.system': choose from "),
    ("sklearn.metrics.f2_score", "sklearn.metrics has no f2_score: see its documentation"),
    ("sklearn.metrics.fbeta_score", "needs its range, such as range: [0, 1]"),
    ({"sklearn.metrics.f1_score": {"range": [1, 0]}}, "range: a range goes from the lowest score to the highest, got"),
    ({"sklearn.metrics.f1_score": {"range": [0, 1], "better": "most"}}, "better: Input should be 'more' or 'less', got"),
    ({"sklearn.metrics.f1_score": {"range": [0, 1], "reads": "words"}}, "reads: Input should be"),
    ({"accuracy": {"normalise": True}}, "accuracy has no option normalise: it takes none"),
    ({"f1": {"average": "macro"}}, "f1 has no option average: it takes of, the name of a class"),
    ({"accuracy": {"of": "urgent"}}, "accuracy is about all classes, so it is of no class: leave out of, or choose f1"),
    ({"pearson": {"of": "urgent"}}, "pearson is about a number, so it is of no class"),
    ({"f1": None}, "a metric is a name, or one name with a mapping of options"),
    ({"f1": {}, "accuracy": {}}, "a metric is a name, or one name with a mapping of options"),
    ({"sklearn.metrics.fbeta_score": {"range": [0, 1], "beta": {"a": 1}}}, "options: beta must be a number, text, true"),
    ({"sklearn.metrics.fbeta_score": {"range": [0, 1], 2: 1}}, "options are called by text other than name, got 2"),
    ({"sklearn.metrics.fbeta_score": {"range": [0, 1], "name": "x"}}, "called by text other than name, got 'name'"),
    (["f1"], "a metric is a name"), (3, "a metric is a name")], ids=str)
def test_a_mistake_in_a_metric_is_one_sentence(value, message):
    with pytest.raises(ValueError) as error:
        written(value)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name, options, classes, message", [
    ("fbeta_score", {"beta": 2}, 3, "Target is multiclass but average='binary'"),
    ("fbeta_score", {"beta": 2, "sharpness": 1}, 2, "sharpness"),
    ("confusion_matrix", {}, 2, "gives no number here")])
def test_a_metric_that_has_no_score_for_a_task_is_found_before_anything_trains(name, options, classes, message):
    metric = known(f"sklearn.metrics.{name}", range=[0, 1], **options)
    with pytest.raises(ValueError) as error:
        metric.check(classes)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert known("f1").check(classes) is None


@pytest.mark.parametrize("name, better", [
    ("sklearn.metrics.mean_squared_error", "less"), ("sklearn.metrics.zero_one_loss", "less"),
    ("sklearn.metrics.log_loss", "less"), ("sklearn.metrics.mean_pinball_loss", "less"),
    ("sklearn.metrics.mean_poisson_deviance", "less"), ("scipy.stats.wasserstein_distance", "less"),
    ("evaluate.mse", "less"), ("evaluate.exact_match", "more"), ("sklearn.metrics.d2_log_loss_score", "more"),
    ("sklearn.metrics.fbeta_score", "more")])
def test_less_is_better_where_a_metric_s_name_says_so(name, better):
    assert known(name, range=[0, 9]).better == better
    other = {"more": "less", "less": "more"}[better]
    assert known(name, range=[0, 9], better=other).better == other


def task(metrics, **settings):
    return Task(name="mine", columns=["text"], metrics=metrics, **settings)


def test_what_a_library_s_metric_reads_is_what_the_task_s_answers_are():
    error = {"sklearn.metrics.mean_squared_error": {"range": [0, 1e9]}}
    squared = task([error]).metric
    assert (squared.reads, squared.better) == ("values", "less")
    assert squared.score([1.0, 2.0], [2.0, 4.0]) == 2.5
    kappa = {"sklearn.metrics.cohen_kappa_score": {"range": [-1, 1]}}
    assert task([kappa], labels=["a", "b"]).metric.reads == "classes"
    with pytest.raises(ValueError, match="about classes, but mine has no labels, so it predicts a number: leave out reads"):
        task([{"sklearn.metrics.mean_squared_error": {"range": [0, 9], "reads": "classes"}}])


def test_metrics_of_one_function_have_columns_of_their_own():
    labels = ["a", "b", "c"]
    two = task([{"f1": {"of": "a"}}, {"f1": {"of": "b"}}], labels=labels)
    answers, true = np.array([0, 1, 2, 0, 1, 1]), np.array([0, 1, 2, 1, 1, 0])
    expected = {f"f1 of {name}": sklearn.metrics.f1_score(true == i, answers == i) for i, name in enumerate("ab")}
    assert two.scores(true, answers) == pytest.approx(expected)
    assert [metric.resampled(true, answers[None], np.ones((1, 6), int))[0, 0] for metric in two.metrics] == pytest.approx(
        list(expected.values()))
    fbeta = [{"sklearn.metrics.fbeta_score": {"beta": beta, "average": "macro", "range": [0, 1]}} for beta in (1, 2)]
    columns = task(fbeta, labels=labels).scores(true, answers)
    assert columns == pytest.approx({
        f"sklearn.metrics.fbeta_score (average=macro, beta={beta})": sklearn.metrics.fbeta_score(
            true, answers, beta=beta, average="macro") for beta in (1, 2)})
    assert len({metric.title for metric in task(fbeta, labels=labels).metrics}) == 2
    again = Task(**json.loads(json.dumps(two.model_dump(mode="json"))))
    assert again == two
    assert [metric.name for metric in task(["f1", "accuracy"], labels=["a", "b"]).metrics] == ["f1", "accuracy"]
    with pytest.raises(ValueError, match="f1 of a stands there twice"):
        task([{"f1": {"of": "a"}}, {"f1": {"of": "a"}}], labels=labels)


def test_a_metric_s_class_is_text_as_labels_are():
    assert task([{"f1": {"of": 2}}], labels=[1, 2]).metric.positive == 1
    assert task([{"f1": {"of": 0}}], labels=[0, 1]).metric.positive == 0


@pytest.mark.parametrize("name, options, message", [
    ("mean_squared_log_error", {}, "mean_squared_log_error has no score for answers below zero, which a model may give"),
    ("mean_squared_error", {}, ""), ("r2_score", {}, "")])
def test_a_metric_that_refuses_what_a_model_may_answer_is_found_before_anything_trains(name, options, message):
    written_so = {f"sklearn.metrics.{name}": {"range": [-1e9, 1e9], **options}}
    if not message:
        assert task([written_so]).metric.reads == "values"
        return
    with pytest.raises(ValueError, match=message):
        task([written_so])
    kept = known(f"sklearn.metrics.{name}", range=[0, 9], reads="values").model_dump(mode="json")
    assert task([kept]).metric.function == f"sklearn.metrics.{name}"  # a record of before is read


def test_a_class_that_the_rows_lack_is_no_reason_to_refuse_a_loss():
    loss = known("sklearn.metrics.log_loss", range=[0, float("inf")], reads="probabilities")
    labels, shares = np.array([0, 1, 1, 0]), np.random.default_rng(0).dirichlet(np.ones(3), 4)
    assert loss.score(labels, shares) == pytest.approx(-np.log(shares[range(4), labels]).mean())
    assert loss.score(np.zeros(4, int), shares[:, :2]) == pytest.approx(-np.log(1 - shares[:, 1]).mean())


def test_a_score_outside_its_range_is_an_error_and_no_score():
    error = known("sklearn.metrics.mean_squared_error", range=[0, 1], reads="values")
    assert error.score([0.0, 1.0], [1.0, 0.0]) == 1.0
    with pytest.raises(ValueError, match=r"metric sklearn.metrics.mean_squared_error is 4 here, outside its range \[0, 1\]"):
        error.score([0.0, 1.0], [2.0, 3.0])
    with pytest.raises(ValueError, match="r2 is -3 here, outside its range"):
        known("r2", range=[-1, 1]).score([0.0, 2.0], [2.0, 0.0])
    assert np.isfinite(error.chance(np.array([0.0, 9.0])))


def test_a_metric_without_a_score_for_any_run_says_why_and_one_run_without_counts_as_chance():
    log = known("sklearn.metrics.mean_squared_log_error", range=[0, 9], reads="values")
    labels, whole = np.array([1.0, 2.0, 3.0]), np.ones((1, 3), int)
    found = log.resampled(labels, [[1, 2, -3], [1, 2, 3]], whole)
    assert found.tolist() == [[log.chance(labels), 0]]
    with pytest.raises(ValueError, match="gives no number here"):
        log.resampled(labels, [[1, 2, -3]], whole)
    assert np.isnan(log.chance(-labels))


def test_packed_probabilities_are_scored_as_they_were():
    rng = np.random.default_rng(0)
    outputs = rng.normal(0, 6, (400, 5))
    shares = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    labels = np.where(rng.random(400) < 0.7, shares.argmax(1), rng.integers(0, 5, 400))
    read = unpacked(packed(shares))
    assert read.sum(1) == pytest.approx(np.ones(400), abs=1e-12) and read == pytest.approx(shares, abs=5e-4)
    assert np.log(read) == pytest.approx(np.log(shares), abs=0.02)
    loss, area = (known(f"sklearn.metrics.{name}", range=[0, 99], reads="probabilities", **options)
                  for name, options in (("log_loss", {}), ("roc_auc_score", {"multi_class": "ovr"})))
    assert loss.score(labels, read) == pytest.approx(loss.score(labels, shares), abs=2e-3)
    assert area.score(labels, read) == pytest.approx(area.score(labels, shares), abs=1e-3)
    two = np.array([[1e-7, 1 - 1e-7], [1e-9, 1 - 1e-9], [0.0, 1.0], [0.5, 0.5]])
    assert np.argsort(unpacked(packed(two))[:, 0]).tolist() == [2, 1, 0, 3]


def test_probabilities_of_before_are_read_to_four_decimals():
    """Codes of a record written before small ones were kept: 0.0001, 0.0062 and 0.9937."""
    assert unpacked({"shape": [1, 3], "zlib": "c-muRuw%HW1^@!g0XF"}) == pytest.approx(np.array([[0.0001, 0.0062, 0.9937]]))
