"""A study: its runs, and executing those that have no record yet.

A run is its configuration. Its hash names its record, so executing a plan twice trains nothing the second time.
"""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from studykit import checks, paths, tasks
from studykit.study import engines, records, runs
from studykit.study.progress import Progress
from studykit.study.runs import Run

CALIBRATION = 60  # steps that a method's cost is measured on
WIDEN = 2  # how often a range of learning rates is widened where its best lies at its edge
SETTINGS = {"encoder": str, "pooler": str, "source": str, "batch_size": int, "max_length": int, "epochs": float,
            "min_steps": int, "trials": dict}
MORE_SETTINGS = {"weights": str, "data": str, "jobs": int, "precision": str, "options": dict, "notebooks": dict}
TRIALS = {"fraction": float, "seed": int, "rates": dict}


@dataclass(frozen=True)
class Study:
    """A study's settings, with where its encoder and data lie. Made by ``load``."""

    name: str
    encoder: str
    weights: str
    encoder_at: str  # a hub id or a folder
    source: str  # "hub", "mini" or a folder
    settings: dict

    def data_digest(self, task):
        """The published data's digest for the hub and for a study pinned to it, else that of the folder's rows."""
        if self.source == "hub" or self.settings.get("data") == "published":
            return tasks.get(task).digest
        return runs.data(task, self.source)[1]

    def grid(self, *, task, method, fraction=1.0, seed=0, lr=None, **fixed):
        """All combinations as a list of ``Run``s. Each of the four axes is a value or a list.

        ``lr`` is a number or a dict from (task, method) to one; ``seed`` sets all three seeds, and ``fixed`` any other
        field of ``Run``, to a value or likewise to a dict. ``options`` is a dict, for every method; without it each method
        has the study's own.
        """
        axes = [[each.item() if hasattr(each, "item") else each for each in axis]  # NumPy's numbers are numbers
                if isinstance(axis, Iterable) and not isinstance(axis, str) else [axis]
                for axis in (task, method, fraction, seed)]
        for name in axes[0]:
            tasks.get(name)
        options = self._options(axes[1], fixed.pop("options", None))
        if unknown := fixed.keys() - records.FIELDS:
            raise ValueError(f"a run has no {', '.join(sorted(unknown))}: it has {', '.join(sorted(records.FIELDS))}")
        fixed = {"lr": lr, **fixed}
        for name, value in fixed.items():
            if isinstance(value, dict) and (lost := set(itertools.product(axes[0], axes[1])) - set(value)):
                raise ValueError(f"no {name} for {', '.join(' '.join(pair) for pair in sorted(lost))}: give each one")
        budget = {} if {"steps", "seconds"} & set(fixed) else {key: self.settings[key] for key in ("epochs", "min_steps")}
        common = {"batch_size": self.settings["batch_size"], "max_length": self.settings["max_length"], **budget,
                  "precision": self.settings.get("precision", "auto"),
                  "encoder": self.encoder, "weights": self.weights, "pooler": self.settings["pooler"]}

        def settings(t, m, s):
            seeds = {"subset_seed": s, "init_seed": s, "order_seed": s}
            return {**common, **seeds, **{name: value[t, m] if isinstance(value, dict) else value
                                          for name, value in fixed.items()}}

        return [Run(task=t, method=m, fraction=f, options=options[m], data=self.data_digest(t), **settings(t, m, s))
                for s, f, t, m in itertools.product(axes[3], axes[2], axes[0], axes[1])]

    def _options(self, names, given):
        """Each method's options, those given or else the study's own, once they and the methods' names are known to be
        sound."""
        from studykit import methods

        own = self.settings.get("options", {})
        for name in (*names, *self.settings["trials"]["rates"], *own):
            methods.get(name)
        options = own if given is None else dict.fromkeys(names, given)
        for name in options:
            methods.check(name, options[name])
        return {name: _frozen(options.get(name, {})) for name in names}

    def trials(self, task, method, **fixed):
        """The runs that learning rates are chosen from, as many for every method: on a part of train and scored on the
        selection split, so that the validation set is not looked at, with a seed that is none of the report's. ``fixed`` are
        other fields of ``Run``."""
        trial = self.settings["trials"]
        method = [method] if isinstance(method, str) else method
        if missing := [name for name in method if name not in trial["rates"]]:
            raise ValueError(f"study {self.name} has no learning rates to try for {', '.join(missing)}: add them under "
                             "trials in its parameters")
        fixed = {"fraction": trial["fraction"], "seed": trial["seed"], "score_on": "selection",
                 "epochs": trial.get("epochs", self.settings["epochs"]), **fixed}
        return [run for name in method for lr in trial["rates"][name]
                for run in self.grid(task=task, method=name, lr=lr, **fixed)]

    def choose_rates(self, task, method, *, jobs=1):
        """``(rates, trials)``: the learning rate per (task, method), and the table of the trials that chose it.

        Where the best rate lies at the edge of those tried, one beyond it is tried too, up to ``WIDEN`` times.
        """
        wanted = self.trials(task, method)
        for _ in range(WIDEN + 1):
            trials = self.execute(wanted, group="02_learning_rates", jobs=jobs)
            learnt = trials[trials["status"] == "ok"]
            if lost := set(zip(trials["task"], trials["method"], strict=True)) - set(
                    zip(learnt["task"], learnt["method"], strict=True)):
                raise ValueError(f"no rate taught {sorted(lost)} anything: try others, or more steps")
            best = learnt.loc[learnt.groupby(["task", "method"])["score"].idxmax()]
            beyond = [run for row in best.itertuples() for run in _beyond(row, wanted)]
            if not beyond:
                break
            wanted += beyond
        return {(row.task, row.method): row.lr for row in best.itertuples()}, trials

    def calibrate(self, task, method, lr):
        """``(token_seconds, runs)``: the seconds that a real token of training costs per (task, method), and the table of
        the runs that it was measured on, one after another. Their records are the clock, with the machine that they name."""
        short = self.grid(task=task, method=method, lr=lr, seed=self.settings["trials"]["seed"], steps=CALIBRATION,
                          score_on="selection")
        measured = self.execute(short, group="04_time_budgets", engine="local")
        if (lost := measured["tokens"].isna()).any():
            raise ValueError("no clock: a run that measures it failed, of "
                             + " ".join(measured.loc[lost, ["task", "method", "reason"]].iloc[0]))
        return {(row.task, row.method): float(f"{row.train_seconds / row.tokens:.3g}")
                for row in measured.itertuples()}, measured

    def recorded(self, wanted):
        """The table of those runs that have a record; nothing is trained."""
        found = records.read(paths.results(self.name), wanted)
        return records.table([found[run.key] for run in dict.fromkeys(wanted) if run.key in found])

    def execute(self, wanted, *, group, jobs=1, engine=""):
        """Train the runs that have no record, and return the table of all of them, in the order of ``wanted``.

        Records are looked for in the whole study and written under ``group``. ``jobs`` processes share the cores, or
        another ``engine`` of ``engines.train`` does the work (``$STUDYKIT_ENGINE`` names one too). Input errors are raised
        before anything trains; a run that fails or diverges is a record that says so. Smallest fractions go first. Stopped
        at any moment, it loses the runs in flight.
        """
        folder = paths.results(self.name) / paths.plain(group)
        checks.value("jobs", jobs, int)
        engine = engines.known(engine)
        wanted = list(dict.fromkeys(_runs(wanted)))
        found = records.read(paths.results(self.name), wanted)
        missing = sorted((run for run in wanted if run.key not in found), key=lambda run: run.fraction)
        progress = Progress(len(wanted), [run.fraction for run in missing])
        if missing:
            _check(self, missing, alone=jobs == 1 and engine in ("local", "loky"))
            try:
                with contextlib.closing(engines.train(self, missing, paths.made(folder), jobs, engine)) as trained:
                    for record in trained:
                        found[record["key"]] = record
                        progress.step(record)
            finally:
                records.sweep(folder.parent)
        progress.end()
        return records.table([found[run.key] for run in wanted])


