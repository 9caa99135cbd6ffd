"""Voyage's embeddings and rerank API: https://docs.voyageai.com/reference/embeddings-api

Its client takes ``base_url="http://host:port/v1"``. Errors hold ``detail`` alone: some of its versions fail on more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from nearfield.errors import InputError, NearfieldError
from nearfield.server.dialects import RequestContext, Route
from nearfield.server.dialects.schemas import RANKING, Name, in_base64, in_lists, ranked
from nearfield.server.exchange import Encode, EncodeLateChunks, Rank

Role = Literal["query", "document"]
Dtype = Literal["float", "int8", "uint8", "binary", "ubinary"]
Dimension = Annotated[int, msgspec.Meta(ge=1)]
#: Fields that Voyage's client always sends, null or not, and no other API on these paths has.
_EMBEDDING_FIELDS = frozenset({"truncation", "output_dtype", "output_dimension"})
_RERANK_FIELDS = frozenset({"truncation", "top_k"})


class VoyageEmbeddingRequest(msgspec.Struct):
    """The body of POST /v1/embeddings in Voyage's form."""

    input: str | list[str]
    model: Name
    input_type: Role | None = None
    truncation: bool = True
    output_dimension: Dimension | None = None
    output_dtype: Dtype = "float"
    encoding_format: Literal["base64"] | None = None


class VoyageContextualizedRequest(msgspec.Struct):
    """The body of POST /v1/contextualizedembeddings: documents, each a list of consecutive chunks."""

    inputs: list[list[str]]
    model: Name
    input_type: Role | None = None
    output_dimension: Dimension | None = None
    output_dtype: Dtype = "float"
    encoding_format: Literal["base64"] | None = None
    enable_auto_chunking: bool = False


class VoyagePart(msgspec.Struct):
    """One part of an input: text. The other types are those of pictures and films, which no model here reads."""

    type: Literal["text", "image_url", "image_base64", "video_url", "video_base64"]
    text: str | None = None


class VoyageMultimodalInput(msgspec.Struct):
    """One input: parts that are read as one."""

    content: list[VoyagePart]


class VoyageMultimodalRequest(msgspec.Struct):
    """The body of POST /v1/multimodalembeddings."""

    inputs: list[VoyageMultimodalInput]
    model: Name
    input_type: Role | None = None
    truncation: bool = True
    output_dimension: Dimension | None = None
    output_dtype: Dtype = "float"
    encoding_format: Literal["base64"] | None = None
    #: What the reference calls ``encoding_format`` on this path.
    output_encoding: Literal["base64"] | None = None


class VoyageRerankRequest(msgspec.Struct):
    """The body of POST /v1/rerank in Voyage's form."""

    query: str
    documents: list[str]
    model: Name
    top_k: Annotated[int, msgspec.Meta(ge=1)] | None = None
    truncation: bool = True
    return_documents: bool = False


class VoyageUsage(msgspec.Struct, omit_defaults=True):
    """What was read; pixels are counted for inputs of several kinds alone."""

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
    """The reply of POST /v1/embeddings and /v1/multimodalembeddings."""

    object: Literal["list"]
    data: list[VoyageEmbedding]
    model: str
    usage: VoyageUsage


class VoyageDocument(msgspec.Struct):
    """The vectors of a document's chunks."""

    object: Literal["list"]
    data: list[VoyageEmbedding]
    index: int


class VoyageContextualizedReply(msgspec.Struct):
    """The reply of POST /v1/contextualizedembeddings."""

    object: Literal["list"]
    data: list[VoyageDocument]
    model: str
    usage: VoyageUsage


class VoyageRanked(msgspec.Struct, omit_defaults=True):
    """One document's place."""

    index: int
    relevance_score: float
    document: str | None = None


class VoyageRerankReply(msgspec.Struct):
    """The reply of POST /v1/rerank."""

    object: Literal["list"]
    data: list[VoyageRanked]
    model: str
    usage: VoyageUsage


class VoyageError(msgspec.Struct):
    """Any reply that is no success."""

    detail: str


# -- embeddings ----------------------------------------------------------------------------------------------------


def is_embeddings_request(call: RequestContext) -> bool:
    """Return whether a body to /v1/embeddings is Voyage's."""
    return not _EMBEDDING_FIELDS.isdisjoint(call.fields)


def _read(request: VoyageEmbeddingRequest, _: RequestContext) -> Encode:
    inputs = [request.input] if isinstance(request.input, str) else request.input
    return Encode(
        inputs=inputs, wanted={**_wanted(request), "truncate": _policy(request.truncation)}, **_common(request)
    )


def _read_contextualized(request: VoyageContextualizedRequest, _: RequestContext) -> EncodeLateChunks:
    if request.enable_auto_chunking:
        raise InputError(
            "enable_auto_chunking is not offered: cut the documents and send their chunks (the client's chunk_fn "
            "does so), or embed whole documents with /v1/embeddings.",
            param="enable_auto_chunking",
        )
    return EncodeLateChunks(inputs=request.inputs, wanted=_wanted(request), **_common(request))


def _read_multimodal(request: VoyageMultimodalRequest, _: RequestContext) -> Encode:
    inputs = [_joined(number, each.content) for number, each in enumerate(request.inputs)]
    base64 = bool(request.encoding_format or request.output_encoding)
    return Encode(
        model=request.model,
        inputs=inputs,
        wanted={**_wanted(request), "truncate": _policy(request.truncation)},
        reply={"base64": base64},
    )


