"""`CountedTransport`: a transport of asyncio that counts what is written to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


def _drop(_: Any) -> None:
    pass


class CountedTransport:
    """A transport that counts the bytes written to it, and drops those after ``write_eof``.

    Reading goes on when neither ``pause_reading`` nor ``block_reading`` forbids it.

    Args:
        transport: the transport of the connection.
        close: called instead of the transport's ``close``, which is ``close_now`` here.
    """

    __slots__ = (
        "_blocked",
        "_paused",
        "_transport",
        "_write",
        "_write_eof",
        "abort",
        "can_write_eof",
        "close",
        "close_now",
        "get_extra_info",
        "get_write_buffer_size",
        "is_closing",
        "set_protocol",
        "set_write_buffer_limits",
        "written",
    )

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.written = 0
        self._write: Callable[[Any], None] = transport.write
        self.abort = transport.abort
        self.can_write_eof = transport.can_write_eof
        self.close = close
        self.close_now = transport.close
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size
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
        self.close = self.close_now

    def write(self, data: bytes) -> None:
        """Count and write."""
        self.written += len(data)
        self._write(data)

    def write_eof(self) -> None:
        """Close the direction to the client. The application may still write to it: "100 Continue", for one."""
        self._write = _drop
        self._write_eof()
