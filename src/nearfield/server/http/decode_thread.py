"""The thread that decodes large bodies, beside the event loop; owners take turns."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from nearfield.engine.fair_turns import FairTurns

ResultT = TypeVar("ResultT")


class DecodeThread:
    """Runs functions that decode or convert large bodies in one thread, one at a time.

    There is one thread only: a decoder does not release the interpreter, so that two would not be faster, and the
    event loop would wait for both.
    """

    def __init__(self) -> None:
        self._turns = FairTurns()
        self._pool = ThreadPoolExecutor(1, "nearfield-decode")

    async def run(self, owner: str, function: Callable[[], ResultT]) -> ResultT:
        """Return what ``function`` returns in the thread, once it is the owner's turn."""
        await self._turns.acquire(owner)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, _run, function)
        finally:
            self._turns.release()

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
