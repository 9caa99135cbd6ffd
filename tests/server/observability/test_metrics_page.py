"""The page of metrics is rendered once for requests at the same time, and not too often."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.core import GaugeMetricFamily

from nearfield.server.observability import metrics_page
from nearfield.server.observability.metrics_page import MetricsPage, PageWriter


def test_requests_share_a_page_and_frequent_ones_get_the_last() -> None:
    rendered = 0

    async def render() -> bytes:
        nonlocal rendered
        rendered += 1
        number = rendered
        await asyncio.sleep(0.01)
        return b"%d" % number

    async def main() -> None:
        page = MetricsPage(render)
        assert await asyncio.gather(*(page.read() for _ in range(50))) == [b"1"] * 50
        assert [await page.read() for _ in range(3)] == [b"2", b"3", b"4"]
        for _ in range(1000):
            await page.read()
        assert rendered < 100
        before = rendered
        page._checked_at -= 5.0  # some seconds later
        assert await page.read() == b"%d" % (before + 1)

    asyncio.run(main())


def test_a_page_that_cannot_be_rendered_is_tried_again() -> None:
    outcomes: list[bytes | OSError] = [OSError("x"), b"page"]

    async def render() -> bytes:
        outcome = outcomes.pop(0)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    async def main() -> None:
        page = MetricsPage(render)
        with pytest.raises(OSError, match="x"):
            await page.read()
        assert await page.read() == b"page"

    asyncio.run(main())


def test_a_page_that_takes_long_is_written_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_page, "_MAX_LOOP_SECONDS", 0.0)

    async def main() -> None:
        writer = PageWriter()
        metrics = [GaugeMetricFamily("a", "b", 1.0)]
        first = await writer.write(metrics)
        assert b"\na 1.0\n" in first
        assert writer._threads is None
        writer._seconds = 1.0
        assert await writer.write(metrics) == first
        assert writer._threads is not None

    asyncio.run(main())
