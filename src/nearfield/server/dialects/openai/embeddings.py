"""OpenAI's embeddings and models API: https://platform.openai.com/docs/api-reference/embeddings

Beyond its own fields the body takes ours: input_type, prompt_name, instruction, truncate, embedding_dtype.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from nearfield import catalog
from nearfield.encoder import Encoder
from nearfield.errors import InputError, NearfieldError
from nearfield.inference.loaded_model import LoadedModel
from nearfield.reranker import Reranker
from nearfield.server.dialects import RequestContext, Route, shared_error_body
from nearfield.server.dialects.openai import cl100k
from nearfield.server.dialects.schemas import Dtype, ErrorReply, Name, Truncate, in_base64, in_lists, inputs
from nearfield.server.exchange import Encode
from nearfield.server.models.model_pool import ModelEntry, State

#: Arguments of the encoder that have another name in this API.
_PARAMS = {
    "precision": "embedding_dtype",
    "role": "input_type",
    "truncate_dim": "dimensions",
}
#: Token ids from which on they are turned into text in a thread.
_MANY = 20_000


class EmbeddingRequest(msgspec.Struct):
    """The body of POST /v1/embeddings."""

    input: str | list[str | int | list[int]]
    model: Name
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None
    input_type: Literal["query", "document"] | None = None
    prompt_name: Name | None = None
    instruction: str | None = None
    truncate: Truncate | None = None
    embedding_dtype: Dtype | None = None
    #: Infinity's: its client always says what the inputs are, and 0 dimensions where it means all of them.
    modality: Literal["text"] | None = None


class Embedding(msgspec.Struct):
    """One vector: numbers, or base64 of their bytes, little-endian."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(msgspec.Struct, omit_defaults=True):
    """What was read, and what was cut off because inputs were too long."""

    prompt_tokens: int
    total_tokens: int
    truncated_tokens: int = 0


class EmbeddingReply(msgspec.Struct, omit_defaults=True):
    """The reply of POST /v1/embeddings: a vector for each input, in order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage
    #: Smallest and largest value that int8 and uint8 stand for.
    embedding_range: tuple[float, float] | None = None


class OpenAiModel(msgspec.Struct):
    """A model that is served: OpenAI's fields, our own, and from ``name`` on those of Cohere."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    dimensions: int
    max_length: int
    outputs: list[str]
    prompts: list[str]
    fingerprint: str | None
    licence: str | None
    #: One that is ``available`` is loaded when it is asked for. Until then the catalogue says what it is: 0, an empty
    #: list and null where it does not.
    state: State
    name: str
    is_deprecated: bool
    #: What Cohere's API does with it, and for which of that it is taken when no model is named.
    endpoints: list[str]
    default_endpoints: list[str]
    finetuned: bool
    context_length: int
    tokenizer_url: str


class ModelList(msgspec.Struct):
    """The models that are served; ``models`` is ``data`` once more, where Cohere's clients look."""

    object: Literal["list"]
    data: list[OpenAiModel]
    models: list[OpenAiModel]
    next_page_token: str | None


#: What Cohere's API does with each kind of output.
_ENDPOINTS = {"dense": "embed", "multivector": "rerank", "scores": "rerank"}
_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}


def _read(request: EmbeddingRequest, call: RequestContext) -> Encode | Awaitable[Encode]:
    given = inputs(request.input)
    if sum(len(item) for item in given if not isinstance(item, str)) > _MANY:
        return _read_in_thread(request, given, call.token_ids)
    return _encode(request, as_text(given, call.token_ids))


async def _read_in_thread(request: EmbeddingRequest, given: list[Any], meaning: str) -> Encode:
    return _encode(request, await asyncio.to_thread(as_text, given, meaning))


def _encode(request: EmbeddingRequest, given: list[Any]) -> Encode:
    wanted = {
        "truncate_dim": None if request.modality and request.dimensions == 0 else request.dimensions,
        "role": request.input_type,
        "prompt_name": request.prompt_name,
        "instruction": request.instruction,
        "truncate": request.truncate or "report",
        "precision": request.embedding_dtype or "float32",
    }
    return Encode(
        model=request.model,
        inputs=given,
        wanted={name: value for name, value in wanted.items() if value is not None},
        reply={"base64": request.encoding_format == "base64"},
    )


def write(exchange: Encode) -> dict[str, Any]:
    """Write the list of vectors, as numbers or base64."""
    vectors = exchange.vectors
    rows = [in_base64(row) for row in vectors.data] if exchange.reply["base64"] else in_lists(vectors)
    usage = {"prompt_tokens": exchange.tokens, "total_tokens": exchange.tokens}
    if exchange.dropped:
        usage["truncated_tokens"] = exchange.dropped
    reply: dict[str, Any] = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "model": exchange.model,
        "usage": usage,
    }
    if vectors.ranges is not None:
        reply["embedding_range"] = [float(vectors.ranges[0].min()), float(vectors.ranges[1].max())]
    return reply


