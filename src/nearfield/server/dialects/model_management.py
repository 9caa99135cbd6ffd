"""Managing a server, in Nearfield's own words: which models are loaded, loading and unloading them.

``GET /models`` tells what is known of each; ``POST /models/load`` and ``/models/unload`` need a key with the scope
``manage``, or, on a server without keys, a request from its own machine.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import msgspec

from nearfield.errors import NearfieldError
from nearfield.server.dialects import RequestContext, Route, shared_error_body
from nearfield.server.dialects.schemas import ErrorReply
from nearfield.server.models.model_pool import LONGEST_NAME, ModelEntry

_EXAMPLE = {"model": "BAAI/bge-small-en-v1.5"}


class ModelName(msgspec.Struct):
    """The model that is meant, by any of its names."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME)]


class ModelState(msgspec.Struct):
    """What is known of a model: ``bytes`` of memory, ``users`` that wait for it now, seconds since it was last used.

    ``again`` are the seconds for which a load that failed is not tried again.
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
    error: str
    again: float


class ModelStates(msgspec.Struct):
    """All models, the memory that they take, and that they may take."""

    models: list[ModelState]
    bytes: int
    budget: int | None
    on_demand: list[str]


def _list(_: None, call: RequestContext) -> dict[str, Any]:
    models = call.models
    return {
        "models": [_state(slot) for slot in models.slots],
        "bytes": models.bytes,
        "budget": models.budget,
        "on_demand": list(models.on_demand),
    }


async def _load(request: ModelName, call: RequestContext) -> dict[str, Any]:
    return _state(await call.models.load(request.model, call.allowed))


async def _unload(request: ModelName, call: RequestContext) -> dict[str, Any]:
    return _state(await call.models.unload(request.model, call.allowed))


def _state(slot: ModelEntry) -> dict[str, Any]:
    now = time.monotonic()
    return {
        "id": slot.name,
        "state": slot.state,
        "pinned": slot.pinned,
        "bytes": slot.bytes if slot.reserved else 0,
        "users": slot.users,
        "uses": slot.uses,
        "idle": 0.0 if slot.users else round(now - slot.used, 3),
        "keep_alive": slot.keep_alive,
        "outputs": list(slot.model.recipe.outputs) if slot.model is not None else [],
        "error": slot.error,
        "again": round(max(0.0, slot.again - now), 3),
    }


class ModelManagement:
    """The dialect."""

    name = "manage"
    error_type = ErrorReply
    routes = (
        Route(
            "/models",
            "Tell which models are loaded, and what they take",
            _list,
            response_type=ModelStates,
            method="GET",
        ),
        Route(
            "/models/load",
            "Load a model that may be loaded on demand",
            _load,
            request_type=ModelName,
            response_type=ModelState,
            example=_EXAMPLE,
            scope="manage",
        ),
        Route(
            "/models/unload",
            "Unload a model once nobody uses it",
            _unload,
            request_type=ModelName,
            response_type=ModelState,
            example=_EXAMPLE,
            scope="manage",
        ),
    )

    def refuse(self, error: NearfieldError) -> Any:
        """Say it as the shared paths do."""
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        return shared_error_body(error, kind, getattr(error, "param", None))
