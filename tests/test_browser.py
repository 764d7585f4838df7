"""In a browser: a notebook in JupyterLab, run, changed and run again; and the page of a run, on a phone too."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import made_advice
import pytest

from studykit import paths
from studykit.evidence import paper as claims
from studykit.telling import advised_page, facts, plots, report

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="the browser tests need Chromium (on Debian: apt-get install chromium)")

CELLS = """() => window.jupyterapp.shell.currentWidget.content.widgets.map(cell => ({
    type: cell.model.type, source: cell.model.sharedModel.source, outputs: cell.model.outputs?.toJSON() ?? []}))"""
KERNEL = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
CHANGE = """([i, source]) => window.jupyterapp.shell.currentWidget.content.widgets[i].model.sharedModel.setSource(source)"""
SHOW = """i => {const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = i; return notebook.scrollToItem(i, 'center')}"""
RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
IMAGES = "() => [...document.images].map(image => [image.naturalWidth, image.alt])"
OVERFLOW = "() => document.documentElement.scrollWidth - window.innerWidth"


@pytest.fixture
def browser():
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


def opened(browser, at, **options):
    """A page whose requests all begin with ``at``, and the list of those that did not and were refused."""
    page, refused = browser.new_page(**options), []

    def gate(route):
        if route.request.url.startswith((at, "data:", "blob:")):
            route.continue_()
        else:
            refused.append(route.request.url)
            route.abort()

    page.route("**/*", gate)
    return page, refused


# A notebook

@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab, started as ``run_all.sh --lab`` does, on copies of the notebooks and of the reference
    study's records, and its token."""
    shutil.copytree(paths.REPO / "notebooks", tmp_path / "notebooks")
    shutil.copytree(paths.REPO / "results" / report.REFERENCE, tmp_path / "home" / "results" / report.REFERENCE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {name: str(tmp_path / name) for name in (
        "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR",
        "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR")}
    words = ["--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0",
             f"--notebook-dir={tmp_path / 'notebooks'}", "--LabApp.expose_app_in_browser=True"]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "lab", *words], stdout=log, stderr=log,
            env={**os.environ, **folders, "STUDYKIT_HOME": str(tmp_path / "home")})
    try:
        wait_for(f"http://127.0.0.1:{port}/api", server, tmp_path / "log")
        (about,) = (tmp_path / "JUPYTER_RUNTIME_DIR").glob("jpserver-*.json")
        yield f"http://127.0.0.1:{port}/", json.loads(about.read_text())["token"]
    finally:
        server.terminate()
        server.wait(30)


def wait_for(address, server, log, seconds=60):
    for _ in range(10 * seconds):
        assert server.poll() is None, log.read_text()
        try:
            return urllib.request.urlopen(address)
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(log.read_text())


