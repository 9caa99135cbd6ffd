"""The bulk request of each HTTP API, and the place of the vectors in its reply."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import orjson

Array = np.ndarray[Any, np.dtype[Any]]
Texts = Sequence[str]
_MSGPACK = "application/msgpack"
_ARROW = "application/vnd.apache.arrow.stream"


@dataclass(frozen=True, eq=False)
class Form:
    """A way to ask: ``body`` turns a model's name and texts into bytes, ``read`` a reply into vectors."""

    path: str
    body: Callable[[str, Texts], bytes]
    read: Callable[[bytes], Array]
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def _json(texts_as: str, **more: Any) -> Callable[[str, Texts], bytes]:
    return lambda model, texts: orjson.dumps({"model": model, texts_as: texts, **more})


def _qdrant(model: str, texts: Texts) -> bytes:
    inputs = [{"data": text, "data_type": "text", "model": model} for text in texts]
    return orjson.dumps({"inputs": inputs, "inference": "update"})


def _sie(_: str, texts: Texts) -> bytes:
    return msgspec.msgpack.encode({"items": [{"text": text} for text in texts]})


def _data(reply: bytes) -> Array:
    return np.stack([_row(row["embedding"]) for row in orjson.loads(reply)["data"]])


def _under(*names: str) -> Callable[[bytes], Array]:
    """Return what reads the list of vectors below these names."""

    def read(reply: bytes) -> Array:
        found = orjson.loads(reply)
        for name in names:
            found = found[name]
        return np.stack([_row(row) for row in found])

    return read


def _row(given: Any) -> Array:
    return np.frombuffer(base64.b64decode(given), "<f4") if isinstance(given, str) else np.asarray(given, np.float32)


def _packed(reply: bytes) -> Array:
    array = msgspec.msgpack.decode(reply)["dense"]["data"]
    return np.frombuffer(array["data"], array["dtype"]).reshape(array["shape"])


def _arrow(reply: bytes) -> Array:
    import pyarrow as arrow

    column = arrow.ipc.open_stream(reply).read_all().column("vector").combine_chunks()
    return np.asarray(column.flatten()).reshape(len(column), -1)


def _items(reply: bytes) -> Array:
    items = msgspec.msgpack.decode(reply, strict=False)["items"]
    # Arrays as msgpack-numpy has them, whose names are bytes.
    rows = [{_text(name): value for name, value in item["dense"]["values"].items()} for item in items]
    return np.stack([np.frombuffer(row["data"], _text(row["type"])) for row in rows])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _as(kind: str, accept: str = "") -> dict[str, str]:
    return {"Content-Type": kind} | ({"Accept": accept} if accept else {})


_EMBEDDINGS = "/v1/embeddings"
#: That of the OpenAI client, and the one that others are compared with.
PLAIN = "OpenAI base64"
FORMS: Mapping[str, Form] = {
    "OpenAI float": Form(_EMBEDDINGS, _json("input", encoding_format="float"), _data),
    PLAIN: Form(_EMBEDDINGS, _json("input", encoding_format="base64"), _data),
    "TEI": Form("/embed", _json("inputs"), _under()),
    "Ollama": Form("/api/embed", _json("input"), _under("embeddings")),
    "Cohere": Form(
        "/v2/embed",
        _json("texts", input_type="search_document", embedding_types=["float"]),
        _under("embeddings", "float"),
    ),
    "Jina float": Form(_EMBEDDINGS, _json("input", embedding_type="float", task="text-matching"), _data),
    "Jina base64": Form(_EMBEDDINGS, _json("input", embedding_type="base64", task="text-matching"), _data),
    "Voyage float": Form(_EMBEDDINGS, _json("input", output_dtype="float", truncation=True), _data),
    "Voyage base64": Form(_EMBEDDINGS, _json("input", truncation=True, encoding_format="base64"), _data),
    "native JSON": Form("/encode", _json("input"), _under("dense", "data")),
    "native JSON base64": Form("/encode", _json("input", encoding="base64"), _under("dense", "data")),
    "native msgpack": Form("/encode", _json("input"), _packed, _as("application/json", _MSGPACK)),
    "native Arrow": Form("/encode", _json("input"), _arrow, _as("application/json", _ARROW)),
    "Qdrant": Form("/qdrant/infer", _qdrant, _under("embeddings")),
    "SIE": Form("/v1/encode/all-MiniLM-L6-v2", _sie, _items, _as(_MSGPACK, _MSGPACK)),
}
