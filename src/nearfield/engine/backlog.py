"""Backlog: the waiting jobs of one model and class, ordered by age and indexed by length."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from nearfield.engine.job import Job

#: Long jobs that a search for short ones skips before it stops.
_MAX_SKIPPED = 256


class Backlog:
    """Waiting jobs, the oldest first, with those of one length in one queue. The scheduler's lock guards it."""

    def __init__(self) -> None:
        self.tokens = 0
        self.count = 0
        #: Jobs claimed since the last clean-up: at most this many of them are still in the queues.
        self._claimed = 0
        self._by_age: deque[Job] = deque()
        self._by_length: dict[int, deque[Job]] = {}
        self._lengths: list[int] = []

    def push(self, job: Job) -> None:
        """Add a job as the youngest."""
        self._queue_of(job).append(job)
        self._by_age.append(job)

    def push_front(self, job: Job) -> None:
        """Add a job again as the oldest, after its lane died."""
        job.claimed = False
        self._queue_of(job).appendleft(job)
        self._by_age.appendleft(job)

    def oldest(self) -> Job | None:
        """Return the job that has waited longest, or None."""
        while self._by_age and self._by_age[0].claimed:
            self._by_age.popleft()
        return self._by_age[0] if self._by_age else None

    def claim(self, job: Job) -> None:
        """Mark a job as taken. The queues skip it when they meet it, or ``tidy`` removes it."""
        job.claimed = True
        self._claimed += 1
        self.tokens -= job.length
        self.count -= 1

    def gather(self, budget: int, overhead: int, *, shared: int = 0) -> list[Job]:
        """Claim the oldest job and others that run well with it; return them.

        Jobs of up to ``shared`` tokens fill rows together: the oldest are taken, whatever their lengths. A longer
        one is padded, so those nearest to it in length join it, and only while the padding costs less than the
        ``overhead`` (in tokens) of a separate batch.

        Args:
            budget: maximum number of tokens, padding included.
            overhead: what a batch costs beside its tokens, in tokens.
            shared: tokens up to which inputs share rows.
        """
        oldest = self.oldest()
        if oldest is None:
            return []
        if oldest.length <= shared:
            jobs = self._claim_oldest(shared, budget)
        else:
            jobs = self._claim_nearest(oldest, budget, overhead)
        self.tidy()
        return jobs

    def tidy(self) -> None:
        """Remove claimed jobs once they are many or all: each refers to its ticket, and so to results."""
        if self.count and self._claimed <= max(_MAX_SKIPPED, self.count):
            return
        self._claimed = 0
        self._by_age = deque(self.waiting())
        queues = {length: deque(job for job in queue if not job.claimed) for length, queue in self._by_length.items()}
        self._by_length = {length: queue for length, queue in queues.items() if queue}
        self._lengths = sorted(self._by_length)

    def _claim_oldest(self, max_length: int, budget: int) -> list[Job]:
        jobs, skipped = [], []
        while self._by_age and budget > 0:
            job = self._by_age.popleft()
            if job.claimed:
                continue
            if job.length > max_length:
                skipped.append(job)
                if len(skipped) > _MAX_SKIPPED:
                    break
                continue
            self.claim(job)
            jobs.append(job)
            budget -= job.length
        self._by_age.extendleft(reversed(skipped))
        return jobs

    def _claim_nearest(self, oldest: Job, budget: int, overhead: int) -> list[Job]:
        self.claim(oldest)
        jobs, width, tokens = [oldest], oldest.length, oldest.length
        for length in self._lengths_near(width):
            queue = self._by_length[length]
            while queue:
                job = queue[0]
                if job.claimed:
                    queue.popleft()
                    continue
                padded = max(width, length) * (len(jobs) + 1)
                if padded > budget or padded - tokens - length > overhead + (tokens + length) // 16:
                    break
                queue.popleft()
                self.claim(job)
                jobs.append(job)
                width, tokens = max(width, length), tokens + length
        return jobs

    def waiting(self) -> list[Job]:
        """Return all waiting jobs, oldest first."""
        return [job for job in self._by_age if not job.claimed]

    def _queue_of(self, job: Job) -> deque[Job]:
        """Return the queue of a job's length, and count the job."""
        length = job.length
        queue = self._by_length.get(length)
        if queue is None:
            queue = self._by_length[length] = deque()
            insort(self._lengths, length)
        self.tokens += length
        self.count += 1
        return queue

    def _lengths_near(self, length: int) -> list[int]:
        """Return the known lengths, nearest to ``length`` first; lengths without jobs are removed."""
        empty = [known for known in self._lengths if not self._by_length[known]]
        for known in empty:
            del self._by_length[known]
            self._lengths.pop(bisect_left(self._lengths, known))
        return sorted(self._lengths, key=lambda known: abs(known - length))
