"""Middleware that bounds what is parsed of a request's target and headers, before anything parses them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from nearfield.errors import NearfieldError

#: Maximum bytes of a path and of a query string, and fields of a query string.
MAX_PATH_BYTES, MAX_QUERY_BYTES, MAX_QUERY_FIELDS = 4096, 4096, 64
#: Maximum bytes of a header that is parsed, and of all such headers of a request.
MAX_PARSED_BYTES, MAX_ALL_PARSED_BYTES = 1024, 4096

#: Headers whose values are split or searched. Those of traces are bounded where they are read:
#: a trace that is too long costs the request nothing but its parent.
_PARSED_HEADERS = frozenset(
    {
        b"accept",
        b"content-encoding",
        b"content-type",
        b"host",
        b"x-forwarded-for",
        b"x-forwarded-proto",
    }
)


class HeadRefused(NearfieldError):
    """A request whose target or headers are too long; ``status`` is that of the reply."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class HeadLimits:
    """Middleware that refuses a request with a long path, query string or parsed header.

    Args:
        app: the ASGI application.
        refuse: returns the response to a refused request.
    """

    def __init__(self, app: ASGIApp, refuse: Callable[[Request, NearfieldError], Response]) -> None:
        self._app = app
        self._refuse = refuse

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        refusal = _check_target(scope) or _check_headers(scope)
        if refusal is None:
            return self._app(scope, receive, send)
        return self._refuse(Request(scope), refusal)(scope, receive, send)


def _check_target(scope: Scope) -> HeadRefused | None:
    query: bytes = scope.get("query_string", b"")
    if len(scope["path"]) > MAX_PATH_BYTES:
        return HeadRefused(414, "uri_too_long", f"The path has more than {MAX_PATH_BYTES} bytes.")
    if len(query) > MAX_QUERY_BYTES:
        return HeadRefused(414, "uri_too_long", f"The query string has more than {MAX_QUERY_BYTES} bytes.")
    if query.count(b"&") >= MAX_QUERY_FIELDS:
        return HeadRefused(400, "too_many_query_fields", f"The query string has more than {MAX_QUERY_FIELDS} fields.")
    return None


def _check_headers(scope: Scope) -> HeadRefused | None:
    total = 0
    for name, value in scope["headers"]:
        if name in _PARSED_HEADERS:
            total += len(value)
            if len(value) > MAX_PARSED_BYTES:
                message = f"The header {name.decode()} has more than {MAX_PARSED_BYTES} bytes."
                return HeadRefused(431, "headers_too_large", message)
    if total > MAX_ALL_PARSED_BYTES:
        names = "Accept, Content-Type, X-Forwarded-For and similar headers"
        return HeadRefused(431, "headers_too_large", f"{names} have more than {MAX_ALL_PARSED_BYTES} bytes together.")
    return None
