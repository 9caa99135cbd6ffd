"""What a client sends after a refusal or an early reply: it is discarded at a bounded rate, and the reply is seen."""

from __future__ import annotations

import asyncio
import http.client
import socket
import time
from collections.abc import Iterator

import pytest

from nearfield.encoder import Encoder
from nearfield.server.lifecycle import discard_turns, http_protocol
from nearfield.server.lifecycle.discard_turns import DiscardTurns
from tests.support.serving import listening

MAX_BODY = 2**20
HEADERS = {"Authorization": "Bearer key", "Content-Type": "application/json"}
POST = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer key\r\n"


@pytest.fixture(scope="module")
def port(tiny: Encoder) -> Iterator[int]:
    with listening([tiny], api_keys=["key"], max_body_bytes=MAX_BODY) as state:
        yield state.port


class _Connection:
    """A connection that always has another packet."""

    def __init__(self, owner: str, turns: DiscardTurns, log: list[str], *, closed: bool = False) -> None:
        self.owner, self._turns, self._log, self._closed = owner, turns, log, closed

    def read_once(self) -> bool:
        if self._closed:
            return False
        self._log.append(self.owner)
        self._turns.count(100)
        self._turns.wait(self)
        return True


def test_owners_take_turns_within_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discard_turns, "DISCARD_BURST", 1000)
    monkeypatch.setattr(discard_turns, "DISCARD_RATE", 1)
    log: list[str] = []

    async def run() -> None:
        turns = DiscardTurns()
        turns.wait(_Connection("gone", turns, log, closed=True))
        for _ in range(5):
            turns.wait(_Connection("many", turns, log))
        turns.wait(_Connection("one", turns, log))
        started = time.monotonic()
        while len(log) < 10 and time.monotonic() - started < 20:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

    asyncio.run(run())
    assert log[:10] == ["many", "one"] * 5
    assert len(log) <= 11, "the burst is used up, and the rate is a byte a second"


@pytest.mark.network
@pytest.mark.parametrize(("headers", "status"), [(HEADERS, 413), ({"Content-Type": "application/json"}, 401)])
def test_a_client_that_sends_its_whole_body_first_sees_an_early_reply(
    port: int, headers: dict[str, str], status: int
) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("POST", "/v1/embeddings", b"a" * (12 * MAX_BODY), headers)
    reply = client.getresponse()
    assert (reply.status, reply.getheader("connection")) == (status, "close")
    client.close()


@pytest.mark.network
def test_a_connection_is_used_again_after_a_body_that_was_read(port: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = b'{"model": "tiny", "input": "cat"}' + b" " * 300_000
    for _ in range(2):
        client.request("POST", "/v1/embeddings", body, HEADERS)
        reply = client.getresponse()
        assert (reply.status, reply.getheader("connection")) == (200, None)
        reply.read()
    client.close()


@pytest.mark.network
def test_a_client_that_waits_to_continue_is_refused_before_its_body(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(POST + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (2 * MAX_BODY))
        assert client.recv(65_536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.network
@pytest.mark.parametrize("end", [b"Content-Length: 1000000000\r\n\r\n", b"X-A: "])
def test_a_client_that_never_stops_sending_is_read_slowly_and_disconnected(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    monkeypatch.setattr(discard_turns, "DISCARD_BURST", 2**20)
    monkeypatch.setattr(discard_turns, "DISCARD_RATE", 2**20)
    monkeypatch.setattr(http_protocol, "LINGER_SECONDS", 1.0)
    with listening([tiny], api_keys=["key"]) as state, socket.create_connection(("127.0.0.1", state.port)) as client:
        client.settimeout(30)
        sent, started = 0, time.monotonic()
        client.sendall(POST + end)
        closed = False
        while not closed and time.monotonic() - started < 60:
            try:
                sent += client.send(b"a" * 65_536)
            except (BrokenPipeError, ConnectionResetError):
                closed = True
        assert closed
        assert sent < 64 * 2**20, "what the kernel stores, and little more"
