"""Live statistics of a server, computed from two snapshots of its metrics. Nothing here fetches them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Buckets = Sequence[tuple[float, float]]

#: Routes that monitoring calls: they do not count as work.
MONITORING_ROUTES = frozenset({"/metrics", "/metrics/history", "/ready", "/health", "/models", "/console"})
_CLASSES = ("interactive", "bulk")
_CREATED = "_created"


@dataclass(frozen=True)
class MetricsSnapshot:
    """A page of metrics, and when it was read (seconds of any clock that only goes forward).

    ``samples`` are values by name and labels, ``growing`` the names of those that never decrease while a server runs.
    """

    at: float
    samples: Mapping[str, Mapping[Labels, float]]
    growing: frozenset[str] = frozenset()

    def total(self, name: str, **labels: str) -> float | None:
        """Return the sum of a metric's values that have these labels; None where there is none."""
        required = set(labels.items())
        values = [value for key, value in self.samples.get(name, {}).items() if required <= key]
        return sum(values) if values else None


@dataclass(frozen=True)
class Latency:
    """Quantiles in seconds; None where nothing was measured. Values above ``max_bound`` count as ``max_bound``."""

    count: float
    p50: float | None
    p95: float | None
    p99: float | None
    max_bound: float


@dataclass(frozen=True)
class RouteFigures:
    """Requests a second of one route, by status, and how long they took."""

    route: str
    rates: Mapping[str, float]
    latency: Latency | None

    @property
    def rate(self) -> float:
        """Requests a second, all statuses."""
        return sum(self.rates.values())


@dataclass(frozen=True)
class Waiting:
    """Tokens and inputs that wait in one class of the queue."""

    tokens: float
    inputs: float | None


@dataclass(frozen=True)
class LiveStats:
    """Rates per second, shares from 0 to 1, bytes; None where the metrics do not say."""

    #: Seconds between the snapshots; None with one snapshot, which gives no rates.
    seconds: float | None
    #: Whether the server was restarted in between: rates then count from the restart.
    restarted: bool
    requests: float | None
    latency: Latency | None
    routes: tuple[RouteFigures, ...]
    stages: Mapping[str, Latency]
    inputs: float | None
    tokens: float | None
    tokens_by_model: Mapping[str, float]
    batches: float | None
    batch_fill: float | None
    padding: float | None
    cache_hits: float | None
    queue: Mapping[str, Waiting]
    running_batches: float | None
    lanes_alive: float | None
    resident_bytes: float | None


def parse_metrics(page: str, at: float) -> MetricsSnapshot:
    """Parse a page of metrics in Prometheus' text format; samples that occur several times are added up.

    Raises:
        ValueError: the page has another format.
    """
    samples: dict[str, dict[Labels, float]] = {}
    growing = set()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            values = samples.setdefault(sample.name, {})
            labels = frozenset(sample.labels.items())
            values[labels] = values.get(labels, 0.0) + sample.value
            if family.type in ("counter", "histogram") and not sample.name.endswith(_CREATED):
                growing.add(sample.name)
    return MetricsSnapshot(at, samples, frozenset(growing))


def restarted(before: MetricsSnapshot, now: MetricsSnapshot) -> bool:
    """Whether the server was restarted between two snapshots: a count fell, is missing, or was created later."""
    for name, values in before.samples.items():
        later = now.samples.get(name, {})
        if name in before.growing and any(later.get(labels, -1.0) < value for labels, value in values.items()):
            return True
        if name.endswith(_CREATED) and any(later.get(labels, value) != value for labels, value in values.items()):
            return True
    return False


