"""Nearfield's own API over a real socket: every field, every media type, and the examples of its page."""

from __future__ import annotations

import base64
import json
import re
import sys
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow as arrow
import pytest

from nearfield.inference.loaded_model import LoadedModel
from tests.support.paths import ROOT

pytestmark = pytest.mark.network

GUIDES = ROOT / "docs" / "guides"
GUIDE_TEXT = "".join((GUIDES / name).read_text(encoding="utf-8") for name in ("encode.md", "rerank.md"))
EXAMPLES = [code for code in re.findall(r"```python\n(.*?)```", GUIDE_TEXT, re.S) if "import httpx" in code]
MSGPACK, ARROW = "application/msgpack", "application/vnd.apache.arrow.stream"
KINDS = ["dense", "sparse", "multivector"]
#: A text to which the tiny bge-m3 gives sparse weights.
SPARSE = "hello world river"
LONG = "cat " * 100


def _ask(url: str, path: str = "/encode", accept: str = "*/*", **body: Any) -> httpx.Response:
    reply = httpx.post(url + path, json=body, headers={"accept": accept})
    assert reply.status_code == 200, reply.text
    return reply


def _dense(url: str, **body: Any) -> Any:
    dense = _ask(url, **{"model": "tiny", **body}).json()["dense"]
    data = np.array(dense["data"], np.float32)
    assert dense["shape"] == list(data.shape)
    return data


def _array(packed: dict[str, Any]) -> Any:
    return np.frombuffer(packed["data"], packed["dtype"]).reshape(packed["shape"])


def _refusal(url: str, path: str = "/encode", status: int = 400, accept: str = "*/*", **body: Any) -> dict[str, Any]:
    reply = httpx.post(url + path, json=body, headers={"accept": accept})
    assert reply.status_code == status, reply.text
    error: dict[str, Any] = reply.json()["error"]
    return error


def test_texts_and_token_ids(fleet: dict[str, Any], fleet_url: str) -> None:
    tiny = fleet["tiny"]
    np.testing.assert_array_equal(_dense(fleet_url, input="cat"), tiny.encode(["cat"]).data)
    ids = tiny.tokenize("cat")[0].ids
    np.testing.assert_array_equal(_dense(fleet_url, input=ids), tiny.encode(["cat"]).data)
    np.testing.assert_array_equal(_dense(fleet_url, input=[ids]), tiny.encode(["cat"]).data)
    np.testing.assert_array_equal(_dense(fleet_url, input=""), tiny.encode([""]).data)


def test_facts_of_each_input(fleet: dict[str, Any], fleet_url: str) -> None:
    reply = _ask(fleet_url, model="tiny", input=["cat", LONG])
    expected = fleet["tiny"].encode(["cat", LONG])
    body = reply.json()
    assert body["tokens"] == expected.tokens.tolist()
    assert body["dropped"] == expected.dropped.tolist() == [0, 38]
    assert body["unknown"] == [0, 0]
    assert body["usage"] == {"tokens": sum(body["tokens"]), "dropped": 38, "unknown": 0}
    assert body["dense"]["fingerprint"] == expected.fingerprint == reply.headers["x-nearfield-fingerprint"]
    assert reply.headers["x-nearfield-truncated-tokens"] == "38"


def test_fewer_tokens_and_a_prompt_of_one_request(fleet: dict[str, Any], fleet_url: str) -> None:
    tiny, reranker = fleet["tiny"], fleet["reranker"]
    body = _ask(fleet_url, model="tiny", input=[LONG], max_length=8).json()
    assert (body["tokens"], body["max_length"], body["precision"]) == ([8], tiny.max_length, tiny.precision)
    np.testing.assert_array_equal(np.float32(body["dense"]["data"]), tiny.encode([LONG], max_length=8).data)
    ranked = _ask(fleet_url, "/rank", model=reranker.name, query="cat", documents=[LONG], max_length=8, prompt="a ")
    expected = reranker.score("cat", [LONG], max_length=8, prompt="a ")
    assert ranked.json()["results"][0]["score"] == expected[0]
    assert ranked.json()["fingerprint"] == reranker.fingerprint
    late = _ask(fleet_url, "/rank", model=fleet["m3"].name, query="cat", documents=["dog"])
    assert late.json()["fingerprint"] is None
    error = _refusal(fleet_url, "/rank", model=fleet["m3"].name, query="cat", documents=["dog"], prompt="a ")
    assert error["param"] == "prompt" and "late interaction" in error["message"]


