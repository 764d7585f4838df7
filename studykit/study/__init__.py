"""A study: tasks × arms × a design, its runs, and executing those that have no record yet.

A run is its configuration. Its hash names its record, so executing a plan twice trains nothing the second time.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from studykit import checks, methods, paths
from studykit.evidence.table import table
from studykit.study import clock as clocks
from studykit.study import design, engines, locks, rates, records, runs
from studykit.study.arms import Arm
from studykit.study.design import Design
from studykit.study.progress import Progress
from studykit.study.runs import Run
from studykit.tasks import Task

Cell = tuple[str, str]  # a task's name and an arm's label
PLANNED = {"task", "asks", "method", "options", "fraction", "lr", "encoder", "weights", "data"}  # of a run: plan sets them


@dataclass(frozen=True)
class Study:
    """A study's design, with where its encoder and data lie. Made by ``load``."""

    name: str
    design: Design
    weights: str
    encoder_at: str  # a hub id or a folder
    source: str  # "hub", "mini" or a folder

    @property
    def encoder(self) -> str:
        return self.design.encoder

    @property
    def about(self) -> str:
        """Study and encoder in a few words, for under a figure."""
        return self.name if self.encoder == self.name else f"{self.name}: {self.encoder}"

    @property
    def tasks(self) -> dict[str, Task]:
        return {task.name: task for task in self.design.tasks}

    @property
    def arms(self) -> dict[str, Arm]:
        return {arm.label: arm for arm in self.design.arms}

    @property
    def baseline(self) -> str:
        """The arm that others are held against: the first, if the study does not say."""
        return self.design.baseline or self.design.arms[0].label

    @property
    def moving(self) -> list[str]:
        """Labels of the arms that train something of the encoder."""
        return [arm.label for arm in self.design.arms if arm.method not in methods.HEAD_ONLY]

    def with_arms(self, more: Iterable[Arm]) -> "Study":
        """The study with more arms after its own, for a notebook that asks about sizes, say; one that does what an arm
        before it does is left out. Records are shared: what an arm does names its runs, not its label."""
        arms: dict[tuple, Arm] = {}
        for arm in (*self.design.arms, *more):
            arms.setdefault(arm.means, arm)
        return dataclasses.replace(self, design=Design(**{**dict(self.design), "arms": tuple(arms.values())}))

    @property
    def jobs(self) -> int:
        """Runs at once: as the study says, else as many as are quickest for its encoder's size on this machine."""
        from studykit.models import files
        from studykit.training import machine

        return self.design.jobs or machine.best_jobs(files.size(self.encoder_at))

    def notebook(self, stem: str) -> dict:
        """What the study sets for a notebook, by its parameters' names."""
        return self.design.notebooks.get(stem) or {}

    def data_digest(self, task: str) -> str:
        """The published data's digest for the hub and for a study pinned to it, else that of the rows that are here."""
        value = self.tasks[task]
        if value.digest and (self.source == "hub" or self.design.data == "published"):
            return value.digest
        return runs.data(value, self.source)[1]

    def plan(self, tasks: Sequence[str] = (), arms: Sequence[str] = (), *, rates: Mapping[Cell, float] | float,
             fractions: Sequence[float] = (1.0,), seeds: Sequence[int] = (0,),
             token_seconds: Mapping[Cell, float] | float = 0.0, **fields) -> list[Run]:
        """Runs for all combinations of tasks, arms (by label; all of the study's where none are named), shares of the
        data and seeds, each of which is all three of a run's. ``rates`` and ``token_seconds`` are a number, or one per
        task and arm; ``fields`` are any others of ``Run``."""
        chosen = self._named(tasks, arms)
        if unknown := fields.keys() - (records.FIELDS - PLANNED):
            raise ValueError(f"plan has no setting {', '.join(sorted(unknown))}: besides tasks, arms, rates, fractions "
                             f"and seeds it takes {', '.join(sorted(records.FIELDS - PLANNED))}")
        return [self._run(*place, rates, token_seconds, fields)
                for place in itertools.product(_plain(seeds), _plain(fractions), *chosen)]

    def _run(self, seed: int, fraction: float, task: str, arm: str, rates, token_seconds, fields: dict) -> Run:
        own, value = self.design, self.arms[arm]
        lr, pace = (of_cell(given, task, arm, name) for given, name in ((rates, "rate"), (token_seconds, "clock")))
        budget = {} if {"steps", "seconds"} & fields.keys() else {"epochs": own.epochs, "min_steps": own.min_steps}
        settings = {"batch_size": own.batch_size, "max_length": own.max_length, "precision": own.precision,
                    "pooler": own.pooler, "reads": own.reads, "subset_seed": seed, "init_seed": seed, "order_seed": seed,
                    **budget, **fields}
        return Run(task=task, asks=self.tasks[task].identity, data=self.data_digest(task), method=value.method,
                   options=value.options, fraction=fraction, lr=lr, encoder=self.encoder, weights=self.weights,
                   token_seconds=pace, **settings)

    def _named(self, tasks: Sequence[str], arms: Sequence[str]) -> tuple[list[str], list[str]]:
        """Names of tasks and arms, all where none are given, once they are known to be the study's."""
        chosen = []
        for kind, names, known in (("task", tasks, self.tasks), ("arm", arms, self.arms)):
            names = [names] if isinstance(names, str) else list(names) or list(known)
            if unknown := [name for name in names if name not in list(known)]:
                raise ValueError(f"study {self.name} has no {kind} {unknown[0]!r:.80}: it has {', '.join(known)}; add it to "
                                 "its YAML file")
            chosen.append(names)
        return chosen[0], chosen[1]

    def check(self, tasks: Sequence[str] = (), arms: Sequence[str] = (), *, seeds: Sequence[int] = (0,),
              at_least: int = 1) -> None:
        """Raise ``ValueError``, before anything trains, where tasks or arms are not the study's, the baseline is not among
        the arms, or there are fewer seeds than the spread or gap that a notebook estimates needs."""
        _, named = self._named(tasks, arms)
        if self.baseline not in named:
            raise ValueError(f"arms must hold {self.baseline}, the baseline that others are held against, got "
                             f"{', '.join(named)}")
        if shared := set(seeds) & {*self.design.trials.seeds, *self.design.trials.close}:
            raise ValueError(f"seeds: {', '.join(map(str, sorted(shared)))} chose this study's learning rates: report with "
                             "others")
        if len(set(seeds)) < at_least:
            raise ValueError(f"seeds must be at least {at_least} different ones, since their spread is estimated, got "
                             f"{list(seeds)}")

    def trials(self, tasks: Sequence[str] = (), arms: Sequence[str] = (), **fields) -> list[Run]:
        """The runs that learning rates are chosen from, as many for every arm: on a part of train and scored on the
        selection split, so that the validation set is not looked at, with seeds that are none of the report's. ``fields``
        are other fields of ``Run``."""
        tasks, arms = self._named(tasks, arms)
        return [run for arm in arms for rate in self.arms[arm].rates for run in self._tried(tasks, arm, rate, **fields)]

    def _tried(self, tasks: Sequence[str], arm: str, rate: float, **fields) -> list[Run]:
        """The trials of one rate."""
        trial = self.design.trials
        fields = {"score_on": "selection", "epochs": trial.epochs or self.design.epochs, "seeds": trial.seeds, **fields}
        return self.plan(tasks, [arm], rates=rate, fractions=[trial.fraction], **fields)

    def choose_rates(self, tasks: Sequence[str] = (), arms: Sequence[str] = (), *, jobs: int = 1,
                     train: bool = True) -> tuple[dict[Cell, float], pd.DataFrame]:
        """``(rates, trials)``: the learning rate per task and arm, and the table of the trials that chose it, by the
        study's rule (``rates.judged``).

        Where the best or the chosen rate lies at the edge of those tried, one beyond it is tried too, up to ``WIDEN``
        times. Then, where more than one rate is level with the best, all of that arm's are tried with the ``close`` seeds
        too, if the study has some. With ``train=False`` the trials on record choose, of those tasks and arms that have some.
        """
        wanted, widened = self.trials(tasks, arms), 0
        while True:
            trials = self.execute(wanted, group="02_learning_rates", jobs=jobs) if train else self.recorded(wanted)
            if trials.empty:
                return {}, trials
            choices = rates.judged(trials, self.design.trials.rule)
            wider = self.wider(trials, choices) if widened < rates.WIDEN else []
            widened, known = widened + 1, set(wanted)
            more = [run for run in wider if run not in known] or [run for run in self.closer(trials, choices)
                                                                  if run not in known]
            if not more:
                break
            wanted += more
        return {(choice.task, choice.arm): choice.rate for choice in choices.itertuples()}, trials

    def closer(self, trials: pd.DataFrame, choices: pd.DataFrame) -> list[Run]:
        """Trials with more seeds, where a choice is close."""
        return [run for choice in choices.itertuples() if choice.level > 1
                for rate in sorted(set(trials.loc[trials["task"].eq(choice.task) & trials["arm"].eq(choice.arm), "lr"]))
                for run in self._tried([choice.task], choice.arm, rate, seeds=self.design.trials.close)]

    def wider(self, trials: pd.DataFrame, choices: pd.DataFrame) -> list[Run]:
        """Trials one step beyond, where a choice is at the edge."""
        return [run for choice in choices.itertuples()
                for rate in rates.beyond(choice, [*set(trials.loc[trials["task"].eq(choice.task)
                                                                  & trials["arm"].eq(choice.arm), "lr"])])
                for run in self._tried([choice.task], choice.arm, rate)]

    def clock(self, tasks: Sequence[str] = (), arms: Sequence[str] = (), rates: Mapping[Cell, float] | float = 0.001, *,
              measure: bool = True) -> clocks.Clock:
        """The calibrated clock of tasks and arms, from the study's file of it; measured, and kept there, where that lacks
        one of them, with as many threads as each of the study's ``jobs`` runs at once has. On a machine that is busy it is a
        refusal. With ``measure=False`` nothing is measured."""
        tasks, arms = self._named(tasks, arms)
        cells = list(itertools.product(tasks, arms))
        wanted = {(task, arm): self.arms[arm].does for task, arm in cells}
        for file in self._clocks():
            if kept := clocks.read(file, wanted, self.design.precision):
                return self._placed(kept)
        if not measure:
            return clocks.Clock(refusal=f"study {self.name} has no clock of these tasks and arms: run notebook 04")
        from studykit.training import machine

        short = {(task, arm): self.plan([task], [arm], rates=rates, steps=1)[0] for task, arm in cells}
        _check(self, list(short.values()), alone=True)
        with machine.limited(machine.threads(self.jobs)):
            measured = clocks.measure(short, self.tasks, self.source, self.encoder_at)
        if not measured.refusal:
            clocks.write(measured, self._clocks()[0])
        return self._placed(measured)

    def _clocks(self) -> list[Path]:
        """Files of the study's clock: this home's, and the one that comes with the project."""
        return [folder / "clock.json" for folder in self._results()]

    def _placed(self, measured: clocks.Clock) -> clocks.Clock:
        """The clock with titles and places, as the study's table has them."""
        titles, tasks, arms = self.tasks, list(self.tasks), list(self.arms)
        paces = [{**pace, "task_title": titles[pace["task"]].title, "task_place": tasks.index(pace["task"]),
                  "arm_place": arms.index(pace["arm"])} for pace in measured.paces]
        return dataclasses.replace(measured, paces=paces)

    def timed(self, rates: Mapping[Cell, float] | float, budgets: Sequence[float] = (),
              seeds: Sequence[int] = ()) -> list[Run]:
        """The runs within budgets in seconds on the study's clock, of the tasks and arms that it has; none without one."""
        if not (kept := clocks.fullest(self._clocks(), self.tasks, self.arms, self.design.precision)):
            return []
        cells = [cell for cell in kept.token_seconds if not isinstance(rates, Mapping) or cell in rates]
        return [run for seconds in budgets or self.design.budgets for task, arm in cells
                for run in self.plan([task], [arm], rates=rates, seeds=seeds or self.design.seeds, seconds=seconds,
                                     token_seconds=kept.token_seconds)]

    def table(self, found: Iterable[dict]) -> pd.DataFrame:
        """Records as the study's table: its tasks' titles and metrics, its arms' labels and order."""
        return table(found, self.tasks, {arm.does: arm.label for arm in self.design.arms})

    def recorded(self, wanted: Sequence[Run]) -> pd.DataFrame:
        """The table of those runs that have a record; nothing is trained."""
        found = self._known(wanted)
        return self.table([found[run.key] for run in dict.fromkeys(wanted) if run.key in found])

    def _known(self, wanted: Sequence[Run]) -> dict[str, dict]:
        """Records by key: this home's, and of a study of real encoders those that come with the project."""
        return {key: record for folder in reversed(self._results()) for key, record in records.read(folder, wanted).items()}

    def _results(self) -> list[Path]:
        """Where the study's results are: this home, and, of a study of real encoders that comes with the project, there."""
        own, shipped = paths.results(self.name), paths.REPO / "results" / self.name
        come = self.source != "mini" and self.name in paths.studies() and shipped != own
        return [own, shipped] if come else [own]

    def execute(self, wanted: Iterable[Run], *, group: str, jobs: int = 1, engine: str = "") -> pd.DataFrame:
        """Train the runs that have no record, and return the table of all of them, in the order of ``wanted``.

        Records are looked for in the whole study and written under ``group``. ``jobs`` processes share the cores, or
        another ``engine`` of ``engines.train`` does the work (``$STUDYKIT_ENGINE`` names one too). The whole plan is
        checked before anything trains. A run that diverges is a record that says so; one that meets an accident (memory,
        disk, an exception) has none, is said, and is tried again on the next call. Smallest fractions go first. Stopped
        at any moment, it loses the runs in flight. Raises ``RuntimeError`` where accidents leave no run at all.
        """
        folder = paths.results(self.name) / paths.plain(group)
        checks.value("jobs", jobs, int)
        engine = engines.known(engine)
        wanted = list(dict.fromkeys(_runs(wanted)))
        found = self._known(wanted)
        missing = sorted((run for run in wanted if run.key not in found), key=lambda run: run.fraction)
        progress, accidents = Progress(len(wanted), [run.fraction for run in missing]), []
        if missing:
            _check(self, missing, alone=jobs == 1 and engine in ("local", "loky"))
            try:
                with contextlib.closing(engines.train(self, missing, paths.made(folder), jobs, engine)) as trained:
                    for result in trained:
                        if result["status"] == "accident":
                            accidents.append(result)
                        else:
                            found[result["key"]] = result
                        progress.step(result)
            finally:
                locks.sweep(folder.parent)
        progress.end()
        if wanted and not found:
            raise RuntimeError(f"all {len(accidents)} runs met an accident, the first: {accidents[0]['reason']}")
        return self.table([found[run.key] for run in wanted if run.key in found])


