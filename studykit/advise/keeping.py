"""The model that somebody keeps: a folder that plain ``transformers`` opens, where that can be, or else ``studykit``.

``studykit.json`` in it says which, and holds what predicting needs. Folders are written whole: what is there is the old one
or the new one.
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import studykit
from studykit import Later, tasks
from studykit.advise import card
from studykit.advise.advice import Advice
from studykit.advise.calibration import half_width, temperature
from studykit.advise.floors import WORDS, Floor
from studykit.tasks import Task

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from studykit import methods
    from studykit.models import encoders, families, trial
    from studykit.training import fast
else:
    torch, nn, methods, encoders, families, trial, fast = map(Later, (
        "torch", "torch.nn", "studykit.methods", "studykit.models.encoders", "studykit.models.families",
        "studykit.models.trial", "studykit.training.fast"))

__all__ = ["ABOUT", "FLOOR", "TUNED", "WORDS_OF_FLOOR", "half_width", "keep", "keep_floor", "recovered", "temperature"]
ABOUT, TUNED, FLOOR, WORDS_OF_FLOOR = "studykit.json", "tuned.safetensors", "floor.safetensors", "floor.json"
FORMAT = 1
INSERTED = ("adapter", "prefix", "prompt")  # methods whose modules transformers' own classes have not


def keep(folder: str | Path, model: "PreTrainedModel", advice: Advice, task: Task, encoder_at: str, *, method: str,
         options: dict[str, Any], scale: tasks.Scale | None = None, max_length: int, temperature: float = 1.0,
         half_width: float | None = None, rows: int = 0) -> dict[str, Any]:
    """Keep a fine-tuned model, and return ``{"folder", "kind"}``.

    Of kind ``transformers`` is a model of the plain architecture whose head reads what its class reads: LoRA and IA³ are
    merged, and the temperature, or a number's ``scale``, is folded into the last layer, so that ``pipeline`` gives
    calibrated probabilities, or numbers as they were given. Any other is of kind ``studykit``: what was trained, and a
    reference to the encoder at ``encoder_at``. ``half_width`` is that of a number's interval, in the label's unit; ``rows``
    how many it was trained on. An earlier model in the folder is replaced. Raises ``FileExistsError`` where the folder
    holds other things.
    """
    scale, tokenizer = scale or tasks.Scale(), encoders.tokenizer(encoder_at)
    plain = _plain(model.eval(), task, method, temperature, scale, tokenizer)
    about = _about(advice, task, encoder_at, max_length, rows, temperature, half_width) | {
        "kind": "transformers" if plain else "studykit", "method": method, "options": dict(options),
        "scale": dataclasses.asdict(scale), "folded": bool(plain)}
    notes = {name: about[name] for name in ("encoder", "weights", "scale", "temperature", "max_length")}
    with _whole(Path(folder)) as new:
        if plain:
            with encoders.quiet():
                plain.save_pretrained(new)
        methods.save(model, new / TUNED, labels=task.labels, **notes)
        _finish(new, advice, about, tokenizer)
    return {"folder": str(folder), "kind": about["kind"]}


def keep_floor(folder: str | Path, floor: Floor, advice: Advice, task: Task, encoder_at: str, *, max_length: int,
               temperature: float = 1.0, half_width: float | None = None, rows: int = 0) -> dict[str, Any]:
    """Keep a floor, and return ``{"folder", "kind"}``: its numbers in ``floor.safetensors`` and TF-IDF's words in
    ``floor.json``, which hold no code. One of embeddings needs the encoder at ``encoder_at`` too."""
    from safetensors.numpy import save_file

    about = _about(advice, task, encoder_at if floor.name == "embedding" else "", max_length, rows, temperature,
                   half_width) | {"kind": "floor", "method": floor.name, "title": floor.title}
    arrays = {"weights": floor.weights, "intercept": floor.intercept} | ({} if floor.idf is None else {"idf": floor.idf})
    with _whole(Path(folder)) as new:
        save_file({name: array.astype("float64", order="C") for name, array in arrays.items()}, new / FLOOR)
        if floor.vocabulary is not None:
            _write(new / WORDS_OF_FLOOR, {"settings": WORDS, "vocabulary": floor.vocabulary})
        _finish(new, advice, about, encoders.tokenizer(encoder_at) if floor.name == "embedding" else None)
    return {"folder": str(folder), "kind": "floor"}


def recovered(folder: Path) -> Path:
    """The folder; where a kill fell between the two renames that replace one, the earlier model is put back first."""
    if not folder.exists() and (old := _beside(folder, "old")).is_dir():
        old.rename(folder)
    return folder


def _about(advice: Advice, task: Task, encoder_at: str, max_length: int, rows: int, temperature: float,
           half_width: float | None) -> dict[str, Any]:
    """What all kinds hold, but where the data lies, which is nobody else's business."""
    found = Path(encoder_at).resolve() if encoder_at and Path(encoder_at).is_dir() else encoder_at
    return {"format": FORMAT, "studykit": studykit.__version__, "name": advice.name, "data": advice.digest, "rows": rows,
            "task": task.model_copy(update={"data": ""}).model_dump(mode="json"), "max_length": max_length,
            "encoder": advice.encoder, "encoder_at": str(found), "temperature": float(temperature), "half_width": half_width,
            "weights": encoders.digest(encoder_at) if encoder_at else ""}


