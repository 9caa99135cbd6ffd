"""SIE's (Superlinked Inference Engine's) API, as its SDK speaks it: https://github.com/superlinked/sie

Bodies are msgpack or JSON; replies are msgpack unless Accept names JSON alone. Arrays in msgpack are the maps of
msgpack-numpy. What differs from SIE: ``int8`` and ``uint8`` are on one scale for all vectors of a model, and an option
that would change vectors or scores, and that no model here knows, is refused; what else is not known is ignored, and
named in the header x-nearfield-ignored-fields.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np

from nearfield import catalog
from nearfield.encoder import Encoder
from nearfield.errors import ExecutionFailed, InputError, InputTooLong, ModelNotFound, NearfieldError, Overloaded
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.dialects import JSON, MSGPACK, Reply, RequestContext, Route
from nearfield.server.dialects.schemas import Dtype, Name
from nearfield.server.exchange import Encode, Rank
from nearfield.server.models.model_pool import ModelEntry
from nearfield.vectors.dense import Vectors
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs
from nearfield.vectors.sparse import SparseVectors

#: The version of SIE whose API this is: its SDK warns about servers of another one.
VERSION = {"x-sie-server-version": "0.10.1"}
Kind = Literal["dense", "sparse", "multivector"]
#: Options that say how a model is to work in ways that are fixed here: to ignore them would give other numbers.
_REFUSED = ("muvera", "smve", "pooling", "query_template", "doc_template", "default_instruction", "score_weights")
_KNOWN = (
    "profile",
    "is_query",
    "normalize",
    "lora_id",
    "overflow_policy",
    "instruction",
    "output_types",
    "output_dtype",
)
_OVERFLOW = {"default": "report", "truncate_text": "report", "error": "error"}
_FIELDS = {
    "input": "items",
    "documents": "items",
    "outputs": "output_types",
    "precision": "output_dtype",
    "adapter": "lora_id",
}


class SieItem(msgspec.Struct):
    """One input: text. The media are known, and refused: no model here reads them."""

    id: str | None = None
    text: str | None = None
    images: Any = None
    audio: Any = None
    video: Any = None
    document: Any = None


class SieOptions(msgspec.Struct):
    """Options of a request; ``profile`` can only be the default one."""

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
    """What is wanted of POST /v1/encode/{model}."""

    output_types: list[Kind] | None = None
    output_dtype: Dtype | None = None
    instruction: str | None = None
    options: SieOptions | None = None


class SieEncodeRequest(msgspec.Struct):
    """The body of POST /v1/encode/{model}."""

    items: list[SieItem]
    params: SieParams | None = None


class SieScoreRequest(msgspec.Struct):
    """The body of POST /v1/score/{model}."""

    query: SieItem
    items: list[SieItem]
    instruction: str | None = None
    options: SieOptions | None = None


class SieDense(msgspec.Struct):
    """A dense vector; binary is packed, eight dimensions a byte."""

    dims: int
    dtype: str
    values: list[float]


class SieSparse(msgspec.Struct):
    """A sparse vector."""

    dims: int
    dtype: str
    indices: list[int]
    values: list[float]


class SieMultivector(msgspec.Struct):
    """A vector for each token."""

    token_dims: int
    num_tokens: int
    dtype: str
    values: list[list[float]]


class SieEncoded(msgspec.Struct, omit_defaults=True):
    """What one item gave."""

    id: str | None = None
    dense: SieDense | None = None
    sparse: SieSparse | None = None
    multivector: SieMultivector | None = None


class SieUsage(msgspec.Struct):
    """Tokens read."""

    input_tokens: int


class SieEncodeReply(msgspec.Struct):
    """The reply of POST /v1/encode/{model}."""

    model: str
    items: list[SieEncoded]
    usage: SieUsage


class SieScore(msgspec.Struct):
    """One item's place; rank 0 is the best."""

    item_id: str
    score: float
    rank: int


class SieScoreReply(msgspec.Struct):
    """The reply of POST /v1/score/{model}: items by falling score."""

    model: str
    query_id: str | None
    scores: list[SieScore]
    usage: SieUsage


