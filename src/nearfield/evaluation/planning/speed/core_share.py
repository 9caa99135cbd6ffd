"""CPU time of measurements: seconds of work over cores, and the refusal of a machine that is too busy.

Load averages are those of the whole machine: in a container they count the work of others, on cores that it may not
use. What decides is therefore the CPU time that this process gets, compared with the time that it may use.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from nearfield import hardware
from nearfield.errors import MachineBusy
from nearfield.evaluation.json_types import JsonMapping
from nearfield.message_text import count_of

#: The share of its cores that a process must get, so that its measurement counts.
MIN_SHARE = 0.5
#: From this share on, a speed by wall clock is that of an idle machine.
IDLE_SHARE = 0.8
#: Seconds of a probe of the share, and the number of probes of which one must succeed: work may be about to end.
_PROBE_SECONDS, _PROBES = 0.25, 4
#: Hashing so many bytes in one call releases Python's lock.
_BLOCK = bytes(2**20)


class Clock:
    """Measures CPU seconds divided by cores, or wall time if another device does the work.

    On a CPU, seconds are thus those of an idle machine, even if the machine is busy; ``share`` says how busy.

    Args:
        cores: CPU seconds per second that the process may use; None measures wall time.
    """

    def __init__(self, cores: float | None) -> None:
        self.started = time.perf_counter()
        self._cores = cores
        self._worked = self._passed = 0.0

    @classmethod
    def for_options(cls, options: JsonMapping) -> Clock:
        """Return the clock for options of ``Encoder``."""
        return cls(None if options.get("backend", "openvino") == "torch" else cores_of(options))

    @contextmanager
    def timing(self) -> Iterator[list[float]]:
        """Time a block; afterwards the list has its seconds."""
        seconds: list[float] = []
        started, worked = time.perf_counter(), time.process_time()
        yield seconds
        passed, spent = time.perf_counter() - started, time.process_time() - worked
        self._passed += passed
        self._worked += spent
        seconds.append(spent / self._cores if self._cores else passed)

    @property
    def share(self) -> float | None:
        """The share of its cores that the process had; None with wall time."""
        return self._worked / (self._passed * self._cores) if self._cores and self._passed else None

    @property
    def elapsed(self) -> float:
        """Seconds of wall time since the clock was created."""
        return time.perf_counter() - self.started


def cores_of(options: JsonMapping) -> float:
    """Return the CPU seconds per second that a model with options of ``Encoder`` may use."""
    allowance = hardware.core_allowance()
    return min(float(options.get("threads") or allowance), allowance)


def core_share(cores: float, seconds: float = _PROBE_SECONDS) -> float:
    """Return the share of ``cores`` that this process gets now: at most 1, measured by hashing in a thread per core."""
    threads = -int(-cores // 1)
    started, worked = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_hash_until, [started + seconds] * threads))
    passed, spent = time.perf_counter() - started, time.process_time() - worked
    return min(1.0, spent / (passed * cores))


def _hash_until(end: float) -> None:
    while time.perf_counter() < end:
        hashlib.sha256(_BLOCK)


def require_idle_cores(cores: float) -> None:
    """Raise MachineBusy unless one of a few probes gets enough of the cores."""
    best = 0.0
    for _ in range(_PROBES):
        best = max(best, core_share(cores))
        if best >= MIN_SHARE:
            return
    require_share(best, cores)


def busy_warning(options: JsonMapping) -> str | None:
    """Return what to say before a measurement by wall clock on a busy machine; None if it is idle.

    Args:
        options: those of ``Encoder``.
    """
    cores = cores_of(options)
    share = core_share(cores)
    if share >= IDLE_SHARE:
        return None
    return (
        f"Other work leaves this process {share:.0%} of its {_name_cores(cores)}{_load()}: the measured speed will be "
        "that of a busy machine. Measure again when the other work has ended."
    )


def require_share(share: float | None, cores: float) -> None:
    """Raise MachineBusy if a process had too small a share of its cores; None, a share that is not known, passes."""
    if share is None or share >= MIN_SHARE:
        return
    raise MachineBusy(
        f"This machine is too busy to measure its speed: this process got {share:.0%} of its {_name_cores(cores)}, "
        f"and needs {MIN_SHARE:.0%}{_load()}. Wait until the other work has ended."
    )


def _name_cores(cores: float) -> str:
    return count_of(int(cores), "core") if cores == int(cores) else f"{cores:.1f} cores"


def _load() -> str:
    """Return the load average with the CPUs that it is of, where the system has one."""
    if not hasattr(os, "getloadavg"):
        return ""
    return f" (load average of the whole machine: {os.getloadavg()[0]:.1f} on {count_of(os.cpu_count() or 1, 'CPU')})"
