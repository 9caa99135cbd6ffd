"""Voyage's embeddings and rerank API: https://docs.voyageai.com/reference/embeddings-api

Its client takes ``base_url="http://host:port/v1"``. Errors have ``detail`` only: some versions of the client fail if
there are other keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Literal

import msgspec

from nearfield.errors import InputError, NearfieldError
from nearfield.media.image import Image
from nearfield.media.video.video import Video
from nearfield.server.dialects import JsonObject, Route, message_of
from nearfield.server.dialects.schemas import RERANK_EXAMPLE, Name, rank_results, to_base64, to_json_rows
from nearfield.server.exchange import Encode, EncodeLateChunks, EncodeOptions, Rank, RerankOptions
from nearfield.server.exchange.content_parts import join_parts, pictures_of, videos_of
from nearfield.server.exchange.picture_inputs import picture_from_text
from nearfield.server.exchange.video_inputs import video_from_text
from nearfield.server.http.request_context import RequestContext

Role = Literal["query", "document"]
Dtype = Literal["float", "int8", "uint8", "binary", "ubinary"]
Dimension = Annotated[int, msgspec.Meta(ge=1)]
#: Fields that Voyage's client always sends, even as null, and that no other API on the same paths has.
_EMBEDDING_FIELDS = frozenset({"truncation", "output_dtype", "output_dimension"})
_RERANK_FIELDS = frozenset({"truncation", "top_k"})


class VoyageEmbeddingRequest(msgspec.Struct):
    """Body of POST /v1/embeddings in Voyage's form."""

    input: str | list[str]
    model: Name
    input_type: Role | None = None
    truncation: bool = True
    output_dimension: Dimension | None = None
    output_dtype: Dtype = "float"
    encoding_format: Literal["base64"] | None = None


class VoyageContextualizedRequest(msgspec.Struct):
    """Body of POST /v1/contextualizedembeddings: documents, each a list of consecutive chunks."""

    inputs: list[list[str]]
    model: Name
    input_type: Role | None = None
    output_dimension: Dimension | None = None
    output_dtype: Dtype = "float"
    encoding_format: Literal["base64"] | None = None
    enable_auto_chunking: bool = False


class VoyageContentPart(msgspec.Struct, forbid_unknown_fields=True):
    """One part of an input: a text, or a picture or video as a data URI."""

    type: Literal["text", "image_url", "image_base64", "video_url", "video_base64"]
    text: str | None = None
    image_url: str | None = None
    image_base64: str | None = None
    video_url: str | None = None
    video_base64: str | None = None


class VoyageMultimodalInput(msgspec.Struct):
    """One input: parts whose texts are joined, one picture, or both for models that read them together."""

    content: list[VoyageContentPart]


class VoyageMultimodalRequest(msgspec.Struct):
    """Body of POST /v1/multimodalembeddings."""

    inputs: list[VoyageMultimodalInput]
    model: Name
    input_type: Role | None = None
    truncation: bool = True
    output_dimension: Dimension | None = None
    output_dtype: Dtype = "float"
    encoding_format: Literal["base64"] | None = None
    #: Name of ``encoding_format`` on this path in the reference.
    output_encoding: Literal["base64"] | None = None


class VoyageRerankRequest(msgspec.Struct):
    """Body of POST /v1/rerank in Voyage's form."""

    query: str
    documents: list[str]
    model: Name
    top_k: Annotated[int, msgspec.Meta(ge=1)] | None = None
    truncation: bool = True
    return_documents: bool = False


class VoyageUsage(msgspec.Struct, omit_defaults=True):
    """Number of tokens read; multimodal requests count pixels, too."""

    total_tokens: int
    text_tokens: int | None = None
    image_pixels: int | None = None
    video_pixels: int | None = None


class VoyageEmbedding(msgspec.Struct):
    """One vector: numbers, or base64 of their bytes, little-endian."""

    object: Literal["embedding"]
    embedding: list[float] | str
    index: int


class VoyageEmbeddingReply(msgspec.Struct):
    """Response body of POST /v1/embeddings and /v1/multimodalembeddings."""

    object: Literal["list"]
    data: list[VoyageEmbedding]
    model: str
    usage: VoyageUsage


