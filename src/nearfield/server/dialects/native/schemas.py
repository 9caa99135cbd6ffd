"""Request and response structs of Nearfield's own API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from nearfield.server.dialects.schemas import Dtype, Name

Kind = Literal["dense", "sparse", "multivector"]
Activation = Literal["identity", "sigmoid", "softmax", "tanh"]


#: A picture, sound or video: a data URI or base64 in JSON, and in msgpack the bytes of its file, too.
FileData = Annotated[
    Any,
    msgspec.Meta(
        description="A file as a data URI or as base64; in msgpack also its bytes. Or a list of these.",
        extra_json_schema={"type": ["string", "array"], "items": {"type": "string"}},
    ),
]


#: A number in a list within ``input``: these are the token ids of one text.
TokenId = Annotated[
    int,
    msgspec.Meta(
        extra={
            "advice": "A list within 'input' is the token ids of one text. Several parts of one input are an object, "
            'such as {"text": "a scarf", "image": "data:image/png;base64,..."}.'
        }
    ),
]


#: Tokens to read of each input, if fewer than the model reads.
MaxLength = Annotated[int, msgspec.Meta(ge=1)]


class NativeContent(msgspec.Struct, forbid_unknown_fields=True):
    """A text, a picture, a sound or a video; several are read in this order."""

    text: str | None = None
    image: FileData = None
    audio: FileData = None
    video: FileData = None


class NativePart(NativeContent, forbid_unknown_fields=True):
    """One input by its kind: a text, a picture, a sound or a video; or several of them, if a model reads them so.

    ``content`` has several parts in any order, in place of the other fields.
    """

    content: list[NativeContent] | None = None


class NativeEncodeRequest(msgspec.Struct):
    """Body of POST /encode: ``input``, or ``documents`` (lists of consecutive chunks) for late chunking.

    Without ``model``, the first one that has the ``outputs`` is used. Without ``outputs``, the model's main one is
    returned. ``dimensions`` that a model was not trained for need ``force_dimensions``.
    """

    model: Name | None = None
    input: str | NativePart | list[str | int | list[TokenId] | NativePart] | None = None
    documents: list[list[str]] | None = None
    outputs: Kind | list[Kind] | None = None
    role: Literal["query", "document"] | None = None
    prompt_name: Name | None = None
    prompt: str | None = None
    instruction: str | None = None
    task: Name | None = None
    adapter: Name | None = None
    dimensions: int | None = None
    force_dimensions: bool = False
    normalize: bool | None = None
    dtype: Dtype = "float32"
    truncate: Literal["report", "error", "left", "right", "chunk"] | None = None
    max_length: MaxLength | None = None
    encoding: Literal["list", "base64"] = "list"


class NativeEncodeForm(msgspec.Struct):
    """Form of POST /encode: parts ``text``, ``image``, ``audio`` and ``video`` (files), in the order of the inputs.

    The other fields are those of the JSON body, as texts.
    """

    text: list[str] | None = None
    image: list[bytes] | None = None
    audio: list[bytes] | None = None
    video: list[bytes] | None = None
    model: Name | None = None
    outputs: list[Kind] | None = None
    role: Literal["query", "document"] | None = None
    dimensions: int | None = None
    dtype: Dtype = "float32"


class NativeUsage(msgspec.Struct):
    """Numbers of tokens read, cut off, and read but not known to the model, over all inputs."""

    tokens: int
    dropped: int
    unknown: int


class NativeDenseVectors(msgspec.Struct, omit_defaults=True):
    """Dense vectors; ``ranges`` are the smallest and the largest values that int8 and uint8 represent."""

    dtype: Dtype
    dimensions: int
    shape: tuple[int, int]
    fingerprint: str
    data: list[list[float] | str]
    ranges: tuple[list[float], list[float]] | None = None
    #: Number of values outside the ranges.
    clipped: int = 0


class NativeSparseRow(msgspec.Struct):
    """One sparse vector."""

    indices: list[int] | str
    values: list[float] | str


class NativeSparseVectors(msgspec.Struct):
    """Sparse vectors; ``dimensions`` is the size of the vocabulary."""

    dtype: Literal["float32"]
    dimensions: int
    shape: tuple[int, int]
    fingerprint: str
    data: list[NativeSparseRow]


class NativeTokenVectors(msgspec.Struct):
    """One vector for each token that is not masked; ``shape`` is that of all of them together.

    With ``average``, a score is the mean over the query's vectors instead of the sum.
    """

    dtype: Literal["float32"]
    dimensions: int
    shape: tuple[int, int]
    fingerprint: str
    average: bool
    data: list[list[list[float]] | str]


class NativeEncodeReply(msgspec.Struct, omit_defaults=True):
    """Response body of POST /encode: the requested outputs, and for each row its tokens.

    ``precision`` is the number format of the model's arithmetic, ``max_length`` the tokens that it reads at most.
    """

    model: str
    precision: str
    max_length: int
    usage: NativeUsage
    tokens: list[int]
    dropped: list[int]
    unknown: list[int]
    dense: NativeDenseVectors | None = None
    sparse: NativeSparseVectors | None = None
    multivector: NativeTokenVectors | None = None
    #: Number of rows of each document, for late chunking.
    documents: list[int] | None = None


class NativeRankRequest(msgspec.Struct):
    """Body of POST /rank; ``activation`` replaces the model's own. Some models read pictures in query and documents.

    ``prompt`` is the text before the query, or the instruction of a language model. ``max_length`` is the number of
    tokens to read of a pair.
    """

    query: str | NativePart
    documents: list[str | NativePart]
    model: Name | None = None
    top_k: Annotated[int, msgspec.Meta(ge=1)] | None = None
    activation: Activation | None = None
    adapter: Name | None = None
    truncate: Literal["report", "error"] | None = None
    prompt: str | None = None
    max_length: MaxLength | None = None
    return_documents: bool = False


class NativeRankResult(msgspec.Struct, omit_defaults=True):
    """Index of a document in the request, and its score; a document with pictures is not returned."""

    index: int
    score: float
    document: str | None = None


class NativeRankReply(msgspec.Struct):
    """Response body of POST /rank: documents by descending score; tokens are in the order of the request.

    ``fingerprint`` is that of a reranker; null for late interaction. The others are those of POST /encode.
    """

    model: str
    precision: str
    max_length: int
    fingerprint: str | None
    usage: NativeUsage
    results: list[NativeRankResult]
    tokens: list[int]
    dropped: list[int]
    unknown: list[int]


class NativeClassifyRequest(msgspec.Struct):
    """Body of POST /classify: a text, texts, or pairs of texts; ``activation`` replaces the model's own.

    ``prompt`` is the text before each text, or before the first of a pair. ``max_length`` is the number of tokens to
    read of each.
    """

    input: str | list[str | tuple[str, str]]
    model: Name | None = None
    activation: Activation | None = None
    adapter: Name | None = None
    truncate: Literal["report", "error"] | None = None
    prompt: str | None = None
    max_length: MaxLength | None = None


class NativeLabelResult(msgspec.Struct):
    """The label of an input with the highest score, and that score."""

    label: str
    score: float


class NativeClassifyReply(msgspec.Struct):
    """Response body of POST /classify: ``scores`` has one row for each input and one column for each of ``labels``."""

    model: str
    precision: str
    max_length: int
    fingerprint: str | None
    usage: NativeUsage
    labels: list[str]
    results: list[NativeLabelResult]
    scores: list[list[float]]
    tokens: list[int]
    dropped: list[int]
    unknown: list[int]
