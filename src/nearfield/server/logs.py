"""Logs: one line per request as text or JSON, with its id and sizes, and never with the text of an input."""

from __future__ import annotations

import io
import logging
import random
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import orjson
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nearfield.message_text import escape_controls

LOG = logging.getLogger("nearfield")
#: The directories of an absolute path, but not of a URL.
_DIRECTORIES = re.compile(r"(?<![\w:/.])~?/(?:[\w.@+~=-]{1,255}/)+")
#: The id of the current request.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
#: Lines that libraries write to stderr.
STDERR = logging.getLogger("nearfield.stderr")
ACCESS = logging.getLogger("nearfield.access")
#: Loggers of libraries, of which only warnings and errors are shown.
_LIBRARIES = ("uvicorn", "asyncio", "opentelemetry")
_REQUEST_ID_PATTERN = re.compile(r"^[A-Za-z0-9._:-]{1,128}$")
#: Characters of a path that are logged.
_MAX_LOGGED_PATH = 1024
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


if TYPE_CHECKING:
    _TextHandler = logging.StreamHandler[TextIO]
else:
    _TextHandler = logging.StreamHandler


class _StderrHandler(_TextHandler):
    """The handler that ``configure_logging`` installs."""


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
    return text if text.isprintable() else escape_controls(text)


class StderrLines(io.TextIOBase):
    """Text that libraries write to stderr, logged line by line: a JSON log then has no other lines.

    Args:
        stream: the real stderr.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._local = threading.local()

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the real stderr, for child processes and for messages of a crash."""
        return self.stream.fileno()

    def write(self, text: str) -> int:
        """Log the complete lines; a progress bar's carriage return ends a line too."""
        if getattr(self._local, "busy", False):  # logging itself failed
            return self.stream.write(text)
        *lines, self._local.rest = re.split(r"[\r\n]", getattr(self._local, "rest", "") + text)
        self._local.busy = True
        try:
            for line in filter(str.strip, lines):
                STDERR.warning("%s", line.rstrip())
        finally:
            self._local.busy = False
        return len(text)

    def flush(self) -> None:
        """Flush the real stderr; an incomplete line waits for its end."""
        self.stream.flush()


def configure_logging(level: str, form: str) -> None:
    """Send log lines to stderr as ``text`` or ``json``: our own from ``level`` on, warnings of libraries.

    Warnings, errors of threads and errors that nothing handles are logged too. In a ``json`` log, text that Python code
    writes to stderr becomes log lines. Native code writes to the descriptor itself and is not covered.
    """
    stream = sys.stderr.stream if isinstance(sys.stderr, StderrLines) else sys.stderr
    if form == "json":
        sys.stderr = StderrLines(stream)
    handler = _StderrHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    lowest = logging.getLevelName(level.upper())
    libraries = [(logging.getLogger(name), max(lowest, logging.WARNING)) for name in _LIBRARIES]
    for logger, logger_level in ((LOG, lowest), *libraries):
        logger.handlers[:] = [handler]
        logger.setLevel(logger_level)
        logger.propagate = False
    root = logging.getLogger()
    root.handlers[:] = [other for other in root.handlers if type(other) not in (logging.StreamHandler, _StderrHandler)]
    root.addHandler(handler)
    root.setLevel(max(lowest, logging.WARNING))
    logging.captureWarnings(True)
    sys.excepthook, sys.unraisablehook, threading.excepthook = _log_uncaught, _log_unraisable, _log_thread_error


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        LOG.critical("the process ends: %s", kind.__name__, exc_info=(kind, error, trace))


def _log_unraisable(unraisable: Any) -> None:
    error = unraisable.exc_value
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    LOG.error("an error was ignored: %s", unraisable.exc_type.__name__, exc_info=exc_info)


def _log_thread_error(arguments: Any) -> None:
    error = arguments.exc_value
    if error is None or isinstance(error, SystemExit):
        return
    name = arguments.thread.name if arguments.thread is not None else "unknown"
    LOG.error("thread %s failed: %s", name, type(error).__name__, exc_info=(type(error), error, error.__traceback__))


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
                path = scope["path"][:_MAX_LOGGED_PATH]
                ACCESS.info("%s %s %s", scope["method"], path, status, extra=fields)


def request_id_of(scope: Scope) -> str:
    """Return the request id that the client sent, if it is valid, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            request_id = value.decode("latin-1")
            return request_id if _REQUEST_ID_PATTERN.match(request_id) else _new_id()
    return _new_id()


def _new_id() -> str:
    # Not secret: it need not cost a call of the system, as a UUID does.
    return f"{random.getrandbits(128):032x}"


def without_directories(message: str) -> str:
    """Return a message with the names of files in place of their paths, which clients must not learn."""
    return _DIRECTORIES.sub("", message)
