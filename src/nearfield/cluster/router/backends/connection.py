"""A connection to a back-end: one HTTP/1.1 request at a time. httptools parses its reply, which is read at our pace.

A server that answers garbage, too many headers or a part of a reply fails the request (`BackendFailure`), never the
router. The decision ``router-client`` explains why this is no connection of httpx.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import cast

import httptools

from nearfield.errors import NearfieldError

#: Maximum bytes of the head of a reply, with its trailers, and maximum number of its headers.
_MAX_HEAD_BYTES, _MAX_HEADERS = 65_536, 128
#: Bytes of a reply that wait to be read; the connection is not read while there are more.
_HIGH_WATER = 262_144
#: Replies that have no body, whatever their headers say.
BODILESS = frozenset({204, 304})
Headers = list[tuple[bytes, bytes]]


class BackendFailure(NearfieldError):
    """A back-end cannot be reached, broke the connection, or answered what is no HTTP.

    ``sent`` says whether it may have seen the request, ``received`` whether any byte of a reply arrived, ``timed_out``
    whether it took too long.
    """

    status = 502
    code = "backend_failed"

    def __init__(self, message: str, *, sent: bool = True, received: bool = False, timed_out: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.received = received
        self.timed_out = timed_out


class BackendConnection(asyncio.Protocol):
    """One connection, which is used for one request after another.

    ``send`` writes a request, ``read_head`` waits for status and headers, ``read_part`` for parts of the body.
    """

    def __init__(self) -> None:
        self.idle_since = time.monotonic()
        #: How many requests it was used for.
        self.uses = 0
        self._transport: asyncio.Transport | None = None
        self._failure: BackendFailure | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: Headers = []
        self._parts: deque[bytes] = deque()
        self._waiting_bytes = self._head_bytes = 0
        self._busy = self._bodiless = self._received = False
        self._head_complete = self._complete = self._keep_alive = self._paused = False

    # -- requests ------------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return not self._busy and self._failure is None and self._transport is not None and not self._closing

    @property
    def _closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def send(self, head: bytes, body: bytes | bytearray = b"", *, bodiless: bool = False) -> None:
        """Write a request. ``bodiless``: the reply has no body (HEAD).

        Raises:
            BackendFailure: the connection was lost before.
        """
        self._reset()
        self._busy, self._bodiless = True, bodiless
        self.uses += 1
        self._check()
        transport = cast(asyncio.Transport, self._transport)
        transport.writelines((head, body) if body else (head,))

    def expect_within(self, seconds: float | None) -> None:
        """Fail the request unless its next parts are read within ``seconds``, or the next call; None: no limit."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = (
            None
            if seconds is None
            else asyncio.get_running_loop().call_later(
                seconds, self._fail, f"The server did not answer within {seconds:g} s.", True
            )
        )

    async def write(self, part: bytes) -> None:
        """Write a part of a streamed body, and wait while the connection takes no more.

        Raises:
            BackendFailure: the connection was lost.
        """
        self._check()
        cast(asyncio.Transport, self._transport).write(part)
        await self._writable.wait()

    async def read_head(self) -> tuple[int, Headers]:
        """Return status and headers of the reply.

        Raises:
            BackendFailure: the connection was lost before they were complete, or they are no HTTP.
        """
        while not self._head_complete:
            self._check()
            await self._wait()
        return self.status, self.headers

    async def read_part(self) -> bytes:
        """Return the next part of the body; empty at its end.

        Raises:
            BackendFailure: the body is incomplete, or no HTTP.
        """
        while not self._parts and not self._complete:
            self._check()
            await self._wait()
        part = b"".join(self._parts)
        self._parts.clear()
        self._waiting_bytes = 0
        if self._paused and not self._closing:
            self._paused = False
            cast(asyncio.Transport, self._transport).resume_reading()
        return part

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _check(self) -> None:
        if self._failure is not None:
            failure = self._failure
            raise BackendFailure(str(failure), received=self._received, timed_out=failure.timed_out)
        if self._closing:
            raise BackendFailure("The connection to the server is closed.", received=self._received)

    def finish(self) -> bool:
        """End the use for one request; return whether the connection can be used again."""
        reusable = self._complete and self._keep_alive and not self._parts and not self._closing
        self._busy = False
        self.expect_within(None)
        self.idle_since = time.monotonic()
        if not reusable or self._failure is not None:
            self.abort()
            return False
        return True

    def retire(self) -> None:
        """Close the connection after this reply: the request was not sent as a whole, and another would follow it."""
        self._keep_alive = False

    def abort(self, reason: str = "The request was given up.") -> None:
        """Close the connection now; who waits for a reply gets ``reason`` as a failure."""
        self._fail(reason)

    # -- callbacks of the transport --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Record the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request in progress."""
        self._writable.set()
        if not self._complete:
            reason = f": {exc}" if exc is not None else " before the reply was complete"
            self._fail(f"The server closed the connection{reason}.")
        self._changed.set()

    def pause_writing(self) -> None:
        """Let ``write`` wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let ``write`` go on."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Parse a part of the reply."""
        if not self._busy or self._complete:
            self._fail("The server sent bytes that belong to no request.")
            return
        self._received = True
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            reason = error.__context__ if isinstance(error.__context__, BackendFailure) else None
            self._fail(str(reason) if reason is not None else f"The server's reply is not valid HTTP: {error}.")
            return
        if self._head_bytes > _MAX_HEAD_BYTES:
            self._fail(f"The head of the server's reply has more than {_MAX_HEAD_BYTES} bytes.")
        if self._waiting_bytes > _HIGH_WATER and not self._paused and not self._closing:
            self._paused = True
            cast(asyncio.Transport, self._transport).pause_reading()
        self._changed.set()

    def _fail(self, message: str, timed_out: bool = False) -> None:
        if self._failure is None:
            self._failure = BackendFailure(message, timed_out=timed_out)
        self._changed.set()
        self._writable.set()
        if self._transport is not None:
            self._transport.abort()

    # -- callbacks of the parser -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Refuse a second reply to one request."""
        if self._complete:
            raise BackendFailure("The server sent more than one reply.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header; trailers are dropped."""
        if self._head_complete:
            return
        if len(self.headers) >= _MAX_HEADERS:
            raise BackendFailure(f"The server's reply has more than {_MAX_HEADERS} headers.")
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Record status and headers, but for those of an interim reply (100 Continue)."""
        status = self._parser.get_status_code()
        if not 100 <= status <= 599:
            raise BackendFailure(f"The server's reply has the status {status}, which HTTP does not have.")
        if status < 200:
            if status == 101:
                raise BackendFailure("The server switched to another protocol.")
            self.headers = []
            return
        if status in BODILESS or self._bodiless:
            self._complete = True
        elif not any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            raise BackendFailure("The server's reply says neither how long it is nor where it ends.")
        self.status, self._head_complete = status, True
        # After the reply to HEAD the parser still waits for a body.
        self._keep_alive = self._parser.should_keep_alive() and not self._bodiless

    def on_body(self, body: bytes) -> None:
        """Store a part of the body."""
        self._head_bytes -= len(body) + 16
        if self._head_bytes < 0:
            self._head_bytes = 0
        if self._complete:
            raise BackendFailure("The server's reply has a body where there can be none.")
        self._parts.append(body)
        self._waiting_bytes += len(body)

    def on_message_complete(self) -> None:
        """Record the end of the reply."""
        if self._head_complete:
            self._complete = True
