"""`Job`, one prepared input; `Ticket`, the jobs and results of one call; `Batch`, jobs that run together; `Runner`."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import numpy as np

from nearfield.engine.turns import CALLER, Caller
from nearfield.errors import Cancelled, DeadlineExceeded, ForkedProcess, NearfieldError
from nearfield.features import Features, TextFeatures
from nearfield.fork_safety import fork_count

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from nearfield.heads import OutputRequest


class Runner(Protocol):
    """The part of a loaded model that the engine uses."""

    #: Label of metrics and messages.
    name: str
    #: Length of a result row; 0 if results are not rows of one length.
    width: int
    #: Tokens in a batch at which the model's backend is fastest.
    batch_tokens: int
    #: Inputs of up to this many tokens share rows, so that a batch can mix their lengths; 0 if inputs share no rows.
    shared_length: int

    def create_lane_function(self) -> Callable[[Batch], Any]:
        """Return a function for one lane that runs a batch and returns a result for each job, in order.

        If no job of a batch has an ``extra`` and ``width`` is not 0, the results are one array [jobs, width].
        """
        ...


@dataclass(slots=True, eq=False)
class Job:
    """One prepared input.

    ``length`` is what it costs, in tokens or patches. ``skip`` counts leading prompt tokens that pooling leaves out.
    ``extra`` is a request to its runner, None for an ordinary input.
    """

    ticket: Ticket
    index: int
    features: Features
    #: ``features.cost``. Scheduler and backlog use nothing else of an input.
    length: int
    skip: int = 0
    extra: OutputRequest | None = None
    #: Whether a batch, an expiry or a cancellation has claimed it.
    claimed: bool = False
    #: Its place among the jobs of other flows: those with the least are next. The backlog sets it.
    turn: float = 0.0
    #: Number of lanes that died while running it.
    deaths: int = 0
    #: What it computes: equal for jobs with equal results. The scheduler sets it.
    key: Hashable = None
    #: Equal jobs, of any ticket, that get copies of its result. A batch sets it.
    twins: Sequence[Job] = ()


@dataclass(slots=True, eq=False)
class Batch:
    """Jobs that run together. The scheduler sets ``runner``, ``jobs`` and ``started``; the runner sets ``computed``.

    ``jobs`` are those to compute. Their twins get copies of their results.
    """

    runner: Runner
    jobs: list[Job]
    started: float = 0.0
    #: Tokens computed, padding included.
    computed: int = 0

    @property
    def tokens(self) -> int:
        """Number of tokens, without padding."""
        return sum(job.length for job in self.jobs)

    @property
    def all_jobs(self) -> list[Job]:
        """The jobs and their twins."""
        return [one for job in self.jobs for one in (job, *job.twins)]


class TicketOptions(TypedDict, total=False):
    """The keywords of ``Ticket.create``: fields of `Ticket`."""

    bulk: bool
    deadline: float | None
    on_done: Callable[[Ticket], None] | None
    on_unstarted: Callable[[int], None] | None
    caller: Caller
    first_index: int
    created: float


@dataclass(eq=False)
class Ticket:
    """The jobs and results of one call.

    ``rows`` receives the results: an array [n, width], or a list if jobs have extras or the runner's width is 0.
    ``deadline`` is a time of ``time.monotonic``; a job that has not started by then is dropped. ``on_done`` is called
    once, when the last job has ended. ``on_unstarted`` is called by ``Engine.run`` with the tokens of the jobs that
    ended before a batch took them, if there are any.
    """

    runner: Runner
    rows: Any
    bulk: bool = False
    deadline: float | None = None
    on_done: Callable[[Ticket], None] | None = None
    on_unstarted: Callable[[int], None] | None = None
    #: Whose turn and share of the queue it uses.
    caller: Caller = field(default_factory=CALLER.get)
    created: float = field(default_factory=time.monotonic)
    jobs: list[Job] = field(default_factory=list)
    errors: dict[int, Exception] = field(default_factory=dict)
    remaining: int = 0
    #: Tokens of jobs that ended before a batch took them.
    unstarted_tokens: int = 0
    #: Seconds from creation to the start of the first batch, and to the end of the last one.
    queued_seconds: float | None = None
    total_seconds: float = 0.0
    cancelled: bool = False
    #: The number of the first input in messages.
    first_index: int = 0
    _event: threading.Event = field(default_factory=threading.Event)
    _forks: int = field(default_factory=fork_count)

    @classmethod
    def create(
        cls,
        runner: Runner,
        inputs: Sequence[Features],
        skips: Sequence[int] | None = None,
        extras: Sequence[OutputRequest | None] | None = None,
        **options: Unpack[TicketOptions],
    ) -> Ticket:
        """Create a ticket with a job for each input; ``skips`` and ``extras`` as in ``Job``."""
        plain = extras is None and runner.width
        rows = np.zeros((len(inputs), runner.width), np.float32) if plain else [None] * len(inputs)
        ticket = cls(runner, rows, **options)
        skips, extras = skips or [0] * len(inputs), extras or [None] * len(inputs)
        ticket.jobs = [
            Job(ticket, index, features, features.cost, skip, extra)
            for index, (features, skip, extra) in enumerate(zip(inputs, skips, extras, strict=True))
        ]
        ticket.remaining = len(ticket.jobs)
        return ticket

    @classmethod
    def from_ids(
        cls,
        runner: Runner,
        inputs: Sequence[Sequence[int]],
        skips: Sequence[int] | None = None,
        extras: Sequence[OutputRequest | None] | None = None,
        **options: Unpack[TicketOptions],
    ) -> Ticket:
        """Create a ticket with a job for each list of token ids."""
        return cls.create(runner, [TextFeatures(ids) for ids in inputs], skips, extras, **options)

    @property
    def tokens(self) -> int:
        """Number of tokens of all jobs; 0 once it has ended."""
        return sum(job.length for job in self.jobs)

    @property
    def done(self) -> bool:
        """Whether all jobs have ended."""
        return self.remaining == 0

    @property
    def is_foreign(self) -> bool:
        """Whether it belongs to a process from which this one was forked."""
        return self._forks != fork_count()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds to the first batch (``queue``) and from there to the end of the last (``run``); empty if none ran."""
        if self.queued_seconds is None:
            return {}
        return {"queue": self.queued_seconds, "run": self.total_seconds - self.queued_seconds}

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the rows.

        Raises:
            DeadlineExceeded: ``timeout`` seconds passed first.
            ForkedProcess: it was queued in the parent of this process, and only the parent gets its rows.
            NearfieldError: the first failed input's error, with its index if there are several inputs.
        """
        if self.is_foreign and not self.done:
            raise ForkedProcess(
                "These inputs were queued before this process was forked, and their results arrive in its parent: "
                "encode them again here."
            )
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
            error = _numbered(error, self.first_index + index)
        raise error

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("A Ticket's results arrive in the process that queued it: send them, not the Ticket.")

    def record_end(self, job: Job, error: Exception | None = None) -> bool:
        """Record that a job ended; return whether it was the last. The engine calls this under its lock."""
        if error is not None:
            self.errors[job.index] = error
        self.remaining -= 1
        if self.remaining:
            return False
        self.total_seconds = time.monotonic() - self.created
        return True

    def report_unstarted(self) -> None:
        """Call ``on_unstarted`` if jobs ended before a batch took them."""
        if self.unstarted_tokens and self.on_unstarted is not None:
            self.on_unstarted(self.unstarted_tokens)

    def notify_done(self) -> None:
        """Wake the caller and call ``on_done``. The engine calls this once, outside the engine's lock."""
        self.jobs = []  # they refer to the ticket: a cycle would live until the next garbage collection
        self._event.set()
        if self.on_done is not None:
            self.on_done(self)


def _numbered(error: NearfieldError, number: int) -> NearfieldError:
    """Return the error with an input's number: a copy, because inputs of other tickets may share it."""
    numbered = copy.copy(error)
    numbered.args = (f"Input {number}: {error}",)
    numbered.__cause__ = error.__cause__
    return numbered
