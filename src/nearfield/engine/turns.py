"""Turns by tokens: the `Caller` of a ticket, and the `TurnClock` by which waiting callers take turns.

Owners run in the order of start-time fair queueing (Goyal, Vin and Cheng 1996, doi:10.1145/248157.248171). Each member
has a progress: the tokens that it was served. The member with the least progress is next. A member that begins to wait
starts at the clock, so that it neither saves turns while it is idle nor has to make up for turns that others had. The
flows of an owner use the same clock (`Backlog.extend`).
"""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a ticket is for.

    Owners take turns in the queue, and each has a share of it. The tickets of one ``flow`` run in order; the flows of
    one owner take turns.
    """

    owner: str = ""
    flow: Hashable = None


#: The caller of the current task or thread. The server sets it for each request; Python calls are one flow.
CALLER: ContextVar[Caller] = ContextVar("nearfield_caller", default=Caller())  # noqa: B039 - it cannot be changed


class TurnClock:
    """The virtual time of members that take turns, in tokens."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0.0

    def advance(self, progress: float, tokens: int, members: int) -> None:
        """Record that one of some waiting members is served some tokens; ``progress`` is what it had before.

        The clock also rises while only newcomers are served, slower than the mean progress: those who wait longer than
        they are then next.
        """
        self.now = max(self.now + tokens / (members + 1), progress)
