"""What people get wrong: each mistake gets one sentence, with what was asked, what is wrong and what to do, before anything
trains, and the records stay byte for byte as they were. What people may well do works."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
import transformers
import yaml
from conftest import STUDY, made_result, rows, save_encoder, tiny_config, tiny_model, write_split

from studykit import methods, paths, study, tasks
from studykit.__main__ import main
from studykit.methods import adapters
from studykit.models import encoders
from studykit.study import records
from studykit.study.runs import Run
from studykit.training.budgets import Budget

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def here(tmp_path, monkeypatch, tiny_glue, tiny_encoder):
    """Folders to spoil, and a store that holds a record."""
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    run = Run(**{**PLAIN, "task": "cola", "method": "head", "lr": 1e-3, "epochs": None, "steps": 3})
    file = tmp_path / "home" / "results" / "tiny" / "before" / f"{run.name}.json"
    file.parent.mkdir(parents=True)
    records.write(records.new(run, tasks.get("cola"), None, made_result(run)), file)
    for folder in ("figures", "runs"):
        (tmp_path / "home" / folder / "tiny").mkdir(parents=True)
    return SimpleNamespace(at=tmp_path, home=tmp_path / "home", record=file, glue=tiny_glue, encoder=tiny_encoder)


def stored(home):
    """The store's files; one that is set aside counts as the same."""
    files = sorted(home.rglob("*")) if home.is_dir() else [home]
    return {file.with_suffix("").relative_to(home): file.read_bytes() if file.is_file() else None for file in files}


def load(here, text=STUDY, source=None, encoder=None, name="tiny.yaml"):
    (here.at / name).write_text(text)
    return study.load(str(here.at / name), source or here.glue, encoder or here.encoder)


# Each case is (what somebody does, what they are told)

PLAIN = {"task": "mrpc", "asks": "89ab", "method": "full", "fraction": 0.3, "lr": 1e-4, "encoder": "an-encoder",
         "weights": "0123", "data": "4567", "precision": "fp32", "epochs": 3}
WHOLE, FROM_ZERO, ABOVE_ZERO = "a positive whole number", "a whole number, at least 0", "a positive number"
RUNS = [(lambda here, field=field, value=value: Run(**{**PLAIN, field: value}),
         rf"^{field} must be {re.escape(wanted)}, got {re.escape(repr(value))}$")
        for field, wanted, values in [
            ("fraction", "in (0, 1]", [0, -0.1, 1.5, NAN, INF, True, "0.3", None, [0.3]]),
            ("lr", ABOVE_ZERO, [0, -1e-3, NAN, INF, True, "1e-3", None, {"cola": 1}]),
            ("epochs", ABOVE_ZERO, [0, -1, NAN, INF, True, "3", [3]]),
            ("seconds", ABOVE_ZERO, [0, -1.0, NAN, "9"]),
            ("steps", WHOLE, [0, -1, 7.0, NAN, True, "7", [7]]),
            ("batch_size", WHOLE, [0, -16, 1.5, True, "16", None]),
            ("max_length", WHOLE, [0, NAN, "128"]),
            ("subset_seed", FROM_ZERO, [-1, 0.5, True, "0", None, [0, 1]]),
            ("init_seed", FROM_ZERO, [-1, NAN]),
            ("order_seed", FROM_ZERO, [-1, "one"]),
            ("min_steps", FROM_ZERO, [-1, 1.5, "200", None]),
            ("points", FROM_ZERO, [-1, True]),
            ("token_seconds", "a number, at least 0", [-1.0, NAN, INF, "fast", None]),
            ("score_on", "one of validation, selection, both", ["test", None, ["validation"]]),
            ("pooler", "one of pretrained, new", ["fresh", True]),
            ("precision", "one of fp32, bf16", ["fp16", "auto", 32]),
            ("reads", "one of first, mean, last", ["cls", None]),
            ("task", "text", [None, ["mrpc"]]),
            ("pretrained", "true or false", ["no", 1, None]),
            ("method", "text", [None, ["full"]]),
            ("encoder", "text", [None, 3]),
            ("options", "a tuple of (name, value) pairs", [{"bottleneck": 8}, "bottleneck", None])]
        for value in values]
RUNS += [
    (lambda here: Run(**{**PLAIN, "init_seed": 2 ** 32}),
     "init_seed must be a whole number, at most 4294967295, got 4294967296"),
    (lambda here: Run(**{**PLAIN, "options": ("bottleneck",)}),
     r"options must be a tuple of \(name, value\) pairs, got \('bottl"),
    (lambda here: Run(**{**PLAIN, "steps": 7}).budget,
     "a budget is one of epochs, steps and seconds, got epochs=3, steps=7"),
]

BUDGETS = [(lambda here, given=given: Budget(**given), said) for given, said in [
    ({}, "a budget is one of epochs, steps and seconds, got epochs=None"),
    ({"epochs": 3, "seconds": 9}, "a budget is one of epochs, steps and seconds, got epochs=3.*seconds=9"),
    ({"epochs": "3"}, "a budget's epochs must be a positive number, got '3'"),
    ({"epochs": NAN}, "a budget's epochs must be a positive number, got nan"),
    ({"steps": 7.5}, "a budget's steps must be a positive whole number, got 7.5"),
    ({"steps": True}, "a budget's steps must be a positive whole number, got True"),
    ({"seconds": [9]}, r"a budget's seconds must be a positive number, got \[9\]"),
    ({"seconds": INF}, "a budget's seconds must be a positive number, got inf"),
    ({"epochs": 3, "min_steps": -1}, "a budget's min_steps must be a whole number, at least 0, got -1"),
    ({"seconds": 9, "token_seconds": "x"}, "a budget's token_seconds must be a number, at least 0, got 'x'"),
    ({"steps": 9, "token_seconds": 1e-3}, "a budget with token_seconds, the calibrated clock, must be in seconds"),
]]

PLANS = [(lambda here, given=given: load(here).plan(**{"tasks": "cola", "arms": "full", "rates": 1e-3, **given}), said)
         for given, said in [
    ({"tasks": "rte"}, "study tiny has no task 'rte': it has mrpc, cola, stsb; add it to its YAML file"),
    ({"tasks": [None]}, "study tiny has no task None: it has mrpc"),
    ({"tasks": [["cola"]]}, r"study tiny has no task \['cola'\]: it has mrpc"),
    ({"arms": "bitfitt"}, "study tiny has no arm 'bitfitt': it has full, bitfit"),
    ({"arms": ["full", 3]}, "study tiny has no arm 3: it has full, bitfit"),
    ({"arms": [["full"]]}, r"study tiny has no arm \['full'\]: it has full"),
    ({"fractions": [None]}, r"fraction must be in \(0, 1\], got None"),
    ({"fractions": [0.1, 10]}, r"fraction must be in \(0, 1\], got 10"),
    ({"seeds": [0.5]}, "subset_seed must be a whole number, at least 0, got 0.5"),
    ({"seeds": [True]}, "subset_seed must be a whole number, at least 0, got True"),
    ({"seeds": [2 ** 32]}, "subset_seed must be a whole number, at most 4294967295, got 4294967296"),
    ({"rates": None}, "lr must be a positive number, got None"),
    ({"rates": [1e-3, 1e-2]}, r"lr must be a positive number, got \[0.001, 0.01\]"),
    ({"rates": {("cola", "bitfit"): 1e-3}}, "no rate for cola full: give each"),
    ({"steps": [10, 20]}, r"steps must be a positive whole number, got \[10, 20\]"),
    ({"batchsize": 8}, "plan has no setting batchsize: besides tasks, arms, rates, fractions and seeds it takes batch_size"),
    ({"options": {"bottleneck": 8}}, "plan has no setting options"),
]]


def execute(here, text=STUDY, source=None, encoder=None, group="some", jobs=1, wanted=None, **given):
    experiment = load(here, text, source, encoder)
    wanted = experiment.plan(**{"tasks": "cola", "arms": "full", "rates": 1e-3, **given}) if wanted is None else wanted
    experiment.execute(wanted, group=group, jobs=jobs)


