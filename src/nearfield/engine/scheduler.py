"""Scheduler: queue tickets, form batches within a token budget, and deliver their results."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from nearfield.engine.admission import AdmissionControl, EngineLimits, Throughput
from nearfield.engine.backlog import Backlog
from nearfield.engine.job import Batch, Runner, Ticket
from nearfield.engine.lane import BatchOutcome, Lane
from nearfield.engine.state import SchedulerState
from nearfield.engine.stats import BatchReport, EngineStats
from nearfield.engine.supervision import Supervisor
from nearfield.errors import Cancelled, ShuttingDown

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


class Scheduler:
    """Chooses the next batch of each lane: two classes with ageing, and a budget of tokens.

    It never waits for more work to fill a batch. Lanes and submitters share it: lanes wait for work, submitters for
    space in the queue.
    """

    def __init__(self, lanes: int, limits: EngineLimits) -> None:
        self.limits = limits
        self.observers: list[Callable[[BatchReport], None]] = []
        self._lane_count = lanes
        self._state = SchedulerState()
        self._throughput = Throughput()
        self._admission = AdmissionControl(limits, self._throughput)
        self._supervisor = Supervisor(self._state, self, limits, self._throughput)
        self._last_bulk_batch = time.monotonic()
        self._last_interactive_ticket = -INTERACTIVE_SECONDS
        self._interactive_batches_since_bulk = 0
        self._supervisor.start(lanes)

    # -- submitting ----------------------------------------------------------------------------------------------

    def submit(self, ticket: Ticket, *, wait: bool = False) -> Ticket:
        """Queue all jobs of a ticket, or none. ``wait`` waits for space in the queue in place of raising Overloaded.

        Raises:
            Overloaded: the queue is full, or the ticket's deadline would pass before it ran.
            ShuttingDown: the engine drains.
        """
        state, tokens = self._state, sum(job.length for job in ticket.jobs)
        with state.lock:
            while wait and not state.stopped and self._admission.is_full(tokens, state.queued_tokens()):
                state.space_available.wait(1.0)
            self._check_open()
            self._admission.check_space(tokens, state.queued_tokens())
            if ticket.deadline is not None:
                self._admission.check_deadline(ticket, tokens, state.tokens_ahead(ticket.bulk))
            if not ticket.bulk:
                self._last_interactive_ticket = time.monotonic()
            backlog = state.backlogs.setdefault((ticket.runner, ticket.bulk), Backlog())
            for job in ticket.jobs:
                backlog.push(job)
            if ticket.jobs:
                self._supervisor.deadlines.add(ticket)
            state.work_available.notify(len(ticket.jobs))
        if not ticket.jobs:
            ticket.notify_done()
        return ticket

    def check_room(self) -> None:
        """Raise what ``submit`` would raise for a ticket of one token.

        Raises:
            Overloaded: the queue is full.
            ShuttingDown: the engine drains.
        """
        with self._state.lock:
            self._check_open()
            self._admission.check_space(1, self._state.queued_tokens())

    def cancel(self, ticket: Ticket) -> None:
        """Drop the jobs of a ticket that have not started; the ticket then ends with ``Cancelled``."""
        self._state.drop(ticket.jobs, Cancelled("The caller cancelled the request."))

    def _check_open(self) -> None:
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
        key = self._choose_backlog()
        if key is None:
            return None
        state, (runner, bulk) = self._state, key
        # Guided self-scheduling: shares shrink as the queue drains, so that all lanes end together.
        share = -(-state.queued_tokens() // max(1, len(state.lanes)))
        limit = self._max_bulk_tokens(runner) if bulk else share
        budget = max(MIN_SHARE_TOKENS, min(runner.batch_tokens, share, limit))
        jobs = state.backlogs[key].gather(budget, BATCH_OVERHEAD, shared=runner.shared_length)
        if bulk:
            self._last_bulk_batch = time.monotonic()
            self._interactive_batches_since_bulk = 0
        else:
            self._interactive_batches_since_bulk += 1
        state.space_available.notify_all()
        return Batch(runner, jobs)

    def _max_bulk_tokens(self, runner: Runner) -> int:
        """Return the tokens of a bulk batch that interactive work can be expected to wait for."""
        if time.monotonic() - self._last_interactive_ticket > INTERACTIVE_SECONDS:
            return runner.batch_tokens
        tokens = self._throughput.tokens_within(runner, MAX_BULK_SECONDS)
        return runner.batch_tokens if tokens is None else tokens

    def _choose_backlog(self) -> tuple[Runner, bool] | None:
        """Return the backlog of the oldest interactive job, or of the oldest bulk job if bulk is overdue."""
        oldest = [
            (job.ticket.created, key)
            for key, backlog in self._state.backlogs.items()
            if (job := backlog.oldest()) is not None
        ]
        if not oldest:
            return None
        # If one batch takes longer than that, bulk is overdue whenever a lane is free: it then has every second turn.
        waited = time.monotonic() - self._last_bulk_batch
        overdue = self._interactive_batches_since_bulk > 0 and waited > MAX_BULK_WAIT_SECONDS
        return min(oldest, key=lambda item: (item[1][1] is not overdue, item[0]))[1]

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
        report = BatchReport(
            model=batch.runner.name,
            rows=len(batch.jobs),
            bulk_rows=sum(job.ticket.bulk for job in batch.jobs),
            tokens=batch.tokens,
            padded_tokens=max(batch.computed, batch.tokens),
            budget=batch.runner.batch_tokens,
            queue_seconds=tuple(batch.started - job.ticket.created for job in batch.jobs),
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
            return EngineStats(
                queued_jobs=sum(backlog.count for backlog in state.backlogs.values()),
                queued_jobs_bulk=sum(backlog.count for (_, bulk), backlog in state.backlogs.items() if bulk),
                queued_tokens=state.queued_tokens(),
                queued_tokens_bulk=sum(backlog.tokens for (_, bulk), backlog in state.backlogs.items() if bulk),
                running_batches=sum(lane.batch is not None for lane in state.lanes),
                tokens_per_second=self._throughput.tokens_per_second,
                lanes=self._lane_count,
                lanes_alive=sum(lane.is_alive() for lane in state.lanes),
                draining=state.draining or state.stopped,
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
