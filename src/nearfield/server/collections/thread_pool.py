"""A bounded pool of threads for calls that block long, apart from the event loop and from asyncio's own threads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from nearfield.engine.turns import CALLER
from nearfield.errors import Overloaded

ResultT = TypeVar("ResultT")


class BoundedThreadPool:
    """A number of threads whose owners take turns, and a maximum number of calls that wait for one.

    All requests need asyncio's own threads: slow calls in them would delay the others. The owner is that of the current
    request (``CALLER``). One owner never has all threads, so that a call of another one need not wait for its long
    calls. An owner may have half of the waiting calls, or an equal share if the owners together have too many. Its use
    is limited to one event loop.
    """

    def __init__(self, threads: int, name: str, max_waiting: int) -> None:
        self._free, self._threads_per_owner = threads, max(1, threads - max(1, threads // 4))
        self._max_waiting, self._waiting_calls = max_waiting, 0
        self._running: dict[str, int] = {}
        #: The owners that wait; the one that had a turn least recently is the first.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"nearfield-{name}")

    async def run(self, function: Callable[..., ResultT], *arguments: Any, force: bool = False) -> ResultT:
        """Call a function in a thread.

        Raises:
            Overloaded: too many calls of this owner wait already, unless ``force`` is true.
        """
        context = copy_context()  # the work is its caller's
        return await asyncio.wrap_future(await self._submit(force, context.run, function, *arguments))

    async def step(self, pieces: Iterator[ResultT], *, force: bool = False) -> ResultT | None:
        """Return the next item of a generator, None at its end. If cancelled, the generator is closed after the step.

        Raises:
            Overloaded: as ``run``.
        """
        future = await self._submit(force, next, pieces, None)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            future.add_done_callback(lambda _: pieces.close())  # type: ignore[attr-defined]
            raise

    def close(self) -> None:
        """Accept no more calls, and wait for those in progress."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    # -- turns ---------------------------------------------------------------------------------------------------

    async def _submit(self, force: bool, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Wait for a turn, and start a call; its thread is free again when the call ends, cancelled or not."""
        owner, loop = CALLER.get().owner, asyncio.get_running_loop()
        await self._acquire(owner, force)
        try:
            future = self._pool.submit(function, *arguments)
        except BaseException:  # the pool is closed
            self._release(owner)
            raise
        future.add_done_callback(lambda _: _call_soon(loop, self._release, owner))
        return future

    async def _acquire(self, owner: str, force: bool) -> None:
        if self._may_run(owner):
            self._start(owner)
            return
        if not force:
            self._check_share(owner)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._waiting_calls += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(owner)
            elif owner in self._waiting and turn in self._waiting[owner]:
                self._waiting_calls -= 1
                self._waiting[owner].remove(turn)
                if not self._waiting[owner]:
                    del self._waiting[owner]
            raise

    def _check_share(self, owner: str) -> None:
        """Raise Overloaded if an owner has its share of the waiting calls."""
        own = len(self._waiting.get(owner, ()))
        owners = len(self._waiting.keys() | {owner})
        share = self._max_waiting // (2 if self._waiting_calls < self._max_waiting else max(2, owners))
        if own >= max(min(1, self._max_waiting), share):
            raise Overloaded("Too many such requests are waiting. Try again later.")

    def _may_run(self, owner: str) -> bool:
        return self._free > 0 and self._running.get(owner, 0) < self._threads_per_owner

    def _start(self, owner: str) -> None:
        self._free -= 1
        self._running[owner] = self._running.get(owner, 0) + 1

    def _release(self, owner: str) -> None:
        """Free a thread of an owner, and start the calls that may run now."""
        self._free += 1
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]
        while (name := next(filter(self._may_run, self._waiting), None)) is not None:
            turns = self._waiting.pop(name)
            turn = turns.popleft()
            self._waiting_calls -= 1
            if turns:
                self._waiting[name] = turns  # behind all others
            if not turn.done():
                self._start(name)
                turn.set_result(None)


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
    """Call a function in a loop, unless that is closed."""
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        pass
