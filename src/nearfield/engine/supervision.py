"""Supervision of the engine: replace dead and hung lanes, drop expired jobs, release unloaded models, stop."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections import deque
from weakref import ref

from nearfield.engine.admission import EngineLimits, Throughput
from nearfield.engine.job import Batch, Job, Runner, Ticket
from nearfield.engine.lane import Lane, LaneScheduler
from nearfield.engine.state import SchedulerState
from nearfield.errors import DeadlineExceeded, ExecutionFailed, ShuttingDown

#: A job that was running when this many lanes died counts as the cause.
MAX_LANE_DEATHS = 2
#: Seconds between two looks at lanes and models, and at least between two looks at deadlines.
_INTERVAL, _SHORTEST_INTERVAL = 0.25, 0.01


class DeadlineQueue:
    """Tickets by deadline, the earliest first. It holds no finished ticket, so that none keeps a model in memory."""

    def __init__(self) -> None:
        self._tickets: list[tuple[float, int, ref[Ticket]]] = []
        self._order = itertools.count()

    def add(self, ticket: Ticket) -> None:
        """Add a ticket, if it has a deadline."""
        if ticket.deadline is not None:
            heapq.heappush(self._tickets, (ticket.deadline, next(self._order), ref(ticket)))

    def seconds_left(self, now: float) -> float:
        """Return the seconds until the first deadline; infinite if there is none."""
        return self._tickets[0][0] - now if self._tickets else math.inf

    def pop_expired(self, now: float) -> list[Job]:
        """Remove tickets whose deadline has passed, and return their jobs."""
        expired: list[Job] = []
        while self._tickets:
            deadline, _, reference = self._tickets[0]
            ticket = reference()
            if ticket is not None and not ticket.done:
                if deadline > now:
                    break
                expired += ticket.jobs
            heapq.heappop(self._tickets)
        return expired


class Supervisor:
    """Starts and replaces lanes, drops expired jobs at their deadlines, and releases unloaded models."""

    def __init__(
        self, state: SchedulerState, scheduler: LaneScheduler, limits: EngineLimits, throughput: Throughput
    ) -> None:
        #: Tickets with a deadline. The state's lock guards them.
        self.deadlines = DeadlineQueue()
        self._state = state
        self._scheduler = scheduler
        self._limits = limits
        self._throughput = throughput
        self._lanes_started = 0
        #: Models to release once their work has ended, and whether the engine is to stop with them.
        self._released: deque[tuple[Runner, bool]] = deque()
        self._thread = threading.Thread(target=self._run, name="nearfield-supervisor", daemon=True)

    def start(self, lanes: int) -> None:
        """Start lanes, and the thread that watches them."""
        for _ in range(lanes):
            self._start_lane()
        self._thread.start()

    def _run(self) -> None:
        while not self._state.stopped:
            time.sleep(self._seconds_to_wait())
            self._drop_expired()
            self._replace_hung_lanes()
            self._release_idle()

    def _seconds_to_wait(self) -> float:
        with self._state.lock:
            left = self.deadlines.seconds_left(time.monotonic())
        return min(_INTERVAL, max(_SHORTEST_INTERVAL, left))

    # -- lanes ---------------------------------------------------------------------------------------------------

    def _start_lane(self) -> None:
        self._lanes_started += 1
        lane = Lane(self._scheduler, self._lanes_started)
        self._state.lanes.append(lane)
        lane.start()

    def replace_dead_lane(self, lane: Lane, cause: BaseException) -> None:
        """Replace a lane that died. Its batch is queued again, except jobs that have killed a lane before."""
        state = self._state
        with state.lock:
            if lane in state.lanes:
                state.lanes.remove(lane)
            batch, lane.batch = lane.batch, None
            guilty = self._requeue(batch) if batch is not None else []
        state.fail(guilty, ExecutionFailed(f"A lane died each time it ran this input: {type(cause).__name__}: {cause}"))
        with state.lock:
            if not state.stopped:
                self._start_lane()
            state.work_available.notify_all()

    def _requeue(self, batch: Batch) -> list[Job]:
        """Queue a batch's jobs again, as the oldest; return those that count as the cause of a death."""
        guilty = []
        for job in reversed(batch.all_jobs):
            job.deaths += 1
            job.twins = ()
            if job.deaths >= MAX_LANE_DEATHS:
                guilty.append(job)
            else:
                self._state.backlog_of(job).push_front(job)
                self._state.equal.add([job])
        return guilty

    def _replace_hung_lanes(self) -> None:
        now, stall = time.monotonic(), self._limits.stall
        with self._state.lock:
            hung = [lane for lane in self._state.lanes if lane.batch and now - lane.batch.started > stall]
            jobs: list[Job] = []
            for lane in hung:
                lane.abandoned = True
                self._state.lanes.remove(lane)
                jobs += lane.batch.all_jobs if lane.batch else []
                self._start_lane()
        self._state.fail(jobs, ExecutionFailed(f"The runtime did not answer within {stall:.0f} s."))

    # -- deadlines -----------------------------------------------------------------------------------------------

    def _drop_expired(self) -> None:
        with self._state.lock:
            expired = self.deadlines.pop_expired(time.monotonic())
            retry = max(1.0, self._throughput.seconds(self._state.queued_tokens()))
        if expired:
            message = "The deadline passed before this input's turn came."
            self._state.drop(expired, DeadlineExceeded(message, retry_after=retry))

    # -- models --------------------------------------------------------------------------------------------------

    def release(self, runner: Runner) -> None:
        """Release a model now: its waiting jobs end with ``ShuttingDown``, and no lane holds its memory."""
        state = self._state
        with state.lock:
            waiting = state.waiting(runner)
        state.drop(waiting, ShuttingDown(f"{runner.name} was unloaded before this input's turn came."))
        with state.lock:
            state.forget_runner(runner)
            for lane in state.lanes:
                lane.release(runner)

    def release_later(self, runner: Runner, *, last: bool = False) -> None:
        """Release a model soon after its last job has ended; after the ``last`` model, stop.

        Takes no lock: the garbage collector calls this, perhaps in a thread that holds ours.
        """
        if not self._state.stopped:  # afterwards no thread would read it
            self._released.append((runner, last))

    def _release_idle(self) -> None:
        state = self._state
        for _ in range(len(self._released)):
            runner, last = self._released.popleft()
            with state.lock:
                waits = any(owner.has_waiting(runner) for owner in state.owners.values())
                runs = any(lane.batch is not None and lane.batch.runner is runner for lane in state.lanes)
            if waits or runs:
                self._released.append((runner, last))
                continue
            self.release(runner)
            if last:
                self.stop()

    def stop(self) -> None:
        """Stop the lanes. Jobs that still wait end with ``ShuttingDown``."""
        state = self._state
        with state.lock:
            state.stopped = True
            waiting = state.waiting()
            lanes = list(state.lanes)
            state.work_available.notify_all()
            state.space_available.notify_all()
        state.drop(waiting, ShuttingDown("The engine stopped before this input's turn came."))
        for lane in lanes:
            lane.join(5.0)
