"""Limits of one request, and an estimate of how many tokens an engine can process in a given time."""

from __future__ import annotations

import time
from dataclasses import dataclass

from nearfield.engine.engine import Engine

#: Seconds for which an engine's measured speed is reused: reading it takes the lock that its lanes need.
_SPEED_MAX_AGE = 0.1
#: How many times as fast as its fastest batch so far an engine is assumed to be at most.
_MARGIN = 4


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
