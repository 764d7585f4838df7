import copy
import dataclasses

import numpy as np
import pytest
import torch
from conftest import tiny_model
from torch import nn

from studykit import methods, paths, tasks, training
from studykit.models import encoders
from studykit.study import engines, records, runs
from studykit.training import budgets, fleet

CPU = torch.device("cpu")
BUDGET = budgets.Budget(steps=8)


def encodings(seed, examples=40, labels=2):
    """Random sentences of random lengths, with labels."""
    rng = np.random.default_rng(seed)
    ids = [[2, *rng.integers(5, 60, rng.integers(3, 20)).tolist(), 3] for _ in range(examples)]
    columns = {"input_ids": ids, "attention_mask": [[1] * len(each) for each in ids]}
    made = rng.integers(0, 2, examples) if labels == 2 else rng.uniform(0, 5, examples).astype(np.float32)
    return tasks.Encodings(columns, made, {"input_ids": 0, "attention_mask": 0})


def members(method, family="bert", labels=2, dropout=0.0, count=3):
    """Models that differ by init seed: another head, other adapters, one encoder; in double precision, but for a head's,
    whose features are single."""
    built = []
    for seed in range(count):
        model = tiny_model(family, num_labels=labels)
        methods.apply(method, encoders.draw_head(model, seed), seed)
        built.append(model if method == "head" else model.double())
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
    return built


def one_by_one(models, sets, lr=1e-2, **options):
    return [training.train(model, data, BUDGET, lr=lr, seed=seed, precision="fp32", **options)
            for seed, (model, data) in enumerate(zip(models, sets, strict=True))]


def at_once(models, sets, lr=1e-2, budget=BUDGET, **options):
    return fleet.train(models, sets, budget, lr=lr, seeds=range(len(models)), precision="fp32", **options)


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra"])
@pytest.mark.parametrize("labels", [2, 1], ids=["classes", "regression"])
@pytest.mark.parametrize("method", ["full", "bitfit", "adapter", "head", "layernorm", "last_k"])
def test_without_dropout_a_fleet_ends_where_each_run_alone_does(method, labels, family, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "mse_loss", lambda x, y: ((x.double() - y) ** 2).mean())
    sets = [encodings(seed, labels=labels) for seed in range(3)]
    alone, together = members(method, family, labels), members(method, family, labels)
    before = copy.deepcopy(together[0].state_dict())
    expected, found = one_by_one(alone, sets), at_once(together, sets)
    for one, two in zip(alone, together, strict=True):
        for (name, p), (_, q) in zip(one.named_parameters(), two.named_parameters(), strict=True):
            if "key" not in name or "bias" not in name:  # a key's bias has no gradient: its rounding decides AdamW's step
                torch.testing.assert_close(q, p, rtol=1e-4, atol=2e-5, msg=name)
    assert any(not torch.equal(p, before[name]) for name, p in together[0].named_parameters())
    for one, two in zip(expected, found, strict=True):
        assert (two.status, two.steps, two.tokens, two.flops) == (one.status, one.steps, one.tokens, one.flops)
        assert two.losses == pytest.approx(one.losses, abs=2e-4)


def test_what_is_frozen_stays_to_the_bit_and_the_encoder_is_given_back():
    models = members("bitfit")
    before = [copy.deepcopy(model.state_dict()) for model in models]
    attention = models[0].config._attn_implementation
    at_once(models, [encodings(seed) for seed in range(3)])
    for model, state in zip(models, before, strict=True):
        for name, p in model.named_parameters():
            assert torch.equal(p, state[name]) != p.requires_grad, name
    assert models[0].config._attn_implementation == attention
    assert not any({"drop", "forward"} & set(vars(module)) for module in models[0].modules())


def test_members_draw_dropout_of_their_own():
    """Three members that are alike but for dropout come apart."""
    models, data = [members("full", dropout=0.3, count=1)[0] for _ in range(3)], encodings(0)
    fleet.train(models, [data] * 3, BUDGET, lr=1e-2, seeds=[0, 0, 0], precision="fp32")
    weights = [model.classifier.weight for model in models]
    assert not torch.allclose(weights[0], weights[1]) and not torch.allclose(weights[1], weights[2])


def test_a_member_s_gradient_is_clipped_by_its_own_norm():
    p = nn.Parameter(torch.zeros(2, 3))
    p.grad = torch.tensor([[3.0, 0.0, 4.0], [0.3, 0.0, 0.4]])
    fleet._clip([p])
    torch.testing.assert_close(p.grad, torch.tensor([[0.6, 0.0, 0.8], [0.3, 0.0, 0.4]]))


def test_a_member_that_diverges_does_not_stop_the_others():
    models, sets = members("full"), [encodings(seed) for seed in range(3)]
    alone = copy.deepcopy(models[2])
    with torch.no_grad():
        models[1].classifier.weight[0, 0] = torch.nan
    found = at_once(models, sets)
    assert [each.status for each in found] == ["ok", "diverged", "ok"]
    assert found[1].reason == "the loss was not finite within 1 steps of 8" and found[1].losses[0] is None
    training.train(alone, sets[2], BUDGET, lr=1e-2, seed=2, precision="fp32")
    torch.testing.assert_close(models[2].classifier.weight, alone.classifier.weight, rtol=1e-3, atol=1e-5)