class SieModel(msgspec.Struct):
    """A model that is served."""

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
    """The models that are served."""

    models: list[SieModel]


class SieErrorDetail(msgspec.Struct):
    """What was wrong, and with which field."""

    code: str
    message: str
    param: str | None


class SieError(msgspec.Struct):
    """Any reply that is no success."""

    detail: SieErrorDetail


# -- encode --------------------------------------------------------------------------------------------------------


def _read_encode(request: SieEncodeRequest, call: RequestContext) -> Encode:
    params = request.params or SieParams()
    options = params.options or SieOptions()
    given = (call.body.get("params") or {}).get("options") or {}
    _check(options, given)
    kinds = options.output_types or params.output_types or ["dense"]
    dtype = params.output_dtype or options.output_dtype or "float32"
    # SIE packs bits without a sign, whichever of the two names is used.
    precision = "ubinary" if dtype == "binary" else dtype
    instruction = params.instruction if params.instruction is not None else options.instruction
    wanted = {
        "outputs": kinds,
        "role": "query" if options.is_query else "document",
        "instruction": instruction,
        "normalize_embeddings": options.normalize,
        "adapter": options.lora_id,
        # Sparse vectors and multi-vectors are made smaller when they are written.
        "precision": precision if "dense" in kinds or dtype != "float16" else None,
        "truncate": _OVERFLOW[options.overflow_policy or "default"],
    }
    return Encode(
        model=_model(call),
        inputs=_texts(request.items, "items"),
        wanted={name: value for name, value in wanted.items() if value is not None},
        needs=tuple(kinds),
        reply={"packed": _packed(call), "half": dtype == "float16", "ids": [item.id for item in request.items]},
        ignored=_unknown(given, "params.options"),
    )


def write_encode(exchange: Encode) -> Reply:
    """Write each item's vectors."""
    assert isinstance(exchange.result, Outputs)
    columns = {kind: _column(found, exchange.reply["half"]) for kind, found in exchange.result.kinds.items()}
    items: list[dict[str, Any]] = [{} if name is None else {"id": name} for name in exchange.reply["ids"]]
    for kind, column in columns.items():
        for item, vector in zip(items, column, strict=True):
            item[kind] = vector
    return _told(exchange, {"model": exchange.model, "items": items, "usage": {"input_tokens": exchange.tokens}})


def _column(found: Vectors | SparseVectors | MultiVectors, half: bool) -> list[dict[str, Any]]:
    """Return what each input gave of one kind."""
    if isinstance(found, Vectors):
        dtype = "binary" if found.precision == "ubinary" else found.precision
        return [{"dims": found.dim, "dtype": dtype, "values": row} for row in found.data]
    dtype = "float16" if half else "float32"
    if isinstance(found, SparseVectors):
        return [
            {"dims": found.size, "dtype": dtype, "indices": indices, "values": values.astype(dtype)}
            for indices, values in found
        ]
    return [
        {"token_dims": found.dim, "num_tokens": len(rows), "dtype": dtype, "values": rows.astype(dtype)}
        for rows in found
    ]


# -- score ---------------------------------------------------------------------------------------------------------


def _read_score(request: SieScoreRequest, call: RequestContext) -> Rank:
    options = request.options or SieOptions()
    given = call.body.get("options") or {}
    _check(options, given)
    if request.instruction is not None or options.instruction is not None:
        raise InputError("A model's instruction is given when it is loaded, not with a request.", param="instruction")
    if options.score_mode not in (None, "colbert"):
        raise InputError(
            f"score_mode {options.score_mode[:100]!r} is not known here: models of multi-vectors score by late "
            "interaction ('colbert').",
            param="score_mode",
        )
    wanted = {"truncate": _OVERFLOW[options.overflow_policy or "default"], "adapter": options.lora_id}
    return Rank(
        model=_model(call),
        query=_texts([request.query], "query")[0],
        documents=_texts(request.items, "items"),
        wanted={name: value for name, value in wanted.items() if value is not None},
        called="items",
        reply={
            "packed": _packed(call),
            "query": request.query.id,
            "ids": [f"item-{at}" if item.id is None else item.id for at, item in enumerate(request.items)],
        },
        ignored=_unknown(given, "options", "score_mode"),
    )


