"""DOCX: a Word document's text in its order: headings by their styles, paragraphs, lists, tables, and notes last."""

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
#: What holds no text of the document: properties, what was deleted or moved away, and second versions of drawings.
_LEFT_OUT = {f"{_W}{name}" for name in ("pPr", "rPr", "del", "moveFrom", "instrText", "delText")} | {_OLDER}
_LETTERS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-", f"{_W}p": "\n"}
_HEADING = re.compile(r"heading ([1-9])$")


class DocxExtractor(Extractor):
    """Word documents."""

    suffixes: Mapping[str, str] = {".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document"}

    def parse(self, data: bytes, name: str) -> Document:
        """Return the text in document order, changes that were proposed taken as made."""
        zip_safety.check_archive(data, name)
        import docx

        file = docx.Document(io.BytesIO(data))
        told = file.core_properties
        writer = _Writer(_levels(file))
        for element in _inner(file.element.body):
            writer.put(element)
        for element in _notes(file.part):
            writer.put(element)
        writer.end_list()
        title = told.title or writer.title or writer.draft.first_heading()
        return writer.draft.document("markdown", title, {"author": told.author} if told.author else {})


class _Writer:
    """Writes paragraphs and tables; those of one list become one block."""

    def __init__(self, levels: Mapping[str, int]) -> None:
        self.draft = DocumentBuilder()
        self.title = ""
        self._levels = levels
        self._list: list[str] = []

    def put(self, element: Any) -> None:
        """Write a paragraph or a table."""
        if element.tag == f"{_W}tbl":
            self.end_list()
            self.draft.add(markdown_table(_rows(element)), "table")
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
            self.draft.head(text, level)
        else:
            self.draft.add(text)

    def end_list(self) -> None:
        """Write the list that was begun."""
        self.draft.add("\n".join(self._list), "list")
        self._list = []

    def _level(self, element: Any, style: str) -> int:
        own = _value(element, "pPr/outlineLvl")
        return _outline(own) if own else self._levels.get(style, 0)


def _outline(value: str) -> int:
    """Return the level of a heading for an outline level, which counts from 0, and says 9 for body text."""
    return int(value) + 1 if value.isdigit() and int(value) < 9 else 0


def _levels(file: Any) -> dict[str, int]:
    """Return the levels of headings by the ids of styles, which depend on the author's language; names do not."""
    found: dict[str, int] = {}
    for style in file.styles:
        level, each = 0, style
        for _ in range(20):  # styles build on others, in a circle where the file is damaged
            if each is None or level:
                break
            named = _HEADING.match((each.name or "").lower())
            level = (
                int(named[1])
                if named
                else int(each.name == "Title") or _outline(_value(each.element, "pPr/outlineLvl"))
            )
            each = getattr(each, "base_style", None)
        if level:
            found[style.style_id] = level
    return found


def _value(element: Any, path: str) -> str:
    found = element.find("/".join(f"{_W}{part}" for part in path.split("/")))
    return "" if found is None else str(found.get(f"{_W}val", ""))


def _inner(parent: Any) -> Iterator[Any]:
    """Yield paragraphs and tables, also those in content controls and the like."""
    for child in parent:
        if child.tag in (f"{_W}p", f"{_W}tbl"):
            yield child
        elif isinstance(child.tag, str) and child.tag not in _LEFT_OUT:
            yield from _inner(child)


def _text(element: Any) -> str:
    return "".join(_pieces(element))


def _pieces(element: Any) -> Iterator[str]:
    for child in element:
        if child.tag in (f"{_W}t", _MATH):
            yield child.text or ""
        elif child.tag in _LETTERS:
            yield _LETTERS[child.tag]
            yield from _pieces(child)
        elif isinstance(child.tag, str) and child.tag not in _LEFT_OUT:
            yield from _pieces(child)


def _rows(table: Any) -> Iterator[list[str]]:
    for row in _children(table, "tr"):
        yield [_text(cell) for cell in _children(row, "tc")]


def _children(parent: Any, name: str) -> Iterator[Any]:
    """Yield the elements of a name that belong to this one: not those of a table within a cell."""
    for child in parent:
        if child.tag == f"{_W}{name}":
            yield child
        elif child.tag in (f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins", f"{_W}customXml"):
            yield from _children(child, name)


def _notes(part: Any) -> Iterator[Any]:
    """Yield the paragraphs of footnotes and endnotes; those with a type are lines that separate."""
    from docx.oxml import parse_xml

    for kind, relation in ((each.reltype.rpartition("/")[2], each) for each in part.rels.values()):
        if kind in ("footnotes", "endnotes") and not relation.is_external:
            for note in parse_xml(relation.target_part.blob):
                if note.get(f"{_W}type") in (None, "normal"):
                    yield from _inner(note)
