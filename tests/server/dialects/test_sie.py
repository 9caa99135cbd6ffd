"""SIE's API over a real socket: its SDK if installed, and the bytes that it sends and expects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import (
    DeadlineExceeded,
    ExecutionFailed,
    LicenceRefused,
    ModelUnavailable,
    NearfieldError,
    Overloaded,
    RateLimited,
    ShuttingDown,
)
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.dialects.sie.routes import SieDialect

pytestmark = pytest.mark.network

MSGPACK = "application/msgpack"
KINDS = ["dense", "sparse", "multivector"]
#: A text to which the tiny bge-m3 gives sparse weights.
SPARSE = "hello world river"
LONG = "cat " * 100


@pytest.fixture(scope="module")
def sdk(fleet_url: str) -> Iterator[Any]:
    """SIE's client. It needs an older websockets than other clients, so it is not among the test packages."""
    package = pytest.importorskip("sie_sdk", reason="pip install sie-sdk (Python 3.12) in an environment of its own")
    with package.SIEClient(fleet_url) as client:
        yield client


def _arrays(value: Any) -> Any:
    """Decode what msgpack-numpy writes."""
    if isinstance(value, list):
        return [_arrays(item) for item in value]
    if not isinstance(value, dict):
        return value
    if b"nd" in value:
        assert set(value) == {b"nd", b"type", b"kind", b"shape", b"data"}
        assert value[b"nd"] is True
        assert value[b"kind"] == b""
        return np.frombuffer(value[b"data"], value[b"type"]).reshape(value[b"shape"])
    return {name: _arrays(item) for name, item in value.items()}