def test_unknown_tokens_of_each_input(fleet: dict[str, Any], fleet_url: str) -> None:
    thai = "ร้านกาแฟ"
    body = _ask(fleet_url, model="tiny", input=["cat", thai, f"{thai} {thai}"]).json()
    assert (body["unknown"], body["usage"]["unknown"]) == ([0, 1, 2], 3)
    late = _ask(fleet_url, model="tiny", documents=[["cat ", thai], ["dog"]]).json()
    assert late["unknown"] == [0, 1, 0]
    ranked = httpx.post(fleet_url + "/rank", json={"query": "cat", "documents": ["dog", thai]}).json()
    assert ranked["unknown"] == [0, 1]


@pytest.mark.parametrize("form", ["list", "base64", "msgpack"])
def test_three_kinds_in_one_pass(fleet: dict[str, Any], fleet_url: str, form: str) -> None:
    expected = fleet["m3"].encode([SPARSE], outputs=KINDS)
    body = {"model": fleet["m3"].name, "input": [SPARSE], "outputs": KINDS}
    accept, encoding = (MSGPACK, "list") if form == "msgpack" else ("*/*", form)
    reply = _ask(fleet_url, accept=accept, **body, encoding=encoding)
    decoded = msgspec.msgpack.decode(reply.content) if form == "msgpack" else reply.json()
    dense, sparse, multi = (decoded[kind] for kind in KINDS)

    def read(value: Any, kind: str) -> Any:
        if form == "msgpack":
            return _array(value)
        return np.frombuffer(base64.b64decode(value), kind) if form == "base64" else np.array(value, kind)

    ours = sparse if form == "msgpack" else sparse["data"][0]
    np.testing.assert_array_equal(read(ours["indices"], "<i4"), expected.sparse.indices)
    np.testing.assert_array_equal(read(ours["values"], "<f4"), expected.sparse.values)
    assert len(expected.sparse.values) > 0
    flat = [item["data"] if form == "msgpack" else item["data"][0] for item in (dense, multi)]
    np.testing.assert_array_equal(read(flat[0], "<f4").reshape(1, -1), expected.dense.data)
    np.testing.assert_array_equal(read(flat[1], "<f4").reshape(-1, 32), expected.multivector.data)
    assert (sparse["dimensions"], sparse["shape"]) == (expected.sparse.size, [1, expected.sparse.size])
    assert (multi["average"], multi["shape"]) == (True, list(expected.multivector.data.shape))
    assert [item["fingerprint"] for item in (dense, sparse, multi)] == [expected[kind].fingerprint for kind in KINDS]
    if form == "msgpack":
        assert [_array(item["lengths"]).tolist() for item in (sparse, multi)] == [
            np.diff(expected[kind].indptr).tolist() for kind in KINDS[1:]
        ]


def test_errors_name_the_fields_of_the_request(fleet_url: str) -> None:
    for size, message in ((8, "Leave dimensions out, or force it (force_dimensions: true)."), (99, "dimensions must")):
        reply = httpx.post(f"{fleet_url}/encode", json={"model": "tiny", "input": "a", "dimensions": size})
        error = reply.json()["error"]
        assert reply.status_code == 400 and message in error["message"] and error["param"] == "dimensions"


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"role": "query"}, {"role": "query"}),
        ({"role": "document"}, {"role": "document"}),
        ({"prompt_name": "passage"}, {"prompt_name": "passage"}),
        ({"prompt": "red "}, {"prompt": "red "}),
        ({"instruction": "blue "}, {"instruction": "blue "}),
        ({"task": "query"}, {"task": "query"}),
        ({"dimensions": 8, "force_dimensions": True}, {"truncate_dim": 8, "force_truncate_dim": True}),
        ({"normalize": True}, {"normalize_embeddings": True}),
    ],
)
def test_every_option_reaches_the_model(
    fleet: dict[str, Any], fleet_url: str, body: dict[str, Any], options: dict[str, Any]
) -> None:
    vectors = _dense(fleet_url, input="cat", **body)
    np.testing.assert_array_equal(vectors, fleet["tiny"].encode(["cat"], **options).data)
    if "normalize" not in body:
        assert vectors.shape != (1, 32) or (vectors != fleet["tiny"].encode(["cat"]).data).any()


