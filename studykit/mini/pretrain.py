"""``python -m studykit.mini.pretrain``: the miniature encoder from nothing, in an hour or more. Its result is here already.

Replaced-token detection as in ELECTRA (Clark et al. 2020, arXiv 2003.10555): some words are replaced, and the encoder must
say of every word whether it is the original. What ELECTRA's generator network does, a table does here: a word is replaced by
one that stood between the same two neighbours elsewhere. So it fits where it stands, and to find it one must look further:
at the rest of the sentence, or at a second sentence that says the same.
"""

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch

from studykit.mini import ENCODER, language
from studykit.models import encoders
from studykit.study import provenance
from studykit.training import machine

SHAPE = {"hidden_size": 128, "embedding_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2,
         "intermediate_size": 256, "max_position_embeddings": 64}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ENDINGS = ("##s", "##ed", "##d")
PAD, SEP = 0, 3
MEANINGS = 400_000
BATCH = 128
EVERY = 500  # steps between two lines of the course
PEAK = 2e-3  # learning rate
RATES = {"alone": 0.25, "heavy": 0.35, "light": 0.05}  # shares of words drawn from the table; one side of a pair is heavy


def tokenizer():
    """Word pieces: the lexicon's stems, and the endings -s, -ed and -d."""
    from transformers import BertTokenizerFast

    vocabulary = [*SPECIAL, *language.words(), *ENDINGS]
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(vocabulary)},
                             model_max_length=SHAPE["max_position_embeddings"])


def corpus(meanings, seed):
    """Each meaning told twice: token ids of shape (2, meanings, longest), padded, with [CLS] and [SEP]; and lengths."""
    rng = random.Random(f"pre-training {seed}")
    drawn = (language.event(rng) for _ in range(meanings))
    told = [(language.tell(meaning, rng), language.tell(meaning, rng)) for meaning in drawn]
    rows = [tokenizer()([pair[side] for pair in told])["input_ids"] for side in (0, 1)]
    lengths = np.array([[len(row) for row in side] for side in rows])
    ids = np.full((2, meanings, lengths.max()), PAD, dtype=np.int64)
    for side, filled in zip(ids, rows, strict=True):
        for line, row in zip(side, filled, strict=True):
            line[: len(row)] = row
    return ids, lengths


class Table:
    """Which words stood between which neighbours in the corpus."""

    def __init__(self, ids, words):
        self.words = words
        left, middle, right = (ids[..., i: ids.shape[-1] - 2 + i].reshape(-1) for i in range(3))
        real = (middle != PAD) & (right != PAD)
        context = (left * words + right)[real]
        order = np.argsort(context, kind="stable")
        self.middle = middle[real][order]
        self.size = np.bincount(context, minlength=words ** 2)
        self.start = np.cumsum(self.size) - self.size

    def replace(self, ids, rates, rng):
        """Rows of ids with each word, at its row's rate, replaced by a draw from the table (which may be the same word)."""
        chosen = rng.random(ids.shape) < rates[:, None]
        chosen &= ids > SEP
        row, at = np.nonzero(chosen)
        context = ids[row, at - 1] * self.words + ids[row, at + 1]
        replaced = ids.copy()
        replaced[row, at] = self.middle[self.start[context] + (rng.random(len(row)) * self.size[context]).astype(int)]
        return replaced


def join(first, second, lengths):
    """``[CLS] first [SEP] second [SEP]`` of shape (n, longest pair), and segments, from rows that each have a [CLS]."""
    width = first.shape[1]
    place = np.arange((lengths.sum(0) - 1).max())
    across, inside = place >= lengths[0][:, None], place < (lengths.sum(0) - 1)[:, None]
    index = np.where(across, width + place - lengths[0][:, None] + 1, place)
    joined = np.take_along_axis(np.concatenate([first, second], 1), np.where(inside, index, 0), 1)
    return np.where(inside, joined, PAD), (across & inside).astype(np.int64)


