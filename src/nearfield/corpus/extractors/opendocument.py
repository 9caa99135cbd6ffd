"""Extractors for OpenDocument files (ODT, ODS, ODP): texts, sheets and slides, zipped or flat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.embedded.picture_texts import PictureTexts
from nearfield.corpus.extractors.office.odf_package import OdfPackage, count_odf_words
from nearfield.corpus.extractors.office.odf_text import OdfTextWriter, table_rows
from nearfield.corpus.extractors.office.package import Element, attribute, descendants, local_name
from nearfield.corpus.extractors.office.sheets.sheet_heads import SheetCell
from nearfield.corpus.extractors.office.sheets.sheet_tables import SheetRow, SheetWriter, letters
from nearfield.corpus.word_count import count_words

_MEDIA = "application/vnd.oasis.opendocument."
#: Repeated rows and cells that are read; empty ones fill sheets to their end.
_MAX_REPEATED = 1000
_PAGE_PARTS = ("header", "header-left", "header-first", "footer", "footer-left", "footer-first")
#: Words beside the number of a page that make no header or footer.
_PAGE_WORDS = 2
_FORMULAS = "Open the file in a spreadsheet program and save it there."


class OdtExtractor(Extractor):
    """OpenDocument texts."""

    uses_ocr = True

    suffixes: Mapping[str, str] = {
        ".odt": f"{_MEDIA}text",
        ".ott": f"{_MEDIA}text-template",
        ".fodt": f"{_MEDIA}text-flat-xml",
    }

    def parse(self, data: bytes, name: str) -> Document:
        """Return the text in document order, without deleted text; headers come first and footers last."""
        package = OdfPackage(data, name)
        builder = DocumentBuilder()
        writer = OdfTextWriter(package, builder, PictureTexts(self))
        body = package.body("text")
        parts = _page_parts(package)
        seen: set[str] = set()
        words = sum(_put_page_part(writer, part, seen) for part in parts if local_name(part).startswith("header"))
        writer.put_all(body)
        words += sum(_put_page_part(writer, part, seen) for part in parts if local_name(part).startswith("footer"))
        builder.visible_words = count_odf_words([body]) + words + writer.words
        writer.add_losses()
        title, meta = package.facts()
        return builder.document("markdown", title or writer.title or builder.first_heading(), meta)


def _page_parts(package: OdfPackage) -> list[Element]:
    """Return the headers and footers of the pages that the text uses."""
    used = {attribute(style, "master-page-name") for style in descendants(package.content, "style")}
    pages = list(package.elements("master-page"))
    used |= {"Standard", *(attribute(page, "name") for page in pages[:1])}
    shown = [page for page in pages if attribute(page, "name") in used]
    parts = [part for page in shown for part in page if local_name(part) in _PAGE_PARTS]
    return [part for part in parts if attribute(part, "display") != "false"]


def _put_page_part(writer: OdfTextWriter, part: Element, seen: set[str]) -> int:
    """Add the paragraphs of a header or footer that are new and no number of a page; return their words."""
    words = 0
    for paragraph in descendants(part, "p", "h"):
        text = " ".join(writer.text(paragraph).split())
        has_number = any(True for _ in descendants(paragraph, "page-number", "page-count"))
        if not text or text in seen or (has_number and count_words(text) <= _PAGE_WORDS + 2):
            continue
        seen.add(text)
        writer.builder.add(text)
        words += count_words(text)
    return words


class OdpExtractor(Extractor):
    """OpenDocument presentations, and drawings."""

    uses_ocr = True

    suffixes: Mapping[str, str] = {
        ".odp": f"{_MEDIA}presentation",
        ".otp": f"{_MEDIA}presentation-template",
        ".fodp": f"{_MEDIA}presentation-flat-xml",
        ".odg": f"{_MEDIA}graphics",
    }

    def parse(self, data: bytes, name: str) -> Document:
        """Return the text of all pages, with notes and comments."""
        package = OdfPackage(data, name)
        builder = DocumentBuilder(page_unit="slide")
        writer = OdfTextWriter(package, builder, PictureTexts(self))
        body = package.body("presentation")
        pages = [page for page in body if local_name(page) == "page"]
        for number, page in enumerate(pages, 1):
            writer.page = number
            _put_page(writer, page)
        builder.visible_words = count_odf_words(pages) + writer.words
        writer.add_losses()
        title, meta = package.facts()
        return builder.document("markdown", title or builder.first_heading(), meta)


def _put_page(writer: OdfTextWriter, page: Element) -> None:
    shapes = [shape for shape in page if local_name(shape) not in ("notes", "forms", "event-listeners", "")]
    title = next((shape for shape in shapes if attribute(shape, "class") == "title" and _plain(shape)), None)
    if title is not None:
        writer.builder.heading(_plain(title), 1, page=writer.page)
    for shape in shapes:
        if shape is title:
            continue
        if local_name(shape) == "annotation":
            wrapper = page.makeelement(page.tag)
            wrapper.append(shape)
            writer.put_all(wrapper)
        elif attribute(shape, "class") not in ("page-number", "date-time"):
            writer.put_shape(shape)
    for notes in (child for child in page if local_name(child) == "notes"):
        for shape in notes:
            if attribute(shape, "class") == "notes":
                writer.put_shape(shape)


def _plain(shape: Element) -> str:
    return " ".join(" ".join("".join(item.itertext()).split()) for item in descendants(shape, "p", "h")).strip()


class OdsExtractor(Extractor):
    """OpenDocument spreadsheets. Values are as shown."""

    uses_ocr = True

    suffixes: Mapping[str, str] = {
        ".ods": f"{_MEDIA}spreadsheet",
        ".ots": f"{_MEDIA}spreadsheet-template",
        ".fods": f"{_MEDIA}spreadsheet-flat-xml",
    }

    def parse(self, data: bytes, name: str) -> Document:
        """Return the rows of all sheets, also of hidden ones, with comments and charts."""
        package = OdfPackage(data, name)
        builder = DocumentBuilder(page_unit="sheet")
        writer = OdfTextWriter(package, builder, PictureTexts(self))
        body = package.body("spreadsheet")
        bold = {
            attribute(style, "name")
            for style in package.elements("style")
            if any(attribute(item, "font-weight") == "bold" for item in style)
        }
        formulas: dict[int, int] = {}
        sheets = [table for table in body if local_name(table) == "table"]
        words = 0
        for number, sheet in enumerate(sheets, 1):
            rows = list(_sheet_rows(sheet, bold))
            shapes = [shape for part in sheet if local_name(part) == "shapes" for shape in part]
            shapes += [item for item in descendants(sheet, "frame", "custom-shape") if not _is_inside(item, "shapes")]
            if not rows and not shapes:
                continue
            title = attribute(sheet, "name")
            builder.heading(title, 1, page=number, marked=False)
            words += count_words(title)
            SheetWriter(builder, number).put(rows)
            writer.page = number
            for shape in shapes:
                writer.put_shape(shape)
            count = sum(cell.kind == "formula" for row in rows for cell in row.cells.values())
            formulas |= {number: count} if count else {}
        builder.visible_words = words + count_odf_words(sheets) + writer.words
        writer.add_losses()
        if formulas:
            count = sum(formulas.values())
            reason = f"the values of {count} formulas" if count > 1 else "the value of 1 formula"
            reason += ", which the file does not have"
            builder.losses.append(Loss(reason, pages=tuple(formulas), advice=_FORMULAS))
        title, meta = package.facts()
        return builder.document("table", title, meta)


def _is_inside(element: Element, name: str) -> bool:
    parent = element.getparent()
    while parent is not None:
        if local_name(parent) == name or local_name(parent) in ("frame", "custom-shape", "annotation"):
            return True
        parent = parent.getparent()
    return False


def _sheet_rows(sheet: Element, bold: set[str]) -> Iterator[SheetRow]:
    number = 0
    below: dict[int, tuple[int, SheetCell]] = {}
    for row, _ in table_rows(sheet):
        repeated = attribute(row, "number-rows-repeated")
        times = int(repeated) if repeated.isdigit() else 1
        cells, notes = _cells(row, bold, number + 1, below)
        if any(not cell.covered for cell in cells.values()) or notes:
            for at in range(min(times, _MAX_REPEATED)):
                yield SheetRow(number + at + 1, dict(cells), notes if at == 0 else [])
        number += times


def _cells(
    row: Element, bold: set[str], number: int, below: dict[int, tuple[int, SheetCell]]
) -> tuple[dict[int, SheetCell], list[str]]:
    """Return the filled cells of a row, and the comments; ``below`` are cells that go on in the rows that follow."""
    cells: dict[int, SheetCell] = {}
    notes: list[str] = []
    column, left, wide = 0, None, 0
    for item in row:
        name = local_name(item)
        if name not in ("table-cell", "covered-table-cell"):
            continue
        repeated = attribute(item, "number-columns-repeated")
        times = int(repeated) if repeated.isdigit() else 1
        cell = _cell(item, bold) if name == "table-cell" else None
        for at in range(column, column + min(times, _MAX_REPEATED)):
            if cell is not None:
                cells[at] = left = cell
                wide = at + cell.across
                rows = attribute(item, "number-rows-spanned")
                if rows.isdigit() and int(rows) > 1:
                    below |= {at + side: (number + int(rows), cell) for side in range(cell.across)}
            elif name == "covered-table-cell" and left is not None and at < wide:
                cells[at] = SheetCell(left.text, left.kind, left.bold, "left")
            elif name == "covered-table-cell" and at in below and number < below[at][0]:
                origin = below[at][1]
                cells[at] = SheetCell(origin.text, origin.kind, origin.bold, "up", origin.across)
        notes += [note for note in _notes(item, f"{letters(column)}{number}") if note]
        column += times
    return cells, notes


def _cell(item: Element, bold: set[str]) -> SheetCell | None:
    lines = ["".join(_shown(child)) for child in item if local_name(child) == "p"]
    text = " ".join(" ".join(lines).split())
    kind: Literal["text", "number", "date", "formula"] = "text"
    value_type, formula = attribute(item, "value-type"), attribute(item, "formula")
    if value_type in ("float", "percentage", "currency", "boolean"):
        kind, text = "number", text or attribute(item, "value") or attribute(item, "boolean-value")
    elif value_type in ("date", "time"):
        kind, text = "date", _iso_date(item) or text
    elif not text and formula:
        kind, text = "formula", "=" + formula.partition("=")[2].replace("[.", "").replace("]", "").replace(":.", ":")
    across = attribute(item, "number-columns-spanned")
    if not text:
        return None
    is_bold = attribute(item, "style-name") in bold
    return SheetCell(text, kind, is_bold, across=min(int(across), _MAX_REPEATED) if across.isdigit() else 1)


def _iso_date(item: Element) -> str:
    """Return a date as in ISO 8601, which has the same form in all languages; empty for a time."""
    value = attribute(item, "date-value")
    return value.replace("T00:00:00", "").replace("T", " ")[:16] if value else ""


def _shown(paragraph: Element) -> Iterator[str]:
    yield paragraph.text or ""
    for child in paragraph:
        name = local_name(child)
        if name in ("s", "tab", "line-break"):
            yield " "
        elif name != "annotation":
            yield from _shown(child)
        yield child.tail or ""


def _notes(cell: Element, reference: str) -> Iterator[str]:
    for note in (child for child in cell if local_name(child) == "annotation"):
        author = next((" ".join((item.text or "").split()) for item in descendants(note, "creator")), "")
        text = _plain(note)
        if text:
            yield f"Comment on {reference} by {author}: {text}" if author else f"Comment on {reference}: {text}"
