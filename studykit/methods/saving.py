"""Keep what was trained, in a small file, and open it again on the same encoder."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from studykit import Later

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from studykit import methods
    from studykit.models import encoders, families
else:
    methods, encoders, families = map(Later, ("studykit.methods", "studykit.models.encoders", "studykit.models.families"))


OTHER = {"options": "choice of options", "num_labels": "number of outputs", "reads": "reading", "frozen": "encoder",
         "config": "configuration"}
APART = ("id2label", "label2id", "problem_type", "dtype", "torch_dtype", "transformers_version", "architectures",
         "_name_or_path", "reads", "new_pooler", "return_dict", "chunk_size_feed_forward")  # settings that change no answer,
# or are said apart


def save(model: "PreTrainedModel", file: str | Path, labels: Sequence[str] = (), **notes) -> None:
    """Write what was trained, and nothing else, to a safetensors file.

    Its metadata hold label names, method and options, what the head reads, the encoder's configuration, and a digest of the
    weights that were frozen; ``notes`` are added.
    """
    from safetensors.torch import save_file

    _check_labels(labels, model.config.num_labels)
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()
               if parameter.requires_grad}
    about = {**_about(model), "labels": list(labels), **notes}
    save_file(tensors, file, metadata={"studykit": json.dumps(about)})


def load(file: str | Path, encoder: str | Path) -> "PreTrainedModel":
    """The fine-tuned model again: the encoder's weights with the saved ones on top, in evaluation mode.

    ``encoder`` must be the one that was fine-tuned. Raises ``ValueError`` where its weights or its configuration are others,
    or tensors do not fit.
    """
    about, tensors = _read(file)
    _check_labels(about["labels"], about["num_labels"], f"{file}: ")
    reads = {"reads": about["reads"]} if about.get("reads") else {}
    model = encoders.load(encoder, about["num_labels"], pooler=about["pooler"], **reads)
    name_labels(model, about["labels"])
    methods.apply(about["method"], model, **about["options"])
    if wrong := _misfit(model, tensors):
        raise ValueError(f"{file} does not fit {encoder} ({wrong} is in one of them only, or has another shape): give "
                         "the encoder that was fine-tuned")
    if other := _differing(about.get("config", {}), _settings(model.config)):  # files of before have none
        raise ValueError(f"{file} was trained with another {other} than the config.json of {encoder} has: give the encoder "
                         "that was fine-tuned")
    if about.get("frozen") and about["frozen"] != _frozen(model):  # files of before have none
        raise ValueError(f"{file} was trained on other weights than those of {encoder}: give the encoder that was "
                         "fine-tuned")
    model.load_state_dict(tensors, strict=False)
    return model.eval()


def switch(model: "PreTrainedModel", file: str | Path) -> "PreTrainedModel":
    """Put what ``save`` wrote in place of what was trained, in a model that stays in memory: another task on the same
    encoder. Returns the model, in evaluation mode.

    Raises ``ValueError`` where the file is of another method, encoder or number of outputs than the model.
    """
    about, tensors = _read(file)
    if "about" not in vars(model):
        vars(model)["about"] = json.loads(json.dumps(_about(model)))
    for name, value in vars(model)["about"].items():
        same = not _differing(about.get(name, {}), value) if name == "config" else about.get(name) == value
        if not same:
            raise ValueError(f"{file} is of another {OTHER.get(name, name)} than this model: open it with methods.load")
    if wrong := _misfit(model, tensors):
        raise ValueError(f"{file} does not fit this model ({wrong} is in one of them only, or has another shape): open it "
                         "with methods.load")
    model.load_state_dict(tensors, strict=False)
    name_labels(model, about["labels"])
    return model.eval()


def _about(model):
    """What a file and a model must have in common: method and options, outputs, what the head is and reads, the encoder's
    configuration, and a digest of what is frozen."""
    return {**vars(model)["method"], "num_labels": model.config.num_labels,
            "pooler": "new" if getattr(model.config, "new_pooler", False) else "pretrained",
            "reads": getattr(model.config, "reads", ""), "frozen": _frozen(model),
            "config": _settings(model.config)}


def _settings(config):
    """The settings of a configuration that a model's answers may depend on, with what its own classifier reads."""
    settings = {name: value for name, value in config.to_dict().items() if name not in APART}
    return json.loads(json.dumps({**settings, "reading": families.reading(config)}, default=str))


def _differing(stored, own):
    """The first setting that both know, and that is not the same; ``""`` where there is none. Versions of transformers come
    to know others."""
    return next((name for name in sorted(stored.keys() & own.keys()) if stored[name] != own[name]), "")


def _misfit(model, tensors):
    """The first name that is not both a tensor and a parameter that trains, of one shape; ``""`` where there is none."""
    own = {name: parameter.shape for name, parameter in model.named_parameters() if parameter.requires_grad}
    stored = {name: tensor.shape for name, tensor in tensors.items()}
    return min((name for name in own.keys() | stored.keys() if own.get(name) != stored.get(name)), default="")


def _frozen(model):
    """SHA-256 of the weights that do not train, which are the encoder's own (first 16 hex digits)."""
    sha = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.requires_grad:
            sha.update(name.encode())
            sha.update(parameter.detach().cpu().contiguous().numpy())
    return sha.hexdigest()[:16]


def _read(file):
    """``(metadata, tensors)`` of a file that ``save`` wrote."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} cannot be read ({error}): give a file that studykit.methods.save wrote") from None
    if "studykit" not in metadata:
        raise ValueError(f"{file} was not written by studykit.methods.save: give one that was")
    return json.loads(metadata["studykit"]), tensors


def _check_labels(labels, outputs, where=""):
    if labels and len(labels) != outputs:
        raise ValueError(f"{where}labels must be the names of the model's {outputs} outputs, or none, got {list(labels)}")


def name_labels(model: "PreTrainedModel", labels: Sequence[str]) -> None:
    """Put label names, if there are any, into the model's configuration, where ``transformers.pipeline`` looks for them."""
    _check_labels(labels, model.config.num_labels)
    if labels:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: i for i, label in enumerate(labels)}
