"""Engines of a serving cluster that take a while for each request: what happens within can then be tested."""

from __future__ import annotations

import asyncio

from nearfield.cluster.serving.engine_actor import EngineActor
from nearfield.engine.job import Ticket

SECONDS = 0.1


def install() -> None:
    """Let each ticket take at least ``SECONDS`` (Ray's ``worker_process_setup_hook``)."""
    end_of = EngineActor._end_of

    async def slow(self: EngineActor, ticket: Ticket) -> None:
        await asyncio.sleep(SECONDS)
        await end_of(self, ticket)

    EngineActor._end_of = slow  # type: ignore[method-assign]
