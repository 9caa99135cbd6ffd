"""Points of live figures, as routes return them; ``observability/history.py`` computes and stores them."""

from __future__ import annotations

from typing import Protocol

import msgspec

#: Seconds between two points.
INTERVAL = 10.0


class StageFigures(msgspec.Struct):
    """How often a stage ran, and its latency in seconds: median and 95% quantile."""

    count: int
    p50: float
    p95: float


class FigurePoint(msgspec.Struct):
    """Figures of the time before ``at`` (seconds since 1970); rates are per second, latencies in seconds.

    ``queue`` has tokens and ``memory`` bytes at that time. ``failures`` are numbers of requests by status and route.
    """

    at: float
    requests: float
    errors: float
    tokens: float
    p50: float | None
    p95: float | None
    queue: float
    memory: float
    stages: dict[str, StageFigures]
    failures: dict[str, int]


class HistorySource(Protocol):
    """What has the figures of the last hour: this process, or the one that all front-ends share."""

    def start(self) -> None:
        """Store figures from now on."""
        ...

    def stop(self) -> None:
        """Store no more figures."""
        ...

    async def after(self, at: float) -> list[bytes]:
        """Return the points later than a time in seconds since 1970, oldest first, each a ``FigurePoint`` in JSON."""
        ...
