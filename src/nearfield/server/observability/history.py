"""Figures of the last hour, which the server stores itself: a page that is opened later shows them all."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import msgspec

from nearfield.server.logs import LOG
from nearfield.server.models.figure_points import INTERVAL, FigurePoint, StageFigures
from nearfield.server.observability.live_stats import Latency, LiveStats, MetricsSnapshot, live_stats, parse_metrics

Figure = TypeVar("Figure")
#: How many points are stored: an hour.
MAX_POINTS = 360
#: Kinds of failed requests and stages that a point has at most, the most frequent ones.
_MAX_FAILURES, _MAX_STAGES = 8, 16
#: Metrics that points are computed from; the others of a page are not stored.
_NEEDED = frozenset(
    {
        "nearfield_requests_total",
        "nearfield_request_seconds_bucket",
        "nearfield_stage_seconds_bucket",
        "nearfield_tokens_total",
        "nearfield_queue_tokens",
        "nearfield_process_resident_bytes",
    }
)


class MetricsHistory:
    """Reads the page of metrics every ten seconds, and stores what happened in between: an hour at most.

    Args:
        read: returns the page of metrics, of all processes if there are several.
    """

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read
        self._points: deque[tuple[float, bytes]] = deque(maxlen=MAX_POINTS)
        self._before: MetricsSnapshot | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Store figures from now on."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Store no more figures."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def after(self, at: float) -> list[bytes]:
        """Return the points later than a time in seconds since 1970, oldest first, each a ``FigurePoint`` in JSON."""
        return [point for time_of_point, point in self._points if time_of_point > at]

    async def _run(self) -> None:
        while True:
            try:
                await self.sample()
            except Exception as error:  # noqa: BLE001 - the next reading may succeed
                self._before = None
                LOG.warning("figures of the last %d s are not stored: %s", INTERVAL, error or type(error).__name__)
            await asyncio.sleep(INTERVAL)

    async def sample(self) -> None:
        """Read the metrics, and store a point if they were read before.

        Raises:
            ShuttingDown: the process that has them is gone.
        """
        page = await self._read()
        clock, at = time.monotonic(), round(time.time(), 3)
        self._add(await asyncio.to_thread(_parse, page, clock), at)

    def _add(self, now: MetricsSnapshot, at: float) -> None:
        before, self._before = self._before, now
        stats = live_stats(before, now)
        # Counts that ended with a process would make rates of what grew since its start.
        if before is not None and not stats.restarted and stats.seconds:
            self._points.append((at, msgspec.json.encode(_to_point(stats, at))))


def _parse(page: bytes, at: float) -> MetricsSnapshot:
    whole = parse_metrics(page.decode(), at)
    samples = {name: values for name, values in whole.samples.items() if name in _NEEDED}
    return MetricsSnapshot(at, samples, whole.growing & _NEEDED)


def _to_point(stats: LiveStats, at: float) -> FigurePoint:
    failures = _failures(stats)
    latency = stats.latency
    return FigurePoint(
        at=at,
        requests=_short(stats.requests or 0.0),
        errors=_short(sum(failures.values()) / (stats.seconds or 1.0)),
        tokens=_short(stats.tokens or 0.0),
        p50=None if latency is None else _short(latency.p50 or 0.0),
        p95=None if latency is None else _short(latency.p95 or 0.0),
        queue=sum(waiting.tokens for waiting in stats.queue.values()),
        memory=stats.resident_bytes or 0.0,
        stages=_first(
            ((name, _to_stage(one)) for name, one in stats.stages.items()), lambda one: one.count, _MAX_STAGES
        ),
        failures=_first(failures.items(), lambda number: number, _MAX_FAILURES),
    )


def _first(named: Iterable[tuple[str, Figure]], size: Callable[[Figure], float], count: int) -> dict[str, Figure]:
    """Return the largest of named figures: what clients send must not decide how much is stored."""
    return dict(sorted(named, key=lambda pair: -size(pair[1]))[:count])


def _failures(stats: LiveStats) -> dict[str, int]:
    """Return the numbers of failed requests by status and route."""
    return {
        f"{status} {figures.route}": round(rate * (stats.seconds or 0.0))
        for figures in stats.routes
        for status, rate in figures.rates.items()
        if status >= "400"
    }


def _to_stage(latency: Latency) -> StageFigures:
    return StageFigures(round(latency.count), _short(latency.p50 or 0.0), _short(latency.p95 or 0.0))


def _short(number: float) -> float:
    """Return a number with as many digits as a chart needs: points are stored as text."""
    return float(f"{number:.4g}")