class VoyageDocumentVectors(msgspec.Struct):
    """The vectors of a document's chunks."""

    object: Literal["list"]
    data: list[VoyageEmbedding]
    index: int


class VoyageContextualizedReply(msgspec.Struct):
    """Response body of POST /v1/contextualizedembeddings."""

    object: Literal["list"]
    data: list[VoyageDocumentVectors]
    model: str
    usage: VoyageUsage


class VoyageRankResult(msgspec.Struct, omit_defaults=True):
    """Index and score of one document."""

    index: int
    relevance_score: float
    document: str | None = None


class VoyageRerankReply(msgspec.Struct):
    """Response body of POST /v1/rerank."""

    object: Literal["list"]
    data: list[VoyageRankResult]
    model: str
    usage: VoyageUsage


class VoyageError(msgspec.Struct):
    """Body of an error response."""

    detail: str


# -- embeddings ----------------------------------------------------------------------------------------------------


def is_embeddings_request(context: RequestContext) -> bool:
    """Return whether a body of /v1/embeddings is Voyage's."""
    return not _EMBEDDING_FIELDS.isdisjoint(context.fields)


def _read_embeddings(request: VoyageEmbeddingRequest, _: RequestContext) -> Encode:
    return Encode(
        model=request.model,
        inputs=[request.input] if isinstance(request.input, str) else request.input,
        options=replace(_encode_options(request), truncate=_truncation_policy(request.truncation)),
        reply_options={"base64": request.encoding_format == "base64"},
    )


def _read_contextualized(request: VoyageContextualizedRequest, _: RequestContext) -> EncodeLateChunks:
    if request.enable_auto_chunking:
        raise InputError(
            "enable_auto_chunking is not supported: split the documents and send their chunks (the client's chunk_fn "
            "does so), or embed whole documents with /v1/embeddings.",
            param="enable_auto_chunking",
        )
    return EncodeLateChunks(
        model=request.model,
        inputs=request.inputs,
        options=_encode_options(request),
        reply_options={"base64": request.encoding_format == "base64"},
    )


def _read_multimodal(request: VoyageMultimodalRequest, context: RequestContext) -> Encode:
    inputs = []
    for index, item in enumerate(request.inputs):
        parts = [_read_part(part, f"inputs {index}", context) for part in item.content]
        inputs.append(join_parts(parts, f"inputs {index}", "inputs"))
    return Encode(
        model=request.model,
        inputs=inputs,
        input_field="inputs",
        options=replace(_encode_options(request), truncate=_truncation_policy(request.truncation)),
        reply_options={"base64": bool(request.encoding_format or request.output_encoding)},
    )


def _encode_options(
    request: VoyageEmbeddingRequest | VoyageContextualizedRequest | VoyageMultimodalRequest,
) -> EncodeOptions:
    precision = "float32" if request.output_dtype in (None, "float") else request.output_dtype
    return EncodeOptions(role=request.input_type, truncate_dim=request.output_dimension, precision=precision)


def _truncation_policy(truncation: bool) -> str:
    return "report" if truncation else "error"


def _read_part(part: VoyageContentPart, field: str, context: RequestContext) -> str | Image | Video:
    value = getattr(part, part.type)
    if value is None:
        raise InputError(f"{field} contains a part of type {part.type!r} that has no {part.type}.", param="inputs")
    if part.type == "text":
        return str(value)
    if part.type.startswith("video"):
        return video_from_text(value, context.video_limits, field, bare_base64=False, request_field="inputs")
    return picture_from_text(value, context.picture_limits, field, bare_base64=False, request_field="inputs")


def _write_embeddings(exchange: Encode) -> JsonObject:
    return {
        "object": "list",
        "data": _embedding_objects(_write_rows(exchange)),
        "model": exchange.model,
        "usage": {"total_tokens": exchange.tokens},
    }


def _write_multimodal(exchange: Encode) -> JsonObject:
    # The client adds up all four, and fails if one is missing.
    headers = [picture.header() for picture in pictures_of(exchange.inputs)]
    usage = {
        "text_tokens": exchange.tokens_of("text"),
        "image_pixels": sum(header.width * header.height for header in headers),
        "video_pixels": sum(video.pixels_read for video in videos_of(exchange.inputs)),
        "total_tokens": exchange.tokens,
    }
    return {**_write_embeddings(exchange), "usage": usage}


