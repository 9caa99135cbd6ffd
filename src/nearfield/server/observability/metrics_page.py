"""The page of metrics, rendered a bounded number of times a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

#: Pages that may be rendered at once after a pause, and pages a second from then on. Further requests get the last
#: page, which is then at most a second old.
_BURST, _PAGES_PER_SECOND = 16.0, 1.0
#: Seconds that writing a page may take on the event loop.
_MAX_LOOP_SECONDS = 0.02


class MetricsPage:
    """Renders the page of metrics; requests at the same time share it, and too frequent ones get the last page.

    Args:
        render: returns a new page.
    """

    def __init__(self, render: Callable[[], Awaitable[bytes]]) -> None:
        self._render = render
        self._page: bytes | None = None
        self._rendering: asyncio.Task[bytes] | None = None
        self._allowance = _BURST
        self._checked_at = time.monotonic()

    async def read(self) -> bytes:
        """Return the page."""
        if self._rendering is None:
            if not self._may_render() and self._page is not None:
                return self._page
            self._rendering = asyncio.create_task(self._render_once())
        return await asyncio.shield(self._rendering)

    def _may_render(self) -> bool:
        now = time.monotonic()
        self._allowance = min(_BURST, self._allowance + (now - self._checked_at) * _PAGES_PER_SECOND)
        self._checked_at = now
        if self._allowance < 1.0:
            return False
        self._allowance -= 1.0
        return True

    async def _render_once(self) -> bytes:
        try:
            self._page = await self._render()
            return self._page
        finally:
            self._rendering = None


class PageWriter:
    """Writes metrics as text: on the event loop, or in a thread if the last page took long.

    It has a separate thread: under load the shared ones tokenise, and the page would wait behind them.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._threads: ThreadPoolExecutor | None = None

    async def write(self, metrics: Sequence[Metric]) -> bytes:
        """Return the page of metrics."""
        if self._seconds <= _MAX_LOOP_SECONDS:
            return self._write(metrics)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, "nearfield-metrics")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._write, metrics)

    def _write(self, metrics: Sequence[Metric]) -> bytes:
        started = time.thread_time()
        page = generate_latest(cast(CollectorRegistry, _Collected(metrics)))
        self._seconds = time.thread_time() - started
        return page


class _Collected:
    """Metrics in the form that prometheus_client writes."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics
