"""Host: the engine's side of a link, which runs the tickets of another process."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from nearfield.engine.engine import Engine
from nearfield.engine.ipc.remote_engine import EngineReply, EngineRequest, Snapshot
from nearfield.engine.ipc.transport import Channel, sendable
from nearfield.engine.job import Runner, Ticket
from nearfield.errors import NearfieldError


class EngineHost:
    """Takes tickets over a link, gives them to the engine, and sends back what became of them.

    ``failed`` is called with each error that is no ordinary refusal: its cause and where it arose are known only here.
    """

    def __init__(
        self, engine: Engine, runners: Sequence[Runner], link: Channel, failed: Callable[[Exception], None]
    ) -> None:
        self._engine = engine
        self._runners = runners
        self._link = link
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, Ticket] = {}
        self._done: deque[tuple[int, Ticket]] = deque()
        self._awake = False
        link.handlers |= {"run": self._run, "cancel": self._cancel}

    def tell(self, snapshot: Snapshot) -> None:
        """Let the other process know how the engine is."""
        self._link.tell("engine", snapshot)

    def close(self) -> None:
        """Drop what of the other process's work has not started."""
        tickets, self._open = list(self._open.values()), {}
        for ticket in tickets:
            self._engine.cancel(ticket)

    def _run(self, request: EngineRequest) -> None:
        whole = np.frombuffer(request.ids, np.int32)
        ends = itertools.accumulate(request.lengths, initial=0)
        inputs: Any = [whole[start:end] for start, end in itertools.pairwise(ends)]
        ticket = Ticket.create(
            self._runners[request.runner],
            inputs,
            request.skips,
            request.extras,
            bulk=request.bulk,
            deadline=request.deadline,
            created=request.created,
            on_done=partial(self._finished, request.number),
        )
        self._open[request.number] = ticket
        try:
            self._engine.submit(ticket)
        except NearfieldError as error:
            del self._open[request.number]
            self._link.tell("ended", [EngineReply(request.number, error=error)])

    def _cancel(self, number: int) -> None:
        ticket = self._open.pop(number, None)
        if ticket is not None:
            self._engine.cancel(ticket)

    def _finished(self, number: int, ticket: Ticket) -> None:
        """Note on the lane's thread that a ticket has ended: those that end together are sent together."""
        self._done.append((number, ticket))
        if self._awake:
            return
        self._awake = True
        try:
            self._loop.call_soon_threadsafe(self._send)
        except RuntimeError:
            return  # the loop is closed: nobody is left to be told

    def _send(self) -> None:
        self._awake = False
        outcomes = []
        while self._done:
            number, ticket = self._done.popleft()
            if self._open.pop(number, None) is not None:
                outcomes.append(self._outcome(number, ticket))
        if outcomes:
            self._link.tell("ended", outcomes)

    def _outcome(self, number: int, ticket: Ticket) -> EngineReply:
        seconds = (ticket.queued_seconds, ticket.total_seconds)
        if not ticket.errors:
            return EngineReply(number, ticket.rows, None, None, *seconds)
        index = min(ticket.errors)
        error = ticket.errors[index]
        if getattr(error, "status", 500) == 500:
            self._failed(error)
        return EngineReply(number, None, sendable(error), index, *seconds)


def snapshot(engine: Engine) -> Snapshot:
    """Return how an engine is now."""
    try:
        engine.check_room()
        refusal = None
    except NearfieldError as error:
        refusal = error
    return Snapshot(engine.stats(), tuple(engine.reasons), refusal)
