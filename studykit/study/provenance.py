"""Where a number came from: versions, commit, machine."""

import functools
import importlib.metadata
import os
import platform
import subprocess

from studykit import paths

PACKAGES = ("studykit", "torch", "transformers", "datasets", "evaluate", "scikit-learn", "numpy", "scipy", "pandas",
            "seaborn")


@functools.cache
def versions():
    """Versions of Python and of the packages that numbers depend on; ``None`` for one that is not installed."""
    import studykit

    found = {"python": platform.python_version(), "studykit": studykit.__version__}
    for package in PACKAGES[1:]:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


@functools.cache
def commit():
    """The checkout's commit, with ``+`` where its code differs from it; ``None`` outside git."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=paths.REPO, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "--", "studykit") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


@functools.cache
def processor():
    """The processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def hardware(device):
    """The machine that a run runs on now: processor, cores, threads, load, accelerator."""
    import torch

    found = {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
             "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
             "system": platform.system(), "device": device.type}
    if device.type == "cuda":
        found["accelerator"] = torch.cuda.get_device_name(device)
    return found


def stamp(experiment, table):
    """The last cell of a notebook: what its numbers are from, one item a line, nothing that changes from day to day."""
    seeds = table["seed"].nunique() if len(table) else 0
    return "\n".join([
        f"study     {experiment.name}: {experiment.encoder}, weights {experiment.weights}",
        f"records   {len(table)} runs, {seeds} seeds, {int((table['status'] != 'ok').sum())} not ok",
        f"made on   {_seen(table, 'processor')}",
        f"precision {_seen(table, 'used_precision')}",
        f"made with torch {_seen(table, 'torch')}, transformers {_seen(table, 'transformers')}"])


def _seen(table, column):
    return ", ".join(sorted(set(table[column].dropna().astype(str)))) if column in table else "no record"
