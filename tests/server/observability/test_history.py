"""Figures of the last hour: those of the requests in between, bounded in memory, and without rates across a restart."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from nearfield import settings
from nearfield.encoder import Encoder
from nearfield.errors import ShuttingDown
from nearfield.server.app import create_app
from nearfield.server.models.figure_points import FigurePoint
from nearfield.server.observability import history as module
from nearfield.server.observability.history import MAX_POINTS, MetricsHistory

ROUTE = "/v1/embeddings"


@pytest.fixture
def client(tiny: Encoder) -> Iterator[TestClient]:
    app = create_app(settings.load(cache_memory=0), [tiny])
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client
    app.state.server.close()


def sample(client: TestClient) -> None:
    """Take a reading on the event loop of the server."""
    page: Any = client.app
    assert client.portal is not None
    client.portal.call(page.state.server.history.sample)


def points(client: TestClient, since: object = 0) -> list[FigurePoint]:
    reply = client.get(f"/metrics/history?since={since}").json()
    assert reply["interval"] == 10
    return msgspec.convert(reply["points"], list[FigurePoint])


def test_a_point_has_what_happened_since_the_one_before(client: TestClient) -> None:
    sample(client)
    assert points(client) == []
    texts = ["the cat sat on the mat", "a dog"]
    replies = [client.post(ROUTE, json={"model": "tiny", "input": texts}).json() for _ in range(3)]
    assert client.post(ROUTE, json={"model": "nothing", "input": "a"}).status_code == 404
    sample(client)
    (point,) = points(client)
    seconds = sum(reply["usage"]["total_tokens"] for reply in replies) / point.tokens
    assert point.requests * seconds == pytest.approx(4, rel=1e-2)
    assert point.errors * seconds == pytest.approx(1, rel=1e-2)
    assert point.failures == {f"404 {ROUTE}": 1}
    assert point.stages["run"].count >= 1
    assert 0 < (point.p50 or 0) <= (point.p95 or 0)
    assert point.memory > 2**20
    sample(client)
    (last,) = points(client, point.at)
    assert (last.requests, last.failures, last.stages, last.p50) == (0, {}, {}, None)
    assert points(client, last.at) == []
    for wrong in ("x", "nan"):
        assert client.get(f"/metrics/history?since={wrong}").json()["error"]["param"] == "since"


def test_a_server_with_keys_gives_them_to_keys(tiny: Encoder) -> None:
    app = create_app(settings.load(api_keys=["secret"]), [tiny])
    with TestClient(app) as client:
        assert client.get("/metrics/history").status_code == 401
        assert client.get("/metrics/history", headers={"authorization": "Bearer secret"}).json()["points"] == []
    app.state.server.close()


def set_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a second pass between two readings."""
    seconds = itertools.count(1.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(seconds), time=time.time))


def page(number: int, routes: int = 1) -> bytes:
    """Return metrics after a number of readings, with many routes and stages."""
    lines = ["# TYPE nearfield_requests_total counter"]
    lines += [f'nearfield_requests_total{{route="/r{n}",status="500"}} {number * (n + 1)}' for n in range(routes)]
    lines.append("# TYPE nearfield_stage_seconds histogram")
    lines += [
        f'nearfield_stage_seconds_bucket{{stage="stage-{n}",le="{bound}"}} {number}'
        for n in range(routes)
        for bound in ("0.001", "+Inf")
    ]
    return "\n".join(lines).encode() + b"\n"


def test_an_hour_takes_some_hundred_kilobytes_whatever_clients_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_POINTS", 5)
    set_clock(monkeypatch)
    pages = iter(range(1, 10**6))

    async def read() -> bytes:
        return page(next(pages), routes=40)

    history = MetricsHistory(read)

    async def fill() -> list[bytes]:
        for _ in range(8):
            await history.sample()
        return await history.after(0)

    stored = asyncio.run(fill())
    assert len(stored) == 5
    assert MAX_POINTS / 5 * sum(map(sys.getsizeof, stored)) < 600_000
    last = msgspec.json.decode(stored[-1], type=FigurePoint)
    assert len(last.failures) == 8
    assert max(last.failures.values()) == 40  # the most frequent ones
    assert history._before is not None
    assert set(history._before.samples) == {"nearfield_requests_total", "nearfield_stage_seconds_bucket"}


def test_counts_that_begin_again_make_no_point_and_a_failed_reading_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    replies: list[bytes | Exception] = [page(5), page(2), page(3), ShuttingDown("gone"), page(4), page(5)]

    async def read() -> bytes:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    history = MetricsHistory(read)
    set_clock(monkeypatch)
    monkeypatch.setattr(module, "INTERVAL", 0)

    async def follow() -> list[bytes]:
        history.start()
        history.start()  # once is enough
        while replies:
            await asyncio.sleep(0)
        for _ in range(1000):
            if len(await history.after(0)) == 2:
                break
            await asyncio.sleep(0.001)
        history.stop()
        return await history.after(0)

    found = [msgspec.json.decode(point, type=FigurePoint) for point in asyncio.run(follow())]
    assert [point.requests for point in found] == [1.0, 1.0]
