"""Resident memory of a process and its children, while it runs."""

from __future__ import annotations

import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import Any

import psutil

_MIB = 2**20
#: Seconds between two looks at a process.
_INTERVAL = 0.2


@dataclass(frozen=True)
class MemoryLevels:
    """Memory of a run in MiB: the medians of its second and of its last tenth, and the most; and its seconds."""

    early: int
    late: int
    peak: int
    seconds: float

    @property
    def growth(self) -> float:
        """The last level as a share of the early one."""
        return self.late / self.early


def resident(process: psutil.Process) -> float:
    """Return the MiB of a process and its children; 0 for those that have ended."""
    size = 0
    try:
        for one in (process, *process.children(recursive=True)):
            size += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return size / _MIB


def watch_memory(process: subprocess.Popen[Any]) -> MemoryLevels:
    """Wait for a process; return the memory that it and its children took.

    Raises:
        RuntimeError: it failed.
    """
    watched, started, sizes = psutil.Process(process.pid), time.monotonic(), list[float]()
    while process.poll() is None:
        sizes.append(resident(watched))
        time.sleep(_INTERVAL)
    if process.returncode:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}.")
    tenth = max(1, len(sizes) // 10)
    early, late = statistics.median(sizes[tenth : 2 * tenth] or sizes), statistics.median(sizes[-tenth:])
    return MemoryLevels(round(early), round(late), round(max(sizes)), round(time.monotonic() - started, 1))
