"""Scheduler: who runs next. Admission, two classes with ageing, budgets, deadlines, lanes that are replaced."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary, ref

from nearfield.engine.backlog import Backlog
from nearfield.engine.job import Batch, Job, Runner, Ticket
from nearfield.engine.lane import Lane, Outcome
from nearfield.errors import Cancelled, DeadlineExceeded, ExecutionFailed, Overloaded, ShuttingDown

LOG = logging.getLogger("nearfield")

#: What one more batch costs beside its tokens, counted in tokens (measured: benchmarks/README.md).
BATCH_OVERHEAD = 16
#: The smallest share of queued work worth a lane of its own.
SMALLEST_SHARE = 128
#: Bulk work gets a batch at least this often (seconds), however much interactive work waits.
AGEING = 0.5
#: Seconds that a batch of bulk takes at most while interactive work keeps coming, as long as that makes it no smaller
#: than the smallest share; and seconds after the last of it for which that holds.
SHORT_BATCH, COMING = 0.1, 2.0
#: A job that saw this many lanes die under it is taken to be the cause.
MOST_DEATHS = 2
_TICK = 0.25


@dataclass(frozen=True)
class EngineLimits:
    """What the engine accepts. ``stall`` is the number of seconds after which a batch counts as hung."""

    max_queued_tokens: int = 1_000_000
    stall: float = 120.0


@dataclass(frozen=True)
class BatchReport:
    """What one batch was, for whoever observes: sizes, and seconds waited (a value a job) and run."""

    model: str
    rows: int
    bulk_rows: int
    tokens: int
    padded_tokens: int
    budget: int
    queue_seconds: tuple[float, ...]
    run_seconds: float


@dataclass(frozen=True)
class EngineStats:
    """A snapshot of the engine."""

    queued_jobs: int
    queued_jobs_bulk: int
    queued_tokens: int
    queued_tokens_bulk: int
    running_batches: int
    tokens_per_second: float
    lanes: int
    lanes_alive: int
    draining: bool


class Scheduler:
    """Shared by lanes and submitters. One lock, one condition for lanes, one for those who wait for room."""

    def __init__(self, lanes: int, limits: EngineLimits) -> None:
        self.limits = limits
        self.observers: list[Callable[[BatchReport], None]] = []
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._backlogs: dict[tuple[Runner, bool], Backlog] = {}
        #: Earliest first. Of tickets that were done before their deadline nothing is to be kept, least of all a model.
        self._deadlines: list[tuple[float, int, ref[Ticket]]] = []
        self._order = itertools.count()
        self._served_bulk = time.monotonic()
        self._came = -COMING
        #: Interactive batches since the last one of bulk.
        self._turns = 0
        self._rate = 0.0
        #: Tokens and seconds of lanes of the latest batches: of all, and of each runner as long as there is one.
        self._learned = (0.0, 0.0)
        self._speeds: WeakKeyDictionary[Runner, tuple[float, float]] = WeakKeyDictionary()
        #: Models that nobody has any more, and whether the engine is to stop with them.
        self._released: deque[tuple[Runner, bool]] = deque()
        self._draining = False
        self._stopped = False
        self._made = 0
        self._lanes: list[Lane] = []
        self._wanted = lanes
        for _ in range(lanes):
            self._hire()
        self._keeper = threading.Thread(target=self._keep, name="nearfield-keeper", daemon=True)
        self._keeper.start()

    # -- submitting ------------------------------------------------------------------------------------------

    def submit(self, ticket: Ticket, *, wait: bool = False) -> Ticket:
        """Queue a ticket's jobs, all or none. ``wait`` waits for room instead of refusing.

        Raises:
            Overloaded: no room, or its deadline would pass before it ran.
            ShuttingDown: the engine drains.
        """
        tokens = sum(len(job.ids) for job in ticket.jobs)
        with self._lock:
            while wait and not self._stopped and self._full(tokens):
                self._room.wait(1.0)
            self._admit(ticket, tokens)
            if not ticket.bulk:
                self._came = time.monotonic()
            backlog = self._backlogs.setdefault((ticket.runner, ticket.bulk), Backlog())
            for job in ticket.jobs:
                backlog.push(job)
            if ticket.deadline is not None and ticket.jobs:
                heapq.heappush(self._deadlines, (ticket.deadline, next(self._order), ref(ticket)))
            self._work.notify(len(ticket.jobs))
        if not ticket.jobs:
            ticket.announce()
        return ticket

    def check_room(self) -> None:
        """Refuse while there is no room for even one more token.

        Raises:
            Overloaded: the queue is full.
            ShuttingDown: the engine drains.
        """
        with self._lock:
            if self._draining or self._stopped:
                raise ShuttingDown("The engine is shutting down and takes no more work.")
            self._refuse_if_full(1)

    def cancel(self, ticket: Ticket) -> None:
        """Drop what of a ticket has not started; the ticket then ends with ``Cancelled``."""
        self._drop(ticket.jobs, Cancelled("The caller went away."))

    def _full(self, tokens: int) -> bool:
        """Whether more would exceed the bound; a ticket larger than it is let in once nothing else waits."""
        queued = self._queued()
        return queued > 0 and queued + tokens > self.limits.max_queued_tokens

    def _admit(self, ticket: Ticket, tokens: int) -> None:
        if self._draining or self._stopped:
            raise ShuttingDown("The engine is shutting down and takes no more work.")
        self._refuse_if_full(tokens)
        if ticket.deadline is None or not self._rate:
            return
        waiting = self._ahead(ticket.bulk)
        if not waiting:
            return  # only trying shows whether the rate still holds: nothing else would teach it anew
        ahead = self._seconds(waiting + tokens)
        left = ticket.deadline - time.monotonic()
        # Refused while it can still be: a job let in here is expected to be done with a fifth of its time to spare.
        if ahead > left * 0.8:
            raise Overloaded(
                f"The queue is {ahead:.1f} s long and this request must be done in {left:.1f} s. Try again later.",
                retry_after=max(ahead - left / 2, 0.1),
            )

    def _refuse_if_full(self, tokens: int) -> None:
        if self._full(tokens):
            queued = self._queued()
            raise Overloaded(
                f"{queued} tokens wait already, and {tokens} more would exceed the limit of "
                f"{self.limits.max_queued_tokens}. Try again later.",
                retry_after=self._seconds(queued + tokens - self.limits.max_queued_tokens),
            )

    def _ahead(self, bulk: bool) -> int:
        return sum(log.tokens for (_, kind), log in self._backlogs.items() if bulk or not kind) + sum(
            lane.batch.tokens for lane in self._lanes if lane.batch is not None
        )

    def _seconds(self, tokens: int) -> float:
        return tokens / self._rate if self._rate else 1.0

    def _queued(self) -> int:
        return sum(backlog.tokens for backlog in self._backlogs.values())

    # -- running ---------------------------------------------------------------------------------------------

    def take(self, lane: Lane) -> Batch | None:
        """Hand a lane its next batch; block while there is none; None tells it to stop."""
        with self._lock:
            lane.batch = None
            while not (lane.abandoned or self._stopped):
                batch = self._next()
                if batch is not None:
                    batch.started = time.monotonic()
                    lane.batch = batch
                    return batch
                self._work.wait()
            return None

    def _next(self) -> Batch | None:
        key = self._choose()
        if key is None:
            return None
        runner, bulk = key
        backlog = self._backlogs[key]
        # Guided self-scheduling: shares shrink as the queue drains, so that all lanes end together.
        share = -(-self._queued() // max(1, len(self._lanes)))
        budget = max(SMALLEST_SHARE, min(runner.batch_tokens, share, self._short(runner) if bulk else share))
        jobs = backlog.gather(budget, BATCH_OVERHEAD, shared=runner.shared_length)
        self._turns = 0 if bulk else self._turns + 1
        if bulk:
            self._served_bulk = time.monotonic()
        self._room.notify_all()
        return Batch(runner, jobs)

    def _short(self, runner: Runner) -> int:
        """Return the tokens of a batch that interactive work may be kept waiting for, if any is to be expected."""
        if time.monotonic() - self._came > COMING or runner not in self._speeds:
            return runner.batch_tokens
        tokens, seconds = self._speeds[runner]
        return int(SHORT_BATCH * tokens / seconds)

    def _choose(self) -> tuple[Runner, bool] | None:
        """Pick the backlog of the oldest interactive job, or of the oldest bulk job when it is bulk's turn."""
        heads = [
            (head.ticket.created, key) for key, log in self._backlogs.items() if (head := log.oldest()) is not None
        ]
        if not heads:
            return None
        # Where a batch takes longer than that, bulk would be overdue whenever a lane is free: it has every second turn.
        overdue = self._turns > 0 and time.monotonic() - self._served_bulk > AGEING
        rank = sorted(heads, key=lambda item: (item[1][1] is not overdue, item[0]))
        return rank[0][1]

    def deliver(self, lane: Lane, batch: Batch, outcome: Outcome) -> None:
        """Write a batch's rows into their tickets and wake those that are complete."""
        seconds = time.monotonic() - batch.started
        finished = []
        with self._lock:
            if lane.abandoned:
                return
            lane.batch = None
            for job, result in outcome:
                if isinstance(result, Exception):
                    last = job.ticket.settle(job, result)
                else:
                    job.ticket.rows[job.index] = result
                    last = job.ticket.settle(job)
                if job.ticket.queued_seconds is None:
                    job.ticket.queued_seconds = batch.started - job.ticket.created
                if last:
                    finished.append(job.ticket)
            self._learn(batch, seconds)
            if self._draining:
                self._room.notify_all()
        # Before anyone wakes: whoever holds an answer finds it counted.
        self._report(batch, seconds)
        for ticket in finished:
            ticket.announce()

    def _learn(self, batch: Batch, seconds: float) -> None:
        """Follow the rate of all lanes together, in tokens a second."""
        if batch.tokens < SMALLEST_SHARE // 4:
            return  # overhead rules such batches: they say little about throughput
        # By tokens, not by batches: many small ones, which overhead rules, say little about a large job.
        self._learned = _followed(self._learned, batch.tokens, seconds)
        self._speeds[batch.runner] = _followed(self._speeds.get(batch.runner, (0.0, 0.0)), batch.tokens, seconds)
        self._rate = self._learned[0] / self._learned[1] * len(self._lanes)

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
                # Counting is not worth an answer, nor a lane.
                LOG.exception("An observer of batches failed.")

    # -- keeping alive -----------------------------------------------------------------------------------------

    def bury(self, lane: Lane, death: BaseException) -> None:
        """Replace a lane that died; its batch goes back to the front, except jobs that have killed before."""
        with self._lock:
            if lane in self._lanes:
                self._lanes.remove(lane)
            batch, lane.batch = lane.batch, None
            guilty = self._return(batch) if batch is not None else []
        self._fail(guilty, ExecutionFailed(f"A lane died each time it ran this input: {type(death).__name__}: {death}"))
        with self._lock:
            if not self._stopped:
                self._hire()
            self._work.notify_all()

    def _return(self, batch: Batch) -> list[Job]:
        guilty = []
        for job in reversed(batch.jobs):
            job.deaths += 1
            if job.deaths >= MOST_DEATHS:
                guilty.append(job)
            else:
                self._backlogs[batch.runner, job.ticket.bulk].push_front(job)
        return guilty

    def _hire(self) -> None:
        self._made += 1
        lane = Lane(self, self._made)
        self._lanes.append(lane)
        lane.start()

    def _keep(self) -> None:
        """Drop what expired, give up on lanes that hang, and let go of models, until the engine stops."""
        while not self._stopped:
            time.sleep(_TICK)
            self._expire()
            self._release_hung()
            self._let_go()

    def _expire(self) -> None:
        now = time.monotonic()
        late: list[Job] = []
        with self._lock:
            while self._deadlines:
                deadline, _, held = self._deadlines[0]
                ticket = held()
                if ticket is not None and not ticket.done:
                    if deadline > now:
                        break
                    late += ticket.jobs
                heapq.heappop(self._deadlines)
            retry = max(1.0, self._seconds(self._queued()))
        if late:
            self._drop(late, DeadlineExceeded("The deadline passed before this input's turn came.", retry_after=retry))

    def _release_hung(self) -> None:
        now = time.monotonic()
        with self._lock:
            hung = [lane for lane in self._lanes if lane.batch and now - lane.batch.started > self.limits.stall]
            jobs = []
            for lane in hung:
                lane.abandoned = True
                self._lanes.remove(lane)
                jobs += lane.batch.jobs if lane.batch else []
                self._hire()
        self._fail(jobs, ExecutionFailed(f"The runtime did not answer within {self.limits.stall:.0f} s."))

    def _drop(self, jobs: list[Job], error: Exception) -> None:
        """Take waiting jobs out of their backlogs and end them with an error."""
        with self._lock:
            waiting = []
            for job in jobs:
                if not job.taken:
                    self._backlogs[job.ticket.runner, job.ticket.bulk].claim(job)
                    waiting.append(job)
            for backlog in self._backlogs.values():
                backlog.tidy()
            self._room.notify_all()
        self._fail(waiting, error)

    def _fail(self, jobs: list[Job], error: Exception) -> None:
        with self._lock:
            finished = [job.ticket for job in jobs if job.ticket.settle(job, error)]
            self._room.notify_all()
        for ticket in finished:
            ticket.announce()

    # -- looking in and shutting down --------------------------------------------------------------------------

    def stats(self) -> EngineStats:
        """Return a snapshot."""
        with self._lock:
            return EngineStats(
                queued_jobs=sum(backlog.count for backlog in self._backlogs.values()),
                queued_jobs_bulk=sum(log.count for (_, bulk), log in self._backlogs.items() if bulk),
                queued_tokens=self._queued(),
                queued_tokens_bulk=sum(log.tokens for (_, bulk), log in self._backlogs.items() if bulk),
                running_batches=sum(lane.batch is not None for lane in self._lanes),
                tokens_per_second=self._rate,
                lanes=self._wanted,
                lanes_alive=sum(lane.is_alive() for lane in self._lanes),
                draining=self._draining or self._stopped,
            )

    def drain(self, timeout: float) -> bool:
        """Refuse new work and wait for the accepted; return whether all of it ended in time."""
        until = time.monotonic() + timeout
        with self._lock:
            self._draining = True
            while self._busy() and (left := until - time.monotonic()) > 0:
                self._room.wait(min(left, 1.0))
            return not self._busy()

    def _busy(self) -> bool:
        return any(log.count for log in self._backlogs.values()) or any(lane.batch for lane in self._lanes)

    def stop(self) -> None:
        """Stop the lanes; whatever still waits ends with ``ShuttingDown``."""
        with self._lock:
            self._stopped = True
            waiting = [job for backlog in self._backlogs.values() for job in backlog.waiting()]
            lanes = list(self._lanes)
            self._work.notify_all()
            self._room.notify_all()
        self._drop(waiting, ShuttingDown("The engine stopped before this input's turn came."))
        for lane in lanes:
            lane.join(5.0)

    def forget(self, runner: Runner) -> None:
        """Let go of a model: its waiting jobs end, and no lane keeps its memory."""
        with self._lock:
            waiting = [job for key, log in self._backlogs.items() if key[0] is runner for job in log.waiting()]
        self._drop(waiting, ShuttingDown(f"{runner.name} was unloaded before this input's turn came."))
        with self._lock:
            for bulk in (False, True):
                self._backlogs.pop((runner, bulk), None)
            for lane in self._lanes:
                lane.forget(runner)

    def release(self, runner: Runner, *, last: bool = False) -> None:
        """Let go of a model soon after the last of its work has ended; of the ``last`` one, stop then.

        Takes no lock: objects are collected anywhere, even under ours.
        """
        if not self._stopped:  # nobody would look
            self._released.append((runner, last))

    def _let_go(self) -> None:
        for _ in range(len(self._released)):
            runner, last = self._released.popleft()
            with self._lock:
                waits = any(log.count for key, log in self._backlogs.items() if key[0] is runner)
                runs = any(lane.batch is not None and lane.batch.runner is runner for lane in self._lanes)
            if waits or runs:
                self._released.append((runner, last))
                continue
            self.forget(runner)
            if last:
                self.stop()

    def lanes(self) -> Iterator[Lane]:
        """Iterate over the lanes there are now."""
        with self._lock:
            return iter(list(self._lanes))


def _followed(known: tuple[float, float], tokens: int, seconds: float) -> tuple[float, float]:
    return known[0] * 0.9 + tokens, known[1] * 0.9 + max(seconds, 1e-6)
