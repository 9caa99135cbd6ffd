"""Traces: a span a request with its stages, in the client's trace, without a text; and a collector that fails."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from nearfield import settings
from nearfield.encoder import Encoder
from nearfield.errors import ExecutionFailed, SettingsError
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.app import create_app
from nearfield.server.observability.traces import Traces
from nearfield.testing import write_tiny_model
from tests.support.cli_runner import python
from tests.support.serving import Process, serving

pytestmark = pytest.mark.network

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "nobody may read this"


class Watched:
    """A server whose spans are collected. Read them after it has ended: a span is created after its reply was sent."""

    def __init__(self, url: str, exporter: InMemorySpanExporter, traces: Traces) -> None:
        self.url = url
        self._exporter = exporter
        self._traces = traces

    def spans(self) -> tuple[ReadableSpan, ...]:
        """Return all spans, the last ones flushed."""
        self._traces.close()
        return self._exporter.get_finished_spans()

    def requests(self) -> list[ReadableSpan]:
        """Return those of requests."""
        return [span for span in self.spans() if span.kind is SpanKind.SERVER]


@contextmanager
def traced(models: Sequence[LoadedModel], **given: Any) -> Iterator[Watched]:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    with serving(models, traces=traces, **given) as base:
        yield Watched(base, exporter, traces)


def _embed(base: str, text: Any = "hello world", headers: Any = None, **more: Any) -> httpx.Response:
    body = {"model": "tiny", "input": text, **more}
    return httpx.post(base + "/v1/embeddings", json=body, headers=headers)


def _attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_request_is_a_span_with_its_stages(tiny: Encoder) -> None:
    with traced([tiny]) as server:
        reply = _embed(server.url, ["hello", "cat"], {"x-request-id": "one"})
        tokens = reply.json()["usage"]["prompt_tokens"]
    spans = server.spans()
    (request,) = [span for span in spans if span.kind is SpanKind.SERVER]
    assert request.name == "POST /v1/embeddings"
    assert request.parent is None
    told = _attributes(request)
    expected = {
        "http.request.method": "POST",
        "http.route": "/v1/embeddings",
        "url.path": "/v1/embeddings",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "gen_ai.operation.name": "embeddings",
        "gen_ai.request.model": "tiny",
        "gen_ai.response.model": "tiny",
        "gen_ai.usage.input_tokens": tokens,
        "nearfield.inputs": 2,
        "nearfield.truncated_tokens": 0,
        "nearfield.dialect": "openai",
        "nearfield.request_id": "one",
    }
    assert {name: told.get(name) for name in expected} == expected
    assert request.status.status_code is StatusCode.UNSET
    stages = sorted((span for span in spans if span is not request), key=lambda span: span.start_time or 0)
    assert [span.name for span in stages] == ["tokenise", "queue", "run", "reply"]
    at = request.start_time
    for span in stages:
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id
        assert span.start_time is not None
        assert span.end_time is not None
        assert at is not None
        assert at <= span.start_time <= span.end_time
        at = span.end_time
    assert at is not None
    assert request.end_time is not None
    assert at <= request.end_time


def test_what_was_cut_off_is_told(tiny: Encoder) -> None:
    with traced([tiny]) as server:
        dropped = int(_embed(server.url, "cat " * 100).headers["x-nearfield-truncated-tokens"])
    (span,) = server.requests()
    assert dropped > 0
    assert _attributes(span)["nearfield.truncated_tokens"] == dropped


def test_the_clients_trace_is_taken_up(tiny: Encoder) -> None:
    with traced([tiny]) as server:
        _embed(server.url, headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"})
    (span,) = server.requests()
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.parent.is_remote
    assert span.context.trace_state.get("vendor") == "1"


def test_a_trace_that_is_not_sampled_is_not_sent(tiny: Encoder) -> None:
    with traced([tiny]) as server:
        assert _embed(server.url, headers={"traceparent": f"00-{TRACE}-{PARENT}-00"}).status_code == 200
    assert server.spans() == ()


@pytest.mark.parametrize(
    "headers",
    [
        [("traceparent", "nonsense")],
        [("traceparent", f"00-{'0' * 32}-{PARENT}-01")],
        [("traceparent", f"ff-{TRACE}-{PARENT}-01")],
        [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("traceparent", f"00-{TRACE}-{PARENT}-01")],
        [("traceparent", b"\xff\xfe")],
        [("tracestate", "vendor=1")],
        [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "vendor=1," * 200)],
    ],
)
def test_a_parent_that_is_none_begins_a_new_trace(tiny: Encoder, headers: Any) -> None:
    with traced([tiny]) as server:
        assert _embed(server.url, headers=headers).status_code == 200
    (span,) = server.requests()
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" != TRACE


@pytest.mark.slow
def test_other_kinds_of_work(fleet: dict[str, LoadedModel]) -> None:
    with traced(list(fleet.values())) as server:
        body = {"model": "tiny-reranker", "query": "cat", "documents": ["a dog", "a cat", "a bird"]}
        assert httpx.post(server.url + "/v1/rerank", json=body).status_code == 200
    spans = server.spans()
    (request,) = [span for span in spans if span.kind is SpanKind.SERVER]
    told = _attributes(request)
    assert (told["gen_ai.operation.name"], told["gen_ai.response.model"]) == ("rerank", "tiny-reranker")
    assert told["nearfield.inputs"] == 3
    assert {span.name for span in spans} >= {"tokenise", "queue", "run", "reply"}


def test_no_text_is_told(tiny: Encoder) -> None:
    with traced([tiny]) as server:
        _embed(server.url, SECRET)
        _embed(server.url, "cat", model=SECRET)
        _embed(server.url, "cat", dimensions=SECRET)
        httpx.get(server.url + f"/{SECRET}", params={"q": SECRET})
        httpx.get(server.url + f"/v1/models/{SECRET}")
        httpx.request("POST", server.url + "/v1/embeddings", content=SECRET)
    spans = server.spans()
    assert len([span for span in spans if span.kind is SpanKind.SERVER]) == 6
    everything = "".join(span.to_json() for span in spans)
    assert "read" not in everything
    assert "nobody" not in everything


def test_refusals_are_spans_and_only_ours_are_errors(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise ExecutionFailed(SECRET)

    with traced([tiny]) as server:
        _embed(server.url, model="nope")
        monkeypatch.setattr(tiny, "run_encode", broken)
        _embed(server.url)
        httpx.request("PROPFIND", server.url + "/coffee")
    refused, failed, lost = server.requests()
    assert _attributes(refused)["http.response.status_code"] == 404
    assert refused.status.status_code is StatusCode.UNSET
    assert "gen_ai.response.model" not in _attributes(refused)
    assert _attributes(failed)["http.response.status_code"] == 500
    assert _attributes(failed)["error.type"] == "500"
    assert failed.status.status_code is StatusCode.ERROR
    assert lost.name == "HTTP"
    assert _attributes(lost)["http.request.method"] == "_OTHER"
    assert "http.route" not in _attributes(lost)


def test_probes_are_not_traced(tiny: Encoder) -> None:
    with traced([tiny]) as server:
        for path in ("/health", "/ready", "/metrics", "/v1/models"):
            assert httpx.get(server.url + path).status_code == 200
    assert [span.name for span in server.requests()] == ["GET /v1/models"]


def test_the_log_names_the_trace(tiny: Encoder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "nearfield.access"), traced([tiny]) as server:
        _embed(server.url, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    server.spans()
    (line,) = [record for record in caplog.records if record.name == "nearfield.access"]
    assert vars(line)["trace_id"] == TRACE
    assert vars(line)["model"] == "tiny"


class _Failing(SpanExporter):
    """Fails as badly as it can."""

    def __init__(self) -> None:
        self.called = Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.called.set()
        raise RuntimeError("no collector")

    def shutdown(self) -> None:
        raise RuntimeError("no collector")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_exporter_that_fails_costs_no_request(tiny: Encoder) -> None:
    exporter = _Failing()
    traces = Traces(exporter)
    with serving([tiny], traces=traces) as base:
        for _ in range(3):
            assert _embed(base).status_code == 200
    traces.close()
    assert exporter.called.is_set()
    with serving([tiny], traces=traces) as base:
        assert _embed(base).status_code == 200  # after its end, too


def test_a_tracer_that_fails_costs_no_request(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(Traces, "_finish", broken)
    with caplog.at_level(logging.WARNING, "nearfield"), traced([tiny]) as server:
        assert _embed(server.url).status_code == 200
    assert server.spans() == ()
    assert "not traced: RuntimeError" in caplog.text
    assert SECRET not in caplog.text


# -- over the wire ----------------------------------------------------------------------------------------------------


class Collector:
    """A collector for tests: it accepts OTLP over HTTP, and stores what it receives."""

    def __init__(self, status: int = 200) -> None:
        self.got: Queue[tuple[str, ExportTraceServiceRequest]] = Queue()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                data = gzip.decompress(data) if self.headers.get("content-encoding") == "gzip" else data
                outer.got.put((self.path, ExportTraceServiceRequest.FromString(data)))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Collector:
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.mark.process
@pytest.mark.slow
def test_spans_reach_a_collector_before_the_server_ends(tmp_path: Path) -> None:
    with Collector() as collector:
        server = Process(
            write_tiny_model(tmp_path / "tiny"),
            "--otel-endpoint",
            collector.url,
            OTEL_BSP_SCHEDULE_DELAY="3600000",  # nothing is sent but at the end
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        )
        assert _embed(server.url).status_code == 200
        assert collector.got.empty()
        server.terminate()
        assert server.wait() == 0
        path, got = collector.got.get(timeout=20)
    assert path == "/v1/traces"
    (resource,) = got.resource_spans
    told = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert told["service.name"] == "nearfield"
    assert told["deployment.environment.name"] == "test"
    names = [span.name for scope in resource.scope_spans for span in scope.spans]
    assert sorted(names) == ["POST /v1/embeddings", "queue", "reply", "run", "tokenise"]


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("status", [400, None])
def test_a_collector_that_refuses_or_is_not_there_costs_nothing(tmp_path: Path, status: int | None) -> None:
    with Collector(status or 200) as collector:
        endpoint = collector.url if status else "http://127.0.0.1:1"
        server = Process(write_tiny_model(tmp_path / "tiny"), "--otel-endpoint", endpoint, OTEL_BSP_SCHEDULE_DELAY="1")
        for _ in range(3):
            assert _embed(server.url).status_code == 200
        server.terminate()
        assert server.wait() == 0
    assert "Traceback" not in server.errors


@pytest.mark.parametrize("path", ["", "/", "/v1/traces", "/v1/traces/"])
def test_the_endpoint_may_have_its_path_or_not(tiny: Encoder, path: str) -> None:
    with Collector() as collector:
        traces = Traces.for_endpoint(collector.url + path)
        with serving([tiny], traces=traces) as base:
            _embed(base)
        traces.close()
        assert collector.got.get(timeout=20)[0] == "/v1/traces"


def test_an_app_opens_what_its_settings_ask_for(tiny: Encoder) -> None:
    with Collector() as collector:
        app = create_app(settings.load(otel_endpoint=collector.url), [tiny])
        traces = app.state.server.traces
        assert isinstance(traces, Traces)
        traces.close()


# -- where it is not wanted, or not installed -------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.slow
def test_without_the_setting_nothing_is_imported() -> None:
    code = (
        "import sys, nearfield.server.lifecycle.serve; from nearfield.server.app import open_traces; open_traces(None)"
    )
    found = python(f"{code}; print([name for name in sys.modules if name.startswith('opentelemetry')])")
    assert found == "[]"


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.exporter", "opentelemetry.sdk"])
def test_without_the_extra_the_error_names_it(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from nearfield.errors import MissingExtra\n"
        "from nearfield.server.app import open_traces\n"
        "try: open_traces('http://127.0.0.1:4318')\n"
        "except MissingExtra as error: print(error)"
    )
    assert "pip install 'nearfield[otel]'" in python(code)


@pytest.mark.process
def test_a_command_without_the_extra_ends_before_any_model_loads() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None; "
        "sys.argv = ['nearfield', 'serve', 'no/such-model', '--otel-endpoint', 'http://127.0.0.1:4318']\n"
        "from nearfield import cli\n"
        "import contextlib, io, json\n"
        "said = io.StringIO()\n"
        "with contextlib.redirect_stderr(said):\n"
        "    try: cli.main()\n"
        "    except SystemExit as end: print(json.dumps([end.code, said.getvalue()]))"
    )
    status, said = json.loads(python(code))
    assert status == 1
    assert "nearfield[otel]" in said


@pytest.mark.parametrize("value", ["localhost:4318", "grpc://collector:4317", ""])
def test_an_endpoint_must_be_http(value: str) -> None:
    with pytest.raises(SettingsError, match="otel_endpoint"):
        settings.load(otel_endpoint=value)
