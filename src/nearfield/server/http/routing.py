"""Routing: which API a request belongs to, the middleware that finds its path, and requests that match no route."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from nearfield.errors import MissingBody, NearfieldError, UnsupportedMedia
from nearfield.server.dialects import Dialect, Route, return_unchanged
from nearfield.server.exchange import Exchange
from nearfield.server.files.form_body import FORM, decode_form
from nearfield.server.http.content_bounds import LARGE_BODY, LARGE_MSGPACK, Buffer, ContentBounds, is_light_msgpack
from nearfield.server.http.request_body import JSON, MSGPACK, convert, decode_repaired, ignored_fields, media_type
from nearfield.server.http.request_context import RequestContext
from nearfield.server.http.responses import error_response, unexpected_error_response

Endpoint = Callable[[Request], Awaitable[Response]]


# -- several APIs on one path ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RouteCandidate:
    """A route that may serve a request, and the API that it belongs to."""

    dialect: Dialect
    route: Route


class PathRoutes:
    """The routes of one path and method. The fallback serves the requests that no other route matches."""

    def __init__(self, candidates: Sequence[RouteCandidate]) -> None:
        *self._specific, self.fallback = candidates
        routes = [candidate.route for candidate in candidates]
        #: Whether the body decides to which API a request belongs.
        self.shared = bool(self._specific)
        self.has_body = self.fallback.route.method in ("POST", "DELETE")
        self._body_optional = all(route.request_type is None for route in routes)
        self._any_content_type = any(route.any_content_type for route in routes)
        self._media_types = frozenset(name for route in routes for name in route.request_media)
        if self.fallback.route.read_form is not None:
            self._media_types |= {FORM}

    def choose(self, context: RequestContext) -> RouteCandidate:
        """Return the route that serves a request."""
        for candidate in self._specific:
            if candidate.route.matches is not None and candidate.route.matches(context):
                return candidate
        return self.fallback

    def is_large(self, context: RequestContext, data: Buffer) -> bool:
        """Return whether decoding a body would take long: it is then done in a thread."""
        if len(data) <= LARGE_MSGPACK:
            return False
        return len(data) > LARGE_BODY or (media_type(context.headers) == MSGPACK and not is_light_msgpack(data))

    def decode(self, context: RequestContext, data: Buffer, bounds: ContentBounds | None = None) -> RouteCandidate:
        """Decode the body by its Content-Type, store it in the context, and return the route that serves the request.

        Raises:
            MissingBody: there is none.
            UnsupportedMedia: no API of this path reads that Content-Type.
            InputError: the body cannot be decoded.
            TooLarge: it contains more than the bounds allow.
        """
        if not data:
            if self._body_optional:
                return self.choose(context)
            raise MissingBody("The request has no body: send a JSON object.")
        # A web page can send a form to any server without a preflight request; its browser then adds Origin.
        as_json = self._any_content_type and "origin" not in context.headers
        kind = JSON if as_json else media_type(context.headers)
        if kind not in self._media_types:
            raise UnsupportedMedia(f"The body must be JSON: send 'Content-Type: application/json', not {kind!r}.")
        if kind == FORM:
            content = self._decode_form(context, data, bounds)
        else:
            content, context.replaced = decode_repaired(data, kind, bounds)
        context.body = {name: value for name, value in content.items() if value is not None}
        context.fields = frozenset(content)
        return self.choose(context)

    def _decode_form(self, context: RequestContext, data: Buffer, bounds: ContentBounds | None) -> dict[str, Any]:
        """Return the body that a form stands for. A path with forms has one API."""
        read = self.fallback.route.read_form
        if read is None:
            raise RuntimeError("the route reads no forms")
        # A small body cannot have many.
        most = LARGE_BODY if bounds is None else bounds.strings
        context.is_form = True
        return read(decode_form(data, context.headers.get("content-type", ""), most))


def group_routes(dialects: Sequence[Dialect]) -> dict[tuple[str, str], PathRoutes]:
    """Return the routes of all dialects by path and method.

    Raises:
        ValueError: a path has no fallback, or more than one.
    """
    groups: dict[tuple[str, str], list[RouteCandidate]] = {}
    for dialect in dialects:
        for route in dialect.routes:
            groups.setdefault((route.path, route.method), []).append(RouteCandidate(dialect, route))
    for (path, method), candidates in groups.items():
        candidates.sort(key=lambda candidate: candidate.route.matches is None)
        if sum(candidate.route.matches is None for candidate in candidates) != 1:
            names = ", ".join(candidate.dialect.name for candidate in candidates)
            raise ValueError(f"{method} {path} is a route of {names}: exactly one of them must have no ``matches``")
    return {key: PathRoutes(candidates) for key, candidates in groups.items()}


async def read_exchange(route: Route, context: RequestContext) -> Any:
    """Convert the body and call ``route.read``; return its ``Exchange``, or the reply of a route that needs no model.

    Raises:
        InputError: the body does not fit the route's type, or the request is impossible.
    """
    # Only routes that create an exchange can be read in a thread: others use what belongs to the event loop.
    if context.in_thread is not None and route.write is not return_unchanged:
        result = await context.in_thread(partial(_convert_and_read, route, context))
    else:
        result = _convert_and_read(route, context)
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, Exchange):
        result.ignored += ignored_fields(context.body, route.request_type)
        result.replaced = context.replaced
    return result


def _convert_and_read(route: Route, context: RequestContext) -> Any:
    if route.request_type is None:
        return route.read(None, context)
    # All values of a form are texts.
    return route.read(convert(context.body, route.request_type, strict=not context.is_form), context)


# -- middleware ------------------------------------------------------------------------------------------------------


class StripTrailingSlash:
    """Middleware that removes a slash at the end of the path. A redirect would make clients send their body twice."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["path"].endswith("/"):
            scope["path"] = scope["path"].rstrip("/") or "/"
        return self._app(scope, receive, send)


