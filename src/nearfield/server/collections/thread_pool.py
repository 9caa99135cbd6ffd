"""Threads: where a server does what blocks for long, apart from its event loop and from asyncio's own threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from nearfield.errors import Overloaded

Made = TypeVar("Made")


class BoundedThreadPool:
    """So many threads, and room for some requests that wait for one.

    asyncio's own are needed by all requests: what took long in them would keep the others waiting.
    """

    def __init__(self, count: int, name: str, waiting: int) -> None:
        self._most, self._held = count + waiting, 0
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=f"nearfield-{name}")

    async def run(self, do: Callable[..., Made], *given: Any, anyway: bool = False) -> Made:
        """Call something in a thread.

        Raises:
            Overloaded: too many wait already, unless it is to be done ``anyway``.
        """
        self._count(anyway)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, do, *given)
        finally:
            self._held -= 1

    def _count(self, anyway: bool) -> None:
        if self._held >= self._most and not anyway:
            raise Overloaded("Too many such requests are waiting. Try again later.")
        self._held += 1

    async def step(self, pieces: Iterator[Made], *, anyway: bool = False) -> Made | None:
        """Take the next of an iterator, None at its end; who stops waiting closes it, once it can be closed.

        Raises:
            Overloaded: as ``run``.
        """
        self._count(anyway)
        future = self._pool.submit(next, pieces, None)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            future.add_done_callback(lambda _: pieces.close())  # type: ignore[attr-defined]
            raise
        finally:
            self._held -= 1

    def close(self) -> None:
        """Take nothing more, and wait for what is being done."""
        self._pool.shutdown(wait=True, cancel_futures=True)
