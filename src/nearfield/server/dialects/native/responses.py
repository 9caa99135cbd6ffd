"""Conversion of answered exchanges to native response bodies (JSON or msgpack), and the error body."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from nearfield.errors import NearfieldError
from nearfield.server.dialects import JsonObject, Reply, shared_error_body
from nearfield.server.dialects.native.arrow import ARROW_TYPE, write_arrow_stream
from nearfield.server.dialects.native.requests import PARAM_NAMES
from nearfield.server.dialects.schemas import to_base64, to_json_rows
from nearfield.server.exchange import Encode, EncodeLateChunks, Predict, Rank
from nearfield.server.http.request_body import MSGPACK
from nearfield.vectors.annotated_array import AnnotatedArray
from nearfield.vectors.dense import Vectors
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs
from nearfield.vectors.sparse import SparseVectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OUTPUT_NAMES = {Vectors: "dense", SparseVectors: "sparse", MultiVectors: "multivector"}
_ERROR_KINDS = {429: "rate_limit_error"}


def write_vectors(exchange: Encode) -> object:
    """Return the vectors as JSON, msgpack or an Arrow stream."""
    media_type, result = exchange.reply_options["media_type"], exchange.result
    if media_type == ARROW_TYPE:
        return Reply(write_arrow_stream(exchange), media_type=ARROW_TYPE)
    assert result is not None
    body = _common_fields(exchange, result)
    outputs = result.kinds if isinstance(result, Outputs) else {_OUTPUT_NAMES[type(result)]: result}
    for name, vectors in outputs.items():
        data = (
            _packed_arrays(vectors) if media_type == MSGPACK else _json_rows(vectors, exchange.reply_options["base64"])
        )
        body[name] = {
            "dtype": vectors.precision if isinstance(vectors, Vectors) else "float32",
            **_shape_fields(vectors),
            "fingerprint": vectors.fingerprint,
            **data,
        }
    if isinstance(exchange, EncodeLateChunks):
        body["documents"] = [len(chunks) for chunks in exchange.inputs]
    return _encode_body(media_type, body)


def write_ranks(exchange: Rank) -> object:
    """Return the documents by descending score."""
    assert exchange.scores is not None
    results: list[JsonObject] = []
    for rank in exchange.ranked:
        result: JsonObject = {"index": rank.index, "score": rank.score}
        document = exchange.documents[rank.index]
        if exchange.reply_options["documents"] and isinstance(document, str):
            result["document"] = document
        results.append(result)
    body = {**_common_fields(exchange, exchange.scores), **_score_fields(exchange)}
    return _encode_body(exchange.reply_options["media_type"], {**body, "results": results})


def write_labels(exchange: Predict) -> object:
    """Return the best label and all scores of each input."""
    assert exchange.scores is not None
    media_type, model = exchange.reply_options["media_type"], exchange.description
    scores = np.ascontiguousarray(exchange.scores.data)
    body = {
        **_common_fields(exchange, exchange.scores),
        **_score_fields(exchange),
        "labels": list(model.labels) if model is not None else [],
        "results": [{"label": prediction.label, "score": prediction.score} for prediction in exchange.predictions],
        "scores": scores.tolist() if media_type == MSGPACK else list(scores),
    }
    return _encode_body(media_type, body)


def _common_fields(
    exchange: Encode | Rank | Predict, result: AnnotatedArray | SparseVectors | MultiVectors | Outputs
) -> JsonObject:
    """Return the fields of every response: the model, and of each input the tokens read, cut off and not known."""
    counts, model = (
        {"tokens": result.tokens, "dropped": result.dropped, "unknown": result.unknown},
        exchange.description,
    )
    return {
        "model": model.name if model is not None else exchange.model,
        "precision": model.precision if model is not None else "",
        "max_length": model.max_length if model is not None else 0,
        "usage": {name: getattr(exchange, name) for name in counts},
        # All results of models have counts.
        **{name: [] if count is None else count.tolist() for name, count in counts.items()},
    }


def _score_fields(exchange: Rank | Predict) -> JsonObject:
    model = exchange.description
    return {"fingerprint": model.fingerprint if model is not None and not model.is_encoder else None}


def _encode_body(media_type: str, body: JsonObject) -> object:
    return Reply(msgspec.msgpack.encode(body), media_type=MSGPACK) if media_type == MSGPACK else body


def _shape_fields(vectors: Vectors | SparseVectors | MultiVectors) -> JsonObject:
    if isinstance(vectors, SparseVectors):
        return {"dimensions": vectors.size, "shape": [len(vectors), vectors.size]}
    average = {"average": vectors.average} if isinstance(vectors, MultiVectors) else {}
    return {"dimensions": vectors.dim, "shape": list(vectors.data.shape), **average}


def _json_rows(vectors: Vectors | SparseVectors | MultiVectors, base64: bool) -> JsonObject:
    """Return one entry for each input, for JSON."""
    if isinstance(vectors, SparseVectors):
        pairs = [(to_base64(ids), to_base64(values)) for ids, values in vectors] if base64 else vectors
        return {"data": [{"indices": ids, "values": values} for ids, values in pairs]}
    if isinstance(vectors, MultiVectors):
        return {"data": [to_base64(rows) if base64 else np.ascontiguousarray(rows) for rows in vectors]}
    rows = [to_base64(row) for row in vectors.data] if base64 else list(to_json_rows(vectors))
    ranges = {} if vectors.ranges is None else {"ranges": list(vectors.ranges), "clipped": vectors.clipped}
    return {"data": rows, **ranges}


def _packed_arrays(vectors: Vectors | SparseVectors | MultiVectors) -> JsonObject:
    """Return the numbers of all inputs as arrays, for msgpack."""
    if isinstance(vectors, Vectors):
        ranges = {} if vectors.ranges is None else {"ranges": _packed_array(vectors.ranges), "clipped": vectors.clipped}
        return {"data": _packed_array(vectors.data), **ranges}
    lengths = {"lengths": _packed_array(np.diff(vectors.indptr))}
    if isinstance(vectors, SparseVectors):
        return {**lengths, "indices": _packed_array(vectors.indices), "values": _packed_array(vectors.values)}
    return {**lengths, "data": _packed_array(vectors.data)}


def _packed_array(values: NDArray[np.generic]) -> JsonObject:
    array = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": array.tobytes()}


def error_body(error: NearfieldError) -> JsonObject:
    """Return the error body; ``param`` names the field of the request."""
    kind = _ERROR_KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    param = getattr(error, "param", None)
    return shared_error_body(
        error, kind, PARAM_NAMES.get(param, param) if param else None, force="force_dimensions: true"
    )
