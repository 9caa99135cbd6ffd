"""Which worker encodes which shard: a queue with retries, copies of slow shards, and shards that are set aside.

It knows nothing of Ray. Times are those of the clock that is passed, which never goes backwards.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from nearfield.bulk.shard_plan import Shard

#: Times that a shard's worker may stop, or report an error, until the shard is examined or set aside.
MAX_FAILURES = 2
#: Times that a shard may be examined: workers may also stop by chance.
_MAX_EXAMINATIONS = 3
#: A shard is slow if it takes so many times as long as the median.
_SLOW = 1.5
#: A worker hangs if its shard takes so many times as long as the median, and at least so many seconds.
_HANGING, _HANGING_SECONDS = 20.0, 900.0


class Work(Enum):
    """What a worker does with a shard."""

    ENCODE = "encode"
    #: Encodes the texts in question one by one, to find the one that ends the process.
    EXAMINE = "examine"


@dataclass(frozen=True)
class Assignment:
    """A shard at a worker."""

    worker: int
    shard: Shard
    work: Work
    started: float
    #: Rows to examine, counted from the start of the shard.
    rows: tuple[int, int] = (0, 0)


@dataclass
class _ShardState:
    """What happened to a shard so far."""

    deaths: int = 0
    errors: int = 0
    busy: int = 0
    examinations: int = 0
    is_copied: bool = False
    #: Rows that are examined next.
    suspects: tuple[int, int] | None = None


@dataclass
class ShardQueue:
    """The shards of a run.

    Attributes:
        shards: all of them.
        clock: seconds.
        set_aside: messages of shards that could not be encoded, by number.
        retries: shards that were queued again.
        copies: shards that were given to a second worker.
    """

    shards: Sequence[Shard]
    clock: Callable[[], float] = time.monotonic
    set_aside: dict[int, str] = field(default_factory=dict)
    retries: int = 0
    copies: int = 0

    def __post_init__(self) -> None:
        self._pending = deque(self.shards)
        self._open = {shard.number for shard in self.shards}
        self._states = {shard.number: _ShardState() for shard in self.shards}
        self._running: dict[int, Assignment] = {}
        self._seconds: deque[float] = deque(maxlen=100)

    @property
    def is_done(self) -> bool:
        """Whether each shard is written, left to another run, or set aside."""
        return not self._open

    @property
    def closed(self) -> int:
        """The number of shards that need nothing more."""
        return len(self.shards) - len(self._open)

    def running(self) -> list[Assignment]:
        """Return what the workers do, the longest first."""
        return sorted(self._running.values(), key=lambda assignment: assignment.started)

    def take(self, worker: int) -> Assignment | None:
        """Assign a shard to an idle worker: the next one, or a copy of one that is slow; None if there is nothing."""
        shard = self._next_pending() or self._slow_shard()
        if shard is None:
            return None
        suspects = self._states[shard.number].suspects
        work = Work.ENCODE if suspects is None else Work.EXAMINE
        assignment = Assignment(worker, shard, work, self.clock(), suspects or (0, 0))
        self._running[worker] = assignment
        return assignment

    def _next_pending(self) -> Shard | None:
        while self._pending:
            shard = self._pending.popleft()
            if shard.number in self._open:
                return shard
        return None

    def _slow_shard(self) -> Shard | None:
        if len(self._seconds) < 2:
            return None
        limit = self.clock() - _SLOW * statistics.median(self._seconds)
        for assignment in self.running():
            state = self._states[assignment.shard.number]
            can_copy = assignment.work == Work.ENCODE and not state.is_copied
            if can_copy and assignment.started < limit and assignment.shard.number in self._open:
                state.is_copied = True
                self.copies += 1
                return assignment.shard
        return None

    def finish(self, worker: int) -> bool:
        """Record that a worker's shard exists, and return whether that was not known before."""
        assignment = self._running.pop(worker)
        self._seconds.append(self.clock() - assignment.started)
        is_new = assignment.shard.number in self._open
        self._open.discard(assignment.shard.number)
        return is_new

    def postpone(self, worker: int) -> None:
        """Queue a shard again that another run is writing; if it is still at it the next time, leave it to that run."""
        shard = self._running.pop(worker).shard
        state = self._states[shard.number]
        state.busy += 1
        if state.busy >= MAX_FAILURES:
            self._open.discard(shard.number)
        else:
            self._pending.append(shard)

    def fail(self, worker: int, message: str) -> None:
        """Queue a shard again that a worker could not encode, or set it aside."""
        shard = self._running.pop(worker).shard
        state = self._states[shard.number]
        state.errors += 1
        if state.errors >= MAX_FAILURES:
            self._set_aside(shard, message)
        else:
            self._again(shard)

    def lose(self, worker: int, *, suspects: tuple[int, int] | None, blames: bool = True) -> Assignment | None:
        """Queue the shard of a worker that stopped; return what it did, or None if it was idle.

        Args:
            worker: its number.
            suspects: the rows that were being encoded.
            blames: whether the shard may be the reason; False if its machine stopped.
        """
        assignment = self._running.pop(worker, None)
        if assignment is None or assignment.shard.number not in self._open:
            return assignment
        state = self._states[assignment.shard.number]
        state.is_copied = False
        if blames:
            self._suspect(assignment, state, suspects)
        if assignment.shard.number in self._open:
            self._again(assignment.shard)
        return assignment

    def _suspect(self, assignment: Assignment, state: _ShardState, suspects: tuple[int, int] | None) -> None:
        """Decide how a shard is tried again: after two deaths its texts one by one, until one is proven guilty."""
        state.deaths += 1
        if assignment.work == Work.EXAMINE and suspects is not None:
            start, stop = suspects
            if assignment.rows == (start, stop) and stop - start == 1:
                self._set_aside(assignment.shard, "")
                return
        if state.examinations >= _MAX_EXAMINATIONS:
            self._set_aside(assignment.shard, "its workers stopped again and again, and no single text is the reason")
        elif state.deaths >= MAX_FAILURES:
            state.examinations += assignment.work == Work.ENCODE
            state.suspects = suspects

    def acquit(self, worker: int) -> None:
        """Record that the examined rows ended no process: the shard is encoded again."""
        assignment = self._running.pop(worker)
        state = self._states[assignment.shard.number]
        state.suspects, state.deaths = None, 0
        self._again(assignment.shard)

    def explain(self, number: int, message: str) -> None:
        """Say why a shard is set aside."""
        self.set_aside[number] = message

    def hanging(self) -> Iterator[Assignment]:
        """Yield what takes so long that its worker must hang."""
        if self._seconds:
            limit = max(_HANGING_SECONDS, _HANGING * statistics.median(self._seconds))
            now = self.clock()
            yield from (assignment for assignment in self.running() if now - assignment.started > limit)

    def _again(self, shard: Shard) -> None:
        self.retries += 1
        self._pending.append(shard)

    def _set_aside(self, shard: Shard, message: str) -> None:
        self._open.discard(shard.number)
        self.set_aside[shard.number] = message
