"""The limits on open connections and on bytes of unread replies, and the sweep that closes connections."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, cast

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from nearfield.server.logs import LOG

#: Descriptors that are not for connections: files of models, batches and logs, sockets of gRPC. At least this many, and
#: at least this share of all.
_RESERVED_FILES, _RESERVED_SHARE = 64, 8
#: Without a known limit of descriptors.
_DEFAULT_CONNECTIONS = 8192
#: The limit of descriptors is raised up to this number, if the system allows it.
_MAX_FILES = 65_536
#: Seconds after which a connection without a request counts as idle, and between two searches for idle ones.
_IDLE_SECONDS, _SEARCH_SECONDS = 1.0, 0.1
#: Maximum number of idle connections that one search closes.
_MAX_CLOSED = 64
#: An address may always have this many connections.
_MIN_CONNECTIONS = 16
#: Seconds between two log lines about the same shortage.
_LOG_SECONDS = 60.0


class Closable(Protocol):
    """What the limits need of a transport."""

    def close(self) -> None:
        """Close it once all pending bytes were sent."""

    def abort(self) -> None:
        """Close it now."""


class Connection(Protocol):
    """What the limits need of a connection."""

    owner: str
    last_received: float

    @property
    def transport(self) -> Closable:
        """The transport."""

    @property
    def pending_bytes(self) -> int:
        """Bytes of replies that the kernel has not taken yet."""

    def in_use(self, now: float) -> bool:
        """Return whether a request is in progress, or the client has just sent something."""

    def overdue(self, now: float) -> bool:
        """Return whether the client has been silent or slow for too long."""

    def rest_overdue(self, now: float) -> bool:
        """Return whether the client takes too long to end a request that was answered."""

    def unread(self, now: float) -> bool:
        """Return whether the client reads its replies too slowly, or not at all."""


class ConnectionLimit(Collector):
    """Counts the open connections of a server, and refuses those beyond the limit.

    An address may have half of the connections that others do not use. Before one is refused, idle connections of the
    address that has the most are closed.

    Args:
        max_connections: how many the server may have; read from the limit of descriptors if None.
        max_pending_bytes: how many bytes of replies may wait in all connections together.
    """

    def __init__(self, max_connections: int | None = None, max_pending_bytes: int = 128 * 2**20) -> None:
        self.max_connections = max_connections or connections_allowed()
        self.max_pending_bytes = max_pending_bytes
        #: Called with the status of a request that is refused before the application.
        self.on_refusal: Callable[[int], None] = lambda _: None
        self.refused = self.closed_idle = self.aborted = 0
        self.accept_errors = AcceptErrors()
        self.pending_bytes = 0
        self._open: set[Connection] = set()
        self._counts: Counter[str] = Counter()
        self._searched = 0.0
        self._log = RareLog()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; return whether it may stay."""
        admitted = self._has_space(connection.owner) or self._make_space(connection.owner)
        self._open.add(connection)
        self._counts[connection.owner] += 1
        if not admitted:
            self.refused += 1
            self._log.warning(
                "connections are refused: %s of %s are open, %s of them by %s",
                len(self._open),
                self.max_connections,
                self._counts[connection.owner],
                connection.owner,
            )
        return admitted

    def remove(self, connection: Connection) -> None:
        """Count a closed connection."""
        if connection in self._open:
            self._open.remove(connection)
            self._counts[connection.owner] -= 1
            if not self._counts[connection.owner]:
                del self._counts[connection.owner]

    def _has_space(self, owner: str) -> bool:
        total, count = len(self._open), self._counts[owner]
        allowed = max(_MIN_CONNECTIONS, (self.max_connections - (total - count)) // 2)
        return total < self.max_connections and count < allowed

    def _make_space(self, owner: str) -> bool:
        """Close the longest idle connections of the address that has the most; return whether there were any."""
        now = time.monotonic()
        if now - self._searched < _SEARCH_SECONDS:
            return False
        self._searched = now
        if len(self._open) >= self.max_connections:
            owner = max(self._counts, key=lambda name: self._counts[name])
        idle = [
            connection
            for connection in self._open
            if connection.owner == owner
            and now - connection.last_received > _IDLE_SECONDS
            and not connection.in_use(now)
        ]
        idle.sort(key=lambda connection: connection.last_received)
        for connection in idle[:_MAX_CLOSED]:
            connection.transport.close()
            self.remove(connection)
            self.closed_idle += 1
        return bool(idle)

    def sweep(self, connections: Iterable[object]) -> None:
        """Close connections that are overdue, and abort those that do not read their replies."""
        now = time.monotonic()
        pending: list[Connection] = []
        for connection in list(connections):
            if not hasattr(connection, "rest_overdue"):
                continue
            known = cast(Connection, connection)
            if known.unread(now) or known.rest_overdue(now):
                self._abort(known)
            elif known.overdue(now):
                known.transport.close()
            elif known.pending_bytes:
                pending.append(known)
        self._abort_largest(pending)
        self._check_files()

    def _abort_largest(self, pending: list[Connection]) -> None:
        """Abort connections of the address with most unread bytes while all together have too many."""
        total = self.pending_bytes = sum(connection.pending_bytes for connection in pending)
        if total <= self.max_pending_bytes:
            return
        by_owner: Counter[str] = Counter()
        for connection in pending:
            by_owner[connection.owner] += connection.pending_bytes
        pending.sort(key=lambda connection: (by_owner[connection.owner], connection.pending_bytes))
        while pending and total > self.max_pending_bytes:
            total -= pending[-1].pending_bytes
            self._abort(pending.pop())

    def _abort(self, connection: Connection) -> None:
        self.aborted += 1
        connection.transport.abort()

    # -- descriptors -------------------------------------------------------------------------------------------------

    def _check_files(self) -> None:
        """Report that no file can be opened: the event loop then drops new connections without a word."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            self.accept_errors.add(error)

    # -- metrics -----------------------------------------------------------------------------------------------------

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield the metrics of the connections."""
        yield GaugeMetricFamily("nearfield_connections", "Open connections.", len(self._open))
        yield GaugeMetricFamily(
            "nearfield_unread_bytes", "Bytes of replies that clients must read.", self.pending_bytes
        )
        yield CounterMetricFamily(
            "nearfield_connections_refused", "Connections refused because there are too many.", self.refused
        )
        yield CounterMetricFamily(
            "nearfield_connections_closed_idle", "Idle connections closed to admit others.", self.closed_idle
        )
        yield CounterMetricFamily(
            "nearfield_connections_aborted", "Connections aborted because their replies were not read.", self.aborted
        )
        yield from self.accept_errors.collect()


class AcceptErrors(Collector):
    """Counts the failures to accept connections."""

    def __init__(self) -> None:
        self.count = 0
        self._log = RareLog()

    def add(self, error: OSError) -> None:
        """Count a failure, and log it once a minute."""
        self.count += 1
        self._log.error("connections cannot be accepted: %s", error.strerror)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the metric."""
        yield CounterMetricFamily(
            "nearfield_accept_errors", "Times at which no connection could be accepted.", self.count
        )


class RareLog:
    """Logs at most one line a minute."""

    def __init__(self) -> None:
        self._logged = -_LOG_SECONDS

    def warning(self, message: str, *values: object) -> None:
        """Log a warning if the last line was long ago."""
        if self._is_due():
            LOG.warning(message, *values)

    def error(self, message: str, *values: object) -> None:
        """Log an error if the last line was long ago."""
        if self._is_due():
            LOG.error(message, *values)

    def _is_due(self) -> bool:
        now = time.monotonic()
        due = now - self._logged >= _LOG_SECONDS
        if due:
            self._logged = now
        return due


def raise_file_limit() -> int | None:
    """Raise the limit of descriptors as far as the system allows, and return it; None if there is none."""
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < goal:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
        except (OSError, ValueError):
            return soft
        return goal
    return None if soft == resource.RLIM_INFINITY else soft


def connections_allowed() -> int:
    """Return how many connections the limit of descriptors leaves space for."""
    if sys.platform == "win32":
        return _DEFAULT_CONNECTIONS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MAX_FILES
    return max(1, soft - max(_RESERVED_FILES, soft // _RESERVED_SHARE))
