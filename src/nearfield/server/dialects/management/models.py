"""The routes of model management: list, load and unload models.

``POST /models/load`` and ``/models/unload`` need an API key with the scope ``manage``, or, on a server without keys, a
request from the same machine.
"""

from __future__ import annotations

import time
from typing import Annotated, Literal

import msgspec

from nearfield.server.dialects import JsonObject, Route
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.model_entry import ModelEntry
from nearfield.server.models.names import MAX_NAME_LENGTH

_MODEL_EXAMPLE = {"model": "BAAI/bge-small-en-v1.5"}


class ModelRequest(msgspec.Struct):
    """A model, by any of its names."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH)]


class ModelStatus(msgspec.Struct):
    """State of a model: ``bytes`` of memory, requests that use it (``users``), seconds since the last use (``idle``).

    ``again`` is the number of seconds until a load that failed is tried again. The devices that the model runs on, what
    it reads and how it pools tokens are known once it is loaded, and so are its prompts, and the one of requests that
    name none.
    """

    id: str
    state: Literal["available", "loading", "loaded", "failed"]
    pinned: bool
    bytes: int
    users: int
    uses: int
    idle: float
    keep_alive: float | None
    outputs: list[str]
    devices: list[str]
    modalities: list[str]
    pooling: list[str]
    prompts: dict[str, str]
    default_prompt: str
    error: str
    again: float


class ModelReference(msgspec.Struct):
    """A served model, with OpenAI's fields."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelStatusList(msgspec.Struct):
    """All models, the memory that they use, and the memory budget.

    ``object`` and ``data`` are for OpenAI's clients whose base URL has no ``/v1``.
    """

    object: Literal["list"]
    data: list[ModelReference]
    models: list[ModelStatus]
    bytes: int
    budget: int | None
    on_demand: list[str]


def _list_models(_: None, context: RequestContext) -> JsonObject:
    models = context.models
    return {
        "object": "list",
        "data": [_reference(entry, models.started) for entry in models.listed if context.allowed(entry.name)],
        "models": [_entry_to_dict(entry) for entry in models.entries if context.allowed(entry.name)],
        "bytes": models.bytes,
        "budget": models.budget,
        "on_demand": list(models.on_demand),
    }


async def _load_model(request: ModelRequest, context: RequestContext) -> JsonObject:
    return _entry_to_dict(await context.models.load(request.model, context.allowed))


async def _unload_model(request: ModelRequest, context: RequestContext) -> JsonObject:
    return _entry_to_dict(await context.models.unload(request.model, context.allowed))


def _reference(entry: ModelEntry, created: int) -> JsonObject:
    return {"id": entry.name, "object": "model", "created": created, "owned_by": entry.owner}


def _entry_to_dict(entry: ModelEntry) -> JsonObject:
    now, model = time.monotonic(), entry.description
    return {
        "id": entry.name,
        "state": entry.state,
        "pinned": entry.pinned,
        "bytes": entry.bytes if entry.reserved else 0,
        "users": entry.users,
        "uses": entry.uses,
        "idle": 0.0 if entry.users else round(now - entry.last_used, 3),
        "keep_alive": entry.keep_alive,
        "outputs": list(model.outputs) if model is not None else [],
        "devices": list(model.devices) if model is not None else [],
        "modalities": list(model.modalities) if model is not None else [],
        "pooling": list(model.pooling) if model is not None else [],
        "prompts": dict(model.prompts) if model is not None else {},
        "default_prompt": model.default_prompt if model is not None else "",
        "error": entry.error,
        "again": round(max(0.0, entry.retry_at - now), 3),
    }


MODEL_ROUTES = (
    Route(
        "/models",
        "List the models with their state and memory",
        _list_models,
        response_type=ModelStatusList,
        method="GET",
    ),
    Route(
        "/models/load",
        "Load a model that may be loaded on demand",
        _load_model,
        request_type=ModelRequest,
        response_type=ModelStatus,
        example=_MODEL_EXAMPLE,
        scope="manage",
    ),
    Route(
        "/models/unload",
        "Unload a model when no request uses it",
        _unload_model,
        request_type=ModelRequest,
        response_type=ModelStatus,
        example=_MODEL_EXAMPLE,
        scope="manage",
    ),
)