def _beyond(best, tried):
    """The trial one step further out than the best one, where that is the first or last of those tried; else nothing."""
    of = sorted((run for run in tried if (run.task, run.method) == (best.task, best.method)), key=lambda run: run.lr)
    for edge, inner in (of[:2], of[:-3:-1]) if len(of) > 1 else ():
        if best.lr == edge.lr:
            return [dataclasses.replace(edge, lr=_rounded(edge.lr ** 2 / inner.lr))]
    return []


def _rounded(lr):
    """The nearest of …, 0.01, 0.03, 0.1, … on a log scale."""
    return float(f"{10 ** (round(2 * math.log10(lr)) / 2):.1g}")


def _runs(wanted):
    runs = list(wanted) if isinstance(wanted, Iterable) else [None]
    if not all(isinstance(run, Run) for run in runs):
        raise ValueError(f"execute wants a list of runs, as grid gives it, got {wanted!r:.80}")
    return runs


def _frozen(options):
    return tuple(sorted((key, tuple(value) if isinstance(value, list) else value) for key, value in dict(options).items()))


def load(name, source="", encoder=""):
    """The study of that name, or of a YAML file, with other places for its data and its encoder's weights.

    Raises ``ValueError`` for an unknown study, and where a study that names its weights' digest is given others.
    """
    file = Path(name) if str(name).endswith((".yaml", ".yml")) else paths.params(name)
    if not file.is_file():
        raise ValueError(f"unknown study {str(name)!r}: choose from {', '.join(paths.studies())}, or give a YAML file")
    paths.plain(file.stem)
    settings = _settings(file)
    at, weights = str(encoder or settings["encoder"]), settings.get("weights")
    if Path(at).is_dir() or at == "mini" or not weights:
        from studykit.models import encoders

        given = encoders.digest(at)
        if weights and given != weights:
            raise ValueError(f"the encoder at {at} has weights {given}, but study {file.stem} is about "
                             f"{settings['encoder']} with weights {weights}: copy {file.name} to a study of your own")
        weights = given
    elif at != settings["encoder"]:
        raise ValueError(f"no encoder's folder at {at}: study {file.stem} is about {settings['encoder']}, so give "
                         "--encoder a folder that holds that")
    source = str(source or settings["source"])
    if source not in ("hub", "mini") and not Path(source).is_dir():
        raise ValueError(f"source must be hub, mini or a folder, and there is no folder at {source}")
    at, source = (str(Path(place).resolve()) if place not in ("hub", "mini") and Path(place).is_dir() else place
                  for place in (at, source))  # a worker starts elsewhere
    return Study(file.stem, settings["encoder"], weights, at, source, settings)


