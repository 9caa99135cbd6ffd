"""`Backlog`: the waiting jobs of one owner, model and class, in flows that take turns, and indexed by length."""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from nearfield.engine.job import Job
from nearfield.engine.turns import TurnClock

#: Long jobs that a search for short ones skips before it stops.
_MAX_SKIPPED = 256
#: Flows of which the next job is tried first when a batch of padded jobs is filled.
_MAX_FLOWS_SEARCHED = 64
#: Jobs of the flows that are next among which those of like lengths are looked for first.
_MAX_JOBS_SEARCHED = 512


class WaitingWork:
    """Waiting work of one owner and class, of all models: tokens, jobs and flows, and the clock of the flows."""

    __slots__ = ("clock", "count", "flows", "tokens")

    def __init__(self) -> None:
        self.tokens = 0
        self.count = 0
        self.flows = 0
        self.clock = TurnClock()


@dataclass(slots=True)
class BatchDraft:
    """The jobs of a batch while it is filled, perhaps from several backlogs.

    Jobs of up to ``shared`` tokens fill rows together: those next in turn are taken, whatever their lengths. If the
    first job is longer, jobs are padded, so those nearest to it in length join it, and only while the padding costs
    less than the ``overhead`` of a separate batch.
    """

    #: Maximum number of tokens, padding included.
    budget: int
    #: What a batch costs beside its tokens, in tokens.
    overhead: int
    #: Tokens up to which inputs share rows.
    shared: int = 0
    jobs: list[Job] = field(default_factory=list)
    tokens: int = 0
    #: Tokens of the longest job.
    width: int = 0

    @property
    def is_full(self) -> bool:
        """Whether not even the shortest job fits."""
        return self.tokens >= self.budget or (
            self.width > self.shared and self.width * (len(self.jobs) + 1) > self.budget
        )

    def fits_padded(self, length: int) -> bool:
        """Whether a job can be added whose padding costs less than a separate batch."""
        padded, tokens = max(self.width, length) * (len(self.jobs) + 1), self.tokens + length
        return padded <= self.budget and padded - tokens <= self.overhead + tokens // 16

    def add(self, job: Job) -> None:
        """Add a job."""
        self.jobs.append(job)
        self.tokens += job.length
        self.width = max(self.width, job.length)


class _Line:
    """The waiting jobs of one flow, oldest first. ``key`` is that of its entry in the heap."""

    __slots__ = ("count", "flow", "jobs", "key", "last_turn", "tokens")

    def __init__(self, flow: Hashable) -> None:
        self.flow = flow
        #: The turn of its youngest jobs.
        self.last_turn = 0.0
        self.key: float | None = None
        self.jobs: deque[Job] = deque()
        self.count = 0
        self.tokens = 0


