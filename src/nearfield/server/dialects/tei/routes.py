"""TEI's API, that of Hugging Face's Text Embeddings Inference: https://huggingface.github.io/text-embeddings-inference/

Its bodies name no model: the first loaded one that can do it answers, unless our own field ``model`` names another.
Where TEI serves one model and refuses what that cannot do, so does this, with the same kinds of error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
import orjson

from nearfield import __version__
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.errors import (
    AccessDenied,
    ExecutionFailed,
    Forbidden,
    InputError,
    ModelNotFound,
    ModelUnavailable,
    NearfieldError,
    Overloaded,
    ShuttingDown,
    SourceUnavailable,
    TooLarge,
    WrongModel,
)
from nearfield.hardware import usable_cores
from nearfield.server.dialects import Reply, RequestContext, Route
from nearfield.server.dialects.schemas import Name, in_lists
from nearfield.server.exchange import CompositeExchange, Encode, Exchange, Predict, Rank, Tokenize
from nearfield.server.models.description import ModelDescription, ModelKind
from nearfield.vectors.dense import normalize

Direction = Literal["Left", "left", "Right", "right"]
Input = str | list[str | int | list[int]]
#: Characters of a text that TEI tokenises at most, for each token that the model reads.
_CHARACTERS_A_TOKEN = 250
#: Characters of a complaint about a body: it may quote what it complains about.
_LONGEST_COMPLAINT = 500


class _Cut(msgspec.Struct, kw_only=True):
    truncate: bool = True
    truncation_direction: Direction = "right"
    model: Name | None = None


class TeiEmbedAllRequest(_Cut, kw_only=True):
    """The body of POST /embed_all and /embed_sparse; token ids are read as they are, special tokens put around them."""

    inputs: Input
    prompt_name: Name | None = None


class TeiEmbedRequest(TeiEmbedAllRequest, kw_only=True):
    """The body of POST /embed.

    ``normalize`` false leaves vectors as the model makes them: one whose last module makes unit vectors still does,
    and the reply then names ``normalize`` among the fields that were ignored.
    """

    normalize: bool = True
    dimensions: int | None = None


class TeiRerankRequest(_Cut, kw_only=True):
    """The body of POST /rerank; scores go through a sigmoid unless ``raw_scores``. Late interaction's sums never do."""

    query: str
    texts: list[str]
    raw_scores: bool = False
    return_text: bool = False


class TeiPredictRequest(_Cut, kw_only=True):
    """The body of POST /predict: a text, a pair of texts (a list of two), or a list of lists of one or two texts."""

    inputs: str | list[str | list[str]]
    raw_scores: bool = False


class TeiSentences(msgspec.Struct):
    """A sentence and those that it is compared with."""

    source_sentence: str
    sentences: list[str]


class TeiSimilarityParameters(msgspec.Struct):
    """How sentences are read."""

    truncate: bool | None = None
    truncation_direction: Direction | None = None
    prompt_name: Name | None = None


class TeiSimilarityRequest(msgspec.Struct, kw_only=True):
    """The body of POST /similarity."""

    inputs: TeiSentences
    parameters: TeiSimilarityParameters = msgspec.field(default_factory=TeiSimilarityParameters)
    model: Name | None = None


class TeiTokenizeRequest(msgspec.Struct, kw_only=True):
    """The body of POST /tokenize."""

    inputs: str | list[str]
    add_special_tokens: bool = True
    prompt_name: Name | None = None
    model: Name | None = None


class TeiDecodeRequest(msgspec.Struct, kw_only=True):
    """The body of POST /decode."""

    ids: list[int | list[int]]
    skip_special_tokens: bool = True
    model: Name | None = None


class TeiAnyRequest(_Cut, kw_only=True):
    """The body of POST / and /invocations: that of /rerank, /similarity, or of what the first model does."""

    inputs: Any = None
    parameters: Any = None
    query: Any = None
    texts: Any = None
    prompt_name: Any = None
    normalize: Any = None
    dimensions: Any = None
    raw_scores: Any = None
    return_text: Any = None


class TeiVertexRequest(msgspec.Struct):
    """The body of POST /vertex: bodies such as POST / takes."""

    instances: list[dict[str, Any]]


