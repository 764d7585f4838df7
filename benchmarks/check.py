"""``python -m benchmarks check``: cells of a study trained again, beside its records, without this project's training.

The same examples, rate, number of steps, warm-up and decay, in fp32; everything else is plain:
``AutoModelForSequenceClassification``, ``transformers.Trainer`` with shuffled batches, ``peft`` for LoRA, scikit-learn and
SciPy for scores. ``--precision fp32`` has this project train them again instead, in that precision. It adds to
``benchmarks/check.json`` as it goes, and writes the tables of ``benchmarks/README.md``.
"""

import argparse
import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats
import sklearn.metrics
import torch

from benchmarks import report
from studykit import study, training
from studykit.methods.peft import layer_names
from studykit.study import provenance, records, runs
from studykit.training import machine

FILE = Path(__file__).with_name("check.json")
PLAIN = "plain loop"
CELL = ["study", "task", "arm", "share", "rate", "steps"]
SCORES = {"macro_f1": lambda labels, answers: sklearn.metrics.f1_score(labels, answers, average="macro"),
          "accuracy": sklearn.metrics.accuracy_score, "f1": sklearn.metrics.f1_score,
          "matthews_correlation": sklearn.metrics.matthews_corrcoef,
          "pearson": lambda labels, answers: scipy.stats.pearsonr(labels, answers).statistic}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks check", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="beyond")
    parser.add_argument("--source", default="")
    parser.add_argument("--encoder", default="")
    parser.add_argument("--cells", nargs="+", default=["cola:full", "irony:lora", "banking77:bitfit"], metavar="TASK:ARM")
    parser.add_argument("--share", type=float, help="of the training data, where not the study's largest")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="this project in that one, no plain loop")
    parser.add_argument("--file", type=Path, default=FILE)
    options = parser.parse_args(argv)
    by = f"this project, {options.precision}" if options.precision else PLAIN
    experiment = study.load(options.study, options.source, options.encoder)
    rates, _ = experiment.choose_rates(train=False)
    rows = report.read(options.file, [])
    for cell in options.cells:
        task, arm = cell.split(":")
        wanted = experiment.plan([task], [arm], rates=rates, seeds=experiment.design.seeds,
                                 fractions=[options.share or max(experiment.design.shares)])
        known = {row["key"]: row for row in experiment.recorded(wanted).to_dict("records")}
        if missing := [run.name for run in wanted if run.key not in known]:
            raise ValueError(f"study {experiment.name} has no record of {missing[0]}: there is nothing to check it against")
        for run in wanted:
            own = known[run.key]
            begun = time.monotonic()
            score = again(run, experiment, options.precision) if options.precision else plain(
                run, experiment.tasks[task], experiment.source, experiment.encoder_at, int(own["steps"]))
            rows = [row for row in rows if (row["key"], row["by"]) != (run.key, by)] + [
                {"key": run.key, "by": by, "study": experiment.name, "task": task, "title": own["task_title"], "arm": arm,
                 "metric": own["metric_title"], "seed": run.seed, "rate": run.lr, "share": run.fraction,
                 "steps": int(own["steps"]),
                 "studykit": own["score"], "other": score, "seconds": round(time.monotonic() - begun),
                 "versions": provenance.versions(), "commit": provenance.commit(), "when": time.strftime("%Y-%m-%d")}]
            print(f"{task} {arm} seed {run.seed}: record {own['score']:.1f}, {by} {score:.1f}", flush=True)
            report.save(options.file, rows)
    report.write(Path(__file__).with_name("README.md"), tables(rows), "check")
    return 0


def again(run, experiment, precision):
    """The score, in the study's unit, of one run made by this project in another precision."""
    other, task = dataclasses.replace(run, precision=precision), experiment.tasks[run.task]
    result = runs.train_run(other, task, experiment.source, experiment.encoder_at)
    return float(experiment.table([records.new(other, task, None, result)])["score"].iloc[0])


def plain(run, task, source, encoder_at, steps):
    """The score on the validation set, in the study's unit, of one run made by ``Trainer``."""
    import datasets
    import transformers
    from transformers.trainer_callback import PrinterCallback

    from studykit.models import encoders

    sets, *_ = runs.encodings(task, source, encoder_at, run.max_length)
    rows, _ = runs.examples(run, task, sets["train"])
    train, validation = sets["train"].take(rows), sets["validation"]
    transformers.set_seed(run.init_seed)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(encoder_at, num_labels=task.num_labels,
                                                                            dtype=torch.float32)
    if run.pooler == "new" and model.base_model.pooler is not None:  # MPNet's head has a dense layer of its own
        model.base_model.pooler.apply(model._init_weights)
    model = arms(run.method, model)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        settings = transformers.TrainingArguments(
            folder, max_steps=steps, per_device_train_batch_size=run.batch_size, learning_rate=run.lr, seed=run.order_seed,
            weight_decay=training.WEIGHT_DECAY, warmup_steps=round(training.WARMUP * steps), max_grad_norm=training.CLIP,
            use_cpu=machine.best_device().type == "cpu", disable_tqdm=True, report_to=[], save_strategy="no",
            logging_strategy="no", per_device_eval_batch_size=64)
        collator = transformers.DataCollatorWithPadding(encoders.tokenizer(encoder_at))
        trainer = transformers.Trainer(model, settings, train_dataset=_rows(datasets, train), data_collator=collator)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        outputs = trainer.predict(_rows(datasets, validation)).predictions
    answers = outputs.argmax(1) if task.labels else outputs[:, 0]
    return task.metric.factor * float(SCORES[task.metric.name](validation.labels, answers))


def arms(method, model):
    """The model with what a method trains, as people write it; the head, with its pooler, trains in all."""
    import peft

    heads = ("classifier", "pooler")
    if method == "lora":
        return peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, modules_to_save=[*heads],
                                                          target_modules=layer_names(model, ("query", "value"))))
    if method == "bitfit":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith(".bias") or any(head in name for head in heads))
    elif method != "full":
        raise ValueError(f"the plain loop has full, bitfit and lora, not {method}")
    return model


def _rows(datasets, encodings):
    return datasets.Dataset.from_dict({**encodings.columns, "labels": encodings.labels.tolist()})


def tables(rows):
    """A table for each way in which cells were trained again."""
    return "\n".join(table(by, of) for by, of in pd.DataFrame(rows).groupby("by", sort=False))


def table(by, rows):
    """A row a cell: means and ranges over seeds, and how far the means are apart, with Welch's 95 % interval."""
    lines = [f"| task | arm | data | rate | steps | seeds | this project's record | {by} | apart |", "|" + 9 * "---|"]
    for _, of in rows.groupby(CELL, sort=False):
        first = of.iloc[0]
        both = [f"{of[name].mean():.1f} ({of[name].min():.1f} to {of[name].max():.1f})" for name in ("studykit", "other")]
        found = scipy.stats.ttest_ind(of["studykit"], of["other"], equal_var=False)
        low, high = found.confidence_interval()
        lines.append(f"| {first['title']} ({first['metric']}) | {first['arm']} | {100 * first['share']:g} % | "
                     f"{first['rate']:g} | {first['steps']} | {len(of)} | {' | '.join(both)} | "
                     f"{np.subtract(of['studykit'].mean(), of['other'].mean()):+.1f} ({low:+.1f} to {high:+.1f}) |")
    return "\n".join(lines) + "\n"
