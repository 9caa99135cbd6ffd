"""`EngineHost`: the engine's end of a channel, which runs the tickets of another process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from nearfield.engine.engine import Engine
from nearfield.engine.ipc.remote_engine import EngineReply, EngineRequest, Snapshot
from nearfield.engine.ipc.transport import Channel, sendable
from nearfield.engine.job import Runner, Ticket
from nearfield.errors import NearfieldError


class EngineHost:
    """Receives tickets over a channel, runs them on the engine, and sends their results or errors.

    Args:
        engine: the engine of this process.
        runners: the models that the other process can use, in the order that it knows.
        channel: the connection to the other process.
        on_failure: called with each internal error: the other process does not know where it was raised.
    """

    def __init__(
        self, engine: Engine, runners: Sequence[Runner], channel: Channel, on_failure: Callable[[Exception], None]
    ) -> None:
        self._engine = engine
        self._runners = runners
        self._channel = channel
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, Ticket] = {}
        self._done: deque[tuple[int, Ticket]] = deque()
        self._sending = False
        channel.handlers |= {"run": self._run, "cancel": self._cancel}

    def send_snapshot(self, snapshot: Snapshot) -> None:
        """Send the state of the engine to the other process."""
        self._channel.send("engine", snapshot)

    def close(self) -> None:
        """Drop jobs of the other process that have not started."""
        tickets, self._open = list(self._open.values()), {}
        for ticket in tickets:
            self._engine.cancel(ticket)

    def _run(self, request: EngineRequest) -> None:
        runner, flow = self._runners[request.runner], (id(self), request.caller.flow)
        ticket = request.to_ticket(runner, flow, partial(self._on_done, request.number))
        self._open[request.number] = ticket
        try:
            self._engine.submit(ticket)
        except NearfieldError as error:
            del self._open[request.number]
            refusal = EngineReply(request.number, error=error, unstarted_tokens=ticket.unstarted_tokens)
            self._channel.send("ended", [refusal])

    def _cancel(self, number: int) -> None:
        ticket = self._open.pop(number, None)
        if ticket is not None:
            self._engine.cancel(ticket)
            self._channel.send("ended", [EngineReply(number, unstarted_tokens=ticket.unstarted_tokens)])

    def _on_done(self, number: int, ticket: Ticket) -> None:
        """Queue the reply to a ticket, on the lane's thread. Tickets that end together are sent together."""
        self._done.append((number, ticket))
        if self._sending:
            return
        self._sending = True
        try:
            self._loop.call_soon_threadsafe(self._send_replies)
        except RuntimeError:
            return  # the loop is closed, and no task waits

    def _send_replies(self) -> None:
        self._sending = False
        replies = []
        while self._done:
            number, ticket = self._done.popleft()
            if self._open.pop(number, None) is not None:
                replies.append(self._reply(number, ticket))
        if replies:
            self._channel.send("ended", replies)

    def _reply(self, number: int, ticket: Ticket) -> EngineReply:
        reply = reply_of(number, ticket)
        if ticket.errors and getattr(error := ticket.errors[min(ticket.errors)], "status", 500) == 500:
            self._on_failure(error)
        return reply


def reply_of(number: int, ticket: Ticket) -> EngineReply:
    """Return the end of a ticket as a message."""
    seconds = (ticket.queued_seconds, ticket.total_seconds)
    if not ticket.errors:
        return EngineReply(number, ticket.rows, None, None, *seconds)
    index = min(ticket.errors)
    return EngineReply(number, None, sendable(ticket.errors[index]), index, *seconds, ticket.unstarted_tokens)


def snapshot(engine: Engine) -> Snapshot:
    """Return the state of an engine."""
    try:
        engine._scheduler.check_open()
        refusal = None
    except NearfieldError as error:
        refusal = error
    return Snapshot(engine.stats(), tuple(engine.reasons), refusal, engine._scheduler.refusals())
