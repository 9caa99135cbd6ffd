"""The time of day for records that expire; a clock that jumps is followed after an hour only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nearfield.server.logs import LOG

#: Seconds by which the system's clock may be set without counting as a jump.
_MAX_STEP = 300.0
#: Seconds after which a clock that jumped is believed: nothing is deleted because of one that is soon corrected.
_SETTLING_SECONDS = 3600.0


def elapsed_seconds() -> float:
    """Return the seconds since the machine started, time asleep included where the system counts it."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class WallClock:
    """The system's clock, without its jumps.

    Args:
        wall: the time of day in seconds since 1970.
        elapsed: a clock that is never set.
    """

    def __init__(self, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = elapsed_seconds) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._offset = wall() - elapsed()
        self._jump: tuple[float, float] | None = None
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Return the time of day."""
        elapsed = self._elapsed()
        offset = self._wall() - elapsed
        with self._lock:
            if abs(offset - self._offset) <= _MAX_STEP:
                self._offset, self._jump = offset, None
            elif self._jump is None or abs(offset - self._jump[0]) > _MAX_STEP:
                self._jump = offset, elapsed
                LOG.warning(
                    "the system's clock jumped by %.0f s; files and batches follow it in %.0f minutes",
                    offset - self._offset,
                    _SETTLING_SECONDS / 60,
                )
            elif elapsed - self._jump[1] >= _SETTLING_SECONDS:
                self._offset, self._jump = offset, None
            return elapsed + self._offset
