"""Replies that a client does not read: they are bounded for each owner, and end when nothing is read."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import Overloaded
from nearfield.server.http.reply_budget import SMALL_REPLY_BYTES, ReplyBudget, ReplyShare
from nearfield.server.lifecycle import http_protocol
from tests.support.serving import listening

MB = 2**20


# -- the budget --------------------------------------------------------------------------------------------------------


async def _reserve(budget: ReplyBudget, owner: str, size: int) -> ReplyShare:
    share = await asyncio.wait_for(budget.reserve(owner, size), 5)
    assert share is not None
    return share


async def _waits(budget: ReplyBudget, owner: str, size: int) -> asyncio.Task[ReplyShare | None]:
    task = asyncio.create_task(budget.reserve(owner, size))
    await asyncio.sleep(0)
    assert not task.done()
    return task


def test_an_owner_has_half_of_what_others_do_not_use() -> None:
    async def scenario() -> None:
        budget = ReplyBudget(100 * MB)
        assert await budget.reserve("a", SMALL_REPLY_BYTES) is None, "small replies are not counted"
        first = await _reserve(budget, "a", 30 * MB)
        second = await _reserve(budget, "a", 20 * MB)
        third = await _waits(budget, "a", 1 * MB)
        other = await _reserve(budget, "b", 40 * MB)
        fourth = await _waits(budget, "b", 1 * MB)
        first.release()
        first.release()  # the second time it does nothing
        await asyncio.wait_for(third, 5)
        other.release()
        await asyncio.wait_for(fourth, 5)
        second.release()
        for task in (third, fourth):
            share = task.result()
            assert share is not None
            share.release()
        assert (budget.used_bytes, budget.waiting_bytes, dict(budget._used)) == (0, 0, {})

    asyncio.run(scenario())


def test_one_reply_may_be_larger_than_the_share() -> None:
    async def scenario() -> None:
        budget = ReplyBudget(100 * MB)
        huge = await _reserve(budget, "a", 300 * MB)
        waiting = await _waits(budget, "b", 1 * MB)
        huge.resize(60 * MB)
        await asyncio.wait_for(waiting, 5)
        assert budget.used_bytes == 61 * MB

    asyncio.run(scenario())


def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        budget = ReplyBudget(100 * MB)
        share = await _reserve(budget, "a", 90 * MB)
        early, late = await _waits(budget, "a", 30 * MB), await _waits(budget, "a", 20 * MB)
        early.cancel()
        await asyncio.sleep(0)
        share.release()  # granted to ``late``, which is cancelled before it runs
        late.cancel()
        await asyncio.wait((early, late))
        assert (budget.used_bytes, budget.waiting_bytes) == (0, 0)

    asyncio.run(scenario())


def test_waiting_is_bounded_too() -> None:
    async def scenario() -> None:
        budget = ReplyBudget(10 * MB)
        await _reserve(budget, "a", 10 * MB)
        tasks = [await _waits(budget, "a", 10 * MB) for _ in range(3)]
        with pytest.raises(Overloaded):
            await budget.reserve("a", 10 * MB)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    asyncio.run(scenario())


# -- over HTTP ---------------------------------------------------------------------------------------------------------

#: 4,000 vectors of 32 numbers: about 1.5 MB of JSON.
WIDE = json.dumps({"model": "tiny", "input": ["cat"] * 4000}).encode()
HEAD = (
    b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n" % len(WIDE)
)


@contextmanager
def _asking(port: int) -> Iterator[socket.socket]:
    """A client with a small receive buffer that has asked for a large reply."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.settimeout(30)
        client.sendall(HEAD + WIDE)
        yield client


def _until(condition: object, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.network
@pytest.mark.slow
def test_a_reply_that_is_not_read_is_aborted_and_its_memory_released(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "REPLY_RATE_SECONDS", 0.5)
    with listening([tiny], max_reply_bytes="2MiB") as state:
        budget, connections = state.server.reply_budget, state.server.connections
        with _asking(state.port), _asking(state.port):
            _until(lambda: budget.used_bytes > MB)
            assert budget.used_bytes < 2 * MB, "the second waits"
            assert httpx.get(f"http://127.0.0.1:{state.port}/health").status_code == 200
            _until(lambda: connections.aborted == 2)
        _until(lambda: budget.used_bytes == 0)
        assert budget.waiting_bytes == 0


@pytest.mark.network
@pytest.mark.slow
def test_a_reply_that_is_not_read_does_not_delay_the_shutdown(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "REPLY_RATE_SECONDS", 0.5)
    with listening([tiny], drain_timeout=60.0) as state, _asking(state.port):
        _until(lambda: state.server.reply_budget.used_bytes > MB)
        started = time.monotonic()
        state.listener.should_exit = True
        _until(lambda: len(state.server.connections) == 0)
    assert time.monotonic() - started < 25


@pytest.mark.network
@pytest.mark.slow
def test_a_slow_reader_gets_the_whole_reply(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "REPLY_RATE_SECONDS", 1.0)
    with listening([tiny]) as state, _asking(state.port) as client:
        data = b""
        started = time.monotonic()
        while part := client.recv(32_768):
            data += part
            time.sleep(len(part) / 400_000)
        assert time.monotonic() - started > 2
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert len(json.loads(body)["data"]) == 4000


@pytest.mark.network
def test_a_reply_that_has_no_space_is_refused_at_the_deadline(tiny: Encoder) -> None:
    with listening([tiny], max_reply_bytes="1MiB", request_timeout=1.0) as state, _asking(state.port):
        _until(lambda: state.server.reply_budget.used_bytes > MB)
        url = f"http://127.0.0.1:{state.port}/v1/embeddings"
        headers = {"content-type": "application/json"}
        reply = httpx.post(url, content=WIDE, headers=headers, timeout=30)
        assert reply.status_code == 429
        assert int(reply.headers["retry-after"]) >= 1
        small = httpx.post(url, json={"model": "tiny", "input": "cat"}, timeout=30)
        assert small.status_code == 200


@pytest.mark.network
def test_a_client_with_the_most_unread_bytes_is_aborted_first(tiny: Encoder) -> None:
    with listening([tiny]) as state:
        connections = state.server.connections
        with _asking(state.port):
            _until(lambda: connections.pending_bytes > 0)
            connections.max_pending_bytes = 1000
            _until(lambda: connections.aborted == 1)
