"""Limits of gRPC connections, and of calls that need no key, by address."""

from __future__ import annotations

from collections import Counter
from urllib.parse import unquote

from nearfield.server.http.connection_limit import RareLog, connections_allowed

#: Maximum number of connections, and their share of those that HTTP may have.
_MAX_CONNECTIONS, _SHARE = 1024, 16
#: An address may always have this many connections.
_MIN_CONNECTIONS = 16


def max_grpc_connections() -> int:
    """Return how many connections are accepted; the limit of descriptors leaves space for them."""
    return min(_MAX_CONNECTIONS, max(_MIN_CONNECTIONS, connections_allowed() // _SHARE))


def address_of(peer: str) -> str:
    """Return the address of a peer such as ``ipv4:127.0.0.1:5000`` or ``ipv6:%5B::1%5D:5000``."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


class CallLimit:
    """Counts calls in all and by address.

    Args:
        in_all: maximum number of open calls.
        per_address: maximum number of those of one address.
    """

    def __init__(self, in_all: int, per_address: int) -> None:
        self._in_all = in_all
        self._per_address = per_address
        self._counts: Counter[str] = Counter()
        self._log = RareLog()

    def enter(self, peer: str) -> bool:
        """Count a call; return False if it must be refused."""
        address = address_of(peer)
        if self._counts.total() >= self._in_all or self._counts[address] >= self._per_address:
            self._log.warning("gRPC calls that need no key are refused: %s has %s", address, self._counts[address])
            return False
        self._counts[address] += 1
        return True

    def leave(self, peer: str) -> None:
        """Count the end of a call that was not refused."""
        address = address_of(peer)
        self._counts[address] -= 1
        if self._counts[address] <= 0:
            del self._counts[address]


class ActiveConnections:
    """Counts the connections that have calls; an address may have half of those that others do not use."""

    def __init__(self, max_connections: int | None = None) -> None:
        self.max_connections = max_connections or max_grpc_connections()
        #: Calls by connection, by address.
        self._calls: dict[str, Counter[str]] = {}
        self._total = 0
        self._log = RareLog()

    def enter(self, peer: str) -> bool:
        """Count a call; return False if it must be refused, because its connection is one too many."""
        address = address_of(peer)
        calls = self._calls.get(address, Counter())
        if peer not in calls:
            count = len(calls)
            allowed = max(_MIN_CONNECTIONS, (self.max_connections - (self._total - count)) // 2)
            if self._total >= self.max_connections or count >= allowed:
                self._log.warning("gRPC connections are refused: %s has %s of %s", address, count, self._total)
                return False
            self._total += 1
        calls[peer] += 1
        self._calls[address] = calls
        return True

    def leave(self, peer: str) -> None:
        """Count the end of a call that was not refused."""
        address = address_of(peer)
        calls = self._calls[address]
        calls[peer] -= 1
        if not calls[peer]:
            del calls[peer]
            self._total -= 1
        if not calls:
            del self._calls[address]