def _settings(file):
    """A study's settings from its file, once they are known to be sound."""
    try:
        settings = yaml.safe_load(file.read_bytes())
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file} is not YAML ({' '.join(str(error).split())}): mend it there") from None
    checks.mapping(str(file), settings, SETTINGS, MORE_SETTINGS)
    if settings.get("data", "published") != "published":
        raise ValueError(f"{file}: data must be published, or left out, got {settings['data']!r:.80}")
    for method, options in settings.get("options", {}).items():
        checks.value(f"options of {method}", options, dict, f"{file}: ")
    trials = settings["trials"]
    checks.mapping(f"trials in {file}", trials, TRIALS, {"epochs": float})
    for method, rates in trials["rates"].items():
        checks.value(f"rates of {method}", rates, list, f"{file}: ")
        for rate in rates:  # YAML reads 1e-3 as text, and 1.0e-3 as a number
            checks.value(f"each of the rates of {method}, such as 1.0e-3,", rate, float, f"{file}: ")
    if len({len(rates) for rates in trials["rates"].values()}) != 1:
        raise ValueError(f"{file} gives methods different numbers of trials, or none: they must be equal to be fair")
    return settings


def _check(study, wanted, alone):
    """Raise what would stop these runs before the first trains. ``alone``: nothing of ours will train beside them."""
    from studykit import methods
    from studykit.models import encoders

    for run in wanted:
        run.budget  # noqa: B018  (raises where it makes no sense)
        if run.clock == "wall" and not alone:
            raise ValueError(f"{run.name} ends by the wall clock, so it must have the machine to itself: use one job and "
                             "the engine local, or give it token_seconds, a calibrated clock")
        if (run.encoder, run.weights) != (study.encoder, study.weights) or run.data != study.data_digest(run.task):
            raise ValueError(f"{run.name} is a run of another encoder or other data than study {study.name}'s: make it with "
                             "that study's grid")
    for task in dict.fromkeys(run.task for run in wanted):
        _, digest = runs.data(task, study.source)
        if digest != study.data_digest(task):
            raise ValueError(f"{task} at {study.source} is not the published data (digest {digest}, not "
                             f"{study.data_digest(task)}): study {study.name} is about that; make a study of your own")
    if encoders.digest(study.encoder_at) != study.weights:
        raise ValueError(f"the weights of {study.encoder_at} are not those of study {study.name}: load the study again")
    tokenizer = encoders.tokenizer(study.encoder_at)
    for method, options in dict.fromkeys((run.method, run.options) for run in wanted):
        model = encoders.load(study.encoder_at, pooler=study.settings["pooler"])
        encoders.check_fit(study.encoder_at, model, tokenizer, max(run.max_length for run in wanted))
        methods.apply(method, model, **dict(options))
