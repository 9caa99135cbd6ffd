"""The life of an HTTP request: authenticate, read the body, choose the route, perform the exchange, respond, record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from nearfield.errors import AccessDenied, Cancelled, NearfieldError
from nearfield.server.auth.api_key import ANONYMOUS, ApiKey
from nearfield.server.auth.owner import owner_of
from nearfield.server.dialects import Route
from nearfield.server.exchange import Exchange
from nearfield.server.files.upload import MultipartUpload
from nearfield.server.http.deadline import RequestDeadline
from nearfield.server.http.request_context import RequestContext
from nearfield.server.http.responses import (
    error_response,
    estimated_bytes,
    exchange_response,
    reply_response,
    unexpected_error_response,
)
from nearfield.server.http.routing import Endpoint, PathRoutes, RouteCandidate, read_exchange
from nearfield.server.server_state import ServerState

#: Maximum bytes of a body that is read from a client without a valid key, to find out which API's error it expects.
_MAX_UNAUTHENTICATED_BYTES = 65_536
#: Timeout of a file upload in seconds: 200 MB at two megabits a second.
_UPLOAD_SECONDS = 900.0


@dataclass
class RequestState:
    """What is known so far of a request in progress."""

    chosen: RouteCandidate
    key: ApiKey = ANONYMOUS
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
            state = RequestState(routes.fallback)
            try:
                response = await self._serve(request, routes, state)
            except Cancelled as error:
                state.failure, response = type(error), Response(status_code=error.status)  # the client has gone
            except NearfieldError as error:
                state.failure, response = type(error), error_response(state.chosen.dialect, error)
            except Exception as error:  # noqa: BLE001 - raised further, it would cost the client its connection
                state.failure, response = type(error), unexpected_error_response(state.chosen.dialect, error)
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
            denied = self._authenticate(request, state)
            if denied is not None and state.chosen.route.body_key is None and (upload or not _is_small(request)):
                raise denied
            if upload:
                context.upload = MultipartUpload(request.headers, deadline.receive)
                return await self._receive_upload(state, context)
            if routes.has_body:
                data = await body.read(request.headers, deadline.receive)
                routes.decode(context, data)
                state.chosen = routes.choose(context)
            route = state.chosen.route
            if denied is not None:
                state.key = self._key_from_body(denied, route, context)  # only now is the API known whose error it is
            deadline.watch_for_disconnect()
            server.authorize(state.key, route)
            context.owner, context.allowed = state.key.owner, state.key.allows
            exchange = await read_exchange(route, context)
            if not isinstance(exchange, Exchange):
                return reply_response(exchange)
            state.exchange = exchange
            await server.perform(exchange, state.key, deadline.remaining)
            owner = owner_of(state.key, request.client.host if request.client else None)
            share = await server.reply_budget.reserve(owner, estimated_bytes(exchange))
        return await exchange_response(route, exchange, server.prometheus, share)

    def _context(self, request: Request) -> RequestContext:
        scope, server = request.scope, self._server
        query = dict(request.query_params) if scope.get("query_string") else {}
        return RequestContext(
            server.models,
            request.headers,
            request.path_params,
            query,
            request_id=scope["state"].get("request_id", ""),
            limits=server.limits,
            token_ids=server.token_ids,
            scheme=scope.get("scheme", "http"),
            files=server.files,
            batches=server.batches,
            collections=server.collections,
        )

    def _authenticate(self, request: Request, state: RequestState) -> NearfieldError | None:
        """Set the key of a request; return why the request has none."""
        if state.chosen.route.public:
            return None
        peer = request.client.host if request.client else None
        try:
            state.key = self._server.authenticate(request.headers.get("authorization"), peer, request.headers)
        except NearfieldError as error:
            return error
        return None

    def _key_from_body(self, denied: NearfieldError, route: Route, context: RequestContext) -> ApiKey:
        """Return the API key from the request body, for APIs that send it there.

        Raises:
            AccessDenied: there is none, or it is unknown; or ``denied``, if that is another error.
        """
        secret = route.body_key(context) if route.body_key is not None and isinstance(denied, AccessDenied) else None
        if not secret:
            raise denied
        return self._server.keys.check(secret.encode("utf-8", "replace").decode("latin-1"))

    async def _receive_upload(self, state: RequestState, context: RequestContext) -> Response:
        """Let the route read an uploaded file in pieces; it is never in memory as a whole."""
        self._server.authorize(state.key, state.chosen.route)
        context.owner, context.allowed = state.key.owner, state.key.allows
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
        request.scope["state"]["log"] = log
        if server.traces is not None:
            server.traces.record(request.scope, state.chosen.dialect.name, exchange)


def _is_small(request: Request) -> bool:
    """Whether a body may be read though its client has no valid key, so that the right API writes the error."""
    size = request.headers.get("content-length", "0")
    return size.isdigit() and int(size) <= _MAX_UNAUTHENTICATED_BYTES and "transfer-encoding" not in request.headers
