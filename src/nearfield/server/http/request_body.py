"""Request bodies: read within limits, decompressed, decoded from JSON or msgpack, and converted to a request type."""

from __future__ import annotations

import math
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import msgspec
from starlette.datastructures import Headers

from nearfield.errors import Cancelled, InputError, Overloaded, TooLarge, UnsupportedMedia
from nearfield.server.http.content_bounds import LARGE_BODY, Buffer, ContentBounds, check_json, check_msgpack
from nearfield.server.http.decode_thread import DecodeThread
from nearfield.server.http.limits import MemoryGuard, RequestLimits
from nearfield.validation_message import describe_validation

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
RequestType = TypeVar("RequestType")

JSON, MSGPACK = "application/json", "application/msgpack"
#: A pair, which is one character; a lone half; and any other escape, so that an escaped backslash is not taken for one.
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)
_REPLACEMENT = rb"\ufffd"
#: Maximum characters of msgspec's message in an error: it may quote a long value.
_MAX_ERROR_CHARACTERS = 500
#: Maximum number of fields of a body, not counting those of objects inside it.
_MAX_FIELDS = 1024

# -- shares of memory ------------------------------------------------------------------------------------------------

#: All bodies in memory together may have this many times the size limit of one body.
_BODIES_IN_MEMORY = 4
#: A byte of a body takes about this many bytes: as it arrives, decoded, and as text in a list.
_MEMORY_FACTOR = 3
#: Part of that for all clients without a valid key together.
_STRANGERS_PART = 16
#: Part of a pool that is reserved for owners with few bytes, and bytes that such an owner may have, as a part.
_RESERVED_PART, _FEW_PART = 8, 64
#: Maximum bytes of a body from a client that has not shown a valid key, before and after decompression; and of one that
#: is not decoded before its key was found in it.
MAX_STRANGER_BYTES, MAX_SEARCHED_BYTES = 65_536, 2**20
#: Maximum number of unfinished bodies of one owner, and of one address without a valid key.
_MAX_UNFINISHED, _MAX_UNFINISHED_OF_STRANGER = 256, 32
#: Bytes of a large body that are collected in one buffer.
_BUFFER_BYTES = 2**20
#: Seconds for which a body is not counted as unfinished: a client may send the bodies of many requests at once.
_UNCOUNTED_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class BodyShare:
    """What one owner uses of a pool."""

    used_bytes: int = 0
    #: Number of open bodies.
    bodies: int = 0
    #: When each unfinished body began to arrive, the oldest first.
    unfinished: dict[RequestBody, float] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class BodyPool:
    """Bytes that several owners share: each may have half of what the others do not use."""

    max_bytes: int
    #: Maximum number of unfinished bodies of one owner.
    max_unfinished: int
    used_bytes: int = 0
    shares: dict[str, BodyShare] = field(default_factory=dict)

    def join(self, owner: str) -> BodyShare:
        """Return an owner's share, and count one more body."""
        share = self.shares.get(owner)
        if share is None:
            share = self.shares[owner] = BodyShare()
        share.bodies += 1
        return share

    def leave(self, owner: str, share: BodyShare) -> None:
        """Count one body less; the share is removed with the last one."""
        share.bodies -= 1
        if not share.bodies:
            del self.shares[owner]

    def max_bytes_of(self, share: BodyShare) -> int:
        """Return the maximum bytes of a share, given what the others use."""
        others = self.used_bytes - share.used_bytes
        half = (self.max_bytes - self.max_bytes // _RESERVED_PART - others) // 2
        return min(max(half, self.max_bytes // _FEW_PART), self.max_bytes - others)


class BodyBudget:
    """Counts the bytes of all request bodies in memory, so that many large ones are refused before memory runs out.

    Clients without a valid key have a separate small pool, so that they cannot use up that of the others.
    """

    def __init__(self, limits: RequestLimits, memory: MemoryGuard | None = None) -> None:
        self.max_body_bytes = limits.body_bytes
        self.memory = memory or MemoryGuard(lambda: None)
        total = _BODIES_IN_MEMORY * limits.body_bytes
        strangers = max(2 * MAX_STRANGER_BYTES, total // _STRANGERS_PART)
        self.pool = BodyPool(total - total // _STRANGERS_PART, _MAX_UNFINISHED)
        self.strangers = BodyPool(strangers, _MAX_UNFINISHED_OF_STRANGER)

    @property
    def used_bytes(self) -> int:
        """Bytes of all bodies in memory."""
        return self.pool.used_bytes + self.strangers.used_bytes

    def open_body(self, owner: str | None = None) -> RequestBody:
        """Return a context manager that reads one body and releases its bytes at the end of the ``with`` block.

        Without an owner, call ``belong_to`` or ``belong_to_stranger`` before it is read.
        """
        body = RequestBody(self)
        if owner is not None:
            body.belong_to(owner)
        return body


class RequestBody:
    """One request's body. Its bytes count towards its owner's from the first one until the request is finished."""

    __slots__ = ("_budget", "_max_bytes", "_pool", "_share", "_size", "owner")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._pool = budget.pool
        self._share: BodyShare | None = None
        self._max_bytes = 0
        self._size = 0
        self.owner = ""

    def __enter__(self) -> RequestBody:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def belong_to(self, owner: str) -> None:
        """Count this body towards an owner from now on: who sent it may be known only once it was read.

        Raises:
            Overloaded: the owner's share is used up.
        """
        size = self._size
        self._join(self._budget.pool, owner, self._budget.max_body_bytes)
        if size:
            self.reserve(size)

    def belong_to_stranger(self, address: str, max_bytes: int) -> None:
        """Count this body towards the address of a client without a valid key; call it before the body is read."""
        self._join(self._budget.strangers, address, min(max_bytes, self._budget.max_body_bytes))

    def _join(self, pool: BodyPool, owner: str, max_bytes: int) -> None:
        self._leave()
        self._pool, self.owner, self._max_bytes = pool, owner, max_bytes
        self._share = pool.join(owner)

    def _leave(self) -> None:
        if self._share is not None:
            self._resize(self._share, 0)
            self._pool.leave(self.owner, self._share)
            self._share = None

    async def read(self, headers: Headers, receive: Receive, thread: DecodeThread) -> Buffer:
        """Read and decompress the body, and stop at the limit whatever its headers claim.

        Raises:
            TooLarge: the body is longer than ``max_body_bytes``, before or after decompression.
            UnsupportedMedia: the content encoding is neither identity nor gzip.
            InputError: the body is not valid gzip.
            Cancelled: the client disconnected before the body was complete.
            Overloaded: all bodies in memory together, or those of this owner, exceed the budget; or the process has no
                memory for it.
        """
        encoding = headers.get("content-encoding", "").strip().lower() or "identity"
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise UnsupportedMedia(
                f"The Content-Encoding {encoding[:100]!r} is not supported: send the body uncompressed (identity) or "
                "as gzip."
            )
        data = await self.read_encoded(headers, receive)
        return data if encoding == "identity" else await self._unzip(data, thread)

    async def read_encoded(self, headers: Headers, receive: Receive) -> Buffer:
        """Read the body as it was sent, compressed or not.

        Raises:
            TooLarge, Cancelled, Overloaded: as ``read`` does.
        """
        claimed = headers.get("content-length", "")
        if claimed.isdigit():
            self._check(int(claimed))
        return await self._receive(receive)

    async def _receive(self, receive: Receive) -> Buffer:
        unfinished = self._begin()
        try:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                data: Buffer = message.get("body", b"")
                self.reserve(len(data))
                return data
            # A list of many small parts would take much more memory than their bytes, and one buffer would be copied
            # nine times while it grows to 32 MiB.
            buffer, full = bytearray(), list[bytearray]()
            while True:
                if message["type"] == "http.disconnect":
                    raise Cancelled("The client disconnected before the request was complete.")
                part = message.get("body", b"")
                self.reserve(len(part))
                buffer += part
                if not message.get("more_body", False):
                    return b"".join([*full, buffer]) if full else buffer
                if len(buffer) >= _BUFFER_BYTES:
                    full.append(buffer)
                    buffer = bytearray()
                message = await receive()
        finally:
            del unfinished[self]

    @contextmanager
    def pending(self) -> Iterator[None]:
        """Count the body as unfinished in the ``with`` block, for a body that is read elsewhere.

        Raises:
            Overloaded: the owner has too many unfinished bodies.
        """
        unfinished = self._begin()
        try:
            yield
        finally:
            del unfinished[self]

    def _begin(self) -> dict[RequestBody, float]:
        """Count the body as unfinished, and return the owner's unfinished bodies.

        Raises:
            Overloaded: the owner has too many of them.
        """
        unfinished, now, most = self._joined().unfinished, time.monotonic(), self._pool.max_unfinished
        if len(unfinished) >= most and now - next(iter(unfinished.values())) > _UNCOUNTED_SECONDS:
            raise Overloaded(f"{most} requests of this client have unfinished bodies. Try again later.")
        unfinished[self] = now
        return unfinished

    async def _unzip(self, data: Buffer, thread: DecodeThread) -> bytes:
        """Decompress the body: here if it is small, otherwise in the thread."""
        unzipped = unzip(data, LARGE_BODY) if len(data) <= LARGE_BODY else None
        if unzipped is None and self._pool is self._budget.pool:
            unzipped = await thread.run(self.owner, partial(unzip, data, self._max_bytes))
        self._resize(self._joined(), 0)
        if unzipped is None:
            raise self._too_large()
        self.reserve(len(unzipped))
        return unzipped

    def reserve(self, size: int) -> None:
        """Count ``size`` more bytes of this request.

        Raises:
            TooLarge, Overloaded: as ``read`` does.
        """
        total, share = self._size + size, self._joined()
        self._check(total)
        self._budget.memory.claim(_MEMORY_FACTOR * size)
        self._resize(share, total)

    def _joined(self) -> BodyShare:
        if self._share is None:
            raise RuntimeError("the body belongs to no owner")
        return self._share

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise self._too_large()
        share = self._joined()
        if share.used_bytes - self._size + size > self._pool.max_bytes_of(share):
            raise Overloaded(
                "The requests in progress of this client, or of all, hold as many bytes as the server allows. Try "
                "again later."
            )

    def _resize(self, share: BodyShare, size: int) -> None:
        more = size - self._size
        share.used_bytes += more
        self._pool.used_bytes += more
        self._size = size

    def _too_large(self) -> TooLarge:
        if self._pool is self._budget.strangers:
            return TooLarge(
                f"A body that contains its API key may have at most {self._max_bytes} bytes, or {MAX_STRANGER_BYTES} "
                "after decompression. Send fewer inputs, or the key in the header 'Authorization: Bearer <key>'."
            )
        return TooLarge(
            f"The body is larger than {self._max_bytes} bytes. Send the inputs in parts, or raise max_body_bytes."
        )


# -- decoding --------------------------------------------------------------------------------------------------------


def unzip(data: Buffer, max_bytes: int) -> bytes | None:
    """Decompress gzip; None if that is more than ``max_bytes``: a few bytes may expand to gigabytes.

    Raises:
        InputError: it is not valid gzip.
    """
    decompressor = zlib.decompressobj(wbits=31)
    try:
        unzipped = decompressor.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise InputError(f"The body is not valid gzip, though its Content-Encoding says so: {error}.") from error
    if len(unzipped) > max_bytes:
        return None
    if not decompressor.eof or decompressor.unused_data:
        raise InputError("The gzip body is truncated, or followed by other bytes.")
    return unzipped


def media_type(headers: Mapping[str, str]) -> str:
    """Return the media type of a request's body; JSON if there is no Content-Type, or one that ends with ``+json``."""
    name = headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if name == "application/x-msgpack":
        return MSGPACK
    return JSON if name.endswith("+json") else name


def decode(data: Buffer, media_type: str = JSON, bounds: ContentBounds | None = None) -> dict[str, Any]:
    """Decode an object in JSON or msgpack; a large one is checked against the bounds before, msgpack always for names.

    Raises:
        InputError: the body is invalid, is not an object, or is not Unicode.
        TooLarge: the body contains more than the bounds allow.
    """
    if len(data) <= LARGE_BODY:
        bounds = None
    if media_type == MSGPACK:
        check_msgpack(data, bounds)
    elif bounds is not None:
        check_json(data, bounds)
    try:
        content = _DECODERS[media_type](data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"The body is not valid {media_type}: {error or type(error).__name__}.") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError(f"The body must be an object with names, not {type(content).__name__}.")
    if len(content) > _MAX_FIELDS:
        raise TooLarge(f"The body has {len(content)} fields, and the limit is {_MAX_FIELDS}.")
    return content


def replace_lone_surrogates(data: bytes) -> tuple[bytes, int]:
    r"""Return JSON with ``\ufffd`` for each lone surrogate, and their number.

    JavaScript and Java send half of a character, as in ``\ud83d``, where they cut a text within an emoji. It becomes
    U+FFFD, as for every such text on the web (https://infra.spec.whatwg.org/#javascript-string-convert): the other
    inputs of the request are not at fault.
    """
    count = 0

    def replace(match: re.Match[bytes]) -> bytes:
        nonlocal count
        if match[1] is None:
            return match[0]
        count += 1
        return _REPLACEMENT

    return _ESCAPE.sub(replace, data), count


def decode_repaired(
    data: Buffer, media_type: str = JSON, bounds: ContentBounds | None = None
) -> tuple[dict[str, Any], int]:
    """Decode as ``decode`` does, with U+FFFD for each lone surrogate in JSON; return their number too."""
    try:
        return decode(data, media_type, bounds), 0
    except TooLarge:
        raise
    except InputError:
        repaired, count = replace_lone_surrogates(bytes(data)) if media_type == JSON else (b"", 0)
        if not count:
            raise
    return decode(repaired, media_type, bounds), count


def read_fraction(text: str) -> float:
    """Return the number of a JSON text with a fraction or an exponent.

    msgspec's own reader takes up to 18 microseconds for a small number with many digits, and this one below two.

    Raises:
        ValueError: the number is too large.
    """
    number = float(text)
    if math.isinf(number):
        raise ValueError("Number out of range")
    return number


_DECODERS = {
    JSON: msgspec.json.Decoder(float_hook=read_fraction).decode,
    # Not in JSON but here, names may be anything: call check_msgpack before.
    MSGPACK: msgspec.msgpack.Decoder().decode,
}


def convert(body: Mapping[str, Any], request_type: type[RequestType], *, strict: bool = True) -> RequestType:
    """Convert a decoded body to a request type. With ``strict=False``, texts such as ``8`` and ``true`` are values.

    Raises:
        InputError: the body does not fit the type; ``param`` names the field.
    """
    try:
        return msgspec.convert(body, request_type, strict=strict)
    except msgspec.ValidationError as error:
        raise invalid_request_error(error, request_type) from error


def ignored_fields(body: Mapping[str, Any], request_type: Any) -> tuple[str, ...]:
    """Return the names of the body's fields that the request type does not have."""
    known = getattr(request_type, "__struct_encode_fields__", None)
    return () if known is None else tuple(sorted(body.keys() - set(known)))


def invalid_request_error(error: msgspec.ValidationError, request_type: Any) -> InputError:
    """Return msgspec's error as an ``InputError`` in plain words; its ``param`` is the name of the wrong field."""
    text = str(error)
    missing = re.search(r"missing required field `(\w+)`", text)
    path = re.search(r"`\$\.?(\w+)?", text)
    param = missing.group(1) if missing else path.group(1) if path else None
    reason = describe_validation(error, request_type)
    short = reason if len(reason) <= _MAX_ERROR_CHARACTERS else f"{reason[:200]} ... {reason[-200:]}"
    return InputError(f"Invalid request: {short}", param=param)