def ran(page):
    """Run all cells; the figures by their cells' sources, once it is seen that nothing failed and nothing was trained."""
    page.evaluate(RUN_ALL)
    outputs = [(cell["source"], output) for cell in page.evaluate(CELLS) for output in cell["outputs"]]
    wrong = [output for _, output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert not wrong, wrong
    said = [output["data"]["text/plain"] for _, output in outputs if "runs read" in str(output.get("data"))]
    assert len(said) >= 2 and all("none trained" in line for line in said), said
    return {source: output["data"]["image/png"] for source, output in outputs if "image/png" in output.get("data", {})}


def test_the_lab_listens_on_this_machine_only_and_wants_its_token(lab):
    address, token = lab
    assert len(token) >= 32
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{address}api/contents")
    assert urllib.request.urlopen(f"{address}api/contents?token={token}").status == 200
    port, listening = f"{int(address.rstrip('/').rsplit(':')[-1]):04X}", "0A"
    lines = [line.split() for file in ("tcp", "tcp6") for line in (Path("/proc/net") / file).read_text().splitlines()[1:]]
    hosts = {where.split(":")[0] for _, where, _, state, *_ in lines if state == listening and where.endswith(f":{port}")}
    assert hosts and hosts <= {"0100007F", "00000000000000000000000001000000"}  # 127.0.0.1 and ::1


def test_a_notebook_is_run_changed_and_run_again_in_jupyterlab(browser, lab):
    address, token = lab
    page, refused = opened(browser, address, viewport={"width": 1280, "height": 1000})
    errors = []
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(f"{address}lab/tree/03_data_fractions.ipynb?token={token}")
    page.wait_for_function(KERNEL, timeout=60_000)
    first = ran(page)
    assert len(first) == 2
    cells = page.evaluate(CELLS)
    explorer, = (i for i, cell in enumerate(cells) if cell["source"].startswith("explore("))
    page.evaluate(SHOW, explorer)
    drawn = page.locator(".widget-interact img")
    before = drawn.get_attribute("src")
    page.locator(".widget-dropdown select").first.select_option("STS-B")
    page.wait_for_function("before => document.querySelector('.widget-interact img')?.src !== before", arg=before)
    parameters, = (i for i, cell in enumerate(cells) if cell["source"].startswith("study_name:"))
    source = re.sub(r"^seeds: list = \[.*?\]", "seeds: list = [0, 1]", cells[parameters]["source"], flags=re.MULTILINE)
    page.evaluate(CHANGE, [parameters, source])
    again = ran(page)
    assert again.keys() == first.keys() and all(again[source] != first[source] for source in first)
    shown = next(i for i, cell in enumerate(cells) if cell["source"] in first)
    page.evaluate(SHOW, shown)
    page.wait_for_function("png => [...document.images].some(image => image.src.includes(png) && image.naturalWidth > 0)",
                           arg=next(iter(again.values())).strip()[:200])
    assert not errors and not refused


def test_another_file_is_chosen_and_advised_on_in_jupyterlab(browser, lab, tmp_path):
    address, token = lab
    rows = [f"\"the {word} girl, {i}\",{kind}" for i in range(120) for word, kind in (("quiet", "calm"), ("loud", "urgent"))]
    (tmp_path / "notebooks" / "tickets.csv").write_text("\n".join(["what,urgency", *rows]) + "\n")
    page, refused = opened(browser, address, viewport={"width": 1280, "height": 1000})
    page.goto(f"{address}lab/tree/{paths.OWN}.ipynb?token={token}")
    page.wait_for_function(KERNEL, timeout=60_000)
    cells = page.evaluate(CELLS)
    asked, = (i for i, cell in enumerate(cells) if cell["source"].startswith("data: str"))
    given = 'data, text, label, minutes, encoder, arms, margin = "tickets.csv", "", "", 0.7, "mini", ["head", "full"], 1.0'
    page.evaluate(CHANGE, [asked, given])
    page.set_default_timeout(240_000)
    page.evaluate(RUN_ALL)
    cells = page.evaluate(CELLS)
    wrong = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert not wrong, wrong
    decided, = (i for i, cell in enumerate(cells) if cell["source"] == "story.tell(advised.decision(advice))")
    said = cells[decided]["outputs"][0]["data"]["text/markdown"]
    assert said.startswith(("Take", "It cannot be told", "- Take", "- It cannot be told")), said
    page.evaluate(SHOW, decided)
    page.get_by_text(re.sub(r"`.*", "", said.removeprefix("- ")).strip()[:30]).first.wait_for()
    told = (tmp_path / "home" / "runs" / "tickets" / "advice.html").read_text(encoding="utf-8")
    assert "urgency" in told and not refused


# The page of a run

@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page of a run of notebooks 03 and 06, made of the committed ones and of what they tell."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(paths.REPO / "results" / report.REFERENCE, home / "results" / report.REFERENCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDYKIT_HOME", str(home))
        found = report.evidence()
        experiment, rows = found.experiment, []
        amounts, judged = (facts.Story(experiment, name) for name in ("03_data_fractions", "06_claims"))
        amounts.tell(facts.answer(found.gaps))
        amounts.draw(plots.score_by_fraction(found.reports, experiment.about), "score_by_fraction", found.reports, "scores")
        amounts.draw(plots.gap_by_fraction(found.gaps, experiment.about), "gap_by_fraction", found.reports, "gaps")
        judged.verdicts(found.verdicts)
        judged.draw(plots.claims(found.verdicts, found.parts, experiment.about), "claims", found.reports, "verdicts")
        for name in ("03_data_fractions", "06_claims"):
            executed = paths.runs(experiment.name) / f"{name}.ipynb"
            shutil.copy(paths.REPO / "notebooks" / executed.name, executed)
            report.as_html(executed)
            rows.append((executed, 12.3, "passed"))
        return report.write_index(experiment, paths.runs(experiment.name), rows)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_a_run_is_whole_and_needs_no_network(browser, pages, width):
    page, refused = opened(browser, "file://", viewport={"width": width, "height": 844})
    page.goto(pages.as_uri())
    said = page.inner_text("body")
    assert all(text in said for text in ("sentence-transformers/all-MiniLM-L6-v2", "the tasks' published data", "12",
                                         "passed"))
    assert page.locator(".claims tr", has_text=re.compile("upheld|refuted|undecided")).count() == len(claims.CLAIMS)
    assert look(page) == 3
    links = page.eval_on_selector_all("a", "links => links.map(link => link.href)")
    assert {link.rsplit("/")[-1] for link in links} == {"03_data_fractions.html", "06_claims.html"}
    for link in dict.fromkeys(links):
        assert page.goto(link).ok
        assert look(page) >= 1
    assert not refused


def look(page):
    """The number of figures, once it is seen that all are there and named, and that nothing is wider than the page."""
    images = page.evaluate(IMAGES)
    assert all(width > 0 and text.startswith("Figure: ") for width, text in images), images
    assert page.evaluate(OVERFLOW) <= 0
    assert page.locator("a[href$='.ipynb']").count() == 0
    return len(images)


# The page of advice on somebody's own data

@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("made", ["take", "many", "number"])
def test_the_page_of_advice_is_whole_and_needs_no_network(browser, tmp_path, made, width):
    given = made_advice.advice(**made_advice.MADE[made])
    long = [{"texts": ("w" * 900,), "true": "a" * 200, "predicted": "b", "probability": 0.5}]
    file = advised_page.write_page(given, tmp_path / "advice.html", made_advice.MISTAKES + long, made_advice.EXAMPLES)
    page, refused = opened(browser, "file://", viewport={"width": width, "height": 844})
    page.goto(file.as_uri())
    assert look(page) == 4 and not refused
    narrow = page.evaluate("() => [...document.images].map(image => image.currentSrc.length)")
    page.set_viewport_size({"width": 390 if width > 390 else 1280, "height": 844})
    page.wait_for_function("lengths => [...document.images].every((image, i) => image.currentSrc.length !== lengths[i])",
                           arg=narrow)  # each figure is drawn twice
    assert look(page) == 4
    for summary in page.locator("summary").all():
        summary.click()
    assert look(page) == 4
    assert page.inner_text(".answer").startswith("Take lora")
