"""A bounded pool of threads for calls that block long, apart from the event loop and from asyncio's own threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from nearfield.errors import Overloaded

ResultT = TypeVar("ResultT")


class BoundedThreadPool:
    """A number of threads, and a maximum number of calls that wait for one.

    All requests need asyncio's own threads: slow calls in them would delay the others.
    """

    def __init__(self, threads: int, name: str, max_waiting: int) -> None:
        self._max_calls, self._calls = threads + max_waiting, 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"nearfield-{name}")

    async def run(self, function: Callable[..., ResultT], *arguments: Any, force: bool = False) -> ResultT:
        """Call a function in a thread.

        Raises:
            Overloaded: too many calls wait already, unless ``force`` is true.
        """
        self._enter(force)
        try:
            context = copy_context()  # the work is its caller's
            return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, function, *arguments)
        finally:
            self._calls -= 1

    def _enter(self, force: bool) -> None:
        if self._calls >= self._max_calls and not force:
            raise Overloaded("Too many such requests are waiting. Try again later.")
        self._calls += 1

    async def step(self, pieces: Iterator[ResultT], *, force: bool = False) -> ResultT | None:
        """Return the next item of a generator, None at its end. If cancelled, the generator is closed after the step.

        Raises:
            Overloaded: as ``run``.
        """
        self._enter(force)
        future = self._pool.submit(next, pieces, None)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            future.add_done_callback(lambda _: pieces.close())  # type: ignore[attr-defined]
            raise
        finally:
            self._calls -= 1

    def close(self) -> None:
        """Accept no more calls, and wait for those in progress."""
        self._pool.shutdown(wait=True, cancel_futures=True)
