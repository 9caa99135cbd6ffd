"""What the requests of a router share: back-ends, limits, metrics, traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.types import Scope

from nearfield.cluster.router.backends.membership import BackendSet
from nearfield.cluster.router.balancer import Balancer
from nearfield.cluster.router.forwarder import Forwarder
from nearfield.cluster.router.request_plan import RequestPlanner
from nearfield.cluster.router.router_metrics import RouterMetrics
from nearfield.server.auth.host_guard import HostGuard, is_loopback
from nearfield.server.auth.keys import ApiKeys
from nearfield.server.dialects import REGISTRY, Dialect
from nearfield.server.http.connection_limit import ConnectionLimit, connections_allowed
from nearfield.server.http.deadline import PendingBodies
from nearfield.server.http.limits import MemoryGuard, RequestLimits
from nearfield.server.http.reply_budget import ReplyBudget
from nearfield.server.http.request_body import BodyBudget
from nearfield.server.observability.loop_lag import LoopLag
from nearfield.settings import Settings

if TYPE_CHECKING:
    from nearfield.server.observability.traces import Traces


@dataclass(eq=False)
class RouterState:
    """What the requests of a router share."""

    backends: BackendSet
    forwarder: Forwarder
    dialects: Sequence[Dialect]
    planner: RequestPlanner
    keys: ApiKeys
    host_guard: HostGuard
    body_budget: BodyBudget
    connections: ConnectionLimit
    metrics: RouterMetrics
    #: Seconds within which a back-end must answer.
    reply_seconds: float
    traces: Traces | None = None
    pending_bodies: PendingBodies = field(default_factory=PendingBodies)
    loop_lag: LoopLag = field(default_factory=LoopLag)

    @classmethod
    def create(
        cls, settings: Settings, backends: BackendSet, reply_seconds: float, traces: Traces | None = None
    ) -> RouterState:
        """Create the state; ``settings`` has what a router and a server have in common: limits, keys, the address.

        Raises:
            SettingsError: the key file is invalid.
        """
        metrics, lag = RouterMetrics(), LoopLag()
        dialects = [REGISTRY.load(name)() for name in REGISTRY.order()]
        limits = RequestLimits(
            settings.max_body_bytes,
            settings.max_items,
            settings.max_request_tokens,
            settings.request_timeout,
            settings.bulk_items,
        )
        loopback = settings.uds is None and is_loopback(settings.host)
        # Each request needs a connection of its client and one to a back-end.
        connections = ConnectionLimit(max(1, connections_allowed() // 2), settings.max_reply_bytes)
        connections.on_refusal = lambda status: metrics.replied("unmatched", status, 0.0)
        backends.on_removed = metrics.remove
        metrics.watch(lambda: backends.all, connections, lag)
        return cls(
            backends=backends,
            forwarder=Forwarder(Balancer(backends), metrics, ReplyBudget(settings.max_reply_bytes), reply_seconds),
            dialects=dialects,
            planner=RequestPlanner(dialects),
            keys=ApiKeys(settings.api_keys, settings.api_key_file),
            host_guard=HostGuard(loopback, settings.allowed_hosts, settings.cors_origins),
            body_budget=BodyBudget(limits, MemoryGuard()),
            connections=connections,
            metrics=metrics,
            reply_seconds=reply_seconds,
            traces=traces,
            loop_lag=lag,
        )

    @property
    def stopping(self) -> bool:
        """Whether the router is shutting down."""
        return self.pending_bodies.stopping

    def stop(self) -> None:
        """Begin to shut down: finish accepted requests unless their body stalls."""
        self.pending_bodies.stop()

    def count_response(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a finished request, and create its span."""
        route = scope["state"].get("route")
        self.metrics.replied(route or "unmatched", status, seconds)
        if self.traces is not None:
            self.traces.finish(scope, route if route != "unmatched" else None, status, seconds)