class TeiSparseValue(msgspec.Struct):
    """A token of the vocabulary, and its weight."""

    index: int
    value: float


class TeiRank(msgspec.Struct, omit_defaults=True):
    """A text's place in what was sent, and its score."""

    index: int
    score: float
    text: str | None = None


class TeiPrediction(msgspec.Struct):
    """A label's score."""

    score: float
    label: str


class TeiToken(msgspec.Struct, omit_defaults=True):
    """One token; ``start`` and ``stop`` count the bytes of prompt and text in UTF-8. Special ones have neither."""

    id: int
    text: str
    special: bool
    start: int | None = None
    stop: int | None = None


class TeiPredictions(msgspec.Struct):
    """The reply of POST /vertex."""

    predictions: list[Any]


class TeiInfo(msgspec.Struct):
    """The reply of GET /info. Requests at once are bounded by their tokens and bytes, not by their number."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    served_model_name: str
    model_type: dict[str, Any]
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
    """Any reply that is no success."""

    error: str
    error_type: str


_VectorRows = list[list[float]]
_TokenRows = list[list[list[float]]]
_SparseRows = list[list[TeiSparseValue]]
_Ranks = list[TeiRank]
_Scores = list[float]
_Labels = list[TeiPrediction | list[TeiPrediction]]
_Tokens = list[list[TeiToken]]
_Texts = list[str]
_Anything = list[Any]


class Empty(InputError):
    """A text, or a list of inputs, that has nothing in it."""

    code = "empty_input"


@dataclass(kw_only=True)
class EveryToken(Encode):
    """Texts to vectors of all their tokens.

    Of models that are made for late interaction alone: others keep what comes before pooling to themselves, and
    bge-m3's vectors of tokens are other ones than those.
    """

    needs: tuple[str, ...] = ("multivector",)

    def fits(self, model: ModelDescription) -> bool:
        return super().fits(model) and model.outputs[0] == "multivector"

    def misfit(self, model: ModelDescription) -> InputError:
        return InputError(
            f"{model.name} gives no vectors of single tokens here: serve a model of late interaction (ColBERT) for "
            "/embed_all, or ask /embed for pooled vectors.",
            param="model",
        )


# -- reading ---------------------------------------------------------------------------------------------------------


def _embed(request: TeiEmbedRequest, call: RequestContext) -> Exchange:
    options = {"normalize_embeddings": request.normalize, "truncate_dim": request.dimensions}
    given = {name: value for name, value in options.items() if value is not None}
    return _encode(Encode, request, call, _vectors, {**given, **_prompted(request)}, asked_plain=not request.normalize)


def _embed_all(request: TeiEmbedAllRequest, call: RequestContext) -> Exchange:
    return _encode(EveryToken, request, call, _token_vectors, {"outputs": "multivector", **_prompted(request)})


def _embed_sparse(request: TeiEmbedAllRequest, call: RequestContext) -> Exchange:
    options = {"outputs": "sparse", **_prompted(request)}
    return _encode(Encode, request, call, _weights, options, needs=("sparse",))


def _encode(
    kind: type[Encode],
    request: TeiEmbedAllRequest,
    call: RequestContext,
    body: Callable[[Any], Any],
    options: Mapping[str, Any],
    *,
    asked_plain: bool = False,
    **more: Any,
) -> Exchange:
    texts = _inputs(request.inputs)
    exchange = kind(
        model=request.model,
        inputs=texts,
        wanted={**options, "truncate": _side(request.truncate, request.truncation_direction)},
        reply={"body": body, "characters": sum(map(len, texts)), "plain": asked_plain},
        **more,
    )
    return _for_model(exchange, call)


def _similarity(request: TeiSimilarityRequest, call: RequestContext) -> Exchange:
    sentences, asked = request.inputs.sentences, request.parameters
    _require(sentences, "inputs.sentences")
    texts = [request.inputs.source_sentence, *sentences]
    _require(texts, "inputs")
    side = _side(asked.truncate is not False, asked.truncation_direction or "right")
    exchange = Encode(
        model=request.model,
        inputs=texts,
        wanted={"truncate": side, **_prompted(asked)},
        reply={"body": _cosines, "characters": sum(map(len, texts))},
    )
    return _for_model(exchange, call)


def _rerank(request: TeiRerankRequest, call: RequestContext) -> Exchange:
    if not request.texts or not (request.query or all(request.texts)):
        raise Empty("`texts` cannot be empty, nor may a text be where `query` is.")
    exchange = Rank(
        model=request.model,
        query=request.query,
        documents=request.texts,
        called="texts",
        wanted={"activation": "identity" if request.raw_scores else "sigmoid", "truncate": _at_end(request)},
        reply={
            "body": _ranks,
            "characters": len(request.query) * len(request.texts) + sum(map(len, request.texts)),
            "texts": request.return_text,
        },
    )
    return _for_model(exchange, call, "reranker")


def _predict(request: TeiPredictRequest, call: RequestContext) -> Exchange:
    items, single = _sequences(request.inputs)
    exchange = Predict(
        model=request.model,
        inputs=items,
        bounded=not request.raw_scores,
        wanted={"truncate": _at_end(request), **({"activation": "identity"} if request.raw_scores else {})},
        reply={"body": _labels, "characters": sum(len("".join(item)) for item in items), "single": single},
    )
    return _for_model(exchange, call, "classifier")


def _tokenize(request: TeiTokenizeRequest, call: RequestContext) -> Exchange:
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    _require(texts, "inputs")
    reply = {
        "special": request.add_special_tokens,
        "most": call.limits.tokens if call.limits is not None else None,
    }
    return Tokenize(model=request.model, texts=texts, prompt_name=request.prompt_name, reply=reply)


def _decode(request: TeiDecodeRequest, _: RequestContext) -> Exchange:
    given = request.ids
    batch: Any = given if given and all(isinstance(each, list) for each in given) else [given]
    _require(batch, "ids")
    if any(isinstance(number, list) for ids in batch for number in ids):
        raise InputError("`ids` mixes token ids and lists of them: send one list, or a list of lists.", param="ids")
    return Tokenize(model=request.model, ids=batch, reply={"skip": request.skip_special_tokens})


def _any(_: TeiAnyRequest, call: RequestContext) -> Exchange:
    return _by_body(call.body, call)


def _vertex(request: TeiVertexRequest, call: RequestContext) -> Exchange:
    bodies = [
        {name: value for name, value in each.items() if value is not None} for each in request.instances
    ]  # a null says as much as no field
    return CompositeExchange(parts=[_by_body(body, call) for body in bodies])


def _by_body(body: Mapping[str, Any], call: RequestContext) -> Exchange:
    """Tell what a body asks for; a mere ``inputs`` asks for what the model does, the first one if none is named."""
    if "texts" in body:
        return _rerank(_as(TeiRerankRequest, body), call)
    if isinstance(body.get("inputs"), dict):
        return _similarity(_as(TeiSimilarityRequest, body), call)
    model = _meant(body.get("model"), call)
    body = body if model is None else {**body, "model": model.name}
    if model is not None and not model.is_encoder:
        return _predict(_as(TeiPredictRequest, body), call)
    if model is not None and model.outputs[0] == "sparse":
        return _embed_sparse(_as(TeiEmbedAllRequest, body), call)
    return _embed(_as(TeiEmbedRequest, body), call)


def _meant(name: Any, call: RequestContext) -> ModelDescription | None:
    """Return the model that a body means, if it is loaded and its name is one."""
    if name is None:
        return next(iter(call.models.descriptions), None)
    try:
        return call.models.describe(name) if isinstance(name, str) else None
    except ModelNotFound:
        return None  # it may be loaded for this request, or is refused when it is asked for


def _for_model(exchange: Exchange, call: RequestContext, preferred: ModelKind | None = None) -> Exchange:
    """Name the model where the body did not: the first that fits, one made for this before others that can do it.

    Raises:
        WrongModel: none of those loaded fits.
    """
    if exchange.model is not None or not call.models.loaded:
        return exchange
    able = [model for model in call.models.descriptions if exchange.fits(model)]
    if not able:
        raise WrongModel(str(exchange.misfit(call.models.descriptions[0])), param="model")
    exchange.model = next((model for model in able if model.kind == preferred), able[0]).name
    return exchange


def _as(kind: Any, body: Mapping[str, Any]) -> Any:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"Invalid request: {str(error)[:_LONGEST_COMPLAINT]}.") from error


def _prompted(request: TeiEmbedAllRequest | TeiSimilarityParameters) -> dict[str, str]:
    return {} if request.prompt_name is None else {"prompt_name": request.prompt_name}


def _side(truncate: bool, direction: Direction) -> str:
    if not truncate:
        return "error"
    return "left" if direction.lower() == "left" else "report"


def _at_end(request: _Cut) -> str:
    """Return how pairs are cut: from the end of their longer text, or not at all."""
    side = _side(request.truncate, request.truncation_direction)
    if side == "left":
        raise InputError(
            f"`truncation_direction` {request.truncation_direction!r} applies to embeddings. What a classifier or "
            "reranker reads is cut at its end: leave the field out, or send `truncate` false to have nothing cut.",
            param="truncation_direction",
        )
    return side


def _inputs(given: Any) -> list[Any]:
    """Return a list of texts and lists of token ids: a list of integers alone is one input."""
    if isinstance(given, str) or (given and all(isinstance(item, int) for item in given)):
        given = [given]
    if any(isinstance(item, int) for item in given):
        raise InputError("`inputs` holds token ids beside other inputs: put them into a list of their own.")
    _require(given, "inputs")
    return list(given)


def _require(items: Sequence[Any], name: str) -> None:
    if not items:
        raise Empty(f"`{name}` cannot be empty")
    empty = next((index for index, item in enumerate(items) if not item), None)
    if empty is not None:
        raise Empty(f"`{name}` cannot be empty, and item {empty} is")


def _sequences(given: Any) -> tuple[list[Any], bool]:
    """Return texts and pairs of texts, and whether what was given is a single one: a list of two texts is a pair."""
    single = isinstance(given, str) or any(isinstance(item, str) for item in given)
    batch = [[given] if isinstance(given, str) else given] if single else given
    _require(batch, "inputs")
    for item in batch:
        if len(item) > 2 or not all(isinstance(text, str) for text in item):
            raise InputError(
                "`inputs` must be a text, a pair of texts [a, b], or a list of such in lists [[a], [a, b]]: send a "
                "list of texts as [[text], [text], ...].",
                param="inputs",
            )
        if not any(item):
            raise Empty("`inputs` cannot be empty")
    return [item[0] if len(item) == 1 else tuple(item) for item in batch], single


# -- writing ---------------------------------------------------------------------------------------------------------


def write(exchange: Exchange) -> Reply:
    """Write the body that was asked for, with TEI's headers."""
    return Reply(exchange.reply["body"](exchange), headers=headers(exchange))


