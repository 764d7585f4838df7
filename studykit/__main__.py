"""``python -m studykit run``: every notebook through papermill. ``python -m studykit student``: the notebooks for a class.
``python -m studykit data``: advice on somebody's own data. ``python -m studykit predict``: a model's answers to new rows.
``python -m studykit readme``: README's tables.

``run_all.sh`` calls this once the environment is there.
"""

import argparse
import ast
import codecs
import concurrent.futures
import difflib
import math
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml

from studykit import checks, paths

SHELL = ("--test", "--lab", "--student", "--data", "--predict", "--offline", "--help")  # options that run_all.sh knows
PLAIN = {"…": "...", "–": "-", "−": "-", "×": "x", "·": "|", "“": '"', "”": '"', "→": "->"}


class _Parser(argparse.ArgumentParser):
    def error(self, message):  # in one line, like every other mistake
        raise ValueError(f"{message}: see ./run_all.sh --help")


def _plain(error):
    """What a terminal shows of letters that it does not know."""
    return "".join(PLAIN.get(letter, "?") for letter in error.object[error.start:error.end]), error.end


codecs.register_error("studykit.plain", _plain)


def main(argv=None):
    """The exit status: 0, or 1 where a notebook failed, or 2 where what was asked for cannot be, said in one line."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="studykit.plain")
    if home := os.environ.get("STUDYKIT_HOME"):
        os.environ["STUDYKIT_HOME"] = str(paths.callers(home))  # the kernels start in other folders
    try:
        options = _options(argv)
        if options.command == "student":
            return _student(options)
        if options.command == "data":
            return _data(options)
        if options.command == "predict":
            return _predict(options)
        plan = plan_of(options) if options.command == "run" else None
    except (ValueError, OSError) as error:
        print(f"run_all.sh: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if plan:
        return run_all(*plan)
    from studykit.telling import report

    report.write_readme()
    return 0


def _options(argv):
    parser = _Parser(prog="run_all.sh", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("readme", help="write README's tables from the records")
    student = commands.add_parser("student", help="write the notebooks for a class, the answers apart", allow_abbrev=False)
    student.add_argument("folder", metavar="FOLDER")
    data = commands.add_parser("data", help="advise on somebody's own data", allow_abbrev=False)
    data.add_argument("data", metavar="FILE|FOLDER|YAML")
    for name in ("--minutes", "--margin"):
        data.add_argument(name, type=_above_zero, default=0.0)
    data.add_argument("--arms", type=lambda text: [name.strip() for name in text.split(",")], default=[])
    for name in ("--text", "--label", "--encoder"):
        data.add_argument(name, default="")
    predict = commands.add_parser("predict", help="add a model's answers to a file's rows", allow_abbrev=False)
    predict.add_argument("file", metavar="FILE")
    predict.add_argument("--model", required=True)
    for name in ("--out", "--encoder"):
        predict.add_argument(name, default="")
    run = commands.add_parser("run", help="run the notebooks", allow_abbrev=False)
    run.add_argument("--study", default="mini")
    run.add_argument("--source", default="")
    run.add_argument("--encoder", default="")
    run.add_argument("--only", default="")
    run.add_argument("--jobs", type=int)
    run.add_argument("--engine", default="")
    run.add_argument("--set", nargs="+", default=[], action="extend", metavar="NAME=VALUE")
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        known = commands.choices[options.command]._option_string_actions
        raise ValueError(_unknown(unknown[0], [*known, *SHELL]))
    return options


def _above_zero(text):
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _unknown(word, known):
    """That an option is unknown, and which it may have been."""
    near = difflib.get_close_matches(word.split("=")[0], [name for name in known if name.startswith("--")], n=2)
    meant = f", perhaps {' or '.join(near)} was meant" if near else ""
    return f"unknown {'option' if word.startswith('-') else 'word'} {word!r:.80}{meant}: see ./run_all.sh --help"


def _student(options):
    from studykit.telling import door, student

    folder = paths.callers(options.folder)
    written = student.write(folder)
    print(f"{len(written)} notebooks in {door.short(folder)}, without outputs and answers; the answers are in "
          f"{door.short(folder / 'answers')}")
    return 0


def _data(options):
    from studykit import tasks
    from studykit.advise import asking
    from studykit.models import files
    from studykit.telling import door, story

    encoder = paths.callers(options.encoder)
    is_folder = options.encoder not in ("", "mini") and encoder.is_dir()
    parameters = {name: getattr(options, name) for name in ("text", "label", "minutes", "arms", "margin")}
    parameters |= {"data": str(paths.callers(options.data)), "encoder": str(encoder) if is_folder else options.encoder}
    task, wishes = asking.asked(**parameters)  # mistakes are said at once, before what an earlier call left is touched
    tasks.selection_split(task, tasks.load(task)["train"]["label"][:])
    began = time.time()
    files.digest(asking.place(wishes.encoder))  # fetching the encoder is set-up: no minute is spent on it
    started = str(float(os.environ.get("STUDYKIT_STARTED") or began) + time.time() - began)
    notebook, = _chosen(paths.OWN)
    target = paths.made(paths.runs(task.name)) / notebook.name
    story.kept_in(task.name, notebook.stem).unlink(missing_ok=True)  # an earlier call's
    with door.interruptible():
        status = _execute(notebook, target, parameters, STUDYKIT_STARTED=started)
    if status != "failed" or door.answered(task.name):
        print(door.said(task.name, target))
    return int(status == "failed")


def _predict(options):
    from studykit.advise import filling

    file, encoder = paths.callers(options.file), options.encoder
    model, out = paths.callers(options.model), paths.callers(options.out or filling.named(file))
    if encoder and (there := paths.callers(encoder)).exists():
        encoder = str(there)
    try:
        print(filling.predict_file(file, model, out, encoder))
    except KeyboardInterrupt:
        print("run_all.sh: stopped, and nothing was written", file=sys.stderr)
        return 130
    return 0


def plan_of(options):
    """``(study, [(notebook, parameters)])``: the loaded study and all that is asked for, checked before anything runs.

    Raises ``ValueError`` for an unknown study, notebook or parameter.
    """
    from studykit import study
    from studykit.study import engines

    os.environ["STUDYKIT_ENGINE"] = engines.known(options.engine)  # the kernels read it
    for name in ("source", "encoder", "study"):  # the kernel starts elsewhere: a relative folder must be made whole here
        value = getattr(options, name)
        there = paths.callers(value)
        is_file = paths.is_yaml(value) if name == "study" else value not in ("", "hub", "mini")
        if is_file and (value.startswith((".", "~")) or there.exists()):
            setattr(options, name, str(there))
    experiment = study.load(options.study, options.source, options.encoder)
    of_notebooks = _of_notebooks(experiment)
    jobs = experiment.jobs if options.jobs is None else options.jobs
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    given = dict(_setting(text) for text in options.set)
    common = {"study_name": options.study, "source": options.source, "encoder": options.encoder, "jobs": jobs}
    chosen = _chosen(options.only)
    if not options.only:
        chosen = [notebook for notebook in chosen if of_notebooks.get(notebook.stem) is not False
                  and (notebook.stem != paths.OWN or experiment.name == "mini")]  # it asks nothing of a study
    if not chosen:
        raise ValueError(f"study {options.study} leaves out every notebook: name some with --only, or change its notebooks:")
    known = {notebook: _parameters(notebook) for notebook in chosen}
    names = set().union(*known.values())
    if unknown := set(given) - names:
        names = sorted(names - set(common))
        raise ValueError(f"unknown parameter {', '.join(sorted(unknown))}: these notebooks have {', '.join(names)}")
    for notebook in chosen:
        defaults, of_study = known[notebook], of_notebooks.get(notebook.stem) or {}
        if unknown := set(of_study) - set(defaults):
            raise ValueError(f"study {options.study} sets {', '.join(sorted(map(str, unknown)))}, which {notebook.stem} "
                             f"does not have: it has {', '.join(sorted(set(defaults) - set(common)))}")
        values = {**common, **of_study, **given}
        known[notebook] = {name: value for name, value in values.items() if name in defaults}
        for name, value in known[notebook].items():
            _check_kind(name, value, defaults[name], f"{notebook.stem}: ")
    for folder in (paths.results, paths.figures, paths.runs):
        paths.made(folder(experiment.name))
    return experiment, list(known.items())


def _of_notebooks(experiment):
    """What the study sets for notebooks, by notebook: parameters, or ``False`` where it leaves one out."""
    given = experiment.design.notebooks
    stems = {notebook.stem for notebook in paths.notebooks()}
    if unknown := given.keys() - stems:
        raise ValueError(f"study {experiment.name} sets values for {', '.join(sorted(map(str, unknown)))}, which is no "
                         f"notebook: choose from {', '.join(sorted(stems))}")
    return given


ITEMS = {**dict.fromkeys(("tasks", "arms", "others"), str),
         **dict.fromkeys(("seeds", "sizes", "bottlenecks", "ranks"), int)}  # else numbers


def _check_kind(name, value, default, where):
    """Raise ``ValueError`` where a parameter's value, or an item of it, is not of the default's kind."""
    if value == [] and default == []:  # as the study says
        return
    checks.value(name, value, type(default), where)
    for item in value if isinstance(value, list) else ():
        checks.value(name.removesuffix("s"), item, ITEMS.get(name, float), f"{where}{name}: each ")


def _setting(text):
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"--set wants NAME=VALUE, got {text!r}")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ValueError(f"--set {name}: {value!r} is not a YAML value") from None


def _chosen(only):
    notebooks = paths.notebooks()
    if not only:
        return notebooks
    wanted = [word.strip() for word in only.split(",")]
    found = {word: [nb for nb in notebooks if word in (nb.stem, nb.stem[:2], nb.name)] for word in wanted}
    if unknown := [word for word, matches in found.items() if not matches]:
        raise ValueError(f"no notebook {', '.join(unknown)}: there are {', '.join(nb.stem for nb in notebooks)}")
    return sorted({nb for matches in found.values() for nb in matches})


def _parameters(notebook):
    import papermill

    return {name: ast.literal_eval(found["default"]) for name, found in papermill.inspect_notebook(str(notebook)).items()}


def run_all(experiment, plan):
    """Run the planned notebooks one after another, whatever becomes of each; print what became of them. A page about all of
    it is there from the first one's end."""
    from studykit.telling import door, pages, story

    folder, rows, waiting = paths.runs(experiment.name), [], []
    with concurrent.futures.ThreadPoolExecutor(1) as writer:  # of a notebook's page, while the next notebook runs
        for notebook, parameters in plan:
            print(f"{notebook.stem} …", flush=True)
            story.kept_in(experiment.name, notebook.stem).unlink(missing_ok=True)  # an earlier run's
            start = time.monotonic()
            status = _execute(notebook, target := folder / notebook.name, parameters)
            rows.append((notebook, time.monotonic() - start, status))
            waiting += [writer.submit(pages.as_html, target)] if target.is_file() else []
            page = pages.write_index(experiment, folder, rows)
    for written in filter(None, (written.exception() for written in waiting)):
        print(f"a page was not written: {type(written).__name__}: {written}", file=sys.stderr)
    print(f"\n{'notebook':28} {'seconds':>8}  {'status':8} figures")
    for notebook, seconds, status in rows:
        figures = [figure["name"] for figure in story.read(experiment.name, notebook.stem)["figures"]]
        print(f"{notebook.stem:28} {seconds:8.0f}  {status:8} {', '.join(figures)}")
    failed = sum(status != "passed" for *_, status in rows)
    print(f"\n{len(rows) - failed} passed, {failed} failed. All of it on one page: {door.short(page)}")
    return 1 if failed else 0


