"""A back-end: its address, connections, models, load and health, as far as the router knows them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nearfield.cluster.router.backends.address import BackendAddress
from nearfield.cluster.router.backends.connection import BackendConnection
from nearfield.cluster.router.backends.connection_pool import ConnectionPool
from nearfield.cluster.router.backends.outliers import OutlierDetector
from nearfield.server.models.names import matches_pattern

#: Probes in a row without an answer after which a back-end is unreachable.
_MAX_MISSED = 2


class BackendStatus(msgspec.Struct, frozen=True):
    """What ``/ready`` of a server says of its models and its queue."""

    ready: bool
    models: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    queued_tokens: int = 0
    pinned: tuple[str, ...] = ()
    loaded: frozenset[str] = frozenset()
    names: Mapping[str, str] = {}
    on_demand: tuple[str, ...] = ()
    #: ``router`` for a router, which must not be a back-end: it could be this one.
    role: str = "server"

    def model_id(self, name: str) -> str | None:
        """Return the full id of a model by any of its names; None if this server does not have it.

        A name that only a pattern allows is its own id.
        """
        plain = name[: len(name.lower().removesuffix(":latest"))]
        for key in (name.lower(), plain.lower()):
            if key in self.names:
                return self.names[key]
        return plain if self.on_demand and matches_pattern(plain, self.on_demand) else None


@dataclass(eq=False)
class BackendServer:
    """One server behind the router."""

    address: BackendAddress
    #: The back-ends of one configured name have the same origin.
    origin: BackendAddress
    detector: OutlierDetector = field(default_factory=OutlierDetector)
    #: Whose certificates are trusted; the system's authorities if None.
    tls: ssl.SSLContext | None = None
    #: What it last said; None before its first answer.
    status: BackendStatus | None = None
    reachable: bool = False
    #: Why it is not reachable, or not ready.
    problem: str = "not asked yet"
    missed: int = 0
    #: Whether it was removed: it finishes its requests and gets no more.
    removed: bool = False
    #: Estimated tokens of this router's requests in progress, and their number.
    own_tokens: int = 0
    requests: int = 0
    #: Tokens that waited in its queue when it was last asked, beyond this router's.
    other_tokens: int = 0
    _replaceable: set[BackendConnection] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.pool = ConnectionPool(self.address, self.tls)

    @property
    def name(self) -> str:
        """The URL, as a label of metrics and in messages."""
        return self.address.url

    @property
    def up(self) -> bool:
        """Whether it answers and accepts work."""
        return self.reachable and not self.removed and self.status is not None and self.status.ready

    @property
    def available(self) -> bool:
        """Whether it gets requests: it is up and not ejected."""
        return self.up and not self.detector.ejected

    @property
    def load(self) -> int:
        """Tokens that wait or run in it, as far as the router knows."""
        return self.other_tokens + self.own_tokens

    def has(self, model: str) -> bool:
        """Return whether it serves a model, or may load it."""
        return self.status is not None and self.status.model_id(model) is not None

    def has_loaded(self, model: str) -> bool:
        """Return whether a model is in its memory."""
        return self.status is not None and self.status.model_id(model) in self.status.loaded

    @contextmanager
    def work(self, tokens: int) -> Iterator[None]:
        """Count a request of about ``tokens`` tokens within the ``with`` block."""
        self.own_tokens += tokens
        self.requests += 1
        try:
            yield
        finally:
            self.own_tokens -= tokens
            self.requests -= 1
            if self.removed and not self.requests:
                self.pool.close()

    @contextmanager
    def replaceable(self, connection: BackendConnection) -> Iterator[None]:
        """Let a request on a connection fail within the ``with`` block when the back-end becomes unreachable."""
        self._replaceable.add(connection)
        try:
            yield
        finally:
            self._replaceable.discard(connection)

    # -- what probes find ------------------------------------------------------------------------------------------

    def record_status(self, status: BackendStatus) -> bool:
        """Record an answer; return whether this makes the back-end usable again."""
        was_up, known = self.up, self.status is not None
        self.status, self.reachable, self.missed = status, True, 0
        self.other_tokens = max(0, status.queued_tokens - self.own_tokens)
        self.problem = "; ".join(status.reasons)
        if self.up and not was_up and known:
            self.detector.start_slowly()
        return self.up and not was_up

    def record_miss(self, problem: str, *, refused: bool) -> bool:
        """Record a probe without an answer; return whether the back-end is unreachable from now on.

        ``refused``: no process listens there, but one that is stopping may still finish its requests. Otherwise it may
        only be slow, and is probed once more; then its requests fail, to be repeated elsewhere.
        """
        self.missed += 1
        self.problem = problem
        if not refused and self.missed < _MAX_MISSED:
            return False
        was_reachable, self.reachable = self.reachable, False
        if not refused:
            for connection in tuple(self._replaceable):
                connection.abort("The server does not answer any more.")
        self.pool.close()
        return was_reachable

    def to_dict(self) -> dict[str, Any]:
        """Return its state for the readiness probe."""
        state = "ejected" if self.up and self.detector.ejected else "up" if self.up else "down"
        return {
            "url": self.name,
            "state": state,
            "problem": self.problem,
            "models": list(self.status.models) if self.status is not None else [],
            "queued_tokens": self.load,
            "requests": self.requests,
        }
