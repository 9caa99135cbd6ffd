"""Answer gRPC calls: keys, limits, streams, access log, metrics and traces."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc.aio

from nearfield.errors import (
    Cancelled,
    DeadlineExceeded,
    InputError,
    ModelUnavailable,
    Overloaded,
    RateLimited,
    ShuttingDown,
    TooLarge,
)
from nearfield.server.auth.api_key import ANONYMOUS, ApiKey
from nearfield.server.auth.owner import LOCAL, enter_request
from nearfield.server.dialects.tei.responses import compute_headers
from nearfield.server.dialects.tei.routes import TeiDialect
from nearfield.server.exchange import Exchange
from nearfield.server.http.content_bounds import LARGE_BODY
from nearfield.server.http.request_context import RequestContext
from nearfield.server.http.responses import LARGE, exchange_headers
from nearfield.server.logs import ACCESS, REQUEST_ID, request_id_of
from nearfield.server.rpc.call_limits import ActiveConnections, address_of
from nearfield.server.rpc.deadline import Deadline
from nearfield.server.rpc.errors import GrpcError
from nearfield.server.rpc.request_reader import RequestReader
from nearfield.server.rpc.tei import PACKAGE, Method, methods

if TYPE_CHECKING:
    from nearfield.server.server_state import ServerState

Code = grpc.StatusCode
#: Kinds of ``Overloaded`` for which waiting inside a stream does not help.
_LASTING = (RateLimited, ModelUnavailable, DeadlineExceeded)


@dataclass(eq=False)
class CallState:
    """The state of one call: client, method, and the work done so far."""

    path: str
    method: Method
    context: Any
    reader: RequestReader
    #: The ASGI scope that middleware and traces read: gRPC is HTTP/2, and its calls are POSTs.
    scope: dict[str, Any]
    key: ApiKey = ANONYMOUS
    #: The owner of the costs.
    owner: str = LOCAL
    call: RequestContext | None = None
    #: The exchange of the last message.
    exchange: Exchange | None = None
    messages: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, exchange: Exchange) -> None:
        """Add the counts of a message."""
        done = {"inputs": exchange.size, "tokens": exchange.tokens, "truncated": exchange.dropped}
        self.counts = {name: self.counts.get(name, 0) + number for name, number in done.items()}


class GrpcService:
    """Answers the calls to all methods of TEI's gRPC API."""

    def __init__(self, server: ServerState, scheme: str = "http") -> None:
        self.server = server
        self._scheme = scheme
        #: Calls that are not finished, and the time of the last one.
        self.open: set[CallState] = set()
        #: Connections that have calls.
        self.connections = ActiveConnections()
        self.last = 0.0
        #: Whether the server is stopping, and whether it refuses new calls already.
        self.stopping = False
        self.closed = False

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Return the handlers of each service's methods.

        All methods are registered as streams of bytes, so that a message is read only after its key was checked; for
        the client this makes no difference.
        """
        handlers = []
        for service, known in methods().items():
            answers = {}
            for name, method in known.items():
                path = f"/{PACKAGE}.{service}/{name}"
                self.server.route_templates[path] = path
                answers[name] = grpc.stream_stream_rpc_method_handler(partial(self._handle, path, method))
            handlers.append(grpc.method_handlers_generic_handler(f"{PACKAGE}.{service}", answers))
        return handlers

    def hurry(self) -> None:
        """Stop waiting for clients that do not send their messages."""
        self.stopping = True
        for state in self.open:
            state.reader.hurry()

    # -- one call ------------------------------------------------------------------------------------------------

    async def _handle(self, path: str, method: Method, _: Any, context: Any) -> None:
        peer = context.peer()
        if not self.connections.enter(peer):
            await context.abort(Code.RESOURCE_EXHAUSTED, "Your address has too many connections.")
        context.add_done_callback(lambda _: self.connections.leave(peer))
        state = CallState(path, method, context, RequestReader(context), self._scope(path, context))
        self.last = time.monotonic()
        self.open.add(state)
        if self.stopping:
            state.reader.hurry()
        context.add_done_callback(lambda _: self.open.discard(state))
        REQUEST_ID.set(state.scope["state"]["request_id"])
        refusal, gone = None, GrpcError(Code.CANCELLED, "", Cancelled.status)
        try:
            await self._answer(state)
        except (asyncio.CancelledError, grpc.aio.BaseError):
            refusal = gone  # the client has gone
            raise
        except Exception as error:  # noqa: BLE001 - every error becomes a status here
            refusal = GrpcError.from_error(error)
        finally:
            self._record(state, refusal)
        if refusal is not None:
            about = ("x-request-id", state.scope["state"]["request_id"])
            await context.abort(refusal.code, refusal.message, (about, *refusal.metadata))

    def _scope(self, path: str, context: Any) -> dict[str, Any]:
        request_headers = [(name.encode(), _bytes(value)) for name, value in context.invocation_metadata()]
        scope: dict[str, Any] = {"type": "http", "method": "POST", "scheme": self._scheme, "http_version": "2"}
        scope |= {"path": path, "endpoint": path, "headers": request_headers}
        return scope | {"state": {"request_id": request_id_of(scope), "started": time.perf_counter()}}

    async def _answer(self, state: CallState) -> None:
        server, method = self.server, state.method
        if self.closed:
            raise ShuttingDown("The server is stopping and takes no more calls.")
        request_headers = {name.decode(): value.decode("latin-1") for name, value in state.scope["headers"]}
        state.key = server.authenticate(request_headers.get("authorization"), address_of(state.context.peer()), {})
        server.authorize(state.key, method.route)
        state.owner = enter_request(state.key, address_of(state.context.peer()) or None)
        state.call = RequestContext(
            server.models,
            request_headers,
            query={"model": request_headers["x-model"]} if request_headers.get("x-model") else {},
            request_id=state.scope["state"]["request_id"],
            limits=server.limits,
            token_ids=server.token_ids,
            allowed=state.key.allows,
        )
        if not method.many:
            await self._reply(state, await self._answer_one(state))
        elif method.per_message:
            await self._answer_each(state)
        else:
            await self._reply(state, await self._answer_all(state))

    async def _reply(self, state: CallState, answer: bytes) -> None:
        """Send the one answer, preceded by the same headers as over HTTP."""
        exchange, metadata = state.exchange, {"x-request-id": state.scope["state"]["request_id"]}
        if exchange is not None:
            metadata |= exchange_headers(exchange)
            metadata |= compute_headers(exchange) if "characters" in exchange.reply_options else {}
        await state.context.send_initial_metadata(tuple(metadata.items()))
        await state.context.write(answer)

    async def _answer_one(self, state: CallState) -> bytes:
        """Answer a call of one message."""
        data = await state.reader.read(self._seconds(state))
        if data is None:
            raise InputError("The call came without a message.")
        return await self._work(state, data)

    async def _answer_all(self, state: CallState) -> bytes:
        """Answer a call whose messages have one answer."""
        limits, until = self.server.limits, time.monotonic() + self._seconds(state)
        messages: list[Any] = []
        with self.server.body_budget.open_body(state.owner) as body:
            while (data := await state.reader.read(max(0.001, until - time.monotonic()))) is not None:
                body.reserve(len(data))
                if len(messages) == limits.items:
                    raise TooLarge(f"More than {limits.items} texts in one stream. Send them in parts.")
                if len(data) > LARGE_BODY:
                    check = partial(state.method.check, data, self.server.content_bounds)
                    await self.server.decode_thread.run(state.owner, check)
                messages.append(state.method.parse(data))
            with Deadline(self._seconds(state)) as deadline:
                return await self._do(state, state.method.gather(messages, self._call(state)), deadline)

    async def _answer_each(self, state: CallState) -> None:
        """Answer the messages of a stream in order, many of them concurrently; the first error ends the stream."""
        await state.context.send_initial_metadata((("x-request-id", state.scope["state"]["request_id"]),))
        answers: asyncio.Queue[tuple[bytes, asyncio.Future[bytes]] | None] = asyncio.Queue()
        working: set[asyncio.Future[Any]] = set()
        reader = asyncio.ensure_future(self._read_messages(state, answers, working))
        try:
            while (waiting := await answers.get()) is not None:
                data, answer = waiting
                await state.context.write(await answer)
                working.discard(answer)
                state.reader.end_work(data)
        finally:
            await _drop({reader, *working})

    async def _read_messages(
        self, state: CallState, answers: asyncio.Queue[Any], working: set[asyncio.Future[Any]]
    ) -> None:
        """Start the work on each message of a stream and queue its answer in order; an error is queued as well."""
        try:
            while (data := await state.reader.read()) is not None:
                state.key.check_rate()
                state.reader.start_work(data)
                task = asyncio.ensure_future(self._work(state, data))
                working.add(task)
                answers.put_nowait((data, task))
        except Exception as error:  # noqa: BLE001 - it is raised in its place in the order
            failed = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            working.add(failed)
            answers.put_nowait((b"", failed))
        else:
            answers.put_nowait(None)

    # -- one message -----------------------------------------------------------------------------------------------

    async def _work(self, state: CallState, data: bytes) -> bytes:
        state.messages += 1
        bulk = state.messages > self.server.limits.bulk_items
        with self.server.body_budget.open_body(state.owner) as body, Deadline(self._seconds(state)) as deadline:
            body.reserve(len(data))
            return await self._do(state, self._read(state, data), deadline, bulk)

    async def _read(self, state: CallState, data: bytes) -> Any:
        """Convert a message to an exchange or an answer; a large one is checked and parsed in a thread."""
        call, server = self._call(state), self.server
        if len(data) > LARGE_BODY:
            in_thread = partial(server.decode_thread.run, state.owner)
            await in_thread(partial(state.method.check, data, server.content_bounds))
            call = replace(call, in_thread=in_thread)
        return await state.method.read(data, call)

    async def _do(self, state: CallState, reading: Awaitable[Any], deadline: Deadline, bulk: bool = False) -> bytes:
        """Perform the exchange that ``reading`` gives, encode its answer, and count it."""
        exchange, failure, started = None, None, time.perf_counter()
        try:
            request = await reading
            if not isinstance(request, Exchange):
                return state.method.answer(request)
            state.exchange = exchange = request
            await self._perform(state, exchange, deadline, bulk)
            return await self._write(state, exchange)
        except (Exception, asyncio.CancelledError) as error:
            failure = type(error) if isinstance(error, Exception) else Cancelled
            raise
        finally:
            if exchange is not None:
                state.count(exchange)
            if state.method.route.request_type is not None:
                self.server.prometheus.ended(exchange, failure, time.perf_counter() - started)

    async def _write(self, state: CallState, exchange: Exchange) -> bytes:
        started = time.perf_counter()
        if exchange.number_count <= LARGE:
            answer = state.method.answer(exchange)
        else:
            answer = await self.server.encode_thread.run(state.owner, partial(state.method.answer, exchange))
        exchange.stage_seconds["reply"] = time.perf_counter() - started
        if exchange.description is not None:
            self.server.prometheus.stage(exchange.description.name, "reply", exchange.stage_seconds["reply"])
        return answer

    async def _perform(self, state: CallState, exchange: Exchange, deadline: Deadline, bulk: bool) -> None:
        """Perform an exchange. In a stream it waits for a full queue, within its deadline; an error ends the stream."""
        while True:
            try:
                return await self.server.perform(exchange, state.key, deadline.left, bulk=bulk)
            except Overloaded as error:
                patient = state.method.many and state.method.per_message and not isinstance(error, _LASTING)
                if not patient or error.retry_after >= deadline.left:
                    raise
                await asyncio.sleep(error.retry_after)

    def _seconds(self, state: CallState) -> float:
        """Return the seconds for a message: the server's limit, or less where the client's deadline is nearer."""
        left = state.context.time_remaining()
        return self.server.limits.seconds if left is None else max(0.001, min(self.server.limits.seconds, left))

    def _call(self, state: CallState) -> RequestContext:
        if state.call is None:
            raise RuntimeError("authenticate the call before reading its messages")
        return state.call

    # -- log and metrics --------------------------------------------------------------------------------------------

    def _record(self, state: CallState, refusal: GrpcError | None) -> None:
        """Count, trace and log a call that has ended."""
        http, server, exchange = state.scope["state"], self.server, state.exchange
        seconds = time.perf_counter() - http["started"]
        log: dict[str, Any] = {"key": state.key.name} if state.key.digest else {}
        if exchange is not None:
            log["model"] = exchange.description.name if exchange.description is not None else "unknown"
            log |= {name: number for name, number in state.counts.items() if number or name != "truncated"}
        http["log"] = log | ({"messages": state.messages} if state.method.many and state.method.per_message else {})
        if server.traces is not None:
            server.traces.record(state.scope, TeiDialect.name, exchange)
        server.count_response(state.scope, refusal.status if refusal is not None else 200, seconds)
        if ACCESS.isEnabledFor(logging.INFO):
            code = refusal.code if refusal is not None else Code.OK
            fields: dict[str, object] = {"ms": round(seconds * 1e3, 2), "request_id": http["request_id"]}
            ACCESS.info("GRPC %s %s", state.path, code.name, extra=fields | http["log"])


async def _drop(tasks: set[asyncio.Future[Any]]) -> None:
    """Cancel the work that is left: the client no longer waits for it."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "replace")