def execute_another_s(here, change):
    experiment = load(here)
    experiment.execute([dataclasses.replace(run, **change) for run in experiment.plan("cola", "full", rates=1e-3)],
                       group="some")


EXECUTED = [(lambda here, given=given: execute(here, **given), said) for given, said in [
    ({"jobs": 0}, "jobs must be a positive whole number, got 0"),
    ({"jobs": -1}, "jobs must be a positive whole number, got -1"),
    ({"jobs": "2"}, "jobs must be a positive whole number, got '2'"),
    ({"jobs": True}, "jobs must be a positive whole number, got True"),
    ({"group": "../../elsewhere"}, "'../../elsewhere' cannot be a folder's name here: give one without /"),
    ({"group": ".."}, r"'\.\.' cannot be a folder's name here: give one"),
    ({"group": "/tmp/elsewhere"}, "'/tmp/elsewhere' cannot be a folder's name here: give one"),
    ({"group": ".hidden"}, r"'\.hidden' cannot be a folder's name here: give one without / and without a dot"),
    ({"group": ""}, "'' cannot be a folder's name here: give one"),
    ({"group": "a\nb"}, r"'a\\nb' cannot be a folder's name here: give one"),
    ({"group": None}, "None cannot be a folder's name here: give one"),
    ({"wanted": "all"}, "execute wants a list of runs, as plan gives it, got 'all'"),
    ({"wanted": 3}, "execute wants a list of runs, as plan gives it, got 3"),
    ({"wanted": Run(**PLAIN)}, r"execute wants a list of runs, as plan gives it, got Run\("),
    ({"wanted": [PLAIN]}, r"execute wants a list of runs, as plan gives it, got \[\{'task'"),
    ({"steps": 3, "seconds": 9}, "a budget is one of epochs, steps and seconds, got epochs=None, steps=3 and seconds=9"),
    ({"max_length": 65}, "max_length must be at most 64, the positions that .* has, got 65"),
    ({"max_length": 2}, "max_length must be at least 3, got 2: the tokenizer of .* adds 2 tokens, and each text needs one"),
]] + [
    (lambda here: execute_another_s(here, {"encoder": "another"}),
     "cola-full-.* is a run of another task, encoder or other data than study tiny's: make it with that study's plan"),
    (lambda here: execute_another_s(here, {"weights": "0"}),
     "a run of another task, encoder .* make it with that study's plan"),
    (lambda here: execute_another_s(here, {"data": "0"}),
     "a run of .* other data than study tiny's: make it with that study's"),
    (lambda here: execute(here, spoilt(arms={"last": {"method": "last_k", "options": {"k": 7}, "rates": [1.0]}}),
                          arms="last"),
     "k must be 1 to 2, the encoder's layers, got 7"),
    (lambda here: execute(here,
                          spoilt(arms={"query": {"method": "bitfit", "options": {"terms": ["quarry"]}, "rates": [1.0]}}),
                          arms="query"), "unknown bitfit term quarry: choose from query, key"),
    (lambda here: load(here).choose_rates("cola", "layernorm"), "study tiny has no arm 'layernorm': it has full, bitfit"),
]


def spoilt(**settings):
    """A study's text with other settings; ``None`` takes one out."""
    merged = {**yaml.safe_load(STUDY), **settings}
    return yaml.safe_dump({name: value for name, value in merged.items() if value is not None})


def arms(**settings):
    return spoilt(arms={**yaml.safe_load(STUDY)["arms"], **settings})


def trials(**settings):
    return spoilt(trials={name: value for name, value in {**yaml.safe_load(STUDY)["trials"], **settings}.items()
                          if value is not None})


def adapter(**options):
    return arms(adapter={"options": options, "rates": [1e-3, 1e-2]})


