"""Forwarding: a request is sent to a back-end, and once more to another where that can give no wrong result.

What is repeated:

- a request that was not sent (no connection), whatever it does;
- a request that can be repeated, on a new connection, if an idle one was lost before any byte of the reply;
- a request that gives the same result anywhere, if the back-end broke the connection, answered what is no reply of a
  Nearfield server, did not answer in time, or replied with 500, 502 or 503, and nothing was passed on to the client.

A reply of up to `MAX_BUFFERED_BYTES` is read as a whole before the client gets any of it, so that a back-end that dies
within it costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Message, Scope

from nearfield.cluster.router import headers as header_rules
from nearfield.cluster.router.backends.backend import BackendServer
from nearfield.cluster.router.backends.connection import BackendConnection, BackendFailure, Headers
from nearfield.cluster.router.balancer import Balancer, NoBackend
from nearfield.cluster.router.request_plan import RoutePlan
from nearfield.cluster.router.router_metrics import RouterMetrics
from nearfield.errors import NearfieldError
from nearfield.server.http.reply_budget import ReplyBudget, ReplyShare
from nearfield.server.logs import LOG

#: Replies of at most this many bytes are read as a whole before any of it is passed on.
MAX_BUFFERED_BYTES = 2**20
#: Times that a request may be sent, not counting once on a connection that was idle; and attempts, with those that were
#: not sent.
_MAX_SENT, _MAX_ATTEMPTS = 2, 4
#: Replies after which a request is repeated elsewhere.
_REPEATED_STATUSES = frozenset({500, 502, 503})
#: Seconds for which a streamed reply may pause. An answer of a chat model may begin late.
_PAUSE_SECONDS = 180.0
Receive = Callable[[], Awaitable[Message]]


class BackendTimeout(NearfieldError):
    """No back-end answered in time."""

    status = 504
    code = "backend_timeout"


@dataclass(eq=False)
class RoutedRequest:
    """A request with what the router knows of it."""

    scope: Scope
    plan: RoutePlan
    model: str | None
    #: About how many tokens it has.
    tokens: int
    #: Whose share of the memory its reply takes.
    owner: str
    body: bytes | bytearray = b""
    #: Receives the parts of a body that is streamed; ``body`` is empty then.
    stream: Receive | None = None
    #: Bytes of a streamed body, if its client states them.
    stream_size: int | None = None

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent twice."""
        return self.plan.kind in ("repeatable", "merged") and self.stream is None

    def head(self) -> bytes:
        """Return the head that is sent to the back-end."""
        size = len(self.body) if self.stream is None else self.stream_size
        return header_rules.request_head(self.scope, size)


