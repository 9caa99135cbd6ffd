"""Endpoints for operators: liveness, readiness and metrics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nearfield.errors import NearfieldError
from nearfield.server.http.responses import error_response, json_response
from nearfield.server.observability.prometheus import CONTENT_TYPE
from nearfield.server.server_state import ServerState


class HealthEndpoints:
    """``/health``, ``/ready`` and ``/metrics``."""

    def __init__(self, server: ServerState) -> None:
        self._server = server

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
        server = self._server
        reasons = server.unready_reasons()
        body = {"ready": not reasons, "reasons": reasons, "models": server.models.names(), **self._routing_facts()}
        return json_response(body, 503 if reasons else 200)

    def _routing_facts(self) -> dict[str, object]:
        """Return what a router needs to choose among servers: the queue, and which models are there under which names.

        ``pinned`` (those from the start) and ``loaded`` are full ids; ``names`` maps each name, in lower case, to one.
        """
        server = self._server
        return {
            "queued_tokens": server.queued_tokens(),
            "pinned": [entry.name for entry in server.models.entries if entry.pinned],
            "loaded": [model.name for model in server.models.loaded],
            "names": server.models.ids_by_name(),
            "on_demand": list(server.models.on_demand),
        }

    async def metrics(self, request: Request) -> Response:
        """Return the Prometheus metrics of all processes."""
        server, peer = self._server, request.client.host if request.client else None
        try:
            server.authenticate(request.headers.get("authorization"), peer, request.headers)
        except NearfieldError as error:
            return error_response(server.dialects[-1], error)
        return Response(await server.metrics_page.read(), media_type=CONTENT_TYPE)
