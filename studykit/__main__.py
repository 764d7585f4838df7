"""``python -m studykit run``: every notebook through papermill. ``python -m studykit readme``: README's tables.

``run_all.sh`` calls this once the environment is there.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml

from studykit import paths


def main(argv=None):
    parser = argparse.ArgumentParser(prog="run_all.sh", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("readme", help="write README's tables from the records")
    run = commands.add_parser("run", help="run the notebooks")
    run.add_argument("--study", default="mini")
    run.add_argument("--source", default="")
    run.add_argument("--encoder", default="")
    run.add_argument("--only", default="")
    run.add_argument("--jobs", type=int)
    run.add_argument("--set", nargs="+", default=[], action="extend", metavar="NAME=VALUE")
    options = parser.parse_args(argv)
    if options.command == "readme":
        from studykit import report

        report.write_readme()
        return 0
    try:
        plan = plan_of(options)
    except (ValueError, OSError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    return run_all(*plan)


def plan_of(options):
    """``(study, [(notebook, parameters)])``: the loaded study and all that is asked for, checked before anything runs.

    Raises ``ValueError`` for an unknown study, notebook or parameter.
    """
    from studykit import study

    for name in ("source", "encoder", "study"):  # the kernel starts elsewhere: a relative folder must be made whole here
        value = getattr(options, name)
        there = Path(os.environ.get("STUDYKIT_FROM", ".")) / Path(value).expanduser()
        if value and (value.startswith((".", "~")) or there.exists()):
            setattr(options, name, str(there.resolve()))
    experiment = study.load(options.study, options.source, options.encoder)
    settings = experiment.settings
    jobs = settings.get("jobs", 1) if options.jobs is None else options.jobs
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    given = dict(_setting(text) for text in options.set)
    common = {"study_name": options.study, "source": options.source, "encoder": options.encoder, "jobs": jobs}
    chosen = _chosen(options.only)
    if not options.only:
        chosen = [notebook for notebook in chosen if settings.get("notebooks", {}).get(notebook.stem) is not False]
    known = {notebook: _parameters(notebook) for notebook in chosen}
    if unknown := set(given) - set().union(*known.values()):
        names = sorted(set().union(*known.values()) - set(common))
        raise ValueError(f"unknown parameter {', '.join(sorted(unknown))}: these notebooks have {', '.join(names)}")
    for notebook in chosen:
        of_study = settings.get("notebooks", {}).get(notebook.stem) or {}
        if unknown := set(of_study) - known[notebook]:
            raise ValueError(f"study {options.study} sets {', '.join(sorted(unknown))}, which {notebook.stem} does not have")
        values = {**common, **of_study, **given}
        known[notebook] = {name: value for name, value in values.items() if name in known[notebook]}
    return experiment, list(known.items())


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

    return set(papermill.inspect_notebook(str(notebook)))


def run_all(experiment, plan):
    """Run the planned notebooks one after another, whatever becomes of each; print what became of them, and write a page."""
    from studykit import report

    folder = paths.runs(experiment.name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for notebook, parameters in plan:
        print(f"{notebook.stem} …", flush=True)
        start, started = time.monotonic(), time.time()
        status = _execute(notebook, folder, parameters)
        drawn = [file.stem for file in sorted(paths.figures(experiment.name).glob("*.png"))
                 if file.stat().st_mtime >= started - 1]
        rows.append((notebook, time.monotonic() - start, status, ", ".join(drawn)))
    print(f"\n{'notebook':28} {'seconds':>8}  {'status':8} figures")
    for notebook, seconds, status, drawn in rows:
        print(f"{notebook.stem:28} {seconds:8.0f}  {status:8} {drawn}")
    failed = sum(row[2] != "passed" for row in rows)
    page = report.write_index(experiment, folder, [row[:3] for row in rows])
    print(f"\n{len(rows) - failed} passed, {failed} failed. All of it on one page: {_short(page)}")
    return 1 if failed else 0


def _short(folder):
    return os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else str(folder)


def _execute(notebook, folder, parameters):
    """Run one notebook and write it as HTML too; ``"passed"`` or ``"failed"``, with the error on stderr."""
    import papermill

    from studykit import report

    target = folder / notebook.name
    with tempfile.NamedTemporaryFile() as log:
        os.environ["STUDYKIT_PROGRESS"] = log.name
        done = threading.Event()
        threading.Thread(target=_follow, args=(Path(log.name), done), daemon=True).start()
        try:
            papermill.execute_notebook(str(notebook), str(target), parameters, cwd=str(paths.REPO / "notebooks"),
                                       kernel_name="python3", progress_bar=False,
                                       extra_arguments=["--IPKernelApp.log_level=40"])  # its warnings are not the reader's
            status = "passed"
        except Exception as error:  # the other notebooks still run; the table and the exit status say what failed
            print(f"{notebook.stem} failed: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
            status = "failed"
        finally:
            done.set()
            del os.environ["STUDYKIT_PROGRESS"]
    if target.is_file():
        report.as_html(target)
    return status


def _follow(log, done):
    """Print the kernel's progress as it comes: a notebook that runs headless shows nothing by itself."""
    seen = ""
    while not done.wait(2):
        lines = log.read_text().splitlines()
        if lines and lines[-1] != seen:
            seen = lines[-1]
            print(f"  {seen}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
