"""Inbox: the messages of one call as they come, so many at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from nearfield.errors import NearfieldError, ShuttingDown, SlowBody

#: Messages of one call, and bytes of them, that are at work or wait until the client takes their answers.
_MOST, _MOST_BYTES = 256, 262_144
#: Seconds for which a client may leave a server that is stopping without the next message, or the end.
_STALL = 1.0


class RequestReader:
    """What a client sends in one call. It reads no more than is being worked on: the rest waits with the client."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._held = 0
        self._bytes = 0
        self._room = asyncio.Event()
        self._reader: asyncio.Task[Any] | None = None
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._why: NearfieldError | None = None

    async def read(self, seconds: float | None = None) -> bytes | None:
        """Return the next message, or None at their end; wait while too many are ``held``.

        Raises:
            SlowBody: it did not come within ``seconds``.
            ShuttingDown: it does not come, and the server is stopping.
        """
        while self._held >= _MOST or self._bytes >= _MOST_BYTES:
            self._room.clear()
            await self._room.wait()
        self._reader = asyncio.current_task()
        if seconds is not None:
            self._give_up_in(seconds, SlowBody("The message did not arrive in the time that a request may take."))
        if self._stopping:
            self.hurry()
        try:
            message = await self._context.read()
        except asyncio.CancelledError:
            if self._why is not None:
                raise self._why from None
            raise
        finally:
            self._reader = None
            if self._timer is not None:
                self._timer.cancel()
        return None if message is grpc.aio.EOF else message

    def hold(self, message: bytes) -> None:
        """Count a message as being worked on."""
        self._held += 1
        self._bytes += len(message)

    def release(self, message: bytes) -> None:
        """Make room: the client has taken the message's answer."""
        self._held -= 1
        self._bytes -= len(message)
        self._room.set()

    def hurry(self) -> None:
        """From now on wait for no message that does not come soon."""
        self._stopping = True
        if self._reader is not None:
            self._give_up_in(_STALL, ShuttingDown("The server is stopping, and the rest of the call does not come."))

    def _give_up_in(self, seconds: float, why: NearfieldError) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._give_up, why)

    def _give_up(self, why: NearfieldError) -> None:
        if self._reader is not None:
            self._why = why
            self._reader.cancel()
