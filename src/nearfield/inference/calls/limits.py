"""Limits of one call (`CallLimits`), and a result with the time that each stage took (`TimedResult`)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from nearfield.argument_checks import require_number, require_optional_counts
from nearfield.engine.job import Ticket
from nearfield.errors import TooLarge
from nearfield.media.limits import DEFAULT_MEDIA_LIMITS, MediaLimits

#: Characters up to which inputs are tokenised on the event loop: a thread would cost more time than it saves.
INLINE_CHARACTERS = 8_192
ResultT = TypeVar("ResultT")


class TokenAccount(Protocol):
    """Counts the tokens of a request against a limit of its client."""

    def charge(self, tokens: int) -> None:
        """Count the tokens of a ticket that is about to be queued. Raises RateLimited if the client has none left."""

    def refund(self, tokens: int) -> None:
        """Count tokens of a ticket no more that ended before a batch took them."""

    def charge_reading(self, tokens: int) -> None:
        """Count the work on characters that become no token of a ticket. Raises as ``charge`` does."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Priority, deadline, size and payment of one call.

    Args:
        bulk: run at low priority, behind interactive requests.
        deadline: seconds from now within which the result is needed; None for no deadline.
        max_tokens: maximum number of tokens of all inputs together; None for no limit.
        account: counts the tokens before they are queued; None if nothing counts them.
        media: limits of each picture and sound.
    """

    bulk: bool = False
    deadline: float | None = None
    max_tokens: int | None = None
    account: TokenAccount | None = None
    media: MediaLimits = DEFAULT_MEDIA_LIMITS

    def __post_init__(self) -> None:
        if self.deadline is not None:
            require_number("deadline", self.deadline)
        require_optional_counts(max_tokens=self.max_tokens)

    def expires_at(self) -> float | None:
        """Return the deadline as a time of ``time.monotonic``, counted from now."""
        return None if self.deadline is None else time.monotonic() + self.deadline

    def admit(self, tickets: Sequence[Ticket]) -> None:
        """Check the tickets of a call and charge their tokens to the account, which gets back those no batch takes.

        Raises:
            TooLarge: their jobs have more than ``max_tokens`` tokens together.
            RateLimited: the account is overdrawn.
        """
        if self.max_tokens is not None:
            self.check_count(sum(ticket.tokens for ticket in tickets))
        if self.account is not None:
            self.account.charge(sum(ticket.tokens for ticket in tickets))
            for ticket in tickets:
                ticket.on_unstarted = self.account.refund

    def check_count(self, tokens: int, *, complete: bool = True) -> None:
        """Raise TooLarge if ``tokens`` are too many; ``complete`` says whether they are those of all inputs."""
        if self.max_tokens is not None and tokens > self.max_tokens:
            count = f"{tokens}" if complete else f"more than {tokens}"
            raise TooLarge(
                f"The inputs have {count} tokens, and the limit for one request is {self.max_tokens}. "
                "Send them in several requests.",
                param="input",
            )

    def charge_reading(self, tokens: int) -> None:
        """Charge the account for tokenised characters, in tokens of the model that cost as much.

        Raises:
            RateLimited: the account is overdrawn.
        """
        if self.account is not None and tokens > 0:
            self.account.charge_reading(tokens)


#: Limits of calls that have none.
NO_LIMITS = CallLimits()


@dataclass(frozen=True, slots=True)
class TimedResult(Generic[ResultT]):
    """The result of a call, with the seconds of each stage: ``tokenise``, ``queue`` and ``run``.

    ``queue`` and ``run`` are missing where no batch had to run, for example on a cache hit.
    """

    result: ResultT
    timings: Mapping[str, float]
