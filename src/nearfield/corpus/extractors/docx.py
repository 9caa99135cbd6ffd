"""Extractor for DOCX (Word): the text in document order, with numbers of clauses, notes, comments and charts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder, markdown_table
from nearfield.corpus.extractors.office.drawings import DrawingTexts, add_losses
from nearfield.corpus.extractors.office.numbering import Numbering
from nearfield.corpus.extractors.office.package import (
    Element,
    OfficePackage,
    attribute,
    descendants,
    is_on,
    local_name,
    visible_text,
)
from nearfield.corpus.extractors.office.runs import Extra, RunReader
from nearfield.corpus.extractors.office.word_tables import Cell, table_parts
from nearfield.corpus.word_count import count_words

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_HEADING = re.compile(r"heading ([1-9])$")
#: Elements without blocks of the document: properties, and deleted or moved text.
_LEFT_OUT = frozenset({"pPr", "rPr", "del", "moveFrom", "sectPr", "tblPr", "trPr", "tcPr"})
#: Other files that are inserted between paragraphs.
_FILES = ("altChunk", "subDoc")
_NOTES = {"footnotes": "Footnote", "endnotes": "Endnote"}
#: Words beside the number of a page that make no header or footer.
_PAGE_WORDS = 2


class DocxExtractor(Extractor):
    """Word documents."""

    uses_ocr = True

    suffixes: Mapping[str, str] = {
        ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ".docm": "application/vnd.ms-word.document.macroenabled.12",
        ".dotx": "application/vnd.openxmlformats-officedocument.wordprocessingml.template",
    }

    def parse(self, data: bytes, name: str) -> Document:
        """Return the text in document order, with proposed changes accepted.

        Headers come first and footers last, without repetitions. Notes, comments and texts in boxes come after the
        paragraph, list or table that they belong to.
        """
        package = OfficePackage(data, name)
        root = package.main_tree()
        writer = _WordWriter(package, package.main(), self)
        body = next((child for child in root if local_name(child) == "body"), root)
        headers, footers = _page_parts(package, package.main(), body)
        words = sum(map(writer.put_page_part, headers))
        for element in _blocks(body):
            writer.put(element)
        writer.finish()
        words += sum(map(writer.put_page_part, footers))
        builder = writer.builder
        words += (builder.visible_words or 0) + writer.drawings.words  # those of embedded files are there
        builder.visible_words = words
        builder.see(visible_text([root, *writer.note_trees()]))
        add_losses(builder, writer.drawings, package)
        title = package.properties.get("title") or writer.title or builder.first_heading()
        return builder.document("markdown", title, package.meta())


class _WordWriter:
    """Adds paragraphs and tables to a document; the items of a list become one block."""

    def __init__(self, package: OfficePackage, part: str, outer: Extractor) -> None:
        self.builder = DocumentBuilder()
        self.title = ""
        styles = package.tree(next(package.related(part, "styles"), ""))
        self._numbering = Numbering(package.tree(next(package.related(part, "numbering"), "")), styles)
        self._levels = _levels(styles) if styles is not None else {}
        self._trees = {
            kind: package.tree(next(package.related(part, kind), "")) for kind in (*_NOTES, "comments")
        }  # fmt: skip
        self._notes = {kind: _by_id(tree) for kind, tree in self._trees.items()}
        self.drawings = DrawingTexts(package, outer)
        self._part = self._main = part
        self._list: list[str] = []
        self._extras: list[Extra] = []
        self._page_texts: set[str] = set()
        self._page_extras: set[tuple[str, str]] = set()

    def note_trees(self) -> list[Element]:
        """Return the notes and comments, without those that are separator lines."""
        return [note for notes in self._notes.values() for note in notes.values()]

    def put(self, element: Element) -> None:
        """Add a paragraph, a table or an inserted file, then what belongs to it."""
        if local_name(element) == "tbl":
            self._end_list()
            self._put_table(element)
        elif local_name(element) in _FILES:
            self._end_list()
            self._extras.append(_inserted_file(element))
        else:
            self._put_paragraph(element)
        if not self._list:
            self._put_extras()

    def finish(self) -> None:
        """Add the list that is open, if any, and what belongs to it."""
        self._end_list()
        self._put_extras()

    def put_page_part(self, part: str) -> int:
        """Add a header or a footer unless it was added before or has a page number only; return its words."""
        tree = self.drawings.package.tree(part)
        if tree is None:
            return 0
        self._part = part
        words = 0
        for element in _blocks(tree):
            text = RunReader().text(element).strip() if local_name(element) == "p" else None
            if text is not None and (text in self._page_texts or _is_page_number(element, text)):
                self._text(element)  # what hangs on it may be new
                continue
            before = len(self.builder)
            self.put(element)
            self._page_texts |= {text} if text else set()
            words += len(self.builder) > before if text is None else count_words(text)
        self.finish()
        self._part = self._main
        return words

    def _put_paragraph(self, element: Element) -> None:
        properties = _child(element, "pPr")
        text = self._text(element).strip()
        if not text and _is_deleted(properties):
            return
        style = _value(properties, "pStyle")
        number = self._numbering.number(properties, style)
        label = number.label if number else ""
        level = self._level(properties, style)
        if not text:
            return
        if level:
            self._end_list()
            self.title = self.title or (text if style == "Title" else "")
            label = label if label != "-" else ""
            self.builder.heading(f"{label} {text}", level)
        elif label or (number is None and style.lower().startswith("list") and style.lower() != "listparagraph"):
            depth = min(number.level, 8) if number else 0
            self._list.append("  " * depth + f"{label or '-'} " + " ".join(text.split()))
        else:
            self._end_list()
            self.builder.add(text)

    def _end_list(self) -> None:
        if self._list:
            self.builder.add("\n".join(self._list), "list")
            self._list = []

    def _level(self, properties: Element | None, style: str) -> int:
        outline = _value(properties, "outlineLvl")
        return _heading_level(outline) if outline else self._levels.get(style, 0)

    def _put_table(self, table: Element) -> None:
        if sum(1 for _ in _children(table, "tc")) == 1 or _is_single_cell(table):
            for cell in _children(next(_children(table, "tr"), table), "tc"):
                for element in _blocks(cell):
                    self.put(element)
                self._end_list()
            return
        titles, rows = table_parts(self._rows(table))
        for title in titles:
            self.builder.add(title)
        self.builder.add(markdown_table(rows), "table")

    def _rows(self, table: Element) -> Iterator[list[Cell]]:
        for row in _children(table, "tr"):
            properties = _child(row, "trPr")
            if properties is not None and any(local_name(child) == "del" for child in properties):
                continue
            cells = [Cell("")] * _count(properties, "gridBefore")
            for item in _children(row, "tc"):
                cell = _child(item, "tcPr")
                merge = _child(cell, "vMerge") if cell is not None else None
                if cell is not None and _child(cell, "cellDel") is not None:
                    continue
                continued = merge is not None and attribute(merge, "val") in ("", "continue")
                text = self._cell_text(item)
                cells.append(Cell(text, max(_count(cell, "gridSpan"), 1), continues=continued))
            is_head = is_on(_child(properties, "tblHeader")) if properties is not None else False
            yield [Cell(cell.text, cell.span, cell.continues, is_head) for cell in cells]

    def _cell_text(self, cell: Element) -> str:
        lines = []
        for element in _blocks(cell):
            if local_name(element) == "tbl":
                rows = (", ".join(filter(None, (item.text for item in row))) for row in self._rows(element))
                lines.append("; ".join(filter(None, rows)))
                continue
            if local_name(element) in _FILES:
                self._extras.append(_inserted_file(element))
                continue
            properties = _child(element, "pPr")
            text = " ".join(self._text(element).split())
            number = self._numbering.number(properties, _value(properties, "pStyle"))
            lines.append(f"{number.label} {text}" if number and number.label and text else text)
        return "\n".join(filter(None, lines))

    def _text(self, element: Element) -> str:
        reader = RunReader()
        text = reader.text(element)
        self._extras += filter(self._is_new, reader.extras)
        return text

    def _is_new(self, extra: Extra) -> bool:
        """Return whether an extra is not the same as one in another header or footer."""
        if self._part == self._main or extra.kind not in ("box", "text"):
            return True
        content = extra.value if extra.element is None else "".join(extra.element.itertext())
        before = len(self._page_extras)
        self._page_extras.add((extra.kind, content))
        return len(self._page_extras) > before

    def _put_extras(self) -> None:
        """Add notes, comments, boxes, pictures and charts of the blocks before."""
        extras, self._extras = self._extras, []
        for extra in extras:
            if extra.kind == "box":
                for element in _blocks(extra.element):
                    self.put(element)
                self._end_list()
            elif extra.kind == "text":
                self.builder.add(extra.value)
            elif extra.kind in self._notes:
                self._put_note(extra)
            else:
                self.drawings.put(self.builder, extra, self._part)

    def _put_note(self, extra: Extra) -> None:
        note = self._notes[extra.kind].get(extra.value)
        if note is None:
            return
        text = " ".join(" ".join(self._text(element).split()) for element in descendants(note, "p")).strip()
        if not text:
            return
        if extra.kind == "comments":
            author = attribute(note, "author")
            self.builder.add(f"Comment by {author}: {text}" if author else f"Comment: {text}", "quote", markup="> ")
        else:
            number = list(self._notes[extra.kind]).index(extra.value) + 1
            self.builder.add(f"{_NOTES[extra.kind]} {number}: {text}")


def _inserted_file(element: Element) -> Extra:
    return Extra("file", attribute(element, "id"))


def _by_id(tree: Element | None) -> dict[str, Element]:
    """Return the notes or comments of a part by their ids; notes with a type are separator lines."""
    if tree is None:
        return {}
    return {attribute(note, "id"): note for note in tree if attribute(note, "type") in ("", "normal")}


def _page_parts(package: OfficePackage, main: str, body: Element) -> tuple[list[str], list[str]]:
    """Return the names of the headers and of the footers that pages show."""
    settings = package.tree(next(package.related(main, "settings"), ""))
    even = settings is not None and is_on(_child(settings, "evenAndOddHeaders"))
    links = package.relationships(main)
    parts: dict[str, list[str]] = {"headerReference": [], "footerReference": []}
    for section in descendants(body, "sectPr"):
        shown = {"default", *(["even"] if even else []), *(["first"] if is_on(_child(section, "titlePg")) else [])}
        for item in section:
            link = links.get(attribute(item, "id")) if local_name(item) in parts else None
            if link and (attribute(item, "type") or "default") in shown and link.target not in parts[local_name(item)]:
                parts[local_name(item)].append(link.target)
    return parts["headerReference"], parts["footerReference"]


def _is_page_number(element: Element, text: str) -> bool:
    """Return whether a paragraph has the number of the page, and hardly anything else."""
    codes = [item.text or "" for item in descendants(element, "instrText")]
    codes += [attribute(item, "instr") for item in descendants(element, "fldSimple")]
    words = count_words(re.sub(r"\d+", " ", text))
    return any("PAGE" in code for code in codes) and words <= _PAGE_WORDS


def _heading_level(value: str) -> int:
    """Return the level of a heading for an outline level, which counts from 0, and is 9 for body text."""
    return int(value) + 1 if value.isdigit() and int(value) < 9 else 0


def _levels(styles: Element) -> dict[str, int]:
    """Return the levels of headings by style id. Ids depend on the author's language; the names of styles do not."""
    by_id = {attribute(style, "styleId"): style for style in styles if local_name(style) == "style"}
    levels: dict[str, int] = {}
    for identity in by_id:
        style: str = identity
        for _ in range(20):  # styles are based on others, in a circle if the file is damaged
            if style not in by_id:
                break
            element = by_id[style]
            level = _own_level(element)
            if level:
                levels[identity] = level
                break
            style = _value(element, "basedOn")
    return levels


