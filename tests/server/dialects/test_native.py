"""Nearfield's own API, over a real socket: every field, every form of the reply, and the page that describes it."""

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

GUIDES = ROOT / "docs" / "guides"
PAGES = "".join((GUIDES / name).read_text(encoding="utf-8") for name in ("encode.md", "rerank.md"))
EXAMPLES = [code for code in re.findall(r"```python\n(.*?)```", PAGES, re.S) if "import httpx" in code]
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
    told = _ask(url, **{"model": "tiny", **body}).json()["dense"]
    data = np.array(told["data"], np.float32)
    assert told["shape"] == list(data.shape)
    return data


def _array(told: dict[str, Any]) -> Any:
    return np.frombuffer(told["data"], told["dtype"]).reshape(told["shape"])


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


def test_what_is_said_of_each_input(fleet: dict[str, Any], fleet_url: str) -> None:
    reply = _ask(fleet_url, model="tiny", input=["cat", LONG])
    expected = fleet["tiny"].encode(["cat", LONG])
    told = reply.json()
    assert told["tokens"] == expected.tokens.tolist()
    assert told["dropped"] == expected.dropped.tolist() == [0, 38]
    assert told["usage"] == {"tokens": sum(told["tokens"]), "dropped": 38}
    assert told["dense"]["fingerprint"] == expected.fingerprint == reply.headers["x-nearfield-fingerprint"]
    assert reply.headers["x-nearfield-truncated-tokens"] == "38"


@pytest.mark.parametrize("form", ["list", "base64", "msgpack"])
def test_three_kinds_in_one_pass(fleet: dict[str, Any], fleet_url: str, form: str) -> None:
    expected = fleet["m3"].encode([SPARSE], outputs=KINDS)
    body = {"model": fleet["m3"].name, "input": [SPARSE], "outputs": KINDS}
    accept, encoding = (MSGPACK, "list") if form == "msgpack" else ("*/*", form)
    reply = _ask(fleet_url, accept=accept, **body, encoding=encoding)
    told = msgspec.msgpack.decode(reply.content) if form == "msgpack" else reply.json()
    dense, sparse, multi = (told[kind] for kind in KINDS)

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


