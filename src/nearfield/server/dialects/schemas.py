"""Types and conversions that several dialects share: error bodies, inputs, vectors and ranks."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np

from nearfield.errors import InputError
from nearfield.server.dialects import JsonObject
from nearfield.server.exchange import Rank
from nearfield.server.models.names import MAX_NAME_LENGTH
from nearfield.vectors.dense import Vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

Truncate = Literal["report", "error", "left", "right"]
Dtype = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)]
#: A request to rank, as the OpenAPI documents of several dialects show it.
RERANK_EXAMPLE = {
    "model": "ms-marco-MiniLM-L6-v2",
    "query": "How tall is Mont Blanc?",
    "documents": ["Mont Blanc is 4806 m high.", "The Seine flows through Paris."],
}


class ErrorDetail(msgspec.Struct):
    """Message and kind of an error, and the request field it is about."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(msgspec.Struct):
    """Body of an error response; clients of several APIs each find the message under the key they read."""

    error: ErrorDetail
    detail: str
    message: str


def list_inputs(value: str | list[str | int | list[int]]) -> list[str | list[int]]:
    """Return a list of texts or of lists of token ids: a list of integers is one input of token ids.

    Raises:
        InputError: texts and token ids are mixed.
    """
    if isinstance(value, str):
        return [value]
    if len({type(item) for item in value}) > 1:
        raise InputError("input mixes texts and token ids: send lists of one kind.", param="input")
    numbers = [item for item in value if isinstance(item, int)]
    return [numbers] if numbers else [item for item in value if not isinstance(item, int)]


def to_base64(row: NDArray[np.generic]) -> str:
    """Return the little-endian bytes of a row in base64."""
    return b2a_base64(np.ascontiguousarray(row).tobytes(), newline=False).decode("ascii")


def to_json_rows(vectors: Vectors) -> NDArray[np.generic]:
    """Return the rows in a type that the JSON encoder writes exactly and in its shortest form; float16 has none."""
    return vectors.data.astype(np.float32) if vectors.precision == "float16" else np.ascontiguousarray(vectors.data)


def rank_results(exchange: Rank, documents: Sequence[object] | None) -> list[JsonObject]:
    """Return index and score of each ranked document, with the documents unless they are None."""
    # A numpy float32 is written in its shortest form; as a Python float it would have the digits of a double.
    results: list[JsonObject] = [
        {"index": rank.index, "relevance_score": np.float32(rank.score)} for rank in exchange.ranked
    ]
    if documents is not None:
        for result, rank in zip(results, exchange.ranked, strict=True):
            result["document"] = documents[rank.index]
    return results