def _execute(notebook, target, parameters, **environment):
    """Run one notebook, with more in its environment; ``"passed"`` or ``"failed"``, with the error on stderr."""
    import papermill

    from studykit.telling import pages

    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "progress"
        log.touch()
        environment["STUDYKIT_PROGRESS"] = str(log)
        os.environ.update(environment)
        done = threading.Event()
        follower = threading.Thread(target=_follow, args=(log, done), daemon=True)
        follower.start()
        try:
            papermill.execute_notebook(str(notebook), str(target), parameters, cwd=str(paths.REPO / "notebooks"),
                                       kernel_name="python3", progress_bar=False,
                                       extra_arguments=["--IPKernelApp.log_level=40"])  # its warnings are not the reader's
            status = "passed"
        except Exception as error:  # the other notebooks still run; the table and the exit status say what failed
            said = str(error).strip().splitlines() or [type(error).__name__]
            print(f"{notebook.stem} failed: {said[-1]}", file=sys.stderr)
            status = "failed"
        finally:
            done.set()
            follower.join()
            if target.is_file():
                pages.relinked(target)
            for name in environment:
                del os.environ[name]
    return status


def _follow(log, done):
    """Print the kernel's progress as it comes: a notebook that runs headless shows nothing by itself."""
    seen = ""
    while not done.wait(2):
        lines = log.read_text(encoding="utf-8").splitlines()
        if lines and lines[-1] != seen:
            seen = lines[-1]
            print(f"  {seen}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
