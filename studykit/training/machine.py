"""The device that a run trains on: which one, how precise, and what it takes of time and memory."""

import contextlib
import fcntl
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

STAGES = ("load", "tokenise", "warmup", "train", "evaluate", "save")


def best_device():
    """The accelerator if there is one, else the CPU."""
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


@contextlib.contextmanager
def leased():
    """Within, this process has one of the machine's GPUs for itself, and it is the current one: the first that no process of
    this user holds so, waited for where all are. The system gives it back when a process dies. Without GPUs, nothing."""
    with contextlib.ExitStack() as held:
        while torch.cuda.is_available() and (number := _free_gpu(held)) is None:
            time.sleep(0.1)
        if torch.cuda.is_available():
            held.enter_context(torch.cuda.device(number))
        yield


def _free_gpu(held):
    for number in range(torch.cuda.device_count()):
        name = f"studykit-{os.getuid()}-{torch.cuda.get_device_properties(number).uuid}.lock"  # numbers differ by process
        lock = open(Path(tempfile.gettempdir()) / name, "w")  # noqa: SIM115  (held)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        held.enter_context(lock)
        return number
    return None


def synchronize(device):
    if device.type != "cpu":
        torch.accelerator.synchronize()


def best_precision(device):
    """``bf16`` where the device multiplies it fast, else ``fp32``. Weights stay in fp32 either way."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        able = torch.cpu.get_capabilities()
        return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"
    return "fp32"


def autocast(device, precision):
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision must be auto, fp32 or bf16, got {precision!r}")
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


class Ledger:
    """Seconds by stage, on a clock that cannot jump, with the device's work waited for. Only ``train`` is training."""

    def __init__(self, device=None):
        self.device = device or torch.device("cpu")
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.since = None  # when the stage that is on began

    @contextlib.contextmanager
    def __call__(self, stage):
        synchronize(self.device)
        self.since = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage], self.since = self.running(stage), None

    def running(self, stage):
        """A stage's seconds up to now, where it is on."""
        if self.since is None:
            return self.seconds[stage]
        synchronize(self.device)
        return self.seconds[stage] + time.monotonic() - self.since


@contextlib.contextmanager
def peak_memory(device):
    """Yields a dict that holds, once left, the ``idle_mb`` before and the ``peak_mb`` within: of the accelerator, or of
    the process (on Linux; elsewhere ``None``, since the process's peak cannot be set back)."""
    memory = {"idle_mb": None, "peak_mb": None}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        memory["idle_mb"] = torch.cuda.memory_allocated(device) / 2 ** 20
    elif sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as switch:
            switch.write("5")
        memory["idle_mb"] = _status("VmRSS")
    yield memory
    if device.type == "cuda":
        memory["peak_mb"] = torch.cuda.max_memory_allocated(device) / 2 ** 20
    elif sys.platform == "linux":
        memory["peak_mb"] = _status("VmHWM")


def _status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))
