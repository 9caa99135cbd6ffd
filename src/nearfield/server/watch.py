"""Watch: ends a request's work when its time is up or its client has left."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from starlette.requests import Request

from nearfield.errors import Cancelled, DeadlineExceeded, InputError, NearfieldError, ShuttingDown

#: Seconds after which a client's leaving matters: most requests are answered sooner, and a watcher each would cost
#: them more than it saves.
_SOON = 0.02


class SlowBody(InputError):
    """The body did not arrive in the time that a request may take."""

    status = 408
    code = "request_timeout"


class Watch:
    """``with Watch(request, seconds) as watch`` bounds what is awaited inside, and says how it ended.

    Raises, when the block is left:
        SlowBody, DeadlineExceeded: the time is up, before or after ``for_client`` was called.
        Cancelled: the client left.
        ShuttingDown: the server gave up on the request, having waited for it long enough.
    """

    __slots__ = ("_patience", "_read", "_request", "_seconds", "_task", "_timer", "_until", "_watcher", "_why")

    def __init__(self, request: Request, seconds: float) -> None:
        self._request = request
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._why: NearfieldError | None = None
        self._read = False
        self._watcher: asyncio.Future[None] | None = None

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return max(0.001, self._until - time.monotonic())

    def for_client(self) -> None:
        """Watch for the client's leaving; call it once the body is read."""
        self._read = True
        self._patience = asyncio.get_running_loop().call_later(_SOON, self._watch)

    def __enter__(self) -> Watch:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request runs in a task")
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._too_late)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._read:
            self._patience.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if isinstance(error, asyncio.CancelledError):
            raise self._why or ShuttingDown("The server stopped before this request was done.") from None

    def _watch(self) -> None:
        self._watcher = asyncio.ensure_future(self._client_left())

    async def _client_left(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._stop(Cancelled("The client left."))

    def _too_late(self) -> None:
        if not self._read:
            self._stop(SlowBody(f"The body did not arrive within {self._seconds:g} s."))
        else:
            self._stop(DeadlineExceeded(f"The request was not done within {self._seconds:g} s. Try again later."))

    def _stop(self, why: NearfieldError) -> None:
        if self._why is None:
            self._why = why
            self._task.cancel()