def of_cell(given: Mapping[Cell, float] | float, task: str, arm: str, name: str) -> float:
    """A number for a task and arm, where it is one for all or one for each."""
    if not isinstance(given, Mapping):
        return given
    if (task, arm) not in given:
        raise ValueError(f"no {name} for {task} {arm}: give each task and arm one")
    return given[task, arm]


def _plain(values) -> list:
    """Values of an axis as Python's own numbers, which are what a hash is of."""
    return [value.item() if hasattr(value, "item") else value for value in values]


def _runs(wanted) -> list[Run]:
    given: list[Any] = list(wanted) if isinstance(wanted, Iterable) else [None]
    if not all(isinstance(run, Run) for run in given):
        raise ValueError(f"execute wants a list of runs, as plan gives it, got {wanted!r:.80}")
    return given


def load(name: str | Path, source: str = "", encoder: str = "") -> Study:
    """The study of that name, or of a YAML file, with other places for its data and its encoder's weights.

    Raises ``ValueError`` for an unknown study, and where a study that names its weights' digest is given others.
    """
    file = Path(name) if paths.is_yaml(name) else paths.params(str(name))
    if not file.is_file():
        raise ValueError(f"unknown study {str(name)!r}: choose from {', '.join(paths.studies())}, or give a YAML file")
    paths.plain(file.stem)
    settings = design.read(file)
    at, weights = str(encoder or _beside(file, settings.encoder)), settings.weights
    if Path(at).is_dir() or at == "mini" or not weights:
        from studykit.models import encoders

        given = encoders.digest(at)
        if weights and given != weights:
            raise ValueError(f"the encoder at {at} has weights {given}, but study {file.stem} is about "
                             f"{settings.encoder} with weights {weights}: copy {file.name} to a study of your own")
        weights = given
    elif at != settings.encoder:
        raise ValueError(f"no encoder's folder at {at}: study {file.stem} is about {settings.encoder}, so give "
                         "--encoder a folder that holds that")
    source = str(source or _beside(file, settings.source))
    if source not in ("hub", "mini") and not Path(source).is_dir():
        raise ValueError(f"source must be hub, mini or a folder, and there is no folder at {source}")
    at, source = (str(Path(place).resolve()) if place not in ("hub", "mini") and Path(place).is_dir() else place
                  for place in (at, source))  # a worker starts elsewhere
    return Study(file.stem, settings, weights, at, source)


