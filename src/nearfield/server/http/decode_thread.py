"""The threads that decode large bodies and encode large replies, beside the event loop; owners take turns."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar

from nearfield.engine.fair_turns import FairTurns
from nearfield.hardware import return_memory

ResultT = TypeVar("ResultT")
#: Seconds of the shortest and longest pause between two functions.
_MIN_PAUSE, _MAX_PAUSE = 0.005, 0.25
#: Seconds after a long function until its memory is returned to the system.
_TRIM_AFTER = 1.0


class DecodeThread:
    """Runs functions that decode or convert large bodies in one thread, one at a time.

    There is one thread only: a decoder does not release the interpreter, so that two would not be faster, and the
    event loop would wait for both.
    """

    def __init__(self) -> None:
        self._turns = FairTurns()
        self._trim_scheduled = False
        self._pool = ThreadPoolExecutor(1, "nearfield-decode")

    async def run(self, owner: str, function: Callable[[], ResultT]) -> ResultT:
        """Return what ``function`` returns in the thread, once it is the owner's turn."""
        await self._turns.acquire(owner)
        loop, started = asyncio.get_running_loop(), time.perf_counter()
        try:
            return await loop.run_in_executor(self._pool, _run, function)
        finally:
            # After a long function, the event loop has twice as much time without one: a request needs several of its
            # turns, and would otherwise wait for a function at each of them.
            seconds = time.perf_counter() - started
            if seconds < _MIN_PAUSE:
                self._turns.release()
            else:
                self._schedule_trim(loop)
                loop.call_later(min(2 * seconds, _MAX_PAUSE), self._turns.release)

    def _schedule_trim(self, loop: asyncio.AbstractEventLoop) -> None:
        """Return the memory of large bodies to the system soon: the C library would retain 100 MB."""
        if not self._trim_scheduled:
            self._trim_scheduled = True
            loop.call_later(_TRIM_AFTER, self._trim)

    def _trim(self) -> None:
        self._trim_scheduled = False
        with suppress(RuntimeError):  # the server has stopped
            self._pool.submit(return_memory)

    def close(self) -> None:
        """Accept no more functions."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class EncodeThread:
    """Runs functions that encode large replies in one thread: several would compete for the interpreter."""

    def __init__(self) -> None:
        self._turns = FairTurns()
        self._pool = ThreadPoolExecutor(1, "nearfield-encode")

    async def run(self, owner: str, function: Callable[[], ResultT]) -> ResultT:
        """Return what ``function`` returns in the thread, once it is the owner's turn."""
        async with self._turns.slot(owner):
            return await asyncio.get_running_loop().run_in_executor(self._pool, _run, function)

    def close(self) -> None:
        """Accept no more functions."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _run(function: Callable[[], ResultT]) -> ResultT:
    with suspended_collection():
        return function()


_SUSPEND_LOCK = threading.Lock()
_suspensions = 0


@contextmanager
def suspended_collection() -> Iterator[None]:
    """Suspend the cyclic garbage collector, in all threads, while many objects are built that stay in use.

    The collector would scan them again and again: that is 85% of the time in which a million lists are decoded.
    """
    global _suspensions
    with _SUSPEND_LOCK:
        if not _suspensions and not gc.isenabled():
            enabled = False
        else:
            enabled = True
            _suspensions += 1
            gc.disable()
    try:
        yield
    finally:
        if enabled:
            with _SUSPEND_LOCK:
                _suspensions -= 1
                if not _suspensions:
                    gc.enable()
