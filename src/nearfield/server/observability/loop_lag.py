"""How long the event loop does not answer: the longest delay of a timer in the last minute."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

#: Seconds between two measurements.
_INTERVAL = 0.05
#: Seconds whose longest delay is one number, and how many numbers are stored: a minute.
_PERIOD, _PERIODS = 10.0, 6


class LoopLag:
    """Measures how late timers of the event loop are called. While the loop is busy, no client gets an answer."""

    def __init__(self) -> None:
        self._max_delays: deque[float] = deque([0.0], _PERIODS)
        self._period_ends = self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def max_seconds(self) -> float:
        """The longest delay of the last minute in seconds."""
        return max(self._max_delays)

    def start(self) -> None:
        """Measure the running event loop from now on."""
        if self._timer is None:
            self._period_ends = time.monotonic() + _PERIOD
            self._schedule()

    def stop(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        self._due = time.monotonic() + _INTERVAL
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._measure)

    def _measure(self) -> None:
        now = time.monotonic()
        if now > self._period_ends:
            self._period_ends = now + _PERIOD
            self._max_delays.append(0.0)
        self._max_delays[-1] = max(self._max_delays[-1], now - self._due)
        self._schedule()


class LoopLagMetric(Collector):
    """The gauge of the longest delay."""

    def __init__(self, lag: LoopLag) -> None:
        self._lag = lag

    def collect(self) -> Iterator[GaugeMetricFamily]:
        text = "Longest time in the last minute for which the event loop did nothing else."
        yield GaugeMetricFamily("nearfield_event_loop_lag_seconds_max", text, self._lag.max_seconds)