class Backlog:
    """Waiting jobs in lines, one for each flow, with the jobs of one length in one queue.

    The scheduler's lock guards it. ``total`` counts the jobs of several backlogs, whose flows take turns.
    """

    def __init__(self, total: WaitingWork | None = None) -> None:
        self.tokens = 0
        self.count = 0
        self._total = total or WaitingWork()
        #: Jobs claimed since the last clean-up: at most this many of them are still in the queues.
        self._claimed = 0
        self._lines: dict[Hashable, _Line] = {}
        #: A heap of lines by the turn of their first job. An entry counts if its turn is the line's key.
        self._turns: list[tuple[float, int, _Line]] = []
        self._order = itertools.count()
        self._by_length: dict[int, deque[Job]] = {}
        self._lengths: list[int] = []

    def push(self, job: Job) -> None:
        """Add a job as the youngest of its flow."""
        self.extend([job])

    def extend(self, jobs: Sequence[Job]) -> None:
        """Add the jobs of a ticket as the youngest of its flow.

        Their turn is when the last of them would be done if all flows that wait were served at the same time: requests
        then end no later than so, and small ones before large ones. Requests of one size run one after another. Served
        at the same time, all would end together, and the lanes would wait for the next ones.
        """
        if not jobs:
            return
        line, by_length, tokens = self._line_of(jobs[0]), self._by_length, sum(job.length for job in jobs)
        turn = line.last_turn = max(line.last_turn, self._total.clock.now) + tokens
        for job in jobs:
            length, job.turn = job.length, turn
            queue = by_length.get(length)
            if queue is None:
                queue = self._open_queue(length)
            queue.append(job)
        line.jobs.extend(jobs)
        line.count += len(jobs)
        line.tokens += tokens
        self._count(tokens, len(jobs))
        if line.key is None:
            self._enter(line)

    def push_front(self, job: Job) -> None:
        """Add a job again as the oldest, after its lane died; its flow is next."""
        job.claimed = False
        length = job.length
        self._open_queue(length).appendleft(job)
        line = self._line_of(job)
        line.jobs.appendleft(job)
        line.count += 1
        line.tokens += length
        self._count(length, 1)
        job.turn = min(job.turn, self._turns[0][0] if self._turns else job.turn)
        self._enter(line)

    def oldest(self) -> Job | None:
        """Return the oldest job of the flow whose turn it is, or None."""
        line = self._next_line()
        return None if line is None else line.jobs[0]

    @property
    def turn(self) -> float:
        """Turn of the next job; infinite if none waits."""
        job = self.oldest()
        return float("inf") if job is None else job.turn

    def claim(self, job: Job) -> None:
        """Mark a job as taken by a batch. The queues skip it when they meet it, or ``tidy`` removes it."""
        job.claimed = True
        self._serve(self._lines[job.ticket.caller.flow], job.length, 1)

    def drop(self, job: Job) -> None:
        """Mark a job as ended before a batch took it."""
        job.claimed = True
        self._remove(self._lines[job.ticket.caller.flow], job.length, 1)

    def _serve(self, line: _Line, tokens: int, count: int) -> None:
        """Count jobs of a flow as taken by a batch."""
        self._total.clock.advance(0.0, tokens, self._total.flows)
        self._remove(line, tokens, count)

    def _count(self, tokens: int, count: int) -> None:
        total = self._total
        self.tokens += tokens
        self.count += count
        total.tokens += tokens
        total.count += count

    def _remove(self, line: _Line, tokens: int, count: int) -> None:
        """Count jobs of a flow as waiting no more."""
        self._count(-tokens, -count)
        self._claimed += count
        line.count -= count
        line.tokens -= tokens
        if not line.count:
            total = self._total
            line.key = None
            line.jobs.clear()
            total.flows -= 1
            del self._lines[line.flow]

    def tokens_ahead(self, flow: Hashable, tokens: int) -> int:
        """Return the tokens that wait before the jobs of a new ticket of a flow."""
        line = self._lines.get(flow)
        turn = max(0.0 if line is None else line.last_turn, self._total.clock.now) + tokens
        return sum(line.tokens for line in self._lines.values() if line.last_turn <= turn)

    def gather(self, budget: int, overhead: int, *, shared: int = 0) -> list[Job]:
        """Claim the next job and others that run well with it; return them. The arguments are those of `BatchDraft`."""
        draft = BatchDraft(budget, overhead, shared)
        self.fill(draft)
        return draft.jobs

    def fill(self, draft: BatchDraft) -> None:
        """Claim jobs for a batch until it is full. The first one is added even if it is larger than the budget."""
        oldest = self.oldest()
        if oldest is None:
            return
        if (draft.width or oldest.length) <= draft.shared:
            self._claim_shared(draft)
        else:
            if not draft.jobs:
                self.claim(oldest)
                draft.add(oldest)
            self._claim_nearest(draft)
        self.tidy()

    def tidy(self) -> None:
        """Remove claimed jobs once they are many or all: each refers to its ticket, and so to results."""
        if self.count and self._claimed <= max(_MAX_SKIPPED, self.count):
            return
        self._claimed = 0
        for line in self._lines.values():
            line.jobs = deque(job for job in line.jobs if not job.claimed)
        self._turns = [entry for entry in self._turns if entry[0] == entry[2].key]
        heapq.heapify(self._turns)
        queues = {length: deque(job for job in queue if not job.claimed) for length, queue in self._by_length.items()}
        self._by_length = {length: queue for length, queue in queues.items() if queue}
        self._lengths = sorted(self._by_length)

    def _claim_shared(self, draft: BatchDraft) -> None:
        skipped: list[tuple[_Line, Job]] = []
        while draft.tokens < draft.budget and (line := self._next_line()) is not None:
            if line.jobs[0].length > draft.shared:
                skipped.append((line, line.jobs.popleft()))
                if len(skipped) > _MAX_SKIPPED:
                    break
            else:
                self._claim_from(line, draft)
        for line, job in reversed(skipped):
            line.jobs.appendleft(job)
            if line.key is None:
                self._enter(line)

    def _claim_from(self, line: _Line, draft: BatchDraft) -> None:
        """Claim jobs of the flow whose turn it is, until the turn of another one comes."""
        jobs, before = line.jobs, len(draft.jobs)
        left = draft.budget - draft.tokens
        next_turn = min((entry[0] for entry in self._turns[1:3]), default=float("inf"))
        tokens = 0
        while jobs and tokens < left:
            job = jobs[0]
            if tokens and job.turn > next_turn:
                break
            length = job.length
            if job.claimed:
                jobs.popleft()
                continue
            if length > draft.shared:
                break
            jobs.popleft()
            job.claimed = True
            draft.jobs.append(job)
            draft.width = max(draft.width, length)
            tokens += length
        draft.tokens += tokens
        self._serve(line, tokens, len(draft.jobs) - before)

    def _claim_nearest(self, draft: BatchDraft) -> None:
        """Claim jobs of like lengths: of the flows that are next, and of all if that leaves the batch half empty.

        If all flows were searched alike, the large requests that wait would all end together, and under overload few
        of them before their deadlines.
        """
        if len(self._lines) > 1:
            self._claim_next_of_flows(draft)
            self._claim_of_next_flows(draft)
            if draft.tokens * 2 >= draft.budget:
                return
        for length in self._lengths_near(draft.width):
            queue = self._by_length[length]
            while queue:
                job = queue[0]
                if job.claimed:
                    queue.popleft()
                    continue
                if not draft.fits_padded(length):
                    break
                queue.popleft()
                self.claim(job)
                draft.add(job)

    def _claim_of_next_flows(self, draft: BatchDraft) -> None:
        """Claim jobs among the first of the flows in turn, those nearest in length first."""
        lines = heapq.nsmallest(_MAX_FLOWS_SEARCHED, self._lines.values(), key=lambda line: line.last_turn)
        waiting = (job for line in lines for job in line.jobs if not job.claimed)
        near = sorted(itertools.islice(waiting, _MAX_JOBS_SEARCHED), key=lambda job: abs(job.length - draft.width))
        for job in near:
            # A job that was pushed again after its lane died is in the queue twice.
            if not job.claimed and draft.fits_padded(job.length):
                self.claim(job)
                draft.add(job)

    def _claim_next_of_flows(self, draft: BatchDraft) -> None:
        """Claim the last job of flows in turn where it fits: queues by length are in order of arrival."""
        lines = (line for line in self._lines.values() if line.count == 1)
        for line in heapq.nsmallest(_MAX_FLOWS_SEARCHED, lines, key=lambda line: line.last_turn):
            job = next((job for job in line.jobs if not job.claimed), None)
            if job is not None and draft.fits_padded(job.length):
                self.claim(job)
                draft.add(job)

    def waiting(self) -> list[Job]:
        """Return all waiting jobs, the oldest of each flow first."""
        return [job for line in self._lines.values() for job in line.jobs if not job.claimed]

    # -- lines -----------------------------------------------------------------------------------------------------

    def _next_line(self) -> _Line | None:
        """Return the line whose turn it is, its first job waiting."""
        turns = self._turns
        while turns:
            key, order, line = turns[0]
            if line.key != key:
                heapq.heappop(turns)
                continue
            jobs = line.jobs
            while jobs and jobs[0].claimed:
                jobs.popleft()
            if not jobs:
                line.key = None  # all of its jobs are skipped for now
            elif jobs[0].turn == key:
                return line
            else:
                line.key = jobs[0].turn
                heapq.heapreplace(turns, (line.key, order, line))
        return None

    def _line_of(self, job: Job) -> _Line:
        """Return the line of a job's flow."""
        flow = job.ticket.caller.flow
        line = self._lines.get(flow)
        if line is None:
            line = self._lines[flow] = _Line(flow)
            self._total.flows += 1
        return line

    def _enter(self, line: _Line) -> None:
        line.key = line.jobs[0].turn
        heapq.heappush(self._turns, (line.key, next(self._order), line))

    # -- lengths ---------------------------------------------------------------------------------------------------

    def _open_queue(self, length: int) -> deque[Job]:
        """Return the queue of a length, a new one if there is none."""
        queue = self._by_length.get(length)
        if queue is None:
            queue = self._by_length[length] = deque()
            insort(self._lengths, length)
        return queue

    def _lengths_near(self, length: int) -> list[int]:
        """Return the known lengths, nearest to ``length`` first; lengths without jobs are removed."""
        empty = [known for known in self._lengths if not self._by_length[known]]
        for known in empty:
            del self._by_length[known]
            self._lengths.pop(bisect_left(self._lengths, known))
        return sorted(self._lengths, key=lambda known: abs(known - length))