def quantile(buckets: Buckets, share: float) -> float | None:
    """Return a quantile of a histogram, with values spread evenly within each bucket.

    ``buckets`` are (upper bound, values up to it), bounds rising and the last infinite. Values beyond the largest
    finite bound count as that bound (as Prometheus' ``histogram_quantile`` has it:
    https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile).
    """
    if not buckets or buckets[-1][1] <= 0:
        return None
    rank = share * buckets[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank and count > below:
            return lower if math.isinf(bound) else lower + (bound - lower) * (rank - below) / (count - below)
        below = max(below, count)
        lower = lower if math.isinf(bound) else bound
    return lower


def live_stats(before: MetricsSnapshot | None, now: MetricsSnapshot) -> LiveStats:
    """Return the statistics between two snapshots; without an earlier one, only what one snapshot gives."""
    was_restarted = before is not None and restarted(before, now)
    seconds = now.at - before.at if before is not None else None
    grown = _Growth(None if was_restarted else before, now, seconds)
    per_route = grown.rates("nearfield_requests_total", "route", "status")
    latencies = grown.latencies("nearfield_request_seconds", "route")
    work = {key: rate for key, rate in per_route.items() if key[0] not in MONITORING_ROUTES}
    return LiveStats(
        seconds=seconds,
        restarted=was_restarted,
        requests=sum(work.values()) if grown.known("nearfield_requests_total") else None,
        latency=grown.latency("nearfield_request_seconds", lambda route: route not in MONITORING_ROUTES),
        routes=tuple(_routes(work, latencies)),
        stages=grown.latencies("nearfield_stage_seconds", "stage"),
        inputs=grown.rate("nearfield_inputs_total"),
        tokens=grown.rate("nearfield_tokens_total"),
        tokens_by_model={model: rate for (model,), rate in grown.rates("nearfield_tokens_total", "model").items()},
        batches=grown.rate("nearfield_batch_tokens_count"),
        batch_fill=grown.mean("nearfield_batch_fill"),
        padding=grown.mean("nearfield_padding_share"),
        cache_hits=_share(grown.sum("nearfield_cache_hits_total"), grown.sum("nearfield_cache_misses_total")),
        queue=_queue(now),
        running_batches=now.total("nearfield_running_batches"),
        lanes_alive=now.total("nearfield_lanes_alive"),
        resident_bytes=now.total("nearfield_process_resident_bytes"),
    )


def _queue(now: MetricsSnapshot) -> dict[str, Waiting]:
    waiting = {}
    for name in _CLASSES:
        tokens = now.total("nearfield_queue_tokens", **{"class": name})
        if tokens is not None:
            waiting[name] = Waiting(tokens, now.total("nearfield_queue_inputs", **{"class": name}))
    return waiting


def _routes(rates: Mapping[tuple[str, ...], float], latencies: Mapping[str, Latency]) -> list[RouteFigures]:
    """Return the routes with requests, the busiest first."""
    rates_of: dict[str, dict[str, float]] = {}
    for (route, status), rate in rates.items():
        if rate > 0:
            rates_of.setdefault(route, {})[status] = rate
    routes = [
        RouteFigures(route, dict(sorted(by_status.items())), latencies.get(route))
        for route, by_status in rates_of.items()
    ]
    return sorted(routes, key=lambda figures: (-figures.rate, figures.route))


def _share(part: float | None, rest: float | None) -> float | None:
    return part / (part + rest) if part is not None and rest is not None and part + rest > 0 else None


class _Growth:
    """Growth of metrics between two snapshots of a running server; without the first, since its start."""

    def __init__(self, before: MetricsSnapshot | None, now: MetricsSnapshot, seconds: float | None) -> None:
        self._before = before
        self._now = now
        self._seconds = seconds

    def known(self, name: str) -> bool:
        """Whether a metric has a rate: a single snapshot gives none."""
        return bool(self._seconds) and name in self._now.samples

    def growth(self, name: str) -> dict[Labels, float]:
        """Return how much each of a metric's values grew."""
        if not self.known(name):
            return {}
        earlier = self._before.samples.get(name, {}) if self._before is not None else {}
        return {labels: value - earlier.get(labels, 0.0) for labels, value in self._now.samples[name].items()}

    def sum(self, name: str) -> float | None:
        """Return the sum of the growth of all values of a metric."""
        return sum(self.growth(name).values()) if self.known(name) else None

    def rate(self, name: str) -> float | None:
        """Return the growth per second."""
        total = self.sum(name)
        return total / self._seconds if total is not None and self._seconds else None

    def rates(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return the growth per second by the values of some labels."""
        rates: dict[tuple[str, ...], float] = {}
        for key, grown in self.growth(name).items():
            values = dict(key)
            group = tuple(values.get(label, "") for label in labels)
            rates[group] = rates.get(group, 0.0) + grown / (self._seconds or math.inf)
        return rates

    def mean(self, name: str) -> float | None:
        """Return the mean of a histogram's new values."""
        total, count = self.sum(f"{name}_sum"), self.sum(f"{name}_count")
        return total / count if total is not None and count else None

    def latency(self, name: str, keep: Callable[[str], bool], label: str = "route") -> Latency | None:
        """Return the quantiles of a histogram over the label values that ``keep`` accepts."""
        merged: dict[float, float] = {}
        for value, buckets in self._buckets(name, label).items():
            for bound, grown in buckets.items() if keep(value) else ():
                merged[bound] = merged.get(bound, 0.0) + grown
        return _latency(sorted(merged.items()))

    def latencies(self, name: str, label: str) -> dict[str, Latency]:
        """Return the quantiles by the value of a label, where anything was measured."""
        latencies = {value: _latency(sorted(buckets.items())) for value, buckets in self._buckets(name, label).items()}
        return {value: latency for value, latency in latencies.items() if latency is not None}

    def _buckets(self, name: str, label: str) -> dict[str, dict[float, float]]:
        buckets_of: dict[str, dict[float, float]] = {}
        for key, grown in self.growth(f"{name}_bucket").items():
            labels = dict(key)
            buckets, bound = buckets_of.setdefault(labels.get(label, ""), {}), float(labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + grown
        return buckets_of


def _latency(buckets: Buckets) -> Latency | None:
    if not buckets or buckets[-1][1] <= 0:
        return None
    max_bound = max((bound for bound, _ in buckets if not math.isinf(bound)), default=0.0)
    p50, p95, p99 = (quantile(buckets, share) for share in (0.5, 0.95, 0.99))
    return Latency(buckets[-1][1], p50, p95, p99, max_bound)