def _beside(file: Path, place: str) -> str:
    """A folder that a study's file names, seen from where that lies; what is no folder there as it is."""
    folder = (file.parent / place).resolve()
    return str(folder) if place not in ("hub", "mini") and folder.is_dir() else place


def _check(study: Study, wanted: list[Run], alone: bool) -> None:
    """Raise what would stop these runs before the first trains. ``alone``: nothing of ours will train beside them."""
    for run in wanted:
        run.budget  # noqa: B018  (raises where it makes no sense)
        if run.clock == "wall" and not alone:
            raise ValueError(f"{run.name} ends by the wall clock, so it must have the machine to itself: use one job and "
                             "the engine local, or give it token_seconds, a calibrated clock")
        if (run.task not in study.tasks or run.asks != study.tasks[run.task].identity
                or (run.encoder, run.weights) != (study.encoder, study.weights) or run.data != study.data_digest(run.task)):
            raise ValueError(f"{run.name} is a run of another task, encoder or other data than study {study.name}'s: make "
                             "it with that study's plan")
    _check_data(study, wanted)
    _check_models(study, wanted)


def _check_data(study: Study, wanted: list[Run]) -> None:
    from studykit import tasks

    for name in dict.fromkeys(run.task for run in wanted):
        task = study.tasks[name]
        data, digest = runs.data(task, study.source)
        if digest != study.data_digest(name):
            raise ValueError(f"{name} at {study.source} is not the published data (digest {digest}, not "
                             f"{study.data_digest(name)}): study {study.name} is about that; make a study of your own")
        for fold in {run.fold for run in wanted if run.task == name and (run.score_on != "validation" or run.points)}:
            tasks.selection_split(task, data["train"]["label"][:], fold)


