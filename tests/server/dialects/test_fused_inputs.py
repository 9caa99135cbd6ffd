"""A text and a picture in one input, through the APIs that have a form for it: one vector, the same through all."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from nearfield import Encoder, Reranker, catalog
from tests.support import tiny_multimodal
from tests.support.odd_pictures import encode, smooth
from tests.support.serving import serving

pytestmark = [pytest.mark.network, pytest.mark.slow]

FILES = [encode(smooth(90, 40, 1), "PNG"), encode(smooth(5, 7, 3), "PNG")]
CODES = [base64.b64encode(file).decode() for file in FILES]
URIS = [f"data:image/png;base64,{code}" for code in CODES]
TEXT = "a red fox"
CHAT_PARTS = [{"type": "text", "text": TEXT}, {"type": "image_url", "image_url": {"url": URIS[0]}}]
ENTRY = catalog.find("Qwen/Qwen3-VL-Reranker-2B")
assert ENTRY is not None and ENTRY.answer is not None
ANSWER = replace(ENTRY.answer, true="ed", false="er")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Encoder, Reranker]]:
    folder = tiny_multimodal.qwen3_vl_embedding(tmp_path_factory.mktemp("models") / "qwen")
    pairs = tiny_multimodal.qwen3_vl_embedding(tmp_path_factory.mktemp("models") / "reranker", modules=False)
    options: Any = {"precision": "float32", "compile_cache": False}
    with Encoder(str(folder), reproducible=True, **options) as encoder:
        encoder.load_towers()
        with Reranker(str(pairs), answer=ANSWER, **options) as reranker:
            yield encoder, reranker


@pytest.fixture(scope="module")
def url(models: tuple[Encoder, Reranker]) -> Iterator[str]:
    with serving(models, max_image_bytes=100_000, max_items=64) as base:
        yield base


@pytest.fixture(scope="module")
def vector(models: tuple[Encoder, Reranker]) -> Any:
    """The vector of the text and the first picture, as a model without a role gives it."""
    return np.asarray(models[0].encode({"text": TEXT, "image": FILES[0]}))


def rows_of_openai(body: Any) -> Any:
    return [item["embedding"] for item in body["data"]]


#: Path, body, and what finds the vectors in the reply.
FORMS: dict[str, tuple[str, dict[str, Any], Callable[[Any], Any]]] = {
    "native": (
        "/encode",
        {"model": "qwen", "input": [{"text": TEXT, "image": URIS[0]}]},
        lambda body: body["dense"]["data"],
    ),
    "native, a list of pictures": (
        "/encode",
        {"model": "qwen", "input": {"text": TEXT, "image": [CODES[0]]}},
        lambda body: body["dense"]["data"],
    ),
    "vllm": (
        "/v1/embeddings",
        {"model": "qwen", "messages": [{"role": "user", "content": CHAT_PARTS}]},
        rows_of_openai,
    ),
    "vllm, with a system message": (
        "/v1/embeddings",
        {
            "model": "qwen",
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "Represent the user's input."}]},
                {"role": "user", "content": CHAT_PARTS},
                {"role": "assistant", "content": [{"type": "text", "text": ""}]},
            ],
        },
        rows_of_openai,
    ),
    "voyage": (
        "/v1/multimodalembeddings",
        {
            "model": "qwen",
            "inputs": [
                {"content": [{"type": "text", "text": TEXT}, {"type": "image_base64", "image_base64": URIS[0]}]}
            ],
        },
        rows_of_openai,
    ),
    "cohere": (
        "/v2/embed",
        {
            "model": "qwen",
            "input_type": "search_document",
            "embedding_types": ["float"],
            "inputs": [{"content": CHAT_PARTS}],
        },
        lambda body: body["embeddings"]["float"],
    ),
    "jina": (
        "/v1/embeddings",
        {"model": "qwen", "input": [{"text": TEXT, "image": CODES[0]}]},
        rows_of_openai,
    ),
    "jina, content": (
        "/v1/embeddings",
        {"model": "qwen", "input": [{"content": [{"image": URIS[0]}, {"text": TEXT}]}]},
        rows_of_openai,
    ),
    "gemini": (
        "/v1beta/models/qwen:embedContent",
        {"content": {"parts": [{"text": TEXT}, {"inlineData": {"mimeType": "image/png", "data": CODES[0]}}]}},
        lambda body: [body["embedding"]["values"]],
    ),
    "sie": (
        "/v1/encode/qwen",
        {"items": [{"text": TEXT, "images": [{"data": CODES[0]}]}]},
        lambda body: [body["items"][0]["dense"]["values"]],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_parts_of_one_input_become_one_vector(url: str, vector: Any, form: str) -> None:
    path, body, rows = FORMS[form]
    reply = httpx.post(url + path, json=body, headers={"accept": "application/json"})
    assert reply.status_code == 200, reply.text
    np.testing.assert_array_equal(np.array(rows(reply.json()), np.float32), vector[None])


def test_usage_is_what_the_model_read(url: str, models: tuple[Encoder, Reranker]) -> None:
    vectors = models[0].encode([{"text": TEXT, "image": FILES}])
    assert vectors.tokens is not None
    body = {"model": "qwen", "input": {"text": TEXT, "image": URIS}}
    reply = httpx.post(url + "/encode", json=body).json()
    assert reply["tokens"] == vectors.tokens.tolist() and reply["usage"]["tokens"] == int(vectors.tokens.sum())
    parts = [{"type": "image_base64", "image_base64": uri} for uri in URIS]
    voyage = httpx.post(url + "/v1/multimodalembeddings", json={"model": "qwen", "inputs": [{"content": parts}]}).json()
    assert voyage["usage"]["image_pixels"] == 90 * 40 + 5 * 7


def test_documents_with_pictures_are_ranked(url: str, models: tuple[Encoder, Reranker]) -> None:
    documents: list[Any] = ["water", {"image": URIS[0]}, {"text": "a fox", "image": URIS[1]}]
    given: list[Any] = ["water", {"image": FILES[0]}, {"text": "a fox", "image": FILES[1]}]
    scores = np.asarray(models[1].score("a river", given))
    for path, results, score in (("/rank", "results", "score"), ("/v1/rerank", "results", "relevance_score")):
        body = {"model": "reranker", "query": "a river", "documents": documents}
        reply = httpx.post(url + path, json=body)
        assert reply.status_code == 200, reply.text
        found = {item["index"]: item[score] for item in reply.json()[results]}
        np.testing.assert_allclose([found[index] for index in range(3)], scores, atol=1e-5)


def test_bad_pictures_and_addresses_are_refused(url: str) -> None:
    for image, words in (("aGVsbG8=", "Input 0: "), ("https://example.com/a.png", "fetching is off")):
        reply = httpx.post(url + "/encode", json={"model": "qwen", "input": {"text": TEXT, "image": image}})
        assert reply.status_code == 400 and words in reply.json()["detail"], reply.text
    body = {"model": "reranker", "query": "a", "documents": [{"image": "https://example.com/a.png"}]}
    assert "fetching is off" in httpx.post(url + "/rank", json=body).text


def test_pictures_of_one_input_count_towards_the_limit_of_a_request(url: str) -> None:
    for path, body in (
        ("/encode", {"model": "qwen", "input": [{"text": TEXT, "image": [CODES[1]] * 40}] * 2}),
        ("/rank", {"model": "reranker", "query": TEXT, "documents": [{"image": [CODES[1]] * 65}]}),
    ):
        reply = httpx.post(url + path, json=body, timeout=60)
        assert reply.status_code == 413, reply.text
        assert (
            "pictures, sounds and videos in inputs of several parts, and the limit for one request is 64" in reply.text
        )
