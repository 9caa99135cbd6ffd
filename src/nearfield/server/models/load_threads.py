"""`LoadThreads`: the threads that load models, which may wait for the Hub or the disk; owners take turns."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TypeVar

from nearfield.errors import Overloaded

ResultT = TypeVar("ResultT")
#: Models that load at the same time, and those of one owner. A Hub that does not answer blocks a thread for a minute.
_THREADS, _OWNER_THREADS = 8, 2
#: Names of one owner that are looked for at the same time, if only a pattern allows them and none was ever loaded.
MAX_UNKNOWN_NAMES = 8
#: Seconds after which an owner with that many may try again.
_RETRY_SECONDS = 10.0


@dataclass(eq=False)
class LoadTurn:
    """The turn of one load; several owners may wait for it."""

    granted: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class LoadThreads:
    """Grants turns to loads, and runs them in threads apart from asyncio's, which requests need."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="nearfield-load")
        self._running: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._waiting: dict[str, deque[LoadTurn]] = {}

    def enter_unknown(self, owner: str) -> None:
        """Count a name that may not exist.

        Raises:
            Overloaded: too many such names of this owner are being looked for.
        """
        if self._unknown[owner] >= MAX_UNKNOWN_NAMES:
            raise Overloaded(
                f"{MAX_UNKNOWN_NAMES} models that were never loaded here are being looked for. Try again later.",
                retry_after=_RETRY_SECONDS,
            )
        self._unknown[owner] += 1

    def leave_unknown(self, owner: str) -> None:
        """Count a name no longer."""
        self._unknown[owner] -= 1
        if not self._unknown[owner]:
            del self._unknown[owner]

    def join(self, turn: LoadTurn, owner: str) -> None:
        """Let a load run at the turn of this owner, too."""
        if not turn.granted.done():
            waiting = self._waiting.setdefault(owner, deque())
            if turn not in waiting:
                waiting.append(turn)
            self._grant()

    async def run(self, function: Callable[[str], ResultT], name: str) -> ResultT:
        """Return what ``function`` returns in a thread; the caller's turn was granted before."""
        context = copy_context()  # the work is its caller's
        return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, function, name)

    def end(self, turn: LoadTurn) -> None:
        """End a turn, whether it was granted or not."""
        if not turn.granted.done():
            turn.granted.cancel()
        elif not turn.granted.cancelled():
            owner = turn.granted.result()
            self._running[owner] -= 1
            if not self._running[owner]:
                del self._running[owner]
        self._grant()

    def _grant(self) -> None:
        """Grant turns while threads are free, in the order of the owners' last turns."""
        for owner in list(self._waiting):
            if self._running.total() >= _THREADS:
                return
            turns = self._waiting.pop(owner)
            while turns and turns[0].granted.done():
                turns.popleft()
            if turns and self._running[owner] < _OWNER_THREADS:
                self._running[owner] += 1
                turns.popleft().granted.set_result(owner)
            if turns:
                self._waiting[owner] = turns  # behind all others
