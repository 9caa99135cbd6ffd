"""The search for a value that is there twice: a name, of which only one could count."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

_Value = TypeVar("_Value", bound=Hashable)


def find_repeated(values: Iterable[_Value]) -> _Value | None:
    """Return the first value that was there before, or None."""
    seen: set[_Value] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