def headers(exchange: Exchange) -> dict[str, str]:
    """Give figures in TEI's headers, times in whole milliseconds; one that is not known for this request is left out.

    ``x-compute-type``, which is the same on all machines there, is left out too.
    """
    taken = time.perf_counter() - exchange.started
    stages = {
        "x-compute-time": taken,
        "x-total-time": taken,
        "x-tokenization-time": exchange.seconds.get("tokenise"),
        "x-queue-time": exchange.seconds.get("queue"),
        "x-inference-time": exchange.seconds.get("run"),
    }
    times = {name: str(int(1000 * seconds)) for name, seconds in stages.items() if seconds is not None}
    counts = {"x-compute-characters": exchange.reply["characters"], "x-compute-tokens": exchange.tokens}
    return {name: str(count) for name, count in counts.items()} | times


def _vectors(exchange: Encode) -> list[Any]:
    model = exchange.description
    if exchange.reply["plain"] and model is not None and model.normalized:
        exchange.ignored = (*exchange.ignored, "normalize")
    return list(in_lists(exchange.vectors))


def _token_vectors(exchange: Any) -> list[Any]:
    return list(exchange.result.multivector)


def _weights(exchange: Any) -> list[Any]:
    # The values stay float32, of which the writer gives the shortest form.
    return [
        [{"index": index, "value": value} for index, value in zip(ids.tolist(), values, strict=True)]
        for ids, values in exchange.result.sparse
    ]


