"""Truncate token ids on the left or on the right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nearfield.errors import InputTooLong

Truncate = Literal["right", "left", "error"]
TRUNCATIONS = ("right", "left", "error")


@dataclass(slots=True)
class Tokens:
    """One tokenised input: all ``ids`` that the model reads, and how many were ``dropped`` to fit.

    ``dropped`` is exact for a text of up to 65,536 characters (or 64 for each token of the limit, if that is more), and
    an estimate for a longer one. ``unknown`` counts the unknown tokens of the part that is read. The last ``padding``
    ids are padding, of models that read it.
    """

    ids: list[int]
    dropped: int
    unknown: int = 0
    padding: int = 0

    @property
    def count(self) -> int:
        """The number of tokens that the model reads."""
        return len(self.ids)

    def copy(self) -> Tokens:
        """Return a copy, whose ids may be changed."""
        return Tokens(self.ids.copy(), self.dropped, self.unknown, self.padding)


@dataclass(slots=True)
class UntruncatedIds:
    """A text's ids before truncation: all of them; or the first and the last, with an ``estimate`` of their number."""

    ids: list[int]
    estimate: int | None = None

    @property
    def count(self) -> int:
        """The number of ids of the whole text."""
        return len(self.ids) if self.estimate is None else self.estimate


def drop_right(text: UntruncatedIds, limit: int, suffix: list[int]) -> Tokens:
    """Drop ids before the ``suffix`` of special tokens until ``limit`` are left."""
    return _drop(text, limit, limit - _tail(text.ids, suffix))


def drop_left(text: UntruncatedIds, limit: int, suffix: list[int], protected: int) -> Tokens:
    """Drop ids after the first ``protected`` ones (special tokens, prompt) until ``limit`` are left."""
    return _drop(text, limit, min(protected, limit - _tail(text.ids, suffix)))


def take(ids: list[int], count: int, side: Truncate) -> list[int]:
    """Return ``count`` ids: the first ones, or the last ones if the left ``side`` is cut."""
    return ids[max(0, len(ids) - count) :] if side == "left" else ids[:count]


def _drop(text: UntruncatedIds, limit: int, head: int) -> Tokens:
    ids = text.ids
    if len(ids) <= limit:  # a text whose part that was not tokenised is long, and the other has few tokens
        return Tokens(ids, max(1, text.count - len(ids)))
    return Tokens(ids[:head] + ids[len(ids) - (limit - head) :], max(1, text.count - limit))


def _tail(ids: list[int], suffix: list[int]) -> int:
    return len(suffix) if suffix and ids[-len(suffix) :] == suffix else 0


def too_long(count: str, limit: int, index: int | None) -> InputTooLong:
    """Return the error for an input of ``count`` tokens where the model reads at most ``limit``."""
    which = "the input" if index is None else f"input {index}"
    return InputTooLong(
        f"{which} has {count} tokens, and the model reads at most {limit}: shorten it or have it truncated",
        param="input",
    )
