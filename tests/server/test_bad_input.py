"""Invalid requests: each gets a clear error with the right status, and the next request is served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.network

JSON = {"content-type": "application/json"}
GOOD = {"model": "tiny", "input": "cat"}


def _with(**fields: Any) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


FINE: dict[str, bytes] = {
    "an empty string": _with(input=""),
    "whitespace": _with(input=" \n\t"),
    "NUL bytes": _with(input="a\x00b"),
    "a megabyte": _with(input="the cat " * 131_072),
    "explicit nulls": _with(dimensions=None, user=None, encoding_format=None, input_type=None),
    "an unknown field": _with(colour="red"),
    "ten thousand inputs": _with(input=["cat"] * 10_000),
    "a key twice": b'{"model":"nope","input":"cat","model":"tiny"}',
    "a word of a megabyte": _with(input="x" * 2**20),
    "a megabyte of accents": _with(input="\u0301" * 2**19),
    "an unknown field nested deeply": b'{"model":"tiny","input":"cat","x":' + b"[" * 500 + b"]" * 500 + b"}",
    "an instruction of a megabyte": _with(instruction="the " * 2**18),
    "more token ids than the model reads": _with(input=[6] * 100_000),
    "control characters": _with(input="\u0001\u202e\ufffe\U0010ffff"),
}
WRONG: dict[str, tuple[bytes, int]] = {
    "an empty list": (_with(input=[]), 400),
    "an empty list of ids": (_with(input=[[]]), 400),
    "no input": (b'{"model":"tiny"}', 400),
    "null input": (_with(input=None), 400),
    "no model": (b'{"input":"cat"}', 400),
    "ids out of range": (_with(input=[1, 10**6]), 400),
    "ids beyond any integer": (b'{"model":"tiny","input":[' + b"9" * 400 + b"]}", 400),
    "ids at the edge of integers": (_with(input=[2**63]), 400),
    "lists of lists of ids": (_with(input=[[[1]]]), 400),
    "ids beside a text in a list": (_with(input=[[1, "cat"]]), 400),
    "ids below zero": (_with(input=[[-1]]), 400),
    "ids that are fractions": (_with(input=[1.5]), 400),
    "booleans as ids": (_with(input=[True]), 400),
    "texts and ids mixed": (_with(input=["cat", [1]]), 400),
    "nulls in the list": (_with(input=["cat", None]), 400),
    "a number": (_with(input=5), 400),
    "an object": (_with(input={"text": "cat"}), 400),
    "negative dimensions": (_with(dimensions=-1), 400),
    "zero dimensions": (_with(dimensions=0), 400),
    "absurd dimensions": (_with(dimensions=10**12), 400),
    "dimensions as a boolean": (_with(dimensions=True), 400),
    "dimensions without end": (b'{"model":"tiny","input":"x","dimensions":1e400}', 400),
    "dimensions as text": (_with(dimensions="8"), 400),
    "an empty model": (_with(model=""), 404),
    "a user that is no text": (_with(user=5), 400),
    "an unknown model": (_with(model="nope"), 404),
    "a model that is no text": (_with(model=5), 400),
    "a model's name without end": (_with(model="m" * 3_000_000), 400),
    "a prompt's name without end": (_with(prompt_name="m" * 3_000_000), 400),
    "an unknown format without end": (_with(encoding_format="m" * 3_000_000), 400),
    "an unknown format": (_with(encoding_format="hex"), 400),
    "an unknown dtype": (_with(embedding_dtype="int4"), 400),
    "an unknown role": (_with(input_type="doc"), 400),
    "an unknown prompt": (_with(prompt_name="nope"), 400),
    "a prompt twice": (_with(prompt_name="query", instruction="x"), 400),
    "an unknown policy": (_with(truncate="middle"), 400),
    "ids of no token": (_with(input=[[100_300]]), 400),
    "a lone surrogate as model": (b'{"model":"\\udfff","input":"x"}', 404),
    "truncated JSON": (b'{"model":"tiny","input":"ca', 400),
    "something after the JSON": (json.dumps(GOOD).encode() + b" cat", 400),
    "JSON in UTF-16": (json.dumps(GOOD).encode("utf-16"), 400),
    "infinity": (b'{"model":"tiny","input":"x","dimensions":-Infinity}', 400),
    "null": (b"null", 400),
    "objects without end": (b'{"a":' * 100_000, 400),
    "no JSON": (b"hello", 400),
    "nothing": (b"", 400),
    "a list": (b"[]", 400),
    "a bare text": (b'"cat"', 400),
    "NaN": (b'{"model":"tiny","input":"x","dimensions":NaN}', 400),
    "invalid UTF-8": (b'{"model":"tiny","input":"\xff\xfe"}', 400),
    "deep nesting": (b'{"model":"tiny","input":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
    "a body over the limit": (_with(input="x" * 40_000_000), 413),
    "too many inputs": (_with(input=["cat"] * 20_000), 413),
    "too many tokens": (_with(input=["cat " * 62] * 16_384), 413),
}


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.mark.parametrize("case", FINE)
def test_unusual_but_valid_requests_are_served(http: httpx.Client, case: str) -> None:
    reply = http.post("/v1/embeddings", content=FINE[case], headers=JSON)
    assert reply.status_code == 200, reply.text[:300]


@pytest.mark.parametrize("case", WRONG)
def test_the_error_names_what_is_wrong(http: httpx.Client, case: str) -> None:
    body, status = WRONG[case]
    reply = http.post("/v1/embeddings", content=body, headers=JSON)
    assert reply.status_code == status, reply.text[:300]
    error = reply.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert 10 < len(error["message"]) < 2000
    assert http.post("/v1/embeddings", json=GOOD).status_code == 200


@pytest.mark.parametrize("case", ["a megabyte", "more token ids than the model reads"])
def test_truncated_tokens_are_reported(http: httpx.Client, case: str) -> None:
    reply = http.post("/v1/embeddings", content=FINE[case], headers=JSON)
    usage = reply.json()["usage"]
    assert usage["prompt_tokens"] == 64
    assert int(reply.headers["x-nearfield-truncated-tokens"]) == usage["truncated_tokens"] > 90_000


def test_a_connection_is_usable_after_invalid_requests(http: httpx.Client) -> None:
    small = [body for body, _ in WRONG.values() if len(body) < 10_000]
    with httpx.Client(base_url=http.base_url, limits=httpx.Limits(max_connections=1)) as one:
        for body in small:
            assert 400 <= one.post("/v1/embeddings", content=body, headers=JSON).status_code < 500
            assert one.post("/v1/embeddings", json=GOOD).status_code == 200


def test_a_body_over_the_limit_without_a_length(http: httpx.Client) -> None:
    def parts() -> Iterator[bytes]:
        yield b'{"model":"tiny","input":"'
        for _ in range(40):
            yield b"x" * 1_000_000

    try:
        assert http.post("/v1/embeddings", content=parts(), headers=JSON).status_code == 413
    except (httpx.WriteError, httpx.RemoteProtocolError):
        pass  # the server may close before all of it was sent
    assert http.post("/v1/embeddings", json=GOOD).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_another_content_type_is_refused(http: httpx.Client, kind: str) -> None:
    reply = http.post("/v1/embeddings", content=json.dumps(GOOD), headers={"content-type": kind})
    assert reply.status_code == 415
    assert "application/json" in reply.json()["error"]["message"]


@pytest.mark.parametrize("kind", [None, "application/json; charset=utf-8", "application/problem+json"])
def test_other_content_types_of_json_are_read(http: httpx.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    assert http.post("/v1/embeddings", content=json.dumps(GOOD), headers=headers).status_code == 200


def test_unknown_paths_and_methods(http: httpx.Client) -> None:
    for method, path, status in (("GET", "/nope", 404), ("GET", "/v1/embeddings", 405), ("DELETE", "/v1/models", 405)):
        reply = http.request(method, path)
        assert reply.status_code == status
        assert reply.json()["error"].keys() == {"message", "type", "param", "code"}
