"""App: the routes, what happens around each request, and how the server starts and stops."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from nearfield.encoder import Encoder
from nearfield.errors import Cancelled, InputError, NearfieldError, Overloaded, UnsupportedMedia
from nearfield.server import exchange as exchanges
from nearfield.server import openapi
from nearfield.server.auth import Keys
from nearfield.server.dialects import SHELF, Dialect
from nearfield.server.exchange import Exchange, Models
from nearfield.server.limits import Body, Intake, Limits, Pace
from nearfield.server.logs import LOG, AccessLog
from nearfield.server.prometheus import CONTENT_TYPE, Prometheus
from nearfield.server.reply import LARGE, content
from nearfield.server.watch import Watch, Watches

Endpoint = Callable[[Request], Awaitable[Response]]
_DECODE = msgspec.json.Decoder().decode
#: Headers that a browser lets the page of another origin read.
_EXPOSED = (
    "x-request-id",
    "x-nearfield-fingerprint",
    "x-nearfield-truncated-tokens",
    "x-nearfield-ignored-fields",
    "retry-after",
    "retry-after-ms",
)


class Server:
    """What the endpoints share."""

    def __init__(self, settings: Any, encoders: Sequence[Encoder], aliases: Mapping[str, Sequence[str]] | None) -> None:
        self.models = Models(encoders, aliases)
        self.keys = Keys.of(settings.api_keys, settings.api_key_file)
        self.prometheus = Prometheus(encoders)
        self.limits = Limits(
            settings.max_body_bytes,
            settings.max_items,
            settings.max_request_tokens,
            settings.request_timeout,
            settings.bulk_items,
        )
        self.intake = Intake(self.limits)
        self.pace = Pace()
        self.watches = Watches()
        #: Templates of the paths by the functions that answer them.
        self.routes: dict[Any, str] = {}

    @property
    def draining(self) -> bool:
        """Whether the server is shutting down."""
        return self.watches.stopping

    def stop(self) -> None:
        """Begin to shut down: what was accepted is finished, unless its body stalls."""
        self.watches.stop()

    def reasons(self) -> list[str]:
        """Why the server is not ready; empty when it is."""
        engines = {encoder.engine for encoder in self.models.encoders}
        return ["the server is shutting down"] * self.draining + [
            reason for engine in engines for reason in engine.reasons
        ]

    # -- requests ------------------------------------------------------------------------------------------------

    def encode(self, dialect: Dialect) -> Endpoint:
        """Make the endpoint that turns a dialect's bodies into vectors."""

        async def endpoint(request: Request) -> Response:
            exchange: Exchange | None = None
            try:
                with Watch(request, self.limits.seconds, self.watches) as watch, self.intake.body() as body:
                    exchange = await self._read(request, dialect, body, watch)
                    watch.for_client()
                    await exchanges.answer(exchange, self.models, self.limits, watch.left, self.pace)
                response = await self._reply(dialect, exchange)
            except Cancelled:
                response = Response(status_code=Cancelled.status)  # nobody is left to read it
            except NearfieldError as error:
                response = refusal(dialect, error)
            except Exception as error:  # noqa: BLE001 - raised further, it would cost the client its connection
                response = unexpected(dialect, error)
            if exchange is not None:
                self._record(request, exchange)
            return response

        return endpoint

    async def _read(self, request: Request, dialect: Dialect, body: Body, watch: Watch) -> Exchange:
        self.keys.check(request.headers.get("authorization"))
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise UnsupportedMedia(f"The body must be JSON: send 'Content-Type: application/json', not {kind!r}.")
        return dialect.read(decode(await body.read(request.headers, watch.receive)))

    async def _reply(self, dialect: Dialect, exchange: Exchange) -> Response:
        started = time.perf_counter()
        large = exchange.vectors is not None and exchange.vectors.data.size > LARGE
        data = await asyncio.to_thread(content, dialect, exchange) if large else content(dialect, exchange)
        headers = {}
        if exchange.ignored:
            headers["x-nearfield-ignored-fields"] = _ascii(",".join(exchange.ignored))[:1024]
        if exchange.dropped:
            headers["x-nearfield-truncated-tokens"] = str(exchange.dropped)
        if exchange.vectors is not None:
            headers["x-nearfield-fingerprint"] = exchange.vectors.fingerprint
        if exchange.encoder is not None:
            self.prometheus.stage(exchange.encoder.name, "reply", time.perf_counter() - started)
        return Response(data, media_type="application/json", headers=headers)

    def _record(self, request: Request, exchange: Exchange) -> None:
        self.prometheus.encoded(exchange)
        # A name that is not served may be a text that went into the wrong field.
        model = exchange.encoder.name if exchange.encoder is not None else "unknown"
        log = {"model": model, "inputs": len(exchange.inputs), "tokens": exchange.tokens}
        request.scope["state"]["log"] = {**log, "truncated": exchange.dropped} if exchange.dropped else log

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request to whatever route."""
        self.prometheus.replied(self.routes.get(scope.get("endpoint"), "unmatched"), status, seconds)

    # -- everything else -----------------------------------------------------------------------------------------

    def describe(self, dialect: Dialect) -> Endpoint:
        """Make the endpoint that lists models, or describes the one its path names."""

        async def endpoint(request: Request) -> Response:
            try:
                self.keys.check(request.headers.get("authorization"))
                return _json(dialect.describe(self.models, request.path_params.get("model")))
            except NearfieldError as error:
                return refusal(dialect, error)

        return endpoint

    async def health(self, _: Request) -> Response:
        """Say that the process lives."""
        return _json({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Say whether work would be taken and done now, and if not, why."""
        reasons = self.reasons()
        return _json({"ready": not reasons, "reasons": reasons, "models": self.models.names()}, 503 if reasons else 200)

    async def metrics(self, request: Request) -> Response:
        """Give the metrics."""
        try:
            self.keys.check(request.headers.get("authorization"))
        except NearfieldError as error:
            return refusal(SHELF.load("openai")(), error)
        # Not in a thread: under load, these are the ones that tokenise, and the page would wait behind them.
        return Response(self.prometheus.page(), media_type=CONTENT_TYPE)


