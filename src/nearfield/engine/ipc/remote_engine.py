"""Remote: an engine in another process of this program, for models of which this one has shells alone."""

from __future__ import annotations

import asyncio
import copy
import itertools
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nearfield.engine.ipc.transport import Channel
from nearfield.engine.job import Ticket
from nearfield.engine.stats import EngineStats
from nearfield.errors import NearfieldError, ShuttingDown


@dataclass(frozen=True)
class Snapshot:
    """What an engine tells of itself: figures, why it is not ready, why it would refuse even the smallest ticket."""

    stats: EngineStats
    reasons: tuple[str, ...] = ()
    refusal: NearfieldError | None = None


@dataclass(frozen=True)
class EngineRequest:
    """A ticket as a message: the token ids of all jobs (int32, as bytes), the length of each, and its options."""

    number: int
    runner: int
    ids: bytes
    lengths: Sequence[int]
    skips: Sequence[int] | None
    extras: Sequence[Any] | None
    bulk: bool
    deadline: float | None
    created: float


@dataclass(frozen=True)
class EngineReply:
    """A ticket's end: rows, or the first error and the index of its input, None where the whole was refused."""

    number: int
    rows: Any = None
    error: Exception | None = None
    index: int | None = None
    queued_seconds: float | None = None
    total_seconds: float = 0.0


class RemoteEngine:
    """What callers on an event loop use of an ``Engine``. Its clock is ours: both processes run on one machine.

    Tickets are admitted, ordered and batched by the engine itself, across all processes that send it any. Of its queue
    and speed this one knows what it was told last, some tenths of a second ago. Without the engine's process this one
    is of no use: whoever opened the link ends it when the link is lost.
    """

    def __init__(self, link: Channel, snapshot: Snapshot) -> None:
        self.observers: list[Any] = []
        self._link = link
        self._known = snapshot
        self._runners: dict[int, int] = {}
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[Ticket, asyncio.Future[None]]] = {}
        link.handlers |= {"ended": self._ended, "engine": self._told}

    def serve(self, runners: Sequence[Any]) -> None:
        """Know what the engine runs, in the order in which its side knows it."""
        self._runners = {id(runner): number for number, runner in enumerate(runners)}

    @property
    def reasons(self) -> list[str]:
        """Why the engine is not ready; empty when it is."""
        return ["the engine's process is gone"] if self._link.lost else list(self._known.reasons)

    @property
    def ready(self) -> bool:
        """Whether work would be taken and run now."""
        return not self.reasons

    def stats(self) -> EngineStats:
        """Return what was told last of queues, lanes and speed."""
        return self._known.stats

    def check_room(self) -> None:
        """Raise what the smallest ticket would have been refused with a moment ago."""
        if self._known.refusal is not None:
            raise copy.copy(self._known.refusal)

    async def run(self, ticket: Ticket) -> Any:
        """Send a ticket and await its rows; cancelling the awaiting task drops what has not started.

        Raises:
            NearfieldError: what the engine raised, or an input's own error.
        """
        if not ticket.jobs:
            ticket.announce()
            return ticket.outcome()
        if self._link.lost:
            raise ShuttingDown("The engine's process is gone.")
        number = next(self._numbers)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (ticket, done)
        self._link.tell("run", _request(number, self._runners[id(ticket.runner)], ticket))
        try:
            await done
        except asyncio.CancelledError:
            self._link.tell("cancel", number)
            raise
        finally:
            self._waiting.pop(number, None)
        return ticket.outcome()

    def forget(self, runner: Any) -> None:
        """Nothing of a model is kept here."""

    def _told(self, snapshot: Snapshot) -> None:
        self._known = snapshot

    def _ended(self, outcomes: Sequence[EngineReply]) -> None:
        for outcome in outcomes:
            ticket, done = self._waiting.get(outcome.number, (None, None))
            if ticket is None or done is None or done.done():
                continue  # whoever asked has left
            if outcome.error is not None and outcome.index is None:
                done.set_exception(outcome.error)
                continue
            if outcome.error is not None and outcome.index is not None:
                ticket.errors[outcome.index] = outcome.error
            else:
                ticket.rows = outcome.rows
            ticket.remaining = 0
            ticket.queued_seconds, ticket.total_seconds = outcome.queued_seconds, outcome.total_seconds
            ticket.announce()
            done.set_result(None)


def _request(number: int, runner: int, ticket: Ticket) -> EngineRequest:
    jobs = ticket.jobs
    return EngineRequest(
        number,
        runner,
        b"".join(array("i", job.ids).tobytes() for job in jobs),
        [len(job.ids) for job in jobs],
        [job.skip for job in jobs] if any(job.skip for job in jobs) else None,
        [job.extra for job in jobs] if any(job.extra is not None for job in jobs) else None,
        ticket.bulk,
        ticket.deadline,
        ticket.created,
    )
