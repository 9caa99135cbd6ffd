"""Pages and queries of a visual document retriever over HTTP: multi-vectors, and ranks by MaxSim."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import msgspec
import numpy as np
import pytest

from nearfield.encoder import Encoder
from nearfield.media.image import Image
from tests.support import odd_pictures, tiny_retrievers
from tests.support.serving import serving

pytestmark = [pytest.mark.network, pytest.mark.slow]

FILES = [odd_pictures.encode(odd_pictures.smooth(*size, seed), "PNG") for seed, size in enumerate(((61, 97), (40, 90)))]
URIS = [f"data:image/png;base64,{base64.b64encode(data).decode()}" for data in FILES]
QUERY = "what is the river?"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    folder = tiny_retrievers.colpali(tmp_path_factory.mktemp("models") / "colpali")
    with Encoder(str(folder), precision="float32", compile_cache=False, reproducible=True) as model:
        yield model


@pytest.fixture(scope="module")
def url(encoder: Encoder) -> Iterator[str]:
    with serving([encoder]) as base:
        yield base


def test_native_multivectors(encoder: Encoder, url: str) -> None:
    items = [{"image": URIS[0]}, QUERY, {"image": URIS[1]}]
    expected = encoder.encode([Image(FILES[0]), QUERY, Image(FILES[1])])
    body = httpx.post(url + "/encode", json={"input": items, "outputs": ["multivector"]}).json()
    for found, rows in zip(body["multivector"]["data"], expected, strict=True):
        np.testing.assert_array_equal(np.array(found, np.float32), rows)
    assert body["tokens"] == [len(rows) for rows in expected]
    data = msgspec.msgpack.encode({"input": [{"image": data} for data in FILES], "outputs": ["multivector"]})
    headers = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
    reply = msgspec.msgpack.decode(httpx.post(url + "/encode", content=data, headers=headers).content)
    rows = np.frombuffer(reply["multivector"]["data"]["data"], "<f4").reshape(reply["multivector"]["data"]["shape"])
    np.testing.assert_array_equal(rows, np.concatenate([expected[0], expected[2]]))


def test_multivectors_of_jina(encoder: Encoder, url: str) -> None:
    items = [{"image": URIS[0]}, {"text": QUERY}]
    request = {"model": "colpali", "input": items, "return_multivector": True}
    body = httpx.post(url + "/v1/embeddings", json=request).json()
    for found, rows in zip(body["data"], encoder.encode([Image(FILES[0]), QUERY]), strict=True):
        np.testing.assert_allclose(np.array(found["embeddings"], np.float32), rows, atol=1e-6)


def test_pages_are_ranked_by_a_query(encoder: Encoder, url: str) -> None:
    documents = [{"image": uri} for uri in URIS]
    body = httpx.post(url + "/rank", json={"query": QUERY, "documents": [*documents, "moon"]}).json()
    scores = encoder.similarity(
        encoder.encode_query([QUERY]), encoder.encode_document([*(Image(data) for data in FILES), "moon"])
    )[0]
    assert [result["index"] for result in body["results"]] == np.argsort(-scores).tolist()
    for result in body["results"]:
        assert result["score"] == pytest.approx(float(scores[result["index"]]), abs=1e-5)


def test_a_page_with_a_text_is_refused(url: str) -> None:
    reply = httpx.post(url + "/encode", json={"input": [{"image": URIS[0], "text": "a"}], "outputs": ["multivector"]})
    assert reply.status_code == 400
    assert "one picture" in reply.text
