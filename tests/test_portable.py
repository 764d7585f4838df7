"""As on Windows and macOS: no ``fcntl``, ``resource``, ``pwd``, ``grp``, no ``/proc``, no ``os.getuid``. psutil alone, which
has its own way on every system, keeps this one's."""

import json
import os
import re
import subprocess
import sys

import pytest

from studykit import paths

ABSENT = ("fcntl", "resource", "pwd", "grp")
ELSEWHERE = f"""
import builtins, io, os, sys
import psutil

for name in {ABSENT}:
    sys.modules.pop(name, None)  # Python's own start may have read it

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
for name in ("getuid", "geteuid", "getgid", "getegid", "getloadavg", "sched_getaffinity", "fork"):
    if hasattr(os, name):
        delattr(os, name)

def guarded(function):
    def call(file, *rest, **named):
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if (isinstance(file, (str, bytes, os.PathLike)) and os.fsdecode(file).startswith("/proc")
                and not caller.startswith("psutil")):
            raise FileNotFoundError(2, "No such file or directory", os.fsdecode(file))
        return function(file, *rest, **named)
    return call

builtins.open = io.open = guarded(open)
os.open, os.listdir, os.scandir, os.stat = map(guarded, (os.open, os.listdir, os.scandir, os.stat))
"""


@pytest.fixture
def elsewhere(tmp_path):
    """Runs code in a new process that has none of it; what it prints last, as JSON."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(ELSEWHERE)

    def run(code):
        within = os.pathsep.join([str(tmp_path / "start"), str(paths.REPO)])
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=paths.REPO,
                              env={**os.environ, "PYTHONPATH": within})
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_what_others_lack_is_out_of_reach(elsewhere):
    assert elsewhere(f"""if True:
        import json, os
        found = [hasattr(os, "getuid"), os.path.exists("/proc/self")]
        for name in {ABSENT}:
            try:
                __import__(name)
                found.append(name)
            except ImportError:
                pass
        try:
            found.append(open("/proc/self/status").read())
        except OSError:
            pass
        print(json.dumps(found))""") == [False, False]


def imports():
    """What notebooks import, and all of the package's own modules."""
    lines = set()
    for notebook in paths.notebooks():
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                lines |= {line.strip() for line in cell["source"] if re.match(r"(from|import) ", line)}
    own = [".".join(file.relative_to(paths.REPO).with_suffix("").parts).removesuffix(".__init__")
           for file in (paths.REPO / "studykit").rglob("*.py") if file.name != "__main__.py"]
    return [*sorted(lines), *(f"import {name}" for name in sorted(own))]


def test_the_package_and_what_notebooks_import_are_there(elsewhere):
    wanted = imports()
    assert len(wanted) > 30
    assert elsewhere(f"""if True:
        import json
        failed = []
        for line in {wanted!r}:
            try:
                exec(line)
            except Exception as error:
                failed.append(f"{{line}}: {{type(error).__name__}}: {{error}}")
        print(json.dumps(failed))""") == []


def test_a_run_is_trained_and_recorded(elsewhere, tmp_path):
    kept = elsewhere(f"""if True:
        import json, os
        os.environ["STUDYKIT_HOME"] = {str(tmp_path / "home")!r}
        from studykit import paths, study
        experiment = study.load("mini")
        runs = experiment.plan(["cola"], ["bitfit"], rates=1e-3, fractions=[0.1], seeds=[0], steps=3)
        table = experiment.execute(runs, group="portable")
        again = experiment.execute(runs, group="portable")
        left = sorted(str(file.relative_to(paths.results("mini"))) for file in paths.results("mini").rglob("*.*"))
        (record,) = [json.loads(file.read_text()) for file in paths.results("mini").rglob("*.json")]
        print(json.dumps([len(table), table["score"].tolist() == again["score"].tolist(), left, record]))""")
    rows, same, left, record = kept
    assert (rows, same) == (1, True)
    assert left == [f"portable/{record['run']['task']}-bitfit-f0.1-lr0.001-s0-{record['key']}.json"]
    assert record["steps"] == 3 and record["hardware"]["processor"]
    assert record["memory"]["peak_mb"] is None  # nobody knows it here, and nobody guesses
