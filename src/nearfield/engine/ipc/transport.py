"""Link: messages between two processes of this program, over a connected pair of Unix sockets, in order.

A frame is a head (how many buffers, and the sizes of all parts), a pickle, and the buffers: large arrays travel beside
the pickle as they lie in memory (pickle protocol 5, PEP 574). Nobody else can connect to a pair that was inherited, and
so what is unpickled was written by this program.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

#: Bytes from which on an array travels beside the pickle, and of a frame up to which it is sent in one piece.
_LARGE, _WHOLE = 4096, 256 * 1024
#: How many buffers there are, and the size of the pickle.
_HEAD = struct.Struct("<IQ")
_ASK, _ANSWER, _FAIL = "?", "=", "!"


class ChannelClosed(ConnectionError):
    """The other process is gone."""


class Channel(asyncio.Protocol):
    """One end. ``handlers`` take what the other end tells, by kind; ``answers`` what it asks; both on the event loop.

    Whoever opens it may set ``on_lost``, which is called once when the other end is gone.
    """

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[..., None]] = {}
        self.answers: dict[str, Callable[..., Awaitable[Any]]] = {}
        self.on_lost: Callable[[], None] = lambda: None
        self.lost = False
        self._out: list[tuple[str, tuple[Any, ...]]] = []
        self._in = bytearray()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: Any = None
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """Open one end of a pair."""
        end.setblocking(False)
        _, link = await asyncio.get_running_loop().create_unix_connection(cls, sock=end)
        return link

    # -- sending ---------------------------------------------------------------------------------------------------

    def tell(self, kind: str, *values: Any) -> None:
        """Send a message; what one round of the event loop has to tell goes out together. A lost link takes none."""
        if self.lost:
            return
        self._out.append((kind, values))
        if len(self._out) == 1:
            self._loop.call_soon(self._flush)

    async def ask(self, kind: str, *values: Any) -> Any:
        """Send a question and await the answer.

        Raises:
            Lost: the other end is gone.
            Exception: whatever the other end raised.
        """
        if self.lost:
            raise ChannelClosed("The other process is gone.")
        number = next(self._numbers)
        waiting = self._waiting[number] = self._loop.create_future()
        self.tell(_ASK, number, kind, values)
        try:
            return await waiting
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        """Send what there is, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        messages, self._out = self._out, []
        if not messages or self.lost or self._transport.is_closing():
            return
        parts = frame(messages)
        if sum(map(len, parts)) <= _WHOLE:
            self._transport.write(b"".join(parts))
            return
        for part in parts:
            self._transport.write(part)

    # -- receiving -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Keep what to write to."""
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        """Say so to all who wait."""
        self.lost = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ChannelClosed("The other process is gone."))
        for task in self._tasks:
            task.cancel()
        self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Take what came, and handle what is whole."""
        self._in += data
        held, start = self._in, 0
        while (sizes := _sizes(held, start)) is not None and len(held) - start >= sum(sizes):
            for kind, values in unframe(held, start, sizes):
                self._handle(kind, values)
            start += sum(sizes)
        if start:
            self._in = held[start:]

    def _handle(self, kind: str, values: tuple[Any, ...]) -> None:
        if kind == _ASK:
            task = self._loop.create_task(self._answer(*values))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif kind in (_ANSWER, _FAIL):
            number, value = values
            waiting = self._waiting.get(number)
            if waiting is not None and not waiting.done():
                (waiting.set_result if kind == _ANSWER else waiting.set_exception)(value)
        else:
            self.handlers[kind](*values)

    async def _answer(self, number: int, kind: str, values: tuple[Any, ...]) -> None:
        try:
            self.tell(_ANSWER, number, await self.answers[kind](*values))
        except Exception as error:  # noqa: BLE001 - it is the asker's
            self.tell(_FAIL, number, sendable(error))


def frame(messages: list[tuple[str, tuple[Any, ...]]]) -> list[bytes | memoryview]:
    """Return the parts of the frame of some messages."""
    buffers: list[memoryview] = []

    def beside(buffer: pickle.PickleBuffer) -> bool:
        """Keep a large buffer out of the pickle; true leaves a small one in it."""
        raw = buffer.raw()
        if raw.nbytes < _LARGE:
            return True
        buffers.append(raw)
        return False

    told = pickle.dumps(messages, 5, buffer_callback=beside)
    sizes = struct.pack(f"<{len(buffers)}Q", *(buffer.nbytes for buffer in buffers))
    return [_HEAD.pack(len(buffers), len(told)) + sizes, told, *buffers]


def _sizes(data: bytearray, start: int) -> list[int] | None:
    """Return the sizes of a frame's parts, the head first; None while the head is not whole."""
    if len(data) - start < _HEAD.size:
        return None
    count, told = _HEAD.unpack_from(data, start)
    head = _HEAD.size + 8 * count
    if len(data) - start < head:
        return None
    return [head, told, *struct.unpack_from(f"<{count}Q", data, start + _HEAD.size)]


def unframe(data: bytearray, start: int, sizes: list[int]) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the messages of the frame that begins at ``start``; large arrays among them are parts of ``data``."""
    view = memoryview(data)
    ends = list(itertools.accumulate(sizes, initial=start))
    _, told, *buffers = [view[first:last] for first, last in itertools.pairwise(ends)]
    messages: list[tuple[str, tuple[Any, ...]]] = pickle.loads(told, buffers=buffers)
    return messages


def sendable(error: Exception) -> Exception:
    """Return an error, or, where it cannot be sent, one of its kind that can."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever its class does when it is made from its message
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