def _post(url: str, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    """Send what the SDK sends."""
    packed = {"content-type": MSGPACK, "accept": MSGPACK, "x-sie-sdk-version": "0.10.1", **headers}
    return httpx.post(url + path, content=msgspec.msgpack.encode(body), headers=packed)


def _encode(url: str, model: str, *texts: str, **params: Any) -> list[dict[str, Any]]:
    body: dict[str, Any] = {"items": [{"text": text} for text in texts]}
    reply = _post(url, f"/v1/encode/{model}", body | ({"params": params} if params else {}))
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == MSGPACK
    items: list[dict[str, Any]] = _arrays(msgspec.msgpack.decode(reply.content))["items"]
    return items


def test_dense_in_msgpack(fleet_url: str, tiny: Encoder) -> None:
    (item,) = _encode(fleet_url, "tiny", "cat")
    assert set(item) == {"dense"}
    assert (item["dense"]["dims"], item["dense"]["dtype"]) == (32, "float32")
    np.testing.assert_array_equal(item["dense"]["values"], tiny.encode_document(["cat"]).data[0])


@pytest.mark.parametrize("accept", ["application/json", MSGPACK])
def test_three_kinds_at_once(fleet: dict[str, Any], fleet_url: str, accept: str) -> None:
    expected = fleet["m3"].encode_query([SPARSE], outputs=KINDS)
    body = {
        "items": [{"id": "a", "text": SPARSE, "metadata": {"x": 1}}],
        "params": {"output_types": KINDS, "options": {"is_query": True}},
    }
    reply = _post(fleet_url, f"/v1/encode/{fleet['m3'].name}", body, accept=accept)
    decoded = reply.json() if accept != MSGPACK else _arrays(msgspec.msgpack.decode(reply.content))
    (item,) = decoded["items"]
    assert (decoded["model"], item["id"]) == (fleet["m3"].name, "a")
    assert decoded["usage"] == {"input_tokens": int(expected.tokens.sum())}
    np.testing.assert_array_equal(np.array(item["dense"]["values"], np.float32), expected.dense.data[0])
    np.testing.assert_array_equal(item["sparse"]["indices"], expected.sparse.indices)
    np.testing.assert_array_equal(np.array(item["sparse"]["values"], np.float32), expected.sparse.values)
    np.testing.assert_array_equal(np.array(item["multivector"]["values"], np.float32), expected.multivector[0])
    assert len(expected.sparse.indices) > 0
    assert item["sparse"]["dims"] == expected.sparse.size
    assert (item["multivector"]["token_dims"], item["multivector"]["num_tokens"]) == expected.multivector[0].shape[::-1]
    assert reply.headers["x-sie-server-version"]


@pytest.mark.parametrize("accept", [None, "*/*", "application/json, application/x-msgpack"])
def test_msgpack_is_the_default_media_type(fleet_url: str, accept: str | None) -> None:
    with httpx.Client(headers={} if accept is None else {"accept": accept}) as client:
        if accept is None:
            del client.headers["accept"]
        reply = client.post(fleet_url + "/v1/encode/tiny", json={"items": [{"text": "cat"}]})
    assert (reply.status_code, reply.headers["content-type"]) == (200, MSGPACK)


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8", "binary", "ubinary"])
def test_types(fleet_url: str, tiny: Encoder, dtype: str) -> None:
    (item,) = _encode(fleet_url, "tiny", "cat", output_dtype=dtype)
    expected = tiny.encode_document(["cat"], precision="ubinary" if dtype == "binary" else dtype).data[0]
    np.testing.assert_array_equal(item["dense"]["values"], expected)
    assert item["dense"]["values"].dtype == expected.dtype
    assert item["dense"]["dtype"] == ("binary" if dtype == "ubinary" else dtype)
    assert item["dense"]["dims"] == 32


def test_half_precision_of_all_kinds(fleet: dict[str, Any], fleet_url: str) -> None:
    for kinds in (KINDS, KINDS[1:]):
        (item,) = _encode(fleet_url, fleet["m3"].name, SPARSE, output_types=kinds, output_dtype="float16")
        assert [item[kind]["dtype"] for kind in kinds] == ["float16"] * len(kinds)
        assert [item[kind]["values"].dtype for kind in kinds] == [np.float16] * len(kinds)
    reply = _post(
        fleet_url,
        f"/v1/encode/{fleet['m3'].name}",
        {"items": [{"text": SPARSE}], "params": {"output_types": ["sparse"], "output_dtype": "int8"}},
    )
    assert (reply.status_code, reply.json()["detail"]["param"]) == (400, "output_dtype")


def test_options(fleet_url: str, tiny: Encoder) -> None:
    def ask(**params: Any) -> Any:
        return _encode(fleet_url, "tiny", "cat", **params)[0]["dense"]["values"]

    np.testing.assert_array_equal(ask(options={"is_query": True}), tiny.encode_query(["cat"]).data[0])
    np.testing.assert_array_equal(ask(options={"is_query": False}), tiny.encode_document(["cat"]).data[0])
    np.testing.assert_array_equal(ask(instruction="red "), tiny.encode(["red cat"]).data[0])
    np.testing.assert_array_equal(ask(options={"instruction": "red "}), tiny.encode(["red cat"]).data[0])
    assert ask(options={"output_dtype": "int8"}).dtype == np.int8
    body = {"items": [{"text": "cat"}], "params": {"options": {"cuda_graphs": "off", "muvera": None}}}
    reply = _post(fleet_url, "/v1/encode/tiny:default", body)
    assert reply.headers["x-nearfield-ignored-fields"] == "params.options.cuda_graphs"


def test_too_long(fleet_url: str) -> None:
    body: dict[str, Any] = {"items": [{"text": LONG}]}
    assert _post(fleet_url, "/v1/encode/tiny", body).headers["x-nearfield-truncated-tokens"]
    reply = _post(fleet_url, "/v1/encode/tiny", body | {"params": {"options": {"overflow_policy": "error"}}})
    assert (reply.status_code, reply.headers["x-sie-error-code"]) == (400, "INPUT_TOO_LONG")


@pytest.mark.parametrize("accept", ["application/json", MSGPACK])
def test_score(fleet: dict[str, Any], fleet_url: str, accept: str) -> None:
    documents = ["a blue dog", "the cat sat"]
    body = {
        "query": {"id": "q", "text": "cat"},
        "items": [{"id": "dog", "text": documents[0]}, {"text": documents[1]}],
    }
    reply = _post(fleet_url, f"/v1/score/{fleet['reranker'].name}", body, accept=accept)
    decoded = reply.json() if accept != MSGPACK else msgspec.msgpack.decode(reply.content)
    expected = fleet["reranker"].rank("cat", documents)
    ids = ["dog", "item-1"]
    assert [result["item_id"] for result in decoded["scores"]] == [ids[result.index] for result in expected]
    assert [result["score"] for result in decoded["scores"]] == pytest.approx([result.score for result in expected])
    assert [result["rank"] for result in decoded["scores"]] == [0, 1]
    assert (decoded["model"], decoded["query_id"]) == (fleet["reranker"].name, "q")
    assert decoded["usage"]["input_tokens"] > 0


def test_score_by_late_interaction(fleet: dict[str, Any], fleet_url: str) -> None:
    body = {"query": {"text": "cat"}, "items": [{"text": "dog"}, {"text": "cat"}], "options": {"score_mode": "colbert"}}
    reply = _post(fleet_url, f"/v1/score/{fleet['m3'].name}", body)
    assert [result["item_id"] for result in msgspec.msgpack.decode(reply.content)["scores"]] == ["item-1", "item-0"]


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("encode/nothing", {"items": [{"text": "a"}]}, "MODEL_NOT_FOUND", None),
        ("encode/tiny", {"items": []}, "INVALID_INPUT", "items"),
        ("encode/tiny", {}, "INVALID_INPUT", "items"),
        ("encode/tiny", {"items": [{"id": "a"}]}, "INVALID_INPUT", "items"),
        ("encode/tiny", {"items": [{"text": "a", "images": [{"data": b"\xff"}]}]}, "INVALID_INPUT", "items"),
        (
            "encode/tiny",
            {"items": [{"text": "a"}], "params": {"output_types": ["sparse"]}},
            "INVALID_INPUT",
            "output_types",
        ),
        (
            "encode/tiny",
            {"items": [{"text": "a"}], "params": {"options": {"muvera": {}, "smve": 1}}},
            "INVALID_INPUT",
            "smve",
        ),
        (
            "encode/tiny",
            {"items": [{"text": "a"}], "params": {"options": {"profile": "lora"}}},
            "INVALID_INPUT",
            "profile",
        ),
        (
            "encode/tiny",
            {"items": [{"text": "a"}], "params": {"options": {"lora_id": "law"}}},
            "INVALID_INPUT",
            "lora_id",
        ),
        ("encode/tiny-reranker", {"items": [{"text": "a"}]}, "INVALID_INPUT", "model"),
        ("score/tiny", {"query": {"text": "a"}, "items": [{"text": "a"}]}, "INVALID_INPUT", "model"),
        ("score/tiny-reranker", {"query": {"text": "a"}, "items": []}, "INVALID_INPUT", "items"),
        ("score/tiny-reranker", {"query": {}, "items": [{"text": "a"}]}, "INVALID_INPUT", "query"),
        (
            "score/tiny-reranker",
            {"query": {"text": "a"}, "items": [{"text": "a"}], "instruction": "x"},
            "INVALID_INPUT",
            "instruction",
        ),
        (
            "score/m3",
            {"query": {"text": "a"}, "items": [{"text": "a"}], "options": {"score_mode": "hybrid"}},
            "INVALID_INPUT",
            "score_mode",
        ),
    ],
)
def test_errors(fleet_url: str, path: str, body: dict[str, Any], code: str, param: str | None) -> None:
    reply = _post(fleet_url, "/v1/" + path, body)
    assert reply.status_code == (404 if code == "MODEL_NOT_FOUND" else 400), reply.text
    detail = reply.json()["detail"]
    assert (detail["code"], detail["param"], reply.headers["x-sie-error-code"]) == (code, param, code)
    assert detail["message"]
    assert reply.headers["x-sie-server-version"]


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (Overloaded("full"), "QUEUE_FULL", 503),
        (DeadlineExceeded("late"), "QUEUE_FULL", 503),
        (RateLimited("much"), "RATE_LIMIT", 429),
        (ModelUnavailable("no room"), "RESOURCE_EXHAUSTED", 503),
        (LicenceRefused("no"), "MODEL_LOAD_FAILED", 502),
        (ShuttingDown("bye"), "MODEL_NOT_LOADED", 503),
        (ExecutionFailed("nan"), "INFERENCE_ERROR", 500),
        (NearfieldError("oh"), "INTERNAL_ERROR", 500),
    ],
)
def test_codes_that_clients_recognise(error: NearfieldError, code: str, status: int) -> None:
    reply = SieDialect().refuse(error)
    assert (reply.content["detail"]["code"], reply.headers["x-sie-error-code"], reply.status) == (code, code, status)