def _write_contextualized(exchange: EncodeLateChunks) -> JsonObject:
    rows = iter(_write_rows(exchange))
    documents = [[next(rows) for _ in chunks] for chunks in exchange.inputs]
    data = [
        {"object": "list", "data": _embedding_objects(part), "index": index} for index, part in enumerate(documents)
    ]
    return {"object": "list", "data": data, "model": exchange.model, "usage": {"total_tokens": exchange.tokens}}


def _write_rows(exchange: Encode) -> Iterable[object]:
    vectors = exchange.vectors
    return [to_base64(row) for row in vectors.data] if exchange.reply_options["base64"] else to_json_rows(vectors)


def _embedding_objects(rows: Iterable[object]) -> list[JsonObject]:
    return [{"object": "embedding", "embedding": row, "index": index} for index, row in enumerate(rows)]


# -- rerank --------------------------------------------------------------------------------------------------------


def is_rerank_request(context: RequestContext) -> bool:
    """Return whether a body of /v1/rerank is Voyage's."""
    return not _RERANK_FIELDS.isdisjoint(context.fields)


def _read_rerank(request: VoyageRerankRequest, _: RequestContext) -> Rank:
    return Rank(
        model=request.model,
        query=request.query,
        documents=request.documents,
        top_k=request.top_k,
        bounded=True,
        options=RerankOptions(truncate=_truncation_policy(request.truncation)),
        reply_options={"documents": request.documents if request.return_documents else None},
    )


def _write_rerank(exchange: Rank) -> JsonObject:
    return {
        "object": "list",
        "data": rank_results(exchange, exchange.reply_options["documents"]),
        "model": exchange.model,
        "usage": {"total_tokens": exchange.tokens},
    }


_EMBEDDINGS_EXAMPLE = {"model": "all-MiniLM-L6-v2", "input": ["How tall is Mont Blanc?"], "output_dtype": "float"}
_CONTEXTUALIZED_EXAMPLE = {
    "model": "all-MiniLM-L6-v2",
    "inputs": [["Mont Blanc is in the Alps. ", "It is 4806 m high."]],
}
_MULTIMODAL_EXAMPLE = {"model": "all-MiniLM-L6-v2", "inputs": [{"content": [{"type": "text", "text": "Mont Blanc"}]}]}
_RERANK_EXAMPLE = {**RERANK_EXAMPLE, "top_k": 1}


class VoyageDialect:
    """Voyage's API."""

    name = "voyage"
    error_type = VoyageError
    routes = (
        *(
            Route(
                path,
                "Embed texts",
                _read_embeddings,
                _write_embeddings,
                VoyageEmbeddingRequest,
                VoyageEmbeddingReply,
                example=_EMBEDDINGS_EXAMPLE,
                matches=is_embeddings_request,
            )
            for path in ("/v1/embeddings", "/embeddings")
        ),
        Route(
            "/v1/contextualizedembeddings",
            "Embed the chunks of documents, each in the context of its document",
            _read_contextualized,
            _write_contextualized,
            VoyageContextualizedRequest,
            VoyageContextualizedReply,
            example=_CONTEXTUALIZED_EXAMPLE,
        ),
        Route(
            "/v1/multimodalembeddings",
            "Embed texts, pictures and videos",
            _read_multimodal,
            _write_multimodal,
            VoyageMultimodalRequest,
            VoyageEmbeddingReply,
            example=_MULTIMODAL_EXAMPLE,
        ),
        Route(
            "/v1/rerank",
            "Rank documents by a query",
            _read_rerank,
            _write_rerank,
            VoyageRerankRequest,
            VoyageRerankReply,
            example=_RERANK_EXAMPLE,
            matches=is_rerank_request,
        ),
    )

    def refuse(self, error: NearfieldError) -> JsonObject:
        """Return Voyage's error body: the message in the one key that every version of the client reads."""
        return {"detail": message_of(error, dimensions="output_dimension")}
