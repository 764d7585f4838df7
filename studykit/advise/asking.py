"""What somebody asks: a task of their own, an encoder, arms with rates to try, and so many minutes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from studykit import methods, paths, tasks
from studykit.advise.planning import BATCH
from studykit.study import Study, design
from studykit.study.arms import Arm
from studykit.study.design import Design, Trials
from studykit.tasks import Task

PLACE = "data.txt"  # under ``runs/<name>``: whose the folder is
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
MINUTES, MARGIN = 10.0, 1.0
SLOW, QUICK = (3e-5, 1e-4, 3e-4), (1e-3, 3e-3, 1e-2)  # rates of arms that train whole matrices, and of those that train few
RATES = {"full": SLOW, "last_k": SLOW, "adapter": (3e-4, 1e-3, 3e-3), "lora": (3e-4, 1e-3, 3e-3)}  # others: QUICK
TRIED = 3  # rates an arm


class Wishes(BaseModel):
    """What a task's YAML may say under ``advise``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str = ENCODER
    minutes: PositiveFloat = MINUTES
    margin: PositiveFloat = MARGIN
    arms: tuple[str, ...] = Field(methods.USUAL, min_length=1)


@dataclass(frozen=True)
class Question:
    """A task, where its data and its encoder lie, and the ``minutes`` that may be spent on it in all. Two arms within
    ``margin`` points are as good as each other."""

    task: Task
    source: str
    encoder: str
    encoder_at: str
    weights: str
    pooler: str
    arms: tuple[Arm, ...]
    minutes: float
    margin: float

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def precision(self) -> str:
        """What the device multiplies fast; for the miniature ``fp32``, since at its size nothing is faster, so that its runs
        on record are found on every machine."""
        from studykit.training import machine

        return "fp32" if self.encoder_at == "mini" else machine.best_precision(machine.best_device())

    def study(self, max_length: int) -> Study:
        """The question as a study, whose runs are kept like any other's."""
        settings = Design(
            encoder=self.encoder, weights=self.weights, pooler=self.pooler, source=self.source,  # type: ignore[arg-type]
            precision=self.precision,  # type: ignore[arg-type]
            batch_size=BATCH, max_length=max_length, epochs=1, min_steps=0, tasks=(self.task,), arms=self.arms,
            shares=(1.0,), trials=Trials(fraction=1.0, seeds=(1000,)))
        return Study(self.name, settings, self.weights, self.encoder_at, self.source)


def question(data: str | Path, text: str = "", label: str = "", minutes: float = 0, encoder: str = "",
             arms: Sequence[str] = (), margin: float = 0) -> Question:
    """What is asked about a file, a folder, or a task's YAML. What is left out is as the YAML's ``advise:`` says, or by
    default.

    Raises ``ValueError`` or ``FileNotFoundError``, in one sentence, for what cannot be.
    """
    from studykit.models import encoders

    task, wishes = asked(data, text, label, minutes, encoder, arms, margin)
    at = place(wishes.encoder)
    weights = encoders.digest(at)
    known = _study_of(weights)
    name = known.encoder if known else wishes.encoder
    return Question(task, "hub", name, at, weights, known.pooler if known else _pooler(at),
                    tuple(_arm(label, known) for label in wishes.arms), wishes.minutes, wishes.margin)


def asked(data: str | Path, text: str = "", label: str = "", minutes: float = 0, encoder: str = "",
          arms: Sequence[str] = (), margin: float = 0) -> tuple[Task, Wishes]:
    """The task and the wishes of a question, before any encoder is looked at. A task that is called as one of this
    project's studies, or as its example, is called ``<name>-data``, and one that is called as another file that has been
    asked about ``<name>-`` and six digits of a hash of its place: its results and its model have folders of their own."""
    path = _found(data)
    given = {"minutes": minutes, "encoder": str(encoder), "margin": margin, "arms": tuple(arms)}
    if paths.is_yaml(path):
        if text or label:
            raise ValueError(f"{path.name} names its columns itself: change them there, or give the data's own file")
        task, wishes = tasks.get(path), _wishes(path, given)
    else:
        task, wishes = tasks.described(path, text, label), _checked({}, given, "advise")
    for method in wishes.arms:
        methods.get(method)
    if twice := next((method for method in wishes.arms if wishes.arms.count(method) > 1), ""):
        raise ValueError(f"arms: {twice} is there twice: name each method once")
    return task.model_copy(update={"name": _free(task, path)}), wishes


def _free(task: Task, path: Path) -> str:
    """The task's name, or one like it where its folders are another's."""
    name = task.name
    if name in paths.studies() or (name == paths.EXAMPLE.stem and path != paths.EXAMPLE.resolve()):
        name = f"{name}-data"
    file = paths.runs(name) / PLACE
    known = file.read_text(encoding="utf-8") if file.is_file() else ""
    if known in ("", task.data) or not Path(known).exists():  # or it has moved
        return name
    return f"{name}-{hashlib.sha256(task.data.encode()).hexdigest()[:6]}"


def _found(data: str | Path) -> Path:
    path = paths.callers(data)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder at {path}: give one with rows of your own")
    return path


def _wishes(path: Path, given: dict) -> Wishes:
    settings = tasks.written(path)
    own = settings.get("advise") or {} if isinstance(settings, dict) else {}
    if not isinstance(own, dict):
        raise ValueError(f"{path}: advise must be a mapping such as {{minutes: 10}}, got {own!r:.80}")
    return _checked(own, given, f"{path}: advise")


def _checked(own: dict, given: dict, where: str) -> Wishes:
    try:
        return Wishes(**own | {name: value for name, value in given.items() if value})
    except (ValidationError, TypeError) as error:
        raise ValueError(f"{where}: {tasks.sentence(error)}") from None


def place(encoder: str) -> str:
    """A folder made whole, or the hub's id, or ``"mini"``."""
    there = paths.callers(encoder)
    return str(there) if encoder != "mini" and there.is_dir() else encoder


def _study_of(weights: str) -> Design | None:
    """The design of a study of this project that is about these weights."""
    designs = (design.read(paths.params(name)) for name in paths.studies())
    return next((known for known in designs if known.weights and weights.startswith(known.weights)), None)


def _pooler(encoder_at: str) -> str:
    """Whether pre-training left the pooler as it was: an encoder of sentence-transformers pools by itself."""
    folder = Path(encoder_at)
    return "new" if (folder / "modules.json").is_file() or encoder_at.startswith("sentence-transformers/") else "pretrained"


def _arm(label: str, known: Design | None) -> Arm:
    """A method as an arm, with the middle ones of the rates that a study of these weights tries, or else with usual ones."""
    methods.get(label)
    own = next((arm for arm in known.arms if arm.label == label), None) if known else None
    like = own or next((arm for arm in known.arms if arm.label == "adapter" and label == "lora"), None) if known else None
    if like is None:
        return Arm(label=label, rates=RATES.get(label, QUICK))
    rates = sorted(like.rates)
    first = (len(rates) - TRIED) // 2
    return Arm(label=label, method=own.method if own else label, options=own.options if own else (),
               rates=tuple(rates[max(0, first): max(0, first) + TRIED]))
