"""`ClusterEngine`: the engines of one group, wherever they run, as the models of a front see them: as one engine.

A ticket goes to the engine with the fewest queued tokens. The queues are known from the controller's last message, some
tenths of a second ago; to these are added the tokens that this front has sent since. A ticket whose engine is lost, or
refuses it, is sent once more, to another engine: computing a ticket twice gives the same rows. It is not sent a third
time, so that an input that ends the process of its engine costs two of them and not all.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from nearfield.cluster.serving.messages import EngineState, with_durations
from nearfield.engine.ipc.remote_engine import EngineReply, EngineRequest, Snapshot
from nearfield.engine.job import Runner, Ticket
from nearfield.engine.stats import BatchReport, EngineStats
from nearfield.engine.turns import CALLER
from nearfield.errors import NearfieldError, Overloaded, ShuttingDown
from nearfield.server.logs import LOG

_MAX_ATTEMPTS = 2
#: Seconds before a deadline at which a request that waits for an engine is refused: later its client gets a timeout,
#: which says less.
_REFUSAL_SECONDS = 0.5
#: Refusals of one engine that another one may not share.
_ELSEWHERE = (Overloaded, ShuttingDown)


class NoEngine(Overloaded):
    """No engine has the model now. ``retry_after`` is the time that it takes to load one."""

    status = 503
    code = "no_engine"


class EngineLost(NearfieldError):
    """The engines that computed a request ended before they answered."""

    status = 502
    code = "engine_lost"


@dataclass(eq=False)
class EngineMember:
    """One engine as a front sees it."""

    number: int
    actor: Any
    snapshot: Snapshot
    node_id: str = ""
    #: Tokens that this front has sent and that have not ended; and those of them when the snapshot arrived.
    sent: int = 0
    sent_before: int = 0
    #: Whether a request found it dead. The controller replaces it.
    lost: bool = False

    @property
    def load(self) -> int:
        """Tokens that wait there, as far as known."""
        return self.snapshot.stats.queued_tokens + max(0, self.sent - self.sent_before)

    def refusal(self, owner: str) -> NearfieldError | None:
        """Return the error that a small ticket would have got there."""
        return self.snapshot.refusal or self.snapshot.refusals.get(owner)

    def update(self, snapshot: Snapshot) -> None:
        """Record the queue of the engine."""
        self.snapshot, self.sent_before = snapshot, self.sent


@dataclass(frozen=True)
class WaitLimits:
    """How long, and how many, tokens may wait in a front while there is no engine."""

    seconds: float
    tokens: int


class ClusterEngine:
    """The methods of ``Engine`` that callers on an event loop use, for the engines of a group.

    Args:
        front: the name of this front, by which engines distinguish its tickets.
        limits: limits of waiting for an engine.
        call: calls a method of an actor and returns its result; it raises ``EngineLost`` if the actor is dead.
    """

    def __init__(self, front: str, limits: WaitLimits, call: Callable[..., Any]) -> None:
        self.observers: list[Callable[[BatchReport], None]] = []
        self.waiting_tokens = 0
        self.load_seconds = 1.0
        #: Names of the models.
        self.models: tuple[str, ...] = ()
        self._front = front
        self._limits = limits
        self._call = call
        self._members: dict[int, EngineMember] = {}
        self._lost: set[int] = set()
        self._runners: dict[int, int] = {}
        self._numbers = itertools.count()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Future[Any]] = set()

    def serve(self, runners: Sequence[Runner]) -> None:
        """Set the models, in the order in which engines have them."""
        self._runners = {id(runner): number for number, runner in enumerate(runners)}
        self.models = tuple(dict.fromkeys(runner.name for runner in runners))

    def update(self, states: Sequence[EngineState]) -> None:
        """Use these engines from now on, and no others."""
        members = {}
        for state in states:
            member = self._members.get(state.number) or EngineMember(
                state.number, state.actor, state.snapshot, state.node_id
            )
            member.update(state.snapshot)
            members[state.number] = member
        self._members = members
        self._lost &= set(members)
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def lost(self) -> list[int]:
        """Engines that requests found dead, until the controller has taken them away."""
        return sorted(self._lost)

    @property
    def count(self) -> int:
        """How many engines can take requests now."""
        return len(self._usable())

    def actors_on(self, node_id: str) -> dict[int, Any]:
        """Return the engines on a node, by their numbers."""
        return {number: member.actor for number, member in self._members.items() if member.node_id == node_id}

    @property
    def reasons(self) -> list[str]:
        """Reasons why requests would not be served now. That engines are started when needed is none."""
        return []

    @property
    def ready(self) -> bool:
        """Whether requests are accepted."""
        return not self.reasons

    def stats(self) -> EngineStats:
        """Return the sums of queues, lanes and speed over all engines, and what waits for one."""
        every = [member.snapshot.stats for member in self._members.values()]

        def total(name: str) -> Any:
            return sum(getattr(stats, name) for stats in every)

        return EngineStats(
            queued_jobs=total("queued_jobs"),
            queued_jobs_bulk=total("queued_jobs_bulk"),
            queued_tokens=total("queued_tokens") + self.waiting_tokens,
            queued_tokens_bulk=total("queued_tokens_bulk"),
            running_batches=total("running_batches"),
            tokens_per_second=total("tokens_per_second"),
            lanes=total("lanes"),
            lanes_alive=total("lanes_alive"),
            draining=False,
            peak_tokens_per_second=total("peak_tokens_per_second"),
        )

    def check_room(self) -> None:
        """Raise the error that a ticket of one token of this caller would have got, if all engines refuse it."""
        owner = CALLER.get().owner
        refusals = [member.refusal(owner) for member in self._usable()]
        if refusals and all(refusals):
            raise copy.copy(refusals[0])  # type: ignore[misc]  # none of them is None
        if not refusals:
            self._check_waiting(1)

    def forget(self, runner: Runner) -> None:
        """Do nothing: this process holds no memory of a model."""

    async def run(self, ticket: Ticket) -> Any:
        """Send a ticket to an engine and await its rows; cancelling the task drops the jobs that have not started.

        Raises:
            NoEngine: there was no engine until the deadline.
            EngineLost: two engines ended while they computed it.
            NearfieldError: the engines refused the ticket, or an input failed.
        """
        if not ticket.jobs:
            ticket.notify_done()
            return ticket.outcome()
        request = EngineRequest.from_ticket(next(self._numbers), self._runners[id(ticket.runner)], ticket)
        (await self._reply(request, ticket.tokens)).end(ticket)
        return ticket.outcome()

    async def _reply(self, request: EngineRequest, tokens: int) -> EngineReply:
        tried: list[EngineMember] = []
        while True:
            member = await self._member(request, tokens, tried)
            tried.append(member)
            try:
                reply = await self._send(member, request, tokens)
            except EngineLost as error:
                self._note_lost(member, error)
                if len(tried) >= _MAX_ATTEMPTS:
                    raise
                continue
            if len(tried) >= _MAX_ATTEMPTS or not self._may_retry(reply, tried):
                return reply

    def _may_retry(self, reply: EngineReply, tried: Collection[EngineMember]) -> bool:
        """Whether to try another engine after a refusal; after that of one that ends, a new one is waited for."""
        if reply.index is not None or not isinstance(reply.error, _ELSEWHERE):
            return False
        return isinstance(reply.error, ShuttingDown) or bool(self._usable(tried))

    async def _send(self, member: EngineMember, request: EngineRequest, tokens: int) -> EngineReply:
        """Return the reply of an engine. If the caller leaves, the engine drops what it has not begun."""
        member.sent += tokens
        try:
            reply: EngineReply = await self._call(member.actor.run, self._front, with_durations(request))
            return reply
        except asyncio.CancelledError:
            self._spawn(self._cancel(member, request.number))
            raise
        finally:
            member.sent -= tokens

    async def _cancel(self, member: EngineMember, number: int) -> None:
        with contextlib.suppress(EngineLost):
            await self._call(member.actor.cancel, self._front, number)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _note_lost(self, member: EngineMember, error: EngineLost) -> None:
        if not member.lost:
            LOG.warning("engine %s is lost: %s", member.number, error)
        member.lost = True
        self._lost.add(member.number)

    # -- choice ----------------------------------------------------------------------------------------------------

    def _usable(self, tried: Collection[EngineMember] = ()) -> list[EngineMember]:
        return [member for member in self._members.values() if not member.lost and member not in tried]

    async def _member(self, request: EngineRequest, tokens: int, tried: Collection[EngineMember]) -> EngineMember:
        """Return the engine with the fewest queued tokens; wait for one while there is none."""
        usable = self._usable(tried) or await self._wait(request.deadline, tokens, tried)
        # Engines with equal queues take turns.
        start = request.number % len(usable)
        return min((*usable[start:], *usable[:start]), key=lambda member: member.load)

    async def _wait(self, deadline: float | None, tokens: int, tried: Collection[EngineMember]) -> list[EngineMember]:
        """Wait until there is an engine, which the controller starts because of the tokens that wait."""
        self._check_waiting(tokens)
        until = time.monotonic() + self._limits.seconds
        until = until if deadline is None else min(until, deadline - _REFUSAL_SECONDS)
        self.waiting_tokens += tokens
        try:
            while not (usable := self._usable(tried)):
                await self._next_change(until - time.monotonic())
            return usable
        finally:
            self.waiting_tokens -= tokens

    async def _next_change(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), max(seconds, 0.0))
        except asyncio.TimeoutError as error:
            raise NoEngine(
                "No engine has this model now; one is being started. Try again later.", retry_after=self.load_seconds
            ) from error

    def _check_waiting(self, tokens: int) -> None:
        waiting = self.waiting_tokens
        if waiting and waiting + tokens > self._limits.tokens:
            raise NoEngine(
                f"{waiting} tokens wait already for an engine to start. Try again later.",
                retry_after=self.load_seconds,
            )
