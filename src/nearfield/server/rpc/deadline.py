"""A deadline for a block of asynchronous work."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from nearfield.errors import DeadlineExceeded


class Deadline:
    """``with Deadline(seconds) as deadline`` bounds what is awaited inside.

    Raises, when the block is left:
        DeadlineExceeded: the time has passed.
    """

    __slots__ = ("_expired", "_seconds", "_task", "_timer", "_until")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._expired = False

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return max(0.001, self._until - time.monotonic())

    def __enter__(self) -> Deadline:
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._expire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._expired and isinstance(error, asyncio.CancelledError):
            raise DeadlineExceeded(f"The request was not done within {self._seconds:g} s. Try again later.") from None

    def _expire(self) -> None:
        if self._task is not None:
            self._expired = True
            self._task.cancel()
