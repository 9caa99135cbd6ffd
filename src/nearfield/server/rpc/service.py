"""Calls: how gRPC calls are answered: keys, limits, streams, and what is told of each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

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
from nearfield.server.dialects.tei.routes import TeiDialect, headers
from nearfield.server.exchange import Exchange
from nearfield.server.http.request_context import RequestContext
from nearfield.server.http.responses import LARGE, exchange_headers
from nearfield.server.logs import ACCESS, REQUEST_ID, request_id_of
from nearfield.server.rpc.deadline import Deadline
from nearfield.server.rpc.errors import GrpcError
from nearfield.server.rpc.request_reader import RequestReader
from nearfield.server.rpc.tei import PACKAGE, Method, methods

if TYPE_CHECKING:
    from nearfield.server.server_state import ServerState

Code = grpc.StatusCode
#: Errors that waiting inside a stream does not help against, though they are kinds of ``Overloaded``.
_LASTING = (RateLimited, ModelUnavailable, DeadlineExceeded)


@dataclass(eq=False)
class CallState:
    """One call on its way: who asks, what for, and what was done for it so far."""

    path: str
    method: Method
    context: Any
    inbox: RequestReader
    #: What middleware and traces know of a request: gRPC is HTTP/2, and its calls are POSTs.
    scope: dict[str, Any]
    key: ApiKey = ANONYMOUS
    call: RequestContext | None = None
    #: The last message's.
    exchange: Exchange | None = None
    messages: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, exchange: Exchange) -> None:
        """Add what a message cost."""
        done = {"inputs": exchange.size, "tokens": exchange.tokens, "truncated": exchange.dropped}
        self.counts = {name: self.counts.get(name, 0) + number for name, number in done.items()}


class GrpcService:
    """Answers the calls to all methods of TEI's gRPC API."""

    def __init__(self, server: ServerState, scheme: str = "http") -> None:
        self.server = server
        self._scheme = scheme
        #: Those that are not answered in full yet, and when the last one came.
        self.open: set[CallState] = set()
        self.last = 0.0
        #: Whether the server is stopping, and whether it refuses new ones by now.
        self.stopping = False
        self.closed = False

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Return what a gRPC server asks for each service's methods.

        All are taken for streams of bytes, whatever they are: a message is then read only once its sender's key is
        known, and it is the same to the client.
        """
        found = []
        for service, known in methods().items():
            answers = {}
            for name, method in known.items():
                path = f"/{PACKAGE}.{service}/{name}"
                self.server.route_templates[path] = path
                answers[name] = grpc.stream_stream_rpc_method_handler(partial(self._handle, path, method))
            found.append(grpc.method_handlers_generic_handler(f"{PACKAGE}.{service}", answers))
        return found

    def hurry(self) -> None:
        """Wait for no client that leaves its messages unsent."""
        self.stopping = True
        for turn in self.open:
            turn.inbox.hurry()

    # -- one call ------------------------------------------------------------------------------------------------

    async def _handle(self, path: str, method: Method, _: Any, context: Any) -> None:
        turn = CallState(path, method, context, RequestReader(context), self._scope(path, context))
        self.last = time.monotonic()
        self.open.add(turn)
        if self.stopping:
            turn.inbox.hurry()
        context.add_done_callback(lambda _: self.open.discard(turn))
        REQUEST_ID.set(turn.scope["state"]["request_id"])
        refusal, gone = None, GrpcError(Code.CANCELLED, "", Cancelled.status)
        try:
            await self._answer(turn)
        except (asyncio.CancelledError, grpc.aio.BaseError):
            refusal = gone  # nobody is left to read it
            raise
        except Exception as error:  # noqa: BLE001 - what a client is told of it is written here alone
            refusal = GrpcError.of(error)
        finally:
            self._record(turn, refusal)
        if refusal is not None:
            about = ("x-request-id", turn.scope["state"]["request_id"])
            await context.abort(refusal.code, refusal.message, (about, *refusal.metadata))

    def _scope(self, path: str, context: Any) -> dict[str, Any]:
        given = [(name.encode(), _bytes(value)) for name, value in context.invocation_metadata()]
        scope: dict[str, Any] = {"type": "http", "method": "POST", "scheme": self._scheme, "http_version": "2"}
        scope |= {"path": path, "endpoint": path, "headers": given}
        return scope | {"state": {"request_id": request_id_of(scope), "started": time.perf_counter()}}

    async def _answer(self, turn: CallState) -> None:
        server, method = self.server, turn.method
        if self.closed:
            raise ShuttingDown("The server is stopping and takes no more calls.")
        given = {name.decode(): value.decode("latin-1") for name, value in turn.scope["headers"]}
        turn.key = server.authenticate(given.get("authorization"), _host(turn.context.peer()), {})
        server.authorize(turn.key, method.route)
        turn.call = RequestContext(
            server.models,
            given,
            query={"model": given["x-model"]} if given.get("x-model") else {},
            request_id=turn.scope["state"]["request_id"],
            limits=server.limits,
            token_ids=server.token_ids,
            allowed=turn.key.allows,
        )
        if not method.many:
            await self._reply(turn, await self._only(turn))
        elif method.each:
            await self._each(turn)
        else:
            await self._reply(turn, await self._together(turn))

    async def _reply(self, turn: CallState, answer: bytes) -> None:
        """Send the one answer, and before it what else is told of it: the same headers as over HTTP."""
        exchange, told = turn.exchange, {"x-request-id": turn.scope["state"]["request_id"]}
        if exchange is not None:
            told |= exchange_headers(exchange)
            told |= headers(exchange) if "characters" in exchange.reply else {}
        await turn.context.send_initial_metadata(tuple(told.items()))
        await turn.context.write(answer)

    async def _only(self, turn: CallState) -> bytes:
        """Answer a call of one message."""
        data = await turn.inbox.read(self._seconds(turn))
        if data is None:
            raise InputError("The call came without a message.")
        return await self._work(turn, data)

    async def _together(self, turn: CallState) -> bytes:
        """Answer a call whose messages have one answer."""
        limits, until = self.server.limits, time.monotonic() + self._seconds(turn)
        messages: list[Any] = []
        with self.server.body_budget.open_body() as body:
            while (data := await turn.inbox.read(max(0.001, until - time.monotonic()))) is not None:
                body.reserve(len(data))
                if len(messages) == limits.items:
                    raise TooLarge(f"More than {limits.items} texts in one stream. Send them in parts.")
                messages.append(turn.method.parse(data))
            with Deadline(self._seconds(turn)) as deadline:
                return await self._do(turn, turn.method.gather(messages, self._call(turn)), deadline)

    async def _each(self, turn: CallState) -> None:
        """Answer the messages of a stream in their order, many at work at a time; the first that fails ends it."""
        await turn.context.send_initial_metadata((("x-request-id", turn.scope["state"]["request_id"]),))
        line: asyncio.Queue[tuple[bytes, asyncio.Future[bytes]] | None] = asyncio.Queue()
        working: set[asyncio.Future[Any]] = set()
        reader = asyncio.ensure_future(self._take(turn, line, working))
        try:
            while (waiting := await line.get()) is not None:
                data, answer = waiting
                await turn.context.write(await answer)
                working.discard(answer)
                turn.inbox.release(data)
        finally:
            await _drop({reader, *working})

    async def _take(self, turn: CallState, line: asyncio.Queue[Any], working: set[asyncio.Future[Any]]) -> None:
        """Put the messages of a stream to work, and in line for their answers; what goes wrong stands in line, too."""
        try:
            while (data := await turn.inbox.read()) is not None:
                turn.key.check_rate()
                turn.inbox.hold(data)
                task = asyncio.ensure_future(self._work(turn, data))
                working.add(task)
                line.put_nowait((data, task))
        except Exception as error:  # noqa: BLE001 - it is raised where its turn comes
            failed = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            working.add(failed)
            line.put_nowait((b"", failed))
        else:
            line.put_nowait(None)

    # -- one message -----------------------------------------------------------------------------------------------

    async def _work(self, turn: CallState, data: bytes) -> bytes:
        turn.messages += 1
        bulk = turn.messages > self.server.limits.bulk_items
        with self.server.body_budget.open_body() as body, Deadline(self._seconds(turn)) as deadline:
            body.reserve(len(data))
            return await self._do(turn, turn.method.read(data, self._call(turn)), deadline, bulk)

    async def _do(self, turn: CallState, reading: Awaitable[Any], deadline: Deadline, bulk: bool = False) -> bytes:
        """Have the work done that is being read from a message, write its answer, and count it."""
        exchange, failure, started = None, None, time.perf_counter()
        try:
            asked = await reading
            if not isinstance(asked, Exchange):
                return turn.method.answer(asked)
            turn.exchange = exchange = asked
            await self._perform(turn, exchange, deadline, bulk)
            return await self._write(turn, exchange)
        except (Exception, asyncio.CancelledError) as error:
            failure = type(error) if isinstance(error, Exception) else Cancelled
            raise
        finally:
            if exchange is not None:
                turn.count(exchange)
            if turn.method.route.request_type is not None:
                self.server.prometheus.ended(exchange, failure, time.perf_counter() - started)

    async def _write(self, turn: CallState, asked: Exchange) -> bytes:
        started = time.perf_counter()
        large = asked.numbers > LARGE
        answer = await asyncio.to_thread(turn.method.answer, asked) if large else turn.method.answer(asked)
        asked.seconds["reply"] = time.perf_counter() - started
        if asked.description is not None:
            self.server.prometheus.stage(asked.description.name, "reply", asked.seconds["reply"])
        return answer

    async def _perform(self, turn: CallState, exchange: Exchange, deadline: Deadline, bulk: bool) -> None:
        """Do it; a message of a stream waits for room in the queue while it has time: its stream would end."""
        while True:
            try:
                return await self.server.perform(exchange, turn.key, deadline.left, bulk=bulk)
            except Overloaded as error:
                patient = turn.method.many and turn.method.each and not isinstance(error, _LASTING)
                if not patient or error.retry_after >= deadline.left:
                    raise
                await asyncio.sleep(error.retry_after)

    def _seconds(self, turn: CallState) -> float:
        """Return the time that a message has: a request's, or what the client's own deadline leaves."""
        left = turn.context.time_remaining()
        return self.server.limits.seconds if left is None else max(0.001, min(self.server.limits.seconds, left))

    def _call(self, turn: CallState) -> RequestContext:
        if turn.call is None:
            raise RuntimeError("a message is read once its sender is known")
        return turn.call

    # -- what is told of it ------------------------------------------------------------------------------------------

    def _record(self, turn: CallState, refusal: GrpcError | None) -> None:
        """Count, trace and log a call that has ended."""
        state, server, exchange = turn.scope["state"], self.server, turn.exchange
        seconds = time.perf_counter() - state["started"]
        log: dict[str, Any] = {"key": turn.key.name} if turn.key.digest else {}
        if exchange is not None:
            log["model"] = exchange.description.name if exchange.description is not None else "unknown"
            log |= {name: number for name, number in turn.counts.items() if number or name != "truncated"}
        state["log"] = log | ({"messages": turn.messages} if turn.method.many and turn.method.each else {})
        if server.traces is not None:
            server.traces.note(turn.scope, TeiDialect.name, exchange)
        server.count_response(turn.scope, refusal.status if refusal is not None else 200, seconds)
        if ACCESS.isEnabledFor(logging.INFO):
            code = refusal.code if refusal is not None else Code.OK
            fields: dict[str, object] = {"ms": round(seconds * 1e3, 2), "request_id": state["request_id"]}
            ACCESS.info("GRPC %s %s", turn.path, code.name, extra=fields | state["log"])


async def _drop(tasks: set[asyncio.Future[Any]]) -> None:
    """End what is still being done: nobody waits for it any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "replace")


def _host(peer: str) -> str:
    """Return the address of a peer such as ``ipv4:127.0.0.1:5000`` or ``ipv6:%5B::1%5D:5000``."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")
