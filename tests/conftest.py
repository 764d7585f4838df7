"""What the tests share: an encoder, data and a study that are small, our own, and made on the spot."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything of Hugging Face is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as run_all.sh sets both
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import random

import datasets
import pytest
import torch
import transformers
import yaml

from studykit import study, tasks
from studykit.models import encoders

for name in ("STUDYKIT_HOME", "STUDYKIT_FROM", "STUDYKIT_STARTED"):  # what run_all.sh tells who it calls is not the tests'
    os.environ.pop(name, None)
torch.set_num_threads(1)
datasets.disable_progress_bars()
transformers.utils.logging.disable_progress_bar()

ANIMALS = ("cat", "dog", "bird", "horse", "mouse", "cow")
VERBS = ("sees", "hears", "follows", "likes")
PLACES = ("house", "garden", "river", "road")
OTHERS = ("lawyer", "sells", "office", "market", "banker", "buys")  # in none of the first sentences
SMALL = ("the", "a", "near", "of")
CONTENT = (1, 2, 4, 7)  # positions of a sentence's animals, verb and place
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TRAIN, VALIDATION = 120, 40

STUDY = """\
encoder: tiny-bert
pooler: new
source: hub
precision: fp32
batch_size: 16
max_length: 32
epochs: 4
min_steps: 30
tasks: [mrpc, cola, stsb]
arms:
  full: {rates: [1.0e-3, 3.0e-3]}
  bitfit: {rates: [1.0e-2, 3.0e-2]}
  adapter: {rates: [3.0e-3, 1.0e-2]}
  head: {rates: [1.0e-2, 3.0e-2]}
shares: [0.5, 1.0]
budgets: [1, 2]
seeds: [0, 1]
trials: {fraction: 0.5, seeds: [1000]}
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file's tests run in one process. So do all that train the miniature, or two would wait for each other's runs."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "notebooks" if file.endswith((".ipynb", "test_notebooks.py")) else file

    return ByFile(config, log)


def tiny_config(family="bert", **options):
    """A configuration of the family, two layers of width 32."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
             "max_position_embeddings": 64, "vocab_size": 60}
    if family == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64, "vocab_size": 60}
    if family == "electra":
        sizes["embedding_size"] = 16
    return transformers.AutoConfig.for_model(family, **{**sizes, **options})


def tiny_model(family="bert", seed=0, **options):
    """A classifier of the family with random weights, in evaluation mode."""
    return encoders.from_config(tiny_config(family, **options), seed).eval()


def save_encoder(folder, config=None, seed=0):
    """Save a BERT whose random weights are large enough for its outputs to depend on its inputs."""
    config = config or tiny_config(initializer_range=0.2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.BertModel(config)
    model.save_pretrained(folder)
    words = [*SPECIAL, *SMALL, *ANIMALS, *VERBS, *PLACES, *OTHERS, "."]
    transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    return folder


def made_result(run, score=0.5, *, collapsed=False, learnt=True, **fields):
    """What training a run might have given, as ``runs.train_run`` returns it: this score, of answers that are the labels."""
    task = tasks.get(run.task)
    labels = [0, 1] * 20 if task.labels else [i / 8 for i in range(40)]
    return {"status": "ok", "reason": "", "scores": {task.metric.name: score}, "score": score, "labels": labels,
            "predictions": [1] * 40 if collapsed else labels, "label_spread": None if task.labels else 1.4,
            "label_mean": None if task.labels else 2.4, "p_shuffled": 0.001 if learnt else 0.5, **fields}


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    """A folder with a BERT of two layers and its tokenizer."""
    return str(save_encoder(tmp_path_factory.mktemp("encoder")))


def _sentence(rng):
    return ["the", rng.choice(ANIMALS), rng.choice(VERBS), "a", rng.choice(ANIMALS), "near", "the", rng.choice(PLACES)]


def _mrpc(rng, i):
    first = _sentence(rng)
    same = i % 3 != 0
    second = first if same else [rng.choice(OTHERS) if position in CONTENT else "of" for position in range(len(first))]
    return {"sentence1": " ".join(first) + " .", "sentence2": " ".join(second) + " .", "label": _noisy(same, i), "idx": i}


def _cola(rng, i):
    words = _sentence(rng)
    sound = i % 10 >= 3
    if not sound:
        words = [word if position in CONTENT else "of" for position, word in enumerate(words)]
    return {"sentence": " ".join(words) + " .", "label": _noisy(sound, i), "idx": i}


def _noisy(truth, i):
    """The label; one in twelve is wrong, or every method would score 100."""
    return int(truth != (i % 12 == 5))


def _stsb(rng, i):
    first = _sentence(rng)
    second = list(first)
    changed = rng.sample(CONTENT, i % 5)
    for position in changed:
        second[position] = rng.choice(OTHERS)
    label = min(5.0, max(0.0, 5 - 5 * len(changed) / 4 + rng.uniform(-0.2, 0.2)))
    return {"sentence1": " ".join(first) + " .", "sentence2": " ".join(second) + " .", "label": round(label, 2), "idx": i}


ROWS = {"mrpc": _mrpc, "cola": _cola, "stsb": _stsb}


def rows(task, split):
    """Generated rows of a task's split; the validation rows are others than the training rows."""
    rng = random.Random(f"{task} {split}")
    made = [ROWS[task](rng, i) for i in range(TRAIN if split == "train" else VALIDATION)]
    rng.shuffle(made)
    return made


def write_split(folder, task, split, made, shards=1):
    """Write rows as the hub does, ``<folder>/<task>/<split>-00000-of-00001.parquet``."""
    target = folder / task
    target.mkdir(parents=True, exist_ok=True)
    size = -(-len(made) // shards) or 1
    for shard in range(shards):
        part = datasets.Dataset.from_list(made[shard * size: (shard + 1) * size])
        part.to_parquet(str(target / f"{split}-{shard:05d}-of-{shards:05d}.parquet"))


@pytest.fixture(scope="session")
def tiny_glue(tmp_path_factory):
    """A folder of small MRPC-, CoLA- and STS-B-like tasks, laid out as the hub's."""
    folder = tmp_path_factory.mktemp("glue")
    for task in ROWS:
        for split in ("train", "validation"):
            write_split(folder, task, split, rows(task, split))
    return str(folder)


@pytest.fixture
def tiny_yaml(tmp_path, monkeypatch):
    """The path of a study's YAML file: the small encoder on the small tasks; whatever is trained, its records and figures go
    to a folder of the test's own."""
    monkeypatch.setenv("STUDYKIT_HOME", str(tmp_path / "home"))
    file = tmp_path / "tiny.yaml"
    file.write_text(STUDY)
    return file


def changed(file, **settings):
    """The path of a study's YAML file, now with other settings; ``None`` takes one out."""
    merged = {**yaml.safe_load(file.read_text()), **settings}
    file.write_text(yaml.safe_dump({key: value for key, value in merged.items() if value is not None}, sort_keys=False))
    return str(file)


@pytest.fixture
def tiny_study(tiny_yaml, tiny_glue, tiny_encoder):
    """That study, loaded."""
    return study.load(str(tiny_yaml), source=tiny_glue, encoder=tiny_encoder)