STUDIES = [(lambda here, text=text: load(here, text), said) for text, said in [
    ("", "must be a mapping of settings to values, got None"),
    ("- encoder\n- pooler\n", r"must be a mapping of settings to values, got \['encoder'"),
    ("just words", "must be a mapping of settings to values, got 'just words'"),
    ("encoder: [1, 2\npooler: new\n", r"is not YAML \(.*line 2.*: mend it there"),
    ("encoder: !!python/object/apply:os.system [touch x]\n", r"is not YAML \(could not determine a constructor.*: mend it"),
    ("encoder: \x00\n", r"is not YAML \(.*special characters.*: mend it"),
    ("seed: 2020-99-99\n", r"is not YAML \(month must be in .*: mend it"),
    (spoilt(batch_size=None, trials=None), "tiny.yaml: batch_size is missing: give it a value"),
    (spoilt(batchsize=8), "tiny.yaml: unknown setting batchsize"),
    (spoilt(encoder=3), "tiny.yaml: encoder: .* string, got 3"),
    (spoilt(encoder=["a", "b"]), r"encoder: .* string, got \['a', 'b'\]"),
    (spoilt(pooler="fresh"), "pooler: .*'pretrained' or 'new', got 'fresh'"),
    (spoilt(pooler=True), "pooler: .*'pretrained' or 'new', got True"),
    (spoilt(reads="cls"), "reads: .*'first', 'mean' or 'last', got 'cls'"),
    (spoilt(source=["hub"]), r"source: .* string, got \['hub'\]"),
    (spoilt(batch_size="sixteen"), "batch_size: .* integer.*got 'sixteen'"),
    (spoilt(batch_size=[16, 32]), r"batch_size: .*integer, got \[16, 32\]"),
    (spoilt(max_length=0), "max_length: .*greater than 0, got 0"),
    (spoilt(epochs=NAN), "epochs: .*greater than 0, got nan"),
    (spoilt(epochs="three"), "epochs: .*number.*, got 'three'"),
    (spoilt(min_steps=-1), "min_steps: .*greater than or equal to 0, got -1"),
    (spoilt(jobs="two"), "jobs: .*integer.*, got 'two'"),
    (spoilt(jobs=0), "jobs: .*greater than 0, got 0"),
    (spoilt(precision="fp16"), "precision: .*'fp32' or 'bf16', got 'fp16'"),
    (spoilt(precision="auto"), "precision: .*'fp32' or 'bf16', got 'auto'"),
    (spoilt(weights=123), "weights: .*string, got 123"),
    (spoilt(weights="0" * 16), "the encoder at .* has weights .*, but study tiny is about tiny-bert .*copy tiny.yaml"),
    (spoilt(data="mine"), "data: .*'published', got 'mine'"),
    (spoilt(tasks=["cola", "qnli"], data="published"), "data: published holds no task .*: give qnli a digest in its YAML"),
    (spoilt(seeds=[0, -1]), "seeds: 1: .*greater than or equal to 0, got -1"),
    (spoilt(seeds=[2 ** 32]), "seeds: 0: .*less than 4294967296, got 4294967296"),
    (spoilt(seeds=[0, 1000]), "trials: seeds: 1000 is a seed of the report too: choose rates from others"),
    (spoilt(shares=[0.5, 2]), "shares: 1: .*less than or equal to 1, got 2"),
    (spoilt(budgets=[0]), "budgets: 0: .*greater than 0, got 0"),
    (spoilt(tasks=[]), r"tasks: .*at least 1 item.*got \(?\[?"),
    (spoilt(tasks=["snli"]), "unknown task 'snli': choose from cola, mnli, mrpc"),
    (spoilt(tasks=["mrpc", "mrpc"]), "tasks must be different, got mrpc, mrpc"),
    (spoilt(tasks=["nowhere.yaml"]), "no task at .*nowhere.yaml: give a YAML file like those in params/tasks"),
    (spoilt(arms=["full"]), r"arms: a mapping of labels to settings, such as full: .*got \['full'\]"),
    (spoilt(arms={}), "arms: .*at least 1 item"),
    (spoilt(arms={"lora r=8": {"rates": [1.0]}}), "unknown method 'lora r=8': choose from full"),
    (arms(full={"rates": []}), "arms have different numbers of rates to try, or none: they must be equal to be fair"),
    (arms(full={"rates": [1.0]}), "arms have different numbers of rates to try, or none: they must be equal to be fair"),
    (arms(full={"rates": [1.0, 1.0]}), "the rates of full must be different, got 1, 1"),
    (arms(full={"rates": 1.0}), "arms: full: rates: .*got 1.0"),
    (arms(full={"rates": [1.0, "high"]}), "arms: full: rates: 1: .*number.*got 'high'"),
    (arms(full={"rates": [1.0, -1]}), "arms: full: rates: 1: .*greater than 0, got -1"),
    (arms(full={"rate": [1.0, 2.0]}), "unknown setting arms: full: rate"),
    (arms(again={"method": "full", "rates": [1.0, 2.0]}), "arms: full does what another arm does: leave one of them out"),
    (spoilt(baseline="fool"), "baseline: there is no arm 'fool': choose from adapter, bitfit"),
    (adapter(botleneck=8), "adapter has no option botleneck: choose from .*bottleneck"),
    (arms(full={"options": {"bottleneck": 8}, "rates": [1.0, 2.0]}), "full has no option bottleneck: it takes none"),
    (adapter(bottleneck=True), "bottleneck of adapter must be a positive whole number, got True"),
    (adapter(bottleneck=[8]), r"bottleneck of adapter must be a positive whole .*got .8"),
    (adapter(placement=3), "placement of adapter must be text, got 3"),
    (adapter(layernorms="yes"), "layernorms of adapter must be true or false, got 'yes'"),
    (adapter(seed=3), "adapter has no option seed: choose from .*placement"),
    (arms(bitfit={"options": {"terms": "query"}, "rates": [1.0, 2.0]}), "terms of bitfit must be .*got 'query'"),
    (arms(bitfit={"options": {"terms": []}, "rates": [1.0, 2.0]}), "terms of bitfit must be .*at least one"),
    (arms(last={"method": "last_k", "options": {"k": 1.5}, "rates": [1.0, 2.0]}),
     "k of last_k must be a positive .*got 1.5"),
    (arms(adapter={"options": "bottleneck=8", "rates": [1.0, 2.0]}), "arms: adapter: options: .*got 'bottleneck=8'"),
    (spoilt(notebooks="03"), "notebooks: .*got '03'"),
    (spoilt(trials=[1]), r"trials: .*got \[1\]"),
    (spoilt(trials={}), "trials: fraction is missing: give it a value"),
    (trials(seeds=None), "trials: seeds is missing: give it a value"),
    (trials(seeds=["zero"]), "trials: seeds: 0: .*integer.*got 'zero'"),
    (trials(fraction=2), "trials: fraction: .*less than or equal to 1, got 2"),
    (trials(epoch=3), "unknown setting trials: epoch"),
    (trials(rule="the best"), "trials: rule: .*'lowest within one error' or 'best score', got 'the best'"),
]] + [
    (lambda here: Path("latin.yaml").write_bytes(b"encoder: \xe9") and study.load("latin.yaml"),
     r"latin\.yaml is not YAML \(.*position 9.*: mend it"),
    (lambda here: (here.at / "dir.yaml").mkdir() or study.load(here.at / "dir.yaml"),
     "unknown study .*dir.yaml': choose from "),
    (lambda here: study.load(None), "unknown study 'None': choose from .*minilm.*, or give a YAML file"),
    (lambda here: study.load("../params/mini/../../etc"),
     r"unknown study '\.\./params.*: choose from .*, or give a YAML file"),
    (lambda here: load(here, name="...yaml"),
     r"'\.\.' cannot be a folder's name here: give one without / and without a dot"),
    (lambda here: load(here, source="/nowhere"), "source must be hub, mini or a folder, and there is no folder at /nowhere"),
    (lambda here: load(here, source=str(here.record)),
     "source must be hub, mini or a folder, and there is no folder at .*json"),
    (lambda here: load(here, encoder="/nowhere"), "no encoder at /nowhere: give a hub id, or a folder with config.json"),
    (lambda here: load(here, spoilt(weights="0" * 16), encoder="/nowhere"),
     "no encoder's folder at /nowhere: study tiny is about tiny-bert, so give --encoder a folder that holds that"),
]


def task_of(here, text, name="mine.yaml"):
    (here.at / name).write_text(text)
    return tasks.get(str(here.at / name))


MINE = "columns: [text]\n"
TASKS = [(lambda here, text=text: task_of(here, text), said) for text, said in [
    ("", "mine.yaml must be a mapping of settings to values, got None"),
    ("columns: [text\n", r"mine.yaml is not YAML \(.*: mend it there"),
    ("label: kind\n", "mine.yaml: columns is missing: give it a value"),
    ("columns: text\n", "mine.yaml: columns: .*got 'text'"),
    ("columns: []\n", "mine.yaml: columns: .*at least 1 item"),
    ("columns: [a, b, c]\n", "mine.yaml: columns: .*at most 2 items"),
    ("columns: [a, a]\n", "mine.yaml: columns and label must be different, got a, a, label"),
    ("columns: [text]\nlabel: text\n", "columns and label must be different, got text, text"),
    ("columns: [label]\nlabel: kind\n",
     "a text column must not be called label, which is what rows' labels are called: rename it"),
    (MINE + "labels: [yes]\n", "labels must be two or more different names, got yes"),
    (MINE + "labels: [yes, yes]\n", "labels must be two or more different names, got yes, yes"),
    (MINE + "labels: 3\n", "mine.yaml: labels: .*got 3"),
    (MINE + "labels: [a, b]\nrange: [0, 1]\n", "a task has labels or a range, not both"),
    (MINE + "range: [5, 0]\n", r"range must be from the lowest to the highest number, got \[5.0, 0.0\]"),
    (MINE + "range: [0]\n", "mine.yaml: range: 1 is missing: give it a value"),
    (MINE + "metrics: [acuracy]\n", "metrics: unknown metric 'acuracy': choose from accuracy"),
    (MINE + "labels: [a, b]\nmetrics: [pearson]\n", "metric Pearson correlation is about values, but mine has labels"),
    (MINE + "metrics: [accuracy]\n", "metric accuracy is about classes, but mine has no labels, so it predicts a number"),
    (MINE + "labels: [a, b]\nmetrics: [{f1: {of: c}}]\n", "F1 of c: there is no label 'c': choose from a, b"),
    (MINE + "1: accuracy\n", "mine.yaml: 1: keys should be strings, got 1"),
    (MINE + "metric: accuracy\n", "mine.yaml: unknown setting metric"),
    (MINE + "name: a/b\ncolour: red\n", "mine.yaml: unknown setting colour"),
]] + [
    (lambda here: tasks.get("snli"), "unknown task 'snli': choose from cola, mnli, mrpc, .*, or give a task's YAML file"),
    (lambda here: tasks.get(3), "unknown task 3: choose from cola"),
    (lambda here: tasks.get("nowhere.yaml"), "no task at nowhere.yaml: give a YAML file like those in params/tasks"),
    (lambda here: tasks.load(task_of(here, MINE)),
     "mine does not say where it is on the hub: give --source a folder, or its YAML"),
    (lambda here: tasks.load(task_of(here, MINE + "data: nowhere.csv\n")),
     "no mine data at .*nowhere.csv: expected train.csv"),
    (lambda here: tasks.load(task_of(here, MINE + "data: mine.yaml\n")),
     "mine.yaml is of a kind that is not read here: save it"),
]

