"""The official Voyage client, over a real socket."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import voyageai
from PIL import Image

from nearfield.encoder import Encoder
from nearfield.reranker import Reranker
from nearfield.server.dialects import voyage
from nearfield.testing import tiny_encoder
from tests.support.serving import serving

pytestmark = pytest.mark.network

TEXTS = ["the cat sat on the mat", "a blue dog", "hello world"]
CHUNKS = ["the cat sat on the mat. ", "a blue dog. ", "hello world"]
LONG = "cat " * 100
#: Fields that the client sends with every request, even as null.
DEFAULT_FIELDS = {"truncation": True, "input_type": None, "output_dtype": None, "output_dimension": None}
NUMPY = {"float": np.float32, "int8": np.int8, "uint8": np.uint8, "binary": np.int8, "ubinary": np.uint8}


@pytest.fixture(scope="module")
def client(fleet_url: str) -> voyageai.Client:
    return voyageai.Client(api_key="none", base_url=fleet_url + "/v1")


def _embed_one(client: voyageai.Client, text: str, **options: Any) -> Any:
    return np.array(client.embed([text], model="tiny", **options).embeddings[0])


def test_vectors_equal_the_encoder_s(client: voyageai.Client, tiny: Encoder) -> None:
    for text in TEXTS:
        np.testing.assert_array_equal(_embed_one(client, text).astype(np.float32), np.asarray(tiny.encode(text)))
    reply = client.embed(TEXTS, model="tiny")
    np.testing.assert_allclose(np.array(reply.embeddings, np.float32), np.asarray(tiny.encode(TEXTS)), atol=1e-6)
    assert reply.total_tokens == sum(len(tokens.ids) for tokens in tiny.tokenize(TEXTS))


@pytest.mark.parametrize("dtype", NUMPY)
def test_each_dtype_in_base64_and_in_lists(client: voyageai.Client, fleet_url: str, tiny: Encoder, dtype: str) -> None:
    precision = "float32" if dtype == "float" else dtype
    expected = tiny.encode([TEXTS[0]], precision=precision).data
    coded = np.array(client.embed([TEXTS[0]], model="tiny", output_dtype=dtype).embeddings).astype(NUMPY[dtype])
    np.testing.assert_array_equal(coded, expected)
    body = {**DEFAULT_FIELDS, "model": "tiny", "input": TEXTS[0], "output_dtype": dtype}
    reply = httpx.post(fleet_url + "/v1/embeddings", json=body).json()
    np.testing.assert_array_equal(np.array([reply["data"][0]["embedding"]], NUMPY[dtype]), expected)
    raw = httpx.post(fleet_url + "/v1/embeddings", json={**body, "encoding_format": "base64"}).json()
    assert base64.b64decode(raw["data"][0]["embedding"]) == expected.tobytes()
    assert (reply["object"], reply["model"]) == ("list", "tiny")
    assert set(reply["usage"]) == {"total_tokens"}


def test_bits_are_offset_and_bytes_have_one_scale(client: voyageai.Client, tiny: Encoder) -> None:
    plain = np.asarray(tiny.encode(TEXTS[0]))
    bits = _embed_one(client, TEXTS[0], output_dtype="ubinary")
    np.testing.assert_array_equal(bits, np.packbits(plain > 0))
    np.testing.assert_array_equal(_embed_one(client, TEXTS[0], output_dtype="binary"), bits.astype(int) - 128)
    alone = client.embed([TEXTS[0]], model="tiny", output_dtype="int8").embeddings[0]
    among = client.embed(TEXTS, model="tiny", output_dtype="int8").embeddings[0]
    np.testing.assert_allclose(
        alone, among, atol=1
    )  # the scale does not depend on the batch: they differ by rounding at most
    values = np.array(alone, np.float32) + 0.5
    assert float(values @ plain / np.linalg.norm(values) / np.linalg.norm(plain)) > 0.999


def test_input_types_are_the_model_s_prompts(client: voyageai.Client, tiny: Encoder) -> None:
    query, document = (_embed_one(client, "cat", input_type=kind).astype(np.float32) for kind in ("query", "document"))
    np.testing.assert_array_equal(query, np.asarray(tiny.encode_query("cat")))
    np.testing.assert_array_equal(document, np.asarray(tiny.encode_document("cat")))
    assert np.abs(query - document).max() > 0.01
    with pytest.raises(voyageai.error.InvalidRequestError, match="input_type"):
        client.embed(["cat"], model="tiny", input_type="passage")


def test_truncation_is_the_default_and_can_be_refused(client: voyageai.Client, fleet_url: str, tiny: Encoder) -> None:
    np.testing.assert_array_equal(_embed_one(client, LONG).astype(np.float32), np.asarray(tiny.encode(LONG)))
    truncated = httpx.post(fleet_url + "/v1/embeddings", json={**DEFAULT_FIELDS, "model": "tiny", "input": [LONG]})
    assert truncated.headers["x-nearfield-truncated-tokens"] == "38"
    with pytest.raises(voyageai.error.InvalidRequestError, match="64"):
        client.embed([LONG], model="tiny", truncation=False)


def test_dimensions(tmp_path: Path) -> None:
    with tiny_encoder(tmp_path / "short", precision="float32") as encoder:
        object.__setattr__(encoder.recipe, "matryoshka", (8, 16, 32))
        with serving([encoder]) as base:
            client = voyageai.Client(api_key="none", base_url=base + "/v1")
            vectors = client.embed(["cat"], model="short", output_dimension=8).embeddings
            bits = client.embed(["cat"], model="short", output_dimension=8, output_dtype="ubinary").embeddings
            with pytest.raises(voyageai.error.InvalidRequestError, match="33"):
                client.embed(["cat"], model="short", output_dimension=33)
        expected = encoder.encode(["cat"], truncate_dim=8)
        np.testing.assert_array_equal(np.array(vectors, np.float32), expected.data)
        np.testing.assert_array_equal(bits, encoder.encode(["cat"], truncate_dim=8, precision="ubinary").data)


def test_rerank(client: voyageai.Client, fleet: dict[str, Any]) -> None:
    reranker: Reranker = fleet["reranker"]
    every = client.rerank("cat", TEXTS, model=reranker.name, top_k=None)
    expected = reranker.rank("cat", TEXTS, activation="sigmoid")
    assert [result.index for result in every.results] == [result.index for result in expected]
    assert [result.document for result in every.results] == [TEXTS[result.index] for result in expected]
    scores = [result.relevance_score for result in every.results]
    np.testing.assert_allclose(scores, [result.score for result in expected], rtol=1e-5)
    assert len(set(scores)) == 3 and all(0 < score < 1 for score in scores)
    assert every.total_tokens == int(np.asarray(reranker.score("cat", TEXTS).tokens).sum())
    best = client.rerank("cat", TEXTS, model=reranker.name, top_k=1)
    assert [result.index for result in best.results] == [expected[0].index]
    with pytest.raises(voyageai.error.InvalidRequestError, match="tokens"):
        client.rerank("cat", [LONG], model=reranker.name, truncation=False)
    with pytest.raises(voyageai.error.InvalidRequestError, match="no reranker"):
        client.rerank("cat", TEXTS, model="tiny")


def test_rerank_returns_documents_on_request(fleet_url: str, fleet: dict[str, Any]) -> None:
    body = {"query": "cat", "documents": TEXTS, "model": fleet["reranker"].name, "top_k": 2}
    plain = httpx.post(fleet_url + "/v1/rerank", json=body).json()
    assert set(plain) == {"object", "data", "model", "usage"}
    assert [set(result) for result in plain["data"]] == [{"index", "relevance_score"}] * 2
    reply = httpx.post(fleet_url + "/v1/rerank", json={**body, "return_documents": True}).json()
    assert [result["document"] for result in reply["data"]] == [TEXTS[result["index"]] for result in plain["data"]]


def test_contextualized_chunks_are_pooled_late(client: voyageai.Client, tiny: Encoder) -> None:
    reply = client.contextualized_embed([CHUNKS, ["a dog"]], model="tiny", input_type="document")
    expected = tiny.encode_late([CHUNKS, ["a dog"]], role="document")
    assert [result.index for result in reply.results] == [0, 1]
    for result, vectors in zip(reply.results, expected, strict=True):
        np.testing.assert_allclose(np.array(result.embeddings, np.float32), vectors.data, atol=1e-6)
    assert reply.total_tokens == sum(int(vectors.tokens.sum()) for vectors in expected if vectors.tokens is not None)
    alone = client.contextualized_embed([CHUNKS], model="tiny").results[0]
    np.testing.assert_array_equal(np.array(alone.embeddings, np.float32), tiny.encode_late([CHUNKS])[0].data)
    plain = np.asarray(tiny.encode(CHUNKS))
    assert np.abs(np.array(alone.embeddings) - plain).max() > 0.01


def test_contextualized_dtypes_queries_and_chunks_of_the_client(client: voyageai.Client, tiny: Encoder) -> None:
    bits = client.contextualized_embed([CHUNKS], model="tiny", output_dtype="binary").results[0]
    np.testing.assert_array_equal(bits.embeddings, tiny.encode_late([CHUNKS], precision="binary")[0].data)
    query = client.contextualized_embed(["cat"], model="tiny", input_type="query").results[0]
    expected = tiny.encode_late([["cat"]], role="query")[0].data
    np.testing.assert_array_equal(np.array(query.embeddings, np.float32), expected)
    truncated = client.contextualized_embed(
        [["".join(CHUNKS)]], model="tiny", chunk_fn=lambda text: re.split("(?<=[.] )", text)
    )
    assert truncated.results[0].chunk_texts == CHUNKS
    np.testing.assert_array_equal(
        np.array(truncated.results[0].embeddings, np.float32), tiny.encode_late([CHUNKS])[0].data
    )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [([[]], "inputs|input"), ([CHUNKS, []], "Document 1"), ([["cat", ""]], "Chunk 1"), ([[LONG]], "64")],
)
def test_contextualized_inputs_that_cannot_be_pooled(client: voyageai.Client, inputs: Any, message: str) -> None:
    with pytest.raises(voyageai.error.InvalidRequestError, match=message):
        client.contextualized_embed(inputs, model="tiny")
    with pytest.raises(voyageai.error.InvalidRequestError, match="enable_auto_chunking"):
        client.contextualized_embed([LONG], model="tiny", input_type="document", enable_auto_chunking=True)


def test_multimodal_inputs_of_text(client: voyageai.Client, fleet_url: str, tiny: Encoder) -> None:
    reply = client.multimodal_embed([["the cat ", "sat"]], model="tiny", input_type="document")
    expected = tiny.encode_document(["the cat sat"])
    np.testing.assert_array_equal(np.array(reply.embeddings, np.float32), expected.data)
    assert (reply.text_tokens, reply.image_pixels, reply.video_pixels) == (int(expected.tokens.sum()), 0, 0)
    assert reply.total_tokens == reply.text_tokens
    body = {"model": "tiny", "inputs": [{"content": [{"type": "text", "text": "cat"}]}]}
    plain = httpx.post(fleet_url + "/v1/multimodalembeddings", json=body).json()["data"][0]["embedding"]
    np.testing.assert_array_equal(np.array(plain, np.float32), np.asarray(tiny.encode("cat")))
    body["output_encoding"] = "base64"  # the reference's name of the client's encoding_format
    coded = httpx.post(fleet_url + "/v1/multimodalembeddings", json=body).json()["data"][0]["embedding"]
    assert base64.b64decode(coded) == np.array(plain, np.float32).tobytes()


def test_images_are_refused_by_name(client: voyageai.Client) -> None:
    with pytest.raises(voyageai.error.InvalidRequestError, match="reads texts, and an input is a picture"):
        client.multimodal_embed([["cat"], [Image.new("RGB", (4, 4))]], model="tiny")
    with pytest.raises(voyageai.error.InvalidRequestError, match="reads texts, and an input is a picture"):
        client.multimodal_embed([["cat"], ["cat", Image.new("RGB", (4, 4))]], model="tiny")
    film = [{"content": [{"type": "video_url", "video_url": "https://example.org/film.mp4"}]}]
    with pytest.raises(voyageai.error.InvalidRequestError, match="reads texts, and an input is a video"):
        client.multimodal_embed(film, model="tiny")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"input": []}, "input is empty"),
        ({"input": [3]}, "input"),
        ({"input": "cat", "output_dtype": "int4"}, "int4"),
        ({"input": "cat", "encoding_format": "hex"}, "hex"),
        ({"input": "cat", "output_dimension": 0}, "output_dimension"),
    ],
)
def test_errors_have_detail_only(fleet_url: str, body: dict[str, Any], text: str) -> None:
    reply = httpx.post(fleet_url + "/v1/embeddings", json={**DEFAULT_FIELDS, "model": "tiny", **body})
    assert reply.status_code == 400
    assert list(reply.json()) == ["detail"] and text in reply.json()["detail"]


def test_errors_raise_the_client_s_classes(tiny: Encoder, fleet: dict[str, Any]) -> None:
    with serving([tiny, fleet["reranker"]], api_keys=["right"]) as base:
        stranger = voyageai.Client(api_key="wrong", base_url=base + "/v1")
        calls: tuple[Callable[[Any, str], Any], ...] = (
            lambda client, model: client.embed(["cat"], model=model),
            lambda client, model: client.rerank("cat", ["dog"], model=model),
            lambda client, model: client.contextualized_embed([["cat"]], model=model),
            lambda client, model: client.multimodal_embed([["cat"]], model=model),
        )
        for call in calls:
            with pytest.raises(voyageai.error.AuthenticationError, match="Incorrect API key") as denied:
                call(stranger, "tiny")
            assert list(denied.value.json_body) == ["detail"]
        known = voyageai.Client(api_key="right", base_url=base + "/v1")
        assert known.embed(["cat"], model="tiny").embeddings
        for call in calls:
            with pytest.raises(voyageai.error.APIError, match="'none' is not served") as lost:
                call(known, "none")
            assert lost.value.http_status == 404
            assert list(lost.value.json_body) == ["detail"]


def test_replies_are_as_documented(fleet_url: str, fleet: dict[str, Any]) -> None:
    rank = {"query": "cat", "documents": TEXTS, "model": fleet["reranker"].name, "top_k": 2, "return_documents": True}
    parts = [{"content": [{"type": "text", "text": "cat"}]}]
    calls: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        ("embeddings", voyage.VoyageEmbeddingReply, {**DEFAULT_FIELDS, "input": TEXTS}),
        ("embeddings", voyage.VoyageError, {**DEFAULT_FIELDS, "input": 3}),
        ("multimodalembeddings", voyage.VoyageEmbeddingReply, {"inputs": parts}),
        ("contextualizedembeddings", voyage.VoyageContextualizedReply, {"inputs": [CHUNKS, ["cat"]]}),
        ("rerank", voyage.VoyageRerankReply, rank),
    )
    for path, kind, body in calls:
        reply = httpx.post(f"{fleet_url}/v1/{path}", json={"model": "tiny", **body}).json()
        assert msgspec.to_builtins(msgspec.convert(reply, kind)) == reply, "no field is left out, and none is unknown"


async def test_the_asynchronous_client(fleet_url: str, tiny: Encoder, fleet: dict[str, Any]) -> None:
    client = voyageai.AsyncClient(api_key="none", base_url=fleet_url + "/v1")
    reply = await client.embed(["cat"], model="tiny", input_type="query")
    np.testing.assert_array_equal(np.array(reply.embeddings[0], np.float32), np.asarray(tiny.encode_query("cat")))
    ranked = await client.rerank("cat", TEXTS, model=fleet["reranker"].name, top_k=1)
    assert [result.index for result in ranked.results] == [fleet["reranker"].rank("cat", TEXTS)[0].index]
    late = await client.contextualized_embed([CHUNKS], model="tiny")
    np.testing.assert_array_equal(np.array(late.results[0].embeddings, np.float32), tiny.encode_late([CHUNKS])[0].data)
    with pytest.raises(voyageai.error.InvalidRequestError):
        await client.embed([], model="tiny")


@pytest.fixture(scope="module", autouse=True)
def _sockets() -> Iterator[None]:
    """Close the sessions that the client holds for the life of its thread."""
    yield
    session = getattr(voyageai.api_resources.api_requestor._thread_context, "session", None)
    if session is not None:
        session.close()