def _list(_: None, call: RequestContext) -> dict[str, Any]:
    """List all models; Cohere's clients may choose by endpoint, and turn pages: page_token is the first one's place."""
    found = [_model(slot, call) for slot in call.models.listed if call.allowed(slot.name)]
    if "endpoint" in call.query:
        which = "default_endpoints" if call.query.get("default_only", "").lower() == "true" else "endpoints"
        found = [model for model in found if call.query["endpoint"] in model[which]]
    start = _number(call, "page_token", 0)
    stop = start + _number(call, "page_size", max(1, len(found)), least=1)
    page = found[start:stop]
    return {
        "object": "list",
        "data": page,
        "models": page,
        "next_page_token": str(stop) if stop < len(found) else None,
    }


def _number(call: RequestContext, name: str, default: int, least: int = 0) -> int:
    given = call.query.get(name, str(default))
    if not (given.isascii() and given.isdigit() and len(given) < 10 and int(given) >= least):
        raise InputError(f"{name} must be a whole number of at least {least}, not {given[:80]!r}.", param=name)
    return int(given)


def _one(_: None, call: RequestContext) -> dict[str, Any]:
    return _model(call.models.described(call.path["model"]), call)


def as_text(given: list[Any], meaning: str) -> list[Any]:
    """Turn token ids into what they mean: LangChain's client sends those of cl100k_base for any model.

    Raises:
        InputError: they are none of that table, or refused.
    """
    if meaning == "native" or all(isinstance(item, str) for item in given):
        return given
    if meaning == "reject":
        raise InputError(
            "Token ids are not taken here: send texts (LangChain: check_embedding_ctx_length=False).", param="input"
        )
    return [item if isinstance(item, str) or not item else cl100k.decode(item) for item in given]


def _model(slot: ModelEntry, call: RequestContext) -> dict[str, Any]:
    model = slot.model
    owner = slot.name.partition("/")[0] if "/" in slot.name else "local"
    facts = _known(slot.name) if model is None else _facts(model)
    return {
        "id": slot.name,
        "object": "model",
        "created": call.models.started,
        "owned_by": owner,
        **facts,
        "state": slot.state,
        "name": slot.name,
        "is_deprecated": False,
        "default_endpoints": [each for each in facts["endpoints"] if model and _default(call, each) is model],
        "finetuned": False,
        "context_length": facts["max_length"],
        "tokenizer_url": f"{_origin(call)}/v1/tokenizers/{quote(slot.name)}",
    }


def _facts(model: LoadedModel) -> dict[str, Any]:
    encoder = model if isinstance(model, Encoder) else None
    return {
        "dimensions": encoder.dimensions if encoder else 0,
        "max_length": model.max_length,
        "outputs": list(model.recipe.outputs),
        "prompts": sorted(model.recipe.prompts),
        "fingerprint": encoder.fingerprint if encoder and "dense" in model.recipe.outputs else None,
        "licence": model.recipe.licence,
        "endpoints": endpoints(model),
    }


def _known(name: str) -> dict[str, Any]:
    """Return the same of a model that is not loaded, as far as the catalogue says it."""
    entry = catalog.find(name)
    kind = entry.kind if entry is not None else ""
    return {
        "dimensions": entry.dimensions if entry is not None and kind != "scores" else 0,
        "max_length": entry.max_length if entry is not None else 0,
        "outputs": [kind] if kind else [],
        "prompts": sorted(entry.prompts) if entry is not None else [],
        "fingerprint": None,
        "licence": entry.licence if entry is not None else None,
        "endpoints": [_ENDPOINTS[kind]] if kind in _ENDPOINTS else [],
    }


def endpoints(model: LoadedModel) -> list[str]:
    """Return what Cohere's API does with a model."""
    if not isinstance(model, Encoder):
        return ["rerank"] if isinstance(model, Reranker) and len(model.labels) == 1 else []
    return [_ENDPOINTS[kind] for kind in model.recipe.outputs if kind in _ENDPOINTS]


def _default(call: RequestContext, endpoint: str) -> LoadedModel | None:
    return next((model for model in call.models.loaded if endpoint in endpoints(model)), None)


def _origin(call: RequestContext) -> str:
    """Return what the client itself put before the path."""
    return f"{call.scheme}://{call.headers.get('host', 'localhost')}"


_EXAMPLE = {"model": "all-MiniLM-L6-v2", "input": ["How tall is Mont Blanc?"], "input_type": "query"}


class OpenAiDialect:
    """The dialect."""

    name = "openai"
    error_type = ErrorReply
    routes = (
        *(
            Route(path, "Turn texts into vectors", _read, write, EmbeddingRequest, EmbeddingReply, example=_EXAMPLE)
            for path in ("/v1/embeddings", "/embeddings")
        ),
        Route("/v1/models", "List the models", _list, response_type=ModelList, method="GET"),
        Route("/v1/models/{model:path}", "Describe a model", _one, response_type=OpenAiModel, method="GET"),
    )

    def refuse(self, error: NearfieldError) -> Any:
        kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
        param = getattr(error, "param", None)
        return shared_error_body(error, kind, _PARAMS.get(param, param) if param else None)
