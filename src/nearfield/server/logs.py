"""Logs: one line per request as text or JSON, with its id and sizes, and never with the text of an input."""

from __future__ import annotations

import logging
import re
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from contextvars import ContextVar

import orjson
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("nearfield")
#: The id of the current request.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
ACCESS = logging.getLogger("nearfield.access")
#: Loggers of libraries, of which only warnings and errors are shown.
_LIBRARIES = ("uvicorn", "asyncio", "opentelemetry")
_REQUEST_ID_PATTERN = re.compile(r"^[A-Za-z0-9._:-]{1,128}$")
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD_FIELDS}
        line = {"time": record.created, "level": record.levelname.lower(), "message": record.getMessage(), **fields}
        if record.exc_info:
            line["error"] = _format_traceback(record.exc_info[1])
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """Formats a record as its message followed by its fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{key}={value}" for key, value in vars(record).items() if key not in _STANDARD_FIELDS)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = _escape(f"{clock} {record.levelname.lower():7} {record.getMessage()} {fields}".rstrip())
        return f"{line}\n{_format_traceback(record.exc_info[1])}" if record.exc_info else line


def _format_traceback(error: BaseException | None) -> str:
    """Return the frames and classes of an error and its causes, without messages: these may quote an input."""
    parts: list[str] = []
    while error is not None:
        frames = "".join(traceback.format_tb(error.__traceback__))
        parts.insert(0, f"Traceback (most recent call last):\n{frames}{type(error).__qualname__}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(parts)


def _escape(text: str) -> str:
    """Escape control characters: a client's path or model name must not forge further log lines."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def configure_logging(level: str, form: str) -> None:
    """Send log lines to stderr as ``text`` or ``json``: our own from ``level`` on, warnings of libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    lowest = logging.getLevelName(level.upper())
    libraries = [(logging.getLogger(name), max(lowest, logging.WARNING)) for name in _LIBRARIES]
    for logger, logger_level in ((LOG, lowest), *libraries):
        logger.handlers[:] = [handler]
        logger.setLevel(logger_level)
        logger.propagate = False


class AccessLog:
    """Middleware that gives each request an id, returns the id in a header, and logs one line.

    The id is the client's own if it is valid.

    Args:
        app: the ASGI application.
        is_stopping: whether the server is shutting down; responses then ask the client to close its connection.
        on_response: called with the scope, status and seconds of each request.
    """

    def __init__(
        self, app: ASGIApp, is_stopping: Callable[[], bool], on_response: Callable[[Scope, int, float], None]
    ) -> None:
        self._app = app
        self._is_stopping = is_stopping
        self._on_response = on_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        REQUEST_ID.set(request_id)
        started, status = time.perf_counter(), 0
        state["started"] = started

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                if self._is_stopping():
                    headers["connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            status = status or 500
            raise
        finally:
            seconds, status = time.perf_counter() - started, status or 499
            self._on_response(scope, status, seconds)
            if ACCESS.isEnabledFor(logging.INFO):
                fields: dict[str, object] = {"ms": round(seconds * 1e3, 2), "request_id": request_id}
                fields |= state.get("log", {})
                ACCESS.info("%s %s %s", scope["method"], scope["path"], status, extra=fields)


def request_id_of(scope: Scope) -> str:
    """Return the request id that the client sent, if it is valid, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            request_id = value.decode("latin-1")
            return request_id if _REQUEST_ID_PATTERN.match(request_id) else uuid.uuid4().hex
    return uuid.uuid4().hex
