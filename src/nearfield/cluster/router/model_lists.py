"""Lists of models: the answers of all back-ends, merged into one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import orjson

from nearfield.cluster.router.backends.backend import BackendServer
from nearfield.cluster.router.backends.connection import BackendFailure, Headers
from nearfield.cluster.router.forwarder import Forwarder, RoutedRequest
from nearfield.errors import NearfieldError

#: Maximum bytes of one list.
_MAX_LIST_BYTES = 4 * 2**20
#: Fields that name an item of a list.
_NAMES = ("id", "name", "model")
#: Numbers of a whole server, which are added up.
_SUMS = frozenset({"bytes", "budget"})
#: What JSON is decoded to.
JsonData: TypeAlias = Any


def different_backends(backends: Sequence[BackendServer]) -> list[BackendServer]:
    """Return one back-end for each set of models that some have."""
    first: dict[tuple[object, ...], BackendServer] = {}
    for backend in backends:
        if backend.available and backend.status is not None:
            first.setdefault((backend.status.models, backend.status.on_demand), backend)
    return list(first.values())


async def merged_list(
    request: RoutedRequest, forwarder: Forwarder, backends: Sequence[BackendServer]
) -> tuple[int, Headers, bytes]:
    """Ask each of some back-ends for its list, with the client's key, and return status, headers and the merged body.

    The error of one is the answer only if none answers.

    Raises:
        NearfieldError: no back-end answers.
    """
    results = await asyncio.gather(
        *(_read_list(request, forwarder, backend) for backend in backends), return_exceptions=True
    )
    replies = [result for result in results if not isinstance(result, BaseException)]
    lists = [reply for reply in replies if reply[0] == 200]
    if lists:
        merged = orjson.dumps(merge_lists([msgspec.json.decode(body) for _, _, body in lists]))
        return 200, lists[0][1], merged
    if replies:
        return replies[0]
    raise next((error for error in results if isinstance(error, NearfieldError)), BackendFailure("No server answers."))


async def _read_list(
    request: RoutedRequest, forwarder: Forwarder, backend: BackendServer
) -> tuple[int, Headers, bytes]:
    reply = await forwarder.ask(request, backend)
    try:
        await reply.read(_MAX_LIST_BYTES)
        body = b"".join(reply.parts)
        if not reply.complete or not isinstance(msgspec.json.decode(body), dict):
            raise BackendFailure(f"The list of models of {backend.name} is too long, or no object.")
        return reply.status, reply.headers, body
    except msgspec.DecodeError as error:
        raise BackendFailure(f"The list of models of {backend.name} is no JSON.") from error
    finally:
        reply.close()


def merge_lists(answers: Sequence[Mapping[str, JsonData]]) -> dict[str, JsonData]:
    """Merge objects with lists: items with the same name once, loaded ones first; other values are the first's."""
    merged: dict[str, JsonData] = {}
    for answer in answers:
        for name, value in answer.items():
            merged[name] = value if name not in merged else _merge(name, merged[name], value)
    return merged


def _merge(name: str, first: JsonData, second: JsonData) -> JsonData:
    if isinstance(first, list) and isinstance(second, list):
        return _merge_items(first, second)
    if name in _SUMS and isinstance(first, int) and isinstance(second, int):
        return first + second
    return first


def _merge_items(first: Sequence[JsonData], second: Sequence[JsonData]) -> list[JsonData]:
    items = {_name_of(item): item for item in first}
    for item in second:
        name = _name_of(item)
        if name not in items or (_is_loaded(item) and not _is_loaded(items[name])):
            items[name] = item
    return list(items.values())


def _name_of(item: JsonData) -> str:
    """Return what names an item; one without a name is its own."""
    if isinstance(item, dict):
        return next((str(item[field]) for field in _NAMES if field in item), repr(item))
    return repr(item)


def _is_loaded(item: JsonData) -> bool:
    return isinstance(item, dict) and item.get("state") == "loaded"
