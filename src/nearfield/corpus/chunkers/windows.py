"""Windows of very long documents, which are cleaned and split one after another, so that memory is bounded."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nearfield.corpus.document import Block, Document

#: Characters of a window, and the length from which a document is split into windows.
WINDOW, LONG = 2**18, 2**22


@dataclass(frozen=True)
class DocumentWindow:
    """A part of a document, as a separate document; ``start`` and ``end`` are its place in the whole."""

    document: Document
    start: int
    end: int


def split_windows(document: Document) -> Iterator[DocumentWindow]:
    """Yield the windows of a document, in order: the whole document, unless it is very long.

    Windows end before a block if possible, or else at the end of a line or a word.
    """
    length = len(document.text)
    if length <= LONG:
        yield DocumentWindow(document, 0, length)
        return
    starts = [block.start for block in document.blocks]
    ends = [block.end for block in document.blocks]
    edits = [edit[0] for edit in document.markup]
    start = 0
    while start < length:
        end = _window_end(document.text, starts, start)
        blocks = document.blocks[bisect.bisect_right(ends, start) : bisect.bisect_left(starts, end)]
        markup = document.markup[bisect.bisect_left(edits, start) : bisect.bisect_left(edits, end)]
        part = replace(
            document,
            text=document.text[start:end],
            blocks=tuple(_shifted(block, start, end) for block in blocks),
            markup=tuple((low - start, high - start, text) for low, high, text in markup if high <= end),
        )
        yield DocumentWindow(part, start, end)
        start = end


def _window_end(text: str, starts: list[int], start: int) -> int:
    """Return the end of the window that begins at a position."""
    low, high = start + WINDOW // 2, start + WINDOW
    if high >= len(text):
        return len(text)
    number = bisect.bisect_right(starts, high) - 1
    if number >= 0 and starts[number] > low:
        return starts[number]
    for sign in ("\n", " "):
        if (at := text.rfind(sign, low, high)) >= 0:
            return at + 1
    return high


def _shifted(block: Block, start: int, end: int) -> Block:
    return replace(block, start=max(block.start, start) - start, end=min(block.end, end) - start)
