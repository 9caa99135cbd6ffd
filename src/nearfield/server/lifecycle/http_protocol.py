"""uvicorn's HTTP connection with a timeout for request headers, and the sweep that closes idle and slow connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Seconds within which a request's headers must arrive, from their first byte.
HEADER_SECONDS = 10.0
#: Seconds for which a connection counts as in use after its last byte: a busy client is about to send its next request.
RECENT = 0.5


class TimedHttpProtocol(HttpToolsProtocol):
    """An HTTP connection that records when bytes arrive. uvicorn itself only limits the time after a response."""

    #: When the first byte of incomplete headers arrived.
    headers_started: float | None = None
    #: When the connection was opened; None after its first request.
    opened: float | None = None
    #: When bytes last arrived.
    last_received: float = 0.0

    def data_received(self, data: bytes) -> None:
        """Record the time, and pass the data on."""
        self.last_received = time.monotonic()
        super().data_received(data)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Record when the connection was opened."""
        super().connection_made(transport)
        self.opened = time.monotonic()

    def on_message_begin(self) -> None:
        """Record that headers have begun to arrive."""
        super().on_message_begin()
        self.opened, self.headers_started = None, time.monotonic()

    def on_headers_complete(self) -> None:
        """Record that the headers are complete."""
        self.headers_started = None
        super().on_headers_complete()

    def in_use(self, now: float) -> bool:
        """Return whether a request is in progress, or the client has just sent something."""
        working = self.cycle is not None and not self.cycle.response_complete
        return working or now - self.last_received < RECENT

    def overdue(self, now: float) -> bool:
        """Return whether no request is in progress, and the client has been silent or slow for too long."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        silent = self.opened is not None and now - self.opened > self.timeout_keep_alive
        return silent or (self.headers_started is not None and now - self.headers_started > HEADER_SECONDS)


def close_overdue(connections: Iterable[object]) -> None:
    """Close the connections that are overdue."""
    now = time.monotonic()
    for connection in list(connections):
        if isinstance(connection, TimedHttpProtocol) and connection.overdue(now):
            connection.transport.close()
