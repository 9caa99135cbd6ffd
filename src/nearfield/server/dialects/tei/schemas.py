"""Request and response structs of TEI's API."""

from __future__ import annotations

from typing import Literal

import msgspec

from nearfield.server.dialects import JsonValue
from nearfield.server.dialects.schemas import Name

Direction = Literal["Left", "left", "Right", "right"]
Input = str | list[str | int | list[int]]


class TeiTruncation(msgspec.Struct, kw_only=True):
    """Fields that most request bodies share."""

    truncate: bool = True
    truncation_direction: Direction = "right"
    model: Name | None = None


class TeiEmbedAllRequest(TeiTruncation, kw_only=True):
    """Body of POST /embed_all and /embed_sparse; special tokens are added around token ids, too."""

    inputs: Input
    prompt_name: Name | None = None


class TeiEmbedRequest(TeiEmbedAllRequest, kw_only=True):
    """Body of POST /embed.

    With ``normalize`` false, a model whose own last module scales vectors to unit length still does so. The response
    then names ``normalize`` among the ignored fields.
    """

    normalize: bool = True
    dimensions: int | None = None


class TeiRerankRequest(TeiTruncation, kw_only=True):
    """Body of POST /rerank; unless ``raw_scores``, scores get a sigmoid; late-interaction sums never do."""

    query: str
    texts: list[str]
    raw_scores: bool = False
    return_text: bool = False


class TeiPredictRequest(TeiTruncation, kw_only=True):
    """Body of POST /predict: a text, a pair of texts (a list of two), or a list of lists of one or two texts."""

    inputs: str | list[str | list[str]]
    raw_scores: bool = False


class TeiSentences(msgspec.Struct):
    """A sentence, and the sentences to compare it with."""

    source_sentence: str
    sentences: list[str]


class TeiSimilarityParameters(msgspec.Struct):
    """Tokenisation options of POST /similarity."""

    truncate: bool | None = None
    truncation_direction: Direction | None = None
    prompt_name: Name | None = None


class TeiSimilarityRequest(msgspec.Struct, kw_only=True):
    """Body of POST /similarity."""

    inputs: TeiSentences
    parameters: TeiSimilarityParameters = msgspec.field(default_factory=TeiSimilarityParameters)
    model: Name | None = None


class TeiTokenizeRequest(msgspec.Struct, kw_only=True):
    """Body of POST /tokenize."""

    inputs: str | list[str]
    add_special_tokens: bool = True
    prompt_name: Name | None = None
    model: Name | None = None


class TeiDecodeRequest(msgspec.Struct, kw_only=True):
    """Body of POST /decode."""

    ids: list[int | list[int]]
    skip_special_tokens: bool = True
    model: Name | None = None


class TeiAnyRequest(TeiTruncation, kw_only=True):
    """Body of POST / and /invocations: that of /rerank, of /similarity, or of the path for the first model's kind."""

    inputs: JsonValue = None
    parameters: JsonValue = None
    query: JsonValue = None
    texts: JsonValue = None
    prompt_name: JsonValue = None
    normalize: JsonValue = None
    dimensions: JsonValue = None
    raw_scores: JsonValue = None
    return_text: JsonValue = None


class TeiVertexRequest(msgspec.Struct):
    """Body of POST /vertex: a list of bodies of POST /."""

    instances: list[dict[str, JsonValue]]


class TeiSparseValue(msgspec.Struct):
    """A token of the vocabulary and its weight."""

    index: int
    value: float


class TeiRank(msgspec.Struct, omit_defaults=True):
    """A text's position in the request, and its score."""

    index: int
    score: float
    text: str | None = None


class TeiPrediction(msgspec.Struct):
    """A label and its score."""

    score: float
    label: str


class TeiToken(msgspec.Struct, omit_defaults=True):
    """One token; ``start`` and ``stop`` are UTF-8 byte offsets in prompt and text. Special tokens have neither."""

    id: int
    text: str
    special: bool
    start: int | None = None
    stop: int | None = None


class TeiPredictions(msgspec.Struct):
    """Response body of POST /vertex."""

    predictions: list[JsonValue]


class TeiInfo(msgspec.Struct):
    """Response body of GET /info; concurrent requests are limited by tokens and bytes, not by number."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    served_model_name: str
    model_type: dict[str, JsonValue]
    max_concurrent_requests: int | None
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int | None
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None


class TeiError(msgspec.Struct):
    """Body of an error response."""

    error: str
    error_type: str


VectorRows = list[list[float]]
TokenRows = list[list[list[float]]]
SparseRows = list[list[TeiSparseValue]]
RankList = list[TeiRank]
ScoreList = list[float]
LabelLists = list[TeiPrediction | list[TeiPrediction]]
TokenLists = list[list[TeiToken]]
TextList = list[str]
AnyList = list[JsonValue]
