"""Reply: an answered exchange as the bytes of its body, written so that other requests need not wait for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from nearfield.server.dialects import Reply
from nearfield.server.exchange import Exchange

#: Numbers from which on a reply is written in a thread.
LARGE = 65_536


def content(write: Callable[[Any], Any], exchange: Exchange) -> tuple[bytes, Reply | None]:
    """Return the reply's bytes, and the Reply where ``write`` gave one.

    orjson lets go of the interpreter only between calls, so a long list of vectors is written in parts: in a thread,
    the event loop then runs in between.
    """
    body = write(exchange)
    given = body if isinstance(body, Reply) else None
    if given is not None:
        if isinstance(given.content, bytes):
            return given.content, given
        body = given.content
    if exchange.numbers > LARGE:
        at_once = max(1, LARGE * exchange.size // exchange.numbers)
        body = _in_parts(body, at_once)
    return _dump(body), given


def _in_parts(value: Any, at_once: int) -> Any:
    """Write lists of more than ``at_once`` items, so many at a time, and leave anything else to the caller."""
    if isinstance(value, Mapping):
        return {name: _in_parts(part, at_once) for name, part in value.items()}
    if not isinstance(value, list) or len(value) <= at_once:
        return value
    # A fragment is copied as it is: one may hold several items and the commas between them.
    return [orjson.Fragment(_dump(value[start : start + at_once])[1:-1]) for start in range(0, len(value), at_once)]


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
