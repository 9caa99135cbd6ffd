"""Qdrant's inference hook: bodies as Qdrant writes them (serde_json of its InferenceRequest), over a real socket."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from nearfield.encoder import Encoder
from tests.support.serving import serving

pytestmark = pytest.mark.network

#: A text to which the tiny bge-m3 gives sparse weights.
SPARSE = "hello world river"


def _input(text: Any, model: str, options: dict[str, Any] | None = None, kind: str = "text") -> dict[str, Any]:
    return {"data": text, "data_type": kind, "model": model, "options": options}


def _ask(
    url: str, *inputs: dict[str, Any], inference: str | None = "update", token: str | None = None
) -> httpx.Response:
    # Rust's None is written as null.
    return httpx.post(url + "/qdrant/infer", json={"inputs": inputs, "inference": inference, "token": token})


@pytest.mark.parametrize(("inference", "role"), [("update", "document"), ("search", "query"), (None, "document")])
def test_purpose_sets_the_role(fleet_url: str, tiny: Encoder, inference: str | None, role: str) -> None:
    reply = _ask(fleet_url, _input("cat", "tiny"), inference=inference)
    expected = tiny.encode(["cat"], role=role)
    np.testing.assert_array_equal(np.array(reply.json()["embeddings"], np.float32), expected.data)
    assert reply.json()["usage"] == {"models": {"tiny": {"tokens": int(expected.tokens.sum())}}}
    assert (expected.data != tiny.encode(["cat"]).data).any()


def test_several_models_in_one_request(fleet: dict[str, Any], fleet_url: str) -> None:
    m3 = fleet["m3"].name
    reply = _ask(
        fleet_url,
        _input("a blue dog", "tiny"),
        _input(SPARSE, m3, {"output": "sparse"}),
        _input(SPARSE, m3, {"output": "multivector"}),
        _input("cat", "tiny"),
        _input(SPARSE, m3),
        inference="search",
    ).json()
    plain = [fleet["tiny"].encode_query([text]).data[0] for text in ("a blue dog", "cat")]
    three = fleet["m3"].encode_query([SPARSE], outputs=["dense", "sparse", "multivector"])
    rows = reply["embeddings"]
    np.testing.assert_allclose(np.array([rows[0], rows[3]], np.float32), plain, atol=1e-6)
    np.testing.assert_array_equal(rows[1]["indices"], three.sparse.indices)
    np.testing.assert_array_equal(np.array(rows[1]["values"], np.float32), three.sparse.values)
    assert len(rows[1]["values"]) > 0
    np.testing.assert_array_equal(np.array(rows[2], np.float32), three.multivector[0])
    np.testing.assert_array_equal(np.array(rows[4], np.float32), three.dense.data[0])
    of_tiny = int(fleet["tiny"].encode_query(["a blue dog", "cat"]).tokens.sum())
    assert reply["usage"]["models"] == {"tiny": {"tokens": of_tiny}, m3: {"tokens": 3 * int(three.tokens.sum())}}


def test_options(fleet_url: str, tiny: Encoder) -> None:
    options = {"prompt": "red ", "normalize": True, "mrl": None, "colour": 1}
    reply = _ask(fleet_url, _input("cat", "tiny", options))
    np.testing.assert_array_equal(np.array(reply.json()["embeddings"], np.float32), tiny.encode(["red cat"]).data)
    assert reply.headers["x-nearfield-ignored-fields"] == "options.colour"
    reply = _ask(fleet_url, _input("cat", "tiny", {"role": "query"}))
    np.testing.assert_array_equal(np.array(reply.json()["embeddings"], np.float32), tiny.encode_query(["cat"]).data)


def test_truncation_is_reported(fleet_url: str) -> None:
    reply = _ask(fleet_url, _input("cat " * 100, "tiny"), _input("cat", "tiny"))
    assert int(reply.headers["x-nearfield-truncated-tokens"]) > 0
    assert _ask(fleet_url, _input("cat " * 100, "tiny", {"truncate": "error"})).status_code == 400


@pytest.mark.parametrize(
    ("item", "status", "words"),
    [
        (_input("aGVsbG8=", "tiny", kind="image"), 400, "reads texts, and an input is a picture"),
        (_input({"text": "cat"}, "tiny", kind="object"), 400, "object"),
        (_input(7, "tiny"), 400, "int"),
        (_input("cat", "nobody/nothing"), 404, "not served"),
        (_input("cat", "tiny-reranker"), 400, "gives no vectors"),
        (_input("cat", "tiny", {"output": "sparse"}), 400, "output"),
        (_input("cat", "tiny", {"mrl": 8}), 400, "mrl"),
        (_input("cat", "tiny", {"output": "bits"}), 400, "bits"),
    ],
)
def test_errors(fleet_url: str, item: dict[str, Any], status: int, words: str) -> None:
    reply = _ask(fleet_url, item)
    assert reply.status_code == status, reply.text
    assert list(reply.json()) == ["error"]
    assert words in reply.json()["error"]


def test_no_inputs(fleet_url: str) -> None:
    assert _ask(fleet_url).status_code == 400
    assert "inputs" in httpx.post(fleet_url + "/qdrant/infer", json={}).json()["error"]


def test_the_token_is_the_api_key(tiny: Encoder) -> None:
    with serving([tiny], api_keys=["sésame"]) as url:
        refused = [_ask(url, _input("cat", "tiny"), token=token) for token in (None, "", "wrong", "Bearer wrong")]
        assert [reply.status_code for reply in refused] == [401] * 4
        assert all(list(reply.json()) == ["error"] for reply in refused)
        assert _ask(url, _input("cat", "tiny"), token="sésame").status_code == 200
        # More than is read from a client without a key in the header.
        many = [_input("cat " * 50, "tiny") for _ in range(400)]
        assert _ask(url, *many, token="sésame").status_code == 200
        # No other path reads a key from the body.
        body = {"model": "tiny", "input": "cat", "token": "sésame"}
        assert httpx.post(url + "/v1/embeddings", json=body).status_code == 401
