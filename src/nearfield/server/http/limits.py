"""Limits of one request, of memory, and an estimate of how many tokens an engine can process in a given time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from nearfield.engine.engine import Engine
from nearfield.errors import OutOfMemory
from nearfield.hardware import MemoryLimit, memory_limit, return_memory
from nearfield.media.fetch import FetchPolicy
from nearfield.media.limits import DEFAULT_MEDIA_LIMITS, MediaLimits, PictureLimits

#: Seconds for which an engine's measured speed is reused: reading it takes the lock that its lanes need.
_SPEED_MAX_AGE = 0.1
#: How many times as fast as its fastest batch so far an engine is assumed to be at most.
_MARGIN = 4
#: Bytes that are left free, at most, and at most as a part of the limit.
_SPARE_BYTES, _SPARE_PART = 64 * 2**20, 16
#: Part of the memory that a limit of the process leaves after the start, for cached results.
_CACHE_PART = 4
#: Seconds between two readings of what is free, and between two attempts to return freed memory to the system.
_READ_SECONDS, _TRIM_SECONDS = 0.1, 5.0
#: What is fetched where no setting says otherwise.
NOTHING_FETCHED = FetchPolicy()


@dataclass(frozen=True)
class RequestLimits:
    """Limits of one request."""

    #: Maximum bytes of the body.
    body_bytes: int
    #: Maximum number of inputs.
    items: int
    #: Maximum tokens of all inputs together.
    tokens: int
    #: Seconds within which the request must be finished.
    seconds: float
    #: Number of inputs from which on a request runs in the bulk class.
    bulk_items: int
    #: Limits of each picture and sound.
    media: MediaLimits = DEFAULT_MEDIA_LIMITS
    #: Addresses of pictures that are fetched (the setting ``media_urls``).
    media_urls: FetchPolicy = NOTHING_FETCHED

    @property
    def pictures(self) -> PictureLimits:
        """Limits of each picture."""
        return self.media.pictures


class Pace:
    """The fastest batch of each engine.

    It distinguishes requests that could never be finished in time from those that only wait too long now. Other work of
    the machine may have slowed all batches so far, so only what would take several times as long is never possible.
    """

    def __init__(self) -> None:
        self._best: dict[Engine, float] = {}
        self._read_at: dict[Engine, float] = {}

    def max_tokens(self, engine: Engine, seconds: float) -> int | None:
        """Return how many tokens an idle engine could process within ``seconds``, or None before any measurement."""
        best, now = self._best.get(engine, 0.0), time.monotonic()
        if now - self._read_at.get(engine, 0.0) > _SPEED_MAX_AGE:
            best = self._best[engine] = max(engine.stats().peak_tokens_per_second, best)
            self._read_at[engine] = now
        return max(1, int(best * seconds * _MARGIN)) if best else None


class MemoryGuard:
    """Refuses what needs more memory than the limit of the process leaves; without such a limit it allows everything.

    The system does not refuse memory beyond the limit of a cgroup: it kills the process.

    Args:
        read: returns the limit, and what is free.
    """

    def __init__(self, read: Callable[[], MemoryLimit | None] = memory_limit) -> None:
        limit = read()
        self._read = None if limit is None or limit.cause == "machine" else read
        self._free = 0
        self._read_at = self._trimmed_at = -_TRIM_SECONDS

    def claim(self, size: int) -> None:
        """Count ``size`` bytes that a request is about to take.

        Raises:
            OutOfMemory: there are too few.
        """
        if self._read is None:
            return
        now = time.monotonic()
        if now - self._read_at >= _READ_SECONDS:
            self._read_at, self._free = now, _free_bytes(self._read())
        if size > self._free:
            self._trim(now)
            raise OutOfMemory(
                "The server has too little memory for this request now. Send less at once, or try again later."
            )
        self._free -= size

    def _trim(self, now: float) -> None:
        """Return freed memory that the heaps still hold, beside the requests."""
        if now - self._trimmed_at >= _TRIM_SECONDS:
            self._trimmed_at = now
            threading.Thread(target=return_memory, name="nearfield-trim", daemon=True).start()


def max_cache_bytes(setting: int, limit: MemoryLimit | None) -> int:
    """Return the bytes that cached results may take: ``cache_memory``, or less if the process has a tight limit.

    A cache that fills the memory would leave nothing for requests for ever.
    """
    if limit is None or limit.cause == "machine":
        return setting
    return min(setting, limit.available // _CACHE_PART)


def _free_bytes(limit: MemoryLimit | None) -> int:
    if limit is None:
        return 0
    return limit.available - min(_SPARE_BYTES, limit.bytes // _SPARE_PART)