@pytest.mark.parametrize("header", ["X-SIE-SDK-Version", "x-sie-sdk-version"])
def test_models(fleet: dict[str, LoadedModel], fleet_url: str, header: str) -> None:
    listed = httpx.get(fleet_url + "/v1/models", headers={header: "0.10.1"}).json()
    models = {model["name"]: model for model in listed["models"]}
    assert set(models) == {model.name for model in fleet.values()}
    m3 = fleet["m3"].name
    assert set(models[m3]["dims"]) == set(models[m3]["outputs"]) == set(KINDS)
    assert models["tiny"]["dims"] == {"dense": 32}
    assert models["tiny-reranker"]["outputs"] == ["score"]
    assert all(model["loaded"] and model["state"] == "loaded" for model in models.values())
    assert httpx.get(fleet_url + f"/v1/models/{m3}", headers={header: "0.10.1"}).json() == models[m3]
    lost = httpx.get(fleet_url + "/v1/models/nothing", headers={header: "0.10.1"})
    assert (lost.status_code, lost.json()["detail"]["code"]) == (404, "MODEL_NOT_FOUND")
    assert httpx.get(fleet_url + "/v1/models").json()["object"] == "list"


# -- the SDK -------------------------------------------------------------------------------------------------------


def test_sdk_encode(sdk: Any, fleet: dict[str, Any]) -> None:
    expected = fleet["m3"].encode_query([SPARSE], outputs=KINDS)
    encoded = sdk.encode(fleet["m3"].name, {"id": "a", "text": SPARSE}, output_types=KINDS, is_query=True)
    np.testing.assert_array_equal(encoded["dense"], expected.dense.data[0])
    np.testing.assert_array_equal(encoded["sparse"]["indices"], expected.sparse.indices)
    np.testing.assert_array_equal(encoded["sparse"]["values"], expected.sparse.values)
    np.testing.assert_array_equal(encoded["multivector"], expected.multivector[0])
    assert encoded["id"] == "a"
    tiny = fleet["tiny"]
    several = sdk.encode("tiny", [{"text": "cat"}, {"text": "dog"}], output_dtype="int8", instruction="red ")
    expected = tiny.encode(["cat", "dog"], precision="int8", instruction="red ").data
    np.testing.assert_allclose(np.stack([item["dense"] for item in several]).astype(int), expected.astype(int), atol=1)