APPLIED = [(lambda here, name=name, options=options: methods.apply(name, tiny_model(), **options), said)
           for name, options, said in [
    ("bitfitt", {}, "unknown method 'bitfitt': choose from full"),
    (["full"], {}, r"unknown method \['full'\]: choose from full"),
    ("full", {"bottleneck": 8}, "method full: .*unexpected keyword argument 'bottleneck'"),
    ("adapter", {"bottleneck": 0}, "bottleneck must be a whole number of units, at least 1, got 0"),
    ("adapter", {"bottleneck": "64"}, "bottleneck must be a whole number of units, at least 1, got '64'"),
    ("adapter", {"bottleneck": NAN}, "bottleneck must be a whole number of units, at least 1, got nan"),
    ("adapter", {"placement": "prefix"}, "placement must be one of houlsby, pfeiffer, parallel, got 'prefix'"),
    ("adapter", {"placement": ["houlsby"]}, r"placement must be one of houlsby, pfeiffer, parallel, got \['houlsby'\]"),
    ("bitfit", {"terms": ["query", "quarry"]}, "unknown bitfit term quarry: choose from query, key"),
    ("last_k", {"k": 0}, "k must be 1 to 2, the encoder's layers, got 0"),
    ("last_k", {"k": True}, "k must be 1 to 2, the encoder's layers, got True"),
    ("last_k", {"k": "1"}, "k must be 1 to 2, the encoder's layers, got '1'"),
]]


# Encoders

def spoil(here, change):
    folder = Path(shutil.copytree(here.encoder, here.at / "spoilt encoder"))
    change(folder)
    return folder


def settings_of(file, **settings):
    kept = {**json.loads(file.read_text()), **settings}
    file.write_text(json.dumps({name: value for name, value in kept.items() if value is not None}))


def executed_with(change, **given):
    return lambda here: execute(here, encoder=str(spoil(here, change)), **given)


def other(**settings):
    return lambda folder: save_encoder(folder, tiny_config(**settings))


def weights(change):
    """A change of the tensors in an encoder's file."""
    def spoil(folder):
        file = folder / "model.safetensors"
        safetensors.torch.save_file(change(safetensors.torch.load_file(file)), file, metadata={"format": "pt"})

    return spoil


def without_biases():
    model = tiny_model()
    for module in model.modules():
        if hasattr(module, "bias"):
            module.bias = None
    return model


def xlnet():
    """A family that has no row."""
    return transformers.AutoModelForSequenceClassification.from_config(
        transformers.XLNetConfig(d_model=32, n_layer=1, n_head=2, d_inner=32, vocab_size=60))


def saved(here, change=lambda file: None, labels=("no", "yes"), method="head", encoder=None):
    """Load a file of what was trained after something happened to it."""
    file = here.at / "trained.safetensors"
    methods.save(methods.apply(method, encoders.load(here.encoder)), file, labels)
    change(file)
    return methods.load(file, encoder or here.encoder)


def noted(**changed):
    """A change of the notes in such a file."""
    def change(file):
        with safetensors.safe_open(file, "pt") as opened:
            about = {**json.loads(opened.metadata()["studykit"]), **changed}
        safetensors.torch.save_file(safetensors.torch.load_file(file), file, {"studykit": json.dumps(about)})

    return change


ENCODERS = [(executed_with(change), said) for change, said in [
    (lambda folder: (folder / "model.safetensors").unlink(),
     "has no model.safetensors, so no weights to load: put them there"),
    (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
     "has pickled weights only, which can run code when they are opened: save it with safetensors first"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b""),
     r"the weights of .* cannot be read \(.*: fetch its folder anew"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"no" * 99),
     r"the weights of .* cannot be read \(.*: fetch its folder anew"),
    (lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9]),
     r"the weights of .* cannot be read \(.*incomplete.*: fetch its folder anew"),
    (weights(lambda held: {name: tensor for name, tensor in held.items() if "layer.1" not in name}),
     "the weights of .* lack bert.encoder.layer.1.* in the shape of its config.json: .*: fetch its folder anew"),
    (weights(lambda held: {name: tensor[..., :16].contiguous() for name, tensor in held.items()}),
     "the weights of .* lack bert.* in the shape of its config.json: .*: fetch its folder anew"),
    (lambda folder: (folder / "config.json").unlink(), "has no config.json: give an encoder's folder"),
    (lambda folder: (folder / "config.json").write_text("{not json"),
     r"config.json' is not a valid JSON file.*fetch its folder"),
    (lambda folder: (folder / "config.json").write_text("[1]"), r"cannot be read \(.*: fetch its folder anew"),
    (lambda folder: (folder / "config.json").write_text("{}"),
     r"config.json of .* cannot be read \(.*model_type.*: fetch its"),
    (lambda folder: settings_of(folder / "config.json", model_type="martian"), r"cannot be read \(.*martian.*: fetch its"),
    (lambda folder: settings_of(folder / "config.json", model_type="mine", auto_map={"AutoConfig": "evil.Config"}),
     r"config.json of .* cannot be read \(.*custom code.*: fetch its"),
    (lambda folder: (folder / "tokenizer.json").unlink(),
     "has no tokenizer: put the tokenizer.json that it was pre-trained"),
    (lambda folder: [file.unlink() for file in folder.glob("tokenizer*")], "has no tokenizer: put the tokenizer.json that"),
    (lambda folder: (folder / "tokenizer.json").write_text("{"), r"tokenizer of .* cannot be read \(.*: fetch its folder"),
    (lambda folder: settings_of(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", pad_token=None),
     "the tokenizer of .* has no padding token, .*: name one as pad_token in its tokenizer_config.json"),
    (other(vocab_size=20), "the tokenizer of .* has 30 tokens, its weights 20: put its own there"),
    (other(max_position_embeddings=16), "max_length must be at most 16, the positions that .* has, got 32"),
]] + [
    (lambda here: encoders.load(here.encoder, pooler="fresh"), "pooler must be one of pretrained, new, got 'fresh'"),
    (lambda here: encoders.load(here.at / "nowhere"), "no encoder at .*nowhere: give a hub id, or a folder"),
    (lambda here: encoders.load(here.record), "no encoder at .*json: give a hub id, or a folder with config.json"),
    (lambda here: methods.apply("bitfit", without_biases()), "has no biases to train: .*; layernorm, adapter or head can"),
    (lambda here: methods.apply("adapter", xlnet()),
     "XLNet.* has no layers that this study knows, .*: the families known are .*BERT"),
    (lambda here: adapters.insert(xlnet()),
     "XLNet.* has no layers that this study knows, .*: the families known are .*BERT"),
    (lambda here: methods.apply("last_k", xlnet()),
     "XLNet.* has no layers that this study knows, .*: the families known are .*BERT"),
    (lambda here: saved(here, labels=("one", "two", "three")),
     "labels must be the names of the model's 2 outputs, or none, got"),
    (lambda here: saved(here, noted(labels=["yes"])),
     r"safetensors: labels must be the names of the model's 2 outputs.*'yes'"),
    (lambda here: saved(here, noted(num_labels=3, labels=[])),
     r"trained.safetensors does not fit .* \(classifier.*: give the encoder that was fine-tuned"),
    (lambda here: saved(here, Path.unlink),
     r"trained.safetensors cannot be read \(.*give a file that studykit.methods.save"),
    (lambda here: saved(here, lambda file: file.write_bytes(b"")),
     r"cannot be read \(.*give a file that studykit.methods.save"),
    (lambda here: saved(here, lambda file: safetensors.torch.save_file({"a": torch.zeros(1)}, file)),
     "trained.safetensors was not written by studykit.methods.save: give one that was"),
    (lambda here: saved(here, method="full", encoder=save_encoder(here.at / "other", tiny_config(num_hidden_layers=1))),
     r"trained.safetensors does not fit .*other \(.*: give the encoder that was fine-tuned"),
]


# Data files

HEADER = "sentence,label\n"
SOUND = "".join(f"text {i},{i % 2}\n" for i in range(40))


def read(here, files, task="cola"):
    """Load a task from these files; what is not among them is sound."""
    folder = here.at / "my data"
    if not any(name.startswith("validation") for name in files):
        write_split(folder, task, "validation", rows(task, "validation"))
    (folder / task).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        file = folder / task / name
        if isinstance(content, list):
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), file)
        else:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load(here, source=str(folder)).plan(task, "full", rates=1e-3)