def write_score(exchange: Rank) -> Reply:
    """Write the items by falling score."""
    ids = exchange.reply["ids"]
    scores = [
        {"item_id": ids[place.index], "score": place.score, "rank": rank} for rank, place in enumerate(exchange.ranked)
    ]
    usage = {"input_tokens": exchange.tokens}
    told = {"model": exchange.model, "query_id": exchange.reply["query"], "scores": scores, "usage": usage}
    return _told(exchange, told)


# -- both ----------------------------------------------------------------------------------------------------------


def _model(call: RequestContext) -> str:
    """Return the model's name without its profile: SIE takes ``model:profile`` and ``model@profile``."""
    return call.path["model"].removesuffix(":default").removesuffix("@default")


def _texts(items: list[SieItem], called: str) -> list[str]:
    if not items:
        raise InputError(f"{called} is empty: give at least one.", param=called)
    for index, item in enumerate(items):
        media = next((name for name in ("images", "audio", "video", "document") if getattr(item, name)), None)
        if media is not None or item.text is None:
            what = f"has {media}, and the models here read text" if media is not None else "has no text"
            raise InputError(f"Item {index} of {called} {what}: give 'text'.", param=called)
    return [item.text or "" for item in items]


def _check(options: SieOptions, given: dict[str, Any]) -> None:
    if options.profile not in (None, "default"):
        raise InputError(f"There is no profile {options.profile[:100]!r} here, only 'default'.", param="profile")
    odd = next((name for name in _REFUSED if given.get(name)), None)
    if odd is not None:
        raise InputError(f"The option {odd} cannot be set here, and without it the numbers differ.", param=odd)


def _unknown(given: dict[str, Any], where: str, *more: str) -> tuple[str, ...]:
    known = {*_KNOWN, *_REFUSED, *more}
    return tuple(sorted(f"{where}.{name}" for name, value in given.items() if name not in known and value is not None))


def _packed(call: RequestContext) -> bool:
    """Whether the reply is msgpack: JSON has to be asked for by name."""
    accept = call.headers.get("accept", "").lower()
    return MSGPACK in accept or "application/x-msgpack" in accept or JSON not in accept


def _told(exchange: Encode | Rank, body: dict[str, Any]) -> Reply:
    if exchange.reply["packed"]:
        return Reply(msgspec.msgpack.encode(body, enc_hook=_as_map), media_type=MSGPACK, headers=VERSION)
    return Reply({**body, "items": [*map(_plain, body["items"])]} if "items" in body else body, headers=VERSION)


