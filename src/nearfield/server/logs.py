"""Logs: a line a request, as text or JSON, with its id and sizes, and never a word of its texts."""

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
#: The id of the request that is being answered.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
ACCESS = logging.getLogger("nearfield.access")
_BELOW = ("uvicorn", "asyncio", "opentelemetry")
_SANE = re.compile(r"^[A-Za-z0-9._:-]{1,128}$")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        line = {"time": record.created, "level": record.levelname.lower(), "message": record.getMessage(), **fields}
        if record.exc_info:
            line["error"] = _trace(record.exc_info[1])
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """The message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{key}={value}" for key, value in vars(record).items() if key not in _STANDARD)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = _one_line(f"{clock} {record.levelname.lower():7} {record.getMessage()} {fields}".rstrip())
        return f"{line}\n{_trace(record.exc_info[1])}" if record.exc_info else line


def _trace(error: BaseException | None) -> str:
    """Say where an error and its causes arose and of which kind they are: their messages may quote an input."""
    parts: list[str] = []
    while error is not None:
        frames = "".join(traceback.format_tb(error.__traceback__))
        parts.insert(0, f"Traceback (most recent call last):\n{frames}{type(error).__qualname__}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(parts)


def _one_line(text: str) -> str:
    """Show control characters by their codes: a client's path or model name must not make up lines of its own."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def configure(level: str, form: str) -> None:
    """Send log lines to stderr in the chosen form: ours, and the warnings of what the server runs on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    least = logging.getLevelName(level.upper())
    for log, lowest in ((LOG, least), *((logging.getLogger(name), max(least, logging.WARNING)) for name in _BELOW)):
        log.handlers[:] = [handler]
        log.setLevel(lowest)
        log.propagate = False


class AccessLog:
    """Gives each request an id (the client's own where it is sane), answers with it, and logs one line.

    While the server is ``closing`` each reply also tells the client to leave. ``answered`` is called with the
    scope, status and seconds of each request.
    """

    def __init__(
        self, app: ASGIApp, closing: Callable[[], bool], answered: Callable[[Scope, int, float], None]
    ) -> None:
        self._app = app
        self._closing = closing
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = id_of(scope)
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
                if self._closing():
                    headers["connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            status = status or 500
            raise
        finally:
            seconds, status = time.perf_counter() - started, status or 499
            self._answered(scope, status, seconds)
            if ACCESS.isEnabledFor(logging.INFO):
                fields: dict[str, object] = {"ms": round(seconds * 1e3, 2), "request_id": request_id}
                fields |= state.get("log", {})
                ACCESS.info("%s %s %s", scope["method"], scope["path"], status, extra=fields)


def id_of(scope: Scope) -> str:
    """Return the id that a request brings, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            return given if _SANE.match(given) else uuid.uuid4().hex
    return uuid.uuid4().hex
