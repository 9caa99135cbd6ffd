"""Backlog: the jobs that wait for one model in one class, ordered by age and findable by length."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from nearfield.engine.job import Job

#: Long jobs that a search for short ones looks past before it stops.
_PATIENCE = 256


class Backlog:
    """Oldest first, like lengths together. Not thread-safe: the scheduler's lock guards it."""

    def __init__(self) -> None:
        self.tokens = 0
        self.count = 0
        #: How many jobs were taken since the queues were last swept: at most so many stand in them still.
        self._taken = 0
        self._by_age: deque[Job] = deque()
        self._by_length: dict[int, deque[Job]] = {}
        self._lengths: list[int] = []

    def push(self, job: Job) -> None:
        """Add a job at the young end."""
        self._shelve(job).append(job)
        self._by_age.append(job)

    def push_front(self, job: Job) -> None:
        """Put a job back, as the oldest: its lane died under it."""
        job.taken = False
        self._shelve(job).appendleft(job)
        self._by_age.appendleft(job)

    def oldest(self) -> Job | None:
        """Return the job that has waited longest, or None."""
        while self._by_age and self._by_age[0].taken:
            self._by_age.popleft()
        return self._by_age[0] if self._by_age else None

    def claim(self, job: Job) -> None:
        """Take a job out; what is left of it in the queues is skipped when met, or swept out by ``tidy``."""
        job.taken = True
        self._taken += 1
        self.tokens -= len(job.ids)
        self.count -= 1

    def gather(self, budget: int, overhead: int, *, shared: int = 0) -> list[Job]:
        """Claim the oldest job and others that run well with it, within ``budget`` tokens.

        Jobs of up to ``shared`` tokens fill rows together: the oldest are taken, whatever their lengths. A longer
        one is padded, so those nearest to it in length join it, and only while the padding costs less than the
        ``overhead`` (in tokens) of a batch of their own.
        """
        head = self.oldest()
        if head is None:
            return []
        jobs = self._oldest_up_to(shared, budget) if len(head.ids) <= shared else self._nearest(head, budget, overhead)
        self.tidy()
        return jobs

    def tidy(self) -> None:
        """Let go of jobs that were taken, once they are many or all: each holds its ticket, and that its results."""
        if self.count and self._taken <= max(_PATIENCE, self.count):
            return
        self._taken = 0
        self._by_age = deque(self.waiting())
        queues = {length: deque(job for job in queue if not job.taken) for length, queue in self._by_length.items()}
        self._by_length = {length: queue for length, queue in queues.items() if queue}
        self._lengths = sorted(self._by_length)

    def _oldest_up_to(self, length: int, budget: int) -> list[Job]:
        jobs, passed = [], []
        while self._by_age and budget > 0:
            job = self._by_age.popleft()
            if job.taken:
                continue
            if len(job.ids) > length:
                passed.append(job)
                if len(passed) > _PATIENCE:
                    break
                continue
            self.claim(job)
            jobs.append(job)
            budget -= len(job.ids)
        self._by_age.extendleft(reversed(passed))
        return jobs

    def _nearest(self, head: Job, budget: int, overhead: int) -> list[Job]:
        self.claim(head)
        jobs, longest, tokens = [head], len(head.ids), len(head.ids)
        for length in self._outwards(longest):
            queue = self._by_length[length]
            while queue:
                job = queue[0]
                if job.taken:
                    queue.popleft()
                    continue
                padded = max(longest, length) * (len(jobs) + 1)
                if padded > budget or padded - tokens - length > overhead + (tokens + length) // 16:
                    break
                queue.popleft()
                self.claim(job)
                jobs.append(job)
                longest, tokens = max(longest, length), tokens + length
        return jobs

    def waiting(self) -> list[Job]:
        """Return every job that waits, oldest first."""
        return [job for job in self._by_age if not job.taken]

    def _shelve(self, job: Job) -> deque[Job]:
        length = len(job.ids)
        queue = self._by_length.get(length)
        if queue is None:
            queue = self._by_length[length] = deque()
            insort(self._lengths, length)
        self.tokens += length
        self.count += 1
        return queue

    def _outwards(self, length: int) -> list[int]:
        """Return the known lengths, nearest to ``length`` first, and forget those that are empty."""
        empty = [known for known in self._lengths if not self._by_length[known]]
        for known in empty:
            del self._by_length[known]
            self._lengths.pop(bisect_left(self._lengths, known))
        return sorted(self._lengths, key=lambda known: abs(known - length))
