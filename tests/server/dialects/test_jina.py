"""Jina's API, which has no official client: plain HTTP, over a real socket."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import openai
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.recipe import EncodeTask
from nearfield.reranker import Reranker
from nearfield.server.dialects.jina import schemas as jina
from nearfield.testing import tiny_encoder
from tests.support.serving import serving

pytestmark = pytest.mark.network

TEXTS = ["the cat sat on the mat", "a blue dog", "hello world"]
CHUNKS = ["the cat sat on the mat. ", "a blue dog. ", "hello world"]
LONG = "cat " * 100


def _ask(url: str, path: str = "/v1/embeddings", **body: Any) -> httpx.Response:
    return httpx.post(url + path, json={"model": "tiny", **body})


def _vectors(reply: httpx.Response, kind: Any = np.float32) -> Any:
    assert reply.status_code == 200, reply.text
    data = reply.json()["data"]
    assert [item["index"] for item in data] == list(range(len(data)))
    assert {item["object"] for item in data} == {"embedding"}
    return np.array([item["embedding"] for item in data], kind)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])
def test_texts_and_objects(fleet_url: str, tiny: Encoder, path: str) -> None:
    expected = np.asarray(tiny.encode([TEXTS[0]]))
    for value in (TEXTS[0], [TEXTS[0]], [{"text": TEXTS[0]}]):
        np.testing.assert_array_equal(_vectors(_ask(fleet_url, path, input=value, normalized=True)), expected)
    mixed = _ask(fleet_url, path, input=[TEXTS[0], {"text": TEXTS[1]}])
    np.testing.assert_allclose(_vectors(mixed), np.asarray(tiny.encode(TEXTS[:2])), atol=1e-6)
    assert list(mixed.json()) == ["model", "object", "usage", "data"]
    read = sum(len(tokens.ids) for tokens in tiny.tokenize(TEXTS[:2]))
    assert mixed.json()["usage"] == {"total_tokens": read, "prompt_tokens": read}
    assert (mixed.json()["model"], mixed.json()["object"]) == ("tiny", "list")


def test_tasks_are_roles(fleet_url: str, tiny: Encoder) -> None:
    replies = {
        "retrieval.query": tiny.encode_query(["cat"]),
        "retrieval.passage": tiny.encode_document(["cat"]),
        "code.query": tiny.encode_query(["cat"]),
        "text-matching": tiny.encode(["cat"]),
        "classification": tiny.encode(["cat"]),
    }
    for task, expected in replies.items():
        np.testing.assert_array_equal(_vectors(_ask(fleet_url, input="cat", task=task)), expected.data)
    assert np.abs(replies["retrieval.query"].data - replies["retrieval.passage"].data).max() > 0.01
    wrong = _ask(fleet_url, input="cat", task="text-matchin")
    assert wrong.status_code == 422
    assert "Did you mean 'text-matching'" in wrong.json()["detail"]
    assert [problem["field"] for problem in wrong.json()["errors"]] == ["task"]


def test_tasks_of_the_model(tmp_path: Path) -> None:
    prompts = {"query": "search: ", "classification": "red "}
    with tiny_encoder(tmp_path / "tasks", prompts=prompts, precision="float32") as encoder:
        tasks = {"retrieval.query": EncodeTask("blue "), "text-matching": EncodeTask("the ")}
        object.__setattr__(encoder.recipe, "tasks", tasks)
        with serving([encoder]) as url:
            for task, prompt in (("retrieval.query", "blue "), ("text-matching", "the "), ("classification", "red ")):
                vectors = _vectors(_ask(url, model="tasks", input="cat", task=task))
                np.testing.assert_array_equal(vectors, encoder.encode(["cat"], prompt=prompt).data)
            plain = _vectors(_ask(url, model="tasks", input="cat", task="separation"))
            np.testing.assert_array_equal(plain, encoder.encode(["cat"], prompt="").data)


@pytest.mark.parametrize("field", ["embedding_type", "encoding_type"])
def test_embedding_types(fleet_url: str, tiny: Encoder, field: str) -> None:
    plain = np.asarray(tiny.encode([TEXTS[0]]))
    np.testing.assert_array_equal(_vectors(_ask(fleet_url, input=TEXTS[0], **{field: "float"})), plain)
    coded = _ask(fleet_url, input=TEXTS[0], **{field: "base64"}).json()["data"][0]["embedding"]
    assert base64.b64decode(coded) == plain.astype("<f4").tobytes()
    bits = _vectors(_ask(fleet_url, input=TEXTS[0], **{field: "ubinary"}), np.int64)
    np.testing.assert_array_equal(bits, np.packbits(plain > 0, axis=1))
    offset = _vectors(_ask(fleet_url, input=TEXTS[0], **{field: "binary"}), np.int64)
    np.testing.assert_array_equal(offset, bits - 128)
    # As LlamaIndex reads them.
    np.testing.assert_array_equal(np.unpackbits((offset[0] + 128).astype(np.uint8)), plain[0] > 0)
    wrong: Any
    for wrong in ("int4", ["float", "binary"]):
        assert _ask(fleet_url, input="cat", **{field: wrong}).status_code == 422


def test_the_openai_client_gets_bits_as_numbers(fleet_url: str, tiny: Encoder) -> None:
    with openai.OpenAI(base_url=fleet_url + "/v1", api_key="none") as client:
        reply = client.embeddings.create(model="tiny", input=[TEXTS[0]], extra_body={"embedding_type": "binary"})
        np.testing.assert_array_equal(reply.data[0].embedding, tiny.encode([TEXTS[0]], precision="binary").data[0])
        plain = client.embeddings.create(model="tiny", input=["cat"], extra_body={"task": "retrieval.query"})
    np.testing.assert_array_equal(np.array(plain.data[0].embedding, np.float32), np.asarray(tiny.encode_query("cat")))


@pytest.mark.slow
def test_normalized(tmp_path: Path) -> None:
    with tiny_encoder(tmp_path / "long", precision="float32") as encoder:
        object.__setattr__(encoder.recipe, "modules", encoder.recipe.modules[:1])
        with serving([encoder]) as url:
            short, whole = (
                _vectors(_ask(url, model="long", input=TEXTS, normalized=normalized)) for normalized in (True, False)
            )
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(short, whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-5)


def test_dimensions(tmp_path: Path, fleet_url: str) -> None:
    refused = _ask(fleet_url, input="cat", task="separation", dimensions=8)
    assert refused.status_code == 422 and "was not trained" in refused.json()["detail"]
    assert refused.json()["error"]["param"] == "dimensions"
    with tiny_encoder(tmp_path / "short", precision="float32") as encoder:
        object.__setattr__(encoder.recipe, "matryoshka", (8, 16, 32))
        with serving([encoder]) as url:
            vectors = _vectors(_ask(url, model="short", input="cat", task="separation", dimensions=8))
        np.testing.assert_array_equal(vectors, encoder.encode(["cat"], truncate_dim=8).data)


def test_too_long_is_refused_unless_truncate_is_true(fleet_url: str, tiny: Encoder) -> None:
    for more in ({"task": "text-matching"}, {"truncate": False}):
        refused = _ask(fleet_url, input=LONG, **more)
        assert refused.status_code == 400
        body = refused.json()
        assert body["code"] == body["error"]["code"] == "INPUT_TOKEN_LIMIT_EXCEEDED"
        assert isinstance(body["detail"], str) and "64" in body["detail"]
    truncated = _ask(fleet_url, input=LONG, truncate=True)
    np.testing.assert_array_equal(_vectors(truncated), tiny.encode([LONG]).data)
    assert truncated.headers["x-nearfield-truncated-tokens"] == "38"


def test_a_truncate_that_is_text_is_openai_s(fleet_url: str, tiny: Encoder) -> None:
    mixed = "dog " * 40 + "cat " * 40
    np.testing.assert_array_equal(
        _vectors(_ask(fleet_url, input=mixed, truncate="left")), tiny.encode([mixed], truncate="left").data
    )


def test_late_chunking(fleet_url: str, tiny: Encoder) -> None:
    vectors = _vectors(_ask(fleet_url, input=CHUNKS, late_chunking=True))
    np.testing.assert_array_equal(vectors, tiny.encode_late([CHUNKS])[0].data)
    assert np.abs(vectors - np.asarray(tiny.encode(CHUNKS))).max() > 0.01
    passage = _vectors(_ask(fleet_url, input=CHUNKS, late_chunking=True, task="retrieval.passage"))
    np.testing.assert_array_equal(passage, tiny.encode_late([CHUNKS], role="document")[0].data)
    bits = _vectors(_ask(fleet_url, input=CHUNKS, late_chunking=True, embedding_type="binary"), np.int64)
    np.testing.assert_array_equal(bits, tiny.encode_late([CHUNKS], precision="binary")[0].data)
    plain = _vectors(_ask(fleet_url, input=TEXTS[0], late_chunking=False))
    np.testing.assert_array_equal(plain, tiny.encode([TEXTS[0]]).data)
    long = _ask(fleet_url, input=[LONG, "dog"], late_chunking=True)
    assert (long.status_code, long.json()["code"]) == (400, "INPUT_TOKEN_LIMIT_EXCEEDED")
    for empty in ([], ["cat", " "]):
        assert _ask(fleet_url, input=empty, late_chunking=True).status_code == 422


def test_late_chunking_has_the_limits_of_any_request(tiny: Encoder) -> None:
    with serving([tiny], max_items=2, max_request_tokens=8) as url:
        assert _ask(url, input=["a ", "b ", "c"], late_chunking=True).status_code == 413
        many = _ask(url, input=["cat " * 5, "dog " * 5], late_chunking=True)
        assert many.status_code == 413 and "12 tokens" in many.json()["detail"]
        assert _ask(url, input=["cat ", "dog"], late_chunking=True).status_code == 200


async def test_late_chunking_without_blocking(tiny: Encoder, fleet: dict[str, Any]) -> None:
    chunks = [CHUNKS, ["a dog ", "and a cat"]]
    for vectors, expected in zip(await tiny.aencode_late(chunks), tiny.encode_late(chunks), strict=True):
        np.testing.assert_array_equal(vectors.data, expected.data)
        assert vectors.fingerprint == expected.fingerprint
    assert await tiny.aencode_late([]) == []
    with pytest.raises(InputError, match="64"):
        await tiny.aencode_late([["the " * 9000, "cat"]])


def test_multivectors(fleet_url: str, fleet: dict[str, Any]) -> None:
    m3: Encoder = fleet["m3"]
    reply = _ask(fleet_url, model=m3.name, input=[TEXTS[0]], return_multivector=True)
    expected = m3.encode([TEXTS[0]], outputs="multivector").multivector
    (item,) = reply.json()["data"]
    assert (item["object"], item["index"], set(item)) == ("embeddings", 0, {"object", "index", "embeddings"})
    np.testing.assert_array_equal(np.array(item["embeddings"], np.float32), expected[0])
    both = _ask(fleet_url, model=m3.name, input=TEXTS, return_multivector=True).json()["data"]
    assert [len(entry["embeddings"]) for entry in both] == [
        len(rows) for rows in m3.encode(TEXTS, outputs="multivector")["multivector"]
    ]
    for more in ({"dimensions": 8}, {"late_chunking": True}, {"embedding_type": "binary"}):
        refused = _ask(fleet_url, model=m3.name, input="cat", return_multivector=True, **more)
        assert refused.status_code == 422
        assert [entry["field"] for entry in refused.json()["errors"]] == list(more)
    assert "multivector" in _ask(fleet_url, input="cat", return_multivector=True).json()["detail"]


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"image": "https://example.org/cat.png"}, "reads texts, and an input is a picture"),
        ({"pdf": "JVBERi0="}, "input 1 contains a pdf"),
        ({"url": "https://example.org/cat.png"}, "reads texts, and an input is a picture"),
        ({}, "input 1 has no text"),
    ],
)
def test_media_are_refused_by_name(fleet_url: str, item: dict[str, Any], text: str) -> None:
    reply = _ask(fleet_url, input=["cat", item])
    assert reply.status_code == 422
    assert text in reply.json()["detail"]


def test_errors_suit_each_client(tiny: Encoder) -> None:
    with serving([tiny], api_keys=["right"]) as url:
        body = {"input": "cat", "task": "text-matching"}
        denied = _ask(url, **body)
        assert denied.status_code == 401
        known = {"Authorization": "Bearer right"}
        lost = httpx.post(url + "/v1/embeddings", json={**body, "model": "none"}, headers=known)
        assert lost.status_code == 404
        bad = httpx.post(url + "/v1/embeddings", json={**body, "model": "tiny", "input": 3}, headers=known)
        assert bad.status_code == 422
    for reply in (denied, lost, bad):
        payload = reply.json()
        assert payload["detail"] == payload["message"] == payload["error"]["message"]
        assert isinstance(payload["detail"], str)
        assert payload["code"] == payload["error"]["code"]
    assert bad.json()["errors"] == [{"field": "input", "message": bad.json()["detail"], "type": "invalid_value"}]


def test_rerank(fleet_url: str, fleet: dict[str, Any]) -> None:
    reranker: Reranker = fleet["reranker"]
    expected = reranker.rank("cat", TEXTS, activation="sigmoid")
    reply = _ask(fleet_url, "/v1/rerank", model=reranker.name, query="cat", documents=TEXTS).json()
    assert reply["results"] == reply["data"]
    assert [result["index"] for result in reply["results"]] == [result.index for result in expected]
    scores = np.array([result["relevance_score"] for result in reply["results"]], np.float32)
    np.testing.assert_allclose(scores, [result.score for result in expected], rtol=1e-5)
    assert ((scores > 0) & (scores < 1)).all()
    assert [result["document"] for result in reply["results"]] == [TEXTS[result.index] for result in expected]
    read = int(np.asarray(reranker.score("cat", TEXTS).tokens).sum())
    assert reply["usage"] == {"total_tokens": read, "prompt_tokens": read}
    assert (reply["model"], reply["object"]) == (reranker.name, "list")


def test_rerank_as_infinity(fleet_url: str, fleet: dict[str, Any]) -> None:
    reranker: Reranker = fleet["reranker"]

    def ask(**more: Any) -> Any:
        body = {"model": reranker.name, "query": "cat", "documents": TEXTS, **more}
        return _ask(fleet_url, "/rerank", **body).json()

    plain, whole, raw = ask(), ask(return_documents=True), ask(raw_scores=True, top_n=2)
    assert (plain["object"], plain["usage"]) == ("rerank", whole["usage"])
    assert plain["results"] == plain["data"]
    assert all(set(result) == {"index", "relevance_score"} for result in plain["results"])
    assert [result["document"] for result in whole["results"]] == [
        TEXTS[result["index"]] for result in plain["results"]
    ]
    for reply, activation in ((plain, "sigmoid"), (raw, "identity")):
        expected = reranker.rank("cat", TEXTS, activation=activation)[: len(reply["results"])]
        assert [result["index"] for result in reply["results"]] == [result.index for result in expected]
        np.testing.assert_allclose(
            [result["relevance_score"] for result in reply["results"]], [result.score for result in expected], rtol=1e-5
        )
    assert len(raw["results"]) == 2


def test_scores_lie_between_0_and_1_for_any_activation(
    fleet_url: str, fleet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker: Reranker = fleet["reranker"]
    monkeypatch.setattr(reranker, "_head", replace(reranker._head, activation="identity"))
    expected = reranker.rank("cat", TEXTS, activation="sigmoid")
    reply = _ask(fleet_url, "/v1/rerank", model=reranker.name, query="cat", documents=TEXTS).json()
    np.testing.assert_allclose(
        [result["relevance_score"] for result in reply["results"]], [result.score for result in expected], rtol=1e-5
    )
    assert [result.score for result in reranker.rank("cat", TEXTS)] != [result.score for result in expected]


@pytest.mark.slow
def test_rerank_options(fleet_url: str, fleet: dict[str, Any]) -> None:
    def ask(**more: Any) -> Any:
        return _ask(fleet_url, "/v1/rerank", **{"model": fleet["reranker"].name, "query": "cat", **more})

    best = fleet["reranker"].rank("cat", TEXTS)[0].index
    two = ask(documents=TEXTS, top_n=2, return_documents=False).json()["results"]
    assert [set(result) for result in two] == [{"index", "relevance_score"}] * 2
    assert two[0]["index"] == best
    items = [{"text": text, "id": number} for number, text in enumerate(TEXTS)]
    assert ask(documents=items, top_n=1).json()["results"][0]["document"] == items[best]
    assert len(ask(documents=TEXTS, top_n=99).json()["results"]) == 3
    read = [
        int(ask(documents=[LONG, "dog"], max_doc_length=max_tokens).json()["usage"]["total_tokens"])
        for max_tokens in (2, 20)
    ]
    assert read[1] - read[0] == 18
    assert ask(documents=TEXTS, max_doc_length=0).status_code == 422
    short = ask(documents=[LONG, "dog"])
    assert int(short.headers["x-nearfield-truncated-tokens"]) > 0
    for documents in ([], [{"image": "x"}], "cat", None):
        assert ask(documents=documents).status_code == 422
    assert ask(documents=TEXTS, top_n=0).status_code == 422
    assert ask(documents=TEXTS, model="tiny").status_code == 422
    first = httpx.post(fleet_url + "/v1/rerank", json={"query": "cat", "documents": TEXTS}).json()
    assert first["model"] in {fleet["m3"].name, fleet["reranker"].name}


def test_rerank_by_late_interaction(fleet_url: str, fleet: dict[str, Any]) -> None:
    m3: Encoder = fleet["m3"]
    results = _ask(fleet_url, "/v1/rerank", model=m3.name, query="cat", documents=TEXTS).json()["results"]
    query, documents = (
        m3.encode(texts, role=role, outputs="multivector")["multivector"]
        for texts, role in ((["cat"], "query"), (TEXTS, "document"))
    )
    expected = query.similarity(documents)[0]
    assert [result["index"] for result in results] == list(np.argsort(-expected))
    np.testing.assert_allclose(
        [result["relevance_score"] for result in results], sorted(expected, reverse=True), rtol=1e-5
    )


def test_replies_are_as_documented(fleet_url: str, fleet: dict[str, Any]) -> None:
    m3, reranker = fleet["m3"].name, fleet["reranker"].name
    for kind, reply in (
        (jina.JinaEmbeddingReply, _ask(fleet_url, input=TEXTS, task="separation")),
        (jina.JinaEmbeddingReply, _ask(fleet_url, input=TEXTS, embedding_type="base64")),
        (jina.JinaEmbeddingReply, _ask(fleet_url, model=m3, input=TEXTS, return_multivector=True)),
        (jina.JinaRerankReply, _ask(fleet_url, "/v1/rerank", model=reranker, query="cat", documents=TEXTS)),
        (jina.JinaError, _ask(fleet_url, input=3, task="separation")),
        (jina.JinaError, _ask(fleet_url, input=LONG, task="separation")),
    ):
        read: Any = msgspec.convert(reply.json(), kind)
        assert msgspec.to_builtins(read) == reply.json(), "no field is left out, and none is unknown"