def few_rows(here):
    """A folder with a task of eight rows."""
    read(here, {"train.csv": HEADER + SOUND[: SOUND.index("text 8")], "validation.csv": HEADER + SOUND})
    return str(here.at / "my data")


def parquet(*labels, text="a text"):
    return [{"sentence": text, "label": label} for label in (0, 1, *labels)]


def not_utf8():
    """A Parquet file whose texts are Latin-1."""
    offsets, texts = (pyarrow.py_buffer(held) for held in (b"\0\0\0\0\1\0\0\0\2\0\0\0", b"\xe9\xe8"))
    texts = pyarrow.StringArray.from_buffers(2, offsets, texts)
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"sentence": texts, "label": [0, 1]}), sink)
    return sink.getvalue().to_pybytes()


KNOWN = "is not known: expected unacceptable, acceptable, or 0 to 1"
FILES = [(lambda here, files=files: read(here, files), said) for files, said in [
    ({"train.csv": (HEADER + "é,1\n").encode("latin-1")},
     r"train.csv, line 2: it is not UTF-8 \(at byte 15\): save the file as"),
    ({"train.csv": (HEADER + SOUND).encode("utf-16")},
     r"train.csv, line 1: it is not UTF-8 \(at byte 0\): save the file as"),
    ({"train.tsv": b"sentence\tlabel\nna\xefve\t1\n"},
     r"train.tsv, line 2: it is not UTF-8 \(at byte 17\): save the file as"),
    ({"train.jsonl": b'{"sentence": "\xff", "label": 1}'}, r"train.jsonl, line 1: it is not UTF-8 \(at byte 14\): save the"),
    ({"train.csv": HEADER + SOUND + '"open,1\nb,0\n'},
     "train.csv, line 42: its quotes are not balanced .*one whole row of CSV"),
    ({"train.csv": HEADER + '"a" b,1\n' + SOUND}, "train.csv, line 2: its quotes are not balanced .*one whole row of CSV"),
    ({"train.csv": HEADER + SOUND + '"a,1\nb,0\nc",1\n'},
     "train.csv, line 42: a quote that opens here closes in line 44, and what"),
    ({"train.csv": HEADER + SOUND + "a, b,1\n"},
     "train.csv, line 42: it has 3 values for the 2 columns sentence, label; a text that holds commas must stand in double"),
    ({"train.csv": HEADER + "a\n" + SOUND}, "train.csv, line 2: it has 1 value for the 2 columns sentence, label; a text"),
    ({"train.csv": HEADER.replace(",", ";") + "a;0\nb;c;1\n"},
     "line 3: it has 3 values .*; a text that holds semicolons must"),
    ({"train.tsv": "sentence\tlabel\na\tb\t1\n"}, "train.tsv, line 2: it has 3 values for the 2 columns .* holds tabs must"),
    ({"train.csv": "sentence,label,label\na,1,0\n"},
     "train.csv, line 1: column label stands there 2 times: rename the others"),
    ({"train.csv": "text,label\na,1\n"},
     "train.csv, line 1: column sentence is missing; the file has text, label: rename what"),
    ({"train.csv": "a text,1\n" + SOUND},
     "train.csv, line 1: column sentence, label is missing; the file has a text, 1: rename"),
    ({"train.csv": HEADER + "a,yes\n"}, f"train.csv, line 2: label 'yes' {KNOWN}"),
    ({"train.csv": HEADER + SOUND + "a,\n"}, "train.csv, line 42: label is missing: fill it in, or take the row out"),
    ({"train.csv": HEADER + SOUND + "a,nan\n"}, f"train.csv, line 42: label 'nan' {KNOWN}"),
    ({"train.csv": HEADER + SOUND + "a,-inf\n"}, f"train.csv, line 42: label '-inf' {KNOWN}"),
    ({"train.csv": HEADER + SOUND + "a,1e99\n"}, f"train.csv, line 42: label '1e99' {KNOWN}"),
    ({"train.csv": HEADER + SOUND + "a," + "9" * 400 + "\n"},
     "train.csv, line 42: label '9{79} is not known: expected unaccept"),
    ({"train.csv": HEADER + SOUND + "a,2\nb,3\n"}, f"train.csv, line 42 .and 1 more.: label '2' {KNOWN}"),
    ({"train.tsv": "sentence\tlabel\na\t0\nb\t0.5\n"}, f"train.tsv, line 3: label '0.5' {KNOWN}"),
    ({"train.csv": HEADER + ",1\n ,0\n"},
     "cola train: every text of column sentence is empty: fill them in, or name another"),
    ({"train.csv": HEADER}, "cola train: the file has no rows; give it at least two"),
    ({"train.csv": ""}, "cola train: the file has no rows; give it at least two"),
    ({"train.jsonl": "\n\n"}, "cola train: the file has no rows; give it at least two"),
    ({"train.json": "[]"}, "cola train: the file has no rows; give it at least two"),
    ({"train.csv": HEADER + "a,1\nb,1\n"}, "cola train: every label is acceptable; at least two different ones are needed"),
    ({"train.csv": HEADER + "a,1\nb,1\n", "validation.csv": HEADER + SOUND},
     "cola train: every label is acceptable; at least"),
    ({"train.jsonl": '{"sentence": "a", "label": 1'},
     "train.jsonl, line 1: Expecting .*each line must be one whole JSON object"),
    ({"train.json": '[{"sentence": "a", "label": 1},\n]'},
     r"train.json, line \d: .*JSON object, or the file one array of them"),
    ({"train.json": '["a", 1]'}, "train.json, row 1: it is not a JSON object; each item of the array must be one"),
    ({"train.jsonl": '"a"\n'}, "train.jsonl, line 1: it is not a JSON object; each line must be one whole JSON object"),
    ({"train.jsonl": '{"sentence": 5, "label": 1}'},
     "train.jsonl, line 1: sentence 5 is not text: give it one, or an empty one"),
    ({"train.jsonl": '{"sentence": null, "label": 1}'}, "train.jsonl, line 1: sentence None is not text: give it one"),
    ({"train.jsonl": '{"sentence": "a", "label": 1}\n{"sentence": "\\udc80", "label": 0}'},
     r"train.jsonl, line 2: sentence '\\udc80' holds half a character \(a lone surrogate\): mend it"),
    ({"train.jsonl": '{"sentence": "a", "label": true}'}, f"train.jsonl, line 1: label True {KNOWN}"),
    ({"train.jsonl": '{"sentence": "a", "label": [1]}'}, rf"train.jsonl, line 1: label \[1\] {KNOWN}"),
    ({"train.jsonl": '{"sentence": "a", "label": null}'},
     "train.jsonl, line 1: label is missing: fill it in, or take the row"),
    ({"train.jsonl": '{"sentence": "a"}'}, "train.jsonl, line 1: column label is missing; the file has sentence: rename"),
    ({"train.csv": HEADER + SOUND, "train.tsv": ""},
     r"holds train more than once, as train\.csv and as train\.tsv: keep one"),
    ({"train.parquet": parquet(), "train-0.parquet": parquet()},
     r"more than once, as train-\*.parquet and as train.parquet: keep"),
    ({"train-00001-of-00002.parquet": parquet()},
     "holds 1 of the parts train-.*, where their names say 00002: put all of them there"),
    ({"train.parquet": b"PAR1 rubbish PAR1"}, r"train.parquet is not a sound Parquet file \(.*: fetch or write it again"),
    ({"train.parquet": b""}, r"train.parquet is not a sound Parquet file \(.*: fetch or write it again"),
    ({"train-00000-of-00001.parquet": not_utf8()[:-20]},
     r"train-0.* is not a sound Parquet file \(.*: fetch or write it again"),
    ({"train.parquet": not_utf8()}, r"train.parquet is not a sound Parquet file \(.*UTF8.*: fetch or write it again"),
    ({"train.parquet": [{"text": "a", "label": 1}]},
     "train.parquet: column sentence is missing; the file has text, label: rename"),
    ({"train.parquet": parquet(None)}, "train.parquet, row 3: label is missing: fill it in, or take the row out"),
    ({"train.parquet": parquet(NAN)}, "train.parquet, row 3: label is missing: fill it in, or take the row out"),
    ({"train.parquet": parquet(INF)}, f"train.parquet, row 3: label inf {KNOWN}"),
    ({"train.parquet": parquet(-1)}, f"train.parquet, row 3: label -1 {KNOWN}"),
    ({"train.parquet": [{"sentence": "a", "label": "yes"}]}, f"train.parquet, row 1: label 'yes' {KNOWN}"),
    ({"train.parquet": [{"sentence": "a", "label": True}]}, f"train.parquet, row 1: label True {KNOWN}"),
    ({"train.parquet": [{"sentence": "a", "label": [1]}]},
     "train.parquet: column label is of type list<.*: int64>, which is not read: write it as text or numbers, one a row"),
    ({"train.parquet": parquet(text=None)}, "train.parquet, row 1 .and 1 more.: sentence None is not text: give it one"),
    ({"train.parquet": parquet(text=3)}, "train.parquet, row 1 .and 1 more.: sentence 3 is not text: give it one"),
    ({"train.parquet": parquet(text="")},
     "cola train: every text of column sentence is empty: fill them in, or name another"),
    ({"train.txt": SOUND}, r"no cola data at .*my data/cola: expected train\.csv, .*train-1\.csv.*folder as --source"),
    ({}, r"no cola data at .*my data/cola: expected train\.csv, .*train-1\.csv.*folder as --source"),
]] + [
    (lambda here: read(here, {"train.csv": "sentence1,sentence2,label\na,b,5.1\nc,d,1\n"}, "stsb"),
     "train.csv, line 2: label '5.1' is out of range: expected 0 to 5"),
    (lambda here: read(here, {"train.csv": "sentence1,sentence2,label\na,b,1e39\nc,d,1\n"}, "stsb"),
     "train.csv, line 2: label '1e39' is not a number, or too large a one: expected 0 to 5"),
    (lambda here: read(here, {"train.csv": "sentence1,label\na,1\n"}, "mrpc"),
     "train.csv, line 1: column sentence2 is missing; the file has sentence1, label"),
    (lambda here: (here.at / "my data" / "cola" / "train.csv").mkdir(parents=True) or read(here, {}),
     "train.csv is a folder: it must be a file with the rows of cola train"),
    (lambda here: (here.at / "my data" / "cola" / "train-0.parquet").mkdir(parents=True) or read(here, {}),
     "train-0.parquet is a folder: it must be a file with the rows of cola train"),
    (lambda here: execute(here, spoilt(data="published")),
     "cola at .* is not the published data .*make a study of your own"),
    (lambda here: tasks.load("sst2", "mini"), "the miniature has no task 'sst2': choose from mrpc, cola, stsb"),
    (lambda here: execute(here, source=few_rows(here), score_on="selection"),
     "cola has 8 rows to train on, too few to choose learning rates on 15% of them, .*: 27 rows with these shares"),
]