def test_members_that_cannot_take_the_same_steps_are_refused():
    models = members("full", count=2)
    with pytest.raises(ValueError, match="take the same number of steps, but 1 epochs is not that"):
        at_once(models, [encodings(0, 40), encodings(1, 60)], budget=budgets.Budget(epochs=1))
    with pytest.raises(ValueError, match="wall clock is not that"):
        at_once(models, [encodings(0), encodings(1)], budget=budgets.Budget(seconds=1))


def test_members_that_train_different_parameters_are_refused():
    with pytest.raises(ValueError, match="train the same whole parameters"):
        at_once([members("full", count=1)[0], members("bitfit", count=1)[0]], [encodings(0), encodings(1)])


# In a study

@pytest.fixture
def fleets(monkeypatch):
    """As on a GPU: runs that can are trained together."""
    monkeypatch.setattr(fleet, "DEVICES", ("cpu",))
    sizes, train = [], fleet.train
    monkeypatch.setattr(fleet, "train", lambda models, *rest, **options: (
        sizes.append(len(models)), train(models, *rest, **options))[1])
    return sizes


@pytest.fixture
def wanted(tiny_study):
    return tiny_study.plan(["cola", "stsb"], ["bitfit", "head"], rates=1e-2, seeds=[0, 1, 2], fractions=[0.5], steps=5,
                           precision="fp32")


def test_runs_that_differ_by_seed_alone_train_together(wanted, fleets):
    lists = fleet.together(wanted, CPU)
    assert [len(runs) for runs in lists] == [3] * 4
    assert {run for runs in lists for run in runs} == set(wanted)
    for runs_ in lists:
        assert len({(run.task, run.method, run.fraction) for run in runs_}) == 1
    many = [dataclasses.replace(wanted[0], init_seed=seed) for seed in range(23)]
    assert [len(runs) for runs in fleet.together(many, CPU)] == [10, 10, 3]


@pytest.mark.parametrize("own", [{"points": 2}, {"steps": None, "seconds": 1.0}, {"method": "random"}], ids=str)
def test_runs_with_a_curve_or_a_clock_train_alone(wanted, fleets, own):
    runs_ = [dataclasses.replace(run, **own) for run in wanted if run.method == "bitfit"]
    assert fleet.together(runs_, CPU) == [[run] for run in runs_]


def test_on_a_cpu_no_runs_train_together(wanted):
    assert fleet.together(wanted, CPU) == [[run] for run in wanted]


def test_a_fleet_s_records_are_those_of_single_runs_and_say_so(tiny_study, wanted, fleets, tmp_path, monkeypatch):
    """The small encoder's dropout is off, so scores are the same too."""
    build = runs.build
    monkeypatch.setattr(runs, "build", lambda *of: without_dropout(build(*of)))
    together = tiny_study.execute(wanted, group="x")
    assert fleets == [3] * 4
    stored = records.read(paths.results("tiny"))
    monkeypatch.setattr(fleet, "DEVICES", ())
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "alone"))
    alone = tiny_study.execute(wanted, group="x")
    single = records.read(paths.results("tiny"))
    assert together["key"].tolist() == alone["key"].tolist()
    assert together["score"].tolist() == pytest.approx(alone["score"].tolist(), abs=1.0)
    for key, record in stored.items():
        assert record["fleet"] == 3 and set(record) - set(single[key]) == {"fleet"}
        for name in ("run", "key", "examples", "parameters", "steps", "tokens", "flops", "status", "precision", "labels"):
            assert record[name] == single[key][name], name
        assert record["seconds"]["train"] > 0 and record["losses"] == pytest.approx(single[key]["losses"], abs=1e-3)


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def test_a_fleet_that_fails_is_said_and_its_runs_train_alone(tiny_study, wanted, fleets, monkeypatch, capsys):
    monkeypatch.setattr(fleet, "train", lambda *_, **__: (_ for _ in ()).throw(MemoryError("too much")))
    table = tiny_study.execute(wanted[:6], group="x")
    assert len(table) == 6 and set(table["status"]) <= {"ok", "collapsed"} and table["train_seconds"].notna().all()
    assert "of cola bitfit do not train together, so one after another: MemoryError: too much" in capsys.readouterr().out
    assert not list(paths.results("tiny").rglob("*.lock"))


def test_a_fleet_leaves_out_what_another_process_is_at_or_has_done(tiny_study, wanted, fleets):
    same = [run for run in wanted if (run.task, run.method) == ("cola", "bitfit")]
    tiny_study.execute(same[:1], group="elsewhere")
    folder = paths.results("tiny") / "x"
    folder.mkdir()
    found = list(engines.train(tiny_study, same, folder))
    assert fleets == [2]
    assert {record["key"] for record in found} == {run.key for run in same}
    assert len(list(paths.results("tiny").rglob("*.json"))) == 3
