"""Request and response structs of Jina's API."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from nearfield.server.dialects import JsonValue
from nearfield.server.dialects.schemas import Name

Type = Literal["float", "base64", "binary", "ubinary"]


class JinaItem(msgspec.Struct):
    """One input or document: a text, or in inputs a picture, a sound, or its parts.

    ``url`` and ``bytes`` are older names of a picture. PDFs and videos are known but refused.
    """

    text: str | None = None
    image: JsonValue = None
    audio: JsonValue = None
    video: JsonValue = None
    pdf: JsonValue = None
    content: JsonValue = None
    url: JsonValue = None
    bytes: JsonValue = None


class JinaContent(msgspec.Struct):
    """The parts of an input that are read together."""

    content: list[str | JinaItem]


class JinaEmbeddingRequest(msgspec.Struct):
    """Body of POST /v1/embeddings in Jina's form.

    ``normalized`` scales vectors to unit length; a model whose own last module does so always does.
    """

    input: str | list[str | JinaItem]
    model: Name
    task: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    dimensions: int | None = None
    normalized: bool | None = None
    late_chunking: bool = False
    truncate: bool = False
    embedding_type: Type | None = None
    #: LlamaIndex's name of ``embedding_type``.
    encoding_type: Type | None = None
    #: OpenAI's field, used without ``embedding_type``.
    encoding_format: Literal["float", "base64"] | None = None
    return_multivector: bool = False


class JinaUsage(msgspec.Struct):
    """Number of tokens read."""

    total_tokens: int
    prompt_tokens: int


class JinaEmbedding(msgspec.Struct, omit_defaults=True):
    """One input's vector (``embedding``), or the vectors of its tokens (``embeddings``)."""

    object: Literal["embedding", "embeddings"]
    index: int
    embedding: list[float] | str | None = None
    embeddings: list[list[float]] | None = None


class JinaEmbeddingReply(msgspec.Struct):
    """Response body of POST /v1/embeddings."""

    model: str
    object: Literal["list"]
    usage: JinaUsage
    data: list[JinaEmbedding]


class JinaRerankRequest(msgspec.Struct):
    """Body of POST /v1/rerank; without ``model``, the first served reranker is used."""

    query: str | JinaItem
    documents: list[str | JinaItem]
    model: Name | None = None
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool = True
    #: Maximum number of tokens read of each document.
    max_doc_length: Annotated[int, msgspec.Meta(ge=1)] | None = None


class InfinityRerankRequest(JinaRerankRequest):
    """Body of POST /rerank with documents, as clients of Infinity and vLLM send it: by default none are returned."""

    return_documents: bool = False
    #: Whether scores are the numbers of the model, not scaled to between 0 and 1.
    raw_scores: bool = False


class JinaRankResult(msgspec.Struct, omit_defaults=True):
    """Index and score of one document, and the document from the request."""

    index: int
    relevance_score: float
    document: str | dict[str, JsonValue] | None = None


class JinaRerankReply(msgspec.Struct):
    """Response body of POST /v1/rerank; ``data`` repeats ``results`` for clients that read that key.

    In the response of POST /rerank, ``object`` is ``rerank``: Infinity's client accepts nothing else.
    """

    model: str
    object: Literal["list", "rerank"]
    usage: JinaUsage
    results: list[JinaRankResult]
    data: list[JinaRankResult]


class JinaFieldError(msgspec.Struct):
    """A field with a wrong value."""

    field: str
    message: str
    type: str


class JinaError(msgspec.Struct, omit_defaults=True):
    """Body of an error response; Jina's clients show ``detail``."""

    detail: str
    message: str
    error: dict[str, JsonValue]
    code: str
    errors: list[JinaFieldError] = []