# Rows of somebody's own, of which nothing is said

CALM = ("calm", "urgent", "angry")


def words(i):
    return f"the {('red', 'old', 'small', 'green')[i % 4]} bird sees a {('tree', 'house', 'river')[i % 3]} {i}"


def calm(i):
    return CALM[i % 3]


def lines(label=calm, *more, header="text,label\n", count=60, line="{},{}\n"):
    """A file of texts and labels as CSV, with lines of one's own at its end."""
    return header + "".join(line.format(words(i), label(i)) for i in range(count)) + "".join(more)


def objects(label=calm, *more, text=words, count=60):
    return "".join(json.dumps({"text": text(i), "label": label(i)}) + "\n" for i in range(count)) + "".join(more)


def table(metadata=None, count=60, **columns):
    """A Parquet file of texts, labels and more; a column that is called ``again`` is called label."""
    held = {"text": [words(i) for i in range(count)], "label": [CALM[i % 3] for i in range(count)], **columns}
    made = pyarrow.table(held).rename_columns([name.replace("again", "label") for name in held])
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(made.replace_schema_metadata(metadata), sink)
    return sink.getvalue().to_pybytes()


def own(files, *options):
    """Ask for advice on a file, or on a folder where there are several."""
    def ask(here):
        for name, content in files.items():
            file = here.at / "mine" / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return main(["data", str(here.at / "mine" / "".join(files) if len(files) == 1 else here.at / "mine"), *options])

    return ask


