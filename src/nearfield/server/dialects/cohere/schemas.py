"""Request and response structs of Cohere's API."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from nearfield.server.dialects import JsonValue
from nearfield.server.dialects.schemas import ErrorDetail, Name

InputType = Literal["search_document", "search_query", "classification", "clustering", "image"]
Kind = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]
Truncate = Literal["NONE", "START", "END"]
Count = Annotated[int, msgspec.Meta(ge=1)]
#: Tokens of a document that v2 reads by default.
_DOCUMENT_TOKENS = 4096


class CohereEmbedV1Request(msgspec.Struct):
    """Body of POST /v1/embed: https://docs.cohere.com/v1/reference/embed

    Without ``model``, the first one that computes vectors is used.
    """

    texts: list[str] | None = None
    images: list[str] | None = None
    model: Name | None = None
    input_type: InputType | None = None
    embedding_types: list[Kind] | None = None
    truncate: Truncate | None = None


class CohereImageUrl(msgspec.Struct, forbid_unknown_fields=True):
    """A picture as a data URI. ``detail`` is without effect: the model's folder says how a picture is resized."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class CohereContent(msgspec.Struct, forbid_unknown_fields=True):
    """A part of an input: text or picture."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: CohereImageUrl | None = None


class CohereInput(msgspec.Struct):
    """An input in parts that becomes one vector: texts, which are joined by line ends, one picture, or both.

    Texts and pictures together are for models that read them so.
    """

    content: list[CohereContent]


class CohereEmbedRequest(msgspec.Struct):
    """Body of POST /v2/embed: https://docs.cohere.com/reference/embed"""

    model: Name
    input_type: InputType
    texts: list[str] | None = None
    images: list[str] | None = None
    inputs: list[CohereInput] | None = None
    max_tokens: Count | None = None
    output_dimension: int | None = None
    embedding_types: list[Kind] | None = None
    truncate: Truncate | None = None


class CohereVersion(msgspec.Struct):
    """Version of the API."""

    version: Literal["1", "2"]


class CohereUnits(msgspec.Struct, omit_defaults=True):
    """Units that the hosted API would bill; nothing is billed here."""

    images: int | None = None
    #: Tokens of the texts.
    input_tokens: int | None = None
    #: Patches of the pictures.
    image_tokens: int | None = None
    search_units: int | None = None


class CohereMeta(msgspec.Struct, omit_defaults=True):
    """Facts about the whole response."""

    api_version: CohereVersion
    billed_units: CohereUnits | None = None
    #: Smallest and largest value that int8 and uint8 represent, in 255 equal steps: uint8 = int8 + 128.
    embedding_range: tuple[float, float] | None = None
    warnings: list[str] | None = None


class CoherePicture(msgspec.Struct):
    """What the file of a picture says of itself; ``bit_depth`` is the number of bits of a pixel."""

    width: int
    height: int
    format: str
    bit_depth: int


class CohereFloatsReply(msgspec.Struct, omit_defaults=True, tag_field="response_type", tag="embeddings_floats"):
    """Response body of POST /v1/embed without ``embedding_types``."""

    id: str
    texts: list[str]
    embeddings: list[list[float]]
    meta: CohereMeta
    images: list[CoherePicture] | None = None


class CohereVectors(msgspec.Struct, omit_defaults=True, rename={"floats": "float"}):
    """The vectors in each requested type.

    ubinary packs x > 0, eight to a byte, most significant bit first; binary is that minus 128; base64 is float32,
    little-endian.
    """

    floats: list[list[float]] | None = None
    int8: list[list[int]] | None = None
    uint8: list[list[int]] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None
    base64: list[str] | None = None


class CohereByTypeReply(msgspec.Struct, omit_defaults=True, tag_field="response_type", tag="embeddings_by_type"):
    """Response body of /v2/embed, and of /v1/embed with ``embedding_types``.

    ``texts`` and ``images`` are those of the request, each in order.
    """

    id: str
    texts: list[str]
    embeddings: CohereVectors
    meta: CohereMeta
    images: list[CoherePicture] | None = None


class CohereRerankV1Request(msgspec.Struct):
    """Body of POST /v1/rerank: https://docs.cohere.com/v1/reference/rerank

    Without ``model``, the first reranker is used. Of a document that is an object, the fields in ``rank_fields`` are
    read in that order; the default is ``text``.
    """

    query: str
    documents: list[str | dict[str, JsonValue]]
    model: Name | None = None
    top_n: Count | None = None
    rank_fields: list[str] | None = None
    return_documents: bool = False


class CohereRerankRequest(msgspec.Struct):
    """Body of POST /v2/rerank: https://docs.cohere.com/reference/rerank"""

    model: Name
    query: str
    documents: list[str]
    top_n: Count | None = None
    max_tokens_per_doc: Count = _DOCUMENT_TOKENS


class CohereRankResult(msgspec.Struct, omit_defaults=True):
    """Position and relevance (0 to 1) of one document, and the document if it was requested."""

    index: int
    relevance_score: float
    document: dict[str, JsonValue] | None = None


class CohereRerankReply(msgspec.Struct):
    """Response body of /v1/rerank and /v2/rerank: documents by descending relevance."""

    id: str
    results: list[CohereRankResult]
    meta: CohereMeta


class CohereTokenizeRequest(msgspec.Struct):
    """Body of POST /v1/tokenize: https://docs.cohere.com/reference/tokenize"""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=65_536)]
    model: Name


class CohereTokenizeReply(msgspec.Struct):
    """Response body of POST /v1/tokenize: no special tokens; ``token_strings`` are spelled as in the vocabulary."""

    tokens: list[int]
    token_strings: list[str]
    meta: CohereMeta


class CohereDetokenizeRequest(msgspec.Struct):
    """Body of POST /v1/detokenize: https://docs.cohere.com/reference/detokenize"""

    tokens: Annotated[list[int], msgspec.Meta(min_length=1, max_length=65_536)]
    model: Name


class CohereDetokenizeReply(msgspec.Struct):
    """Response body of POST /v1/detokenize."""

    text: str
    meta: CohereMeta


class CohereKeyReply(msgspec.Struct):
    """Response body of POST /v1/check-api-key: with a wrong key, the status is 401."""

    valid: Literal[True]


class CohereError(msgspec.Struct):
    """Body of an error response: https://docs.cohere.com/reference/errors"""

    id: str
    message: str
    detail: str
    error: ErrorDetail
