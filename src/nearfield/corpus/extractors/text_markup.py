"""Edits that take markup out of a text: collected in any order, without overlap, and not in protected parts."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable

#: Start, end and replacement.
Edit = tuple[int, int, str]


class TextMarkup:
    """Collects the edits of a text. An edit that overlaps an earlier one, or a protected part, is left out."""

    def __init__(self, text: str) -> None:
        self.text = text
        #: Taken ranges in order, and their edits; None for protected parts.
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._edits: list[Edit | None] = []

    def protect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Let parts of the text stay unchanged, such as code."""
        for start, end in ranges:
            self._take(start, end, None)

    def replace(self, start: int, end: int, replacement: str = "") -> bool:
        """Replace a part; return whether that was possible."""
        return self._take(start, end, (start, end, replacement))

    def sub(self, pattern: re.Pattern[str], replacement: str | Callable[[re.Match[str]], str | None] = "") -> None:
        """Replace all matches of a pattern, by what a function returns for each; None leaves the text."""
        for match in pattern.finditer(self.text):
            value = replacement if isinstance(replacement, str) else replacement(match)
            if value is not None and value != match[0]:
                self.replace(match.start(), match.end(), value)

    def edits(self) -> tuple[Edit, ...]:
        """Return all edits in order."""
        return tuple(edit for edit in self._edits if edit is not None)

    def _take(self, start: int, end: int, edit: Edit | None) -> bool:
        if start >= end:
            return False
        at = bisect.bisect_right(self._starts, start)
        if (at and self._ends[at - 1] > start) or (at < len(self._starts) and self._starts[at] < end):
            return False
        self._starts.insert(at, start)
        self._ends.insert(at, end)
        self._edits.insert(at, edit)
        return True
