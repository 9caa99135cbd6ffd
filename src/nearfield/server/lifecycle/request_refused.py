"""`RequestRefused`: an HTTP request that is answered before the application sees it."""

from __future__ import annotations

import json

from uvicorn.protocols.http.httptools_impl import STATUS_LINE


class RequestRefused(Exception):
    """A request that is answered without the application."""

    def __init__(self, status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers

    def reply(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return the whole HTTP response."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": str(self), "type": kind, "param": None, "code": self.code}
        body = json.dumps({"error": error}).encode()
        headers = [
            *default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *self.headers,
        ]
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        return STATUS_LINE[self.status] + lines + b"\r\n" + body


class PipelineFull(RequestRefused):
    """Too many requests wait on the connection; its last reply says so."""

    def __init__(self) -> None:
        super().__init__(429, "overloaded", "Too many requests wait on this connection.")
