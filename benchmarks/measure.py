"""One measurement: the same model, examples and number of steps, trained by this project or as people do it today."""

import contextlib
import dataclasses
import tempfile
import time
from dataclasses import dataclass

import numpy as np
import torch

from studykit import tasks, training
from studykit.methods.peft import layer_names
from studykit.study import runs
from studykit.tasks import Encodings, Task
from studykit.training import budgets, fleet, machine

SYSTEMS = {
    "studykit": "this project",
    "run_glue": "Hugging Face Trainer as run_glue sets it up: every example padded to max_length",
    "trainer": "Hugging Face Trainer at its best: padded to the longest of a batch, grouped by length",
    "peft": "the same, the method set up by peft (LoRA, and LNTuning for layernorm)",
}
PEFT = ("layernorm", "lora")  # of this project's methods, those that peft's own models are measured of


@dataclass(frozen=True)
class Work:
    """What is to be trained: ``steps`` of a run's batches, over as many examples as make so many ``epochs`` of them."""

    run: runs.Run
    task: Task
    steps: int
    epochs: int
    source: str
    encoder_at: str
    threads: int
    scored: bool = False

    def seeded(self, seed: int) -> "Work":
        """The same work, its run with that seed for all that is drawn."""
        seeds = {f"{kind}_seed": seed for kind in ("subset", "init", "order")}
        return dataclasses.replace(self, run=dataclasses.replace(self.run, **seeds))


def measure(system, work):
    """Train once with a system and return ``seconds`` (of all steps), ``tokens`` (real ones), ``mb`` (memory at its peak
    above that of the process with the model loaded) and, where it is asked for, ``score`` on the validation set in points.
    To be called in a process of its own, or memory says nothing.
    """
    torch.set_num_threads(work.threads)
    run, task, device = work.run, work.task, machine.best_device()
    sets, train, scale = prepared(work)
    build = with_peft if system == "peft" else runs.build
    model = build(run, task, work.encoder_at, train.labels).to(device)
    for p in model.parameters():  # weights lie in a file until they are read: then they are in memory
        p.detach().sum()
    with machine.peak_memory(device) as memory:
        seconds = (ours if system == "studykit" else hugging_face)(model, train, work, device, padded=system == "run_glue")
    found = {"seconds": seconds, "tokens": int(train.lengths.sum()) * work.epochs,
             "mb": memory["peak_mb"] and memory["peak_mb"] - memory["idle_mb"]}
    if work.scored:
        answers = scale.grown(training.predict(model, sets["validation"], device))
        found["score"] = task.metric.factor * task.metric.score(sets["validation"].labels, answers)
    return found


def prepared(work: Work) -> tuple[dict, Encodings, tasks.Scale]:
    """``(sets, train, scale)``: encodings by split, those of the work's examples with labels as they are trained, and how a
    number's labels are scaled."""
    sets, *_ = runs.encodings(work.task, work.source, work.encoder_at, work.run.max_length)
    train = sets["train"].take(examples(work, sets["train"].labels))
    scale = tasks.Scale.of(work.task, train.labels)
    return sets, train.labelled(scale.shrunk(train.labels)), scale


def examples(work, labels):
    """Indices of the training examples: as many as ``steps`` batches hold in so many epochs, whole batches only."""
    size = work.steps // work.epochs * work.run.batch_size
    if size > len(labels):
        raise ValueError(f"{work.steps} steps of {work.run.batch_size} examples are more than {work.epochs} epochs of "
                         f"{work.run.task}, which has {len(labels)}: ask for fewer steps")
    return np.sort(tasks.stratified_order(tasks.strata(work.task, labels), [work.run.subset_seed, 1])[:size])


def ours(model, train, work, device, padded):
    """Seconds that ``training.train`` takes."""
    ledger = machine.Ledger(device)
    training.train(model, train, budgets.Budget(steps=work.steps), lr=work.run.lr, batch_size=work.run.batch_size,
                   seed=work.run.order_seed, precision=work.run.precision, device=device, ledger=ledger)
    return ledger.seconds["train"]


def hugging_face(model, train, work, device, padded):
    """Seconds that ``transformers.Trainer`` takes from its first step to its last, after a step that warms up as ours does.

    The schedule, optimiser, weight decay and clipping are those of ``training.train``.
    """
    import datasets
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, default_data_collator
    from transformers.trainer_callback import PrinterCallback

    from studykit.models import encoders

    tokenizer, clock = encoders.tokenizer(work.encoder_at), _clock(device)
    rows = {**train.columns, "labels": train.labels.tolist()}
    if padded:
        rows |= tokenizer.pad(train.columns, padding="max_length", max_length=work.run.max_length)
    training.warm_up(model, train, work.run.batch_size, device, work.run.precision)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        settings = TrainingArguments(
            folder, max_steps=work.steps, per_device_train_batch_size=work.run.batch_size, learning_rate=work.run.lr,
            weight_decay=training.WEIGHT_DECAY, warmup_steps=round(training.WARMUP * work.steps),
            max_grad_norm=training.CLIP, seed=work.run.order_seed, bf16=work.run.precision == "bf16",
            train_sampling_strategy="random" if padded else "group_by_length", use_cpu=device.type == "cpu",
            disable_tqdm=True, report_to=[], save_strategy="no", logging_strategy="no")
        trainer = Trainer(model, settings, train_dataset=datasets.Dataset.from_dict(rows), callbacks=[clock],
                          data_collator=default_data_collator if padded else DataCollatorWithPadding(tokenizer))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.seconds


def _clock(device):
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_train_begin(self, *_, **__):
            machine.synchronize(device)
            self.start = time.monotonic()

        def on_train_end(self, *_, **__):
            machine.synchronize(device)
            self.seconds = time.monotonic() - self.start

    return Clock()


def with_peft(run, task, encoder_at, labels):
    """The run's model with its method set up by ``peft``, which trains the same parameters."""
    import peft

    model = runs.build(dataclasses.replace(run, method="head"), task, encoder_at, labels)
    head = ["classifier", "pooler"] if run.pooler == "new" else ["classifier"]
    common: dict = {"task_type": "SEQ_CLS", "modules_to_save": head}
    if run.method == "layernorm":
        return peft.get_peft_model(model, peft.LNTuningConfig(target_modules=r".*LayerNorm", **common))
    return peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, **common,
                                                      target_modules=layer_names(model, ("query", "value"))))


def at_once(work, members):
    """A row: seconds of so many runs that differ by seed, ``alone`` one after another, and as a ``fleet``."""
    torch.set_num_threads(work.threads)
    run, device = work.run, machine.best_device()
    _, train, _ = prepared(work)
    seeds, budget = range(members), budgets.Budget(steps=work.steps)
    options = {"lr": run.lr, "batch_size": run.batch_size, "precision": run.precision, "device": device}
    alone, together = machine.Ledger(device), machine.Ledger(device)
    models = [runs.build(dataclasses.replace(run, init_seed=seed), work.task, work.encoder_at, train.labels)
              for seed in [*seeds, *seeds]]
    for seed in seeds:
        training.train(models.pop(), train, budget, seed=seed, ledger=alone, **options)
    fleet.train(models, [train] * members, budget, seeds=seeds, ledger=together, **options)
    return {"task": run.task, "method": run.method, "members": members, "device": device.type,
            "alone": alone.seconds["train"], "fleet": together.seconds["train"]}