def _check_models(study: Study, wanted: list[Run]) -> None:
    """That weights, tokenizer, lengths, methods and precision fit this machine's files."""
    from studykit.models import encoders
    from studykit.training import machine

    device = machine.best_device()
    if "bf16" in {run.precision for run in wanted} and device.type != "cpu" and machine.best_precision(device) != "bf16":
        raise ValueError(f"study {study.name} trains in bf16, which this machine's accelerator multiplies slowly or not at "
                         "all: copy its YAML file to a study of your own with precision: fp32, whose records are kept apart")
    if encoders.digest(study.encoder_at) != study.weights:
        raise ValueError(f"the weights of {study.encoder_at} are not those of study {study.name}: load the study again")
    tokenizer = encoders.tokenizer(study.encoder_at)
    texts = max(len(study.tasks[run.task].columns) for run in wanted)
    for method, options in dict.fromkeys((run.method, run.options) for run in wanted):
        model = encoders.load(study.encoder_at, pooler=study.design.pooler, reads=study.design.reads)
        methods.apply(method, model, **dict(options))
        encoders.check_fit(study.encoder_at, model, tokenizer, max(run.max_length for run in wanted), texts)
        if "bf16" in {run.precision for run in wanted}:
            _check_bf16(study, model, tokenizer)
    encoders.check_fit(study.encoder_at, model, tokenizer, min(run.max_length for run in wanted), texts)


def _check_bf16(study: Study, model, tokenizer) -> None:
    """That the encoder can be trained in bf16: in some families numbers overflow there."""
    from studykit.training import bf16, machine

    if reason := bf16.fails(model, tokenizer, machine.best_device()):
        raise ValueError(f"{study.encoder} cannot be trained in bf16 ({reason}): say precision: fp32 in study {study.name}")
