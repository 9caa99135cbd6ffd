"""The metrics of a router, in Prometheus' format. No label has a text of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nearfield.cluster.router.backends.backend import BackendServer
from nearfield.server.observability.loop_lag import LoopLag, LoopLagMetric

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class RouterMetrics:
    """Counts requests, retries and failures; the state of back-ends is read when the page is."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests answered.", "route", "status")
        self._retries = self._counter(
            "retries", "Requests that were sent again, by what had failed: status, failed, unreachable, stale.", "cause"
        )
        self._failures = self._counter("backend_failures", "Requests that a back-end failed.", "backend")
        self._seconds = Histogram(
            "nearfield_router_request_seconds",
            "From a request's arrival to its reply.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._child = lru_cache(maxsize=256)(lambda metric, *labels: metric.labels(*labels))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"nearfield_router_{name}", text, labels, registry=self._registry)

    def watch(self, backends: Callable[[], Sequence[BackendServer]], connections: Collector, lag: LoopLag) -> None:
        """Add the state of back-ends, the connections of clients, and the longest pause of the event loop."""
        self._registry.register(_BackendsState(backends))
        self._registry.register(connections)
        self._registry.register(LoopLagMetric(lag))

    def metrics(self) -> list[Metric]:
        """Return all metrics."""
        return list(self._registry.collect())

    def page(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self._registry)

    def replied(self, route: str, status: int, seconds: float) -> None:
        """Count a reply by its route's template."""
        self._child(self._requests, route, str(status)).inc()
        self._child(self._seconds, route).observe(seconds)

    def retried(self, cause: str) -> None:
        """Count a request that is sent again."""
        self._child(self._retries, cause).inc()

    def failed(self, backend: BackendServer) -> None:
        """Count a failure of a back-end."""
        self._child(self._failures, backend.name).inc()

    def remove(self, backend: BackendServer) -> None:
        """Drop the counts of a back-end that was removed: names of pods would add up without end."""
        self._child.cache_clear()
        try:
            self._failures.remove(backend.name)
        except KeyError:
            return


class _BackendsState(Collector):
    def __init__(self, backends: Callable[[], Sequence[BackendServer]]) -> None:
        self._backends = backends

    def collect(self) -> Iterator[Metric]:
        backends = self._backends()
        yield _gauge("up", "1 when a back-end accepts work.", backends, lambda backend: backend.up)
        yield _gauge("ejected", "1 when a back-end is ejected.", backends, lambda backend: backend.detector.ejected)
        yield _gauge("load_tokens", "Tokens that wait or run in a back-end, about.", backends, lambda one: one.load)
        yield _gauge("requests", "Requests in progress in a back-end.", backends, lambda one: one.requests)
        yield _gauge("connections", "Connections to a back-end.", backends, lambda one: len(one.pool))


def _gauge(
    name: str, text: str, backends: Sequence[BackendServer], value: Callable[[BackendServer], float]
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(f"nearfield_router_backend_{name}", text, labels=["backend"])
    for backend in backends:
        gauge.add_metric([backend.name], float(value(backend)))
    return gauge