def test_sdk_score(sdk: Any, fleet: dict[str, Any]) -> None:
    documents = ["a blue dog", "the cat sat"]
    items = [{"id": str(at), "text": text} for at, text in enumerate(documents)]
    scored = sdk.score(fleet["reranker"].name, {"id": "q", "text": "cat"}, items)
    expected = fleet["reranker"].rank("cat", documents)
    assert [(result["item_id"], result["rank"]) for result in scored["scores"]] == [
        (str(result.index), rank) for rank, result in enumerate(expected)
    ]
    assert [result["score"] for result in scored["scores"]] == pytest.approx([result.score for result in expected])
    assert scored["query_id"] == "q"


def test_sdk_models(sdk: Any, fleet: dict[str, LoadedModel]) -> None:
    assert {model["name"] for model in sdk.list_models()} == {model.name for model in fleet.values()}
    assert sdk.get_model("tiny")["dims"] == {"dense": 32}


def test_sdk_errors(sdk: Any) -> None:
    package = pytest.importorskip("sie_sdk")
    with pytest.raises(package.RequestError, match="not served") as lost:
        sdk.encode("nothing", {"text": "cat"})
    assert (lost.value.code, lost.value.status_code) == ("MODEL_NOT_FOUND", 404)
    with pytest.raises(package.InputTooLongError):
        sdk.encode("tiny", {"text": LONG}, options={"overflow_policy": "error"})