def _finish(new: Path, advice: Advice, about: dict[str, Any], tokenizer: "PreTrainedTokenizerBase | None") -> None:
    """Tokenizer, description and model card."""
    if tokenizer:
        if backend := getattr(tokenizer, "backend_tokenizer", None):  # what earlier calls asked for would be kept
            backend.no_truncation()
            backend.no_padding()
        tokenizer.model_max_length = about["max_length"]
        tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names  # else its class's own come back
        tokenizer.save_pretrained(new)
    if about["kind"] == "transformers":
        about.pop("encoder_at")  # the folder is whole by itself
    _write(new / ABOUT, about)
    (new / "README.md").write_text(card.text(advice, about), encoding="utf-8")


def _write(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _plain(model: "PreTrainedModel", task: Task, method: str, temperature: float, scale: tasks.Scale,
           tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedModel | None":
    """A copy of the plain architecture with calibrated outputs; ``None`` where there is none, or it does not give the same
    on a few texts."""
    if method in INSERTED or families.reading(model.config) != families.own_reading(model.config):
        return None
    plain = methods.merged(model, task.labels)
    plain.config.problem_type = "single_label_classification" if task.labels else "regression"
    if not task.labels:
        plain.config.id2label, plain.config.label2id = {0: task.label}, {task.label: 0}
    output = _output(plain)
    if output is None or (scale.mean and output.bias is None):
        return None
    factor = scale.deviation / temperature
    device = output.weight.device
    inputs = {name: values.to(device) for name, values in trial.batch(tokenizer, model).items()}
    with torch.no_grad():
        wanted = model.to(device)(**inputs).logits.float() * factor + scale.mean
        output.weight.mul_(factor)
        if output.bias is not None:
            output.bias.mul_(factor).add_(scale.mean)
        return plain if fast.same(plain(**inputs).logits, wanted) else None


def _output(model: "PreTrainedModel") -> "nn.Linear | None":
    """The layer that gives the outputs: the head's last linear one."""
    head = {id(parameter) for _, parameter in families.head_parameters(model)}
    linear = [module for module in model.modules() if isinstance(module, nn.Linear) and id(module.weight) in head]
    return linear[-1] if linear and linear[-1].out_features == model.config.num_labels else None


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A new folder beside, which takes the folder's place at the end; where anything goes wrong it is removed."""
    recovered(folder)
    if folder.exists() and not (folder.is_dir() and ((folder / ABOUT).is_file() or not any(folder.iterdir()))):
        raise FileExistsError(f"{folder} is no folder of a model that was kept here, and would be replaced: give another "
                              "folder, or move it away")
    new, old = _beside(folder, "new"), _beside(folder, "old")
    for left in (new, old):  # by a kill
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    finally:
        recovered(folder)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _beside(folder: Path, age: str) -> Path:
    return folder.parent / f".{folder.name}.{age}"
