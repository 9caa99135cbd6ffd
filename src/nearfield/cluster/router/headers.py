"""Headers on their way through the router: hop-by-hop ones are left out, the client's address and the id are added."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Scope

from nearfield.cluster.router.backends.connection import Headers

#: Headers of one connection (RFC 9110, section 7.6.1), and those that the router writes itself.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_REQUEST_WRITTEN = frozenset(
    {
        b"content-length",
        b"expect",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"x-request-id",
    }
)
#: The server on which the reply was computed, and the id, which the access log adds.
_REPLY_WRITTEN = frozenset({b"x-request-id", b"date"})


def _listed_in_connection(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    values = [value for name, value in headers if name == b"connection"]
    return frozenset(word.strip().lower() for word in b",".join(values).split(b","))


def request_head(scope: Scope, size: int | None) -> bytes:
    """Return the head of the request to a back-end, with the target as the client wrote it.

    ``size`` is the length of the body; None for one in chunks. The address of the client takes the place of the
    addresses that the client itself may have written.
    """
    headers: Headers = scope["headers"]
    dropped = _HOP_BY_HOP | _REQUEST_WRITTEN | _listed_in_connection(headers)
    lines = [b"%s %s HTTP/1.1\r\n" % (scope["method"].encode("ascii"), _target(scope))]
    lines += [b"%s: %s\r\n" % header for header in headers if header[0] not in dropped]
    client = scope.get("client")
    if client:
        lines.append(b"x-forwarded-for: %s\r\n" % str(client[0]).encode("ascii", "replace"))
    lines.append(b"x-forwarded-proto: %s\r\n" % scope.get("scheme", "http").encode("ascii"))
    lines.append(b"x-request-id: %s\r\n" % request_id(scope))
    if size is None:
        lines.append(b"transfer-encoding: chunked\r\n")
    elif size or scope["method"] not in ("GET", "HEAD", "OPTIONS"):
        lines.append(b"content-length: %d\r\n" % size)
    return b"".join(lines) + b"\r\n"


def request_id(scope: Scope) -> bytes:
    """Return the id of a request, the client's if it is valid."""
    return str(scope["state"]["request_id"]).encode("ascii")


def _target(scope: Scope) -> bytes:
    path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8")
    query: bytes = scope.get("query_string", b"")
    return path + b"?" + query if query else path


def reply_headers(headers: Headers) -> Headers:
    """Return the headers of a back-end's reply for the client."""
    dropped = _HOP_BY_HOP | _REPLY_WRITTEN | _listed_in_connection(headers)
    return [(name, value) for name, value in headers if name not in dropped]


def has_header(headers: Headers, name: bytes, value: bytes) -> bool:
    """Return whether a header has a value."""
    return (name, value) in headers


def content_length(headers: Headers) -> int | None:
    """Return the length that a reply states; None if it states none."""
    values = [value for name, value in headers if name == b"content-length"]
    return int(values[0]) if len(values) == 1 and values[0].isdigit() and len(values[0]) < 16 else None
