"""State shared by the scheduler and its supervisor: the lock, the backlogs and the lanes."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from nearfield.engine.backlog import Backlog
from nearfield.engine.job import Job, Runner
from nearfield.engine.lane import Lane


class SchedulerState:
    """Queues and lanes under one lock, with a condition for lanes and one for callers that wait for space.

    Methods whose names begin with ``drop`` and ``fail`` take the lock; callers of all others hold it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.work_available = threading.Condition(self.lock)
        self.space_available = threading.Condition(self.lock)
        #: Waiting jobs by model and class (whether they are bulk).
        self.backlogs: dict[tuple[Runner, bool], Backlog] = {}
        self.lanes: list[Lane] = []
        self.draining = False
        self.stopped = False

    def queued_tokens(self) -> int:
        """Return the tokens that wait."""
        return sum(backlog.tokens for backlog in self.backlogs.values())

    def tokens_ahead(self, bulk: bool) -> int:
        """Return the tokens that run or wait before a new ticket: interactive ones do not wait for bulk."""
        waiting = sum(backlog.tokens for (_, is_bulk), backlog in self.backlogs.items() if bulk or not is_bulk)
        return waiting + sum(lane.batch.tokens for lane in self.lanes if lane.batch is not None)

    def is_busy(self) -> bool:
        """Return whether any job waits or runs."""
        return any(backlog.count for backlog in self.backlogs.values()) or any(lane.batch for lane in self.lanes)

    def drop(self, jobs: Iterable[Job], error: Exception) -> None:
        """Remove waiting jobs from their backlogs, and end them with an error."""
        with self.lock:
            waiting = []
            for job in jobs:
                if not job.claimed:
                    self.backlogs[job.ticket.runner, job.ticket.bulk].claim(job)
                    waiting.append(job)
            for backlog in self.backlogs.values():
                backlog.tidy()
            self.space_available.notify_all()
        self.fail(waiting, error)

    def fail(self, jobs: Iterable[Job], error: Exception) -> None:
        """End jobs that are in no backlog with an error."""
        with self.lock:
            finished = [job.ticket for job in jobs if job.ticket.record_end(job, error)]
            self.space_available.notify_all()
        for ticket in finished:
            ticket.notify_done()
