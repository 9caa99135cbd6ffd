"""Prometheus: what the server counts and measures, in its text format. No label ever holds a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nearfield.encoder import Encoder
from nearfield.engine.engine import BatchReport, Engine
from nearfield.hardware import memory_resident
from nearfield.inference.loaded_model import LoadedModel
from nearfield.inference.result_cache import ResultCache
from nearfield.server.exchange import CompositeExchange, Exchange
from nearfield.server.models.model_pool import ModelPool
from nearfield.server.observability.loop_lag import LoopLag, LoopLagMetric
from nearfield.server.observability.tei_metrics import TeiMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TOKENS = (16, 64, 128, 256, 512, 1024, 2048, 4096, 16384)
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


class Prometheus:
    """The metrics of one server, in a separate registry."""

    def __init__(self, loaded: Sequence[LoadedModel], *, tei: bool = False) -> None:
        self._registry = CollectorRegistry()
        self._tei = TeiMetrics(self._registry) if tei else None
        self._requests = self._counter("requests", "Requests answered.", "route", "status")
        self._inputs = self._counter("inputs", "Inputs encoded.", "model")
        self._tokens = self._counter("tokens", "Tokens read.", "model")
        self._truncated = self._counter("truncated_tokens", "Tokens cut off because inputs were too long.", "model")
        self._unknown = self._counter("unknown_tokens", "Tokens read that the model does not know.", "model")
        self._request = self._histogram("request_seconds", "From a request's arrival to its reply.", _SECONDS, "route")
        self._stage = self._histogram(
            "stage_seconds", "By stage; queue is the longest wait in a batch.", _SECONDS, "model", "stage"
        )
        self._batch = self._histogram("batch_tokens", "Tokens that count, per batch.", _TOKENS, "model")
        self._fill = self._histogram(
            "batch_fill", "Padded tokens per batch, as a share of its budget.", _SHARES, "model"
        )
        self._padding = self._histogram("padding_share", "Share of a batch's tokens that is padding.", _SHARES, "model")
        self._webhooks = self._counter("webhooks", "Attempts to deliver webhooks.", "outcome")
        self._engines: set[Engine] = set()
        # Finding a labelled child costs microseconds that a request of one short text would notice.
        self._child = lru_cache(maxsize=256)(lambda metric, *labels: metric.labels(*labels))
        for model in loaded:
            self.watch(model)

    def watch(self, model: LoadedModel) -> None:
        """Count the work of a model and of its engine from now on."""
        if model.engine not in self._engines:
            self._engines.add(model.engine)
            model.engine.observers.append(self._batch_done)
            self._registry.register(EngineGauges(model.engine))
            if self._tei is not None:
                self._tei.watch(model.engine)
        if isinstance(model, Encoder):
            model.observers.append(self._stage_of(model.name))

    def watch_cache(self, cache: ResultCache) -> None:
        """Add the metrics of a cache."""
        self._registry.register(_CacheState(cache))

    def watch_connections(self, connections: Collector) -> None:
        """Add the metrics of connections."""
        self._registry.register(connections)

    def watch_models(self, models: ModelPool) -> None:
        """Add the metrics of loaded models and their memory."""
        self._registry.register(_ModelsState(models))

    def watch_loop(self, lag: LoopLag) -> None:
        """Add the longest pause of the event loop."""
        self._registry.register(LoopLagMetric(lag))

    def page(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self._registry)

    def metrics(self) -> list[Metric]:
        """Return all metrics, to be merged with those of other processes."""
        return list(self._registry.collect())

    def replied(self, route: str, status: int, seconds: float) -> None:
        """Count a reply by its route's template: the path itself might contain anything."""
        self._child(self._requests, route, str(status)).inc()
        self._child(self._request, route).observe(seconds)

    def answered(self, exchange: Exchange) -> None:
        """Count the inputs and tokens of a request."""
        for part in exchange.parts if isinstance(exchange, CompositeExchange) else ():
            self.answered(part)
        if exchange.tokens and exchange.description is not None:
            model = exchange.description.name
            self._child(self._inputs, model).inc(exchange.size)
            self._child(self._tokens, model).inc(exchange.tokens)
            self._child(self._truncated, model).inc(exchange.dropped)
            self._child(self._unknown, model).inc(exchange.unknown)

    def ended(self, exchange: Exchange | None, failure: type[Exception] | None, seconds: float) -> None:
        """Count the end of a request for a model's work, under TEI's names where these are enabled."""
        if self._tei is not None:
            self._tei.answered(exchange, failure, seconds)

    def webhook_attempted(self, outcome: str) -> None:
        """Count an attempt to deliver a webhook."""
        self._child(self._webhooks, outcome).inc()

    def stage(self, model: str, stage: str, seconds: float) -> None:
        """Record how long one stage of a request took."""
        self._child(self._stage, model, stage).observe(seconds)

    def _stage_of(self, model: str) -> Callable[[str, float], None]:
        return lambda stage, seconds: self.stage(model, stage, seconds)

    def _batch_done(self, report: BatchReport) -> None:
        model = report.model
        self.stage(model, "queue", max(report.queue_seconds))
        self.stage(model, "run", report.run_seconds)
        self._child(self._batch, model).observe(report.tokens)
        self._child(self._fill, model).observe(min(1.0, report.padded_tokens / report.budget))
        self._child(self._padding, model).observe(1 - report.tokens / report.padded_tokens)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"nearfield_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"nearfield_{name}", text, labels, buckets=buckets, registry=self._registry)


