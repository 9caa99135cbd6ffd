"""Watch: ends a request's work when its time is up or its client has left."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from starlette.requests import Request
from starlette.types import Message

from nearfield.errors import Cancelled, DeadlineExceeded, NearfieldError, ShuttingDown, SlowBody

#: Seconds after which a client's leaving matters: most requests are answered sooner, and a watcher each would cost
#: them more than it saves.
_SOON = 0.02
#: Seconds for which a body may stall while the server is stopping.
_STALL = 1.0


class Watches:
    """The requests whose bodies are being read. Once the server is stopping, it waits for none that stalls."""

    def __init__(self) -> None:
        self.reading: set[RequestDeadline] = set()
        self.stopping = False

    def stop(self) -> None:
        """From now on give up bodies that stall."""
        self.stopping = True
        for watch in self.reading:
            watch.hurry()


class RequestDeadline:
    """``with Watch(request, seconds, watches) as watch`` bounds what is awaited inside, and says how it ended.

    Raises, when the block is left:
        SlowBody, DeadlineExceeded: the time is up, before or after ``for_client`` was called; or the body stalled
            while the server was stopping.
        Cancelled: the client left.
        ShuttingDown: the server gave up on the request, having waited for it long enough.
    """

    __slots__ = (
        "_heard",
        "_hurry",
        "_patience",
        "_read",
        "_request",
        "_seconds",
        "_task",
        "_timer",
        "_until",
        "_watcher",
        "_watches",
        "_why",
    )

    def __init__(self, request: Request, seconds: float, watches: Watches) -> None:
        self._request = request
        self._watches = watches
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._why: NearfieldError | None = None
        self._read = False
        self._heard = False
        self._hurry: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Future[None] | None = None

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return max(0.001, self._until - time.monotonic())

    async def receive(self) -> Message:
        """Receive what comes next of the body."""
        message = await self._request.receive()
        self._heard = True
        return message

    def hurry(self) -> None:
        """Give the body up unless more of it comes soon, and go on so until it is read."""
        self._heard = False
        self._hurry = asyncio.get_running_loop().call_later(_STALL, self._stalled)

    def for_client(self) -> None:
        """Watch for the client's leaving; call it once the body is read."""
        self._read = True
        self._calm()
        self._patience = asyncio.get_running_loop().call_later(_SOON, self._watch)

    def __enter__(self) -> RequestDeadline:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request runs in a task")
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._too_late)
        self._watches.reading.add(self)
        if self._watches.stopping:
            self.hurry()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._calm()
        if self._read:
            self._patience.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if isinstance(error, asyncio.CancelledError):
            raise self._why or ShuttingDown("The server stopped before this request was done.") from None

    def _calm(self) -> None:
        self._watches.reading.discard(self)
        if self._hurry is not None:
            self._hurry.cancel()

    def _stalled(self) -> None:
        if self._heard:
            self.hurry()
        else:
            self._stop(SlowBody("The server is stopping, and the rest of the body does not come. Send it again later."))

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
