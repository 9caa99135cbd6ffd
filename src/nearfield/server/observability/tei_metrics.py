"""TEI's metrics (``te_*``), for dashboards and alarms that were written for Text Embeddings Inference.

Names, labels and buckets of durations are those of text-embeddings-inference's ``router`` (its README, "Metrics").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nearfield.engine.engine import BatchReport, Engine
from nearfield.errors import Cancelled, InputError, ModelNotFound, Overloaded, TooLarge, WrongModel
from nearfield.server.exchange import CompositeExchange, Encode, Exchange, ScoredExchange

_DURATIONS = tuple(0.000015 * 1.5**power for power in range(35))
_SIZES = tuple(float(2**power) for power in range(18))
_STAGES = {"tokenization": "tokenise", "queue": "queue", "inference": "run"}
#: Kinds of failure as TEI calls them; the first that fits is taken.
_FAILURES: tuple[tuple[type[Exception], str], ...] = (
    (Overloaded, "overloaded"),
    (TooLarge, "batch_size"),
    (WrongModel, "model_type"),
    (ModelNotFound, "model_type"),
    (InputError, "validation"),
    (Cancelled, "dropped"),
    (Exception, "inference"),
)


class TeiMetrics:
    """Counts requests of all APIs under the names that TEI gives them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._plain = _PlainCounters(registry)
        self._registry = registry
        self._requests = self._plain.counter("te_request_count", "Requests.", "method")
        self._done = self._plain.counter("te_request_success", "Requests answered.", "method")
        self._failed = self._plain.counter("te_request_failure", "Requests refused or failed.", "err")
        self._inputs = {
            kind: (
                self._plain.counter(f"te_{kind}_count", f"Inputs to {kind}."),
                self._plain.counter(f"te_{kind}_success", f"Inputs to {kind} that were answered."),
            )
            for kind in ("embed", "predict")
        }
        self._seconds = {
            kind: {stage: self._histogram(f"te_{kind}_{_duration(stage)}", _DURATIONS) for stage in ("", *_STAGES)}
            for kind in ("request", "embed", "predict")
        }
        self._length = self._histogram("te_request_input_length", _SIZES)
        self._batch_size = self._histogram("te_batch_next_size", _SIZES)
        self._batch_tokens = self._histogram("te_batch_next_tokens", _SIZES)

    def watch(self, engine: Engine) -> None:
        """Show an engine's queue from now on, and its batches."""
        self._plain.engines.append(engine)
        engine.observers.append(self._batch_done)

    def answered(self, exchange: Exchange | None, failure: type[Exception] | None, seconds: float) -> None:
        """Count a request that was answered or refused after ``seconds``."""
        parts = (
            exchange.parts if isinstance(exchange, CompositeExchange) else [exchange] if exchange is not None else []
        )
        method = "batch" if exchange is not None and exchange.size > 1 else "single"
        self._requests.labels(method).inc()
        if failure is not None:
            self._failed.labels(next(name for kind, name in _FAILURES if issubclass(failure, kind))).inc()
        else:
            self._done.labels(method).inc()
            self._observe("request", {} if exchange is None else exchange.stage_seconds, seconds)
        for part in parts:
            self._count(part, seconds, good=failure is None)

    def _count(self, exchange: Exchange, seconds: float, *, good: bool) -> None:
        if exchange.description is None or not isinstance(exchange, (Encode, ScoredExchange)):
            return
        kind = "embed" if isinstance(exchange, Encode) else "predict"
        count, success = self._inputs[kind]
        count.inc(exchange.size)
        if not good:
            return
        success.inc(exchange.size)
        self._length.observe(exchange.tokens / max(1, exchange.size))
        for _ in range(exchange.size):  # TEI measures each input separately
            self._observe(kind, exchange.stage_seconds, seconds)

    def _observe(self, kind: str, stages: dict[str, float], seconds: float) -> None:
        histograms = self._seconds[kind]
        histograms[""].observe(seconds)
        for name, stage in _STAGES.items():
            if stage in stages:
                histograms[name].observe(stages[stage])

    def _batch_done(self, report: BatchReport) -> None:
        self._batch_size.observe(report.rows)
        self._batch_tokens.observe(report.tokens)

    def _histogram(self, name: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, f"{name}, as TEI has it.", buckets=buckets, registry=self._registry)


class _PlainCounters(Collector):
    """Counters without the suffix ``_total``, which TEI's have not, and the queue's size."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counters: list[Counter] = []
        self.engines: list[Engine] = []
        registry.register(self)

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """Make a counter that this shows."""
        self._counters.append(Counter(name, text, labels, registry=None))
        return self._counters[-1]

    def collect(self) -> Iterator[Metric]:
        for counter in self._counters:
            for family in counter.collect():
                # A "counter" would get the suffix back when it is written.
                plain = Metric(family.name, family.documentation, "unknown")
                for sample in family.samples:
                    if sample.name.endswith("_total"):
                        plain.add_sample(family.name, sample.labels, sample.value)
                yield plain
        size = sum(engine.stats().queued_jobs for engine in self.engines)
        yield GaugeMetricFamily("te_queue_size", "Inputs that wait.", size)


def _duration(stage: str) -> str:
    return f"{stage}_duration" if stage else "duration"
