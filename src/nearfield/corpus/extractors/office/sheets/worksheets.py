"""Sheets of XLSX files, read row by row: values as shown, merged cells, formulas without values, and comments."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from nearfield.corpus.extractors.office.package import Element, OfficePackage, attribute, descendants, is_on, local_name
from nearfield.corpus.extractors.office.sheets.merged_cells import MergedCells
from nearfield.corpus.extractors.office.sheets.number_format import BUILT_IN, format_value, is_date
from nearfield.corpus.extractors.office.sheets.sheet_heads import SheetCell
from nearfield.corpus.extractors.office.sheets.sheet_tables import SheetRow
from nearfield.corpus.word_count import count_words

_REFERENCE = re.compile(r"\$?([A-Z]{1,3})\$?(\d+)")
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]*?ref=\"([^\"]+)\"")
_FILTER = re.compile(rb"<(?:\w+:)?autoFilter\s[^>]*?ref=\"([^\"]+)\"")
_CELL = re.compile(rb"<(?:\w+:)?c(\s[^>]*?)?(?:/>|>(.*?)</(?:\w+:)?c>)", re.DOTALL)
_VALUE = re.compile(rb"<(?:\w+:)?v(?:\s[^>]*)?>([^<]*)<")
_TEXT = re.compile(rb"<(?:\w+:)?t(?:\s[^>]*)?>([^<]*)<")


@dataclass(frozen=True)
class CellStyle:
    """The format and weight of cells."""

    code: str = "General"
    bold: bool = False


@dataclass
class Workbook:
    """What all sheets share: texts, styles, and the epoch of dates."""

    strings: list[str] = field(default_factory=list)
    styles: list[CellStyle] = field(default_factory=list)
    date1904: bool = False


def read_workbook(package: OfficePackage, main: str, root: Element) -> Workbook:
    """Return the shared texts and styles of a workbook."""
    book = Workbook()
    strings = package.tree(next(package.related(main, "sharedStrings"), ""))
    if strings is not None:
        book.strings = [_plain(item) for item in strings if local_name(item) == "si"]
    styles = package.tree(next(package.related(main, "styles"), ""))
    if styles is not None:
        book.styles = _read_styles(styles)
    properties = next(descendants(root, "workbookPr"), None)
    book.date1904 = properties is not None and attribute(properties, "date1904") in ("1", "true")
    return book


def _plain(item: Element) -> str:
    """Return the text of a string, without the readings of Japanese words."""
    parts = []
    for child in item:
        name = local_name(child)
        if name == "t":
            parts.append(child.text or "")
        elif name == "r":
            parts.append("".join(text.text or "" for text in child if local_name(text) == "t"))
    return "".join(parts)


def _read_styles(root: Element) -> list[CellStyle]:
    codes = dict(BUILT_IN)
    for item in descendants(root, "numFmt"):
        if attribute(item, "numFmtId").isdigit():
            codes[int(attribute(item, "numFmtId"))] = attribute(item, "formatCode")
    fonts = next(descendants(root, "fonts"), ())
    bold = [any(local_name(part) == "b" and is_on(part) for part in font) for font in fonts]
    styles = []
    for item in next(descendants(root, "cellXfs"), ()):
        number, font = attribute(item, "numFmtId"), attribute(item, "fontId")
        code = codes.get(int(number) if number.isdigit() else 0, "General")
        styles.append(CellStyle(code, font.isdigit() and int(font) < len(bold) and bold[int(font)]))
    return styles


class WorksheetReader:
    """Reads the rows of one sheet."""

    def __init__(self, data: bytes, book: Workbook, notes: Mapping[str, str]) -> None:
        self._data = data
        self._book = book
        self._notes: dict[int, list[tuple[str, str]]] = {}
        for reference, text in notes.items():
            self._notes.setdefault(_place(reference)[1], []).append((reference, text))
        self._merged = MergedCells()
        self._formulas: dict[str, tuple[str, str]] = {}
        self._last = 0
        for reference in _MERGED.findall(data):
            first, _, last = reference.decode().partition(":")
            (left, top), (right, bottom) = _place(first), _place(last or first)
            self._merged.add(left, top, right, bottom)
        #: The number of formulas without a value.
        self.formulas = 0
        #: The number of the last row before a damaged place; None if there is none.
        self.damaged_after: int | None = None

    @property
    def heads(self) -> set[int]:
        """The numbers of rows that are heads, since the sheet can be filtered by them."""
        return {_place(reference.decode().partition(":")[0])[1] for reference in _FILTER.findall(self._data)}

    def rows(self) -> Iterator[SheetRow]:
        """Yield the rows that have a filled cell or a note; those before a damaged place if there is one."""
        number = 0
        for element in self._row_elements():
            stated = attribute(element, "r")
            number = int(stated) if stated.isdigit() else number + 1
            cells = dict(self._cells(element, number))
            self._last = number
            notes = [text for _, text in self._notes.pop(number, [])]
            if cells or notes:
                yield SheetRow(number, self._merged.spread(number, cells) if cells else {}, notes)
        rest = [text for _, notes in sorted(self._notes.items()) for _, text in notes]
        if rest:
            yield SheetRow(number + 2, {}, rest)

    def _row_elements(self) -> Iterator[Element]:
        """Yield the elements of rows; each is removed from the tree afterwards."""
        from lxml import etree

        parser = {"resolve_entities": False, "no_network": True, "huge_tree": True, "events": ("end",)}
        try:
            for _, element in etree.iterparse(io.BytesIO(self._data), tag="{*}row", **parser):
                yield element
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
        except SyntaxError:
            self.damaged_after = self._last

    def _cells(self, row: Element, number: int) -> Iterator[tuple[int, SheetCell]]:
        column = -1
        for element in row:
            if local_name(element) != "c":
                continue
            reference = element.get("r", "")
            column = _place(reference)[0] if reference else column + 1
            cell = self._cell(element, reference)
            if cell is not None:
                yield column, SheetCell(cell.text, cell.kind, cell.bold, across=self._merged.across(column, number))

    def _cell(self, element: Element, reference: str) -> SheetCell | None:
        parts = {local_name(child): child for child in element}
        style = element.get("s", "")
        styles = self._book.styles
        look = styles[int(style)] if style.isdigit() and int(style) < len(styles) else CellStyle()
        value = (parts["v"].text or "") if "v" in parts else ""
        kind = element.get("t", "n")
        if kind == "inlineStr" and "is" in parts:
            return _filled(_plain(parts["is"]), "text", look)
        formula = self._formula(parts["f"], reference) if "f" in parts else ""
        if not value and formula and kind != "str":
            self.formulas += 1
            return _filled(f"={formula}", "formula", look)
        if kind == "s":
            text = self._book.strings[int(value)] if value.isdigit() and int(value) < len(self._book.strings) else ""
            return _filled(text, "text", look)
        if kind == "b":
            return _filled({"1": "TRUE", "0": "FALSE"}.get(value, value), "number", look)
        if kind in ("str", "e"):
            return _filled(value, "text", look)
        if kind == "d":
            return _filled(value.replace("T00:00:00", ""), "date", look)
        return self._number(value, look)

    def _number(self, value: str, look: CellStyle) -> SheetCell | None:
        try:
            text = format_value(float(value), look.code, date1904=self._book.date1904)
        except (ValueError, OverflowError):
            text = value
        return _filled(text, "date" if is_date(look.code) else "number", look)

    def _formula(self, element: Element, reference: str) -> str:
        """Return the text of a formula; one that is shared has it in its first cell only."""
        text, shared = (element.text or "").strip(), element.get("si", "")
        if text and shared:
            self._formulas[shared] = (text, reference)
        elif shared in self._formulas:
            text, origin = self._formulas[shared]
            text = moved_formula(text, origin, reference)
        return text


def _filled(text: str, kind: Literal["text", "number", "date", "formula"], look: CellStyle) -> SheetCell | None:
    text = " ".join(text.split())
    return SheetCell(text, kind, look.bold) if text else None


def _place(reference: str) -> tuple[int, int]:
    """Return the column from 0 and the row from 1 of a reference such as "B3"."""
    match = _REFERENCE.match(reference)
    if match is None:
        return 0, 0
    column = 0
    for letter in match[1]:
        column = column * 26 + ord(letter) - ord("A") + 1
    return column - 1, int(match[2])


def moved_formula(text: str, origin: str, target: str) -> str:
    """Return a formula as it is in another cell: references without $ move with it."""
    from openpyxl.formula.translate import Translator, TranslatorError

    try:
        return str(Translator(f"={text}", origin).translate_formula(target)).lstrip("=")
    except (TranslatorError, ValueError, IndexError):
        return text


def count_cell_words(data: bytes, strings: list[str]) -> int:
    """Return the number of words in the cells of a sheet, by the bytes of its part."""
    words = 0
    counts: dict[int, int] = {}
    for attributes, content in _CELL.findall(data):
        value = _VALUE.search(content)
        if b't="s"' in attributes and value:
            at = int(value[1]) if value[1].strip().isdigit() else -1
            if at not in counts:
                counts[at] = count_words(strings[at]) if 0 <= at < len(strings) else 0
            words += counts[at]
        elif b't="inlineStr"' in attributes:
            words += count_words(b"".join(_TEXT.findall(content)).decode("utf-8", "replace"))
        elif value:
            is_text = b't="str"' in attributes
            words += count_words(value[1].decode("utf-8", "replace")) if is_text else 1
        elif content and b"<f" in content:
            words += 1
    return words
