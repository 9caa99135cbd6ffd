"""`CountedTransport`: a transport of asyncio that counts what is written, and joins a head with its body."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

_HEAD, _HEAD_END, _CONTINUE = b"HTTP/1.1 ", b"\r\n\r\n", b"HTTP/1.1 100"


def _is_head(data: bytes) -> bool:
    return data.startswith(_HEAD) and data.endswith(_HEAD_END) and not data.startswith(_CONTINUE)


def _drop(_: Any) -> None:
    pass


class CountedTransport:
    """A transport that counts the bytes written to it, and drops those after ``write_eof``.

    uvicorn writes the head of a response and its body separately. The head waits for the body, at most until the event
    loop has run what is ready: both are then one call of the system, which is a third of what a small response costs.

    Reading goes on when neither ``pause_reading`` nor ``block_reading`` forbids it.

    Args:
        transport: the transport of the connection.
        close: called instead of the transport's ``close``, which is ``close_now`` here.
    """

    __slots__ = (
        "_blocked",
        "_head",
        "_loop",
        "_paused",
        "_transport",
        "_transport_close",
        "_write_eof",
        "_writelines",
        "abort",
        "can_write_eof",
        "close",
        "get_extra_info",
        "is_closing",
        "set_protocol",
        "set_write_buffer_limits",
        "written",
    )

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.written = 0
        self._head: bytes | None = None
        self._loop = asyncio.get_running_loop()
        self._writelines: Callable[[Any], None] = transport.writelines
        self.abort = transport.abort
        self.can_write_eof = transport.can_write_eof
        self.close = close
        self._transport_close = transport.close
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self._transport = transport
        self._paused = self._blocked = False
        self.set_protocol = transport.set_protocol
        self.set_write_buffer_limits = transport.set_write_buffer_limits
        self._write_eof = transport.write_eof

    def pause_reading(self) -> None:
        """Stop reading until ``resume_reading``: the application does not take more."""
        self._paused = True
        self._read_or_stop()

    def resume_reading(self) -> None:
        """Read again, unless it is blocked."""
        self._paused = False
        self._read_or_stop()

    def block_reading(self) -> None:
        """Stop reading until ``unblock_reading``: the parser does not take more."""
        self._blocked = True
        self._read_or_stop()

    def unblock_reading(self) -> None:
        """Read again, unless it is paused."""
        self._blocked = False
        self._read_or_stop()

    def _read_or_stop(self) -> None:
        if self._transport.is_closing():
            return
        if self._paused or self._blocked:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def forget_owner(self) -> None:
        """Close as the transport does from now on: the reference to the connection would be one of a cycle."""
        self.close = self._transport_close

    def write(self, data: bytes | memoryview) -> None:
        """Count and write; the head of a response waits for its body."""
        self.written += len(data)
        head = self._head
        if head is not None:
            self._head = None
            self._writelines((head, data) if data else (head,))
        elif isinstance(data, bytes) and _is_head(data):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._writelines((data,))

    def _flush(self) -> None:
        if self._head is not None and not self._transport.is_closing():
            self.write(b"")

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that were written here and not sent yet."""
        return self._transport.get_write_buffer_size() + len(self._head or b"")

    def close_now(self) -> None:
        """Close the connection once all was sent."""
        self._flush()
        self._transport_close()

    def write_eof(self) -> None:
        """Close the direction to the client. The application may still write to it: "100 Continue", for one."""
        self._flush()
        self._writelines = _drop
        self._write_eof()
