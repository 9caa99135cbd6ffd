"""Extractor for XLSX (Excel): the tables of a workbook's sheets; a row becomes lines of "column: value"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import unescape
from itertools import chain

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.office.charts import paragraph_texts, read_chart, read_diagram
from nearfield.corpus.extractors.office.drawings import DrawingTexts, add_losses, chart_shapes
from nearfield.corpus.extractors.office.package import (
    Element,
    OfficePackage,
    attribute,
    count_visible_words,
    descendants,
    local_name,
    parse_damaged,
)
from nearfield.corpus.extractors.office.runs import picture_link
from nearfield.corpus.extractors.office.sheets.sheet_tables import SheetWriter
from nearfield.corpus.extractors.office.sheets.worksheets import WorksheetReader, count_cell_words, read_workbook
from nearfield.corpus.word_count import count_words

_FORMULAS = "Open the file in a spreadsheet program and save it there."
_SHAPES = ("sp", "cxnSp", "pic", "grpSp", "graphicFrame")
#: Kinds of links to embedded files.
_OBJECTS = ("package", "oleObject")
#: Line breaks of VML, which are not XML.
_OPEN_BREAK = re.compile(rb"<br\s*>")
_THREADED = "[Threaded comment]"
#: Codes in the header of a printed sheet: its parts, fonts, sizes, colours and fields.
_PRINTED = re.compile(rb"<(?:\w+:)?(?:odd|even|first)(?:Header|Footer)>([^<]*)<")
_PRINT_CODE = re.compile(r'&(?:"[^"]*"|K[0-9A-F]{6}|\d+|[A-KM-QS-Z&])')


class XlsxExtractor(Extractor):
    """Workbooks. Values are as shown; a formula that was never computed stays a formula."""

    uses_ocr = True

    suffixes: Mapping[str, str] = {
        ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ".xlsm": "application/vnd.ms-excel.sheet.macroenabled.12",
        ".xltx": "application/vnd.openxmlformats-officedocument.spreadsheetml.template",
    }

    def parse(self, data: bytes, name: str) -> Document:
        """Return the rows of all sheets, also of hidden ones, with comments, charts and texts in shapes."""
        package = OfficePackage(data, name)
        main, root = package.main(), package.main_tree()
        writer = _WorkbookWriter(package, main, root, self)
        links = package.relationships(main)
        sheets = next(descendants(root, "sheets"), ())
        for number, sheet in enumerate(sheets, 1):
            link = links.get(attribute(sheet, "id"))
            if link is not None and link.target in package.names:
                writer.put_sheet(link.target, attribute(sheet, "name"), number)
            else:
                writer.damaged[number] = f"the sheet {attribute(sheet, 'name')!r}, which is missing from the file"
        builder = writer.builder
        builder.visible_words = (builder.visible_words or 0) + writer.words  # those of embedded files are there
        writer.add_losses()
        return builder.document("table", package.properties.get("title", ""), package.meta())


class _WorkbookWriter:
    """Adds sheets to a document."""

    def __init__(self, package: OfficePackage, main: str, root: Element, outer: Extractor) -> None:
        self.builder = DocumentBuilder(page_unit="sheet")
        self.words = 0
        self._package = package
        self._book = read_workbook(package, main, root)
        self._people = {
            attribute(person, "id"): attribute(person, "displayName")
            for part in package.related(main, "person")
            if (people := package.tree(part)) is not None
            for person in people
        }
        self._formulas: dict[int, int] = {}
        #: What is missing of sheets, by their numbers.
        self.damaged: dict[int, str] = {}
        self._drawings = DrawingTexts(package, outer)
        #: Pictures of the sheet that is read: part, relationship, and whether there is a description.
        self._waiting: list[tuple[str, str, bool]] = []

    def put_sheet(self, part: str, title: str, number: int) -> None:
        """Add a sheet under its name; one without any content is left out."""
        data = self._package.read(part)
        notes = dict(self._notes(part))
        self.words += sum(count_words(text.partition(": ")[2]) for text in notes.values())
        reader = WorksheetReader(data, self._book, notes)
        rows = reader.rows()
        first = next(rows, None)
        shapes = list(self._shapes(part))
        pictures = self._picture_texts(number)
        printed = _printed_texts(data)
        self._check_part(part, title, number, reader)
        objects = [link for link in self._package.relationships(part).values() if link.kind in _OBJECTS]
        if first is None and not (shapes or printed or objects or pictures.text):
            return
        self.builder.heading(title, 1, page=number, marked=False)
        self.words += count_words(title) + count_cell_words(data, self._book.strings)
        if first is not None:
            heads = reader.heads | set(self._table_heads(part))
            SheetWriter(self.builder, number, heads).put(chain([first], rows))
        for text in (*shapes, *printed):
            self.builder.add(text, page=number)
        self.builder.append(pictures)
        for link in objects:
            self._drawings.put_object(self.builder, link, number)
        if reader.formulas:
            self._formulas[number] = reader.formulas
        self._check_part(part, title, number, reader)

    def _check_part(self, part: str, title: str, number: int, reader: WorksheetReader) -> None:
        """Note that a sheet is damaged, and after which of its rows."""
        row = reader.damaged_after
        if row is not None or part in self._package.damaged:
            self._package.damaged.discard(part)
            rows = f"the rows after row {row} of" if row else "cells of" if row is None else "the cells of"
            self.damaged[number] = f"{rows} the sheet {title!r}, which is damaged"

    def add_losses(self) -> None:
        """State the formulas without a value, and what the sheets show that could not be read."""
        losses = self.builder.losses
        count = sum(self._formulas.values())
        if count:
            reason = f"the values of {count} formulas" if count > 1 else "the value of 1 formula"
            losses.append(
                Loss(f"{reason}, which the file does not have", pages=tuple(self._formulas), advice=_FORMULAS)
            )
        if self.damaged:
            losses.append(Loss("; ".join(self.damaged.values()), pages=tuple(self.damaged), advice=_FORMULAS))
        add_losses(self.builder, self._drawings, self._package)

    def _table_heads(self, part: str) -> Iterator[int]:
        """Yield the numbers of rows with the heads of tables that the file defines."""
        for name in self._package.related(part, "table"):
            table = self._package.tree(name)
            if table is not None and attribute(table, "headerRowCount") != "0":
                match = re.search(r"\d+", attribute(table, "ref"))
                yield int(match[0]) if match else 0

    def _notes(self, part: str) -> Iterator[tuple[str, str]]:
        """Yield comments by the references of their cells; replies follow the comment."""
        threads: dict[str, list[str]] = {}
        for name in self._package.related(part, "threadedComment"):
            root = self._package.tree(name)
            for comment in root if root is not None else ():
                author, reference = self._people.get(attribute(comment, "personId"), ""), attribute(comment, "ref")
                text = " ".join("".join(item.text or "" for item in descendants(comment, "text")).split())
                threads.setdefault(reference, []).append(_comment(reference, author, text))
        for name in self._package.related(part, "comments"):
            root = self._package.tree(name)
            if root is None:
                continue
            authors = [item.text or "" for item in descendants(root, "author")]
            for comment in descendants(root, "comment"):
                text = " ".join("".join(item.text or "" for item in descendants(comment, "t")).split())
                reference, number = attribute(comment, "ref"), attribute(comment, "authorId")
                author = authors[int(number)] if number.isdigit() and int(number) < len(authors) else ""
                if text.startswith(f"{author}:"):
                    text = text[len(author) + 1 :].strip()
                if reference not in threads and text and not text.startswith(_THREADED):
                    threads[reference] = [_comment(reference, author, text)]
        yield from ((reference, "\n".join(texts)) for reference, texts in threads.items())

    def _shapes(self, part: str) -> Iterator[str]:
        """Yield the texts of shapes, the descriptions of pictures, and the titles of charts: sheets have the data."""
        texts: set[str] = set()
        for text in self._drawn_texts(part):
            texts.add(text)
            yield text
        for text in self._control_texts(part):
            if text not in texts:
                self.words += count_words(text)
                yield text

    def _control_texts(self, part: str) -> Iterator[str]:
        """Yield the texts of shapes and controls of older versions; comments are there too, without their texts."""
        for drawing in self._package.related(part, "vmlDrawing"):
            root = parse_damaged(_OPEN_BREAK.sub(rb"<br/>", self._package.read(drawing)))
            for shape in root.iter("{*}shape", "{*}rect") if root is not None else ():
                if any(attribute(item, "ObjectType") == "Note" for item in shape.iter("{*}ClientData")):
                    continue
                boxes = (" ".join(" ".join(box.itertext()).split()) for box in shape.iter("{*}textbox"))
                drawn = (attribute(item, "string") for item in shape.iter("{*}textpath"))
                yield from filter(None, (*boxes, *drawn))

    def _drawn_texts(self, part: str) -> Iterator[str]:
        for drawing in self._package.related(part, "drawing"):
            root = self._package.tree(drawing)
            if root is None:
                continue
            self.words += count_visible_words([root])
            for shape in descendants(root, *_SHAPES):
                yield from self._shape_texts(shape, drawing)
            for chart in self._package.related(drawing, "chart", "chartEx"):
                yield from self._chart_texts(chart)
            for diagram in self._package.related(drawing, "diagramData"):
                tree = self._package.tree(diagram)
                if tree is not None:
                    self.words += count_visible_words([tree])
                    yield from (text for _, text in read_diagram(tree))

    def _picture_texts(self, number: int) -> Document:
        """Return the texts of the pictures of a sheet, and count those without a description and without text."""
        builder = DocumentBuilder(page_unit="sheet")
        waiting, self._waiting = self._waiting, []
        for drawing, link, is_described in waiting:
            is_read = self._drawings.put_picture_text(builder, link, drawing, number)
            if not is_described and not is_read:
                self._drawings.pictures.append(number)
        return builder.document("prose")

    def _shape_texts(self, shape: Element, drawing: str) -> Iterator[str]:
        """Yield the text and the description of a shape; of a group only the description, its shapes are next."""
        name = local_name(shape)
        yield from paragraph_texts(shape) if name in ("sp", "cxnSp") else ()
        description = next((attribute(item, "descr") for item in descendants(shape, "cNvPr")), "")
        if description.strip():
            yield f"Picture: {' '.join(description.split())}"
        if name == "pic":
            blip = next(descendants(shape, "blip"), None)
            self._waiting.append((drawing, "" if blip is None else picture_link(blip), bool(description.strip())))

    def _chart_texts(self, chart: str) -> Iterator[str]:
        tree = self._package.tree(chart)
        if tree is not None:
            self.words += count_visible_words([tree])
            yield from read_chart(tree).titles
        for text in chart_shapes(self._package, chart):
            self.words += count_words(text)
            yield text


def _comment(reference: str, author: str, text: str) -> str:
    return f"Comment on {reference} by {author}: {text}" if author else f"Comment on {reference}: {text}"


def _printed_texts(data: bytes) -> list[str]:
    """Return the texts of the header and footer of a printed sheet, without codes such as that of the page number."""
    texts: list[str] = []
    for match in _PRINTED.finditer(data):
        text = unescape(match[1].decode("utf-8", "replace"))
        parts = (" ".join(_PRINT_CODE.sub(" ", part).split()) for part in re.split("&[LCR]", text))
        texts += [part for part in parts if count_words(part) > 1 and part not in texts]
    return texts
