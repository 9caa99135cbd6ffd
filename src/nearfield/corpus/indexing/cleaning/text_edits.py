"""Edits of a text, and the mapping of positions between the text before and after them."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

Edit = tuple[int, int, str]


class EditedText:
    """A text after edits: ``(start, end, replacement)`` in the text before, in order, without overlap."""

    def __init__(self, text: str, edits: Sequence[Edit]) -> None:
        parts, at, shift = [], 0, 0
        #: The start and end of each edit, before and after.
        self._old: list[tuple[int, int]] = []
        self._new: list[tuple[int, int]] = []
        for start, end, replacement in edits:
            parts += [text[at:start], replacement]
            self._old.append((start, end))
            self._new.append((start + shift, start + shift + len(replacement)))
            at, shift = end, shift + len(replacement) - (end - start)
        self.text = "".join([*parts, text[at:]])

    def to_old(self, start: int, end: int) -> tuple[int, int]:
        """Return the range in the text before the edits for a range after them."""
        first = _map(self._new, self._old, start, is_end=False)
        return first, max(first, _map(self._new, self._old, end, is_end=True))

    def to_new(self, start: int, end: int) -> tuple[int, int]:
        """Return the range in the text after the edits for a range before them."""
        first = _map(self._old, self._new, start, is_end=False)
        return first, max(first, _map(self._old, self._new, end, is_end=True))


def _map(source: Sequence[tuple[int, int]], target: Sequence[tuple[int, int]], at: int, *, is_end: bool) -> int:
    """Return a position on the other side; text that was removed right after the end of a range is not part of it."""
    number = bisect.bisect_right(source, (at, -1) if is_end else (at, at)) - 1
    if number < 0:
        return at
    (low, high), (other_low, other_high) = source[number], target[number]
    if at >= high:
        return at - high + other_high
    return other_high if is_end and at > low else other_low
