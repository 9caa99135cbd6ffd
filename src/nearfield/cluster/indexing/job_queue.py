"""Which worker does which job: a queue with retries, copies of slow jobs, and documents that are set aside.

It knows nothing of Ray. Times are those of the clock that is passed, which never goes backwards.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

#: Times that a document's worker may stop, or fail, until the document is not tried again.
MAX_FAILURES = 2
#: A job is slow if it takes so many times as long as the median, and at least so many seconds.
_SLOW, _SLOW_SECONDS = 3.0, 20.0
#: A worker hangs if it takes so many times as long as the median, and at least so many seconds.
_HANGING, _HANGING_SECONDS = 20.0, 3600.0

T = TypeVar("T")


class DocumentSetAside(Exception):
    """The workers of a document stopped again and again; the message says how."""


@dataclass(frozen=True)
class WorkReply:
    """What a worker returned for a document, and the number of the worker."""

    worker: int
    value: Any


@dataclass(eq=False)
class WorkUnit:
    """One document of a job: what the worker gets, and where its reply goes."""

    request: Any
    future: Future[WorkReply] = field(default_factory=Future)
    failures: int = 0


@dataclass(eq=False)
class WorkJob:
    """Documents that one call of a worker processes.

    Attributes:
        method: of the worker.
        units: the documents.
        arguments: further arguments of the method.
        preferred: the number of the worker that should do it; None: any.
        is_urgent: whether it goes before others: the document has begun, and later ones wait for it.
        is_counted: whether its chunks are counted: those of a second model are the same.
        started, ended: when.
        workers: those that are at it.
        is_copied: whether a second worker got it, because the first was slow.
        is_done: whether its documents have their replies, or were dropped.
    """

    method: str
    units: Sequence[WorkUnit]
    arguments: tuple[Any, ...] = ()
    preferred: int | None = None
    is_urgent: bool = False
    is_counted: bool = True
    started: float = 0.0
    ended: float = 0.0
    workers: set[int] = field(default_factory=set)
    is_copied: bool = False
    is_done: bool = False

    def split(self) -> Iterator[WorkJob]:
        """Yield a job for each document."""
        return (self.again([unit]) for unit in self.units)

    def again(self, units: Sequence[WorkUnit]) -> WorkJob:
        """Return the same job with some of its documents, for any worker."""
        return WorkJob(self.method, units, self.arguments, is_counted=self.is_counted)


@dataclass
class JobQueue:
    """The jobs of a run.

    Attributes:
        clock: seconds.
        retries: documents that were queued again.
        copies: jobs that were given to a second worker.
    """

    clock: Callable[[], float] = time.monotonic
    retries: int = 0
    copies: int = 0

    def __post_init__(self) -> None:
        self._urgent: deque[WorkJob] = deque()
        self._usual: deque[WorkJob] = deque()
        self._running: dict[int, WorkJob] = {}
        self._seconds: deque[float] = deque(maxlen=200)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.pending and not self._running

    @property
    def pending(self) -> int:
        """The number of jobs that wait for a worker."""
        return len(self._urgent) + len(self._usual)

    def add(self, job: WorkJob) -> None:
        """Queue a job, before those of documents that have not begun if it is urgent."""
        (self._urgent if job.is_urgent else self._usual).append(job)

    def take(self, worker: int, others: frozenset[int] = frozenset()) -> WorkJob | None:
        """Give an idle worker the next job, or a copy of one that is slow; None if there is nothing.

        A job that prefers one of the ``others``, which still run, is left to it.
        """
        job = self._next_pending(worker, others) or self._slow_job()
        if job is None:
            return None
        job.started = self.clock() if not job.workers else job.started
        job.workers.add(worker)
        self._running[worker] = job
        return job

    def _next_pending(self, worker: int, others: frozenset[int]) -> WorkJob | None:
        for jobs in (self._urgent, self._usual):
            for number, job in enumerate(jobs):
                if job.preferred in (None, worker) or job.preferred not in others:
                    del jobs[number]
                    return job
        return None

    def _slow_job(self) -> WorkJob | None:
        if self.pending:
            return None
        limit = self.clock() - max(_SLOW_SECONDS, _SLOW * self._median())
        slow = [job for job in self._running.values() if job.started < limit and not (job.is_copied or job.is_done)]
        if not slow:
            return None
        job = min(slow, key=lambda one: one.started)
        job.is_copied = True
        self.copies += 1
        return job

    def _median(self) -> float:
        return statistics.median(self._seconds) if self._seconds else 0.0

    def finish(self, worker: int, values: Sequence[Any]) -> WorkJob | None:
        """Deliver what a worker returned; return its job, or None if another worker was faster."""
        job = self._running.pop(worker)
        job.workers.discard(worker)
        if job.is_done:
            return None
        job.is_done, job.ended = True, self.clock()
        self._seconds.append(job.ended - job.started)
        for unit, value in zip(job.units, values, strict=True):
            _deliver(unit, WorkReply(worker, value))
        return job

    def lose(self, worker: int, error: BaseException, *, blames: bool = True) -> None:
        """Queue the job of a worker that stopped or failed again; of several documents each alone.

        Args:
            worker: its number.
            error: what the last of a document's workers leaves for those that wait for it.
            blames: whether the documents may be the reason; False if the machine stopped.
        """
        job = self._running.pop(worker, None)
        if job is None:
            return
        job.workers.discard(worker)
        if job.is_done or job.workers:  # another worker does it too
            job.is_copied = False
            return
        self.retries += len(job.units)
        if not blames:
            self._urgent.appendleft(job.again(job.units))
        elif len(job.units) > 1:
            self._urgent.extendleft(reversed(list(job.split())))
        else:
            self._blame(job, job.units[0], error)

    def _blame(self, job: WorkJob, unit: WorkUnit, error: BaseException) -> None:
        unit.failures += 1
        if unit.failures < MAX_FAILURES:
            self._urgent.appendleft(job.again(job.units))
            return
        self.retries -= 1
        _refuse(unit, error)

    def hanging(self) -> Iterator[int]:
        """Yield the workers that must hang: at a job for too long, or at one that another worker has finished."""
        now, limit = self.clock(), max(_HANGING_SECONDS, _HANGING * self._median())
        for worker, job in self._running.items():
            if (now - job.ended > _SLOW_SECONDS) if job.is_done else (now - job.started > limit):
                yield worker

    def cancel(self, error: BaseException | None = None) -> None:
        """Drop all jobs; the waits for them end with the error, or as cancelled."""
        jobs = [*self._urgent, *self._usual, *self._running.values()]
        self._urgent.clear()
        self._usual.clear()
        for job in jobs:
            job.is_done, job.ended = True, self.clock()
            for unit in job.units:
                _refuse(unit, error or CancelledError())


def group_items(items: Iterator[T], weight: Callable[[T], float], limit: float) -> Iterator[list[T]]:
    """Yield items in groups of at most this weight, in order; a heavier item is in a group alone."""
    group: list[T] = []
    total = 0.0
    for item in items:
        size = weight(item)
        if group and total + size > limit:
            yield group
            group, total = [], 0.0
        group.append(item)
        total += size
        if total >= limit:
            yield group
            group, total = [], 0.0
    if group:
        yield group


def _deliver(unit: WorkUnit, reply: WorkReply) -> None:
    unit.request = None
    if not unit.future.done():
        unit.future.set_result(reply)


def _refuse(unit: WorkUnit, error: BaseException) -> None:
    unit.request = None
    if not unit.future.done():
        unit.future.set_exception(error)
