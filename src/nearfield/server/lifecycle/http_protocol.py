"""uvicorn's HTTP connection with limits: on the bytes before a body, on time, on pipelining, and on unread replies."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from nearfield.engine.fair_turns import FairTurns
from nearfield.server.auth.owner import address_owner
from nearfield.server.http.connection_limit import ConnectionLimit
from nearfield.server.http.head_limits import MAX_PATH_BYTES, MAX_QUERY_BYTES
from nearfield.server.lifecycle.counted_transport import CountedTransport
from nearfield.server.lifecycle.discard_turns import DiscardTurns
from nearfield.server.lifecycle.request_refused import PipelineFull, RequestRefused
from nearfield.server.logs import ACCESS

#: Maximum bytes of a request line and headers, of trailers, and of what chunk sizes have beyond ``CHUNK_BYTES`` each.
MAX_HEAD_BYTES = 65_536
#: Bytes that are passed to the parser at a time, outside bodies of known length: 1,400 chunks of one byte.
SLICE_BYTES = 8192
#: Callbacks of the parser for one slice above which the connection waits for its turn to parse the next one, and
#: seconds that such a turn lasts for each callback: as long as the callback itself takes.
_MAX_CALLBACKS, _SECONDS_PER_CALLBACK = 64, 2e-6
#: Maximum bytes of a target with its escapes, which uvicorn decodes before the application runs.
MAX_TARGET_BYTES = 3 * (MAX_PATH_BYTES + MAX_QUERY_BYTES)
#: Maximum number of headers of a request.
MAX_HEADERS = 128
#: Bytes that each chunk may have beside its content.
CHUNK_BYTES = 16
#: Chunks of any size that a request may have, and content bytes for each further chunk.
MAX_CHUNKS, BYTES_PER_CHUNK = 65_536, 256
#: Maximum number of requests that wait on one connection for the reply before theirs.
MAX_PIPELINED = 32
#: Seconds within which a request's headers must arrive, from their first byte.
HEADER_SECONDS = 10.0
#: Seconds that the rest of a small body may take after its request was answered.
REST_SECONDS = 30.0
#: Seconds for which a connection counts as in use after its last byte: a busy client is about to send its next request.
RECENT = 0.5
#: A reply must proceed by this many bytes a second, measured over this many seconds in which some were pending.
MIN_REPLY_RATE, REPLY_RATE_SECONDS = 16_384, 20.0
#: Seconds for which a connection stays open after a refusal, or after the reply to a request with an incomplete body:
#: closing it with unread bytes would reset it, and the client might lose the reply.
LINGER_SECONDS = 3.0
#: The rest of a body with at most this many bytes is read after an early reply, and the connection is used again.
MAX_REST_BYTES = 65_536

#: Headers whose values are checked while they arrive.
_CHECKED_HEADERS = frozenset({b"host", b"origin", b"transfer-encoding", b"expect", b"content-length"})
_VERSIONS = ("1.1", "1.0")


class TimedHttpProtocol(HttpToolsProtocol):
    """An HTTP connection that bounds what a client can make it store, and how long it can make it wait.

    uvicorn itself has no limit on headers, trailers, pipelined requests and unread replies, and none on time but after
    a response. All counting is per packet, not per header.

    Args:
        limit: counts the open connections; a connection beyond the limit is refused.
        discards: paces the reading of bytes that follow a refusal.
        turns: connections that send many small chunks take turns to parse a slice.
    """

    #: When the first byte of incomplete headers arrived.
    headers_started: float | None = None
    #: When the connection was opened; None after its first request.
    opened: float | None = None
    #: When bytes last arrived.
    last_received: float = 0.0
    #: Owner of the connection by its client's address.
    owner = ""
    #: Bytes since the last body bytes, or since the start of the request: the parser may be storing them.
    _stored_bytes = 0
    #: Slices passed to the parser, and the number of the slice in which the present request began.
    _slices = _first_slice = 0
    #: Callbacks of the parser for the present slice; chunks and content bytes of the present body so far.
    _callbacks = _chunks = _body_bytes = 0
    #: Bytes that wait for the connection's turn, and the task that parses them.
    _unparsed: bytearray | None = None
    _parsing: asyncio.Task[None] | None = None
    _head_complete = False
    _message_complete = True
    _host: bytes | None = None
    _has_origin = _is_chunked = False
    _content_length = 0
    #: Whether the connection may be used again once the body is complete; until then, a reply closes it.
    _keep_alive = False
    #: Whether the parser has stopped because of an ``Upgrade`` header.
    _ignoring_upgrade = False
    #: Whether no further bytes are parsed; and whether nothing further is written either.
    _refused = _lingers = False
    #: The refusal to send once all earlier requests were answered.
    _pending_refusal: RequestRefused | None = None
    #: The cycle of the request that the application works on; ``cycle`` is that of the last request.
    _running: RequestResponseCycle | None = None
    #: When pending bytes of replies were first seen, and how many were sent by then.
    _reply_mark: tuple[float, int] | None = None
    #: When a request was first seen answered whose body is incomplete.
    _rest_since: float | None = None

    def __init__(
        self,
        *args: Any,
        limit: ConnectionLimit | None = None,
        discards: DiscardTurns | None = None,
        turns: FairTurns | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._turns = turns or FairTurns()
        self._limit = limit
        self._discards = discards or DiscardTurns()

    # -- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Record when the connection was opened, or refuse it if there are too many."""
        super().connection_made(cast(asyncio.Transport, CountedTransport(transport, self._close)))
        self.opened = self.last_received = time.monotonic()
        if self._limit is None:
            return
        self.owner = address_owner(self.client[0] if self.client else None)
        if not self._limit.admit(self):
            # At once, without lingering: a flood of connections must not fill the table of descriptors.
            refusal = RequestRefused(
                503, "too_many_connections", "The server has as many connections as it allows.", (b"retry-after", b"1")
            )
            self._refused = True
            self.transport.write(refusal.reply(self.server_state.default_headers))
            self._close_now()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection, and end the request that the application works on."""
        if self._limit is not None:
            self._limit.remove(self)
        running = self._running
        if running is not None and running is not self.cycle and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        self.pipeline.clear()
        if self._parsing is not None:
            self._parsing.cancel()
        cast(CountedTransport, self.transport).forget_owner()
        super().connection_lost(exc)

    # -- bytes -------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Record the time, and parse the bytes in slices; many small chunks are parsed in turns."""
        self.last_received = time.monotonic()
        if self._unparsed is not None:
            self._unparsed += data
            return
        start, view = 0, memoryview(data)
        while start < len(data):
            end = start + self._slice_size()
            self._parse(view[start:end] if start or end < len(data) else data)
            start = end
            if self._callbacks > _MAX_CALLBACKS and not self._refused:
                self._unparsed = bytearray(view[start:])
                cast(CountedTransport, self.transport).block_reading()
                self._parsing = self.loop.create_task(self._parse_in_turns(self._unparsed))
                return

    def _slice_size(self) -> int:
        if self._refused:
            return MAX_HEAD_BYTES
        if self._message_complete or not self._head_complete or self._is_chunked:
            return SLICE_BYTES
        return max(SLICE_BYTES, min(MAX_HEAD_BYTES, self._content_length - self._body_bytes))

    async def _parse_in_turns(self, data: bytearray) -> None:
        """Parse bytes that have arrived, a slice at each turn, and read further ones afterwards."""
        try:
            while not self._refused and not self.transport.is_closing():
                async with self._turns.slot(self.owner):
                    await asyncio.sleep(self._callbacks * _SECONDS_PER_CALLBACK)  # the event loop is for others
                    if not data or self._refused:
                        break
                    size = self._slice_size()
                    part = bytes(data[:size])
                    del data[:size]
                    self._parse(part)
            if data:
                self._discard(len(data))
        finally:
            self._unparsed = self._parsing = None
            cast(CountedTransport, self.transport).unblock_reading()

    def _parse(self, data: bytes | memoryview) -> None:
        if self._refused:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        self._callbacks = 0
        self._slices += 1
        self._stored_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            self._parse_without_upgrade(data[stop.args[0] :])
            return
        except httptools.HttpParserError as error:
            reason = error.__context__
            if not isinstance(reason, RequestRefused):
                reason = RequestRefused(400, "invalid_http", f"The request is not valid HTTP: {error}.")
            self._refuse(reason)
            return
        if self._stored_bytes > MAX_HEAD_BYTES:
            self._refuse(self._too_large())
        elif self._is_chunked and self._chunks > MAX_CHUNKS + self._body_bytes // BYTES_PER_CHUNK:
            self._refuse(RequestRefused(400, "invalid_http", "The body has too many small chunks."))
        elif self._stored_bytes < 0:
            self._stored_bytes = 0  # the allowance of one packet's chunks is not for the next packet

    def _parse_without_upgrade(self, rest: bytes | memoryview) -> None:
        """Parse the present request again without its ``Upgrade`` header, then the bytes after its headers.

        HTTP lets a server ignore the header, but the parser then takes the body for the other protocol. Java's HTTP
        client offers HTTP/2 in this way with its first request.
        """
        self._ignoring_upgrade = False
        headers = [header for header in self.headers if header[0] != b"upgrade"]
        head = b"%s %s HTTP/%s\r\n" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode("ascii"),
        )
        head += b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n"
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._stored_bytes = 0
        self._parse(head)
        if rest:
            self._parse(rest)

    def _too_large(self) -> RequestRefused:
        if self._message_complete:
            return RequestRefused(400, "invalid_http", "The request is not valid HTTP: empty lines before a request.")
        if self._head_complete:
            text = f"Trailers and chunk sizes have more than {MAX_HEAD_BYTES} bytes."
            return RequestRefused(431, "headers_too_large", text)
        if not self.headers:
            return RequestRefused(414, "uri_too_long", f"The request line has more than {MAX_HEAD_BYTES} bytes.")
        return RequestRefused(431, "headers_too_large", f"The headers have more than {MAX_HEAD_BYTES} bytes.")

    # -- callbacks of the parser -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Record that headers have begun to arrive."""
        super().on_message_begin()
        self.opened, self.headers_started = None, time.monotonic()
        self._first_slice = self._slices
        self._host = None
        self._content_length = self._chunks = self._body_bytes = 0
        self._head_complete = self._message_complete = self._has_origin = self._is_chunked = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header; trailers are dropped, since the application has the headers already."""
        if self._head_complete:
            self._callbacks += 1
            return
        name = name.lower()
        if name in _CHECKED_HEADERS:
            self._check_header(name, value)
        if len(self.headers) >= MAX_HEADERS:
            raise RequestRefused(431, "headers_too_large", f"The request has more than {MAX_HEADERS} headers.")
        self.headers.append((name, value))

    def _check_header(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            if self._host is not None:
                raise RequestRefused(400, "invalid_http", "The request has several Host headers.")
            self._host = value
        elif name == b"origin":
            if self._has_origin:
                raise RequestRefused(400, "invalid_http", "The request has several Origin headers.")
            self._has_origin = True
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise RequestRefused(400, "invalid_http", "The only supported Transfer-Encoding is chunked.")
            self._is_chunked = True
        elif name == b"content-length":
            self._content_length = int(value)  # the parser has checked it
        elif value.lower() == b"100-continue":
            self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        """Check what is wrong with the headers as a whole, and start the application."""
        self.headers_started = None
        if len(self.url) > MAX_TARGET_BYTES:
            raise RequestRefused(414, "uri_too_long", f"The request's target has more than {MAX_TARGET_BYTES} bytes.")
        if self._slices != self._first_slice:
            self._check_head_size()
        version, method = self.parser.get_http_version(), self.parser.get_method()
        if version not in _VERSIONS:
            raise RequestRefused(400, "invalid_http", "The HTTP version must be 1.1 or 1.0.")
        if version == "1.1" and self._host is None:
            raise RequestRefused(400, "invalid_http", "The request has no Host header.")
        if version == "1.0" and self._is_chunked:
            raise RequestRefused(400, "invalid_http", "HTTP/1.0 has no Transfer-Encoding.")
        if method == b"CONNECT":
            allow = (b"allow", b"GET, HEAD, POST, DELETE, OPTIONS")
            raise RequestRefused(405, "method_not_allowed", "This server is no proxy.", allow)
        if not self.url.startswith(b"/"):
            self._check_target()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise PipelineFull
        self._head_complete, self._stored_bytes = True, 0
        if self.parser.should_upgrade():
            self._ignoring_upgrade = True
            return
        super().on_headers_complete()
        self._keep_alive = self.cycle.keep_alive
        if self._is_chunked or self._content_length > MAX_REST_BYTES:
            self.cycle.keep_alive = False
        if not self.pipeline or self.pipeline[0][0] is not self.cycle:
            self._running = self.cycle

    def _check_target(self) -> None:
        """Refuse a target that is a whole URL of another host: a proxy and we might see different hosts."""
        if self.url == b"*":
            return
        authority, slash, _ = self.url.partition(b"://")[2].partition(b"/")
        if not slash or (self._host is not None and authority.lower() != self._host.lower()):
            raise RequestRefused(400, "invalid_http", "The request's target is a URL of another host, or has no path.")

    def _check_head_size(self) -> None:
        """Refuse headers of several slices that together are too long: the last slice is not counted as yet."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            raise RequestRefused(431, "headers_too_large", f"The headers have more than {MAX_HEAD_BYTES} bytes.")

    def on_body(self, body: bytes) -> None:
        """Count and store a part of the body."""
        self._stored_bytes -= len(body) + CHUNK_BYTES
        self._body_bytes += len(body)
        self._chunks += 1
        self._callbacks += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Record that the request is complete."""
        if self._ignoring_upgrade:
            return
        self._message_complete = True
        self._stored_bytes = 0
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keep_alive
        super().on_message_complete()

    # -- replies -----------------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Start the next pipelined request, or send the refusal that waited for this response."""
        if self._lingers:
            self.server_state.total_requests += 1
            return
        following = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        self._running = following
        if following is None and self._pending_refusal is not None and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._send_refusal(self._pending_refusal)

    def _refuse(self, refusal: RequestRefused) -> None:
        """Answer the request that is being parsed with an error, after all earlier ones, and close the connection."""
        self._refused = True
        if isinstance(refusal, PipelineFull):
            # The client sees at the last reply that the following requests were not accepted.
            self.pipeline[0][0].keep_alive = False
            return
        cycle, running = self.cycle, self._running
        in_body = self._head_complete and not self._message_complete
        if running is None or running.response_complete:
            self._send_refusal(refusal)
        elif not in_body:
            self._pending_refusal = refusal
        elif cycle is not running:
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else running
            self._pending_refusal = refusal
        elif cycle.response_started:
            cycle.keep_alive = False
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self._send_refusal(refusal)

    def _send_refusal(self, refusal: RequestRefused) -> None:
        self._pending_refusal = None
        if self.transport.is_closing():
            return
        if self._limit is not None:
            self._limit.on_refusal(refusal.status)
        ACCESS.info("- - %s", refusal.status, extra={"code": refusal.code})
        self.transport.write(refusal.reply(self.server_state.default_headers))
        self._linger()

    # -- the end -----------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Close the connection; after an early reply, not before the client had time to read it."""
        cycle, early = self._running, self._refused or not self._message_complete
        answered = cycle is not None and cycle.response_complete and not cycle.keep_alive
        if early and answered and not self._lingers and not self.transport.is_closing():
            self._linger()
        else:
            self._close_now()

    def _close_now(self) -> None:
        self.transport.close_now()  # type: ignore[attr-defined]

    def _linger(self) -> None:
        """Write nothing further, and discard what arrives for a while."""
        self._refused = self._lingers = True
        self.pipeline.clear()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.pause_reading()
        self._discards.wait(self)
        self.loop.call_later(LINGER_SECONDS, self._end_lingering)

    def _end_lingering(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self._close_now()

    def _discard(self, size: int) -> None:
        """Drop bytes, and read no further ones before it is this connection's turn."""
        self._discards.count(size)
        if not self.flow.read_paused and not self.transport.is_closing():
            self.flow.pause_reading()
            if self._lingers:
                self._discards.wait(self)

    def read_once(self) -> bool:
        """Read one packet to discard it; return False if the connection is closed."""
        if self.transport.is_closing():
            return False
        self.flow.resume_reading()
        return True

    def shutdown(self) -> None:
        """Close the connection, or let the reply in progress do so."""
        self._keep_alive = False
        super().shutdown()

    # -- what the sweep looks at -------------------------------------------------------------------------------------

    @property
    def working(self) -> bool:
        """Whether a request is in progress."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def pending_bytes(self) -> int:
        """Bytes of replies that the kernel has not taken yet."""
        return self.transport.get_write_buffer_size()

    def in_use(self, now: float) -> bool:
        """Return whether a request is in progress, a reply is being sent, or the client has just sent something."""
        return self.working or now - self.last_received < RECENT or self.pending_bytes > 0

    def overdue(self, now: float) -> bool:
        """Return whether no request is in progress, and the client has been silent or slow for too long."""
        if self.working:
            return False
        silent = self.opened is not None and now - self.opened > self.timeout_keep_alive
        return silent or (self.headers_started is not None and now - self.headers_started > HEADER_SECONDS)

    def rest_overdue(self, now: float) -> bool:
        """Return whether the client is still sending the body of a request that was answered a while ago."""
        if self._message_complete or not self._head_complete or self.working:
            self._rest_since = None
        elif self._rest_since is None:
            self._rest_since = now
        return self._rest_since is not None and now - self._rest_since > REST_SECONDS

    def unread(self, now: float) -> bool:
        """Return whether the client reads its replies too slowly, or not at all."""
        pending = self.pending_bytes
        if not pending:
            self._reply_mark = None
            return False
        sent = self.transport.written - pending  # type: ignore[attr-defined]
        if self._reply_mark is None:
            self._reply_mark = now, sent
            return False
        seconds, bytes_sent = now - self._reply_mark[0], sent - self._reply_mark[1]
        if seconds < REPLY_RATE_SECONDS:
            return False
        self._reply_mark = now, sent
        return bytes_sent < MIN_REPLY_RATE * seconds
