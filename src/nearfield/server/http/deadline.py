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
_WATCH_AFTER = 0.1
#: Seconds for which a body may stall while the server is stopping.
_STALL_SECONDS = 1.0
#: Least rate of a body, as bytes a second. A phone with a bad connection sends 50,000.
_MIN_BYTES_PER_SECOND = 16_384
#: Seconds before that rate is expected, and of the longest pause after faster sending.
_GRACE_SECONDS, _MAX_PAUSE = 5.0, 10.0
#: Seconds after which a body that is too slow is looked at again: its bytes may have waited in a busy event loop.
_SECOND_LOOK = 0.5


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
        SlowBody: the body did not arrive in time, or too slowly, or stalled while the server was stopping.
        DeadlineExceeded: the time is up after the body was read (``watch_for_disconnect`` was called).
        Cancelled: the client disconnected.
        ShuttingDown: the server stopped before the request was finished.
    """

    __slots__ = (
        "_body_complete",
        "_due",
        "_due_fixed",
        "_ends_at",
        "_late",
        "_pending",
        "_reason",
        "_received",
        "_request",
        "_seconds",
        "_stall_timer",
        "_task",
        "_timer",
        "_turned_at",
        "_waiting",
        "_watch_timer",
        "_watcher",
    )

    def __init__(self, request: Request, seconds: float, pending: PendingBodies) -> None:
        self._request = request
        self._pending = pending
        self._seconds = seconds
        #: When the client last began or ended to wait for us; from then on, it or we count.
        self._turned_at = time.monotonic()
        self._ends_at = self._turned_at + seconds
        #: When the next part of the body must have arrived.
        self._due = self._turned_at + _GRACE_SECONDS
        self._due_fixed = False
        self._late = self._waiting = False
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
        started = time.monotonic()
        if not self._due_fixed:
            self._due += started - self._turned_at  # the time in which nothing was read
        self._waiting = True
        message = await self._request.receive()
        self._waiting, self._received = False, True
        self._turned_at = now = time.monotonic()
        if not self._due_fixed:
            self._due = min(self._due + len(message.get("body", b"")) / _MIN_BYTES_PER_SECOND, now + _MAX_PAUSE)
        return message

    def require_body_within(self, seconds: float) -> None:
        """Give the body up unless all of it arrives within ``seconds``; call it before the first part is received."""
        self._due, self._due_fixed = time.monotonic() + seconds, True

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
        self._timer = asyncio.get_running_loop().call_later(min(self._seconds, _GRACE_SECONDS), self._on_timer)
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

    def _on_timer(self) -> None:
        """Cancel at the deadline, and before it if the body arrives too slowly; otherwise look again later."""
        now = time.monotonic()
        if now >= self._ends_at:
            self._on_timeout()
            return
        next_look = self._ends_at
        if not self._body_complete:
            overdue = self._waiting and now >= self._due
            if overdue and self._late:
                self._cancel(SlowBody(f"The body arrives at less than {_MIN_BYTES_PER_SECOND} bytes a second."))
                return
            self._late = overdue
            next_look = now + _SECOND_LOOK if overdue else max(self._due, now + _SECOND_LOOK)
        delay = min(next_look, self._ends_at) - now
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timeout(self) -> None:
        if not self._body_complete:
            self._cancel(SlowBody(f"The body did not arrive within {self._seconds:g} s."))
        else:
            self._cancel(DeadlineExceeded(f"The request was not finished within {self._seconds:g} s. Try again later."))

    def _cancel(self, reason: NearfieldError) -> None:
        if self._reason is None:
            self._reason = reason
            self._task.cancel()
