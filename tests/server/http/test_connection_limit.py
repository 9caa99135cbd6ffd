"""The number of open connections: shares of addresses, idle ones closed first, and what a full server answers."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest

from nearfield.encoder import Encoder
from nearfield.server.http.connection_limit import AcceptErrors, ConnectionLimit, connections_allowed, raise_file_limit
from tests.support.serving import listening


@dataclass(eq=False)
class Fake:
    """A connection, and its transport."""

    owner: str
    last_received: float = 0.0
    busy: bool = False
    pending_bytes: int = 0
    late: bool = False
    closed: list[str] = field(default_factory=list)

    @property
    def transport(self) -> Fake:
        return self

    def close(self) -> None:
        self.closed.append("close")

    def abort(self) -> None:
        self.closed.append("abort")

    def in_use(self, now: float) -> bool:
        return self.busy

    def overdue(self, now: float) -> bool:
        return self.late

    def rest_overdue(self, now: float) -> bool:
        return False

    def unread(self, now: float) -> bool:
        return False


def test_an_address_has_half_of_what_others_do_not_use() -> None:
    limit = ConnectionLimit(100)
    assert all(limit.admit(Fake("a", busy=True)) for _ in range(50))
    assert not limit.admit(Fake("a", busy=True))
    assert all(limit.admit(Fake("b", busy=True)) for _ in range(24))
    assert not limit.admit(Fake("b", busy=True))
    assert limit.refused == 2
    assert limit.admit(Fake("c", busy=True))


def test_idle_connections_of_the_address_with_the_most_are_closed_first() -> None:
    limit = ConnectionLimit(40)
    idle = [Fake("a", last_received=float(number)) for number in range(20)]
    busy = [Fake("b", busy=True) for _ in range(10)] + [Fake("c", busy=True) for _ in range(10)]
    assert all(limit.admit(connection) for connection in idle + busy)
    assert limit.admit(Fake("d"))
    assert all(connection.closed == ["close"] for connection in idle)
    assert not any(connection.closed for connection in busy)
    assert len(limit) == 21


def test_closed_connections_are_counted_no_more() -> None:
    limit = ConnectionLimit(40)
    connections = [Fake("a", busy=True) for _ in range(20)]
    for connection in connections:
        limit.admit(connection)
    for connection in connections * 2:
        limit.remove(connection)
    assert len(limit) == 0
    assert not limit._counts


def test_the_sweep_closes_and_aborts() -> None:
    limit = ConnectionLimit(40, max_pending_bytes=100)
    late = Fake("a", late=True)
    many, few = Fake("b", pending_bytes=80), Fake("b", pending_bytes=30)
    other = Fake("c", pending_bytes=60)
    limit.sweep([late, many, few, other, object()])
    assert [connection.closed for connection in (late, many, few, other)] == [["close"], ["abort"], [], []]
    assert (limit.aborted, limit.pending_bytes) == (1, 170)


def test_accept_errors_are_logged_once_a_minute_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    errors = AcceptErrors()
    for _ in range(5):
        errors.add(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    assert [record.getMessage() for record in caplog.records].count(
        "connections cannot be accepted: Too many open files"
    ) == 1
    assert [metric.samples[0].value for metric in errors.collect()] == [5]


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limit")
def test_the_limit_of_descriptors_is_raised_and_leaves_some_for_files() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))\n"
        "from nearfield.server.http.connection_limit import connections_allowed, raise_file_limit\n"
        "print(connections_allowed(), raise_file_limit(), connections_allowed())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["136", "300", "236"]
    assert connections_allowed() > 0
    assert raise_file_limit() is None or isinstance(raise_file_limit(), int)


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.network
def test_a_full_server_answers_503_and_serves_those_it_has(tiny: Encoder) -> None:
    with listening([tiny]) as state:
        limit = state.server.connections
        limit.max_connections = 20
        address = ("127.0.0.1", state.port)
        with httpx.Client(base_url=f"http://127.0.0.1:{state.port}") as client:
            assert client.get("/health").status_code == 200
            sockets = [socket.create_connection(address) for _ in range(15)]
            _until(lambda: len(limit) == 16)
            with socket.create_connection(address) as extra:
                extra.settimeout(20)
                answer = extra.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in answer
            assert client.get("/health").status_code == 200
            time.sleep(1.2)  # now they are idle
            with socket.create_connection(address) as extra:
                extra.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                extra.settimeout(20)
                assert extra.recv(65_536).startswith(b"HTTP/1.1 200 ")
            for one in sockets:
                one.close()
        assert limit.refused == 1
        page = state.server.prometheus.page().decode()
        assert "nearfield_connections_refused_total 1.0" in page
        assert "nearfield_accept_errors_total 0.0" in page