def _cosines(exchange: Encode) -> Any:
    unit = normalize(exchange.vectors.data)
    return unit[1:] @ unit[0]


def _ranks(exchange: Any) -> list[Any]:
    scores = exchange.scores.data
    return [
        {
            "index": each.index,
            **({"text": exchange.documents[each.index]} if exchange.reply["texts"] else {}),
            "score": scores[each.index],
        }
        for each in exchange.ranked
    ]


def _labels(exchange: Any) -> list[Any]:
    names = exchange.description.labels
    rows = [
        [{"score": row[index], "label": names[index]} for index in np.argsort(-row, kind="stable")]
        for row in exchange.scores.data
    ]
    return rows[0] if exchange.reply["single"] else rows


def _predictions(exchange: CompositeExchange) -> dict[str, Any]:
    """Write each part; what any of them ignored, the whole request did."""
    written = [part.reply["body"](part) for part in exchange.parts]
    ignored = (name for part in exchange.parts for name in part.ignored)
    exchange.ignored = tuple(dict.fromkeys((*exchange.ignored, *ignored)))
    return {"predictions": written}


def _tokens(exchange: Any) -> list[orjson.Fragment]:
    """Write each text's tokens before the next one is tokenised."""
    return [orjson.Fragment(orjson.dumps(tokens)) for tokens in tokens_of(exchange)]


