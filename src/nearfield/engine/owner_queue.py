"""`OwnerQueue`: the waiting jobs of one owner; `QueueRank`: the owners that take turns with each other."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator

from nearfield.engine.backlog import Backlog, WaitingWork
from nearfield.engine.job import Job, Runner
from nearfield.engine.turns import TurnClock

#: The two classes of jobs and ranks of owners: whether they are bulk.
INTERACTIVE, BULK = False, True


class BulkAgeing:
    """Decides when bulk work has waited so long behind interactive batches that it is next."""

    __slots__ = ("_interactive_batches", "_last_bulk_batch")

    def __init__(self) -> None:
        self._last_bulk_batch = time.monotonic()
        self._interactive_batches = 0

    def record(self, bulk: bool) -> None:
        """Record that a batch of a class was taken."""
        if bulk:
            self._last_bulk_batch = time.monotonic()
            self._interactive_batches = 0
        else:
            self._interactive_batches += 1

    def is_overdue(self, limit: float) -> bool:
        """Return whether the last bulk batch was more than ``limit`` seconds ago, and others were taken since.

        If one batch takes longer than that, bulk is overdue whenever a lane is free: it then has every second turn.
        """
        return self._interactive_batches > 0 and time.monotonic() - self._last_bulk_batch > limit


class OwnerQueue:
    """The waiting jobs of one owner: a backlog for each model and class."""

    __slots__ = ("ageing", "backlogs", "bulk", "entered", "interactive", "name", "progress")

    def __init__(self, name: str) -> None:
        self.name = name
        self.interactive, self.bulk = WaitingWork(), WaitingWork()
        self.backlogs: dict[tuple[Runner, bool], Backlog] = {}
        self.ageing = BulkAgeing()
        #: Progress by rank, and whether the owner waits in each rank.
        self.progress = [0.0, 0.0]
        self.entered = [False, False]

    @property
    def tokens(self) -> int:
        """Tokens that wait."""
        return self.interactive.tokens + self.bulk.tokens

    @property
    def is_waiting(self) -> bool:
        """Whether any job waits."""
        return self.interactive.count > 0 or self.bulk.count > 0

    def backlog(self, runner: Runner, bulk: bool) -> Backlog:
        """Return the backlog of a model and class."""
        backlog = self.backlogs.get((runner, bulk))
        if backlog is None:
            total = self.bulk if bulk else self.interactive
            backlog = self.backlogs[runner, bulk] = Backlog(total)
        return backlog

    def next_runner(self, bulk: bool) -> Runner:
        """Return the model of the flow whose turn it is among those of a class; some job of the class waits."""
        backlogs = [key for key, backlog in self.backlogs.items() if key[1] is bulk and backlog.count]
        return min(backlogs, key=lambda key: self.backlogs[key].turn)[0] if len(backlogs) > 1 else backlogs[0][0]

    def waits_in(self, rank: bool, heavy_tokens: int) -> bool:
        """Return whether it has work in a rank: an owner with many interactive tokens waits among bulk."""
        heavy = self.interactive.tokens > heavy_tokens
        if rank is INTERACTIVE:
            return self.interactive.count > 0 and not heavy
        return self.bulk.count > 0 or heavy

    def tokens_in(self, rank: bool, heavy_tokens: int) -> int:
        """Return the tokens that wait in a rank."""
        heavy = self.interactive.tokens > heavy_tokens
        if rank is INTERACTIVE:
            return 0 if heavy else self.interactive.tokens
        return self.bulk.tokens + (self.interactive.tokens if heavy else 0)

    def tokens_ahead(self, flow: Hashable, tokens: int, bulk: bool) -> int:
        """Return the tokens that wait before those of a new ticket of a flow: interactive ones before bulk ones."""
        ahead = sum(queue.tokens_ahead(flow, tokens) for (_, kind), queue in self.backlogs.items() if kind is bulk)
        return ahead + (self.interactive.tokens if bulk else 0)

    def has_waiting(self, runner: Runner) -> bool:
        """Return whether a job of a model waits."""
        return any(backlog.count for (key, _), backlog in self.backlogs.items() if key is runner)

    def waiting(self, runner: Runner | None = None) -> Iterator[Job]:
        """Yield waiting jobs, of one model or of all."""
        for (key, _), backlog in self.backlogs.items():
            if runner is None or key is runner:
                yield from backlog.waiting()


class QueueRank:
    """Owners that take turns by tokens: those with interactive work in one rank, those with bulk in the other."""

    def __init__(self, rank: bool) -> None:
        self.rank = rank
        self._clock = TurnClock()

    def enter(self, owners: Iterable[OwnerQueue], heavy_tokens: int) -> list[OwnerQueue]:
        """Return the owners that wait in this rank, next first. Those that did not wait before start at the clock."""
        rank, waiting = self.rank, []
        for owner in owners:
            if not owner.waits_in(rank, heavy_tokens):
                owner.entered[rank] = False
                continue
            if not owner.entered[rank]:
                owner.entered[rank] = True
                owner.progress[rank] = max(owner.progress[rank], self._clock.now)
            waiting.append(owner)
        waiting.sort(key=lambda owner: owner.progress[rank])
        return waiting

    def charge(self, owner: OwnerQueue, tokens: int, members: int) -> None:
        """Record that a batch took tokens of an owner, one of some members."""
        self._clock.advance(owner.progress[self.rank], tokens, members)
        owner.progress[self.rank] += tokens

    def is_behind(self, owner: OwnerQueue) -> bool:
        """Return whether an idle owner may be forgotten: it would start at the clock in any case."""
        return owner.progress[self.rank] <= self._clock.now
