"""Spreadsheets: heads without letters, second tables, merged heads, number formats, formulas, comments."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any

from tests.corpus.truth.model import TableRows, TruthFile


def _workbook(write: Callable[[Any], None]) -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    book.active.title = "Data"
    write(book.active)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def _append(sheet: Any, rows: Sequence[Sequence[Any]]) -> None:
    for row in rows:
        sheet.append(list(row))


def _file(name: str, fault: str, write: Callable[[Any], None], tables: tuple[TableRows, ...], *texts: str) -> TruthFile:
    cells = tuple(cell for table in tables for row in table[1:] for cell in row if cell)
    return TruthFile(f"{name}.xlsx", lambda: _workbook(write), (*texts, *cells), tables=tables, fault=fault)


def _merged(sheet: Any) -> None:
    _append(sheet, [("Product", "Sold", None, "Returned", None), (None, "Shop", "Online", "Shop", "Online")])
    _append(sheet, [("Lamp", 120, 340, 4, 21), ("Stool", 77, 95, 1, 9)])
    sheet.merge_cells("A1:A2")
    sheet.merge_cells("B1:C1")
    sheet.merge_cells("D1:E1")


def _merged_cells(sheet: Any) -> None:
    _append(
        sheet, [("Floor", "Office", "Chairs"), ("Ground", "Reception", 6), (None, "Post", 3), ("First", "Sales", 14)]
    )
    sheet.merge_cells("A2:A3")


def _formats(sheet: Any) -> None:
    _append(sheet, [("Item", "Share", "Price", "Due", "Code")])
    _append(sheet, [("Hull", 0.125, 1234.5, date(2025, 3, 9), 42), ("Mast", 0.4, 80, date(2025, 11, 30), 7)])
    for row in (2, 3):
        for column, number_format in zip("BCDE", ("0.0%", "#,##0.00", "yyyy-mm-dd", "00000"), strict=True):
            sheet[f"{column}{row}"].number_format = number_format


def _formulas(sheet: Any) -> None:
    _append(sheet, [("Part", "Count", "Each", "Sum"), ("Bolt", 40, 2, "=B2*C2"), ("Plate", 6, 15, "=B3*C3")])


def _commented(sheet: Any) -> None:
    from openpyxl.comments import Comment

    _append(sheet, [("Plot", "Area"), ("North", 5200), ("South", 4100)])
    sheet["B2"].comment = Comment("Measured again by the surveyor in June.", "Ida")


def _second_table(sheet: Any) -> None:
    _append(sheet, [("City", "Inhabitants"), ("Ghent", 265000), ("Lille", 236000), (), ()])
    _append(sheet, [("River", "Kilometres"), ("Scheldt", 350), ("Deule", 68)])


def _beside(sheet: Any) -> None:
    _append(
        sheet,
        [("Bird", "Eggs", None, "Tree", "Rings"), ("Wren", 6, None, "Ash", 140), ("Kite", 3, None, "Elm", 205)],
    )


def _titled(sheet: Any) -> None:
    _append(sheet, [("Output of the mills",), ("in tonnes, not audited",), ()])
    _append(sheet, [("Mill", "Flour", "Bran"), ("Upper", 310, 44), ("Lower", 295, 40)])


def files() -> Iterator[TruthFile]:
    """Yield workbooks with one fault each."""
    yield _file(
        "year-columns",
        "heads without letters",
        lambda sheet: _append(sheet, [("Region", 2022, 2023, 2024), ("Flanders", 10, 12, 15), ("Zeeland", 4, 5, 5)]),
        ((("Region", "2022", "2023", "2024"), ("Flanders", "10", "12", "15"), ("Zeeland", "4", "5", "5")),),
    )
    yield _file(
        "date-columns",
        "heads without letters",
        lambda sheet: _append(
            sheet, [("Sensor", date(2025, 1, 1), date(2025, 2, 1)), ("Roof", 3, 9), ("Cellar", 11, 12)]
        ),
        ((("Sensor", "2025-01-01", "2025-02-01"), ("Roof", "3", "9"), ("Cellar", "11", "12")),),
    )
    yield _file(
        "second-table",
        "a second table",
        _second_table,
        (
            (("City", "Inhabitants"), ("Ghent", "265000"), ("Lille", "236000")),
            (("River", "Kilometres"), ("Scheldt", "350"), ("Deule", "68")),
        ),
    )
    yield TruthFile(
        "side-by-side.xlsx",
        lambda: _workbook(_beside),
        ("Wren 6", "Kite 3", "Ash 140", "Elm 205"),
        tables=(
            (("Bird", "Eggs"), ("Wren", "6"), ("Kite", "3")),
            (("Tree", "Rings"), ("Ash", "140"), ("Elm", "205")),
        ),
        fault="tables beside each other",
    )
    heads = ("Product", "Sold Shop", "Sold Online", "Returned Shop", "Returned Online")
    yield _file(
        "merged-heads",
        "heads of two rows",
        _merged,
        ((heads, ("Lamp", "120", "340", "4", "21"), ("Stool", "77", "95", "1", "9")),),
    )
    yield TruthFile(
        "merged-cells.xlsx",
        lambda: _workbook(_merged_cells),
        ("Ground", "Reception", "6", "Post", "3", "First", "Sales", "14"),
        tables=(
            (
                ("Floor", "Office", "Chairs"),
                ("Ground", "Reception", "6"),
                ("Ground", "Post", "3"),
                ("First", "Sales", "14"),
            ),
        ),
        fault="merged cells",
    )
    yield _file(
        "number-formats",
        "number formats",
        _formats,
        (
            (
                ("Item", "Share", "Price", "Due", "Code"),
                ("Hull", "12.5%", "1,234.50", "2025-03-09", "00042"),
                ("Mast", "40.0%", "80.00", "2025-11-30", "00007"),
            ),
        ),
    )
    yield TruthFile(
        "formulas.xlsx",
        lambda: _workbook(_formulas),
        ("Bolt 40 2", "B2*C2", "Plate 6 15", "B3*C3"),
        tables=((("Part", "Count", "Each"), ("Bolt", "40", "2"), ("Plate", "6", "15")),),
        fault="formulas without values",
    )
    yield TruthFile(
        "comments.xlsx",
        lambda: _workbook(_commented),
        ("North 5200", "Measured again by the surveyor in June.", "South 4100"),
        tables=((("Plot", "Area"), ("South", "4100")),),
        fault="comments",
    )
    yield _file(
        "titled",
        "lines above a table",
        _titled,
        ((("Mill", "Flour", "Bran"), ("Upper", "310", "44"), ("Lower", "295", "40")),),
        "Output of the mills",
        "in tonnes, not audited",
    )
