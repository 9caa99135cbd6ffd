"""Extractor for DOCX (Word): headings by style, paragraphs, lists and tables in document order, then notes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor, zip_safety
from nearfield.corpus.extractors.document_builder import DocumentBuilder, markdown_table

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
_OLDER = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
#: Elements without text of the document: properties, deleted or moved text, and second versions of drawings.
_LEFT_OUT = {f"{_W}{name}" for name in ("pPr", "rPr", "del", "moveFrom", "instrText", "delText")} | {_OLDER}
_LETTERS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-", f"{_W}p": "\n"}
#: An element of python-docx's or lxml's tree, or a part of the file: neither library has types.
Element = Any
_HEADING = re.compile(r"heading ([1-9])$")


class DocxExtractor(Extractor):
    """Word documents."""

    suffixes: Mapping[str, str] = {".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document"}

    def parse(self, data: bytes, name: str) -> Document:
        """Return the text in document order, with proposed changes accepted."""
        zip_safety.check_archive(data, name)
        import docx

        file = docx.Document(io.BytesIO(data))
        properties = file.core_properties
        writer = _Writer(_levels(file))
        for element in _blocks(file.element.body):
            writer.put(element)
        for element in _notes(file.part):
            writer.put(element)
        writer.end_list()
        title = properties.title or writer.title or writer.builder.first_heading()
        return writer.builder.document("markdown", title, {"author": properties.author} if properties.author else {})


class _Writer:
    """Adds paragraphs and tables to a document; the items of a list become one block."""

    def __init__(self, levels: Mapping[str, int]) -> None:
        self.builder = DocumentBuilder()
        self.title = ""
        self._levels = levels
        self._list: list[str] = []

    def put(self, element: Element) -> None:
        """Add a paragraph or a table."""
        if element.tag == f"{_W}tbl":
            self.end_list()
            self.builder.add(markdown_table(_rows(element)), "table")
            return
        text = _text(element).strip()
        style = _value(element, "pPr/pStyle")
        depth = _value(element, "pPr/numPr/ilvl")
        level = self._level(element, style)
        if not level and text and (depth or style.lower().startswith("list")):
            self._list.append("  " * min(int(depth or 0), 8) + "- " + " ".join(text.split()))
            return
        self.end_list()
        if level:
            self.title = self.title or (text if style == "Title" else "")
            self.builder.heading(text, level)
        else:
            self.builder.add(text)

    def end_list(self) -> None:
        """Add the list that is open, if any."""
        self.builder.add("\n".join(self._list), "list")
        self._list = []

    def _level(self, element: Element, style: str) -> int:
        outline = _value(element, "pPr/outlineLvl")
        return _heading_level(outline) if outline else self._levels.get(style, 0)


def _heading_level(value: str) -> int:
    """Return the level of a heading for an outline level, which counts from 0, and is 9 for body text."""
    return int(value) + 1 if value.isdigit() and int(value) < 9 else 0


def _levels(file: Element) -> dict[str, int]:
    """Return the levels of headings by style id. Ids depend on the author's language; the names of styles do not."""
    levels: dict[str, int] = {}
    for style in file.styles:
        level, base = 0, style
        for _ in range(20):  # styles are based on others, in a circle if the file is damaged
            if base is None or level:
                break
            heading = _HEADING.match((base.name or "").lower())
            outline = _heading_level(_value(base.element, "pPr/outlineLvl"))
            level = int(heading[1]) if heading else int(base.name == "Title") or outline
            base = getattr(base, "base_style", None)
        if level:
            levels[style.style_id] = level
    return levels


def _value(element: Element, path: str) -> str:
    child = element.find("/".join(f"{_W}{part}" for part in path.split("/")))
    return "" if child is None else str(child.get(f"{_W}val", ""))


def _blocks(parent: Element) -> Iterator[Element]:
    """Yield paragraphs and tables, including those in content controls and similar elements."""
    for child in parent:
        if child.tag in (f"{_W}p", f"{_W}tbl"):
            yield child
        elif isinstance(child.tag, str) and child.tag not in _LEFT_OUT:
            yield from _blocks(child)


def _text(element: Element) -> str:
    return "".join(_pieces(element))


def _pieces(element: Element) -> Iterator[str]:
    for child in element:
        if child.tag in (f"{_W}t", _MATH):
            yield child.text or ""
        elif child.tag in _LETTERS:
            yield _LETTERS[child.tag]
            yield from _pieces(child)
        elif isinstance(child.tag, str) and child.tag not in _LEFT_OUT:
            yield from _pieces(child)


def _rows(table: Element) -> Iterator[list[str]]:
    for row in _children(table, "tr"):
        yield [_text(cell) for cell in _children(row, "tc")]


def _children(parent: Element, name: str) -> Iterator[Element]:
    """Yield the elements with this name that belong to the parent, without those of a table within a cell."""
    for child in parent:
        if child.tag == f"{_W}{name}":
            yield child
        elif child.tag in (f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins", f"{_W}customXml"):
            yield from _children(child, name)


def _notes(part: Element) -> Iterator[Element]:
    """Yield the paragraphs of footnotes and endnotes; notes with a type are separator lines."""
    from docx.oxml import parse_xml

    for relation in part.rels.values():
        kind = relation.reltype.rpartition("/")[2]
        if kind in ("footnotes", "endnotes") and not relation.is_external:
            for note in parse_xml(relation.target_part.blob):
                if note.get(f"{_W}type") in (None, "normal"):
                    yield from _blocks(note)
