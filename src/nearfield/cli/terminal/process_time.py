"""The time since this process started, which includes the start of Python and the loading of models."""

from __future__ import annotations

import os
import time
from pathlib import Path

_IMPORTED = time.perf_counter()


def seconds_since_start() -> float:
    """Return the seconds since the process started; where the system does not say, since this module was imported."""
    imported = time.perf_counter() - _IMPORTED
    try:
        # The name of the command, in parentheses, may have spaces. The start is field 22, in ticks since boot.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(imported, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, ValueError, IndexError, AttributeError):
        return imported
