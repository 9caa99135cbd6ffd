"""The ASGI application of the router: requests of clients to back-ends, and the router's health, readiness, metrics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from nearfield.cluster.router.backends.connection import BODILESS, BackendFailure, Headers
from nearfield.cluster.router.forwarder import BackendReply, RoutedRequest
from nearfield.cluster.router.headers import content_length, reply_headers
from nearfield.cluster.router.model_lists import different_backends, merged_list
from nearfield.cluster.router.request_plan import RoutePlan, estimated_tokens, model_of
from nearfield.cluster.router.router_state import RouterState
from nearfield.errors import Cancelled, Forbidden, NearfieldError
from nearfield.server.auth.host_guard import is_loopback
from nearfield.server.auth.owner import address_owner
from nearfield.server.http.deadline import RequestDeadline
from nearfield.server.http.head_limits import HeadLimits
from nearfield.server.http.responses import error_response, json_response, out_of_memory, unexpected_error_response
from nearfield.server.http.routing import refuse
from nearfield.server.logs import LOG, AccessLog
from nearfield.server.observability.metrics_page import MetricsPage, PageWriter
from nearfield.server.observability.prometheus import CONTENT_TYPE
from nearfield.settings import Settings

#: Bytes of a reply that are passed to the connection at a time.
_PIECE_BYTES = 262_144
#: Seconds for an uploaded file, as on the server, and for a request to the home: it may wait for a chat model.
_UPLOAD_SECONDS, _HOME_SECONDS = 900.0, 400.0


class Refused(NearfieldError):
    """A request that the router passes to no back-end."""

    status = 501
    code = "not_routed"


class RouterApp:
    """Answers the paths of the router itself, and forwards all others."""

    def __init__(self, router: RouterState) -> None:
        self._router = router
        self._page = MetricsPage(self._render_page)
        self._writer = PageWriter()
        self._paths = {"/health": self._health, "/ready": self._ready, "/metrics": self._metrics}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        endpoint = self._paths.get(scope["path"]) if scope["method"] == "GET" else None
        if endpoint is not None:
            scope["state"]["route"] = scope["path"]
            response: Response | BackendReply = await endpoint(request)
        else:
            response = await self._forward(request)
        if isinstance(response, Response):
            await response(scope, receive, send)
        else:
            await _pass_on(response, receive, send)

    # -- the router itself -----------------------------------------------------------------------------------------

    async def _health(self, _: Request) -> Response:
        """Liveness probe."""
        return json_response({"status": "ok", "role": "router"})

    async def _ready(self, _: Request) -> Response:
        """Readiness probe: status 503 with reasons unless a back-end is up."""
        router = self._router
        backends = [backend.to_dict() for backend in router.backends.all]
        reasons = ["the router is shutting down"] * router.stopping
        if not any(backend.available for backend in router.backends.all):
            reasons.append("no back-end is up")
        models = dict.fromkeys(name for backend in backends if backend["state"] != "down" for name in backend["models"])
        body = {
            "role": "router",
            "ready": not reasons,
            "reasons": reasons,
            "models": list(models),
            "backends": backends,
        }
        return json_response(body, 503 if reasons else 200)

    async def _metrics(self, request: Request) -> Response:
        """Return the router's metrics, with a key if it has keys."""
        router, peer = self._router, request.client.host if request.client else None
        try:
            if router.keys:
                router.keys.check(request.headers.get("authorization"))
            else:
                router.host_guard.check(request.headers, peer)
        except NearfieldError as error:
            return error_response(router.dialects[-1], error)
        return Response(await self._page.read(), media_type=CONTENT_TYPE)

    async def _render_page(self) -> bytes:
        return await self._writer.write(self._router.metrics.metrics())

    # -- all other requests ----------------------------------------------------------------------------------------

    async def _forward(self, request: Request) -> Response | BackendReply:
        router = self._router
        plan, parameters = router.planner.find(request.method, request.scope["path"])
        request.scope["state"]["route"] = plan.template or "unmatched"
        try:
            _check_plan(plan, request)
            return await self._reply(request, plan, parameters.get("model"))
        except Cancelled as error:
            return Response(status_code=error.status)  # the client has gone
        except NearfieldError as error:
            return self._refuse(request, plan, error)
        except MemoryError as error:
            return self._refuse(request, plan, out_of_memory(error))
        except Exception as error:  # noqa: BLE001 - raised further, it would cost the client its connection
            return unexpected_error_response(plan.dialect or router.dialects[-1], error)

    def _refuse(self, request: Request, plan: RoutePlan, error: NearfieldError) -> Response:
        """Return an error in the form of the API that the path belongs to."""
        if plan.dialect is not None:
            return error_response(plan.dialect, error)
        return refuse(request, error, self._router.dialects)

    async def _reply(self, request: Request, plan: RoutePlan, model: str | None) -> Response | BackendReply:
        """Read the body, and return the reply of a back-end."""
        router, headers = self._router, request.headers
        owner = address_owner(request.client.host if request.client else None)
        seconds = _HOME_SECONDS if plan.kind == "home" else 2 * router.reply_seconds + 5
        with RequestDeadline(request, _UPLOAD_SECONDS if plan.upload else seconds, router.pending_bodies) as deadline:
            if plan.upload:
                size = headers.get("content-length", "")
                routed = RoutedRequest(request.scope, plan, None, 1, owner, stream=deadline.receive)
                routed.stream_size = int(size) if size.isdigit() else None
                with router.body_budget.open_body(owner) as body, body.pending():
                    return await router.forwarder.forward(routed)
            with router.body_budget.open_body(owner) as body:
                data = await body.read_encoded(headers, deadline.receive)
                deadline.watch_for_disconnect()
                name = model_of({"model": model} if model else {}, headers, data)
                routed = RoutedRequest(request.scope, plan, name, estimated_tokens(len(data)), owner, data)
                if plan.kind == "merged" and len(different := different_backends(router.backends.all)) > 1:
                    status, reply_head, merged = await merged_list(routed, router.forwarder, different)
                    return _raw_response(status, reply_head, merged)
                return await router.forwarder.forward(routed)


