"""Requests that end early: the client disconnects, the body stalls, the server stops, or an endpoint raises."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import Cancelled, DeadlineExceeded, ShuttingDown, SlowBody
from nearfield.server.http import deadline as deadlines
from nearfield.server.http import responses
from nearfield.server.http.deadline import PendingBodies, RequestDeadline
from tests.support.serving import serving

GOOD = {"model": "tiny", "input": "cat"}
_JSON = {"content-type": "application/json"}


class Records(logging.Handler):
    """Collects the records that are logged as errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record)


@pytest.fixture
def errors() -> Iterator[list[logging.LogRecord]]:
    records, logs = Records(), [logging.getLogger(name) for name in ("nearfield", "uvicorn.error")]
    for log in logs:
        log.addHandler(records)
    yield records.seen
    for log in logs:
        log.removeHandler(records)


class Client:
    """A request whose client disconnects after ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def receive(self) -> dict[str, str]:
        await asyncio.sleep(self.seconds)
        return {"type": "http.disconnect"}


async def _wait(client: float, seconds: float, *, read: bool = True) -> None:
    with RequestDeadline(Client(client), seconds, PendingBodies()) as deadline:  # type: ignore[arg-type]
        if read:
            deadline.watch_for_disconnect()
        await asyncio.sleep(60)


async def test_a_deadline_raises_the_reason_of_the_cancellation() -> None:
    with pytest.raises(Cancelled):
        await _wait(client=0.01, seconds=60)
    with pytest.raises(DeadlineExceeded):
        await _wait(client=60, seconds=0.01)
    with pytest.raises(SlowBody):
        await _wait(client=60, seconds=0.01, read=False)
    task = asyncio.create_task(_wait(client=60, seconds=60))
    await asyncio.sleep(0)
    task.cancel()  # as uvicorn does once its time for shutting down is up
    with pytest.raises(ShuttingDown):
        await task


async def test_a_deadline_that_is_not_reached_leaves_no_timer_or_task() -> None:
    pending = PendingBodies()
    with RequestDeadline(Client(0.02), 0.02, pending) as deadline:  # type: ignore[arg-type]
        deadline.watch_for_disconnect()
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)  # neither the timer nor the watcher stops what comes after
    assert not pending.deadlines


class SlowBodyRequest:
    """A request whose body arrives in ``parts``, one every ``seconds``, and then stalls."""

    def __init__(self, parts: int, seconds: float) -> None:
        self.left = parts
        self.seconds = seconds

    async def receive(self) -> dict[str, str]:
        await asyncio.sleep(self.seconds if self.left else 60)
        self.left -= 1
        return {"type": "http.request"}


async def _read_on(request: SlowBodyRequest, pending: PendingBodies) -> None:
    with RequestDeadline(request, 60, pending) as deadline:  # type: ignore[arg-type]
        while True:
            await deadline.receive()


@pytest.mark.parametrize("before", [True, False], ids=["read when it stops", "begun after"])
async def test_a_stopping_server_waits_for_bodies_that_progress_and_gives_up_those_that_stall(
    monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    monkeypatch.setattr(deadlines, "_STALL_SECONDS", 0.1)
    pending, request, started = PendingBodies(), SlowBodyRequest(10, 0.05), time.monotonic()
    if before:
        asyncio.get_running_loop().call_later(0.01, pending.stop)
    else:
        pending.stop()
    with pytest.raises(SlowBody, match="stopping"):
        await _read_on(request, pending)
    assert request.left == 0
    assert 0.5 < time.monotonic() - started < 2
    assert not pending.deadlines


async def test_a_request_with_a_complete_body_is_not_given_up_at_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_STALL_SECONDS", 0.01)
    pending = PendingBodies()
    with RequestDeadline(Client(60), 60, pending) as deadline:  # type: ignore[arg-type]
        pending.stop()
        deadline.watch_for_disconnect()
        await asyncio.sleep(0.1)


def _head(length: int) -> bytes:
    head = "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {length}\r\n\r\n".encode()


async def _open(url: str, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(sent)
    await writer.drain()
    return reader, writer


def _post_beside_open_bodies(url: str, bodies: int, size: int, limit: int) -> tuple[int, str]:
    """Keep ``bodies`` incomplete bodies of ``size`` bytes open; return status and Retry-After of a complete request."""

    async def scenario() -> tuple[int, str]:
        connections = [await _open(url, _head(limit) + b" " * size) for _ in range(bodies)]
        await asyncio.sleep(0.3)
        async with httpx.AsyncClient(base_url=url) as client:
            reply = await client.post("/v1/embeddings", content=json.dumps(GOOD) + " " * (limit // 2), headers=_JSON)
        for _, writer in connections:
            writer.transport.abort()
        return reply.status_code, reply.headers.get("retry-after", "")

    return asyncio.run(scenario())


@pytest.mark.network
def test_many_large_bodies_at_once_are_refused_before_memory_runs_out(tiny: Encoder) -> None:
    with serving([tiny], max_body_bytes=1024) as url:
        assert _post_beside_open_bodies(url, 2, 500, 1024)[0] == 200
        time.sleep(0.2)
        assert _post_beside_open_bodies(url, 2, 600, 1024) == (429, "1")  # one client has at most 1,680 bytes
        time.sleep(0.2)
        assert httpx.post(url + "/v1/embeddings", json=GOOD).status_code == 200


@pytest.mark.network
def test_a_thousand_clients_disconnect_in_the_middle_of_their_bodies(
    tiny: Encoder, errors: list[logging.LogRecord]
) -> None:
    async def leave(url: str) -> None:
        _, writer = await _open(url, _head(1000) + b"{" * 500)
        writer.transport.abort()

    async def scenario(url: str) -> None:
        for _ in range(10):
            await asyncio.gather(*(leave(url) for _ in range(100)))

    # Bytes still counted after their clients left would soon fill so small an allowance.
    with serving([tiny], max_body_bytes=100_000) as url:
        asyncio.run(scenario(url))
        time.sleep(0.3)
        padded = json.dumps(GOOD) + " " * 90_000
        assert httpx.post(url + "/v1/embeddings", content=padded, headers=_JSON).status_code == 200
    assert not errors, errors[0].getMessage()


@pytest.mark.network
def test_a_body_that_never_ends_closes_its_connection(tiny: Encoder) -> None:
    async def scenario(url: str) -> bytes:
        reader, writer = await _open(url, _head(100) + b"{")
        reply = await asyncio.wait_for(reader.read(), 10)  # until the server closes
        writer.close()
        return reply

    with serving([tiny], request_timeout=0.3) as url:
        reply = asyncio.run(scenario(url))
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in reply.lower()


@pytest.mark.network
def test_the_encoding_of_a_large_reply_ends_at_the_deadline(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    go, encode = threading.Event(), responses.encode_response

    def wait_and_encode(*arguments: Any) -> Any:
        if not threading.current_thread().name.startswith("nearfield-encode"):
            return encode(*arguments)
        go.wait(60)
        return encode(*arguments)

    many = {"model": "tiny", "input": ["cat"] * 3000}
    with (
        serving([tiny], request_timeout=3, cache_memory=2**20) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        assert client.post("/v1/embeddings", json=many).status_code == 200
        with monkeypatch.context() as patch:
            patch.setattr(responses, "encode_response", wait_and_encode)
            replies = [client.post("/v1/embeddings", json=many) for _ in range(2)]  # the second one waits for its turn
            assert client.post("/v1/embeddings", json=GOOD).status_code == 200
            go.set()
        assert [(reply.status_code, reply.json()["error"]["code"]) for reply in replies] == [
            (429, "deadline_exceeded")
        ] * 2
        assert len(client.post("/v1/embeddings", json=many).json()["data"]) == 3000


@pytest.mark.network
def test_an_unexpected_error_costs_one_reply_and_no_connection(
    tiny: Encoder, errors: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secretword")

    with serving([tiny]) as url, httpx.Client(base_url=url) as client:
        with monkeypatch.context() as patch:
            patch.setattr(tiny, "run_encode", broken)
            reply = client.post("/v1/embeddings", json=GOOD)
        assert reply.status_code == 500
        assert reply.json()["error"]["type"] == "server_error"
        assert "secretword" not in reply.text
        assert client.post("/v1/embeddings", json=GOOD).status_code == 200
        assert 'nearfield_requests_total{route="/v1/embeddings",status="500"} 1.0' in client.get("/metrics").text
    assert [record.name for record in errors] == ["nearfield"]