def _own_level(style: Element) -> int:
    name = _value(style, "name")
    heading = _HEADING.match(name.lower())
    if heading:
        return int(heading[1])
    return 1 if name == "Title" else _heading_level(_value(_child(style, "pPr"), "outlineLvl"))


def _child(element: Element | None, name: str) -> Element | None:
    return None if element is None else element.find(f"{_W}{name}")


def _value(element: Element | None, name: str) -> str:
    child = _child(element, name)
    return "" if child is None else attribute(child, "val")


def _count(element: Element | None, name: str) -> int:
    value = _value(element, name)
    return min(int(value), 63) if value.isdigit() else 0


def _is_deleted(properties: Element | None) -> bool:
    """Return whether the end of a paragraph was deleted."""
    return _child(_child(properties, "rPr"), "del") is not None


def _is_single_cell(table: Element) -> bool:
    rows = list(_children(table, "tr"))
    return len(rows) == 1 and sum(1 for _ in _children(rows[0], "tc")) == 1


def _blocks(parent: Element) -> Iterator[Element]:
    """Yield paragraphs, tables and inserted files, including those in content controls and similar elements."""
    for child in parent:
        name = local_name(child)
        if name in ("p", "tbl", *_FILES):
            yield child
        elif name and name not in _LEFT_OUT:
            yield from _blocks(child)


def _children(parent: Element, name: str) -> Iterator[Element]:
    """Yield the elements with this name that belong to the parent, without those of a table within a cell."""
    for child in parent:
        if child.tag == f"{_W}{name}":
            yield child
        elif local_name(child) in ("sdt", "sdtContent", "ins", "customXml"):
            yield from _children(child, name)
