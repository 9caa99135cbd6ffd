"""How a request is routed: what its path and method mean, whether it may be repeated, and which model it names."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
from starlette.datastructures import Headers
from starlette.routing import compile_path

from nearfield.server.dialects import Dialect, Route, return_unchanged
from nearfield.server.http.request_body import JSON, MSGPACK, media_type
from nearfield.server.http.routing import PathRoutes, group_routes
from nearfield.server.models.names import MAX_NAME_LENGTH

#: ``repeatable``: gives the same result wherever and however often it runs. ``once``: is sent to one back-end, once.
#: ``home``: belongs to the back-end with the files, batches and collections. ``merged``: the answers of all
#: back-ends are one. ``refused``: would change the models of one back-end only.
Kind = Literal["repeatable", "once", "home", "merged", "refused"]

#: The dialects whose requests read or write what one back-end stores; those of others do if the path has a collection.
_HOME_DIALECTS = frozenset({"collections", "openai-batches"})
_MERGED = frozenset({"/v1/models", "/models", "/api/tags", "/api/ps"})
_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Bytes of a body that are decoded to find the name of its model, which takes 10 ms for most and 50 ms for any. In a
#: larger one the name is searched for, and a field of that name within an input may be taken for it.
_DECODED_BYTES = 8 * 2**20
#: Bytes of a compressed body that are decompressed to find the name: it is decoded as a whole, or known to be larger.
_UNZIPPED_BYTES = _DECODED_BYTES + 1
#: In valid JSON, quotation marks within a text are escaped: this can only be the name of a field.
_JSON_MODEL = re.compile(rb'"model"\s*:\s*"((?:[^"\\]|\\.){1,512})"')
#: Places at which a search looks for the field, and bytes that the field may have: a search takes milliseconds.
_MAX_CANDIDATES, _FIELD_BYTES = 64, 2048
#: A field of that name in msgpack, and a text of up to 31, 255 or 65,535 bytes.
_MSGPACK_MODEL = re.compile(rb"\xa5model(?:([\xa1-\xbf])|\xd9(.)|\xda(..))", re.DOTALL)
_FORM_MODEL = re.compile(rb'name="model"\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,512})\r\n')
#: Bytes of text that are a token, about; and the number of tokens that one request counts as at most.
_BYTES_PER_TOKEN, _MAX_TOKENS = 4, 65_536


class ModelField(msgspec.Struct):
    """The field of a body that names the model."""

    model: str | None = None


_DECODERS = {JSON: msgspec.json.Decoder(ModelField).decode, MSGPACK: msgspec.msgpack.Decoder(ModelField).decode}


@dataclass(frozen=True)
class RoutePlan:
    """How requests for one path and method are routed."""

    #: Template of the path, as a label of metrics; None for a path that no dialect has.
    template: str | None
    kind: Kind
    #: Whether the body is streamed: an uploaded file, which is never in memory as a whole.
    upload: bool = False
    #: Whether it changes a server, for which a key or a client of this machine is needed.
    manages: bool = False
    #: The API that writes the router's errors; None for an unknown path.
    dialect: Dialect | None = None


class RequestPlanner:
    """Finds the plan of a request.

    Args:
        dialects: the APIs; their routes say what a path means.
    """

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self._static: dict[tuple[str, str], RoutePlan] = {}
        self._patterns: list[tuple[str, re.Pattern[str], RoutePlan]] = []
        for (path, method), routes in group_routes(dialects).items():
            plan = _plan_of(path, method, routes)
            if "{" in path:
                self._patterns.append((method, compile_path(path)[0], plan))
            else:
                self._static[path, method] = plan

    def find(self, method: str, path: str) -> tuple[RoutePlan, Mapping[str, str]]:
        """Return the plan of a request and the parameters in its path."""
        path = path.rstrip("/") or "/"
        plan = self._static.get((path, method))
        if plan is not None:
            return plan, {}
        for pattern_method, pattern, plan in self._patterns:
            match = pattern.match(path) if pattern_method == method else None
            if match is not None:
                return plan, match.groupdict()
        return RoutePlan(None, "repeatable" if method in _READING_METHODS else "once"), {}


def _plan_of(path: str, method: str, routes: PathRoutes) -> RoutePlan:
    dialect, route = routes.fallback.dialect, routes.fallback.route
    return RoutePlan(path, _kind_of(path, method, dialect, route), route.upload, _manages(route), dialect)


def _manages(route: Route) -> bool:
    return route.scope == "manage"


def _kind_of(path: str, method: str, dialect: Dialect, route: Route) -> Kind:
    if dialect.name in _HOME_DIALECTS or "{collection}" in path:
        return "home"
    if _manages(route):
        return "refused"
    if method == "GET":
        return "merged" if path in _MERGED else "repeatable"
    # A route that writes the result of an exchange computes; others may do anything.
    return "repeatable" if route.write is not return_unchanged else "once"


# -- the model of a request ------------------------------------------------------------------------------------------


def model_of(path: Mapping[str, str], headers: Headers, body: bytes | bytearray) -> str | None:
    """Return the name of the model that a request is for, from its path or its body; None if it names none."""
    name = path.get("model")
    if name is None and body:
        data = body
        if headers.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip"):
            data = _unzip_start(data)
        name = _model_in_body(media_type(headers), data)
    if name is None or not 0 < len(name) <= MAX_NAME_LENGTH:
        return None
    return name.removeprefix("models/")


def _model_in_body(kind: str, data: bytes | bytearray) -> str | None:
    if kind.startswith("multipart/"):
        match = _search(data, b'name="model"', _FORM_MODEL)
        return None if match is None else match[1].decode("utf-8", "replace")
    if kind not in _DECODERS:
        kind = JSON  # some routes read JSON whatever its type is called
    if len(data) > _DECODED_BYTES:
        return _search_msgpack(data) if kind == MSGPACK else _search_json(data)
    try:
        return _DECODERS[kind](data).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # the back-end says what is wrong


def _search(data: bytes | bytearray, name: bytes, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
    """Return the first match of a pattern that begins with ``name``, among the first places that have the name."""
    at = -1
    for _ in range(_MAX_CANDIDATES):
        at = data.find(name, at + 1)
        if at < 0:
            return None
        match = pattern.match(data, at, at + _FIELD_BYTES)
        if match is not None:
            return match
    return None


def _search_json(data: bytes | bytearray) -> str | None:
    match = _search(data, b'"model"', _JSON_MODEL)
    if match is None:
        return None
    try:
        return msgspec.json.decode(b'"' + match[1] + b'"', type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _search_msgpack(data: bytes | bytearray) -> str | None:
    match = _search(data, b"\xa5model", _MSGPACK_MODEL)
    if match is None:
        return None
    short, medium, long = match.groups()
    size = short[0] & 0x1F if short else int.from_bytes(medium or long, "big")
    return bytes(data[match.end() : match.end() + size]).decode("utf-8", "replace") or None


def _unzip_start(data: bytes | bytearray) -> bytes:
    """Return the first megabytes of a compressed body; a few bytes may expand to gigabytes."""
    try:
        return zlib.decompressobj(wbits=31).decompress(data, _UNZIPPED_BYTES)
    except zlib.error:
        return b""


def estimated_tokens(size: int) -> int:
    """Return about how many tokens a body of so many bytes has."""
    return min(_MAX_TOKENS, 1 + size // _BYTES_PER_TOKEN)
