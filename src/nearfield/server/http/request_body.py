"""Request bodies: read within limits, decompressed, decoded from JSON or msgpack, and converted to a request type."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Any, TypeVar

import msgspec
from starlette.datastructures import Headers

from nearfield.errors import Cancelled, InputError, Overloaded, TooLarge, UnsupportedMedia
from nearfield.server.http.limits import RequestLimits

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
RequestType = TypeVar("RequestType")

JSON, MSGPACK = "application/json", "application/msgpack"
_DECODERS = {JSON: msgspec.json.Decoder().decode, MSGPACK: msgspec.msgpack.Decoder().decode}
#: All bodies in memory together may have this many times the size limit of one body.
_BODIES_IN_MEMORY = 4
#: Maximum characters of msgspec's message in an error: it may quote a long value.
_MAX_ERROR_CHARACTERS = 500


class BodyBudget:
    """Counts the bytes of all request bodies in memory, so that many large ones are refused before memory runs out."""

    def __init__(self, limits: RequestLimits) -> None:
        self.used_bytes = 0
        self.max_body_bytes = limits.body_bytes
        self.max_total_bytes = _BODIES_IN_MEMORY * limits.body_bytes

    def open_body(self) -> RequestBody:
        """Return a context manager that reads one body and releases its bytes at the end of the ``with`` block."""
        return RequestBody(self)


class RequestBody:
    """One request's body. Its bytes count towards the budget from the first one until the request is finished."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._size = 0

    def __enter__(self) -> RequestBody:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.used_bytes -= self._size

    async def read(self, headers: Headers, receive: Receive) -> bytes:
        """Read and decompress the body, and stop at the limit whatever its headers claim.

        Raises:
            TooLarge: the body is longer than ``max_body_bytes``, before or after decompression.
            UnsupportedMedia: the content encoding is neither identity nor gzip.
            InputError: the body is not valid gzip.
            Cancelled: the client disconnected before the body was complete.
            Overloaded: all bodies in memory together exceed the budget.
        """
        encoding = headers.get("content-encoding", "").strip().lower() or "identity"
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise UnsupportedMedia(
                f"The Content-Encoding {encoding[:100]!r} is not supported: send the body uncompressed (identity) or "
                "as gzip."
            )
        claimed = headers.get("content-length", "")
        if claimed.isdigit():
            self._check(int(claimed))
        data = await self._receive(receive)
        if encoding == "identity":
            return data
        # In a thread: a small body may decompress to as many bytes as the limit allows.
        unzipped = await asyncio.to_thread(_unzip, data, self._budget.max_body_bytes)
        self._budget.used_bytes -= self._size
        self._size = 0
        self.reserve(len(unzipped))
        return unzipped

    async def _receive(self, receive: Receive) -> bytes:
        parts, more = [], True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("The client disconnected before the request was complete.")
            part = message.get("body", b"")
            self.reserve(len(part))
            parts.append(part)
            more = message.get("more_body", False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def reserve(self, size: int) -> None:
        """Count ``size`` more bytes of this request.

        Raises:
            TooLarge, Overloaded: as ``read`` does.
        """
        self._check(self._size + size)
        self._size += size
        self._budget.used_bytes += size

    def _check(self, size: int) -> None:
        budget = self._budget
        if size > budget.max_body_bytes:
            raise TooLarge(
                f"The body is larger than {budget.max_body_bytes} bytes. Send the inputs in parts, or raise "
                "max_body_bytes."
            )
        if budget.used_bytes - self._size + size > budget.max_total_bytes:
            raise Overloaded("The requests in progress hold as many bytes as the server allows. Try again later.")


def _unzip(data: bytes, max_bytes: int) -> bytes:
    """Decompress gzip up to one byte more than ``max_bytes``: a few bytes may expand to gigabytes."""
    decompressor = zlib.decompressobj(wbits=31)
    try:
        unzipped = decompressor.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise InputError(f"The body is not valid gzip, though its Content-Encoding says so: {error}.") from error
    if len(unzipped) <= max_bytes and (not decompressor.eof or decompressor.unused_data):
        raise InputError("The gzip body is truncated, or followed by other bytes.")
    return unzipped


def media_type(headers: Mapping[str, str]) -> str:
    """Return the media type of a request's body; JSON if there is no Content-Type, or one that ends with ``+json``."""
    name = headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if name == "application/x-msgpack":
        return MSGPACK
    return JSON if name.endswith("+json") else name


def decode(data: bytes, media_type: str = JSON) -> dict[str, Any]:
    """Decode an object in JSON or msgpack.

    Raises:
        InputError: the body is invalid, is not an object, or is not Unicode.
    """
    try:
        content = _DECODERS[media_type](data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"The body is not valid {media_type}: {error or type(error).__name__}.") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError(f"The body must be an object with names, not {type(content).__name__}.")
    return content


def convert(body: Mapping[str, Any], request_type: type[RequestType]) -> RequestType:
    """Convert a decoded body to a request type.

    Raises:
        InputError: the body does not fit the type; ``param`` names the field.
    """
    try:
        return msgspec.convert(body, request_type)
    except msgspec.ValidationError as error:
        raise invalid_request_error(error) from error


def ignored_fields(body: Mapping[str, Any], request_type: Any) -> tuple[str, ...]:
    """Return the names of the body's fields that the request type does not have."""
    known = getattr(request_type, "__struct_encode_fields__", None)
    return () if known is None else tuple(sorted(body.keys() - set(known)))


def invalid_request_error(error: msgspec.ValidationError) -> InputError:
    """Return msgspec's error as an ``InputError`` whose ``param`` is the name of the wrong field."""
    text = str(error)
    missing = re.search(r"missing required field `(\w+)`", text)
    path = re.search(r"`\$\.?(\w+)?", text)
    param = missing.group(1) if missing else path.group(1) if path else None
    short = text if len(text) <= _MAX_ERROR_CHARACTERS else f"{text[:200]} ... {text[-200:]}"
    return InputError(f"Invalid request: {short}.", param=param)
