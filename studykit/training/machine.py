"""The device that a run trains on: which one, how precise, and what it takes of time and memory."""

import contextlib
import gc
import itertools
import json
import math
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock
import joblib
import psutil
import torch

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

JOBS = Path(__file__).with_name("jobs.json")  # what ``python -m benchmarks jobs`` measured
STAGES = ("load", "tokenise", "warmup", "train", "evaluate", "save")


def best_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device or torch.device("cpu")


@contextlib.contextmanager
def leased(share: int = 1) -> Iterator[None]:
    """Within, this process has one of the machine's GPUs, with at most ``share`` of this user's processes on each (the limit
    is each command's own), and it is the current one: all get one before any gets two. Where all are full it waits. Left,
    it keeps no memory of the GPU that it does not need. The system gives the lease back when a process dies. Without GPUs,
    nothing."""
    with contextlib.ExitStack() as held:
        while torch.cuda.is_available() and (number := _free_gpu(held, share)) is None:
            time.sleep(0.1)
        if torch.cuda.is_available():
            held.enter_context(torch.cuda.device(number))
            held.callback(release_memory)
        yield


def release_memory() -> None:
    """Give back what this process holds of a GPU's memory and does not need."""
    gc.collect()
    torch.cuda.empty_cache()


def _free_gpu(held, share):
    user = re.sub(r"\W", "-", psutil.Process().username())  # on Windows with its domain
    for place, number in itertools.product(range(share), range(torch.cuda.device_count())):
        uuid = torch.cuda.get_device_properties(number).uuid  # numbers differ by process
        name = f"studykit-{user}-{uuid}{f'-{place}' if place else ''}.lock"
        lock = filelock.FileLock(Path(tempfile.gettempdir()) / name, fallback_to_soft=False)
        with contextlib.suppress(filelock.Timeout):
            held.enter_context(lock.acquire(blocking=False))
            return number
    return None


def threads(jobs: int = 1) -> int:
    """How many threads each of so many processes gets, so that together they are no more than this process's cores."""
    return max(1, joblib.cpu_count() // jobs)


@contextlib.contextmanager
def limited(number: int) -> Iterator[None]:
    """Within, this process computes with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def share(jobs: int) -> int:
    """How many of so many runs at once are on each of this machine's GPUs; one where there are none."""
    return max(1, math.ceil(jobs / (torch.cuda.device_count() or jobs)))


def best_jobs(parameters: float, file: Path = JOBS) -> int:
    """How many runs of an encoder with so many parameters train at once where nobody says: one for each GPU; on a CPU one
    for each core, where a thread each was quicker than all threads for one run after another, at the nearest size that was
    measured; else one."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    rows = json.loads(file.read_text())["rows"] if file.is_file() and parameters else []
    if not rows:
        return 1
    nearest = min({row["parameters"] for row in rows}, key=lambda size: abs(math.log(size / parameters)))
    ratios = [row["after"] / row["together"] for row in rows if row["parameters"] == nearest]
    return threads() if statistics.median(ratios) > 1 else 1


@dataclass
class Load:
    """``others``: how much of a core other processes used, as a number of cores."""

    others: float = 0.0


@contextlib.contextmanager
def busy() -> Iterator[Load]:
    """Yields a ``Load`` that says, once left, what other processes used meanwhile of the cores that this one may use.

    These are the seconds that the cores were at work (waiting for a disk is not), less those of this process and its
    children, over the seconds that passed. The system counts in hundredths of a second, so over one second it is right to a
    few hundredths of a core.
    """
    load, start, before = Load(), time.monotonic(), _busy_seconds() - _own_seconds()
    yield load
    load.others = max(0.0, (_busy_seconds() - _own_seconds() - before) / (time.monotonic() - start))


def _busy_seconds():
    """Seconds since the system's start that the cores which this process may use were at work, all together."""
    cores = psutil.cpu_times(percpu=True)
    with contextlib.suppress(AttributeError):  # macOS binds no process to cores
        cores = [cores[number] for number in psutil.Process().cpu_affinity()]
    resting = ("idle", "iowait", "guest", "guest_nice")  # a guest's time is part of its user's
    return sum(seconds for core in cores for name, seconds in core._asdict().items() if name not in resting)


def _own_seconds():
    """Seconds that this process and its children, dead or alive, were at work."""
    process = psutil.Process()
    seconds = 0.0
    for member in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended, and its parent has counted it
            times = member.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def best_precision(device: torch.device) -> str:
    """``bf16`` where the device multiplies it fast, else ``fp32``. Weights stay in fp32 either way."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        able = torch.cpu.get_capabilities()
        return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"
    return "fp32"


def autocast(device: torch.device, precision: str):
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision must be auto, fp32 or bf16, got {precision!r}")
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


class Ledger:
    """Seconds by stage, on a clock that cannot jump, with the device's work waited for. Only ``train`` is training."""

    def __init__(self, device: torch.device | None = None):
        self.device = device or torch.device("cpu")
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.since: float | None = None  # when the stage that is on began

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        synchronize(self.device)
        self.since = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage], self.since = self.running(stage), None

    def running(self, stage: str) -> float:
        """A stage's seconds up to now, where it is on."""
        if self.since is None:
            return self.seconds[stage]
        synchronize(self.device)
        return self.seconds[stage] + time.monotonic() - self.since


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[dict[str, float | None]]:
    """Yields a dict that holds, once left, the ``idle_mb`` before and the ``peak_mb`` within: of the accelerator, or of the
    process. ``peak_mb`` is ``None`` where only the process's highest ever is known and it was higher before."""
    memory: dict[str, float | None] = {"idle_mb": None, "peak_mb": None}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        memory["idle_mb"] = torch.cuda.memory_allocated(device) / 2 ** 20
        yield memory
        memory["peak_mb"] = torch.cuda.max_memory_allocated(device) / 2 ** 20
        return
    anew = _peak_set_back()
    before = _process_peak()
    with contextlib.suppress(psutil.Error, OSError):
        memory["idle_mb"] = psutil.Process().memory_info().rss / 2 ** 20
    yield memory
    peak = _process_peak()
    memory["peak_mb"] = peak if peak and before and (anew or peak > before) else None


def _peak_set_back():
    """Whether the system, Linux alone, forgets how high the process's memory has been."""
    try:
        with open("/proc/self/clear_refs", "w") as switch:
            switch.write("5")
    except OSError:
        return False
    return True


def _process_peak():
    """The most memory that this process has had, in MB; ``None`` where nobody knows."""
    with contextlib.suppress(OSError), open("/proc/self/status") as lines:  # Linux's ru_maxrss begins with its parent's
        for line in lines:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 2 ** 10
    if resource:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2 ** 20 if sys.platform == "darwin" else 2 ** 10)
    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows's word for it
    return peak and peak / 2 ** 20
