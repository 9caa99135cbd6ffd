"""Scheduler: queue tickets, form batches within a token budget, and deliver their results."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

from nearfield.engine.admission import AdmissionControl, EngineLimits, QueueSpace, Throughput
from nearfield.engine.backlog import Backlog, BatchDraft
from nearfield.engine.equal_jobs import job_key
from nearfield.engine.job import Batch, Runner, Ticket
from nearfield.engine.lane import BatchOutcome, Lane
from nearfield.engine.owner_queue import BULK, INTERACTIVE, BulkAgeing, OwnerQueue, QueueRank
from nearfield.engine.state import SchedulerState
from nearfield.engine.stats import BatchReport, EngineStats
from nearfield.engine.supervision import Supervisor
from nearfield.errors import Cancelled, Overloaded, ShuttingDown

LOG = logging.getLogger("nearfield")

#: What one more batch costs beside its tokens, counted in tokens (measured: benchmarks/README.md).
BATCH_OVERHEAD = 16
#: The smallest share of queued work, in tokens, that is worth a lane.
MIN_SHARE_TOKENS = 128
#: Bulk work gets a batch at least this often (seconds), however much interactive work waits.
MAX_BULK_WAIT_SECONDS = 0.5
#: While interactive work keeps coming, a bulk batch takes at most this many seconds, unless that makes it smaller than
#: the smallest share.
MAX_BULK_SECONDS = 0.1
#: Interactive work "keeps coming" for this many seconds after the last of it.
INTERACTIVE_SECONDS = 2.0
#: An owner whose interactive jobs would take all lanes longer than this many seconds waits among bulk: as long as a
#: batch of bulk, so that a single request of others waits for no more than a batch either way.
HEAVY_SECONDS = 0.1
#: The tokens of that while the speed is unknown: two batches of most models.
UNKNOWN_HEAVY_TOKENS = 2048


class InteractiveArrivals:
    """When an interactive ticket arrived last, and when one of another owner than that."""

    def __init__(self) -> None:
        never = ("", -INTERACTIVE_SECONDS)
        self._last, self._last_of_another = never, never

    def record(self, owner: str) -> None:
        """Record a ticket that arrives now."""
        if owner != self._last[0]:
            self._last_of_another = self._last
        self._last = (owner, time.monotonic())

    def keep_coming(self, excluded: str | None = None) -> bool:
        """Return whether interactive tickets keep coming, from owners other than ``excluded``."""
        arrivals = self._last if self._last[0] != excluded else self._last_of_another
        return time.monotonic() - arrivals[1] <= INTERACTIVE_SECONDS


class Scheduler:
    """Chooses the next batch of each lane: two classes with ageing, turns between owners, and a budget of tokens.

    It never waits for more work to fill a batch. Lanes and submitters share it: lanes wait for work, submitters for
    space in the queue.
    """

    def __init__(
        self, lanes: int, limits: EngineLimits, observers: list[Callable[[BatchReport], None]] | None = None
    ) -> None:
        self.limits = limits
        self.observers = [] if observers is None else observers
        self._lane_count = lanes
        self._state = SchedulerState()
        self._throughput = Throughput()
        self._admission = AdmissionControl(limits, self._throughput)
        self._supervisor = Supervisor(self._state, self, limits, self._throughput)
        self._ageing = BulkAgeing()
        self._arrivals = InteractiveArrivals()
        self._supervisor.start(lanes)

    # -- submitting ----------------------------------------------------------------------------------------------

    def submit(self, ticket: Ticket, *, wait: bool = False) -> Ticket:
        """Queue all jobs of a ticket, or none. ``wait`` waits for space in the queue in place of raising Overloaded.

        Raises:
            Overloaded: the queue is full, or the ticket's deadline would pass before it ran.
            ShuttingDown: the engine drains.
        """
        state, tokens, name = self._state, ticket.tokens, ticket.caller.owner
        ticket.unstarted_tokens = tokens  # unless it is queued
        for job in ticket.jobs:
            job.key = job_key(job)
        with state.lock:
            while wait and not state.stopped and self._admission.is_full(tokens, self._space(name)):
                state.space_available.wait(1.0)
            self.check_open()
            self._admission.check_space(tokens, self._space(name))
            heavy = self._heavy_tokens(name)
            if ticket.deadline is not None:
                ahead = state.tokens_ahead(ticket.caller, tokens, ticket.bulk, heavy)
                self._admission.check_deadline(ticket, tokens, ahead)
            owner = state.owner(name)
            if not (ticket.bulk or owner.interactive.tokens + tokens > heavy):
                self._arrivals.record(name)
            backlog = owner.backlog(ticket.runner, ticket.bulk)
            backlog.extend(ticket.jobs)
            state.equal.add(ticket.jobs)
            ticket.unstarted_tokens = 0
            if ticket.jobs:
                self._supervisor.deadlines.add(ticket)
            state.work_available.notify(len(ticket.jobs))
        if not ticket.jobs:
            ticket.notify_done()
        return ticket

    def check_room(self, owner: str = "") -> None:
        """Raise what ``submit`` would raise for a ticket of one token.

        Raises:
            Overloaded: the queue is full.
            ShuttingDown: the engine drains.
        """
        with self._state.lock:
            self.check_open()
            self._admission.check_space(1, self._space(owner))

    def refusals(self) -> dict[str, Overloaded]:
        """Return the error of ``check_room`` for each owner that would get one."""
        refusals = {}
        with self._state.lock:
            for name in self._state.owners:
                try:
                    self._admission.check_space(1, self._space(name))
                except Overloaded as error:
                    refusals[name] = error
        return refusals

    def _space(self, name: str) -> QueueSpace:
        state = self._state
        others = sum(1 for owner in state.owners.values() if owner.tokens and owner.name != name)
        own = state.owners.get(name)
        return QueueSpace(state.queued_tokens(), 0 if own is None else own.tokens, others + 1)

    def _heavy_tokens(self, newcomer: str | None = None) -> int:
        """Return the interactive tokens above which an owner waits among bulk: no limit if there is no other owner."""
        waiting = {owner.name for owner in self._state.owners.values() if owner.is_waiting}
        if newcomer is not None:
            waiting.add(newcomer)
        if not waiting or (len(waiting) == 1 and not self._arrivals.keep_coming(excluded=next(iter(waiting)))):
            return sys.maxsize
        speed = self._throughput.tokens_per_second
        return max(MIN_SHARE_TOKENS, int(speed * HEAVY_SECONDS)) if speed else UNKNOWN_HEAVY_TOKENS

    def cancel(self, ticket: Ticket) -> None:
        """Drop the jobs of a ticket that have not started; the ticket then ends with ``Cancelled``."""
        self._state.drop(ticket.jobs, Cancelled("The caller cancelled the request."))

    def check_open(self) -> None:
        """Raise ShuttingDown if the engine takes no more work."""
        if self._state.draining or self._state.stopped:
            raise ShuttingDown("The engine is shutting down and takes no more work.")

    # -- running -------------------------------------------------------------------------------------------------

    def take(self, lane: Lane) -> Batch | None:
        """Return a lane's next batch, waiting for one; None if the lane has to stop."""
        with self._state.lock:
            lane.batch = None
            while not (lane.abandoned or self._state.stopped):
                batch = self._next_batch()
                if batch is not None:
                    batch.started = time.monotonic()
                    lane.batch = batch
                    return batch
                self._state.work_available.wait()
            return None

    def _next_batch(self) -> Batch | None:
        heavy = self._heavy_tokens()
        rank, owners = self._choose_owners(heavy)
        if not owners:
            return None
        state, first = self._state, owners[0]
        bulk = self._choose_class(rank, first, heavy)
        runner = first.next_runner(bulk)
        # Guided self-scheduling: shares shrink as the queue drains, so that all lanes end together.
        share = -(-state.queued_tokens() // max(1, len(state.lanes)))
        limit = self._max_bulk_tokens(runner, None if bulk else first.name) if rank.rank is BULK else share
        budget = max(MIN_SHARE_TOKENS, min(runner.batch_tokens, share, limit))
        draft = BatchDraft(budget, BATCH_OVERHEAD, runner.shared_length)
        for owner in owners:
            before = draft.tokens
            for kind in (bulk, not bulk) if rank.rank is BULK else (INTERACTIVE,):
                backlog = owner.backlogs.get((runner, kind))
                if backlog is not None and backlog.count and not draft.is_full:
                    self._fill(draft, backlog)
            if draft.tokens > before:
                rank.charge(owner, draft.tokens - before, len(owners))
            if draft.is_full:
                break
        self._ageing.record(rank.rank)
        first.ageing.record(bulk)
        state.space_available.notify_all()
        return Batch(runner, draft.jobs)

    def _fill(self, draft: BatchDraft, backlog: Backlog) -> None:
        """Fill a batch from a backlog; what equal jobs leave free is filled again."""
        while backlog.count and not draft.is_full:
            start = len(draft.jobs)
            backlog.fill(draft)
            if not self._state.join_equal(draft, start):
                return

    def _max_bulk_tokens(self, runner: Runner, owner: str | None) -> int:
        """Return the tokens of a bulk batch that interactive work, except an owner's, can be expected to wait for."""
        if not self._arrivals.keep_coming(excluded=owner):
            return runner.batch_tokens
        tokens = self._throughput.tokens_within(runner, MAX_BULK_SECONDS)
        return runner.batch_tokens if tokens is None else tokens

    def _choose_owners(self, heavy: int) -> tuple[QueueRank, list[OwnerQueue]]:
        """Return the rank that is next with its owners in turn: the interactive one, unless bulk is overdue."""
        interactive, bulk = self._state.ranks
        light_owners = interactive.enter(self._state.owners.values(), heavy)
        bulk_owners = bulk.enter(self._state.owners.values(), heavy)
        if light_owners and not (bulk_owners and self._ageing.is_overdue(MAX_BULK_WAIT_SECONDS)):
            return interactive, light_owners
        return bulk, bulk_owners

    def _choose_class(self, rank: QueueRank, owner: OwnerQueue, heavy: int) -> bool:
        """Return which class of an owner's work is next: with many interactive tokens, both wait among bulk."""
        if rank.rank is INTERACTIVE or not owner.bulk.count:
            return INTERACTIVE
        overdue = owner.ageing.is_overdue(MAX_BULK_WAIT_SECONDS)
        return BULK if overdue or owner.interactive.tokens <= heavy else INTERACTIVE

    def deliver(self, lane: Lane, batch: Batch, outcome: BatchOutcome) -> None:
        """Write a batch's rows into their tickets, and wake the callers of those that are complete."""
        seconds = time.monotonic() - batch.started
        finished = []
        with self._state.lock:
            if lane.abandoned:
                return
            lane.batch = None
            for job, result in outcome:
                if isinstance(result, Exception):
                    last = job.ticket.record_end(job, result)
                else:
                    job.ticket.rows[job.index] = result
                    last = job.ticket.record_end(job)
                if job.ticket.queued_seconds is None:
                    job.ticket.queued_seconds = batch.started - job.ticket.created
                if last:
                    finished.append(job.ticket)
            self._throughput.record(batch, seconds, len(self._state.lanes))
            if self._state.draining:
                self._state.space_available.notify_all()
        # Before callers wake: a caller that has its result can rely on its being counted.
        self._report(batch, seconds)
        for ticket in finished:
            ticket.notify_done()

    def _report(self, batch: Batch, seconds: float) -> None:
        if not self.observers:
            return
        jobs = batch.all_jobs
        report = BatchReport(
            model=batch.runner.name,
            rows=len(jobs),
            bulk_rows=sum(job.ticket.bulk for job in jobs),
            tokens=batch.tokens,
            padded_tokens=max(batch.computed, batch.tokens),
            budget=batch.runner.batch_tokens,
            queue_seconds=tuple(batch.started - job.ticket.created for job in jobs),
            run_seconds=seconds,
        )
        for observer in self.observers:
            try:
                observer(report)
            except Exception:
                # An error in a metric must cost neither a result nor a lane.
                LOG.exception("An observer of batches failed.")

    # -- supervision ---------------------------------------------------------------------------------------------

    def on_lane_died(self, lane: Lane, cause: BaseException) -> None:
        """Replace a lane that died; its batch is queued again, except jobs that have killed a lane before."""
        self._supervisor.replace_dead_lane(lane, cause)

    def release(self, runner: Runner) -> None:
        """Release a model now: its waiting jobs end with ``ShuttingDown``, and no lane holds its memory."""
        self._supervisor.release(runner)

    def release_later(self, runner: Runner, *, last: bool = False) -> None:
        """Release a model once its work has ended; after the ``last`` model, stop. Takes no lock."""
        self._supervisor.release_later(runner, last=last)

    def stats(self) -> EngineStats:
        """Return a snapshot of queues, lanes and speed."""
        state = self._state
        with state.lock:
            interactive = [owner.interactive for owner in state.owners.values()]
            bulk = [owner.bulk for owner in state.owners.values()]
            return EngineStats(
                queued_jobs=sum(waiting.count for waiting in interactive + bulk),
                queued_jobs_bulk=sum(waiting.count for waiting in bulk),
                queued_tokens=sum(waiting.tokens for waiting in interactive + bulk),
                queued_tokens_bulk=sum(waiting.tokens for waiting in bulk),
                running_batches=sum(lane.batch is not None for lane in state.lanes),
                tokens_per_second=self._throughput.tokens_per_second,
                lanes=self._lane_count,
                lanes_alive=sum(lane.is_alive() for lane in state.lanes),
                draining=state.draining or state.stopped,
                peak_tokens_per_second=self._throughput.peak_tokens_per_second,
            )

    def drain(self, timeout: float) -> bool:
        """Refuse new work and wait for accepted work; return whether all of it ended within ``timeout`` seconds."""
        until, state = time.monotonic() + timeout, self._state
        with state.lock:
            state.draining = True
            while state.is_busy() and (left := until - time.monotonic()) > 0:
                state.space_available.wait(min(left, 1.0))
            return not state.is_busy()

    def stop(self) -> None:
        """Stop the lanes. Jobs that still wait end with ``ShuttingDown``."""
        self._supervisor.stop()
