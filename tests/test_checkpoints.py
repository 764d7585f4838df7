"""A long run that is stopped loses little, and ends in the numbers of one that was not."""

import copy
import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import tiny_model
from test_rows import some

from studykit import methods, paths, training
from studykit.study import locks, records
from studykit.training import checkpoints, loop, machine
from studykit.training.budgets import Budget, DeadlinePassed

CPU = torch.device("cpu")


@pytest.fixture
def often(monkeypatch):
    """A checkpoint after every step."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)


def train(model, file=None, steps=23, **options):
    options = {"lr": 1e-3, "batch_size": 4, "precision": "fp32", "device": CPU, "budget": Budget(steps=steps), **options}
    return training.train(model, some(), unfinished=file, **options)


def stopped(model, file, after, monkeypatch, **options):
    """Train and stop before a step; leave what is on disk."""
    step, taken = loop._step, []

    def stopping(*given):
        if len(taken) == after:
            raise KeyboardInterrupt
        taken.append(1)
        return step(*given)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop, "_step", stopping)
        train(model, file, **options)
    assert file.is_file()


def assert_same(model, outcome, other, undisturbed):
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))
    for name in ("status", "reason", "steps", "tokens", "flops", "losses", "step_tokens", "shortcuts"):
        assert getattr(outcome, name) == getattr(undisturbed, name), name
    assert [moment[::2] for moment in outcome.curve] == [moment[::2] for moment in undisturbed.curve]
    assert len(outcome.step_seconds) == len(undisturbed.step_seconds) == outcome.steps


@pytest.mark.parametrize("after", [1, 7, 22])
@pytest.mark.parametrize("method", ["full", "bitfit", "adapter", "lora", "head", "random"])
def test_stopped_and_taken_up_again_it_is_the_undisturbed_run_to_the_bit(method, after, often, tmp_path, monkeypatch):
    """With dropout, and with batches of all epochs."""
    first, again, plain = (methods.apply(method, tiny_model()) for _ in range(3))
    file = tmp_path / "unfinished" / "run.pt"
    stopped(first, file, after, monkeypatch)
    taken, step = [], loop._step
    monkeypatch.setattr(loop, "_step", lambda *given: taken.append(1) or step(*given))
    outcome = train(again, file)
    assert len(taken) == 23 - after
    assert_same(again, outcome, plain, train(plain))
    assert [name.name for name in file.parent.iterdir()] == ["run.pt"]  # nothing half written


def test_stopped_again_and_again_in_bf16_with_a_curve(often, tmp_path, monkeypatch):
    model, file = methods.apply("bitfit", tiny_model()), tmp_path / "run.pt"
    again, options = copy.deepcopy(model), {
        "precision": "bf16", "points": 5, "score": lambda model: training.logits(model, some(seed=1))[0, 0]}  # of NumPy's
    for steps in (3, 6, 1, 9):
        stopped(copy.deepcopy(model), file, steps, monkeypatch, **options)
    outcome = train(again, file, **options)
    assert_same(again, outcome, model, train(model, **options))
    assert len(outcome.curve) == 5 and not {"cast", "joined"} - set(outcome.shortcuts)


def test_a_run_that_diverges_does_so_at_the_same_step(often, tmp_path, monkeypatch):
    """Losses are looked at each tenth, wherever it was stopped."""
    model, file = methods.apply("full", tiny_model()), tmp_path / "run.pt"
    again, step = copy.deepcopy(model), loop._step

    def breaking(*given):
        return step(*given) * (torch.nan if given[6].steps == 9 else 1)

    monkeypatch.setattr(loop, "_step", breaking)
    stopped(copy.deepcopy(model), file, 11, monkeypatch)
    outcome = train(again, file)
    assert_same(again, outcome, model, undisturbed := train(model))
    assert undisturbed.status == "diverged" and undisturbed.steps < 23


def test_a_checkpoint_of_another_device_is_left_out_and_said(often, tmp_path, monkeypatch, capsys):
    model, file = methods.apply("full", tiny_model()), tmp_path / "run.pt"
    stopped(copy.deepcopy(model), file, 5, monkeypatch)
    torch.save({**torch.load(file, weights_only=True), "device": "cuda"}, file)
    again = copy.deepcopy(model)
    assert_same(again, train(again, file), model, train(model))
    assert "it was kept on another device" in capsys.readouterr().out


def test_on_the_wall_clock_the_seconds_that_were_spent_count(tmp_path, monkeypatch):
    model, file = methods.apply("bitfit", tiny_model()), tmp_path / "run.pt"
    monkeypatch.setattr(checkpoints, "EVERY", 0.2)
    with pytest.raises(DeadlinePassed):
        train(copy.deepcopy(model), file, budget=Budget(seconds=60.0), deadline=time.monotonic() + 3)
    spent, ledger = torch.load(file, weights_only=True)["seconds"], machine.Ledger(CPU)
    assert 0.2 < spent < 3
    outcome = train(model, file, budget=Budget(seconds=spent + 0.5), ledger=ledger)
    assert ledger.seconds["train"] == pytest.approx(spent + 0.5, abs=0.2)
    assert spent < sum(outcome.parts.values()) + 0.2 < ledger.seconds["train"] + 0.2  # both parts' steps


def test_writing_is_not_training_time(often, tmp_path, monkeypatch):
    ledger, write = machine.Ledger(CPU), checkpoints.Checkpoint.write
    monkeypatch.setattr(checkpoints.Checkpoint, "write", lambda self, begun: (time.sleep(0.5), write(self, begun)))
    outcome = train(methods.apply("bitfit", tiny_model()), tmp_path / "run.pt", steps=4, ledger=ledger)
    assert ledger.seconds["train"] < sum(outcome.parts.values()) + 0.5


def test_a_short_run_keeps_nothing(tmp_path):
    train(methods.apply("bitfit", tiny_model()), tmp_path / "unfinished" / "run.pt")
    assert not list(tmp_path.iterdir()) and checkpoints.EVERY == 600


@pytest.mark.parametrize("spoil", ["cut off", "no file of ours", "of another model"])
def test_a_file_that_cannot_be_used_is_said_and_the_run_begins_anew(spoil, often, tmp_path, monkeypatch, capsys):
    model, file = methods.apply("bitfit", tiny_model()), tmp_path / "run.pt"
    again = copy.deepcopy(model)
    other = methods.apply("full" if spoil == "of another model" else "bitfit", tiny_model())
    stopped(other, file, 5, monkeypatch)
    if spoil == "cut off":
        file.write_bytes(file.read_bytes()[:1000])
    if spoil == "no file of ours":
        file.write_text("{}")
    outcome = train(again, file)
    assert capsys.readouterr().out.startswith("left out the checkpoint run.pt (")
    assert_same(again, outcome, model, train(model))


def test_a_file_that_would_run_code_is_not_opened(tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"trained": {}, "begun": Evil()}, tmp_path / "run.pt")
    assert train(methods.apply("bitfit", tiny_model()), tmp_path / "run.pt", steps=2).steps == 2
    assert "left out the checkpoint run.pt" in capsys.readouterr().out and not (tmp_path / "evil").exists()


def test_on_a_full_disk_it_is_said_and_training_goes_on(often, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert train(methods.apply("bitfit", tiny_model()), tmp_path / "run.pt", steps=2).status == "ok"
    assert "the checkpoint run.pt cannot be written" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


# A study's runs

DRIVER = """
import sys
from studykit import study
from studykit.training import checkpoints
checkpoints.EVERY = {every}
experiment = study.load({yaml!r}, source={glue!r}, encoder={encoder!r})
experiment.execute(experiment.plan("mrpc", "full", rates=1e-3, steps={steps}), group="x")
"""


def driver(home, **settings):
    return subprocess.Popen([sys.executable, "-c", DRIVER.format(**settings)], stdout=subprocess.DEVNULL,
                            env={**os.environ, "STUDYKIT_HOME": str(home)})


def decided(home):
    """What of a run's record does not depend on when and how fast it was made."""
    (record,) = records.read(home / "results" / "tiny").values()
    return {name: value for name, value in record.items()
            if name not in ("seconds", "parts", "memory", "hardware", "digest", "commit")}


