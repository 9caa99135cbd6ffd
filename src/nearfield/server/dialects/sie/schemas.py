"""Request and response structs of SIE's API."""

from __future__ import annotations

from typing import Literal

import msgspec

from nearfield.server.dialects import JsonValue
from nearfield.server.dialects.schemas import Dtype, Name

Kind = Literal["dense", "sparse", "multivector"]


class SieImage(msgspec.Struct, forbid_unknown_fields=True):
    """The file of a picture: bytes in msgpack, base64 or a data URI in JSON. Its format is found in the bytes."""

    data: JsonValue
    format: str | None = None


class SieSound(msgspec.Struct, forbid_unknown_fields=True):
    """The file of a sound or a video, as that of a picture. A sound says its rate itself."""

    data: JsonValue
    format: str | None = None
    sample_rate: int | None = None


class SieItem(msgspec.Struct):
    """One input: a text, a picture, a sound, a video, or several of them together where the model reads them so.

    Documents are known but refused.
    """

    id: str | None = None
    text: str | None = None
    images: list[SieImage] | None = None
    #: A ``SieSound``, or what its ``data`` holds, as in ``video``: the SDK sends the bytes alone, too.
    audio: JsonValue = None
    video: JsonValue = None
    document: JsonValue = None


class SieOptions(msgspec.Struct):
    """Options of a request; the only ``profile`` is ``default``."""

    profile: str | None = None
    is_query: bool | None = None
    normalize: bool | None = None
    lora_id: Name | None = None
    overflow_policy: Literal["default", "truncate_text", "error"] | None = None
    instruction: str | None = None
    output_types: list[Kind] | None = None
    output_dtype: Dtype | None = None
    score_mode: str | None = None


class SieParams(msgspec.Struct):
    """Parameters of POST /v1/encode/{model}."""

    output_types: list[Kind] | None = None
    output_dtype: Dtype | None = None
    instruction: str | None = None
    options: SieOptions | None = None


class SieEncodeRequest(msgspec.Struct):
    """Body of POST /v1/encode/{model}."""

    items: list[SieItem]
    params: SieParams | None = None


class SieScoreRequest(msgspec.Struct):
    """Body of POST /v1/score/{model}."""

    query: SieItem
    items: list[SieItem]
    instruction: str | None = None
    options: SieOptions | None = None


class SieDenseVector(msgspec.Struct):
    """A dense vector; binary is packed, eight dimensions in a byte."""

    dims: int
    dtype: str
    values: list[float]


class SieSparseVector(msgspec.Struct):
    """A sparse vector."""

    dims: int
    dtype: str
    indices: list[int]
    values: list[float]


class SieTokenVectors(msgspec.Struct):
    """One vector for each token."""

    token_dims: int
    num_tokens: int
    dtype: str
    values: list[list[float]]


class SieEncodedItem(msgspec.Struct, omit_defaults=True):
    """The vectors of one item."""

    id: str | None = None
    dense: SieDenseVector | None = None
    sparse: SieSparseVector | None = None
    multivector: SieTokenVectors | None = None


class SieUsage(msgspec.Struct, omit_defaults=True):
    """Number of tokens read, patches of pictures included, and of pictures if there are any."""

    input_tokens: int
    images: int | None = None


class SieEncodeReply(msgspec.Struct):
    """Response body of POST /v1/encode/{model}."""

    model: str
    items: list[SieEncodedItem]
    usage: SieUsage


class SieScore(msgspec.Struct):
    """Score and rank of one item; rank 0 is the best."""

    item_id: str
    score: float
    rank: int


class SieScoreReply(msgspec.Struct):
    """Response body of POST /v1/score/{model}: items by descending score."""

    model: str
    query_id: str | None
    scores: list[SieScore]
    usage: SieUsage


class SieModel(msgspec.Struct):
    """A served model."""

    name: str
    inputs: list[str]
    outputs: list[str]
    dims: dict[str, int]
    loaded: bool
    state: str
    last_error: str | None
    max_sequence_length: int
    profiles: dict[str, dict[str, bool]]
    revision: str | None
    capabilities: None
    routing: dict[str, None]


class SieModelList(msgspec.Struct):
    """The served models."""

    models: list[SieModel]


class SieErrorDetail(msgspec.Struct):
    """Code and message of an error, and the field it is about."""

    code: str
    message: str
    param: str | None


class SieError(msgspec.Struct):
    """Body of an error response."""

    detail: SieErrorDetail
