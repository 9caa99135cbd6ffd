"""The routes of key management: list keys, create one, and revoke one.

All of it needs the scope ``manage``. Keys are written to the server's key file (``--api-key-file keys.toml``); those of
the settings cannot be changed. A key can give no models that it may not use itself, and cannot revoke itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nearfield.errors import Forbidden, InputError, NotThere, SettingsError, nearest
from nearfield.server.auth.api_key import ApiKey
from nearfield.server.auth.key_file import append_key, create_key, remove_key
from nearfield.server.auth.keys import ApiKeys
from nearfield.server.dialects import JsonObject, Route
from nearfield.server.http.request_context import RequestContext
from nearfield.server.logs import without_directories
from nearfield.server.models.names import MAX_NAME_LENGTH

KeyName = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
ModelPattern = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
Scope = Literal["infer", "manage"]


class NewKeyRequest(msgspec.Struct):
    """A key to create: its scopes, ids of models or patterns of them, and tokens that it may use in a minute."""

    name: KeyName
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=2)] = msgspec.field(
        default_factory=lambda: ["infer"]
    )
    models: Annotated[list[ModelPattern], msgspec.Meta(min_length=1, max_length=100)] = msgspec.field(
        default_factory=lambda: ["*"]
    )
    tokens_per_minute: Annotated[int, msgspec.Meta(ge=1)] | None = None


class KeyReference(msgspec.Struct):
    """A key, by its name."""

    name: KeyName


class KeyDescription(msgspec.Struct):
    """A key without its secret: ``used`` tokens count against its rate now; the key of the request is ``current``."""

    name: str
    scopes: list[str]
    models: list[str]
    tokens_per_minute: int | None
    used: int
    current: bool


class KeyList(msgspec.Struct):
    """All keys, and whether the server has a key file in which they can be changed (``editable``)."""

    keys: list[KeyDescription]
    editable: bool


class CreatedKey(msgspec.Struct):
    """A new key. It is shown once: the server keeps its hash alone."""

    name: str
    key: str


async def _list_keys(_: None, context: RequestContext) -> JsonObject:
    keys = _keys(context)
    described = [_describe(key, context) for key in keys.listed()]
    return {"keys": described, "editable": keys.editable_file is not None}


def _describe(key: ApiKey, context: RequestContext) -> JsonObject:
    return {
        "name": key.name,
        "scopes": list(key.scopes),
        "models": list(key.models),
        "tokens_per_minute": key.tokens_per_minute,
        "used": key.used(),
        "current": key.owner == context.owner,
    }


async def _create_key(request: NewKeyRequest, context: RequestContext) -> JsonObject:
    keys = _keys(context)
    _check_grant(request, keys, context)
    secret, key_hash = create_key()
    key = ApiKey(request.name, b"", tuple(request.scopes), tuple(request.models), request.tokens_per_minute)
    await _change(keys, lambda file: append_key(file, key, key_hash))
    return {"name": request.name, "key": secret}


def _check_grant(request: NewKeyRequest, keys: ApiKeys, context: RequestContext) -> None:
    """Raise Forbidden if the request's key may use fewer models than it gives to the new one."""
    own = keys.by_digest(bytes.fromhex(context.owner))
    if own is None or "*" in own.models:
        return
    foreign = next((pattern for pattern in request.models if pattern not in own.models), None)
    if foreign is not None:
        raise Forbidden(f"The key {own.name!r} may not use {foreign!r}, and cannot give it: {', '.join(own.models)}.")


async def _revoke_key(request: KeyReference, context: RequestContext) -> JsonObject:
    keys = _keys(context)
    key = next((key for key in keys.listed() if key.name == request.name), None)
    if key is None:
        raise NotThere(f"There is no key {request.name!r}. {nearest(request.name, keys.names())}", param="name")
    if key.owner == context.owner:
        raise InputError("This is the key of the request: revoke it with another one.", param="name")
    await _change(keys, lambda file: remove_key(file, request.name))
    return {"name": request.name}


def _keys(context: RequestContext) -> ApiKeys:
    if context.keys is None:
        raise NotThere("Batches cannot manage keys: send the request by itself.")
    return context.keys


async def _change(keys: ApiKeys, change: Callable[[Path], None]) -> None:
    """Change the key file in a thread, and read it again.

    Raises:
        InputError: the server has no key file in TOML, or the change is impossible.
    """
    file = keys.editable_file
    if file is None:
        raise InputError("This server has no key file that can be changed: start it with --api-key-file keys.toml.")
    try:
        await asyncio.to_thread(change, file)
    except SettingsError as error:
        raise InputError(without_directories(str(error)), param="name") from error
    keys.reload()


KEY_ROUTES = (
    Route("/keys", "List the keys", _list_keys, response_type=KeyList, method="GET", scope="manage"),
    Route(
        "/keys",
        "Create a key",
        _create_key,
        request_type=NewKeyRequest,
        response_type=CreatedKey,
        example={"name": "search-team", "scopes": ["infer"], "tokens_per_minute": 600_000},
        scope="manage",
    ),
    Route(
        "/keys/revoke",
        "Revoke a key; its clients are refused within a second",
        _revoke_key,
        request_type=KeyReference,
        response_type=KeyReference,
        example={"name": "search-team"},
        scope="manage",
    ),
)