@pytest.mark.parametrize("truncate", ["report", "left", "right", "chunk"])
def test_truncation(fleet: dict[str, Any], fleet_url: str, truncate: str) -> None:
    text = "a blue dog sat. " * 20
    expected = fleet["tiny"].encode([text], truncate=truncate)
    np.testing.assert_allclose(_dense(fleet_url, input=text, truncate=truncate), expected.data, atol=1e-6)
    error = _refusal(fleet_url, model="tiny", input=text, truncate="error")
    assert error["code"] == "input_too_long"


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("form", ["list", "base64", "msgpack", "arrow"])
def test_every_type_in_every_form(fleet: dict[str, Any], fleet_url: str, dtype: str, form: str) -> None:
    expected = fleet["tiny"].encode(["cat"], precision=dtype)
    body: dict[str, Any] = {"model": "tiny", "input": ["cat"], "dtype": dtype}
    if form == "arrow":
        table = arrow.ipc.open_stream(_ask(fleet_url, accept=ARROW, **body).content).read_all()
        facts = table.schema.metadata
        assert [facts[name].decode() for name in (b"model", b"fingerprint", b"dtype", b"dimensions")] == [
            "tiny",
            expected.fingerprint,
            dtype,
            "32",
        ]
        vectors = np.stack(table.column("vector").to_numpy())
        ranges = json.loads(facts.get(b"ranges", b"null"))
        assert [table.column(name).to_pylist() for name in ("tokens", "dropped", "unknown")] == [[3], [0], [0]]
    elif form == "msgpack":
        dense = msgspec.msgpack.decode(_ask(fleet_url, accept=MSGPACK, **body).content)["dense"]
        vectors, ranges = _array(dense["data"]), dense.get("ranges")
        ranges = None if ranges is None else _array(ranges)
    else:
        dense = _ask(fleet_url, **body, encoding=form).json()["dense"]
        assert (dense["dtype"], dense["dimensions"], dense["shape"]) == (dtype, 32, list(expected.data.shape))
        ranges, rows = dense.get("ranges"), dense["data"]
        vectors = np.array(
            [np.frombuffer(base64.b64decode(row), expected.dtype) if form == "base64" else row for row in rows]
        )
        vectors = vectors.astype(expected.dtype)
    np.testing.assert_array_equal(vectors, expected.data)
    assert vectors.dtype == expected.dtype
    if expected.ranges is None:
        assert ranges is None
    else:
        np.testing.assert_array_equal(np.array(ranges, np.float32), expected.ranges)


def test_late_chunking(fleet: dict[str, Any], fleet_url: str) -> None:
    documents = [["the cat sat. ", "a blue dog. "], ["hello world"]]
    reply = _ask(fleet_url, model="tiny", documents=documents).json()
    expected = fleet["tiny"].encode_late(documents)
    np.testing.assert_allclose(
        np.array(reply["dense"]["data"], np.float32), np.concatenate([part.data for part in expected]), atol=1e-6
    )
    assert reply["documents"] == [2, 1]
    assert reply["tokens"] == [int(count) for part in expected for count in part.tokens]
    table = arrow.ipc.open_stream(_ask(fleet_url, accept=ARROW, model="tiny", documents=documents).content).read_all()
    assert table.column("document").to_pylist() == [0, 0, 1]


def test_the_first_model_that_fits_is_used(fleet: dict[str, LoadedModel], fleet_url: str) -> None:
    assert _ask(fleet_url, input="cat").json()["model"] == "tiny"
    assert _ask(fleet_url, input="cat", outputs="sparse").json()["model"] == fleet["m3"].name
    assert _ask(fleet_url, "/rank", query="cat", documents=["dog"]).json()["model"] == fleet["m3"].name


def test_a_body_in_msgpack(fleet: dict[str, Any], fleet_url: str) -> None:
    body = msgspec.msgpack.encode({"model": "tiny", "input": ["cat"]})
    for kind in (MSGPACK, "application/x-msgpack"):
        reply = httpx.post(fleet_url + "/encode", content=body, headers={"content-type": kind})
        expected = fleet["tiny"].encode(["cat"]).data
        np.testing.assert_array_equal(np.array(reply.json()["dense"]["data"], np.float32), expected)
    reply = httpx.post(fleet_url + "/encode", content=b"\xc1", headers={"content-type": MSGPACK})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_value")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/json, application/msgpack", "application/json"),
        ("application/json;q=0.5, application/msgpack", MSGPACK),
        ("text/html, application/x-msgpack;q=0.1", MSGPACK),
        ("application/msgpack;q=0, */*;q=0.1", "application/json"),
        ("application/vnd.apache.arrow.stream", ARROW),
        ("application/json;q=high", "application/json"),
    ],
)
def test_accept_chooses_the_media_type(fleet_url: str, accept: str, media_type: str) -> None:
    assert _ask(fleet_url, accept=accept, model="tiny", input="cat").headers["content-type"] == media_type


