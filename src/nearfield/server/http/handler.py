"""The life of an HTTP request: authenticate, read the body, choose the route, perform the exchange, respond, record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from nearfield.errors import AccessDenied, Cancelled, InputError, NearfieldError, OutOfMemory, Overloaded
from nearfield.server.auth.api_key import ANONYMOUS, ApiKey
from nearfield.server.auth.owner import address_owner, enter_request, owner_of
from nearfield.server.exchange import Exchange
from nearfield.server.files.upload import MultipartUpload
from nearfield.server.http.deadline import RequestDeadline
from nearfield.server.http.request_body import MAX_SEARCHED_BYTES, MAX_STRANGER_BYTES, RequestBody
from nearfield.server.http.request_context import RequestContext
from nearfield.server.http.responses import (
    error_response,
    estimated_bytes,
    exchange_response,
    out_of_memory,
    reply_response,
    unexpected_error_response,
)
from nearfield.server.http.routing import Endpoint, PathRoutes, RouteCandidate, read_exchange
from nearfield.server.server_state import ServerState

#: Seconds within which the body of a client without a valid key must arrive.
_STRANGER_SECONDS = 5.0
#: Header in which Google's clients send a key.
_GOOGLE_KEY = "x-goog-api-key"
#: Timeout of a file upload in seconds: 200 MB at two megabits a second.
_UPLOAD_SECONDS = 900.0


@dataclass
class RequestState:
    """What is known so far of a request in progress."""

    chosen: RouteCandidate
    #: Address of the client.
    peer: str | None = None
    key: ApiKey = ANONYMOUS
    #: Why the client has no key so far; it may be in the body.
    denied: NearfieldError | None = None
    exchange: Exchange | None = None
    #: Class of the error that ended it. The error itself would keep its whole traceback alive.
    failure: type[Exception] | None = None
    started: float = field(default_factory=time.perf_counter)


class RequestHandler:
    """Handles the HTTP requests of a server."""

    def __init__(self, server: ServerState) -> None:
        self._server = server

    def endpoint(self, routes: PathRoutes) -> Endpoint:
        """Return the endpoint of a path."""

        async def endpoint(request: Request) -> Response:
            state = RequestState(routes.fallback, request.client.host if request.client else None)
            try:
                response = await self._serve(request, routes, state)
            except Cancelled as error:
                state.failure, response = type(error), Response(status_code=error.status)  # the client has gone
            except NearfieldError as error:
                state.failure, response = type(error), error_response(state.chosen.dialect, error)
            except MemoryError as error:
                state.failure, response = OutOfMemory, error_response(state.chosen.dialect, out_of_memory(error))
            except Exception as error:  # noqa: BLE001 - raised further, it would cost the client its connection
                state.failure, response = type(error), unexpected_error_response(state.chosen.dialect, error)
            state.denied = None  # an error keeps its whole traceback alive
            self._record(request, state)
            return response

        return endpoint

    async def _serve(self, request: Request, routes: PathRoutes, state: RequestState) -> Response:
        """Read a request, perform it and return the response; ``state`` keeps what is known if it fails."""
        server = self._server
        upload = state.chosen.route.upload
        seconds = _UPLOAD_SECONDS if upload else server.limits.seconds
        with (
            RequestDeadline(request, seconds, server.pending_bodies) as deadline,
            server.body_budget.open_body() as body,
        ):
            context = self._context(request)
            state.chosen = routes.choose(context)
            self._authenticate(request, state)
            if state.denied is not None:
                if not _reads_without_key(request, routes):
                    raise state.denied
                deadline.require_body_within(_STRANGER_SECONDS)
                searched = state.chosen.route.find_key is not None
                body.belong_to_stranger(
                    address_owner(state.peer), MAX_SEARCHED_BYTES if searched else MAX_STRANGER_BYTES
                )
            else:
                body.belong_to(owner_of(state.key, state.peer))
            if request.scope.get("query_string"):
                context.query = dict(request.query_params)
            if upload:
                context.upload = MultipartUpload(request.headers, deadline.receive)
                return await self._receive_upload(state, context, body)
            if routes.has_body:
                await self._read_body(request, routes, context, state, deadline, body)
            else:
                deadline.watch_for_disconnect()
            route = state.chosen.route
            server.authorize(state.key, route)
            enter_request(state.key, state.peer)
            context.owner, context.allowed = state.key.owner, state.key.allows
            exchange = await read_exchange(route, context)
            if not isinstance(exchange, Exchange):
                return reply_response(exchange)
            state.exchange = exchange
            await server.perform(exchange, state.key, deadline.remaining, reserve=body.reserve)
            server.memory.claim(estimated_bytes(exchange))
            share = await server.reply_budget.reserve(body.owner, estimated_bytes(exchange))
            return await exchange_response(route, exchange, server.prometheus, server.encode_thread, body.owner, share)

    async def _read_body(
        self,
        request: Request,
        routes: PathRoutes,
        context: RequestContext,
        state: RequestState,
        deadline: RequestDeadline,
        body: RequestBody,
    ) -> None:
        """Read and decode the body, and choose the route by it; a large one is decoded in a thread.

        Raises:
            NearfieldError: the body cannot be read, or the client has no key.
        """
        server, route = self._server, state.chosen.route
        try:
            data = await body.read(request.headers, deadline.receive, server.decode_thread)
            deadline.watch_for_disconnect()
            if state.denied is not None and len(data) > MAX_STRANGER_BYTES:
                self._use_body_key(state, body, route.find_key(data) if route.find_key is not None else None)
            decoding = partial(routes.decode, context, data, server.content_bounds)
            if routes.is_large(context, data):
                context.in_thread = partial(server.decode_thread.run, body.owner)
                state.chosen = await context.in_thread(decoding)
            else:
                state.chosen = decoding()
        except (InputError, Overloaded):
            if state.denied is not None and route.body_key is None:
                raise state.denied from None
            raise
        if state.denied is not None:  # only now is the API known whose error it is
            route = state.chosen.route
            self._use_body_key(state, body, route.body_key(context) if route.body_key is not None else None)

    def _context(self, request: Request) -> RequestContext:
        """Return the context without the query, which is parsed once the client is known."""
        scope, server = request.scope, self._server
        return RequestContext(
            server.models,
            request.headers,
            request.path_params,
            request_id=scope["state"].get("request_id", ""),
            limits=server.limits,
            token_ids=server.token_ids,
            scheme=scope.get("scheme", "http"),
            keys=server.keys,
            files=server.files,
            batches=server.batches,
            collections=server.collections,
            job_threads=server.job_threads,
            history=server.history,
            reports=server.reports,
        )

    def _authenticate(self, request: Request, state: RequestState) -> None:
        """Set the key of a request, or why it has none."""
        if state.chosen.route.public:
            return
        try:
            secret = request.headers.get("authorization") or request.headers.get(_GOOGLE_KEY)
            state.key = self._server.authenticate(secret, state.peer, request.headers)
        except NearfieldError as error:
            state.denied = error

    def _use_body_key(self, state: RequestState, body: RequestBody, secret: str | None) -> None:
        """Set the API key that was in the request body, for APIs that send it there.

        Raises:
            AccessDenied: there is none, or it is unknown; or why the client was denied, if that is another error.
            Overloaded: the owner of the key has no memory for the body.
        """
        if state.denied is not None and (not secret or not isinstance(state.denied, AccessDenied)):
            raise state.denied
        state.key = self._server.keys.check((secret or "").encode("utf-8", "replace").decode("latin-1"))
        state.denied = None
        body.belong_to(owner_of(state.key, state.peer))

    async def _receive_upload(self, state: RequestState, context: RequestContext, body: RequestBody) -> Response:
        """Let the route read an uploaded file in pieces; it is never in memory as a whole."""
        self._server.authorize(state.key, state.chosen.route)
        context.owner, context.allowed = state.key.owner, state.key.allows
        with body.pending():
            return reply_response(await state.chosen.route.read(None, context))

    def _record(self, request: Request, state: RequestState) -> None:
        """Record a request in metrics, log and traces."""
        server, exchange = self._server, state.exchange
        log: dict[str, str | int] = {"key": state.key.name} if state.key.digest else {}
        if state.chosen.route.request_type is not None:
            server.prometheus.ended(exchange, state.failure, time.perf_counter() - state.started)
        if exchange is not None:
            # A name that is not served may be a text that was sent in the wrong field.
            model = exchange.description.name if exchange.description is not None else "unknown"
            log |= {"model": model, "inputs": exchange.size, "tokens": exchange.tokens}
            log |= {"truncated": exchange.dropped} if exchange.dropped else {}
            log |= {"unknown": exchange.unknown} if exchange.unknown else {}
        request.scope["state"]["log"] = log
        if server.traces is not None:
            server.traces.record(request.scope, state.chosen.dialect.name, exchange)


def _reads_without_key(request: Request, routes: PathRoutes) -> bool:
    """Return whether the body of a client without a valid key is read.

    It is read if the key may be in it, or if it is small and decides which API writes the error.
    """
    if routes.fallback.route.body_key is not None:
        return True
    if not routes.shared or not routes.has_body or routes.fallback.route.upload:
        return False
    size = request.headers.get("content-length", "0")
    return size.isdigit() and int(size) <= MAX_STRANGER_BYTES and "transfer-encoding" not in request.headers
