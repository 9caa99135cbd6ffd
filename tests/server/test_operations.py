"""Operation of a server: health, readiness, metrics, docs, CORS, and logs without texts."""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import ExecutionFailed
from nearfield.server.logs import JsonFormatter, TextFormatter
from nearfield.testing import tiny_encoder, write_tiny_model
from tests.support.serving import Process, serving

pytestmark = pytest.mark.network


def test_health_and_readiness(url: str) -> None:
    assert httpx.get(url + "/health").json() == {"status": "ok"}
    ready = httpx.get(url + "/ready")
    assert ready.status_code == 200
    assert ready.json() == {
        "ready": True,
        "reasons": [],
        "models": ["tiny"],
        "queued_tokens": 0,
        "pinned": ["tiny"],
        "loaded": ["tiny"],
        "names": {"tiny": "tiny", "tiny-model": "tiny"},
        "on_demand": [],
    }


def test_not_ready_says_why(tmp_path_factory: pytest.TempPathFactory) -> None:
    from nearfield.engine.engine import Engine

    engine = Engine(1)
    with tiny_encoder(tmp_path_factory.mktemp("m") / "tiny", engine=engine) as encoder, serving([encoder]) as base:
        engine.drain(1)
        reply = httpx.get(base + "/ready")
        assert reply.status_code == 503
        assert "shutting down" in reply.json()["reasons"][0]
        refused = httpx.post(base + "/v1/embeddings", json={"model": "tiny", "input": "cat"})
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "shutting_down"
    engine.close()


def test_metrics(url: str) -> None:
    for text in ("cat", "ร้านกาแฟ", ["dog " * n for n in range(1, 30)], "cat " * 100):
        httpx.post(url + "/v1/embeddings", json={"model": "tiny", "input": text})
    httpx.post(url + "/v1/embeddings", json={"model": "nope", "input": "cat"})
    page = httpx.get(url + "/metrics").text
    values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in page.splitlines() if line[0] != "#"}
    assert values['nearfield_requests_total{route="/v1/embeddings",status="200"}'] >= 3
    assert values['nearfield_requests_total{route="/v1/embeddings",status="404"}'] >= 1
    assert values['nearfield_inputs_total{model="tiny"}'] >= 31
    assert values['nearfield_tokens_total{model="tiny"}'] > 400
    assert values['nearfield_truncated_tokens_total{model="tiny"}'] >= 38
    assert values['nearfield_unknown_tokens_total{model="tiny"}'] >= 1
    for name in (
        "queue_depth",
        'queue_tokens{class="interactive"}',
        'queue_tokens{class="bulk"}',
        "lanes_alive",
        "ready",
    ):
        assert f"nearfield_{name}" in values
    for name in ("batch_tokens", "batch_fill", "padding_share"):
        assert values[f'nearfield_{name}_count{{model="tiny"}}'] > 0
    for stage in ("tokenise", "queue", "run", "finish", "reply"):
        assert values[f'nearfield_stage_seconds_count{{model="tiny",stage="{stage}"}}'] > 0
    assert (
        0
        <= values['nearfield_padding_share_sum{model="tiny"}']
        <= values['nearfield_padding_share_count{model="tiny"}']
    )


def test_the_docs_page_loads_nothing_from_other_sites(url: str) -> None:
    page = httpx.get(url + "/docs").text
    assert "/v1/embeddings" in page
    assert "EmbeddingRequest" in page
    links = re.findall(r"(?:src|href)=\"([^\"]+)", page)
    assert all(link.startswith("/") for link in links)
    document = httpx.get(url + "/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert {"/v1/embeddings", "/v1/models", "/v1/models/{model}", "/health", "/ready", "/metrics"} <= set(
        document["paths"]
    )


def test_cors(tiny: Encoder) -> None:
    preflight = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    with serving([tiny], cors_origins=["https://app.example"]) as base:
        allowed = httpx.options(base + "/v1/embeddings", headers=preflight)
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        body = {"model": "tiny", "input": "cat"}
        reply = httpx.post(base + "/v1/embeddings", json=body, headers={"Origin": "https://app.example"})
        assert "x-nearfield-truncated-tokens" in reply.headers["access-control-expose-headers"]
        other = httpx.options(base + "/v1/embeddings", headers={**preflight, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_logs_have_sizes_and_never_texts(url: str, formatter: logging.Formatter) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    log = logging.getLogger("nearfield")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        headers = {"x-request-id": "watch-me"}
        for body in (
            {"model": "tiny", "input": ["secretword one", "two"]},
            {"model": "tiny", "input": ["secretword", 5]},
        ):
            httpx.post(url + "/v1/embeddings?q=secretword", json=body, headers=headers)
        until = time.monotonic() + 5  # a reply may arrive before its line is written
        while stream.getvalue().count("watch-me") < 2 and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    lines = [line for line in stream.getvalue().splitlines() if "watch-me" in line]
    assert len(lines) == 2
    assert "secretword" not in stream.getvalue()
    if isinstance(formatter, JsonFormatter):
        record = json.loads(lines[0])
        assert record["message"] == "POST /v1/embeddings 200"
        assert (record["model"], record["inputs"], record["request_id"]) == ("tiny", 2, "watch-me")
        assert record["tokens"] > 2
        assert record["ms"] > 0


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_neither_a_misplaced_text_nor_a_failure_that_quotes_one_is_logged(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch, formatter: logging.Formatter
) -> None:
    async def broken(texts: list[str], *_: Any) -> Any:
        try:
            int(texts[0])
        except ValueError as error:
            raise ExecutionFailed(f"failed on {error}") from error

    async def unforeseen(texts: list[str], *_: Any) -> Any:
        int(texts[0])

    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logs = [logging.getLogger(name) for name in ("nearfield", "uvicorn.error")]
    with serving([tiny]) as base, httpx.Client(base_url=base) as client:
        for log in logs:
            log.addHandler(handler)
            log.setLevel(logging.INFO)
        try:
            assert client.post("/v1/embeddings", json={"model": "secretword", "input": "tiny"}).status_code == 404
            for failure in (broken, unforeseen):
                monkeypatch.setattr(tiny, "run_encode", failure)
                reply = client.post("/v1/embeddings", json={"model": "tiny", "input": "secretword"})
                assert reply.status_code == 500
            until = time.monotonic() + 5
            while stream.getvalue().count(" 500") < 2 and time.monotonic() < until:
                time.sleep(0.01)
        finally:
            for log in logs:
                log.removeHandler(handler)
                log.setLevel(logging.NOTSET)
    text = stream.getvalue()
    assert "secretword" not in text
    assert "ValueError" in text and "in unforeseen" in text  # the class of the error and its place are logged


@pytest.mark.process
@pytest.mark.slow
def test_every_line_of_a_json_log_is_json(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    process = Process(tmp_path / "tiny", "--log-format", "json", "--log-level", "info")
    with socket.create_connection(("127.0.0.1", process.port), timeout=10) as client:
        client.sendall(b"this is no HTTP\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 400")
    assert httpx.post(process.url + "/v1/embeddings", json={"model": "tiny", "input": "cat"}).status_code == 200
    process.terminate()
    assert process.wait() == 0
    lines = [json.loads(line) for line in process.errors.splitlines()]
    assert "POST /v1/embeddings 200" in [line["message"] for line in lines]


def test_a_client_cannot_forge_log_lines() -> None:
    record = logging.makeLogRecord({"msg": "GET /a\nFORGED", "model": "m\r\nFORGED\x1b[2J", "levelname": "INFO"})
    line = TextFormatter().format(record)
    assert line.isprintable()
    assert "GET /a\\nFORGED" in line
