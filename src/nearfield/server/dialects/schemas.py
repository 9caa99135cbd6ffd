"""Shapes: types, and ways to read and write, that several dialects share."""

from __future__ import annotations

from binascii import b2a_base64
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from nearfield.errors import InputError
from nearfield.server.exchange import Rank
from nearfield.server.models.model_pool import LONGEST_NAME
from nearfield.vectors.dense import Vectors

Truncate = Literal["report", "error", "left", "right"]
Dtype = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]
#: A request to rank, as the pages of several dialects show it.
RANKING = {
    "model": "ms-marco-MiniLM-L6-v2",
    "query": "How tall is Mont Blanc?",
    "documents": ["Mont Blanc is 4806 m high.", "The Seine flows through Paris."],
}


class ErrorDetail(msgspec.Struct):
    """What was wrong, of which kind it is, and the field it is about."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(msgspec.Struct):
    """Any reply that is no success; the message stands where clients of other APIs look for it, too."""

    error: ErrorDetail
    detail: str
    message: str


def inputs(given: str | list[Any]) -> list[Any]:
    """Return a list of inputs: a list of integers is one input of token ids."""
    if isinstance(given, str):
        return [given]
    kinds = {type(item) for item in given}
    if kinds == {int}:
        return [given]
    if len(kinds) > 1:
        raise InputError("input mixes texts and token ids: send lists of one kind.", param="input")
    return given


def in_base64(row: Any) -> str:
    """Return a row's bytes, little-endian, in base64."""
    return b2a_base64(np.ascontiguousarray(row).tobytes(), newline=False).decode("ascii")


def in_lists(vectors: Vectors) -> Any:
    """Return the rows as the writer takes them: at their shortest exact form; float16 has none of its own there."""
    return vectors.data.astype(np.float32) if vectors.precision == "float16" else np.ascontiguousarray(vectors.data)


def ranked(exchange: Rank, documents: list[Any] | None) -> list[dict[str, Any]]:
    """Return the places with scores, and the documents as they were sent where they are wanted."""
    # A numpy float32 is written in its shortest form; as a Python float it would have the digits of a double.
    results = [{"index": each.index, "relevance_score": np.float32(each.score)} for each in exchange.ranked]
    if documents is None:
        return results
    return [{**each, "document": documents[int(each["index"])]} for each in results]