class _CacheState(Collector):
    """Counters and sizes read from the cache when the page is requested."""

    def __init__(self, cache: ResultCache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        cache = self._cache
        yield CounterMetricFamily("nearfield_cache_hits", "Inputs that were not computed again.", cache.hits)
        yield CounterMetricFamily("nearfield_cache_misses", "Inputs that were computed.", cache.misses)
        if cache.disk is not None:
            yield CounterMetricFamily("nearfield_cache_disk_hits", "Hits that were read from disk.", cache.disk.hits)
            yield GaugeMetricFamily("nearfield_cache_disk_bytes", "Disk space of cached vectors.", cache.disk.size())
        yield GaugeMetricFamily("nearfield_cache_bytes", "Memory of cached vectors.", cache.size)
        yield GaugeMetricFamily("nearfield_cache_entries", "Cached vectors.", len(cache))


class _ModelsState(Collector):
    """Gauges of the models and of the process, read when the page is requested."""

    def __init__(self, models: ModelPool) -> None:
        self._models = models

    def collect(self) -> Iterator[GaugeMetricFamily]:
        resident = memory_resident()
        if resident is not None:
            yield GaugeMetricFamily("nearfield_process_resident_bytes", "Memory that the process takes.", resident)
        size = GaugeMetricFamily("nearfield_model_bytes", "Memory that a model takes.", labels=["model"])
        loaded = GaugeMetricFamily("nearfield_model_loaded", "1 when a model is loaded.", labels=["model"])
        users = GaugeMetricFamily("nearfield_models_users", "Requests that a model works for.", labels=["model"])
        for entry in self._models.entries:
            # A pattern may allow any name: only names of models that were loaded become labels.
            if entry.model is not None or entry.uses or entry.loader_name in self._models.on_demand:
                size.add_metric([entry.name], entry.bytes if entry.reserved else 0)
                loaded.add_metric([entry.name], float(entry.model is not None))
                users.add_metric([entry.name], entry.users)
        yield from (size, loaded, users)


class EngineGauges(Collector):
    """Gauges read from the engine when the page is requested."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[GaugeMetricFamily]:
        stats = self._engine.stats()
        tokens = GaugeMetricFamily("nearfield_queue_tokens", "Tokens that wait.", labels=["class"])
        tokens.add_metric(["interactive"], stats.queued_tokens - stats.queued_tokens_bulk)
        tokens.add_metric(["bulk"], stats.queued_tokens_bulk)
        yield tokens
        inputs = GaugeMetricFamily("nearfield_queue_inputs", "Inputs that wait, by class.", labels=["class"])
        inputs.add_metric(["interactive"], stats.queued_jobs - stats.queued_jobs_bulk)
        inputs.add_metric(["bulk"], stats.queued_jobs_bulk)
        yield inputs
        yield GaugeMetricFamily("nearfield_queue_depth", "Inputs that wait.", stats.queued_jobs)
        yield GaugeMetricFamily("nearfield_running_batches", "Batches that run now.", stats.running_batches)
        yield GaugeMetricFamily("nearfield_lanes_alive", "Lanes that can run a batch.", stats.lanes_alive)
        yield GaugeMetricFamily("nearfield_tokens_per_second", "Recent speed of all lanes.", stats.tokens_per_second)
        yield GaugeMetricFamily("nearfield_ready", "1 when work is accepted.", float(self._engine.ready))
