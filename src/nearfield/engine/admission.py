"""Admission control: refuse tickets if the queue is full or their deadline would pass; measure the throughput."""

from __future__ import annotations

import time
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from nearfield.engine.job import Batch, Runner, Ticket
from nearfield.errors import Overloaded

#: Batches of fewer tokens are not measured: overhead dominates them, and they say little about throughput.
MIN_MEASURED_TOKENS = 32
#: Share of a model's budget from which on a batch shows how fast the model can be.
_PEAK_SHARE = 4
#: Share of the time until its deadline within which a ticket must be expected to end.
_DEADLINE_SHARE = 0.8


@dataclass(frozen=True)
class EngineLimits:
    """Limits of the engine: tokens that may be queued, and seconds after which a running batch counts as hung."""

    max_queued_tokens: int = 1_000_000
    stall: float = 120.0


@dataclass(frozen=True)
class QueueSpace:
    """Tokens that wait, those of one owner among them, and the number of owners with that one."""

    queued: int
    own: int = 0
    owners: int = 1


class Throughput:
    """The speed of recent batches, of all models together and of each model. Recent tokens count more than old ones."""

    def __init__(self) -> None:
        #: Tokens per second of all lanes together; 0 until a batch has run.
        self.tokens_per_second = 0.0
        #: The same if all batches ran as the fastest one did, among those of a usual size.
        self.peak_tokens_per_second = 0.0
        #: Decayed sums of tokens and seconds.
        self._total = (0.0, 0.0)
        self._by_runner: WeakKeyDictionary[Runner, tuple[float, float]] = WeakKeyDictionary()

    def record(self, batch: Batch, seconds: float, lanes: int) -> None:
        """Add a batch that ran for some seconds on one of some lanes."""
        tokens = batch.tokens
        if tokens < MIN_MEASURED_TOKENS:
            return
        # Weighted by tokens, not by batches: many small ones, dominated by overhead, say little about a large job.
        self._total = _decayed(self._total, tokens, seconds)
        self._by_runner[batch.runner] = _decayed(self._by_runner.get(batch.runner, (0.0, 0.0)), tokens, seconds)
        self.tokens_per_second = self._total[0] / self._total[1] * lanes
        if tokens * _PEAK_SHARE >= batch.runner.batch_tokens:
            self.peak_tokens_per_second = max(self.peak_tokens_per_second, tokens / max(seconds, 1e-6) * lanes)

    def seconds(self, tokens: int) -> float:
        """Return the seconds that tokens take on all lanes together; 1 if the speed is unknown."""
        return tokens / self.tokens_per_second if self.tokens_per_second else 1.0

    def tokens_within(self, runner: Runner, seconds: float) -> int | None:
        """Return how many tokens of a model one lane computes in some seconds, or None if that is unknown."""
        if runner not in self._by_runner:
            return None
        tokens, duration = self._by_runner[runner]
        return int(seconds * tokens / duration)


class AdmissionControl:
    """Refuses tickets for which there is no space in the queue, or whose deadline would pass before they end."""

    def __init__(self, limits: EngineLimits, throughput: Throughput) -> None:
        self._limits = limits
        self._throughput = throughput

    def is_full(self, tokens: int, space: QueueSpace) -> bool:
        """Return whether there is no space for more tokens of an owner.

        One owner may fill the queue. Half of an equal share is guaranteed to each, whatever the others have queued. An
        oversized ticket is accepted if nothing is queued.
        """
        limit = self._limits.max_queued_tokens
        return 0 < space.queued > limit - tokens and space.own + tokens > limit // (2 * space.owners)

    def check_space(self, tokens: int, space: QueueSpace) -> None:
        """Raise Overloaded if there is no space for more tokens of an owner beside those that are queued."""
        if self.is_full(tokens, space):
            limit = self._limits.max_queued_tokens
            raise Overloaded(
                f"{space.queued} tokens wait already, and {tokens} more would exceed the limit of {limit}. "
                "Try again later.",
                retry_after=self._throughput.seconds(space.queued + tokens - limit),
            )

    def check_deadline(self, ticket: Ticket, tokens: int, ahead: int) -> None:
        """Raise Overloaded if a ticket's deadline would pass, with ``ahead`` tokens that run before its own."""
        if ticket.deadline is None or not self._throughput.tokens_per_second:
            return
        if not ahead:
            return  # running it is the only way to measure whether the speed has recovered
        seconds = self._throughput.seconds(ahead + tokens)
        left = ticket.deadline - time.monotonic()
        if seconds > left * _DEADLINE_SHARE:
            raise Overloaded(
                f"The queue is {seconds:.1f} s long and this request must be done in {left:.1f} s. Try again later.",
                retry_after=max(seconds - left / 2, 0.1),
            )


def _decayed(sums: tuple[float, float], tokens: int, seconds: float) -> tuple[float, float]:
    return sums[0] * 0.9 + tokens, sums[1] * 0.9 + max(seconds, 1e-6)