def detection_loss(model, ids, original, segments, precision):
    """Binary cross-entropy over words; and the shares of replaced and of original words that were told right."""
    ids, original, segments = map(torch.from_numpy, (ids, original, segments))
    with machine.autocast(ids.device, precision):
        logits = model(ids, attention_mask=(ids != PAD).long(), token_type_ids=segments).logits
    word = ids > SEP
    said, target = logits.float()[word], (ids != original)[word]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(said, target.float())
    right = (said.detach() > 0) == target
    return loss, right[target].float().mean(), right[~target].float().mean()


def batches(lengths, rng):
    """Rows of corpus, forever: shuffled, pairs of like length together, so that little is padded."""
    while True:
        for pool in np.array_split(rng.permutation(lengths.shape[1]), max(1, lengths.shape[1] // (64 * BATCH))):
            pool = pool[np.argsort(lengths[:, pool].sum(0), kind="stable")]
            whole = pool[: len(pool) // BATCH * BATCH].reshape(-1, BATCH)
            yield from whole[rng.permutation(len(whole))]


def pretrain(minutes, folder=ENCODER, meanings=MEANINGS, seed=0, compiled=True):
    """Train for so many minutes and save encoder, tokenizer and ``pretraining.json``, its course, in the folder.

    ``compiled`` asks for torch's compiler, which needs a C++ compiler and makes it about half as fast again.
    """
    from transformers import ElectraConfig, ElectraForPreTraining

    ids, lengths = corpus(meanings, seed)
    words = len(tokenizer())
    table, rng = Table(ids, words), np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = ElectraForPreTraining(ElectraConfig(vocab_size=words, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                                              attn_implementation="eager", **SHAPE))
    fast = torch.compile(model, dynamic=True) if compiled else model
    precision = machine.best_precision(torch.device("cpu"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.01, fused=True)
    settings = {"minutes": minutes, "meanings": meanings, "seed": seed, "precision": precision}
    course, seen, start = [], [], time.monotonic()
    for step, rows in enumerate(batches(lengths, rng)):
        share = (time.monotonic() - start) / (60 * minutes)
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min((step + 1) / 500, 1 - share)
        sides = rng.permutation(2)  # which telling comes first
        long = lengths[sides][:, rows]
        first, second = (ids[side, rows] for side in sides)
        heavy = rng.random(BATCH) < 0.5
        rates = np.where(heavy, RATES["heavy"], RATES["light"]), np.where(heavy, RATES["light"], RATES["heavy"])
        bad, segments = join(table.replace(first, rates[0], rng), table.replace(second, rates[1], rng), long)
        pair = detection_loss(fast, bad, join(first, second, long)[0], segments, precision)
        first = first[:, : long[0].max()]
        bad = table.replace(np.pad(first, ((0, 0), (0, 1))), np.full(BATCH, RATES["alone"]), rng)[:, :-1]
        alone = detection_loss(fast, bad, first, np.zeros_like(first), precision)
        (pair[0] + alone[0]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen.append([value.item() for value in (*pair, *alone)])
        if len(seen) == EVERY:
            course.append([step + 1, *np.nanmean(seen, axis=0).round(4).tolist()])
            seen = []
            print(f"{time.monotonic() - start:6.0f} s", *course[-1], flush=True)
            if len(course) % 10 == 0:
                save(model, folder, course, settings)
    save(model, folder, course, settings)


def save(model, folder, course, settings):
    """Write what ``encoders.load`` reads, and how it came to be."""
    folder = Path(folder)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    about = {**settings, "steps": course[-1][0] if course else 0, "batch": BATCH, "peak": PEAK, "rates": RATES,
             "commit": provenance.commit(), "versions": provenance.versions(), "processor": provenance.processor(),
             "weights": encoders.digest(str(folder)),
             "columns": ["step", "pair loss", "pair found", "pair passed", "alone loss", "alone found", "alone passed"],
             "course": course}
    (folder / "pretraining.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--folder", default=str(ENCODER))
    parser.add_argument("--meanings", type=int, default=MEANINGS)
    parser.add_argument("--eager", action="store_true", help="without torch's compiler")
    options = parser.parse_args()
    pretrain(options.minutes, options.folder, options.meanings, compiled=not options.eager)
