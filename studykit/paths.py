"""Where things are, found from anywhere: the notebooks' kernels start in different folders."""

import os
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
OWN = "20_your_data"  # the notebook about somebody's own data, and the group of its records
EXAMPLE = REPO / "example" / "example.yaml"  # a task that stands for somebody's own


def home() -> Path:
    """The folder that holds results, figures and runs: ``$STUDYKIT_HOME``, or the checkout."""
    return Path(os.environ.get("STUDYKIT_HOME") or REPO)


def callers(name: str | Path = ".") -> Path:
    """A path, whole: a relative one is the caller's, who may have called ``run_all.sh`` from another folder."""
    return (Path(os.environ.get("STUDYKIT_FROM") or ".") / Path(name).expanduser()).resolve()


def is_yaml(name: str | Path) -> bool:
    """Whether a name is that of a YAML file, rather than of a study or a task."""
    return Path(str(name)).suffix.lower() in (".yaml", ".yml")


def params(study: str) -> Path:
    """The YAML file of a study."""
    return REPO / "params" / f"{study}.yaml"


def studies() -> list[str]:
    """Names of the studies that have parameters, sorted."""
    return sorted(file.stem for file in (REPO / "params").glob("*.yaml"))


def notebooks() -> list[Path]:
    """The study's notebooks, in their order."""
    return sorted((REPO / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def plain(name: str) -> str:
    """The name, where a folder may be called so: a study's or a group's must not lead out of the folder that it is in."""
    if not isinstance(name, str) or name != Path(name).name or not name.isprintable() or name.startswith(".") or not name:
        raise ValueError(f"{name!r:.80} cannot be a folder's name here: give one without / and without a dot in front")
    return name


def write(file: Path, content: str | bytes) -> None:
    """Write text or bytes into a file, whole or not at all: whoever reads it meanwhile, or after a kill, has the former."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def made(folder: Path) -> Path:
    """The folder, made where it is not there yet. Raises ``OSError`` where it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        problem = None if os.access(folder, os.W_OK) else "it is not yours to write to"
    except OSError as error:
        problem = error.strerror
    if problem:
        raise OSError(f"the folder {folder} cannot be used ({problem}): set STUDYKIT_HOME to one that can")
    return folder


def results(study: str) -> Path:
    return home() / "results" / plain(study)


def figures(study: str) -> Path:
    return home() / "figures" / plain(study)


def runs(study: str) -> Path:
    return home() / "runs" / plain(study)
