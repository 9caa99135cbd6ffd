"""`DiscardTurns`: connections discard what clients send after a refusal, in turns and at a bounded rate in all."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Protocol

#: Bytes a second that all connections together discard, and bytes that they may discard at once after a pause: the
#: rest of one body that is larger than the limit.
DISCARD_RATE, DISCARD_BURST = 16 * 2**20, 32 * 2**20
#: Seconds between two rounds of turns, and the number of connections that have one in a round.
_ROUND_SECONDS, _ROUND_TURNS = 0.004, 1


class DiscardingConnection(Protocol):
    """A connection that discards what it reads."""

    owner: str

    def read_once(self) -> bool:
        """Read one packet to discard it; return False if the connection is closed."""


class DiscardTurns:
    """Decides which connection may discard a packet next. Owners take turns, and so do the connections of an owner.

    Reading costs time of the event loop even if the bytes are dropped: without a bound, clients that ignore their
    refusals could use a third of it.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[DiscardingConnection]] = {}
        self._allowance: float = DISCARD_BURST
        self._counted = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, connection: DiscardingConnection) -> None:
        """Let a connection, which reads nothing now, read one packet when it is its turn."""
        self._waiting.setdefault(connection.owner, deque()).append(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_ROUND_SECONDS, self._run_round)

    def count(self, size: int) -> None:
        """Count discarded bytes."""
        self._allowance -= size

    def _run_round(self) -> None:
        now = time.monotonic()
        self._allowance = min(DISCARD_BURST, self._allowance + DISCARD_RATE * (now - self._counted))
        self._counted = now
        turns = _ROUND_TURNS if self._allowance > 0 else 0
        while turns and self._waiting:
            turns -= self._next().read_once()
        delay = max(_ROUND_SECONDS, -self._allowance / DISCARD_RATE)
        self._timer = asyncio.get_running_loop().call_later(delay, self._run_round) if self._waiting else None

    def _next(self) -> DiscardingConnection:
        owner = next(iter(self._waiting))
        connections = self._waiting.pop(owner)
        connection = connections.popleft()
        if connections:
            self._waiting[owner] = connections  # behind all others
        return connection
