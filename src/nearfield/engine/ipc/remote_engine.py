"""`RemoteEngine`: an engine in another process of this program, for models without weights in this one."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nearfield.engine.ipc.transport import Channel
from nearfield.engine.job import Runner, Ticket
from nearfield.engine.stats import BatchReport, EngineStats
from nearfield.engine.turns import CALLER, Caller
from nearfield.errors import NearfieldError, ShuttingDown
from nearfield.features import Features, JoinedTexts

if TYPE_CHECKING:
    from nearfield.heads import OutputRequest


@dataclass(frozen=True)
class Snapshot:
    """The state of an engine: its stats, reasons why it is not ready, and the error that a small ticket would get.

    ``refusals`` has that error for the owners that have used up their share of the queue, ``refusal`` is for all.
    """

    stats: EngineStats
    reasons: tuple[str, ...] = ()
    refusal: NearfieldError | None = None
    refusals: Mapping[str, NearfieldError] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineRequest:
    """A ticket as a message: the features of its jobs, those of texts joined, and its options."""

    number: int
    runner: int
    inputs: JoinedTexts | Sequence[Features]
    skips: Sequence[int] | None
    extras: Sequence[OutputRequest | None] | None
    bulk: bool
    deadline: float | None
    created: float
    caller: Caller

    @classmethod
    def from_ticket(cls, number: int, runner: int, ticket: Ticket) -> EngineRequest:
        """Return a ticket as a message; ``runner`` is the number of its model."""
        jobs = ticket.jobs
        return cls(
            number,
            runner,
            JoinedTexts.join([job.features for job in jobs]),
            [job.skip for job in jobs] if any(job.skip for job in jobs) else None,
            [job.extra for job in jobs] if any(job.extra is not None for job in jobs) else None,
            ticket.bulk,
            ticket.deadline,
            ticket.created,
            ticket.caller,
        )

    def to_ticket(self, runner: Runner, flow: Hashable, on_done: Callable[[Ticket], None] | None = None) -> Ticket:
        """Return the ticket of this message; ``flow`` sets the turns of its sender apart from those of others."""
        inputs = self.inputs
        return Ticket.create(
            runner,
            inputs.split() if isinstance(inputs, JoinedTexts) else inputs,
            self.skips,
            self.extras,
            bulk=self.bulk,
            deadline=self.deadline,
            created=self.created,
            caller=Caller(self.caller.owner, flow),
            on_done=on_done,
        )


@dataclass(frozen=True)
class EngineReply:
    """The end of a ticket: rows, or the first error and the index of its input; no index if the ticket was refused.

    A cancelled ticket has neither.
    """

    number: int
    rows: Any = None
    error: Exception | None = None
    index: int | None = None
    queued_seconds: float | None = None
    total_seconds: float = 0.0
    unstarted_tokens: int = 0

    def end(self, ticket: Ticket) -> None:
        """End the ticket that this is the reply to.

        Raises:
            NearfieldError: the engine refused the ticket.
        """
        ticket.unstarted_tokens = self.unstarted_tokens
        ticket.report_unstarted()
        if self.error is not None and self.index is None:
            raise self.error
        if self.error is not None and self.index is not None:
            ticket.errors[self.index] = self.error
        else:
            ticket.rows = self.rows
        ticket.remaining = 0
        ticket.queued_seconds, ticket.total_seconds = self.queued_seconds, self.total_seconds
        ticket.notify_done()


class RemoteEngine:
    """The methods of ``Engine`` that callers on an event loop use. Both processes share one machine and its clock.

    The engine admits, orders and batches tickets of all processes together. This class knows the engine's queue and
    speed from its last snapshot, some tenths of a second ago. Without the engine's process, this process is of no use:
    the opener of the channel ends it when the channel is lost.
    """

    def __init__(self, channel: Channel, snapshot: Snapshot) -> None:
        self.observers: list[Callable[[BatchReport], None]] = []
        self._channel = channel
        self._snapshot = snapshot
        self._runners: dict[int, int] = {}
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[Ticket, asyncio.Future[None]]] = {}
        #: Tickets whose callers have left, until the engine says how much of them was not begun.
        self._cancelled: dict[int, Ticket] = {}
        channel.handlers |= {"ended": self._on_replies, "engine": self._on_snapshot}

    def serve(self, runners: Sequence[Runner]) -> None:
        """Set the models, in the order in which the engine's process has them."""
        self._runners = {id(runner): number for number, runner in enumerate(runners)}

    @property
    def reasons(self) -> list[str]:
        """Reasons why the engine is not ready; empty if it is."""
        return ["the engine's process has ended"] if self._channel.lost else list(self._snapshot.reasons)

    @property
    def ready(self) -> bool:
        """Whether the engine accepts and runs work now."""
        return not self.reasons

    def stats(self) -> EngineStats:
        """Return queues, lanes and speed, from the last snapshot."""
        return self._snapshot.stats

    def check_room(self) -> None:
        """Raise the error that a ticket of one token of this caller would have got at the last snapshot."""
        refusal = self._snapshot.refusal or self._snapshot.refusals.get(CALLER.get().owner)
        if refusal is not None:
            raise copy.copy(refusal)

    async def run(self, ticket: Ticket) -> Any:
        """Send a ticket and await its rows; cancelling the awaiting task drops the jobs that have not started.

        Raises:
            NearfieldError: the engine refused the ticket, or an input failed.
        """
        if not ticket.jobs:
            ticket.notify_done()
            return ticket.outcome()
        if self._channel.lost:
            raise ShuttingDown("The engine's process has ended.")
        number = next(self._numbers)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (ticket, done)
        self._channel.send("run", EngineRequest.from_ticket(number, self._runners[id(ticket.runner)], ticket))
        try:
            await done
        except asyncio.CancelledError:
            self._channel.send("cancel", number)
            self._cancelled[number] = ticket
            raise
        finally:
            self._waiting.pop(number, None)
        return ticket.outcome()

    def forget(self, runner: Runner) -> None:
        """Do nothing: this process holds no memory of a model."""

    def _on_snapshot(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def _on_replies(self, replies: Sequence[EngineReply]) -> None:
        for reply in replies:
            cancelled = self._cancelled.pop(reply.number, None)
            if cancelled is not None:
                cancelled.unstarted_tokens = reply.unstarted_tokens
                cancelled.report_unstarted()
            ticket, done = self._waiting.get(reply.number, (None, None))
            if ticket is None or done is None or done.done():
                continue  # the caller has cancelled
            try:
                reply.end(ticket)
            except Exception as error:  # noqa: BLE001 - the caller raises it
                done.set_exception(error)
                continue
            done.set_result(None)
