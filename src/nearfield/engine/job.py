"""Job: one input on its way to a batch. Ticket: the jobs of one caller, and where their results gather."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from nearfield.errors import Cancelled, DeadlineExceeded, NearfieldError

Array = np.ndarray[Any, np.dtype[Any]]


class Runner(Protocol):
    """What the engine schedules for: a loaded model. ``name`` labels it; ``width`` is its output size.

    A width of 0 means that results are not rows of one size.
    """

    name: str
    width: int
    #: Tokens in a batch at which the model's backend is fastest.
    batch_tokens: int
    #: Inputs up to this length share rows, so that they need not be alike; 0 where each has a row of its own.
    shared_length: int

    def lane(self) -> Callable[[Batch], Any]:
        """Make a function that runs batches, one at a time: a result for each job, in order.

        Where no job of a batch has an ``extra`` and ``width`` is not 0, the results are one array [jobs, width].
        """
        ...


@dataclass(slots=True, eq=False)
class Job:
    """One tokenised input. ``skip`` counts leading prompt tokens that pooling leaves out.

    ``extra`` is what else its runner should know, None for an ordinary input.
    """

    ticket: Ticket
    index: int
    ids: Sequence[int]
    skip: int = 0
    extra: Any = None
    #: Set by the backlog once a batch, an expiry or a cancellation has claimed it.
    taken: bool = False
    #: How many lanes died while running it.
    deaths: int = 0

    @property
    def length(self) -> int:
        return len(self.ids)


@dataclass(slots=True, eq=False)
class Batch:
    """Jobs that run together. The scheduler fills ``runner``, ``jobs`` and ``started``; the runner ``computed``."""

    runner: Runner
    jobs: list[Job]
    started: float = 0.0
    #: Tokens that are computed, padding included.
    computed: int = 0

    @property
    def tokens(self) -> int:
        """Tokens that count."""
        return sum(len(job.ids) for job in self.jobs)


@dataclass(eq=False)
class Ticket:
    """One caller's jobs: results gather in ``rows``; the last one to end calls ``on_done`` once.

    ``rows`` is an array [n, width], or a list where jobs have extras or the runner's results are of other kinds.

    ``deadline`` is a time of ``time.monotonic``; a job not started by then is dropped.
    """

    runner: Runner
    rows: Any
    bulk: bool = False
    deadline: float | None = None
    on_done: Callable[[Ticket], None] | None = None
    created: float = field(default_factory=time.monotonic)
    jobs: list[Job] = field(default_factory=list)
    errors: dict[int, Exception] = field(default_factory=dict)
    remaining: int = 0
    #: Seconds from submission to the start of the first and the end of the last batch.
    queued_seconds: float | None = None
    total_seconds: float = 0.0
    cancelled: bool = False
    _event: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def create(
        cls,
        runner: Runner,
        inputs: Sequence[Sequence[int]],
        skips: Sequence[int] | None = None,
        extras: Sequence[Any] | None = None,
        **options: Any,
    ) -> Ticket:
        """Make the jobs for tokenised inputs; ``skips`` and ``extras`` as in ``Job``, none when left out."""
        plain = extras is None and runner.width
        rows = np.zeros((len(inputs), runner.width), np.float32) if plain else [None] * len(inputs)
        ticket = cls(runner, rows, **options)
        starts, others = skips or [0] * len(inputs), extras or [None] * len(inputs)
        ticket.jobs = [
            Job(ticket, index, ids, skip, extra)
            for index, (ids, skip, extra) in enumerate(zip(inputs, starts, others, strict=True))
        ]
        ticket.remaining = len(ticket.jobs)
        return ticket

    @property
    def done(self) -> bool:
        return self.remaining == 0

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds until the first batch (``queue``), and from there to the end of the last (``run``)."""
        if self.queued_seconds is None:
            return {}
        return {"queue": self.queued_seconds, "run": self.total_seconds - self.queued_seconds}

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the rows.

        Raises:
            DeadlineExceeded: ``timeout`` seconds passed first.
            NearfieldError: the first failed input's error, which says its index when there were several inputs.
        """
        if not self._event.wait(timeout):
            raise DeadlineExceeded(f"No result within {timeout} s.")
        return self.outcome()

    def outcome(self) -> Any:
        """Return the rows of a finished ticket, or raise its first error."""
        if not self.errors:
            return self.rows
        index = min(self.errors)
        error = self.errors[index]
        if len(self.rows) > 1 and isinstance(error, NearfieldError) and not isinstance(error, Cancelled):
            error.args = (f"Input {index}: {error}",)
        raise error

    def settle(self, job: Job, error: Exception | None = None) -> bool:
        """Record that a job ended; return whether it was the last. The engine calls this under its lock."""
        if error is not None:
            self.errors[job.index] = error
        self.remaining -= 1
        if self.remaining:
            return False
        self.total_seconds = time.monotonic() - self.created
        return True

    def announce(self) -> None:
        """Wake whoever waits. Called once, outside the engine's lock."""
        self.jobs = []  # jobs point back here: a cycle would live until the collector's next round
        self._event.set()
        if self.on_done is not None:
            self.on_done(self)