def _common(request: VoyageEmbeddingRequest | VoyageContextualizedRequest) -> dict[str, Any]:
    return {"model": request.model, "reply": {"base64": request.encoding_format == "base64"}}


def _wanted(
    request: VoyageEmbeddingRequest | VoyageContextualizedRequest | VoyageMultimodalRequest,
) -> Mapping[str, Any]:
    wanted = {
        "role": request.input_type,
        "truncate_dim": request.output_dimension,
        "precision": "float32" if request.output_dtype == "float" else request.output_dtype,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _policy(truncation: bool) -> str:
    return "report" if truncation else "error"


def _joined(number: int, parts: list[VoyagePart]) -> str:
    """Return the text of an input's parts, which are read one after another.

    Raises:
        InputError: there are none, or one is no text.
    """
    if not parts:
        raise InputError(f"inputs {number} has no content: give at least one part of type 'text'.", param="inputs")
    for part in parts:
        if part.type != "text":
            raise InputError(
                f"inputs {number} holds {part.type!r}, and the models of this server read text alone: send parts of "
                "type 'text'.",
                param="inputs",
            )
        if part.text is None:
            raise InputError(f"inputs {number} holds a part of type 'text' that has no text.", param="inputs")
    return "".join(part.text or "" for part in parts)


def _write(exchange: Encode) -> dict[str, Any]:
    return {
        "object": "list",
        "data": _embeddings(_rows(exchange)),
        "model": exchange.model,
        "usage": {"total_tokens": exchange.tokens},
    }


def _write_multimodal(exchange: Encode) -> dict[str, Any]:
    # The client adds up all four, and fails where one is missing.
    usage = {"text_tokens": exchange.tokens, "image_pixels": 0, "video_pixels": 0, "total_tokens": exchange.tokens}
    return {**_write(exchange), "usage": usage}


def _write_contextualized(exchange: EncodeLateChunks) -> dict[str, Any]:
    rows = iter(_rows(exchange))
    documents = [[next(rows) for _ in chunks] for chunks in exchange.inputs]
    data = [{"object": "list", "data": _embeddings(part), "index": index} for index, part in enumerate(documents)]
    return {"object": "list", "data": data, "model": exchange.model, "usage": {"total_tokens": exchange.tokens}}


def _rows(exchange: Encode) -> Any:
    vectors = exchange.vectors
    return [in_base64(row) for row in vectors.data] if exchange.reply["base64"] else in_lists(vectors)


def _embeddings(rows: Any) -> list[dict[str, Any]]:
    return [{"object": "embedding", "embedding": row, "index": index} for index, row in enumerate(rows)]


# -- rerank --------------------------------------------------------------------------------------------------------


def is_rerank_request(call: RequestContext) -> bool:
    """Return whether a body to /v1/rerank is Voyage's."""
    return not _RERANK_FIELDS.isdisjoint(call.fields)


def _read_rerank(request: VoyageRerankRequest, _: RequestContext) -> Rank:
    return Rank(
        model=request.model,
        query=request.query,
        documents=request.documents,
        top_k=request.top_k,
        bounded=True,
        wanted={"truncate": _policy(request.truncation)},
        reply={"documents": request.documents if request.return_documents else None},
    )


def _write_rerank(exchange: Rank) -> dict[str, Any]:
    return {
        "object": "list",
        "data": ranked(exchange, exchange.reply["documents"]),
        "model": exchange.model,
        "usage": {"total_tokens": exchange.tokens},
    }


_EXAMPLE = {"model": "all-MiniLM-L6-v2", "input": ["How tall is Mont Blanc?"], "output_dtype": "float"}
_CHUNKS = {"model": "all-MiniLM-L6-v2", "inputs": [["Mont Blanc is in the Alps. ", "It is 4806 m high."]]}
_PARTS = {"model": "all-MiniLM-L6-v2", "inputs": [{"content": [{"type": "text", "text": "Mont Blanc"}]}]}
_RANK = {**RANKING, "top_k": 1}


class VoyageDialect:
    """The dialect."""

    name = "voyage"
    error_type = VoyageError
    routes = (
        *(
            Route(
                path,
                "Turn texts into vectors",
                _read,
                _write,
                VoyageEmbeddingRequest,
                VoyageEmbeddingReply,
                example=_EXAMPLE,
                matches=is_embeddings_request,
            )
            for path in ("/v1/embeddings", "/embeddings")
        ),
        Route(
            "/v1/contextualizedembeddings",
            "Turn the chunks of documents into vectors that know what stands around them",
            _read_contextualized,
            _write_contextualized,
            VoyageContextualizedRequest,
            VoyageContextualizedReply,
            example=_CHUNKS,
        ),
        Route(
            "/v1/multimodalembeddings",
            "Turn inputs of several parts into vectors: text alone",
            _read_multimodal,
            _write_multimodal,
            VoyageMultimodalRequest,
            VoyageEmbeddingReply,
            example=_PARTS,
        ),
        Route(
            "/v1/rerank",
            "Rank documents by a query",
            _read_rerank,
            _write_rerank,
            VoyageRerankRequest,
            VoyageRerankReply,
            example=_RANK,
            matches=is_rerank_request,
        ),
    )

    def refuse(self, error: NearfieldError) -> Any:
        """Write an error: its text, in the one key that every version of the client reads."""
        return {"detail": str(error)}
