"""The thread that encodes large replies, beside the event loop and asyncio's own threads; owners take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nearfield.engine.fair_turns import FairTurns
from nearfield.server.http.decode_thread import suspended_collection

ResultT = TypeVar("ResultT")


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
