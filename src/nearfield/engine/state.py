"""State shared by the scheduler and its supervisor: the lock, the backlogs and the lanes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from nearfield.engine.backlog import Backlog, BatchDraft
from nearfield.engine.equal_jobs import EqualJobs
from nearfield.engine.job import Job, Runner
from nearfield.engine.lane import Lane
from nearfield.engine.owner_queue import BULK, INTERACTIVE, OwnerQueue, QueueRank
from nearfield.engine.turns import Caller

#: Owners from which on those that no longer wait are forgotten.
_MIN_OWNERS_TO_TIDY = 64


class SchedulerState:
    """Queues and lanes under one lock, with a condition for lanes and one for callers that wait for space.

    Methods whose names begin with ``drop`` and ``fail`` take the lock; callers of all others hold it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.work_available = threading.Condition(self.lock)
        self.space_available = threading.Condition(self.lock)
        #: The queues of owners that wait or waited a short time ago.
        self.owners: dict[str, OwnerQueue] = {}
        #: The waiting jobs of all owners by what they compute.
        self.equal = EqualJobs()
        self.ranks = (QueueRank(INTERACTIVE), QueueRank(BULK))
        self._owners_to_tidy = _MIN_OWNERS_TO_TIDY
        self.lanes: list[Lane] = []
        self.draining = False
        self.stopped = False

    def queued_tokens(self) -> int:
        """Return the tokens that wait."""
        return sum(owner.tokens for owner in self.owners.values())

    def owner(self, name: str) -> OwnerQueue:
        """Return the queue of an owner."""
        owner = self.owners.get(name)
        if owner is None:
            if len(self.owners) >= self._owners_to_tidy:
                self._forget_idle_owners()
            owner = self.owners[name] = OwnerQueue(name)
        return owner

    def backlog_of(self, job: Job) -> Backlog:
        """Return the backlog of a job's owner, model and class."""
        ticket = job.ticket
        return self.owner(ticket.caller.owner).backlog(ticket.runner, ticket.bulk)

    def tokens_ahead(self, caller: Caller, tokens: int, bulk: bool, heavy_tokens: int) -> int:
        """Return the tokens that run or wait before the last of a new ticket's.

        Those are the ones of its owner whose turn is before its own, and of each other owner at most as many as this
        one has then had.
        """
        running = sum(lane.batch.tokens for lane in self.lanes if lane.batch is not None)
        own = self.owners.get(caller.owner)
        others = [owner for owner in self.owners.values() if owner.name != caller.owner]
        waiting = 0 if own is None else own.tokens_ahead(caller.flow, tokens, bulk)
        rank = bulk or tokens + (0 if own is None else own.interactive.tokens) > heavy_tokens
        limit = waiting + tokens
        ahead = sum(min(limit, owner.tokens_in(rank, heavy_tokens)) for owner in others)
        if rank is BULK:
            ahead += sum(owner.tokens_in(INTERACTIVE, heavy_tokens) for owner in others)
        return running + waiting + ahead

    def is_busy(self) -> bool:
        """Return whether any job waits or runs."""
        return any(owner.is_waiting for owner in self.owners.values()) or any(lane.batch for lane in self.lanes)

    def waiting(self, runner: Runner | None = None) -> list[Job]:
        """Return waiting jobs, of one model or of all."""
        return [job for owner in self.owners.values() for job in owner.waiting(runner)]

    def forget_runner(self, runner: Runner) -> None:
        """Remove the backlogs of a model, which are empty."""
        for owner in self.owners.values():
            for bulk in (INTERACTIVE, BULK):
                owner.backlogs.pop((runner, bulk), None)

    def _forget_idle_owners(self) -> None:
        """Remove owners whose turns need not be remembered. Where nothing waits, that is each of them."""
        idle = not any(owner.is_waiting for owner in self.owners.values())
        for name, owner in list(self.owners.items()):
            if idle or not (owner.is_waiting or any(not rank.is_behind(owner) for rank in self.ranks)):
                del self.owners[name]
        self._owners_to_tidy = max(_MIN_OWNERS_TO_TIDY, 2 * len(self.owners))

    def drop(self, jobs: Iterable[Job], error: Exception) -> None:
        """Remove waiting jobs from their backlogs, and end them with an error."""
        with self.lock:
            waiting = [job for job in jobs if not job.claimed]
            for job in waiting:
                self.equal.remove(job)
                job.ticket.unstarted_tokens += job.length
            self._leave_backlogs(waiting)
            self.space_available.notify_all()
        self.fail(waiting, error)

    def join_equal(self, draft: BatchDraft, start: int) -> bool:
        """Let the jobs that a batch took, from ``start`` on, compute for all that wait and equal them.

        Return whether some of them equal each other, so that the batch has room for more.
        """
        taken = draft.jobs[start:]
        leaders = self.equal.lead(taken)
        if len(leaders) < len(taken):
            draft.jobs[start:] = leaders
            draft.tokens -= sum(job.length for job in taken) - sum(job.length for job in leaders)
        self._leave_backlogs([twin for job in leaders for twin in job.twins if not twin.claimed])
        return len(leaders) < len(taken)

    def _leave_backlogs(self, jobs: Sequence[Job]) -> None:
        """Remove waiting jobs from their backlogs."""
        backlogs = set()
        for job in jobs:
            backlog = self.backlog_of(job)
            backlog.drop(job)
            backlogs.add(backlog)
        for backlog in backlogs:
            backlog.tidy()

    def fail(self, jobs: Iterable[Job], error: Exception) -> None:
        """End jobs that are in no backlog with an error."""
        with self.lock:
            finished = [job.ticket for job in jobs if job.ticket.record_end(job, error)]
            self.space_available.notify_all()
        for ticket in finished:
            ticket.notify_done()
