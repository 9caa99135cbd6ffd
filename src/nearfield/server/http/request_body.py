"""Limits: how much one request may ask for, and how bodies are read without taking more."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from starlette.datastructures import Headers

from nearfield.engine.engine import Engine
from nearfield.errors import Cancelled, InputError, Overloaded, TooLarge, UnsupportedMedia

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

#: Seconds for which an engine's speed is not asked for again: it takes the lock that its lanes need.
_FRESH = 0.1
#: Bodies of the largest size that may be held at once, all requests together.
_MOST_HELD = 4


@dataclass(frozen=True)
class RequestLimits:
    """Bounds of one request; ``seconds`` is the time within which it is done or refused."""

    body_bytes: int
    items: int
    tokens: int
    seconds: float
    bulk_items: int


class Pace:
    """The best speed that was seen of each engine, to tell what it could never do in time from what it cannot now."""

    def __init__(self) -> None:
        self._best: dict[Engine, float] = {}
        self._asked: dict[Engine, float] = {}

    def most(self, engine: Engine, seconds: float) -> int | None:
        """Return how many tokens an idle engine might do within ``seconds``; None while nothing is known of it."""
        best, now = self._best.get(engine, 0.0), time.monotonic()
        if now - self._asked.get(engine, 0.0) > _FRESH:
            best = self._best[engine] = max(engine.stats().tokens_per_second, best)
            self._asked[engine] = now
        return max(1, int(best * seconds)) if best else None


class BodyBudget:
    """Counts the bytes of all bodies at work, so that many large ones at once are refused before memory runs out."""

    def __init__(self, limits: RequestLimits) -> None:
        self.held = 0
        self.most_each = limits.body_bytes
        self.most = _MOST_HELD * limits.body_bytes

    def body(self) -> RequestBody:
        """Make room for one request's body, until the end of its ``with`` block."""
        return RequestBody(self)


class RequestBody:
    """One request's body, counted from its first byte until the request is done."""

    __slots__ = ("_intake", "_size")

    def __init__(self, intake: BodyBudget) -> None:
        self._intake = intake
        self._size = 0

    def __enter__(self) -> RequestBody:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._intake.held -= self._size

    async def read(self, headers: Headers, receive: Receive) -> bytes:
        """Read it, and stop at the limit whatever its headers claim; gzip is undone within the same limit.

        Raises:
            TooLarge: it is longer than one body may be.
            UnsupportedMedia: it is encoded in another way than gzip.
            InputError: it says that it is gzip, and is not.
            Cancelled: its client left before all of it was there.
            Overloaded: together with the bodies of other requests it is more than may be held.
        """
        encoding = headers.get("content-encoding", "").strip().lower() or "identity"
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise UnsupportedMedia(
                f"The body's Content-Encoding {encoding[:100]!r} is not read: send it as it is (identity), or as gzip."
            )
        claimed = headers.get("content-length", "")
        if claimed.isdigit():
            self._check(int(claimed))
        data = await self._receive(receive)
        if encoding == "identity":
            return data
        # In a thread: a small body may hold as many bytes as the limit allows.
        whole = await asyncio.to_thread(_unzip, data, self._intake.most_each)
        self._intake.held -= self._size
        self._size = 0
        return self._count(whole)

    async def _receive(self, receive: Receive) -> bytes:
        parts, more = [], True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("The client left before its request was whole.")
            parts.append(self._count(message.get("body", b"")))
            more = message.get("more_body", False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def hold(self, size: int) -> None:
        """Count bytes that came in another way.

        Raises:
            TooLarge, Overloaded: as ``read`` does.
        """
        self._check(self._size + size)
        self._size += size
        self._intake.held += size

    def _count(self, part: bytes) -> bytes:
        self.hold(len(part))
        return part

    def _check(self, size: int) -> None:
        if size > self._intake.most_each:
            raise TooLarge(
                f"The body is larger than {self._intake.most_each} bytes. Send the inputs in parts, or raise "
                "max_body_bytes."
            )
        if self._intake.held - self._size + size > self._intake.most:
            raise Overloaded("The requests at work hold as many bytes as the server may. Try again later.")


def _unzip(data: bytes, most: int) -> bytes:
    """Undo gzip, and stop at one byte more than ``most``: a few bytes may stand for gigabytes."""
    unzip = zlib.decompressobj(wbits=31)
    try:
        whole = unzip.decompress(data, most + 1)
    except zlib.error as error:
        raise InputError(f"The body is not the gzip that its Content-Encoding says: {error}.") from error
    if len(whole) <= most and (not unzip.eof or unzip.unused_data):
        raise InputError("The body's gzip is cut short, or something follows it.")
    return whole
