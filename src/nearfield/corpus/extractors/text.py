"""Extractor for plain text: the file's own text. A blank line ends a paragraph, a form feed a page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nearfield.corpus.document import Block, BlockKind, Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.text_encoding import decode

_LINE = re.compile(r"([^\r\n]*)(?:\r\n?|\n|\Z)")
#: Suffixes, and whole names without one.
_SUFFIXES = ".txt .text .log .me .1st"
_NAMES = "readme license licence copying copyright authors contributors maintainers changelog changes history news"
_MORE = "notice install todo version acknowledgements thanks faq"


class TextExtractor(Extractor):
    """Plain text."""

    suffixes = dict.fromkeys(f"{_SUFFIXES} {_NAMES} {_MORE}".split(), "text/plain")
    isolated = False

    def parse(self, data: bytes, name: str) -> Document:
        """Return the decoded file as the document's text."""
        text = decode(data, name)
        return Document(text, tuple(paragraphs(text)))


def paragraphs(text: str, kind: BlockKind = "paragraph") -> Iterator[Block]:
    """Yield the blocks between blank lines, from the start of their first line; with pages if there are form feeds."""
    paged = "\f" in text
    start = 0
    for number, part in enumerate(text.split("\f"), 1):
        page = number if paged else None
        for first, last in _groups(text, start, start + len(part)):
            yield Block(first, last, kind, page=page)
        start += len(part) + 1


def _groups(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each group of lines with text."""
    first = last = -1
    for match in _LINE.finditer(text, start, end):
        line = match[1].rstrip()
        if line:
            first = match.start() if first < 0 else first
            last = match.start() + len(line)
        elif first >= 0:
            yield first, last
            first = -1
    if first >= 0:
        yield first, last
