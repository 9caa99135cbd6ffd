"""XLSX: the sheets of a workbook, each under its name; a row is lines of "column: value", which can be read alone."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor, zip_safety
from nearfield.corpus.extractors.document_builder import DocumentBuilder

#: Rows of a sheet that are looked through; it may claim to have a million empty ones.
_ROWS = 1_100_000


class XlsxExtractor(Extractor):
    """Workbooks. Of a formula the value counts that was last computed; one never computed has none."""

    suffixes: Mapping[str, str] = {
        ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ".xlsm": "application/vnd.ms-excel.sheet.macroenabled.12",
    }

    def parse(self, data: bytes, name: str) -> Document:
        """Return the rows of all sheets."""
        zip_safety.check_archive(data, name)
        from openpyxl import load_workbook

        file = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        draft = DocumentBuilder()
        for sheet in file.worksheets:
            # What it says of its size may be wrong; without, rows are as long as they are.
            sheet.reset_dimensions()
            _write(draft, sheet.title, _rows(sheet))
        told = file.properties
        file.close()
        return draft.document("table", told.title or "", {"author": told.creator} if told.creator else {})


def _rows(sheet: Any) -> Iterator[list[str]]:
    for row in sheet.iter_rows(values_only=True, max_row=_ROWS):
        cells = [_shown(value) for value in row]
        if any(cells):
            yield cells


def _write(draft: DocumentBuilder, title: str, rows: Iterator[list[str]]) -> None:
    """Write a sheet. Rows of one cell before the head are text, such as its title."""
    head: Sequence[str] | None = None
    begun = False
    for row in rows:
        if not begun:
            draft.head(title, 1, marked=False)
            begun = True
        filled = [cell for cell in row if cell]
        if head is None and len(filled) > 1:
            head = row if all(map(_is_name, filled)) else []
            if head:
                continue
        if head is None:
            draft.add(filled[0])
        else:
            draft.add("\n".join(f"{_column(head, at)}: {cell}" for at, cell in enumerate(row) if cell), "table")


def _column(head: Sequence[str], at: int) -> str:
    """Return a column's name, or its letters where it has none."""
    if at < len(head) and head[at]:
        return head[at]
    letters, at = "", at + 1
    while at:
        at, rest = divmod(at - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _is_name(cell: str) -> bool:
    """Return whether a cell may name a column: no number and no date."""
    return any(map(str.isalpha, cell)) and len(cell) <= 100


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ", "seconds")
    return " ".join(str(value).split())