def _as_map(value: Any) -> dict[bytes, Any]:
    """Return an array as msgpack-numpy writes it: https://github.com/lebedov/msgpack-numpy"""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} cannot be written as msgpack")
    little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    return {
        b"nd": True,
        b"type": little.dtype.str,
        b"kind": b"",
        b"shape": list(little.shape),
        b"data": little.tobytes(),
    }


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item as JSON takes it: float16 has no form of its own there."""
    return {name: {**told, "values": _wide(told["values"])} if name != "id" else told for name, told in item.items()}


def _wide(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(values, np.float32 if values.dtype == np.float16 else None)


# -- models --------------------------------------------------------------------------------------------------------


def _is_sdk(call: RequestContext) -> bool:
    """Whether a request to a path of OpenAI's comes from SIE's SDK."""
    return "x-sie-sdk-version" in call.headers


def _list(_: None, call: RequestContext) -> Reply:
    return Reply(
        {"models": [_describe(slot) for slot in call.models.listed if call.allowed(slot.name)]}, headers=VERSION
    )


def _one(_: None, call: RequestContext) -> Reply:
    return Reply(_describe(call.models.described(_model(call))), headers=VERSION)


def _describe(slot: ModelEntry) -> dict[str, Any]:
    model = slot.model
    facts = _known(slot.name) if model is None else _facts(model)
    return {
        "name": slot.name,
        "inputs": ["text"],
        "outputs": ["score" if name == "scores" else name for name in facts["outputs"]],
        "dims": facts["dims"],
        "loaded": model is not None,
        "state": slot.state,
        "last_error": slot.error or None,
        "max_sequence_length": facts["max_length"],
        "profiles": {"default": {"is_default": True}},
        "revision": facts["revision"],
        "capabilities": None,
        "routing": {"policy": None, "upstream_kind": None},
    }


def _facts(model: LoadedModel) -> dict[str, Any]:
    dims = _dims(model) if isinstance(model, Encoder) else {}
    recipe = model.recipe
    return {"outputs": recipe.outputs, "dims": dims, "max_length": model.max_length, "revision": recipe.revision}


def _known(name: str) -> dict[str, Any]:
    """Return the same of a model that is not loaded, as far as the catalogue says it."""
    entry = catalog.find(name)
    if entry is None:
        return {"outputs": (), "dims": {}, "max_length": 0, "revision": None}
    dims = {entry.kind: entry.dimensions} if entry.kind != "scores" else {}
    return {"outputs": (entry.kind,), "dims": dims, "max_length": entry.max_length, "revision": entry.revision}


def _dims(model: Encoder) -> dict[str, int]:
    sizes = {"dense": model.dimensions, "sparse": int(model.recipe.config["vocab_size"])}
    head: Any = model.recipe.head("multivector") if "multivector" in model.recipe.outputs else None
    sizes["multivector"] = getattr(head, "dimensions", 0)
    return {name: sizes[name] for name in model.recipe.outputs}


# -- refusals ------------------------------------------------------------------------------------------------------

#: Codes of ours that have one of SIE's, and the status that SIE's clients expect with it.
_CODES = {
    "rate_limit_exceeded": ("RATE_LIMIT", 429),
    "model_unavailable": ("RESOURCE_EXHAUSTED", 503),
    "model_refused": ("MODEL_LOAD_FAILED", 502),
    "licence_not_accepted": ("MODEL_LOAD_FAILED", 502),
    "source_unavailable": ("MODEL_LOAD_FAILED", 502),
    "shutting_down": ("MODEL_NOT_LOADED", 503),
    "internal_error": ("INTERNAL_ERROR", 500),
}
_KINDS: tuple[tuple[type[NearfieldError], str, int | None], ...] = (
    (Overloaded, "QUEUE_FULL", 503),
    (InputTooLong, "INPUT_TOO_LONG", None),
    (ModelNotFound, "MODEL_NOT_FOUND", None),
    (InputError, "INVALID_INPUT", None),
    (ExecutionFailed, "INFERENCE_ERROR", None),
)


def _code(error: NearfieldError) -> tuple[str, int]:
    if error.code in _CODES:
        return _CODES[error.code]
    for kind, code, status in _KINDS:
        if isinstance(error, kind):
            return code, status or error.status
    return error.code.upper(), error.status


_BODIES = (MSGPACK, JSON)
_EXAMPLE = {"items": [{"id": "1", "text": "How tall is Mont Blanc?"}], "params": {"options": {"is_query": True}}}


class SieDialect:
    """The dialect."""

    name = "sie"
    error_type = SieError
    routes = (
        Route(
            "/v1/encode/{model:path}",
            "Turn items into vectors",
            _read_encode,
            write_encode,
            SieEncodeRequest,
            SieEncodeReply,
            example=_EXAMPLE,
            request_media=_BODIES,
            response_media=_BODIES,
        ),
        Route(
            "/v1/score/{model:path}",
            "Score items for a query",
            _read_score,
            write_score,
            SieScoreRequest,
            SieScoreReply,
            request_media=_BODIES,
            response_media=_BODIES,
        ),
        Route("/v1/models", "List the models", _list, response_type=SieModelList, method="GET", matches=_is_sdk),
        Route(
            "/v1/models/{model:path}", "Describe a model", _one, response_type=SieModel, method="GET", matches=_is_sdk
        ),
    )

    def refuse(self, error: NearfieldError) -> Reply:
        """Say what was wrong as SIE does: the SDK reads the code, and knows by it what to try again."""
        code, status = _code(error)
        param = getattr(error, "param", None)
        detail = {"code": code, "message": str(error), "param": _FIELDS.get(param, param) if param else None}
        return Reply({"detail": detail}, status, headers={**VERSION, "x-sie-error-code": code})
