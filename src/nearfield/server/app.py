"""The ASGI application: routes, middleware and error handlers of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from nearfield.console import app as console
from nearfield.errors import MissingExtra
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.batches.batch_runner import BatchRunner
from nearfield.server.batches.webhooks.webhook_sender import WebhookSender
from nearfield.server.http import openapi
from nearfield.server.http.handler import RequestHandler
from nearfield.server.http.head_limits import HeadLimits
from nearfield.server.http.health import HealthEndpoints
from nearfield.server.http.line_handler import RequestLineHandler
from nearfield.server.http.responses import json_response
from nearfield.server.http.routing import (
    Endpoint,
    StaticPathLookup,
    StripTrailingSlash,
    group_routes,
    refuse,
    routing_error_handler,
    unexpected_error_handler,
)
from nearfield.server.logs import AccessLog
from nearfield.server.models.model_pool import ModelPool
from nearfield.server.server_state import ServerState
from nearfield.settings import Settings

if TYPE_CHECKING:
    from nearfield.server.observability.traces import Traces

#: Response headers that a web page of another origin may read.
_EXPOSED_HEADERS = (
    "x-request-id",
    "x-nearfield-fingerprint",
    "x-nearfield-truncated-tokens",
    "x-nearfield-ignored-fields",
    "x-nearfield-replaced-characters",
    "server-timing",
    "retry-after",
    "retry-after-ms",
    "location",
    "tus-resumable",
    "tus-version",
    "tus-extension",
    "tus-max-size",
    "upload-offset",
    "upload-length",
    "upload-expires",
    "upload-document",
)


def create_app(
    settings: Settings,
    models: ModelPool | Sequence[LoadedModel],
    aliases: Mapping[str, Sequence[str]] | None = None,
    traces: Traces | None = None,
) -> Starlette:
    """Return the ASGI application that serves these models; models given as a list are never evicted.

    ``app.state.server`` is the ``ServerState``. If the settings ask for traces and ``traces`` is None, an exporter is
    opened; ``app.state.server.traces.close()`` then sends the last spans. Settings: see ``settings.load``.
    """
    if traces is None:
        traces = open_traces(settings.otel_endpoint)
    pool = models if isinstance(models, ModelPool) else ModelPool(models, aliases)
    server = ServerState.create(settings, pool, traces)
    webhooks = WebhookSender(
        server.files, settings.webhook_hosts, settings.webhook_secrets, server.prometheus.webhook_attempted
    )
    server.batches = BatchRunner(server.files, RequestLineHandler(server), server.content_bounds, webhooks)
    handler = RequestHandler(server)
    document = cache(partial(openapi.document, server.dialects))
    routes = [
        Route(path, handler.endpoint(path_routes), methods=[method])
        for (path, method), path_routes in group_routes(server.dialects).items()
    ]
    routes += [
        *HealthEndpoints(server).routes(),
        Route("/openapi.json", _constant_endpoint(lambda: json_response(document()))),
        Route("/docs", _constant_endpoint(lambda: HTMLResponse(openapi.page(document())))),
    ]
    page, files = console.routes()
    routes.append(page)
    server.route_templates = {route.endpoint: route.path for route in routes} | {files.app: files.path}
    handlers: Mapping[Any, Any] = {
        HTTPException: routing_error_handler(server.dialects),
        Exception: unexpected_error_handler(server.dialects[-1]),
    }
    middleware = _middleware(settings, server, routes)
    app = Starlette(routes=[*routes, files], middleware=middleware, exception_handlers=handlers)
    app.state.server = server
    return app


def _middleware(settings: Settings, server: ServerState, routes: Sequence[Route]) -> list[Middleware]:
    middleware = [
        Middleware(StripTrailingSlash),
        Middleware(AccessLog, is_stopping=lambda: server.stopping, on_response=server.count_response),
        Middleware(HeadLimits, refuse=partial(refuse, dialects=server.dialects)),
    ]
    if settings.trusted_proxies:  # uvicorn would run it before the limits
        proxies: Any = ProxyHeadersMiddleware
        middleware.append(Middleware(proxies, trusted_hosts=list(settings.trusted_proxies)))
    if settings.cors_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        )
        middleware.append(cors)
    middleware.append(Middleware(StaticPathLookup, routes=routes))
    return middleware


def _constant_endpoint(create: Callable[[], Response]) -> Endpoint:
    """Return an endpoint with one response. It is created at the first request, in a thread: that takes a while."""
    response = cache(create)

    async def endpoint(_: Request) -> Response:
        return await asyncio.to_thread(response)

    return endpoint


def open_traces(endpoint: str | None) -> Traces | None:
    """Return an exporter that sends traces to a collector; None without an endpoint.

    Raises:
        MissingExtra: OpenTelemetry is not installed.
    """
    if endpoint is None:
        return None
    try:
        from nearfield.server.observability.traces import Traces
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise MissingExtra("Traces (otel_endpoint) need OpenTelemetry: pip install 'nearfield[otel]'") from error
    return Traces.for_endpoint(endpoint)