@dataclass(eq=False)
class BackendReply:
    """The reply of a back-end: status, headers, the parts that were read, and how to read the others.

    Call ``close`` when it is passed on, or given up.
    """

    backend: BackendServer
    status: int
    headers: Headers
    connection: BackendConnection
    parts: list[bytes] = field(default_factory=list)
    complete: bool = False
    share: ReplyShare | None = None
    #: Called once, by ``close``.
    on_close: list[Callable[[], Any]] = field(default_factory=list)

    async def read(self, max_bytes: int) -> None:
        """Read parts until the end, or until there are more than ``max_bytes``.

        Raises:
            BackendFailure: the reply is incomplete, or did not arrive in time.
        """
        size = sum(map(len, self.parts))
        while not self.complete and size <= max_bytes:
            part = await self.connection.read_part()
            self.complete = not part
            size += len(part)
            self.parts += [part] if part else []

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield all parts.

        Raises:
            BackendFailure: the reply is incomplete.
        """
        while self.parts:
            yield self.parts.pop(0)
        while not self.complete:
            self.connection.expect_within(_PAUSE_SECONDS)
            part = await self.connection.read_part()
            self.complete = not part
            if part:
                yield part

    def close(self) -> None:
        """Release the connection and the memory."""
        while self.on_close:
            self.on_close.pop()()
        if self.share is not None:
            self.share.release()


@dataclass(eq=False)
class _Attempts:
    """What was tried for one request."""

    tried: list[BackendServer] = field(default_factory=list)
    count: int = 0
    sent: int = 0
    #: Whether the next connection must be a new one, and whether the last one was.
    fresh: bool = False
    is_new: bool = False
    failure: BackendFailure | None = None
    #: A reply with an error, which is passed on unless another back-end has a better one.
    reply: BackendReply | None = None


class Forwarder:
    """Sends requests to back-ends.

    Args:
        balancer: chooses them.
        metrics: counts.
        reply_budget: the memory of replies that are read as a whole.
        reply_seconds: seconds within which a back-end must answer.
    """

    def __init__(
        self, balancer: Balancer, metrics: RouterMetrics, reply_budget: ReplyBudget, reply_seconds: float
    ) -> None:
        self._balancer = balancer
        self._metrics = metrics
        self._reply_budget = reply_budget
        self._reply_seconds = reply_seconds

    async def forward(self, request: RoutedRequest) -> BackendReply:
        """Return the reply of a back-end; call its ``close``.

        Raises:
            NoBackend, NoHome: there is no back-end for it.
            BackendFailure: the back-ends that were tried failed, and it may not be sent again.
            BackendTimeout: none answered in time.
        """
        attempts = _Attempts(fresh=not request.repeatable)
        try:
            while True:
                backend = self._next(request, attempts)
                if backend is None:
                    return self._give_up(attempts)
                reply = await self._try(request, backend, attempts)
                if reply is not None:
                    return reply
        except BaseException:
            if attempts.reply is not None:
                attempts.reply.close()
            raise

    async def ask(self, request: RoutedRequest, backend: BackendServer) -> BackendReply:
        """Return the reply of one back-end, without a second attempt; call its ``close``.

        Raises:
            BackendFailure: it does not answer.
        """
        return await self._send(request, backend, _Attempts(fresh=True))

    def _next(self, request: RoutedRequest, attempts: _Attempts) -> BackendServer | None:
        """Return the back-end for the next attempt; None if there is none after a first one."""
        exhausted = attempts.count >= _MAX_ATTEMPTS or attempts.sent >= (_MAX_SENT if request.repeatable else 1)
        if exhausted:
            return None
        try:
            if request.plan.kind == "home":
                return self._balancer.choose_home()
            return self._balancer.choose(request.model, attempts.tried)
        except NoBackend:
            if not attempts.count:
                raise
            return None

    def _give_up(self, attempts: _Attempts) -> BackendReply:
        reply, attempts.reply = attempts.reply, None
        if reply is not None:
            return reply
        failure = attempts.failure or BackendFailure("No server could be reached.")
        if failure.timed_out:
            raise BackendTimeout(f"{failure} Try again later.")
        raise BackendFailure(f"{failure} The request was not repeated; try again.", sent=failure.sent)

    async def _try(self, request: RoutedRequest, backend: BackendServer, attempts: _Attempts) -> BackendReply | None:
        """Return the reply of a back-end, or None if the next one should be tried."""
        attempts.count += 1
        try:
            reply = await self._send(request, backend, attempts)
        except BackendFailure as failure:
            attempts.failure = failure
            self._on_failure(request, backend, attempts, failure)
            return None
        if reply.status in _REPEATED_STATUSES and request.repeatable and attempts.reply is None:
            attempts.reply = reply
            attempts.tried.append(backend)
            self._metrics.retried("status")
            return None
        backend.detector.record_success()
        self._judge_first(attempts, reply)
        return reply

    def _judge_first(self, attempts: _Attempts, reply: BackendReply) -> None:
        """Count the error of the first back-end as its failure if another back-end answered the same request."""
        first, attempts.reply = attempts.reply, None
        if first is None:
            return
        first.close()
        if reply.status not in _REPEATED_STATUSES:
            self._record_failure(first.backend, f"status {first.status}")

    def _on_failure(
        self, request: RoutedRequest, backend: BackendServer, attempts: _Attempts, failure: BackendFailure
    ) -> None:
        stale = request.repeatable and not attempts.is_new and not failure.received and backend.available
        if failure.sent and stale and not failure.timed_out:
            # It may have closed an idle connection as this request was sent. All further connections are new.
            attempts.fresh = True
            self._metrics.retried("stale")
            return
        attempts.sent += failure.sent
        attempts.tried.append(backend)
        if not failure.sent:
            backend.record_miss(str(failure), refused=True)
        self._record_failure(backend, str(failure))
        self._metrics.retried("failed" if failure.sent else "unreachable")

    def _record_failure(self, backend: BackendServer, reason: str) -> None:
        self._metrics.failed(backend)
        if backend.detector.record_failure():
            seconds = backend.detector.ejected_seconds
            LOG.warning("back-end %s is ejected for %.0f s: %s", backend.name, seconds, reason)

    # -- one attempt -----------------------------------------------------------------------------------------------

    async def _send(self, request: RoutedRequest, backend: BackendServer, attempts: _Attempts) -> BackendReply:
        """Send a request on one connection, and return its reply, read as far as it is buffered."""
        counted = backend.work(request.tokens)
        counted.__enter__()
        closing: list[Callable[[], Any]] = [lambda: counted.__exit__(None, None, None)]
        reply = None
        try:
            connection = await backend.pool.acquire(fresh=attempts.fresh)
            closing.append(lambda: backend.pool.release(connection))
            attempts.is_new = connection.uses == 0
            reply = await self._read_reply(request, backend, connection)
            return reply
        finally:
            if reply is None:
                while closing:
                    closing.pop()()
            else:
                reply.on_close = closing

    async def _read_reply(
        self, request: RoutedRequest, backend: BackendServer, connection: BackendConnection
    ) -> BackendReply:
        if not request.repeatable:
            return await self._exchange(request, backend, connection)
        with backend.replaceable(connection):
            return await self._exchange(request, backend, connection)

    async def _exchange(
        self, request: RoutedRequest, backend: BackendServer, connection: BackendConnection
    ) -> BackendReply:
        connection.send(request.head(), request.body, bodiless=request.scope["method"] == "HEAD")
        seconds = max(self._reply_seconds, _PAUSE_SECONDS) if request.plan.kind == "home" else self._reply_seconds
        if request.stream is not None:
            status, headers = await _send_stream(request, connection, seconds)
        else:
            connection.expect_within(seconds)
            status, headers = await connection.read_head()
        if status < 300 and not header_rules.has_header(
            headers, b"x-request-id", header_rules.request_id(request.scope)
        ):
            raise BackendFailure("The reply is not that of a Nearfield server: it has no X-Request-Id.", received=True)
        reply = BackendReply(backend, status, headers, connection)
        connection.expect_within(None)
        if request.repeatable or status >= 500:
            await self._buffer(request, reply, seconds)
        return reply

    async def _buffer(self, request: RoutedRequest, reply: BackendReply, seconds: float) -> None:
        """Read a reply that is not too long as a whole, once there is memory for it."""
        size = header_rules.content_length(reply.headers)
        if size is not None and size > MAX_BUFFERED_BYTES:
            return
        share = await self._reply_budget.reserve(request.owner, MAX_BUFFERED_BYTES if size is None else size)
        try:
            reply.connection.expect_within(seconds)
            await reply.read(MAX_BUFFERED_BYTES)
            reply.connection.expect_within(None)
        except BaseException:
            if share is not None:
                share.release()
            raise
        reply.share = share


async def _send_stream(request: RoutedRequest, connection: BackendConnection, seconds: float) -> tuple[int, Headers]:
    """Pass the parts of a body on as they arrive; the reply follows within ``seconds``. An early reply ends it."""
    sending = asyncio.ensure_future(_send_parts(request, connection))
    reading = asyncio.ensure_future(connection.read_head())
    try:
        await asyncio.wait([sending, reading], return_when=asyncio.FIRST_COMPLETED)
        if sending.done() and not reading.done():
            sending.result()
        connection.expect_within(seconds)
        return await reading
    finally:
        sending.cancel()
        reading.cancel()
        outcome, _ = await asyncio.gather(sending, reading, return_exceptions=True)
        if outcome is not None:
            connection.retire()


async def _send_parts(request: RoutedRequest, connection: BackendConnection) -> None:
    if request.stream is None:
        return
    more, chunked = True, request.stream_size is None
    while more:
        message = await request.stream()
        if message["type"] == "http.disconnect":
            raise BackendFailure("The client disconnected before its request was complete.")
        part, more = message.get("body", b""), message.get("more_body", False)
        if part:
            await connection.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
    if chunked:
        await connection.write(b"0\r\n\r\n")
