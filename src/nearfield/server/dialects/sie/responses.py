"""Conversion of answered exchanges to SIE's response bodies, and SIE's error body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from nearfield.errors import ExecutionFailed, InputError, InputTooLong, ModelNotFound, NearfieldError, Overloaded
from nearfield.server.dialects import JsonObject, Reply, message_of
from nearfield.server.exchange import Encode, Rank
from nearfield.server.exchange.content_parts import pictures_of
from nearfield.server.http.request_body import MSGPACK
from nearfield.vectors.dense import Vectors
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs
from nearfield.vectors.sparse import SparseVectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The version of SIE whose API this is: its SDK warns about servers of another version.
VERSION_HEADERS = {"x-sie-server-version": "0.10.1"}


def write_encode(exchange: Encode) -> Reply:
    """Return the vectors of each item."""
    assert isinstance(exchange.result, Outputs)
    items: list[JsonObject] = [{} if name is None else {"id": name} for name in exchange.reply_options["ids"]]
    msgpack = exchange.reply_options["msgpack"]
    for kind, vectors in exchange.result.kinds.items():
        for item, vector in zip(items, _vector_objects(vectors, exchange.reply_options["float16"]), strict=True):
            item[kind] = vector if msgpack else {**vector, "values": _json_values(vector["values"])}
    usage: JsonObject = {"input_tokens": exchange.tokens}
    if pictures := len(pictures_of(exchange.inputs)):
        usage["images"] = pictures
    body: JsonObject = {"model": exchange.model, "items": items, "usage": usage}
    return _encode_msgpack(body) if msgpack else Reply(body, headers=VERSION_HEADERS)


def _vector_objects(vectors: Vectors | SparseVectors | MultiVectors, float16: bool) -> list[dict[str, Any]]:
    """Return an object for each input's vector of one kind."""
    if isinstance(vectors, Vectors):
        dtype = "binary" if vectors.precision == "ubinary" else vectors.precision
        return [{"dims": vectors.dim, "dtype": dtype, "values": row} for row in vectors.data]
    dtype = "float16" if float16 else "float32"
    if isinstance(vectors, SparseVectors):
        return [
            {"dims": vectors.size, "dtype": dtype, "indices": indices, "values": values.astype(dtype)}
            for indices, values in vectors
        ]
    return [
        {"token_dims": vectors.dim, "num_tokens": len(rows), "dtype": dtype, "values": rows.astype(dtype)}
        for rows in vectors
    ]


def _json_values(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the values in a type that the JSON encoder writes: float32 instead of float16."""
    return np.ascontiguousarray(values, np.float32 if values.dtype == np.float16 else None)


def write_score(exchange: Rank) -> Reply:
    """Return the items by descending score."""
    ids = exchange.reply_options["ids"]
    body: JsonObject = {
        "model": exchange.model,
        "query_id": exchange.reply_options["query"],
        "scores": [
            {"item_id": ids[ranked.index], "score": ranked.score, "rank": rank}
            for rank, ranked in enumerate(exchange.ranked)
        ],
        "usage": {"input_tokens": exchange.tokens},
    }
    return _encode_msgpack(body) if exchange.reply_options["msgpack"] else Reply(body, headers=VERSION_HEADERS)


def _encode_msgpack(body: JsonObject) -> Reply:
    return Reply(msgspec.msgpack.encode(body, enc_hook=_encode_array), media_type=MSGPACK, headers=VERSION_HEADERS)


def _encode_array(value: object) -> dict[bytes, object]:
    """Return an array as msgpack-numpy writes it: https://github.com/lebedov/msgpack-numpy"""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} cannot be written as msgpack")
    array = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    return {
        b"nd": True,
        b"type": array.dtype.str,
        b"kind": b"",
        b"shape": list(array.shape),
        b"data": array.tobytes(),
    }


# -- errors ------------------------------------------------------------------------------------------------------------

#: SIE's code for each of our codes that has one, and the status that SIE's clients expect with it.
_ERROR_CODES = {
    "rate_limit_exceeded": ("RATE_LIMIT", 429),
    "model_unavailable": ("RESOURCE_EXHAUSTED", 503),
    "model_refused": ("MODEL_LOAD_FAILED", 502),
    "licence_not_accepted": ("MODEL_LOAD_FAILED", 502),
    "source_unavailable": ("MODEL_LOAD_FAILED", 502),
    "shutting_down": ("MODEL_NOT_LOADED", 503),
    "internal_error": ("INTERNAL_ERROR", 500),
}
_ERROR_CLASSES: tuple[tuple[type[NearfieldError], str, int | None], ...] = (
    (Overloaded, "QUEUE_FULL", 503),
    (InputTooLong, "INPUT_TOO_LONG", None),
    (ModelNotFound, "MODEL_NOT_FOUND", None),
    (InputError, "INVALID_INPUT", None),
    (ExecutionFailed, "INFERENCE_ERROR", None),
)
#: Parameters of our own that have another name in this API.
_PARAM_NAMES = {
    "input": "items",
    "documents": "items",
    "outputs": "output_types",
    "precision": "output_dtype",
    "adapter": "lora_id",
    "truncate_dim": "dimensions",
}


def error_reply(error: NearfieldError) -> Reply:
    """Return SIE's error body; its SDK decides by the code whether to retry."""
    code, status = _error_code(error)
    param = getattr(error, "param", None)
    detail = {"code": code, "message": message_of(error), "param": _PARAM_NAMES.get(param, param) if param else None}
    return Reply({"detail": detail}, status, headers={**VERSION_HEADERS, "x-sie-error-code": code})


def _error_code(error: NearfieldError) -> tuple[str, int]:
    if error.code in _ERROR_CODES:
        return _ERROR_CODES[error.code]
    for kind, code, status in _ERROR_CLASSES:
        if isinstance(error, kind):
            return code, status or error.status
    return error.code.upper(), error.status
