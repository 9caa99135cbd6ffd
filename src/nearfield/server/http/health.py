"""Endpoints for operators: liveness, readiness and metrics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nearfield.errors import NearfieldError
from nearfield.server.http.responses import error_response, json_response
from nearfield.server.observability.metrics_page import MetricsPage, PageWriter
from nearfield.server.observability.prometheus import CONTENT_TYPE
from nearfield.server.server_state import ServerState


class HealthEndpoints:
    """``/health``, ``/ready`` and ``/metrics``."""

    def __init__(self, server: ServerState) -> None:
        self._server = server
        self._page = MetricsPage(self._render_page)
        self._writer = PageWriter()

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/metrics", self.metrics),
        ]

    async def health(self, _: Request) -> Response:
        """Liveness probe."""
        return json_response({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Readiness probe: status 503 with reasons if requests would not be served now."""
        reasons = self._server.unready_reasons()
        body = {"ready": not reasons, "reasons": reasons, "models": self._server.models.names()}
        return json_response(body, 503 if reasons else 200)

    async def metrics(self, request: Request) -> Response:
        """Return the Prometheus metrics of all processes."""
        server, peer = self._server, request.client.host if request.client else None
        try:
            server.authenticate(request.headers.get("authorization"), peer, request.headers)
        except NearfieldError as error:
            return error_response(server.dialects[-1], error)
        return Response(await self._page.read(), media_type=CONTENT_TYPE)

    async def _render_page(self) -> bytes:
        server = self._server
        if server.merged_metrics is not None:
            return await server.merged_metrics()
        return await self._writer.write(server.prometheus.metrics())