class StaticPathLookup:
    """Middleware that looks up paths without parameters in a dict; Starlette would try one pattern after another."""

    def __init__(self, app: ASGIApp, routes: Sequence[StarletteRoute]) -> None:
        self._app = app
        self._routes = {
            (route.path, method): route for route in routes if "{" not in route.path for method in route.methods or ()
        }

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        route = self._routes.get((scope["path"], scope["method"])) if scope["type"] == "http" else None
        if route is None or scope.get("root_path"):
            return self._app(scope, receive, send)
        scope.update(route=route, endpoint=route.endpoint, path_params={})
        return route.app(scope, receive, send)


# -- requests without a route ----------------------------------------------------------------------------------------


class _RoutingError(NearfieldError):
    """An error of Starlette's router, so that a dialect can write it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = {404: "not_found", 405: "method_not_allowed"}.get(status, "http_error")


def routing_error_handler(dialects: Sequence[Dialect]) -> Callable[[Request, HTTPException], Awaitable[Response]]:
    """Return Starlette's handler of unknown paths and methods: the API that owns the path's prefix writes the error."""

    async def handle(request: Request, error: HTTPException) -> Response:
        dialect = _prefix_owner(request.url.path, dialects)
        target = f"{request.method} {request.url.path[:200]}"
        messages = {404: f"There is no {target}. GET /docs lists all paths.", 405: f"{target} is not allowed."}
        message = messages.get(error.status_code, error.detail)
        response = error_response(dialect, _RoutingError(error.status_code, message))
        response.headers.update(error.headers or {})
        return response

    return handle


def refuse(request: Request, error: NearfieldError, dialects: Sequence[Dialect]) -> Response:
    """Return the error response to a request that no route has seen, in the form of the API that owns its prefix."""
    return error_response(_prefix_owner(request.scope["path"], dialects), error)


def _prefix_owner(path: str, dialects: Sequence[Dialect]) -> Dialect:
    """Return the only dialect with routes below the first part of a path; the last dialect if there is none."""
    prefix = "/".join(path.split("/", 2)[:2]) + "/"
    owners = [dialect for dialect in dialects if any(route.path.startswith(prefix) for route in dialect.routes)]
    return owners[0] if len(owners) == 1 else dialects[-1]


def unexpected_error_handler(dialect: Dialect) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return Starlette's handler of errors outside the endpoints."""

    async def handle(_: Request, error: Exception) -> Response:
        return unexpected_error_response(dialect, error)

    return handle
