"""OpenTelemetry traces: a span for each request and for each of its stages, without any text of the request.

Imported only when the setting ``otel_endpoint`` is set: it needs the extra ``otel``. Names of attributes are
those of the semantic conventions for HTTP (https://opentelemetry.io/docs/specs/semconv/http/http-spans/) and for
generative AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/); ours begin with ``nearfield.``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from nearfield import __version__
from nearfield.server.exchange import CompositeExchange, Encode, Exchange, Predict, Rank
from nearfield.server.logs import LOG

Attributes = dict[str, str | int | float | bool]

#: Path of the OTLP/HTTP protocol that an endpoint is the base of.
_PATH = "/v1/traces"
#: Seconds at shutdown to send the remaining spans.
_CLOSE_TIMEOUT = 5.0
#: Routes of probes and scrapers, called every few seconds: they are not traced.
_PROBES = frozenset({"/health", "/ready", "/metrics"})
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_STAGES = ("fetch", "tokenise", "queue", "run")
_NOTE = "trace"
#: Maximum bytes of what a client says about its trace; the specification asks for at least 512.
_MAX_CONTEXT_BYTES = 1024


@dataclass(frozen=True)
class TraceStage:
    """A part of a request, in seconds of ``time.perf_counter``."""

    name: str
    start: float
    end: float
    attributes: Attributes


@dataclass(frozen=True)
class RequestTrace:
    """Attributes and stages of a request that was answered."""

    attributes: Attributes
    stages: tuple[TraceStage, ...]


class Traces:
    """Creates the spans, each when its request has ended: a running request costs nothing."""

    def __init__(self, exporter: SpanExporter) -> None:
        own = Resource.create({"service.name": "nearfield", "service.version": __version__})
        resource = own.merge(OTELResourceDetector().detect())  # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win
        # Not at exit: ``close`` waits, and for a bounded time.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("nearfield", __version__)
        self._propagator = TraceContextTextMapPropagator()
        # It warns of each invalid tracestate, and quotes it.
        logging.getLogger("opentelemetry.trace.span").setLevel(logging.ERROR)

    @classmethod
    def for_endpoint(cls, endpoint: str) -> Traces:
        """Return traces that are sent to a collector. The path may be left out; ``OTEL_*`` variables set the rest."""
        base = endpoint.rstrip("/")
        return cls(OTLPSpanExporter(base if base.endswith(_PATH) else base + _PATH))

    def record(self, scope: Scope, dialect: str, exchange: Exchange | None) -> None:
        """Record the attributes and stages of a request that was just answered, without its texts."""
        now = time.perf_counter()
        attributes: Attributes = {"nearfield.dialect": dialect}
        stages: tuple[TraceStage, ...] = ()
        if exchange is not None:
            attributes |= _attributes_of(exchange)
            stages = tuple(_stages(exchange, now))
        scope["state"][_NOTE] = RequestTrace(attributes, stages)

    def finish(self, scope: Scope, route: str | None, status: int, seconds: float) -> None:
        """Create the span of a request that has ended, and add the trace id to its log line."""
        if route in _PROBES:
            return
        try:
            self._finish(scope, route, status, seconds)
        except Exception as error:  # noqa: BLE001 - a failing trace must not fail the request
            LOG.warning("a request was not traced: %s", type(error).__name__)

    def _finish(self, scope: Scope, route: str | None, status: int, seconds: float) -> None:
        state = scope["state"]
        clock = time.time_ns() - time.perf_counter_ns()
        start = round(state["started"] * 1e9) + clock
        end = start + round(seconds * 1e9)
        note: RequestTrace = state.get(_NOTE) or RequestTrace({}, ())
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        span = self._tracer.start_span(
            f"{'HTTP' if method == '_OTHER' else method} {route or ''}".rstrip(),
            self._context(scope),
            kind=SpanKind.SERVER,
            attributes={**_of_http(scope, method, route, status), **note.attributes},
            start_time=start,
        )
        state.setdefault("log", {})["trace_id"] = format_trace_id(span.get_span_context().trace_id)
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        if span.is_recording():
            self._within(span, note, clock, start, end)
        span.end(end)

    def _within(self, span: Span, note: RequestTrace, clock: int, start: int, end: int) -> None:
        """Create the spans of the stages; ``clock`` converts their times to the time of day."""
        context = set_span_in_context(span)
        for stage in note.stages:
            first, last = (min(max(round(at * 1e9) + clock, start), end) for at in (stage.start, stage.end))
            self._tracer.start_span(stage.name, context, attributes=stage.attributes, start_time=first).end(last)

    def _context(self, scope: Scope) -> Context:
        """Return the trace that the client says its request belongs to (https://www.w3.org/TR/trace-context/)."""
        values_of: dict[str, list[str]] = {"traceparent": [], "tracestate": []}
        for name, value in scope["headers"]:
            if name in (b"traceparent", b"tracestate"):
                values_of[name.decode()].append(value.decode("latin-1"))
        if len(values_of["traceparent"]) != 1:
            return Context()
        carrier = {name: ",".join(values) for name, values in values_of.items() if values}
        if sum(map(len, carrier.values())) > _MAX_CONTEXT_BYTES:
            return Context()
        return self._propagator.extract(carrier, Context())

    def close(self) -> None:
        """Send the remaining spans; a collector that does not answer delays this by some seconds only."""
        last = threading.Thread(target=self._provider.shutdown, name="nearfield-traces", daemon=True)
        last.start()
        last.join(_CLOSE_TIMEOUT)


def _of_http(scope: Scope, method: str, route: str | None, status: int) -> Attributes:
    host, port = scope.get("server") or (None, None)
    attributes: dict[str, Any] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "error.type": str(status) if status >= 500 else None,
        # A path with parameters may contain any text.
        "url.path": route if route == scope["path"] else None,
        "url.scheme": scope.get("scheme", "http"),
        "server.address": host,
        "server.port": port,
        "network.protocol.version": scope.get("http_version"),
        "nearfield.request_id": scope["state"].get("request_id"),
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _attributes_of(exchange: Exchange) -> Attributes:
    """Return the attributes of the work. Names of models only where they are served: others may be any text."""
    attributes: Attributes = {
        "gen_ai.provider.name": "nearfield",
        "gen_ai.operation.name": _operation(exchange),
        "gen_ai.usage.input_tokens": exchange.tokens,
        "nearfield.inputs": exchange.size,
        "nearfield.truncated_tokens": exchange.dropped,
    }
    if exchange.description is not None:
        attributes["gen_ai.request.model"] = exchange.model or exchange.description.name
        attributes["gen_ai.response.model"] = exchange.description.name
    return attributes


def _operation(exchange: Exchange) -> str:
    if isinstance(exchange, CompositeExchange):
        return _operation(exchange.parts[0]) if exchange.parts else "none"
    known: Mapping[type, str] = {Encode: "embeddings", Rank: "rerank", Predict: "classify"}
    return next((name for kind, name in known.items() if isinstance(exchange, kind)), type(exchange).__name__.lower())


def _stages(exchange: Exchange, now: float) -> Iterator[TraceStage]:
    """Yield the stages, placed end to end before the reply: before them a model may have been loaded."""
    end = now - exchange.stage_seconds.get("reply", 0.0)
    for part in exchange.parts if isinstance(exchange, CompositeExchange) else (exchange,):
        at = end
        attributes: Attributes = (
            {"gen_ai.response.model": part.description.name} if part.description is not None else {}
        )
        at -= sum(part.stage_seconds.get(name, 0.0) for name in _STAGES)
        for name in _STAGES:
            if name in part.stage_seconds:
                yield TraceStage(name, at, at + part.stage_seconds[name], attributes)
                at += part.stage_seconds[name]
    if "reply" in exchange.stage_seconds:
        yield TraceStage("reply", end, now, {})
