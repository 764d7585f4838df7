"""Write ``docs/methods_by_family.md``: which method works with which family of encoders, found by trying.

    python -m studykit.methods
"""

import copy
import tempfile
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from studykit import methods, paths, tasks, training
from studykit.models import encoders, families
from studykit.training import budgets

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
         "max_position_embeddings": 80, "vocab_size": 60, "pad_token_id": 0}
GROUPED: dict[str, int] = {"num_key_value_heads": 1, "head_dim": 16}
OWN: dict[str, dict] = {  # what a kind's tiny configuration has besides, or, with its own names, in place of the sizes
    "albert": {"embedding_size": 16}, "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}, "electra": {"embedding_size": 16},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 80}, "longformer": {"attention_window": 8},
    "llama": GROUPED, "mistral": GROUPED, "qwen2": {"num_key_value_heads": 1}, "qwen3": GROUPED,
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8, "cls_token_id": 2, "sep_token_id": 3}}
RENAMED = ("distilbert", "gpt2")  # kinds whose configurations have their own names for all sizes
UNKNOWN = "mobilebert"  # a kind without a row in the table of families
TOKENS = torch.randint(4, 60, (4, 10), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(10) < torch.tensor([[10], [9], [5], [3]])).long()
FILE = paths.REPO / "docs" / "methods_by_family.md"
TITLE = """\
# Which method works with which encoder

Written by `python -m studykit.methods`, which makes a tiny model of each kind's own configuration, applies the method,
trains it for a step on a padded batch as a study does, saves what was trained, opens it on the same encoder, and compares
the answers. Rows are the model types that `studykit/models/families.py` knows, and one that it does not; columns are the
methods with their options left alone. A number stands for the sentence below with which the method is refused, before
anything trains.

Where a family keeps query, key and value in one layer (DeBERTa, ModernBERT, GPT-2), `lora` and `ia3` change that layer
whole. In Longformer they also change the projections of the first token, which attends to all.

Any other encoder that `transformers` has a classifier for is tried on a few texts when it is loaded. Where padding would
change its answers (FNet, ConvBERT, XLNet, MobileBERT and others), it gets texts of one length at a time, which takes longer.
Where it cannot take texts as they come (Reformer, TAPAS), it is refused in a sentence.
"""


def config(kind: str, **options):
    """A tiny configuration of a model type: two layers of width 32."""
    kept = {name: SIZES[name] for name in ("vocab_size", "pad_token_id")} if kind in RENAMED else SIZES
    special = {"bos_token_id": 2, "eos_token_id": 3, **kept, **OWN.get(kind, {})}
    return AutoConfig.for_model(kind, **{**special, "initializer_range": 0.2, **options})


def encoder(kind: str, folder: str | Path, seed: int = 0, dtype: torch.dtype = torch.float32, **options) -> str:
    """The folder that an encoder of this type was saved to, with random weights and a tokenizer of a few words."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoModel.from_config(config(kind, **options)).to(dtype).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["[PAD]", "[UNK]", "a", "b"])}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(folder)
    return str(folder)


@torch.no_grad()
def logits(model: PreTrainedModel) -> torch.Tensor:
    """Answers to the four texts of random tokens, in evaluation mode."""
    return model.eval()(input_ids=TOKENS, attention_mask=MASK).logits


def step(model: PreTrainedModel, rate: float = 1e-2, precision: str = "fp32") -> None:
    """One step of training on the four texts, which are padded in its one batch."""
    columns = {"input_ids": [row[:length].tolist() for row, length in zip(TOKENS, MASK.sum(1), strict=True)],
               "attention_mask": [[1] * length for length in MASK.sum(1).tolist()]}
    data = tasks.Encodings(columns, np.array([0, 1, 0, 1]), {"input_ids": model.config.pad_token_id or 0,
                                                              "attention_mask": 0})
    training.train(model, data, budgets.Budget(steps=1), lr=rate, batch_size=4, precision=precision,
                   device=torch.device("cpu"))


def tried(method: str, untrained: PreTrainedModel, folder: str) -> str:
    """``""`` where the method trains a copy of the model, which is that of the folder, and it is scored, saved and opened
    with the same answers; else why it is refused."""
    try:
        model = methods.apply(method, copy.deepcopy(untrained))
    except ValueError as error:
        return str(error)
    before = logits(model)
    step(model)
    after = logits(model)
    with tempfile.TemporaryDirectory() as place:
        methods.save(model, file := Path(place) / "trained.safetensors")
        again = logits(methods.load(file, folder))
    if torch.equal(after, before) or not after.isfinite().all() or not torch.equal(again, after):
        raise RuntimeError(f"{method} with {folder}: answers before and after a step, and opened again: "
                           f"{before[0]}, {after[0]}, {again[0]}")
    return ""


def kinds() -> list[str]:
    """The model types of the table's rows, and one that is in none."""
    return [*(kind for row in families.FAMILIES for kind in row.kinds), UNKNOWN]


def table() -> str:
    """The page, as Markdown."""
    notes: dict[str, int] = {}
    rows = []
    for kind in kinds():
        with tempfile.TemporaryDirectory() as place:
            folder = encoder(kind, Path(place) / kind)
            model = encoders.load(folder, pooler="new")
            refusals = [tried(method, model, folder) for method in methods.METHODS]
        cells = [f"[{notes.setdefault(refusal, len(notes) + 1)}]" if refusal else "yes" for refusal in refusals]
        rows.append(f"| {kind} | {' | '.join(cells)} |")
    head = f"| | {' | '.join(methods.METHODS)} |\n|---|{'---|' * len(methods.METHODS)}"
    return "\n".join([TITLE, head, *rows, "", *(f"{i}. {note}" for note, i in notes.items())]) + "\n"


if __name__ == "__main__":
    logging.disable_progress_bar()
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(table())
    print(f"wrote {FILE}")
