"""Extractor for PDF: the text of each page, by PDFium (pypdfium2).

Paragraphs and headings are recognised by the positions and sizes of lines.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.errors import InputError

#: PDFium's character for a hyphen at the end of a line, with which it joins the lines.
_HYPHEN = "\x02"
_BROKEN = re.compile(rf"(\w+(?:-\w+)*)(?:[{_HYPHEN}\ufffe\u00ad]|-(?=\n))\n?(\w+)")
_WORD = re.compile(r"\w+(?:-\w+)*")
#: The distance between lines, relative to the usual one, above which a paragraph ends; the size of letters, relative to
#: the usual one, from which a line is a heading; and the maximum characters of a heading.
_GAP, _LARGE, _MAX_HEADING = 1.35, 1.18, 200
_FILE_NAME = re.compile(r"\.\w{2,5}$|^(untitled|microsoft \w+ - )", re.IGNORECASE)


@dataclass(frozen=True)
class PdfLine:
    """A line of a page: the position of its first letter (in points, from below), and the height of its font.

    ``end`` is the vertical position of its last letter: below the first one if PDFium joined two lines at a hyphen.
    """

    text: str
    left: float
    bottom: float
    height: float
    end: float


class PdfExtractor(Extractor):
    """PDF files. PDFium is not thread-safe: a process reads one at a time."""

    suffixes: Mapping[str, str] = {".pdf": "application/pdf"}

    def parse(self, data: bytes, name: str) -> Document:
        """Return the text of all pages."""
        with closing(_open(data, name)) as file:
            metadata = file.get_metadata_dict()
            pages = [list(_lines(file, number, name)) for number in range(len(file))]
        if not any(line.text.strip() for page in pages for line in page):
            raise InputError(f"{name}: no text layer, only pictures of pages. Run OCR on it first.")
        builder = _build(pages)
        title = metadata.get("Title", "").strip("\0 ")
        title = "" if _FILE_NAME.search(title) else title
        meta = {"author": metadata["Author"].strip("\0 ")} if metadata.get("Author", "").strip("\0 ") else {}
        return builder.document("prose", title or builder.first_heading(), meta)


def _open(data: bytes, name: str) -> Any:
    from pypdfium2 import PdfDocument, PdfiumError

    try:
        return PdfDocument(data)
    except PdfiumError as error:
        if "assword" in str(error):
            raise InputError(f"{name}: encrypted with a password. Save it without one.") from error
        raise


def _lines(file: Any, number: int, name: str) -> Iterator[PdfLine]:
    from pypdfium2 import PdfiumError

    try:
        with closing(file[number]) as page, closing(page.get_textpage()) as text:
            yield from _read(text)
    except PdfiumError as error:
        raise InputError(f"{name}: page {number + 1} is damaged ({error}).") from error


def _read(text: Any) -> Iterator[PdfLine]:
    """Yield the lines of a page, read letter by letter: only then is the position of each letter known."""
    from pypdfium2.raw import FPDFText_GetUnicode

    letters: list[str] = []
    first = last = -1
    for at in range(text.count_chars()):
        letter = chr(FPDFText_GetUnicode(text, at))
        if letter in "\r\n":
            if first >= 0:
                yield _line(text, letters, first, last)
            letters, first = [], -1
        elif letter != "\0":
            letters.append(letter)
            if not letter.isspace():
                first, last = at if first < 0 else first, at
    if first >= 0:
        yield _line(text, letters, first, last)


def _line(text: Any, letters: Sequence[str], first: int, last: int) -> PdfLine:
    left, bottom, _, top = text.get_charbox(first, loose=True)
    return PdfLine("".join(letters).strip(" "), left, bottom, top - bottom, text.get_charbox(last, loose=True)[1])


def _build(pages: Sequence[Sequence[PdfLine]]) -> DocumentBuilder:
    sizes = Counter[float]()
    for line in (line for page in pages for line in page):
        sizes[round(line.height, 1)] += len(line.text)
    usual = sizes.most_common(1)[0][0]
    groups = [(number, group) for number, page in enumerate(pages, 1) for group in _paragraphs(page)]
    large = sorted({round(group[0].height) for _, group in groups if _is_heading(group, usual)}, reverse=True)
    words = Counter(word for _, group in groups for line in group for word in _WORD.findall(line.text))
    builder = DocumentBuilder()
    for number, group in groups:
        text = _BROKEN.sub(lambda match: _join_word(match, words), "\n".join(line.text for line in group))
        text = text.replace(_HYPHEN, "-").replace("\ufffe", "-")
        if _is_heading(group, usual):
            builder.heading(text, large.index(round(group[0].height)) + 1, page=number, marked=False)
        else:
            builder.add(text, page=number)
    return builder


def _is_heading(group: Sequence[PdfLine], usual: float) -> bool:
    text = " ".join(line.text for line in group)
    is_large = all(line.height >= _LARGE * usual for line in group)
    return is_large and len(text) <= _MAX_HEADING and any(map(str.isalpha, text))


def _paragraphs(lines: Sequence[PdfLine]) -> Iterator[list[PdfLine]]:
    """Yield lines of one paragraph: no wide gap, no other size, no new indentation after the end of a sentence."""
    gaps = [above.end - below.bottom for above, below in pairwise(lines)]
    near = [gap for line, gap in zip(lines, gaps, strict=False) if 0 < gap <= 2 * line.height]
    usual = median(near or [math.inf])
    group = list(lines[:1])
    for line, gap in zip(lines[1:], gaps, strict=True):
        if _is_break(group[-1], line, gap, usual):
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def _is_break(above: PdfLine, line: PdfLine, gap: float, usual: float) -> bool:
    """Return whether a paragraph ends between two lines."""
    if abs(above.height - line.height) > 0.15 * max(above.height, line.height):
        return True
    ended = above.text.endswith((".", "!", "?", ":", "”", '"'))
    if gap <= 0:  # the next column, or on the same line
        return ended
    return gap > _GAP * usual or (ended and line.left - above.left > 0.7 * line.height)


def _join_word(match: re.Match[str], words: Counter[str]) -> str:
    """Join a word that was broken at the end of a line; with its hyphen if the text has it so elsewhere."""
    left, right = match[1], match[2]
    whole, compound = words[left + right], words[f"{left}-{right}"]
    if whole != compound:
        return left + right if whole > compound else f"{left}-{right}"
    plain = "-" not in left and left[-1].isalpha() and right[0].islower()
    return left + right if plain else f"{left}-{right}"