def tokens_of(exchange: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield all tokens of each text, none of them cut, as the fields of TeiToken.

    Raises:
        InputError, TooLarge: a text is too long, or not Unicode; or all together have too many tokens.
    """
    tokenizer, left = exchange.tokenizer, exchange.reply["most"]
    most = _CHARACTERS_A_TOKEN * tokenizer.max_length
    for index, text in enumerate(exchange.texts):
        if len(text) > most:
            raise InputError(f"`inputs` must have at most {most} characters; item {index} has {len(text)}.")
        tokens = _tokens_of(tokenizer, exchange.prompt + text, exchange.reply["special"])
        if left is not None and (left := left - len(tokens)) < 0:
            raise TooLarge(
                f"The inputs have more than {exchange.reply['most']} tokens, the most of one request. Send them in "
                "parts.",
                param="inputs",
            )
        yield tokens


def _tokens_of(tokenizer: Tokenizer, text: str, special: bool) -> list[dict[str, Any]]:
    try:
        found = tokenizer.backend.encode(text, add_special_tokens=special)
    except TypeError as error:  # Rust takes no lone surrogate, and says only that it wanted a string
        raise InputError(
            "`inputs` is not Unicode: it holds a lone surrogate; repair it where it was decoded."
        ) from error
    at = _byte_offsets(text)
    parts = zip(found.ids, found.tokens, found.offsets, found.special_tokens_mask, strict=True)
    return [
        {"id": number, "text": token, "special": True, "start": None, "stop": None}
        if mark
        else {"id": number, "text": text[start:stop], "special": False, "start": at[start], "stop": at[stop]}
        for number, token, (start, stop), mark in parts
    ]


def _byte_offsets(text: str) -> Sequence[int]:
    """Return where each character begins in UTF-8, and where the last one ends: TEI counts bytes."""
    if text.isascii():
        return range(len(text) + 1)
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    sizes = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    ends: list[int] = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    return ends


def _texts(exchange: Any) -> list[str]:
    tokenizer = exchange.tokenizer
    for ids in exchange.ids:
        wrong = next((number for number in ids if not 0 <= number < tokenizer.vocab_size), None)
        if wrong is not None:
            raise InputError(f"Token id {wrong} is out of range: 0 to {tokenizer.vocab_size - 1} exist.", param="ids")
    skip = exchange.reply["skip"]
    return [tokenizer.backend.decode(ids, skip_special_tokens=skip) for ids in exchange.ids]


# -- without a model's work --------------------------------------------------------------------------------------------


def _info(_: None, call: RequestContext) -> dict[str, Any]:
    name = call.query.get("model")
    model = call.models.describe(name) if name else call.models.first(lambda _: True)
    return {
        "model_id": model.name,
        "model_sha": model.revision,
        "model_dtype": {"bf16": "bfloat16"}.get(model.precision, model.precision),
        "served_model_name": model.name,
        "model_type": _model_type(model),
        "max_concurrent_requests": None,
        "max_input_length": model.max_length,
        "max_batch_tokens": model.batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": call.limits.items if call.limits is not None else None,
        "auto_truncate": True,
        "tokenization_workers": usable_cores(),
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }


def _model_type(model: ModelDescription) -> dict[str, Any]:
    if not model.is_encoder:
        numbers = {str(number): label for number, label in enumerate(model.labels)}
        labels = {"id2label": numbers, "label2id": {label: int(number) for number, label in numbers.items()}}
        return {"reranker" if len(model.labels) == 1 else "classifier": labels}
    return {"embedding": {"pooling": _pooling(model)}}


def _pooling(model: ModelDescription) -> str:
    """Name the pooling as TEI does; what it does not know, by what the model gives."""
    return "+".join(model.pooling).replace("lasttoken", "last_token") or model.outputs[0]


def _ping(_: None, __: RequestContext) -> Reply:
    return Reply(b"", media_type="text/plain")


# -- refusing --------------------------------------------------------------------------------------------------------

#: Kinds of error as TEI names them, and their status; None keeps the error's own. The first that fits is taken.
_KINDS: tuple[tuple[type[NearfieldError], str, int | None], ...] = (
    (Empty, "Empty", 400),
    (WrongModel, "Backend", 424),
    (ExecutionFailed, "Backend", 424),
    (ModelUnavailable, "Unhealthy", 503),
    (Overloaded, "Overloaded", 429),
    (ShuttingDown, "Unhealthy", 503),
    (SourceUnavailable, "Unhealthy", 503),
    (AccessDenied, "Unauthorized", None),
    (Forbidden, "Unauthorized", None),
    (ModelNotFound, "Validation", None),
    (InputError, "Validation", None),
)
_PREFIXES = {
    "Empty": "Input validation error: ",
    "Validation": "Input validation error: ",
    "Backend": "Backend error: ",
    "Overloaded": "Model is overloaded: ",
}

_ONE = {"inputs": "What is Deep Learning?"}
_PAIRED = {"query": "What is Deep Learning?", "texts": ["Deep Learning is ..."]}
_SOURCE = {"inputs": {"source_sentence": "What is Deep Learning?", "sentences": ["What is Machine Learning?"]}}


class TeiDialect:
    """The dialect."""

    name = "tei"
    error_type = TeiError
    routes = (
        Route("/embed", "Turn texts into vectors", _embed, write, TeiEmbedRequest, _VectorRows, example=_ONE),
        Route("/embed_all", "Turn texts into vectors of tokens", _embed_all, write, TeiEmbedAllRequest, _TokenRows),
        Route("/embed_sparse", "Turn texts into sparse vectors", _embed_sparse, write, TeiEmbedAllRequest, _SparseRows),
        Route("/rerank", "Rank texts for a query", _rerank, write, TeiRerankRequest, _Ranks, example=_PAIRED),
        Route("/predict", "Label texts, or pairs of texts", _predict, write, TeiPredictRequest, _Labels, example=_ONE),
        Route("/similarity", "Compare sentences", _similarity, write, TeiSimilarityRequest, _Scores, example=_SOURCE),
        Route("/tokenize", "Turn texts into tokens", _tokenize, _tokens, TeiTokenizeRequest, _Tokens, example=_ONE),
        Route("/decode", "Turn token ids into texts", _decode, _texts, TeiDecodeRequest, _Texts),
        *(
            Route(path, "Do what the first model does", _any, write, TeiAnyRequest, _Anything, example=_ONE)
            for path in ("/", "/invocations")
        ),
        Route("/vertex", "Do several such requests", _vertex, _predictions, TeiVertexRequest, TeiPredictions),
        Route("/info", "Describe the first model", _info, response_type=TeiInfo, method="GET"),
        Route("/ping", "Whether the process lives", _ping, method="GET", public=True),
    )

    def refuse(self, error: NearfieldError) -> Any:
        kind, status = next(
            ((name, status) for known, name, status in _KINDS if isinstance(error, known)), ("Backend", None)
        )
        if status is None:
            status = 422 if kind == "Validation" and error.status == 400 else error.status
        return Reply({"error": _PREFIXES.get(kind, "") + str(error), "error_type": kind}, status)
