"""Windows of very long documents, which are cleaned and split one after another, so that memory is bounded.

An extractor's process writes them to a file, one line of JSON for each, from which they are read one at a time.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import msgspec

from nearfield.corpus.document import Block, Document

#: Characters of a window, and the length from which a document is split into windows.
WINDOW, LONG = 2**18, 2**22


@dataclass(frozen=True)
class DocumentWindow:
    """A part of a document, as a separate document; ``start`` and ``end`` are its place in the whole.

    ``line`` is the number of its first line. ``paths`` are the headings in it and the last one before it, by their
    positions, each with the path to it; None if those of the window are all there are.
    """

    document: Document
    start: int
    end: int
    line: int = 1
    paths: tuple[tuple[int, tuple[str, ...]], ...] | None = None


class WindowedFacts(msgspec.Struct, frozen=True):
    """A document without its text, blocks and markup, and the characters and line ends of its text."""

    document: Document
    length: int
    line_ends: int


@dataclass(frozen=True)
class WindowedDocument:
    """A document as its windows, which can be read once, in order. ``document`` has no text, blocks and markup."""

    document: Document
    length: int
    line_ends: int
    windows: Iterator[DocumentWindow]

    @classmethod
    def from_document(cls, document: Document) -> WindowedDocument:
        """Split a document into windows; it is the only one, unless it is very long."""
        facts = replace(document, text="", blocks=(), markup=())
        return cls(facts, len(document.text), document.text.count("\n"), split_windows(document))

    @classmethod
    def read(cls, file: BinaryIO) -> WindowedDocument:
        """Read a document that ``write`` has written; the file is closed after its last window."""
        facts = msgspec.json.decode(file.readline(), type=WindowedFacts)
        return cls(facts.document, facts.length, facts.line_ends, _read_windows(file))

    def write(self, file: BinaryIO) -> None:
        """Write the document to a file."""
        file.write(msgspec.json.encode(WindowedFacts(self.document, self.length, self.line_ends)) + b"\n")
        for window in self.windows:
            file.write(msgspec.json.encode(window) + b"\n")

    def with_lines(self) -> WindowedDocument:
        """Return the document with the mark that its lines are those of the file."""
        windows = (replace(window, document=replace(window.document, has_lines=True)) for window in self.windows)
        return replace(self, document=replace(self.document, has_lines=True), windows=windows)


def _read_windows(file: BinaryIO) -> Iterator[DocumentWindow]:
    with file:
        for line in file:
            yield msgspec.json.decode(line, type=DocumentWindow)


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
    paths = None if document.form == "code" else document.headings()
    start, line = 0, 1
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
        yield DocumentWindow(part, start, end, line, None if paths is None else _paths_between(paths, start, end))
        line += document.text.count("\n", start, end)
        start = end


def _paths_between(
    paths: list[tuple[int, tuple[str, ...]]], start: int, end: int
) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Return the paths between two positions and the last one before them, with positions from ``start`` on."""
    first = max(bisect.bisect_left(paths, start, key=lambda path: path[0]) - 1, 0)
    last = bisect.bisect_left(paths, end, key=lambda path: path[0])
    return tuple((position - start, path) for position, path in paths[first:last])


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
