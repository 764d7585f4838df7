"""Reservations: no two processes on one machine train the same run. The system frees the lock of a process that dies."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import filelock

ACCIDENTS = "accidents"  # the folder, beside a study's groups of records, of what happened to runs that gave no result
UNFINISHED = "unfinished"  # the folder beside it, of the states of long runs that have not ended


@contextlib.contextmanager
def reserved(folder: Path, run, wait: bool) -> Iterator[bool]:
    """Within, no other process on this machine trains the run of the study whose folder this is.

    Yields whether that is so: without ``wait``, ``False`` where another process is at the run. What that one, killed, or
    this one, stopped, had half written is removed. Raises ``OSError`` where the folder's disk has no locks.
    """
    file = folder / f".{run.key}.lock"
    left = file.exists()
    with _held(file, wait) as mine:
        if mine and left:
            _clear(folder, run.key)
        try:
            yield mine
        except BaseException:
            if mine:
                _clear(folder, run.key)
            raise


def sweep(folder: Path) -> list[str]:
    """Remove what killed processes left in a study's folder: lock files that nobody holds, and records cut off while
    written. Returns the keys of the runs that they were at."""
    left = []
    for file in sorted(folder.glob(".*.lock")):
        with _held(file, wait=False) as mine:
            if mine:
                left.append(file.stem[1:])
                _clear(folder, left[-1])
    return left


@contextlib.contextmanager
def _held(file, wait):
    """Within, this process alone holds the file's lock; then the file goes. Yields ``False`` where another holds it."""
    lock = filelock.FileLock(file, fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        if sys.platform != "win32":  # there an open file cannot go, and filelock removes it as it is released
            file.unlink(missing_ok=True)  # while held: who waited for it sees that its name is gone, and takes it anew
        lock.release()


def _clear(folder, key):
    for part in folder.glob(f"*/.*-{key}.*.tmp"):
        part.unlink(missing_ok=True)
