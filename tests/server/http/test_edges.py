"""The edges of HTTP: slow clients, encoded bodies, slashes, requests that could never be done, and what is counted."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import orjson
import pytest

from nearfield import settings
from nearfield.encoder import Encoder
from nearfield.engine.engine import Engine, Ticket
from nearfield.server import app
from nearfield.server.dialects import schemas
from nearfield.server.dialects.openai import embeddings
from nearfield.server.dialects.openai import schemas as openai_schemas
from nearfield.server.exchange import Encode
from nearfield.server.http import limits as request_limits
from nearfield.server.http import responses
from nearfield.server.http.limits import Pace
from nearfield.server.lifecycle import http_protocol
from nearfield.server.lifecycle.listener import Listener, bind, uvicorn_config
from nearfield.testing import tiny_encoder, write_tiny_model
from nearfield.vectors.dense import Vectors
from tests.engine.test_engine import FakeRunner
from tests.support.serving import Process, serving

GOOD = {"model": "tiny", "input": "cat"}
BODY = json.dumps(GOOD).encode()
PATH = "/v1/embeddings"


def _head(length: int) -> bytes:
    return (
        f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


def _until_closed(client: socket.socket) -> bytes:
    client.settimeout(20)
    data = b""
    while part := client.recv(65_536):
        data += part
    return data


# -- slow clients ----------------------------------------------------------------------------------------------


@pytest.mark.process
def test_sigterm_does_not_wait_for_a_body_that_stalls(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    process = Process(tmp_path / "tiny", "--drain-timeout", "30")
    with socket.create_connection(("127.0.0.1", process.port)) as client:
        client.sendall(_head(1000) + b"{")
        time.sleep(0.3)
        started = time.monotonic()
        process.terminate()
        response = _until_closed(client).lower()
        assert process.wait() == 0
    assert time.monotonic() - started < 8
    assert response.startswith(b"http/1.1 408 ")
    assert b"connection: close" in response
    assert b"the server is stopping" in response


@contextmanager
def _listening(encoder: Encoder) -> Iterator[int]:
    """Serve as ``nearfield serve`` does, in a thread; yields the port."""
    chosen = settings.load(port=0)
    up = threading.Event()
    with bind(chosen) as listening:
        port = int(listening.getsockname()[1])
        site = app.create_app(chosen, [encoder])
        listener = Listener(uvicorn_config(site, chosen), listening, up.set, site.state.server.stop)
        thread = threading.Thread(target=listener.run, args=([listening],), daemon=True)
        thread.start()
        assert up.wait(20)
        try:
            yield port
        finally:
            listener.should_exit = True
            thread.join(20)


@pytest.mark.slow
def test_headers_that_never_end_close_their_connection(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEADER_SECONDS", 0.5)
    half = _head(len(BODY))[:40]
    with _listening(tiny) as port:
        address = ("127.0.0.1", port)
        with socket.create_connection(address) as slow, socket.create_connection(address) as idle:
            slow.sendall(half)
            assert _until_closed(slow) == b""
            idle.sendall(_head(len(BODY)) + BODY)  # one that has sent nothing yet is no slow one
            response = b""
            while not response.endswith(b"}}"):
                response += idle.recv(65_536)
            assert response.startswith(b"HTTP/1.1 200 ")
            idle.sendall(half)  # the second request on a connection is bounded too
            assert _until_closed(idle) == b""


def test_a_connection_with_a_request_in_progress_is_never_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    one = http_protocol.TimedHttpProtocol.__new__(http_protocol.TimedHttpProtocol)
    one.cycle, one.timeout_keep_alive = None, 75  # type: ignore[assignment]
    assert not one.overdue(1e9)
    one.headers_started = 100.0
    assert one.overdue(111.0) and not one.overdue(109.0)
    one.cycle = type("Cycle", (), {"response_complete": False})()
    assert not one.overdue(111.0), "the request before it has not been answered"
    one.cycle, one.headers_started, one.opened = None, None, 100.0  # type: ignore[assignment]
    assert one.overdue(176.0) and not one.overdue(174.0)


# -- paths and bodies ------------------------------------------------------------------------------------------


@pytest.mark.network
@pytest.mark.parametrize("path", ["/v1/embeddings/", "/embeddings/", "/v1/models/", "/v1/models/tiny/", "/health/"])
def test_a_trailing_slash_is_ignored(url: str, path: str) -> None:
    def ask(where: str) -> httpx.Response:
        return httpx.post(url + where, json=GOOD) if "embeddings" in where else httpx.get(url + where)

    response = ask(path)
    assert response.status_code == 200
    assert response.json() == ask(path.rstrip("/")).json()
    assert httpx.get(url + "/").text == "Ollama is running"


@pytest.mark.network
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "identity", ""])
def test_supported_content_encodings(url: str, encoding: str) -> None:
    body = gzip.compress(BODY) if "zip" in encoding.lower() else BODY
    headers = {"content-type": "application/json", "content-encoding": encoding}
    assert httpx.post(url + PATH, content=body, headers=headers).json() == httpx.post(url + PATH, json=GOOD).json()


@pytest.mark.network
@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip"])
def test_unsupported_content_encodings_are_refused(url: str, encoding: str) -> None:
    response = httpx.post(url + PATH, content=zlib.compress(BODY), headers={"content-encoding": encoding})
    assert response.status_code == 415
    assert "identity" in response.json()["error"]["message"]
    assert "gzip" in response.json()["error"]["message"]


BAD_GZIP = {
    "cut short": (gzip.compress(BODY)[:-9], 400),
    "nothing": (b"", 400),
    "none at all": (BODY, 400),
    "two of them": (gzip.compress(BODY) * 2, 400),
    "a bomb": (gzip.compress(b" " * 200_000), 413),
    "a bomb of no end": (gzip.compress(b" " * 50_000_000), 413),
}


@pytest.mark.network
def test_invalid_gzip_and_decompression_bombs_are_refused(tiny: Encoder) -> None:
    with serving([tiny], max_body_bytes=100_000) as url:
        for case, (body, status) in BAD_GZIP.items():
            for _ in range(8):  # what was counted for it is counted no more
                response = httpx.post(url + PATH, content=body, headers={"content-encoding": "gzip"})
                assert response.status_code == status, (case, response.text)
        full = gzip.compress(json.dumps({**GOOD, "user": "x" * 99_000}).encode())
        assert httpx.post(url + PATH, content=full, headers={"content-encoding": "gzip"}).status_code == 200


# -- what could never be done ----------------------------------------------------------------------------------


@pytest.mark.network
def test_a_request_that_even_an_idle_engine_could_not_finish_in_time_is_too_large(tmp_path: Path) -> None:
    engine = Engine(1)
    with tiny_encoder(tmp_path / "tiny", engine=engine) as encoder, serving([encoder], request_timeout=10) as url:
        engine._scheduler._throughput.peak_tokens_per_second = 5.0  # a fourth of what is taken to be possible
        response = httpx.post(url + PATH, json={"model": "tiny", "input": ["cat " * 50] * 4})
        assert response.status_code == 413
        assert "retry-after" not in response.headers
        error = response.json()["error"]
        assert error["code"] == "request_too_large"
        assert "208 tokens" in error["message"]
        assert "10 s (request_timeout)" in error["message"]
        assert httpx.post(url + PATH, json=GOOD).status_code == 200
    engine.close(drain=False)


@pytest.mark.network
def test_a_request_that_is_too_slow_only_under_other_load_is_refused_for_now(tmp_path: Path) -> None:
    engine, other = Engine(1), FakeRunner()
    other.gate.clear()
    with tiny_encoder(tmp_path / "tiny", engine=engine) as encoder, serving([encoder], request_timeout=10) as url:
        throughput = engine._scheduler._throughput
        throughput.tokens_per_second, throughput.peak_tokens_per_second = 10.0, 1000.0
        running = engine.submit(Ticket.from_ids(other, [[1] * 50]))
        try:
            response = httpx.post(url + PATH, json={"model": "tiny", "input": ["cat " * 50] * 4})
        finally:
            other.gate.set()
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        running.result(10)
        assert httpx.post(url + PATH, json={"model": "tiny", "input": ["cat " * 50] * 4}).status_code == 200
    engine.close(drain=False)


def test_an_engine_is_measured_by_its_fastest_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "_SPEED_MAX_AGE", -1.0)
    engine, pace = Engine(1), Pace()
    assert pace.max_tokens(engine, 10) is None
    for rate, most in ((100.0, 4000), (7.0, 4000), (200.0, 8000)):
        engine._scheduler._throughput.peak_tokens_per_second = rate
        assert pace.max_tokens(engine, 10) == most
    engine.close(drain=False)


# -- what is counted -------------------------------------------------------------------------------------------


def _counts(url: str) -> dict[str, float]:
    lines = httpx.get(url + "/metrics").text.splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("nearfield_re")
    }


@pytest.mark.network
def test_every_route_is_counted_by_its_template(tiny: Encoder) -> None:
    with serving([tiny]) as url:
        for path in (
            "/health",
            "/ready",
            "/v1/models",
            "/v1/models/tiny",
            "/v1/models/secret",
            "/docs",
            "/nope/secret",
        ):
            httpx.get(url + path)
        httpx.get(url + PATH)
        httpx.post(url + PATH + "/", json=GOOD)
        _counts(url)
        counts = _counts(url)
    expected = {
        ("/health", 200): 1,
        ("/ready", 200): 1,
        ("/v1/models", 200): 1,
        ("/v1/models/{model:path}", 200): 1,
        ("/v1/models/{model:path}", 404): 1,
        ("/docs", 200): 1,
        ("unmatched", 404): 1,
        (PATH, 405): 1,
        (PATH, 200): 1,
        ("/metrics", 200): 1,
    }
    for (route, status), count in expected.items():
        assert counts[f'nearfield_requests_total{{route="{route}",status="{status}"}}'] == count
    assert counts['nearfield_request_seconds_count{route="/health"}'] == 1
    assert not any("secret" in name for name in counts)


# -- replies ---------------------------------------------------------------------------------------------------


def _exchange(rows: int, dim: int, *, base64: bool = False) -> Encode:
    data = np.random.default_rng(3).standard_normal((rows, dim)).astype(np.float32)
    counts = np.full(rows, 3, np.int64)
    vectors = Vectors(data, "space", dim, tokens=counts, dropped=counts)
    return Encode(model="tiny", inputs=["cat"] * rows, reply_options={"base64": base64}, result=vectors)


@pytest.mark.parametrize("base64", [False, True])
@pytest.mark.parametrize("shape", [(1, 8), (3000, 32), (5, 20_000), (2, 100_000)])
def test_a_response_encoded_in_parts_has_the_same_bytes(shape: tuple[int, int], base64: bool) -> None:
    exchange = _exchange(*shape, base64=base64)
    written = orjson.dumps(embeddings.write_embeddings(exchange), option=orjson.OPT_SERIALIZE_NUMPY)
    assert responses.encode_response(embeddings.write_embeddings, exchange) == (written, None)


@pytest.mark.slow
def test_encoding_a_large_response_does_not_block_the_event_loop() -> None:
    exchange = _exchange(16_384, 384)

    async def longest_pause() -> float:
        task = asyncio.create_task(asyncio.to_thread(responses.encode_response, embeddings.write_embeddings, exchange))
        longest_gap, last = 0.0, time.perf_counter()
        while not task.done():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest_gap, last = max(longest_gap, now - last), now
        return longest_gap

    started = time.perf_counter()
    orjson.dumps(embeddings.write_embeddings(exchange), option=orjson.OPT_SERIALIZE_NUMPY)
    at_once = time.perf_counter() - started
    assert min(asyncio.run(longest_pause()) for _ in range(3)) < at_once * 0.6


@pytest.mark.network
def test_only_large_responses_are_encoded_in_a_thread(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    loops: list[str] = []
    write, encode = responses.encode_response, tiny.run_encode

    def record_and_encode(*arguments: Any) -> Any:
        names.append(threading.current_thread().name)
        return write(*arguments)

    async def record_and_run(*arguments: Any, **options: Any) -> Any:
        loops.append(threading.current_thread().name)
        return await encode(*arguments, **options)

    monkeypatch.setattr(responses, "encode_response", record_and_encode)
    monkeypatch.setattr(tiny, "run_encode", record_and_run)
    with serving([tiny]) as url:
        for count in (1, 2048, 2049):
            response = httpx.post(url + PATH, json={"model": "tiny", "input": ["cat"] * count}, timeout=60)
            assert len(response.json()["data"]) == count
    assert [name == loop for name, loop in zip(names, loops, strict=True)] == [True, True, False]


# -- the document ----------------------------------------------------------------------------------------------


@pytest.mark.network
def test_responses_match_the_openapi_document(url: str, tiny: Encoder) -> None:
    paths = httpx.get(url + "/openapi.json").json()["paths"]
    calls: list[tuple[str, str, str, type[Any], httpx.Response]] = [
        (PATH, "post", "200", openai_schemas.OpenAiEmbeddingReply, httpx.post(url + PATH, json=GOOD)),
        (PATH, "post", "400", schemas.ErrorReply, httpx.post(url + PATH, json={**GOOD, "input": []})),
        (PATH, "post", "404", schemas.ErrorReply, httpx.post(url + PATH, json={**GOOD, "model": "x"})),
        ("/v1/models", "get", "200", openai_schemas.OpenAiModelList, httpx.get(url + "/v1/models")),
        ("/v1/models/{model}", "get", "200", openai_schemas.OpenAiModel, httpx.get(url + "/v1/models/tiny")),
        ("/v1/models/{model}", "get", "404", schemas.ErrorReply, httpx.get(url + "/v1/models/x")),
    ]
    for path, method, status, kind, response in calls:
        assert response.status_code == int(status)
        schema = paths[path][method]["responses"][status]["content"]["application/json"]["schema"]
        # Where several APIs share a path, each of their replies is named.
        assert {"$ref": f"#/components/schemas/{kind.__name__}"} in schema.get("anyOf", [schema])
        read = msgspec.convert(response.json(), kind)
        assert msgspec.to_builtins(read) == response.json(), "no field is left out, and none is unknown"


@pytest.mark.network
def test_truncated_and_quantised_responses_match_the_openapi_document(url: str) -> None:
    body = {**GOOD, "input": ["cat " * 100], "embedding_dtype": "int8", "encoding_format": "base64"}
    response = httpx.post(url + PATH, json=body).json()
    assert response["usage"]["truncated_tokens"] == 38
    assert msgspec.to_builtins(msgspec.convert(response, openai_schemas.OpenAiEmbeddingReply)) == {
        **response,
        "embedding_range": tuple(response["embedding_range"]),
    }