def test_unsupported_media_types(fleet_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = _refusal(fleet_url, status=406, accept="text/html", model="tiny", input="cat")
    assert error["code"] == "not_acceptable"
    error = _refusal(fleet_url, "/rank", 406, ARROW, query="cat", documents=["dog"])
    assert "application/msgpack" in error["message"]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    error = _refusal(fleet_url, status=406, accept=ARROW, model="tiny", input="cat")
    assert "pip install 'nearfield[parquet]'" in error["message"]
    reply = _ask(fleet_url, accept=f"{ARROW}, application/json;q=0.5", model="tiny", input="cat")
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "input", "Send either input"),
        ({"input": "a", "documents": [["a"]]}, "input", "input, or documents"),
        ({"input": []}, "input", "empty"),
        ({"input": ["a", [1]]}, "input", "mixes"),
        ({"documents": []}, "documents", "empty"),
        ({"documents": [["a"], []]}, "documents", "Document 1"),
        ({"documents": [["a"]], "outputs": ["sparse"]}, "outputs", "dense"),
        ({"documents": [["a"]], "truncate": "left"}, "truncate", "too long"),
        ({"documents": [["a"]], "max_length": 8}, "max_length", "whole documents"),
        ({"input": "a", "max_length": 2}, "max_length", "choose 3 to 64"),
        ({"input": "a", "max_length": 0}, "max_length", "at least 1"),
        ({"documents": [[LONG]]}, "input", "64"),
        ({"input": "a", "outputs": ["sparse"]}, "outputs", "gives no 'sparse'"),
        ({"input": "a", "outputs": []}, "outputs", "outputs is empty"),
        ({"input": "a", "dimensions": 8}, "dimensions", "not trained"),
        ({"input": "a", "dimensions": 99}, "dimensions", "from 1 to 32"),
        ({"input": "a", "dtype": "int4"}, "dtype", "int4"),
        ({"input": "a", "task": "cook"}, "task", "cook"),
        ({"input": "a", "adapter": "law"}, "adapter", "law"),
        ({"input": "a", "prompt": "x", "prompt_name": "query"}, "prompt", "not both"),
        ({"input": "a", "encoding": "hex"}, "encoding", "hex"),
        ({"input": "a", "truncate": "middle"}, "truncate", "middle"),
    ],
)
def test_invalid_requests(fleet_url: str, body: dict[str, Any], param: str, words: str) -> None:
    error = _refusal(fleet_url, model="tiny", **body)
    assert error["param"] == param
    assert words in error["message"]


def test_arrow_is_for_dense_vectors(fleet: dict[str, LoadedModel], fleet_url: str) -> None:
    body: dict[str, Any] = {"model": fleet["m3"].name, "input": "cat"}
    assert _refusal(fleet_url, accept=ARROW, outputs=["sparse"], **body)["param"] == "outputs"
    table = arrow.ipc.open_stream(_ask(fleet_url, accept=ARROW, **body).content).read_all()
    assert table.num_rows == 1


def test_unknown_fields_are_named(fleet_url: str) -> None:
    assert _ask(fleet_url, model="tiny", input="cat", colour="red").headers["x-nearfield-ignored-fields"] == "colour"


def test_a_large_reply(fleet: dict[str, Any], fleet_url: str) -> None:
    texts = ["cat", "dog"] * 1500
    vectors = _dense(fleet_url, input=texts)
    np.testing.assert_allclose(vectors, np.tile(fleet["tiny"].encode(["cat", "dog"]).data, (1500, 1)), atol=1e-6)


@pytest.mark.parametrize("accept", ["*/*", MSGPACK])
def test_rank(fleet: dict[str, Any], fleet_url: str, accept: str) -> None:
    documents = ["a blue dog", "the cat sat", LONG]
    body = {"model": fleet["reranker"].name, "query": "cat", "documents": documents}
    reply = _ask(fleet_url, "/rank", accept, **body, return_documents=True)
    decoded = msgspec.msgpack.decode(reply.content) if accept == MSGPACK else reply.json()
    expected = fleet["reranker"].rank("cat", documents)
    assert [result["index"] for result in decoded["results"]] == [result.index for result in expected]
    assert [result["score"] for result in decoded["results"]] == pytest.approx([result.score for result in expected])
    assert [result["document"] for result in decoded["results"]] == [documents[result.index] for result in expected]
    assert decoded["dropped"][:2] == [0, 0]
    assert decoded["dropped"][2] > 0
    assert decoded["usage"]["tokens"] == sum(decoded["tokens"])
    best = _ask(fleet_url, "/rank", **body, top_k=1, activation="identity").json()["results"]
    raw = fleet["reranker"].score("cat", documents, activation="identity").data
    assert [result["index"] for result in best] == [expected[0].index]
    assert best[0]["score"] == pytest.approx(raw.max())
    assert "document" not in best[0]


