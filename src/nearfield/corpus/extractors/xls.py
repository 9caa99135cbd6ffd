"""Extractor for XLS (Excel before 2007): the tables of a workbook's sheets; a row becomes lines of "column: value"."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.office.sheets.merged_cells import MergedCells
from nearfield.corpus.extractors.office.sheets.number_format import format_value, is_date
from nearfield.corpus.extractors.office.sheets.sheet_heads import SheetCell
from nearfield.corpus.extractors.office.sheets.sheet_tables import SheetRow, SheetWriter, letters
from nearfield.corpus.extractors.office.sheets.xls_drawings import SheetDrawing, read_drawings
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError

#: What LibreOffice writes in place of an author.
_PROGRAM = "Calc"
#: The weight of bold letters.
_BOLD = 700
_EMPTY, _TEXT, _NUMBER, _DATE, _BOOLEAN, _ERROR, _BLANK = range(7)
_ERRORS = {0: "#NULL!", 7: "#DIV/0!", 15: "#VALUE!", 23: "#REF!", 29: "#NAME?", 36: "#NUM!", 42: "#N/A"}


class XlsExtractor(Extractor):
    """Workbooks of Excel 5 to 2003. Values are as shown."""

    suffixes: Mapping[str, str] = {".xls": "application/vnd.ms-excel", ".xlt": "application/vnd.ms-excel"}

    def parse(self, data: bytes, name: str) -> Document:
        """Return the rows of all sheets, also of hidden ones, with comments and the texts of charts and shapes."""
        import xlrd

        try:
            book = xlrd.open_workbook(file_contents=data, formatting_info=True, logfile=io.StringIO())
        except xlrd.XLRDError as error:
            if "encrypted" in str(error).lower():
                raise InputError(f"{name}: encrypted with a password. Save it without one.") from error
            raise
        builder = DocumentBuilder(page_unit="sheet")
        words = 0
        drawings = read_drawings(data)
        for number, sheet in enumerate(book.sheets(), 1):
            rows = list(_rows(book, sheet))
            texts = [text for drawing in drawings if drawing.sheet == number for text in drawing.texts]
            if not rows and not texts:
                continue
            builder.heading(sheet.name, 1, page=number, marked=False)
            SheetWriter(builder, number).put(rows)
            words += count_words(sheet.name) + _count(sheet) + _put_texts(builder, texts, number)
        apart = [text for drawing in drawings if drawing.sheet is None for text in drawing.texts]
        words += _put_texts(builder, apart, None)
        builder.visible_words = words
        builder.losses += _drawing_losses(drawings)
        author = (book.user_name or "").strip()
        return builder.document("table", "", {"author": author} if author and author != _PROGRAM else {})


def _put_texts(builder: DocumentBuilder, texts: Sequence[str], number: int | None) -> int:
    """Add the texts of drawings; return the number of their words."""
    for text in texts:
        builder.add(text, page=number)
    return count_words("\n".join(texts))


def _drawing_losses(drawings: Sequence[SheetDrawing]) -> Iterator[Loss]:
    """Yield the losses of pictures, and of charts without any text. The data of charts are in sheets."""
    for kind in ("chart", "picture"):
        bare = [drawing.sheet for drawing in drawings if drawing.kind == kind and not drawing.texts]
        if bare:
            pages = tuple(sorted({sheet for sheet in bare if sheet is not None}))
            yield Loss(f"{len(bare)} {kind}{'s' * (len(bare) > 1)} without a description", pages=pages)


def _rows(book: Any, sheet: Any) -> Iterator[SheetRow]:
    merged = MergedCells()
    for top, bottom, left, right in sheet.merged_cells:
        merged.add(left, top + 1, right - 1, bottom)
    notes: dict[int, list[str]] = {}
    for (row, column), note in sorted(sheet.cell_note_map.items()):
        text = " ".join(note.text.split())
        author = (note.author or "").strip()
        text = text[len(author) + 1 :].strip() if author and text.startswith(f"{author}:") else text
        place = f"Comment on {letters(column)}{row + 1}"
        notes.setdefault(row, []).append(f"{place} by {author}: {text}" if author else f"{place}: {text}")
    for row in range(sheet.nrows):
        cells = {}
        for column in range(sheet.row_len(row)):
            cell = _cell(book, sheet.cell(row, column), merged.across(column, row + 1))
            if cell is not None:
                cells[column] = cell
        below = notes.pop(row, [])
        if cells or below:
            yield SheetRow(row + 1, merged.spread(row + 1, cells) if cells else {}, below)
    rest = [text for texts in notes.values() for text in texts]
    if rest:
        yield SheetRow(sheet.nrows + 2, {}, rest)


def _cell(book: Any, cell: Any, across: int) -> SheetCell | None:
    if cell.ctype in (_EMPTY, _BLANK):
        return None
    style = book.xf_list[cell.xf_index]
    bold = book.font_list[style.font_index].weight >= _BOLD
    if cell.ctype == _TEXT:
        text = " ".join(cell.value.split())
        return SheetCell(text, "text", bold, across=across) if text else None
    if cell.ctype == _BOOLEAN:
        return SheetCell("TRUE" if cell.value else "FALSE", "number", bold, across=across)
    if cell.ctype == _ERROR:
        return SheetCell(_ERRORS.get(cell.value, "#N/A"), "text", bold, across=across)
    form = book.format_map.get(style.format_key)
    code = form.format_str if form is not None else "General"
    text = format_value(cell.value, code, date1904=bool(book.datemode))
    return SheetCell(text, "date" if is_date(code) else "number", bold, across=across) if text else None


def _count(sheet: Any) -> int:
    """Return the number of words in the cells and comments of a sheet."""
    words = sum(count_words(note.text) for note in sheet.cell_note_map.values())
    for row in range(sheet.nrows):
        for kind, value in zip(sheet.row_types(row), sheet.row_values(row), strict=True):
            words += count_words(value) if kind == _TEXT else kind not in (_EMPTY, _BLANK)
    return words