def create_app(
    settings: Any, encoders: Sequence[Encoder], aliases: Mapping[str, Sequence[str]] | None = None
) -> Starlette:
    """Make the ASGI application that serves these encoders under these settings (see ``settings.load``)."""
    server = Server(settings, encoders, aliases)
    dialects: list[Dialect] = [SHELF.load(name)() for name in SHELF.names()]
    told = openapi.document(dialects)
    routes = [Route(path, server.encode(each), methods=["POST"]) for each in dialects for path in each.encode_paths]
    for each in dialects:
        routes.append(Route(each.models_path, server.describe(each), methods=["GET"]))
        routes.append(Route(each.models_path + "/{model:path}", server.describe(each), methods=["GET"]))
    routes += [
        Route("/health", server.health),
        Route("/ready", server.ready),
        Route("/metrics", server.metrics),
        Route("/openapi.json", _fixed(_json(told))),
        Route("/docs", _fixed(HTMLResponse(openapi.page(told)))),
    ]
    server.routes = {route.endpoint: route.path for route in routes}
    access = Middleware(AccessLog, closing=lambda: server.draining, answered=server.answered)
    middleware = [Middleware(PlainPath), access]
    if settings.cors_origins:
        anything = {"allow_methods": ["*"], "allow_headers": ["*"], "expose_headers": _EXPOSED}
        cors = {"allow_origins": settings.cors_origins, **anything}
        middleware.append(Middleware(CORSMiddleware, **cors))
    handlers: Mapping[Any, Any] = {HTTPException: _lost(dialects[0]), Exception: _broken(dialects[0])}
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)
    app.state.server = server
    return app


class PlainPath:
    """Takes a path with a slash at its end for the one without: a client would not send its body again elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["path"].endswith("/"):
            scope["path"] = scope["path"].rstrip("/") or "/"
        return self._app(scope, receive, send)


def decode(data: bytes) -> dict[str, Any]:
    """Decode a JSON object; explicit nulls count as absent.

    Raises:
        InputError: it is not JSON, not an object, or not Unicode.
    """
    try:
        content = _DECODE(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"The body is not valid JSON: {error or type(error).__name__}.") from error
    if not isinstance(content, dict):
        raise InputError(f"The body must be a JSON object, not {type(content).__name__}.")
    return {name: value for name, value in content.items() if value is not None}


def refusal(dialect: Dialect, error: NearfieldError) -> Response:
    """Turn an error into a dialect's reply, with Retry-After where waiting helps."""
    headers = {}
    if isinstance(error, Overloaded):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
        headers["retry-after-ms"] = str(max(1, round(error.retry_after * 1000)))
    elif error.status == 503:
        headers["retry-after"] = "1"
    elif error.status == 408:
        headers["connection"] = "close"
    if error.status == 500:
        LOG.error("request failed: %s", type(error).__name__, exc_info=error)
    return _json(dialect.refuse(error), error.status, headers)


def unexpected(dialect: Dialect, error: Exception) -> Response:
    """Turn an error that nobody foresaw into a reply; the log has the rest."""
    LOG.error("unexpected error", exc_info=error)
    return _json(dialect.refuse(NearfieldError("The server failed on this request; its log says why.")), 500)


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    try:
        data = orjson.dumps(content)
    except TypeError:
        # A message may quote a client's lone surrogate, which has no UTF-8.
        data = json.dumps(content).encode("ascii")
    return Response(data, status, headers, media_type="application/json")


def _fixed(response: Response) -> Endpoint:
    async def endpoint(_: Request) -> Response:
        return response

    return endpoint


def _ascii(text: str) -> str:
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


class _HttpError(NearfieldError):
    """An error that routing found, given a dialect's shape."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = {404: "not_found", 405: "method_not_allowed"}.get(status, "http_error")


def _lost(dialect: Dialect) -> Callable[[Request, HTTPException], Awaitable[Response]]:
    async def handler(request: Request, error: HTTPException) -> Response:
        where = f"{request.method} {request.url.path[:200]}"
        text = {404: f"There is no {where}. GET /docs lists what there is.", 405: f"{where} is not possible."}
        response = refusal(dialect, _HttpError(error.status_code, text.get(error.status_code, error.detail)))
        response.headers.update(error.headers or {})
        return response

    return handler


def _broken(dialect: Dialect) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handler(_: Request, error: Exception) -> Response:
        return unexpected(dialect, error)

    return handler