def _check_plan(plan: RoutePlan, request: Request) -> None:
    """Check that a request may be forwarded.

    Raises:
        Refused: it would change the models of one back-end only.
        Forbidden: it changes a server, and its client is on another machine and has no key. To a back-end on the
            router's machine, each client would look like one of that machine.
    """
    if plan.kind == "refused":
        raise Refused("This changes the models of one server, and the router has several: call that server itself.")
    peer = request.client.host if request.client else None
    if plan.manages and "authorization" not in request.headers and not (peer and is_loopback(peer)):
        raise Forbidden("This needs a key with the scope 'manage', or a client on the router's machine.")


def _raw_response(status: int, headers: Headers, body: bytes) -> Response:
    response = Response(body, status)
    passed = [header for header in reply_headers(headers) if header[0] not in (b"content-length", b"content-encoding")]
    response.raw_headers = [*passed, (b"content-length", b"%d" % len(body))]
    return response


async def _pass_on(reply: BackendReply, receive: Receive, send: Send) -> None:
    """Pass a reply on to the client, at its pace.

    If the back-end fails within it, the response stays incomplete, and uvicorn closes the connection: the client sees
    that it has not all of it.
    """
    headers = reply_headers(reply.headers)
    if reply.status in BODILESS:  # a length would be that of the body that is not sent
        headers = [header for header in headers if header[0] != b"content-length"]
    elif reply.complete and content_length(headers) is None:
        headers.append((b"content-length", b"%d" % sum(map(len, reply.parts))))
    try:
        with _abort_on_disconnect(reply, receive):
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            if reply.complete and len(reply.parts) <= 1:
                await send({"type": "http.response.body", "body": reply.parts[0] if reply.parts else b""})
                return
            async for piece in _pieces(reply):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except BackendFailure as error:
        LOG.warning("a reply of %s ended early: %s", reply.backend.name, error)
        reply.backend.detector.record_failure()
    finally:
        reply.close()


async def _pieces(reply: BackendReply) -> AsyncIterator[memoryview]:
    async for part in reply.stream():
        view = memoryview(part)
        for start in range(0, len(view), _PIECE_BYTES):
            yield view[start : start + _PIECE_BYTES]


@contextlib.contextmanager
def _abort_on_disconnect(reply: BackendReply, receive: Receive) -> Iterator[None]:
    """Give a streamed reply up when the client disconnects: reading the rest would be work for nothing."""
    if reply.complete:
        yield
        return
    watcher = asyncio.ensure_future(_abort_once_disconnected(reply, receive))
    try:
        yield
    finally:
        watcher.cancel()


async def _abort_once_disconnected(reply: BackendReply, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reply.connection.abort("The client disconnected.")


def create_router_app(router: RouterState, settings: Settings) -> ASGIApp:
    """Return the application with its middleware: request ids and log, limits of heads, addresses of clients."""
    app: ASGIApp = RouterApp(router)
    if settings.trusted_proxies:
        app = ProxyHeadersMiddleware(app, trusted_hosts=list(settings.trusted_proxies))  # type: ignore[arg-type,assignment]
    app = HeadLimits(app, refuse=partial(refuse, dialects=router.dialects))
    return AccessLog(app, is_stopping=lambda: router.stopping, on_response=router.count_response)
