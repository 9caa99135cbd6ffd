"""`WorkerThreads`: threads for work beside the event loop, for which owners of requests take turns; `MediaThreads`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from threading import Event
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from nearfield.engine.fair_turns import FairTurns
from nearfield.engine.turns import CALLER
from nearfield.errors import DeadlineExceeded
from nearfield.fork_safety import PerProcess
from nearfield.media.decoder_process.pool import MAX_PROCESSES, ProcessNeeded, without_processes
from nearfield.media.limits import abandoned

ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")


async def in_order(calls: Sequence[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Await calls that run at the same time, and return their results in order.

    If one raises, the others are cancelled, and their errors are dropped: asyncio logs errors that are not awaited.
    """
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class WorkerThreads:
    """A pool of threads of this process. Calls of one event loop take turns by owner.

    Args:
        threads: number of threads.
        name: the beginning of the threads' names.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads = threads
        self._create = partial(ThreadPoolExecutor, threads, thread_name_prefix=name)
        self._pool = PerProcess[ThreadPoolExecutor]()
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, FairTurns] = WeakKeyDictionary()

    async def run(self, function: Callable[[], ResultT]) -> ResultT:
        """Run a function in a thread, once it is its owner's turn.

        If the call is cancelled, the function ends where it calls ``stop_if_abandoned``.
        """
        loop = asyncio.get_running_loop()
        event, context = Event(), copy_context()
        context.run(abandoned.set, event)
        turns = self._turns.setdefault(loop, FairTurns(self._threads))
        await turns.acquire(CALLER.get().owner)
        try:
            return await loop.run_in_executor(self._pool.get(self._create), context.run, function)
        except asyncio.CancelledError:
            event.set()
            raise
        finally:
            turns.release()

    async def run_until(self, function: Callable[[], ResultT], expires_at: float | None, work: str) -> ResultT:
        """Run a function in a thread until a time of ``time.monotonic``; ``work`` says in a message what it does.

        Raises:
            DeadlineExceeded: the time came first. The thread ends by itself.
        """
        seconds = None if expires_at is None else max(0.0, expires_at - time.monotonic())
        try:
            return await asyncio.wait_for(self.run(function), seconds)
        except (asyncio.TimeoutError, TimeoutError):
            raise DeadlineExceeded(f"The deadline passed while the inputs were {work}.") from None

    async def map_until(
        self, functions: Sequence[Callable[[], ResultT]], expires_at: float | None, work: str
    ) -> list[ResultT]:
        """Return the results of functions that run at the same time, in order; arguments as for ``run_until``.

        Raises:
            DeadlineExceeded: the time came first.
            Exception: that of the first function that raises one. What has not begun is dropped.
        """
        return await in_order([self.run_until(function, expires_at, work) for function in functions])

    def map(self, function: Callable[[ItemT], ResultT], items: list[ItemT]) -> list[ResultT]:
        """Return the results of a function for each item, in order; the items are worked on at the same time.

        Raises:
            Exception: that of the first item whose function raises one. Items that have not begun are dropped.
        """
        if len(items) == 1:
            return [function(items[0])]
        futures = [self._pool.get(self._create).submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()


class MediaThreads(WorkerThreads):
    """Threads that decode, and others that wait for child processes.

    A file that occupies its process, for as long as it may, occupies none of the threads that decode other files.

    Args:
        threads: number of threads that decode.
        name: the beginning of the threads' names.
    """

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, name)
        self._waiting = WorkerThreads(MAX_PROCESSES, f"{name}-waiting")

    async def run(self, function: Callable[[], ResultT]) -> ResultT:
        """Run a function in a thread, once it is its owner's turn; again in another if it needs a child process."""
        try:
            return await super().run(partial(without_processes, function))
        except ProcessNeeded:
            return await self._waiting.run(function)
