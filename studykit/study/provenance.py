"""Where a number came from: versions, commit, machine."""

import functools
import importlib.metadata
import os
import platform
import subprocess

import pandas as pd

from studykit import paths

PACKAGES = ("studykit", "torch", "transformers", "peft", "datasets", "evaluate", "scikit-learn", "numpy", "scipy", "pandas",
            "seaborn")


@functools.cache
def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that numbers depend on; ``None`` for one that is not installed."""
    import studykit

    found: dict[str, str | None] = {"python": platform.python_version(), "studykit": studykit.__version__}
    for package in PACKAGES[1:]:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


@functools.cache
def commit() -> str | None:
    """The checkout's commit, with ``+`` where its code differs from it; ``None`` outside git."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=paths.REPO, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "--", "studykit") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


@functools.cache
def processor() -> str:
    """The processor's name as the system gives it, or else the shorter one that Python knows."""
    try:
        name = NAMES[platform.system()]()
    except (KeyError, OSError, ImportError, StopIteration, subprocess.CalledProcessError):
        name = ""
    return name or platform.processor() or platform.machine()


def _by_linux():
    with open("/proc/cpuinfo") as lines:
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))


def _by_macos():
    return subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True,
                          check=True).stdout.strip()


def _by_windows():
    import winreg

    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as opened:
        return winreg.QueryValueEx(opened, "ProcessorNameString")[0].strip()


NAMES = {"Linux": _by_linux, "Darwin": _by_macos, "Windows": _by_windows}


def hardware(device) -> dict:
    """The machine that a run runs on now: processor, cores, threads, load, accelerator."""
    import torch

    found = {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
             "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
             "system": platform.system(), "device": device.type}
    if device.type == "cuda":
        found["accelerator"] = torch.cuda.get_device_name(device)
    return found


def stamp(experiment, table: pd.DataFrame) -> str:
    """The last cell of a notebook: what its numbers are from, one item a line, nothing that changes from day to day."""
    if table.empty:
        return f"study     {experiment.name}: {experiment.encoder}, weights {experiment.weights}\nrecords   none"
    seeds = table["seed"].nunique()
    return "\n".join([
        f"study     {experiment.name}: {experiment.encoder}, weights {experiment.weights}",
        f"records   {len(table)} run{'s' * (len(table) != 1)}, {seeds} seed{'s' * (seeds != 1)}, "
        f"{int((table['status'] != 'ok').sum())} not ok",
        f"made on   {_seen(table, 'processor')}",
        f"precision {_seen(table, 'used_precision')}",
        f"made with torch {_seen(table, 'torch')}, transformers {_seen(table, 'transformers')}"])


def _seen(table, column):
    return ", ".join(sorted(set(table[column].dropna().astype(str)))) if column in table else "no record"
