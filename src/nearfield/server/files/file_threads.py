"""The threads that read and write files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")
#: Threads for files only: a slow disk must not delay the threads that tokenise.
_POOL = ThreadPoolExecutor(4, thread_name_prefix="files")


async def in_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a function in a thread, and wait for its end even when cancelled, since it uses the caller's objects."""
    work = asyncio.get_running_loop().run_in_executor(_POOL, function, *arguments)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()
        raise
