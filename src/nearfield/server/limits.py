"""Limits: how much one request may ask for, and how bodies are read without taking more."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from starlette.requests import Request

from nearfield.errors import Cancelled, Overloaded, TooLarge

#: Bodies of the largest size that may be held at once, all requests together.
_MOST_HELD = 4


@dataclass(frozen=True)
class Limits:
    """Bounds of one request; ``seconds`` is the time within which it is done or refused."""

    body_bytes: int
    items: int
    tokens: int
    seconds: float
    bulk_items: int


class Intake:
    """Counts the bytes of all bodies at work, so that many large ones at once are refused before memory runs out."""

    def __init__(self, limits: Limits) -> None:
        self.held = 0
        self.most_each = limits.body_bytes
        self.most = _MOST_HELD * limits.body_bytes

    def body(self) -> Body:
        """Make room for one request's body, until the end of its ``with`` block."""
        return Body(self)


class Body:
    """One request's body, counted from its first byte until the request is done."""

    __slots__ = ("_intake", "_size")

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._size = 0

    def __enter__(self) -> Body:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._intake.held -= self._size

    async def read(self, request: Request) -> bytes:
        """Read it, and stop at the limit whatever its headers claim.

        Raises:
            TooLarge: it is longer than one body may be.
            Cancelled: its client left before all of it was there.
            Overloaded: together with the bodies of other requests it is more than may be held.
        """
        claimed = request.headers.get("content-length", "")
        if claimed.isdigit():
            self._check(int(claimed))
        parts, more = [], True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("The client left before its request was whole.")
            parts.append(self._count(message.get("body", b"")))
            more = message.get("more_body", False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _count(self, part: bytes) -> bytes:
        self._check(self._size + len(part))
        self._size += len(part)
        self._intake.held += len(part)
        return part

    def _check(self, size: int) -> None:
        if size > self._intake.most_each:
            raise TooLarge(
                f"The body is larger than {self._intake.most_each} bytes. Send the inputs in parts, or raise "
                "max_body_bytes."
            )
        if self._intake.held - self._size + size > self._intake.most:
            raise Overloaded("The requests at work hold as many bytes as the server may. Try again later.")