def test_rank_by_late_interaction(fleet: dict[str, Any], fleet_url: str) -> None:
    body = {"model": fleet["m3"].name, "query": "cat", "documents": ["dog", "cat"]}
    results = _ask(fleet_url, "/rank", **body).json()["results"]
    query = fleet["m3"].encode(["cat"], outputs="multivector", role="query").multivector
    documents = fleet["m3"].encode(["dog", "cat"], outputs="multivector", role="document").multivector
    scores = query.similarity(documents)[0]
    assert [result["index"] for result in results] == [1, 0]
    assert [result["score"] for result in results] == pytest.approx(sorted(scores.tolist(), reverse=True))
    assert _refusal(fleet_url, "/rank", **body, activation="sigmoid")["param"] == "activation"


@pytest.mark.parametrize("accept", ["*/*", MSGPACK])
@pytest.mark.parametrize("texts", [["a blue dog", "the cat sat"], [("cat", "dog"), ("a", "b")]])
def test_classify(fleet: dict[str, Any], fleet_url: str, accept: str, texts: list[Any]) -> None:
    reply = _ask(fleet_url, "/classify", accept, model=fleet["classifier"].name, input=texts)
    decoded = msgspec.msgpack.decode(reply.content) if accept == MSGPACK else reply.json()
    expected = fleet["classifier"].predict(texts)
    assert decoded["labels"] == list(fleet["classifier"].labels)
    assert [result["label"] for result in decoded["results"]] == [result.label for result in expected]
    assert [result["score"] for result in decoded["results"]] == pytest.approx([result.score for result in expected])
    np.testing.assert_allclose(
        np.array(decoded["scores"]), [list(result.scores.values()) for result in expected], rtol=1e-6
    )
    assert len(decoded["tokens"]) == len(decoded["dropped"]) == 2


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/rank", {"query": "cat", "documents": []}, "documents"),
        ("/rank", {"query": "cat", "documents": ["a"], "top_k": 0}, "top_k"),
        ("/rank", {"query": "cat", "documents": ["a"], "model": "tiny"}, "model"),
        ("/rank", {"query": "cat", "documents": ["a"], "truncate": "left"}, "truncate"),
        ("/classify", {"input": []}, "input"),
        ("/classify", {"input": ["a", ["b", "c"]]}, "input"),
        ("/classify", {"input": [["a", "b", "c"]]}, "input"),
        ("/classify", {"input": "a", "model": "tiny"}, "model"),
        ("/classify", {"input": "a", "activation": "relu"}, "activation"),
    ],
)
def test_bad_ranks_and_labels(
    fleet: dict[str, LoadedModel], fleet_url: str, path: str, body: dict[str, Any], param: str
) -> None:
    name = fleet["reranker" if path == "/rank" else "classifier"].name
    assert _refusal(fleet_url, path, **{"model": name, **body})["param"] == param


@pytest.mark.parametrize("code", EXAMPLES, ids=["encode", "msgpack", "arrow", "rank"])
def test_the_examples_of_the_page(
    fleet: dict[str, LoadedModel], fleet_url: str, capsys: pytest.CaptureFixture[str], code: str
) -> None:
    names = {
        "http://127.0.0.1:8080": fleet_url,
        "BAAI/bge-m3": fleet["m3"].name,
        "all-MiniLM-L6-v2": fleet["tiny"].name,
        "cross-encoder/ms-marco-MiniLM-L6-v2": fleet["reranker"].name,
        "cross-encoder/nli-deberta-v3-base": fleet["classifier"].name,
    }
    assert "http://127.0.0.1:8080" in code
    for theirs, ours in names.items():
        code = code.replace(theirs, ours)
    exec(code, {})
    shown = capsys.readouterr().out
    promised = {"msgspec": "(2, 32) float32 2", "arrow": "[0, 0, 1] b'float16'", "/rank": "'index': "}
    assert next((text for mark, text in promised.items() if mark in code), "[2, 32] float32") in shown
