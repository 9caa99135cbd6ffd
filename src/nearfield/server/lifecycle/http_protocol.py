"""Connection: uvicorn's, which also knows since when it has waited for a request's headers."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Seconds within which a request's headers are to arrive, counted from their first byte.
HEADER_SECONDS = 10.0
#: Seconds for which a connection counts as in use after its last byte: a busy client's next request is on its way.
RECENT = 0.5


class TimedHttpProtocol(HttpToolsProtocol):
    """An HTTP connection. uvicorn bounds only how long one may be idle after a reply."""

    #: When the first byte came of headers that are not whole yet.
    begun: float | None = None
    #: When it was opened, until its first request.
    opened: float | None = None
    #: When bytes last came.
    touched: float = 0.0

    def data_received(self, data: bytes) -> None:
        """Note the time."""
        self.touched = time.monotonic()
        super().data_received(data)

    def connection_made(self, transport: Any) -> None:
        """Note the time."""
        super().connection_made(transport)
        self.opened = time.monotonic()

    def on_message_begin(self) -> None:
        """Note that headers have begun."""
        super().on_message_begin()
        self.opened, self.begun = None, time.monotonic()

    def on_headers_complete(self) -> None:
        """Note that they are whole."""
        self.begun = None
        super().on_headers_complete()

    def in_use(self, now: float) -> bool:
        """Return whether a reply is due here, or its client was heard of a moment ago."""
        working = self.cycle is not None and not self.cycle.response_complete
        return working or now - self.touched < RECENT

    def overdue(self, now: float) -> bool:
        """Return whether nothing is at work here, and what is waited for should have come."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        silent = self.opened is not None and now - self.opened > self.timeout_keep_alive
        return silent or (self.begun is not None and now - self.begun > HEADER_SECONDS)


def sweep(connections: Iterable[Any]) -> None:
    """Close the connections whose clients keep them waiting."""
    now = time.monotonic()
    for connection in list(connections):
        if isinstance(connection, TimedHttpProtocol) and connection.overdue(now):
            connection.transport.close()
