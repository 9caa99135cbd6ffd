"""Deadlines of requests: cancel the work on timeout, on client disconnect, or when a body stalls during shutdown."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from starlette.requests import Request
from starlette.types import Message

from nearfield.errors import Cancelled, DeadlineExceeded, NearfieldError, ShuttingDown, SlowBody

#: Seconds after which the server begins to watch for a client's disconnect. Most requests are answered sooner, and a
#: watching task for each of them would cost more than it saves.
_WATCH_AFTER = 0.02
#: Seconds for which a body may stall while the server is stopping.
_STALL_SECONDS = 1.0


class PendingBodies:
    """The requests whose bodies are not complete yet. A stopping server gives up those that stall."""

    def __init__(self) -> None:
        self.deadlines: set[RequestDeadline] = set()
        self.stopping = False

    def stop(self) -> None:
        """From now on give up bodies that stall."""
        self.stopping = True
        for deadline in self.deadlines:
            deadline.expect_progress()


class RequestDeadline:
    """Context manager that cancels a request's work at its deadline, and raises why.

    It also cancels when the client disconnects, and when a body stalls while the server is stopping.

    Raises, when the block is left:
        SlowBody: the body did not arrive in time, or stalled while the server was stopping.
        DeadlineExceeded: the time is up after the body was read (``watch_for_disconnect`` was called).
        Cancelled: the client disconnected.
        ShuttingDown: the server stopped before the request was finished.
    """

    __slots__ = (
        "_body_complete",
        "_ends_at",
        "_pending",
        "_reason",
        "_received",
        "_request",
        "_seconds",
        "_stall_timer",
        "_task",
        "_timer",
        "_watch_timer",
        "_watcher",
    )

    def __init__(self, request: Request, seconds: float, pending: PendingBodies) -> None:
        self._request = request
        self._pending = pending
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds
        self._reason: NearfieldError | None = None
        self._body_complete = False
        self._received = False
        self._stall_timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Future[None] | None = None

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, at least a millisecond."""
        return max(0.001, self._ends_at - time.monotonic())

    async def receive(self) -> Message:
        """Receive the next part of the body."""
        message = await self._request.receive()
        self._received = True
        return message

    def expect_progress(self) -> None:
        """Give up the body unless more of it arrives within ``_STALL_SECONDS``; repeat until it is complete."""
        self._received = False
        self._stall_timer = asyncio.get_running_loop().call_later(_STALL_SECONDS, self._check_progress)

    def watch_for_disconnect(self) -> None:
        """Cancel the request when the client disconnects; call it once the body is complete."""
        self._body_complete = True
        self._stop_stall_timer()
        self._watch_timer = asyncio.get_running_loop().call_later(_WATCH_AFTER, self._start_watcher)

    def __enter__(self) -> RequestDeadline:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request runs in a task")
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._on_timeout)
        self._pending.deadlines.add(self)
        if self._pending.stopping:
            self.expect_progress()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._stop_stall_timer()
        if self._body_complete:
            self._watch_timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if isinstance(error, asyncio.CancelledError):
            raise self._reason or ShuttingDown("The server stopped before this request was finished.") from None

    def _stop_stall_timer(self) -> None:
        self._pending.deadlines.discard(self)
        if self._stall_timer is not None:
            self._stall_timer.cancel()

    def _check_progress(self) -> None:
        if self._received:
            self.expect_progress()
        else:
            self._cancel(SlowBody("The server is stopping, and the body stalled. Send the request again later."))

    def _start_watcher(self) -> None:
        self._watcher = asyncio.ensure_future(self._wait_for_disconnect())

    async def _wait_for_disconnect(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._cancel(Cancelled("The client disconnected."))

    def _on_timeout(self) -> None:
        if not self._body_complete:
            self._cancel(SlowBody(f"The body did not arrive within {self._seconds:g} s."))
        else:
            self._cancel(DeadlineExceeded(f"The request was not finished within {self._seconds:g} s. Try again later."))

    def _cancel(self, reason: NearfieldError) -> None:
        if self._reason is None:
            self._reason = reason
            self._task.cancel()
