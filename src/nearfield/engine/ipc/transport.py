"""`Channel`: messages between two processes of this program, in order, over a connected pair of Unix sockets.

A frame is a head (the number of buffers, and the sizes of all parts), a pickle, and the buffers: large arrays travel
beside the pickle as they lie in memory (pickle protocol 5, PEP 574). No other process can connect to an inherited pair
of sockets, so everything that is unpickled was written by this program.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, cast

#: Bytes from which an array travels beside the pickle.
_MIN_BUFFER_BYTES = 4096
#: Bytes up to which a frame is written in one piece.
_MAX_JOINED_BYTES = 256 * 1024
#: The number of buffers, and the size of the pickle.
_HEAD = struct.Struct("<IQ")
_CALL, _RESULT, _ERROR = "?", "=", "!"

#: A message: its kind, and its values.
Message = tuple[str, tuple[Any, ...]]


class ChannelClosed(ConnectionError):
    """The other process has ended."""


class Channel(asyncio.Protocol):
    """One end of a connection. Functions of ``handlers`` and ``call_handlers`` run on the event loop.

    ``handlers`` take messages by kind; ``call_handlers`` return the results of calls. ``on_lost`` is called once,
    when the other end is gone.
    """

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[..., None]] = {}
        self.call_handlers: dict[str, Callable[..., Awaitable[Any]]] = {}
        self.on_lost: Callable[[], None] = lambda: None
        self.lost = False
        self._out: list[Message] = []
        self._in = bytearray()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """Return a channel over one end of a pair of sockets."""
        end.setblocking(False)
        _, channel = await asyncio.get_running_loop().create_unix_connection(cls, sock=end)
        return channel

    # -- sending ---------------------------------------------------------------------------------------------------

    def send(self, kind: str, *values: Any) -> None:
        """Send a message. Messages of one round of the event loop share a frame; a lost channel drops them."""
        if self.lost:
            return
        self._out.append((kind, values))
        if len(self._out) == 1:
            self._loop.call_soon(self._flush)

    async def call(self, kind: str, *values: Any) -> Any:
        """Send a call and await its result.

        Raises:
            ChannelClosed: the other end is gone.
            Exception: whatever the other end raised.
        """
        if self.lost:
            raise ChannelClosed("The other process has ended.")
        number = next(self._numbers)
        result = self._calls[number] = self._loop.create_future()
        self.send(_CALL, number, kind, values)
        try:
            return await result
        finally:
            self._calls.pop(number, None)

    def close(self) -> None:
        """Send pending messages, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        messages, self._out = self._out, []
        if not messages or self.lost or self._transport.is_closing():
            return
        parts = frame(messages)
        if sum(map(len, parts)) <= _MAX_JOINED_BYTES:
            self._transport.write(b"".join(parts))
            return
        for part in parts:
            self._transport.write(part)

    # -- receiving -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport for writing."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        """End all pending calls with ChannelClosed."""
        self.lost = True
        for result in self._calls.values():
            if not result.done():
                result.set_exception(ChannelClosed("The other process has ended."))
        for task in self._tasks:
            task.cancel()
        self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Add received bytes, and handle the messages of complete frames."""
        self._in += data
        received, start = self._in, 0
        while (sizes := _part_sizes(received, start)) is not None and len(received) - start >= sum(sizes):
            for kind, values in unframe(received, start, sizes):
                self._handle(kind, values)
            start += sum(sizes)
        if start:
            self._in = received[start:]

    def _handle(self, kind: str, values: tuple[Any, ...]) -> None:
        if kind == _CALL:
            task = self._loop.create_task(self._answer(*values))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif kind in (_RESULT, _ERROR):
            number, value = values
            result = self._calls.get(number)
            if result is not None and not result.done():
                (result.set_result if kind == _RESULT else result.set_exception)(value)
        else:
            self.handlers[kind](*values)

    async def _answer(self, number: int, kind: str, values: tuple[Any, ...]) -> None:
        try:
            self.send(_RESULT, number, await self.call_handlers[kind](*values))
        except Exception as error:  # noqa: BLE001 - the caller raises it
            self.send(_ERROR, number, sendable(error))


def frame(messages: list[Message]) -> list[bytes | memoryview]:
    """Return the parts of a frame with some messages."""
    buffers: list[memoryview] = []

    def keep_in_pickle(buffer: pickle.PickleBuffer) -> bool:
        """Return whether a buffer stays in the pickle; a large one is sent beside it."""
        raw = buffer.raw()
        if raw.nbytes < _MIN_BUFFER_BYTES:
            return True
        buffers.append(raw)
        return False

    pickled = pickle.dumps(messages, 5, buffer_callback=keep_in_pickle)
    sizes = struct.pack(f"<{len(buffers)}Q", *(buffer.nbytes for buffer in buffers))
    return [_HEAD.pack(len(buffers), len(pickled)) + sizes, pickled, *buffers]


def _part_sizes(data: bytearray, start: int) -> list[int] | None:
    """Return the sizes of a frame's parts, the head first; None while the head is incomplete."""
    if len(data) - start < _HEAD.size:
        return None
    count, pickle_size = _HEAD.unpack_from(data, start)
    head = _HEAD.size + 8 * count
    if len(data) - start < head:
        return None
    return [head, pickle_size, *struct.unpack_from(f"<{count}Q", data, start + _HEAD.size)]


def unframe(data: bytearray, start: int, sizes: list[int]) -> list[Message]:
    """Return the messages of the frame that begins at ``start``; large arrays in them are views of ``data``."""
    view = memoryview(data)
    ends = list(itertools.accumulate(sizes, initial=start))
    _, pickled, *buffers = [view[first:last] for first, last in itertools.pairwise(ends)]
    messages: list[Message] = pickle.loads(pickled, buffers=buffers)
    return messages


def sendable(error: Exception) -> Exception:
    """Return an error, or a RuntimeError with its text if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - a class may raise anything if it is created from its message alone
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
