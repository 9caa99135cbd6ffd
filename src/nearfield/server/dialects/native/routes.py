"""Nearfield's own API, for everything that the engine can do: vectors of several kinds in one pass, ranks, labels.

The paths are ``/encode``, ``/rank`` and ``/classify``; docs/guides/encode.md has examples. A body is JSON or msgpack;
that of ``/encode`` may also be a form (multipart/form-data) with files of pictures,
sounds and videos.
The Accept header chooses the media type of the response:

- ``application/json`` (default): each input's vectors as lists, or with ``"encoding": "base64"`` each array as base64
  of its bytes, little-endian: a dense vector, a sparse vector's indices (int32) and values, a multi-vector row by row.
- ``application/msgpack``: the same names, but all inputs' numbers in one array: a map of ``dtype`` (as numpy writes
  it: ``<f4``, ``|i1``), ``shape`` and ``data`` (bytes, little-endian). Sparse has ``indices`` and ``values``,
  multivector ``data`` [tokens, dimensions], each of all inputs one after another; ``lengths`` says how many belong to
  each.
- ``application/vnd.apache.arrow.stream`` (``/encode`` only): a record batch with the columns ``vector``, ``tokens``,
  ``dropped`` and ``unknown``, for many dense vectors; the schema's metadata has ``model``, ``fingerprint``, ``dtype``,
  ``dimensions``.

An error is always JSON.
"""

from __future__ import annotations

from nearfield.errors import NearfieldError
from nearfield.server.dialects import JsonObject, Route
from nearfield.server.dialects.native.arrow import ARROW_TYPE
from nearfield.server.dialects.native.requests import read_classify, read_encode, read_encode_form, read_rank
from nearfield.server.dialects.native.responses import error_body, write_labels, write_ranks, write_vectors
from nearfield.server.dialects.native.schemas import (
    NativeClassifyReply,
    NativeClassifyRequest,
    NativeEncodeForm,
    NativeEncodeReply,
    NativeEncodeRequest,
    NativeRankReply,
    NativeRankRequest,
)
from nearfield.server.dialects.schemas import ErrorReply
from nearfield.server.http.request_body import JSON, MSGPACK

_ENCODE_EXAMPLE = {"input": ["How tall is Mont Blanc?"], "outputs": ["dense"], "role": "query"}
_BODY_TYPES = (JSON, MSGPACK)


class NativeDialect:
    """Nearfield's own API of models."""

    name = "native"
    error_type = ErrorReply
    routes = (
        Route(
            "/encode",
            "Embed texts, pictures, sounds and videos as vectors of any kind",
            read_encode,
            write_vectors,
            NativeEncodeRequest,
            NativeEncodeReply,
            example=_ENCODE_EXAMPLE,
            request_media=_BODY_TYPES,
            read_form=read_encode_form,
            form_type=NativeEncodeForm,
            response_media=(JSON, MSGPACK, ARROW_TYPE),
        ),
        Route(
            "/rank",
            "Rank documents by a query",
            read_rank,
            write_ranks,
            NativeRankRequest,
            NativeRankReply,
            example={"query": "How tall is Mont Blanc?", "documents": ["It is 4806 m tall.", "It lies in the Alps."]},
            request_media=_BODY_TYPES,
            response_media=_BODY_TYPES,
        ),
        Route(
            "/classify",
            "Classify texts, or pairs of texts",
            read_classify,
            write_labels,
            NativeClassifyRequest,
            NativeClassifyReply,
            example={"input": ["What a fine day!"]},
            request_media=_BODY_TYPES,
            response_media=_BODY_TYPES,
        ),
    )

    def refuse(self, error: NearfieldError) -> JsonObject:
        """Return the error body; ``param`` names the field of the request."""
        return error_body(error)
