"""Parts of replies that clients request by byte (RFC 9110, section 14): players of videos seek with them."""

from __future__ import annotations

import re
from collections.abc import Mapping

_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{1,18})?|-(\d{1,18}))")


class RangeNotSatisfiable(ValueError):
    """A range has no byte of the reply."""


def requested_range(headers: Mapping[str, str], size: int, tag: str) -> slice | None:
    """Return the bytes of a reply of ``size`` bytes that a request is for; None: all of them.

    What is not one range of bytes is ignored, as the standard allows, and a range of another version than ``tag``.

    Raises:
        RangeNotSatisfiable: it begins after the end.
    """
    match = _RANGE.fullmatch(headers.get("range", "").strip())
    if match is None or headers.get("if-range", tag) != tag:
        return None
    first, last, suffix = (int(number) if number else None for number in match.groups())
    if first is None:
        first, last = max(0, size - (suffix or 0)), None
    elif last is not None and last < first:
        return None
    if first >= size:
        raise RangeNotSatisfiable
    return slice(first, size if last is None else min(last + 1, size))
