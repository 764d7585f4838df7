"""An encoder's files: where they are, which hold its weights, their digest, and opening them in quiet."""

import contextlib
import hashlib
import json
import re
from pathlib import Path

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"  # in one file, or in parts


def located(encoder: str | Path) -> str:
    """Where an encoder's files are: the package's folder for ``"mini"``, else what was given."""
    from studykit import mini

    return str(mini.ENCODER) if encoder == "mini" else str(encoder)


def weights_file(encoder: str | Path) -> Path | None:
    """The folder's safetensors file, or the index of its parts; ``None`` for a hub id, whose files are not here yet."""
    folder = Path(encoder := located(encoder))
    if not folder.is_dir():
        if folder.is_absolute() or str(encoder).startswith("."):
            raise FileNotFoundError(f"no encoder at {encoder}: give a hub id, or a folder with config.json and "
                                    "model.safetensors")
        return None
    if (folder / "adapter_config.json").is_file():
        raise ValueError(f"{encoder} holds an adapter that peft wrote, not an encoder alone: give the encoder that it was "
                         "trained on, or merge the two and save the whole")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{encoder} has no config.json: give an encoder's folder, as save_pretrained writes it")
    for name in (WEIGHTS, INDEX):
        if (folder / name).is_file():
            return folder / name
    if sorted(folder.glob("*.bin")):
        raise ValueError(f"{encoder} has pickled weights only, which can run code when they are opened: "
                         "save it with safetensors first")
    raise FileNotFoundError(f"{encoder} has no {WEIGHTS}, so no weights to load: put them there")


def size(encoder: str | Path) -> float:
    """About how many parameters an encoder has, by its weights file, as if of fp32; 0 where that is not here."""
    from huggingface_hub import try_to_load_from_cache

    file = weights_file(encoder) or try_to_load_from_cache(str(encoder), WEIGHTS)
    if not isinstance(file, str | Path):
        return 0.0
    if Path(file).name == INDEX:
        return json.loads(Path(file).read_text()).get("metadata", {}).get("total_size", 0) / 4
    return Path(file).stat().st_size / 4


def digest(encoder: str | Path) -> str:
    """SHA-256 of an encoder's weights file, or of all its parts by name, one after another (first 16 hex digits); those of a
    hub id are fetched, or taken from the cache."""
    file = weights_file(encoder) or _fetched(encoder, WEIGHTS) or _fetched(encoder, INDEX)
    if file is None:
        raise FileNotFoundError(f"the weights of {encoder} are not here and could not be fetched from the hub: give "
                                "--encoder a folder that holds them")
    parts = [file]
    if file.name == INDEX:
        with opening(INDEX, encoder):
            names = sorted(set(json.loads(file.read_text())["weight_map"].values()))
        parts = [_fetched(encoder, name) if weights_file(encoder) is None else file.parent / name for name in names]
    sha = hashlib.sha256()
    for part in parts:
        if part is None or not part.is_file():
            raise FileNotFoundError(f"{encoder} lacks a part of its weights that its {INDEX} names: fetch its folder anew")
        with open(part, "rb") as stream:
            while block := stream.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()[:16]


def _fetched(encoder, name):
    """A file of a hub id, fetched or taken from the cache; ``None`` where it cannot be had."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(str(encoder), name))
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def opening(part, encoder):
    """Within, transformers is quiet, and an error of the many kinds that it raises is one sentence."""
    with quiet():
        try:
            yield
        except Exception as error:
            why = "its model_type is missing" if "`model_type`" in str(error) else reason(error)
            raise ValueError(f"the {part} of {encoder} cannot be read ({why}): fetch its folder anew, or write it with "
                             "save_pretrained") from error


def reason(error: Exception) -> str:
    """The first sentence of what an error says, without its full stop: a part of a sentence of ours."""
    line, *_ = (str(error).strip() or type(error).__name__).splitlines()
    return re.split(r"[.!?](?=\s|$)", line)[0]


class quiet:
    """transformers without its loading report and progress bars: that the head is new is what is meant."""

    def __enter__(self):
        from transformers.utils import logging

        self.before = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *_):
        from transformers.utils import logging

        logging.set_verbosity(self.before[0])
        if self.before[1]:
            logging.enable_progress_bar()
