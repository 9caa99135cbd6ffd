"""Limits: how much one request may ask for, and how its body is read without taking more."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from nearfield.errors import TooLarge


@dataclass(frozen=True)
class Limits:
    """Bounds of one request; ``seconds`` is the time within which it is done or refused."""

    body_bytes: int
    items: int
    tokens: int
    seconds: float
    bulk_items: int


async def body(request: Request, most: int) -> bytes:
    """Read a request's body, and stop at the limit whatever its headers claim.

    Raises:
        TooLarge: the body is longer than ``most`` bytes.
    """
    claimed = request.headers.get("content-length", "")
    if claimed.isdigit() and int(claimed) > most:
        raise _too_large(most)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"The body is larger than {most} bytes. Send the inputs in parts, or raise max_body_bytes.")
