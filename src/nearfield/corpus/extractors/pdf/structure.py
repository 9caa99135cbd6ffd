"""The structure tree of tagged PDFs: alternative texts of figures, replaced texts, and expanded abbreviations."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from typing import Any

from nearfield.corpus.extractors.pdf.annotations import PdfNote, read_wide
from nearfield.corpus.word_count import count_words

#: Elements of the structure tree of a page that are read.
_MAX_ELEMENTS = 50_000
#: What is before an alternative text. Those of links are not shown.
_NAMES = {"Figure": "Picture", "Formula": "Formula"}
_SILENT = frozenset({"Link", "Annot", "Artifact", "Document"})
_FILE_NAME = re.compile(r"\S+\.(?:png|jpe?g|gif|tiff?|bmp|emf|wmf|eps|svg|pdf)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_NOT_LETTERS = re.compile(r"[\W_]+")


def read_alternatives(page: Any, text: str) -> list[PdfNote]:
    """Return the texts of a page's structure that are not in its ``text``, at the heights of their contents."""
    from pypdfium2 import raw

    tree = raw.FPDF_StructTree_GetForPage(page)
    if not tree:
        return []
    try:
        notes = list(_notes(page, tree, _letters(text)))
    finally:
        raw.FPDF_StructTree_Close(tree)
    return list(dict.fromkeys(notes))


def _notes(page: Any, tree: Any, known: str) -> Iterator[PdfNote]:
    heights: dict[int, float] | None = None
    for element in _elements(tree):
        texts = list(_texts(element, known))
        if texts and heights is None:
            heights = dict(_heights(page))
        for text in texts:
            places = [heights[number] for number in _contents(element) if number in heights] if heights else []
            yield PdfNote(text, max(places, default=0.0))


def _elements(tree: Any) -> Iterator[Any]:
    """Yield the elements of a tree in order."""
    from pypdfium2 import raw

    count = raw.FPDF_StructTree_CountChildren(tree)
    stack = [raw.FPDF_StructTree_GetChildAtIndex(tree, at) for at in reversed(range(max(count, 0)))]
    for _ in range(_MAX_ELEMENTS):
        if not stack:
            return
        element = stack.pop()
        if element:
            yield element
            stack += reversed(_children(element))


def _children(element: Any) -> list[Any]:
    from pypdfium2 import raw

    count = max(raw.FPDF_StructElement_CountChildren(element), 0)
    return [raw.FPDF_StructElement_GetChildAtIndex(element, at) for at in range(min(count, _MAX_ELEMENTS))]


def _texts(element: Any, known: str) -> Iterator[str]:
    """Yield what an element says beside the text of the page."""
    from pypdfium2 import raw

    kind = read_wide(raw.FPDF_StructElement_GetType, element)
    alternative = _line(raw.FPDF_StructElement_GetAltText, element)
    actual = _line(raw.FPDF_StructElement_GetActualText, element)
    expansion = _line(raw.FPDF_StructElement_GetExpansion, element)
    if kind not in _SILENT and _is_new(alternative, known) and not _FILE_NAME.fullmatch(alternative):
        yield f"{_NAMES.get(kind, 'Description')}: {alternative}"
    # A ligature or a part of a word is in the text already, in other letters.
    if _is_new(actual, known) and (kind in _NAMES or count_words(actual) > 1) and actual != alternative:
        yield f"{_NAMES[kind]}: {actual}" if kind in _NAMES else actual
    if _is_new(expansion, known):
        yield f"Abbreviation: {expansion}"


def _line(function: Any, element: Any) -> str:
    return " ".join(_CONTROL.sub("", read_wide(function, element)).split())


def _is_new(text: str, known: str) -> bool:
    letters = _letters(text)
    return bool(letters) and letters not in known


def _letters(text: str) -> str:
    """Return the letters and digits of a text, for comparisons."""
    return _NOT_LETTERS.sub("", text).casefold()


# -- places ----------------------------------------------------------------------------------------------------------


def _heights(page: Any) -> Iterator[tuple[int, float]]:
    """Yield the numbers of marked contents of a page, and how far up they are."""
    from pypdfium2 import raw

    highest: dict[int, float] = {}
    for item in page.get_objects(max_depth=4):
        number = raw.FPDFPageObj_GetMarkedContentID(item.raw)
        edges = [ctypes.c_float() for _ in range(4)]  # left, bottom, right, top
        if number >= 0 and raw.FPDFPageObj_GetBounds(item.raw, *edges):
            middle = (edges[1].value + edges[3].value) / 2
            highest[number] = max(middle, highest.get(number, middle))
    yield from highest.items()


def _contents(element: Any) -> Iterator[int]:
    """Yield the numbers of the marked contents of an element and of those in it."""
    from pypdfium2 import raw

    stack = [element]
    for _ in range(_MAX_ELEMENTS):
        if not stack:
            return
        item = stack.pop()
        for at in range(max(raw.FPDF_StructElement_GetMarkedContentIdCount(item), 0)):
            yield raw.FPDF_StructElement_GetMarkedContentIdAtIndex(item, at)
        stack += [child for child in _children(item) if child]