@pytest.mark.parametrize(
    ("body", "wanted"),
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
def test_every_wish_reaches_the_model(
    fleet: dict[str, Any], fleet_url: str, body: dict[str, Any], wanted: dict[str, Any]
) -> None:
    found = _dense(fleet_url, input="cat", **body)
    np.testing.assert_array_equal(found, fleet["tiny"].encode(["cat"], **wanted).data)
    if "normalize" not in body:
        assert found.shape != (1, 32) or (found != fleet["tiny"].encode(["cat"]).data).any()


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
        found = np.stack(table.column("vector").to_numpy())
        ranges = json.loads(facts.get(b"ranges", b"null"))
        assert (table.column("tokens").to_pylist(), table.column("dropped").to_pylist()) == ([3], [0])
    elif form == "msgpack":
        told = msgspec.msgpack.decode(_ask(fleet_url, accept=MSGPACK, **body).content)["dense"]
        found, ranges = _array(told["data"]), told.get("ranges")
        ranges = None if ranges is None else _array(ranges)
    else:
        told = _ask(fleet_url, **body, encoding=form).json()["dense"]
        assert (told["dtype"], told["dimensions"], told["shape"]) == (dtype, 32, list(expected.data.shape))
        ranges, rows = told.get("ranges"), told["data"]
        found = np.array(
            [np.frombuffer(base64.b64decode(row), expected.dtype) if form == "base64" else row for row in rows]
        )
        found = found.astype(expected.dtype)
    np.testing.assert_array_equal(found, expected.data)
    assert found.dtype == expected.dtype
    if expected.ranges is None:
        assert ranges is None
    else:
        np.testing.assert_array_equal(np.array(ranges, np.float32), expected.ranges)


def test_late_chunking(fleet: dict[str, Any], fleet_url: str) -> None:
    documents = [["the cat sat. ", "a blue dog. "], ["hello world"]]
    told = _ask(fleet_url, model="tiny", documents=documents).json()
    expected = fleet["tiny"].encode_late(documents)
    np.testing.assert_allclose(
        np.array(told["dense"]["data"], np.float32), np.concatenate([part.data for part in expected]), atol=1e-6
    )
    assert told["documents"] == [2, 1]
    assert told["tokens"] == [int(count) for part in expected for count in part.tokens]
    table = arrow.ipc.open_stream(_ask(fleet_url, accept=ARROW, model="tiny", documents=documents).content).read_all()
    assert table.column("document").to_pylist() == [0, 0, 1]


def test_the_first_model_that_fits_answers(fleet: dict[str, LoadedModel], fleet_url: str) -> None:
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
    ("accept", "given"),
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
def test_accept_names_the_form(fleet_url: str, accept: str, given: str) -> None:
    assert _ask(fleet_url, accept=accept, model="tiny", input="cat").headers["content-type"] == given


def test_forms_that_there_are_not(fleet_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_bad_wishes(fleet_url: str, body: dict[str, Any], param: str, words: str) -> None:
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
    found = _dense(fleet_url, input=texts)
    np.testing.assert_allclose(found, np.tile(fleet["tiny"].encode(["cat", "dog"]).data, (1500, 1)), atol=1e-6)


@pytest.mark.parametrize("accept", ["*/*", MSGPACK])
def test_rank(fleet: dict[str, Any], fleet_url: str, accept: str) -> None:
    documents = ["a blue dog", "the cat sat", LONG]
    body = {"model": fleet["reranker"].name, "query": "cat", "documents": documents}
    reply = _ask(fleet_url, "/rank", accept, **body, return_documents=True)
    told = msgspec.msgpack.decode(reply.content) if accept == MSGPACK else reply.json()
    expected = fleet["reranker"].rank("cat", documents)
    assert [each["index"] for each in told["results"]] == [each.index for each in expected]
    assert [each["score"] for each in told["results"]] == pytest.approx([each.score for each in expected])
    assert [each["document"] for each in told["results"]] == [documents[each.index] for each in expected]
    assert told["dropped"][:2] == [0, 0]
    assert told["dropped"][2] > 0
    assert told["usage"]["tokens"] == sum(told["tokens"])
    best = _ask(fleet_url, "/rank", **body, top_k=1, activation="identity").json()["results"]
    raw = fleet["reranker"].score("cat", documents, activation="identity").data
    assert [each["index"] for each in best] == [expected[0].index]
    assert best[0]["score"] == pytest.approx(raw.max())
    assert "document" not in best[0]


def test_rank_by_late_interaction(fleet: dict[str, Any], fleet_url: str) -> None:
    body = {"model": fleet["m3"].name, "query": "cat", "documents": ["dog", "cat"]}
    told = _ask(fleet_url, "/rank", **body).json()["results"]
    query = fleet["m3"].encode(["cat"], outputs="multivector", role="query").multivector
    documents = fleet["m3"].encode(["dog", "cat"], outputs="multivector", role="document").multivector
    scores = query.similarity(documents)[0]
    assert [each["index"] for each in told] == [1, 0]
    assert [each["score"] for each in told] == pytest.approx(sorted(scores.tolist(), reverse=True))
    assert _refusal(fleet_url, "/rank", **body, activation="sigmoid")["param"] == "activation"


@pytest.mark.parametrize("accept", ["*/*", MSGPACK])
@pytest.mark.parametrize("texts", [["a blue dog", "the cat sat"], [("cat", "dog"), ("a", "b")]])
def test_classify(fleet: dict[str, Any], fleet_url: str, accept: str, texts: list[Any]) -> None:
    reply = _ask(fleet_url, "/classify", accept, model=fleet["classifier"].name, input=texts)
    told = msgspec.msgpack.decode(reply.content) if accept == MSGPACK else reply.json()
    expected = fleet["classifier"].predict(texts)
    assert told["labels"] == list(fleet["classifier"].labels)
    assert [each["label"] for each in told["results"]] == [each.label for each in expected]
    assert [each["score"] for each in told["results"]] == pytest.approx([each.score for each in expected])
    np.testing.assert_allclose(np.array(told["scores"]), [list(each.scores.values()) for each in expected], rtol=1e-6)
    assert len(told["tokens"]) == len(told["dropped"]) == 2


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