UNLABELLED = lines(line="{}\n", header="text\n")
NINES, UNSOUND = "9" * 400, '{"text": "a b \\ud83d", "label": "calm"}\n'
NAMED = json.dumps({"info": {"features": {"label": {"names": CALM}}}})
OWN = [(own(files, *options), said) for files, said, *options in [
    ({"x.csv": lines(header="")},
     r"x\.csv, line 1: it looks like a row, not column names \(the red bird sees a tree 0, calm\): put names above it"),
    ({"x.csv": lines(lambda i: i / 7, header="")}, r"x\.csv, line 1: it looks like a row, not column names"),
    ({"x.tsv": lines(header="", line="{1}\t{0}\n")}, r"x\.tsv, line 1: it looks like a row, not column names \(calm, the"),
    ({"x.parquet": table(again=["a"] * 60)}, r"x\.parquet: column label stands there 2 times: rename the others"),
    ({"x.parquet": table(again=["a"] * 60)}, "column label stands there 2 times", "--text", "text", "--label", "label"),
    ({"x.parquet": table(label=[[1]] * 60)},
     r"x\.parquet: column label is of type list<element: int64>, which is not read: write it as text or numbers"),
    ({"x.parquet": table(text=[b"a"] * 60)}, "column text is of type binary, which is not read", "--text", "text"),
    ({"x.csv": lines(lambda i: i % 3, f"one more here,{NINES}\n")},
     r"x\.csv, line 62: label '9+ is no number, or too large a one, and nearly all others are numbers: mend it, or take"),
    ({"x.csv": lines(lambda i: i / 7, f"one more here,{NINES}\n")}, "line 62: label '9+ is no number, or too large"),
    ({"x.csv": lines(lambda i: i / 7, "one more here,NA\n")}, r"x\.csv, line 62: label 'NA' is no number"),
    ({"x.csv": lines(lambda i: i / 7, "one more here,inf\n")}, r"x\.csv, line 62: label 'inf' is no number"),
    ({"x.csv": lines(lambda i: i % 5 if i % 12 else "N/A")}, r"x\.csv, line 2 \(and 4 more\): label 'N/A' is no number"),
    ({"x.csv": lines(lambda i: i / 7, "one more here,unknown\n")}, "line 62: label 'unknown' is no", "--label", "label"),
    ({"x.jsonl": objects(calm, UNSOUND)},
     r"x\.jsonl, line 61: text 'a b \\ud83d' holds half a character \(a lone surrogate\): mend it"),
    ({"x.jsonl": objects(text=lambda i: words(i) if i != 7 else 2024)}, r"x\.jsonl, line 8: text 2024 is not text: give it"),
    ({"x.jsonl": objects(calm, '{"text": "a b c", "label": "\\ud83d"}\n')},
     r"x\.jsonl, line 61: label '\\ud83d' holds half a character \(a lone surrogate\): mend it"),
    ({"x.jsonl": objects(lambda i: ["a", CALM[i % 3]])},
     r"x\.jsonl, line 1 \(and 59 more\): label \['a', 'calm'\] is not one name or number: give each row one label"),
    ({"x.jsonl": objects(lambda i: {"name": CALM[i % 3]} if i else "calm")}, "label {'name': 'urgent'} is not one name"),
    ({"train.csv": lines(), "val.csv": lines().replace("text,label", "Text,Label")},
     r"val\.csv, line 1: column text, label is missing, which train\.csv has; it has Text, Label: give all files the same"),
    ({"train.csv": lines(), "val.csv": UNLABELLED}, r"val\.csv, line 1: column label is missing, which"),
    ({"train.csv": lines(), "val.csv": UNLABELLED}, r"val\.csv, line 1: column label is missing; the",
     "--label", "label"),
    ({"train-1.csv": lines(line="{},{},web\n", header="text,label,by\n"), "val.csv": lines(),
      "train-2.csv": lines(lambda i: "web" if i % 2 else "mail", header="text,by\n")},
     r"train-2\.csv, line 1: column label is missing, which train-1\.csv has"),
    ({"train.csv": lines(), "val.csv": ""}, r"val\.csv has no rows: give it some"),
    ({"train.csv": lines(), "val.csv": "text,label\n"}, r"val\.csv has no rows: give it some"),
    ({"train-1.parquet": table({"huggingface": NAMED}, label=[i % 3 for i in range(60)]), "val.parquet": table(),
      "train-2.parquet": table(label=[i % 3 for i in range(60)])},
     r"train-2\.parquet: its labels are numbers, such as 0, where train-1\.parquet has names, such as 'calm': give"),
    ({"train.csv": lines(lambda i: i % 2), "val.jsonl": objects(lambda i: i % 2 == 0)},
     r"train\.csv: its labels are numbers, such as '0', where val\.jsonl has names, such as True"),
    ({"x.csv": lines(lambda i: "a")}, r"x\.csv: every label of label is 'a'; at least two different ones are needed"),
    ({"x.csv": lines(lambda i: "a")}, "every label of label is 'a'; at least two different", "--label", "label"),
    ({"x.csv": lines().encode("utf-16-le")}, r"x\.csv, line 1: it holds a NUL character, so it looks like UTF-16: save the"),
    ({"x.csv": lines().encode("utf-16-be")}, r"x\.csv, line 1: it holds a NUL character, so it looks like UTF-16: save the"),
    ({"x.csv": lines(header="te\0xt,label\n")}, r"x\.csv, line 1: it holds a NUL character"),
    ({"x.csv": lines(header="Export of tickets 2024\n\ntext,label\n")},
     r"x\.csv, line 1: 'Export of tickets 2024' stands there alone, and the rows below have 2 values: take out what stands"),
    ({"x.csv": lines(header="Export of tickets 2024,\ntext,label\n")}, "line 1: 'Export of tickets 2024' stands there"),
    ({"x.csv": lines(header="# made by x\ntext,label\n")}, "line 1: '# made by x' stands there alone"),
    ({"x.csv": lines(calm, "\ufefftext,label\n")},
     r"x\.csv, line 62: it repeats line 1, the names of the columns: take it out"),
    ({"x.csv": lines(line='{1}, "well, {0}"\n', header="label, text\n")},
     r"x\.csv, line 2: a blank stands before a quote, which then encloses nothing: take the blank out"),
    ({"x.csv": lines(line='{1}, "{0}"\n', header="label, text\n")}, r"x\.csv, line 2: a blank stands before a quote"),
    *[({"x.json": json.dumps(held, indent=indent)},
       r"x\.json, line 1: it is one object, not rows \(\w+, \w+\): write it as an array of objects, .*orient='records'")
      for indent in (None, 1) for held in (
          {"text": [words(i) for i in range(60)], "label": [*CALM * 20]},
          {"text": {i: words(i) for i in range(60)}, "label": {i: calm(i) for i in range(60)}},
          {"version": 1, "data": [{"text": words(i), "label": calm(i)} for i in range(60)]},
          {"columns": ["text", "label"], "data": [[words(i), calm(i)] for i in range(60)]})],
    ({"train-1.csv": lines(), "train-3.csv": lines(), "val.csv": lines()},
     r"mine holds parts 1 to 3 of train-\*\.csv, but not 2: put it there, or number them without a gap"),
    ({"train-1.csv": lines(), "train-01.csv": lines(), "val.csv": lines()}, r"holds part 1 of train-\*\.csv more than once"),
    ({"train.csv": lines(), "test.csv": lines()}, r"no mine data at .*: put them there, or give another folder$"),
    ({"x.tsv": lines(lambda i: f"{i // 7},{i % 7}", header="text\tscore\n", line="{}\t{}\n")},
     r"x\.tsv: label score has numbers with a decimal comma, such as '0,0', which are read only where semicolons separate"),
    ({"x.csv": lines(lambda i: f"{i // 7},{i % 7}", header="text,score\n", line='{},"{}"\n')}, "with a decimal comma"),
    ({"x.csv": lines(line="{},{},x\n", header="text,label,label\n")}, r"x\.csv, line 1: column label stands there 2 times"),
]]


# The command line

def command(*words):
    return lambda here: main([str(word) for word in words])


def command_with(text, *words):
    def run(here):
        (here.at / "tiny.yaml").write_text(text)
        return main(["run", "--study", "tiny.yaml", "--source", here.glue, "--encoder", here.encoder, *words])

    return run


COMMANDS = [(command(*words), said) for words, said in [
    ((), "arguments are required: command: see ./run_all.sh --help"),
    (("walk",), "invalid choice: 'walk'.*: see ./run_all.sh --help"),
    (("run", "--nonsense"), "unknown option '--nonsense': see ./run_all.sh --help"),
    (("run", "03"), "unknown word '03': see ./run_all.sh --help"),
    (("run", "--jobs", "two"), "argument --jobs: invalid int value: 'two': see ./run_all.sh --help"),
    (("run", "--jobs", "1.5"), "argument --jobs: invalid int value: '1.5': see"),
    (("run", "--jobs", "0"), "--jobs must be at least 1, got 0"),
    (("run", "--jobs", "-2"), "--jobs must be at least 1, got -2"),
    (("run", "--jobs"), "argument --jobs: expected one argument: see ./run_all.sh --help"),
    (("run", "--study", "nonesuch"),
     "unknown study 'nonesuch': choose from bert, beyond, domains, larger, long, longer, mini, minilm, mpnet, sizes, or "),
    (("run", "--study", "nonesuch.yaml"),
     "unknown study 'nonesuch.yaml': choose from bert, beyond, domains, larger, long, longer, mini, minilm, mpnet, sizes"),
    (("run", "--study", ""), "unknown study '': choose from bert"),
    (("run", "--study", "../../../etc/passwd"), "unknown study '.*/etc/passwd': choose from"),
    (("run", "--only", "03,99"), "no notebook 99: there are 00_start_here"),
    (("run", "--only", "../03"), "no notebook ../03: there are 00_start_here"),
    (("run", "--set", "fractions"), "--set wants NAME=VALUE, got 'fractions'"),
    (("run", "--set", "=3"), "--set wants NAME=VALUE, got '=3'"),
    (("run", "--set", "a b=3"), "--set wants NAME=VALUE, got 'a b=3'"),
    (("run", "--set", "fractions=[0.1"), r"--set fractions: '\[0.1' is not a YAML value"),
    (("run", "--set", "seeds=!!python/name:os.system"), "--set seeds: .* is not a YAML value"),
    (("run", "--set", "fractoins=[0.1]"), "unknown parameter fractoins: these notebooks have .*fractions"),
    (("run", "--only", "01", "--set", "seeds=[1]"), "unknown parameter seeds: these notebooks have bottleneck, num_labels"),
    (("run", "--only", "03", "--set", "fractions=0.1"),
     "03_data_fractions: fractions must be a list of at least one.*got 0.1"),
    (("run", "--only", "03", "--set", "fractions=[0.1, 10]"), r"fractions: each fraction must be in \(0, 1\], got 10"),
    (("run", "--only", "03", "--set", "fractions=[.nan]"), r"fractions: each fraction must be in \(0, 1\], got nan"),
    (("run", "--only", "03", "--set", "seeds=[0, one]"), "seeds: each seed must be a whole number, at least 0, got 'one'"),
    (("run", "--only", "03", "--set", "seeds=[-1]"), "seeds: each seed must be a whole number, at least 0, got -1"),
    (("run", "--only", "03", "--set", "seeds=[true]"), "seeds: each seed must be a whole number, at least 0, got True"),
    (("run", "--only", "03", "--set", "tasks=cola"), "tasks must be a list of at least one item, got 'cola'"),
    (("run", "--only", "03", "--set", "tasks=[1]"), "tasks: each task must be text, got 1"),
    (("run", "--only", "04", "--set", "budgets=[0]"), "budgets: each budget must be a positive number, got 0"),
    (("run", "--only", "00", "--set", "fraction=1e-1"), r"00_start_here: fraction must be in \(0, 1\], got '1e-1'"),
    (("run", "--only", "00", "--set", "seed=[0]"), r"00_start_here: seed must be a whole number, at least 0, got \[0\]"),
    (("run", "--only", "00", "--set", "task="), "00_start_here: task must be text, got None"),
    (("run", "--only", "00", "--set", "jobs=0"), "00_start_here: jobs must be a positive whole number, got 0"),
    (("run", "--source", "/nowhere"), "source must be hub, mini or a folder, and there is no folder at /nowhere"),
    (("run", "--encoder", "/nowhere"),
     "no encoder's folder at /nowhere: study mini is about mini, so give --encoder a folder"),
]] + [
    (command_with(spoilt(notebooks={"03_data_fraction": {}})),
     "sets values for 03_data_fraction, which is no notebook: choose"),
    (command_with(spoilt(notebooks={"03_data_fractions": True})), "tiny.yaml: notebooks: 03_data_fractions: .*got True"),
    (command_with(spoilt(notebooks={"03_data_fractions": {"seeds": 3}})), "03_data_fractions: seeds must be a list .*got 3"),
    (command_with(spoilt(notebooks={"03_data_fractions": {"sedes": [3]}})),
     "sets sedes, which 03_data_fractions does not have: it has .*fractions"),
    (command_with(STUDY + "batchsize: 8\n"), "tiny.yaml: unknown setting batchsize"),
    (command_with("{"), r"tiny.yaml is not YAML \(.*: mend it there"),
]