def test_killed_in_the_middle_of_a_run_the_record_is_the_undisturbed_one(tiny_study, tiny_yaml, tiny_glue, tiny_encoder,
                                                                        tmp_path):
    settings = {"yaml": str(tiny_yaml), "glue": tiny_glue, "encoder": tiny_encoder, "steps": 400}
    home, folder = tmp_path / "killed", tmp_path / "killed" / "results" / "tiny"
    killed = driver(home, every=0.1, **settings)
    while not list(folder.glob("unfinished/*.pt")) and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL and not list(folder.glob("x/*.json")), "it ended before it was killed"
    others = [driver(home, every=600, **settings), driver(tmp_path / "plain", every=600, **settings)]
    assert [other.wait() for other in others] == [0, 0]
    assert decided(home) == decided(tmp_path / "plain")
    assert not list(folder.glob("unfinished/*")) and not list(folder.rglob(".*"))  # nor what was half written


def test_an_accident_leaves_the_state_and_the_record_removes_it(tiny_study, often, monkeypatch):
    wanted, step, broken = tiny_study.plan("mrpc", "bitfit", rates=1e-2, steps=6), loop._step, [1]

    def breaking(*given):
        if broken and given[6].steps == 4:
            raise MemoryError("no room")
        return step(*given)

    monkeypatch.setattr(loop, "_step", breaking)
    with pytest.raises(RuntimeError, match="no room"):
        tiny_study.execute(wanted, group="x")
    folder = paths.results("tiny") / locks.UNFINISHED
    assert [file.name for file in folder.iterdir()] == [f"{wanted[0].name}.pt"]
    broken.clear()
    assert len(tiny_study.execute(wanted, group="x")) == 1
    assert not list(folder.iterdir())
    json.dumps(records.read(paths.results("tiny")))
