"""`BatchSlots`: which batches are open, shared between owners."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from nearfield.server.batches.batch import BatchJob

#: Seconds after which an open batch makes way for one of an owner that has fewer.
_SLICE_SECONDS = 60.0
#: Additional slots of batches that are cancelled: they only store their results.
_CANCEL_SLOTS = 8


class BatchSlots:
    """The slots of open batches. Owners get equal shares of them while others wait.

    A batch that must release its slot ends its task. It gets another slot later and continues with the next line.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        #: Owner, and time of opening, of each open batch.
        self._open: dict[str, tuple[str, float]] = {}
        self._counts: Counter[str] = Counter()
        #: Waiting batches by owner, and those of them for which a slot was released since.
        self._waiting: Counter[str] = Counter()
        self._promised: Counter[str] = Counter()
        #: Times until which batches wait for tokens or for space, and need no slot.
        self._paused: dict[str, float] = {}

    def choose(self, jobs: Sequence[BatchJob]) -> list[BatchJob]:
        """Return the batches that get the free slots, those of owners with the fewest first; the others wait."""
        now = time.monotonic()
        self._paused = {name: until for name, until in self._paused.items() if until > now}
        queues: dict[str, list[BatchJob]] = {}
        for job in jobs:
            paused = job.batch.id in self._paused and job.batch.status == "in_progress"
            if job.batch.id not in self._open and not paused:
                queues.setdefault(job.owner, []).append(job)
        chosen: list[BatchJob] = []
        for job in [job for queue in queues.values() for job in queue if job.batch.status == "cancelling"]:
            if len(self._open) < self._slots + _CANCEL_SLOTS:
                queues[job.owner].remove(job)
                chosen.append(self._start(job, now))
        queues = {owner: queue for owner, queue in queues.items() if queue}
        while queues and len(self._open) < self._slots:
            owner = min(queues, key=lambda name: self._counts[name])
            job = queues[owner].pop(0)
            if not queues[owner]:
                del queues[owner]
            chosen.append(self._start(job, now))
        self._waiting = Counter({owner: len(queue) for owner, queue in queues.items()})
        self._promised.clear()
        return chosen

    def _start(self, job: BatchJob, now: float) -> BatchJob:
        self._paused.pop(job.batch.id, None)
        self._open[job.batch.id] = (job.owner, now)
        self._counts[job.owner] += 1
        return job

    def must_release(self, job: BatchJob, *, idle: bool = False, sliced: bool = True) -> bool:
        """Release a batch's slot if another owner needs it more, and return whether it was released.

        Args:
            job: an open batch.
            idle: it waits, and could not use its slot now.
            sliced: it makes way for owners with one batch fewer once it was open for a while.
        """
        if job.batch.id not in self._open:
            return True
        count, opened = self._counts[job.owner], self._open[job.batch.id][1]
        others = {
            owner: self._counts[owner] + self._promised[owner]
            for owner, number in self._waiting.items()
            if number > self._promised[owner] and owner != job.owner
        }
        if not others:
            return False
        neediest = min(others, key=others.__getitem__)
        over = sliced and time.monotonic() - opened > _SLICE_SECONDS
        if count - others[neediest] < (1 if idle or over else 2):
            return False
        self._promised[neediest] += 1
        self.release(job.batch.id)
        return True

    def release(self, name: str) -> None:
        """Release the slot of a batch, if it has one."""
        if name in self._open:
            owner, _ = self._open.pop(name)
            self._counts[owner] -= 1
            if not self._counts[owner]:
                del self._counts[owner]

    def pause(self, name: str, seconds: float) -> None:
        """Let a batch wait without a slot."""
        self._paused[name] = time.monotonic() + seconds

    def next_end(self) -> float | None:
        """Return the seconds until the first pause ends; None without pauses."""
        return max(0.0, min(self._paused.values()) - time.monotonic()) if self._paused else None
