"""Extractor for XLSX (Excel): the sheets of a workbook under their names; a row becomes lines of "column: value"."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor, zip_safety
from nearfield.corpus.extractors.document_builder import DocumentBuilder

#: Rows of a sheet that are read; it may claim to have a million empty ones.
_MAX_ROWS = 1_100_000


class XlsxExtractor(Extractor):
    """Workbooks. A formula has the value that was last computed; one that was never computed has none."""

    suffixes: Mapping[str, str] = {
        ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ".xlsm": "application/vnd.ms-excel.sheet.macroenabled.12",
    }

    def parse(self, data: bytes, name: str) -> Document:
        """Return the rows of all sheets."""
        zip_safety.check_archive(data, name)
        from openpyxl import load_workbook

        file = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        builder = DocumentBuilder()
        for sheet in file.worksheets:
            # The size that it states may be wrong; without it, rows have their real length.
            sheet.reset_dimensions()
            _add_sheet(builder, sheet.title, _rows(sheet))
        properties = file.properties
        file.close()
        meta = {"author": properties.creator} if properties.creator else {}
        return builder.document("table", properties.title or "", meta)


def _rows(sheet: Any) -> Iterator[list[str]]:
    for row in sheet.iter_rows(values_only=True, max_row=_MAX_ROWS):
        cells = [_text(value) for value in row]
        if any(cells):
            yield cells


def _add_sheet(builder: DocumentBuilder, title: str, rows: Iterator[list[str]]) -> None:
    """Add a sheet. Rows of one cell before the head are text, such as a title."""
    head: Sequence[str] | None = None
    begun = False
    for row in rows:
        if not begun:
            builder.heading(title, 1, marked=False)
            begun = True
        filled = [cell for cell in row if cell]
        if head is None and len(filled) > 1:
            head = row if all(map(_is_name, filled)) else []
            if head:
                continue
        if head is None:
            builder.add(filled[0])
        else:
            builder.add("\n".join(f"{_column(head, at)}: {cell}" for at, cell in enumerate(row) if cell), "table")


def _column(head: Sequence[str], at: int) -> str:
    """Return a column's name, or its letters if it has none."""
    if at < len(head) and head[at]:
        return head[at]
    letters, at = "", at + 1
    while at:
        at, rest = divmod(at - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _is_name(cell: str) -> bool:
    """Return whether a cell may be the name of a column: no number and no date."""
    return any(map(str.isalpha, cell)) and len(cell) <= 100


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ", "seconds")
    return " ".join(str(value).split())