# Where the results go

def occupied(part, then):
    """``then``, with a file where a folder of the store should be."""
    def run(here):
        at = here.home / part
        if at.is_dir():
            shutil.rmtree(at)
        at.write_text("")
        here.before = stored(here.home)
        return then(here)

    return run


STORES = [(occupied(part, then), said) for part, then, said in [
    ("", command_with(STUDY, "--only", "01"),
     r"the folder .*home/results/tiny cannot be used \(Not a directory\): set STUDYKIT"),
    ("results", command_with(STUDY, "--only", "01"),
     r"home/results/tiny cannot be used \(Not a directory\): set STUDYKIT_HOME"),
    ("figures/tiny", command_with(STUDY, "--only", "01"),
     r"home/figures/tiny cannot be used \(File exists\): set STUDYKIT_HOME"),
    ("runs/tiny", command_with(STUDY, "--only", "01"),
     r"home/runs/tiny cannot be used \(File exists\): set STUDYKIT_HOME to one"),
    ("results", execute, r"home/results/tiny/some cannot be used \(Not a directory\): set STUDYKIT_HOME to one that can"),
    ("results/tiny/some", execute,
     r"home/results/tiny/some cannot be used \(File exists\): set STUDYKIT_HOME to one that can"),
]]


# Records: nothing is raised, they are set aside, and that is said

def record_with(change):
    def read(here):
        text = here.record.read_text()
        here.record.write_text(change(text))
        assert here.record.read_text() != text
        here.before = stored(here.home)
        assert records.read(here.record.parents[1]) == {}

    return read


ASIDE = r"set aside a record that is not sound, cola-head.*json: {}.*; asked for again, its run will be trained again"
RECORDS = [(record_with(change), said) for change, said in [
    (lambda text: "", ASIDE.format("Expecting value")),
    (lambda text: text[: len(text) // 2], ASIDE.format("")),
    (lambda text: "[1, 2]", ASIDE.format("it holds no run")),
    (lambda text: "{}", ASIDE.format("it holds no run")),
    (lambda text: '{"run": 3}', ASIDE.format("it holds no run")),
    (lambda text: text.replace('"lr": 0.001', '"lr": "high"'), ASIDE.format("lr must be a positive number, got 'high'")),
    (lambda text: text.replace('"lr": 0.001', '"lr": 0.002'), ASIDE.format("its name is not its run's")),
    (lambda text: text.replace('"weights": "0123"', '"weights": "9999"'), ASIDE.format("its name is not its run's")),
    (lambda text: text.replace('"task": "cola"', '"task": "rte"'), ASIDE.format("its name is not its run's")),
    (lambda text: text.replace('"score": 0.5', '"score": 0.9'), ASIDE.format("it was changed after it was written")),
    (lambda text: text.replace('"schema": 2', '"schema": 1'),
     "left out a record of another version, .*: its schema is 1, not 2; take the version that wrote it"),
    (lambda text: text.replace('"lr": 0.001', '"lr": 0.001, "momentum": 0.9'),
     "left out a record of another version, .*: its run has momentum; take the version that wrote it"),
]]


KINDS = {"run": RUNS, "budget": BUDGETS, "plan": PLANS, "execute": EXECUTED, "study": STUDIES, "task": TASKS,
         "method": APPLIED, "encoder": ENCODERS, "file": FILES, "own": OWN, "command": COMMANDS, "store": STORES,
         "record": RECORDS}
CASES = [pytest.param(do, said, id=f"{kind}-{i}: {said[:60]}") for kind, cases in KINDS.items()
         for i, (do, said) in enumerate(cases)]


def test_there_are_hundreds_of_cases_of_every_kind():
    assert len(CASES) >= 300
    assert min(map(len, KINDS.values())) >= 6


@pytest.mark.parametrize("do, said", CASES)
def test_a_mistake_gets_one_sentence_and_the_records_stay(here, capsys, do, said):
    here.before = stored(here.home)
    try:
        status = do(here)
    except (ValueError, OSError) as error:
        told = str(error)
    else:
        printed = capsys.readouterr()
        assert status in (2, None) and not (printed.out and printed.err)
        told = (printed.err or printed.out).removesuffix("\n")
        assert told.startswith("run_all.sh: ") == (status == 2)
    assert re.search(said, told), told
    assert "\n" not in told and len(told) < 800, told
    assert stored(here.home) == here.before
    assert not list(here.at.rglob("x"))


# What is no mistake

@pytest.mark.parametrize("name", ["my results", "it's \"mine\"", "$(touch x); é & 漢"])
def test_studies_groups_and_folders_may_have_any_plain_name(here, monkeypatch, name):
    monkeypatch.setenv("STUDYKIT_HOME", str(here.at / name))
    source, encoder = (shutil.copytree(given, here.at / name / Path(given).name) for given in (here.glue, here.encoder))
    experiment = load(here, STUDY, str(source), str(encoder), f"{name}.yaml")
    table = experiment.execute(experiment.plan("cola", "head", rates=1e-3, steps=2), group=f"{name} group")
    assert table["status"].tolist() == ["ok"]
    results = here.at / name / "results"
    assert [file.parent for file in results.rglob("*.json")] == [results / name / f"{name} group"]
    assert not list(here.at.rglob("x"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ours_is_said(here):
    here.home.chmod(0o500)
    with pytest.raises(OSError, match=r"cannot be used .*: set STUDYKIT_HOME to one that can"):
        paths.made(here.home / "results" / "other")


def test_a_record_of_another_study_is_neither_used_nor_touched(here):
    before = here.record.read_bytes()
    experiment = load(here)
    wanted = experiment.plan("cola", "head", rates=1e-3, steps=2)
    assert experiment.recorded(wanted).empty
    assert len(experiment.execute(wanted, group="before")) == 1
    assert here.record.read_bytes() == before


def test_a_head_of_another_task_is_no_obstacle(here):
    """An encoder that somebody fine-tuned for three classes: its head is drawn anew."""
    config = tiny_config(num_labels=3)
    folder = save_encoder(here.at / "three", config)
    encoders.from_config(config).save_pretrained(folder)
    assert encoders.load(folder, num_labels=2).classifier.out_features == 2
