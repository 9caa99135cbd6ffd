"""Read the messages of one gRPC call, with a bound on unfinished ones."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from nearfield.errors import NearfieldError, ShuttingDown, SlowBody

#: Maximum number of unfinished messages of one call, and of their bytes.
_MAX_MESSAGES, _MAX_BYTES = 256, 262_144
#: Seconds that a stopping server waits for the next message of a client.
_STOP_TIMEOUT = 1.0


class RequestReader:
    """The messages that a client sends in one call. Above the bound, messages stay with the client."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._unfinished = 0
        self._bytes = 0
        self._space = asyncio.Event()
        self._reader: asyncio.Task[Any] | None = None
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._why: NearfieldError | None = None

    async def read(self, seconds: float | None = None) -> bytes | None:
        """Return the next message, or None at their end; wait while too many are unfinished.

        Raises:
            SlowBody: it did not arrive within ``seconds``.
            ShuttingDown: it does not arrive, and the server is stopping.
        """
        while self._unfinished >= _MAX_MESSAGES or self._bytes >= _MAX_BYTES:
            self._space.clear()
            await self._space.wait()
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

    def start_work(self, message: bytes) -> None:
        """Count a message as unfinished."""
        self._unfinished += 1
        self._bytes += len(message)

    def end_work(self, message: bytes) -> None:
        """Count a message as finished: the client has received its answer."""
        self._unfinished -= 1
        self._bytes -= len(message)
        self._space.set()

    def hurry(self) -> None:
        """Stop waiting for messages that do not arrive soon."""
        self._stopping = True
        if self._reader is not None:
            self._give_up_in(
                _STOP_TIMEOUT, ShuttingDown("The server is stopping, and the rest of the call did not arrive.")
            )

    def _give_up_in(self, seconds: float, why: NearfieldError) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._give_up, why)

    def _give_up(self, why: NearfieldError) -> None:
        if self._reader is not None:
            self._why = why
            self._reader.cancel()
