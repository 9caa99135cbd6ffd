"""The same text has the same vector through every API, bit for bit in float32."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from nearfield.encoder import Encoder

pytestmark = pytest.mark.network

TEXT = "the cat sat on the mat, naïve café 東京"
Ask = Callable[[str, str], Any]


def _post(path: str, find: Callable[[Any], Any], headers: dict[str, str] | None = None, **body: Any) -> Ask:
    """Return a function that requests the vector of a text, which replaces "TEXT" anywhere in the body."""

    def ask(url: str, text: str) -> Any:
        answer = httpx.post(url + path, json=_fill(body, text), headers=headers or {})
        assert answer.status_code == 200, answer.text
        kind = answer.headers["content-type"]
        return find(msgspec.msgpack.decode(answer.content) if "msgpack" in kind else answer.json())

    return ask


def _fill(value: Any, text: str) -> Any:
    if isinstance(value, dict):
        return {name: _fill(part, text) for name, part in value.items()}
    if isinstance(value, list):
        return [_fill(part, text) for part in value]
    return text if value == "TEXT" else value


def _bytes(text: str) -> Any:
    return np.frombuffer(base64.b64decode(text), "<f4")


def _first_embedding(reply: Any) -> Any:
    return reply["data"][0]["embedding"]


VOYAGE: dict[str, Any] = {"truncation": True, "input_type": None, "output_dtype": None, "output_dimension": None}
REQUESTS: dict[str, Ask] = {
    "openai": _post("/v1/embeddings", _first_embedding, model="tiny", input="TEXT"),
    "openai, bare path": _post("/embeddings", _first_embedding, model="tiny", input=["TEXT"]),
    "openai, base64": _post(
        "/v1/embeddings",
        lambda reply: _bytes(_first_embedding(reply)),
        model="tiny",
        input="TEXT",
        encoding_format="base64",
    ),
    "tei": _post("/embed", lambda reply: reply[0], inputs="TEXT"),
    "tei, root": _post("/", lambda reply: reply[0], inputs=["TEXT"]),
    "tei, vertex": _post("/vertex", lambda reply: reply["predictions"][0][0], instances=[{"inputs": "TEXT"}]),
    "ollama": _post("/api/embed", lambda reply: reply["embeddings"][0], model="tiny", input="TEXT"),
    "ollama, legacy": _post("/api/embeddings", lambda reply: reply["embedding"], model="tiny", prompt="TEXT"),
    "cohere v1": _post("/v1/embed", lambda reply: reply["embeddings"][0], model="tiny", texts=["TEXT"]),
    "cohere v2": _post(
        "/v2/embed",
        lambda reply: reply["embeddings"]["float"][0],
        model="tiny",
        texts=["TEXT"],
        input_type="classification",
        embedding_types=["float"],
    ),
    "cohere v2, base64": _post(
        "/v2/embed",
        lambda reply: _bytes(reply["embeddings"]["base64"][0]),
        model="tiny",
        texts=["TEXT"],
        input_type="clustering",
        embedding_types=["base64"],
    ),
    "jina": _post("/v1/embeddings", _first_embedding, model="tiny", input=["TEXT"], embedding_type="float"),
    "jina, objects": _post("/v1/embeddings", _first_embedding, model="tiny", input=[{"text": "TEXT"}]),
    "voyage": _post("/v1/embeddings", _first_embedding, model="tiny", input=["TEXT"], **VOYAGE),
    "voyage, base64": _post(
        "/v1/embeddings",
        lambda reply: _bytes(_first_embedding(reply)),
        model="tiny",
        input=["TEXT"],
        encoding_format="base64",
        **VOYAGE,
    ),
    "native": _post("/encode", lambda reply: reply["dense"]["data"][0], model="tiny", input=["TEXT"]),
    "sie": _post(
        "/v1/encode/tiny",
        lambda reply: reply["items"][0]["dense"]["values"],
        headers={"accept": "application/json"},
        items=[{"text": "TEXT"}],
    ),
    "qdrant": _post(
        "/qdrant/infer",
        lambda reply: reply["embeddings"][0],
        inputs=[{"data": "TEXT", "data_type": "text", "model": "tiny", "options": {"prompt": ""}}],
        inference="update",
    ),
}


@pytest.mark.parametrize("api", REQUESTS)
def test_every_api_returns_the_vector_of_python(api: str, tiny: Encoder, fleet_url: str) -> None:
    # In SIE's API a text is a document unless the request says that it is a query.
    expected = np.asarray(tiny.encode(TEXT, role="document" if api == "sie" else None), np.float32)
    vector = np.asarray(REQUESTS[api](fleet_url, TEXT), np.float32)
    np.testing.assert_array_equal(vector.view(np.uint32), expected.view(np.uint32))
